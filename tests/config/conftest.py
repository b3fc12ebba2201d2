"""Ways for the tests of the configuration to write a file and to read what is said about it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from inc_laaciq.config import RunSpec, read_config
from inc_laaciq.errors import SpecError

Read = Callable[[str], RunSpec]
Refused = Callable[[str], str]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Read the configuration with a text."""

    def read_text(text: str) -> RunSpec:
        path = tmp_path / "conf.yaml"
        path.write_text(text, encoding="utf-8")
        return read_config(path)

    return read_text


@pytest.fixture
def refused(read: Read, tmp_path: Path) -> Refused:
    """Message of the SpecError about a text, without the folder of the file."""

    def message(text: str) -> str:
        with pytest.raises(SpecError, match=r".") as caught:
            read(text)
        assert caught.value.exit_code == 2
        return str(caught.value).replace(f"{tmp_path}/", "")

    return message
