"""How often does the gate pass a harmed language, how often does it pass when all is well, and do its intervals hold?

    python benchmarks/bench_gate.py -o benchmarks/results/gate.json

Populations are real: documents of the shipped evaluation text as `evaluate` takes them (8192 tokens of a language),
with the change in loss that Neural Compressor's own rounding at 3 and 4 bits causes in them.  A simulated language
draws documents from one of these populations with replacement, shifted so that its true degradation is known.  What
is simulated is the product's own code.

- false pass: one language is exactly at the margin and all others are harmless; the gate passes if that language's
  upper bound is below the margin.  That the others certainly pass is the worst case.
- power: 40 harmless languages and one margin, for which the text of the noisiest language suffices on average by
  `detectable`; also where the gate calls the text sufficient, and with a margin of its own for every language, each as
  tight as its text allows.
- coverage: two-sided 95 % intervals of the worst of 40 languages and of their disparity, where all languages are
  equally harmed, where one is worse, and where they differ as they really do.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from inc_laaciq.backends import inc_api, inc_fit
from inc_laaciq.calibration.corpus import read_texts
from inc_laaciq.calibration.layers import find_layers
from inc_laaciq.checkpoint import load_model
from inc_laaciq.config import WeightSpec
from inc_laaciq.evaluation.likelihood import sentence_losses
from inc_laaciq.evaluation.pairs import Pairs, pair_losses
from inc_laaciq.evaluation.resampling import Resampled, Resampler, resample
from inc_laaciq.evaluation.statistics import (
    MIN_EFFECTIVE,
    detectable,
    disparity_bounds,
    language_bounds,
    worst_bounds,
)
from inc_laaciq.output import write_json_atomic
from inc_laaciq.provenance import meta

SHIPPED = Path(__file__).parents[1] / "recipes" / "small_bloom"
LANGUAGES = 40
CONFIDENCE = 0.95
TOKENS = 8192


class CachedResampler(Resampler):
    """The product's draws, kept from simulation to simulation: they depend on label and size only."""

    def __init__(self, draws: int) -> None:
        super().__init__(draws)
        self._kept: dict[tuple[str, int], NDArray[np.float32]] = {}

    def counts(self, label: str, n: int) -> NDArray[np.float32]:
        """As in the product."""
        key = (label, n)
        if key not in self._kept:
            self._kept[key] = super().counts(label, n).astype(np.float32)  # half the memory, and whole numbers
        return self._kept[key]


def main() -> None:
    """Run the simulations and write their JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--simulations", type=int, default=2000)
    parser.add_argument("--documents", type=int, nargs="+", default=[30, 60, 120])
    parser.add_argument("--draws", type=int, default=2000, help="bootstrap draws; the product takes 10,000")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-o", "--output", type=Path, required=True)
    options = parser.parse_args()
    started = time.monotonic()
    populations = measured_populations()
    resampler = CachedResampler(options.draws)
    content: dict[str, Any] = {
        "question": (__doc__ or "").splitlines()[0],
        "meta": meta(),
        "simulations": options.simulations,
        "draws": options.draws,
        "languages": LANGUAGES,
        "confidence": CONFIDENCE,
        "populations": [
            {
                "name": pairs.tag,
                "documents": pairs.n_clusters,
                "effective": pairs.n_effective,
                "skewness": skewness(pairs),
            }
            for pairs in populations
        ],
        "false_pass": [],
        "power": [],
        "coverage": [],
    }
    for documents in options.documents:
        generator = np.random.default_rng([options.seed, documents])
        content["false_pass"].append(false_pass(populations, documents, options.simulations, generator, resampler))
        print(content["false_pass"][-1], flush=True)
        content["power"].append(power(populations, documents, options.simulations, generator, resampler))
        print(content["power"][-1], flush=True)
    documents = options.documents[len(options.documents) // 2]
    for truth in ("equal", "one worse", "as measured"):
        generator = np.random.default_rng([options.seed, documents, len(truth)])
        content["coverage"].append(coverage(populations, truth, documents, options.simulations, generator, resampler))
        print(content["coverage"][-1], flush=True)
    content["meta"]["seconds"] = time.monotonic() - started
    write_json_atomic(options.output, content)


def measured_populations() -> list[Pairs]:
    """Documents of every language of the shipped text, under Neural Compressor's RTN at 3 and at 4 bits."""
    source = load_model(SHIPPED / "model")
    corpus = read_texts(SHIPPED / "text" / "evaluation")
    baseline = sentence_losses(source.model, source.tokenizer, corpus, tokens_per_language=TOKENS)
    found = []
    for bits in (3, 4):
        with inc_api.quiet("adaptor"):
            rounded = inc_fit.fit_rtn(source.model, find_layers(source.model, WeightSpec(bits=bits, group_size=64)))
        losses = sentence_losses(rounded, source.tokenizer, corpus, tokens_per_language=TOKENS)
        for tag, before in baseline.items():
            pairs = pair_losses(losses[tag], before, "bytes")
            found.append(
                Pairs(
                    tag=f"{tag} {bits} bits", difference=pairs.difference, size=pairs.size, kind=pairs.kind, n=pairs.n
                )
            )
    return found


def skewness(pairs: Pairs) -> float:
    """Of the documents' residuals."""
    return float(stats.skew(pairs.residual))


def draw(population: Pairs, tag: str, truth: float, documents: int, generator: np.random.Generator) -> Pairs:
    """A sample of documents from a population whose true degradation is made `truth`."""
    chosen = generator.integers(0, population.n_clusters, documents)
    size = population.size[chosen]
    difference = population.residual[chosen] + truth * size
    return Pairs(tag=tag, difference=difference, size=size, kind="document", n=documents)


def false_pass(
    populations: list[Pairs], documents: int, simulations: int, generator: np.random.Generator, resampler: Resampler
) -> dict[str, Any]:
    """Share of gates that pass although one language is at the margin, by population and over all."""
    each = -(-simulations // len(populations)) * 4
    rates = {}
    for population in populations:
        passed = 0
        for _ in range(each):
            pairs = draw(population, "harmed", 0.0, documents, generator)
            if pairs.n_effective >= MIN_EFFECTIVE:
                passed += language_bounds(resample(pairs, resampler), CONFIDENCE).upper <= 0.0
        rates[population.tag] = passed / each
    n = each * len(populations)
    passes = round(sum(rates.values()) * each)
    return {
        "documents": documents,
        "simulations": n,
        "rate": passes / n,
        "upper_limit": upper_limit(passes, n),
        "worst_population": max(rates, key=lambda name: rates[name]),
        "worst_rate": max(rates.values()),
        "by_population": rates,
    }


def power(
    populations: list[Pairs], documents: int, simulations: int, generator: np.random.Generator, resampler: Resampler
) -> dict[str, Any]:
    """Share of gates that pass when no language is harmed and the margins are those that the text suffices for."""
    simulated = list(languages(populations))
    upper = np.empty((simulations, LANGUAGES))
    needed = np.empty((simulations, LANGUAGES))
    for number in range(simulations):
        for place, (tag, population) in enumerate(simulated):
            sample = resample(draw(population, tag, 0.0, documents, generator), resampler)
            upper[number, place] = language_bounds(sample, CONFIDENCE).upper
            needed[number, place] = detectable(sample, CONFIDENCE, LANGUAGES)
    own = needed.mean(axis=0)
    common = float(own.max())
    passes = (upper <= common).all(axis=1)
    sufficient = (needed <= common).all(axis=1)
    own_passes = int((upper <= own).all(axis=1).sum())
    found = int((passes & sufficient).sum())
    return {
        "documents": documents,
        "simulations": simulations,
        "margin_npb": common,
        "passes": int(passes.sum()) / simulations,
        "called_sufficient": int(sufficient.sum()) / simulations,
        "passes_where_sufficient": found / max(1, int(sufficient.sum())),
        "passes_where_sufficient_lower_limit": lower_limit(found, max(1, int(sufficient.sum()))),
        "passes_at_each_languages_own_margin": own_passes / simulations,
    }


def coverage(
    populations: list[Pairs],
    truth: str,
    documents: int,
    simulations: int,
    generator: np.random.Generator,
    resampler: Resampler,
) -> dict[str, Any]:
    """Share of two-sided 95 % intervals that hold the worst language's true value, and the true disparity."""
    simulated = list(languages(populations))
    values = np.zeros(LANGUAGES)
    if truth == "one worse":
        values[0] = 2 * max(population.standard_error for _, population in simulated)
    if truth == "as measured":
        values = np.array([population.estimate for _, population in simulated])
    true = {"worst": values.max(), "disparity": np.ptp(values)}
    inside = dict.fromkeys(true, 0)
    width = dict.fromkeys(true, 0.0)
    for _ in range(simulations):
        samples: list[Resampled] = [
            resample(draw(population, tag, value, documents, generator), resampler)
            for (tag, population), value in zip(simulated, values, strict=True)
        ]
        for what, bounds in (("worst", worst_bounds), ("disparity", disparity_bounds)):
            found = bounds(samples, 0.5 + CONFIDENCE / 2)
            inside[what] += found.lower <= true[what] + 1e-15 and true[what] <= found.upper
            width[what] += (found.upper - found.lower) / simulations
    return {
        "truth": truth,
        "documents": documents,
        "simulations": simulations,
        **{
            what: {
                "coverage": inside[what] / simulations,
                "lower_limit": lower_limit(inside[what], simulations),
                "mean_width_npb": width[what],
            }
            for what in true
        },
    }


def languages(populations: list[Pairs]) -> Iterator[tuple[str, Pairs]]:
    """Forty languages, each with a population; some populations serve two."""
    for number in range(LANGUAGES):
        yield f"language {number}", populations[number % len(populations)]


def upper_limit(successes: int, n: int) -> float:
    """One-sided 95 % Clopper-Pearson limit."""
    return float(stats.beta.ppf(0.95, successes + 1, n - successes)) if successes < n else 1.0


def lower_limit(successes: int, n: int) -> float:
    """One-sided 95 % Clopper-Pearson limit."""
    return float(stats.beta.ppf(0.05, successes, n - successes + 1)) if successes else 0.0


if __name__ == "__main__":
    main()
