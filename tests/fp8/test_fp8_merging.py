"""Measurements of several languages as one."""

from __future__ import annotations

import json

import pytest
import torch
from fp8_dumps import array, measurement, write

from inc_laaciq.backends.gaudi_fp8_files import Measurement, Node, read_measurement
from inc_laaciq.backends.gaudi_fp8_names import find_dump
from inc_laaciq.errors import MismatchError, NumericError, ResourceError, SpecError
from inc_laaciq.fp8_inputs import named_dumps, read_dumps
from inc_laaciq.fp8_merge import MergeSettings, destination, merge, write_merged
from inc_laaciq.fp8_merge_report import merge_report
from inc_laaciq.quant.fp8_scales import Fp8Target
from inc_laaciq.quant.magnitudes import Magnitudes

TARGET = Fp8Target(device="gaudi2", method="maxabs_pow2")
QUERY, OUTPUT = "model.layers.0.q_proj", "model.layers.0.o_proj"


@pytest.fixture
def dumps(tmp_path):
    """A folder of English and Swahili; the ranges of Swahili are 4 and 2 times as large, and half as large."""
    write(tmp_path / "dumps/en", measurement(3.0, 1.0, samples=4))
    write(tmp_path / "dumps/sw", measurement(12.0, 0.5, samples=5))
    return tmp_path / "dumps"


def merged(en, sw, rule="max", **more):
    dumps = {"en": {None: en}, "sw": {None: sw}}
    return merge(dumps, MergeSettings(rule=rule, target=TARGET, **more))[None]


def read(folder):
    return read_measurement(find_dump(folder), None)


@pytest.mark.parametrize(("rule", "expected"), [("max", (12, 1)), ("mean", (6, 0.5**0.5)), ("minimax", (6, 0.5**0.5))])
def test_ranges_are_reconciled_and_weights_are_kept(rule, expected):
    found = merged(measurement(3.0, 1.0, samples=4), measurement(12.0, 0.5, samples=5), rule)
    assert [float(found.nodes[name].inputs[0][0, 0]) for name in (QUERY, OUTPUT)] == pytest.approx(expected)
    assert found.nodes[QUERY].outputs is None
    assert found.nodes[OUTPUT].outputs[0].tolist() == [[2.0]]
    assert found.nodes[QUERY].params["weight"].tolist() == [[0.5]]
    assert found.samples == 9
    assert found.modules == measurement().modules
    assert found.language is None


def test_channels_are_merged_one_by_one():
    one, other = (Measurement(nodes={"a": Node(inputs=(array(*values),))}) for values in ((1.0, 8.0), (4.0, 2.0)))
    assert merged(one, other).nodes["a"].inputs[0].tolist() == [[4.0], [8.0]]


def counted(spread):
    found = Magnitudes.of(spread * torch.randn(20_000, generator=torch.Generator().manual_seed(0)))
    magnitudes = {("a", "input 0"): found}
    return Measurement(nodes={"a": Node(inputs=(array(found.largest),))}, magnitudes=magnitudes)


def test_rule_error_uses_the_headroom_for_the_small_language():
    large = counted(1.0)
    found = merged(large, counted(0.001), "error")
    assert float(found.nodes["a"].inputs[0][0, 0]) < float(large.nodes["a"].inputs[0][0, 0])
    with pytest.raises(SpecError, match=r"a, input 0: the rule 'error' needs counts .* which sw lacks"):
        merged(counted(1.0), Measurement(nodes=counted(1.0).nodes), "error")
    with pytest.raises(SpecError, match="of one range, which every language lacks"):
        merged(
            *[Measurement(nodes={"a": Node(inputs=(array(1, 2),))}, magnitudes=counted(1.0).magnitudes)] * 2, "error"
        )


def with_node(name, node):
    return Measurement(nodes={**measurement().nodes, name: node})


@pytest.mark.parametrize(
    ("other", "why"),
    [
        (Measurement(nodes={QUERY: measurement().nodes[QUERY]}), f"{OUTPUT}: was measured in en and not in sw"),
        (measurement(weight=0.25), "weight: the largest magnitude differs between en and sw, so their models"),
        (
            Measurement(
                nodes={**measurement().nodes, QUERY: Node(inputs=(array(1.0, 2.0),), params={"weight": array(0.5)})}
            ),
            r"input 0: has the shape \(1, 1\) in en and \(2, 1\) in sw",
        ),
        (
            with_node(OUTPUT, measurement().nodes[QUERY]),
            "en has input 0, output 0, weight and sw has input 0, weight",
        ),
    ],
    ids=["modules", "weights", "shapes", "outputs"],
)
def test_what_does_not_belong_together_is_refused(other, why):
    with pytest.raises(MismatchError, match=why):
        merged(measurement(), other)


def test_an_expert_that_a_language_never_reached_is_left_to_the_others():
    only = Measurement(nodes={QUERY: measurement(12.0).nodes[QUERY]})
    found = merged(measurement(3.0, 1.0), only, missing_nodes=True)
    assert found.nodes[OUTPUT].inputs[0].tolist() == [[1.0]]
    assert found.nodes[QUERY].inputs[0].tolist() == [[12.0]]


def test_a_range_of_zero_in_every_language_is_refused():
    with pytest.raises(NumericError, match=f"{QUERY}, input 0: is zero in every language"):
        merged(measurement(0.0), measurement(0.0))
    assert merged(measurement(0.0), measurement(3.0), "mean").nodes[QUERY].inputs[0].tolist() == [[3.0]]


def test_every_worker_is_merged_by_itself(tmp_path):
    for tag, factor in (("en", 1.0), ("sw", 2.0)):
        for rank in range(2):
            write(tmp_path / tag, measurement(factor * (rank + 1), local_rank=rank), rank=(rank, 2))
    dumps = read_dumps(named_dumps([str(tmp_path / "en"), str(tmp_path / "sw")]))
    found = merge(dumps, MergeSettings(target=TARGET))
    (tmp_path / "out").mkdir()
    name = destination(tmp_path / "out/measure", named_dumps([str(tmp_path / "en")]).values())
    settings = MergeSettings(target=TARGET)
    write_merged(found, name, merge_report(dumps, found, settings))
    again = find_dump(tmp_path / "out")
    assert again.ranks == ((0, 2), (1, 2))
    ranges = {rank: read_measurement(again, rank) for rank in again.ranks}
    assert {rank: float(value.nodes[QUERY].inputs[0][0, 0]) for rank, value in ranges.items()} == {(0, 2): 2, (1, 2): 4}
    assert [value.local_rank for value in ranges.values()] == [0, 1]
    write(tmp_path / "fi", measurement())
    with pytest.raises(MismatchError, match="en was measured by 2 workers and fi by one worker"):
        read_dumps(named_dumps([str(tmp_path / "en"), str(tmp_path / "fi")]))


def test_languages_are_named_by_the_argument_the_counts_or_the_name(tmp_path):
    write(tmp_path / "first", measurement())
    write(tmp_path / "second", measurement(language="swh"))
    write(tmp_path / "dumps_fi", measurement())
    named = named_dumps([f"DEU={tmp_path / 'first'}", str(tmp_path / "second"), str(tmp_path / "dumps_fi")])
    assert {tag: name.prefix.parent.name for tag, name in named.items()} == {
        "de": "first",
        "sw": "second",
        "fi": "dumps_fi",
    }
    write(tmp_path / "all/en", measurement())
    write(tmp_path / "all/tr", measurement())
    assert list(named_dumps([str(tmp_path / "all")])) == ["en", "tr"]
    with pytest.raises(
        SpecError, match=r"its name does not tell the language\. Write it in front, as in sw=.*; if folders"
    ):
        named_dumps([str(tmp_path / "first")])
    with pytest.raises(SpecError, match="is given twice"):
        named_dumps([f"en={tmp_path / 'first'}", str(tmp_path / "all")])
    with pytest.raises(SpecError, match="'klingonish' is not a known language"):
        named_dumps([f"klingonish={tmp_path / 'first'}"])


def test_observers_must_agree(tmp_path):
    write(tmp_path / "en", measurement())
    write(tmp_path / "sw", measurement(), observer="maxabs_per_channel")
    with pytest.raises(MismatchError, match="en was measured by the observer maxabs and sw by maxabs_per_channel"):
        read_dumps(named_dumps([str(tmp_path / "en"), str(tmp_path / "sw")]))
    with pytest.raises(SpecError, match="1 measurement is given, and there is nothing to merge"):
        read_dumps(named_dumps([str(tmp_path / "en")]))


def test_the_report_says_who_sets_a_range_and_what_the_others_lose():
    values = torch.randn(20_000, generator=torch.Generator().manual_seed(0))
    dumps = {}
    for tag, spread in (("en", 1.0), ("sw", 16.0), ("fi", 1.01)):
        found = Magnitudes.of(spread * values)
        node = Node(inputs=(array(found.largest),))
        dumps[tag] = {None: Measurement(nodes={"a": node, "b": node}, magnitudes={("a", "input 0"): found})}
    settings = MergeSettings(target=TARGET)
    report = merge_report(dumps, merge(dumps, settings), settings)
    first, second = report["tensors"]
    assert (first["module"], first["largest"], report["n_tensors"]) == ("a", ["sw"], 2)
    assert first["range"] == first["languages"]["sw"]["range"]
    assert first["languages"]["en"]["bits"] == pytest.approx(4, abs=1e-5)
    assert first["languages"]["en"]["lost"] > first["languages"]["en"]["lost_alone"]
    assert second["languages"]["en"]["lost"] is None
    by_language = report["languages"]
    assert by_language["sw"]["sets"] == 2
    assert by_language["en"]["other_scales"] == {"maxabs_arbitrary": 2, "maxabs_pow2": 2, "maxabs_hw": 2}
    assert by_language["sw"]["other_scales"] == {"maxabs_arbitrary": 0, "maxabs_pow2": 0, "maxabs_hw": 0}
    assert by_language["en"]["lost"] is None  # of b nothing was counted


def test_small_differences_vanish_in_the_rounding_of_scales():
    dumps = {tag: {None: Measurement(nodes={"a": Node(inputs=(array(r),))})} for tag, r in (("en", 20.0), ("sw", 24.0))}
    settings = MergeSettings(target=TARGET)
    report = merge_report(dumps, merge(dumps, settings), settings)
    assert report["languages"]["en"]["other_scales"] == {"maxabs_arbitrary": 1, "maxabs_pow2": 0, "maxabs_hw": 0}


# The command


def test_the_command_merges_a_folder(dumps, tmp_path, main):
    (tmp_path / "out").mkdir()
    done = main("merge-measurements", dumps, "-o", tmp_path / "out/measure")
    assert done.returncode == 0, done.stderr
    assert "3 ranges merged by max; FP8 E4M3 on gaudi2, maxabs_pow2" in done.stdout
    assert f"{QUERY}, input 0: range 12, largest in sw; en leaves 2.00 bits unused" in done.stdout
    assert "maxabs_hw: measured in one language alone" in done.stdout
    found = read(tmp_path / "out")
    assert float(found.nodes[QUERY].inputs[0][0, 0]) == 12
    report = json.loads((tmp_path / "out/measure_hooks_maxabs_languages.json").read_text(encoding="utf-8"))
    assert report["schema"] == "inc-laaciq/fp8-merge/1"
    assert str(tmp_path) not in json.dumps(report)


def test_languages_in_front_of_paths(dumps, tmp_path, main):
    done = main(
        "merge-measurements", f"tr={dumps / 'en/measure'}", f"sw={dumps / 'sw'}", "-o", tmp_path / "m", "--reconcile",
        "minimax",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith(f"For Neural Compressor: dump_stats_path={str(tmp_path / 'm')!r}\n")
    assert float(read_measurement(find_dump(tmp_path / "m"), None).nodes[QUERY].inputs[0][0, 0]) == pytest.approx(6)


def test_stale_scales_are_refused_or_removed(dumps, tmp_path, main):
    output = tmp_path / "out/measure"
    output.parent.mkdir()
    stale = output.with_name("measure_hooks_maxabs_MAXABS_POW2.npz")
    stale.write_bytes(b"old")
    other = output.with_name("other_hooks_maxabs_MAXABS_POW2.npz")
    other.write_bytes(b"not ours")
    done = main("merge-measurements", dumps, "-o", output)
    assert done.returncode == 1
    assert "holds scales of an earlier measurement, which Neural Compressor prefers" in done.stderr
    assert sorted(path.name for path in output.parent.iterdir()) == [stale.name, other.name]
    done = main("merge-measurements", dumps, "-o", output, "--remove-stale-scales")
    assert done.returncode == 0, done.stderr
    assert not stale.exists()
    assert other.exists()
    done = main("merge-measurements", dumps, "-o", output)
    assert done.returncode == 1
    assert "is there already. Choose another prefix, or pass --overwrite" in done.stderr
    assert main("merge-measurements", dumps, "-o", output, "--overwrite").returncode == 0


@pytest.mark.parametrize("flags", [(), ("--overwrite",)])
def test_an_input_is_never_written_over(dumps, main, flags):
    before = (dumps / "sw/measure_hooks_maxabs.npz").read_bytes()
    done = main("merge-measurements", dumps, "-o", dumps / "sw/measure", *flags)
    assert done.returncode == 1
    assert "would be written over an input" in done.stderr
    assert (dumps / "sw/measure_hooks_maxabs.npz").read_bytes() == before


@pytest.mark.parametrize(
    ("old", "new", "language"), [((0, 2), None, None), (None, (0, 1), None), ((0, 1), (0, 1), "en")]
)
def test_files_of_other_measurements_are_not_left_beside_the_new_ones(old, new, language, tmp_path, main):
    """Neural Compressor would read those of another number of workers, and this package old counts."""
    for tag in ("en", "sw"):
        write(tmp_path / "dumps" / tag, measurement(), rank=new)
    write(tmp_path / "out", measurement(language=language), rank=old)
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    done = main("merge-measurements", tmp_path / "dumps", "-o", tmp_path / "out/measure", "--overwrite")
    assert done.returncode == 1
    assert "belongs to another measurement, such as one by another number of workers" in done.stderr
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before


@pytest.mark.parametrize(
    ("arguments", "code", "why"),
    [
        (("--reconcile", "median"), 2, "'median' is not one of"),
        (("--device", "cpu", "--scale-method", "maxabs_hw"), 2, "rounds to what a Gaudi has"),
        (("--reconcile", "error"), 2, "needs counts of magnitudes"),
        (("-o", "nowhere/measure"), 1, "Choose a folder"),
        (("-o", "."), 2, "is a folder; add the beginning of the files' names"),
        (("-o", "dumps"), 2, "is a folder; add the beginning of the files' names"),
        (("en=", "-o", "m"), 2, "no path follows the language. Write one, as in en=dumps/en"),
    ],
)
def test_wrong_use(arguments, code, why, dumps, tmp_path, main):
    before = sorted(tmp_path.rglob("*"))
    output = () if "-o" in arguments else ("-o", "m")
    done = main("merge-measurements", dumps, *output, *arguments, cwd=tmp_path)
    assert (done.returncode, why in done.stderr) == (code, True), done.stderr
    assert sorted(tmp_path.rglob("*")) == before


def test_a_hostile_input_is_a_fault_of_the_input(dumps, tmp_path, main):
    (dumps / "sw/measure_hooks_maxabs.npz").write_bytes(b"PK\x03\x04 not a zip")
    done = main("merge-measurements", dumps, "-o", tmp_path / "m")
    assert done.returncode == 2
    assert "is not a measurement file of Neural Compressor, and was not read any further" in done.stderr
    assert not list(tmp_path.glob("m*"))


def test_destination_names_the_stock_observer(tmp_path):
    write(tmp_path / "en", measurement(), observer="laaciq")
    names = named_dumps([str(tmp_path / "en")]).values()
    assert destination(tmp_path / "m", names).file(None, ".npz").name == "m_hooks_maxabs.npz"
    write(tmp_path / "sw", measurement())
    with pytest.raises(ResourceError, match="would be written over an input"):
        destination(tmp_path / "en" / ".." / "sw" / "measure", [find_dump(tmp_path / "sw")])
