"""The README keeps its word: its Python runs, its yaml loads, its tables are what the JSON files say."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import yaml

from inc_laaciq import errors
from inc_laaciq.backends.inc_api import is_available
from inc_laaciq.config import read_policy, run_spec
from inc_laaciq.evaluation.gate import EXIT_FAILED, EXIT_INCONCLUSIVE

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def snippets(language):
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


@pytest.mark.inc
@pytest.mark.parametrize(
    ("number", "api", "printed"),
    [
        (1, "adaptor", "16 layers quantized"),
        (2, "adaptor", "PASS"),
        (3, "torch", "PASS LAACIQConfig(bits=3, group_size=64, mode='fast')"),
    ],
)
def test_python_runs_as_it_is(number, api, printed, monkeypatch, capsys):
    if not is_available(api):
        pytest.skip(f"no {api} API in this Neural Compressor")
    monkeypatch.chdir(ROOT)
    snippet = snippets("python")[number]
    assert len(snippets("python")) == 4
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exec(compile(snippet, "README.md", "exec"), {})  # our own file
    assert printed in capsys.readouterr().out
    for left in ROOT.glob("nc_workspace"):
        assert left.is_dir()


@pytest.mark.openvino
def test_export_runs_as_it_is(tmp_path, monkeypatch, capsys):
    pytest.importorskip("optimum.intel.openvino", exc_type=ImportError)
    (tmp_path / "recipes").symlink_to(ROOT / "recipes")
    monkeypatch.chdir(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exec(compile(snippets("python")[0], "README.md", "exec"), {})  # our own file
    assert "NOT-RUN Valitse" in capsys.readouterr().out


def test_yaml_loads(tmp_path):
    configuration, policy, tasks = snippets("yaml")
    run = run_spec(yaml.safe_load(configuration), folder=tmp_path)
    assert run.la_aciq.gate is not None
    assert run.weight.group_size == 64
    assert policy == (ROOT / "recipes" / "ci" / "policy.yaml").read_text(encoding="utf-8")
    (tmp_path / "tasks.yaml").write_text(tasks, encoding="utf-8")
    [task] = read_policy(tmp_path / "tasks.yaml").tasks
    assert (task.pattern, task.max_degradation.unit) == ("belebele_{language}", "pp")


@pytest.fixture
def ci_folder(tmp_path, monkeypatch):
    """The files that the section on CI names."""
    for name in ("GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "recipes").symlink_to(ROOT / "recipes")
    (tmp_path / "float.csv").write_text("language,perplexity\nen,10\nsw,20\n", encoding="utf-8")
    (tmp_path / "new.csv").write_text("language,perplexity\nen,10.1\nsw,20.2\n", encoding="utf-8")
    stored = ROOT / "tests" / "evaluation" / "data" / "lm_eval"
    (tmp_path / "lm_eval").mkdir()
    (tmp_path / "lm_eval" / "float").symlink_to(stored / "tiny-float")
    (tmp_path / "lm_eval" / "new").symlink_to(stored / "tiny-ternary")
    text = """version: 1
tasks:
  "tinyqa_{language}": {metric: acc, max_degradation: 2pp}
  "tinygen_{language}": {metric: "exact_match,strict-match", max_degradation: 2pp}
  "tinytext_{language}": {metric: bits_per_byte, higher_is_better: false}
"""
    (tmp_path / "tasks.yaml").write_text(text, encoding="utf-8")
    return tmp_path


COMMANDS = [line for block in snippets("sh") for line in block.splitlines() if line.startswith("inc-laaciq gate")]


# `--self-test` takes long, and tests/test_gate_command.py runs it.
@pytest.mark.parametrize("line", [line for line in COMMANDS if "--self-test" not in line])
def test_gate_commands_run(main, ci_folder, line):
    words = shlex.split(line, comments=True)[1:]
    done = main(*words, cwd=ci_folder)
    assert done.returncode == (3 if "recipes/ci/example" in words else 0), done.stdout + done.stderr
    if "--html" in words:
        assert (ci_folder / "gate.html").is_file()


def test_every_exit_code_is_listed():
    codes = {cls.exit_code for cls in vars(errors).values() if isinstance(cls, type) and issubclass(cls, Exception)}
    [listed] = re.findall(r"^Exit codes: (.*?)\.", README, flags=re.MULTILINE)
    found = {int(part.split()[0]) for part in listed.split(", ")}
    assert codes | {0, EXIT_FAILED, EXIT_INCONCLUSIVE, 130, 143} == found


def test_tables_are_what_the_results_say():
    done = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / "render.py", "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_first_screen_is_the_two_commands():
    first = README.index("```sh")
    assert README[first:].startswith("```sh\nmake demo")
    assert "pip install" not in README[:first]


PAGES = sorted(
    path.relative_to(ROOT) for pattern in ("*.md", "benchmarks/*.md", "recipes/*/*.md") for path in ROOT.glob(pattern)
)
LINKS = [
    (page, link) for page in PAGES for link in re.findall(r"\]\(((?!http)[^)]+)\)", (ROOT / page).read_text("utf-8"))
]


@pytest.mark.parametrize(("page", "link"), sorted(set(LINKS)), ids=str)
def test_links_lead_somewhere(page, link):
    path, _, anchor = link.partition("#")
    target = (ROOT / page).parent / path if path else ROOT / page
    assert target.exists()
    if anchor:
        prose = re.sub(r"^```.*?^```$", "", target.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
        headings = re.findall(r"^#+ (.*)$", prose, flags=re.MULTILINE)
        assert anchor in {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
