"""What an export is told by a configuration and by arguments, and which of the two is heard."""

from __future__ import annotations

import pytest
import yaml

from inc_laaciq.config import RunSpec, read_config, run_spec
from inc_laaciq.errors import SpecError
from inc_laaciq.export_format import ExportFormat
from inc_laaciq.export_settings import export_settings
from inc_laaciq.inputs import input_paths


def weight_of(config=None, **arguments):
    weight = export_settings(config, **arguments).weight
    return weight.bits, weight.group_size, weight.scheme


def configuration(leaf=None, **la_aciq):
    return {"quantization": {"model_wise": {"weight": leaf or {}}}, "la_aciq": la_aciq}


@pytest.fixture
def texts(tmp_path):
    for split in ("calibration", "evaluation", "other"):
        (tmp_path / split).mkdir()
        (tmp_path / split / "en.txt").write_text(f"A line of {split}.\n", encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({}, (4, 128, "sym")),
        ({"weight_format": "int4"}, (4, 128, "sym")),
        ({"weight_format": "int8"}, (8, -1, "sym")),
        ({"group_size": 64}, (4, 64, "sym")),
        ({"weight_format": "int8", "group_size": 32}, (8, 32, "sym")),
        ({"sym": False}, (4, 128, "asym")),
        ({"sym": True}, (4, 128, "sym")),
    ],
)
def test_without_a_configuration_the_grid_is_optimum_intels(arguments, expected):
    assert weight_of(**arguments) == expected


def test_without_a_configuration_text_decides_the_mode(texts):
    assert export_settings(None).la_aciq.mode == "fast"
    assert export_settings(None, evaluation=texts / "evaluation").la_aciq.mode == "fast"
    assert export_settings(None, calibration=texts / "calibration").la_aciq.mode == "balanced"
    assert export_settings(None, calibration=texts / "calibration", mode="fair").la_aciq.mode == "fair"


def test_a_configuration_alone_is_what_quantize_reads(texts):
    content = configuration({"bits": 3, "group_size": 64}, mode="fast", evaluation={"texts": "evaluation"})
    file = texts / "conf.yaml"
    file.write_text(yaml.safe_dump(content), encoding="utf-8")
    assert export_settings(file) == export_settings(str(file)) == read_config(file)
    assert export_settings(content) == run_spec(content)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"weight_format": "int4"}, (4, 64, "asym")),
        ({"weight_format": "int8"}, (8, -1, "asym")),  # groups were meant for the file's own bits
        ({"weight_format": "int8", "group_size": 32}, (8, 32, "asym")),
        ({"group_size": -1}, (3, -1, "asym")),
        ({"sym": True}, (3, 64, "sym")),
        ({"mode": "fast"}, (3, 64, "asym")),
    ],
)
def test_arguments_go_before_a_configuration_each_by_itself(arguments, expected, tmp_path):
    content = configuration({"bits": 3, "group_size": 64, "scheme": "asym"}, mode="balanced")
    file = tmp_path / "conf.yaml"
    file.write_text(yaml.safe_dump(content), encoding="utf-8")
    assert weight_of(content, **arguments) == weight_of(file, **arguments) == expected
    assert content == configuration({"bits": 3, "group_size": 64, "scheme": "asym"}, mode="balanced")
    assert export_settings(file, **arguments).la_aciq.mode == arguments.get("mode", "balanced")


@pytest.mark.parametrize(
    ("leaf", "arguments", "expected"),
    [
        ({"bit": 3}, {"weight_format": "int4"}, (4, 32, "sym")),
        ({"dtype": "int3"}, {"weight_format": "int8"}, (8, -1, "sym")),
        ({"granularity": "per_channel"}, {"group_size": 64}, (4, 64, "sym")),
        ({"scheme": "asym", "zero_point": True}, {"sym": True}, (4, 32, "sym")),
    ],
)
def test_arguments_go_before_neural_compressors_other_words(leaf, arguments, expected):
    assert weight_of(configuration(leaf), **arguments) == expected


@pytest.mark.parametrize("name", ["Linear", ".*"])
def test_arguments_find_settings_that_stand_under_a_type(name):
    content = {"quantization": {"optype_wise": {name: {"weight": {"bits": 3, "group_size": 64}}}}}
    assert weight_of(content, weight_format="int4") == (4, 64, "sym")
    assert content["quantization"]["optype_wise"][name]["weight"]["bits"] == 3


def test_rules_for_single_layers_stay():
    content = configuration({"bits": 4, "group_size": 64})
    content["quantization"]["op_wise"] = {".*down.*": {"weight": {"bits": 8}}}
    run = export_settings(content, weight_format="int8")
    assert [rule.weight.bits for rule in run.rules] == [8]
    assert run.weight.bits == 8


def test_text_among_arguments_replaces_the_source_and_nothing_else(texts, monkeypatch):
    monkeypatch.chdir(texts)
    (texts / "conf").mkdir()
    content = configuration(
        calibration={"texts": "../calibration", "tokens_per_language": 77}, evaluation={"texts": "../evaluation"}
    )
    file = texts / "conf" / "conf.yaml"
    file.write_text(yaml.safe_dump(content), encoding="utf-8")
    run = export_settings(file, calibration="other").la_aciq
    assert run.calibration.texts == str(texts / "other")
    assert run.calibration.tokens_per_language == 77
    assert run.evaluation.texts == read_config(file).la_aciq.evaluation.texts  # relative to the file
    assert export_settings(file, evaluation="other").la_aciq.evaluation.texts == str(texts / "other")


def test_a_gate_among_arguments_is_a_file_or_a_bound(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "strict").write_text("version: 1\nmax_disparity: 3%\n", encoding="utf-8")
    before = configuration(gate={"max_degradation": "9%"})
    assert export_settings(before).la_aciq.gate.default.max_degradation.value == 0.09
    assert export_settings(before, gate="5%").la_aciq.gate.default.max_degradation.value == 0.05
    policy = export_settings(before, gate="strict").la_aciq.gate
    assert policy.default.max_degradation is None
    assert policy.max_disparity.value == 0.03
    with pytest.raises(SpecError, match=r"none\.yaml"):
        export_settings(before, gate="none.yaml")
    with pytest.raises(SpecError, match="max_degradation"):
        export_settings(before, gate="much")


def test_a_run_spec_is_taken_as_it_is_and_goes_with_nothing_else():
    run = RunSpec()
    assert export_settings(run) is run
    for argument in ({"weight_format": "int4"}, {"sym": True}, {"mode": "fast"}, {"gate": "5%"}, {"evaluation": "x"}):
        with pytest.raises(SpecError, match="a RunSpec was given together with other settings"):
            export_settings(run, **argument)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"weight_format": "int3"}, "weight_format='int3' is not known. Allowed: int4, int8"),
        ({"group_size": 0}, r"group_size"),
        ({"group_size": 7}, r"group_size"),
        ({"mode": "best"}, "mode"),
    ],
)
def test_a_wrong_argument_is_told(arguments, message):
    with pytest.raises(SpecError, match=message):
        export_settings(None, **arguments)


def test_what_is_wrong_in_a_configuration_is_told_as_it_was_written(tmp_path):
    file = tmp_path / "conf.yaml"
    file.write_text("quantization: {}\nla_aciq: {langauges: [en]}\n", encoding="utf-8")
    with pytest.raises(SpecError, match=r"conf\.yaml:2.*Did you mean 'languages'"):
        export_settings(file, weight_format="int4")
    for content in ({"quantization": "all"}, {"la_aciq": "all"}, {"quantization": {"model_wise": [4]}}):
        with pytest.raises(SpecError, match="mapping"):
            export_settings(content, weight_format="int4", mode="fast")


def test_static_int8_takes_no_other_grid():
    content = {"quantization": {"approach": "post_training_static_quant"}}
    assert weight_of(content, weight_format="int8") == (8, -1, "sym")
    for arguments, name in (({"weight_format": "int4"}, "bits"), ({"group_size": 64}, "group_size")):
        with pytest.raises(SpecError, match=f"{name}.*is not possible with post_training_static_quant"):
            export_settings(content, **arguments)


@pytest.mark.parametrize("change", [{"task": "translation"}, {"floats": "bf16"}, {"embeddings": "int4"}])
def test_a_form_that_is_not_known_is_refused(change):
    ((name, value),) = change.items()
    with pytest.raises(SpecError, match=rf"{name}.*{value}"):
        ExportFormat(**change)


def test_inputs_are_all_that_is_read(texts):
    (texts / "model").mkdir()
    file = texts / "conf.yaml"
    content = configuration(
        model="model", calibration={"texts": "calibration"}, evaluation={"texts": str(texts / "evaluation")}
    )
    file.write_text(yaml.safe_dump(content), encoding="utf-8")
    found = {path.name for path in input_paths(None, file, read_config(file))}
    assert found == {"conf.yaml", "model", "calibration", "evaluation"}
    assert {path.name for path in input_paths(texts / "other", None, run_spec({}))} == {"other"}
    assert input_paths("an/id", None, run_spec({})) == []
