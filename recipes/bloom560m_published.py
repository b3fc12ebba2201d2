"""Which of the published figures on BLOOM-560M come out again, and what is left of the claim that they were made for.

    python recipes/bloom560m_published.py
    python recipes/bloom560m_published.py -o benchmarks/results/published.json

The claim: outlier layers decide which languages a quantized model harms, because the share of a language's activation
in those layers goes with its degradation.  The figures are in `bloom560m_published.json`, with their source; no model
is needed.  A figure "reproduces" if the same arithmetic on the published table gives it; that says nothing about what
it means, which is what the other columns are for.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from inc_laaciq import languages
from inc_laaciq.evaluation.risk import Association, associate
from inc_laaciq.output import write_json_atomic
from inc_laaciq.provenance import meta_without_model

DATA = Path(__file__).with_suffix(".json")
OUTLIER = 100.0  # excess kurtosis above which a layer counts as an outlier
NEIGHBOURS = {4, 6, 7, 23}  # layers that the published kappa_eff leaves out of both of its groups
BITS = 4

Figures = dict[str, float]


def main(arguments: list[str] | None = None) -> None:
    """Print what comes out, and write it as JSON if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path)
    options = parser.parse_args(arguments)
    content = result(json.loads(DATA.read_text(encoding="utf-8")))
    print(table(content))
    if options.output:
        write_json_atomic(options.output, content)


def result(data: dict[str, Any]) -> dict[str, Any]:
    """Everything that is printed, as plain data."""
    by_language: dict[str, Figures] = data["languages"]
    harm = {tag: entry["degradation"] for tag, entry in by_language.items()}
    latin = {tag: float(languages.script(languages.canonical(tag)) == "Latn") for tag in by_language}
    predictors = figures(data) | {"Latin script (1) or another (0)": latin}
    found = {
        name: associate(values, harm, confounders=None if values is latin else {"Latin script": latin})
        for name, values in predictors.items()
    }
    share = predictors["outlier activation"]
    within = {}
    for label, is_latin in (("Latin", 1.0), ("others", 0.0)):
        tags = [tag for tag in by_language if latin[tag] == is_latin]
        within[label] = associate({tag: share[tag] for tag in tags}, {tag: harm[tag] for tag in tags})
    content = {
        "question": "Which published figures on BLOOM-560M reproduce?",
        "meta": meta_without_model(),
        "source": data["source"],
        "degradation_source": data["degradation_source"],
        "claims": claims(data, found),
        "predictors": {name: dataclasses.asdict(entry) for name, entry in found.items()},
        "within": {label: dataclasses.asdict(entry) for label, entry in within.items()},
    }
    return content | {"conclusion": conclusion(found, within)}


def figures(data: dict[str, Any]) -> dict[str, Figures]:
    """Each predictor by language: as published, and as the published formulas make it."""
    by_language = data["languages"]
    share = {tag: entry["outlier_activation"] for tag, entry in by_language.items()}
    kappa = {tag: kappa_eff(value, data["layer_kurtosis"]) for tag, value in share.items()}
    return {
        "outlier activation": share,
        "activation-weighted kurtosis": {tag: entry["weighted_kurtosis"] for tag, entry in by_language.items()},
        "kappa_eff": kappa,
        "predicted error": {tag: predicted_error(value) for tag, value in kappa.items()},
        "XGLM: activation-weighted kurtosis": {
            tag: entry["xglm_weighted_kurtosis"] for tag, entry in by_language.items()
        },
    }


def kappa_eff(share: float, layer_kurtosis: list[float]) -> float:
    """Published effective kurtosis of a language: outlier layers weighted by its share, the rest by what is left.

    The kurtosis values are the same for all languages, so this is a straight line in the share.
    """
    outliers = [value for value in layer_kurtosis if value > OUTLIER]
    rest = [v for layer, v in enumerate(layer_kurtosis) if v <= OUTLIER and layer not in NEIGHBOURS]
    return share * float(np.mean(outliers)) + (1 - share) * float(np.mean(rest))


def predicted_error(kappa: float) -> float:
    """Published prediction: rounding and clipping error of a Gaussian at the threshold that kappa suggests."""
    alpha = 2.5 + 0.3 * math.log1p(kappa)
    step = 2 * alpha / (2**BITS - 1)
    return step**2 / 12 + 2 * float(stats.norm.sf(alpha)) * alpha**2


def claims(data: dict[str, Any], found: dict[str, Association]) -> list[dict[str, str]]:
    """Each published figure beside the one that comes out."""
    outliers = [layer for layer, value in enumerate(data["layer_kurtosis"]) if value > OUTLIER]
    shares = [100 * entry["outlier_activation"] for entry in data["languages"].values()]
    xglm = found["XGLM: activation-weighted kurtosis"]
    rows = [
        ("layers with excess kurtosis above 100", "5, 21, 22", ", ".join(map(str, outliers)), ""),
        ("outlier activation of the languages", "17.2 to 20.5 %", f"{min(shares):.1f} to {max(shares):.1f} %", ""),
        ("r of outlier activation", "-0.834", f"{found['outlier activation'].pearson:+.3f}", ""),
        (
            "r of activation-weighted kurtosis",
            "-0.766",
            f"{found['activation-weighted kurtosis'].pearson:+.3f}",
            "",
        ),
        (
            "r of kappa_eff",
            "-0.838",
            f"{found['kappa_eff'].pearson:+.3f}",
            "a straight line in the outlier activation, so its r again",
        ),
        (
            "r of the predicted error",
            "+0.838",
            f"{found['predicted error'].pearson:+.3f}",
            "a curve of the outlier activation, so no second finding",
        ),
        (
            "r on a second model, XGLM-564M",
            "+0.377",
            f"{xglm.pearson:+.3f}",
            f"the other sign, p = {xglm.pearson_p:.2f}: the pattern does not carry over",
        ),
    ]
    return [
        {"what": what, "published": published, "found": value, "reproduces": verdict(published, value), "note": note}
        for what, published, value, note in rows
    ]


def verdict(published: str, value: str) -> str:
    """Whether both read the same."""
    return "yes" if published == value else "no"


def conclusion(found: dict[str, Association], within: dict[str, Association]) -> str:
    """What the figures do and do not say, with the figures."""
    share, script = found["outlier activation"], found["Latin script (1) or another (0)"]
    one, other = within["Latin"], within["others"]
    assert share.partial is not None  # asked for above
    return (
        f"The arithmetic reproduces except for the r of kappa_eff; the claim is not shown. r = {share.pearson:+.2f} "
        f"rests on {share.n} languages, [{share.lower:+.2f}, {share.upper:+.2f}], and says that languages which use "
        f"the outlier layers more lose less. Latin script alone gives {script.pearson:+.2f}; with script taken out "
        f"{share.partial.value:+.2f} is left (p = {share.partial.p:.3f}), {one.pearson:+.2f} among {one.n} Latin "
        f"languages (p = {one.pearson_p:.2f}) and {other.pearson:+.2f} among {other.n} others "
        f"(p = {other.pearson_p:.2f}). The degradations are those of other models, read off figures, and the "
        "activations come from one sentence a language, so none of this is evidence about your model: measure it."
    )


def table(content: dict[str, Any]) -> str:
    """The result as text."""
    lines = ["published figure                        published       found           reproduces"]
    for claim in content["claims"]:
        lines.append(f"{claim['what']:<39} {claim['published']:<15} {claim['found']:<15} {claim['reproduces']}")
        lines += [f"    {claim['note']}"] if claim["note"] else []
    lines += [
        "",
        "r with degradation, 14 languages         r      p        95 % interval     without one      script out",
    ]
    for name, entry in content["predictors"].items():
        values = [0.0 if value is None else value for value in entry["without"].values()]
        partial = entry["partial"]
        left = f"{partial['value']:+.2f} (p {partial['p']:.3f})" if partial else ""
        lines.append(
            f"{name:<38} {entry['pearson']:+.3f}  {entry['pearson_p']:.4f}  [{entry['lower']:+.2f}, "
            f"{entry['upper']:+.2f}]  {min(values):+.2f} to {max(values):+.2f}  {left}"
        )
    for label, entry in content["within"].items():
        lines.append(
            f"{'outlier activation, ' + label + ' only':<38} {entry['pearson']:+.3f}  {entry['pearson_p']:.4f}  "
            f"[{entry['lower']:+.2f}, {entry['upper']:+.2f}]"
        )
    return "\n".join([*lines, "", content["conclusion"]])


if __name__ == "__main__":
    main()
