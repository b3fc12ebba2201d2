"""The packed form on disk: what is loaded computes exactly what was solved, in every layout that is carried."""

from __future__ import annotations

import copy

import pytest
import torch
from neural_compressor import quantization
from neural_compressor.config import PostTrainingQuantConfig, TuningCriterion
from safetensors.torch import load_file, save_file

import inc_laaciq
from inc_laaciq.backends import inc_saved
from inc_laaciq.errors import IntegrityError

pytestmark = pytest.mark.inc


def quantized(model, batches, bits=4, group_size=32, scheme="sym"):
    weight = {"bits": [bits], "group_size": [group_size], "scheme": [scheme]}
    config = PostTrainingQuantConfig(
        approach="weight_only",
        op_type_dict={".*": {"weight": weight}},
        tuning_criterion=TuningCriterion(strategy="la_aciq"),
    )
    return quantization.fit(model, config, calib_dataloader=inc_laaciq.LanguageLoader(batches))


def entries(solution):
    return [
        {
            "name": layer.name,
            "bits": layer.weight.bits,
            "group_size": layer.weight.group_size,
            "scheme": layer.weight.scheme,
        }
        if layer.weight
        else {"name": layer.name, "float": layer.reason}
        for layer in solution.layers
    ]


@pytest.mark.parametrize(
    ("bits", "group_size", "scheme"), [(4, 32, "sym"), (4, 32, "asym"), (3, -1, "asym"), (5, 32, "sym"), (8, -1, "sym")]
)
def test_loaded_model_computes_what_was_solved(model, batches, tmp_path, bits, group_size, scheme):
    result = quantized(model, batches, bits, group_size, scheme)
    ids = batches["sw"][0]
    expected = result.model(ids).logits
    layers = entries(result.la_aciq)
    file = tmp_path / "packed.safetensors"
    inc_saved.save_packed(inc_saved.pack(result), file)
    skeleton = type(model)(copy.deepcopy(model.config))
    loaded = inc_saved.load_packed(inc_laaciq.linearize(skeleton), layers, file)
    torch.testing.assert_close(loaded(ids).logits, expected, rtol=0, atol=1e-6)


def test_packed_file_is_small_and_holds_tied_weights_once(bloom, batches, tmp_path):
    file = tmp_path / "packed.safetensors"
    inc_saved.save_packed(inc_saved.pack(quantized(bloom, batches)), file)
    tensors = load_file(str(file))
    assert ("lm_head.weight" in tensors) != ("transformer.word_embeddings.weight" in tensors)
    assert tensors["transformer.h.0.mlp.dense_4h_to_h.scales"].dtype == torch.float16
    assert tensors["transformer.h.0.mlp.dense_4h_to_h.qweight"].dtype == torch.int32


@pytest.mark.parametrize("damage", ["missing", "extra"])
def test_a_file_that_does_not_fit_is_refused(bloom, batches, tmp_path, damage):
    result = quantized(bloom, batches)
    layers, file = entries(result.la_aciq), tmp_path / "packed.safetensors"
    inc_saved.save_packed(inc_saved.pack(result), file)
    tensors = {name: tensor.clone() for name, tensor in load_file(str(file)).items()}
    if damage == "missing":
        del tensors["transformer.h.0.mlp.dense_4h_to_h.qweight"]
    else:
        tensors["stranger"] = torch.zeros(1)
    save_file(tensors, str(file))
    with pytest.raises(IntegrityError, match=r"stranger|dense_4h_to_h\.qweight"):
        inc_saved.load_packed(type(bloom)(bloom.config), layers, file)


def test_hostile_int8_file_is_not_executed(bloom, tmp_path):  # faults row 30
    import os
    import pickle

    canary = tmp_path / "canary"

    class Hostile:
        def __reduce__(self):
            return (os.mkdir, (str(canary),))

    file = tmp_path / "best_model.pt"
    file.write_bytes(pickle.dumps(Hostile()))
    with pytest.raises(IntegrityError, match="cannot be read as weights"):
        inc_saved.load_int8(bloom, file)
    assert not canary.exists()
