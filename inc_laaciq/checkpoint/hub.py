"""Fetch a model of the Hugging Face hub into its cache, so that it can be checked as a folder before it is loaded.

The small files come first: a quantized, unknown or hostile model is refused before gigabytes of weights are fetched.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from inc_laaciq.errors import ModelError

logger = logging.getLogger(__name__)

SMALL_FILES = ("*.json", "*.txt", "*.model", "*.tiktoken", "*.jinja", "*.py")
SAFETENSORS_FILES = ("model.safetensors", "model-*-of-*.safetensors")
PICKLE_FILES = ("pytorch_model.bin", "pytorch_model-*-of-*.bin")

ATTEMPTS = 3
FIRST_PAUSE_SECONDS = 1.0

_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")


def looks_like_id(model: str) -> bool:
    """Whether a text could be the id of a model on the hub, such as `bigscience/bloom-560m`."""
    return _ID.fullmatch(model) is not None and ".." not in model and "--" not in model


def fetch_files(
    model: str,
    *,
    revision: str | None,
    patterns: Sequence[str],
    cache_dir: Path | None = None,
    endpoint: str | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> Path:
    """Fetch files of one model, and return the folder of its snapshot.

    Parameters
    ----------
    model : str
        An id.
    revision : str or None
        Branch, tag or commit; None is the main branch.
    patterns : sequence of str
        Shell patterns of the files wanted; the folder may have others from an earlier run.
    cache_dir, endpoint : optional
        Where to cache, and the server; as huggingface_hub has them by default.
    sleep : callable
        Waits between attempts, in seconds.

    Returns
    -------
    Path
        A folder of the cache whose name is the commit.  What is cached already is used when the hub cannot be reached.

    Raises
    ------
    ModelError
        If there is no such model or revision, access is not granted, or the hub could not be reached in three attempts.
    """
    from huggingface_hub import snapshot_download

    faults = _client_faults()
    attempt, pause = 1, FIRST_PAUSE_SECONDS
    while True:
        try:
            return Path(
                snapshot_download(
                    model, revision=revision, allow_patterns=list(patterns), cache_dir=cache_dir, endpoint=endpoint
                )
            )
        except faults as error:
            if attempt == ATTEMPTS or not _is_transient(error):
                raise ModelError(_explain(error, model, revision, attempt)) from error
            logger.warning(
                "The hub did not answer for %s (%s); trying again in %g s.", model, type(error).__name__, pause
            )
            sleep(pause)
            attempt, pause = attempt + 1, 2 * pause


def _client_faults() -> tuple[type[Exception], ...]:
    # huggingface_hub 0.x raises errors of requests, which are OSErrors; 1.x those of httpx, which are not, and a
    # RuntimeError when it tries again with the client that it closed after a lost connection.
    try:
        import httpx
    except ImportError:
        return (OSError, ValueError, RuntimeError)
    return (OSError, ValueError, RuntimeError, httpx.HTTPError)


def _chain(error: BaseException) -> Iterator[BaseException]:
    found: BaseException | None = error
    while found is not None:
        yield found
        found = found.__cause__


def _has(error: BaseException, *kinds: type[BaseException]) -> bool:
    return any(isinstance(link, kinds) for link in _chain(error))


def _status(error: BaseException) -> int | None:
    """HTTP status of the answer, if there was one."""
    found = (getattr(getattr(link, "response", None), "status_code", None) for link in _chain(error))
    return next((status for status in found if isinstance(status, int)), None)


def _is_transient(error: BaseException) -> bool:
    from huggingface_hub import errors

    if _has(error, errors.OfflineModeIsEnabled, errors.HFValidationError):
        return False
    status = _status(error)
    if status is not None:
        return status == 429 or status >= 500
    # By module, so that neither requests nor httpx has to be importable.
    clients = {"requests", "httpx", "urllib3"}
    by_client = any(type(link).__module__.partition(".")[0] in clients for link in _chain(error))
    return by_client or _has(error, ConnectionError, TimeoutError) or "client has been closed" in str(error)


def _explain(error: BaseException, model: str, revision: str | None, attempts: int) -> str:
    from huggingface_hub import errors

    where = f"{model!r}" + (f" at revision {revision!r}" if revision else "")
    login = "log in with `hf auth login` or set HF_TOKEN"
    if _has(error, errors.OfflineModeIsEnabled):
        return (
            f"{where} is not in the cache, and HF_HUB_OFFLINE is set, so it cannot be fetched. "
            f"Unset HF_HUB_OFFLINE, or give a local folder."
        )
    if _has(error, errors.GatedRepoError):
        return (
            f"{where} is gated: its owner grants access one by one. "
            f"Ask for access at https://huggingface.co/{model}, then {login}."
        )
    if _has(error, errors.RevisionNotFoundError):
        return f"{where} does not exist: the model has no such branch, tag or commit."
    if _has(error, errors.RepositoryNotFoundError, errors.HFValidationError):
        return f"{where} is neither a folder here nor a model on the hub that you can see. If it is private, {login}."
    if _is_transient(error):
        return (
            f"{where} is not in the cache, and the hub could not be reached in {attempts} attempts. "
            f"Try again later, give a local folder, or set HF_HUB_OFFLINE=1 to use the cache alone."
        )
    status = _status(error)
    reason = f"the hub answered {status}" if status else f"{type(error).__name__}: {error}"
    return f"{where} could not be fetched: {reason}."
