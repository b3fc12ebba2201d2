"""Small seeded models with a tokenizer, saved as users have them; made once, copied where a test changes them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

VOCABULARY = 300
TEXTS = ["The cat sat on the mat.", "Кошка сидела на ковре.", "猫坐在垫子上。", "القطة على السجادة."] * 4


def save_tokenizer(folder: Path, vocabulary: int = VOCABULARY) -> None:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=["<unk>", "<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", bos_token="<s>", eos_token="</s>")
    fast.save_pretrained(folder)


def _bloom() -> torch.nn.Module:
    from transformers import BloomConfig, BloomForCausalLM

    torch.manual_seed(0)
    return BloomForCausalLM(BloomConfig(vocab_size=VOCABULARY, hidden_size=32, n_layer=2, n_head=2))


def _llama() -> torch.nn.Module:
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=64,
        tie_word_embeddings=False,
    )
    return LlamaForCausalLM(config)


@pytest.fixture(scope="session")
def bloom_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BLOOM with tied embeddings, in one safetensors file."""
    folder = tmp_path_factory.mktemp("models") / "bloom"
    _bloom().save_pretrained(folder)
    save_tokenizer(folder)
    return folder


@pytest.fixture(scope="session")
def llama_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama with untied embeddings, in several shards."""
    folder = tmp_path_factory.mktemp("models") / "llama"
    _llama().save_pretrained(folder, max_shard_size="40KB")
    save_tokenizer(folder)
    return folder


@pytest.fixture
def tokenizer_writer() -> Callable[[Path, int], None]:
    """Save a tokenizer with so many tokens into a folder."""
    return save_tokenizer


@pytest.fixture
def copied(tmp_path: Path) -> Callable[[Path], Path]:
    """Copy a model folder, so that a test may damage it."""

    def copy(folder: Path) -> Path:
        return Path(shutil.copytree(folder, tmp_path / folder.name))

    return copy
