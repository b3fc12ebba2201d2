"""Evaluating models on disk: a float model, the output of a run, and one beside the other."""

from __future__ import annotations

import json
import math
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
import yaml

with warnings.catch_warnings():  # Neural Compressor and what it imports warn while they are imported
    warnings.simplefilter("ignore")
    pytest.importorskip("neural_compressor", exc_type=ImportError)

import inc_laaciq
from inc_laaciq.artifacts import write_artifacts
from inc_laaciq.config import read_config
from inc_laaciq.errors import DataError, ModelError
from inc_laaciq.evaluate import evaluate_model
from inc_laaciq.evaluation.results import read_results
from inc_laaciq.job import prepare
from inc_laaciq.output import atomic_folder, write_json_atomic
from inc_laaciq.pipeline import run_quantization

pytestmark = pytest.mark.inc

RECIPE = Path(__file__).parents[1] / "recipes" / "small_bloom"
LANGUAGES = ["en", "fi", "hi"]


def aligned_texts(folder):
    """As many lines of every language, as if they were translations."""
    folder.mkdir()
    for tag in LANGUAGES:
        lines = (RECIPE / "text" / "evaluation" / f"{tag}.txt").read_text(encoding="utf-8").splitlines()
        lines = [line for line in lines if line.strip()][:60]
        (folder / f"{tag}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def configuration(folder, **evaluation):
    content = {
        "quantization": {
            "approach": "post_training_weight_only",
            "model_wise": {"weight": {"bits": 4, "group_size": 64, "scheme": "sym"}},
        },
        "tuning": {"strategy": {"name": "la_aciq"}},
        "la_aciq": {
            "model": str(RECIPE / "model"),
            "mode": "fast",
            "languages": LANGUAGES,
            "evaluation": {"texts": "texts", "tokens_per_language": 256, **evaluation},
        },
    }
    (folder / "conf.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    return folder / "conf.yaml"


@pytest.fixture(scope="module")
def output(tmp_path_factory):
    """Output folder of a run on aligned text."""
    folder = tmp_path_factory.mktemp("run")
    aligned_texts(folder / "texts")
    with warnings.catch_warnings(), pytest.MonkeyPatch.context() as patch:
        warnings.simplefilter("ignore")
        patch.chdir(folder)
        job = prepare(read_config(configuration(folder, aligned=True)))
        with atomic_folder(folder / "out", inputs=[]) as out:
            write_artifacts(job, run_quantization(job), out)
    return folder / "out"


def evaluate(*arguments, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return evaluate_model(*arguments, **options)


def test_a_run_records_flips_and_divergence(output):
    results = read_results(output / "results.json")
    record = json.loads((output / "laaciq.json").read_text(encoding="utf-8"))
    content = json.loads((output / "results.json").read_text(encoding="utf-8"))
    assert content["reference"] == {"name": "model", "sha256": content["model"]["sha256"], "kind": "float"}
    for tag, losses in results.losses.items():
        entry = record["languages"][tag]
        assert 0 < losses.flip_rate == entry["flip_rate"] < 0.5
        assert 0 < losses.mean_kl == entry["kl"] < 1
        assert entry["fertility"] == losses.fertility
        assert entry["perplexity"] == losses.perplexity
        assert entry["bits_per_byte"] == pytest.approx(entry["loss"] / math.log(2))
        assert entry["baseline_bits_per_byte"] == pytest.approx(entry["baseline_loss"] / math.log(2))
        relative = entry["perplexity"] / entry["baseline_perplexity"] - 1
        assert relative == pytest.approx(entry["relative_perplexity"])


def test_baseline_has_nothing_to_be_compared_with(output):
    content = json.loads((output / "baseline.json").read_text(encoding="utf-8"))
    assert not {"reference", "configuration_sha256"} & content.keys()
    for losses in read_results(output / "baseline.json").losses.values():
        assert losses.flips is losses.kl is None


def test_a_run_on_aligned_text_takes_the_same_lines(output):
    for name in ("results.json", "baseline.json"):
        results = read_results(output / name)
        assert results.texts["aligned"] is True
        assert len({tuple(losses.document) for losses in results.losses.values()}) == 1
    record = json.loads((output / "laaciq.json").read_text(encoding="utf-8"))
    assert record["texts"]["evaluation"]["aligned"] is True


def test_files_of_a_run_follow_the_published_schema(output, tmp_path):
    jsonschema = pytest.importorskip("jsonschema")
    schema = Path(inc_laaciq.__file__).parent / "schemas" / "results.schema.json"
    validator = jsonschema.Draft202012Validator(json.loads(schema.read_text(encoding="utf-8")))
    write_json_atomic(tmp_path / "again.json", evaluate(output))
    for file in (output / "results.json", output / "baseline.json", tmp_path / "again.json"):
        assert list(validator.iter_errors(json.loads(file.read_text(encoding="utf-8")))) == []


def test_the_output_beside_the_float_model_gives_what_the_run_recorded(output, tmp_path):
    write_json_atomic(tmp_path / "again.json", evaluate(output, reference=RECIPE / "model"))
    again, recorded = read_results(tmp_path / "again.json"), read_results(output / "results.json")
    assert again.texts["aligned"] is True
    for tag in LANGUAGES:
        assert again.losses[tag].fingerprint == recorded.losses[tag].fingerprint
        np.testing.assert_allclose(again.losses[tag].loss, recorded.losses[tag].loss, atol=1e-4)
        np.testing.assert_allclose(again.losses[tag].kl, recorded.losses[tag].kl, atol=1e-4)
        assert abs(again.losses[tag].flips - recorded.losses[tag].flips).sum() <= 1  # of two tokens as likely
    content = [
        json.loads(file.read_text(encoding="utf-8")) for file in (tmp_path / "again.json", output / "results.json")
    ]
    for key in ("reference", "configuration_sha256", "tokenizer"):
        assert content[0][key] == content[1][key]


def test_reference_changes_no_loss(output, tmp_path):
    for name, reference in (("alone", None), ("beside", RECIPE / "model")):
        write_json_atomic(tmp_path / name, evaluate(output, reference=reference))
    alone, beside = (read_results(tmp_path / name) for name in ("alone", "beside"))
    for tag in LANGUAGES:
        assert alone.losses[tag].loss.tobytes() == beside.losses[tag].loss.tobytes()
        assert alone.losses[tag].flips is None


def test_a_float_model_beside_itself(tmp_path):
    texts = aligned_texts(tmp_path / "texts")
    results = evaluate(RECIPE / "model", texts=texts, aligned=True, reference=RECIPE / "model")
    assert results["texts"]["aligned"] is True
    assert {(entry["flip_rate"], entry["kl"]) for entry in results["languages"].values()} == {(0.0, 0.0)}


def test_text_that_is_given_is_not_taken_for_aligned(output, tmp_path):
    texts = aligned_texts(tmp_path / "texts")
    assert "aligned" not in evaluate(output, texts=texts)["texts"]
    assert "aligned" not in evaluate(output, aligned=False)["texts"]
    with (texts / "fi.txt").open("a", encoding="utf-8") as file:
        file.write("one more\n")
    with pytest.raises(DataError, match="differ in their number of lines: en 60, fi 61, hi 60"):
        evaluate(output, texts=texts, aligned=True)


def test_a_run_refuses_text_that_is_not_aligned_before_the_model_is_loaded(tmp_path):
    texts = aligned_texts(tmp_path / "texts")
    (texts / "en.txt").write_text("one line\n", encoding="utf-8")
    run = read_config(configuration(tmp_path, aligned=True))
    with pytest.raises(DataError, match="differ in their number of lines: en 1, fi 60, hi 60"):
        prepare(run, "/no/such/model")


def test_a_reference_with_another_tokenizer_is_refused(output, tmp_path):
    shutil.copytree(RECIPE / "model", tmp_path / "other")
    file = tmp_path / "other" / "tokenizer.json"
    content = json.loads(file.read_text(encoding="utf-8"))
    vocabulary = content["model"]["vocab"]
    one, two = (token for token, number in vocabulary.items() if number in (3000, 3001))
    vocabulary[one], vocabulary[two] = vocabulary[two], vocabulary[one]
    file.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    with pytest.raises(ModelError, match=r"the reference .*other has another tokenizer than .*out"):
        evaluate(output, reference=tmp_path / "other")


def test_a_reference_that_was_not_quantized_is_remarked(output, tmp_path, caplog):
    from safetensors.torch import load_file, save_file

    shutil.copytree(RECIPE / "model", tmp_path / "other")
    file = tmp_path / "other" / "model.safetensors"
    state = {name: tensor * 1.01 for name, tensor in load_file(file).items()}
    save_file(state, file, metadata={"format": "pt"})
    evaluate(output, reference=tmp_path / "other", tokens_per_language=50)
    assert "out was not quantized from" in caplog.text
    caplog.clear()
    evaluate(output, reference=RECIPE / "model", tokens_per_language=50)
    assert "was not quantized from" not in caplog.text
