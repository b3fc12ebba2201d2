"""The gate document: what was measured and judged, as plain data that every report is made from."""

from __future__ import annotations

import importlib.metadata
import math
from collections.abc import Mapping, Sequence
from typing import Any

from inc_laaciq.config.policy import Policy
from inc_laaciq.config.policy_explain import explain
from inc_laaciq.config.policy_plain import policy_digest
from inc_laaciq.config.policy_rules import groups_of
from inc_laaciq.evaluation.checks import Check, Verdict
from inc_laaciq.evaluation.comparison import Change, Comparison
from inc_laaciq.evaluation.degradation import expected_range
from inc_laaciq.evaluation.measured import Evaluation
from inc_laaciq.evaluation.resampling import Resampled
from inc_laaciq.evaluation.results import figures, finite
from inc_laaciq.evaluation.statistics import (
    detectable,
    disparity_bounds,
    language_bounds,
    relative_bounds,
    worst_bounds,
)
from inc_laaciq.languages import family, is_rtl, name, script

SCHEMA = "inc-laaciq/gate/1"

CONFIDENCE = 0.95
"""Of the one-sided bounds that are stated where no policy says otherwise."""

VERDICTS: tuple[Verdict, ...] = ("FAIL", "NOT-RUN", "INCONCLUSIVE", "PASS")
"""The worst first."""

_WORST_SENTENCES = 5


def gate_document(
    comparison: Comparison,
    policy: Policy | None,
    checks: Sequence[Check],
    waivers: Sequence[Mapping[str, Any]],
    *,
    verdict: Verdict,
    previous: Evaluation | None,
    seed: int,
    draws: int,
) -> dict[str, Any]:
    """Everything that a report shows of a judgement; plain data without NaN, the same for the same input."""
    candidate, baseline = comparison.candidate, comparison.baseline
    confidence = policy.confidence if policy is not None else CONFIDENCE
    measured = comparison.languages()
    tags = sorted({*measured, *comparison.missing(policy), *_of_tasks(comparison)})
    two_sided = 0.5 + confidence / 2
    document: dict[str, Any] = {
        "schema": SCHEMA,
        "candidate": _side(candidate),
        "baseline": _side(baseline),
        "previous": None if previous is None else _side(previous),
        "texts": dict(candidate.texts),
        "tokenizer": dict(candidate.tokenizer),
        "policy": _policy(policy, confidence, tags),
        "signature": _signature(candidate, baseline, policy, seed, draws),
        "verdict": verdict,
        "reasons": reasons(checks, verdict),
        "languages": {tag: _language(tag, comparison, policy, checks, two_sided) for tag in tags},
        **_overall(comparison, measured, two_sided),
        "checks": [check.as_dict() for check in checks],
        "waivers": [dict(waiver) for waiver in waivers],
        "sentences": _worst_sentences(comparison, measured),
        "notes": _notes(comparison, policy, measured),
    }
    return document


def _notes(comparison: Comparison, policy: Policy | None, measured: Sequence[str]) -> list[str]:
    notes = [*comparison.candidate.notes, *comparison.baseline.notes]
    losses = comparison.baseline.losses
    undivided = [tag for tag in measured if losses[tag].n > 1 and len(set(losses[tag].document.tolist())) == 1]
    if undivided:
        notes.append(
            f"the text of {', '.join(undivided)} does not say which sentences are of one document: each is taken as "
            "independent of the others, and where they are not, verdicts are too sure"
        )
    if policy is not None:
        notes += policy.notes
        if policy.relative_to is not None:
            notes.append(
                f"{policy.relative_to} is what others are judged relative to: max_degradation leaves it unbounded"
            )
    return list(dict.fromkeys(notes))


def reasons(checks: Sequence[Check], verdict: Verdict) -> list[str]:
    """What a reader has to know, the worst first; one line for each kind of check that all languages pass."""
    if not checks:
        return [f"{verdict}: no bound was checked"]
    found = [check.sentence for word in VERDICTS[:-1] for check in checks if check.verdict == word]
    for kind in dict.fromkeys(check.kind for check in checks):
        passed = [check for check in checks if check.kind == kind and check.verdict == "PASS"]
        if not passed or len(passed) < sum(check.kind == kind for check in checks):
            continue
        nearest = max(passed, key=_share)
        if len(passed) == 1:
            found.append(nearest.sentence)
        else:
            about = nearest.language or nearest.group or "the one over all languages"
            what = "languages" if all(check.language for check in passed) else "checks"
            found.append(f"PASS: all {len(passed)} {what} pass {kind}; nearest is {about}: {nearest.reason}")
    return found


def _share(check: Check) -> float:
    """How much of its limit a language uses up."""
    if check.bounds is None or check.limit is None or check.limit.value == 0:
        return -math.inf if check.bounds is None else check.bounds.upper
    return check.bounds.upper / check.limit.value


def _side(evaluation: Evaluation) -> dict[str, Any]:
    return {"name": evaluation.name, "id": evaluation.id, "model_sha256": evaluation.model.get("sha256")}


def _policy(policy: Policy | None, confidence: float, tags: Sequence[str]) -> dict[str, Any]:
    if policy is None:
        return {"source": None, "sha256": None, "confidence": confidence, "text": ""}
    return {
        "source": policy.source,
        "sha256": policy.sha256 or policy_digest(policy),
        "confidence": confidence,
        "inconclusive": policy.inconclusive,
        "not_run": policy.not_run,
        "text": explain(policy, tags),
    }


def _signature(candidate: Evaluation, baseline: Evaluation, policy: Policy | None, seed: int, draws: int) -> str:
    parts = [
        f"inc-laaciq {importlib.metadata.version('inc-laaciq')}",
        SCHEMA.removeprefix("inc-laaciq/"),
        f"candidate {candidate.id[:12]}",
        f"baseline {baseline.id[:12]}",
        f"policy {policy_digest(policy)[:12] if policy else 'none'}",
        f"seed {seed}",
        f"draws {draws}",
    ]
    return " | ".join(parts)


def _of_tasks(comparison: Comparison) -> set[str]:
    tasks = (*comparison.candidate.tasks.values(), *comparison.baseline.tasks.values())
    return {tag for task in tasks for tag in task}


def _language(
    tag: str, comparison: Comparison, policy: Policy | None, checks: Sequence[Check], two_sided: float
) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "name": name(tag),
        "script": script(tag),
        "family": family(tag),
        "direction": "rtl" if is_rtl(tag) else "ltr",
        "groups": [group.name for group in groups_of(policy, tag)] if policy is not None else [],
    }
    own = [check for check in checks if check.language == tag]
    if own:
        words = {check.verdict for check in own if not check.is_warning} or {check.verdict for check in own}
        entry["verdict"] = next(word for word in VERDICTS if word in words)
        entry["waived"] = any(check.waiver is not None for check in own)
        entry["sufficient"] = next((check.is_sufficient for check in own if check.kind == "max_degradation"), None)
    missing = comparison.missing(policy)
    if tag in missing:
        if entry.get("verdict") == "PASS":  # of a task, where the missing likelihood is but a warning
            entry["verdict"] = "NOT-RUN"
        return {**entry, "missing": missing[tag]}
    if tag in comparison.languages():
        entry |= _figures(tag, comparison, two_sided)
    return entry


def _figures(tag: str, comparison: Comparison, two_sided: float) -> dict[str, Any]:
    after, before = comparison.candidate.losses[tag], comparison.baseline.losses[tag]
    by_byte, by_token = comparison.change(tag, "npb"), comparison.change(tag, "%")
    documents = comparison.documents(tag)
    sample = None if by_byte is None else by_byte.sample
    low, high = _ends(by_byte, two_sided)
    relative_low, relative_high = _ends(by_token, two_sided)
    ours, theirs = figures(after), figures(before)
    one_sided = 2 * two_sided - 1
    return {
        "loss": finite(after.loss_per_byte),
        "baseline_loss": finite(before.loss_per_byte),
        "degradation": None if by_byte is None else finite(by_byte.value),
        "standard_error": None if sample is None else finite(sample.standard_error),
        "low": low,
        "high": high,
        "relative_perplexity": None if by_token is None else finite(by_token.value),
        "relative_low": relative_low,
        "relative_high": relative_high,
        **ours,
        "baseline_perplexity": theirs["perplexity"],
        "baseline_bits_per_byte": theirs["bits_per_byte"],
        "per_sentence": _per_sentence(tag, comparison),
        "sentences": before.n,
        "tokens": int(before.tokens.sum()),
        "bytes": int(before.n_bytes.sum()),
        "documents": documents,
        "effective_documents": None if by_token is None else finite(by_token.n_effective),
        "detectable": None if sample is None else finite(detectable(sample, one_sided, len(comparison.languages()))),
    }


def _per_sentence(tag: str, comparison: Comparison) -> float | None:
    """Nats per aligned sentence; None where the text is not aligned."""
    if not (comparison.candidate.texts.get("aligned") and comparison.baseline.texts.get("aligned")):
        return None
    change = comparison.change(tag, "nps")
    return None if change is None else finite(change.value)


def _ends(change: Change | None, confidence: float) -> tuple[float | None, float | None]:
    if change is None or change.sample is None:
        return None, None
    if change.logarithm is not None:
        bounds = relative_bounds(change.logarithm, confidence)
    else:
        bounds = language_bounds(change.sample, confidence)
    return finite(bounds.lower), finite(bounds.upper)


def _overall(comparison: Comparison, languages: Sequence[str], two_sided: float) -> dict[str, Any]:
    """Worst language, disparity and mean in nats per byte; in relative perplexity where bytes are not known."""
    nothing = {
        "worst_language": None,
        "worst": {"degradation": None, "low": None, "high": None},
        **dict.fromkeys(
            (
                "disparity",
                "disparity_low",
                "disparity_high",
                "mean_degradation",
                "mean_standard_error",
                "disparity_standard_error",
                "expected_disparity",
                "relative_disparity",
            )
        ),
    }
    relative = {tag: change.value for tag in languages if (change := comparison.change(tag, "%")) is not None}
    by_byte = {tag: change for tag in languages if (change := comparison.change(tag, "npb")) is not None}
    values = {tag: change.value for tag, change in by_byte.items()}
    if len(relative) == len(languages) > 0:
        nothing["relative_disparity"] = max(relative.values()) - min(relative.values())
    if not languages or len(values) < len(languages):
        if relative:
            nothing["worst_language"] = max(relative, key=lambda tag: (relative[tag], tag))
        return nothing
    worst = max(values, key=lambda tag: (values[tag], tag))
    best = min(values, key=lambda tag: (values[tag], tag))
    found = {
        **nothing,
        "worst_language": worst,
        "worst": {"degradation": values[worst], "low": None, "high": None},
        "disparity": values[worst] - values[best],
        "mean_degradation": sum(values.values()) / len(values),
    }
    samples = [change.sample for change in by_byte.values() if change.sample is not None]
    if len(samples) == len(values):
        found |= _spread(samples, two_sided, by_byte[worst].sample, by_byte[best].sample)
        bounds = worst_bounds(samples, two_sided)
        found["worst"] = {
            "degradation": values[worst],
            "low": finite(bounds.lower),
            "high": finite(bounds.upper),
        }
    return found


def _spread(
    samples: Sequence[Resampled], two_sided: float, worst: Resampled | None, best: Resampled | None
) -> dict[str, float | None]:
    squares = [sample.standard_error**2 for sample in samples]
    typical = math.sqrt(sum(squares) / len(squares))
    bounds = disparity_bounds(samples, two_sided)
    pair = (
        0.0 if worst is None or best is None or worst is best else math.hypot(worst.standard_error, best.standard_error)
    )
    return {
        "disparity_low": finite(bounds.lower),
        "disparity_high": finite(bounds.upper),
        "disparity_standard_error": finite(pair),
        "mean_standard_error": finite(typical / math.sqrt(len(samples))),
        "expected_disparity": finite(expected_range(len(samples)) * typical),
    }


def _worst_sentences(comparison: Comparison, languages: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    """Where in the evaluated text each language lost most, by number of the sentence: the text is not kept."""
    found = {}
    for tag in languages:
        after, before = comparison.candidate.losses[tag], comparison.baseline.losses[tag]
        if after.is_point or before.n < 2 or not (before.n_bytes > 0).all():
            continue
        lost = (after.loss - before.loss) / before.n_bytes
        order = sorted(range(len(lost)), key=lambda index: (-lost[index], index))[:_WORST_SENTENCES]
        found[tag] = [{"index": index, "degradation": float(lost[index])} for index in order]
    return found
