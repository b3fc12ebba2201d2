"""Static INT8 through either API of Neural Compressor: the same codes, input scales and zero points from one yaml.

The two APIs are in different versions and cannot run beside each other, so what each gives is compared with numbers
that both gave when this was written.
"""

from __future__ import annotations

import pytest
import torch
from packed_models import bloom, grown

from inc_laaciq.backends import inc_api, inc_torch_static
from inc_laaciq.backends.static_saved import quantized_layers
from inc_laaciq.calibration.loader import LanguageLoader
from inc_laaciq.config import run_spec
from inc_laaciq.errors import BackendError

pytestmark = [pytest.mark.inc, pytest.mark.filterwarnings("ignore")]

BLOCK = "transformer.h.1."
# Sum of the absolute codes.
CODES = {
    "self_attention.query_key_value": 463138,
    "self_attention.dense": 161293,
    "mlp.dense_h_to_4h": 637626,
    "mlp.dense_4h_to_h": 540398,
}
# Scale and zero point of the input, by the rule that makes one range from those of all languages.
EXPECTED = {
    "max": {
        "self_attention.query_key_value": (0.0318239, 133),
        "self_attention.dense": (0.0185282, 128),
        "mlp.dense_h_to_4h": (0.0314594, 128),
        "mlp.dense_4h_to_h": (0.0152766, 11),
    },
    "mean": {
        "self_attention.query_key_value": (0.0309117, 130),
        "self_attention.dense": (0.0184279, 128),
        "mlp.dense_h_to_4h": (0.0297944, 126),
        "mlp.dense_4h_to_h": (0.0147022, 12),
    },
}


def fit(api, rule):
    run = run_spec(
        {
            "quantization": {"approach": "post_training_static_quant"},
            "strategy": "la_aciq",
            "la_aciq": {"mode": "fast", "range_reconcile": rule, "calibration": {"texts": "given as a loader"}},
        }
    )
    generator = torch.Generator().manual_seed(1)
    batches = {tag: [torch.randint(low, 320, (4, 32), generator=generator)] for tag, low in (("en", 0), ("sw", 160))}
    with inc_api.quiet(api):
        return inc_api.fitting(api).fit(grown(bloom), run, LanguageLoader(batches))


def of_adaptor(quantized):
    state = quantized.model.state_dict()
    for name in quantized.la_aciq.weights:
        place = BLOCK + name.removeprefix(BLOCK).replace(".", "_")
        if name.startswith(BLOCK):
            codes = quantized.model.get_submodule(name).weight().int_repr()
            yield name, float(state[f"{place}_input_scale_0"]), int(state[f"{place}_input_zero_point_0"]), codes


def of_torch(quantized):
    for name, layer in quantized_layers(quantized.model.graph).items():
        if name.startswith(BLOCK):
            yield name, layer.input_scale, layer.input_zero_point, layer.codes


@pytest.mark.parametrize("rule", EXPECTED)
@pytest.mark.parametrize(("api", "found"), [("adaptor", of_adaptor), ("torch", of_torch)], ids=["adaptor", "torch"])
def test_each_api_gives_the_same_codes_scales_and_zero_points(api, found, rule, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # Neural Compressor puts nc_workspace there
    try:
        inc_api.require(api)
        if api == "torch":
            inc_torch_static.algorithm()
    except BackendError as error:
        pytest.skip(str(error))
    given = {
        name.removeprefix(BLOCK): (scale, zero, int(codes.int().abs().sum()))
        for name, scale, zero, codes in found(fit(api, rule))
    }
    assert given.keys() == EXPECTED[rule].keys(), given
    for name, (scale, zero_point) in EXPECTED[rule].items():
        assert given[name][0] == pytest.approx(scale, rel=1e-4), name
        assert given[name][1] == zero_point, name
        assert given[name][2] == pytest.approx(CODES[name], rel=1e-4), name
