"""Blocks of a model, run one by one."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from inc_laaciq.errors import ModelError, NumericError
from inc_laaciq.fair.blocks import enter, find_stack, inputs_of


def names(model):
    return [name for name, module in model.named_modules() if isinstance(module, nn.Linear) and "lm_head" not in name]


def test_blocks_run_one_by_one_give_what_the_model_gives(model, batches):
    stack = find_stack(model, names(model))
    ids = batches["en"][0]
    with torch.no_grad():
        entry = enter(model, stack, ids, is_checked=True)
        hidden = entry.hidden
        for number, name in enumerate(stack.blocks):
            hidden = entry.calls[number].run(model.get_submodule(name), hidden)
        expected = model(input_ids=ids, output_hidden_states=True, use_cache=False).logits
        # What follows the blocks: the last norm and the output projection.
        body = getattr(model, model.base_model_prefix)
        norm = next(m for n, m in body.named_children() if n in ("ln_f", "norm"))
        found = model.get_output_embeddings()(norm(hidden))
    torch.testing.assert_close(found, expected)


def test_a_layer_knows_its_block(bloom):
    stack = find_stack(bloom, names(bloom))
    assert stack.name == "transformer.h"
    assert stack.blocks == ("transformer.h.0", "transformer.h.1")
    assert stack.index("transformer.h.1.mlp.dense_h_to_4h") == 1
    assert stack.index("lm_head") is None


def test_a_model_without_a_stack_is_refused():
    with pytest.raises(ModelError, match=r"nn\.ModuleList.*balanced"):
        find_stack(nn.Sequential(nn.Linear(4, 4)), ["0"])


def test_layers_outside_the_stack_alone_need_none(bloom):
    assert find_stack(bloom, ["lm_head"]) is None
    assert find_stack(bloom, []) is None


def test_a_block_that_reads_more_than_its_input_is_refused(bloom, batches):
    """As where keys and values of an earlier layer are used again."""
    kept = {}
    bloom.transformer.word_embeddings_layernorm.register_forward_hook(lambda _m, _a, output: kept.update(x=output))
    bloom.transformer.h[1].input_layernorm.register_forward_hook(lambda _m, _a, output: output + kept.pop("x", 0))
    with torch.no_grad(), pytest.raises(ModelError, match=r"transformer\.h\.1 gives another output"):
        enter(bloom, find_stack(bloom, names(bloom)), batches["en"][0], is_checked=True)


def test_something_between_the_blocks_is_refused(bloom, batches):
    bloom.transformer.h[1].register_forward_pre_hook(lambda _m, args: (args[0] * 1.5, *args[1:]))
    with torch.no_grad(), pytest.raises(ModelError, match="does not take what block 0 gives"):
        enter(bloom, find_stack(bloom, names(bloom)), batches["en"][0])


def test_a_model_that_gives_nan_says_where(bloom, batches):
    bloom.transformer.h[1].mlp.dense_4h_to_h.bias.data[0] = float("nan")
    with torch.no_grad(), pytest.raises(NumericError, match=r"transformer\.h\.1 gives NaN"):
        enter(bloom, find_stack(bloom, names(bloom)), batches["en"][0])


def test_no_hook_is_left_behind(model, batches):
    stack = find_stack(model, names(model))
    block = model.get_submodule(stack.blocks[0])
    inside = [name for name, module in block.named_modules() if isinstance(module, nn.Linear)]
    with torch.no_grad():
        entry = enter(model, stack, batches["en"][0])
        inputs_of(block, entry.calls[0], entry.hidden, inside, last=inside[0])
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_layers_that_share_their_input_have_the_same_tensor(model, batches):
    stack = find_stack(model, names(model))
    block = model.get_submodule(stack.blocks[0])
    inside = [name for name, module in block.named_modules() if isinstance(module, nn.Linear)]
    with torch.no_grad():
        entry = enter(model, stack, batches["en"][0])
        found = inputs_of(block, entry.calls[0], entry.hidden, inside)
    assert set(found) == set(inside)
    assert all(x.shape == (6 * 24, block.get_submodule(name).in_features) for name, x in found.items())
    if "self_attn.q_proj" in found:
        assert found["self_attn.q_proj"] is found["self_attn.k_proj"]
        assert found["mlp.gate_proj"] is found["mlp.up_proj"]
        assert found["mlp.gate_proj"] is not found["mlp.down_proj"]
