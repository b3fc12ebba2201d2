"""Against the real `datasets` library: local files here, and a hub that this file serves on this machine."""

import json
import os
import subprocess
import sys
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from inc_laaciq.calibration.corpus import read_texts
from inc_laaciq.calibration.data_sets import redacted, with_retries
from inc_laaciq.errors import DataError, SpecError

TOKEN = "hf_aSecretThatMustNotBeShown0123456789"


@pytest.fixture
def local(tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    return datasets, tmp_path


def write(path, records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return str(path)


def test_a_local_file_with_columns_of_other_names(local):
    _, folder = local
    rows = [
        {"sentence": "a1", "lang": "swh", "page": 1},
        {"sentence": "b", "lang": "eng", "page": 1},
        {"sentence": "a2", "lang": "swh", "page": 1},
        {"sentence": "a3", "lang": "swh", "page": 2},
    ]
    spec = {"path": write(folder / "t.jsonl", rows), "text": "sentence", "language": "lang", "document": "page"}
    corpus = read_texts(spec)
    assert corpus.texts["sw"].documents == (("a1", "a2"), ("a3",))
    assert read_texts(spec, ["en", "yo"]).missing == ("yo",)


def test_parquet_with_class_labels_and_a_split_expression(local):
    datasets, folder = local
    features = datasets.Features(
        {"text": datasets.Value("string"), "language": datasets.ClassLabel(names=["en", "sw"])}
    )
    table = datasets.Dataset.from_dict({"text": ["one", "moja", "mbili"], "language": [0, 1, 1]}, features=features)
    table.to_parquet(folder / "t.parquet")
    assert read_texts({"path": str(folder / "t.parquet")}).texts["sw"].lines == ("moja", "mbili")
    sliced = read_texts({"path": "parquet", "data_files": str(folder / "t.parquet"), "split": "train[:2]"})
    assert sliced.texts["sw"].lines == ("moja",)


def test_a_row_whose_label_is_unknown_is_damage_row17(local):
    datasets, folder = local
    features = datasets.Features({"text": datasets.Value("string"), "language": datasets.ClassLabel(names=["sw"])})
    table = datasets.Dataset.from_dict({"text": ["moja"] * 200, "language": [0] * 199 + [-1]}, features=features)
    table.to_parquet(folder / "t.parquet")
    corpus = read_texts({"path": str(folder / "t.parquet")})
    assert len(corpus.texts["sw"].lines) == 199
    assert "row 200: language is NoneType" in corpus.notes[0]


def test_a_language_that_is_no_column_holds_for_all_rows(local):
    _, folder = local
    path = write(folder / "t.jsonl", [{"text": "moja"}, {"text": "mbili"}])
    assert read_texts({"path": path, "language": "swh"}).texts["sw"].documents == (("moja",), ("mbili",))


def test_one_configuration_a_language(local):
    _, folder = local
    (folder / "hub").mkdir()
    for tag in ("en", "sw"):
        write(folder / "hub" / f"{tag}.jsonl", [{"text": f"text in {tag}"}])
    configs = "".join(f"- config_name: 2023.{tag}\n  data_files: {tag}.jsonl\n" for tag in ("en", "sw"))
    (folder / "hub" / "README.md").write_text(f"---\nconfigs:\n{configs}---\n")
    corpus = read_texts({"path": str(folder / "hub"), "name": {"swh": "2023.sw", "en": "2023.en"}})
    assert {tag: text.lines for tag, text in corpus.texts.items()} == {"en": ("text in en",), "sw": ("text in sw",)}
    # What is not listed is not even loaded, and a wrong tag is told before anything is.
    name = {"sw": "2023.sw", "fr": "no such configuration"}
    assert read_texts({"path": str(folder / "hub"), "name": name}, ["sw"]).languages == ("sw",)
    with pytest.raises(SpecError, match="'swahilli'"):
        read_texts({"path": "no such data set", "name": {"swahilli": "2023.sw"}})


def test_rows_without_text_are_damage_row17(local):
    _, folder = local
    path = write(folder / "t.jsonl", [{"text": "a", "language": "sw"}, {"text": None, "language": "sw"}])
    with pytest.raises(DataError, match=r"1 of 2 lines are damaged.*row 2: text is NoneType, not a string"):
        read_texts({"path": path})


def test_missing_columns_are_named(local):
    _, folder = local
    path = write(folder / "t.jsonl", [{"content": "a", "lang": "sw"}])
    with pytest.raises(DataError, match=r"no column 'text', 'language'\. It has content, lang"):
        read_texts({"path": path})


def test_a_split_that_is_not_there_is_a_data_error(local):
    _, folder = local
    path = write(folder / "t.jsonl", [{"text": "a", "language": "sw"}])
    with pytest.raises(DataError, match=r"cannot be loaded\. Check its name, configuration, split.*ValueError"):
        read_texts({"path": path, "split": "validation"})


def test_code_of_a_data_set_is_never_run_row27(local):
    _, folder = local
    canary = folder / "canary"
    (folder / "evil").mkdir()
    (folder / "evil" / "evil.py").write_text(f"open({str(canary)!r}, 'w')")
    with pytest.raises(DataError, match=r"comes with code, which is never run"):
        read_texts({"path": str(folder / "evil")})
    with pytest.raises(DataError, match=r"this is a script, and code of a data set is never run"):
        read_texts({"path": str(folder / "evil" / "evil.py")})
    assert not canary.exists()


def test_nothing_is_printed(local, capsys):
    datasets, folder = local
    read_texts({"path": write(folder / "t.jsonl", [{"text": "a", "language": "sw"}])})
    assert capsys.readouterr() == ("", "")
    assert not datasets.utils.are_progress_bars_disabled()


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"path": "x", "splits": "test"}, r"unknown key 'splits'\. Did you mean 'split'\? Allowed are path, name"),
        ({"split": "test"}, r"path=None, and it must name"),
        ({"path": "x", "split": 3}, r"split=3 is not a string"),
        ({"path": ["x"]}, r"path=\['x'\]"),
        ({"path": "x", "name": ["a"]}, r"name=\['a'\] is neither"),
        ({"path": "x", "name": {"sw": 3}}, r"name={'sw': 3} is neither"),
        ({"path": "x", "name": {}}, r"name={} is neither"),
    ],
)
def test_a_wrong_mapping_is_a_spec_error_row5(spec, message):
    with pytest.raises(SpecError, match=message):
        read_texts(spec)


def test_a_file_of_unknown_kind_is_refused(local):
    _, folder = local
    (folder / "t.xlsx").write_text("x")
    with pytest.raises(DataError, match=r"a file must end in \.json, \.jsonl, \.parquet, \.csv"):
        read_texts({"path": str(folder / "t.xlsx")})


def failing(times, error):
    calls = []

    def load():
        calls.append(None)
        if len(calls) <= times:
            raise error
        return "rows"

    return load, calls


def test_a_passing_fault_is_retried_at_most_three_times_row25(caplog):
    waits = []
    load, _ = failing(2, ConnectionError("reset"))
    assert with_retries(load, (OSError,), sleep=waits.append) == "rows"
    assert waits == [1, 2]
    assert "attempt 3 of 3 in 2 s" in caplog.text
    load, calls = failing(3, TimeoutError("slow"))
    with pytest.raises(TimeoutError, match="slow"):
        with_retries(load, (OSError,), sleep=waits.append)
    assert len(calls) == 3


@pytest.mark.parametrize(
    "error", [FileNotFoundError("no such data set"), ConnectionError("OfflineModeIsEnabled"), PermissionError("gated")]
)
def test_a_lasting_fault_is_not_retried_row25(error):
    load, calls = failing(3, error)
    with pytest.raises(type(error), match=str(error)):
        with_retries(load, (OSError,), sleep=lambda seconds: pytest.fail("it waited"))
    assert len(calls) == 1


class Hub(BaseHTTPRequestHandler):
    """A hub on which `org/gated` needs a token, and everything else is overloaded."""

    seen: Counter

    def answer(self):
        gated = "org/gated" in self.path
        self.seen[self.path] += 1
        self.send_response(401 if gated else 503)
        if gated:
            self.send_header("X-Error-Code", "GatedRepo")
            self.send_header("X-Error-Message", f"Access to org/gated is restricted; Bearer {TOKEN}")
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_GET = do_HEAD = do_POST = answer

    def log_message(self, *args):
        pass


READ = """
import sys, time
from inc_laaciq.calibration.corpus import read_texts
from inc_laaciq.errors import DataError
time.sleep = lambda seconds: None  # waits of the library and of ours
for name in sys.argv[1:]:
    try:
        read_texts({"path": name})
    except DataError as error:
        print("DataError", error, "CAUSE", repr(error.__cause__))
"""


def read_from_hub(endpoint, home, *names):
    """Read in a process of its own, as the libraries take the address of the hub when they are imported."""
    settings = {
        "HF_ENDPOINT": endpoint,
        "HF_HOME": str(home),
        "HF_TOKEN": TOKEN,
        "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "NO_PROXY": "127.0.0.1",
    }
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "PYTHONPATH", "HOME")}
    command = [sys.executable, "-c", READ, *names]
    result = subprocess.run(command, env=kept | settings, capture_output=True, text=True, timeout=120, check=True)
    assert TOKEN not in result.stdout + result.stderr
    return result.stdout.splitlines()


@pytest.fixture
def hub():
    handler = type("FreshHub", (Hub,), {"seen": Counter()})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", handler.seen
    server.shutdown()
    server.server_close()
    thread.join()


def test_gated_and_overloaded_are_one_clear_error_each_and_no_token_is_shown_rows25_26(local, hub, tmp_path):
    endpoint, seen = hub
    gated, busy = read_from_hub(endpoint, tmp_path, "org/gated", "org/busy")
    assert gated.startswith("DataError data set org/gated: cannot be loaded. Ask for access on its page")
    assert "set HF_TOKEN" in gated
    assert max(count for path, count in seen.items() if "org/gated" in path) == 1
    assert busy.startswith("DataError data set org/busy: cannot be loaded. The hub cannot be reached")
    assert any("org/busy" in path for path in seen)


def test_a_hub_that_is_down_is_one_clear_error_row25(local, tmp_path):
    (down,) = read_from_hub("http://127.0.0.1:9", tmp_path, "org/any")
    assert down.startswith("DataError data set org/any: cannot be loaded. The hub cannot be reached")


def test_offline_is_one_clear_error_at_once_row25(local, monkeypatch, caplog):
    datasets, _ = local
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    with pytest.raises(DataError, match=r"org/any: cannot be loaded\. The hub cannot be reached.*a local folder"):
        read_texts({"path": "org/any"})
    assert "attempt" not in caplog.text


def test_secrets_are_redacted_and_their_cause_is_dropped_row26(local):
    with pytest.raises(DataError, match=r"Unable to find '/nowhere/<redacted>/t\.jsonl'") as caught:
        read_texts({"path": "json", "data_files": f"/nowhere/{TOKEN}/t.jsonl"})
    assert TOKEN not in str(caught.value)
    assert caught.value.__cause__ is None
    assert redacted("Bearer abc.def") == "Bearer <redacted>"


def test_an_address_that_cannot_be_listed_is_a_data_error(local):
    with pytest.raises(DataError, match="data set json: cannot be loaded"):
        read_texts({"path": "json", "data_files": "http://127.0.0.1:9/t.jsonl?page=1"})
