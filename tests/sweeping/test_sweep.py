"""The sweep: what it measures, how it goes on where it was stopped, and what it says."""

from __future__ import annotations

import ast
import json
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

from inc_laaciq.assessment.rounding import rounded
from inc_laaciq.calibration.layers import find_layers
from inc_laaciq.checkpoint import load_model
from inc_laaciq.config import LaaciqSpec, WeightSpec
from inc_laaciq.config.bounds import parse_bound
from inc_laaciq.errors import EvaluationError, SpecError
from inc_laaciq.evaluation.degradation import degradation
from inc_laaciq.evaluation.likelihood import sentence_losses
from inc_laaciq.layerwise import quantize_layers
from inc_laaciq.provenance import sources_sha256
from inc_laaciq.report.sweep import language_rows, print_sweep, sweep_to_markdown, sweep_to_svg
from inc_laaciq.sweep import DECIDING, prepare_sweep
from inc_laaciq.sweeping import sweep as module
from inc_laaciq.sweeping.cells import Cell, Cells
from inc_laaciq.sweeping.sweep import SweepSpec
from inc_laaciq.sweeping.widths import fewest_bits, is_within, upper_end

PACKAGE = Path(module.__file__).parents[1]
SMALL = Path(__file__).parents[2] / "recipes/small_bloom"
TOKENS = 256
TAGS = ("en", "fi", "hi", "tr")
FIVE = parse_bound("5%")


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    """Evaluation and calibration text of four languages."""
    found = []
    for kind in ("evaluation", "calibration"):
        folder = tmp_path_factory.mktemp(kind)
        for tag in TAGS:
            shutil.copy(SMALL / "text" / kind / f"{tag}.txt", folder)
        found.append(folder)
    return found


def prepared(texts, cells, **options):
    evaluation, calibration = texts
    given = {"bits": (3, 8), "calibration": calibration, "tokens_per_language": TOKENS, "calibration_tokens": 512}
    return prepare_sweep(SMALL / "model", evaluation, cells, **{**given, **options})


@pytest.fixture(scope="module")
def swept(texts, tmp_path_factory):
    """A whole sweep, and the folder of its cells."""
    cells = tmp_path_factory.mktemp("cells")
    job, about = prepared(texts, cells)
    return {**job.run(), **about}, cells


def test_figures_are_those_of_the_quantized_model(swept, texts):
    source = load_model(SMALL / "model")
    spec = WeightSpec(bits=3, group_size=64)
    quantized = load_model(SMALL / "model").model
    corpus = module.Corpus(texts=_corpus(texts[0]).texts)
    with torch.no_grad():
        for name, layer in quantized.named_modules():
            if isinstance(layer, torch.nn.Linear) and name != "lm_head":
                layer.weight.copy_(rounded(layer.weight, spec))
    options = {"tokens_per_language": TOKENS, "seed": 0}
    before = sentence_losses(source.model, source.tokenizer, corpus, **options)
    after = sentence_losses(quantized, source.tokenizer, corpus, **options)
    [cell] = [cell for cell in swept[0]["cells"] if (cell["method"], cell["bits"]) == ("rtn", 3)]
    for tag in TAGS:
        expected = degradation(after[tag], before[tag])
        assert cell["languages"][tag]["degradation"] == pytest.approx(expected.degradation, rel=1e-9)
        assert cell["languages"][tag]["standard_error"] == pytest.approx(expected.standard_error, rel=1e-9)


OWNER, SHARER = "transformer.h.0.mlp.dense_h_to_4h", "transformer.h.1.mlp.dense_h_to_4h"


def test_a_layer_that_shares_a_quantized_weight_is_measured_in_float(texts, tmp_path):
    source = load_model(SMALL / "model")
    source.model.get_submodule(SHARER).weight = source.model.get_submodule(OWNER).weight
    corpus, settings = _corpus(texts[0]), LaaciqSpec()
    spec = SweepSpec(bits=(3,), methods=("rtn", "fast"), margin=FIVE, tokens_per_language=64)
    swept = module.Sweep(source, spec, corpus, None, None, settings, Cells(tmp_path, {})).run()
    weight = WeightSpec(bits=3, group_size=64)
    layers = [layer for layer in find_layers(source.model, weight) if layer.weight is not None]
    solved = quantize_layers(source.model, layers, None, replace(settings, mode="fast")).weights
    assert (OWNER in solved, SHARER in solved) == (True, False)
    codes = {
        "rtn": {layer.name: rounded(source.model.get_submodule(layer.name).weight, weight) for layer in layers},
        "fast": {name: found.dequantize() for name, found in solved.items()},
    }
    for cell in swept["cells"]:
        quantized = load_model(SMALL / "model").model
        quantized.get_submodule(SHARER).weight.data = source.model.get_submodule(SHARER).weight.data.clone()
        for name, values in codes[cell["method"]].items():
            quantized.get_submodule(name).weight.data = values
        options = {"tokens_per_language": 64, "seed": 0}
        before = sentence_losses(source.model, source.tokenizer, corpus, **options)
        after = sentence_losses(quantized, source.tokenizer, corpus, **options)
        for tag in TAGS:
            expected = degradation(after[tag], before[tag]).degradation
            assert cell["languages"][tag]["degradation"] == pytest.approx(expected, rel=1e-9), cell["method"]


def _corpus(folder):
    from inc_laaciq.calibration.corpus import read_texts

    return read_texts(folder)


def test_solved_weights_lose_less_than_rounded_ones(swept):
    worst = {(cell["method"], cell["bits"]): cell["mean_degradation"] for cell in swept[0]["cells"]}
    assert worst["balanced", 3] < 0.6 * worst["rtn", 3]
    assert abs(worst["rtn", 8]) < 0.002
    assert [(cell["method"], cell["bits"]) for cell in swept[0]["cells"]] == [
        ("rtn", 3), ("rtn", 8), ("balanced", 3), ("balanced", 8),
    ]  # fmt: skip
    assert all(entry["n_effective"] > 1 for cell in swept[0]["cells"] for entry in cell["languages"].values())


def test_a_sweep_that_was_stopped_gives_the_same_bytes(swept, texts, tmp_path, monkeypatch):
    job, about = prepared(texts, tmp_path)
    measure = job._measure
    done = []

    def stop(cell):
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(cell)
        return measure(cell)

    monkeypatch.setattr(job, "_measure", stop)
    with pytest.raises(KeyboardInterrupt):
        job.run()
    again, about = prepared(texts, tmp_path)
    assert again.missing == [Cell(method="balanced", bits=3), Cell(method="balanced", bits=8)]
    assert json.dumps({**again.run(), **about}, sort_keys=True) == json.dumps(swept[0], sort_keys=True)
    assert again.missing == []


def test_damaged_and_foreign_cells_are_done_again(swept, texts, tmp_path, caplog):
    shutil.copytree(swept[1], tmp_path / "cells")
    first, second, *_ = sorted((tmp_path / "cells").iterdir())
    first.write_text(first.read_text(encoding="utf-8").replace("0.", "1.", 1), encoding="utf-8")
    second.write_text("{", encoding="utf-8")
    job, _ = prepared(texts, tmp_path / "cells")
    assert len(job.missing) == 2
    assert "not what was written" in caplog.text
    assert "is not JSON" in caplog.text
    other, _ = prepared(texts, tmp_path / "cells", seed=1)
    assert len(other.missing) == 5


def test_cells_depend_on_the_configuration_and_plain_rounding_on_no_calibration(swept, texts, tmp_path):
    shutil.copytree(swept[1], tmp_path / "cells")
    more, _ = prepared(texts, tmp_path / "cells", calibration_tokens=256)
    assert more.missing == [Cell(method="predicted"), Cell(method="balanced", bits=3), Cell(method="balanced", bits=8)]
    shutil.copytree(SMALL / "model", tmp_path / "model")
    config = tmp_path / "model/config.json"
    config.write_text(config.read_text(encoding="utf-8").replace("1e-05", "1e-04"), encoding="utf-8")
    changed, _ = prepare_sweep(
        tmp_path / "model", texts[0], tmp_path / "cells", bits=(3, 8), calibration=texts[1],
        tokens_per_language=TOKENS, calibration_tokens=512,
    )  # fmt: skip
    assert len(changed.missing) == 5


@pytest.mark.parametrize(("file", "n_missing"), [("quant/solver.py", 5), ("report/sweep.py", 0)])
def test_cells_depend_on_the_sources_that_decide(swept, texts, tmp_path, monkeypatch, file, n_missing):
    shutil.copytree(swept[1], tmp_path / "cells")
    shutil.copytree(PACKAGE, tmp_path / "package")
    with (tmp_path / "package" / file).open("a") as source:
        source.write("# changed\n")
    monkeypatch.setattr("inc_laaciq.sweep.sources_sha256", partial(sources_sha256, package=tmp_path / "package"))
    job, _ = prepared(texts, tmp_path / "cells")
    assert len(job.missing) == n_missing


def test_every_source_behind_the_figures_of_a_sweep_decides():
    found, todo = set(), {"inc_laaciq.sweeping.sweep"}
    while todo:
        path = PACKAGE.joinpath(*todo.pop().split(".")[1:])
        file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        if file not in found and file.is_file():
            found.add(file)
            todo |= {
                name
                for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
                if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("inc_laaciq.")
                for name in (node.module, *(f"{node.module}.{alias.name}" for alias in node.names))
            }
    parts = {file.relative_to(PACKAGE).parts[0] for file in found}
    no_figures = {"errors.py", "families.py", "memory.py", "output", "planning.py"}
    assert parts - no_figures == set(DECIDING) - {"sweep.py"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bits": ()}, r"bits=\(\) must name one width"),
        ({"bits": (3, 3)}, "each once"),
        ({"bits": (3, 9)}, "bits"),
        ({"methods": ("rtn", "gptq")}, "methods name gptq. Allowed: rtn, fast, balanced, fair"),
        ({"margin": "5"}, "margin='5' is not a bound"),
        ({"margin": "1pp"}, "margin=1pp is not a share"),
        ({"calibration": None, "methods": ("balanced",)}, "balanced needs calibration text"),
        ({"group_size": 100}, "group_size=100 does not divide"),
    ],
)
def test_what_is_wrong_is_said_before_any_work(texts, tmp_path, options, message):
    with pytest.raises(SpecError, match=message):
        prepared(texts, tmp_path / "cells", **options)
    assert not (tmp_path / "cells").exists()


def test_claims_are_put_to_the_test(swept):
    document = swept[0]
    found = document["theory"]
    assert set(found["associations"]) == {"rtn-3", "rtn-8", "balanced-3", "balanced-8"}
    [cell] = [cell for cell in document["cells"] if (cell["method"], cell["bits"]) == ("rtn", 3)]
    x = [document["predictors"][tag]["predicted_degradation"] for tag in TAGS]
    y = [cell["languages"][tag]["degradation"] for tag in TAGS]
    asked = found["associations"]["rtn-3"]
    assert asked["predicted_degradation"]["pearson"] == pytest.approx(np.corrcoef(x, y)[0, 1])
    assert asked["outlier_activation"] is None  # no layer is an outlier, so there is nothing to correlate
    kappa = [document["predictors"][tag]["effective_kurtosis"] for tag in TAGS]
    first = found["bound"]["settings"][0]
    assert first["ratio"] == pytest.approx((max(y) - min(y)) / np.std(kappa))
    shown = sweep_to_markdown(document)
    assert "Correlation of predicted degradation with degradation: rtn-3" in shown
    assert "Disparity over the spread of effective kurtosis" in shown


def test_two_languages_are_too_few_for_claims(texts, tmp_path):
    for tag in TAGS[:2]:
        shutil.copy(texts[0] / f"{tag}.txt", tmp_path)
    job, about = prepare_sweep(
        SMALL / "model", tmp_path, tmp_path / "cells", bits=(8,), methods=("rtn",), tokens_per_language=64
    )
    found = {**job.run(), **about}["theory"]
    assert found["bound"] is None
    assert "four" in found["bound_missing"] or "4" in found["bound_missing"]
    assert found["associations"]["rtn-8"]["predicted_degradation"] is None


def entry(degradation, error):
    return {"degradation": degradation, "standard_error": error, "n_effective": 21.0, "bytes": 400, "tokens": 100}


def test_the_bound_counts_and_not_the_estimate():
    margin = parse_bound("0.01npb")
    assert is_within(entry(0.005, 0.0028), margin)  # Student's quantile for 20 is 1.725
    assert not is_within(entry(0.005, 0.003), margin)
    assert not is_within(entry(0.005, None), margin)
    assert not is_within({}, margin)
    assert not is_within({**entry(0.0, 0.0), "n_effective": 9.9}, margin)
    assert upper_end(0.0, 1.0, 21.0) == pytest.approx(1.7247182)
    assert is_within(entry(0.0121, 0.0), FIVE)  # log(1.05) / 4 is 0.0122
    assert not is_within(entry(0.0123, 0.0), FIVE)


@pytest.mark.parametrize(
    ("degradations", "bits"),
    [
        ({3: 0.1, 4: 0.009, 8: 0.0}, 4),
        ({3: 0.001, 4: 0.1, 8: 0.0}, 8),  # a lucky width below one that is not enough does not count
        ({3: 0.1, 4: 0.1, 8: 0.1}, None),
        ({3: 0.0, 4: 0.0}, 3),
    ],
)
def test_fewest_bits(degradations, bits):
    assert fewest_bits({b: entry(value, 0.0) for b, value in degradations.items()}, parse_bound("0.01npb")) == bits


def test_cells_of_other_settings_are_other_files(tmp_path):
    cell = Cell(method="rtn", bits=4)
    cells = Cells(tmp_path, {"seed": 0})
    cells.write(cell, {"x": 1.5})
    assert cells.read(cell) == {"x": 1.5}
    assert Cells(tmp_path, {"seed": 1}).read(cell) is None
    assert cells.read(Cell(method="rtn", bits=3)) is None


def test_tables_and_picture(swept):
    document = swept[0]
    console = Console(record=True, width=100)
    print_sweep(document, console)
    shown = console.export_text()
    assert "balanced" in shown
    assert "Finnish" in shown
    rows = language_rows(document)
    assert {row[0] for row in rows} == set(TAGS)
    assert "fewest bits, balanced" in sweep_to_markdown(document)
    pytest.importorskip("matplotlib")
    drawn = sweep_to_svg(document)
    assert drawn == sweep_to_svg(document)
    assert b"worst language" in drawn


def test_the_command(main, texts, tmp_path):
    options = ("--texts", texts[0], "--bits", "8", "--methods", "rtn", "--tokens-per-language", 64)
    planned = main("sweep", SMALL / "model", *options, "-o", tmp_path / "sweep.json", "--dry-run")
    assert planned.returncode == 0, planned.stderr
    assert "2 parts to do: predicted, rtn-8" in planned.stdout
    assert list(tmp_path.iterdir()) == []
    done = main("sweep", SMALL / "model", *options, "-o", tmp_path / "sweep.json", "--markdown", tmp_path / "sweep.md")
    assert done.returncode == 0, done.stderr
    first = (tmp_path / "sweep.json").read_bytes()
    again = main("sweep", SMALL / "model", *options, "-o", tmp_path / "sweep.json", "--restart")
    assert again.returncode == 0, again.stderr
    assert (tmp_path / "sweep.json").read_bytes() == first
    before = sorted(path.name for path in texts[0].iterdir())
    for place in ("--cells", "--markdown"):
        inside = main("sweep", SMALL / "model", *options, "-o", tmp_path / "x.json", place, texts[0] / "x")
        assert inside.returncode == 1
        assert "inside the input" in inside.stderr
    same = main("sweep", SMALL / "model", *options, "-o", tmp_path / "y", "--cells", tmp_path / "y")
    assert "is both a result and the folder of finished parts" in same.stderr
    assert sorted(path.name for path in texts[0].iterdir()) == before
    wrong = main("sweep", SMALL / "model", "--texts", texts[0], "--bits", "four", "-o", tmp_path / "x.json")
    assert wrong.returncode == 2
    assert "'four' is not a list of whole numbers" in wrong.stderr


def test_a_missing_language_is_named(swept, texts, tmp_path):
    folder = tmp_path / "texts"
    shutil.copytree(texts[0], folder)
    (folder / "sw.txt").write_text("\n", encoding="utf-8")
    job, about = prepare_sweep(
        SMALL / "model", folder, tmp_path / "cells", bits=(8,), methods=("rtn",), tokens_per_language=64
    )
    document = {**job.run(), **about}
    assert document["missing"] == {"sw": "no text was found"}
    assert "sw was not measured: no text was found" in sweep_to_markdown(document)
    assert set(document["fewest_bits"]["rtn"]) == set(TAGS)


def test_a_language_that_is_only_calibrated_on_is_named(texts, tmp_path):
    evaluation = tmp_path / "texts"
    shutil.copytree(texts[0], evaluation)
    (evaluation / "tr.txt").unlink()
    job, about = prepared((evaluation, texts[1]), tmp_path / "cells", bits=(8,), methods=("fast",))
    document = {**job.run(), **about}
    assert document["missing"] == {"tr": "no evaluation text was found"}
    assert "tr was not measured: no evaluation text was found" in sweep_to_markdown(document)


def tokens_of(tokenizer, *files):
    return {token for file in files for token in tokenizer(file.read_text(encoding="utf-8"))["input_ids"]}


@pytest.fixture
def broken(texts, tmp_path):
    """A model that fails on tokens which only the Hindi calibration text has."""
    source = load_model(SMALL / "model")
    model, (evaluation, calibration) = source.model, texts
    others = [calibration / f"{tag}.txt" for tag in TAGS if tag != "hi"]
    ids = tokens_of(source.tokenizer, calibration / "hi.txt")
    ids -= tokens_of(source.tokenizer, *evaluation.iterdir(), *others)
    model.config.tie_word_embeddings = False
    model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach().clone())
    model.transformer.word_embeddings.weight.data[sorted(ids)] = torch.nan
    model.save_pretrained(tmp_path / "model")
    source.tokenizer.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def test_a_language_whose_calibration_text_breaks_the_float_model_is_missing(texts, broken, tmp_path):
    options = {"bits": (8,), "methods": ("rtn", "fast"), "tokens_per_language": 64, "calibration": texts[1]}
    job, about = prepare_sweep(broken, texts[0], tmp_path / "cells", **options)
    document = {**job.run(), **about}
    rtn, fast = document["cells"]
    assert rtn["languages"].keys() == set(TAGS)
    assert fast["languages"].keys() == set(TAGS) - {"hi"}
    assert "the float model fails on its calibration text: " in document["missing"]["hi"]
    shown = sweep_to_markdown(document)
    assert "hi was measured by rtn only: the float model fails on its calibration text" in shown
    assert f"Mean, worst language and disparity of fast are over {len(TAGS) - 1} of {len(TAGS)} languages." in shown
    (row,) = [line for line in shown.splitlines() if line.startswith("| hi ")]
    assert [cell.strip() for cell in row.split("|")][-2] == "not measured"
    assert shown.count("not measured") == 1
    again, _ = prepare_sweep(broken, texts[0], tmp_path / "cells", **options)
    assert {**again.run(), **about} == document


def test_a_sweep_without_any_sound_language_is_an_error(texts, broken, tmp_path):
    (tmp_path / "texts").mkdir()
    shutil.copy(texts[0] / "hi.txt", tmp_path / "texts")
    job, _ = prepare_sweep(
        broken, tmp_path / "texts", tmp_path / "cells", bits=(8,), methods=("fast",), tokens_per_language=64,
        calibration=texts[1],
    )  # fmt: skip
    with pytest.raises(EvaluationError, match="fails on every language that there is evaluation text of"):
        job.run()


def test_specs_say_their_cells():
    spec = SweepSpec(bits=(8, 3), methods=("rtn", "fast"), margin=FIVE)
    assert [cell.label for cell in spec.cells] == ["rtn-3", "rtn-8", "fast-3", "fast-8"]
