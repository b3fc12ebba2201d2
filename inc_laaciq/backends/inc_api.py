"""Which of Neural Compressor's two APIs is there, and which one a run takes.

The adaptor API (`neural_compressor.quantization.fit`) is in neural-compressor 2.6 to 3.7, the torch API (`prepare`,
`convert`) in 3.7 and later; 3.7 has both.  What is there is found by importing it, never by a version number.
"""

from __future__ import annotations

import importlib
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal, get_args

from inc_laaciq.errors import BackendError

Api = Literal["adaptor", "torch"]
APIS: tuple[Api, ...] = get_args(Api)

# A module of each API and the names in it that are used; neural-compressor 2.6 has a `torch` with fewer.
_NEEDED: dict[Api, tuple[str, tuple[str, ...]]] = {
    "adaptor": ("neural_compressor.strategy", ()),
    "torch": ("neural_compressor.torch.quantization", ("RTNConfig", "AWQConfig", "prepare", "convert", "load")),
}
_EXTRA: dict[Api, str] = {"adaptor": "adaptor", "torch": "torch-api"}
_VERSIONS: dict[Api, str] = {"adaptor": "2.6 to 3.7", "torch": "3.7 and later"}


def is_available(api: Api) -> bool:
    """Whether the installed Neural Compressor has an API."""
    return _missing(api) is None


def _missing(api: Api) -> str | None:
    """What keeps an API from being used; None if nothing does."""
    module, names = _NEEDED[api]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            found = importlib.import_module(module)
        except ImportError as error:
            return str(error)
    lacking = [name for name in names if not hasattr(found, name)]
    return f"{module} has no {', '.join(lacking)}" if lacking else None


def require(api: Api) -> None:
    """Import an API.

    Raises
    ------
    BackendError
        If it is not there, with the reason and what to install.
    """
    if reason := _missing(api):
        raise BackendError(
            f"Neural Compressor's {api} API, which is in neural-compressor {_VERSIONS[api]}, cannot be imported: "
            f"{reason}. Install it with pip install 'inc-laaciq[{_EXTRA[api]}]'"
        )


def choose(asked: Api | None = None) -> Api:
    """The API that was asked for; if none was, the adaptor API where it is there, else the torch API.

    Raises
    ------
    BackendError
        If it is not there.
    """
    if asked is not None:
        require(asked)
        return asked
    for api in APIS:
        if is_available(api):
            return api
    raise BackendError(
        f"neither of Neural Compressor's APIs can be imported (adaptor: {_missing('adaptor')}; torch: "
        f"{_missing('torch')}). Install one with pip install 'inc-laaciq[adaptor]' or pip install "
        "'inc-laaciq[torch-api]'"
    )


def fitting(api: Api) -> Any:
    """The module whose `fit` and `fit_rtn` run an API."""
    return importlib.import_module("inc_laaciq.backends." + {"adaptor": "inc_fit", "torch": "inc_torch_fit"}[api])


@contextmanager
def quiet(api: Api | None = None) -> Iterator[None]:
    """Neural Compressor logs every step to stderr; inside this block only its errors are heard.

    Not where the application shows its own log messages at the level INFO: then they are wanted.
    """
    chosen = choose(api)
    # They set their own level when they are imported.
    importlib.import_module({"adaptor": "neural_compressor.utils", "torch": "neural_compressor.common"}[chosen])
    logger = logging.getLogger("neural_compressor")
    before = logger.level
    if not logging.getLogger("inc_laaciq").isEnabledFor(logging.INFO):
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)
