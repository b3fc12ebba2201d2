"""A group is no better than its worst language, and one without a number is worse than any."""

from __future__ import annotations

from inc_laaciq.report.groups import group_rows


def rows(**degradations):
    entries = {tag: {"groups": ["g"], "degradation": value} for tag, value in degradations.items()}
    return [(row.mean, row.worst) for row in group_rows(entries, 2) if row.kind == "group"]


def test_a_language_without_a_number_is_the_worst_and_leaves_no_mean():
    assert rows(de=0.001, fi=None) == [("n/a", "fi n/a")]
    assert rows(de=0.001, fi=0.003) == [("+2.00", "fi +3.00")]
    assert rows(de=None, fi=None) == [("n/a", "")]
