"""`autotune`: Neural Compressor's search of its torch API with a verdict by language."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from inc_laaciq.autotune_history import History
from inc_laaciq.backends.inc_torch_autotune import Calibration, given_candidates, quantize_again, tune
from inc_laaciq.calibration.corpus import read_texts
from inc_laaciq.checkpoint.foreign import foreign_errors
from inc_laaciq.config import TextSpec, read_policy
from inc_laaciq.config.policy import Policy
from inc_laaciq.config.policy_plain import policy_digest
from inc_laaciq.errors import AutotuneError, BackendError, SpecError
from inc_laaciq.languages import canonical_languages
from inc_laaciq.provenance import sources_sha256, versions
from inc_laaciq.tuning.criterion import LanguageCriterion, Likelihood, Measure
from inc_laaciq.tuning.model_changes import state_digest
from inc_laaciq.tuning.trials import Progress, Trials

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, kw_only=True)
class AutotuneResult:
    """A quantized model and why it was taken.

    Parameters
    ----------
    model : nn.Module
        As Neural Compressor made it; its `save` and `load` take it.
    is_accepted : bool
        Whether the policy lets it through.  False only with `keep_best`.
    verdict : "PASS", "INCONCLUSIVE", "FAIL" or "NOT-RUN"
    document : mapping
        The gate's, schema `inc-laaciq/gate/1`; `inc-laaciq report` makes reports of it.
    trials : list of dict
        Every trial: number, description, verdict, reasons, figures by language, bits, quantized_layers, seconds.
    untried : list of str
        Configurations that were not tried, and the loss that they would be expected to have.
    config : BaseConfig
        What the model was quantized with.
    seconds : float
        Wall-clock time of the whole search.
    peak_models : int
        Models with weights in memory at once, the float model counted.  Copies inside an algorithm are not.
    """

    model: nn.Module
    is_accepted: bool
    verdict: str
    document: Mapping[str, Any]
    trials: list[dict[str, Any]]
    untried: list[str]
    config: Any
    seconds: float
    peak_models: int


def autotune(
    model: nn.Module,
    tune_config: Any,
    *,
    policy: Policy | str | Path,
    eval_fn: Callable[[Any], Any] | None = None,
    measure: Measure | None = None,
    texts: str | Path | Mapping[str, Any] | None = None,
    tokenizer: PreTrainedTokenizerBase | None = None,
    languages: Sequence[str] | None = None,
    tokens_per_language: int = TextSpec.tokens_per_language,
    seed: int = TextSpec.seed,
    run_fn: Callable[..., Any] | None = None,
    run_args: Any = None,
    example_inputs: Any = None,
    max_trials: int | None = None,
    keep_best: bool = False,
    strict: bool = False,
    history: str | Path | None = None,
    progress: Progress | None = None,
) -> AutotuneResult:
    """Find the smallest of some configurations whose model the gate passes, with Neural Compressor's own `autotune`.

    Parameters
    ----------
    model : nn.Module
        In float; it stays as it is.
    tune_config : configuration, list of them, or TuningConfig
        Of Neural Compressor's torch API: `RTNConfig(bits=[3, 4])`, `[RTNConfig(...), GPTQConfig(...)]`.  Lists of
        values are expanded as Neural Compressor does it.
    policy : Policy or path
        Bounds of the gate, or the file that has them.
    eval_fn : callable(model), optional
        Returns `{"perplexity": {language: number}}`, `{"loss": {language: number}}` (nats per token), or an
        `Evaluation`.  Either this or `texts`.
    measure : "loss" or "perplexity", optional
        What the numbers are if `eval_fn` returns `{language: number}`.
    texts : path or mapping, optional
        Evaluation text: a folder of `<language>.txt`, a JSONL file, or a `datasets` specification.
    tokenizer : transformers tokenizer
        That of the model; with `texts`.
    languages : sequence of str, optional
        Read only these from `texts`; no model passes that has no figures for one of them.
    tokens_per_language : int
        Of the evaluation text; 0 = all.
    seed : int
        Which text is taken.
    run_fn, run_args, example_inputs
        Neural Compressor's: `run_fn(model, *run_args)` calibrates.
    max_trials : int, optional
        By default as many as there are configurations.
    keep_best : bool
        Return the best model, with `is_accepted=False`, where otherwise an error is raised.
    strict : bool
        Do not accept what is INCONCLUSIVE, whatever the policy does with it.
    history : path, optional
        JSON file that every trial is written to.  A search that was interrupted goes on from it.  It is of one model,
        policy and evaluation, which is checked, and of one `run_fn`, which cannot be.
    progress : callable(stage, done, total), optional

    Returns
    -------
    AutotuneResult
        Of the first model that passes; if none does, of the best one that the policy lets through undecided.

    Raises
    ------
    AutotuneError
        If no model is accepted, or a trial ended in an error of `eval_fn`, `run_fn` or Neural Compressor; `.trials`
        are the trials until then.
    SpecError
        If an argument is wrong.
    MismatchError
        If `history` is of another search.
    BackendError
        If Neural Compressor's torch API is missing, or a configuration quantized nothing.

    Notes
    -----
    The smallest configuration is tried first.  After a failure those are passed over for which a pass is not
    plausible: the loss grows with the squared rounding error, and a prediction is trusted to a factor of four.  What
    was passed over comes last.  Each trial is a chance to pass by luck: confirm the model that is kept on text that
    no trial has seen.

    Examples
    --------
    ::

        from neural_compressor.torch.quantization import RTNConfig

        result = inc_laaciq.autotune(
            model,
            RTNConfig(bits=[2, 3, 4, 8], group_size=64),
            policy="gate.yaml",
            texts="text/evaluation",
            tokenizer=tokenizer,
        )
        print(result.verdict, result.config.bits, result.document["worst_language"])
    """
    started = time.monotonic()
    if not isinstance(model, nn.Module):
        raise SpecError(f"model is a {type(model).__name__}, and autotune needs the model itself, a torch module.")
    found = policy if isinstance(policy, Policy) else read_policy(policy)
    evaluate, found = _evaluation(found, eval_fn, texts, tokenizer, languages, tokens_per_language, seed, progress)
    given, limit = given_candidates(model, tune_config)
    limit = limit if max_trials is None else max_trials
    if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 1):
        raise SpecError(f"max_trials={limit!r} is not a whole number of at least 1.")
    criterion = LanguageCriterion(evaluate, found, measure=measure)
    stored = None
    if history is not None:
        identity = {
            "model_sha256": state_digest(model),
            "policy_sha256": policy_digest(found),
            "version_sha256": sources_sha256(),
            "environment": versions(),
        }
        stored = History(Path(history), [candidate.key for candidate in given], identity)
    trials = Trials(
        given,
        criterion,
        model,
        max_trials=len(given) if limit is None else limit,
        progress=progress,
        save=None if stored is None else stored.save,
        is_own=eval_fn is None,
    )
    if stored is not None and stored.baseline:
        trials.resume(stored.baseline, stored.records)
    calibration = Calibration(run_fn=run_fn, run_args=run_args, example_inputs=example_inputs)
    try:
        with foreign_errors("it ended in an error", kind=AutotuneError):
            quantized = tune(model, given, trials, calibration)
    except AutotuneError as error:
        raise AutotuneError(
            f"{trials.current}: {error}. {_so_far(trials)}", trials=trials.history()
        ) from error.__cause__
    if criterion.is_passed and quantized is not None:
        kept, is_accepted = len(trials.records) - 1, True
    else:
        kept = _undecided(trials, strict=strict, keep_best=keep_best)
        is_accepted = criterion.is_tolerable(kept) and not strict
        record = trials.records[kept]
        quantized = quantize_again(model, given[record.candidate], record, calibration)
    criterion.kept = kept
    document = {**criterion.documents[kept], "strict": strict}
    return AutotuneResult(
        model=quantized,
        is_accepted=is_accepted,
        verdict=document["verdict"],
        document=document,
        trials=trials.history(),
        untried=trials.untried(),
        config=given[trials.records[kept].candidate].config,
        seconds=time.monotonic() - started,
        peak_models=trials.peak_models,
    )


def _evaluation(
    policy: Policy,
    eval_fn: Callable[[Any], Any] | None,
    texts: str | Path | Mapping[str, Any] | None,
    tokenizer: Any,
    languages: Sequence[str] | None,
    tokens_per_language: int,
    seed: int,
    progress: Progress | None,
) -> tuple[Callable[[Any], Any], Policy]:
    """How a model is evaluated, and the policy with the languages that must be."""
    if (eval_fn is None) == (texts is None):
        raise SpecError("give either eval_fn, which returns figures by language, or texts and tokenizer, and not both.")
    tags = canonical_languages(languages) if languages is not None else ()
    policy = replace(policy, required_languages=tuple(dict.fromkeys((*policy.required_languages, *tags))))
    if eval_fn is not None:
        if isinstance(eval_fn, LanguageCriterion):
            raise SpecError("eval_fn is a LanguageCriterion. Give the function that it wraps, and policy=...")
        return eval_fn, policy
    if tokenizer is None:
        raise SpecError("texts were given without the model's tokenizer. Give tokenizer=...")
    source = dict(texts) if isinstance(texts, Mapping) else str(texts)
    spec = TextSpec(texts=source, tokens_per_language=tokens_per_language, seed=seed)
    return Likelihood(tokenizer, read_texts(source, languages), spec, progress=progress), policy


def _undecided(trials: Trials, *, strict: bool, keep_best: bool) -> int:
    """Number of the trial that is kept where none passes.

    Raises
    ------
    AutotuneError
        If none may be.
    """
    if not trials.records:
        raise BackendError("Neural Compressor ended its search without a trial.")
    best = trials.criterion.best()
    if keep_best or (trials.criterion.is_tolerable(best) and not strict):
        return best
    raise AutotuneError(
        f"no configuration passed the gate. {_so_far(trials)} Widen the bounds, give more bits, or more text of the "
        "languages that are not decided; keep_best=True returns the best model all the same",
        trials=trials.history(),
    )


def _so_far(trials: Trials) -> str:
    tried = "; ".join(
        f"trial {trial['number']}, {trial['description']}: {trial['reasons'][0]}" for trial in trials.history()
    )
    untried = "; ".join(trials.untried())
    return (f"Tried: {tried}." if tried else "No trial was finished.") + (f" Not tried: {untried}." if untried else "")
