from __future__ import annotations

import math

import pytest
from gate_documents import check, gate_document, gate_language
from hypothesis import given
from hypothesis import strategies as st

from inc_laaciq.errors import IntegrityError
from inc_laaciq.report.checks import bound_npb, check_rows, language_checks, limit_text, worst_first
from inc_laaciq.report.view import view


@pytest.mark.parametrize(
    ("limit", "unit", "shown"),
    [("5%", "%", "5%"), ("0.01npb", "npb", "10.0 mnat/B"), ("0.5nps", "nps", "0.5nps"), ("2pp", "pp", "2pp")],
)
def test_a_limit_is_shown_in_the_unit_of_its_value(limit: str, unit: str, shown: str) -> None:
    assert limit_text({"limit": limit, "limit_value": 0.01, "unit": unit}, 1) == shown


def test_a_limit_without_its_text_is_written_from_its_number() -> None:
    assert limit_text({"limit_value": 0.05, "unit": "%"}, 1) == "5.00%"
    assert limit_text({"limit": None, "limit_value": None}, 1) == ""


@given(st.floats(-0.05, 0.05), st.floats(0.0, 0.5))
def test_the_bound_of_a_relative_limit_is_where_perplexity_reaches_it(degradation: float, limit: float) -> None:
    entry = gate_language("Turkish", degradation)
    bound = bound_npb({"limit_value": limit, "unit": "%", "value": entry["relative_perplexity"]}, entry)
    assert bound is not None
    at_the_bound = math.expm1(bound * entry["bytes"] / entry["tokens"])
    assert at_the_bound == pytest.approx(limit, abs=1e-9)


@given(st.floats(-0.05, 0.05), st.floats(-0.05, 0.05), st.floats(0.0, 0.5), st.sampled_from(["npb", "nps"]))
def test_the_bound_moves_with_the_language_that_it_is_relative_to(
    degradation: float, anchor: float, limit: float, unit: str
) -> None:
    entry = gate_language("Turkish", degradation)
    factor = 1.0 if unit == "npb" else entry["bytes"] / entry["sentences"]
    value = (degradation - anchor) * factor
    bound = bound_npb({"limit_value": limit, "unit": unit, "value": value}, entry)
    assert bound == pytest.approx(anchor + limit / factor, abs=1e-9)


@pytest.mark.parametrize(
    "damage",
    [
        {"value": None},
        {"limit_value": None},
        {"unit": "pp"},
        {"value": math.inf},
        {"limit_value": -9.0},
        {"value": "1"},
    ],
    ids=str,
)
def test_without_its_numbers_there_is_no_bound(damage: dict) -> None:
    given_check = {"limit_value": 0.05, "unit": "%", "value": 0.01} | damage
    assert bound_npb(given_check, gate_language("Turkish", 0.01)) is None
    assert bound_npb({"limit_value": 0.05, "unit": "%", "value": 0.01}, {"degradation": 0.1}) is None


def test_of_several_checks_of_a_language_the_worst_counts() -> None:
    checks = [check("max_degradation", "tr", verdict) for verdict in ("PASS", "FAIL", "INCONCLUSIVE")]
    assert language_checks({"checks": checks})["tr"]["verdict"] == "FAIL"


def test_the_worst_come_first_and_those_alike_keep_their_order() -> None:
    rows = worst_first(check_rows(gate_document(), 1))
    assert [row.level for row in rows] == ["error"] * 5 + ["warning"] * 3 + ["note"] + ["none"] * 17
    assert [row.tag for row in rows[:2]] == ["fa", "tr"]


@pytest.mark.parametrize("verdict", ["pass", None, 1, ["FAIL"], "PASS "], ids=repr)
def test_a_verdict_that_is_not_known_is_an_error(verdict: object) -> None:
    (row,) = check_rows({"checks": [{"kind": "max_degradation", "language": "tr", "verdict": verdict}]}, 1)
    assert (row.verdict, row.level) == ("UNKNOWN", "error")


@pytest.mark.parametrize("line", [True, "3", 0, -1, 2**40, 1.0, None], ids=repr)
def test_a_line_that_is_none_is_left_out(line: object) -> None:
    (row,) = check_rows({"checks": [check("max_degradation", "tr", "FAIL", line=line)]}, 1)
    assert row.line is None


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ({"checks": [1]}, "entry 0 of 'checks'"),
        ({"checks": [{"waiver": "x"}]}, "'waiver' should be an object"),
        ({"waivers": {}}, "'waivers' should be a list"),
        ({"trials": ["x"]}, "entry 0 of 'trials'"),
        ({"heat": {"layers": ["a"], "languages": ["b"], "values": "x"}}, "'values' should be a list"),
        ({"sentences": {"tr": {}}}, "'tr' should be a list"),
        ({"policy": "x"}, "'policy' should be an object"),
        ({"worst": 3}, "'worst' should be an object"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_damaged_part_is_named(damage: dict, message: str) -> None:
    with pytest.raises(IntegrityError, match=message):
        view(gate_document(**damage))


def test_groups_are_counted_over_all_their_languages() -> None:
    rows = {(row.kind, row.name): row for row in view(gate_document()).groups}
    latin = rows["script", "Latn"]
    assert (latin.languages, latin.verdicts, latin.worst) == ("7", "5 PASS, 1 FAIL, 1 NOT-RUN", "tr +21.3")
    six = (0.0027, 0.0021, -0.0004, 0.0151, 0.0213, 0.0029)
    assert float(latin.mean) == pytest.approx(1000 * sum(six) / 6, abs=0.05)
    assert ("script", "Deva") not in rows
    assert rows["group", "low-resource"].languages == "4"


def test_trials_sentences_and_heat_are_texts() -> None:
    shown = view(gate_document())
    assert [(row.number, row.worst, row.disparity, row.bytes) for row in shown.trials] == [
        ("1", "tr +31.2", "33.1", "2.1 MB"),
        ("2", "tr +21.3", "21.7", "2.3 MB"),
    ]
    assert [entry.tag for entry in shown.sentences] == ["tr", "fa", "he", "ar", "ur"]
    assert [row.degradation for row in shown.sentences[0].rows] == ["+90.0", "+70.0"]
    assert shown.heat is not None
    assert len(shown.heat.layers) == 8
    assert {len(cells) for _, cells in shown.heat.layers} == {19}
    every = [cell for _, cells in shown.heat.layers for cell in cells]
    assert max(cell.shade for cell in every) == 6
    assert any(cell.is_gain for cell in every)


def test_a_map_that_is_too_large_keeps_the_layers_with_most_damage() -> None:
    n, m = 500, 100
    values = [[float(row)] * m for row in range(n)]
    heat = {"layers": [f"l{row}" for row in range(n)], "languages": [f"t{c}" for c in range(m)], "values": values}
    shown = view(gate_document(heat=heat)).heat
    assert shown is not None
    assert (shown.layers[0][0], len(shown.layers), len(shown.languages)) == ("l300", 200, 60)
    assert shown.omitted == "300 layers with less damage and 40 languages"


@pytest.mark.parametrize("values", [[], [[]], [[math.nan, None, "x", math.inf]], [3, None]], ids=repr)
def test_a_map_with_holes_is_shown_with_holes(values: list) -> None:
    heat = {"layers": ["a", "b"], "languages": ["x", "y"], "values": values}
    shown = view(gate_document(heat=heat)).heat
    assert shown is None or all(cell.shade == 0 for _, cells in shown.layers for cell in cells)
