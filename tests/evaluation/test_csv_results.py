"""Tables of losses: what each column means, and that nothing malformed or missing is passed over."""

from __future__ import annotations

import csv
import math

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from inc_laaciq.errors import DataError, LaaciqError
from inc_laaciq.evaluation.csv_results import read_csv


@pytest.fixture
def table(tmp_path):
    def write(text: str | bytes):
        path = tmp_path / "t.csv"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


FULL = """language,sentence,loss,tokens,bytes,document
swh,b,2.5,4,20,x
sw,a,1.5,2,11,y
en,a,1,3,9,x
en,b,2,3,10,x
"""


def test_a_sentence_loses_the_mean_times_its_tokens(table):
    with pytest.raises(DataError, match=r"t\.csv:3: .*given twice, as 'swh' and as 'sw'"):
        read_csv(table(FULL))
    read = read_csv(table(FULL.replace("swh", "sw")))
    assert list(read.losses["sw"].loss) == [3.0, 10.0]  # in the order of the sentences' names
    assert list(read.losses["sw"].tokens) == [2, 4]
    assert list(read.losses["sw"].n_bytes) == [11, 20]
    assert list(read.losses["sw"].document) == [0, 1]
    assert list(read.losses["en"].document) == [0, 0]
    assert not read.losses["sw"].is_point
    assert read.losses["sw"].loss_per_byte == pytest.approx(13 / 31)
    assert read.notes == ()


def test_rows_and_columns_in_another_order_are_the_same_results(table):
    first = read_csv(table(FULL.replace("swh", "sw")))
    rows = [row.split(",") for row in FULL.replace("swh", "sw").split()]
    turned = [rows[0], *reversed(rows[1:])]
    second = read_csv(table("\n".join(",".join(row[::-1]) for row in turned)))
    assert first.id == second.id
    assert first.losses["sw"].fingerprint == second.losses["sw"].fingerprint
    other = read_csv(table(FULL.replace("swh", "sw").replace("en,b", "en,c")))
    assert other.losses["en"].fingerprint != first.losses["en"].fingerprint
    assert other.id != first.id


def test_perplexity_is_the_exponential_of_the_loss(table):
    read = read_csv(table("language,perplexity,tokens\nsw,7.5,10\nsw,1,30\n"))
    assert read.losses["sw"].loss == pytest.approx([10 * math.log(7.5), 0.0])
    assert read.losses["sw"].perplexity == pytest.approx(math.exp(10 * math.log(7.5) / 40))


def test_one_row_is_a_point(table):
    read = read_csv(table("language,perplexity\nsw,7.5\nen,3\n"))
    assert all(losses.is_point for losses in read.losses.values())
    assert read.losses["sw"].perplexity == pytest.approx(7.5)
    assert read.losses["sw"].n_bytes.sum() == 0
    assert read.notes == ("there is one value for sw, en, so no interval is known",)
    with_bytes = read_csv(table("language,loss,tokens,bytes\nsw,2,100,400\n"))
    assert with_bytes.losses["sw"].loss_per_byte == 0.5


@pytest.mark.parametrize(
    "rows",
    [
        "language,loss\nsw,3\nsw,4\nen,3\n",
        "language,loss,sentence\nsw,3,a\nen,3,a\n",
        "language,loss,document\nsw,3,a\nen,3,b\n",
    ],
    ids=["beside sentences", "named", "in a document"],
)
def test_one_sentence_is_no_value_for_the_language(table, rows):
    """Else a language would pass on one sentence where it could not on two."""
    assert not any(losses.is_point for losses in read_csv(table(rows)).losses.values())


def test_without_tokens_each_sentence_is_one_token_and_bytes_are_set_aside(table):
    read = read_csv(table("language,loss,bytes\nsw,1,10\nsw,3,100\n"))
    assert read.losses["sw"].perplexity == pytest.approx(math.exp(2))
    assert list(read.losses["sw"].n_bytes) == [0, 0]
    assert read.notes == (
        "the number of tokens is not given, so every sentence counts as one token",
        "without the number of tokens, the number of bytes cannot be used",
        "sentences have no names, so they are paired in the order of the rows",
    )


@pytest.mark.parametrize("cell", ["", "nan", "NaN", "NA", "null", "None", " n/a "])
def test_a_language_with_a_hole_is_missing_and_never_dropped(table, cell):
    read = read_csv(table(f"language,loss\nsw,1\nsw,{cell}\nen,2\n"))
    assert set(read.losses) == {"en"}
    assert read.missing == {"sw": "the value in line 3 is empty or NaN"}


@pytest.mark.parametrize("cell", ["inf", "+Inf", "Infinity", "1e999"])
@pytest.mark.parametrize("column", ["loss", "perplexity"])
def test_an_infinite_value_makes_the_language_missing(table, cell, column):
    assert read_csv(table(f"language,{column}\nsw,{cell}\n")).missing == {"sw": "the value in line 2 is infinite"}


@pytest.mark.parametrize(
    "change",
    [
        lambda text: b"\xef\xbb\xbf" + text.encode(),
        lambda text: text.replace("\n", "\r\n").encode(),
        lambda text: text.replace("\n", "\r").encode(),
        lambda text: text.replace(",", ";").encode(),
        lambda text: text.replace(",", "\t").encode(),
        lambda text: text.replace(",", " , ").encode(),
        lambda text: text.replace("language", '"Language"').replace("loss", '" LOSS"').encode(),
        lambda text: text.replace("\n", "\n\n").encode() + b"\n,,,\n",
        lambda text: text.replace(",3,", ",3.0,").encode(),
        lambda text: b"\xef\xbb\xbf" + text.replace(",", ";").replace("\n", "\r\n").encode(),
    ],
    ids=["bom", "crlf", "cr", "semicolon", "tab", "spaces", "quotes", "blank", "float", "excel"],
)
def test_the_usual_ways_to_save_a_table_are_one(table, change):
    text = "language,loss,tokens\nsw,1.5,3\nen,2.5,4\n"
    plain, other = read_csv(table(text)), read_csv(table(change(text)))
    assert plain.id == other.id
    assert list(other.losses) == ["sw", "en"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("language,loss\nswx1,1\n", ":2: 'swx1' is not a known language"),
        ("language,loss\n=cmd(),1\n", r":2: '=cmd\(\)' is not a known language"),
        ("language,loss\nsw,1\nen,1\nswh,1\n", ":4: .*given twice"),
        ("language,loss\nzh,1\nzh-CN,1\n", ":3: .*given twice"),
        ("language,loss\nsw,much\n", ":2: loss is 'much', and must be a number"),
        ("language,loss\nsw,=1+1\n", r":2: loss is '=1\+1'"),
        ("language,loss\nsw,1_0\n", ":2: loss is '1_0'"),
        ("language,loss\nsw,0x10\n", ":2: loss is '0x10'"),
        ("language,loss\nsw,٣\n", ":2: loss is"),
        ("language;loss\nsw;1,5\n", ":2: loss is '1,5'.*Write a point before the decimals"),
        ("language,loss\nsw,-0.1\n", ":2: loss is -0.1, and must not be negative"),
        ("language,loss\nsw,-inf\n", ":2: loss is '-inf'"),
        ("language,perplexity\nsw,0.99\n", ":2: perplexity is 0.99, and cannot be below 1"),
        ("language,perplexity\nsw,-3\n", ":2: perplexity is -3"),
        ("language,loss,tokens\nsw,1,-4\n", ":2: tokens is '-4', and must be a whole number from 1"),
        ("language,loss,tokens\nsw,1,0\n", ":2: tokens is '0'"),
        ("language,loss,tokens\nsw,1,2.5\n", ":2: tokens is '2.5'"),
        ("language,loss,tokens\nsw,1,\n", ":2: tokens is ''"),
        ("language,loss,tokens\nsw,1,1e3\n", ":2: tokens is '1e3'"),
        ("language,loss,tokens\nsw,1,99999999999999999999\n", ":2: tokens is"),
        ("language,loss,bytes\nsw,1,0\n", ":2: bytes is '0'"),
        ("language,loss,bytes\nsw,1,5\nsw,1,\n", ":3: some rows of sw have bytes and others have none"),
        ("language,loss,tokens\nsw,1e308,100\n", ":2: the loss times the tokens is too large"),
        ("language,loss,sentence\nsw,1,a\nsw,2,a\n", ":3: the sentence 'a' of sw is there twice"),
        ("language,loss,sentence\nsw,1,\n", ":2: sentence is empty"),
        ("language,loss,document\nsw,1,\n", ":2: document is empty"),
        ("language,loss\nsw,1,2\n", ":2: 3 cells, and the header has 2"),
        ("language,loss\nsw\n", ":2: 1 cells"),
        ("language,loss,token\nsw,1,2\n", "unknown column 'token'. Columns are language"),
        ("language,loss,loss\nsw,1,2\n", "has the column loss twice"),
        ("language,loss,perplexity\nsw,1,2\n", "one of loss and perplexity"),
        ("language,tokens\nsw,1\n", "one of loss and perplexity"),
        ("loss,tokens\n1,1\n", "the header must have language"),
        ("language,loss;tokens\nsw,1\n", "more than one separator: comma and semicolon"),
        ("language,loss\n", "there are no rows"),
        ("", "there are no rows"),
        ('language,loss\n"sw,1\n', ":2: is not CSV"),
        ('language,loss\n"s"w,1\n', ":2: is not CSV"),
        ("language,loss\nsw,1\0\n", "NUL|not CSV"),
        ("language,loss\nsw," + "1" * 200_000, ":2: is not CSV: field larger"),
        (b"language,loss\nsw\xff,1\n", "is not UTF-8"),
        ("language,loss\nsw,1\n".encode("utf-16"), "is UTF-16"),
    ],
    ids=range(42),
)
def test_malformed_tables_are_refused_with_the_line(table, text, message):
    with pytest.raises(DataError, match=message):
        read_csv(table(text))


def test_formulas_and_line_breaks_in_names_are_only_text(table):
    read = read_csv(table('language,loss,sentence\nsw,1,=1+1\nsw,2,"@x\ny"\n'))
    assert read.losses["sw"].n == 2
    with pytest.raises(DataError, match=r":5: loss is 'x'"):
        read_csv(table('language,loss,sentence\nsw,1,=1+1\nsw,2,"@x\ny"\nsw,x,z\n'))


def test_a_document_is_a_document_in_any_order(table):
    first = read_csv(table("language,loss,sentence,document\nsw,1,a,p\nsw,2,b,q\nsw,3,c,p\n"))
    second = read_csv(table("language,loss,sentence,document\nsw,3,c,1\nsw,2,b,2\nsw,1,a,1\n"))
    assert list(first.losses["sw"].document) == [0, 1, 0]
    assert first.id == second.id


def test_too_many_rows_are_refused(table, monkeypatch):
    monkeypatch.setattr("inc_laaciq.evaluation.csv_results.MAX_ROWS", 2)
    assert read_csv(table("language,loss\nsw,1\nsw,2\n")).losses["sw"].n == 2
    with pytest.raises(DataError, match=":4: more than 2 rows"):
        read_csv(table("language,loss\nsw,1\nsw,2\nsw,3\n"))


@pytest.mark.parametrize("name", ["nothing.csv", "."])
def test_no_file_is_an_error(tmp_path, name):
    with pytest.raises(DataError, match=r"no such file|is a folder"):
        read_csv(tmp_path / name)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(st.sampled_from(["sw", "en", "fi"]), st.floats(0, 50), st.integers(1, 10**6), st.integers(1, 10**6)),
        min_size=1,
    )
)
def test_what_is_written_is_read(tmp_path, rows):
    path = tmp_path / "drawn.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("language", "loss", "tokens", "bytes"), *rows])
    read = read_csv(path)
    assert read.missing == {}
    assert sum(losses.n for losses in read.losses.values()) == len(rows)
    for tag, losses in read.losses.items():
        mine = [row for row in rows if row[0] == tag]
        assert losses.loss == pytest.approx([loss * tokens for _, loss, tokens, _ in mine])
        assert list(losses.n_bytes) == [n for *_, n in mine]
        assert losses.is_point == (len(rows) == len(read.losses))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)
@given(st.binary() | st.text().map(str.encode) | st.text('sw1.,;\t\n"=aennloss', max_size=60).map(str.encode))
def test_no_bytes_end_in_anything_but_results_or_an_error_of_ours(tmp_path, raw):
    path = tmp_path / "drawn.csv"
    path.write_bytes(b"language,loss\n" + raw)
    try:
        read = read_csv(path)
    except LaaciqError:
        return
    assert set(read.losses) | set(read.missing)
    assert all(np.isfinite(losses.loss).all() for losses in read.losses.values())
