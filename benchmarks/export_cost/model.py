"""A Llama with random weights, and a tokenizer, for those who have no model at hand.

python -m export_cost.model FOLDER [--quick]
"""

from __future__ import annotations

import sys
from pathlib import Path

SIZES = {
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "vocab_size": 49152,
    "max_position_embeddings": 8192,
}
"""Those of SmolLM2-135M."""

QUICK = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "vocab_size": 4096,
    "max_position_embeddings": 256,
}

_TOKENIZER = Path(__file__).parents[2] / "recipes" / "small_bloom" / "model"


def make(folder: Path, *, is_quick: bool) -> None:
    """Write the model, seeded, with the tokenizer of the shipped one, which knows fewer tokens."""
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(tie_word_embeddings=True, **(QUICK if is_quick else SIZES))
    LlamaForCausalLM(config).save_pretrained(folder)
    AutoTokenizer.from_pretrained(_TOKENIZER).save_pretrained(folder)


if __name__ == "__main__":
    make(Path(sys.argv[1]), is_quick="--quick" in sys.argv)
