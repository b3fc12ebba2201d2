"""One static activation range for all languages, against what Neural Compressor's `minmax` and `kl` do.

Its PyTorch adaptor maps `kl` to torch's HistogramObserver, which searches for the least squared error; its class
`KL_Divergence`, which is the search by divergence, is not what a PyTorch user gets.  Both are measured, and the pass
over the data is told apart from the choice of the range.
"""

from __future__ import annotations

import contextlib
import io
from typing import Any

import torch

from inc_laaciq.quant.activation import static_range
from inc_laaciq.quant.moments import LanguageMoments
from speed.names import COLLECTED, HISTOGRAM, MINMAX, OURS, SEARCH, STORED
from speed.settings import Settings
from speed.timing import interleave, ratios, rows, timed

_FEATURES = 1024
_LANGUAGES = 16
_LEVELS = 255


def measure(settings: Settings) -> dict[str, Any]:
    """Every method is given the same values, language by language."""
    torch.manual_seed(0)
    tokens = settings.activations // (_LANGUAGES * _FEATURES)
    size = torch.exp(0.5 * torch.randn(_FEATURES))
    heavy = torch.distributions.StudentT(5.0)
    batches = {f"language {number}": heavy.sample((tokens, _FEATURES)) * size + 0.1 for number in range(_LANGUAGES)}
    stored = {tag: LanguageMoments.of(batch, counted=True).activation for tag, batch in batches.items()}

    def ours() -> None:
        static_range({tag: LanguageMoments.of(batch, counted=True).activation for tag, batch in batches.items()}, 8)

    ours()  # untimed: tables that are made once for all layers, as the others' imports are
    work = {OURS: timed(ours), STORED: timed(lambda: static_range(stored, 8))}
    not_run = {}
    try:
        work |= _of_inc(list(batches.values()), settings.histogram_bins)
    except ImportError as error:
        not_run["INC"] = f"{type(error).__name__}: {error}"
    methods = rows(interleave(work, settings.repetitions))
    return {
        "values": sum(batch.numel() for batch in batches.values()),
        "languages": _LANGUAGES,
        "histogram_bins": settings.histogram_bins,
        "methods": methods,
        "ratios": ratios(methods, [(MINMAX, OURS), (HISTOGRAM, OURS), (COLLECTED, OURS), (SEARCH, STORED)]),
        "not_run": not_run,
    }


def _of_inc(batches: list[torch.Tensor], bins: int) -> dict[str, Any]:
    """Neural Compressor's own observers, made by its adaptor, and its class with its own collector of histograms."""
    from neural_compressor.adaptor.pytorch import _observer
    from neural_compressor.utils.collect_layer_histogram import LayerHistogramCollector
    from neural_compressor.utils.kl_divergence import KL_Divergence

    def observe(algorithm: str) -> None:
        observer = _observer(algorithm, "asym", "per_tensor", "uint8")()
        for batch in batches:
            observer(batch)
        observer.calculate_qparams()

    def histogram() -> tuple[Any, ...]:
        arrays = [batch.numpy() for batch in batches]
        collector = LayerHistogramCollector(num_bins=bins, layer_tensor={"x": arrays}, include_layer=["x"])
        collector.collect()
        found: tuple[Any, ...] = collector.hist_dict["x"]
        return found

    def search(given: tuple[Any, ...]) -> None:
        counts, edges, low, high, _ = given
        with contextlib.redirect_stdout(io.StringIO()):  # it prints a line for every empty bin
            KL_Divergence().get_threshold(counts, edges, low, high, len(counts), "int8", _LEVELS)

    given = histogram()
    return {
        MINMAX: timed(lambda: observe("minmax")),
        HISTOGRAM: timed(lambda: observe("kl")),
        SEARCH: timed(lambda: search(given)),
        COLLECTED: timed(lambda: search(histogram())),
    }
