"""Ratios of two methods: exact on exact data, paired, with intervals that mean something."""

from __future__ import annotations

import numpy as np
import pytest

from inc_laaciq.evaluation.compare import overview, ratios
from inc_laaciq.evaluation.degradation import degradation
from inc_laaciq.evaluation.losses import SentenceLosses


def losses(tag, loss, seed=0):
    n = len(loss)
    generator = np.random.default_rng(seed)
    return SentenceLosses(
        tag=tag,
        loss=np.asarray(loss, dtype=float),
        tokens=np.full(n, 10),
        n_bytes=generator.integers(20, 60, n),
        document=np.arange(n) // 3,
        text_sha256="x",
    )


def worse(baseline, amount, noise=0.0, seed=1):
    """The same sentences, each worse by `amount` nats a byte, with noise."""
    extra = np.random.default_rng(seed).normal(0, noise, baseline.n) if noise else 0.0
    return losses(baseline.tag, baseline.loss + amount * baseline.n_bytes + extra)


@pytest.fixture
def baseline():
    generator = np.random.default_rng(5)
    return {tag: losses(tag, generator.uniform(20, 80, 60)) for tag in ("en", "fi", "hi")}


def test_exact_data_gives_exact_ratios_and_no_width(baseline):
    ours = {tag: worse(b, amount) for (tag, b), amount in zip(baseline.items(), (0.01, 0.02, 0.03), strict=True)}
    theirs = {tag: worse(b, amount) for (tag, b), amount in zip(baseline.items(), (0.02, 0.04, 0.08), strict=True)}
    found = ratios(ours, theirs, baseline, tuple(baseline))
    assert found["mean"]["ratio"] == pytest.approx(3 / 7)
    assert found["worst"]["ratio"] == pytest.approx(3 / 8)
    assert found["disparity"]["ratio"] == pytest.approx(1 / 3)
    for ratio in found.values():
        assert ratio["low"] == pytest.approx(ratio["high"])


def test_interval_covers_the_truth_and_shrinks_with_pairing(baseline):
    """The noise is shared by both methods, so pairing removes most of it."""
    ours = {tag: worse(b, 0.02, noise=1.0) for tag, b in baseline.items()}
    theirs = {tag: worse(b, 0.04, noise=1.0) for tag, b in baseline.items()}
    unpaired = {tag: worse(b, 0.04, noise=1.0, seed=9) for tag, b in baseline.items()}
    paired_mean = ratios(ours, theirs, baseline, tuple(baseline))["mean"]
    other_mean = ratios(ours, unpaired, baseline, tuple(baseline))["mean"]
    assert paired_mean["low"] < 0.5 < paired_mean["high"]
    assert paired_mean["high"] - paired_mean["low"] < other_mean["high"] - other_mean["low"]


def test_same_seed_same_bytes_and_no_language_no_ratio(baseline):
    ours = {tag: worse(b, 0.02, noise=1.0) for tag, b in baseline.items()}
    theirs = {tag: worse(b, 0.04, noise=2.0) for tag, b in baseline.items()}
    first = ratios(ours, theirs, baseline, tuple(baseline))
    assert first == ratios(ours, theirs, baseline, tuple(baseline))
    assert first != ratios(ours, theirs, baseline, tuple(baseline), seed=1)
    assert ratios(ours, theirs, baseline, ()) == {}


def test_overview_names_the_worst_and_is_empty_without_languages(baseline):
    measured = {tag: degradation(worse(b, 0.01 if tag != "fi" else 0.05), b) for tag, b in baseline.items()}
    shown = overview(measured)
    assert shown["worst_language"] == "fi"
    assert shown["disparity"] == pytest.approx(0.04)
    assert set(overview({})) == set(shown)
    assert not any(overview({}).values())


def test_there_is_no_ratio_to_a_method_that_loses_nothing(baseline):
    ours = {tag: worse(b, 0.02) for tag, b in baseline.items()}
    for theirs in (baseline, {tag: worse(b, -0.01) for tag, b in baseline.items()}):
        found = ratios(ours, theirs, baseline, tuple(baseline))
        assert found["mean"] == found["worst"] == {"ratio": None, "low": None, "high": None}


def test_identical_models_and_text_without_bytes_have_no_ratio(baseline):
    assert not any(ratios(baseline, baseline, baseline, tuple(baseline))["mean"].values())
    bare = SentenceLosses(tag="en", loss=[1.0, 2.0], tokens=[1, 1], n_bytes=[0, 0], document=[0, 1])
    assert not any(ratios({"en": bare}, {"en": bare}, {"en": bare}, ("en",))["disparity"].values())
