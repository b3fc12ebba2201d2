"""Two linear layers that share one weight: the first is quantized, the second stays in float, whichever API runs it."""

from __future__ import annotations

import warnings

import pytest
import torch
from packed_models import VOCABULARY, grown, llama

with warnings.catch_warnings():  # Neural Compressor and what it imports warn while they are imported
    warnings.simplefilter("ignore")
    pytest.importorskip("neural_compressor", exc_type=ImportError)
    from inc_laaciq.backends import inc_api

    APIS = [api for api in inc_api.APIS if inc_api.is_available(api)]

from inc_laaciq import LanguageLoader
from inc_laaciq.config import run_spec

pytestmark = [pytest.mark.inc, pytest.mark.filterwarnings("ignore")]

OWNER, SHARER = "model.layers.0.mlp.up_proj", "model.layers.1.mlp.up_proj"
WEIGHT_ONLY = {"model_wise": {"weight": {"bits": 3, "group_size": 32}}}
STATIC = {"approach": "post_training_static_quant"}


@pytest.fixture
def model():
    model = grown(llama)
    model.get_submodule(SHARER).weight = model.get_submodule(OWNER).weight
    return model


@pytest.fixture
def loader():
    ids = torch.randint(0, VOCABULARY, (4, 16), generator=torch.Generator().manual_seed(1))
    return LanguageLoader({"en": [ids]})


def run_of(quantization):
    return run_spec(quantization=quantization, la_aciq={"mode": "fast", "calibration": {"texts": "a loader"}})


@pytest.mark.parametrize("api", APIS)
def test_what_is_evaluated_has_the_second_one_in_float(model, loader, api):
    quantized = inc_api.fitting(api).fit(model, run_of(WEIGHT_ONLY), loader)
    shared = model.get_submodule(OWNER).weight
    assert OWNER in quantized.la_aciq.weights
    assert SHARER not in quantized.la_aciq.weights
    assert torch.equal(quantized.model.get_submodule(OWNER).weight, quantized.la_aciq.weights[OWNER].dequantize())
    assert torch.equal(quantized.model.get_submodule(SHARER).weight, shared)
    if api == "torch":
        assert torch.equal(quantized.packed.get_submodule(SHARER).weight, shared), "as in Neural Compressor's own form"


@pytest.mark.skipif("adaptor" not in APIS, reason="the torch API gives each call of a layer a weight of its own")
def test_static_too(model, loader):
    quantized = inc_api.fitting("adaptor").fit(model, run_of(STATIC), loader)
    assert SHARER not in quantized.la_aciq.weights
    found = quantized.model.get_submodule(SHARER)
    assert torch.equal(found.weight, model.get_submodule(OWNER).weight)
