"""Make a synthetic variant of a Bloom model whose block weights have outlier columns, with the same outputs.

In front of the attention and the MLP of each block, a few channels of the layer norm are divided by a power of two and
the matching input columns of the next linear layer are multiplied by it. This changes no output (powers of two round
nothing), but it makes the weights hard to quantize, as those of large models are.

Example
-------
``python recipes/small_bloom/outliers.py --model recipes/small_bloom/model --output build/outliers``
"""

from __future__ import annotations

import argparse
import copy
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, BloomForCausalLM


@torch.no_grad()
def make_outlier_variant(
    model: BloomForCausalLM, seed: int = 0, factors: Sequence[float] = (8.0, 16.0, 16.0)
) -> BloomForCausalLM:
    """Return a copy of a model with outlier columns in ``query_key_value`` and ``dense_h_to_4h``.

    Parameters
    ----------
    model : BloomForCausalLM
        Model; it is not changed.
    seed : int, default 0
        Seed of the choice of channels, which differs between layers.
    factors : sequence of float, default (8, 16, 16)
        Factor of each outlier column of a layer. Powers of two keep the outputs exact.

    Returns
    -------
    BloomForCausalLM
        The variant; its configuration says in ``laaciq_synthetic`` how it was made.

    Raises
    ------
    ValueError
        If the residual connection of the model starts after the layer norm, where the change would be seen.
    """
    if model.config.apply_residual_connection_post_layernorm:
        raise ValueError("the residual connection must not start after the layer norm")
    variant = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(seed)
    for block in variant.transformer.h:
        for norm, linear in (
            (block.input_layernorm, block.self_attention.query_key_value),
            (block.post_attention_layernorm, block.mlp.dense_h_to_4h),
        ):
            channels = torch.randperm(linear.in_features, generator=generator)[: len(factors)]
            scale = torch.tensor(factors, dtype=linear.weight.dtype)
            norm.weight[channels] /= scale
            norm.bias[channels] /= scale
            linear.weight[:, channels] *= scale
    variant.config.laaciq_synthetic = f"outlier columns: seed {seed}, factors {', '.join(map(str, factors))}"
    return variant


def excess_kurtosis(weight: torch.Tensor) -> float:
    """Return the excess kurtosis of all elements of a weight.

    Parameters
    ----------
    weight : Tensor
        Weight.

    Returns
    -------
    float
        0 for a normal distribution.
    """
    centred = weight.detach().double() - weight.detach().double().mean()
    return ((centred**4).mean() / (centred**2).mean() ** 2 - 3).item()


def main() -> None:
    """Write the variant of a model folder."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, required=True, help="model folder")
    parser.add_argument("--output", type=Path, required=True, help="folder for the variant")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--factors", type=float, nargs="+", default=[8.0, 16.0, 16.0])
    arguments = parser.parse_args()
    model = AutoModelForCausalLM.from_pretrained(arguments.model)
    variant = make_outlier_variant(model, arguments.seed, arguments.factors)
    shutil.copytree(arguments.model, arguments.output, dirs_exist_ok=True)
    stored = load_file(arguments.model / "model.safetensors")
    weights = {name: tensor for name, tensor in variant.state_dict().items() if name in stored}
    save_file(weights, arguments.output / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((arguments.model / "config.json").read_text(encoding="utf-8"))
    config["laaciq_synthetic"] = variant.config.laaciq_synthetic
    (arguments.output / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    for name, parameter in variant.transformer.h.named_parameters():
        if parameter.ndim == 2:
            before = excess_kurtosis(model.transformer.h.get_parameter(name))
            print(f"{name:<40} excess kurtosis {before:8.2f} -> {excess_kurtosis(parameter):8.2f}")


if __name__ == "__main__":
    main()
