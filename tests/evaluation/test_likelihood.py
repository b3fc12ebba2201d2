import copy
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from transformers import BloomConfig, BloomForCausalLM, LlamaConfig, LlamaForCausalLM

from inc_laaciq.calibration.text import Corpus, LanguageText
from inc_laaciq.errors import ModelError, ResourceError, SpecError
from inc_laaciq.evaluation.likelihood import sentence_losses

LINES = {
    "en": ("the cat sat on the mat", "the dog", "a cat and a dog sat on the mat and on the cat", "x", "on the mat"),
    "sw": ("paka alikaa kwenye mkeka", "mbwa alikaa juu ya paka", "paka"),
    "ru": ("кошка сидела на коврике", "а собака на кошке, а кошка на собаке"),
}


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Models this small lose time to more threads, above all beside another process."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def corpus():
    return Corpus(
        texts={
            tag: LanguageText(tag=tag, documents=tuple((f"{line} {page}",) for page in range(3) for line in lines))
            for tag, lines in LINES.items()
        }
    )


def seeded(kind, config):
    torch.manual_seed(0)
    return kind(config).eval()


@pytest.fixture(scope="module")
def bloom(bpe):
    config = BloomConfig(vocab_size=len(bpe), hidden_size=32, n_layer=2, n_head=4, initializer_range=0.3)
    return seeded(BloomForCausalLM, config)


@pytest.fixture(scope="module")
def llama(bpe):
    config = LlamaConfig(
        vocab_size=len(bpe), hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=64, initializer_range=0.3,
    )  # fmt: skip
    return seeded(LlamaForCausalLM, config)


@pytest.fixture(params=["bloom", "llama"])
def model(request):
    return request.getfixturevalue(request.param)


def lines_of(corpus, tag, seed=0):
    return [line for _, line in corpus.texts[tag].in_rounds(seed)]


@torch.no_grad()
def slow_loss(model, ids):
    """One token at a time, each from all that precede it, in float64."""
    total = 0.0
    for end in range(1, len(ids)):
        logits = model(input_ids=torch.tensor([ids[:end]])).logits[0, -1].double()
        total -= float(logits.log_softmax(-1)[ids[end]])
    return total


def test_loss_is_that_of_a_slow_loop_over_tokens(model, bpe, corpus):
    found = sentence_losses(model, bpe, corpus, tokens_per_language=0)
    assert list(found) == ["en", "ru", "sw"]
    for tag, losses in found.items():
        lines = lines_of(corpus, tag)
        encoded = [[bpe.eos_token_id, *bpe(line)["input_ids"]] for line in lines]
        assert losses.n == len(lines)
        np.testing.assert_allclose(losses.loss, [slow_loss(model, ids) for ids in encoded], atol=1e-4, rtol=0)
        assert list(losses.tokens) == [len(ids) - 1 for ids in encoded]
        assert list(losses.n_bytes) == [len(line.encode()) for line in lines]
        assert losses.loss_per_byte == pytest.approx(losses.loss.sum() / sum(len(line.encode()) for line in lines))
        assert losses.perplexity == pytest.approx(math.exp(losses.loss.sum() / losses.tokens.sum()))
        assert losses.is_valid


def test_loss_is_that_of_transformers(model, bpe, corpus):
    losses = sentence_losses(model, bpe, corpus, tokens_per_language=0)["sw"]
    for line, loss in zip(lines_of(corpus, "sw"), losses.loss, strict=True):
        ids = torch.tensor([[bpe.eos_token_id, *bpe(line)["input_ids"]]])
        with torch.no_grad():
            expected = model(input_ids=ids, labels=ids).loss.item() * (ids.shape[1] - 1)
        assert loss == pytest.approx(expected, abs=1e-4)


def test_long_sentences_are_scored_in_windows(model, bpe):
    line = " ".join(LINES["en"] * 6)
    text = Corpus(texts={"en": LanguageText(tag="en", documents=((line,),))})
    (loss,) = sentence_losses(model, bpe, text, max_length=10)["en"].loss
    ids = [bpe.eos_token_id, *bpe(line)["input_ids"]]
    expected = sum(slow_loss(model, ids[start : start + 11]) for start in range(0, len(ids) - 1, 10))
    assert loss == pytest.approx(expected, abs=1e-4)


def test_batch_size_does_not_matter_row60(model, bpe, corpus):
    runs = [sentence_losses(model, bpe, corpus, tokens_per_language=0, batch_tokens=size) for size in (1, 37, 4096)]
    for tag in corpus.texts:
        for run in runs[1:]:
            np.testing.assert_allclose(run[tag].loss, runs[0][tag].loss, atol=1e-4, rtol=0)


def test_two_runs_are_byte_identical_and_languages_independent_row60(model, bpe, corpus):
    one, two = (sentence_losses(model, bpe, corpus, batch_tokens=64) for _ in range(2))
    alone = sentence_losses(model, bpe, Corpus(texts={"sw": corpus.texts["sw"]}), batch_tokens=64)
    assert all(one[tag].loss.tobytes() == two[tag].loss.tobytes() for tag in one)
    assert alone["sw"].loss.tobytes() == one["sw"].loss.tobytes()


class OutOfMemory:
    """A model on a device with room for a few tokens only."""

    def __init__(self, model, room, error):
        self.model, self.room, self.error = model, room, error
        self.sizes = []

    def __call__(self, *, input_ids, attention_mask):
        self.sizes.append(input_ids.numel())
        if input_ids.numel() > self.room:
            raise self.error
        return self.model(input_ids=input_ids, attention_mask=attention_mask)


@pytest.mark.parametrize(
    "error",
    [
        torch.cuda.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
        MemoryError(),
    ],
    ids=["cuda", "cpu", "python"],
)
def test_out_of_memory_halves_the_batch_and_goes_on_row60(bloom, bpe, corpus, error, caplog):
    small = OutOfMemory(bloom, 60, error)
    found = sentence_losses(small, bpe, corpus, tokens_per_language=0)
    expected = sentence_losses(bloom, bpe, corpus, tokens_per_language=0)
    for tag in expected:
        np.testing.assert_allclose(found[tag].loss, expected[tag].loss, atol=1e-4, rtol=0)
    assert "out of memory: going on with" in caplog.text
    failed = [size for size in small.sizes if size > 60]
    assert len(failed) <= 5  # the smaller batch is kept, also for the next language


def test_a_window_that_does_not_fit_is_a_resource_error_row60(bloom, bpe, corpus):
    small = OutOfMemory(bloom, 5, MemoryError())
    with pytest.raises(ResourceError, match=r"not enough memory to score \d+ tokens at once\. Lower max_length"):
        sentence_losses(small, bpe, corpus)


def test_other_errors_of_the_model_are_not_hidden(bloom, bpe, corpus):
    with pytest.raises(RuntimeError, match="shape mismatch"):
        sentence_losses(OutOfMemory(bloom, 0, RuntimeError("shape mismatch")), bpe, corpus)


def test_nan_in_one_language_does_not_stop_the_others_row44(llama, bpe, corpus, caplog):
    broken = seeded(LlamaForCausalLM, llama.config)
    sick = set(bpe(" paka")["input_ids"]) - {
        i for tag in ("en", "ru") for line in LINES[tag] for i in bpe(line)["input_ids"]
    }
    with torch.no_grad():
        broken.model.embed_tokens.weight[sorted(sick)] = math.nan
    found = sentence_losses(broken, bpe, corpus)
    assert {tag: losses.is_valid for tag, losses in found.items()} == {"en": True, "ru": True, "sw": False}
    assert math.isnan(found["sw"].loss_per_byte)
    assert "sw: the model gives no finite loss" in caplog.text
    clean = sentence_losses(llama, bpe, corpus)
    assert found["en"].loss.tobytes() == clean["en"].loss.tobytes()
    assert found["sw"].fingerprint == clean["sw"].fingerprint


@pytest.mark.parametrize(
    "form",
    [
        lambda out: out,
        lambda out: out.logits,
        lambda out: {"logits": out.logits, "past": None},
        lambda out: (out.logits, None),
    ],
    ids=["object", "tensor", "mapping", "tuple"],
)
def test_any_callable_that_gives_logits_is_a_model(bloom, bpe, corpus, form):
    found = sentence_losses(lambda **inputs: form(bloom(**inputs)), bpe, corpus)
    assert found["sw"].loss.tobytes() == sentence_losses(bloom, bpe, corpus)["sw"].loss.tobytes()


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ((), "returned tuple"),
        ({"loss": 1}, "returned dict"),
        (torch.zeros(2, 3), r"returned \(2, 3\), not logits of shape \(\d+, \d+, vocabulary\)"),
        (torch.zeros(1, 1, 5), r"returned \(1, 1, 5\)"),
    ],
)
def test_what_gives_no_logits_is_refused(bpe, corpus, output, message):
    with pytest.raises(ModelError, match=message):
        sentence_losses(lambda **_: output, bpe, corpus)


def test_half_precision_is_widened_before_the_loss(bloom, bpe, corpus):
    exact = sentence_losses(bloom, bpe, corpus)["en"]
    rounded = sentence_losses(lambda **inputs: bloom(**inputs).logits.bfloat16(), bpe, corpus)["en"]
    with torch.no_grad():
        oracle = [
            float(
                torch.nn.functional.cross_entropy(
                    bloom(input_ids=ids[:, :-1]).logits.bfloat16().double()[0], ids[0, 1:], reduction="sum"
                )
            )
            for line in lines_of(corpus, "en")
            for ids in [torch.tensor([[bpe.eos_token_id, *bpe(line)["input_ids"]]])]
        ]
    np.testing.assert_allclose(rounded.loss, oracle, rtol=2e-3)
    assert not np.array_equal(rounded.loss, exact.loss)


def test_the_mode_of_every_module_is_restored(bpe, corpus):
    config = BloomConfig(vocab_size=len(bpe), hidden_size=32, n_layer=2, n_head=4, hidden_dropout=0.5)
    model = seeded(BloomForCausalLM, config)
    expected = sentence_losses(model, bpe, corpus)["en"].loss
    model.transformer.h[0].train()
    before = [module.training for module in model.modules()]
    assert sentence_losses(model, bpe, corpus)["en"].loss.tobytes() == expected.tobytes()
    assert [module.training for module in model.modules()] == before


def test_progress_reaches_the_total(bloom, bpe, corpus):
    calls = []
    found = sentence_losses(bloom, bpe, corpus, batch_tokens=50, progress=lambda *call: calls.append(call))
    total = sum(int(losses.tokens.sum()) for losses in found.values())
    assert calls[-1] == ("evaluating sw", total, total)
    assert [done for _, done, _ in calls] == sorted({done for _, done, _ in calls})


def test_a_short_language_is_remarked_row16(bloom, bpe, corpus, caplog):
    found = sentence_losses(bloom, bpe, corpus, tokens_per_language=100)
    sizes = {tag: int(losses.tokens.sum()) for tag, losses in found.items()}
    assert sizes["en"] >= 100 > sizes["sw"]
    assert f"sw: {sizes['sw']} of 100 tokens" in caplog.text
    assert "en: " not in caplog.text


def test_a_vocabulary_that_is_too_small_is_refused_row22(bpe, corpus):
    small = seeded(BloomForCausalLM, BloomConfig(vocab_size=100, hidden_size=32, n_layer=1, n_head=4))
    with pytest.raises(ModelError, match=r"token id 3\d\d, and the model's vocabulary has 100 entries"):
        sentence_losses(small, bpe, corpus)


def test_numbers_out_of_range_are_refused(llama, bpe, corpus):
    with pytest.raises(SpecError, match="tokens_per_language=-1"):
        sentence_losses(llama, bpe, corpus, tokens_per_language=-1)
    with pytest.raises(SpecError, match="batch_tokens=0"):
        sentence_losses(llama, bpe, corpus, batch_tokens=0)
    with pytest.raises(SpecError, match="max_length=65, and it must be between 1 and what the model allows, 64"):
        sentence_losses(llama, bpe, corpus, max_length=65)
    with pytest.raises(SpecError, match="max_length=0"):
        sentence_losses(llama, bpe, corpus, max_length=0)


def test_windows_fit_the_model_by_default(llama, bpe):
    line = " ".join(LINES["en"] * 12)
    widths = []

    class Watched:
        config = llama.config

        def __call__(self, *, input_ids, attention_mask):
            widths.append(input_ids.shape[1])
            return llama(input_ids=input_ids, attention_mask=attention_mask)

    sentence_losses(Watched(), bpe, Corpus(texts={"en": LanguageText(tag="en", documents=((line,),))}))
    assert max(widths) == 64


def perturbed(model, amount=0.05):
    """A copy whose weights are a little off, as after quantization."""
    other = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter += amount * torch.randn(parameter.shape, generator=generator)
    return other


@torch.no_grad()
def slow_comparison(model, reference, ids):
    """Flips and divergence of a sentence one token at a time, in float64."""
    flips, divergence = 0, 0.0
    for end in range(1, len(ids)):
        ours, theirs = (
            one(input_ids=torch.tensor([ids[:end]])).logits[0, -1].double().log_softmax(-1)
            for one in (model, reference)
        )
        flips += int(ours.argmax() != theirs.argmax())
        divergence += float((theirs.exp() * (theirs - ours)).sum())
    return flips, divergence


def test_flips_and_divergence_are_those_of_a_slow_loop(model, bpe, corpus):
    other = perturbed(model)
    found = sentence_losses(other, bpe, corpus, tokens_per_language=0, reference=model)
    for tag, losses in found.items():
        expected = [
            slow_comparison(other, model, [bpe.eos_token_id, *bpe(line)["input_ids"]]) for line in lines_of(corpus, tag)
        ]
        assert list(losses.flips) == [flips for flips, _ in expected]
        np.testing.assert_allclose(losses.kl, [kl for _, kl in expected], rtol=1e-4, atol=1e-5)
        assert 0 < losses.flip_rate < 1
        assert losses.mean_kl == pytest.approx(sum(kl for _, kl in expected) / losses.tokens.sum(), rel=1e-4)


def test_small_divergences_are_not_lost_in_rounding(llama, bpe, corpus):
    """Float32 rounds log-probabilities of logits near 20 by 1e-6, as much as there is of divergence here."""

    def shifted(model):
        return lambda *, input_ids, attention_mask=None: SimpleNamespace(logits=model(input_ids=input_ids).logits + 20)

    ours, theirs = shifted(perturbed(llama, 3e-5)), shifted(llama)
    found = sentence_losses(ours, bpe, corpus, tokens_per_language=0, reference=theirs)["en"]
    expected = [
        slow_comparison(ours, theirs, [bpe.eos_token_id, *bpe(line)["input_ids"]])[1] for line in lines_of(corpus, "en")
    ]
    assert 1e-7 < sum(expected) / found.tokens.sum() < 1e-5
    np.testing.assert_allclose(found.kl / found.tokens, expected / found.tokens, atol=1e-7)


@pytest.mark.parametrize("copied", [False, True], ids=["itself", "a copy"])
def test_a_model_beside_itself_neither_flips_nor_diverges(model, bpe, corpus, copied):
    reference = copy.deepcopy(model) if copied else model
    for losses in sentence_losses(
        model, bpe, corpus, tokens_per_language=0, batch_tokens=37, reference=reference
    ).values():
        assert not losses.flips.any()
        np.testing.assert_allclose(losses.kl, 0.0, atol=1e-6, rtol=0)


def test_losses_are_the_same_bytes_with_and_without_a_reference(model, bpe, corpus):
    for size in (37, 1024):
        alone = sentence_losses(model, bpe, corpus, tokens_per_language=0, batch_tokens=size)
        beside = sentence_losses(
            model, bpe, corpus, tokens_per_language=0, batch_tokens=size, reference=perturbed(model)
        )
        for tag in corpus.texts:
            assert alone[tag].loss.tobytes() == beside[tag].loss.tobytes()
            assert alone[tag].fingerprint == beside[tag].fingerprint
            assert alone[tag].flips is None
            assert alone[tag].kl is None


def test_comparison_does_not_depend_on_the_batch_size_row60(model, bpe, corpus):
    other = perturbed(model)
    runs = [
        sentence_losses(other, bpe, corpus, tokens_per_language=0, batch_tokens=size, reference=model)
        for size in (1, 37, 4096)
    ]
    for tag in corpus.texts:
        for run in runs[1:]:
            np.testing.assert_allclose(run[tag].kl, runs[0][tag].kl, atol=1e-4, rtol=0)
            np.testing.assert_array_equal(run[tag].flips, runs[0][tag].flips)


def test_long_sentences_are_compared_in_windows(llama, bpe):
    line = " ".join(LINES["en"] * 6)
    text = Corpus(texts={"en": LanguageText(tag="en", documents=((line,),))})
    other = perturbed(llama)
    losses = sentence_losses(other, bpe, text, max_length=10, reference=llama)["en"]
    ids = [bpe.eos_token_id, *bpe(line)["input_ids"]]
    pieces = [slow_comparison(other, llama, ids[start : start + 11]) for start in range(0, len(ids) - 1, 10)]
    assert losses.flips[0] == sum(flips for flips, _ in pieces)
    assert losses.kl[0] == pytest.approx(sum(kl for _, kl in pieces), abs=1e-4)


def test_a_reference_that_runs_out_of_memory_halves_the_batch_too_row60(bloom, bpe, corpus, caplog):
    other = perturbed(bloom)
    small = OutOfMemory(bloom, 60, MemoryError())
    found = sentence_losses(other, bpe, corpus, tokens_per_language=0, reference=small)
    expected = sentence_losses(other, bpe, corpus, tokens_per_language=0, reference=bloom)
    for tag in expected:
        np.testing.assert_allclose(found[tag].loss, expected[tag].loss, atol=1e-4, rtol=0)
        np.testing.assert_allclose(found[tag].kl, expected[tag].kl, atol=1e-4, rtol=0)
    assert "out of memory: going on with" in caplog.text


def with_nan_in(model, tokens):
    broken = copy.deepcopy(model)
    with torch.no_grad():
        broken.get_input_embeddings().weight[sorted(tokens)] = math.nan
    return broken


def only_swahili(bpe):
    """Tokens of Swahili lines that no other language has."""
    return set(bpe(" paka")["input_ids"]) - {
        i for tag in ("en", "ru") for line in LINES[tag] for i in bpe(line)["input_ids"]
    }


def test_nan_of_the_reference_leaves_the_losses_row44(llama, bpe, corpus, caplog):
    reference = with_nan_in(llama, only_swahili(bpe))
    found = sentence_losses(llama, bpe, corpus, reference=reference)
    assert all(losses.is_valid for losses in found.values())
    assert found["sw"].flips is found["sw"].kl is None
    assert not found["en"].flips.any()
    assert "sw: the reference gives NaN on this language" in caplog.text


def test_nan_of_the_model_leaves_the_others_compared_row44(llama, bpe, corpus):
    found = sentence_losses(with_nan_in(llama, only_swahili(bpe)), bpe, corpus, reference=llama)
    assert {tag: losses.is_valid for tag, losses in found.items()} == {"en": True, "ru": True, "sw": False}
    assert found["en"].mean_kl == 0
    assert math.isnan(found["sw"].mean_kl)


def test_what_a_model_rules_out_diverges_without_bound(bloom, bpe, corpus):
    def certain(**inputs):
        logits = bloom(**inputs).logits.clone()
        logits[..., bpe.bos_token_id] = -math.inf  # which no text holds
        return logits

    found = sentence_losses(certain, bpe, corpus, reference=bloom)["en"]
    assert found.is_valid
    assert found.mean_kl == math.inf
    assert math.isfinite(sentence_losses(bloom, bpe, corpus, reference=certain)["en"].mean_kl)


def test_a_reference_of_another_kind_is_refused(llama, bpe, corpus):
    other = seeded(BloomForCausalLM, BloomConfig(vocab_size=len(bpe) + 1, hidden_size=32, n_layer=1, n_head=4))
    with pytest.raises(
        ModelError, match=rf"reference model has {len(bpe) + 1} logits a token and the model {len(bpe)}"
    ):
        sentence_losses(llama, bpe, corpus, reference=other)
    config = copy.deepcopy(llama.config)
    config.max_position_embeddings = 32
    with pytest.raises(ModelError, match="takes 32 tokens at once, and the model is scored on 64"):
        sentence_losses(llama, bpe, corpus, reference=seeded(LlamaForCausalLM, config))
    sentence_losses(llama, bpe, corpus, max_length=32, reference=seeded(LlamaForCausalLM, config))


def test_the_mode_of_the_reference_is_restored(bpe, corpus):
    config = BloomConfig(vocab_size=len(bpe), hidden_size=32, n_layer=2, n_head=4, hidden_dropout=0.5)
    model = seeded(BloomForCausalLM, config)
    reference = copy.deepcopy(model).train()
    assert not sentence_losses(model, bpe, corpus, reference=reference)["en"].flips.any()
    assert all(module.training for module in reference.modules())


def test_logits_are_compared_a_few_at_a_time(bloom, bpe, corpus, monkeypatch):
    other = perturbed(bloom)
    expected = sentence_losses(other, bpe, corpus, reference=bloom)
    monkeypatch.setattr("inc_laaciq.evaluation.likelihood._CHUNK", 5 * len(bpe))
    rows = []
    real = torch.Tensor.logsumexp
    monkeypatch.setattr(torch.Tensor, "logsumexp", lambda self, *a, **k: rows.append(len(self)) or real(self, *a, **k))
    found = sentence_losses(other, bpe, corpus, reference=bloom)
    assert max(rows) == 5
    for tag in expected:
        np.testing.assert_allclose(found[tag].kl, expected[tag].kl, atol=1e-6)
        np.testing.assert_allclose(found[tag].loss, expected[tag].loss, atol=1e-6)


def test_an_empty_corpus_gives_nothing(bloom, bpe):
    assert sentence_losses(bloom, bpe, Corpus(texts={}, missing=("yo",))) == {}
