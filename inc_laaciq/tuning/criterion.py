"""The per-language criterion of a tuning loop: it judges every trial with the gate and answers with one number.

Neural Compressor compares a scalar with the scalar of the float model.  The scalar here is 1 for the float model and
for a trial that the gate passes, and at most minus a million for any other: so its own criterion, whatever tolerance it
has, relative or absolute, accepts exactly what the gate passes.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, Literal, get_args

import numpy as np

from inc_laaciq.calibration.text import Corpus
from inc_laaciq.config import LaaciqSpec, TextSpec
from inc_laaciq.config.policy import Policy
from inc_laaciq.errors import EvaluationError, SpecError
from inc_laaciq.evaluation.gate import exit_code, judge
from inc_laaciq.evaluation.losses import SentenceLosses
from inc_laaciq.evaluation.measured import Evaluation
from inc_laaciq.languages import canonical_languages

Measure = Literal["loss", "perplexity"]

PASSED = 1.0

_REJECTED = -1e6
"""Below any target that a tolerance can give: an absolute one may be 5 where a user thinks of percentage points."""

_LARGEST_EXCESS = 1e6


class LanguageCriterion:
    """An `eval_func` for Neural Compressor that judges by language.

    Parameters
    ----------
    evaluate : callable(model)
        Returns an `Evaluation`; or `{"perplexity": {language: number}}` or `{"loss": {language: number}}`, the loss in
        nats per token; or, with `measure` given, `{language: number}`.
    policy : Policy
        Bounds of the gate.
    measure : "loss" or "perplexity", optional
        What the numbers are, where `evaluate` does not say so by name.

    Attributes
    ----------
    baseline : Evaluation or None
        Of the first model that is evaluated: Neural Compressor evaluates the float model first.
    documents : list of dict
        The gate's document of every trial.
    evaluations : list of Evaluation
        Of every trial.
    labels : dict of int -> str
        What a trial was, by its number from 0.
    methods : dict of int -> dict
        Its `mode` and `reconcile`.
    missing : dict of language -> str
        Languages that no trial may pass for, with the reason.
    kept : int or None
        Number of the trial whose model is the result.

    Examples
    --------
    >>> from inc_laaciq.config.bounds import parse_bound
    >>> from inc_laaciq.config.policy import Policy, Rule
    >>> policy = Policy(default=Rule(max_degradation=parse_bound("5%")))
    >>> perplexities = iter([{"en": 10.0, "sw": 20.0}, {"en": 10.1, "sw": 24.0}, {"en": 10.2, "sw": 20.4}])
    >>> criterion = LanguageCriterion(lambda model: next(perplexities), policy, measure="perplexity")
    >>> [round(criterion(model), 2) for model in ("float", "first trial", "second trial")]
    [1.0, -1000004.0, 1.0]
    >>> criterion.documents[0]["reasons"][0]
    'FAIL sw: relative perplexity +20% is above max_degradation 5% (one value, no interval is known)'
    """

    def __init__(self, evaluate: Callable[[Any], Any], policy: Policy, *, measure: Measure | None = None) -> None:
        if measure is not None and measure not in get_args(Measure):
            raise SpecError(f"measure={measure!r} is not known. Allowed: {', '.join(get_args(Measure))}.")
        self._evaluate = evaluate
        self.policy = policy
        self._measure = measure
        self.baseline: Evaluation | None = None
        self.documents: list[dict[str, Any]] = []
        self.evaluations: list[Evaluation] = []
        self.labels: dict[int, str] = {}
        self.methods: dict[int, dict[str, str]] = {}
        self.missing: dict[str, str] = {}
        self.kept: int | None = None

    def __call__(self, model: Any) -> float:
        """Score of a model: 1 for the first one and for every one that passes."""
        evaluation = as_evaluation(self._evaluate(model), self._measure)
        if self.baseline is None:
            self.baseline = evaluation
            return PASSED
        evaluation = replace(evaluation, missing={**evaluation.missing, **self.missing})
        self.evaluations.append(evaluation)
        document = judge(evaluation, self.baseline, self.policy)
        self.documents.append(document)
        return score(document)

    @property
    def is_passed(self) -> bool:
        """Whether the gate passes the last trial."""
        return bool(self.documents) and self.documents[-1]["verdict"] == "PASS"

    @property
    def is_decided(self) -> bool:
        """Whether a search is at its end: the last trial passes, or none could, for lack of text or of figures."""
        if not self.documents:
            return False
        checks = [check for check in self.documents[-1]["checks"] if check["severity"] != "warn"]
        absent = {check["language"] for check in checks if check["kind"] == "presence"} - self._broken()
        if absent and self.policy.not_run == "fail":
            return True
        if any(check["verdict"] == "FAIL" for check in checks):
            return any(check["kind"] == "waiver" for check in checks if check["verdict"] == "FAIL")
        if self.is_passed:
            return True
        if self._broken():
            return False
        return any(check["verdict"] == "NOT-RUN" or check["lacks_text"] for check in checks)

    def _broken(self) -> set[str]:
        """Languages on which the last trial gives NaN or infinity and the float model works: others may not."""
        if self.baseline is None:
            return set()
        last = self.evaluations[-1]
        broken = {*last.missing, *(tag for tag, losses in last.losses.items() if not losses.is_valid)}
        works = {tag for tag, losses in self.baseline.losses.items() if losses.is_valid}
        return broken & works - self.baseline.missing.keys() - self.missing.keys()

    def require(self, languages: Iterable[str]) -> None:
        """Let no trial pass without figures for these languages, where the figures are this package's own."""
        if isinstance(self._evaluate, Likelihood):
            for tag in languages:
                if tag not in self._evaluate.languages:
                    self.missing.setdefault(tag, "no evaluation text was found")

    def note(self, trial: int, description: str, settings: LaaciqSpec, invalid: Mapping[str, str]) -> None:
        """Note what a trial is, before it is judged.

        Parameters
        ----------
        trial : int
            Its number, from 0.
        description : str
        settings : LaaciqSpec
            That it was solved with.
        invalid : mapping of language -> str
            Languages on which the float model itself fails, with what was seen: no trial may pass for them.
        """
        self.labels[trial] = description
        self.methods[trial] = {"mode": settings.mode, "reconcile": settings.reconcile}
        self.missing |= {tag: f"the float model fails on it: {why}" for tag, why in invalid.items()}

    def is_tolerable(self, trial: int) -> bool:
        """Whether the policy lets a trial through, certain or not."""
        return exit_code(self.documents[trial]["verdict"], self.policy) == 0

    def trials(self) -> list[dict[str, Any]]:
        """The history, for a report: number from 1, description, verdict, reasons, worst language and disparity."""
        return [
            {
                "number": number + 1,
                "description": self.labels.get(number, ""),
                "kept": number == self.kept,
                **self.methods.get(number, {}),
                "verdict": document["verdict"],
                "reasons": document["reasons"],
                "worst_language": document["worst_language"],
                "worst": document["worst"]["degradation"],
                "disparity": document["disparity"],
                "languages": {
                    tag: {key: entry.get(key) for key in ("degradation", "relative_perplexity", "verdict")}
                    for tag, entry in document["languages"].items()
                },
            }
            for number, document in enumerate(self.documents)
        ]

    def best(self) -> int:
        """Number of the trial nearest to a pass, from 0.

        Raises
        ------
        EvaluationError
            If there was none.
        """
        if not self.documents:
            raise EvaluationError("no trial was evaluated.")
        return max(range(len(self.documents)), key=lambda trial: (_rank(self.documents[trial]), -trial))


class Likelihood:
    """Evaluates a model by its own likelihood of text in every language.

    Parameters
    ----------
    tokenizer : transformers tokenizer
    corpus : Corpus
    spec : TextSpec
        How much of the corpus is scored.
    missing : mapping of language -> str, optional
        Languages that must not pass, with the reason.
    progress : callable(stage, done, total), optional
    """

    def __init__(
        self,
        tokenizer: Any,
        corpus: Corpus,
        spec: TextSpec,
        *,
        missing: Mapping[str, str] | None = None,
        progress: Callable[[str, int, int], None] | None = None,
    ) -> None:
        self._tokenizer = tokenizer
        self._corpus = corpus
        self._spec = spec
        self._missing = {**dict.fromkeys(corpus.missing, "no text was found"), **(missing or {})}
        self._progress = progress
        self._number = 0

    @property
    def languages(self) -> tuple[str, ...]:
        """Languages that have text."""
        return self._corpus.languages

    def __call__(self, model: Any) -> Evaluation:
        """Losses of a model, sentence by sentence."""
        from inc_laaciq.evaluation.likelihood import sentence_losses

        label = f"evaluating trial {self._number}" if self._number else "evaluating float"
        self._number += 1

        def labelled(_stage: str, done: int, total: int) -> None:
            if self._progress is not None:
                self._progress(label, done, total)

        losses = sentence_losses(
            model,
            self._tokenizer,
            self._corpus,
            tokens_per_language=self._spec.tokens_per_language,
            seed=self._spec.seed,
            aligned=self._spec.aligned,
            progress=labelled,
        )
        texts = {
            "sha256": self._corpus.sha256,
            "tokens_per_language": self._spec.tokens_per_language,
            "seed": self._spec.seed,
            "aligned": self._spec.aligned,
        }
        return Evaluation(source=label, id="", texts=texts, losses=losses, missing=self._missing)


def score(document: Mapping[str, Any]) -> float:
    """1 if the gate passes, else far below, and lower by the largest share of a bound used up, cut at a million."""
    return PASSED if document["verdict"] == "PASS" else _REJECTED - min(excess(document), _LARGEST_EXCESS)


def excess(document: Mapping[str, Any]) -> float:
    """Largest value of a check that is not passed, as a multiple of its limit; infinite where there is no value."""
    shares = [0.0]
    for check in document["checks"]:
        if check["verdict"] == "PASS" or check["severity"] == "warn":
            continue
        value, limit = check["value"], check["limit_value"]
        shares.append(math.inf if value is None or limit is None else value / limit if limit else math.inf)
    return max(shares)


def _rank(document: Mapping[str, Any]) -> tuple[int, float]:
    order = ("NOT-RUN", "FAIL", "INCONCLUSIVE", "PASS")
    return order.index(document["verdict"]), -excess(document)


def as_evaluation(result: Any, measure: Measure | None = None) -> Evaluation:
    """An evaluation from what a user's function returns.

    Raises
    ------
    SpecError
        If it is neither an evaluation nor numbers by language whose meaning is named.
    """
    if isinstance(result, Evaluation):
        return result
    named = _named(result, measure)
    if named is None:
        raise SpecError(
            f"the evaluation returned {_shown(result)}, and the gate needs figures by language. Return "
            "{'perplexity': {language: number}} or {'loss': {language: number}} (nats per token). Where it is plain "
            "{language: number}, say what that is: inc_laaciq.LanguageCriterion(eval_func, policy, "
            "measure='perplexity'), or measure='perplexity' in inc_laaciq.autotune."
        )
    kind, values = named
    tags = canonical_languages([str(tag) for tag in values])
    losses, missing = {}, {}
    for tag, value in zip(tags, values.values(), strict=True):
        if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
            raise SpecError(f"eval_func: {kind} of {tag} is {_shown(value)}, not a number.")
        number = float(value)
        if kind == "perplexity" and number < 1:
            raise SpecError(f"eval_func: perplexity of {tag} is {number:g}, and it cannot be below 1.")
        loss = math.log(number) if kind == "perplexity" and math.isfinite(number) else number
        if not math.isfinite(loss):
            missing[tag] = f"eval_func gives {number} for it"
            continue
        losses[tag] = SentenceLosses(tag=tag, loss=[loss], tokens=[1], n_bytes=[0], document=[0], is_point=True)  # type: ignore[arg-type]
    digest = hashlib.sha256(json.dumps([kind, {tag: repr(value) for tag, value in values.items()}]).encode())
    return Evaluation(source="eval_func", id=digest.hexdigest(), losses=losses, missing=missing)


def _named(result: Any, measure: Measure | None) -> tuple[str, Mapping[Any, Any]] | None:
    """What the numbers are, and the numbers; None if that is not said."""
    if not isinstance(result, Mapping) or not result:
        return None
    if len(result) == 1:
        kind, values = next(iter(result.items()))
        if kind in get_args(Measure) and isinstance(values, Mapping) and values:
            return kind, values
    return None if measure is None else (measure, result)


def _shown(value: Any) -> str:
    text = ascii(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
