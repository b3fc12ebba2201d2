"""The README keeps its word: its Python runs, its yaml loads, its tables are what the JSON files say."""

from __future__ import annotations

import re
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import yaml

from inc_laaciq.config import run_spec

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def snippets(language):
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


@pytest.mark.inc
def test_python_runs_as_it_is(monkeypatch, capsys):
    pytest.importorskip("neural_compressor.quantization", exc_type=ImportError)
    monkeypatch.chdir(ROOT)
    [snippet] = snippets("python")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exec(compile(snippet, "README.md", "exec"), {})  # our own file
    assert "16 layers quantized" in capsys.readouterr().out
    for left in ROOT.glob("nc_workspace"):
        assert left.is_dir()


def test_yaml_loads(tmp_path):
    [snippet] = snippets("yaml")
    run = run_spec(yaml.safe_load(snippet), folder=tmp_path)
    assert run.la_aciq.gate is not None
    assert run.weight.group_size == 64


def test_tables_are_what_the_results_say():
    done = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / "render.py", "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_first_screen_is_the_two_commands():
    first = README.index("```sh")
    assert README[first:].startswith("```sh\nmake demo")
    assert "pip install" not in README[:first]


@pytest.mark.parametrize("path", sorted(set(re.findall(r"\]\(((?!http)[^)#]+)\)", README))))
def test_links_lead_somewhere(path):
    assert (ROOT / path).exists()
