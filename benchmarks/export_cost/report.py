"""A result as the sentences of the README."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from export_cost import names


def readme(content: Mapping[str, Any]) -> str:
    """What an export takes beside optimum's own, and the verdicts."""
    if content["is_quick"]:
        raise SystemExit("results/export_cost.json is of a quick run: run bench_export_cost.py in full")
    runs, settings = content["runs"], content["settings"]
    said = "; ".join(
        f"{entry['name']}: {entry['value']:.2f}, {entry['side']} {entry['limit']:g}, {entry['verdict']}"
        for entry in content["targets"]
    )
    text = ""
    balanced = content["ratios"].get(f"peak memory, {names.BALANCED} / {names.PLAIN}")
    if balanced is not None:
        text = (
            f" With {settings['tokens_per_language']} tokens of text in each of {len(settings['languages'])} languages "
            f"`balanced` takes {balanced:.2f} times the memory: it holds the statistics of all layers."
        )
    return (
        f"Cost of the export of {content['model']['name']} ({content['model']['bytes'] / 1e6:.0f} MB in float32, "
        f"{runs[names.FAST]['model_bytes'] / 1e6:.0f} MB after it) beside optimum's own of the float model, whose "
        f"peak is {runs[names.PLAIN]['peak_bytes'] / 1e6:.0f} MB: {said}.{text}"
    )
