"""Which kind of results a file holds, by its content."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from inc_laaciq.config.policy import TaskRule
from inc_laaciq.errors import DataError, IntegrityError, LaaciqError, SpecError
from inc_laaciq.evaluation.losses import SentenceLosses
from inc_laaciq.evaluation.read import read_evaluation
from inc_laaciq.evaluation.results import results_dict

DATA = Path(__file__).parent / "data" / "lm_eval"
TASKS = (
    TaskRule(pattern="tinyqa_{language}", metric="acc"),
    TaskRule(pattern="tinytext_{language}", metric="bits_per_byte", higher_is_better=False),
    TaskRule(pattern="tinygen_{language}", metric="exact_match"),
)


@pytest.fixture
def ours():
    losses = SentenceLosses(
        tag="sw", loss=np.array([1.0, 2.0]), tokens=np.array([3, 4]), n_bytes=np.array([9, 8]), document=np.arange(2),
        text_sha256="x",
    )  # fmt: skip
    content = results_dict({"sw": losses}, meta={}, model={"name": "m"}, tokenizer={}, texts={}, missing={})
    return json.dumps(content)


@pytest.mark.parametrize("name", ["results.json", "x.csv", "x"])
def test_our_results_under_any_name(tmp_path, ours, name):
    (tmp_path / name).write_text(" \n" + ours)
    assert list(read_evaluation(tmp_path / name).losses["sw"].loss) == [1.0, 2.0]


def test_a_folder_of_ours(tmp_path, ours):
    (tmp_path / "results.json").write_text(ours)
    (tmp_path / "results_2026-01-01T00-00-00.json").write_text("{}")
    assert read_evaluation(tmp_path).name == "m"


def test_results_of_lm_eval(tmp_path):
    folder = Path(shutil.copytree(DATA / "tiny-float", tmp_path / "run"))
    for file in folder.glob("samples_tinygen*"):
        file.unlink()
    (path,) = folder.glob("results_*")
    content = json.loads(path.read_text(encoding="utf-8"))
    for name in [name for name in content["results"] if name.startswith("tinygen")]:
        del content["results"][name]
    path.write_text(json.dumps(content))
    rules = TASKS[:2]
    assert read_evaluation(path, rules).id == read_evaluation(folder, rules).id == read_evaluation(tmp_path, rules).id
    path = path.rename(folder / "results.json")
    assert read_evaluation(folder, rules).name == "tiny-float"
    with pytest.raises(SpecError, match="no pattern of `tasks:`"):
        read_evaluation(path)


def test_a_table_under_any_name(tmp_path):
    path = tmp_path / "results.json"
    path.write_bytes(b"\xef\xbb\xbfloss;language\r\n1;sw\r\n")
    assert set(read_evaluation(path).losses) == {"sw"}


@pytest.mark.parametrize(
    ("raw", "error", "message"),
    [
        (b"", DataError, "is empty"),
        (b" \n", DataError, "is empty"),
        (b"hello\n", DataError, "is of no known kind. Known are: results.json"),
        (b"[1]", DataError, "is of no known kind"),
        (b"{}", DataError, r"keys \(none\) is of no known kind"),
        (b'{"results": {}}', DataError, "keys 'results' is of no known kind"),
        (b'{"schema": 3, "a": 1}', DataError, "keys 'schema', 'a'"),
        (b'{"schema": "inc-laaciq/results/9"}', IntegrityError, "schema is"),
        (b'{"a": 1', IntegrityError, "is not JSON"),
        (b'{"a": 1, "a": 2}', IntegrityError, "occurs twice"),
        (b'{"a":' + b"[" * 100_000, IntegrityError, "nested too deeply|is not JSON"),
        (b'{"a":[' + b"[]," * 8_000_000, IntegrityError, "JSON values, where at most"),
        (b"PK\x03\x04\0\0", DataError, "is of no known kind"),
        ("language,loss".encode("utf-16"), DataError, "is UTF-16"),
        (b'{"\xff": 1}', IntegrityError, "is not JSON in UTF-8"),
    ],
    ids=range(15),
)
def test_anything_else_is_refused_and_the_kinds_are_named(tmp_path, raw, error, message):
    (tmp_path / "x").write_bytes(raw)
    with pytest.raises(error, match=message):
        read_evaluation(tmp_path / "x")


def test_paths_that_hold_no_file(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        read_evaluation(tmp_path / "nothing")
    with pytest.raises(DataError, match="the folder holds no results"):
        read_evaluation(tmp_path)
    with pytest.raises(LaaciqError, match="cannot be read"):
        read_evaluation("a\0b")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_does_not_hold_the_process(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DataError, match="is not a regular file"):
        read_evaluation(tmp_path / "pipe")


def test_a_file_of_two_gigabytes_is_refused_before_it_is_read(tmp_path):
    path = tmp_path / "big"
    with path.open("wb") as file:
        file.truncate(2_000_000_001)
    with pytest.raises(DataError, match="2000000001 bytes; at most 2000000000"):
        read_evaluation(path)
