"""The commands `gate` and `report` on stored results, as a CI job uses them; no model is needed."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import ClassVar
from xml.etree import ElementTree

import pytest
import yaml
from gate_files import made_losses, write_baseline, write_candidate, write_results

from inc_laaciq.evaluation.read import read_evaluation

ROOT = Path(__file__).parents[1]
LM_EVAL = Path(__file__).parent / "evaluation" / "data" / "lm_eval"
GOOD = {"en": 0.005, "sw": 0.01, "tr": 0.01}
BAD = {**GOOD, "sw": 0.12}
UNSURE = {**GOOD, "sw": 0.05}
SUFFIXES = {
    "json": "json", "junit": "xml", "sarif": "sarif", "summary": "summary.md", "markdown": "md", "csv": "csv",
    "html": "html", "model-card": "card.md",
}  # fmt: skip


@pytest.fixture(autouse=True)
def no_ci(monkeypatch):
    """What these tests print does not depend on where they run."""
    for name in ("GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY", "CI"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def gate(main, tmp_path):
    """The command on a candidate with the given harms, in nats a token, beside a float model that has them all."""
    write_baseline(tmp_path)

    def call(harms, *options, **more):
        candidate = harms if isinstance(harms, (str, Path)) else write_candidate(tmp_path, harms)
        baseline = more.pop("baseline", "float.json")
        return main("gate", candidate, "--baseline", baseline, *options, cwd=tmp_path, **more)

    return call


def policy(folder: Path, name: str = "policy.yaml", **keys) -> Path:
    file = folder / name
    file.write_text(yaml.safe_dump({"version": 1, **keys}), encoding="utf-8")
    return file


def waiver(**more):
    return {
        "language": "sw",
        "max_degradation": "20%",
        "owner": "quantization team",
        "reason": "the next release has more calibration text",
        "ticket": "QUANT-12",
        "expires": "2027-01-31",
        **more,
    }


def outputs(folder: Path, stem: str = "gate") -> dict[str, Path]:
    return {kind: folder / f"{stem}.{suffix}" for kind, suffix in SUFFIXES.items()}


def options(paths) -> list[str]:
    return [word for kind, path in paths.items() for word in (f"--{kind}", str(path))]


def lines(done, word: str) -> list[str]:
    return [line for line in done.stdout.splitlines() if line.startswith(word)]


def error(done, code: int = 2) -> str:
    """The one error of a command that printed nothing else."""
    assert done.returncode == code, done.stdout + done.stderr
    assert done.stderr.count("Error:") == 1
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    return done.stderr


class TestVerdicts:
    def test_pass_exits_0(self, gate):
        done = gate(GOOD, "--max-degradation", "5%")
        assert done.returncode == 0, done.stderr
        assert lines(done, "PASS: all 3 languages pass max_degradation")
        assert "verdict: PASS" in done.stdout

    def test_failure_exits_3_and_its_lines_begin_with_it_and_name_the_language(self, gate):
        done = gate(BAD, "--max-degradation", "5%")
        assert done.returncode == 3, done.stderr
        table, reason = lines(done, "FAIL")
        assert table.split()[:3] == ["FAIL", "sw", "Swahili"]
        assert reason.startswith("FAIL sw: relative perplexity +12.5")
        assert "is above max_degradation 5%" in reason

    def test_doubt_exits_0_and_4_only_if_strict(self, gate, tmp_path):
        done = gate(UNSURE, "--max-degradation", "5%")
        assert (done.returncode, len(lines(done, "INCONCLUSIVE sw:"))) == (0, 1), done.stderr
        assert "sentences like these would decide" in done.stdout
        assert gate(UNSURE, "--max-degradation", "5%", "--strict").returncode == 4
        assert gate(GOOD, "--max-degradation", "5%", "--strict").returncode == 0
        assert gate(BAD, "--max-degradation", "5%", "--strict").returncode == 3
        rules = policy(tmp_path, max_degradation="5%", inconclusive="fail")
        assert gate(UNSURE, "--policy", rules).returncode == 3

    def test_what_cannot_be_compared_exits_5_with_both_hashes(self, gate, tmp_path):  # faults row 63
        write_candidate(tmp_path, GOOD, "other.json", tokenizer="d" * 64)
        message = error(gate("other.json", "--max-degradation", "5%"), 5)
        assert "tokenizer" in message
        assert "b" * 64 in message
        assert "d" * 64 in message

    def test_each_bound_stands_alone(self, gate):
        assert gate(BAD, "--max-degradation", "20%").returncode == 0
        done = gate(BAD, "--max-disparity", "5%")
        assert done.returncode == 3
        assert lines(done, "FAIL: disparity")
        assert gate(BAD, "--max-degradation", "20%", "--max-disparity", "0.01npb").returncode == 3
        assert gate(GOOD, "--max-degradation", "20%", "--max-disparity", "0.01npb").returncode == 0

    @pytest.mark.parametrize(
        ("given", "message"),
        [
            ([], "nothing to judge by"),
            (["--max-degradation", "5"], "a number with a unit"),
            (["--max-degradation", "5 pct"], "--max-degradation"),
            (["--max-disparity", "2pp"], "percentage points of accuracy"),
            (["--max-degradation", "5%", "--policy", "policy.yaml"], "--max-degradation and --policy say two things"),
            (["--policy", "none.yaml"], "none.yaml"),
            (["--max-degradation", "5%", "--date", "20270131"], "2027-01-31"),
            (["--max-degradation", "5%", "--previous", "float.json"], "max_regression"),
            (["--max-degradation", "0.5nps"], "aligned"),
            (["--max-degradation", "5%", "--explain"], "--explain judges nothing"),
            (["--validate", "policy.yaml"], "--validate judges nothing"),
            (["--self-test"], "--self-test judges nothing"),
        ],
        ids=lambda value: " ".join(value) if isinstance(value, list) else "",
    )
    def test_wrong_usage_exits_2(self, gate, tmp_path, given, message):
        policy(tmp_path, max_degradation="5%")
        assert message in error(gate(GOOD, *given))

    @pytest.mark.parametrize("mode", [["--self-test"], ["--validate", "policy.yaml"]], ids=" ".join)
    @pytest.mark.parametrize("rules", [["--policy", "policy.yaml"], ["--max-degradation", "5%"]], ids=" ".join)
    def test_bounds_that_nothing_would_be_judged_by_exit_2(self, main, tmp_path, mode, rules):
        policy(tmp_path, max_degradation="5%")
        assert f"takes no {rules[1]}" in error(main("gate", *mode, *rules))

    def test_nothing_to_judge_exits_2(self, main, tmp_path):
        assert "no CANDIDATE" in error(main("gate", "--max-degradation", "5%"))
        assert "no --baseline" in error(main("gate", write_baseline(tmp_path), "--max-degradation", "5%"))
        assert "none.json" in error(main("gate", "none.json", "--baseline", "none.json", "--max-degradation", "5%"))

    def test_output_folder_brings_its_baseline(self, main, tmp_path):
        write_baseline(tmp_path).rename(tmp_path / "baseline.json")
        write_candidate(tmp_path, BAD, "results.json")
        assert main("gate", tmp_path, "--max-degradation", "5%").returncode == 3
        other = tmp_path / "other"
        other.mkdir()
        write_candidate(other, GOOD, "results.json")
        done = main("gate", other, "--baseline", tmp_path, "--max-degradation", "5%")
        assert done.returncode == 0, done.stderr


class TestMissing:
    """A language without usable figures never passes (faults rows 13, 14, 44)."""

    def check(self, done):
        assert done.returncode == 3, done.stdout + done.stderr
        assert lines(done, "NOT-RUN sw: not evaluated")
        assert "verdict: NOT-RUN" in done.stdout

    def test_of_the_candidate(self, gate):
        self.check(gate({"en": 0.0, "tr": 0.0}, "--max-degradation", "50%"))

    def test_of_the_baseline(self, gate, tmp_path):
        write_baseline(tmp_path, ("en", "tr"))
        self.check(gate(GOOD, "--max-degradation", "50%"))

    @pytest.mark.parametrize("fault", ["empty", "NaN", "infinite"])
    def test_without_finite_losses(self, gate, tmp_path, fault):
        losses = {tag: made_losses(tag, harm=0.0) for tag in GOOD}
        if fault == "empty":
            losses["sw"] = made_losses("sw", harm=0.0, n=0)
        else:
            losses["sw"].loss[3] = math.nan if fault == "NaN" else math.inf
        write_results(tmp_path / "new.json", losses)
        self.check(gate("new.json", "--max-degradation", "50%"))

    def test_that_only_the_policy_knows(self, gate, tmp_path):
        rules = policy(tmp_path, max_degradation="50%", required_languages=["en", "yo"])
        done = gate(GOOD, "--policy", rules)
        assert done.returncode == 3
        assert lines(done, "NOT-RUN yo: not evaluated")

    def test_is_let_through_only_if_the_policy_says_so(self, gate, tmp_path):
        rules = policy(tmp_path, max_degradation="50%", not_run="warn")
        done = gate({"en": 0.0, "tr": 0.0}, "--policy", rules)
        assert done.returncode == 0
        assert lines(done, "NOT-RUN sw:")
        assert "verdict: NOT-RUN" in done.stdout
        assert gate({"en": 0.0, "tr": 0.0}, "--policy", rules, "--strict").returncode == 4

    def test_nan_that_somebody_wrote_into_the_file_is_refused(self, gate, tmp_path):
        file = write_candidate(tmp_path, GOOD)
        content = json.loads(file.read_text(encoding="utf-8"))
        content["languages"]["sw"]["loss"] = math.nan
        file.write_text(json.dumps(content), encoding="utf-8")
        assert "NaN" in error(gate("new.json", "--max-degradation", "50%"))


class TestPolicies:
    def test_waiver_lets_through_and_stays_visible(self, gate, tmp_path):
        rules = policy(tmp_path, max_degradation="5%", waivers=[waiver()])
        done = gate(BAD, "--policy", rules, "--date", "2027-01-31")
        assert done.returncode == 0, done.stdout
        assert "Swahili (waived)" in done.stdout
        assert "waived until 2027-01-31 by quantization team (QUANT-12)" in done.stdout

    def test_expired_waiver_fails_even_what_would_pass(self, gate, tmp_path):  # faults row 64
        rules = policy(tmp_path, max_degradation="5%", waivers=[waiver()])
        for harms in (BAD, GOOD):
            done = gate(harms, "--policy", rules, "--date", "2027-02-01")
            assert done.returncode == 3
            assert any("ended on 2027-01-31" in line for line in lines(done, "FAIL sw:"))

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"language": "xx"}, "'xx'"),
            ({"reason": None}, "reason"),
            ({"reason": ""}, "reason"),
            ({"expires": "soon"}, "not a day"),
        ],
    )
    def test_incomplete_waiver_exits_2_with_its_line(self, gate, tmp_path, change, message):  # faults row 64
        entry = {key: value for key, value in waiver(**change).items() if value is not None}
        text = error(gate(GOOD, "--policy", policy(tmp_path, max_degradation="5%", waivers=[entry])))
        assert message in text
        assert "policy.yaml:" in text

    def test_only_the_named_baseline_is_accepted(self, gate, tmp_path):
        wanted = read_evaluation(tmp_path / "float.json").id
        assert gate(GOOD, "--policy", policy(tmp_path, max_degradation="5%", baseline_id=wanted)).returncode == 0
        message = error(gate(GOOD, "--policy", policy(tmp_path, max_degradation="5%", baseline_id="0" * 64)), 5)
        assert wanted in message
        assert "0" * 64 in message

    def test_ratchet_against_the_previous_release(self, gate, tmp_path):
        rules = policy(tmp_path, max_degradation="50%", max_regression="2%")
        write_candidate(tmp_path, GOOD, "previous.json")
        done = gate(BAD, "--policy", rules, "--previous", "previous.json")
        assert done.returncode == 3
        assert any("max_regression 2%" in line for line in lines(done, "FAIL sw:"))
        assert gate(GOOD, "--policy", rules, "--previous", "previous.json").returncode == 0
        forgotten = gate(GOOD, "--policy", rules)
        assert forgotten.returncode == 3
        assert "give --previous" in forgotten.stdout

    def test_warnings_do_not_fail(self, gate, tmp_path):
        rules = policy(tmp_path, max_degradation="5%", languages={"sw": {"severity": "warn"}})
        done = gate(BAD, "--policy", rules)
        assert done.returncode == 0
        assert lines(done, "WARN sw:")

    def test_explain_and_validate_need_no_candidate(self, main):
        file = ROOT / "yaml" / "gate_policy.yaml"
        explained = main("gate", "--explain", "--policy", file, "--date", "2027-02-01")
        assert explained.returncode == 0, explained.stderr
        assert "tr: EXPIRED" in explained.stdout
        assert "sw (Swahili): degradation at most 4%, from group low-resource" in explained.stdout
        valid = main("gate", "--validate", file)
        assert (valid.returncode, valid.stdout) == (0, f"{file}: valid\n")
        assert "nothing to judge by" in error(main("gate", "--explain"))
        assert "different things" in error(main("gate", "--explain", "--validate", file))

    def test_validate_says_what_is_wrong_and_where(self, main, tmp_path):
        file = tmp_path / "policy.yaml"
        file.write_text("version: 1\nmax_degradation: 5%\nmax_dispariyt: 3%\n", encoding="utf-8")
        message = error(main("gate", "--validate", file))
        assert "policy.yaml:3" in message
        assert "max_disparity" in message

    @pytest.mark.slow
    def test_self_test_tells_its_rates(self, main):
        done = main("gate", "--self-test")
        assert done.returncode == 0, done.stdout
        assert "false passes; 5% at most" in done.stdout
        assert "sw harmed by three margins: 100.0% FAIL and name it" in done.stdout
        assert done.stdout.endswith("self-test passed\n")


class TestOtherTools:
    TASKS: ClassVar = {
        "tinyqa_{language}": {"metric": "acc", "max_degradation": "2pp"},
        "tinygen_{language}": {"metric": "exact_match,strict-match", "max_degradation": "2pp"},
        "tinytext_{language}": {"metric": "bits_per_byte", "higher_is_better": False},
    }

    def judge(self, gate, tmp_path, tasks, *more):
        rules = policy(tmp_path, max_degradation="5%", min_sentences=5, tasks=tasks)
        return gate(LM_EVAL / "tiny-ternary", "--policy", rules, *more, baseline=LM_EVAL / "tiny-float")

    def test_lm_eval_results_are_judged_by_task_and_language(self, gate, tmp_path):
        done = self.judge(gate, tmp_path, self.TASKS, "--json", "gate.json")
        assert done.returncode in (0, 3), done.stderr
        checks = {check["id"]: check for check in json.loads((tmp_path / "gate.json").read_text())["checks"]}
        for tag in ("en", "sw"):
            assert f"max_degradation/{tag}" in checks
            task = checks[f"max_degradation:tinyqa_{{language}}/{tag}"]
            assert task["unit"] == "pp"
            assert "on tinyqa_{language}" in task["reason"]

    def test_tasks_that_no_pattern_tells_the_language_of_are_listed(self, gate, tmp_path):
        tasks = {key: rule for key, rule in self.TASKS.items() if "tinygen" not in key}
        message = error(self.judge(gate, tmp_path, tasks))
        assert "'tinygen_swh_Latn', 'tinygen_eng_Latn'" in message
        assert "tinyqa" not in message

    def test_csv_with_one_value_a_language_says_that_no_interval_is_known(self, gate, tmp_path):
        (tmp_path / "float.csv").write_text("language,perplexity\nen,10\nsw,20\n", encoding="utf-8")
        (tmp_path / "new.csv").write_text("language,perplexity\nen,10.1\nsw,25\n", encoding="utf-8")
        done = gate("new.csv", "--max-degradation", "5%", "--html", "gate.html", baseline="float.csv")
        assert done.returncode == 3, done.stderr
        assert lines(done, "FAIL sw: relative perplexity +25%")[0].endswith("(one value, no interval is known)")
        assert "no interval is known" in (tmp_path / "gate.html").read_text(encoding="utf-8")
        assert gate("new.csv", "--max-degradation", "30%", baseline="float.csv").returncode == 0

    @pytest.mark.parametrize("kind", ["csv", "lm_eval"])
    def test_results_of_two_tools_cannot_be_paired(self, gate, tmp_path, kind):
        (tmp_path / "float.csv").write_text("language,perplexity\nen,10\nsw,20\ntr,20\n", encoding="utf-8")
        baseline = "float.csv" if kind == "csv" else LM_EVAL / "tiny-float"
        rules = policy(tmp_path, max_degradation="5%", tasks=self.TASKS)
        message = error(gate(GOOD, "--policy", rules, baseline=baseline), 5)
        assert "new.json sentence by sentence, so they cannot be paired" in message
        assert str(baseline) in message


class TestReports:
    def test_gating_twice_writes_the_same_bytes(self, gate, tmp_path):
        rules = policy(tmp_path, max_degradation="5%", max_disparity="8%")
        first, second = outputs(tmp_path, "first"), outputs(tmp_path, "second")
        for paths in (first, second):
            assert gate(BAD, "--policy", rules, *options(paths)).returncode == 3
        for kind in first:
            texts = [without_time(path) for path in (first[kind], second[kind])]
            assert texts[0] == texts[1], kind

    def test_report_writes_what_the_gate_wrote(self, gate, main, tmp_path):
        made, again = outputs(tmp_path, "gate"), outputs(tmp_path, "again")
        judged = gate(BAD, "--max-degradation", "5%", *options(made))
        done = main("report", made["json"], *options(again))
        assert done.returncode == 0, done.stderr
        for kind in made:
            assert made[kind].read_bytes() == again[kind].read_bytes(), kind
        printed = [text.stdout.split("Written:")[0] for text in (judged, done)]
        assert printed[0] == printed[1]

    def test_every_format_has_the_same_figures(self, gate, tmp_path):
        paths = outputs(tmp_path)
        gate(BAD, "--max-degradation", "5%", "--max-disparity", "8%", *options(paths))
        texts = {kind: path.read_text(encoding="utf-8") for kind, path in paths.items()}
        document = json.loads(texts["json"])
        rows = {row["tag"]: row for row in csv.DictReader(io.StringIO(texts["csv"], newline=""))}
        cases = ElementTree.fromstring(texts["junit"]).iter("testcase")
        junit = {(case.get("classname"), case.get("name")): case for case in cases}
        checks = {(check["kind"], check["language"]): check for check in document["checks"]}
        found = {result["properties"]["language"]: result for result in json.loads(texts["sarif"])["runs"][0]["results"]
                 if result["ruleId"] == "max_degradation"}  # fmt: skip
        for tag, entry in document["languages"].items():
            row, check = rows[tag], checks["max_degradation", tag]
            for key in ("degradation", "low", "high", "relative_perplexity", "loss", "baseline_loss", "perplexity"):
                assert float(row[key]) == entry[key], (tag, key)
            assert check["value"] == entry["relative_perplexity"]
            assert float(row["limit_value"]) == check["limit_value"] == 0.05
            relative = f"{100 * entry['relative_perplexity']:+.2f}%"
            millinats = f"{1000 * entry['degradation']:+.2f}"
            name = f"{entry['name']} ({tag})"
            facts = {p.get("name"): p.get("value") for p in junit["max_degradation", name].iter("property")}
            assert (facts["value"], facts["limit"], facts["verdict"]) == (relative, "5%", entry["verdict"])
            for kind in ("markdown", "summary"):
                rows_of = [line for line in texts[kind].splitlines() if line.startswith(f"| {name}")]
                assert any(millinats in line and relative in line for line in rows_of)
            assert millinats in texts["html"].replace("&#43;", "+")
            assert f"value: {entry['degradation']!r}" in texts["model-card"]
            if entry["verdict"] == "FAIL":
                assert found[tag]["properties"]["value"] == check["value"]
        assert [tag for tag, entry in document["languages"].items() if entry["verdict"] == "FAIL"] == ["sw"]
        assert document["disparity"] == pytest.approx(
            document["languages"]["sw"]["degradation"] - document["languages"]["en"]["degradation"]
        )

    @pytest.mark.parametrize("kind", ["json", "html", "sarif"])
    @pytest.mark.parametrize("place", ["no/such/folder/gate", "folder"])
    def test_unwritable_report_is_refused_before_any_work(self, gate, main, tmp_path, kind, place):
        (tmp_path / "folder").mkdir()
        write_candidate(tmp_path, GOOD)
        before = sorted(path.name for path in tmp_path.iterdir())
        given = ["--max-degradation", "5%", "--csv", "gate.csv", f"--{kind}", place]
        # The candidate is never read: that it is not there would be an error of its own.
        assert Path(place).name in error(gate("none.json", *given), 1)
        assert sorted(path.name for path in tmp_path.iterdir()) == before
        gate(GOOD, "--max-degradation", "5%", "--json", "stored.json")
        assert Path(place).name in error(main("report", "stored.json", "--csv", "gate.csv", f"--{kind}", place), 1)
        assert not (tmp_path / "gate.csv").exists()

    @pytest.mark.parametrize(
        "given",
        [["--json", "new.json"], ["--html", "float.json"], ["--csv", "policy.yaml"], ["--csv", "x", "--html", "./x"]],
        ids=" ".join,
    )
    def test_report_never_overwrites_an_input_or_another_report(self, gate, tmp_path, given):
        rules = policy(tmp_path, max_degradation="5%")
        write_candidate(tmp_path, GOOD)
        before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
        assert "would overwrite" in error(gate("new.json", "--policy", rules, *given))
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before

    def test_report_of_one_models_results_is_only_shown(self, main, tmp_path):
        file = write_baseline(tmp_path)
        done = main("report", file)
        assert done.returncode == 0, done.stderr
        assert "Swahili" in done.stdout
        assert "no verdict" in error(main("report", file, "--html", tmp_path / "x.html"))

    @pytest.mark.parametrize("content", ["", "[]", "{}", '{"schema": "other/1"}'])
    def test_report_refuses_what_is_no_record(self, main, tmp_path, content):
        (tmp_path / "x.json").write_text(content, encoding="utf-8")
        error(main("report", tmp_path / "x.json", "--html", tmp_path / "x.html"))
        assert not (tmp_path / "x.html").exists()

    @pytest.mark.parametrize(
        "name",
        ["<script>alert(1)</script>", "=cmd|' /C calc'!A0", "a|b`c`](x)", "::error::owned", "]]>&amp;", "a\x1b[2Jb\x07",
         "two\nlines\r", "\u202egnp.exe", "../../etc/passwd", "{{ 7 * 7 }}", "n" * 5000],
        ids=["html", "formula", "markdown", "workflow", "xml", "escape", "lines", "bidi", "path", "template", "long"],
    )  # fmt: skip
    def test_hostile_model_names_stay_text(self, gate, tmp_path, monkeypatch, name):  # faults row 65
        monkeypatch.setenv("GITHUB_ACTIONS", "true")
        paths = outputs(tmp_path)
        write_candidate(tmp_path, BAD, model={"name": name, "sha256": "a" * 64, "kind": "quantized"})
        done = gate("new.json", "--max-degradation", "5%", *options(paths))
        assert done.returncode == 3, done.stderr
        texts = {kind: path.read_text(encoding="utf-8") for kind, path in paths.items()}
        ElementTree.fromstring(texts["junit"])
        json.loads(texts["sarif"])
        assert json.loads(texts["json"])["candidate"]["name"] == name
        assert "<script>alert" not in texts["html"] + texts["markdown"] + texts["summary"]
        assert not any(line.startswith("=cmd") for line in texts["csv"].splitlines())
        assert not any(character in done.stdout for character in "\x1b\x07\r\u202e")
        assert not any(line.startswith("::error::owned") for line in done.stdout.splitlines())
        assert "49" not in texts["html"].split("<title>")[1].split("</title>")[0]


def without_time(path: Path) -> str:
    return re.sub(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", "(time)", path.read_text(encoding="utf-8"))


class TestEnvironment:
    def test_annotations_are_at_most_ten(self, main, tmp_path, monkeypatch):
        monkeypatch.setenv("GITHUB_ACTIONS", "true")
        tags = [
            "ar",
            "de",
            "el",
            "en",
            "es",
            "eu",
            "fi",
            "fr",
            "hi",
            "id",
            "ja",
            "km",
            "ko",
            "ru",
            "sw",
            "tr",
            "vi",
            "zh",
        ]
        write_baseline(tmp_path, tags)
        write_candidate(tmp_path, dict.fromkeys(tags, 0.2))
        rules = policy(tmp_path, max_degradation="5%")
        done = main("gate", "new.json", "--baseline", "float.json", "--policy", rules, cwd=tmp_path)
        assert done.returncode == 3
        commands = lines(done, "::")
        assert len(commands) == 10
        assert all(line.startswith(("::error ", "::warning ", "::notice ")) for line in commands)
        assert "file=" in commands[0]
        assert ",line=1," in commands[0]
        assert "9 more findings" in commands[-1]

    def test_no_annotation_outside_of_ci(self, gate):
        assert not lines(gate(BAD, "--max-degradation", "5%"), "::")

    def test_step_summary_is_added_to(self, gate, tmp_path, monkeypatch):
        file = tmp_path / "step.md"
        file.write_text("earlier step\n", encoding="utf-8")
        monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(file))
        gate(BAD, "--max-degradation", "5%", "--summary", file)
        gate(GOOD, "--max-degradation", "5%", "--summary", file)
        text = file.read_text(encoding="utf-8")
        assert text.startswith("earlier step\n")
        assert text.index("## FAIL") < text.index("## PASS")
        gate(GOOD, "--max-degradation", "5%", "--summary", tmp_path / "own.md")
        assert (tmp_path / "own.md").read_text(encoding="utf-8").startswith("## PASS")

    def test_reports_do_not_depend_on_the_machine(self, gate, tmp_path):  # faults row 66
        rules = policy(tmp_path, max_degradation="5%", max_disparity="8%", languages={"tr": "4%"})
        names = {"name": "modèle 模型 نموذج", "sha256": "a" * 64, "kind": "quantized"}
        write_candidate(tmp_path, BAD, model=names)
        here, there = outputs(tmp_path, "here"), outputs(tmp_path, "there")
        assert gate("new.json", "--policy", rules.name, "--date", "2027-01-01", *options(here)).returncode == 3
        environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith("LC_")},
            "PYTHONHASHSEED": "4711", "LC_ALL": "C", "LANG": "C", "TZ": "Pacific/Kiritimati", "OMP_NUM_THREADS": "2",
            "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii",
        }  # fmt: skip
        command = ["gate", "new.json", "--baseline", "float.json", "--policy", rules.name, "--date", "2027-01-01"]
        done = subprocess.run(
            [sys.executable, "-m", "inc_laaciq.cli", *command, *options(there)],
            capture_output=True, check=False, cwd=tmp_path, env=environment,
        )  # fmt: skip
        assert done.returncode == 3, done.stderr
        assert done.stdout.isascii()
        assert b"FAIL sw: relative perplexity" in done.stdout
        for kind in here:
            assert without_time(here[kind]) == without_time(there[kind]), kind

    def test_gate_imports_neither_torch_nor_transformers(self, tmp_path):
        write_baseline(tmp_path)
        write_candidate(tmp_path, GOOD)
        code = (
            "import sys\nfrom inc_laaciq import cli\n"
            "sys.argv = ['inc-laaciq', 'gate', 'new.json', '--baseline', 'float.json', '--max-degradation', '5%',"
            " '--html', 'x.html', '--json', 'x.json']\n"
            "try:\n    cli.main()\nexcept SystemExit as stopped:\n    assert stopped.code == 0\n"
            "heavy = {'torch', 'transformers', 'neural_compressor', 'scipy.stats', 'datasets'} & set(sys.modules)\n"
            "assert not heavy, heavy\n"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path)
        assert done.returncode == 0, done.stderr

    def test_damaged_results_name_the_file(self, gate, tmp_path):
        write_candidate(tmp_path, GOOD)
        content = (tmp_path / "new.json").read_bytes()
        (tmp_path / "cut.json").write_bytes(content[: len(content) // 2])
        assert "cut.json" in error(gate("cut.json", "--max-degradation", "5%"))
        changed = json.loads(content)
        changed["languages"]["sw"]["tokens"] += 1
        (tmp_path / "tampered.json").write_text(json.dumps(changed), encoding="utf-8")
        assert "language 'sw': tokens" in error(gate("tampered.json", "--max-degradation", "5%"))


def test_a_candidate_is_not_its_own_baseline(main, tmp_path):
    file = tmp_path / "a.csv"
    file.write_text("language,loss\nen,3.0\nsw,4.0\n", encoding="utf-8")
    link = tmp_path / "b.csv"
    link.symlink_to(file)
    for baseline in (file, link):
        done = main("gate", file, "--baseline", baseline, "--max-degradation", "5%")
        assert "its own baseline" in error(done, 5)
    copied = tmp_path / "c.csv"
    copied.write_bytes(file.read_bytes())
    assert main("gate", file, "--baseline", copied, "--max-degradation", "5%").returncode == 0


@pytest.mark.parametrize(
    ("harms", "keys", "options", "code"),
    [
        (UNSURE, {"inconclusive": "fail"}, (), 3),
        (UNSURE, {"inconclusive": "warn"}, (), 0),
        (UNSURE, {"inconclusive": "warn"}, ("--strict",), 4),
        (GOOD, {"required_languages": ["yo"], "not_run": "fail"}, (), 3),
        (GOOD, {"required_languages": ["yo"], "not_run": "warn"}, (), 0),
        (GOOD, {"required_languages": ["yo"], "not_run": "warn"}, ("--strict",), 4),
    ],
    ids=["doubt fails", "doubt warns", "doubt and strict", "absence fails", "absence warns", "absence and strict"],
)
def test_reports_fail_where_the_command_does(gate, main, tmp_path, monkeypatch, harms, keys, options, code):
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    rules = policy(tmp_path, max_degradation="5%", **keys)
    files = {kind: tmp_path / f"gate.{kind}" for kind in ("junit", "sarif", "json")}
    done = gate(harms, "--policy", rules, *options, *(word for kind in files for word in (f"--{kind}", files[kind])))
    assert done.returncode == code
    fails = code != 0
    assert ("::error" in done.stdout) == fails
    assert fails or "::warning" in done.stdout
    again = {kind: tmp_path / f"again.{kind}" for kind in ("junit", "sarif")}
    assert main("report", files["json"], "--junit", again["junit"], "--sarif", again["sarif"]).returncode == 0
    for junit, sarif in ((files["junit"], files["sarif"]), (again["junit"], again["sarif"])):
        gate_case = ElementTree.parse(junit).getroot().find("testsuite[@name='gate']/testcase")
        assert (gate_case.find("failure") is not None) == fails
        results = json.loads(sarif.read_text(encoding="utf-8"))["runs"][0]["results"]
        assert ("error" in {result["level"] for result in results}) == fails
