"""Read a results file of any kind: which kind it is, its content decides and not its name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from inc_laaciq.config.policy import TaskRule
from inc_laaciq.errors import DataError
from inc_laaciq.evaluation.csv_results import is_header, read_csv
from inc_laaciq.evaluation.foreign_files import open_results, read_object
from inc_laaciq.evaluation.lm_eval import read_lm_eval
from inc_laaciq.evaluation.lm_eval_file import is_lm_eval
from inc_laaciq.evaluation.measured import Evaluation

KINDS = (
    "results.json of `inc-laaciq evaluate`, or an output folder of `inc-laaciq quantize`; results_<date>.json of "
    "lm-evaluation-harness, or its folder; CSV with the columns language and loss or perplexity"
)

_OUR_SCHEMA = "inc-laaciq/results/"
_OUR_FILE = "results.json"
_HEAD_BYTES = 65_536


def read_evaluation(path: Path | str, tasks: Sequence[TaskRule] = ()) -> Evaluation:
    """Read results of this package, of lm-evaluation-harness, or of a table.

    Parameters
    ----------
    path : path
        A file or a folder.
    tasks : sequence of TaskRule
        Which languages the tasks of lm-evaluation-harness are about; other kinds do not need it.

    Raises
    ------
    DataError
        If there is no such file, or it is of no known kind.
    IntegrityError
        If it is damaged.
    SpecError
        If `tasks` does not fit the file.
    """
    path = Path(path)
    if path.is_dir():
        if not (path / _OUR_FILE).exists():
            return _read_folder(path, tasks)
        path = path / _OUR_FILE
    head = _head(path)
    if head.startswith("{"):
        return _read_json(path, tasks)
    if is_header(head.partition("\n")[0].partition("\r")[0]):
        return read_csv(path)
    raise DataError(f"{path}: is of no known kind. Known are: {KINDS}.")


def _read_folder(path: Path, tasks: Sequence[TaskRule]) -> Evaluation:
    if not (any(path.glob("results_*.json")) or any(path.glob("*/results_*.json"))):
        raise DataError(f"{path}: the folder holds no results. Known are: {KINDS}.")
    return read_lm_eval(path, tasks)


def _read_json(path: Path, tasks: Sequence[TaskRule]) -> Evaluation:
    from inc_laaciq.evaluation.results import read_results

    content = read_object(path)
    schema = content.get("schema")
    if isinstance(schema, str) and schema.startswith(_OUR_SCHEMA):
        return read_results(path)
    if is_lm_eval(content):
        return read_lm_eval(path, tasks)
    known = ", ".join(ascii(key[:40]) for key in list(content)[:10])
    raise DataError(f"{path}: a JSON object with the keys {known or '(none)'} is of no known kind. Known are: {KINDS}.")


def _head(path: Path) -> str:
    """First characters of a file, without white space before them; empty if it is not text."""
    with open_results(path) as file:
        raw = file.read(_HEAD_BYTES)
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise DataError(f"{path}: is UTF-16. Save it in UTF-8.")
    if not raw.strip():
        raise DataError(f"{path}: is empty. Known are: {KINDS}.")
    return "" if b"\0" in raw else raw.decode("utf-8-sig", errors="replace").lstrip()
