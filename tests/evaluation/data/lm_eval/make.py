"""Make the two runs in this folder with lm-evaluation-harness 0.4.13: `python make.py`; see README.md."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

HERE = Path(__file__).parent
TEXT = {
    "swh_Latn": (
        "paka alikaa kwenye mkeka",
        "mbwa alikaa juu ya paka",
        "paka mmoja na mbwa wawili",
        "mkeka ni wa paka",
        "mbwa hana mkeka",
        "paka alilala",
        "watoto wanacheza na mbwa",
        "mvua ilinyesha usiku",
    ),
    "eng_Latn": (
        "the cat sat on the mat",
        "the dog sat on the cat",
        "one cat and two dogs",
        "the mat is the cat's",
        "the dog has no mat",
        "the cat slept",
        "children play with the dog",
        "it rained at night",
    ),
}
KINDS = {
    "tinyqa": """
output_type: multiple_choice
doc_to_text: '{{start}}'
doc_to_choice: '{{choices}}'
doc_to_target: '{{answer}}'
metric_list:
- {metric: acc, aggregation: mean, higher_is_better: true}
- {metric: acc_norm, aggregation: mean, higher_is_better: true}
""",
    "tinytext": """
output_type: loglikelihood_rolling
doc_to_text: ''
doc_to_target: '{{text}}'
metric_list:
- {metric: word_perplexity}
- {metric: byte_perplexity}
- {metric: bits_per_byte}
""",
    "tinygen": """
output_type: generate_until
doc_to_text: '{{start}}'
doc_to_target: '{{number}}'
generation_kwargs: {until: ['.'], max_gen_toks: 6, do_sample: false}
metric_list:
- {metric: exact_match, aggregation: mean, higher_is_better: true}
- {metric: chrf, aggregation: chrf, higher_is_better: true}
filter_list:
- name: strict-match
  filter: [{function: regex, regex_pattern: '^([0-9]+)$'}, {function: take_first}]
- name: flexible-extract
  filter: [{function: regex, regex_pattern: '([0-9])'}, {function: take_first}]
""",
}
GROUP = """
group: tinyqa
task: [tinyqa_swh_Latn, tinyqa_eng_Latn]
aggregate_metric_list: [{metric: acc, weight_by_size: true}]
metadata: {version: 1.0}
"""


def make_models(folder: Path) -> None:
    """A tiny seeded transformer, and the same with three values a weight."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=["<s>", "</s>"], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator([line for lines in TEXT.values() for line in lines], trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="</s>")
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(fast), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=256, bos_token_id=0, eos_token_id=1, pad_token_id=1, initializer_range=0.3,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    for name in ("tiny-float", "tiny-ternary"):
        if name == "tiny-ternary":
            with torch.no_grad():
                for weight in model.parameters():
                    if weight.dim() == 2:
                        scale = weight.abs().amax(1, keepdim=True) / 1.5
                        weight.copy_((weight / scale).round().clamp(-1, 1) * scale)
        model.save_pretrained(folder / name)
        fast.save_pretrained(folder / name)


def make_tasks(folder: Path) -> None:
    """A yaml file for each task, a group, and the documents."""
    folder.mkdir()
    (folder / "tinyqa.yaml").write_text(GROUP)
    for tag, lines in TEXT.items():
        ends = [line.rsplit(" ", 1)[1] for line in lines]
        documents = [
            {
                "text": line,
                "start": line.rsplit(" ", 1)[0],
                "choices": [ends[number], ends[number - 1]],
                "answer": 0,
                "number": number,
            }
            for number, line in enumerate(lines)
        ]
        data = folder / f"{tag}.jsonl"
        data.write_text("".join(json.dumps(document) + "\n" for document in documents))
        source = f"dataset_path: json\ndataset_kwargs: {{data_files: {{test: {data}}}}}\ntest_split: test\n"
        for kind, yaml in KINDS.items():
            (folder / f"{kind}_{tag}.yaml").write_text(
                f"task: {kind}_{tag}\n{yaml.strip()}\n{source}metadata: {{version: 1.0}}\n"
            )


def run(folder: Path, model: str) -> None:
    """One evaluation, copied here without the paths and the description of the machine."""
    names = ["tinyqa", *(f"{kind}_{tag}" for kind in ("tinytext", "tinygen") for tag in TEXT)]
    command = [
        sys.executable, "-m", "lm_eval", "run", "--model", "hf", "--device", "cpu", "--batch_size", "4",
        "--model_args", f"pretrained={folder}/models/{model},dtype=float32", "--tasks", ",".join(names),
        "--include_path", str(folder / "tasks"), "--output_path", str(folder / "out" / model), "--log_samples",
    ]  # fmt: skip
    offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    subprocess.run(command, check=True, cwd=folder, env=os.environ | offline)
    shutil.rmtree(HERE / model, ignore_errors=True)
    (HERE / model).mkdir()
    sanitized = re.sub(r"/+", "__", f"{folder}/")
    for file in (folder / "out" / model).glob("*/*"):
        text = file.read_text(encoding="utf-8").replace(f"{folder}/", "").replace(sanitized, "")
        if file.suffix == ".json":
            content = json.loads(text)
            content["pretty_env_info"] = ""
            text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
        (HERE / model / file.name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        make_models(work / "models")
        make_tasks(work / "tasks")
        for model in ("tiny-float", "tiny-ternary"):
            run(work, model)
