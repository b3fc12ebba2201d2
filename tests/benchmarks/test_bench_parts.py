"""bench_parts goes on from its own rows, and from no others."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))
import bench_parts  # noqa: E402

PARTS = ["balanced, not refined", "balanced"]


@pytest.fixture
def run(tmp_path, monkeypatch):
    def go(*parts, tokens="64"):
        given = ["--bits", "5", "3", "--parts", *parts, "--calibration-tokens", "128", "--eval-tokens", tokens]
        monkeypatch.setattr(sys, "argv", ["bench_parts.py", *given, "-o", str(tmp_path / "parts.json")])
        bench_parts.main()
        return json.loads((tmp_path / "parts.json").read_text(encoding="utf-8"))

    return go


def test_rows_are_kept_and_what_is_missing_is_added(run):
    first = run("balanced")
    assert [(row["bits"], row["part"]) for row in first["rows"]] == [(5, "balanced"), (3, "balanced")]
    coarse, fine = (next(row for row in first["rows"] if row["bits"] == bits) for bits in (3, 5))
    assert coarse["kl"]["mean"] > 4 * fine["kl"]["mean"] > 0
    assert coarse["kl"]["worst"] == max(coarse["kl"]["languages"].values())
    assert coarse["degradation"]["languages"].keys() == coarse["kl"]["languages"].keys()
    second = run(*PARTS)
    assert [(row["bits"], row["part"]) for row in second["rows"]] == [(bits, part) for bits in (5, 3) for part in PARTS]
    assert [row for row in second["rows"] if row["part"] == "balanced"] == first["rows"]  # the seconds, too


def test_rows_of_other_text_are_refused_and_left(run, tmp_path):
    (tmp_path / "parts.json").write_text(json.dumps({"meta": {"what": {}}, "rows": []}), encoding="utf-8")
    with pytest.raises(SystemExit, match=r"measured with other sources_sha256, .*Remove it, or give another -o"):
        run("balanced")
    assert json.loads((tmp_path / "parts.json").read_text(encoding="utf-8"))["rows"] == []
