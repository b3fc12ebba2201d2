"""The benchmark of speed: what it writes in quick mode, that its figures follow from its seconds, and its verdicts.

No time is checked: on a busy machine it says nothing.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "benchmarks" / "bench_speed.py"

sys.path.insert(0, str(ROOT / "benchmarks"))
import bench_speed  # noqa: E402
from speed import names  # noqa: E402
from speed.report import readme, terminal  # noqa: E402
from speed.targets import AGAINST, judge  # noqa: E402

PEERS = {"inc-rtn", "inc-awq", "inc-gptq"}
MODES = {"la_aciq-paper, no text", "la_aciq-fast per channel, no text", "la_aciq-fast, no text"}
MODES |= {"la_aciq-fast", "la_aciq-balanced"}


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A quick run: its result, and what it printed."""
    pytest.importorskip("neural_compressor.common")  # INC before 3 has none of the methods to compare with
    pytest.importorskip("pydantic")
    pytest.importorskip("accelerate")
    path = tmp_path_factory.mktemp("speed") / "speed.json"
    command = [sys.executable, SCRIPT, "--quick", "-o", path]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    return json.loads(path.read_text(encoding="utf-8")), finished.stdout


def timed_parts(content):
    parts = content["parts"]
    return [
        parts["model"],
        *parts["layers"]["sizes"],
        *(parts[name] for name in ("rounding", "calibration", "activation")),
    ]


def test_all_parts_and_methods_are_there_with_their_origin(done):
    content, _ = done
    assert list(content["parts"]) == sorted(("model", "layers", "rounding", "calibration", "activation", "memory"))
    assert set(content["parts"]["model"]["methods"]) == PEERS | MODES | {"la_aciq-fair", names.PASS}
    for one in content["parts"]["layers"]["sizes"]:
        assert set(one["methods"]) > PEERS | MODES
        assert one["weights"] == one["features"] ** 2
    assert content["is_quick"] is True
    assert content["meta"]["threads"] == 1
    assert content["meta"]["commit"]
    assert content["meta"]["versions"]["torch"]
    assert all(not part.get("not_run") for part in content["parts"].values())


def test_every_figure_follows_from_the_repetitions(done):
    content, _ = done
    for part in timed_parts(content):
        for row in part["methods"].values():
            assert len(row["repetitions"]) == content["repetitions"]
            assert row["seconds"] == pytest.approx(statistics.median(row["repetitions"]))
            assert row["seconds"] > 0
            if "seconds_per_million_weights" in row:
                assert row["seconds_per_million_weights"] == pytest.approx(row["seconds"] / part["weights"] * 1e6)
        assert part["ratios"]
        for pair, value in part["ratios"].items():
            name, reference = pair.split(" / ")
            assert value == pytest.approx(part["methods"][name]["seconds"] / part["methods"][reference]["seconds"])


def test_bandwidth_counts_the_bytes_of_the_weights(done):
    part = done[0]["parts"]["rounding"]
    assert part["bytes"] == 4 * part["weights"]
    read = part["bytes"] / part["methods"][names.READ]["seconds"]
    for name, row in part["methods"].items():
        moved = part["bytes"] * (2 if name == names.COPY else 1)
        assert row["share_of_read_bandwidth"] == pytest.approx(moved / row["seconds"] / read)


def test_memory_is_counted_from_the_baseline(done):
    for row in done[0]["parts"]["memory"]["rows"]:
        assert row["layer_bytes"] == 4 * row["features"] ** 2
        if row["peak_bytes_above_baseline"] is not None:
            assert 0 <= row["peak_bytes_above_baseline"] < 1 << 30
            assert row["times_layer"] == pytest.approx(row["peak_bytes_above_baseline"] / row["layer_bytes"])


def test_targets_are_judged_from_the_figures_and_misses_are_told(done):
    content, printed = done
    assert content["targets"] == judge(content["parts"])
    assert len({entry["name"] for entry in content["targets"]}) == len(content["targets"])
    for pair, limit in AGAINST.items():
        entry = next(entry for entry in content["targets"] if entry["name"] == f"{pair}, shipped model")
        assert entry["value"] == content["parts"]["model"]["ratios"][pair]
        assert (entry["limit"], entry["side"]) == (limit, "at most")
    for entry in content["targets"]:
        is_met = entry["value"] <= entry["limit"] if entry["side"] == "at most" else entry["value"] >= entry["limit"]
        assert entry["verdict"] == ("met" if is_met else "missed")
        assert f"{entry['verdict']:6} {entry['name']}" in printed


def test_the_readme_tells_what_is_met_and_what_is_missed(done):
    content, _ = done
    text = readme(content)
    missed = [entry for entry in content["targets"] if entry["verdict"] == "missed"]
    assert f"Of {len(content['targets'])} targets {len(content['targets']) - len(missed)} are met" in text
    assert f"and {len(missed)} missed" in text
    for name in PEERS | MODES:
        assert f"| {name} |" in text
    assert sorted(terminal(content).splitlines()) == sorted(done[1].splitlines())


def test_verdicts_change_sides_at_the_limit():
    figures = {"ratios": {"la_aciq-balanced / inc-gptq": 1.5, "la_aciq-fair / inc-gptq": 100.5}}
    assert [entry["verdict"] for entry in judge({"model": figures})] == ["met", "missed"]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("--only", "layers,disk"), "no part is called disk; there are model, layers"),
        (("--sizes", "100"), "not a multiple of the group size, 128"),
        (("--repetitions", "0"), "--repetitions is 1 or more"),
    ],
    ids=["part", "size", "repetitions"],
)
def test_wrong_options_are_refused_with_what_is_allowed(options, reason, tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        bench_speed.main([*options, "-o", str(tmp_path / "speed.json")])
    assert reason in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
