"""Rows 5 and 10 of the table of faults in INC's own sections: used, without effect and noted, or refused."""

from __future__ import annotations

import pytest
from conftest import Read, Refused

from inc_laaciq.config import TuningSpec

# INC's template for post-training quantization, as far as it concerns a PyTorch model.
INC_TEMPLATE = """
version: 1.0
model:
  name: bert
  framework: pytorch_fx
  inputs: image_tensor
  outputs: [a, b]
device: cpu
quantization:
  approach: post_training_static_quant
  recipes:
    scale_propagation_max_pooling: True
    scale_propagation_concat: True
    first_conv_or_matmul_quantization: True
    smooth_quant: False
  calibration:
    sampling_size: 1000, 2000
    dataloader:
      dataset: {TFRecordDataset: {root: /path/to/tf_record}}
  model_wise:
    weight: {granularity: per_channel, scheme: sym, dtype: int8, algorithm: minmax}
    activation: {granularity: per_tensor, scheme: asym, dtype: uint8, algorithm: minmax}
  op_wise:
    conv2: {activation: {dtype: ['fp32']}, weight: {dtype: ['fp32']}}
evaluation:
  accuracy:
    metric: {topk: 1}
  performance: {warmup: 10}
tuning:
  strategy: {name: la_aciq, accuracy_weight: 1.0}
  accuracy_criterion: {relative: 0.01}
  objective: performance
  exit_policy: {timeout: 60, max_trials: 600, performance_only: False}
  random_seed: 9527
  tensorboard: True
  workspace: {path: /path/to/saving/directory}
"""

WITHOUT_EFFECT = (
    "version",
    "model.inputs",
    "model.outputs",
    "quantization.recipes.scale_propagation_max_pooling",
    "quantization.recipes.scale_propagation_concat",
    "quantization.recipes.first_conv_or_matmul_quantization",
    "quantization.calibration.sampling_size",
    "quantization.calibration.dataloader",
    "quantization.model_wise.weight.algorithm",
    "evaluation.accuracy",
    "evaluation.performance",
    "tuning.strategy.accuracy_weight",
    "tuning.accuracy_criterion",
    "tuning.objective",
    "tuning.exit_policy.performance_only",
    "tuning.tensorboard",
    "tuning.workspace",
)


def test_inc_template_loads_and_says_what_has_no_effect(read: Read) -> None:
    spec = read(INC_TEMPLATE)
    assert (spec.name, spec.model, spec.approach) == ("bert", None, "post_training_static_quant")
    assert spec.activation.algorithm == "minmax"
    assert spec.tuning == TuningSpec(timeout=60, max_trials=600, random_seed=9527)
    assert [rule.weight for rule in spec.rules] == [None]
    noted = [note.split(": ", 1)[1].split(" ")[0] for note in spec.notes]
    assert sorted(noted) == sorted(WITHOUT_EFFECT)
    assert all(" has no effect here: " in note for note in spec.notes)
    lines = [int(note.split("conf.yaml:")[1].split(":")[0]) for note in spec.notes]
    assert lines == sorted(lines)


def test_old_example_of_inc_loads(read: Read) -> None:
    spec = read("""
model: {name: bert, framework: pytorch}
quantization: {approach: post_training_static_quant}
tuning: {accuracy_criterion: {relative: 0.01}, exit_policy: {timeout: 0, max_trials: 600}, random_seed: 9527}
""")
    assert spec.tuning.max_trials == 600
    assert any("strategy is not given: la_aciq is taken" in note for note in spec.notes)


@pytest.mark.parametrize(
    "text",
    [
        "strategy: la_aciq",
        "strategy: {name: la_aciq}",
        "tuning: {strategy: la_aciq}",
        "tuning: {strategy: {name: la_aciq}}",
        "{strategy: la_aciq, tuning: {strategy: {name: la_aciq}}}",
    ],
)
def test_strategy_can_stand_in_four_places(read: Read, text: str) -> None:
    assert not any("strategy" in note for note in read(text).notes)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("strategy: basic", "conf.yaml:1: strategy='basic' is not possible here: this package runs la_aciq"),
        (
            "strategy: la_acid",
            "conf.yaml:1: strategy='la_acid' is not known. Did you mean 'la_aciq'? Allowed: la_aciq.",
        ),
        ("tuning:\n  strategy:\n    name: mse_v2", "conf.yaml:3: tuning.strategy.name='mse_v2' is not possible here"),
        ("tuning:\n  strategy: {}", "conf.yaml:2: tuning.strategy has no name."),
        ("tuning:\n  strategy:", "conf.yaml:2: tuning.strategy=None must be a mapping"),
        ("strategy: [la_aciq]", "conf.yaml:1: strategy=['la_aciq'] must be a mapping"),
        ("strategy: ''", "conf.yaml:1: strategy='' is empty"),
        (
            "strategy: la_aciq\ntuning:\n  strategy:\n    name: basic\n",
            "conf.yaml:1: strategy='la_aciq' contradicts line 4: tuning.strategy.name='basic': name one strategy.",
        ),
    ],
)
def test_other_strategy_is_refused(refused: Refused, text: str, reason: str) -> None:
    assert refused(text).startswith(reason)


def test_token_of_another_strategy_is_refused_without_repeating_it(refused: Refused) -> None:
    message = refused("tuning: {strategy: {name: la_aciq, sigopt_api_token: secret-token}}")
    assert "sigopt_api_token is refused" in message
    assert "secret-token" not in message


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("pruning: {}", "pruning is refused: it is not post-training quantization"),
        ("distillation: {}", "distillation is refused"),
        ("graph_optimization: {}", "graph_optimization is refused"),
        ("quantization: {train: {}}", "quantization.train is refused: la_aciq quantizes after training"),
        ("quantization: {approach: quant_aware_training}", "approach='quant_aware_training' is not possible here"),
        (
            "quantization: {approach: post_training_dynamic_quant}",
            "is not possible here: ranges of dynamic activations",
        ),
        ("quantization: {approach: weights}", "approach='weights' is not known."),
        ("quantization: {approach: [weight_only]}", "approach=['weight_only'] is not known."),
        ("quantization: {recipes: {smooth_quant: true}}", "recipes.smooth_quant=True is not possible here"),
        ("quantization: {recipes: {gptq_args: {}}}", "recipes.gptq_args is refused"),
        (
            "model: {framework: tensorflow}",
            "model.framework='tensorflow' is not possible here: la_aciq quantizes PyTorch",
        ),
        ("model: {framework: torch}", "model.framework='torch' is not known. Did you mean 'pytorch'?"),
        ("model: {name: 7}", "model.name=7 is a whole number, not text"),
        ("model: bert", "model='bert' must be a mapping"),
        ("device: tpu", "device='tpu' is not known."),
    ],
)
def test_other_tasks_and_frameworks_are_refused(refused: Refused, text: str, reason: str) -> None:
    message = refused(text)
    assert message.startswith("conf.yaml:1: ")
    assert reason in message


@pytest.mark.parametrize(
    ("text", "path", "hint"),
    [
        ("quantisation: {}", "quantisation", "at the top. Did you mean 'quantization'?"),
        ("quantization: {modelwise: {}}", "quantization.modelwise", "in quantization. Did you mean 'model_wise'?"),
        ("quantization: {recipes: {fast: true}}", "quantization.recipes.fast", "in quantization.recipes."),
        ("quantization: {calibration: {size: 1}}", "quantization.calibration.size", "in quantization.calibration."),
        ("model: {nam: x}", "model.nam", "in model. Did you mean 'name'?"),
        ("tuning: {exit_polcy: {}}", "tuning.exit_polcy", "in tuning. Did you mean 'exit_policy'?"),
        ("tuning: {exit_policy: {trials: 3}}", "tuning.exit_policy.trials", "Did you mean 'max_trials'?"),
        ("tuning: {accuracy_criterion: {relativ: 1}}", "tuning.accuracy_criterion.relativ", "Did you mean 'relative'?"),
        ("evaluation: {acuracy: {}}", "evaluation.acuracy", "in evaluation. Did you mean 'accuracy'?"),
    ],
)
def test_row_05_unknown_key_of_inc(refused: Refused, text: str, path: str, hint: str) -> None:
    message = refused(text)
    assert message.startswith(f"conf.yaml:1: {path} is not a known key ")
    assert hint in message


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("accuracy_criterion: {relative: 1.5}", "accuracy_criterion.relative=1.5 is not a fraction. Allowed: 0 to 1."),
        ("accuracy_criterion: {relative: -0.1}", "relative=-0.1 is not a fraction"),
        ("accuracy_criterion: {relative: .nan}", "relative=nan is not a finite number"),
        ("accuracy_criterion: {relative: 150%}", "relative='150%' is not a fraction"),
        ("accuracy_criterion: {relative: one%}", "relative='one%' is not a number with a percent sign"),
        ("accuracy_criterion: {absolute: -1}", "absolute=-1 is negative"),
        (
            "accuracy_criterion: {relative: 0.1, absolute: 1}",
            "relative=0.1 contradicts line 1: tuning.accuracy_criterion",
        ),
        ("accuracy_criterion: {higher_is_better: yes}", "higher_is_better='yes' is not read as a boolean here"),
        ("exit_policy: {timeout: -1}", "timeout=-1 is out of range. Allowed: 0 or more."),
        ("exit_policy: {max_trials: 0}", "max_trials=0 is out of range. Allowed: 1 or more."),
        ("random_seed: 1.0", "random_seed=1.0 is a decimal number, not a whole number"),
    ],
)
def test_row_10_wrong_number_of_inc(refused: Refused, text: str, reason: str) -> None:
    assert reason in refused(f"tuning: {{{text}}}")


@pytest.mark.parametrize("relative", ["0.01", "1%", "0", "1"])
def test_accuracy_criterion_is_noted(read: Read, relative: str) -> None:
    notes = read(f"tuning: {{accuracy_criterion: {{relative: {relative}}}}}").notes
    assert any("accuracy_criterion has no effect here: la_aciq.gate bounds every language." in note for note in notes)


def test_other_device_is_noted(read: Read) -> None:
    assert any("device has no effect here" in note for note in read("device: gpu").notes)


def test_approach_that_is_not_given_is_noted(read: Read) -> None:
    spec = read("strategy: la_aciq")
    assert spec.approach == "post_training_weight_only"
    assert spec.notes == (
        "quantization.approach is not given: post_training_weight_only is taken "
        "(INC's own default is post_training_static_quant).",
    )


def test_least_search_that_is_possible(read: Read) -> None:
    spec = read("tuning: {random_seed: 0, exit_policy: {timeout: 0, max_trials: 1}}")
    assert spec.tuning == TuningSpec(timeout=0, max_trials=1, random_seed=0)


def test_empty_sections_are_as_good_as_none(read: Read) -> None:
    text = (
        "model:\nquantization:\n  recipes:\n  op_wise:\n  model_wise:\n    weight:\ntuning:\n  exit_policy:\nla_aciq:\n"
    )
    assert read(text) == read("strategy: la_aciq")
