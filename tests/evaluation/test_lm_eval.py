"""Results of lm-evaluation-harness: genuine files, and the same with every kind of damage."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from inc_laaciq.config.policy import TaskRule
from inc_laaciq.errors import DataError, IntegrityError, LaaciqError, SpecError
from inc_laaciq.evaluation.lm_eval import read_lm_eval

DATA = Path(__file__).parent / "data" / "lm_eval"
QA = TaskRule(pattern="tinyqa_{language}", metric="acc")
TEXT = TaskRule(pattern="tinytext_{language}", metric="bits_per_byte", higher_is_better=False)


def gen(metric: str) -> TaskRule:
    """A rule that may name a filter, whether or not a policy lets it."""
    rule = TaskRule(pattern="tinygen_{language}", metric="exact_match")
    object.__setattr__(rule, "metric", metric)
    return rule


GEN = gen("exact_match,flexible-extract")
ALL = (QA, TEXT, GEN)


@pytest.fixture
def run(tmp_path):
    """A copy of the genuine run that a test may damage."""
    return Path(shutil.copytree(DATA / "tiny-float", tmp_path / "run"))


def results_path(folder):
    (found,) = folder.glob("results_*.json")
    return found


def samples_path(folder, task="tinyqa_swh_Latn"):
    (found,) = folder.glob(f"samples_{task}_*.jsonl")
    return found


def edit(folder, change):
    path = results_path(folder)
    content = json.loads(path.read_text(encoding="utf-8"))
    change(content)
    path.write_text(json.dumps(content), encoding="utf-8")


def edit_samples(folder, change, task="tinyqa_swh_Latn"):
    path = samples_path(folder, task)
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    lines = change(lines) or lines
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def forget_sums(folder):
    """Leave nothing in the results that the samples could contradict."""

    def change(content):
        content["task_hashes"] = {}
        for entry in content["results"].values():
            for key in entry:
                if "," in key:
                    entry[key] = "N/A"

    edit(folder, change)


def test_a_genuine_run(run):
    read = read_lm_eval(results_path(run), ALL)
    assert read.name == "tiny-float"
    assert read.model == {"name": "tiny-float", "dtype": "torch.float32", "revision": "main"}
    assert set(read.tasks) == {QA.pattern, GEN.pattern}
    assert {tag: scores.harm.mean() for tag, scores in read.tasks[QA.pattern].items()} == {"sw": 0.375, "en": 0.625}
    assert all(scores.n == 8 and scores.is_binary and not scores.is_point for scores in read.tasks[QA.pattern].values())
    assert read.missing == {}
    assert read.notes == (
        "tinytext_{language}: bits_per_byte counts bytes, so every byte is a token and perplexity is that of a byte",
    )
    assert read.texts["tasks"]["tinyqa_swh_Latn"]["version"] == 1.0
    assert read.texts["tasks"]["tinyqa_swh_Latn"]["n_shot"] == 0
    assert len(read.texts["tasks"]["tinyqa_swh_Latn"]["hash"]) == 64


@pytest.mark.parametrize("metric", ["bits_per_byte", "byte_perplexity", "word_perplexity"])
def test_likelihoods_make_the_figures_of_the_harness(run, metric):
    rule = TaskRule(pattern=TEXT.pattern, metric=metric, higher_is_better=False)
    losses = read_lm_eval(run, (QA, rule, GEN)).losses
    said = json.loads(results_path(run).read_text(encoding="utf-8"))["results"]
    assert set(losses) == {"sw", "en"}
    for tag, task in (("sw", "tinytext_swh_Latn"), ("en", "tinytext_eng_Latn")):
        assert losses[tag].n == 8
        assert list(losses[tag].document) == list(range(8))
        expected = said[task][f"{metric},none"]
        if metric == "word_perplexity":
            assert losses[tag].perplexity == pytest.approx(expected)
            assert losses[tag].n_bytes.sum() == 0
        else:
            per_byte = losses[tag].loss_per_byte
            assert (per_byte / math.log(2) if metric == "bits_per_byte" else math.exp(per_byte)) == pytest.approx(
                expected
            )
            assert (losses[tag].tokens == losses[tag].n_bytes).all()
    text = json.loads(samples_path(run, "tinytext_swh_Latn").read_text(encoding="utf-8").splitlines()[0])["target"]
    if metric != "word_perplexity":
        assert losses["sw"].n_bytes[0] == len(text.encode())


def test_two_models_on_the_same_tasks_can_be_paired():
    first, second = (read_lm_eval(DATA / name, ALL) for name in ("tiny-float", "tiny-ternary"))
    assert first.texts == second.texts
    assert first.id != second.id
    for pattern, languages in first.tasks.items():
        for tag, scores in languages.items():
            assert scores.fingerprint == second.tasks[pattern][tag].fingerprint
    for tag, losses in first.losses.items():
        assert losses.fingerprint == second.losses[tag].fingerprint
        assert losses.loss.sum() < second.losses[tag].loss.sum()


def test_the_id_knows_neither_machine_nor_time_nor_order_of_lines(run, tmp_path):
    first = read_lm_eval(run, ALL)
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    for file in run.iterdir():
        name = file.name.replace("2026-", "2027-")
        lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
        (moved / name).write_text("".join(lines if file.suffix == ".json" else reversed(lines)), encoding="utf-8")

    def change(content):
        content["date"] = 1.0
        content["total_evaluation_time_seconds"] = "9"
        content["config"]["model_args"] = {"pretrained": "/home/somebody/models/other"}
        content["task_hashes"] = dict.fromkeys(content["task_hashes"])

    edit(moved, change)
    second = read_lm_eval(moved, ALL)
    assert second.name == "other"
    assert first.id == second.id
    assert first.tasks["tinyqa_{language}"]["sw"].items == second.tasks["tinyqa_{language}"]["sw"].items
    assert first.losses["sw"].fingerprint == second.losses["sw"].fingerprint
    # Only the harness's hash goes by the order of the lines.
    assert {key: value for key, value in first.texts["tasks"]["tinyqa_swh_Latn"].items() if key != "hash"} == (
        second.texts["tasks"]["tinyqa_swh_Latn"]
    )
    shutil.rmtree(moved)
    shutil.copytree(run, moved)
    edit(moved, lambda content: content.update(date=2.0, pretty_env_info="x"))
    assert read_lm_eval(moved, ALL).id == first.id


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ("pretrained=/home/x/models/tiny,dtype=bfloat16", "tiny"),
        ("dtype=bfloat16,pretrained=org/tiny-1b/", "tiny-1b"),
        ({"pretrained": "C:\\models\\tiny"}, "tiny"),
        ({"pretrained": "org/base", "peft": "/data/adapter"}, "adapter"),
        ({"pretrained": 3}, "tiny-float"),
        (None, "tiny-float"),
    ],
    ids=str,
)
def test_the_name_of_the_model_has_no_path(run, arguments, name):
    edit(run, lambda content: content["config"].update(model_args=arguments))
    edit(run, lambda content: content.update(model_name="/home/x/tiny-float"))
    assert read_lm_eval(run, ALL).name == name


def test_without_samples_there_is_one_value_and_no_interval(run):
    for file in run.glob("samples_*"):
        file.unlink()
    read = read_lm_eval(run, ALL)
    assert all(scores.is_point and scores.n == 1 for found in read.tasks.values() for scores in found.values())
    assert read.tasks[QA.pattern]["sw"].harm[0] == 0.375
    assert read.losses["sw"].is_point
    assert read.losses["sw"].loss_per_byte / math.log(2) == pytest.approx(4.491456024598888)
    assert len([note for note in read.notes if "no interval is known" in note and "en, sw" in note]) == 3


def test_samples_of_another_date_are_not_taken(run):
    path = samples_path(run)
    path.rename(path.with_name("samples_tinyqa_swh_Latn_2020-01-01T00-00-00.jsonl"))
    assert read_lm_eval(run, ALL).tasks[QA.pattern]["sw"].is_point


def test_a_renamed_results_file_finds_its_samples_unless_there_are_several(run):
    results_path(run).rename(run / "baseline.json")
    assert not read_lm_eval(run / "baseline.json", ALL).tasks[QA.pattern]["sw"].is_point
    shutil.copy(samples_path(run), run / "samples_tinyqa_swh_Latn_2020-01-01T00-00-00.jsonl")
    with pytest.raises(DataError, match="has no date in its name"):
        read_lm_eval(run / "baseline.json", ALL)


def test_the_folder_above_will_do_and_two_runs_in_a_folder_will_not(run, tmp_path):
    assert read_lm_eval(tmp_path, ALL).id == read_lm_eval(run, ALL).id
    shutil.copy(results_path(run), run / "results_2020-01-01T00-00-00.json")
    with pytest.raises(DataError, match="holds 2 results files"):
        read_lm_eval(run, ALL)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no results"):
        read_lm_eval(tmp_path / "empty", ALL)


def test_a_group_stands_for_all_its_tasks(run):
    def change(content):
        content["group_subtasks"] = {"qa_sw": ["tinyqa_swh_Latn", "tinyqa_eng_Latn"], "tinyqa": ["qa_sw"]}

    edit(run, change)
    read = read_lm_eval(run, (TaskRule(pattern="qa_{language}", metric="acc"), TEXT, GEN))
    scores = read.tasks["qa_{language}"]["sw"]
    assert scores.n == 16
    assert scores.harm.mean() == 0.5
    assert sum(item.startswith("tinyqa_eng_Latn/") for item in scores.items) == 8


def test_old_versions_list_each_task_as_a_group_without_parts(run):
    edit(run, lambda content: content["group_subtasks"].update(tinyqa_swh_Latn=[]))
    assert set(read_lm_eval(run, ALL).tasks[QA.pattern]) == {"sw", "en"}


def test_filters_are_chosen_by_name(run):
    with pytest.raises(SpecError, match="several filters: 'strict-match', 'flexible-extract'"):
        read_lm_eval(run, (QA, TEXT, gen("exact_match")))
    with pytest.raises(SpecError, match=r"no filter 'loose'\. Choose from 'strict-match', 'flexible-extract'"):
        read_lm_eval(run, (QA, TEXT, gen("exact_match,loose")))
    assert read_lm_eval(run, (QA, TEXT, gen("exact_match,strict-match"))).tasks


def test_a_metric_that_only_the_task_has_is_a_point(run):
    read = read_lm_eval(run, (QA, TEXT, gen("chrf,strict-match")))
    assert read.tasks[GEN.pattern]["sw"].is_point
    assert any(GEN.pattern in note and "no interval is known" in note for note in read.notes)


@pytest.mark.parametrize("with_samples", [True, False])
def test_an_unknown_metric_lists_what_is_there(run, with_samples):
    if not with_samples:
        for file in run.glob("samples_*"):
            file.unlink()
    with pytest.raises(SpecError, match=r"no metric 'f1'\. Choose from 'acc', 'acc_norm'"):
        read_lm_eval(run, (TaskRule(pattern=QA.pattern, metric="f1"), TEXT, GEN))


@pytest.mark.parametrize(
    ("metric", "higher", "expected"),
    [("acc", True, [0.25, 1.0]), ("score", True, [-0.75, 0.0]), ("ter", False, [0.75, 0.0])],
)
def test_more_is_worse_in_every_metric(run, metric, higher, expected):
    forget_sums(run)
    edit(run, lambda content: content.update(higher_is_better={}))
    for task in ("tinyqa_swh_Latn", "tinyqa_eng_Latn"):

        def change(lines):
            for line, value in zip(lines, (0.75, 0), strict=False):
                line[metric] = value
                line["metrics"] = [metric]
            return lines[:2]

        edit_samples(run, change, task)
    rule = TaskRule(pattern=QA.pattern, metric=metric, higher_is_better=higher)
    assert list(read_lm_eval(run, (rule, TEXT, GEN)).tasks[QA.pattern]["sw"].harm) == expected


def test_a_policy_that_contradicts_the_file_about_better_is_refused(run):
    with pytest.raises(SpecError, match=r"acc of 'tinyqa_eng_Latn' is better when higher.*higher_is_better: false"):
        read_lm_eval(run, (TaskRule(pattern=QA.pattern, metric="acc", higher_is_better=False), TEXT, GEN))
    edit(run, lambda content: content.pop("higher_is_better"))
    with pytest.raises(SpecError, match="bits_per_byte of 'tinytext_eng_Latn' is better when lower"):
        read_lm_eval(run, (QA, TaskRule(pattern=TEXT.pattern, metric="bits_per_byte"), GEN))


def test_likelihoods_of_a_language_from_two_patterns_are_refused(run):
    def change(content):
        for section in ("results", "higher_is_better"):
            content[section]["other_sw"] = content[section]["tinytext_swh_Latn"]

    edit(run, change)
    other = TaskRule(pattern="other_{language}", metric="word_perplexity", higher_is_better=False)
    with pytest.raises(SpecError, match="from one pattern only"):
        read_lm_eval(run, (*ALL, other))


def test_equal_documents_keep_apart(run):
    forget_sums(run)
    edit_samples(run, lambda lines: [line.update(doc_hash="aa") for line in lines][:0])
    items = read_lm_eval(run, ALL).tasks[QA.pattern]["sw"].items
    assert items == ("aa", *(f"aa#{number}" for number in range(2, 9)))


def test_without_hashes_documents_are_paired_by_number(run):
    forget_sums(run)
    edit_samples(run, lambda lines: [line.pop("doc_hash") for line in lines][:0])
    assert read_lm_eval(run, ALL).tasks[QA.pattern]["sw"].items == tuple("01234567")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), None], ids=str)
def test_a_value_that_is_no_number_makes_the_language_missing(run, value):
    forget_sums(run)
    edit_samples(run, lambda lines: lines[3].update(acc=value))
    edit_samples(
        run,
        lambda lines: lines[0].update(bits_per_byte=[-math.nan if value is None else value, 24]),
        "tinytext_eng_Latn",
    )
    read = read_lm_eval(run, ALL)
    assert set(read.tasks[QA.pattern]) == {"en"}
    assert set(read.losses) == {"sw"}
    assert read.missing["sw"] == "tinyqa_swh_Latn: acc is no finite number in 1 of 8 values"
    assert "bits_per_byte is no finite number in 1 of 8" in read.missing["en"]


@pytest.mark.parametrize("value", ["N/A", None, True, float("nan"), [1], -1.0])
def test_a_figure_that_is_no_number_makes_the_language_missing(run, value):
    for file in run.glob("samples_*"):
        file.unlink()

    def change(content):
        content["results"]["tinytext_swh_Latn"]["byte_perplexity,none"] = value

    edit(run, change)
    rule = TaskRule(pattern=TEXT.pattern, metric="byte_perplexity", higher_is_better=False)
    read = read_lm_eval(run, (QA, rule, GEN))
    assert set(read.losses) == {"en"}
    assert "byte_perplexity is no finite number" in read.missing["sw"]


def test_samples_of_another_run_are_refused(run):
    shutil.copy(samples_path(run, "tinyqa_eng_Latn"), samples_path(run))
    with pytest.raises(IntegrityError, match=r"is not of the same run as .*, or was changed"):
        read_lm_eval(run, ALL)


@pytest.mark.parametrize(("task", "rule"), [("tinyqa_swh_Latn", QA), ("tinytext_swh_Latn", TEXT)])
def test_values_that_do_not_make_the_sum_are_refused(run, task, rule):
    value = {"acc": 1.0} if rule is QA else {"bits_per_byte": [-1.0, 24]}
    edit_samples(run, lambda lines: [line.update(value) for line in lines][:0], task)
    with pytest.raises(IntegrityError, match=r"8 documents make .* The samples are of another run"):
        read_lm_eval(run, ALL)


def test_lines_that_were_taken_out_are_noticed_without_hashes_too(run):
    edit(run, lambda content: content.update(task_hashes={}))
    edit_samples(run, lambda lines: lines[:3])
    with pytest.raises(IntegrityError, match="the 3 documents make acc"):
        read_lm_eval(run, ALL)


def test_another_way_of_combining_is_noted(run):
    def change(content):
        content["task_hashes"] = {}
        content["configs"]["tinyqa_swh_Latn"]["metric_list"][0]["aggregation"] = "median"
        content["results"]["tinyqa_swh_Latn"]["acc,none"] = 1.0

    edit(run, change)
    assert "tinyqa_swh_Latn: lm-eval combines the documents' acc otherwise; here their mean counts" in (
        read_lm_eval(run, ALL).notes
    )


def test_documents_without_the_metric_are_counted_in_a_note(run):
    forget_sums(run)
    edit_samples(run, lambda lines: lines[0].pop("acc") and None)
    read = read_lm_eval(run, ALL)
    assert read.tasks[QA.pattern]["sw"].n == 7
    assert any("1 lines of the samples have no acc" in note for note in read.notes)


def damaged(**values):
    return lambda lines: lines[2].update(values)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda lines: [*lines, lines[0]], r":9: the document '0' is there twice, for the filter 'none'"),
        (damaged(doc_id="7"), r":3: doc_id is '7'"),
        (damaged(doc_id=True), r":3: doc_id"),
        (damaged(filter=[]), r":3: filter is"),
        (damaged(doc_hash="\ud800"), r":3: doc_hash"),
        (damaged(target_hash={"a": 1}), r":3: target_hash"),
        (damaged(acc="1.0"), r":3: the value is '1.0', where other documents have a number"),
        (damaged(acc=[1]), r":3: the value is"),
        (damaged(doc_id=None, doc_hash=None), r":3: there is neither a doc_id nor a doc_hash"),
    ],
    ids=range(9),
)
def test_damaged_samples_are_refused_with_the_line(run, change, message):
    forget_sums(run)
    edit_samples(run, change)
    with pytest.raises(IntegrityError, match=message):
        read_lm_eval(run, ALL)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("[1, 2]", "must be a JSON object, and is a list"),
        ("3", "must be a JSON object, and is a int"),
        ('{"doc_id": 1', "is not JSON in UTF-8"),
        ('{"doc_id": 1, "doc_id": 2}', "the key 'doc_id' occurs twice"),
        ("[" * 100_000, "nested too deeply|is not JSON"),
        ('{"a":' * 100_000, "nested too deeply|is not JSON"),
        ("\udcff", "is not JSON in UTF-8"),
    ],
    ids=range(7),
)
def test_a_line_that_is_no_object_is_refused_with_its_number(run, line, message):
    with samples_path(run).open("ab") as file:
        file.write(b"\n" + line.encode("utf-8", "surrogateescape") + b"\n")
    with pytest.raises(IntegrityError, match=rf"\.jsonl:10: .*({message})"):
        read_lm_eval(run, ALL)


def test_a_huge_line_is_refused_and_not_read(run, monkeypatch):
    monkeypatch.setattr("inc_laaciq.evaluation.foreign_files.MAX_LINE_BYTES", 2000)
    edit_samples(run, lambda lines: lines[4].update(doc="x" * 5000))
    with pytest.raises(IntegrityError, match=r":5: the line has more than 2000 bytes"):
        read_lm_eval(run, ALL)


@pytest.mark.parametrize(
    "value", [3, [-1.0], [-1.0, 2, 3], ["a", 2], [-1.0, -2], [-1.0, 2.5], [-1.0, 1e300], [-1, float("nan")], [True, 1]],
    ids=str,
)  # fmt: skip
def test_a_likelihood_is_a_pair(run, value):
    forget_sums(run)
    edit_samples(run, lambda lines: lines[2].update(bits_per_byte=value), "tinytext_swh_Latn")
    with pytest.raises(IntegrityError, match=r":3: bits_per_byte"):
        read_lm_eval(run, ALL)


def test_perplexity_of_last_words_weighs_each_document_the_same(run):
    forget_sums(run)
    edit(run, lambda content: content["results"]["tinytext_swh_Latn"].update({"perplexity,none": math.exp(2.0)}))
    for task in ("tinytext_swh_Latn", "tinytext_eng_Latn"):

        def change(lines):
            for line, value in zip(lines, (-1.0, -3.0), strict=False):
                line["perplexity"] = value
            return lines[:2]

        edit_samples(run, change, task)
    rule = TaskRule(pattern=TEXT.pattern, metric="perplexity", higher_is_better=False)
    losses = read_lm_eval(run, (QA, rule, GEN)).losses["sw"]
    assert losses.perplexity == pytest.approx(math.exp(2.0))
    assert list(losses.tokens) == [1, 1]
    edit_samples(run, lambda lines: [line.update(perplexity=7.4) for line in lines][:0], "tinytext_swh_Latn")
    with pytest.raises(IntegrityError, match="documents make perplexity"):
        read_lm_eval(run, (QA, rule, GEN))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda content: content["results"].update(x=3), IntegrityError, "results of 'x' must be an object"),
        (lambda content: content["results"].update({"a\nb": {}}), IntegrityError, r"'a\\nb' is not the name of a task"),
        (lambda content: content.update(groups=[]), IntegrityError, "must be objects"),
        (lambda content: content.update(group_subtasks={"g": "x"}), IntegrityError, "parts of the group 'g'"),
        (lambda content: content.update(results=[]), DataError, "is not a results file of lm-evaluation-harness"),
        (lambda content: content["results"].update(hellaswag={}), SpecError, "'hellaswag'"),
    ],
    ids=range(6),
)
def test_a_damaged_results_file_is_refused(run, change, error, message):
    edit(run, change)
    with pytest.raises(error, match=message):
        read_lm_eval(run, ALL)


def test_odd_sections_are_passed_over(run):
    def change(content):
        content.update(versions=[], config=3, higher_is_better=3, task_hashes=None)
        content["n-shot"] = None
        content["configs"]["tinyqa_swh_Latn"] = {"metric_list": [3, {"metric": "acc", "aggregation": 3}]}

    edit(run, change)
    read = read_lm_eval(run, ALL)
    assert set(read.texts["tasks"]["tinyqa_swh_Latn"]) == {"doc_hash", "prompt_hash", "target_hash"}


def test_no_name_in_the_file_leads_out_of_its_folder(run, tmp_path):
    outside = tmp_path / "samples_x.jsonl"
    outside.write_text("{}")
    edit(run, lambda content: content["results"].update({"../tinyqa_fi": {"acc,none": 0.5}}))
    rule = TaskRule(pattern="../tinyqa_{language}", metric="acc")
    assert read_lm_eval(run, (*ALL, rule)).tasks[rule.pattern]["fi"].is_point


def test_a_samples_file_and_nothing_are_named(run):
    path = samples_path(run)
    path.write_text(path.read_text(encoding="utf-8").splitlines()[0], encoding="utf-8")
    with pytest.raises(DataError, match="looks like a samples file"):
        read_lm_eval(path, ALL)
    with pytest.raises(DataError, match="no such file"):
        read_lm_eval(run / "nothing.json", ALL)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.dictionaries(
        st.sampled_from(["doc_id", "filter", "doc_hash", "acc", "metrics", "prompt_hash"]),
        st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5) | st.lists(st.integers()),
        min_size=1,
    )
)
def test_no_sample_ends_in_anything_but_a_result_or_an_error_of_ours(tmp_path, values):
    folder = tmp_path / "drawn"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(DATA / "tiny-float", folder)
    edit_samples(folder, lambda lines: lines[2].update(values))
    try:
        read = read_lm_eval(folder, ALL)
    except LaaciqError:
        return
    for scores in read.tasks[QA.pattern].values():
        assert np.isfinite(scores.harm).all()
