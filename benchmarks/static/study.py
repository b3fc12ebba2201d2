"""Does everything once: quantizes by every method and seed, measures, and compares."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from methods.bench import Bench
from methods.measure import document_sums, language_figures
from methods.ratios import Runs, ratio, resample, verdict
from methods.registry import NotRunError

from static import inc_static, simulated
from static.differences import differences

TARGET = 0.2
"""W8A4: the worst language's harm, la_aciq over min-max, at most."""

MEASURES = ("degradation", "kl")
STUDIES: Mapping[str, tuple[str, ...]] = {"W8A8": tuple(inc_static.FITS), "W8A4": tuple(simulated.RANGES)}

Documents = dict[str, dict[str, Any]]


@dataclass(kw_only=True)
class Measured:
    """What was measured.

    Parameters
    ----------
    baseline : mapping of language to sums over documents
        Of the float model.
    cells : mapping of (study, method, seed) to the same
    seconds : mapping of (study, method, seed) to seconds for quantizing
    not_run : list
        Study, method, seed and why.
    """

    baseline: Documents
    cells: dict[tuple[str, str, int], Documents] = field(default_factory=dict)
    seconds: dict[tuple[str, str, int], float] = field(default_factory=dict)
    not_run: list[dict[str, Any]] = field(default_factory=list)


def measure(bench: Bench, *, seeds: int, studies: tuple[str, ...]) -> Measured:
    """Quantize and score by all methods of the studies, with a line of progress after each."""
    total = 1 + seeds * sum(len(STUDIES[name]) for name in studies)
    start, done = time.perf_counter(), 0

    def say(label: str) -> None:
        nonlocal done
        done += 1
        spent = time.perf_counter() - start
        print(f"[{done}/{total}] {label}; {spent:.0f} s, about {spent / done * (total - done):.0f} s left", flush=True)

    found = Measured(baseline=_score(bench, bench.source.model))
    say("float")
    for seed in range(seeds):
        batches = bench.batches("multilingual", seed)
        for study in studies:
            runs = _w8a8(bench, batches) if study == "W8A8" else _w8a4(bench, batches)
            for method, seconds, outcome in runs:
                label = f"{study} {method}, seed {seed}"
                if isinstance(outcome, str):
                    found.not_run.append({"study": study, "method": method, "seed": seed, "why": outcome})
                    say(f"{label}: not run: {outcome}")
                    continue
                found.cells[study, method, seed] = outcome
                found.seconds[study, method, seed] = seconds
                say(label)
    return found


Run = tuple[str, float, Documents | str]
"""Method, seconds for quantizing, and either what was measured or why it was not run."""


def _w8a8(bench: Bench, batches: Mapping[str, Any]) -> Iterator[Run]:
    for method in inc_static.FITS:
        start = time.perf_counter()
        try:
            model = inc_static.quantize(bench, method, batches)
        except NotRunError as error:
            yield method, 0.0, str(error)
            continue
        seconds = time.perf_counter() - start
        yield method, seconds, _score(bench, model)


def _w8a4(bench: Bench, batches: Mapping[str, Any]) -> Iterator[Run]:
    start = time.perf_counter()
    moments = simulated.activations(bench, bench.source.model, batches)
    model = simulated.rounded_weights(bench.source.model, list(moments))
    shared = time.perf_counter() - start
    for method, rule in simulated.RANGES.items():
        start = time.perf_counter()
        ranges = {name: rule(by_tag, simulated.BITS) for name, by_tag in moments.items()}
        seconds = shared + time.perf_counter() - start
        with simulated.rounding_inputs(model, ranges, simulated.BITS):
            yield method, seconds, _score(bench, model)


def _score(bench: Bench, model: Any) -> Documents:
    return {tag: document_sums(losses) for tag, losses in bench.losses(model).items()}


def result(found: Measured, studies: Mapping[str, tuple[str, ...]] = STUDIES) -> dict[str, Any]:
    """Rows, ratios, differences and verdicts, for JSON.

    Rows have each language's degradation and divergence (`kl`) in nats per byte, by study, method and seed.
    """
    content: dict[str, Any] = {"rows": _rows(found), "summary": [], "ratios": [], "differences": [], "verdicts": {}}
    for study, methods in studies.items():
        keys = [key for key in found.cells if key[0] == study]
        if not keys:
            continue
        values = {
            measure: resample([found.cells[key] for key in keys], found.baseline, measure=measure)
            for measure in MEASURES
        }
        runs: dict[str, dict[str, Runs]] = {}
        for method in methods:
            places = [place for place, key in enumerate(keys) if key[1] == method]
            seeds = tuple(keys[place][2] for place in places)
            if places:
                runs[method] = {name: Runs(seeds=seeds, values=each[places]) for name, each in values.items()}
        content["summary"] += [_summary(study, name, found, runs[name]) for name in runs]
        for other in [name for name in runs if name != "la_aciq" and "la_aciq" in runs]:
            pair = _same_seeds(runs["la_aciq"], runs[other])
            if pair is None:
                continue
            content["ratios"].append(_ratio(study, other, *pair))
            if study == "W8A8":
                content["differences"].append(_differences(other, *pair, sorted(found.baseline)))
    content["verdicts"] = verdicts(content)
    content["not_run"] = found.not_run
    return content


def _rows(found: Measured) -> list[dict[str, Any]]:
    return [
        {
            "study": study,
            "method": method,
            "seed": seed,
            "language": tag,
            **language_figures(documents[tag], found.baseline[tag], tag),
        }
        for (study, method, seed), documents in found.cells.items()
        for tag in sorted(documents)
    ]


def _summary(study: str, method: str, found: Measured, runs: Mapping[str, Runs]) -> dict[str, Any]:
    """Mean over seeds of the mean and of the worst language."""
    seconds = [each for key, each in found.seconds.items() if key[:2] == (study, method)]
    tags = sorted(found.baseline)
    entry: dict[str, Any] = {"study": study, "method": method, "seeds": len(seconds), "seconds": min(seconds)}
    for measure, part in runs.items():
        now = part.values[:, :, 0]
        entry[measure] = {
            "mean": float(now.mean()),
            "worst": float(now.max(axis=1).mean()),
            "worst_language": tags[int(now.mean(axis=0).argmax())],
        }
    return entry


def _same_seeds(*methods: Mapping[str, Runs]) -> tuple[dict[str, Runs], ...] | None:
    """The methods with the seeds that all have, in one order; None if there is none."""
    common = [seed for seed in methods[0]["kl"].seeds if all(seed in runs["kl"].seeds for runs in methods)]
    if not common:
        return None
    return tuple(
        {
            name: Runs(seeds=tuple(common), values=each.values[[each.seeds.index(seed) for seed in common]])
            for name, each in runs.items()
        }
        for runs in methods
    )


def _ratio(study: str, other: str, ours: Mapping[str, Runs], theirs: Mapping[str, Runs]) -> dict[str, Any]:
    found: dict[str, Any] = {"study": study, "ours": "la_aciq", "baseline": other}
    for measure in MEASURES:
        found[measure] = ratio(ours[measure], theirs[measure])
    if (study, other) == ("W8A4", simulated.MINMAX):
        found["target"] = TARGET
        found["verdict"] = {measure: verdict(found[measure]["worst"], TARGET) for measure in MEASURES}
    return found


def _differences(other: str, ours: Mapping[str, Runs], theirs: Mapping[str, Runs], tags: list[str]) -> dict[str, Any]:
    found = {measure: differences(ours[measure], theirs[measure], tags) for measure in MEASURES}
    return {"study": "W8A8", "ours": "la_aciq", "baseline": other, **found}


def verdicts(content: Mapping[str, Any]) -> dict[str, Any]:
    """What the differences and ratios come to: W8A8 by baseline and measure, W8A4 by measure.

    W8A8 is "missed" as soon as one language's own interval lies above 0, which chance alone does to one language in
    40; `joint` is the verdict of the intervals that hold in all languages at once.
    """
    found: dict[str, Any] = {"W8A8": {}, "W8A4": {}}
    for entry in content["differences"]:
        if entry["baseline"] not in inc_static.MINMAX:
            continue
        found["W8A8"][entry["baseline"]] = {
            measure: {
                "worse": sorted(tag for tag, each in entry[measure].items() if each["verdict"] == "worse"),
                "joint_worse": sorted(tag for tag, each in entry[measure].items() if each["joint_verdict"] == "worse"),
            }
            for measure in MEASURES
        }
        for each in found["W8A8"][entry["baseline"]].values():
            each["verdict"] = "missed" if each["worse"] else "met"
            each["joint"] = "missed" if each["joint_worse"] else "met"
    for entry in content["ratios"]:
        if "verdict" in entry:
            found["W8A4"] = entry["verdict"]
    return found
