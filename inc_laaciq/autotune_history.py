"""The history of a search as a JSON file, so that an interrupted one goes on where it was."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from inc_laaciq.checkpoint.strict_json import parse_object
from inc_laaciq.errors import IntegrityError, MismatchError
from inc_laaciq.output import check_file, write_json_atomic
from inc_laaciq.tuning.trials import TrialRecord, record_dict

SCHEMA = "inc-laaciq/autotune/1"


class History:
    """Trials on disk, by the hash of what a configuration does.

    Parameters
    ----------
    path : Path
        Read if it exists, written after every trial.
    keys : sequence of str
        Hash of every candidate, in their order.
    identity : mapping
        Model, policy, version of this package and of others; another run's file is refused.

    Raises
    ------
    MismatchError
        If the file is of another model, policy, version of this package or environment.
    IntegrityError
        If it is no such file.
    ResourceError
        If it cannot be written.
    """

    def __init__(self, path: Path, keys: Sequence[str], identity: Mapping[str, Any]) -> None:
        self._path = path
        self._keys = keys
        self._identity = dict(identity)
        self.baseline: dict[str, Any] = {}
        self.records: list[TrialRecord] = []
        self._others: list[dict[str, Any]] = []
        check_file(path)
        if path.exists():
            self._read()

    def _read(self) -> None:
        found = parse_object(self._path.read_bytes(), where=str(self._path), floats=True)
        if found.get("schema") != SCHEMA:
            raise IntegrityError(
                f"{self._path}: is no history of autotune (schema {found.get('schema')!r}, {SCHEMA!r} expected). Name "
                "another file"
            )
        for name, value in self._identity.items():
            if found.get(name) != value:
                what = f"another {name.partition('_')[0]}{_differences(found.get(name), value)}"
                raise MismatchError(f"{self._path}: is the history of {what}. Name another file, or delete it")
        places = {key: number for number, key in enumerate(self._keys)}
        try:
            self.baseline = found["baseline"]
            for entry in found["trials"]:
                if entry["key"] in places:
                    self.records.append(_record(entry, places[entry["key"]]))
                else:
                    self._others.append(entry)  # of a configuration that is not in the list this time
        except (AttributeError, KeyError, TypeError) as error:
            raise IntegrityError(f"{self._path}: is not complete ({error!r}). Delete it") from error

    def save(self, baseline: Mapping[str, Any], records: Sequence[TrialRecord]) -> None:
        """Write all trials."""
        trials = [{"key": self._keys[record.candidate], **record_dict(record)} for record in records]
        document = {"schema": SCHEMA, **self._identity, "baseline": baseline, "trials": [*self._others, *trials]}
        write_json_atomic(self._path, document)


def _differences(before: Any, now: Any) -> str:
    """What differs between versions of packages; nothing for hashes."""
    if not isinstance(before, dict) or not isinstance(now, dict):
        return ""
    names = sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name))
    return f" ({', '.join(f'{name} {before.get(name)}, now {now.get(name)}' for name in names)})"


def _record(entry: Mapping[str, Any], candidate: int) -> TrialRecord:
    document = entry["document"]
    for key in ("verdict", "reasons", "checks", "languages", "worst_language", "worst", "disparity"):
        document[key]
    return TrialRecord(
        candidate=candidate,
        document=document,
        seconds=entry["seconds"],
        quantized_layers=entry["quantized_layers"],
        sha256=entry["sha256"],
    )
