from __future__ import annotations

import io

import pytest
from gate_documents import LANGUAGES, gate_document, hostile_gate
from hypothesis import given
from report_runs import hidden_characters, hostile_run, hostile_texts, sample_run
from rich.cells import cell_len
from rich.console import Console

from inc_laaciq.errors import IntegrityError
from inc_laaciq.report.characters import visible
from inc_laaciq.report.terminal import print_run


def printed(run: dict, *, width: int = 80, encoding: str = "utf-8", **console: object) -> str:
    raw = io.BytesIO()
    with io.TextIOWrapper(raw, encoding=encoding, errors="strict", newline="") as stream:
        print_run(run, Console(file=stream, width=width, highlight=False, **console))  # type: ignore[arg-type]
        stream.flush()
        return raw.getvalue().decode(encoding)


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.split("  ") if cell.strip()]


def test_the_figures_are_printed_worst_language_first() -> None:
    lines = printed(sample_run()).splitlines()
    table = [cells(line) for line in lines]
    start = table.index(["tag", "language", "float loss", "degradation", "perplexity", "INC RTN", "ratio"])
    assert table[start + 2 : start + 10] == [
        ["sw", "Swahili", "800.0", "+12.4 ± 2.1", "+3.72%", "+24.8 ± 2.1", "0.50x"],
        ["en", "English", "800.0", "+2.1 ± 1.3", "+0.63%", "+4.2 ± 1.3", "0.50x"],
        ["fi", "Finnish", "800.0", "-0.4 ± 1.1", "-0.12%", "-0.8 ± 1.1", "n/a"],
        ["he", "Hebrew", "not evaluated"],
        [],
        ["mean", "+4.7 ± 0.9", "+9.4 ± 0.9", "0.50x"],
        ["worst: sw", "+12.4 ± 2.1", "+3.72%", "+24.8 ± 2.1", "0.50x"],
        ["disparity", "+12.8 ± 2.4", "3.84 pp", "+25.6 ± 3.0", "0.50x"],
    ]
    for line in (
        "Hebrew (he) was not evaluated: no text was found",
        "ratio to INC RTN: mean 0.50x [0.41, 0.63], worst: sw 0.50x [0.40, 0.60], disparity 0.50x [0.38, 0.70]",
        "note: fi: 3 damaged lines were skipped.",
        "size: 4.8 MB to 2.3 MB (quantized layers 3.1 MB to 443.4 kB)",
        "verdict: FAIL",
        "FAIL he: not evaluated, no text was found",
    ):
        assert line in lines


@pytest.mark.parametrize("names", [(), ("INC RTN",), ("INC RTN", "GPTQ", "AWQ")], ids=len)
def test_no_width_cuts_a_number_or_a_word(names: tuple[str, ...]) -> None:
    run = sample_run()
    run["comparisons"] = dict.fromkeys(names, run["comparisons"]["INC RTN"])
    run["languages"]["zh-Hant"] = run["languages"].pop("en") | {"name": "Chinese (Traditional Han)"}
    for width in (*range(44, 84, 2 if names else 8), 100):
        shown = printed(run, width=width)
        table = [line for line in shown.splitlines() if line.startswith(("sw  ", "zh-Hant  ", "fi  ", "    "))]
        assert all(cell_len(line) <= width for line in table)
        words = shown.split()
        assert sum("+3.72%" in word for word in words) == 2
        assert shown.count("+24.8 ± 2.1") == 2 * len(names)
        assert shown.count("+12.4 ± 2.1") >= 2
        assert {"(Traditional", "zh-Hant"} <= set(words)
        assert "…" not in shown
    assert table  # at 100 columns


def test_a_console_too_narrow_for_a_table_gets_lines_with_whole_numbers() -> None:
    lines = printed(sample_run(), width=30).splitlines()
    assert (
        "sw Swahili: float loss 800.0, degradation +12.4 ± 2.1, perplexity +3.72%, INC RTN +24.8 ± 2.1, ratio 0.50x"
        in lines
    )
    assert "he Hebrew: degradation not evaluated" in lines
    assert "mean: degradation +4.7 ± 0.9, INC RTN +9.4 ± 0.9, ratio 0.50x" in lines


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "shift_jis", "koi8-r", "utf-8", "utf-16"])
def test_any_encoding_of_the_output_will_do(encoding: str) -> None:
    run = sample_run(notes=["Bokmål – 中文 العربية"])
    run["languages"]["sw"]["name"] = "Kiswahili ☃"
    shown = printed(run, encoding=encoding)
    assert "+12.4 + 2.1".replace(" + ", " ± " if encoding not in ("ascii", "koi8-r") else " +- ") in shown
    assert ("☃" if encoding.startswith("utf") else "\\u2603") in shown


def test_plain_ascii_has_ascii_only() -> None:
    assert printed(sample_run(), encoding="ascii").isascii()


def test_there_is_no_colour_unless_on_a_terminal() -> None:
    assert "\x1b" not in printed(sample_run())
    assert "\x1b[1;31mverdict: FAIL" in printed(sample_run(), force_terminal=True, color_system="standard")
    assert "\x1b[1;33mverdict: NOT-RUN" in printed(
        sample_run(verdict="NOT-RUN"), force_terminal=True, color_system="standard"
    )


@given(hostile_texts())
def test_no_text_of_others_reaches_the_terminal_as_a_command(text: str) -> None:
    for encoding in ("utf-8", "ascii"):
        for run in (hostile_run(text), hostile_gate(text)):
            shown = printed(run, encoding=encoding, force_terminal=True, no_color=True, color_system=None)
            assert hidden_characters(shown) == set()


def test_brackets_are_not_markup() -> None:
    shown = printed(sample_run(notes=["[red]x[/red] [/] :smile:"]))
    assert "note: [red]x[/red] [/] :smile:" in shown.splitlines()


def test_a_long_reason_is_not_broken_where_it_is_searched_for() -> None:
    reason = "FAIL sw: " + "/a/long/path" * 20
    assert visible(reason) in printed(sample_run(reasons=[reason])).splitlines()


def test_a_run_without_languages_is_printed_too() -> None:
    shown = printed({"schema": "inc-laaciq/run/1", "verdict": "NOT-RUN", "reasons": ["NOT-RUN: no gate"]})
    assert shown.splitlines() == ["unnamed model", "", "verdict: NOT-RUN", "NOT-RUN: no gate"]


def test_a_gate_prints_a_line_for_each_language_that_begins_with_its_verdict() -> None:
    lines = printed(gate_document()).splitlines()
    assert all(cell_len(line) <= 80 for line in lines[: lines.index("note: fi: 3 damaged lines were skipped.")])
    table = [cells(line) for line in lines]
    for row in (
        ["FAIL", "tr", "Turkish", "+21.3 [+18.8, +23.8]", "+9.31%", "5%"],
        ["PASS", "sw", "Swahili (waived)", "+15.1 [+12.6, +17.6]", "+6.52%", "10%"],
        ["INCONCLUSIVE", "he", "Hebrew", "+11.2 [+8.7, +13.7]", "+4.79%", "5%"],
        ["NOT-RUN", "yo", "Yoruba", "not evaluated"],
        ["disparity", "+21.7 [+17.4, +25.9]"],
    ):
        assert row in table, row
    for line in (
        "verdict: FAIL",
        "FAIL tr: the waiver LANG-tr expired on 2020-01-31",
        "trial 2: FAIL, mode balanced, 4 bits, worst tr +21.3",
    ):
        assert line in lines
    failed = [line for line in lines if line.startswith("FAIL")]
    assert len(failed) == 2 + 4
    assert any("waiver of sw, 10%" in line for line in lines)


@pytest.mark.parametrize("width", [20, 40, 56, 72, 80, 200])
def test_a_gate_keeps_every_verdict_and_number_at_any_width(width: int) -> None:
    shown = printed(gate_document(), width=width)
    words = shown.replace(",", " ").split()
    for tag, _, _, _, value, verdict in LANGUAGES:
        assert any(line.startswith(f"{verdict} ") and f" {tag} " in line for line in shown.splitlines())
        assert value is None or f"{1000 * value:+.1f}" in words
    assert "…" not in shown


@pytest.mark.parametrize("text", ["::error::x", "  ::stop-commands::t", "##[add-mask]x", "a ::b::" * 30, "a::b" * 40])
def test_no_text_of_others_is_a_command_to_a_ci_server(text: str) -> None:
    for run in (hostile_gate(text), hostile_run(text)):
        for line in printed(run).splitlines():
            assert not line.strip().startswith("::")
            assert "##[" not in line


def test_another_schema_is_refused() -> None:
    with pytest.raises(IntegrityError, match="schema"):
        printed({"schema": "other"})


def test_the_same_run_prints_the_same_bytes() -> None:
    assert printed(sample_run()) == printed(sample_run())
