"""The one door for text: a folder, a JSONL file or a data set comes in, a checked `Corpus` goes out.

Everything that is doubtful about the text is said here, once: languages without text, damaged lines, decomposed
accents, and text that is not in the script of its language.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from inc_laaciq.calibration.data_sets import read_data_set
from inc_laaciq.calibration.language_id import script_mismatches
from inc_laaciq.calibration.lines import Collector
from inc_laaciq.calibration.text import Corpus, LanguageText
from inc_laaciq.calibration.text_files import read_folder, read_jsonl
from inc_laaciq.errors import DataError
from inc_laaciq.languages import canonical_languages

__all__ = ["Corpus", "LanguageText", "read_texts"]

_log = logging.getLogger(__name__)


def read_texts(
    source: str | Path | Mapping[str, Any], languages: Sequence[str] | None = None, *, strict_lid: bool = False
) -> Corpus:
    r"""Read the text of every language, or of the languages listed.

    Parameters
    ----------
    source : str, Path or mapping
        A folder of `<language>.txt` files (a line is a sentence or paragraph, a blank line ends a document); a
        `.jsonl` file of objects with `text`, `language` and perhaps `document`; or a mapping for
        `datasets.load_dataset` (see `data_sets.read_data_set`).
    languages : sequence of str, optional
        Tags to read. A listed language that has no text is kept as `Corpus.missing`.
    strict_lid : bool
        Refuse text that is mostly in another script than its language is written in, rather than warn.

    Returns
    -------
    Corpus
        Text is used as it is: nothing is normalised, only line ends (LF or CRLF) and a byte order mark are removed.
        Lines of more than 4096 characters are cut into several.

    Raises
    ------
    DataError
        If the source cannot be read, has damaged text, unknown languages, or the same language twice.
    SpecError
        If `languages` or a mapping is wrong.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = pathlib.Path(folder, "sw.txt").write_text("Habari ya asubuhi.\n\nKaribu.\n", encoding="utf-8")
    ...     read_texts(folder).texts["sw"].documents
    (('Habari ya asubuhi.',), ('Karibu.',))
    """
    wanted = None if languages is None else canonical_languages(languages)
    collectors, notes = _collect(source, wanted)
    skips_records = bool(notes)  # so far they tell of nothing else
    texts = {tag: collector.text(tag) for tag, collector in sorted(collectors.items())}
    for _, collector in sorted(collectors.items()):
        notes.extend(collector.notes())
    present = {tag: text for tag, text in texts.items() if text.documents}
    missing = sorted({*(wanted or ()), *texts} - present.keys())
    where = source.get("path") if isinstance(source, Mapping) else source
    notes.extend(f"{tag}: no text was found in {where}, so its verdict can only be NOT-RUN." for tag in missing)
    mismatches = script_mismatches(present.values())
    if mismatches and strict_lid:
        raise DataError(f"{where}: {' '.join(mismatches)} Correct the text or its tag, or leave out strict_lid.")
    notes.extend(mismatches)
    for note in notes:
        _log.warning("%s", note)
    return Corpus(texts=present, missing=tuple(missing), notes=tuple(notes), skips_records=skips_records)


def _collect(
    source: str | Path | Mapping[str, Any], wanted: Sequence[str] | None
) -> tuple[dict[str, Collector], list[str]]:
    if isinstance(source, Mapping):
        return read_data_set(source, wanted)
    path = Path(source)
    if path.is_dir():
        return read_folder(path, wanted), []
    if path.is_file() and path.suffix in (".jsonl", ".ndjson"):
        return read_jsonl(path, wanted)
    problem = "is neither a folder nor a .jsonl file" if path.exists() else "does not exist"
    raise DataError(
        f"{path}: {problem}. Text is a folder of <language>.txt files, a .jsonl file with 'text' and 'language', "
        "or, for a data set of the Hugging Face hub, a mapping such as {path: NAME, split: test}."
    )
