"""The study of static ranges: what is compared, how differences and ratios become verdicts, what the hooks do."""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

ROOT = Path(__file__).parents[2]

sys.path.insert(0, str(ROOT / "benchmarks"))
import bench_static  # noqa: E402
from methods.ratios import Runs, resample  # noqa: E402
from methods.registry import NotRunError  # noqa: E402
from static import inc_static, report, simulated, study  # noqa: E402
from static.differences import differences  # noqa: E402

from inc_laaciq.quant.activation import ActivationMoments, Range  # noqa: E402

LANGUAGES = ("en", "fi")
FITS = ("la_aciq", "inc minmax")  # one of each kind: Neural Compressor takes seconds for each
METHODS = {("W8A8", name) for name in FITS} | {("W8A4", name) for name in simulated.RANGES}


def run(folder, output, **changes):
    options = {
        "model": folder / "model",
        "calibration": folder / "calibration",
        "evaluation": folder / "evaluation",
        "seeds": 1,
        "calibration-tokens": 60,
        "eval-tokens": 200,
        "output": output,
        **changes,
    }
    assert bench_static.main([part for name, value in options.items() for part in (f"--{name}", str(value))]) == 0
    return json.loads(output.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def finished(folder, tmp_path_factory):
    """The result of a small run through Neural Compressor."""
    with warnings.catch_warnings():  # Neural Compressor and what it imports warn while they are imported
        warnings.simplefilter("ignore")
        pytest.importorskip("neural_compressor.quantization", exc_type=ImportError)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inc_static, "FITS", {name: inc_static.FITS[name] for name in FITS})
        return run(folder, tmp_path_factory.mktemp("result") / "result.json")


def test_every_method_quantizes_the_same_layers_and_is_measured_in_every_language(finished):
    assert finished["not_run"] == []
    assert {(row["study"], row["method"]) for row in finished["rows"]} == METHODS
    assert len(finished["rows"]) == len(METHODS) * len(LANGUAGES)
    assert all(row["kl"] > 0 for row in finished["rows"])
    assert len(finished["quantized_layers"]) == 4
    assert finished["float_layers"] == ["lm_head"]
    assert [finished["studies"][name]["simulated"] for name in ("W8A8", "W8A4")] == [False, True]
    assert finished["meta"]["commit"]
    assert set(finished["texts"]["evaluation_tokens"]) == set(LANGUAGES)


def test_only_four_bits_against_minmax_has_a_target(finished):
    targets = {(entry["study"], entry["baseline"]): entry.get("target") for entry in finished["ratios"]}
    assert targets == {key: 0.2 if key == ("W8A4", "minmax") else None for key in METHODS if key[1] != "la_aciq"}
    assert set(finished["verdicts"]["W8A8"]) == {"inc minmax"}
    assert set(inc_static.MINMAX) < set(inc_static.FITS)
    assert set(finished["verdicts"]["W8A4"]) == {"degradation", "kl"}


def test_ratios_and_differences_are_those_of_the_rows(finished):
    kl = {(row["study"], row["method"], row["language"]): row["kl"] for row in finished["rows"]}
    ratio = next(entry for entry in finished["ratios"] if "target" in entry)
    worst = [max(kl["W8A4", method, tag] for tag in LANGUAGES) for method in ("la_aciq", "minmax")]
    assert ratio["kl"]["worst"]["median"] == pytest.approx(worst[0] / worst[1])
    for entry in finished["differences"]:
        for tag in LANGUAGES:
            expected = kl["W8A8", "la_aciq", tag] - kl["W8A8", entry["baseline"], tag]
            assert entry["kl"][tag]["difference"] == pytest.approx(expected)


def test_table_names_every_method_and_verdict(finished):
    text = report.table(finished)
    assert all(f"{name:6}{method} " in text for name, method in METHODS)
    assert "W8A8 against inc minmax, kl: " in text
    assert "target 0.2" in text


def test_what_cannot_be_run_is_recorded_with_the_reason_and_the_rest_goes_on(folder, tmp_path, monkeypatch):
    def refuse(*_):
        raise NotRunError("it cannot be traced")

    monkeypatch.setattr(inc_static, "quantize", refuse)
    content = run(folder, tmp_path / "result.json")
    assert {row["study"] for row in content["rows"]} == {"W8A4"}
    assert [entry["method"] for entry in content["not_run"]] == list(inc_static.FITS)
    assert {entry["why"] for entry in content["not_run"]} == {"it cannot be traced"}
    assert content["verdicts"]["W8A8"] == {}


def test_layers_of_a_configuration_are_what_is_not_in_float():
    op, kept = ({"weight": {"dtype": name}, "activation": {"dtype": name}} for name in ("int8", "fp32"))
    config = {"op": {("b.module", "Linear"): op, ("a", "Linear"): op, ("lm_head.module", "Linear"): kept}}
    assert inc_static.quantized_layers(config) == ["a", "b"]
    config["op"]["add", "add"] = {"activation": {"dtype": "uint8"}}
    assert inc_static.quantized_layers(config) == ["a", "add", "b"]


@pytest.mark.parametrize(("minimum", "maximum"), [(-1.0, 3.0), (0.0, 2.0), (-5.0, 0.0), (-0.01, 7.3)])
def test_activations_are_rounded_to_the_nearest_of_sixteen_values_on_the_range(minimum, maximum):
    x = torch.linspace(-10, 10, 4001)
    rounded = simulated.round_activations(x, Range(minimum=minimum, maximum=maximum, alpha={}), 4)
    levels = rounded.unique()
    step = (maximum - minimum) / 15
    assert len(levels) == 16
    assert 0.0 in levels
    assert float(levels[0]) >= minimum - step / 2 - 1e-6
    assert float(levels[-1]) <= maximum + step / 2 + 1e-6
    assert torch.allclose(levels.diff(), torch.full((15,), step), atol=1e-5)
    inside = (x >= levels[0]) & (x <= levels[-1])
    assert float((rounded - x)[inside].abs().max()) <= step / 2 + 1e-5
    assert bool((rounded[x > levels[-1]] == levels[-1]).all())


def test_a_range_of_nothing_but_zero_gives_zeros():
    nothing = Range(minimum=0.0, maximum=0.0, alpha={})
    assert torch.equal(simulated.round_activations(torch.tensor([1.0, -2.0]), nothing, 4), torch.zeros(2))


def test_layers_see_rounded_inputs_inside_the_block_only():
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.Linear(8, 4))
    x, limits = torch.randn(50, 8), Range(minimum=-1.0, maximum=2.0, alpha={})
    before = model(x)
    with simulated.rounding_inputs(model, {"0": limits, "1": limits}, 4) as rounding:
        seen = []
        handles = [module.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0])) for module in model]
        after = rounding(x)
        for handle in handles:
            handle.remove()
    assert [len(values.unique()) <= 16 for values in seen] == [True, True]
    assert torch.equal(seen[0], simulated.round_activations(x, limits, 4))
    assert not torch.equal(after, before)
    assert torch.equal(model(x), before)


def test_weights_are_rounded_to_eight_bits_per_channel_in_a_copy():
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(64, 3), torch.nn.Linear(3, 2))
    before = [layer.weight.clone() for layer in model]
    rounded = simulated.rounded_weights(model, ["0"])
    assert all(torch.equal(layer.weight, weight) for layer, weight in zip(model, before, strict=True))
    assert torch.equal(rounded[1].weight, before[1])
    step = before[0].abs().amax(1) / 127
    assert bool(((rounded[0].weight - before[0]).abs().amax(1) <= 0.52 * step).all())
    assert not torch.equal(rounded[0].weight, before[0])


def test_minmax_covers_all_languages_and_zero():
    moments = {"a": ActivationMoments.of([1.0, 4.0]), "b": ActivationMoments.of([2.0, 7.0])}
    found = simulated.minmax_range(moments, 4)
    assert (found.minimum, found.maximum) == (0.0, 7.0)
    moments["c"] = ActivationMoments.of([-3.0, 1.0])
    assert simulated.minmax_range(moments, 4).minimum == -3.0


def sums(loss, kl, rng, n=40):
    """Documents of one language, harmed by about so much for each byte."""
    size = rng.integers(80, 120, n)
    return {
        "kind": "document",
        "fingerprint": "",
        "loss": (size * (1 + loss) + rng.normal(0, 0.2, n)).tolist(),
        "kl": (size * kl).tolist(),
        "bytes": size.tolist(),
        "tokens": size.tolist(),
        "flips": [0] * n,
    }


def measured(**cells):
    """What would be measured, from the harm by method; all have the same documents."""
    made = {
        key: {tag: sums(*harm, np.random.default_rng(place)) for place, (tag, harm) in enumerate(by_tag.items())}
        for key, by_tag in cells.items()
    }
    baseline = made.pop("float")
    return study.Measured(
        baseline=baseline,
        cells={(*key.split("/"), 0): documents for key, documents in made.items()},
        seconds={(*key.split("/"), 0): 1.0 for key in made},
    )


@pytest.mark.parametrize(("share", "expected"), [(0.1, "met"), (0.3, "missed"), (1.2, "not resolved")])
def test_the_worst_language_decides_about_four_bits(share, expected):
    none, theirs = {"a": (0.0, 0.0), "b": (0.0, 0.0)}, {"a": (0.5, 0.5), "b": (0.1, 0.1)}
    ours = {"a": (0.01, 0.01), "b": (0.5 * share, 0.5 * share)}
    content = study.result(measured(**{"float": none, "W8A4/la_aciq": ours, "W8A4/minmax": theirs}))
    (ratio,) = content["ratios"]
    assert ratio["kl"]["worst"]["median"] == pytest.approx(share, rel=1e-3)
    assert ratio["degradation"]["worst"]["median"] == pytest.approx(share, rel=0.02)
    assert content["verdicts"]["W8A4"] == {"degradation": expected, "kl": expected}


def test_one_language_that_is_worse_misses_the_target_at_eight_bits():
    none, theirs = {"a": (0.0, 0.0), "b": (0.0, 0.0)}, {"a": (0.5, 0.5), "b": (0.1, 0.1)}
    cells = {"float": none, "W8A8/la_aciq": {"a": (0.2, 0.2), "b": (0.2, 0.1)}, "W8A8/inc minmax": theirs}
    content = study.result(measured(**cells))
    (entry,) = content["differences"]
    assert entry["degradation"]["a"]["verdict"] == "better"
    assert entry["degradation"]["b"]["verdict"] == entry["degradation"]["b"]["joint_verdict"] == "worse"
    found = content["verdicts"]["W8A8"]["inc minmax"]
    assert found["degradation"] == {"worse": ["b"], "joint_worse": ["b"], "verdict": "missed", "joint": "missed"}
    assert found["kl"]["verdict"] == "met"


def test_a_seed_that_one_method_lacks_is_left_out_of_the_comparison():
    none, ours, theirs = ({"a": (harm, harm), "b": (harm, harm)} for harm in (0.0, 0.1, 0.2))
    found = measured(**{"float": none, "W8A8/la_aciq": ours, "W8A8/inc minmax": theirs})
    expected = study.result(found)
    found.cells["W8A8", "la_aciq", 1] = found.cells["W8A8", "inc minmax", 0]
    found.seconds["W8A8", "la_aciq", 1] = 1.0
    content = study.result(found)
    assert [entry["seeds"] for entry in content["summary"]] == [2, 1]
    for name in ("ratios", "differences", "verdicts"):
        assert content[name] == expected[name]
    found.cells["W8A8", "inc minmax", 2] = found.cells.pop(("W8A8", "inc minmax", 0))
    assert study.result(found)["differences"] == []


def test_differences_are_those_of_a_slow_loop():
    rng, tags, draws = np.random.default_rng(3), ["a", "b"], 200
    baseline = {tag: sums(0, 0, np.random.default_rng(place)) for place, tag in enumerate(tags)}
    cells = [
        {tag: {**sums(0.3, 0.3, rng), "bytes": baseline[tag]["bytes"]} for tag in tags} for _ in range(4)
    ]  # two seeds of two methods
    values = resample(cells, baseline, measure="degradation", draws=draws)
    ours, theirs = Runs(seeds=(0, 1), values=values[:2]), Runs(seeds=(0, 1), values=values[2:])
    found = differences(ours, theirs, tags, seed=5)
    picks = np.random.default_rng(5).integers(2, size=(2, draws))
    for place, tag in enumerate(tags):
        by_seed = [values[seed, place] - values[2 + seed, place] for seed in (0, 1)]
        loop = [sum(by_seed[seed][draw + 1] for seed in picks[:, draw]) / 2 for draw in range(draws)]
        assert found[tag]["difference"] == pytest.approx((by_seed[0][0] + by_seed[1][0]) / 2)
        assert found[tag]["low"] == pytest.approx(np.quantile(loop, 0.025))
        assert found[tag]["high"] == pytest.approx(np.quantile(loop, 0.975))
        assert found[tag]["joint_low"] < found[tag]["low"]
        assert found[tag]["joint_high"] > found[tag]["high"]


def test_a_method_beside_itself_differs_by_nothing():
    values = np.random.default_rng(0).normal(size=(1, 2, 50))
    found = differences(Runs(seeds=(0,), values=values), Runs(seeds=(0,), values=values), ["a", "b"])
    assert {entry["verdict"] for entry in found.values()} == {"not resolved"}
    assert {entry["joint_verdict"] for entry in found.values()} == {"not resolved"}


def test_a_difference_needs_the_same_seeds():
    one, other = (Runs(seeds=seeds, values=np.zeros((1, 1, 3))) for seeds in ((0,), (1,)))
    with pytest.raises(ValueError, match="same seeds"):
        differences(one, other, ["a"])


def test_no_seed_is_refused(capsys):
    with pytest.raises(SystemExit):
        bench_static.parser().parse_args(["--seeds", "0"])
    assert "0 is less than 1" in capsys.readouterr().err
