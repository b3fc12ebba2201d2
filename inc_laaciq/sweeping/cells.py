"""Finished parts of a sweep on disk: each is a file that is named after what it depends on and proves its content."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from inc_laaciq.checkpoint.strict_json import parse_object
from inc_laaciq.errors import IntegrityError
from inc_laaciq.output import write_json_atomic

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One method at one width; `bits` is 0 for the float model."""

    method: str
    bits: int = 0

    @property
    def label(self) -> str:
        """For people, and for the name of the file."""
        return f"{self.method}-{self.bits}" if self.bits else self.method


class Cells:
    """A folder of finished cells.

    Parameters
    ----------
    folder : Path
    shared : mapping
        What all cells depend on: model, texts, settings, versions.  A cell of other settings is another file.
    calibrated : mapping
        What all cells depend on besides, but for those of methods in `data_free`.
    data_free : collection of str
    """

    def __init__(
        self,
        folder: Path,
        shared: Mapping[str, Any],
        calibrated: Mapping[str, Any] | None = None,
        data_free: Collection[str] = (),
    ) -> None:
        self._folder, self._shared = folder, dict(shared)
        self._calibrated, self._data_free = dict(calibrated or {}), data_free

    def path(self, cell: Cell) -> Path:
        """File of a cell."""
        more = {} if cell.method in self._data_free else self._calibrated
        definition = json.dumps({**self._shared, **more, **asdict(cell)}, sort_keys=True)
        return self._folder / f"{cell.label}-{hashlib.sha256(definition.encode()).hexdigest()[:16]}.json"

    def read(self, cell: Cell) -> dict[str, Any] | None:
        """Content of a finished cell; None where it has to be done, because it is missing or damaged."""
        path = self.path(cell)
        if not path.is_file():
            return None
        try:
            stored = parse_object(path.read_bytes(), where=str(path), floats=True)
        except IntegrityError as error:
            _log.warning("%s; this part is done again", error)
            return None
        content = stored.get("content")
        if not isinstance(content, dict) or stored.get("sha256") != _digest(content):
            _log.warning("%s: the content is not what was written; this part is done again", path)
            return None
        return content

    def write(self, cell: Cell, content: Mapping[str, Any]) -> None:
        """Store a finished cell."""
        self._folder.mkdir(parents=True, exist_ok=True)
        write_json_atomic(self.path(cell), {"sha256": _digest(content), "content": dict(content)})


def _digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
