"""Reads text that lies in files: a folder of `<language>.txt`, or one JSONL file."""

from __future__ import annotations

import codecs
import json
from collections.abc import Collection
from pathlib import Path

from inc_laaciq.calibration.lines import Collector, is_blank
from inc_laaciq.calibration.records import RecordSorter
from inc_laaciq.errors import DataError, SpecError
from inc_laaciq.languages import canonical, canonical_languages

_HEAD = 4096
_WIDE_MARKS = {
    codecs.BOM_UTF32_LE: "UTF-32",  # before UTF-16, whose mark is its beginning
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}
_WIDE_NULS = 0.3


def read_folder(folder: Path, wanted: Collection[str] | None) -> dict[str, Collector]:
    """Read the `<language>.txt` files of a folder; files of other kinds are not looked at.

    Parameters
    ----------
    folder : Path
        Lines are paragraphs or sentences; a blank line ends a document.
    wanted : collection of str, or None
        Canonical tags to read; None reads all.

    Returns
    -------
    dict of str to Collector
        By canonical tag.

    Raises
    ------
    DataError
        If there is no text file, a file name is no language, two files are the same language, or a file cannot be
        read.
    """
    try:
        files = sorted(
            file for file in folder.iterdir() if file.suffix.lower() == ".txt" and not file.name.startswith(".")
        )
    except OSError as error:
        raise DataError(f"{folder}: cannot be read: {error.strerror}.") from error
    if not files:
        raise DataError(f"{folder}: no <language>.txt file in this folder. Name one file a language, such as sw.txt.")
    by_tag: dict[str, Path] = {}
    unknown: list[str] = []
    for file in files:
        try:
            tag = canonical(file.stem)
        except SpecError as error:
            unknown.append(f"{file.name} ({error})")
            continue
        by_tag.setdefault(tag, file)
    if unknown:
        raise DataError(
            f"{folder}: the name of a .txt file must be a language tag, and these are not: {'; '.join(unknown)}. "
            "Rename them, or give them another ending."
        )
    try:
        canonical_languages(file.stem for file in files)
    except SpecError as error:
        raise DataError(f"{folder}: two files are of one language; keep one, or join them. {error}") from error
    return {tag: _read_text(file) for tag, file in by_tag.items() if wanted is None or tag in wanted}


def _read_text(file: Path) -> Collector:
    collector = Collector(str(file))
    document = 0
    try:
        with file.open("rb") as handle:
            _refuse_wide(file, handle.read(_HEAD))
            handle.seek(0)
            for number, raw in enumerate(handle, start=1):
                raw = raw.removeprefix(codecs.BOM_UTF8) if number == 1 else raw
                where = f"{file}:{number}"
                try:
                    line = raw.removesuffix(b"\n").removesuffix(b"\r").decode()
                except UnicodeDecodeError as error:
                    collector.damage.reject(f"byte {error.start + 1} is not UTF-8 ({error.reason})", where=where)
                    continue
                document += is_blank(line)
                collector.add(line, document=document, where=where)
    except OSError as error:
        raise DataError(f"{file}: cannot be read: {error.strerror}.") from error
    return collector


def read_jsonl(file: Path, wanted: Collection[str] | None) -> tuple[dict[str, Collector], list[str]]:
    """Read a file with one JSON object a line: `text`, `language`, and perhaps `document`.

    Parameters
    ----------
    file : Path
        UTF-8.
    wanted : collection of str, or None
        Canonical tags to read; None reads all.

    Returns
    -------
    tuple of (dict of str to Collector, list of str)
        Collectors by canonical tag, and notes.

    Raises
    ------
    DataError
        If a language is not known or is written in two ways, or more than 1 % of the lines are no such object.
    """
    sorter = RecordSorter(str(file), wanted)
    try:
        with file.open("rb") as handle:
            _refuse_wide(file, handle.read(_HEAD))
            handle.seek(0)
            for number, raw in enumerate(handle, start=1):
                _add_json(sorter, raw.removeprefix(codecs.BOM_UTF8) if number == 1 else raw, f"{file}:{number}")
    except OSError as error:
        raise DataError(f"{file}: cannot be read: {error.strerror}.") from error
    return sorter.finish()


def _add_json(sorter: RecordSorter, raw: bytes, where: str) -> None:
    if not raw.strip():
        return
    try:
        record = json.loads(raw.decode())
    except (ValueError, RecursionError) as error:
        sorter.reject(f"not JSON in UTF-8 ({error})", where=where)
        return
    if not isinstance(record, dict) or not {"text", "language"} <= record.keys():
        sorter.reject("not an object with 'text' and 'language'", where=where)
        return
    sorter.add(record["text"], record["language"], record.get("document"), where=where)


def _refuse_wide(file: Path, head: bytes) -> None:
    name = next((name for mark, name in _WIDE_MARKS.items() if head.startswith(mark)), "")
    if not name and head and max(head[0::2].count(0), head[1::2].count(0)) > _WIDE_NULS * len(head) / 2:
        name = "UTF-16 or UTF-32"
    if name:
        raise DataError(
            f"{file}: this is {name}, and text must be UTF-8. Convert it, for example with "
            f"`iconv -f {name.split()[0]} -t UTF-8 {file.name} > converted`."
        )
