"""Measure the loss of a model in each language, as trained and after rounding its block weights to few bits.

The excess kurtosis of the weights of every linear layer but the output's is written too.

Example
-------
``python recipes/small_bloom/measure.py --model recipes/small_bloom/model --text recipes/small_bloom/text/evaluation
--bits 4 3 --output evaluation.json``
"""

from __future__ import annotations

import argparse
import copy
import hashlib
import json
from pathlib import Path

import torch
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

WINDOW, BATCH = 256, 16
"""Tokens of context in a window and windows in a batch."""


@torch.no_grad()
def loss(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, text: str) -> dict[str, float]:
    """Measure the loss on a text in which a blank line ends a page.

    Each token, and one end-of-text token a page, is predicted once, in windows of `WINDOW` tokens.

    Parameters
    ----------
    model : PreTrainedModel
        Model.
    tokenizer : PreTrainedTokenizerBase
        Its tokenizer.
    text : str
        Text.

    Returns
    -------
    dict
        ``tokens``, ``bytes`` (of UTF-8), ``nats_per_token`` and ``nats_per_byte``.
    """
    pages = text.rstrip("\n").split("\n\n")
    stream = [tokenizer.eos_token_id]
    for ids in tokenizer(pages, verbose=False)["input_ids"]:
        stream += [*ids, tokenizer.eos_token_id]
    count = len(stream) - 1
    inputs = torch.full((-(-count // WINDOW), WINDOW), tokenizer.eos_token_id)
    targets = torch.full_like(inputs, -100)
    inputs.view(-1)[:count] = torch.tensor(stream[:-1])
    targets.view(-1)[:count] = torch.tensor(stream[1:])
    nats = 0.0
    for ids, labels in zip(inputs.split(BATCH), targets.split(BATCH), strict=True):
        logits = model(input_ids=ids, use_cache=False).logits
        nats += nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="sum").item()
    size = sum(len(page.encode()) for page in pages)
    return {
        "tokens": count,
        "bytes": size,
        "nats_per_token": round(nats / count, 4),
        "nats_per_byte": round(nats / size, 4),
    }


@torch.no_grad()
def rounded(model: PreTrainedModel, bits: int, group: int = 64) -> PreTrainedModel:
    """Return a copy with all linear weights but the output layer's rounded to nearest.

    Parameters
    ----------
    model : PreTrainedModel
        Model; it is not changed.
    bits : int
        Bits of a weight; the codes are symmetric and the largest magnitude of a group sets its scale.
    group : int, default 64
        Neighbouring inputs that share a scale.

    Returns
    -------
    PreTrainedModel
    """
    copied = copy.deepcopy(model)
    for module in copied.modules():
        if isinstance(module, nn.Linear) and module is not copied.get_output_embeddings():
            weight = module.weight.view(-1, group)
            scale = weight.abs().amax(dim=1, keepdim=True).clamp(min=1e-12) / (2 ** (bits - 1) - 1)
            weight.copy_((weight / scale).round() * scale)
    return copied


def excess_kurtosis(model: PreTrainedModel) -> dict[str, float]:
    """Fourth central moment over the squared second, minus 3, of the weights of each linear layer but the output's.

    Parameters
    ----------
    model : PreTrainedModel
        Model.

    Returns
    -------
    dict
        Layer name -> excess kurtosis; 0 for a normal distribution.
    """
    found = {}
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear) and module is not model.get_output_embeddings():
            centred = module.weight.detach().double() - module.weight.detach().double().mean()
            found[name] = round(float(centred.pow(4).mean() / centred.pow(2).mean().square() - 3), 3)
    return found


def main() -> None:
    """Measure the text folders and write the losses as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, required=True, help="model folder")
    parser.add_argument("--text", type=Path, nargs="+", required=True, help="folders with one <tag>.txt per language")
    parser.add_argument("--bits", type=int, nargs="*", default=[], help="also measure the model rounded to these bits")
    parser.add_argument("--output", type=Path, required=True, help="JSON file; results of other texts in it are kept")
    arguments = parser.parse_args()
    tokenizer = AutoTokenizer.from_pretrained(arguments.model)
    model = AutoModelForCausalLM.from_pretrained(arguments.model, dtype=torch.float32).eval()
    models = {"float32": model} | {f"rtn{bits}": rounded(model, bits) for bits in arguments.bits}
    digest = hashlib.sha256((arguments.model / "model.safetensors").read_bytes()).hexdigest()
    results = json.loads(arguments.output.read_text(encoding="utf-8")) if arguments.output.exists() else {}
    for folder in arguments.text:
        texts = {file.stem: file.read_text(encoding="utf-8") for file in sorted(folder.glob("*.txt"))}
        results[folder.name] = {"model_sha256": digest, "excess_kurtosis": excess_kurtosis(model)}
        for name, measured in models.items():
            losses = {tag: loss(measured, tokenizer, text) for tag, text in texts.items()}
            results[folder.name][name] = losses
            mean = sum(entry["nats_per_token"] for entry in losses.values()) / len(losses)
            print(f"{folder.name:<12} {name:<8} mean {mean:.4f} nats per token", flush=True)
    arguments.output.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
