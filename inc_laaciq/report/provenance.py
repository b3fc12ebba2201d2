"""Where a result comes from, and what was done to each layer, as texts.

Mappings are sorted: a file that was written and read again may hold its keys in another order, and the report must
not change with it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import yaml

from inc_laaciq.report import numbers
from inc_laaciq.report.characters import visible
from inc_laaciq.report.document import GATE_SCHEMA, Document, section


@dataclass(frozen=True, kw_only=True)
class LayerRow:
    """One layer: its grid, or why it stays in float."""

    name: str
    grid: str
    weights: str


def layer_rows(layers: Sequence[Document]) -> tuple[tuple[LayerRow, ...], str]:
    """Rows of the table of layers, and one line that counts them by grid.

    Parameters
    ----------
    layers : sequence of mapping
        `name` with `bits`, `group_size`, `scheme` and `n_weights`, or with `float`, the reason.

    Examples
    --------
    >>> layer_rows([{"name": "a", "bits": 4, "group_size": 64, "scheme": "sym"}, {"name": "b", "float": "excluded"}])[1]
    '2 layers: 1 float; 1 int4 sym, groups of 64'
    """
    rows = []
    kinds: Counter[str] = Counter()
    for layer in layers:
        grid = _grid(layer)
        kinds["float" if "float" in layer else grid] += 1
        rows.append(LayerRow(name=visible(layer.get("name")), grid=grid, weights=numbers.count(layer.get("n_weights"))))
    if not rows:
        return (), ""
    counted = "; ".join(f"{n} {kind}" for kind, n in sorted(kinds.items(), key=lambda pair: (-pair[1], pair[0])))
    return tuple(rows), f"{len(rows)} layer{'s' if len(rows) > 1 else ''}: {counted}"


def _grid(layer: Document) -> str:
    if "float" in layer:
        return f"float: {visible(layer['float']) or 'no reason was recorded'}"
    if "dtype" in layer:
        return f"{visible(layer['dtype'])}, one scale per tensor"
    size = layer.get("group_size")
    groups = "one scale per channel" if size == -1 else f"groups of {visible(size)}"
    return f"int{visible(layer.get('bits'))} {visible(layer.get('scheme'))}, {groups}"


def provenance(document: Document) -> tuple[tuple[str, str], ...]:
    """Label and text of each thing that a reader needs to repeat the run; what is not recorded is left out."""
    meta, model = section(document, "meta"), section(document, "model")
    rows = [
        *_sides(document),
        ("model", visible(model.get("name"))),
        ("model SHA-256", visible(model.get("sha256"))),
        ("tokenizer SHA-256", visible(section(document, "tokenizer").get("sha256"))),
        *_texts(document),
        ("mode", visible(document.get("mode"))),
        ("reconcile", visible(document.get("reconcile"))),
        ("Neural Compressor's API", visible(document.get("api"))),
        *_policy(section(document, "policy")),
        ("versions", _pairs(section(meta, "versions"))),
        ("threads", visible(meta.get("threads"))),
        ("time taken", _durations(section(meta, "seconds"))),
        ("written", visible(meta.get("time"))),
        ("schema", visible(document.get("schema"))),
    ]
    return tuple((label, text) for label, text in rows if text)


def _sides(document: Document) -> list[tuple[str, str]]:
    """What was compared with what."""
    rows = []
    for side in ("candidate", "baseline", "previous") if document.get("schema") == GATE_SCHEMA else ():
        entry = section(document, side)
        rows.append((side, visible(entry.get("name"))))
        rows.append((f"{side} results", visible(entry.get("id"))))
        rows.append((f"{side} model SHA-256", visible(entry.get("model_sha256"))))
    return rows


def _policy(policy: Document) -> list[tuple[str, str]]:
    return [
        ("policy", visible(policy.get("source"))),
        ("policy SHA-256", visible(policy.get("sha256"))),
        ("confidence", numbers.share(policy.get("confidence")) if policy.get("confidence") is not None else ""),
    ]


def policy_text(document: Document) -> str:
    """Give the policy as text, one line a rule; empty if none is recorded."""
    text = section(document, "policy").get("text")
    return text if isinstance(text, str) else ""


def configuration(document: Document) -> str:
    """Write the configuration as yaml, which is how it was given; empty if none is recorded."""
    config = section(document, "config")
    return str(yaml.safe_dump(dict(config), sort_keys=True, allow_unicode=True, width=100)) if config else ""


def _texts(document: Document) -> list[tuple[str, str]]:
    rows = []
    texts = section(document, "texts")
    if texts.keys() & {"source", "sha256"}:  # those of an evaluation itself, which has no other
        texts = {"evaluation": texts}
    for use in sorted(texts):
        text = section(texts, use)
        facts = (
            _source(text.get("source")),
            _tokens(text.get("tokens_per_language")),
            _labelled("seed", visible(text.get("seed"))),
            _labelled("SHA-256", visible(text.get("sha256"))),
        )
        rows.append((f"{visible(use)} text", ", ".join(fact for fact in facts if fact)))
    return rows


def _source(given: object) -> str:
    """Write a folder or file as it is, and a data set as its arguments."""
    if isinstance(given, Mapping):
        return " ".join(f"{visible(name)}={visible(value)}" for name, value in sorted(given.items(), key=str))
    return visible(given)


def _tokens(per_language: object) -> str:
    written = numbers.count(per_language)
    return "all tokens" if written == "0" else _labelled("tokens per language", written)


def _labelled(label: str, text: str) -> str:
    return f"{label} {text}" if text and text != numbers.UNKNOWN else ""


def _pairs(mapping: Document) -> str:
    return ", ".join(f"{visible(name)} {visible(value)}" for name, value in sorted(mapping.items()))


def _durations(mapping: Document) -> str:
    return ", ".join(f"{visible(name)} {numbers.seconds(value)}" for name, value in sorted(mapping.items()))
