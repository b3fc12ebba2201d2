"""An exported model is let write, as the float model is: with the same settings, with a cache and without one."""

from __future__ import annotations

import json

import pytest

from inc_laaciq.backends.openvino_ir import read_ir
from inc_laaciq.backends.openvino_model import writer
from inc_laaciq.checkpoint import load_model
from inc_laaciq.openvino import export

pytestmark = pytest.mark.openvino


@pytest.mark.parametrize("task", ["text-generation-with-past", "text-generation"])
def test_what_is_written_is_looked_at_for_every_task(checkpoint, texts, tmp_path, task):
    model = checkpoint("llama")
    config = {"la_aciq": {"evaluation": {"texts": str(texts / "evaluation"), "tokens_per_language": 64}}}
    found = export(
        model, tmp_path / "out", config, task=task, weight_format="int8", mode="fast", evaluation=texts / "evaluation"
    )
    shares = found.report["openvino"]["share_in_script"]
    assert set(shares) == {"float", "exported"}
    assert set(shares["float"]) == set(shares["exported"])
    assert json.loads((tmp_path / "out/laaciq.json").read_text(encoding="utf-8"))["openvino"]["task"] == task
    source = load_model(model)
    source.model.generation_config.repetition_penalty = 1.5
    writing = writer(read_ir(tmp_path / "out/openvino_model.xml"), source.model)
    assert writing.generation_config.repetition_penalty == 1.5
    assert writing.use_cache is (task == "text-generation-with-past")
