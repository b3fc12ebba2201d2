"""Checkpoints in GPTQ layout in Neural Compressor 3.8 and later: its own loader, the way to Gaudi, on a CPU."""

from __future__ import annotations

import warnings

import pytest
import torch
from packed_models import bloom, grown, ids, linear_names, llama, qwen2, solved, with_weights

with warnings.catch_warnings():  # Neural Compressor and what it imports warn while they are imported
    warnings.simplefilter("ignore")
    pytest.importorskip("neural_compressor", minversion="3.8", exc_type=ImportError)
    from neural_compressor.torch.quantization import load

from inc_laaciq.backends.gptq_checkpoint import write_packed_checkpoint
from inc_laaciq.backends.packed_readers import NEURAL_COMPRESSOR

pytestmark = [pytest.mark.inc, pytest.mark.filterwarnings("ignore")]


@torch.no_grad()
def logits(model):
    return model(input_ids=ids()).logits


def rounded(model, weights):
    """What Neural Compressor computes: products of code and scale, and biases of packed layers, are float16 numbers."""
    expected = with_weights(model, weights)
    for name in weights:
        for parameter in expected.get_submodule(name).parameters():
            parameter.data = parameter.data.half().float()
    return expected


@pytest.mark.parametrize(
    ("make", "spec"),
    [
        (llama, {"bits": 4}),
        (llama, {"bits": 4, "scheme": "asym", "group_size": 16}),
        (llama, {"bits": 3, "group_size": -1}),
        (llama, {"bits": 8}),
        (bloom, {"bits": 4, "group_size": 64}),
        (qwen2, {"bits": 2, "scheme": "asym"}),
    ],
)
def test_its_loader_computes_what_was_solved_rounded_to_float16(make, spec, tmp_path):
    model = grown(make)
    weights = solved(model, linear_names(model), **spec)
    written = write_packed_checkpoint(model, weights, tmp_path)
    assert written.readers[NEURAL_COMPRESSOR] == []
    loaded = load(str(tmp_path), format="huggingface", device="cpu")
    assert torch.equal(logits(loaded), logits(rounded(model, weights)))
    kinds = {name: type(loaded.get_submodule(name)).__name__ for name in weights}
    assert set(kinds.values()) == {"INCWeightOnlyLinear"}


def test_shards_layers_in_float_positive_scales_and_a_quantized_head(tmp_path):
    model = grown(llama)
    names = [name for name in linear_names(model, head=True) if not name.endswith("1.mlp.up_proj")]
    weights = {**solved(model, names), **solved(model, names[:2], bits=2, scheme="asym", group_size=16)}
    write_packed_checkpoint(model, weights, tmp_path, positive_scales=True, shard_bytes=40_000)
    loaded = load(str(tmp_path), format="huggingface", device="cpu")
    assert torch.equal(logits(loaded), logits(rounded(model, weights)))


def test_the_form_that_it_does_not_know_is_told(tmp_path):
    """It takes gptq_v2 for gptq without a word, which is why the writer says so."""
    model = grown(llama)
    weights = solved(model, linear_names(model), scheme="asym")
    written = write_packed_checkpoint(model, weights, tmp_path, layout="gptq_v2")
    assert "one less" in written.readers[NEURAL_COMPRESSOR][0]
    loaded = load(str(tmp_path), format="huggingface", device="cpu")
    assert not torch.allclose(logits(loaded), logits(rounded(model, weights)), atol=0.1)
