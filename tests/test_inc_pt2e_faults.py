"""What Neural Compressor's own static INT8 (PT2E) does that this package goes round: each test notices a repair."""

from __future__ import annotations

import warnings

import pytest
import torch

with warnings.catch_warnings():  # Neural Compressor and what it imports warn while they are imported
    warnings.simplefilter("ignore")
    pytest.importorskip("neural_compressor.torch.algorithms.pt2e_quant.pt2e_compat", exc_type=ImportError)
    from neural_compressor.torch.algorithms.pt2e_quant.pt2e_compat import prepare_pt2e, xiq
    from neural_compressor.torch.algorithms.pt2e_quant.utility import create_quant_spec_from_config
    from neural_compressor.torch.export import export
    from neural_compressor.torch.quantization import INT8StaticQuantConfig, convert, prepare

pytestmark = [pytest.mark.inc, pytest.mark.filterwarnings("ignore")]


class Gated(torch.nn.Module):
    """Two layers that read the same tensor, and the product of what they give."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.gate = torch.nn.Linear(8, 8), torch.nn.Linear(8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.up(x) * self.gate(x)


EXAMPLES = (torch.linspace(-1, 1, 16).reshape(2, 8),)


def quantized(**kwargs):
    prepared = prepare(export(Gated(), EXAMPLES), INT8StaticQuantConfig(), example_inputs=EXAMPLES)
    prepared(*EXAMPLES)
    return convert(prepared, **kwargs)


def test_its_minmax_is_a_moving_average_in_which_the_first_batch_counts_most():
    observer = create_quant_spec_from_config("uint8", False, "per_tensor", "minmax").observer_or_fake_quant_ctr()
    observer(torch.tensor([0.0, 1.0]))
    observer(torch.tensor([0.0, 100.0]))
    assert float(observer.max_val) == pytest.approx(1.99)


def test_it_rounds_products_too():
    targets = [node for node in quantized().graph.nodes if "dequantize_per_tensor" in str(node.target)]
    assert torch.ops.aten.mul.Tensor in {user.target for node in targets for user in node.users}


def test_its_weights_stay_in_float_whatever_is_asked_for():
    kinds = {parameter.dtype for parameter in quantized(fold_quantize=True).state_dict().values()}
    assert torch.int8 not in kinds


def test_it_saves_a_model_once_only(tmp_path):
    model = quantized()
    model.save(EXAMPLES, output_dir=str(tmp_path / "first"))
    with pytest.raises(AttributeError, match="'dict' object has no attribute 'to_dict'"):
        model.save(EXAMPLES, output_dir=str(tmp_path / "second"))


def test_layers_with_one_input_share_an_observer_whatever_each_asks_for():
    class Two(xiq.Quantizer):
        def annotate(self, model):
            for observer, node in zip(
                (xiq.HistogramObserver, xiq.MovingAverageMinMaxObserver),
                (node for node in model.graph.nodes if node.target == torch.ops.aten.linear.default),
                strict=True,
            ):
                spec = xiq.QuantizationSpec(
                    dtype=torch.uint8, quant_min=0, quant_max=255, qscheme=torch.per_tensor_affine,
                    observer_or_fake_quant_ctr=observer,
                )  # fmt: skip
                node.meta[xiq.QUANT_ANNOTATION_KEY] = xiq.QuantizationAnnotation(
                    input_qspec_map={node.args[0]: spec}, _annotated=True
                )
            return model

        def validate(self, model):
            pass

    prepared = prepare_pt2e(export(Gated(), EXAMPLES), Two())
    observers = [module for name, module in prepared.named_modules() if name.startswith("activation_post_process")]
    assert len(observers) == 1
