"""Norms that can take a scale: found on any architecture, exact, and undone whatever happens."""

from __future__ import annotations

import copy
import logging

import pytest
import torch
import transformers
from torch import nn

from inc_laaciq.calibration.folding import Fold, FoldSite, apply_folds, find_fold_sites, folded
from inc_laaciq.calibration.layers import find_layers, linearize
from inc_laaciq.config import OpRule, WeightSpec
from inc_laaciq.errors import ModelError, SpecError

VOCABULARY = 128
IDS = torch.randint(0, VOCABULARY, (2, 12), generator=torch.Generator().manual_seed(3))


def _llama_like(name, **more):
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = getattr(transformers, f"{name}Config")(vocab_size=VOCABULARY, num_key_value_heads=2, **sizes, **more)
    return getattr(transformers, f"{name}ForCausalLM")(config)


def _bloom(**more):
    config = transformers.BloomConfig(vocab_size=VOCABULARY, hidden_size=64, n_layer=2, n_head=4, **more)
    return transformers.BloomForCausalLM(config)


def _gpt2():
    return transformers.GPT2LMHeadModel(transformers.GPT2Config(vocab_size=VOCABULARY, n_embd=64, n_layer=2, n_head=4))


def _opt(**more):
    sizes = {"hidden_size": 64, "ffn_dim": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = transformers.OPTConfig(vocab_size=VOCABULARY, word_embed_proj_dim=64, **sizes, **more)
    return transformers.OPTForCausalLM(config)


ARCHITECTURES = {
    "bloom": _bloom,
    "bloom, residual behind the norm": lambda: _bloom(apply_residual_connection_post_layernorm=True),
    "llama": lambda: _llama_like("Llama"),
    "gpt2": _gpt2,
    "opt": _opt,
    "opt, residual behind the norm": lambda: _opt(do_layer_norm_before=False),
    "gemma": lambda: _llama_like("Gemma", head_dim=16),
    "mixtral": lambda: _llama_like("Mixtral", num_local_experts=4),
}
LAYERS_OF_SITES = {  # of one block
    "bloom": [1, 1],
    "bloom, residual behind the norm": [],
    "llama": [3, 2],
    "gpt2": [1, 1],
    "opt": [3, 1],
    "opt, residual behind the norm": [],
    "gemma": [],  # its norms multiply by 1 + weight
    "mixtral": [3],  # a router reads the other norm
}


def built(name):
    torch.manual_seed(0)
    model = linearize(ARCHITECTURES[name]().eval())
    with torch.no_grad():  # norms as they are after training, not all ones and zeros
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def names_of(model, *rules):
    return [layer.name for layer in find_layers(model, WeightSpec(group_size=8), rules) if layer.weight is not None]


def powers(count, seed=0):
    return torch.exp2(torch.randint(-4, 5, (count,), generator=torch.Generator().manual_seed(seed)).float())


def folds_of(sites, size=64):
    return [Fold(norm=site.norm, layers=site.layers, scale=powers(size, n)) for n, site in enumerate(sites)]


def state(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def is_unchanged(model, before):
    return all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_sites_are_found_and_folds_keep_every_bit_of_the_output(name, dtype):
    model = built(name).to(dtype)
    before = state(model)
    sites = find_fold_sites(model, names_of(model), IDS)
    assert [len(site.layers) for site in sites] == 2 * LAYERS_OF_SITES[name]
    assert is_unchanged(model, before)
    with torch.no_grad():
        expected = model(IDS).logits
        applied = apply_folds(model, folds_of(sites))
        assert len(applied) == len(sites)
        assert torch.equal(model(IDS).logits, expected)
    for fold in applied:
        for layer in fold.layers:
            changed = model.get_submodule(layer).weight
            assert torch.equal(changed, before[f"{layer}.weight"] * fold.scale.to(dtype))


def test_float16_has_no_room_for_folds():
    assert not find_fold_sites(built("llama").half(), names_of(built("llama")), IDS)


def test_a_layer_in_float_keeps_its_norm_as_it_is():
    model = built("llama")
    kept = names_of(model, OpRule(pattern=r".*\.0\.mlp\.up_proj", weight=None))
    sites = find_fold_sites(model, kept, IDS)
    assert [site.norm for site in sites] == [
        "model.layers.0.input_layernorm",
        "model.layers.1.input_layernorm",
        "model.layers.1.post_attention_layernorm",
    ]


class Rest(nn.Module):
    """A norm whose output goes to a layer; what else happens to it is told by `kind`."""

    def __init__(self, kind):
        super().__init__()
        self.kind = kind
        self.embed = nn.Embedding(VOCABULARY, 16)
        self.good, self.norm = nn.LayerNorm(16), nn.LayerNorm(16, elementwise_affine=kind != "plain")
        self.first, self.layer, self.second = nn.Linear(16, 16), nn.Linear(16, 16), nn.Linear(16, 16)
        if kind == "shared weight":
            self.second.weight = self.layer.weight
        if kind == "shared norm":
            self.good.weight = self.norm.weight
        if kind == "shared with what is not reached":  # by this text: an expert's, for example
            self.other_norm, self.other_layer = nn.LayerNorm(16), nn.Linear(16, 16)
            self.other_norm.weight, self.other_layer.weight = self.norm.weight, self.first.weight

    def forward(self, input_ids):
        x = self.embed(input_ids)
        x = x + self.first(self.good(x))
        y = self.norm(x)
        z = self.layer(y)
        if self.kind == "residual":
            return y + z
        if self.kind == "gate":
            return z * y.sigmoid()
        if self.kind == "twice":
            return z + self.layer(x)
        if self.kind == "activation":
            return z + torch.relu(self.second(y.relu()))
        return self.second(z)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("none", ["good", "norm"]),
        ("residual", ["good"]),
        ("gate", ["good"]),
        ("twice", ["good"]),
        ("activation", ["good"]),
        ("plain", ["good"]),
        ("shared weight", ["good"]),
        ("shared norm", []),
        ("shared with what is not reached", []),
    ],
)
def test_a_norm_that_is_used_otherwise_is_no_site_and_the_others_stay(kind, expected):
    torch.manual_seed(1)
    model = Rest(kind).eval()
    before = state(model)
    assert [site.norm for site in find_fold_sites(model, ["first", "layer", "second"], IDS)] == expected
    assert is_unchanged(model, before)


def test_no_hook_is_left_and_a_model_in_training_stays_so():
    model = Rest("residual").train()
    find_fold_sites(model, ["first", "layer", "second"], IDS)
    assert model.training
    assert model.norm.training
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_a_model_that_is_never_the_same_twice_has_no_sites(caplog):
    class Noisy(Rest):
        def forward(self, input_ids):
            return super().forward(input_ids) + torch.rand(())

    assert find_fold_sites(Noisy("none").eval(), ["first", "layer"], IDS) == ()
    assert "other outputs each time" in caplog.text


def test_folded_undoes_exactly_even_when_the_body_raises():
    model = built("bloom")
    before = state(model)
    folds = folds_of(find_fold_sites(model, names_of(model), IDS))
    with folded(model, folds) as applied:
        assert list(applied) == folds
        assert not is_unchanged(model, before)
    assert is_unchanged(model, before)
    with pytest.raises(RuntimeError, match="in the body"), folded(model, folds):
        raise RuntimeError("in the body")
    assert is_unchanged(model, before)


@pytest.mark.parametrize(
    ("where", "value", "exponent"),
    [
        ("layer.weight", 3e38, 1),  # would become infinite
        ("layer.weight", 1.5 * 2.0**-126, -1),  # would become subnormal, with all its bits
        ("layer.weight", (1 + 2.0**-23) * 2.0**-126, -1),  # and lose one
        ("norm.bias", 1.5 * 2.0**-126, 1),
        ("norm.weight", 3e38, -1),
        ("layer.weight", 1.4e-45, -1),  # would become zero
        ("layer.weight", float("nan"), 1),
    ],
)
def test_a_scale_that_does_not_fit_is_left_out_as_a_whole(where, value, exponent, caplog):
    model = Rest("none").eval()
    with torch.no_grad():
        model.get_parameter(where).flatten()[3] = value
    before = {name: tensor.nan_to_num(7.0) for name, tensor in state(model).items()}
    scale = torch.full((16,), 2.0**exponent)
    folds = [Fold(norm=norm, layers=(layer,), scale=scale) for norm, layer in (("norm", "layer"), ("good", "first"))]
    with caplog.at_level(logging.WARNING):
        assert apply_folds(model, folds) == (folds[1],)
    assert f"norm norm is not scaled: {where} would leave the range of its type" in caplog.text
    after = {name: tensor.nan_to_num(7.0) for name, tensor in state(model).items()}
    changed = {name for name, tensor in after.items() if not torch.equal(tensor, before[name])}
    assert changed == {"good.weight", "first.weight"}  # the bias of `good` is zero


def test_zeros_are_no_underflow():
    model = Rest("none").eval()
    with torch.no_grad():
        model.layer.weight[0].zero_()
    fold = Fold(norm="norm", layers=("layer",), scale=torch.full((16,), 0.25))
    assert apply_folds(model, [fold]) == (fold,)


@pytest.mark.parametrize(
    "scale", [torch.full((4,), 3.0), torch.zeros(4), -torch.ones(4), torch.ones(4).double(), torch.ones(2, 2)]
)
def test_only_vectors_of_powers_of_two_are_scales(scale):
    with pytest.raises(SpecError, match="must be a vector of powers of two in float32"):
        Fold(norm="norm", layers=("layer",), scale=scale)


def test_a_fold_of_another_model_is_refused():
    fold = Fold(norm="norm", layers=("layer",), scale=torch.ones(8))
    with pytest.raises(ModelError, match="found on another model"):
        apply_folds(Rest("none"), [fold])


def test_sites_tell_their_layers_in_the_order_in_which_they_run():
    model = copy.deepcopy(built("llama"))
    prefix = "model.layers.0"
    assert find_fold_sites(model, names_of(model)[::-1], IDS)[0] == FoldSite(
        norm=f"{prefix}.input_layernorm",
        layers=tuple(f"{prefix}.self_attn.{part}_proj" for part in ("q", "k", "v")),
    )
