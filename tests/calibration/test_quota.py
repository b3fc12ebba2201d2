import logging

from inc_laaciq.calibration.quota import warn_of_imbalance


def test_effective_count_is_said_where_a_quota_is_not_met_row16(caplog):
    warn_of_imbalance({"en": 4096, "sw": 1203}, 4096)
    assert [record.getMessage() for record in caplog.records] == [
        "sw: 1203 of 4096 tokens: all of its text is used, and there is no more."
    ]
    assert caplog.records[0].levelno == logging.WARNING


def test_imbalance_without_quota_is_said_row16(caplog):
    warn_of_imbalance({"en": 10_000, "sw": 1_000}, 0)
    assert not caplog.records
    warn_of_imbalance({"en": 10_001, "sw": 1_000, "fi": 5_000}, 0)
    assert "en has 10001 tokens and sw only 1000; set tokens_per_language" in caplog.text
