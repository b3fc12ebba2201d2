"""One yaml through every API of the installed Neural Compressor, and the same result from all versions of it."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

with warnings.catch_warnings():  # Neural Compressor and what it imports warn while they are imported
    warnings.simplefilter("ignore")
    pytest.importorskip("neural_compressor", exc_type=ImportError)
    from inc_laaciq.backends import inc_api, inc_saved

    APIS = [api for api in inc_api.APIS if inc_api.is_available(api)]

import inc_laaciq
from inc_laaciq.artifacts import write_artifacts
from inc_laaciq.checkpoint import load_model, sha256_of_files
from inc_laaciq.config import read_config
from inc_laaciq.errors import BackendError
from inc_laaciq.evaluate import evaluate_model
from inc_laaciq.job import prepare
from inc_laaciq.output import atomic_folder
from inc_laaciq.pipeline import run_quantization

pytestmark = [pytest.mark.inc, pytest.mark.filterwarnings("ignore")]

RECIPE = Path(__file__).parents[1] / "recipes" / "small_bloom"
LANGUAGES = ["en", "fi"]
BOTH = pytest.mark.skipif(len(APIS) < 2, reason="only neural-compressor 3.7 has both APIs")

# Of neural-compressor 2.6, 3.7.1 and 3.10 alike.  Mode fast, because error compensation sums in an order that depends
# on the processor.
SCALES, PACKED = "de4bf51a", "470c9019"
LOSSES = {"en": 1.0487319, "fi": 1.5921649}


FOUR_BITS = {"model_wise": {"weight": {"bits": 4, "group_size": 64, "scheme": "sym"}}}


def write(folder, quantization=FOUR_BITS, **la_aciq):
    content = {
        "quantization": {"approach": "post_training_weight_only", **quantization},
        "tuning": {"strategy": {"name": "la_aciq"}, "exit_policy": {"max_trials": 2}},
        "la_aciq": {
            "model": str(RECIPE / "model"),
            "mode": "fast",
            "languages": LANGUAGES,
            "calibration": {"texts": str(RECIPE / "text" / "calibration"), "tokens_per_language": 256},
            "evaluation": {"texts": str(RECIPE / "text" / "evaluation"), "tokens_per_language": 128},
            **la_aciq,
        },
    }
    (folder / "conf.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    return folder / "conf.yaml"


def run(config, out, api, **more):
    """Output folder of a run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(config.parent)
        job = prepare(read_config(config))
        with atomic_folder(out, inputs=[]) as folder:
            write_artifacts(job, run_quantization(job, api=api, **more), folder)
    return out


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    """Outputs of one yaml by API, with Neural Compressor's RTN beside it."""
    folder = tmp_path_factory.mktemp("runs")
    config = write(folder)
    return {api: run(config, folder / api, api, comparisons=["rtn"]) for api in APIS}


def read(output, name):
    """A record without what may differ between equal runs."""
    record = json.loads((output / name).read_text(encoding="utf-8"))
    record["meta"].pop("time")
    return record


@pytest.mark.parametrize("api", APIS)
def test_every_version_gives_these_codes_and_figures(outputs, api):
    for name, digest in (("scales.safetensors", SCALES), ("packed.safetensors", PACKED)):
        assert sha256_of_files([outputs[api] / name])[:8] == digest
    record = read(outputs[api], "laaciq.json")
    assert record["api"] == api
    assert {tag: entry["loss"] for tag, entry in record["languages"].items()} == pytest.approx(LOSSES, abs=1e-6)
    assert f"through Neural Compressor's {api} API" in (outputs[api] / "report.md").read_text(encoding="utf-8")


@BOTH
def test_both_apis_write_the_same_but_for_their_own_form(outputs):
    adaptor, torch_api = (outputs[api] for api in ("adaptor", "torch"))
    for name in ("scales.safetensors", "packed.safetensors"):
        assert (adaptor / name).read_bytes() == (torch_api / name).read_bytes()
    for name in ("baseline.json", "results.json"):
        assert read(adaptor, name) == read(torch_api, name)
    first, second = (read(output, "laaciq.json") for output in (adaptor, torch_api))
    own = {"best_model.pt", "gptq_config.json", "qconfig.json", "quantized_weight.pt", "laaciq_layers.json"}
    for record in (first, second):
        record["files"] = {name: digest for name, digest in record["files"].items() if name not in own}
    assert (first.pop("api"), second.pop("api")) == ("adaptor", "torch")
    theirs = [record.pop("comparisons")["INC RTN"]["languages"] for record in (first, second)]
    assert first == second
    # Its RTN rounds scales, and products of code and scale, to float16 in the torch API.
    for tag in LANGUAGES:
        assert theirs[0][tag]["loss"] == pytest.approx(theirs[1][tag]["loss"], abs=1e-3)


@pytest.mark.parametrize("reader", APIS)
@pytest.mark.parametrize("writer", APIS)
def test_what_one_api_writes_the_other_evaluates(outputs, writer, reader, monkeypatch):
    monkeypatch.setattr(inc_saved, "is_available", lambda api: api == reader)
    load, loaded = inc_saved.load_packed, []
    monkeypatch.setattr(inc_saved, "load_packed", lambda *given: (loaded.append(load(*given)), loaded[-1])[1])
    again = evaluate_model(outputs[writer])
    named = {"adaptor": "WeightOnlyLinear", "torch": "INCWeightOnlyLinear"}[reader]
    assert sum(type(module).__name__ == named for module in loaded[0].modules()) == 16
    expected = read(outputs[writer], "results.json")["languages"]
    for tag in LANGUAGES:
        assert again["languages"][tag]["loss"] == pytest.approx(expected[tag]["loss"], abs=1e-7)


@pytest.mark.skipif("torch" not in APIS, reason="it is the torch API's form")
def test_neural_compressor_loads_its_own_form_of_an_output(outputs):
    from neural_compressor.torch.quantization import load

    model = load(str(outputs["torch"]), load_model(RECIPE / "model").model)
    held = {name for name, module in model.named_modules() if type(module).__name__ == "INCWeightOnlyLinear"}
    scales = load_file(str(outputs["torch"] / "scales.safetensors"))
    assert held == {name.removesuffix(".codes") for name in scales if name.endswith(".codes")}
    for name in held:
        assert torch.equal(model.get_submodule(name).scales.T, scales[f"{name}.scale"])


GATES = {
    "a search that passes": {"max_degradation": "14%"},
    "a search in which nothing passes": {"max_degradation": "0.1%", "inconclusive": "fail"},
}


@pytest.fixture(scope="module", params=GATES)
def searches(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("searches")
    rules = {"transformer.h.0.mlp.*": {"weight": {"dtype": "fp32"}}}
    grid = {"bits": 2, "group_size": 64, "scheme": "asym"}
    quantization = {"model_wise": {"weight": grid}, "op_wise": rules}
    text = {"texts": str(RECIPE / "text" / "evaluation"), "tokens_per_language": 1536}
    config = write(folder, quantization, gate=GATES[request.param], evaluation=text)
    return {api: run(config, folder / api, api) for api in APIS}


@pytest.mark.parametrize("api", APIS)
def test_the_search_of_the_gate_ends_as_the_configuration_says(searches, api, request):
    record = read(searches[api], "laaciq.json")
    passes = "that passes" in request.node.callspec.params["searches"]
    kept = [trial["number"] for trial in record["trials"] if trial["kept"]]
    assert len(kept) == 1
    if passes:
        assert record["verdict"] == "PASS"
        assert kept == [2]
    else:
        assert record["verdict"] != "PASS"
        assert len(record["trials"]) == 2


@BOTH
def test_the_search_is_the_same_in_both_apis(searches):
    """In mode balanced too, which is what the second trial is."""
    first, second = (read(searches[api], "laaciq.json") for api in ("adaptor", "torch"))
    for key in ("trials", "layers", "languages", "verdict", "reasons", "notes", "candidate", "mode", "reconcile"):
        assert first[key] == second[key], key
    scales = [(searches[api] / "scales.safetensors").read_bytes() for api in ("adaptor", "torch")]
    assert scales[0] == scales[1]


@pytest.mark.skipif(len(APIS) == 2, reason="neural-compressor 3.7 has both APIs")
def test_an_api_that_is_not_there_is_named_with_what_to_install(main, tmp_path):
    other = next(api for api in inc_api.APIS if api not in APIS)
    extra = {"adaptor": "adaptor", "torch": "torch-api"}[other]
    done = main("quantize", write(tmp_path), "--api", other, "--output", tmp_path / "out")
    assert done.returncode == 1
    assert f"Neural Compressor's {other} API" in done.stderr
    assert f"pip install 'inc-laaciq[{extra}]'" in done.stderr
    assert not (tmp_path / "out").exists()
    with pytest.raises(BackendError, match=f"{other} API"):
        inc_laaciq.load_config(tmp_path / "conf.yaml", api=other)


@pytest.mark.parametrize("api", APIS)
def test_load_config_gives_what_the_api_takes(tmp_path, api):
    config = inc_laaciq.load_config(write(tmp_path), api=api)
    assert type(config).__name__ == {"adaptor": "PostTrainingQuantConfig", "torch": "LAACIQConfig"}[api]
    assert (
        type(inc_laaciq.load_config(tmp_path / "conf.yaml")).__name__
        == type(inc_laaciq.load_config(tmp_path / "conf.yaml", api=APIS[0])).__name__
    )


@pytest.mark.skipif("adaptor" in APIS, reason="the adaptor API is there, which reads it")
def test_static_int8_of_the_adaptor_api_is_refused_by_what_cannot_read_it(tmp_path):
    with pytest.raises(BackendError, match=r"best_model\.pt is static INT8 .* quantize again with --api torch"):
        inc_saved.load_int8(torch.nn.Linear(1, 1), tmp_path / "best_model.pt")
