"""Reads text through the `datasets` library: data sets of the Hugging Face hub, and local JSON, Parquet or CSV files.

`datasets` is optional and heavy, so it is imported when a data set is read. Code that comes with a data set is never
run, and what the network says reaches the user without tokens.
"""

from __future__ import annotations

import contextlib
import difflib
import logging
import re
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from inc_laaciq.calibration.lines import Collector
from inc_laaciq.calibration.records import RecordSorter
from inc_laaciq.errors import DataError, SpecError
from inc_laaciq.languages import canonical_languages

KEYS = ("path", "name", "split", "text", "language", "document", "revision", "data_files")
"""Keys that the mapping of a data set may have."""

ATTEMPTS = 3
"""Times that a data set is asked for while the network fails in a way that may pass."""

_BUILDERS = {".json": "json", ".jsonl": "json", ".parquet": "parquet", ".csv": "csv"}
_TRANSIENT = {"ConnectionError", "TimeoutError", "Timeout", "TransportError"}  # of Python, requests and httpx
_TRANSIENT_STATUS = {429, 500, 502, 503, 504}
_LIBRARY_ERRORS = (ValueError, RuntimeError, KeyError, ImportError, StopIteration)  # the last for some addresses
_SECRET = re.compile(r"hf_\w+|(?<=Bearer )\S+|(?<=://)[^/\s@]+(?=@)|(?<=token=)[^&\s]+")
_log = logging.getLogger(__name__)


def read_data_set(spec: Mapping[str, Any], wanted: Collection[str] | None) -> tuple[dict[str, Collector], list[str]]:
    """Read a data set.

    Parameters
    ----------
    spec : mapping
        `path`: a name on the hub, a local folder, or a local `.jsonl`, `.json`, `.parquet` or `.csv` file.
        `name`: the configuration, or a mapping of language tag to configuration, where each language has its own.
        `split`: by default `train`. `text`, `language`, `document`: columns, by default `text`, `language` and none;
        a `language` that is no column is taken as the language of the whole data set.
        `revision`, `data_files`: as in `datasets.load_dataset`.
    wanted : collection of str, or None
        Canonical tags to read; None reads all.

    Returns
    -------
    tuple of (dict of str to Collector, list of str)
        Collectors by canonical tag, and notes.

    Raises
    ------
    SpecError
        If the mapping is wrong.
    DataError
        If `datasets` is not installed, the data set cannot be loaded, or its rows cannot be used.
    """
    _check(spec)
    path = spec["path"]
    name = spec.get("name")
    configurations: Mapping[str | None, Any] = {None: name}
    if isinstance(name, Mapping):
        by_language = dict(zip(canonical_languages(name), name.values(), strict=True))
        configurations = {tag: by_language[tag] for tag in by_language if wanted is None or tag in wanted}
    library = _import_datasets()
    sorter = RecordSorter(f"data set {path}", wanted)
    with _quiet(library):
        for tag, configuration in configurations.items():
            rows = _load(library, spec, configuration)
            _sort_rows(sorter, rows, spec, tag, f"{path}/{configuration}" if tag else path)
    return sorter.finish()


def _check(spec: Mapping[str, Any]) -> None:
    for key in spec:
        if key not in KEYS:
            near = difflib.get_close_matches(str(key), KEYS, n=1)
            hint = f"Did you mean {near[0]!r}? " if near else ""
            raise SpecError(f"data set: unknown key {key!r}. {hint}Allowed are {', '.join(KEYS)}.")
    if not isinstance(spec.get("path"), str) or not spec["path"]:
        raise SpecError(f"data set: path={spec.get('path')!r}, and it must name a data set, a folder or a file.")
    for key in ("split", "text", "language", "document", "revision"):
        if spec.get(key) is not None and not isinstance(spec[key], str):
            raise SpecError(f"data set {spec['path']}: {key}={spec[key]!r} is not a string.")
    name = spec.get("name")
    names = list(name.values()) if isinstance(name, Mapping) else ["" if name is None else name]
    if not names or not all(isinstance(one, str) for one in names):
        raise SpecError(
            f"data set {spec['path']}: name={name!r} is neither a configuration nor a mapping of language to "
            "configuration."
        )
    if spec["path"].endswith(".py"):
        raise DataError(
            f"data set {spec['path']}: this is a script, and code of a data set is never run. Give the data files "
            "themselves: JSON, Parquet or CSV."
        )


def _import_datasets() -> ModuleType:
    try:
        import datasets
    except ImportError as error:
        raise DataError(
            "reading a data set needs the package `datasets`: pip install 'inc-laaciq[datasets]'. "
            f"A folder of <language>.txt files needs nothing. ({error})"
        ) from error
    return datasets  # type: ignore[no-any-return]


@contextlib.contextmanager
def _quiet(library: Any) -> Iterator[None]:
    """Without progress bars, which a library must not print unasked."""
    shown = not library.utils.are_progress_bars_disabled()
    library.disable_progress_bars()
    try:
        yield
    finally:
        if shown:
            library.enable_progress_bars()


def _load(library: Any, spec: Mapping[str, Any], configuration: str | None) -> Any:
    path, data_files = spec["path"], spec.get("data_files")
    if Path(path).is_file():
        if Path(path).suffix not in _BUILDERS:
            raise DataError(f"data set {path}: a file must end in {', '.join(_BUILDERS)}.")
        path, data_files = _BUILDERS[Path(path).suffix], path
    options: dict[str, Any] = {"split": spec.get("split") or "train", "revision": spec.get("revision")}
    if int(library.__version__.split(".")[0]) < 4:
        options["trust_remote_code"] = False  # later versions have no remote code at all, and complain about the option

    def load() -> Any:
        return library.load_dataset(path, name=configuration, data_files=data_files, **options)

    network = _network_errors()
    try:
        return with_retries(load, network)
    except (*network, *_LIBRARY_ERRORS, library.exceptions.DatasetsError) as error:
        clean = redacted(str(error))
        reason = " ".join(f"{type(error).__name__}: {clean}".split())
        what = spec["path"] + (f" ({configuration})" if configuration else "")
        # The cause is dropped where it holds a secret, as a traceback would print it.
        cause = error if clean == str(error) else None
        raise DataError(f"data set {what}: cannot be loaded. {_advice(reason)} The library said: {reason}") from cause


def _network_errors() -> tuple[type[Exception], ...]:
    try:
        import httpx
    except ImportError:  # older versions of the hub's library use requests, whose errors are OSErrors
        return (OSError,)
    return (OSError, httpx.HTTPError)


def redacted(message: str) -> str:
    """Take secrets out of a message: tokens of the hub, and passwords or tokens in addresses and headers.

    Parameters
    ----------
    message : str
        What a library said.

    Returns
    -------
    str

    Examples
    --------
    >>> redacted("401 for https://me:secret@host/x?token=a1b2&page=3 with Bearer hf_AbC")
    '401 for https://<redacted>@host/x?token=<redacted>&page=3 with Bearer <redacted>'
    """
    return _SECRET.sub("<redacted>", message)


def _advice(reason: str) -> str:
    lower = reason.lower()
    if "scripts are no longer supported" in lower or "trust_remote_code" in lower:
        return "It comes with code, which is never run; use a copy that is plain data (JSON, Parquet, CSV)."
    if "gated" in lower or "401" in lower or "403" in lower:
        return "Ask for access on its page, and log in with `hf auth login` or set HF_TOKEN."
    if any(sign in lower for sign in ("offline", "reach", "connect", "429", "timed out", "send a request")):
        return (
            "The hub cannot be reached, or refuses for now. Try again later, or give a local folder of "
            "<language>.txt files or a local copy of the data."
        )
    return "Check its name, configuration, split and revision."


def with_retries(
    load: Callable[[], Any], errors: tuple[type[Exception], ...], *, sleep: Callable[[float], None] = time.sleep
) -> Any:
    """Call until it works, at most three times, waiting 1 s and then 2 s after errors of the network that may pass.

    Parameters
    ----------
    load : callable
        Takes nothing.
    errors : tuple of exception types
        Those that may come from the network.
    sleep : callable
        Takes seconds.

    Returns
    -------
    Any
        What `load` returns.

    Raises
    ------
    Exception
        The last error of `load`, at once where it will not pass: offline mode, access refused, not found.
    """
    for attempt in range(1, ATTEMPTS):
        try:
            return load()
        except errors as error:
            if not _may_pass(error):
                raise
            seconds = 2.0 ** (attempt - 1)
            _log.warning(
                "loading failed (%s); attempt %d of %d in %g s", type(error).__name__, attempt + 1, ATTEMPTS, seconds
            )
        sleep(seconds)
    return load()


def _may_pass(error: BaseException) -> bool:
    if "offline" in f"{type(error).__name__} {error}".lower():
        return False
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status is not None:
        return status in _TRANSIENT_STATUS
    return any(kind.__name__ in _TRANSIENT for kind in type(error).__mro__)


def _sort_rows(sorter: RecordSorter, rows: Any, spec: Mapping[str, Any], tag: str | None, where: str) -> None:
    text, document = spec.get("text") or "text", spec.get("document")
    language = tag or spec.get("language") or "language"
    fixed = tag is not None or ("language" in spec and language not in rows.column_names)
    needed = [text, *([] if fixed else [language]), *([document] if document else [])]
    absent = [column for column in needed if column not in rows.column_names]
    if absent:
        raise DataError(
            f"data set {where}: no column {', '.join(map(repr, absent))}. It has {', '.join(rows.column_names)}; "
            "say which with `text:`, `language:` and `document:`."
        )
    feature = None if fixed else rows.features[language]
    named = getattr(feature, "int2str", None)  # languages stored as class labels
    for number, row in enumerate(rows.select_columns(needed), start=1):
        value = language if fixed else row[language]
        if named is not None and isinstance(value, int):
            value = named(value) if value >= 0 else None  # -1 is a row without a label
        sorter.add(row[text], value, row[document] if document else None, where=f"{where}, row {number}")
