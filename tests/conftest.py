"""Settings and fixtures shared by all tests; this file also puts tests/ on the import path, for `strategies`."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import warnings

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


@pytest.fixture
def main(monkeypatch, capsys):
    """The command in this process: exit code, stdout and stderr. A new process costs seconds of imports."""
    from inc_laaciq import cli

    def call(*arguments, cwd=None):
        monkeypatch.setattr(sys, "argv", ["inc-laaciq", *map(str, arguments)])
        if cwd is not None:
            monkeypatch.chdir(cwd)
        before = signal.getsignal(signal.SIGTERM), sys.excepthook
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with pytest.raises(SystemExit) as stopped:
                cli.main()
        signal.signal(signal.SIGTERM, before[0])
        sys.excepthook = before[1]
        logging.getLogger("inc_laaciq").handlers.clear()
        out = capsys.readouterr()
        return subprocess.CompletedProcess(arguments, stopped.value.code, out.out, out.err)

    return call
