"""Tiny seeded models of the architectures that are exported, what becomes of them, and a folder of text."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # read when huggingface_hub is imported
with warnings.catch_warnings():  # optimum-intel and what it imports warn while they are imported
    warnings.simplefilter("ignore")
    pytest.importorskip("openvino", exc_type=ImportError)
    pytest.importorskip("optimum.intel.openvino", exc_type=ImportError)

from tiny_exports import CHECKPOINTS, OPTIONS, Run, configuration
from tiny_models import ARCHITECTURES, train

from inc_laaciq.backends.openvino_export import export_float
from inc_laaciq.backends.openvino_ir import read_ir
from inc_laaciq.calibration.layers import linearize
from inc_laaciq.openvino import export

RECIPE = Path(__file__).parents[2] / "recipes" / "small_bloom"
LANGUAGES = ("en", "fi")


@pytest.fixture(autouse=True)
def _foreign_warnings():
    """Warnings of code that is not ours: OpenVINO's, optimum-intel's, torch's tracer's."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def write_texts(folder: Path, *, lines: int, width: int) -> Path:
    """Calibration and evaluation text in two languages, as beginnings of the lines that ship."""
    for split in ("calibration", "evaluation"):
        (folder / split).mkdir(parents=True)
        for tag in LANGUAGES:
            text = (RECIPE / "text" / split / f"{tag}.txt").read_text(encoding="utf-8").splitlines()
            kept = [line[:width] for line in text if len(line) >= width][:lines]
            (folder / split / f"{tag}.txt").write_text("\n".join(kept) + "\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def texts(tmp_path_factory):
    return write_texts(tmp_path_factory.mktemp("texts") / "texts", lines=100, width=40)


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory, bpe):
    """Give the folder of a model with a tokenizer; options are those of `save_pretrained`, and `dtype`."""
    made: dict[Any, Path] = {}

    def give(name: str, dtype: torch.dtype = torch.float32, **options: Any) -> Path:
        key = (name, dtype, *options.items())
        if key not in made:
            folder = tmp_path_factory.mktemp(f"model-{name}") / name
            ARCHITECTURES[name]().to(dtype).save_pretrained(folder, **options)
            bpe.save_pretrained(folder)
            made[key] = folder
        return made[key]

    return give


@pytest.fixture(scope="session")
def trained(tmp_path_factory, bpe):
    """Folder of a tiny model that has seen the calibration text: what its rounding costs is beyond chance."""
    folder = tmp_path_factory.mktemp("trained") / "model"
    rows = [
        ids[:32]
        for tag in LANGUAGES
        for line in (RECIPE / "text" / "calibration" / f"{tag}.txt").read_text(encoding="utf-8").splitlines()
        if len(ids := bpe(line[:60]).input_ids) >= 32
    ]
    train(ARCHITECTURES["llama"](), torch.tensor(rows)).save_pretrained(folder)
    bpe.save_pretrained(folder)
    return folder


@dataclass(frozen=True)
class FloatIR:
    """A model in PyTorch and, at `path`, in OpenVINO; and what it gave for `ids` before it was exported."""

    model: Any
    path: Path
    ids: torch.Tensor
    logits: torch.Tensor
    config: dict[str, Any]

    def read(self):
        return read_ir(self.path)


@pytest.fixture(scope="session")
def float_ir(tmp_path_factory, bpe):
    """Give a tiny model as optimum-intel exports it, once for each architecture; gpt2 without a cache."""
    made: dict[str, FloatIR] = {}

    def give(name: str) -> FloatIR:
        if name not in made:
            model, ids = linearize(ARCHITECTURES[name]()), torch.arange(2, 12)[None]
            with torch.inference_mode():
                logits, config = model(input_ids=ids).logits, model.config.to_dict()
            folder = tmp_path_factory.mktemp(f"ir-{name}") / name
            task = "text-generation" if name == "gpt2" else "text-generation-with-past"
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                path = export_float(model, bpe, folder, task=task)
            made[name] = FloatIR(model=model, path=path, ids=ids, logits=logits, config=config)
        return made[name]

    return give


@pytest.fixture(scope="session")
def run(checkpoint, texts, tmp_path_factory):
    """Give the export of an architecture, made once."""
    made: dict[str, Run] = {}

    def give(name: str) -> Run:
        if name not in made:
            source = checkpoint(name, **CHECKPOINTS.get(name, {}))
            options = dict(OPTIONS.get(name, {}))
            if name == "xglm":
                options["evaluation"] = texts / "evaluation"
            output = tmp_path_factory.mktemp("export") / name
            made[name] = Run(source, export(source, output, configuration(name, texts), **options))
        return made[name]

    return give


@pytest.fixture
def tokens():
    """Two rows, the second one padded."""
    ids = torch.randint(2, 256, (2, 12), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(ids)
    mask[1, 8:] = 0
    return {"input_ids": ids, "attention_mask": mask}


@pytest.fixture
def optimum_cli(monkeypatch, capsys):
    """`optimum-cli export openvino-laaciq` in this process, as optimum finds it: exit code, stdout and stderr."""
    from optimum.commands import optimum_cli as command

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["optimum-cli", "export", "openvino-laaciq", *map(str, arguments)])
        before = signal.getsignal(signal.SIGTERM), sys.excepthook
        with pytest.raises(SystemExit) as stopped:
            command.main()
        signal.signal(signal.SIGTERM, before[0])
        sys.excepthook = before[1]
        logging.getLogger("inc_laaciq").handlers.clear()
        out = capsys.readouterr()
        return subprocess.CompletedProcess(arguments, stopped.value.code, out.out, out.err)

    return call
