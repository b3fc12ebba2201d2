"""The strategy `la_aciq` for Intel Neural Compressor's adaptor API (neural-compressor 2.6 to 3.7).

The strategy asks Neural Compressor for its tuning configuration, has the layers solved as that says, and hands the
solution to an adaptor that carries the codes unchanged.  The solution is a pure function of the configuration and the
float model: Neural Compressor may quantize the best configuration once more at the end and must get the same model.
"""

from __future__ import annotations

import copy
import logging
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from neural_compressor.adaptor.pytorch import PyTorch_FXAdaptor, PyTorchWeightOnlyAdaptor
from neural_compressor.strategy.strategy import STRATEGIES, TuneStrategy
from neural_compressor.strategy.utils.utility import quant_options

from inc_laaciq.backends.inc_limits import check_carried
from inc_laaciq.backends.inc_registration import STRATEGY
from inc_laaciq.backends.inc_static import LaAciqStaticAdaptor, plain_name
from inc_laaciq.calibration.layers import Layer, find_layers, linearize
from inc_laaciq.calibration.loader import LanguageLoader
from inc_laaciq.calibration.prepare import calibration_batches, row_length
from inc_laaciq.checkpoint.tokenizer import load_tokenizer
from inc_laaciq.config import OpRule, RunSpec, WeightSpec, run_spec
from inc_laaciq.errors import BackendError, EvaluationError, LaaciqError, SpecError
from inc_laaciq.layerwise import Solution, quantize_layers
from inc_laaciq.quant.solver import QuantizedWeight

logger = logging.getLogger(__name__)

# Neural Compressor's own codes for its global `quant_options.quant_type`, which it sets but never resets.
_WEIGHT_ONLY, _STATIC = 3, 1

_STATIC_WEIGHT = WeightSpec(bits=8, group_size=-1, scheme="sym")


def gptq_entry(weight: QuantizedWeight) -> dict[str, list[list[float]]]:
    """Scale and zero point as Neural Compressor's export takes them; anything else it would derive from absmax.

    Plain floats, because a numpy number saves but does not load.
    """
    rows, groups = weight.scale.shape
    # One row of zeros for all channels: lists of floats are large, and Neural Compressor does not read these.
    zero = [[0.0] * groups] * rows if weight.zero_point is None else weight.zero_point.tolist()
    return {"scale": weight.scale.tolist(), "zero": zero}


class LaAciqWeightOnlyAdaptor(PyTorchWeightOnlyAdaptor):  # type: ignore[misc]
    """Weight-only adaptor that writes a given solution into the model instead of rounding by itself."""

    solution: Solution

    def quantize(self, tune_cfg: dict[str, Any], model: Any, dataloader: Any, calib_func: Any = None) -> Any:
        """Copy of the model with the solution's weights; the float model stays as it is."""
        for (name, _), config in tune_cfg["op"].items():
            if config["weight"]["dtype"] != "fp32":
                # No algorithm of Neural Compressor has this name, so its own code leaves the weights alone.
                config["weight"]["algorithm"] = STRATEGY.upper()
                if name not in self.solution.weights:
                    raise BackendError(f"Neural Compressor asks for layer {name!r} to be quantized; it was not solved")
        quantized = super().quantize(tune_cfg, copy.deepcopy(model), dataloader, calib_func)
        with torch.no_grad():
            for name, weight in self.solution.weights.items():
                target = quantized.model.get_submodule(name).weight
                target.copy_(weight.dequantize())
        quantized.gptq_config = {name: gptq_entry(weight) for name, weight in self.solution.weights.items()}
        quantized.la_aciq = self.solution
        return quantized


class LaAciqSearch:
    """What the strategy does in `quantization.fit` and in the older `experimental.Quantization` alike.

    The rest of it comes from the base class that each of the two has for strategies; `_begin` is to be called first.
    """

    adaptor: Any
    baseline: Any
    calib_dataloader: Any
    model: Any
    q_func: Any
    tune_result_record: Any
    tuning_space: Any

    def _begin(self, run: RunSpec, *, mode_is_given: bool, timeout: int, criterion: str) -> None:
        self._failure: BaseException | None = None
        self._run = run
        self._settings = run.la_aciq
        self._mode_is_given = mode_is_given
        self._timeout = timeout
        self._criterion = criterion

    def _own_adaptor(self) -> Any:
        _, info = self._set_framework_info(self.calib_dataloader, self.q_func)  # type: ignore[attr-defined]
        if type(self.adaptor) is PyTorchWeightOnlyAdaptor:
            return LaAciqWeightOnlyAdaptor(info)
        if type(self.adaptor) is PyTorch_FXAdaptor:
            return LaAciqStaticAdaptor(info)
        raise BackendError(
            f"strategy 'la_aciq' has no adaptor for {type(self.adaptor).__name__}: it quantizes PyTorch models with "
            "approach 'weight_only' or 'static'"
        )

    def next_tune_cfg(self) -> Any:
        """The one configuration that is tried: Neural Compressor's own, with the solution for it at hand."""
        _, _, ops = self.initial_tuning_cfg()  # type: ignore[attr-defined]
        batches, progress = self._batches()
        settings = self._settings
        if not batches and settings.mode == "balanced" and not self._mode_is_given:
            logger.warning("no calibration text was given: mode 'fast' is used, which needs none")
            settings = replace(settings, mode="fast")
        loader = self.calib_dataloader if batches else None
        if loader is not None and settings.reconcile == "natural" and settings.shares is None:
            settings = replace(settings, shares=loader.shares)
        activation = None
        weight, rules = WeightSpec(), _rules(ops, self.model.model)
        if self._is_static:
            # torch's INT8 kernels take positive scales only, and read a range for every input.
            settings, activation = replace(settings, signed=False), self._run.activation
            if not batches:
                raise SpecError(
                    "static INT8 needs calibration text: give la_aciq.calibration.texts or calib_dataloader"
                )
            if self.q_func is not None:
                raise SpecError(
                    "calib_func is not possible with strategy 'la_aciq' and static INT8: Neural Compressor would take "
                    "its own ranges in place of the solved ones. Give calib_dataloader instead"
                )
            # Neural Compressor's pattern `q_proj` does not match the lone layer that it calls `q_proj.module`.
            weight, rules = _STATIC_WEIGHT, [*self._run.rules, *(rule for rule in rules if rule.weight is None)]
        model = self.model.model
        layers = find_layers(model, weight, rules, lm_head=settings.lm_head)
        _check_agreement(layers, ops, self._run.rules)
        solution = quantize_layers(
            model,
            layers,
            batches,
            settings,
            activation=activation,
            memory=loader.memory if loader is not None else 4 << 30,
            progress=progress,
        )
        self._carry(solution)
        config: dict[Any, Any] = {
            key: op if plain_name(op.op_name) in solution.weights else type(op)(*key, "fp32", self.tuning_space)
            for key, op in ops.items()
        }
        # All batches: the number that Neural Compressor has would end its own calibration after the first languages.
        config["calib_sampling_size"] = len(loader) * loader.batch_size if loader is not None else 1
        config[STRATEGY] = {"mode": settings.mode, "reconcile": settings.reconcile}
        yield config

    @property
    def _is_static(self) -> bool:
        return isinstance(self.adaptor, LaAciqStaticAdaptor)

    def _carry(self, solution: Solution) -> None:
        self.adaptor.solution = solution
        if self._is_static:
            self.adaptor.ranges = solution.ranges if self._run.activation.algorithm == STRATEGY else {}

    def _batches(self) -> tuple[Mapping[str, Any] | None, Callable[[str, int, int], None] | None]:
        loader = self.calib_dataloader
        if isinstance(loader, LanguageLoader):
            return loader.batches, loader.progress
        if loader is not None:
            raise SpecError(
                f"calib_dataloader is a {type(loader).__name__}, which does not say what language a batch is in. "
                "Give an inc_laaciq.LanguageLoader, for example from inc_laaciq.language_loader(tokenizer, texts)"
            )
        if self._settings.calibration is None:
            return None, None
        # Neural Compressor's own calibration runs on it too.
        self.calib_dataloader = loader_of(self._run, self.model.model)
        return self.calib_dataloader.batches, None

    def traverse(self) -> None:
        """Neural Compressor's search; what goes wrong in it is kept, because `fit` swallows exceptions."""
        started = time.monotonic()
        try:
            super().traverse()  # type: ignore[misc]
        except LaaciqError as error:
            self._failure = error
        except KeyboardInterrupt as error:
            # Neural Compressor's own time limit also arrives as an interrupt, and then the best model so far counts.
            if not self._timeout or time.monotonic() - started < self._timeout:
                self._failure = error
            elif not self.tune_result_record:
                self._failure = EvaluationError(
                    f"tuning.exit_policy.timeout={self._timeout} seconds was over before the first trial ended"
                )
        except Exception as error:
            # fit() logs the traceback and would then return None.
            self._failure = BackendError(f"Neural Compressor failed: {type(error).__name__}: {error}")
            self._failure.__cause__ = error
            raise
        except BaseException as error:  # a request to stop, such as SIGTERM, stays what it is
            self._failure = error
            raise

    def _accepted(self, best: Any) -> Any:
        """The accepted model, or the reason why there is none."""
        if self._failure is not None:
            raise self._failure
        if best is None:
            raise EvaluationError(self._why_nothing_passed())
        return best

    def _why_nothing_passed(self) -> str:
        trials = "; ".join(
            f"trial {number}: {result[0]}" for number, result in enumerate(self.tune_result_record, start=1)
        )
        baseline = self.baseline[0] if self.baseline else "not evaluated"
        return (
            f"no quantized model met the accuracy criterion ({self._criterion}, baseline {baseline}). "
            f"Tried: {trials or 'nothing'}. "
            "Raise the bits, lower the group size, keep layers in float, or widen the criterion"
        )


class LaAciqTuneStrategy(LaAciqSearch, TuneStrategy):  # type: ignore[misc]
    """Neural Compressor's tuning strategy `la_aciq`, as `quantization.fit` runs it."""

    def __init__(self, model: Any, conf: Any, **kwargs: Any) -> None:
        criterion, accuracy = conf.quantization.tuning_criterion, conf.quantization.accuracy_criterion
        given = criterion.strategy_kwargs or {}
        self._begin(
            _run_of(given),
            mode_is_given=not {"mode", "run"}.isdisjoint(given),
            timeout=criterion.timeout,
            criterion=f"{accuracy.criterion} loss of at most {accuracy.tolerable_loss}",
        )
        if conf.quantization.quant_level == 0:
            raise SpecError(
                "quant_level=0 makes Neural Compressor run its 'conservative' strategy instead of 'la_aciq'. "
                "Set quant_level=1, or leave it out"
            )
        model._model = linearize(model._model)
        super().__init__(model, conf, **kwargs)
        self.adaptor = self._own_adaptor()

    def _set_quant_type(self, config: Any) -> None:
        quant_options.quant_type = _WEIGHT_ONLY if config.approach == "post_training_weight_only" else _STATIC

    def get_best_qmodel(self) -> Any:
        """The accepted model, or the reason why there is none."""
        return self._accepted(super().get_best_qmodel())


def _run_of(kwargs: Mapping[str, Any]) -> RunSpec:
    """Configuration behind `strategy_kwargs`: a `RunSpec` from `load_config`, or the keys of a `la_aciq:` section."""
    given = kwargs.get("run")
    return given if isinstance(given, RunSpec) else run_spec({"strategy": STRATEGY, "la_aciq": dict(kwargs)})


def loader_of(run: RunSpec, model: torch.nn.Module) -> LanguageLoader:
    """Batches of the text that the configuration names.

    Raises
    ------
    SpecError
        If it names none, or if neither it nor the model says where the tokenizer is.
    """
    tokenizer = load_tokenizer(_folder_of(run, model))
    return calibration_batches(run.la_aciq, tokenizer, sequence_length=row_length(model))


def _folder_of(run: RunSpec, model: torch.nn.Module) -> Path:
    """Where the model's tokenizer is."""
    given = run.model or getattr(model, "name_or_path", "")
    if not given or not Path(given).is_dir():
        raise SpecError(
            "la_aciq.calibration.texts needs the model's tokenizer, and the model does not say where it is. Set "
            "la_aciq.model to the model's folder, or give fit() calib_dataloader=inc_laaciq.language_loader(...)"
        )
    return Path(given)


def _rules(ops: Mapping[Any, Any], model: torch.nn.Module) -> list[OpRule]:
    """What Neural Compressor's configuration says of every single linear layer, subclasses of `Linear` included."""
    linear = {name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)}
    return [
        OpRule(pattern=re.escape(plain_name(op.op_name)), weight=_weight_spec(op))
        for op in ops.values()
        if plain_name(op.op_name) in linear
    ]


def _check_agreement(layers: Sequence[Layer], ops: Mapping[Any, Any], rules: Sequence[OpRule]) -> None:
    """Refuse what would be lost silently: layers that Neural Compressor does not know, rules that match no layer."""
    known = {plain_name(op.op_name) for op in ops.values()}
    if unknown := [layer.name for layer in layers if layer.weight is not None and layer.name not in known]:
        raise BackendError(
            f"Neural Compressor does not list {', '.join(unknown[:5])} as quantizable; leave such layers in float "
            "with quantization.op_wise"
        )
    for rule in rules:
        if not any(re.fullmatch(rule.pattern, layer.name) for layer in layers):
            raise SpecError(f"op_wise names no linear layer: {rule.pattern}. Layers are called {layers[0].name}, ...")


def _weight_spec(op: Any) -> WeightSpec | None:
    weight = op.get_state()["weight"]
    dtype = weight["dtype"]
    if dtype == "fp32":
        return None
    if op.op_quant_mode == "static":
        return _STATIC_WEIGHT
    if dtype not in ("int", "int4", "int8"):
        raise SpecError(f"weight dtype {dtype!r} of layer {op.op_name!r}: la_aciq solves integer grids; use 'int'")
    bits = {"int4": 4, "int8": 8}.get(dtype, weight["bits"])
    spec = WeightSpec(bits=bits, group_size=weight["group_size"], scheme=weight["scheme"])
    check_carried(op.op_name, spec)
    return spec


def register() -> None:
    """Add `la_aciq` to the registry, and keep `quant_level: auto` from replacing it silently."""
    if STRATEGIES.get(STRATEGY) is LaAciqTuneStrategy:
        return
    STRATEGIES[STRATEGY] = LaAciqTuneStrategy
    for name in ("auto", "conservative"):
        if name in STRATEGIES:
            STRATEGIES[name] = _unless_la_aciq(STRATEGIES[name])


def _unless_la_aciq(stock: Any) -> Callable[..., Any]:
    """`fit` replaces the strategy's name when `quant_level` is "auto" or 0; the criterion still has the user's."""

    def create(model: Any, conf: Any, **kwargs: Any) -> Any:
        asked = conf.quantization.tuning_criterion.strategy
        return (LaAciqTuneStrategy if asked == STRATEGY else stock)(model, conf, **kwargs)

    return create
