"""The algorithm `laaciq_static` of Neural Compressor's torch API: static INT8 (PT2E) that carries a solution.

Neural Compressor's own algorithm has a closed list of observers, lets layers with a common input share one of them
whatever they asked for, and also rounds products such as those within GELU.  Here each linear layer of the solution is
annotated by itself: its input with the scale and zero point of the solved range, its weight with an observer that hands
out the solver's scales, over the solver's weights.  Nothing else is quantized, so what the rules leave in float stays
there, and no observer depends on calibration where there is a range.

Importing this module registers the algorithm; it needs a Neural Compressor that has the PT2E path.
"""

from __future__ import annotations

import sys
from collections import OrderedDict
from types import MethodType
from typing import Any

import torch
from neural_compressor.common.base_config import register_config
from neural_compressor.common.utils import STATIC_QUANT
from neural_compressor.torch.algorithms.pt2e_quant.core import W8A8PT2EQuantizer
from neural_compressor.torch.algorithms.pt2e_quant.pt2e_compat import convert_pt2e, xiq
from neural_compressor.torch.algorithms.pt2e_quant.save_load import save as save_pt2e
from neural_compressor.torch.algorithms.pt2e_quant.utility import create_quant_spec_from_config
from neural_compressor.torch.quantization import INT8StaticQuantConfig
from neural_compressor.torch.utils import register_algo
from torch.fx import GraphModule, Node

from inc_laaciq.backends.inc_registration import STRATEGY
from inc_laaciq.backends.static_export import layer_name
from inc_laaciq.config.specs import ActivationAlgorithm
from inc_laaciq.errors import BackendError, SpecError
from inc_laaciq.layerwise import Solution
from inc_laaciq.quant.activation import Range, aligned_ends
from inc_laaciq.quant.solver import QuantizedWeight

ALGORITHM = "laaciq_static"

_specs = sys.modules[xiq.QuantizationSpec.__module__]  # torchao's, or torch's own before 2.11
_LEVELS = 255
_NEVER = float("inf")  # what Neural Compressor's observers hold before they have seen anything


@register_config(framework_name="torch", algo_name=ALGORITHM)
class LAACIQStaticConfig(INT8StaticQuantConfig):  # type: ignore[misc]
    """Configuration for Neural Compressor's `prepare`, for a model exported by `export_model`.

    Parameters
    ----------
    solution : Solution
        From `quantize_layers` for the same model, with 8 bits, one scale per channel, `signed=False` and ranges.
    act_algo : "la_aciq", "minmax" or "kl"
        Where input ranges come from: the solution, or Neural Compressor's observers (its `minmax` is a moving
        average).  Those also serve layers for which the solution has no range, and need batches run through the
        prepared model before `convert`.
    **kwargs
        Of Neural Compressor's own configuration, which makes copies of itself with them; nothing of it is read.
    """

    name = ALGORITHM

    def __init__(self, solution: Solution | None = None, act_algo: str = STRATEGY, **kwargs: Any) -> None:
        super().__init__(act_algo=act_algo, **kwargs)
        self._solution = solution

    def check(self) -> Solution:
        """What is carried.

        Raises
        ------
        SpecError
            If it was left out, or is not on the grid of static INT8.
        """
        if self._solution is None:
            raise SpecError(
                f"the algorithm {ALGORITHM!r} has no solution to carry. Give LAACIQStaticConfig(solution=...), from "
                "inc_laaciq.layerwise.quantize_layers"
            )
        for name, weight in self._solution.weights.items():
            if weight.grid.bits != 8 or weight.zero_point is not None or weight.scale.shape[1] != 1:
                raise SpecError(
                    f"layer {name!r} is solved for {weight.grid.bits} bits, group_size={weight.group_size}, "
                    f"scheme={weight.grid.scheme!r}; static INT8 takes 8 bits, group_size=-1, scheme='sym'"
                )
            if not bool((weight.scale > 0).all()):
                raise SpecError(
                    f"layer {name!r} has negative scales, which INT8 kernels do not take. Solve with signed=False"
                )
        return self._solution

    def to_dict(self) -> dict[str, Any]:
        """What Neural Compressor writes into `qconfig.json`: everything but the solution itself."""
        return {key: value for key, value in super().to_dict().items() if key != "_solution"}

    def to_config_mapping(self, config_list: Any = None, model_info: Any = None) -> OrderedDict[str, Any]:
        """One entry, under the name by which Neural Compressor's `load` knows a PT2E model."""
        return OrderedDict({STATIC_QUANT: self})


class SolvedPerChannelObserver(xiq.PerChannelMinMaxObserver):  # type: ignore[misc]
    """Weight observer that ignores the weights and gives the scales that were solved, shape (out_features,)."""

    def __init__(self, solved: torch.Tensor, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.solved = solved.flatten().clone()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Observe nothing."""
        return x

    def calculate_qparams(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Scales and zero points."""
        return self.solved, torch.zeros_like(self.solved, dtype=torch.int64)


def input_spec(limits: Range) -> Any:
    """Specification of an input that is rounded to 8 bits on a range; zero is one of its levels.

    Layers with a common input share an observer where scale and zero point are equal, and only there.
    """
    low, high = aligned_ends(limits, 8)
    scale = (high - low) / _LEVELS
    return _specs.FixedQParamsQuantizationSpec(
        dtype=torch.uint8,
        scale=scale,
        zero_point=round(-low / scale),
        quant_min=0,
        quant_max=_LEVELS,
        qscheme=torch.per_tensor_affine,
    )


def _weight_spec(weight: QuantizedWeight) -> Any:
    return _specs.QuantizationSpec(
        dtype=torch.int8,
        quant_min=-128,
        quant_max=127,
        qscheme=torch.per_channel_symmetric,
        ch_axis=0,
        observer_or_fake_quant_ctr=SolvedPerChannelObserver.with_args(solved=weight.scale),
    )


class SolutionQuantizer(xiq.Quantizer):  # type: ignore[misc]
    """Tells PT2E where to quantize: the linear layers of a solution, and nothing else."""

    def __init__(self, solution: Solution, algorithm: ActivationAlgorithm) -> None:
        super().__init__()
        self.solution = solution
        self.algorithm = algorithm

    def annotate(self, model: GraphModule) -> GraphModule:
        """Put the solved weights in place, and annotate every call of every layer.

        Raises
        ------
        BackendError
            If a layer of the solution is not in the graph.
        """
        found = set()
        for node in list(model.graph.nodes):
            name = layer_name(node)
            if name is None or name not in self.solution.weights:
                continue
            found.add(name)
            weight = self.solution.weights[name]
            own = _own_weight(model, node, weight)
            node.meta[xiq.QUANT_ANNOTATION_KEY] = xiq.QuantizationAnnotation(
                input_qspec_map={node.args[0]: self._input(name), own: _weight_spec(weight)}, _annotated=True
            )
        if lost := sorted(self.solution.weights.keys() - found):
            raise BackendError(
                f"the exported graph has no linear layer {', '.join(lost[:5])}: no text of any length runs through "
                "it, or it was exported by other means than export_model. Leave it in float with quantization.op_wise"
            )
        model.graph.eliminate_dead_code()
        model.recompile()
        return model

    def _input(self, name: str) -> Any:
        limits = self.solution.ranges.get(name) if self.algorithm == STRATEGY else None
        if limits is not None:
            return input_spec(limits)
        algorithm = "minmax" if self.algorithm == STRATEGY else self.algorithm
        return create_quant_spec_from_config("uint8", False, "per_tensor", algorithm)

    def validate(self, model: GraphModule) -> None:
        """There is nothing to object to."""


def _own_weight(model: GraphModule, node: Node, weight: QuantizedWeight) -> Node:
    """Give a call the solved weight instead of the float one, which the float model and other calls keep."""
    place: Any = node.args[1]
    name = f"{ALGORITHM}_{node.name}"
    model.register_buffer(name, weight.dequantize())
    with model.graph.inserting_before(node):
        own = model.graph.get_attr(name)
    own.meta = dict(place.meta)
    node.update_arg(1, own)
    return own


class SolvedPT2EQuantizer(W8A8PT2EQuantizer):  # type: ignore[misc]
    """Neural Compressor's PT2E quantizer with the annotations of a solution, and weights stored as integers."""

    @staticmethod
    def update_quantizer_based_on_quant_config(quant_config: LAACIQStaticConfig) -> SolutionQuantizer:
        """What annotates the graph."""
        return SolutionQuantizer(quant_config.check(), quant_config.act_algo)

    def convert(self, model: GraphModule, *args: Any, **kwargs: Any) -> GraphModule:
        """The quantized graph.

        Neural Compressor's own keeps float weights and rounds them on every call.

        Raises
        ------
        SpecError
            If an observer is left that has seen no batch.
        """
        for name, module in model.named_modules():
            if float(getattr(module, "min_val", torch.zeros(1)).flatten()[:1].sum()) == _NEVER:
                raise SpecError(
                    f"{name} is an observer that has seen no batch: its layer has no solved range, or "
                    f"act_algo={self.quant_config.act_algo!r} was asked for. Run calibration batches through the "
                    "prepared model before convert"
                )
        converted: GraphModule = convert_pt2e(model, fold_quantize=True)
        return converted


@register_algo(name=ALGORITHM)  # type: ignore[untyped-decorator]
def apply(model: Any, configs_mapping: dict[str, Any], mode: Any, *args: Any, **kwargs: Any) -> Any:
    """What Neural Compressor calls for `prepare`, `convert` and `quantize`."""
    config = next(config for config in configs_mapping.values() if config.name == ALGORITHM)
    if not getattr(model, "_exported", False) and not isinstance(model, GraphModule):
        raise SpecError(
            f"the algorithm {ALGORITHM!r} takes an exported model, not a {type(model).__name__}. Give "
            "inc_laaciq.backends.static_export.export_model(model).graph"
        )
    dynamic_shapes = getattr(model, "dynamic_shapes", None)
    model = SolvedPT2EQuantizer(config).execute(model, mode=mode, run_fn=kwargs.get("run_fn"))
    model.dynamic_shapes = dynamic_shapes
    model.qconfig = configs_mapping
    model.save = MethodType(_save, model)
    return model


def _save(model: Any, example_inputs: Any, output_dir: str = "./saved_results") -> None:
    """Neural Compressor's `save`, which turns the model's own configuration to text and so works only once."""
    configs_mapping = model.qconfig
    model.qconfig = dict(configs_mapping)
    try:
        save_pt2e(model, example_inputs, output_dir=output_dir)
    finally:
        model.qconfig = configs_mapping
