"""The whole way for models of the hub: assess, sweep, quantize, gate, export.

    python recipes/hub_models.py                       # the models, and what each takes, from `plan`
    python recipes/hub_models.py bloom-560m --calibration text/calibration --evaluation text/evaluation --output OUT
    python recipes/hub_models.py bloom-560m ... --dry-run          # the commands, to copy
    python recipes/hub_models.py bloom-560m ... --model DIR        # the same for a folder instead of the hub id

Texts are folders of `<language>.txt`. Every step is a command that can be run by itself; what is finished stays if a
later one fails. The gate may well fail: its exit code is that of this script.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

STEPS = ("assess", "sweep", "quantize", "gate", "export")
GROUP_SIZE = 128
LANGUAGES = 16
GATE_FAILED = 3


@dataclass(frozen=True, kw_only=True)
class HubModel:
    """A model of the hub.

    Parameters
    ----------
    hub_id : str
    model_type : str
        Of its configuration.
    dtype : str
        Of its weights on the hub.
    sizes : mapping
        What its configuration says; `plan` needs no more, so nothing has to be downloaded for it.
    """

    hub_id: str
    model_type: str
    dtype: str
    sizes: Mapping[str, Any] = field(repr=False)


MODELS = {
    "bloom-560m": HubModel(
        hub_id="bigscience/bloom-560m",
        model_type="bloom",
        dtype="float16",
        sizes={"hidden_size": 1024, "n_layer": 24, "n_head": 16, "vocab_size": 250880},
    ),
    "bloom-7b1": HubModel(
        hub_id="bigscience/bloom-7b1",
        model_type="bloom",
        dtype="float16",
        sizes={"hidden_size": 4096, "n_layer": 30, "n_head": 32, "vocab_size": 250880},
    ),
    "xglm-564m": HubModel(
        hub_id="facebook/xglm-564M",
        model_type="xglm",
        dtype="float16",
        sizes={"d_model": 1024, "num_layers": 24, "attention_heads": 16, "ffn_dim": 4096, "vocab_size": 256008},
    ),
    "qwen2.5-0.5b": HubModel(
        hub_id="Qwen/Qwen2.5-0.5B",
        model_type="qwen2",
        dtype="bfloat16",
        sizes={
            "hidden_size": 896,
            "num_hidden_layers": 24,
            "num_attention_heads": 14,
            "num_key_value_heads": 2,
            "intermediate_size": 4864,
            "vocab_size": 151936,
            "tie_word_embeddings": True,
        },
    ),
    "llama-3.2-1b": HubModel(
        hub_id="meta-llama/Llama-3.2-1B",
        model_type="llama",
        dtype="bfloat16",
        sizes={
            "hidden_size": 2048,
            "num_hidden_layers": 16,
            "num_attention_heads": 32,
            "num_key_value_heads": 8,
            "intermediate_size": 8192,
            "vocab_size": 128256,
            "tie_word_embeddings": True,
        },
    ),
    "mistral-7b": HubModel(
        hub_id="mistralai/Mistral-7B-v0.3",
        model_type="mistral",
        dtype="bfloat16",
        sizes={
            "hidden_size": 4096,
            "num_hidden_layers": 32,
            "num_attention_heads": 32,
            "num_key_value_heads": 8,
            "intermediate_size": 14336,
            "vocab_size": 32768,
        },
    ),
}


def main(arguments: list[str] | None = None) -> int:
    """Run the recipe; its exit code."""
    options = parser().parse_args(arguments)
    if options.name is None:
        print(table())
        return 0
    if not (options.calibration and options.evaluation and options.output):
        parser().error("--calibration, --evaluation and --output are needed")
    commands = commands_of(options)
    if options.dry_run:
        print("\n".join(shlex.join(command) for command in commands.values()))
        return 0
    options.output.mkdir(parents=True, exist_ok=True)
    configuration(options).write_text(yaml_of(options), encoding="utf-8")
    code = 0
    for step, command in commands.items():
        print(f"== {step}: {shlex.join(command)}", flush=True)
        done = subprocess.run(command, check=False).returncode
        if done and not (step == "gate" and done == GATE_FAILED):
            return done
        code = max(code, done)
    return code


def parser() -> argparse.ArgumentParser:
    """Options of the command line."""
    found = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    found.add_argument("name", nargs="?", choices=list(MODELS), help="without it, the list is printed")
    found.add_argument("--model", help="folder or id to take instead of the hub's")
    found.add_argument("--calibration", help="folder of <language>.txt")
    found.add_argument("--evaluation", help="folder of <language>.txt")
    found.add_argument("--output", type=Path, help="folder for everything")
    found.add_argument("--tokens", type=int, default=4096, help="of each language, to calibrate and to measure on")
    found.add_argument("--group-size", type=int, default=GROUP_SIZE)
    found.add_argument("--bits", default="3,4,8", help="that are swept")
    found.add_argument("--limit", default="5%", help="what a language may lose")
    found.add_argument("--steps", default=",".join(STEPS), help="which steps, with commas between them")
    found.add_argument("--dry-run", action="store_true", help="print the commands")
    return found


def configuration(options: argparse.Namespace) -> Path:
    """File that `quantize` and `export` read."""
    return Path(options.output) / "conf.yaml"


def yaml_of(options: argparse.Namespace) -> str:
    """Its content: 4 bits, solved for all languages, measured on other text."""
    return f"""quantization:
  approach: post_training_weight_only
  model_wise: {{weight: {{bits: 4, group_size: {options.group_size}, scheme: sym}}}}
tuning: {{strategy: {{name: la_aciq}}}}
la_aciq:
  mode: balanced
  calibration: {{texts: {_quoted(options.calibration)}, tokens_per_language: {options.tokens}}}
  evaluation: {{texts: {_quoted(options.evaluation)}, tokens_per_language: {options.tokens}}}
"""


def _quoted(path: str) -> str:
    """A path that means the same to yaml, whatever characters it has."""
    return json.dumps(str(Path(path).resolve()))


def commands_of(options: argparse.Namespace) -> dict[str, list[str]]:
    """The commands of the chosen steps, in their order."""
    chosen = options.steps.split(",")
    if unknown := set(chosen) - set(STEPS):
        raise SystemExit(f"no step is called {', '.join(sorted(unknown))}. There are {', '.join(STEPS)}.")
    model = options.model or MODELS[options.name].hub_id
    ours = [sys.executable, "-m", "inc_laaciq.cli"]
    optimum = [sys.executable, "-m", "optimum.commands.optimum_cli"]
    out, conf, tokens, size = options.output, str(configuration(options)), str(options.tokens), str(options.group_size)
    every = {
        "assess": [
            *ours, "assess", model, "--texts", options.calibration, "--group-size", size, "--limit", options.limit,
            "--tokens-per-language", tokens, "-o", f"{out}/risk.json", "--html", f"{out}/risk.html",
            "--config", f"{out}/recommended.yaml",
        ],
        "sweep": [
            *ours, "sweep", model, "--texts", options.evaluation, "--calibration", options.calibration,
            "--bits", options.bits, "--group-size", size, "--margin", options.limit, "--tokens-per-language", tokens,
            "--calibration-tokens", tokens, "-o", f"{out}/sweep.json", "--markdown", f"{out}/sweep.md",
        ],
        "quantize": [*ours, "quantize", conf, "--model", model, "--output", f"{out}/inc", "--overwrite"],
        "gate": [*ours, "gate", f"{out}/inc", "--max-degradation", options.limit, "--html", f"{out}/gate.html"],
        "export": [
            *optimum, "export", "openvino-laaciq", "-m", model, f"{out}/openvino", "--config", conf, "--overwrite",
        ],
    }  # fmt: skip
    return {step: command for step, command in every.items() if step in chosen}


def skeleton(model: HubModel) -> Any:
    """The model's architecture in its full size, without any weights."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(model.model_type, **model.sizes)
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config, dtype=getattr(torch, model.dtype))


def planned(model: HubModel) -> Any:
    """What 4 bits in mode `balanced` would take with 16 languages."""
    from inc_laaciq.calibration.layers import find_layers
    from inc_laaciq.config import WeightSpec
    from inc_laaciq.planning import module_bytes, plan_run

    module = skeleton(model)
    layers = find_layers(module, WeightSpec(bits=4, group_size=GROUP_SIZE))
    return plan_run(layers, module_bytes(module), LANGUAGES, "balanced")


def table() -> str:
    """Every model with its memory, disk and time."""
    lines = [f"4 bits, groups of {GROUP_SIZE}, mode balanced, {LANGUAGES} languages, on one core:"]
    for name, model in MODELS.items():
        plan = planned(model)
        lines.append(
            f"{name:14} {model.hub_id:28} memory {plan.memory_bytes / 1e9:6.1f} GB and the model itself, "
            f"disk {plan.disk_bytes / 1e9:5.1f} GB, solving {plan.solve_seconds / 60:6.0f} min"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
