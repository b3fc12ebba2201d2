"""One small, complete run as `laaciq.json` holds it, and texts that try to break out of a report."""

from __future__ import annotations

import unicodedata
from typing import Any

from hypothesis import strategies as st

HOSTILE = (
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    '"><svg onload=alert(1)>',
    "</style></title><b>",
    "{{ 7 * 7 }}{% raw %}",
    "a|b\\|c`d``e",
    "[link](http://evil.example) ![i](x.png) https://evil.example www.evil.example",
    "**bold** _em_ ~~s~~ # h\n## heading\n\n- item\n1. one",
    "@everyone #1 <!-- c --> &amp; &#60;b&#62;",
    "\x1b[31mred\x1b[0m\x1b]0;title\x07\x9b2J",
    "\u202ereversed\u202c \u2066iso\u2069 \u200fmark \ufeff\u200bhidden",
    "\ud800 lone surrogate \x00 nul \x85 \u2028 separator",
    "[bold red]markup[/bold red] [/] :smile:",
    "1. list", "- item", "---", "+ plus", "> quote", "    code", "===",
    "العربية עברית",
    "می\u200cخواهم",
)  # fmt: skip


def hostile_texts() -> st.SearchStrategy[str]:
    """Texts that are special to HTML, Markdown, rich or a terminal, alone, joined, and mixed with any characters."""
    return st.lists(st.sampled_from(HOSTILE) | st.text(max_size=20), min_size=1, max_size=3).map("".join)


def language(name: str, degradation: float, **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "script": "Latn",
        "loss": 0.8 + degradation,
        "baseline_loss": 0.8,
        "degradation": degradation,
        "standard_error": 0.0013,
        "relative_perplexity": 3 * degradation,
        "sentences": 120,
        "tokens": 4096,
        "bytes": 17123,
        "calibration_tokens": 2048,
    } | more


def sample_run(**more: Any) -> dict[str, Any]:
    """Swahili is worst; Hebrew was not evaluated; INC RTN lost twice as much everywhere."""
    languages = {
        "en": language("English", 0.0021),
        "fi": language("Finnish", -0.0004, standard_error=0.0011),
        "he": {"name": "Hebrew", "missing": "no text was found"},
        "sw": language("Swahili", 0.0124, standard_error=0.0021),
    }
    others = {tag: entry | {"degradation": 2 * entry["degradation"]} for tag, entry in languages.items() if tag != "he"}
    aggregates = {"worst_language": "sw", "mean_degradation": 0.0047, "mean_standard_error": 0.0009}
    return {
        "schema": "inc-laaciq/run/1",
        "meta": {
            "time": "2026-11-22T06:40:00+00:00",
            "versions": {"torch": "2.13.0", "neural-compressor": "3.7.1"},
            "threads": 2,
            "seconds": {"calibrating": 12.34, "solving": 5.0},
        },
        "config": {"model": {"name": "tiny"}, "la_aciq": {"mode": "balanced", "gate": {"max_degradation": "10%"}}},
        "mode": "balanced",
        "reconcile": "mean",
        "model": {"name": "tiny-bloom", "sha256": "ab" * 32},
        "tokenizer": {"sha256": "cd" * 32},
        "texts": {
            "calibration": {"source": "texts/cal", "sha256": "ee" * 32, "tokens_per_language": 2048, "seed": 7},
            "evaluation": {"source": {"path": "c4"}, "sha256": "ff" * 32, "tokens_per_language": 0, "seed": 0},
        },
        "languages": languages,
        **aggregates,
        "disparity": 0.0128,
        "disparity_standard_error": 0.0024,
        "expected_disparity": 0.0031,
        "relative_disparity": 0.0384,
        "verdict": "FAIL",
        "reasons": ["FAIL he: not evaluated, no text was found"],
        "layers": [
            {"name": "h.0.dense", "bits": 4, "group_size": 64, "scheme": "sym", "n_weights": 16384},
            {"name": "h.0.wide", "bits": 8, "group_size": -1, "scheme": "asym", "n_weights": 65536},
            {"name": "lm_head", "float": "output layer", "n_weights": 393216},
        ],
        "comparisons": {
            "INC RTN": {
                "languages": others,
                **aggregates,
                "mean_degradation": 0.0094,
                "disparity": 0.0256,
                "disparity_standard_error": 0.003,
                "ratios": {
                    "mean": {"ratio": 0.5, "low": 0.41, "high": 0.63},
                    "worst": {"ratio": 0.5, "low": 0.4, "high": 0.6},
                    "disparity": {"ratio": 0.5, "low": 0.38, "high": 0.7},
                },
            }
        },
        "bytes": {
            "before": 4_812_000,
            "after": 2_310_000,
            "packed_layers_before": 3_145_728,
            "packed_layers_after": 443_392,
        },
        "notes": ["fi: 3 damaged lines were skipped."],
    } | more


def hostile_run(text: str) -> dict[str, Any]:
    """The same run with `text` wherever a text of others can stand, as value and as key."""
    run = sample_run(mode=text, reconcile=text, reasons=[text], notes=[text])
    run["meta"] |= {"time": text, "versions": {text: text}, "seconds": {text: 1.0}, "threads": text}
    run["config"] = {text: [text]}
    run["model"] = {"name": text, "sha256": text}
    run["tokenizer"] = {"sha256": text}
    run["texts"] = {text: {"source": text, "sha256": text, "seed": text}}
    run["languages"] = {
        "sw": language(text, 0.01, script=text),
        text: language(text, 0.02),
        f"{text}2": {"name": text, "missing": text},
    }
    run["worst_language"] = text
    run["layers"] = [
        {"name": text, "bits": text, "group_size": text, "scheme": text, "n_weights": text},
        {"name": text, "float": text},
    ]
    run["comparisons"] = {text: run["comparisons"]["INC RTN"]}
    return run


def hidden_characters(rendered: str) -> set[str]:
    """Characters of a rendering that a reader cannot see, but for line ends and the joiners that scripts need."""
    return {c for c in rendered if unicodedata.category(c) in {"Cc", "Cf", "Cs", "Zl", "Zp"}} - set("\n\u200c\u200d")


def shuffled(value: Any) -> Any:
    """The same content with the keys of every mapping in reverse order."""
    if isinstance(value, dict):
        return {key: shuffled(item) for key, item in reversed(value.items())}
    return [shuffled(item) for item in value] if isinstance(value, list) else value
