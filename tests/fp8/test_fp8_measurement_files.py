"""Measurements on disk: what is written is what is read, and what is wrong is said."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from fp8_dumps import array, measurement, write

from inc_laaciq.backends.gaudi_fp8_files import Measurement, Node, read_measurement
from inc_laaciq.backends.gaudi_fp8_names import DumpName, find_dump
from inc_laaciq.errors import IntegrityError, MismatchError, NumericError, SpecError
from inc_laaciq.quant.magnitudes import Magnitudes


def plain(found):
    return {name: {key: value.tolist() for key, value in node.tensors().items()} for name, node in found.nodes.items()}


@pytest.mark.parametrize("rank", [None, (3, 8)])
def test_what_is_written_is_read_again(rank, tmp_path):
    counted = {("model.layers.0.q_proj", "input 0"): Magnitudes.of(torch.arange(4.0))}
    found = measurement(global_rank=1, local_rank=rank and rank[0], samples=7, language="sw", magnitudes=counted)
    name = write(tmp_path, found, rank=rank)
    again = read_measurement(name, rank)
    assert plain(again) == plain(found)
    assert again.nodes["model.layers.0.q_proj"].outputs is None
    assert (again.modules, again.samples, again.language) == (found.modules, 7, "sw")
    assert (again.global_rank, again.local_rank) == (1, rank and 3)
    assert again.magnitudes == counted
    assert again.nodes["model.layers.0.q_proj"].inputs[0].dtype == np.float32


def test_the_files_are_those_of_neural_compressor(tmp_path):
    write(tmp_path, measurement(samples=7))
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "measure_hooks_maxabs.json",
        "measure_hooks_maxabs.npz",
        "measure_hooks_maxabs_mod_list.json",
    ]
    content = np.load(tmp_path / "measure_hooks_maxabs.npz", allow_pickle=True)["arr_0"].item()
    assert list(content) == ["NumSamples", "GlobalRank", "LocalRank", "Mode", "Nodes"]
    node = content["Nodes"]["model.layers.0.o_proj"]
    assert list(node) == ["inputs", "outputs", "params"]
    assert node["inputs"][0].shape == (1, 1)
    assert content["Nodes"]["model.layers.0.q_proj"].keys() == {"inputs", "params"}
    listed = json.loads((tmp_path / "measure_hooks_maxabs.json").read_text())
    assert listed["Nodes"]["model.layers.0.o_proj"]["inputs"] == [[[1.0]]]
    names = json.loads((tmp_path / "measure_hooks_maxabs_mod_list.json").read_text())
    assert names == ["model.layers.0.q_proj", "model.layers.0.o_proj", "model.layers.1.expert"]


def test_equal_measurements_are_equal_files(tmp_path):
    for folder in ("first", "second"):
        write(tmp_path / folder, measurement())
    assert (tmp_path / "first/measure_hooks_maxabs.npz").read_bytes() == (
        tmp_path / "second/measure_hooks_maxabs.npz"
    ).read_bytes()


def test_older_names_of_the_parts_are_read(tmp_path):
    node = {"input": [array(2.0)], "output": [array(3.0)]}
    np.savez(tmp_path / "measure_hooks_maxabs.npz", {"Mode": "DynamicRange", "Nodes": {"layer": node}})
    found = read_measurement(find_dump(tmp_path), None)
    assert plain(found) == {"layer": {"input 0": [[2.0]], "output 0": [[3.0]]}}
    assert found.modules == ("layer",)


def test_the_json_will_do_where_there_is_no_npz(tmp_path):
    write(tmp_path, measurement())
    (tmp_path / "measure_hooks_maxabs.npz").unlink()
    assert plain(read_measurement(find_dump(tmp_path), None)) == plain(measurement())


def test_npz_and_json_must_say_the_same(tmp_path):
    name = write(tmp_path, measurement(first=3.0))
    text = tmp_path / "measure_hooks_maxabs.json"
    text.write_text(text.read_text().replace("3.0", "4.0"))
    with pytest.raises(
        IntegrityError, match=r"measure_hooks_maxabs.json differ\. Neural Compressor reads the npz only"
    ):
        read_measurement(name, None)


@pytest.mark.parametrize(
    ("value", "error", "why"),
    [
        (np.nan, NumericError, "q_proj', input 0 is NaN, infinite or negative"),
        (np.inf, NumericError, "q_proj', input 0 is NaN"),
        (-1.0, NumericError, "q_proj', input 0 is NaN"),
    ],
)
def test_what_cannot_be_a_range_is_refused(value, error, why, tmp_path):
    node = Node(inputs=(array(value),))
    content = {"Mode": "DynamicRange", "Nodes": {"q_proj": {"inputs": list(node.inputs)}}}
    np.savez(tmp_path / "measure_hooks_maxabs.npz", content)
    with pytest.raises(error, match=why):
        read_measurement(find_dump(tmp_path), None)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ({"Mode": "Scale", "Nodes": {"a": {"inputs": []}}}, "Mode is 'Scale' and must be 'DynamicRange'"),
        ({"Mode": "DynamicRange"}, "with Nodes"),
        ({"Mode": "DynamicRange", "Nodes": {}}, "no module was measured"),
        ({"Mode": "DynamicRange", "Nodes": {"a": []}}, "'a' must hold inputs"),
        ({"Mode": "DynamicRange", "Nodes": {"a": {"inputs": 3}}}, "'a' must hold a list of inputs"),
        ({"Mode": "DynamicRange", "Nodes": {"a": {"inputs": ["x"]}}}, "'a', input 0 is not an array of numbers"),
        ({"Mode": "DynamicRange", "Nodes": {"a": {"inputs": [[[[1.0]]]]}}}, r"input 0 has the shape \(1, 1, 1\)"),
        ({"Mode": "DynamicRange", "Nodes": {"a": {"inputs": [[]]}}}, r"input 0 has the shape \(0,\)"),
        ({"Mode": "DynamicRange", "Nodes": {"a": {"inputs": [], "scale": 1}}}, "holds 'scale', which is not known"),
        ({"Mode": "DynamicRange", "GlobalRank": "0", "Nodes": {"a": {"inputs": []}}}, "GlobalRank must be a number"),
        ({"Mode": "DynamicRange", "Nodes": {"a": {"inputs": [], "outputs": 1}}}, "'a' must hold a list of outputs"),
    ],
)
def test_what_is_not_a_measurement_is_refused(content, why, tmp_path):
    (tmp_path / "measure_hooks_maxabs.json").write_text(json.dumps(content))
    with pytest.raises(IntegrityError, match=why):
        read_measurement(find_dump(tmp_path), None)


@pytest.mark.parametrize("text", ["[1]", "{}", '["a", ', '"a"'])
def test_a_damaged_list_of_modules_is_refused(text, tmp_path):
    name = write(tmp_path, measurement())
    (tmp_path / "measure_hooks_maxabs_mod_list.json").write_text(text)
    with pytest.raises(IntegrityError, match=r"measure_hooks_maxabs_mod_list\.json"):
        read_measurement(name, None)


def test_a_list_of_modules_names_each_once(tmp_path):
    """Neural Compressor's list grows with every model of a process."""
    name = write(tmp_path, Measurement(nodes=measurement().nodes, modules=("a", "b", "a")))
    assert read_measurement(name, None).modules == ("a", "b")


def test_damaged_counts_are_refused(tmp_path):
    counted = {("a", "input 0"): Magnitudes.of(torch.ones(2))}
    name = write(tmp_path, measurement(language="sw", magnitudes=counted))
    path = tmp_path / "measure_hooks_maxabs_languages.json"
    path.write_text(path.read_text().replace('"n": 2', '"n": 1'))
    with pytest.raises(IntegrityError, match="does not hold counts as this package writes them"):
        read_measurement(name, None)


@pytest.mark.parametrize(
    "place", [("model.layers.0.q_proj", "input 0"), ("model.layers.0.o_proj", "output 1"), ("elsewhere", "input 0")]
)
def test_counts_of_another_measurement_are_refused(place, tmp_path):
    """As where a stock measurement was copied over one of this package: rule `error` would go by the old counts."""
    counted = {place: Magnitudes.of(torch.zeros(5))}
    name = write(tmp_path, measurement(language="sw", magnitudes=counted))
    with pytest.raises(IntegrityError, match=f"its counts of '{place[0]}', '{place[1]}', are not those of the ranges"):
        read_measurement(name, None)
    rounded = {("model.layers.0.q_proj", "input 0"): Magnitudes.of(torch.tensor([3.0 * (1 + 2**-9)]))}
    name = write(tmp_path, measurement(language="sw", magnitudes=rounded))
    assert read_measurement(name, None).magnitudes == rounded


@pytest.mark.parametrize(
    "found",
    [
        Measurement(nodes={"half\ud800": Node(inputs=(array(1.0),))}),
        Measurement(nodes={"a": Node(inputs=(array(1.0),), params={"half\ud800": array(1.0)})}),
        Measurement(nodes={"a": Node(inputs=(array(1.0),))}, modules=("a", "half\ud800")),
    ],
    ids=["module", "parameter", "list"],
)
def test_names_that_could_not_be_written_again_are_refused(found, tmp_path):
    name = write(tmp_path, found)
    with pytest.raises(IntegrityError, match=r"the name 'half\\ud800' is not valid text"):
        read_measurement(name, None)


def test_a_measurement_is_found_by_prefix_folder_and_file(tmp_path):
    write(tmp_path / "dump", measurement())
    expected = DumpName(prefix=tmp_path / "dump/measure", observer="maxabs")
    for path in ("dump", "dump/measure", "dump/measure_hooks_maxabs.npz", "dump/measure_hooks_maxabs.json"):
        assert find_dump(tmp_path / path) == expected


def test_files_of_all_workers_belong_together(tmp_path):
    for rank in range(3):
        write(tmp_path, measurement(local_rank=rank), rank=(rank, 3))
    assert find_dump(tmp_path / "measure_hooks_maxabs_1_3.npz").ranks == ((0, 3), (1, 3), (2, 3))
    for ending in (".npz", ".json"):
        (tmp_path / f"measure_hooks_maxabs_1_3{ending}").unlink()
    with pytest.raises(MismatchError, match="workers 0 of 3, 2 of 3"):
        find_dump(tmp_path)
    write(tmp_path, measurement())
    with pytest.raises(MismatchError, match="one without a number"):
        find_dump(tmp_path)


def test_which_of_several_is_meant_has_to_be_said(tmp_path):
    write(tmp_path, measurement())
    write(tmp_path, measurement(), observer="maxabs_per_channel")
    with pytest.raises(SpecError, match=r"measure_hooks_maxabs\.npz, measure_hooks_maxabs_per_channel\.npz"):
        find_dump(tmp_path)
    assert find_dump(tmp_path / "measure_hooks_maxabs_per_channel.npz").observer == "maxabs_per_channel"


@pytest.mark.parametrize("path", ["", "measure", "nowhere/measure", "measure_hooks_shape.npz"])
def test_where_nothing_is_that_is_said(path, tmp_path):
    (tmp_path / "measure_hooks_shape.npz").write_bytes(b"")
    (tmp_path / "measure_hooks_maxabs_MAXABS_POW2.npz").write_bytes(b"")
    with pytest.raises(SpecError, match="no measurement of Neural Compressor is there"):
        find_dump(tmp_path / path)


def test_scales_of_a_measurement_are_found_and_no_others(tmp_path):
    name = write(tmp_path, measurement())
    others = ["other_hooks_maxabs_MAXABS_HW.npz", "measure_hooks_maxabs_per_channel_MAXABS_PCS_POW2.npz"]
    stale = [f"measure_hooks_maxabs_{end}" for end in ("MAXABS_HW.json", "MAXABS_HW.npz", "MAXABS_POW2_0_8.npz")]
    for file in (*others, *stale):
        (tmp_path / file).write_bytes(b"")
    assert [path.name for path in name.caches()] == stale
