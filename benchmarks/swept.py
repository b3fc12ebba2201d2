"""The README's table of a sweep, from what `inc-laaciq sweep` wrote."""

from __future__ import annotations

from typing import Any


def table(document: dict[str, Any]) -> str:
    """Degradation and disparity at each width, and how many languages are within the margin."""
    spec = document["spec"]
    methods, fewest = spec["methods"], document["fewest_bits"]
    cells = {(cell["method"], cell["bits"]): cell for cell in document["cells"]}
    lines = [
        f"| bits | {' | '.join(f'{method}: mean | worst | disparity | languages kept' for method in methods)} |",
        "|---" * (1 + 4 * len(methods)) + "|",
    ]
    for bits in sorted(spec["bits"], reverse=True):
        parts = []
        for method in methods:
            cell = cells[method, bits]
            worst = cell["languages"][cell["worst_language"]]["degradation"]
            kept = sum(1 for need in fewest[method].values() if need is not None and need <= bits)
            parts += [
                _milli(cell["mean_degradation"]),
                f"{_milli(worst)} ({cell['worst_language']})",
                _milli(cell["disparity"]),
                f"{kept} of {len(fewest[method])}",
            ]
        lines.append(f"| {bits} | {' | '.join(parts)} |")
    errors = [cell["languages"][cell["worst_language"]]["standard_error"] for cell in document["cells"]]
    return "\n".join(lines) + (
        f"\n\nThousandths of a nat per UTF-8 byte on {spec['tokens_per_language']} tokens a language, groups of "
        f"{spec['group_size']}, {document['calibration_tokens']} tokens a language to calibrate on; the worst "
        f"language's figure has a standard error of {_milli(min(errors))} to {_milli(max(errors))}. Kept: from this "
        f"width on upwards, the one-sided 95 % bound of a language is within {spec['margin']}."
    )


def _milli(value: float) -> str:
    return f"{1000 * value:.2f}"
