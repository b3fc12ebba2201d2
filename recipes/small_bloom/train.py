"""Train the tokenizer and the weights of a small model on the text that ``corpus.py`` writes.

``bloom`` is the model of this folder; ``llama`` is deeper and narrower, with grouped queries and a gated MLP.

Example
-------
``python recipes/small_bloom/train.py --corpus build/corpus --output build/model``
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import time
from pathlib import Path

import numpy as np
import tokenizers
import torch
import transformers
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    BloomConfig,
    BloomForCausalLM,
    GenerationConfig,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

SHARES = {
    "en": 1.0,
    "de": 0.8,
    "fr": 0.7,
    "es": 0.6,
    "ru": 0.5,
    "zh": 0.45,
    "ja": 0.4,
    "ko": 0.35,
    "tr": 0.3,
    "vi": 0.25,
    "id": 0.2,
    "el": 0.16,
    "fi": 0.12,
    "eu": 0.09,
    "hi": 0.06,
    "km": 0.04,
}
"""Training text of a language relative to English: in bytes for the tokenizer, in tokens for the model."""

VOCABULARY = 4096
SPECIAL_TOKENS = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
WORDS = r" ?[^\s.,!?…。，、।៖។：；（）()]+"
"""Pieces the tokenizer never merges across: a word with its leading space. Marks of Indic scripts stay in the word."""

SEQUENCE, BATCH = 256, 16
PEAK_RATE, WARM_UP, WEIGHT_DECAY, CLIP = 3e-3, 200, 0.1, 1.0
VALIDATION_TOKENS = 16 * SEQUENCE
"""Tokens of each language's calibration text on which progress is measured."""


def untrained(architecture: str, token_ids: dict[str, int]) -> PreTrainedModel:
    """Return a model with random weights.

    Parameters
    ----------
    architecture : {"bloom", "llama"}
        2.57 M or 1.70 M parameters.
    token_ids : dict
        ``bos_token_id``, ``eos_token_id`` and ``pad_token_id``.

    Returns
    -------
    PreTrainedModel
    """
    if architecture == "bloom":
        config = BloomConfig(
            vocab_size=VOCABULARY,
            hidden_size=192,
            n_layer=4,
            n_head=6,
            hidden_dropout=0.0,
            attention_dropout=0.0,
            use_cache=True,
            **token_ids,
        )
        return BloomForCausalLM(config)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=6,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        **token_ids,
    )
    return LlamaForCausalLM(config)


def read_pages(file: Path) -> list[str]:
    """Return the pages of a text file in which a blank line ends a page.

    Parameters
    ----------
    file : Path
        A file written by ``corpus.py``.

    Returns
    -------
    list of str
    """
    return file.read_text(encoding="utf-8").rstrip("\n").split("\n\n")


def head(items: list, sizes: list[int], limit: float) -> list:
    """Return the leading items whose sizes add up to at most a limit.

    Parameters
    ----------
    items : list
        Anything.
    sizes : list of int
        Size of each item.
    limit : float
        Largest sum.

    Returns
    -------
    list
    """
    return [item for item, end in zip(items, np.cumsum(sizes), strict=True) if end <= limit]


def train_tokenizer(pages: dict[str, list[str]]) -> PreTrainedTokenizerFast:
    """Train a lossless byte-level BPE tokenizer on the training mixture.

    Parameters
    ----------
    pages : dict
        Language tag -> training pages, with English.

    Returns
    -------
    PreTrainedTokenizerFast
    """
    sizes = {tag: [len(page.encode()) for page in texts] for tag, texts in pages.items()}
    mixture = [page for tag in pages for page in head(pages[tag], sizes[tag], SHARES[tag] * sum(sizes["en"]))]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORDS), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=list(SPECIAL_TOKENS.values()),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(mixture, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=2048,
        clean_up_tokenization_spaces=False,
        padding_side="left",
        model_input_names=["input_ids", "attention_mask"],
        **SPECIAL_TOKENS,
    )


def encode(tokenizer: PreTrainedTokenizerFast, pages: list[str]) -> list[np.ndarray]:
    """Tokenize pages, each with an end-of-text token.

    Parameters
    ----------
    tokenizer : PreTrainedTokenizerFast
        Tokenizer.
    pages : list of str
        Text.

    Returns
    -------
    list of ndarray
    """
    return [
        np.array([*ids, tokenizer.eos_token_id], dtype=np.int16) for ids in tokenizer(pages, verbose=False)["input_ids"]
    ]


def batches(documents: list[np.ndarray], steps: int, seed: int) -> torch.Tensor:
    """Pack the documents, shuffled anew in each epoch, into training batches.

    Parameters
    ----------
    documents : list of ndarray
        Tokens of each document.
    steps : int
        Number of batches.
    seed : int
        Seed of the order.

    Returns
    -------
    Tensor
        Shape ``(steps, BATCH, SEQUENCE)``.
    """
    generator = np.random.default_rng(seed)
    epochs = math.ceil(steps * BATCH * SEQUENCE / sum(map(len, documents)))
    order = np.concatenate([generator.permutation(len(documents)) for _ in range(epochs)])
    stream = np.concatenate([documents[i] for i in order])[: steps * BATCH * SEQUENCE]
    return torch.from_numpy(stream).view(steps, BATCH, SEQUENCE)


def learning_rate(step: int, steps: int) -> float:
    """Return the learning rate: linear warm-up, then a cosine down to 2 % of the peak.

    Parameters
    ----------
    step, steps : int
        Current step and number of steps.

    Returns
    -------
    float
    """
    if step < WARM_UP:
        return PEAK_RATE * (step + 1) / WARM_UP
    progress = (step - WARM_UP) / max(steps - WARM_UP, 1)
    return PEAK_RATE * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * progress)))


@torch.no_grad()
def validate(model: PreTrainedModel, validation: dict[str, torch.Tensor]) -> dict[str, float]:
    """Measure the loss per token of each language.

    Parameters
    ----------
    model : PreTrainedModel
        Model.
    validation : dict
        Language tag -> tokens of shape ``(sequences, SEQUENCE)``.

    Returns
    -------
    dict
        Language tag -> nats per token.
    """
    model.eval()
    with torch.autocast("cpu", torch.bfloat16):
        losses = {tag: round(model(input_ids=ids, labels=ids).loss.item(), 4) for tag, ids in validation.items()}
    model.train()
    return losses


def save(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Save model and tokenizer so that transformers 4 and 5 both load them.

    Parameters
    ----------
    model : PreTrainedModel
        Model.
    tokenizer : PreTrainedTokenizerFast
        Tokenizer.
    folder : Path
        Target.
    """
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    kept = (*SPECIAL_TOKENS, "model_max_length", "clean_up_tokenization_spaces", "padding_side", "model_input_names")
    file = folder / "tokenizer_config.json"
    written = json.loads(file.read_text(encoding="utf-8"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast"} | {name: written[name] for name in kept}
    file.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    file = folder / "config.json"
    settings = json.loads(file.read_text(encoding="utf-8"))
    settings["torch_dtype"] = settings.pop("dtype", "float32")
    file.write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def main() -> None:
    """Train, and write the model folder with ``training.json``."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--architecture", choices=["bloom", "llama"], default="bloom")
    parser.add_argument("--corpus", type=Path, required=True, help="folder written by corpus.py")
    parser.add_argument("--output", type=Path, required=True, help="folder for the model")
    parser.add_argument("--state", type=Path, help="folder for the checkpoint (default: OUTPUT/state)")
    parser.add_argument("--tokens", type=int, default=12_000_000, help="training tokens, all epochs together")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--report-every", type=int, default=200, help="steps between reports and checkpoints")
    parser.add_argument("--compile", action="store_true", help="use torch.compile, which needs a C++ compiler")
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(arguments.seed)
    state_folder = arguments.state or arguments.output / "state"
    state_folder.mkdir(parents=True, exist_ok=True)

    pages = {tag: read_pages(arguments.corpus / "train" / f"{tag}.txt") for tag in SHARES}
    tokenizer = train_tokenizer(pages)
    encoded = {tag: encode(tokenizer, texts) for tag, texts in pages.items()}
    english = sum(map(len, encoded["en"]))
    mixture = {tag: head(docs, [len(d) for d in docs], SHARES[tag] * english) for tag, docs in encoded.items()}
    counts = {tag: sum(map(len, documents)) for tag, documents in mixture.items()}
    documents = [document for tag in mixture for document in mixture[tag]]
    steps = arguments.tokens // (BATCH * SEQUENCE)
    data = batches(documents, steps, arguments.seed)
    validation = {}
    for tag in SHARES:
        stream = np.concatenate(encode(tokenizer, read_pages(arguments.corpus / "calibration" / f"{tag}.txt")))
        validation[tag] = torch.from_numpy(stream[:VALIDATION_TOKENS].astype(np.int64)).view(-1, SEQUENCE)

    token_ids = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad")}
    model = untrained(arguments.architecture, token_ids)
    model.generation_config = GenerationConfig(**token_ids)
    decayed = [p for p in model.parameters() if p.ndim > 1]
    other = [p for p in model.parameters() if p.ndim == 1]
    groups = [{"params": decayed, "weight_decay": WEIGHT_DECAY}, {"params": other, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=PEAK_RATE, betas=(0.9, 0.95), fused=True)
    first, curve, elapsed = 0, [], 0.0
    checkpoint = state_folder / "state.pt"
    if arguments.resume and checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        first, curve, elapsed = state["step"], state["curve"], state["elapsed"]
    parameters = sum(p.numel() for p in model.parameters())
    print(f"{parameters} parameters, {sum(counts.values())} tokens an epoch, {steps} steps, {counts}", flush=True)

    model.train()
    forward = torch.compile(model) if arguments.compile else model
    started, losses_since = time.monotonic() - elapsed, []
    for step in range(first, steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, steps)
        ids = data[step].long()
        with torch.autocast("cpu", torch.bfloat16):
            loss = forward(input_ids=ids, labels=ids, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses_since.append(loss.item())
        done = step + 1
        if done % arguments.report_every and done != steps:
            continue
        losses = validate(model, validation)
        elapsed = time.monotonic() - started
        recent = sum(losses_since) / len(losses_since)
        mean = sum(losses.values()) / len(losses)
        tokens = done * BATCH * SEQUENCE
        curve.append({"step": done, "tokens": tokens, "train": round(recent, 4), "validation": round(mean, 4)})
        print(f"step {done}/{steps} {elapsed:.0f} s train {recent:.4f} calibration {mean:.4f} {losses}", flush=True)
        losses_since.clear()
        state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
        state |= {"step": done, "curve": curve, "elapsed": elapsed}
        torch.save(state, checkpoint.with_suffix(".tmp"))
        checkpoint.with_suffix(".tmp").replace(checkpoint)
        save(model, tokenizer, state_folder / "model")

    model.eval()
    save(model, tokenizer, arguments.output)
    corpus_manifest = json.loads((arguments.corpus / "corpus.json").read_text(encoding="utf-8"))
    record = {
        "corpus_sha256": corpus_manifest["sha256"],
        "parameters": parameters,
        "steps": steps,
        "tokens_seen": steps * BATCH * SEQUENCE,
        "tokens_per_parameter": round(steps * BATCH * SEQUENCE / parameters, 2),
        "epochs": round(steps * BATCH * SEQUENCE / sum(counts.values()), 2),
        "tokens_per_epoch": counts,
        "share_percent": {tag: round(100 * n / sum(counts.values()), 2) for tag, n in counts.items()},
        "seed": arguments.seed,
        "threads": arguments.threads,
        "wall_seconds": round(elapsed),
        "torch_compile": arguments.compile,
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "tokenizers": tokenizers.__version__,
        },
        "curve": curve,
    }
    (arguments.output / "training.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
