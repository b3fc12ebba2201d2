"""What a Python user of Neural Compressor's own calls needs from this package."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from inc_laaciq.config import LaaciqSpec, TextSpec, read_config

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from inc_laaciq.backends.inc_api import Api
    from inc_laaciq.calibration.loader import LanguageLoader


def load_config(path: str | Path, *, api: Api | None = None) -> Any:
    """The configuration of a yaml file, as Neural Compressor's calls take it.

    Parameters
    ----------
    path : str or Path
        Neural Compressor's keys and a `la_aciq:` section.
    api : "adaptor" or "torch", optional
        By default the adaptor API where it is there, else the torch API.

    Returns
    -------
    neural_compressor.config.PostTrainingQuantConfig for `neural_compressor.quantization.fit` of the adaptor API, or
    LAACIQConfig for `neural_compressor.torch.quantization.quantize` of the torch API.  The latter has no text and no
    gate: give `run_fn=inc_laaciq.calibrate(loader)`.

    Raises
    ------
    SpecError
        With file and line, if something in it is wrong.
    BackendError
        If the API is not there.
    """
    from inc_laaciq.backends.inc_api import choose

    run = read_config(path)
    if choose(api) == "adaptor":
        from inc_laaciq.backends.inc_fit import post_training_config

        return post_training_config(run)
    from inc_laaciq.backends.inc_torch_config import LAACIQConfig

    return LAACIQConfig.from_run(run)


def language_loader(
    tokenizer: PreTrainedTokenizerBase,
    texts: str | Path | Mapping[str, Any],
    *,
    tokens_per_language: int = 4096,
    sequence_length: int = 256,
    seed: int = 0,
) -> LanguageLoader:
    """Calibration batches that know their language, for `fit(..., calib_dataloader=...)` and for `calibrate`.

    Parameters
    ----------
    tokenizer : transformers tokenizer
        That of the model.
    texts : path or mapping
        A folder of `<language>.txt`, a JSONL file with `text` and `language`, or a `datasets` specification.
    tokens_per_language : int
        0 = all there is.
    sequence_length : int
        Tokens in a row.
    seed : int
        Which documents are taken.
    """
    from inc_laaciq.calibration.prepare import calibration_batches

    source = dict(texts) if isinstance(texts, Mapping) else str(texts)
    spec = TextSpec(texts=source, tokens_per_language=tokens_per_language, seed=seed)
    return calibration_batches(LaaciqSpec(calibration=spec), tokenizer, sequence_length=sequence_length)
