"""Which of several given configurations to try next: the smallest for which a pass is plausible after what failed.

A loss grows with the square of the rounding error, so what one configuration did to a language tells about the others.
Nothing is left out for good: what looks hopeless comes last.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

SLACK = 4.0
"""A prediction is trusted to this factor.  Losses of real models fell 1.2 to 4 times faster than predicted."""

_GROUP_IF_UNKNOWN = 128


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A configuration as a search sees it.

    Parameters
    ----------
    label : str
    family : str
        Name of the algorithm: predictions within one are better than across two.
    bits : float
        Stored for each weight of the linear layers but the output projection, scales counted; infinite where that is
        not known.
    error : float or None
        Expected square of the rounding error, in units that all candidates share; None where it is not known.
    """

    label: str
    family: str
    bits: float
    error: float | None


def rounding_error(bits: float, scheme: Literal["sym", "asym"], group_size: int) -> float:
    """Expected squared error of a weight that is rounded between the extremes of its group.

    Parameters
    ----------
    bits : float
        1 or more.
    scheme : "sym" or "asym"
    group_size : int
        Weights that share a scale; -1 for a whole channel.

    Returns
    -------
    float
        In units of the weights' variance, up to a factor that is the same for all.

    Notes
    -----
    The step is the largest absolute weight over `2**(bits-1) - 1`, or the range over `2**bits - 1`; of `n` normal
    numbers the largest is about `sqrt(2 ln 2n)`.

    Examples
    --------
    >>> rounding_error(2, "sym", 64) / rounding_error(3, "sym", 64)
    9.0
    """
    n = group_size if group_size > 0 else _GROUP_IF_UNKNOWN
    levels = max(2 ** (bits - 1) - 1, 0.5) if scheme == "sym" else (2**bits - 1) / 2
    return 2 * math.log(2 * n) / levels**2


def share(document: Mapping[str, Any]) -> float | None:
    """How often a trial's loss goes into what the gate allows, by its worst check that does not pass.

    Perplexities are taken as losses, because only those grow with the squared error.

    Returns
    -------
    float or None
        None if that cannot be said: every check passes, or one has no value or no room for any loss.
    """
    shares = []
    for check in document["checks"]:
        if check["verdict"] == "PASS" or check["severity"] == "warn":
            continue
        value, limit = check["value"], check["limit_value"]
        if value is None or not limit:
            return None
        shares.append(math.log1p(value) / math.log1p(limit) if check["unit"] == "%" else value / limit)
    return max(shares, default=None)


def predicted(candidate: Candidate, tried: Iterable[tuple[Candidate, float | None]]) -> float | None:
    """Expected `share` of a candidate, from the trial that is most like it; None if none tells.

    Parameters
    ----------
    candidate : Candidate
    tried : iterable of (candidate, its share)
    """
    if candidate.error is None:
        return None
    known = (
        [
            (other.family != candidate.family, abs(math.log(candidate.error / other.error)), found / other.error)
            for other, found in tried
            if found is not None and other.error
        ]
        if candidate.error
        else []
    )
    return min(known)[2] * candidate.error if known else None


def next_candidate(candidates: Sequence[Candidate], shares: Mapping[int, float | None]) -> int | None:
    """Number of the candidate to try next.

    Parameters
    ----------
    candidates : sequence of Candidate
        Of equal bits the earlier one is tried first.
    shares : mapping of number -> float or None
        What has been tried, with its share.

    Returns
    -------
    int or None
        The smallest one whose predicted share is at most `SLACK`, or unknown; if there is none, the one with the
        smallest prediction; None if all have been tried.
    """
    tried = [(candidates[number], found) for number, found in shares.items()]
    left = sorted((n for n in range(len(candidates)) if n not in shares), key=lambda n: (candidates[n].bits, n))
    expected = {number: predicted(candidates[number], tried) for number in left}
    for number in left:
        value = expected[number]
        if value is None or value <= SLACK:
            return number
    return min(left, key=lambda n: expected[n] or 0.0, default=None)
