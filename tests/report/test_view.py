from __future__ import annotations

import math

import pytest
from gate_documents import gate_document
from report_runs import language, sample_run, shuffled

from inc_laaciq.errors import IntegrityError
from inc_laaciq.report.document import SCHEMA
from inc_laaciq.report.view import view


def test_languages_are_shown_worst_first_without_numbers_before_and_missing_ones_last() -> None:
    run = sample_run()
    run["languages"] |= {
        "ar": language("Arabic", math.nan),
        "de": {},
        "tr": language("Turkish", 0.0021),
        "zu": {"name": "Zulu", "missing": ""},
    }
    assert [row.tag for row in view(run).languages] == ["ar", "de", "sw", "en", "tr", "fi", "he", "zu"]


def test_numbers_are_those_of_the_run() -> None:
    shown = view(sample_run())
    sw = shown.languages[0]
    assert (sw.baseline_loss, sw.loss, sw.degradation.text) == ("800.0", "812.4", "+12.4 ± 2.1")
    assert (sw.degradation.value, sw.degradation.standard_error) == (0.0124, 0.0021)
    assert (sw.relative_perplexity, sw.sentences, sw.tokens) == ("+3.72%", "120", "4,096")
    assert (sw.bytes, sw.calibration_tokens) == ("17,123", "2,048")
    mean, worst, disparity = shown.summary
    assert (mean.degradation.text, mean.relative_perplexity) == ("+4.7 ± 0.9", "")
    assert (worst.label, worst.title) == ("worst: sw", "worst language: Swahili")
    assert (worst.degradation.text, worst.relative_perplexity) == ("+12.4 ± 2.1", "+3.72%")
    assert (disparity.degradation.text, disparity.relative_perplexity) == ("+12.8 ± 2.4", "3.84 pp")
    assert shown.size is not None
    assert (shown.size.whole, shown.size.layers) == ("4.8 MB to 2.3 MB", "3.1 MB to 443.4 kB")
    assert shown.noise == "Sampling noise alone would give a disparity of about 3.1 mnat/B."


def test_a_comparison_is_shown_beside_each_figure() -> None:
    shown = view(sample_run())
    assert shown.comparisons == ("INC RTN",)
    assert [(o.degradation.text, o.ratio, o.interval) for o in shown.languages[0].against] == [
        ("+24.8 ± 2.1", "0.50x", "")
    ]
    assert [(row.against[0].ratio, row.against[0].interval) for row in shown.summary] == [
        ("0.50x", "[0.41, 0.63]"),
        ("0.50x", "[0.40, 0.60]"),
        ("0.50x", "[0.38, 0.70]"),
    ]
    assert shown.summary[1].against[0].degradation.text == "+24.8 ± 2.1"


@pytest.mark.parametrize("theirs", [0.0, -0.01, 0.0025, math.nan, None], ids=str)
def test_no_ratio_to_what_may_be_zero(theirs: float | None) -> None:
    run = sample_run()
    run["comparisons"]["INC RTN"]["languages"]["en"] |= {"degradation": theirs, "standard_error": 0.0013}
    english = next(row for row in view(run).languages if row.tag == "en")
    assert english.against[0].ratio == "n/a"


def test_a_missing_language_shows_its_reason_and_no_numbers() -> None:
    run = sample_run()
    run["languages"]["he"] |= {"degradation": -1.0, "loss": 0.1, "calibration_tokens": 12}
    row = view(run).languages[-1]
    assert (row.missing, row.degradation.text, row.degradation.value, row.loss) == (
        "no text was found",
        "n/a",
        None,
        "n/a",
    )
    assert row.calibration_tokens == "12"


def test_layers_say_their_grid_or_why_they_are_float() -> None:
    shown = view(sample_run())
    assert [(row.name, row.grid, row.weights) for row in shown.layers] == [
        ("h.0.dense", "int4 sym, groups of 64", "16,384"),
        ("h.0.wide", "int8 asym, one scale per channel", "65,536"),
        ("lm_head", "float: output layer", "393,216"),
    ]
    assert shown.layer_summary == ("3 layers: 1 float; 1 int4 sym, groups of 64; 1 int8 asym, one scale per channel")


def test_provenance_holds_what_is_needed_to_repeat_the_run() -> None:
    assert dict(view(sample_run()).provenance) == {
        "model": "tiny-bloom",
        "model SHA-256": "ab" * 32,
        "tokenizer SHA-256": "cd" * 32,
        "calibration text": f"texts/cal, tokens per language 2,048, seed 7, SHA-256 {'ee' * 32}",
        "evaluation text": f"path=c4, all tokens, seed 0, SHA-256 {'ff' * 32}",
        "mode": "balanced",
        "reconcile": "mean",
        "versions": "neural-compressor 3.7.1, torch 2.13.0",
        "threads": "2",
        "time taken": "calibrating 12.3 s, solving 5.0 s",
        "written": "2026-11-22T06:40:00+00:00",
        "schema": SCHEMA,
    }
    assert "max_degradation: 10%" in view(sample_run()).configuration


@pytest.mark.parametrize(
    ("confidence", "shown"), [(0.95, "95%"), (0.9, "90%"), (0.999, "99.9%"), (None, "95%"), (2, "95%"), ("x", "95%")]
)
def test_the_interval_is_that_of_the_policy(confidence: object, shown: str) -> None:
    assert view(gate_document(policy={"confidence": confidence})).level == shown


def test_a_run_without_anything_but_a_schema_is_shown_as_empty() -> None:
    shown = view({"schema": SCHEMA})
    assert (shown.title, shown.verdict, shown.languages, shown.summary, shown.size) == (
        "unnamed model",
        "UNKNOWN",
        (),
        (),
        None,
    )
    assert shown.provenance == (("schema", SCHEMA),)


def test_null_sections_read_as_absent() -> None:
    run = dict.fromkeys(sample_run()) | {"schema": SCHEMA}
    assert view(run) == view({"schema": SCHEMA})
    without_calibration = sample_run(texts={"calibration": None, "evaluation": None})
    assert "calibration text" not in dict(view(without_calibration).provenance)


@pytest.mark.parametrize("verdict", ["pass", "<b>", None, 1, "FAIL "], ids=repr)
def test_an_unknown_verdict_is_not_shown_as_a_known_one(verdict: object) -> None:
    assert view(sample_run(verdict=verdict)).verdict == "UNKNOWN"


@pytest.mark.parametrize("schema", [None, "inc-laaciq/run/2", "inc-laaciq/results/1", 1], ids=repr)
def test_another_schema_is_refused(schema: object) -> None:
    with pytest.raises(IntegrityError, match="only 'inc-laaciq/run/1' and 'inc-laaciq/gate/1' can be reported"):
        view(sample_run(schema=schema))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ({"languages": [1]}, "'languages' should be an object with keys, not list"),
        ({"languages": {"sw": "x"}}, "'sw' should be an object with keys, not str"),
        ({"languages": []}, "'languages' should be an object with keys, not list"),
        ({"layers": ""}, "'layers' should be a list, not str"),
        ({"reasons": "FAIL"}, "'reasons' should be a list, not str"),
        ({"notes": {"a": 1}}, "'notes' should be a list, not dict"),
        ({"layers": [3]}, "entry 0 of 'layers' should be an object with keys, not int"),
        ({"comparisons": {"INC RTN": 4}}, "'INC RTN' should be an object with keys, not int"),
        ({"bytes": 5}, "'bytes' should be an object with keys, not int"),
        ({"meta": "\x1b"}, r"'meta' should be an object with keys, not str '\\x1b'"),
    ],
    ids=[
        "languages",
        "language",
        "empty list",
        "empty text",
        "reasons",
        "notes",
        "layer",
        "comparison",
        "bytes",
        "meta",
    ],
)
def test_a_damaged_section_is_named(damage: dict[str, object], message: str) -> None:
    with pytest.raises(IntegrityError, match=message):
        view(sample_run(**damage))


def test_a_document_that_is_no_mapping_is_refused() -> None:
    with pytest.raises(IntegrityError, match="the document should be an object"):
        view([1])  # type: ignore[arg-type]


def test_the_order_of_keys_does_not_matter() -> None:
    run = sample_run()
    run["comparisons"]["GPTQ"] = run["comparisons"]["INC RTN"]
    assert view(shuffled(run)) == view(run)
