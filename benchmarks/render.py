"""Write the tables of the READMEs from the JSON files in `results/`, so that no figure is typed by hand.

python benchmarks/render.py            # rewrites every README between its markers
python benchmarks/render.py --check    # exits 1 if one is not what the JSON files say
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import NormalDist
from typing import Any

import assessed
import small_bloom_tables as small_bloom
import swept
from aciq import report as aciq_report
from deployed import report as deployed
from export_cost import report as export_cost
from methods import readme as methods
from speed import report
from static import readme as static_ranges

HERE = Path(__file__).parent
README = HERE.parent / "README.md"
MEASURED = HERE / "README.md"
SMALL_BLOOM = HERE.parent / "recipes/small_bloom/README.md"
SMALL_LLAMA = HERE.parent / "recipes/small_llama/README.md"
Tables = dict[str, Callable[[], str]]
STATISTICS = ("mean", "worst", "disparity")
MEAN_WORST = ("mean", "worst")


def main() -> None:
    """Rewrite or check the READMEs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 if something is out of date")
    check = parser.parse_args().check
    llama = {"losses": lambda: small_bloom.beside(load("small_llama_losses"), load("small_bloom_losses"))}
    pages = {README: readme_tables(), MEASURED: measured_tables(), SMALL_BLOOM: recipe_tables(), SMALL_LLAMA: llama}
    for page, tables in pages.items():
        text = page.read_text(encoding="utf-8")
        wanted = rendered(text, tables)
        if check and wanted != text:
            raise SystemExit(f"{page.relative_to(HERE.parent)} is out of date: run python benchmarks/render.py")
        if not check:
            page.write_text(wanted, encoding="utf-8")


def readme_tables() -> Tables:
    """Tables of README.md, by the name in their markers."""
    return {
        "demo": demo,
        "gate": gate,
        "methods": lambda: methods.table(load("methods_small_bloom")),
        "promised": lambda: methods.promised(found(methods.TARGETED)),
    }


def measured_tables() -> Tables:
    """Tables of benchmarks/README.md."""
    return {
        "targets": lambda: methods.targets(found(methods.TARGETED)),
        "spreads": lambda: methods.spreads(found(methods.TARGETED)),
        "others": lambda: methods.others(found(methods.OTHERS)),
        "labels": lambda: methods.labels(found(methods.LABELLED)),
        "parts": parts,
        "openvino": openvino,
        "assess": lambda: assessed.table(found(assessed.MODELS)),
        "sweep": lambda: swept.table(load("sweep_small_bloom")),
        "static": static,
        "pt2e": lambda: static_ranges.pt2e(found(static_ranges.PT2E)),
        "simulated": simulated,
        "speed": speed,
        "aciq": lambda: aciq_report.readme(load("aciq")),
        "published": published,
    }


def recipe_tables() -> Tables:
    """Tables of recipes/small_bloom/README.md."""
    return {
        "losses": lambda: small_bloom.losses(load("small_bloom_losses")),
        "rounded": lambda: small_bloom.rounded(load("small_bloom_losses")),
        "outliers": lambda: small_bloom.outliers(load("small_bloom_losses"), load("outliers_losses")),
    }


def rendered(text: str, tables: Tables) -> str:
    """A page with its tables made anew."""
    for name, table in ((name, make()) for name, make in tables.items()):
        pattern = rf"(<!-- {name}:begin -->\n).*?(<!-- {name}:end -->)"
        text, n = re.subn(pattern, lambda found, table=table: f"{found[1]}{table}\n{found[2]}", text, flags=re.DOTALL)
        if n != 1:
            raise SystemExit(f"the page has {n} places for table {name!r} (<!-- {name}:begin -->), and needs one")
    return text


def found(names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Those of some results that are there."""
    return {name: load(name) for name in names if (HERE / "results" / f"{name}.json").is_file()}


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
    per_population = run["false_pass"][0]["simulations"] // len(run["populations"])
    highest = NormalDist().inv_cdf(0.5 ** (1 / len(run["populations"])))  # median of the largest of so many
    rate = 1 - run["confidence"]
    by_chance = rate + highest * (rate * (1 - rate) / per_population) ** 0.5
    return "\n".join(lines) + (
        f"\n\n{run['languages']} simulated languages, {run['simulations']} simulations or more. Two-sided 95 % "
        f"intervals held the truth, with {first['documents']} documents a language, in: {intervals}. The worst of "
        f"{len(run['populations'])} populations has but {per_population} simulations at a margin: chance alone would "
        f"show {100 * by_chance:.1f} % there."
    )


def parts() -> str:
    """What each part of the method changes, one thing at a time: by the divergence from the float model and by loss."""
    content = load("parts")
    widths = sorted({row["bits"] for row in content["rows"]}, reverse=True)
    found = {(row["part"], row["bits"]): row for row in content["rows"]}
    lines = [
        f"| what | {' | '.join(f'{bits} bits: KL, mean | worst | loss, mean | worst | seconds' for bits in widths)} |",
        "|---" * (1 + 5 * len(widths)) + "|",
    ]
    for part in dict.fromkeys(row["part"] for row in content["rows"]):
        cells = []
        for bits in widths:
            row = found.get((part, bits))
            if row is None:
                cells += 5 * [""]
                continue
            cells += [f"{1000 * row[measure][kind]:.2f}" for measure in ("kl", "degradation") for kind in MEAN_WORST]
            cells.append(f"{row['cpu_seconds']:.0f}")
        lines.append(f"| {part} | {' | '.join(cells)} |")
    tokens = content["meta"]["what"]["evaluation_tokens"]
    return "\n".join(lines) + (
        f"\n\nThousandths of a nat per token, {tokens} tokens a language of the text that choices are made on, one "
        "calibration seed."
    )


def openvino() -> str:
    """OpenVINO models as they are deployed, and what an export takes."""
    runs = [deployed.readme(load(path.stem)) for path in sorted((HERE / "results").glob("openvino_*.json"))]
    return "\n\n".join([*runs, export_cost.readme(load("export_cost"))])


def static() -> str:
    """Static ranges: the worst language by method, la_aciq beside it, and the verdicts."""
    runs = [load(path.stem) for path in sorted((HERE / "results").glob("static_*.json"))]
    lines = ["| model | grid | method | loss | KL | la_aciq / it by KL |", "|---|---|---|---|---|---|"]
    said, sizes, goals = [], [], []
    for run in runs:
        name = run["model"]["name"] if run["model"]["name"] != "model" else run["model"]["architecture"]
        ratio_of = {(entry["study"], entry["baseline"]): entry["kl"]["worst"] for entry in run["ratios"]}
        for entry in run["summary"]:
            found = ratio_of.get((entry["study"], entry["method"]))
            cell = f"{found['median']:.2f} [{found['low']:.2f}, {found['high']:.2f}]" if found else ""
            harm = f"{1000 * entry['degradation']['worst']:.2f} | {1000 * entry['kl']['worst']:.2f}"
            lines.append(f"| {name} | {entry['study']} | {entry['method']} | {harm} | {cell} |")
        for baseline, by_measure in run["verdicts"]["W8A8"].items():
            for measure, label in (("degradation", "loss"), ("kl", "KL")):
                each, joint = (", ".join(by_measure[measure][key]) or "none" for key in ("worse", "joint_worse"))
                said.append(f"{name} against {baseline} by the {label}: {each} ({joint})")
        for entry in (entry for entry in run["ratios"] if "target" in entry):
            parts = " and ".join(
                f"{entry[measure]['worst']['median']:.3f} ({entry['verdict'][measure]})"
                for measure in ("degradation", "kl")
            )
            goals.append(f"{name} {parts}, target {entry['target']}")
        seeds = max(entry["seeds"] for entry in run["summary"])
        tokens = run["meta"]["evaluation_tokens_per_language"]
        sizes.append(f"{name}: calibration seeds {seeds}, evaluation tokens a language {tokens}")
    return "\n".join(lines) + (
        f"\n\nWorst language, thousandths of a nat per byte ({'; '.join(sizes)}). W8A4 is simulated; la_aciq divided "
        f"by min-max in the worst language, by loss and by KL: {'; '.join(goals)}. W8A8, languages in which la_aciq is "
        "worse beyond noise, each by its own 95 % interval (and by intervals that hold in all languages at once): "
        f"{'; '.join(said)}."
    )


def speed() -> str:
    """Speed and memory of every mode."""
    content = load("speed")
    if content["is_quick"]:
        raise SystemExit("results/speed.json is of a quick run, whose figures mean nothing: run bench_speed.py in full")
    return report.readme(content)


def published() -> str:
    """Which published figures on BLOOM-560M come out again, and what is left of their claim."""
    content = load("published")
    lines = ["| published figure | published | found | reproduces |", "|---|---|---|---|"]
    for claim in content["claims"]:
        note = f" ({claim['note']})" if claim["note"] else ""
        lines.append(f"| {claim['what']} | {claim['published']} | {claim['found']} | {claim['reproduces']}{note} |")
    return "\n".join([*lines, "", content["conclusion"]])


if __name__ == "__main__":
    main()
