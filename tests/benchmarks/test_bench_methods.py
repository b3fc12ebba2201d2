"""The comparison with other methods: what is run, what is done anew, how ratios are found, what is reported."""

from __future__ import annotations

import copy
import json
import math
import re
import shutil
import statistics
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

ROOT = Path(__file__).parents[2]

sys.path.insert(0, str(ROOT / "benchmarks"))
import bench_methods  # noqa: E402
from methods import (  # noqa: E402
    ratios,
    remembered,
    report,
)
from methods.bench import Bench, Options  # noqa: E402
from methods.cells import FLOAT, Cell, path_of, plan  # noqa: E402
from methods.grids import check_grid, check_layers  # noqa: E402
from methods.registry import METHODS, LayersError  # noqa: E402
from methods.remembered import Remembered  # noqa: E402
from methods.targets import target_of  # noqa: E402

LANGUAGES = ("en", "fi")
NAMES = "inc-rtn,inc-gptq,la_aciq-balanced"


def sums(rng, n, harm):
    """Documents of one language, harmed by about so much for each byte."""
    size = rng.integers(50, 200, n)
    return {
        "kind": "document",
        "fingerprint": "",
        "loss": (size * (1 + harm) + rng.normal(0, 2, n)).tolist(),
        "kl": rng.uniform(0, 5, n).tolist(),
        "bytes": size.tolist(),
        "tokens": size.tolist(),
        "flips": [0] * n,
    }


def arguments(folder, output, **changes):
    options = {
        "model": folder / "model",
        "calibration": folder / "calibration",
        "evaluation": folder / "evaluation",
        "methods": NAMES,
        "seeds": 1,
        "calibration-tokens": 60,
        "eval-tokens": 60,
        "cells": folder / "cells",
        "output": output,
        **changes,
    }
    return [part for name, value in options.items() for part in (f"--{name}", str(value))]


@pytest.fixture(scope="module")
def finished(folder):
    """The result of a small run."""
    pytest.importorskip("neural_compressor.common")  # INC before 3 has none of these methods
    pytest.importorskip("pydantic")
    pytest.importorskip("accelerate")
    assert bench_methods.main(arguments(folder, folder / "result.json")) == 0
    return json.loads((folder / "result.json").read_text(encoding="utf-8"))


def methods_of(content):
    return {(row["method"], row["calibration"]) for row in content["rows"]}


def test_all_methods_quantize_the_same_layers_and_are_measured_in_every_language(finished, folder):
    cells = [json.loads(path.read_text(encoding="utf-8")) for path in (folder / "cells").glob("*.json")]
    lists = [cell["quantized_layers"] for cell in cells if "quantized_layers" in cell]
    assert len(lists) == 5
    assert len(finished["quantized_layers"]) == 4
    assert all(found == finished["quantized_layers"] for found in lists)
    assert methods_of(finished) == {
        ("inc-rtn", "none"),
        ("inc-gptq", "english"),
        ("inc-gptq", "multilingual"),
        ("la_aciq-balanced", "english"),
        ("la_aciq-balanced", "multilingual"),
    }
    assert len(finished["rows"]) == 5 * len(LANGUAGES)
    assert all(row["kl"] > 0 and row["seconds"] > 0 for row in finished["rows"])
    codes = {run["method"]: run["notes"].get("codes") for run in finished["runs"]}
    assert codes["inc-rtn"] == [-7, 7]


def test_awq_of_the_adaptor_api_searches_at_the_bits_asked_for(finished, folder, tmp_path):
    if why := METHODS["inc-adaptor-awq"].unavailable(3):
        pytest.skip(why)
    run = [*arguments(folder, tmp_path / "awq.json", cells=tmp_path), "--methods", "inc-awq,inc-adaptor-awq"]
    assert bench_methods.main([*run, "--bits", "3", "4"]) == 0
    found = json.loads((tmp_path / "awq.json").read_text(encoding="utf-8"))
    assert found["quantized_layers"] == finished["quantized_layers"]
    by_method = {
        (method, bits): {
            (row["calibration"], row["language"]): row["kl"]
            for row in found["rows"]
            if (row["method"], row["bits"]) == (method, bits)
        }
        for method in ("inc-awq", "inc-adaptor-awq")
        for bits in (3, 4)
    }
    # The two are the same code but for the bits of the search, which in the torch API are 4 whatever is asked for.
    assert by_method["inc-adaptor-awq", 4] == pytest.approx(by_method["inc-awq", 4], rel=1e-6)
    assert by_method["inc-adaptor-awq", 3] != pytest.approx(by_method["inc-awq", 3], rel=1e-3)
    assert {(run["calibration"], run["notes"]["codes"][1]) for run in found["runs"] if run["bits"] == 3} == {
        ("english", 3),
        ("multilingual", 3),
    }


def test_english_calibration_has_as_many_tokens_as_that_of_all_languages(finished):
    tokens = finished["texts"]["calibration_tokens"]
    assert tokens["multilingual"] == {"en": 60, "fi": 60}
    assert tokens["english"] == {"en": 120}


def test_a_second_run_does_nothing_twice_and_finds_the_same(finished, folder, tmp_path):
    before = {path: path.stat().st_mtime_ns for path in (folder / "cells").glob("*.json")}
    assert bench_methods.main(arguments(folder, tmp_path / "again.json")) == 0
    assert {path: path.stat().st_mtime_ns for path in (folder / "cells").glob("*.json")} == before
    again = json.loads((tmp_path / "again.json").read_text(encoding="utf-8"))
    for name in ("rows", "summary", "ratios", "quantized_layers", "texts"):
        assert again[name] == finished[name]


def test_a_cell_with_other_layers_fails_the_run(finished, folder, tmp_path):
    cells = shutil.copytree(folder / "cells", tmp_path / "cells")
    path = next(cells.glob("inc-gptq-english*.json"))
    content = json.loads(path.read_text(encoding="utf-8"))
    content["quantized_layers"].remove("transformer.h.0.self_attention.dense")
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(SystemExit, match=r"did not quantize the same layers.*h\.0\.self_attention\.dense"):
        bench_methods.main(arguments(folder, tmp_path / "result.json", cells=cells))
    assert not (tmp_path / "result.json").exists()


def test_tables_and_picture_say_the_same_each_time(finished, folder, tmp_path):
    pytest.importorskip("matplotlib")
    path = tmp_path / "result.json"
    shutil.copy(folder / "result.json", path)
    written = []
    for _ in range(2):
        assert bench_methods.main(["--render", str(path)]) == 0
        written.append([path.with_suffix(suffix).read_bytes() for suffix in (".md", ".svg")])
    assert written[0] == written[1]
    text = report.markdown(finished)
    assert "| inc-gptq | english |" in text
    assert "<svg" in written[0][1].decode()


@pytest.fixture(scope="module")
def bench(folder):
    options = Options(
        model=str(folder / "model"),
        calibration=str(folder / "calibration"),
        evaluation=str(folder / "evaluation"),
        calibration_tokens=300,
        eval_tokens=150,
        cells=folder / "cells",
    )
    return Bench(options)


@pytest.mark.parametrize("change", [{"calibration_tokens": 299}, {"eval_tokens": 0}], ids=str)
def test_a_changed_option_makes_a_new_cell(bench, change):
    changed = Bench(replace(bench.options, **change))
    cell = Cell(method="inc-gptq", calibration="english", bits=4, group_size=64)
    assert path_of(cell, bench) == path_of(cell, Bench(bench.options))
    assert path_of(cell, bench) != path_of(cell, changed)


def test_what_a_cell_does_not_depend_on_makes_no_new_one(bench):
    changed = Bench(replace(bench.options, calibration_tokens=299))
    for cell in (Cell(method=FLOAT), Cell(method="inc-rtn", bits=4, group_size=64)):
        assert path_of(cell, bench) == path_of(cell, changed)


def test_rows_are_those_of_the_batches_in_a_seeded_order(bench):
    first, same, other = (bench.job("multilingual", 4, 64, seed) for seed in (0, 0, 1))
    assert [row.tolist() for row in first.rows] == [row.tolist() for row in same.rows]
    assert [row.tolist() for row in first.rows] != [row.tolist() for row in other.rows]
    rows = [row.tolist() for part in first.batches.values() for batch in part for row in batch]
    assert sorted(rows) == sorted(row.tolist()[0] for row in first.rows)
    assert "lm_head" in first.kept


def test_versions_of_a_method_are_drawn_where_they_differ():
    def entry(method, worst, calibration="english"):
        return {"method": method, "calibration": calibration, "degradation": {"worst": worst}}

    both = [entry("inc-awq", 1.0), entry("inc3.10-awq", 1.04), entry("inc-adaptor-awq", 0.94)]
    alone = [entry("inc3.10-awq", 1.0, "multilingual"), entry("inc3.10-gptq", 1.0), entry("la_aciq-fast", 1.0)]
    assert report.drawn([*both, *alone]) == [both[0], both[2], *alone]


def test_nncf_has_four_bits_only_and_data_free_methods_one_seed():
    cells, not_run = plan([METHODS["nncf-rtn"], METHODS["inc-rtn"]], grids=[(3, 64), (3, 32)], seeds=3)
    assert [entry["method"] for entry in not_run][:1] == ["nncf-rtn"]
    assert "no 3-bit format" in not_run[0]["why"]
    assert cells[0] == Cell(method=FLOAT)
    pairs = [(cell.bits, cell.group_size) for cell in cells if cell.method == "inc-rtn"]
    assert pairs in ([(3, 64), (3, 32)], [])  # none where Neural Compressor's torch API is not installed


def test_pairs_of_bits_and_group_size_are_taken_as_they_are(folder, tmp_path, capsys):
    given = [*arguments(folder, tmp_path / "pairs.json"), "--methods", "la_aciq-balanced", "--dry-run"]
    assert bench_methods.main([*given, "--grid", "4:32", "2:-1"]) == 0
    listed = capsys.readouterr().out
    assert re.findall(r"multilingual (\S+ \S+) seed", listed) == ["4b g32", "2b g-1"]
    with pytest.raises(SystemExit, match="2"):
        bench_methods.parser().parse_args(["--grid", "4"])


def test_cells_of_another_installation_are_taken_where_only_packages_differ(finished, folder, tmp_path):
    cells = tmp_path / "cells"
    shutil.copytree(folder / "cells", cells)
    [source] = cells.glob("inc-rtn-none-*.json")
    content = json.loads(source.read_text(encoding="utf-8"))
    there = "inc3.10-rtn" if METHODS["inc3.10-rtn"].unavailable(4) else "inc-rtn"
    content["definition"] |= {"method": there, "packages": {"neural-compressor": "3.10"}}
    other = cells / source.name.replace("inc-rtn", there, 1).replace(".json", "0.json")
    run = ["--methods", "inc-rtn,inc3.10-rtn", "--cells", str(cells), "-o", str(tmp_path / "both.json")]
    for newer, expected in ((1, {"inc-rtn"}), (0, {"inc-rtn", "inc3.10-rtn"})):
        content["definition"]["version"] += newer  # the first was made by another version of this benchmark
        other.write_text(json.dumps(content), encoding="utf-8")
        content["definition"]["version"] -= newer
        assert bench_methods.main([*arguments(folder, tmp_path / "both.json"), *run]) == 0
        both = json.loads((tmp_path / "both.json").read_text(encoding="utf-8"))
        assert {row["method"] for row in both["rows"]} == expected
    packages = {entry["method"]: entry["packages"]["neural-compressor"] for entry in both["runs"]}
    assert packages[there] == "3.10"
    shutil.copy(other, other.with_name(other.name.replace("0.json", "1.json")))
    with pytest.raises(SystemExit, match="two installations"):
        bench_methods.main([*arguments(folder, tmp_path / "both.json"), *run])


def test_unknown_method_is_refused():
    with pytest.raises(SystemExit, match="no method is called nonsense"):
        bench_methods.chosen("inc-rtn,nonsense")


def test_another_grid_and_other_layers_are_refused():
    weight = torch.arange(-8, 8).float().reshape(1, 16) / 4
    scales, group = torch.full((1, 1), 0.25), torch.zeros(16)
    assert check_grid("a", weight, scales, group, bits=4, group_size=16) == (-8, 7)
    with pytest.raises(LayersError, match="3 bits"):
        check_grid("a", weight, scales, group, bits=3, group_size=16)
    with pytest.raises(LayersError, match="4 bits"):
        check_grid("a", weight + 0.1, scales, group, bits=4, group_size=16)
    with pytest.raises(LayersError, match="scales of shape"):
        check_grid("a", weight, scales, group, bits=4, group_size=8)
    with pytest.raises(LayersError, match="other layers"):
        check_layers(["a"], ["a", "b"], "it")


def test_a_method_beside_itself_has_ratio_one_without_doubt():
    rng = np.random.default_rng(1)
    baseline = {tag: sums(rng, 9, 0.0) for tag in "ab"}
    cell = {tag: {**sums(rng, 9, 0.3), "bytes": baseline[tag]["bytes"]} for tag in "ab"}
    values = ratios.resample([cell, copy.deepcopy(cell)], baseline, measure="degradation", draws=200)
    found = ratios.ratio(ratios.Runs(seeds=(0,), values=values[:1]), ratios.Runs(seeds=(0,), values=values[1:]))
    for name in ("mean", "worst", "disparity"):
        entry = found[name]
        assert (entry["median"], entry["low"], entry["high"]) == (1.0, 1.0, 1.0)
        assert entry["relative_standard_error"] == 0.0


@pytest.mark.parametrize("measure", ["degradation", "kl"])
def test_ratios_are_those_of_a_slow_loop(measure):
    rng = np.random.default_rng(2)
    tags, n, draws = ("a", "b", "c"), {"a": 7, "b": 5, "c": 11}, 60
    baseline = {tag: sums(rng, n[tag], 0.0) for tag in tags}
    cells = [
        {tag: {**sums(rng, n[tag], harm), "bytes": baseline[tag]["bytes"]} for tag in tags} for harm in (0.2, 0.3, 0.9)
    ]
    values = ratios.resample(cells, baseline, measure=measure, draws=draws, seed=4)
    ours, theirs = ratios.Runs(seeds=(0, 1), values=values[:2]), ratios.Runs(seeds=(0,), values=values[2:])
    found = ratios.ratio(ours, theirs, seed=5)

    generator = np.random.default_rng(4)
    drawn = {tag: generator.multinomial(n[tag], np.full(n[tag], 1 / n[tag]), size=draws) for tag in tags}
    picks = np.random.default_rng(5).integers(2, size=(2, draws))

    def values_of(cell, counts):
        result = []
        for tag in tags:
            total = size = 0.0
            for place in range(n[tag]):
                times = 1 if counts is None else counts[tag][place]
                if measure == "kl":
                    total += times * cell[tag]["kl"][place]
                else:
                    total += times * (cell[tag]["loss"][place] - baseline[tag]["loss"][place])
                size += times * baseline[tag]["bytes"][place]
            result.append(total / size)
        return {"mean": sum(result) / 3, "worst": max(result), "disparity": max(result) - min(result)}

    for name in ("mean", "worst", "disparity"):
        by_seed = [values_of(cells[seed], None)[name] / values_of(cells[2], None)[name] for seed in (0, 1)]
        loop = []
        for draw in range(draws):
            counts = {tag: drawn[tag][draw] for tag in tags}
            theirs_then = values_of(cells[2], counts)[name]
            ours_then = [values_of(cells[seed], counts)[name] for seed in picks[:, draw]]
            loop.append(statistics.median(value / theirs_then if theirs_then > 0 else math.inf for value in ours_then))
        assert found[name]["by_seed"] == pytest.approx(by_seed)
        assert found[name]["median"] == pytest.approx(statistics.median(by_seed))
        assert found[name]["low"] == pytest.approx(np.quantile(loop, 0.025))
        assert found[name]["high"] == pytest.approx(np.quantile(loop, 0.975))


def test_a_remembered_model_runs_once_on_a_batch_and_says_the_same(bench, monkeypatch):
    model = bench.source.model
    runs = []
    handle = model.register_forward_hook(lambda *_: runs.append(1))
    ids = torch.tensor([[5, 6, 7], [8, 9, 0]])
    mask, other = torch.tensor([[1, 1, 1], [1, 1, 0]]), torch.ones(2, 3, dtype=torch.long)
    try:
        with torch.inference_mode():
            expected = model(input_ids=ids, attention_mask=mask).logits
            one = Remembered(model)
            found = [one(input_ids=ids, attention_mask=mask) for _ in range(3)]
            assert len(runs) == 2
            assert all(torch.equal(logits, expected) for logits in found)
            assert not torch.equal(one(input_ids=ids, attention_mask=other), expected)  # another mask, another batch
            full = Remembered(model, limit=expected.nbytes - 1)
            assert all(torch.equal(full(input_ids=ids, attention_mask=mask), expected) for _ in range(2))
            monkeypatch.setattr(remembered, "available_memory", lambda: expected.nbytes)  # a share of it is too little
            modest = Remembered(model)
            assert all(torch.equal(modest(input_ids=ids, attention_mask=mask), expected) for _ in range(2))
        assert len(runs) == 7
    finally:
        handle.remove()


def test_verdicts():
    assert ratios.verdict({"median": 0.3, "high": 0.6}, 0.35) == "met"
    assert ratios.verdict({"median": 0.4, "high": 0.6}, 0.35) == "missed"
    assert ratios.verdict({"median": 0.3, "high": 1.0}, 0.35) == "not resolved"
    assert ratios.verdict({"median": 0.3, "high": None}, 0.35) == "not resolved"
    assert target_of("la_aciq-fair", "inc-rtn", "none", 3) == 0.28
    assert target_of("la_aciq-fair", "inc-gptq", "multilingual", 4) is None
