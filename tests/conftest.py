"""Settings and fixtures shared by all tests; this file also puts tests/ on the import path, for `strategies`."""

from __future__ import annotations

import os

import pytest
from hypothesis import settings

# Before torch is imported: on tiny models a second thread gains nothing, and on a busy machine the two wait for
# each other at every operation, which makes the tests many times slower.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# The same examples on every machine and in every run: a failure in CI can be repeated, and no test is flaky.
settings.register_profile("repeatable", derandomize=True, deadline=None, max_examples=50, database=None)
settings.load_profile("repeatable")


@pytest.fixture(scope="session")
def bpe():
    """A byte-level BPE tokenizer trained on three lines, with bos and eos tokens and no template."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    lines = (
        "the cat sat on the mat and the dog sat on the cat",
        "paka alikaa kwenye mkeka na mbwa alikaa juu ya paka",
        "кошка сидела на коврике, а собака на кошке",
    )
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=340, special_tokens=["<s>", "</s>"], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(lines, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>")
