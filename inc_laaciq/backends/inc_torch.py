"""LA-ACIQ as an algorithm of Neural Compressor's torch API (neural-compressor 3.7 and later).

`prepare` makes a model record its calibration text, `convert` has the layers solved on it and puts Neural Compressor's
packed layers in their place.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from contextlib import ExitStack
from types import MethodType
from typing import Any

import torch
from neural_compressor.torch.algorithms import Quantizer
from neural_compressor.torch.quantization import AWQConfig
from neural_compressor.torch.utils import dump_model_op_stats, register_algo, set_module
from torch import nn

from inc_laaciq.backends.inc_torch_calibration import RECORDER, UNDETERMINED, Recorder
from inc_laaciq.backends.inc_torch_packing import packed_layer
from inc_laaciq.backends.inc_torch_save import save
from inc_laaciq.calibration.folding import apply_folds
from inc_laaciq.calibration.layers import Layer, find_layers, linear_layer, linearize
from inc_laaciq.calibration.loader import LanguageLoader
from inc_laaciq.calibration.prepare import check_weights
from inc_laaciq.config import LaaciqSpec, OpRule, WeightSpec
from inc_laaciq.config.specs import NEED_TEXT
from inc_laaciq.errors import BackendError, DataError, SpecError
from inc_laaciq.layerwise import Solution, quantize_layers
from inc_laaciq.tuning.solving import Solver

logger = logging.getLogger(__name__)


class LAACIQQuantizer(Quantizer):  # type: ignore[misc]
    """Solves and replaces the layers of one model.

    Parameters
    ----------
    quant_config : mapping of layer name -> LAACIQConfig
    """

    def prepare(self, model: nn.Module, *args: Any, **kwargs: Any) -> nn.Module:
        """The model, which records what it is run on from now on; a linearized copy if it has `Conv1D` layers."""
        if hasattr(model, RECORDER):
            raise SpecError("the model is prepared for LA-ACIQ already. Convert it, or start from the float model")
        model = linearize(model)
        Recorder().attach(model)
        return model

    def convert(self, model: nn.Module, *args: Any, **kwargs: Any) -> nn.Module:
        """The model with packed layers, `la_aciq` (a Solution) and Neural Compressor's `qconfig`."""
        is_prepared = hasattr(model, RECORDER)
        if not is_prepared:  # `convert(model, config)` without `prepare`
            model = self.prepare(model)
        recorder = getattr(model, RECORDER)
        recorder.detach(model)
        settings = next(iter(self.quant_config.values())).settings()
        with ExitStack() as after_an_error:
            if is_prepared:  # else the next `convert` would go without the calibration text, and not say so
                after_an_error.callback(recorder.attach, model)
            solution = recorder.solution or _solve(model, self.quant_config, settings, recorder)
            after_an_error.pop_all()
        kinds = {name: type(module).__name__ for name, module in model.named_modules()}
        if len(apply_folds(model, solution.folds)) != len(solution.folds):
            raise BackendError("a norm cannot take the scale that the layers behind it were solved with")
        for name, weight in solution.weights.items():
            try:
                layer = packed_layer(linear_layer(model, name), weight)
            except BackendError as error:
                raise BackendError(f"layer {name!r}: {error}") from error
            set_module(model, name, layer)
        result: Any = model
        result.la_aciq = solution
        result.la_aciq_settings = settings
        result.qconfig = saved_mapping(solution, self.quant_config, kinds)
        result.save = MethodType(save, result)
        if any(parameter.dtype in (torch.bfloat16, torch.float16) for parameter in model.parameters()):
            logger.warning(
                "Neural Compressor's packed layers compute in float32 on a CPU, and the rest of this model in 16 bits, "
                "which do not go together. To run it there, load the float model in float32 before it is quantized"
            )
        return model


def _solve(model: nn.Module, configs: Mapping[str, Any], settings: LaaciqSpec, recorder: Recorder) -> Solution:
    batches = recorder.batches()
    if settings.languages is not None and batches:
        if missing := [tag for tag in settings.languages if not batches.get(tag)]:
            raise DataError(
                f"no calibration batch is in {', '.join(missing)}, which languages names. There are batches in "
                f"{', '.join(batches)}"
            )
        batches = {tag: batches[tag] for tag in settings.languages}
    if batches and UNDETERMINED not in batches:
        check_weights(settings, batches)
    if not batches and settings.mode in NEED_TEXT:
        raise SpecError(
            f"mode {settings.mode!r} needs calibration text, and the model was run on none. Give "
            "run_fn=inc_laaciq.calibrate(loader), or run the model between prepare and convert, or use mode='fast'"
        )
    layers = layers_of(model, configs, lm_head=settings.lm_head)
    if UNDETERMINED in batches:
        return quantize_layers(model, layers, batches, settings)
    loader: LanguageLoader | None = None
    if recorder.loader is not None:
        loader = recorder.loader.only(batches)  # which knows more than its batches, such as the sizes of the texts
    elif batches:
        loader = LanguageLoader(batches)
    progress = None if loader is None else loader.progress
    return Solver(model=model, loader=loader, progress=progress).solve(layers, settings, None)


def layers_of(model: nn.Module, configs: Mapping[str, Any], *, lm_head: bool) -> list[Layer]:
    """Every weight matrix of a model, with what Neural Compressor's configuration of it says.

    Parameters
    ----------
    model : nn.Module
        Linearized.
    configs : mapping of layer name -> LAACIQConfig
        A linear layer that is not among them stays in float.
    lm_head : bool
    """
    rules = []
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear):
            grid = configs[name].weight_spec() if name in configs else None
            rules.append(OpRule(pattern=re.escape(name), weight=grid))
    return find_layers(model, WeightSpec(), rules, lm_head=lm_head)


def saved_mapping(solution: Solution, configs: Mapping[str, Any], kinds: Mapping[str, str]) -> dict[Any, Any]:
    """Neural Compressor's `qconfig` of what was done: (name, type) -> configuration.

    Its `load` builds packed layers from it, with two faults that the order makes harmless.  It takes the last entry in
    whose name a layer's name occurs, so longer names come first.  And it restores nothing but packed layers, unless
    the first entry is by AWQ: so the norms that took a scale are entered as what AWQ does to norms.
    """
    like = next(iter(configs.values()))
    mapping: dict[Any, Any] = {}
    for fold in solution.folds:
        mapping[fold.norm, kinds[fold.norm]] = AWQConfig(dtype="fp32", folding=True)
    quantized = [layer for layer in solution.layers if layer.name in kinds]
    for layer in sorted(quantized, key=lambda layer: -len(layer.name)):
        mapping[layer.name, kinds[layer.name]] = like.for_layer(layer.weight)
    return mapping


@register_algo("laaciq")  # type: ignore[untyped-decorator]
def laaciq_entry(model: nn.Module, configs_mapping: Mapping[Any, Any], mode: Any, *args: Any, **kwargs: Any) -> Any:
    """What Neural Compressor calls in each phase.

    Parameters
    ----------
    model : nn.Module
    configs_mapping : mapping of (name, type) -> LAACIQConfig
    mode : neural_compressor.common.utils.Mode
    """
    configs = {name: config for (name, _), config in configs_mapping.items()}
    model = LAACIQQuantizer(quant_config=configs).execute(model, mode, *args, **kwargs)
    dump_model_op_stats(mode, getattr(model, "qconfig", configs_mapping))
    return model
