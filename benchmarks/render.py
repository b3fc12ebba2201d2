"""Write the tables of the README from the JSON files in `results/`, so that no figure is typed by hand.

python benchmarks/render.py            # rewrites README.md between its markers
python benchmarks/render.py --check    # exits 1 if the README is not what the JSON files say
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
README = HERE.parent / "README.md"
STATISTICS = ("mean", "worst", "disparity")


def main() -> None:
    """Rewrite or check the README."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 if something is out of date")
    check = parser.parse_args().check
    text = README.read_text(encoding="utf-8")
    wanted = rendered(text)
    if check and wanted != text:
        raise SystemExit("README.md is out of date: run python benchmarks/render.py")
    if not check:
        README.write_text(wanted, encoding="utf-8")


def rendered(text: str) -> str:
    """The README with its tables made anew."""
    tables = {
        "demo": demo,
        "gate": gate,
        "simulated": simulated,
        "methods": methods,
        "speed": speed,
    }
    for name, table in ((name, make()) for name, make in tables.items()):
        pattern = rf"(<!-- {name}:begin -->\n).*?(<!-- {name}:end -->)"
        text = re.sub(pattern, lambda found, table=table: f"{found[1]}{table}\n{found[2]}", text, flags=re.DOTALL)
    return text


def load(name: str) -> dict[str, Any]:
    """Content of a results file."""
    content: dict[str, Any] = json.loads((HERE / "results" / f"{name}.json").read_text(encoding="utf-8"))
    return content


def milli(value: float) -> str:
    """Millinats per byte with a sign."""
    return f"{1000 * value:+.2f}"


def demo() -> str:
    """The demo's table: degradation of every language, worst first."""
    run = load("demo")
    other = run["comparisons"]["INC RTN"]
    lines = ["| language | la_aciq, mnat/B | Neural Compressor's RTN, mnat/B |", "|---|---|---|"]
    for tag, entry in sorted(run["languages"].items(), key=lambda item: -item[1]["degradation"]):
        theirs = other["languages"][tag]
        lines.append(
            f"| {entry['name']} | {milli(entry['degradation'])} ± {1000 * entry['standard_error']:.2f} "
            f"| {milli(theirs['degradation'])} ± {1000 * theirs['standard_error']:.2f} |"
        )
    for label, key in (("mean", "mean_degradation"), ("disparity", "disparity")):
        lines.append(f"| **{label}** | **{milli(run[key])}** | **{milli(other[key])}** |")
    ratios = ", ".join(
        f"{name} {ratio['ratio']:.2f} [{ratio['low']:.2f}, {ratio['high']:.2f}]"
        for name, ratio in ((name, other["ratios"][name]) for name in STATISTICS)
    )
    size = run["bytes"]
    return "\n".join(lines) + (
        "\n\nLoss that 4-bit weights (groups of 64) add, in thousandths of a nat per UTF-8 byte, ± one standard "
        f"error; {run['texts']['evaluation']['tokens_per_language']} tokens of evaluation text a language. la_aciq "
        f"divided by RTN, with 95 % intervals: {ratios}. "
        f"Size {size['before'] / 1e6:.1f} MB to {size['after'] / 1e6:.1f} MB (embeddings stay in float)."
    )


def gate() -> str:
    """What the gate prints about the stored example: the table, the verdict and its reasons."""
    example = HERE.parent / "recipes" / "ci"
    command = ["gate", "recipes/ci/example", "--policy", str(example / "policy.yaml")]
    done = subprocess.run(
        [sys.executable, "-m", "inc_laaciq.cli", *command],
        capture_output=True, encoding="utf-8", check=False, cwd=HERE.parent,
        env={**os.environ, "COLUMNS": "80", "PYTHONIOENCODING": "utf-8", "GITHUB_ACTIONS": ""},
    )  # fmt: skip
    if done.returncode != 3:
        raise SystemExit(f"the example must fail the gate: {done.returncode}, {done.stderr}")
    blocks = done.stdout.split("\n\n")
    table = next(block for block in blocks if block.startswith("verdict "))
    end = done.stdout[done.stdout.index("\nverdict: ") + 1 :]
    lines = [line.rstrip() for line in f"{table}\n\n{end}".splitlines()]
    return "\n".join(["```text", *lines, "```"])


def simulated() -> str:
    """How often the gate is wrong, by simulation."""
    run = load("gate")
    lines = [
        "| documents a language | false pass at the margin (95 % limit) | worst population | harmless model passes |",
        "|---|---|---|---|",
    ]
    for wrong, power in zip(run["false_pass"], run["power"], strict=True):
        lines.append(
            f"| {wrong['documents']} | {100 * wrong['rate']:.1f} % ({100 * wrong['upper_limit']:.1f} %) "
            f"| {100 * wrong['worst_rate']:.1f} % | {100 * power['passes']:.1f} % "
            f"at {1000 * power['margin_npb']:.1f} mnat/B |"
        )
    intervals = "; ".join(
        f"{entry['truth']}: worst language {100 * entry['worst']['coverage']:.1f} % "
        f"(width {1000 * entry['worst']['mean_width_npb']:.1f} mnat/B), "
        f"disparity {100 * entry['disparity']['coverage']:.1f} % "
        f"(width {1000 * entry['disparity']['mean_width_npb']:.1f} mnat/B)"
        for entry in run["coverage"]
    )
    first = run["coverage"][0]
    return "\n".join(lines) + (
        f"\n\n{run['languages']} simulated languages, {run['simulations']} simulations or more. Two-sided 95 % "
        f"intervals held the truth, with {first['documents']} documents a language, in: {intervals}."
    )


def methods() -> str:
    """Every method at every width: the worst language by loss and by divergence, and how fair compares."""
    content = load("methods_small_bloom")
    found = {(entry["method"], entry["calibration"], entry["bits"]): entry for entry in content["summary"]}
    widths = sorted({bits for _, _, bits in found}, reverse=True)
    ratio_of = {
        (entry["baseline"], entry["baseline_calibration"], entry["bits"]): entry["kl"]["worst"]["median"]
        for entry in content["ratios"]
        if entry["ours"] == "la_aciq-fair"
    }
    head = " | ".join(f"{bits} bits: loss | KL | fair / it | seconds" for bits in widths)
    lines = [f"| method | calibrated on | {head} |", "|---" * (2 + 4 * len(widths)) + "|"]
    for method, calibration in dict.fromkeys((method, calibration) for method, calibration, _ in found):
        cells = []
        for bits in widths:
            entry = found.get((method, calibration, bits))
            if entry is None:
                cells += ["", "", "", ""]
                continue
            ratio = ratio_of.get((method, calibration, bits))
            cells += [
                f"{1000 * entry['degradation']['worst']:.1f}",
                f"{1000 * entry['kl']['worst']:.1f}",
                "" if ratio is None else f"{ratio:.2f}",
                f"{entry['seconds']:.0f}",
            ]
        lines.append(f"| {method} | {calibration} | {' | '.join(cells)} |")
    seeds = max(entry["seeds"] for entry in content["summary"])
    return "\n".join(lines) + (
        f"\n\nWorst of {len(content['texts']['evaluation_tokens'])} languages, in thousandths of a nat per UTF-8 byte: "
        "by the loss, whose standard error is about 1 at 4 bits and 2 at 3, and by the divergence from the float model "
        "(KL), whose error is a twentieth of that. `fair / it`: the KL of `la_aciq-fair` divided by that of the row. "
        f"Text that nothing was chosen on; at most {seeds} calibration seeds, "
        f"{content['meta']['calibration_tokens_per_language']} tokens a language; seconds on one busy thread."
    )


def speed() -> str:
    """Speed of the solver and of calibration."""
    content = load("solver")
    lines = ["| work, one thread | million weights a second | against plain absmax rounding |", "|---|---|---|"]
    for name, figures in content["weights"].items():
        rate, ratio = figures["million_weights_per_second"], figures["ratio_to_absmax"]
        lines.append(f"| {name} | {rate:.1f} | {ratio:.2f}x |")
    diagonal = content["calibration"]["calibration diagonal"]["ratio_to_forward"]
    full = content["calibration"]["calibration full"]["ratio_to_forward"]
    return "\n".join(lines) + (
        f"\n\nCalibration takes {diagonal:.2f} times a plain forward pass with the diagonal statistics of `fast`, "
        f"{full:.2f} times with the full ones of `balanced` (Bloom, hidden size 1024, 4096 tokens)."
    )


if __name__ == "__main__":
    main()
