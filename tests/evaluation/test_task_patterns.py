"""Names of tasks: each is about one language by one pattern, or it is an error."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inc_laaciq.config.policy import TaskRule
from inc_laaciq.errors import SpecError
from inc_laaciq.evaluation.task_patterns import match_tasks
from inc_laaciq.languages import canonical


def rule(pattern: str = "belebele_{language}", line: int | None = None) -> TaskRule:
    made = TaskRule(pattern="a_{language}", metric="acc", line=line)
    object.__setattr__(made, "pattern", pattern)  # also one that a policy refuses
    return made


def matched(tasks, rules, groups=None):
    found = match_tasks(tasks, groups or {}, rules, "results.json")
    return {(match.rule.pattern, match.language): match.parts for match in found}


def test_any_spelling_of_a_language_is_found():
    assert matched(["belebele_swh_Latn", "belebele_zho_Hant", "belebele_pt-BR"], [rule()]) == {
        ("belebele_{language}", "sw"): ("belebele_swh_Latn",),
        ("belebele_{language}", "zh-Hant"): ("belebele_zho_Hant",),
        ("belebele_{language}", "pt-BR"): ("belebele_pt-BR",),
    }


@given(st.sampled_from(["", "a_", "mmlu.", "x(", "{"]), st.sampled_from(["", "_b", "+", ")"]))
def test_the_rest_of_a_pattern_is_plain_text(before, after):
    pattern = before + "{language}" + after
    assert matched([before + "swh" + after], [rule(pattern)]) == {(pattern, "sw"): (before + "swh" + after,)}


def test_two_patterns_share_out_the_tasks():
    found = matched(["xnli_sw", "xnli_sw_native", "xnli_en"], [rule("xnli_{language}"), rule("xnli_{language}_native")])
    assert found[("xnli_{language}_native", "sw")] == ("xnli_sw_native",)
    assert set(found) == {("xnli_{language}", "sw"), ("xnli_{language}", "en"), ("xnli_{language}_native", "sw")}


def test_all_unmapped_tasks_are_listed_at_once():
    with pytest.raises(SpecError, match=r"'hellaswag', 'mmlu_anatomy', 'xnli_en'\. Add one"):
        match_tasks(["belebele_en", "hellaswag", "mmlu_anatomy", "xnli_en"], {}, [rule()], "results.json")


def test_without_patterns_every_task_is_unmapped():
    with pytest.raises(SpecError, match="no pattern of `tasks:` in the policy"):
        match_tasks(["xnli_en"], {}, (), "results.json")


@pytest.mark.parametrize("other", ["belebele_swh_Latn", "belebele_sw-TZ"])
def test_a_language_twice_is_an_error(other):
    with pytest.raises(SpecError, match=r"belebele_\{language\}.*given twice"):
        match_tasks(["belebele_sw", other], {}, [rule()], "results.json")


def test_a_pattern_without_a_task_is_an_error_that_says_what_is_there():
    with pytest.raises(
        SpecError, match=r"(?s)no task is named as tasks: 'xnli_\{language\}' \(line 7\).*'belebele_sw'"
    ):
        match_tasks(["belebele_sw"], {}, [rule(), rule("xnli_{language}", 7)], "results.json")


@pytest.mark.parametrize("pattern", ["belebele_sw", "{language}_{language}", ""])
def test_a_pattern_holds_the_language_once(pattern):
    with pytest.raises(SpecError, match="a pattern holds"):
        match_tasks(["belebele_sw"], {}, [rule(pattern)], "results.json")


def test_a_task_of_two_patterns_would_count_double():
    with pytest.raises(SpecError, match="would count double"):
        match_tasks(["x_sw", "sw_en"], {"x_fi": ("x_sw",)}, [rule("x_{language}"), rule("sw_{language}")], "f")
    with pytest.raises(SpecError, match="the pattern is there twice"):
        match_tasks(["a_sw"], {}, [rule("a_{language}"), rule("a_{language}")], "f")


def test_groups_are_summaries_unless_a_pattern_names_them():
    tasks = ["mmlu_sw_art", "mmlu_sw_law", "mmlu_en_art"]
    groups = {"mmlu": ("mmlu_sw", "mmlu_en"), "mmlu_sw": ("mmlu_sw_art", "mmlu_sw_law"), "mmlu_en": ("mmlu_en_art",)}
    assert matched(tasks, [rule("mmlu_{language}")], groups) == {
        ("mmlu_{language}", "sw"): ("mmlu_sw_art", "mmlu_sw_law"),
        ("mmlu_{language}", "en"): ("mmlu_en_art",),
    }
    by_task = matched(tasks, [rule("mmlu_{language}_art"), rule("mmlu_{language}_law")], groups)
    assert len(by_task) == 3


def test_a_group_in_itself_ends():
    groups = {"m_sw": ("m_sw", "x"), "x": ("m_sw", "t")}
    assert matched(["t"], [rule("m_{language}")], groups) == {("m_{language}", "sw"): ("t",)}
    with pytest.raises(SpecError, match="has no results"):
        match_tasks(["m_en"], {"m_sw": ("gone",)}, [rule("m_{language}")], "f")


@given(st.lists(st.sampled_from(["sw", "en", "fi", "hi", "yo", "zh-Hant"]), unique=True, min_size=1))
def test_every_task_is_in_exactly_one_match(tags):
    tasks = [f"t_{tag}" for tag in tags]
    found = match_tasks(tasks, {}, [rule("t_{language}")], "f")
    assert sorted(part for match in found for part in match.parts) == sorted(tasks)
    assert [match.language for match in found] == sorted(canonical(tag) for tag in tags)
