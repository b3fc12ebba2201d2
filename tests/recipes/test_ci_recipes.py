"""The CI recipes are run as a CI server would run them: their own lines, by bash, with its variables."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml
from gate_files import write_results

from inc_laaciq.config.policy_file import read_policy
from inc_laaciq.evaluation.losses import SentenceLosses
from inc_laaciq.evaluation.read import read_evaluation

ROOT = Path(__file__).parents[2]
RECIPES = ROOT / "recipes" / "ci"
MODEL = ROOT / "recipes" / "small_bloom" / "model"
TEXT = ROOT / "recipes" / "small_bloom" / "text" / "evaluation"
LANGUAGES = ("en", "fi", "hi")
HARMED = "fi"

GITHUB = yaml.safe_load((RECIPES / "github-actions.yml").read_text(encoding="utf-8"))
GITLAB = yaml.safe_load((RECIPES / "gitlab-ci.yml").read_text(encoding="utf-8"))
STEPS = {step["name"]: step for step in GITHUB["jobs"]["gate"]["steps"] if "name" in step}


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A repository with a model and forty sentences a language, and results that its first pipeline made."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "ci" / "texts").mkdir(parents=True)
    shutil.copy(RECIPES / "policy.yaml", folder / "ci" / "policy.yaml")
    for tag in LANGUAGES:
        lines = [line for line in (TEXT / f"{tag}.txt").read_text(encoding="utf-8").splitlines() if line][:40]
        (folder / "ci" / "texts" / f"{tag}.txt").write_text("\n\n".join(lines) + "\n", encoding="utf-8")
    (folder / "model").mkdir()
    (folder / "model" / "quantized").symlink_to(MODEL)
    done = bash(STEPS["Evaluate"]["run"], folder, GITHUB["env"])
    assert done.returncode == 0, done.stderr
    shutil.copy(folder / "results.json", folder / "ci" / "baseline.json")
    return folder


@pytest.fixture
def good(project):
    """The candidate is what the baseline is."""
    shutil.copy(project / "ci" / "baseline.json", project / "results.json")
    return project


@pytest.fixture
def sabotaged(project):
    """One language loses a tenth of a nat a token."""
    stored = read_evaluation(project / "ci" / "baseline.json")
    losses = {
        tag: SentenceLosses(
            tag=tag,
            loss=old.loss + (0.1 * old.tokens if tag == HARMED else 0.0),
            tokens=old.tokens,
            n_bytes=old.n_bytes,
            document=old.document,
            text_sha256=old.text_sha256,
        )
        for tag, old in stored.losses.items()
    }
    write_results(project / "results.json", losses, model=dict(stored.model), tokenizer=stored.tokenizer["sha256"])
    return project


def bash(script, folder, variables):
    """Run lines as both servers do: the first that fails ends the job."""
    environment = {
        key: value for key, value in os.environ.items() if not key.startswith(("GITHUB_", "CI_")) and key != "CI"
    }
    environment |= {key: value for key, value in variables.items() if not key.startswith("PIP_")}
    environment |= {"PATH": f"{Path(sys.executable).parent}:{environment['PATH']}", "HF_HUB_OFFLINE": "1"}
    return subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script],
        capture_output=True, text=True, check=False, cwd=folder, env=environment,
    )  # fmt: skip


def github(folder):
    """The steps of the workflow that are neither installation, evaluation nor upload."""
    summary = folder / "summary.md"
    summary.unlink(missing_ok=True)
    variables = {**GITHUB["env"], "CI": "true", "GITHUB_ACTIONS": "true", "GITHUB_STEP_SUMMARY": str(summary)}
    for name in ("Check the policy and the gate", "Gate"):
        done = bash(STEPS[name]["run"], folder, variables)
        if done.returncode:
            break
    return done


def gitlab(folder):
    return bash("\n".join(GITLAB["gate-languages"]["script"]), folder, {**GITLAB["variables"], "CI": "true"})


def test_github_passes_a_good_candidate(good):
    done = github(good)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "verdict: PASS" in done.stdout
    assert (good / "summary.md").read_text(encoding="utf-8").startswith("## PASS")


def test_github_fails_a_sabotaged_candidate_and_marks_the_policy(sabotaged):
    done = github(sabotaged)
    assert done.returncode == 3, done.stdout + done.stderr
    assert re.search(rf"^FAIL {HARMED}: ", done.stdout, flags=re.MULTILINE)
    assert re.search(r"^::error file=ci/policy.yaml,line=6,", done.stdout, flags=re.MULTILINE)
    assert (sabotaged / "summary.md").read_text(encoding="utf-8").startswith("## FAIL")
    for step in STEPS.values():  # what the last steps upload is there, though the gate has failed
        given = step.get("with", {})
        for name in (given.get("path") or given.get("sarif_file") or "").split():
            assert (sabotaged / name).stat().st_size > 0
    sarif = json.loads((sabotaged / "gate.sarif").read_text(encoding="utf-8"))
    assert any(result["level"] == "error" for result in sarif["runs"][0]["results"])


def test_github_pins_versions_asks_for_little_and_uploads_after_a_failure():
    steps = GITHUB["jobs"]["gate"]["steps"]
    used = [step["uses"] for step in steps if "uses" in step]
    assert all(re.fullmatch(r"[\w-]+/[\w/-]+@v\d+", name) for name in used)
    assert "secrets." not in (RECIPES / "github-actions.yml").read_text(encoding="utf-8")
    assert GITHUB["permissions"] == {"contents": "read", "security-events": "write"}
    names = [step.get("name") for step in steps]
    assert all("!cancelled()" in step["if"] for step in steps[names.index("Gate") + 1 :])


def test_gitlab_passes_and_fails_and_reports_tests(good, project):
    done = gitlab(good)
    assert done.returncode == 0, done.stdout + done.stderr
    artifacts = GITLAB["gate-languages"]["artifacts"]
    for name in (artifacts["reports"]["junit"], *artifacts["paths"]):
        assert (project / name).stat().st_size > 0


def test_gitlab_fails_a_sabotaged_candidate(sabotaged):
    done = gitlab(sabotaged)
    assert done.returncode == 3, done.stdout + done.stderr
    root = ElementTree.parse(sabotaged / "gate.xml").getroot()
    failed = {case.get("name") for case in root.iter("testcase") if case.find("failure") is not None}
    assert "Finnish (fi)" in failed
    assert "English (en)" not in failed


def test_gitlab_evaluates_as_github_does():
    job = GITLAB["evaluate-languages"]
    assert job["script"] == [STEPS["Evaluate"]["run"]]
    assert job["artifacts"]["paths"] == ["results.json"]
    assert GITLAB["gate-languages"]["needs"] == ["evaluate-languages"]
    assert GITLAB["variables"] == GITHUB["env"]
    assert GITLAB["gate-languages"]["allow_failure"] == {"exit_codes": [4]}


def test_pre_merge_script_evaluates_and_gates(project):
    done = bash(f"sh {RECIPES / 'pre-merge.sh'} model/quantized out", project, {})
    assert done.returncode == 0, done.stdout + done.stderr
    assert {path.name for path in (project / "out").iterdir()} == {"results.json", "gate.html", "gate.json"}


def test_pre_merge_script_fails_a_sabotaged_candidate(sabotaged):
    done = bash(f"{RECIPES / 'pre-merge.sh'} results.json", sabotaged, {})
    assert done.returncode == 3, done.stdout + done.stderr
    assert re.search(rf"^FAIL {HARMED}: ", done.stdout, flags=re.MULTILINE)
    assert (sabotaged / "gate-reports" / "gate.html").is_file()
    missing = bash(f"{RECIPES / 'pre-merge.sh'} results.json", sabotaged, {"BASELINE": "ci/none.json"})
    assert missing.returncode == 2
    assert "none.json" in missing.stderr
    assert bash(f"{RECIPES / 'pre-merge.sh'}", sabotaged, {}).returncode == 2


def test_policy_says_what_the_recipes_need():
    policy = read_policy(RECIPES / "policy.yaml")
    assert policy.required_languages == LANGUAGES
    assert len((RECIPES / "policy.yaml").read_text(encoding="utf-8").splitlines()) == 8
