import json
import logging
import time

import pytest

from inc_laaciq.calibration.corpus import read_texts
from inc_laaciq.errors import DataError, SpecError


@pytest.fixture
def folder(tmp_path):
    def write(**files):
        for name, content in files.items():
            (tmp_path / f"{name}.txt").write_bytes(content if isinstance(content, bytes) else content.encode())
        return tmp_path

    return write


def warnings(caplog):
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


def jsonl(path, records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


def test_folder_of_pages(folder, caplog):
    corpus = read_texts(folder(sw="Moja.\nMbili.\n\n\nTatu.\n", en="One.\nTwo.\n\nThree."))
    assert {tag: text.documents for tag, text in corpus.texts.items()} == {
        "en": (("One.", "Two."), ("Three.",)),
        "sw": (("Moja.", "Mbili."), ("Tatu.",)),
    }
    assert corpus.missing == corpus.notes == ()
    assert not warnings(caplog)


def test_tags_are_canonical_and_only_listed_languages_are_read(folder):
    source = folder(swh_Latn="Moja.", EN="One.", por_BR="Um.", fr=b"\xff not read, so not judged")
    assert read_texts(source, ["sw", "pt_BR", "en"]).languages == ("en", "pt-BR", "sw")


@pytest.mark.parametrize("pair", [("zh", "cmn"), ("zh", "zho_Hans"), ("iw", "he"), ("zh", "zh-CN")], ids="-".join)
def test_one_language_in_two_files_is_refused_row12(folder, pair):
    source = folder(**dict.fromkeys(pair, "text"))
    with pytest.raises(DataError, match=r"two files are of one language.*") as caught:
        read_texts(source)
    assert all(repr(tag) in str(caught.value) for tag in pair)


def test_one_language_listed_twice_is_refused_row12(folder):
    with pytest.raises(SpecError, match="twice"):
        read_texts(folder(sw="Moja."), ["sw", "swh"])


def test_listed_language_without_text_is_missing_row13(folder, caplog):
    corpus = read_texts(folder(sw="Moja."), ["sw", "yo"])
    assert corpus.languages == ("sw",)
    assert corpus.missing == ("yo",)
    assert [w for w in warnings(caplog) if w.startswith("yo: no text") and "NOT-RUN" in w] == list(corpus.notes)
    assert len(corpus.notes) == 1


@pytest.mark.parametrize("content", ["", "\n\n", " \t\r\n\u3000\n", "\ufeff", "\ufeff\u200b\n"], ids=repr)
def test_empty_file_is_the_same_as_none_row14(folder, caplog, content):
    corpus = read_texts(folder(sw="Moja.", yo=content))
    assert corpus.missing == ("yo",)
    assert corpus.sizes() == {"sw": 5, "yo": 0}
    assert len([w for w in warnings(caplog) if w.startswith("yo: no text")]) == 1


def test_other_files_are_ignored_but_a_txt_must_be_a_language(folder):
    source = folder(sw="Moja.")
    for name in ("README", "LICENSE.md", "en.text", ".en.txt"):
        (source / name).write_text("no language")
    assert read_texts(source).languages == ("sw",)
    (source / "notes.txt").write_text("x")
    with pytest.raises(DataError, match=r"must be a language tag.*notes\.txt"):
        read_texts(source)


def test_the_ending_may_be_in_capitals(folder):
    source = folder(en="One.")
    (source / "SW.TXT").write_text("Moja.")
    assert read_texts(source).languages == ("en", "sw")
    (source / "swh.txt").write_text("Mbili.")
    with pytest.raises(DataError, match="two files are of one language"):
        read_texts(source)


def test_what_is_no_source_is_refused(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        read_texts(tmp_path / "absent")
    with pytest.raises(DataError, match=r"no <language>\.txt"):
        read_texts(tmp_path)
    (tmp_path / "texts.csv").write_text("a,b")
    with pytest.raises(DataError, match=r"neither a folder nor a \.jsonl"):
        read_texts(str(tmp_path / "texts.csv"))


def test_damaged_lines_are_skipped_and_counted_row17(folder, caplog):
    good = b"Habari.\n" * 300
    corpus = read_texts(folder(sw=good + b"\xff\xfe broken\n" + b"nul \0 here\n" + b"half \xed\xa0\x80 surrogate\n"))
    text = corpus.texts["sw"]
    assert text.n_skipped == 3
    assert set(text.lines) == {"Habari."}
    assert "3 damaged lines were skipped of 303; the first is" in corpus.notes[0]
    assert "sw.txt:301: byte 1 is not UTF-8" in corpus.notes[0]
    assert warnings(caplog) == list(corpus.notes)


def test_more_than_one_percent_of_damage_is_an_error_with_file_and_line_row17(folder):
    source = folder(sw=b"Habari.\n" * 98 + b"\n\x80\n\x81\n")
    with pytest.raises(DataError, match=r"2 of 100 lines are damaged.*first is .*sw\.txt:100: byte 1 is not UTF-8"):
        read_texts(source)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_utf16_is_named_row17(folder, encoding):
    with pytest.raises(DataError, match=r"sw\.txt: this is UTF-(16|32).*must be UTF-8.*iconv"):
        read_texts(folder(sw="Habari ya asubuhi.\n".encode(encoding)))


def test_a_byte_order_mark_is_not_text_row17(folder):
    assert read_texts(folder(sw=b"\xef\xbb\xbfMoja.\nMbili\xef\xbb\xbf.\n")).texts["sw"].lines == (
        "Moja.",
        "Mbili\ufeff.",
    )


def test_text_is_used_as_it_is_row18(folder):
    lines = (
        "  spaces kept  ",
        "שלום \u200fRTL",
        "می\u200cخواهم",  # a zero-width non-joiner
        "👩‍💻 ZWJ",
        "line\u2028separator \x85 and \x0b are not line ends",
        "Ti\u00ea\u0301ng",
    )
    text = read_texts(folder(he="\r\n".join(lines) + "\r\n\r\nlast\r"), ["he"]).texts["he"]
    assert text.documents == (lines, ("last",))
    assert text.n_bytes == sum(len(line.encode()) for line in lines) + 4


def test_nfc_and_nfd_are_counted_as_they_are_and_nfd_is_remarked_row18(folder, caplog):
    corpus = read_texts(folder(vi="Ti\u1ebfng Vi\u1ec7t\n" * 3, fr="e\u0301te\u0301\n" * 3))
    assert corpus.texts["vi"].n_bytes == 3 * len("Tiếng Việt".encode())
    assert corpus.texts["fr"].n_bytes == 3 * 7
    assert [note for note in corpus.notes if "NFC" in note] == warnings(caplog)
    assert len(corpus.notes) == 1
    assert "fr.txt: 3 of 3 lines are not in Unicode NFC" in corpus.notes[0]


def test_ten_megabytes_in_one_line_row19(folder):
    source = folder(km="ខ្មែរ" * 2_000_000)
    started = time.process_time()
    text = read_texts(source).texts["km"]
    assert time.process_time() - started < 8
    assert text.n_bytes == 2_000_000 * len("ខ្មែរ".encode())
    assert len(text.documents) == 1
    assert max(map(len, text.lines)) <= 4096


def test_wrong_script_is_a_warning_with_the_share_row20(folder, caplog):
    corpus = read_texts(folder(el="Это русский текст, а не греческий. Ααα", en="Plain English."))
    assert "el: only 10% of the letters are Grek" in corpus.notes[0]
    assert warnings(caplog) == list(corpus.notes)


def test_wrong_script_is_an_error_under_strict_lid_row20(folder):
    with pytest.raises(DataError, match="el: only 0% of the letters are Grek"):
        read_texts(folder(el="Это русский текст, а не греческий."), strict_lid=True)


def test_jsonl_keeps_documents_together(tmp_path):
    source = jsonl(
        tmp_path / "texts.jsonl",
        [
            {"text": "a1", "language": "sw", "document": 7},
            {"text": "b1\nb2\r\n\nb3", "language": "sw"},
            {"text": "x", "language": "en", "document": 7},
            {"text": "a2", "language": "sw", "document": 7},
            {"text": "c", "language": "sw"},
        ],
    )
    corpus = read_texts(source)
    assert corpus.texts["sw"].documents == (("a1", "a2"), ("b1", "b2", "b3"), ("c",))
    assert corpus.texts["en"].documents == (("x",),)


def test_jsonl_of_unknown_language_names_it_and_its_line(tmp_path):
    source = jsonl(tmp_path / "t.jsonl", [{"text": "a", "language": "sw"}, {"text": "b", "language": "qqqq"}])
    with pytest.raises(DataError, match=r"1 values.*no known language: 'qqqq' \(.*t\.jsonl:2\)"):
        read_texts(source)
    assert read_texts(source, ["sw"]).languages == ("sw",)


def test_damage_is_a_share_of_all_records_also_of_those_not_listed_row17(tmp_path):
    source = jsonl(tmp_path / "t.jsonl", [{"text": "a", "language": tag} for tag in ("sw", *("en",) * 198)] + [3])
    corpus = read_texts(source, ["sw"])
    assert corpus.texts["sw"].lines == ("a",)
    assert "1 damaged line was skipped of 200" in corpus.notes[0]


def test_jsonl_with_aliases_is_refused_row12(tmp_path):
    source = jsonl(tmp_path / "t.jsonl", [{"text": "a", "language": "iw"}, {"text": "b", "language": "he"}])
    with pytest.raises(DataError, match=r"written in two ways.*'iw'.*'he'"):
        read_texts(source)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"{not json", "not JSON"),
        (b"[1]", "not an object with 'text' and 'language'"),
        (b'{"text": "a"}', "not an object with 'text' and 'language'"),
        (b'{"text": 3, "language": "sw"}', "text is int, not a string"),
        (b'{"text": "a", "language": false}', "language is bool, not a string"),
        (b'{"text": "a\\ud800", "language": "sw"}', "lone surrogate"),
        (b'{"text": "a\\u0000", "language": "sw"}', "NUL"),
        (b'{"text": "\xff", "language": "sw"}', "UTF-8"),
        (b"[" * 100_000, "not JSON"),
    ],
)
def test_bad_jsonl_records_are_skipped_or_refused_row17(tmp_path, line, reason):
    file = tmp_path / "t.jsonl"
    file.write_bytes(b'{"text": "good", "language": "sw"}\n' * 200 + line + b"\n")
    corpus = read_texts(file)
    assert len(corpus.texts["sw"].lines) == 200
    assert "t.jsonl:201: " in corpus.notes[0]
    assert reason in corpus.notes[0]
    file.write_bytes(b'{"text": "good", "language": "sw"}\n' + line + b"\n")
    with pytest.raises(DataError, match=r"1 of 2 lines are damaged"):
        read_texts(file)


def test_hash_follows_the_text_and_not_the_form(folder, tmp_path):
    from_folder = read_texts(folder(sw="a\nb\n\nc\n"))
    source = jsonl(tmp_path / "t.jsonl", [{"text": "a\nb", "language": "swh"}, {"text": "c", "language": "swh"}])
    assert read_texts(source).sha256 == from_folder.sha256
    assert read_texts(folder(sw="a\nb\n\nC\n")).sha256 != from_folder.sha256


def test_unreadable_file_is_a_data_error(folder):
    source = folder(sw="Moja.")
    (source / "en.txt").mkdir()
    with pytest.raises(DataError, match=r"en\.txt: cannot be read: Is a directory"):
        read_texts(source)
