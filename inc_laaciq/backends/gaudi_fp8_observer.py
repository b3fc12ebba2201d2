"""The observer `laaciq` of Neural Compressor's FP8 quantization: the stock `maxabs`, by language.

``FP8Config(observer="laaciq", mode="MEASURE", ...)`` uses it once this package is imported.  Which language a batch is
in says the `calibration_language` block around it.  What Neural Compressor itself writes at the end is the largest
magnitude of all languages; `language_measurements` gives that of each, as the stock observer would have measured it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from neural_compressor.torch.algorithms.fp8_quant._core.save_measure import gmod_list
from neural_compressor.torch.algorithms.fp8_quant._quant_common.quant_config import get_hqt_config
from neural_compressor.torch.algorithms.fp8_quant.model_configs import IMOD_DICT
from neural_compressor.torch.algorithms.fp8_quant.observer import ObserverBase, register_observer
from torch import nn

from inc_laaciq.backends.gaudi_fp8_files import Measurement, Node
from inc_laaciq.backends.gaudi_fp8_names import Rank
from inc_laaciq.backends.inc_registration import FP8_OBSERVER
from inc_laaciq.calibration.current_language import current_language
from inc_laaciq.errors import DataError, NumericError, SpecError
from inc_laaciq.quant.magnitudes import Magnitudes


@dataclass(kw_only=True)
class _Seen:
    """What one language showed of one tensor."""

    largest: torch.Tensor
    magnitudes: Magnitudes


class LanguageObserver(ObserverBase):  # type: ignore[misc]
    """Largest magnitude of one tensor, and counts of its magnitudes, by language.

    Parameters
    ----------
    name : str
        Such as ``input0``, or the name of a parameter.
    mod : nn.Module
        The module that is measured.
    """

    def __init__(self, name: str, mod: nn.Module, d_shape: Any = None, params: Any = None, **device: Any) -> None:
        super().__init__(name=name, mod=mod, **device)
        # As the stock observer: in the type that Neural Compressor computes scales in.
        self.state = torch.zeros((1, 1), device=self.device, dtype=get_hqt_config(mod).cfg["hp_dtype"])
        self.languages: dict[str, _Seen] = {}

    def update_state(self, x: torch.Tensor) -> None:
        """Take a tensor into the largest magnitude of all languages, which Neural Compressor writes."""
        self.state.copy_(torch.maximum(x.detach().abs().max(), self.state))

    def measure(self, x: torch.Tensor) -> None:
        """Take a tensor into what is known of the current language.

        Raises
        ------
        SpecError
            If an input or output comes from a batch whose language was not said.
        NumericError
            If it holds NaN or infinity.
        """
        if not x.numel():  # an expert that no token of the batch was sent to
            return
        self.update_state(x)
        self.used = True
        if not self.name.startswith(("input", "output")):  # a parameter is the same for all languages
            return
        where = f"{self.name} of {IMOD_DICT.get(self.mod, 'a module')}"
        language = current_language()
        if language is None:
            raise SpecError(
                f"{where}: a batch was measured whose language is not known. Run every batch inside "
                "`with inc_laaciq.calibration_language(tag):`"
            )
        try:
            found = Magnitudes.of(x.detach().cpu())  # counting takes double precision, which a Gaudi does not have
        except NumericError as error:
            raise NumericError(f"{where}, language {language}: {error}") from error
        seen = self.languages.get(language)
        if seen is None:
            seen = self.languages[language] = _Seen(largest=torch.zeros_like(self.state), magnitudes=found)
        else:
            seen.magnitudes += found
        seen.largest.copy_(torch.maximum(x.detach().abs().max(), seen.largest))


def register() -> None:
    """Let `FP8Config(observer="laaciq")` find the observer; doing so twice changes nothing."""
    register_observer(FP8_OBSERVER)(LanguageObserver)


def language_measurements(model: nn.Module) -> dict[str, Measurement]:
    """What this worker measured of each language, in the order in which languages came.

    Parameters
    ----------
    model : nn.Module
        Prepared with ``observer="laaciq"``, and run.

    Raises
    ------
    SpecError
        If the model was not prepared so.
    DataError
        If nothing was measured.
    """
    modules = {
        name.replace("_orig_mod.", ""): module._mod_extra_config  # torch.compile puts that into names
        for name, module in model.named_modules()
        if getattr(module, "_mod_extra_config", None) is not None
    }
    observed = {name: parts for name, parts in modules.items() if isinstance(parts.inputs[0], LanguageObserver)}
    if not observed:
        raise SpecError(
            f"the model has no observers {FP8_OBSERVER!r}; prepare it with FP8Config(observer={FP8_OBSERVER!r})"
        )
    tags = dict.fromkeys(tag for parts in observed.values() for part in parts.inputs for tag in part.languages)
    if not tags:
        raise DataError("nothing was measured: run the model on calibration text between prepare and this call")
    config = get_hqt_config(model).cfg
    return {
        tag: Measurement(
            nodes={name: node for name, parts in observed.items() if (node := _node(parts, tag)) is not None},
            modules=tuple(name for name in dict.fromkeys(gmod_list) if name in modules),
            global_rank=config["global_rank"],
            local_rank=config["local_rank"],
            language=tag,
            magnitudes={
                (name, f"{kind} {index}"): observer.languages[tag].magnitudes
                for name, parts in observed.items()
                for kind, observers in (("input", parts.inputs), ("output", parts.outputs or ()))
                for index, observer in enumerate(observers)
                if tag in observer.languages
            },
        )
        for tag in tags
    }


def worker(model: nn.Module) -> Rank:
    """Rank and number of workers in the names of this worker's files; None where they have none."""
    config = get_hqt_config(model).cfg
    rank = config["local_rank"]
    return None if rank is None else (rank, config["world_size"])


def _node(parts: Any, tag: str) -> Node | None:
    """What was measured of a module; None if no batch of the language reached it."""
    if not any(tag in observer.languages for observer in (*parts.inputs, *(parts.outputs or ()))):
        return None
    outputs = None if not parts.outputs else tuple(_largest(observer, tag) for observer in parts.outputs)
    return Node(
        inputs=tuple(_largest(observer, tag) for observer in parts.inputs),
        outputs=outputs,
        params={name: _array(observer.state) for name, observer in parts.params.items()},
    )


def _largest(observer: LanguageObserver, tag: str) -> Any:
    # Zero where this tensor got nothing, as the stock observer has it: some modules use one of several outputs.
    seen = observer.languages.get(tag)
    return _array(torch.zeros_like(observer.state) if seen is None else seen.largest)


def _array(value: torch.Tensor) -> Any:
    return value.detach().cpu().float().numpy()
