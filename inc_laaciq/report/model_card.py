"""A model card for the Hugging Face hub: metadata that the hub validates and shows, and a short section of Markdown."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

import yaml

from inc_laaciq.report import numbers
from inc_laaciq.report.characters import visible
from inc_laaciq.report.document import Document, section, sections
from inc_laaciq.report.markdown import escape, language_table, verdict_line
from inc_laaciq.report.view import UNIT_MEANING, View, level, view

# Key of a language -> type of the metric, its name, its unit.
_METRICS = {
    "perplexity": ("perplexity", "perplexity per token", ""),
    "bits_per_byte": ("bits_per_byte", "bits per UTF-8 byte", "bits/byte"),
    "degradation": ("degradation", "degradation by quantization", "nats/byte"),
    "relative_perplexity": ("relative_perplexity", "relative change of perplexity by quantization", "fraction"),
}
_INTERVALS = {"degradation": ("low", "high"), "relative_perplexity": ("relative_low", "relative_high")}
_BASELINES = {"perplexity": "baseline_perplexity", "bits_per_byte": "baseline_bits_per_byte"}


def to_model_card(document: Mapping[str, Any]) -> str:
    """Render a front matter in yaml and a section of Markdown.

    Parameters
    ----------
    document : mapping
        Schema `inc-laaciq/gate/1` or `inc-laaciq/run/1`.

    Returns
    -------
    str
        The same for the same input; encode it as UTF-8.

    Raises
    ------
    IntegrityError
        If the schema is another one, or a section has the wrong type.
    """
    shown = view(document)
    written = yaml.safe_dump(_metadata(document, shown), sort_keys=False, allow_unicode=True, width=10_000)
    blocks = [
        f"# {escape(shown.title)}",
        verdict_line(shown),
        language_table(shown),
        escape(UNIT_MEANING),
        f"Signature: {escape(shown.signature)}" if shown.signature else "",
    ]
    return f"---\n{written}---\n\n" + "\n\n".join(block for block in blocks if block) + "\n"


def _metadata(document: Document, shown: View) -> dict[str, Any]:
    languages = section(document, "languages")
    results = [result for tag in sorted(languages, key=str) if (result := _result(document, tag)) is not None]
    metadata: dict[str, Any] = {}
    if codes := _codes(languages):
        metadata["language"] = codes
    metadata["tags"] = ["inc-laaciq", "quantized"]
    if results:
        metadata["model-index"] = [{"name": shown.title, "results": results}]
    return metadata


def _codes(languages: Document) -> list[str]:
    """ISO 639 codes, which is all that the hub takes: no script and no region."""
    codes = {str(tag).split("-")[0].lower() for tag in languages}
    return sorted(code for code in codes if 2 <= len(code) <= 3 and code.isascii() and code.isalpha())


def _result(document: Document, tag: str) -> dict[str, Any] | None:
    entry = section(section(document, "languages"), tag)
    if "missing" in entry:
        return None
    metrics = [metric for key in _METRICS if (metric := _metric(entry, key, level(document))) is not None]
    metrics += [_task(check) for check in _tasks(document, tag)]
    if not metrics:
        return None
    shown = visible(tag)
    return {
        "task": {"type": "text-generation", "name": f"language modelling, {visible(entry.get('name')) or shown}"},
        "dataset": {**_dataset(document), "config": shown},
        "metrics": metrics,
    }


def _dataset(document: Document) -> dict[str, Any]:
    texts = section(document, "texts")
    texts = texts if "source" in texts else section(texts, "evaluation")
    source = texts.get("source")
    path = visible(source.get("path")) if isinstance(source, Mapping) else ""
    name = path or ("" if isinstance(source, Mapping) else _place(visible(source))) or "evaluation text"
    found: dict[str, Any] = {"name": name, "type": path or "text"}
    if digest := visible(texts.get("sha256")):
        found["args"] = {"sha256": digest}
    return found


def _place(source: str) -> str:
    """Of a path on somebody's machine only the name: the rest means nothing to a reader of the card."""
    return PurePosixPath(source).name if source.startswith(("/", "../")) else source


def _metric(entry: Document, key: str, confidence: str) -> dict[str, Any] | None:
    value = _finite(entry.get(key))
    if value is None:
        return None
    kind, name, unit = _METRICS[key]
    args: dict[str, Any] = {"unit": unit} if unit else {}
    low, high = (_finite(entry.get(end)) for end in _INTERVALS.get(key, ("", "")))
    if low is not None and high is not None:
        args |= {"low": low, "high": high, "interval": f"two-sided {confidence}"}
    if (baseline := _finite(entry.get(_BASELINES.get(key, "")))) is not None:
        args["baseline"] = baseline
    if key == "degradation" and "verdict" in entry:
        args["verdict"] = visible(entry["verdict"])
    return {"type": kind, "name": name, "value": value, **({"args": args} if args else {})}


def _tasks(document: Document, tag: str) -> list[Document]:
    return [
        check
        for check in sections(document, "checks")
        if check.get("language") == tag
        and visible(check.get("kind")).startswith("max_degradation:")
        and _finite(check.get("value")) is not None
    ]


def _task(check: Document) -> dict[str, Any]:
    task = visible(check.get("kind")).partition(":")[2]
    return {
        "type": "accuracy_loss",
        "name": f"loss of accuracy by quantization, {task}",
        "value": _finite(check.get("value")),
        "args": {"task": task, "unit": "fraction"},
    }


def _finite(value: object) -> float | int | None:
    number = numbers.as_float(value)
    if number is None or not math.isfinite(number):
        return None
    return value if isinstance(value, int) else number
