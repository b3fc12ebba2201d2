"""Says when languages do not get the same number of tokens, in calibration and evaluation alike."""

from __future__ import annotations

import logging
from collections.abc import Mapping

_IMBALANCE = 10

_log = logging.getLogger(__name__)


def warn_of_imbalance(n_tokens: Mapping[str, int], quota: int) -> None:
    """Log the effective counts where languages fall short of their quota or differ much in size.

    Parameters
    ----------
    n_tokens : mapping of str to int
        Tokens by language.
    quota : int
        Tokens asked for of each; 0 for all.
    """
    for tag, count in n_tokens.items():
        if count < quota:
            _log.warning("%s: %d of %d tokens: all of its text is used, and there is no more.", tag, count, quota)
    if not quota and n_tokens and max(n_tokens.values()) > _IMBALANCE * min(n_tokens.values()):
        most, least = max(n_tokens, key=n_tokens.__getitem__), min(n_tokens, key=n_tokens.__getitem__)
        _log.warning(
            "%s has %d tokens and %s only %d; set tokens_per_language to weigh them alike.",
            most,
            n_tokens[most],
            least,
            n_tokens[least],
        )
