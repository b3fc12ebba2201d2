"""The plan: what it counts, and how it reads the memory that is free."""

from __future__ import annotations

import platform
import resource
from pathlib import Path

import pytest
import torch

from inc_laaciq.calibration.layers import Layer
from inc_laaciq.config import WeightSpec
from inc_laaciq.memory import _group_memory, available_memory, forget_weights, return_freed_memory
from inc_laaciq.planning import module_bytes, plan_run


def layer(name="h.0.mlp", weight=WeightSpec(bits=4, group_size=64)):  # noqa: B008 - frozen
    return Layer(name=name, in_features=4096, out_features=4096, weight=weight)


def test_float_layers_cost_nothing_to_solve():
    both = plan_run([layer(), layer("lm_head", None)], model_bytes=10**9, n_languages=2, mode="balanced")
    one = plan_run([layer()], model_bytes=10**9, n_languages=2, mode="balanced")
    assert both.solve_seconds == one.solve_seconds
    assert both.memory_bytes == one.memory_bytes


def test_more_languages_need_more_statistics_only_in_balanced():
    few, many = (plan_run([layer()], 10**8, n, "balanced").memory_bytes for n in (1, 2))
    assert many - few >= 4 * 4096 * 4096
    few, many = (plan_run([layer()], 10**8, n, "fast").memory_bytes for n in (1, 2))
    assert many - few < 10**6


def test_counts_of_values_for_static_ranges_take_memory():
    def planned(counted):
        return plan_run([layer()], 10**8, 3, "fast", counted=counted).memory_bytes

    assert planned(True) - planned(False) == 3 * 8 * 4096


def test_the_time_of_tuning_grows_with_steps_languages_and_the_model():
    def seconds(steps=100, languages=2, size=10**8, sampled=0):
        return plan_run([layer()], size, languages, "fair", tuning_steps=steps, sampled=sampled).solve_seconds

    least = seconds(steps=0)
    assert seconds() - least == pytest.approx(8 * 256 * 2 * 100 * 10**8 / 4 / 4e10)
    assert seconds(sampled=100) - seconds() == pytest.approx((seconds() - least) / 4)
    assert seconds(steps=200) - least == pytest.approx(2 * (seconds() - least))
    assert seconds(languages=4) - least == pytest.approx(2 * (seconds() - least))
    assert seconds(size=2 * 10**8) - least == pytest.approx(2 * (seconds() - least))


def test_disk_counts_the_float_copy_that_neural_compressor_writes():
    plan = plan_run([layer()], model_bytes=4 * 4096 * 4096, n_languages=1, mode="fast")
    assert plan.disk_bytes > 4 * 4096 * 4096


def test_a_model_that_does_not_fit_is_told_so():
    assert not plan_run([layer()], model_bytes=10**15, n_languages=1, mode="fast").fits


def test_cached_files_do_not_count_as_used(tmp_path):
    (tmp_path / "memory.max").write_text("1000\n")
    (tmp_path / "memory.current").write_text("900\n")
    (tmp_path / "memory.stat").write_text("anon 100\ninactive_file 700\nslab_reclaimable 50\n")
    assert _group_memory(tmp_path) == 850
    (tmp_path / "memory.max").write_text("max\n")
    assert _group_memory(tmp_path) is None
    assert _group_memory(tmp_path / "absent") is None


def test_this_machine_has_memory():
    assert available_memory() == pytest.approx(available_memory(), rel=0.5)
    assert available_memory() > 10**8


def test_forgotten_weights_take_no_memory_and_count_as_before():
    from transformers import BloomConfig, BloomForCausalLM

    torch.manual_seed(0)
    model = BloomForCausalLM(BloomConfig(vocab_size=300, hidden_size=32, n_layer=2, n_head=2)).eval()
    before = module_bytes(model)
    forget_weights(model)
    assert {parameter.device.type for parameter in model.parameters()} == {"meta"}
    assert model.lm_head.weight is model.get_input_embeddings().weight
    assert module_bytes(model) == before > 300 * 32 * 4


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can hand memory back")
def test_freed_memory_goes_back_to_the_system():
    kept, freed = [], []
    for number in range(2000):  # neighbours that stay keep the C library from doing it by itself
        (freed if number % 2 else kept).append(bytearray(100_000))
    freed.clear()
    before = resident_bytes()
    return_freed_memory()
    assert before - resident_bytes() > 50_000_000


def resident_bytes():
    pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * resource.getpagesize()
