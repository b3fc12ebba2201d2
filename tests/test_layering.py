"""Arrows point down only: maths knows no framework of quantization, backends hold no maths, reports know neither."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import inc_laaciq

PACKAGE = Path(inc_laaciq.__file__).parent

# What the files of a folder may import from the package; errors is open to all.
ALLOWED = {
    "quant": {"quant"},
    "config": {"config", "languages"},
    "checkpoint": {"checkpoint", "output", "memory"},
    "calibration": {"calibration", "quant", "config", "languages"},
    "assessment": {"assessment", "evaluation", "fair", "calibration", "quant", "config", "languages", "memory"},
    "sweeping": {"sweeping", "assessment", "layerwise", "evaluation", "calibration", "quant", "config", "checkpoint"}
    | {"languages", "memory", "output", "planning"},
    "fair": {"fair", "calibration", "quant", "config", "memory"},
    "evaluation": {"evaluation", "calibration", "config", "checkpoint", "languages"},
    "report": {"report", "planning", "languages", "evaluation", "output"},
    "tuning": {"tuning", "layerwise", "evaluation", "calibration", "quant", "config", "languages"},
    "backends": {"backends", "tuning", "layerwise", "calibration", "quant", "config", "checkpoint", "export_format"}
    | {"output"},
}
FOREIGN = ("neural_compressor", "openvino", "optimum", "nncf")
HEAVY = {"torch", "transformers", "datasets", "neural_compressor", "scipy"}


def imports(file: Path, *, top_level_only: bool = False) -> set[str]:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    nodes = tree.body if top_level_only else list(ast.walk(tree))
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


def files(folder: str) -> list[Path]:
    return sorted((PACKAGE / folder).rglob("*.py"))


@pytest.mark.parametrize("folder", ALLOWED)
def test_no_arrow_points_up(folder):
    wrong = []
    for file in files(folder):
        for name in imports(file):
            parts = name.split(".")
            if parts[0] == "inc_laaciq" and len(parts) > 1 and parts[1] not in ALLOWED[folder] | {"errors"}:
                wrong.append(f"{file.relative_to(PACKAGE)} imports {name}")
    assert not wrong


def test_only_backends_know_neural_compressor():
    wrong = [
        f"{file.relative_to(PACKAGE)} imports {name}"
        for file in PACKAGE.rglob("*.py")
        if file.parent.name != "backends"
        for name in imports(file)
        if name.startswith(FOREIGN)
    ]
    assert not wrong


def test_maths_has_no_files_and_no_logging():
    wrong = [
        f"{file.name} imports {name}"
        for file in files("quant")
        for name in imports(file)
        if name.split(".")[0] in {"logging", "pathlib", "os", "json", "transformers"}
    ]
    assert not wrong


@pytest.mark.parametrize(
    "name",
    [
        "__init__.py",
        "cli.py",
        "cli_gate.py",
        "cli_export.py",
        "openvino.py",
        "errors.py",
        "output/__init__.py",
        "provenance.py",
    ],
)
def test_nothing_heavy_is_imported_early(name):
    roots = {module.split(".")[0] for module in imports(PACKAGE / name, top_level_only=True)}
    assert not roots & HEAVY


def test_nobody_prints_or_exits_but_the_command_line():
    wrong = []
    for file in PACKAGE.rglob("*.py"):
        if file.name in ("cli.py", "cli_gate.py", "cli_export.py"):
            continue
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in {"print", "exit", "sys.exit", "os._exit"}:
                wrong.append(f"{file.relative_to(PACKAGE)}:{node.lineno}")
    assert not wrong


PICKLES = {"pickle", "dill", "marshal", "shelve", "cloudpickle", "joblib"}


def test_no_pickle_no_unsafe_yaml_no_asserts_on_input():
    wrong = []
    for file in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            where = f"{file.relative_to(PACKAGE)}:{getattr(node, 'lineno', 0)}"
            if isinstance(node, ast.Assert):
                wrong.append(f"{where} assert")
            named = {alias.name for alias in node.names} if isinstance(node, ast.Import) else set()
            named |= {node.module} if isinstance(node, ast.ImportFrom) else set()
            if named & PICKLES:
                wrong.append(f"{where} pickle")
            if isinstance(node, ast.keyword) and node.arg == "allow_pickle" and ast.unparse(node.value) == "True":
                wrong.append(f"{where} allow_pickle")
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load":
                safe = any(key.arg == "weights_only" and ast.unparse(key.value) == "True" for key in node.keywords)
                if not safe:
                    wrong.append(f"{where} torch.load without weights_only=True")
    assert not wrong
