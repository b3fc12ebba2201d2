"""Outlier columns scaled and folded: a model that has them is quantized as well as one that has not."""

from __future__ import annotations

import copy
import json
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file
from torch.nn import functional
from transformers import BloomConfig, BloomForCausalLM

from inc_laaciq.calibration.folding import apply_folds
from inc_laaciq.calibration.layers import find_layers
from inc_laaciq.calibration.prepare import calibration_batches
from inc_laaciq.checkpoint import load_model
from inc_laaciq.config import ActivationSpec, LaaciqSpec, TextSpec, WeightSpec
from inc_laaciq.layerwise import quantize_layers

SMALL = Path(__file__).parents[1] / "recipes" / "small_bloom"
sys.path.insert(0, str(SMALL))
from outliers import make_outlier_variant  # noqa: E402

VOCABULARY = 128
QKV, UP = "self_attention.query_key_value", "mlp.dense_h_to_4h"


@pytest.fixture
def bloom():
    """Tiny, with norms as they are after training, and outlier columns."""
    torch.manual_seed(0)
    config = BloomConfig(vocab_size=VOCABULARY, hidden_size=64, n_layer=2, n_head=4, initializer_range=0.1)
    model = BloomForCausalLM(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.add_(0.1 * torch.randn_like(parameter))
    return make_outlier_variant(model, factors=(16.0, 32.0, 32.0))


@pytest.fixture
def batches():
    generator = torch.Generator().manual_seed(1)
    return {
        tag: [torch.randint(low, VOCABULARY, (4, 32), generator=generator) for _ in range(2)]
        for tag, low in (("en", 0), ("sw", 40))
    }


def layers_of(model, bits=3):
    return find_layers(model, WeightSpec(bits=bits, group_size=32))


def written(model, solution):
    """Copy of a model with a solution, written by hand."""
    quantized = copy.deepcopy(model)
    for fold in solution.folds:
        norm = quantized.get_submodule(fold.norm)
        norm.weight.data /= fold.scale
        norm.bias.data /= fold.scale
        for name in fold.layers:
            quantized.get_submodule(name).weight.data *= fold.scale
    for name, weight in solution.weights.items():
        quantized.get_submodule(name).weight.data = weight.dequantize()
    return quantized


def same(first, second):
    return first.keys() == second.keys() and all(
        torch.equal(first[name].codes, second[name].codes) and torch.equal(first[name].scale, second[name].scale)
        for name in first
    )


@torch.no_grad()
def divergence(model, reference, batches):
    """Mean KL divergence from the reference, nats per token."""
    total, n = 0.0, 0
    for rows in batches.values():
        for ids in rows:
            ours, theirs = (m(input_ids=ids).logits.log_softmax(-1) for m in (model, reference))
            total += float(functional.kl_div(ours, theirs, log_target=True, reduction="sum"))
            n += ids.numel()
    return total / n


@pytest.mark.slow
def test_outlier_columns_cost_the_small_model_nothing_and_without_them_it_stays_as_it_is():
    source = load_model(SMALL / "model")
    plain = source.model.eval()
    outliers = make_outlier_variant(plain).eval()

    def text(split, tokens):
        spec = TextSpec(texts=str(SMALL / "text" / split), tokens_per_language=tokens)
        settings = LaaciqSpec(calibration=spec, languages=("en", "fi", "hi", "tr"))
        return calibration_batches(settings, source.tokenizer, sequence_length=128).batches

    calibration, evaluation = text("calibration", 1024), text("evaluation", 512)

    def harm(model, *, mode="balanced", **settings):
        chosen = find_layers(model, WeightSpec(bits=3, group_size=64))
        solution = quantize_layers(model, chosen, calibration, LaaciqSpec(mode=mode, **settings))
        return divergence(written(model, solution), plain, evaluation), len(solution.folds)

    best, folds = harm(plain)
    assert folds == 0
    scaled, folds = harm(outliers)
    assert folds == 8
    assert scaled <= 1.1 * best
    unscaled, folds = harm(outliers, scaling=False)
    assert folds == 0
    assert unscaled > 2 * best
    assert harm(outliers, mode="fast")[0] <= 1.1 * harm(plain, mode="fast")[0]


@pytest.mark.parametrize("mode", ["fast", "balanced"])
def test_the_float_model_is_left_as_it_is_and_every_norm_in_front_of_outliers_is_found(bloom, batches, mode):
    before = {name: value.clone() for name, value in bloom.state_dict().items()}
    solution = quantize_layers(bloom, layers_of(bloom), batches, LaaciqSpec(mode=mode))
    assert all(torch.equal(value, before[name]) for name, value in bloom.state_dict().items())
    assert [fold.layers for fold in solution.folds] == [
        (f"transformer.h.{block}.{name}",) for block in (0, 1) for name in (QKV, UP)
    ]
    unscaled = quantize_layers(bloom, layers_of(bloom), batches, LaaciqSpec(mode=mode, scaling=False))
    assert unscaled.folds == ()
    ours, theirs = (divergence(written(bloom, each), bloom, batches) for each in (solution, unscaled))
    assert ours < 0.5 * theirs
    for name, weight in solution.weights.items():
        if name.endswith((QKV, UP)):
            assert max(weight.errors.values()) < max(unscaled.weights[name].errors.values())


def test_nothing_is_scaled_without_text_for_the_paper_formula_or_for_static_int8(bloom, batches):
    fast, paper = LaaciqSpec(mode="fast"), LaaciqSpec(mode="paper")
    assert quantize_layers(bloom, layers_of(bloom), None, fast).folds == ()
    assert quantize_layers(bloom, layers_of(bloom), batches, paper).folds == ()
    assert quantize_layers(bloom, layers_of(bloom), batches, fast, activation=ActivationSpec()).folds == ()


def test_columns_are_scaled_from_the_beginning_of_the_text(bloom, batches):
    seen = []
    hook = bloom.transformer.word_embeddings.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].numel()))
    settings = LaaciqSpec(mode="fast")
    text = {tag: [rows[0].repeat(8, 1)] * 4 for tag, rows in batches.items()}  # 32 rows of 32 tokens each
    few = quantize_layers(bloom, layers_of(bloom), {tag: [rows[0]] for tag, rows in text.items()}, settings)
    seen.clear()
    many = quantize_layers(bloom, layers_of(bloom), text, settings)
    hook.remove()
    whole = sum(row.numel() for rows in text.values() for row in rows)
    assert sum(count for count in seen if count > 64) == whole + 2 * 1024
    assert all(torch.equal(a.scale, b.scale) for a, b in zip(few.folds, many.folds, strict=True))


def test_given_scales_are_used_for_the_layers_that_are_solved_again(bloom, batches):
    layers = layers_of(bloom)
    whole = quantize_layers(bloom, layers, batches, LaaciqSpec())
    part = [layer for layer in layers if layer.name.endswith(QKV)]
    again = quantize_layers(bloom, part, batches, LaaciqSpec(), folds=whole.folds)
    assert again.folds == whole.folds
    assert same(again.weights, {layer.name: whole.weights[layer.name] for layer in part})
    without = quantize_layers(bloom, part, batches, LaaciqSpec(), folds=())
    assert without.folds == ()
    assert not same(again.weights, without.weights)


def test_less_memory_and_a_language_that_breaks_scale_no_column_twice(bloom, batches):
    layers = layers_of(bloom)
    expected = quantize_layers(bloom, layers, batches, LaaciqSpec())

    def fail(_module, _inputs, output):
        return output.masked_fill((ids == VOCABULARY - 1).all(dim=1)[:, None, None], float("nan"))

    def remember(_module, inputs):
        nonlocal ids
        ids = inputs[0]

    ids = batches["en"][0]
    hooks = [
        bloom.transformer.word_embeddings.register_forward_pre_hook(remember),
        bloom.transformer.h[0].mlp.register_forward_hook(fail),
    ]
    broken = {**batches, "fi": [torch.full((2, 32), VOCABULARY - 1)]}
    found = quantize_layers(bloom, layers, broken, LaaciqSpec(), memory=1)
    for hook in hooks:
        hook.remove()
    assert found.invalid.keys() == {"fi"}
    assert [fold.norm for fold in found.folds] == [fold.norm for fold in expected.folds]
    assert all(torch.equal(a.scale, b.scale) for a, b in zip(found.folds, expected.folds, strict=True))
    assert same(found.weights, expected.weights)


@pytest.fixture
def inc(tmp_path, monkeypatch):
    """Neural Compressor, its working folder, and no warnings of its own."""
    monkeypatch.chdir(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield pytest.importorskip("neural_compressor.quantization", exc_type=ImportError)


def fitted(inc, model, batches, bits=3, **criterion):
    from neural_compressor.config import PostTrainingQuantConfig, TuningCriterion

    import inc_laaciq

    config = PostTrainingQuantConfig(
        approach="weight_only",
        op_type_dict={".*": {"weight": {"bits": [bits], "group_size": [32], "scheme": ["sym"]}}},
        tuning_criterion=TuningCriterion(strategy="la_aciq"),
    )
    return inc.fit(model, config, calib_dataloader=inc_laaciq.LanguageLoader(batches), **criterion)


@pytest.mark.inc
def test_neural_compressors_model_and_the_packed_one_from_disk_hold_the_folds(inc, bloom, batches, tmp_path):
    from inc_laaciq.backends import inc_saved

    before = {name: value.clone() for name, value in bloom.state_dict().items()}
    result = fitted(inc, bloom, batches)
    solution = result.la_aciq
    assert len(solution.folds) == 4
    assert all(torch.equal(value, before[name]) for name, value in bloom.state_dict().items())
    expected = written(bloom, solution)
    for name, value in expected.state_dict().items():
        assert torch.equal(result.model.state_dict()[name], value), name
    ids = batches["sw"][0]
    entries = [
        {"name": layer.name, "bits": 3, "group_size": 32, "scheme": "sym"} for layer in solution.layers if layer.weight
    ]
    packed = inc_saved.pack(result)
    file = tmp_path / "packed.safetensors"
    inc_saved.save_packed(packed, file)
    loaded = inc_saved.load_packed(BloomForCausalLM(bloom.config), entries, file)
    with torch.no_grad():
        assert torch.equal(loaded(ids).logits, packed(ids).logits)
        torch.testing.assert_close(loaded(ids).logits, expected(ids).logits, rtol=0, atol=1e-4)
    inc_saved.save_solution(solution.weights, tmp_path / "scales.safetensors", folds=solution.folds)
    stored = load_file(str(tmp_path / "scales.safetensors"))
    for fold in solution.folds:
        assert stored[f"{fold.norm}.fold"].dtype == torch.float32
        assert torch.equal(stored[f"{fold.norm}.fold"], fold.scale)


@pytest.mark.inc
def test_a_layer_that_the_search_puts_back_to_float_is_scaled_with_its_norm(inc, bloom, batches, monkeypatch):
    import inc_laaciq
    from inc_laaciq.config.bounds import parse_bound
    from inc_laaciq.config.policy import Policy, Rule
    from inc_laaciq.tuning import solving

    names = [layer.name for layer in layers_of(bloom) if layer.weight is not None]

    def evaluate(model):
        """Passes once a layer with outlier columns holds float weights, up to powers of two."""
        float_layers = {
            name
            for name in names
            if name.endswith((QKV, UP))
            and bool((torch.frexp(model.get_submodule(name).weight / bloom.get_submodule(name).weight)[0] == 0.5).all())
        }
        return {"en": 10.0, "sw": 10.0 if float_layers else 20.0}

    policy = Policy(default=Rule(max_degradation=parse_bound("5%")))
    criterion = inc_laaciq.LanguageCriterion(evaluate, policy, measure="perplexity")
    given = []

    def recorded(*arguments, folds, **more):
        given.append(folds)
        return quantize_layers(*arguments, folds=folds, **more)

    monkeypatch.setattr(solving, "quantize_layers", recorded)
    result = fitted(inc, bloom, batches, bits=8, eval_func=criterion)
    solution = result.la_aciq
    assert given[0] is None
    assert given[-1] == solution.folds != ()
    in_float = {layer.name for layer in solution.layers if layer.weight is None}
    scaled = {name for fold in solution.folds for name in fold.layers}
    assert in_float & scaled
    expected = written(bloom, solution)
    for name, value in expected.state_dict().items():
        assert torch.equal(result.model.state_dict()[name], value), name
    everything = replace(solution, weights={})
    with torch.no_grad():
        ids = batches["en"][0]
        assert torch.equal(written(bloom, everything)(ids).logits, bloom(ids).logits)


@pytest.mark.inc
@pytest.mark.slow
def test_the_record_tells_the_folds_and_the_output_evaluates_to_what_was_judged(inc, main, tmp_path):
    source = load_model(SMALL / "model")
    variant = make_outlier_variant(source.model)
    variant.save_pretrained(tmp_path / "outliers")
    source.tokenizer.save_pretrained(tmp_path / "outliers")
    settings = {
        "model": {"name": "outliers", "framework": "pytorch"},
        "quantization": {
            "approach": "post_training_weight_only",
            "model_wise": {"weight": {"bits": 3, "group_size": 64}},
        },
        "tuning": {"strategy": {"name": "la_aciq"}},
        "la_aciq": {
            "model": str(tmp_path / "outliers"),
            "mode": "fast",
            "languages": ["en", "fi"],
            "calibration": {"texts": str(SMALL / "text" / "calibration"), "tokens_per_language": 512},
            "evaluation": {"texts": str(SMALL / "text" / "evaluation"), "tokens_per_language": 256},
        },
    }
    (tmp_path / "conf.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    done = main("quantize", tmp_path / "conf.yaml", "--output", tmp_path / "out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "out" / "laaciq.json").read_text(encoding="utf-8"))
    stored = load_file(str(tmp_path / "out" / "scales.safetensors"))
    assert len(record["folds"]) == 8
    for entry in record["folds"]:
        assert entry.keys() == {"norm", "layers", "columns_scaled", "largest", "smallest"}
        scale = stored[f"{entry['norm']}.fold"]
        assert 3 <= entry["columns_scaled"] == int((scale != 1).sum()) < len(scale)
        assert (entry["smallest"], entry["largest"]) == (float(scale.min()), float(scale.max()))
        assert len(entry["layers"]) == 1
    done = main("evaluate", tmp_path / "out", "-o", tmp_path / "again.json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    again = json.loads((tmp_path / "again.json").read_text(encoding="utf-8"))
    results = json.loads((tmp_path / "out" / "results.json").read_text(encoding="utf-8"))
    for tag in ("en", "fi"):
        assert again["languages"][tag]["loss"] == pytest.approx(results["languages"][tag]["loss"], abs=1e-6)


def test_folds_apply_to_a_copy_as_they_did_in_the_solver(bloom, batches):
    solution = quantize_layers(bloom, layers_of(bloom), batches, LaaciqSpec(mode="fast"))
    copied = copy.deepcopy(bloom)
    assert apply_folds(copied, solution.folds) == solution.folds
    with torch.no_grad():
        assert torch.equal(copied(batches["en"][0]).logits, bloom(batches["en"][0]).logits)
