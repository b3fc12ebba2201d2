"""Results files made without a model: what the tests of the gate's commands and recipes judge."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from inc_laaciq.evaluation.losses import SentenceLosses
from inc_laaciq.evaluation.results import results_dict
from inc_laaciq.output import write_json_atomic

SENTENCES = 200
TOKENIZER = "b" * 64


def made_losses(tag: str, *, harm: float | None = None, noise: float = 0.02, n: int = SENTENCES) -> SentenceLosses:
    """Sentences in documents of four; a quantized model costs `harm` nats a token more, with noise; None is float."""
    seed = sum(tag.encode())
    generator = np.random.default_rng(seed)
    tokens = generator.integers(10, 50, n)
    loss = tokens * generator.gamma(9, 1 / 3, n)
    if harm is not None:
        loss = loss + tokens * np.random.default_rng(seed + 1).normal(harm, noise, n)
    return SentenceLosses(
        tag=tag,
        loss=loss,
        tokens=tokens,
        n_bytes=4 * tokens,
        document=np.arange(n) // 4,
        text_sha256=f"{seed:064x}",
    )


def write_results(
    path: Path, losses: Mapping[str, SentenceLosses], *, missing: Mapping[str, str] | None = None, **more: Any
) -> Path:
    """A results file as `inc-laaciq evaluate` writes it."""
    content = results_dict(
        losses,
        meta={"time": "2026-11-22T06:40:00+00:00", "versions": {}, "threads": 1},
        model=more.pop("model", {"name": path.stem, "sha256": "a" * 64, "kind": "float"}),
        tokenizer={"sha256": more.pop("tokenizer", TOKENIZER)},
        texts={"source": "texts", "sha256": "c" * 64, "tokens_per_language": 0, "seed": 0, **more.pop("texts", {})},
        missing=missing or {},
        **more,
    )
    write_json_atomic(path, content)
    return path


def write_baseline(folder: Path, tags: tuple[str, ...] = ("en", "sw", "tr"), **more: Any) -> Path:
    """Results of the float model."""
    return write_results(folder / "float.json", {tag: made_losses(tag) for tag in tags}, **more)


def write_candidate(folder: Path, harms: Mapping[str, float], name: str = "new.json", **more: Any) -> Path:
    """Results of a quantized model that costs each language so many nats a token."""
    more.setdefault("model", {"name": Path(name).stem, "sha256": "a" * 64, "kind": "quantized"})
    return write_results(folder / name, {tag: made_losses(tag, harm=harm) for tag, harm in harms.items()}, **more)
