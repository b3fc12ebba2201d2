"""Models as Neural Compressor quantizes them are measured like any other."""

from __future__ import annotations

import copy
import math
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

with warnings.catch_warnings():  # Neural Compressor and what it imports warn while they are imported
    warnings.simplefilter("ignore")
    pytest.importorskip("neural_compressor", exc_type=ImportError)

from inc_laaciq.backends import inc_api
from inc_laaciq.calibration.corpus import read_texts
from inc_laaciq.calibration.layers import find_layers
from inc_laaciq.checkpoint import load_model
from inc_laaciq.config import WeightSpec
from inc_laaciq.evaluation.likelihood import sentence_losses

pytestmark = pytest.mark.inc

RECIPE = Path(__file__).parents[2] / "recipes" / "small_bloom"
LANGUAGES = ["en", "fi", "hi"]


@pytest.fixture(scope="module")
def source():
    return load_model(RECIPE / "model")


@pytest.fixture(scope="module")
def quantized(source, tmp_path_factory):
    """Neural Compressor's own RTN, so that nothing of this package has a part in it."""
    layers = find_layers(source.model, WeightSpec(bits=4, group_size=64), (), lm_head=False)
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        patch.chdir(tmp_path_factory.mktemp("inc"))
        return inc_api.fitting(inc_api.choose()).fit_rtn(source.model, layers)


@pytest.fixture(scope="module")
def corpus():
    return read_texts(RECIPE / "text" / "evaluation", LANGUAGES)


def measure(model, source, corpus, **options):
    return sentence_losses(model, source.tokenizer, corpus, tokens_per_language=256, **options)


def test_two_runs_are_byte_identical_row60(quantized, source, corpus):
    one, two = (measure(quantized, source, corpus, reference=source.model) for _ in range(2))
    alone = measure(quantized, source, corpus)
    for tag in LANGUAGES:
        assert one[tag].loss.tobytes() == two[tag].loss.tobytes() == alone[tag].loss.tobytes()
        assert one[tag].kl.tobytes() == two[tag].kl.tobytes()


def test_batch_size_does_not_matter_row60(quantized, source, corpus):
    one, two = (measure(quantized, source, corpus, batch_tokens=size) for size in (1, 1024))
    for tag in LANGUAGES:
        np.testing.assert_allclose(one[tag].loss, two[tag].loss, atol=1e-4, rtol=0)


def test_out_of_memory_halves_the_batch_row60(quantized, source, corpus):
    def small(*, input_ids, attention_mask):
        if input_ids.numel() > 150:
            raise MemoryError
        return quantized(input_ids=input_ids, attention_mask=attention_mask)

    one, two = (measure(model, source, corpus) for model in (quantized, small))
    for tag in LANGUAGES:
        np.testing.assert_allclose(one[tag].loss, two[tag].loss, atol=1e-4, rtol=0)


def test_quantization_flips_some_tokens_and_diverges(quantized, source, corpus):
    found = measure(quantized, source, corpus, reference=source.model)
    before = measure(source.model, source, corpus)
    for tag in LANGUAGES:
        assert 0 < found[tag].flip_rate < 0.5
        assert 0 < found[tag].mean_kl < 1
        assert found[tag].fingerprint == before[tag].fingerprint


def test_divergence_is_that_of_a_slow_loop(quantized, source, corpus):
    found = measure(quantized, source, corpus, reference=source.model)["fi"]
    lines = [line for _, line in corpus.texts["fi"].in_rounds(0)][: found.n]
    tokenizer = source.tokenizer
    for number in (0, found.n // 2, found.n - 1):
        ids = torch.tensor([[tokenizer.eos_token_id, *tokenizer(lines[number], add_special_tokens=False)["input_ids"]]])
        with torch.no_grad():
            theirs, ours = (
                model(ids[:, :-1]).logits[0].double().log_softmax(-1) for model in (source.model, quantized)
            )
        assert found.flips[number] == int((theirs.argmax(-1) != ours.argmax(-1)).sum())
        expected = torch.nn.functional.kl_div(ours, theirs, log_target=True, reduction="sum").item()
        assert found.kl[number] == pytest.approx(expected, abs=1e-5)


def test_nan_in_one_language_does_not_stop_the_others_row44(quantized, source, corpus):
    tokens = {tag: set(source.tokenizer("\n".join(text.lines))["input_ids"]) for tag, text in corpus.texts.items()}
    broken = copy.deepcopy(quantized)
    embeddings = broken.get_input_embeddings()
    embeddings.weight = torch.nn.Parameter(embeddings.weight.detach().clone())  # apart from the output layer's
    with torch.no_grad():
        embeddings.weight[sorted(tokens["hi"] - tokens["en"] - tokens["fi"])] = math.nan
    found = measure(broken, source, corpus, reference=source.model)
    assert {tag: losses.is_valid for tag, losses in found.items()} == {"en": True, "fi": True, "hi": False}
    clean = measure(quantized, source, corpus)
    assert found["en"].loss.tobytes() == clean["en"].loss.tobytes()
