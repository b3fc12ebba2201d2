"""Static INT8 through Neural Compressor's torch API (PT2E): solved codes, solved ranges, and nothing else quantized."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from packed_models import bloom, gpt2, grown, llama
from safetensors.torch import load_file, save_file

from inc_laaciq.backends import inc_torch_static
from inc_laaciq.backends.inc_torch_static import quantize_static
from inc_laaciq.backends.inc_torch_static_fit import fit_static
from inc_laaciq.backends.static_export import export_model
from inc_laaciq.backends.static_saved import load_static, quantized_layers, save_static
from inc_laaciq.calibration.layers import find_layers, linearize
from inc_laaciq.calibration.loader import LanguageLoader
from inc_laaciq.config import ActivationSpec, LaaciqSpec, OpRule, WeightSpec, run_spec
from inc_laaciq.errors import BackendError, IntegrityError, ModelError, SpecError
from inc_laaciq.layerwise import quantize_layers
from inc_laaciq.quant.activation import Range
from inc_laaciq.tuning.criterion import LanguageCriterion

pytestmark = [pytest.mark.inc, pytest.mark.filterwarnings("ignore")]

MODELS = {"bloom": bloom, "llama": llama, "gpt2": gpt2}
SPEC = WeightSpec(bits=8, group_size=-1, scheme="sym")


def batches(model):
    generator = torch.Generator().manual_seed(1)
    size = model.config.vocab_size
    return {
        tag: [torch.randint(low, size, (4, 32), generator=generator) for _ in range(2)]
        for tag, low in (("en", 0), ("sw", size // 2))
    }


def solve(model, rules=(), **settings):
    return quantize_layers(
        model,
        find_layers(model, SPEC, rules),
        batches(model),
        replace(LaaciqSpec(mode="fast"), **{"signed": False, **settings}),
        activation=ActivationSpec(),
    )


def text(model, rows=3, tokens=21):
    return torch.randint(0, model.config.vocab_size, (rows, tokens), generator=torch.Generator().manual_seed(2))


@torch.no_grad()
def logits(model, ids):
    found = model(input_ids=ids, attention_mask=torch.ones_like(ids))
    return getattr(found, "logits", found)


try:
    inc_torch_static.algorithm()
    MISSING = ""
except BackendError as error:
    MISSING = str(error)

needs_pt2e = pytest.mark.skipif(bool(MISSING), reason=MISSING)


@pytest.mark.skipif(not MISSING, reason="static INT8 of the torch API is here")
def test_where_it_is_not_possible_the_error_names_what_has_it():
    model = grown(bloom)
    with pytest.raises(BackendError, match=r"is not possible with neural-compressor .* Use the adaptor API, which has"):
        quantize_static(model, solve(model))


@pytest.fixture(scope="module", params=MODELS)
def case(request):
    """A float model, its solution, and both together."""
    if MISSING:
        pytest.skip(MISSING)
    model = linearize(grown(MODELS[request.param]))
    solution = solve(model)
    return model, solution, quantize_static(model, solution)


def test_codes_scales_and_ranges_are_the_solved_ones(case):
    _, solution, quantized = case
    found = quantized_layers(quantized.graph)
    assert found.keys() == solution.weights.keys()
    for name, layer in found.items():
        weight, limits = solution.weights[name], solution.ranges[name]
        assert torch.equal(layer.codes, weight.codes), name
        assert torch.equal(layer.codes.float() * layer.scale[:, None], weight.dequantize()), name
        assert layer.input_scale == pytest.approx((limits.maximum - limits.minimum) / 255, rel=1e-6), name
        assert layer.input_zero_point == round(-limits.minimum / layer.input_scale), name


def test_nothing_else_is_quantized(case):
    """Neural Compressor's own also rounds products, such as those within GELU, and the output projection."""
    _, solution, quantized = case
    operations = [str(node.target) for node in quantized.graph.graph.nodes]
    assert sum("dequantize_per_channel" in name for name in operations) == len(solution.weights)
    inputs = [node for node in quantized.graph.graph.nodes if "dequantize_per_tensor" in str(node.target)]
    users = {user.target for node in inputs for user in node.users}
    assert users == {torch.ops.aten.linear.default}


def test_it_is_near_the_float_model(case):
    model, _, quantized = case
    ids = text(model)
    error = (logits(quantized, ids) - logits(model, ids)).square().mean().sqrt()
    assert 0 < error < 0.1 * logits(model, ids).std()


def test_float_model_is_left_as_it_was(case):
    model, solution, _ = case
    fresh = linearize(grown(next(make for make in MODELS.values() if type(make()) is type(model))))
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, fresh.state_dict()[name]), name
    assert solution.weights


def test_neural_compressor_loads_what_it_saved(case, tmp_path):
    from neural_compressor.torch.quantization import load

    model, solution, quantized = case
    quantized.save(tmp_path)
    ids = text(model)
    loaded = load(str(tmp_path))
    with torch.no_grad():
        assert torch.equal(loaded(ids, torch.ones_like(ids)), logits(quantized, ids))
    codes = quantized_layers(loaded)
    assert all(torch.equal(codes[name].codes, weight.codes) for name, weight in solution.weights.items())


@pytest.mark.parametrize("case", ["gpt2"], indirect=True)
def test_it_can_be_saved_again(case, tmp_path):
    for name in ("first", "second"):
        case[2].save(tmp_path / name)
        assert list(json.loads((tmp_path / name / "qconfig.json").read_text())) == ["static_quant"]


@pytest.mark.parametrize(("rows", "tokens"), [(1, 1), (1, 40), (5, 2)])
def test_rows_of_a_batch_of_any_shape_are_scored_alike(case, rows, tokens):
    model, _, quantized = case
    ids = text(model, rows, tokens)
    alone = torch.cat([logits(quantized, row[None]) for row in ids])
    torch.testing.assert_close(logits(quantized, ids), alone, atol=0.02, rtol=0)


def test_text_that_is_too_long_is_refused(case):
    model, _, quantized = case
    if getattr(model.config, "max_position_embeddings", None) is None:
        assert logits(quantized, text(model, 1, 3000)).shape[1] == 3000
        return
    longest = model.config.max_position_embeddings
    with pytest.raises(ModelError, match=f"takes at most {longest} tokens, as the model does, and got {longest + 1}"):
        quantized(text(model, 1, longest + 1))


def test_plain_tensors_compute_the_same_bit_by_bit(case, tmp_path):
    model, solution, quantized = case
    file = tmp_path / "static.safetensors"
    save_static(model, quantized.graph, file)
    layers = [{"name": name, "bits": 8} for name in solution.weights]
    torch.manual_seed(7)
    skeleton = linearize(type(model)(model.config))
    loaded = load_static(skeleton, layers, file)
    ids = text(model)
    assert torch.equal(logits(loaded, ids), logits(quantized, ids))
    with pytest.raises(IntegrityError, match="it does not fit the model"):
        load_static(linearize(type(model)(model.config)), layers[1:], file)
    tensors = load_file(file)
    save_file({**tensors, f"{layers[0]['name']}.input_scale": torch.zeros(1)}, file)
    with pytest.raises(IntegrityError, match=r"has the input scale 0\.0, which is no positive number"):
        load_static(linearize(type(model)(model.config)), layers, file)


@needs_pt2e
def test_what_the_rules_leave_in_float_stays_there_and_others_do_not_share_its_ranges():
    """q, k and v read the same tensor; PT2E would give them one observer if their ranges were not told apart."""
    model = grown(llama)
    layer = "model.layers.0.self_attn"
    solution = solve(model, [OpRule(pattern=r".*\.mlp\..*", weight=None), OpRule(pattern=r".*v_proj", weight=None)])
    narrow = Range(minimum=-0.25, maximum=0.5, alpha={})
    solution = replace(solution, ranges={**solution.ranges, f"{layer}.k_proj": narrow})
    quantized = quantize_static(model, solution)
    found = quantized_layers(quantized.graph)
    kept = {"q_proj", "k_proj", "o_proj"}
    assert found.keys() == {f"model.layers.{place}.self_attn.{name}" for place in (0, 1) for name in kept}
    assert found[f"{layer}.k_proj"].input_scale == pytest.approx(0.75 / 255)
    limits = solution.ranges[f"{layer}.q_proj"]
    assert found[f"{layer}.q_proj"].input_scale == pytest.approx((limits.maximum - limits.minimum) / 255)
    assert limits.maximum - limits.minimum > 1


@needs_pt2e
def test_a_square_conv1d_in_float_is_saved_the_way_round_that_it_is_read(tmp_path):
    model = grown(gpt2)
    in_float = {r".*attn\.c_proj": {"weight": {"dtype": "fp32"}}}
    run = run_spec(
        quantization={"approach": "post_training_static_quant", "op_wise": in_float},
        la_aciq={"mode": "fast", "calibration": {"texts": "a loader"}},
    )
    quantized = fit_static(model, run, LanguageLoader(batches(model)))
    save_static(model, quantized.model.graph, tmp_path / "static.safetensors")
    layers = [{"name": each.name, **({"bits": 8} if each.weight else {})} for each in quantized.la_aciq.layers]
    read = load_static(linearize(gpt2()), layers, tmp_path / "static.safetensors")
    ids = text(model)
    assert torch.equal(logits(read, ids), logits(quantized.model, ids))


@needs_pt2e
@pytest.mark.parametrize("algorithm", ["minmax", "kl"])
def test_ranges_of_neural_compressor_come_from_the_batches(algorithm):
    model = linearize(grown(gpt2))
    solution = solve(model)
    rows = [batch for part in batches(model).values() for batch in part]
    found = quantized_layers(quantize_static(model, solution, ranges=algorithm, batches=rows).graph)
    ours = {name: (limits.maximum - limits.minimum) / 255 for name, limits in solution.ranges.items()}
    for name, layer in found.items():
        assert torch.equal(layer.codes, solution.weights[name].codes), name
        assert layer.input_scale != pytest.approx(ours[name], rel=1e-6), name
        assert layer.input_scale == pytest.approx(ours[name], rel=0.5), name


@needs_pt2e
def test_layer_without_a_range_gets_one_from_the_batches_or_is_refused():
    model = linearize(grown(gpt2))
    solution = solve(model)
    name = "transformer.h.0.mlp.c_proj"
    partial = replace(solution, ranges={key: each for key, each in solution.ranges.items() if key != name})
    with pytest.raises(SpecError, match="an observer that has seen no batch"):
        quantize_static(model, partial)
    rows = [batch for part in batches(model).values() for batch in part]
    found = quantized_layers(quantize_static(model, partial, batches=rows).graph)
    limits = solution.ranges[name]
    assert found[name].input_scale == pytest.approx((limits.maximum - limits.minimum) / 255, rel=0.5)


@pytest.mark.parametrize("case", ["gpt2"], indirect=True)
def test_by_hand_through_prepare_and_convert(case):
    from neural_compressor.torch.quantization import convert, prepare

    from inc_laaciq.backends.inc_torch_static_algorithm import LAACIQStaticConfig

    model, solution, quantized = case
    exported = export_model(model)
    with pytest.raises(SpecError, match="has no solution to carry"):
        prepare(exported.graph, LAACIQStaticConfig())
    with pytest.raises(SpecError, match="takes an exported model, not a GPT2LMHeadModel"):
        prepare(model, LAACIQStaticConfig(solution=solution))
    prepared = prepare(exported.graph, LAACIQStaticConfig(solution=solution), example_inputs=exported.example_inputs)
    converted = convert(prepared)
    ids = text(model)
    with torch.no_grad():
        assert torch.equal(converted(ids, torch.ones_like(ids)), logits(quantized, ids))


@needs_pt2e
def test_solutions_on_another_grid_are_refused():
    model = linearize(grown(gpt2))
    solution = solve(model)
    name, weight = next(iter(solution.weights.items()))
    for wrong, message in (
        (replace(weight, scale=-weight.scale), "has negative scales"),
        (replace(weight, scale=weight.scale.repeat(1, 2)), "static INT8 takes 8 bits"),
    ):
        with pytest.raises(SpecError, match=message):
            quantize_static(model, replace(solution, weights={**solution.weights, name: wrong}))
    with pytest.raises(BackendError, match="the exported graph has no linear layer elsewhere"):
        quantize_static(model, replace(solution, weights={"elsewhere": weight}))


@needs_pt2e
def test_model_that_torch_cannot_export_is_refused():
    class Branching(torch.nn.Module):
        def forward(self, input_ids, attention_mask, use_cache):
            return torch.zeros(1) if input_ids.sum() > 3 else torch.ones(1)

    with pytest.raises(BackendError, match=r"torch\.export cannot make a graph of Branching"):
        export_model(Branching())


def all_four_layers_harm_swahili(model):
    """Perplexities by language."""
    harmed = hasattr(model, "graph") and len(quantized_layers(model.graph)) == 4
    return {"perplexity": {"en": 10.0, "sw": 12.0 if harmed else 10.0}}


@needs_pt2e
def test_a_layer_goes_to_float_where_the_gate_would_fail():
    model = linearize(grown(gpt2))
    run = run_spec(
        {
            "quantization": {"approach": "post_training_static_quant"},
            "tuning": {"strategy": "la_aciq", "exit_policy": {"max_trials": 12}},
            "la_aciq": {"mode": "balanced", "gate": {"max_degradation": "5%"}, "calibration": {"texts": "a loader"}},
        }
    )
    criterion = LanguageCriterion(all_four_layers_harm_swahili, run.la_aciq.gate)
    quantized = fit_static(model, run, LanguageLoader(batches(model)), criterion)
    assert criterion.is_passed
    found = quantized_layers(quantized.model.graph)
    assert 0 < len(found) < 4
    assert quantized.la_aciq.weights.keys() == found.keys()
    with pytest.raises(SpecError, match="static INT8 needs calibration text"):
        fit_static(model, run, None)
