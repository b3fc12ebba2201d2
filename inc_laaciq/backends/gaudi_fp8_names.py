"""Names of the files that Neural Compressor's FP8 measurements are kept in.

They all begin with one prefix, its `dump_stats_path`.  Of several workers each has files of its own, which end in rank
and number of workers: ``measure_hooks_maxabs_0_8.npz``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from inc_laaciq.errors import MismatchError, SpecError

OBSERVERS = ("maxabs", "maxabs_per_channel", "laaciq")
# Rank and number of workers; None of a measurement by one worker.
Rank = tuple[int, int] | None

_MEASURED = re.compile(
    r"(?P<prefix>.*)_hooks_(?P<observer>maxabs_per_channel|maxabs|laaciq)(?:_(?P<rank>\d+)_(?P<world>\d+))?\.(?:npz|json)"
)
_CACHE = r"_hooks_{observer}_[A-Z][A-Z0-9_]*?(?:_\d+_\d+)?\.(?:npz|json)"


@dataclass(frozen=True, kw_only=True)
class DumpName:
    """A measurement as it lies on disk.

    Parameters
    ----------
    prefix : Path
        Neural Compressor's `dump_stats_path`.
    observer : str
        One of `OBSERVERS`.
    ranks : tuple of (rank, world) or of None
        The workers that measured; ``(None,)`` for one without a number.
    """

    prefix: Path
    observer: str
    ranks: tuple[Rank, ...] = (None,)

    def file(self, rank: Rank, ending: str) -> Path:
        """The file of a worker; `ending` is ``.npz``, ``.json``, ``_mod_list.json`` or ``_languages.json``."""
        worker = "" if rank is None else f"_{rank[0]}_{rank[1]}"
        return self.prefix.with_name(f"{self.prefix.name}_hooks_{self.observer}{worker}{ending}")

    def present(self) -> list[Path]:
        """Every file that is there of this prefix and observer, of whichever workers; scales among them."""
        pattern = re.compile(
            re.escape(f"{self.prefix.name}_hooks_{self.observer}") + r"(?!_per_channel).*\.(?:npz|json)"
        )
        return [path for path in _files(self.prefix.parent) if pattern.fullmatch(path.name)]

    def caches(self) -> list[Path]:
        """Scales that Neural Compressor kept of an earlier measurement: it prefers them to any newer measurement."""
        pattern = re.compile(re.escape(self.prefix.name) + _CACHE.format(observer=self.observer))
        return [path for path in _files(self.prefix.parent) if pattern.fullmatch(path.name)]


def find_dump(path: Path) -> DumpName:
    """The measurement that a path names.

    Parameters
    ----------
    path : Path
        A prefix, a folder with one measurement in it, or one of its files, which stands for those of all workers.

    Raises
    ------
    SpecError
        If there is no measurement, or more than one.
    MismatchError
        If files of some workers are missing.
    """
    named = _MEASURED.fullmatch(path.name) if path.is_file() else None
    found: dict[tuple[str, str], set[Rank]] = {}
    folder = path if path.is_dir() else path.parent
    for match in filter(None, (_MEASURED.fullmatch(file.name) for file in _files(folder))):
        key = (match["prefix"], match["observer"])
        if key == (named["prefix"], named["observer"]) if named else path.is_dir() or match["prefix"] == path.name:
            rank = None if match["rank"] is None else (int(match["rank"]), int(match["world"]))
            found.setdefault(key, set()).add(rank)
    if not found:
        raise SpecError(
            f"{path}: no measurement of Neural Compressor is there. Give its dump_stats_path, the folder of its files, "
            f"or a file such as measure_hooks_maxabs.npz. Observers that can be read: {', '.join(OBSERVERS)}."
        )
    if len(found) > 1:
        names = ", ".join(f"{prefix}_hooks_{observer}.npz" for prefix, observer in sorted(found))
        raise SpecError(f"{path}: more than one measurement is there ({names}). Name one of them by its file.")
    (prefix, observer), ranks = next(iter(found.items()))
    return DumpName(prefix=folder / prefix, observer=observer, ranks=_all_ranks(path, ranks))


def _all_ranks(path: Path, ranks: set[Rank]) -> tuple[Rank, ...]:
    if ranks == {None}:
        return (None,)
    numbered = sorted(rank for rank in ranks if rank is not None)
    world = numbered[0][1]
    if len(numbered) < len(ranks) or numbered != [(rank, world) for rank in range(world)]:
        of = ["one without a number"] * (len(ranks) - len(numbered)) + [f"{rank} of {n}" for rank, n in numbered]
        raise MismatchError(
            f"{path}: the files are of workers {', '.join(of)}. There must be one of every worker, or a single one."
        )
    return tuple(numbered)


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_file()) if folder.is_dir() else []
