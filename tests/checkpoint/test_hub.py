"""The hub's client against a small server on this machine that answers as the hub does, and fails as it does."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
import traceback
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from inc_laaciq.checkpoint import load_model
from inc_laaciq.checkpoint.hub import PICKLE_FILES, SAFETENSORS_FILES, SMALL_FILES, fetch_files, looks_like_id
from inc_laaciq.errors import LaaciqError, ModelError

COMMIT = "0123456789abcdef0123456789abcdef01234567"
TOKEN = "hf_AbsolutelySecret0123456789"


class Hub(ThreadingHTTPServer):
    """One model, `org/model`, with the files of a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.asked: list[str] = []
        self.trouble: list[tuple[int, dict[str, str]]] = []
        super().__init__(("127.0.0.1", 0), Answer)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Answer(BaseHTTPRequestHandler):
    server: Hub

    def do_HEAD(self) -> None:
        self.do_GET(body=False)

    def do_GET(self, body: bool = True) -> None:
        path = unquote(self.path).partition("?")[0]
        self.server.asked.append(path)
        if self.server.trouble:
            status, headers = self.server.trouble.pop(0)
            self.reply(status, b"{}", headers, body=body)
        elif path.startswith("/api/models/org/model"):
            names = [{"rfilename": file.name} for file in self.server.folder.iterdir()]
            info = {"id": "org/model", "modelId": "org/model", "sha": COMMIT, "siblings": names, "tags": []}
            self.reply(200, json.dumps(info).encode(), {"Content-Type": "application/json"}, body=body)
        elif path.startswith(f"/org/model/resolve/{COMMIT}/"):
            data = (self.server.folder / path.rpartition("/")[2]).read_bytes()
            tag = hashlib.sha256(data).hexdigest()
            self.reply(200, data, {"ETag": f'"{tag}"', "X-Repo-Commit": COMMIT}, body=body)
        else:
            self.reply(401, b"{}", {"X-Error-Code": "RepoNotFound"}, body=body)

    def reply(self, status: int, data: bytes, headers: dict[str, str], *, body: bool) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if body:
            self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


def serve_files_from(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # Made from HF_ENDPOINT when huggingface_hub is imported; 0.x has a copy of it.
    for module in ("constants", "file_download"):
        place = f"huggingface_hub.{module}.HUGGINGFACE_CO_URL_TEMPLATE"
        monkeypatch.setattr(place, address + "/{repo_id}/resolve/{revision}/{filename}", raising=False)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    from huggingface_hub import constants

    folder = tmp_path / "served"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "bloom"}')
    (folder / "model.safetensors").write_bytes(b"weights")
    (folder / "pytorch_model.bin").write_bytes(b"pickle")
    (folder / "README.md").write_text("never fetched")
    server = Hub(folder)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr(constants, "ENDPOINT", server.address)
    serve_files_from(server.address, monkeypatch)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_PROGRESS_BARS", True)
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def pauses() -> list[float]:
    """The seconds waited between attempts."""
    return []


def fetch(pauses: list[float], model: str = "org/model", **options: Any) -> Path:
    return fetch_files(model, **{"revision": None, "patterns": SMALL_FILES, "sleep": pauses.append} | options)


def test_only_the_files_wanted_are_fetched(hub: Hub, pauses: list[float]) -> None:
    folder = fetch(pauses)
    assert folder.name == COMMIT
    assert [path.name for path in folder.iterdir()] == ["config.json"]
    fetch(pauses, patterns=SAFETENSORS_FILES, revision=COMMIT)
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]
    fetch(pauses, patterns=PICKLE_FILES, revision=COMMIT)
    assert (folder / "pytorch_model.bin").read_bytes() == b"pickle"
    assert pauses == []


# Row 25


@pytest.mark.parametrize("status", [429, 500, 503, 504])
def test_trouble_that_passes_is_waited_for(hub: Hub, pauses: list[float], status: int) -> None:
    hub.trouble = [(status, {})] * 2
    assert fetch(pauses).name == COMMIT
    assert pauses == [1.0, 2.0]


def test_three_attempts_are_enough(hub: Hub, pauses: list[float]) -> None:
    hub.trouble = [(503, {})] * 9
    with pytest.raises(ModelError, match=r"'org/model' is not in the cache, and the hub could not be reached in 3 att"):
        fetch(pauses)
    assert pauses == [1.0, 2.0]
    assert len(hub.asked) == 3


def test_no_server_at_all(hub: Hub, pauses: list[float]) -> None:
    with pytest.raises(ModelError, match="could not be reached in 3 attempts") as caught:
        fetch(pauses, endpoint="http://127.0.0.1:1")
    assert caught.value.__cause__ is not None
    assert pauses == [1.0, 2.0]


def test_a_connection_lost_between_the_list_and_the_files(
    hub: Hub, pauses: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    # The client's own waits, of which there are many.
    monkeypatch.setattr("time.sleep", lambda _: None)
    serve_files_from("http://127.0.0.1:1", monkeypatch)
    with pytest.raises(ModelError, match="could not be reached in 3 attempts"):
        fetch(pauses)
    assert pauses == [1.0, 2.0]


def test_what_is_cached_is_used_when_the_hub_is_down(hub: Hub, pauses: list[float]) -> None:
    folder = fetch(pauses)
    hub.trouble = [(503, {})] * 9
    assert fetch(pauses) == folder
    assert fetch(pauses, endpoint="http://127.0.0.1:1") == folder
    assert pauses == []


def test_refusals_are_not_tried_again(hub: Hub, pauses: list[float]) -> None:
    hub.trouble = [(418, {})] * 9
    with pytest.raises(ModelError, match="could not be fetched: the hub answered 418"):
        fetch(pauses)
    assert pauses == []


def test_offline(tmp_path: Path) -> None:
    code = (
        "from inc_laaciq.checkpoint.hub import fetch_files\n"
        "from inc_laaciq.errors import ModelError\n"
        "try: fetch_files('org/model', revision=None, patterns=['*.json'])\n"
        "except ModelError as error: print(error, type(error.__cause__).__name__, sep='|')"
    )
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert "'org/model' is not in the cache, and HF_HUB_OFFLINE is set" in done.stdout
    assert done.stdout.strip().endswith("|LocalEntryNotFoundError")


# Row 26


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (
            (403, {"X-Error-Code": "GatedRepo"}),
            "'org/model' at revision 'v9' is gated: .* https://huggingface.co/org/model",
        ),
        ((401, {"X-Error-Code": "GatedRepo"}), "is gated"),
        ((401, {"X-Error-Code": "RepoNotFound"}), "neither a folder here nor a model on the hub that you can see"),
        ((404, {"X-Error-Code": "RepoNotFound"}), "neither a folder here nor a model on the hub that you can see"),
        ((404, {"X-Error-Code": "RevisionNotFound"}), "'org/model' at revision 'v9' does not exist: .* no such branch"),
    ],
    ids=["gated", "gated, no token", "unknown, no token", "unknown", "revision"],
)
def test_no_access(hub: Hub, pauses: list[float], answer: tuple[int, dict[str, str]], message: str) -> None:
    hub.trouble = [answer] * 9
    with pytest.raises(ModelError, match=message) as caught:
        fetch(pauses, revision="v9")
    assert caught.value.__cause__ is not None
    assert TOKEN not in "".join(traceback.format_exception(caught.value))
    assert pauses == []


@pytest.mark.parametrize("name", ["bigscience/bloom-560m", "gpt2", "Qwen/Qwen2.5-0.5B"])
def test_ids(name: str) -> None:
    assert looks_like_id(name)


@pytest.mark.parametrize("name", ["", "/x", "./x", "a/b/c", "../x", "a..b/c", "~/x", "a b", "org/", "a--b/c", "a\n"])
def test_not_ids(name: str) -> None:
    assert not looks_like_id(name)


# load_model with an id


@pytest.fixture
def served(hub: Hub, bloom_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    monkeypatch.setattr("time.sleep", lambda _: None)
    hub.folder = bloom_folder
    return hub


def test_a_model_of_the_hub(served: Hub, bloom_folder: Path) -> None:
    loaded = load_model("org/model")
    assert loaded.source == f"org/model@{COMMIT}"
    # The weights of the commit whose configuration was checked, even if the branch moved meanwhile.
    assert [path for path in served.asked if path.startswith("/api/models/")] == [
        "/api/models/org/model/revision/main",
        f"/api/models/org/model/revision/{COMMIT}",
    ]
    assert loaded.weights_sha256 == hashlib.sha256((bloom_folder / "model.safetensors").read_bytes()).hexdigest()
    assert (loaded.folder / "model.safetensors").is_symlink()
    assert loaded.notes == ()


def test_a_folder_wins(served: Hub, bloom_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "org").mkdir()
    (tmp_path / "org" / "model").symlink_to(bloom_folder)
    monkeypatch.chdir(tmp_path)
    assert load_model("org/model").source == "org/model"
    assert served.asked == []


def changed(served: Hub, tmp_path: Path, *, without: str = "", **changes: Any) -> None:
    folder = tmp_path / "changed"
    folder.mkdir()
    for path in served.folder.iterdir():
        if path.name != without:
            (folder / path.name).write_bytes(path.read_bytes())
    config = json.loads((folder / "config.json").read_text()) | changes
    (folder / "config.json").write_text(json.dumps(config))
    served.folder = folder


@pytest.mark.parametrize(
    ("changes", "options", "message"),
    [
        ({"quantization_config": {"quant_method": "gptq"}}, {}, "already quantized, in the format 'gptq'"),
        (
            {"model_type": "own", "auto_map": {"AutoModelForCausalLM": "o.O"}},
            {},
            "needs code that comes with the model",
        ),
        (
            {"model_type": "own", "auto_map": {"AutoModelForCausalLM": "o.O"}},
            {"trust_remote_code": True, "revision": "main"},
            "revision must be pinned to a commit",
        ),
        (
            {"model_type": "own", "auto_map": {"AutoModelForCausalLM": "o.O"}},
            {"trust_remote_code": True},
            "revision must be pinned to a commit",
        ),
        (
            {"auto_map": {"AutoModelForCausalLM": "other/repo--o.O"}},
            {"trust_remote_code": True, "revision": COMMIT},
            "its code lies outside the model",
        ),
    ],
    ids=["quantized", "code", "branch", "no revision", "code elsewhere"],
)
def test_models_are_refused_before_their_weights_are_fetched(
    served: Hub, tmp_path: Path, changes: dict[str, Any], options: dict[str, Any], message: str
) -> None:
    changed(served, tmp_path, **changes)
    with pytest.raises(ModelError, match=message):
        load_model("org/model", **options)
    assert not any("safetensors" in path for path in served.asked)


def test_pickles_are_not_even_fetched(served: Hub, tmp_path: Path) -> None:
    changed(served, tmp_path, without="model.safetensors")
    (served.folder / "pytorch_model.bin").write_bytes(b"not a pickle")
    with pytest.raises(ModelError, match=r"no safetensors weights on the hub or, .*\. Pickles .* --allow-pickle"):
        load_model("org/model")
    assert not any("pytorch_model" in path for path in served.asked)
    with pytest.raises(LaaciqError, match="is not a plain pickle of tensors"):
        load_model("org/model", allow_pickle=True)
