"""Does the gate still bite? Known-good and known-bad results go through it, and it must tell them apart.

A gate that cannot fail is documentation, so this is for the pipeline that the gate runs in: the same code, the same
statistics, results whose truth is known because they were made here.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from inc_laaciq.config.bounds import Bound
from inc_laaciq.config.policy import Policy, Rule
from inc_laaciq.evaluation.gate import judge
from inc_laaciq.evaluation.losses import SentenceLosses
from inc_laaciq.evaluation.measured import Evaluation

LANGUAGES = ("ar", "de", "en", "fi", "hi", "sw", "tr", "zh")
SABOTAGED = "sw"
MARGIN = 0.05  # relative perplexity

_DOCUMENTS, _SENTENCES, _TOKENS = 60, 4, 30
_DRAWS = 1000


@dataclass(frozen=True, kw_only=True)
class SelfTest:
    """Share of runs with each verdict.

    Parameters
    ----------
    repetitions : int
    good_passes : float
        No language is harmed, and the verdict is PASS.
    good_fails : float
        No language is harmed, and the verdict is FAIL: false failures.
    bad_passes : float
        One language is harmed by exactly the margin, and the verdict is PASS: false passes.
    sabotage_fails : float
        One language is harmed by three times the margin, and the verdict is FAIL, naming it.
    """

    repetitions: int
    good_passes: float
    good_fails: float
    bad_passes: float
    sabotage_fails: float

    @property
    def is_passed(self) -> bool:
        """Whether the gate tells good from bad as it promises; false passes may exceed 5 % by chance, not by far."""
        allowed = 0.05 + 3 * (0.05 * 0.95 / self.repetitions) ** 0.5
        return (
            self.good_passes >= 0.8
            and self.sabotage_fails >= 0.95
            and self.bad_passes <= allowed
            and self.good_fails <= allowed
        )


def self_test(repetitions: int = 100, seed: int = 0) -> SelfTest:
    """Run the gate on made results.

    Parameters
    ----------
    repetitions : int
        Of each kind of result.
    seed : int
    """
    policy = Policy(default=Rule(max_degradation=Bound(value=MARGIN, unit="%")))
    generator = np.random.default_rng(seed)
    found: dict[float, list[tuple[str, list[str]]]] = {0.0: [], 1.0: [], 3.0: []}
    for _ in range(repetitions):
        baseline = _baseline(generator)
        for harm, verdicts in found.items():
            document = judge(_harmed(baseline, harm, generator), baseline, policy, seed=seed, draws=_DRAWS)
            verdicts.append((document["verdict"], document["reasons"]))

    def share(harm: float, verdict: str, naming: str = "") -> float:
        return float(
            np.mean([word == verdict and any(naming in line for line in reasons) for word, reasons in found[harm]])
        )

    return SelfTest(
        repetitions=repetitions,
        good_passes=share(0.0, "PASS"),
        good_fails=share(0.0, "FAIL"),
        bad_passes=share(1.0, "PASS"),
        sabotage_fails=share(3.0, "FAIL", f"FAIL {SABOTAGED}:"),
    )


def _baseline(generator: np.random.Generator) -> Evaluation:
    n = _DOCUMENTS * _SENTENCES
    losses = {}
    for tag in LANGUAGES:
        tokens = generator.integers(_TOKENS // 2, 2 * _TOKENS, n)
        losses[tag] = SentenceLosses(
            tag=tag,
            loss=tokens * generator.gamma(9, 1 / 3, n),
            tokens=tokens,
            n_bytes=4 * tokens,
            document=np.repeat(np.arange(_DOCUMENTS), _SENTENCES),
        )
    return Evaluation(source="made baseline", id="0" * 64, name="baseline", losses=losses)


def _harmed(baseline: Evaluation, harm: float, generator: np.random.Generator) -> Evaluation:
    """The same sentences with noise, by document and by sentence; one language harmed by `harm` margins."""
    losses = {}
    for tag, before in baseline.losses.items():
        by_document = generator.normal(0, 0.02, _DOCUMENTS)[before.document]
        by_token = by_document + generator.normal(0, 0.03, before.n)
        if tag == SABOTAGED:
            by_token += np.log1p(MARGIN * harm)
        losses[tag] = SentenceLosses(
            tag=tag,
            loss=before.loss + by_token * before.tokens,
            tokens=before.tokens,
            n_bytes=before.n_bytes,
            document=before.document,
        )
    return Evaluation(source="made candidate", id="1" * 64, name="candidate", losses=losses)
