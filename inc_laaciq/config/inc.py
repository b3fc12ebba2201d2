"""INC's sections beside `quantization:`: the model's label, the search, and all that has no effect on la_aciq."""

from __future__ import annotations

from dataclasses import dataclass

from inc_laaciq.config import checks
from inc_laaciq.config.section import Keys, Section
from inc_laaciq.config.specs import TuningSpec, check_seed
from inc_laaciq.errors import SpecError

STRATEGY = "la_aciq"

_OTHER_TASK = "it is not post-training quantization; run it apart from this file"

ROOT_KEYS = Keys(
    used=("model", "device", "quantization", "tuning", "evaluation", "strategy", "la_aciq"),
    ignored={
        "version": "every version of the schema is read in the same way",
        "use_bf16": "layers that are not quantized keep the model's own type",
    },
    refused={
        "pruning": _OTHER_TASK,
        "distillation": _OTHER_TASK,
        "nas": _OTHER_TASK,
        "train": _OTHER_TASK,
        "graph_optimization": _OTHER_TASK,
        "mixed_precision": _OTHER_TASK,
        "model_conversion": _OTHER_TASK,
        "benchmark": _OTHER_TASK,
    },
)
_MODEL_KEYS = Keys(
    used=("name", "framework"),
    ignored=dict.fromkeys(("inputs", "outputs"), "a PyTorch model knows its own"),
)
_OTHER_FRAMEWORKS = dict.fromkeys(
    (
        "tensorflow",
        "tensorflow_itex",
        "keras",
        "mxnet",
        "onnxrt_integer",
        "onnxrt_qlinear",
        "onnxrt_integerops",
        "onnxrt_qlinearops",
        "onnxruntime",
        "pytorch_ipex",
    ),
    "la_aciq quantizes PyTorch models; use pytorch",
)
_EVALUATION_KEYS = Keys(
    used=(),
    ignored=dict.fromkeys(("accuracy", "performance", "diagnosis"), "languages are evaluated on la_aciq.evaluation"),
)
_TUNING_KEYS = Keys(
    used=("strategy", "accuracy_criterion", "exit_policy", "random_seed"),
    ignored={
        "objective": "the gate's bounds come first, and the size is set by bits and group_size",
        "multi_objectives": "the gate judges every language by itself",
        "tensorboard": "the report shows every layer",
        "workspace": "the output folder holds all results",
        "diagnosis": "the report shows every layer",
    },
)
_SIGOPT = "it belongs to the strategy sigopt"
_STRATEGY_KEYS = Keys(
    used=("name",),
    ignored=dict.fromkeys(("accuracy_weight", "latency_weight"), "the gate judges"),
    refused={
        "sigopt_api_token": _SIGOPT,
        "sigopt_project_id": _SIGOPT,
        "sigopt_experiment_name": _SIGOPT,
        "confidence_batches": "it belongs to the strategies mse_v2 and hawq_v2",
        "hawq_v2_loss": "it belongs to the strategy hawq_v2",
    },
)
_CRITERION_KEYS = Keys(used=("relative", "absolute", "higher_is_better"))
_EXIT_KEYS = Keys(
    used=("timeout", "max_trials"),
    ignored={"performance_only": "the gate's bounds always count"},
)


def read_model_name(root: Section) -> str:
    """Label of the model; empty without one."""
    model = root.child("model", _MODEL_KEYS)
    framework = checks.word(("pytorch", "pytorch_fx"), refused=_OTHER_FRAMEWORKS)
    model.take("framework", framework, "pytorch")
    return model.take("name", checks.text, "")


def read_unused(root: Section) -> None:
    """Check the sections that have no effect, so that a mistake in them is told all the same."""
    device = checks.word(("cpu", "gpu", "npu", "xpu", "auto"))
    if root.take("device", device, "cpu") != "cpu":
        root.note("device", "has no effect here: the solver runs where the model's weights are.")
    root.child("evaluation", _EVALUATION_KEYS)


def read_tuning(root: Section) -> TuningSpec:
    """Read the strategy, wherever it is named, and the `tuning:` section.

    Raises
    ------
    SpecError
        If a strategy other than la_aciq is named, or about the first other thing that is wrong.
    """
    tuning = root.child("tuning", _TUNING_KEYS)
    places = [_strategy(section) for section in (root, tuning)]
    given = [place for place in places if place is not None]
    if len(given) == 2 and given[0].name != given[1].name:
        first, second = given
        raise first.section.conflict(first.key, second.section, second.key, "name one strategy")
    for place in given:
        place.section.take(place.key, checks.word((STRATEGY,), refused=_other_strategies()), STRATEGY)
    if not given:
        root.note("strategy", f"is not given: {STRATEGY} is taken.")
    _check_criterion(tuning)
    policy = tuning.child("exit_policy", _EXIT_KEYS)
    return TuningSpec(
        timeout=policy.take("timeout", checks.integer(0), TuningSpec.timeout),
        max_trials=policy.take("max_trials", checks.integer(1), TuningSpec.max_trials),
        random_seed=tuning.take("random_seed", check_seed, TuningSpec.random_seed),
    )


@dataclass(frozen=True, kw_only=True)
class _Strategy:
    """A strategy's name and where it stands."""

    section: Section
    key: str
    name: str


def _strategy(section: Section) -> _Strategy | None:
    """Name given by `strategy: NAME` or `strategy: {name: NAME}` in a section."""
    if "strategy" not in section:
        return None
    if isinstance(section.data["strategy"], str):
        return _Strategy(section=section, key="strategy", name=section.take("strategy", checks.text, ""))
    inner = section.child("strategy", _STRATEGY_KEYS, required=True)
    if "name" not in inner:
        raise section.error("strategy", f"has no name. Write strategy: {{name: {STRATEGY}}}.", with_value=False)
    return _Strategy(section=inner, key="name", name=inner.take("name", checks.text, ""))


def _other_strategies() -> dict[str, str]:
    names = (
        "basic",
        "auto",
        "auto_mixed_precision",
        "bayesian",
        "conservative",
        "exhaustive",
        "hawq_v2",
        "mse",
        "mse_v2",
    )
    return dict.fromkeys(
        (*names, "random", "sigopt", "tpe"), f"this package runs {STRATEGY}; use INC itself for others"
    )


def _check_criterion(tuning: Section) -> None:
    if "accuracy_criterion" not in tuning:
        return
    criterion = tuning.child("accuracy_criterion", _CRITERION_KEYS)
    if "relative" in criterion and "absolute" in criterion:
        raise criterion.conflict("relative", criterion, "absolute", "keep one of them")
    criterion.take("relative", lambda value: checks.fraction(_from_percent(value)), None)
    criterion.take("absolute", lambda value: checks.at_least_zero(_from_percent(value)), None)
    criterion.take("higher_is_better", checks.boolean, True)
    tuning.note("accuracy_criterion", "has no effect here: la_aciq.gate bounds every language.")


def _from_percent(value: object) -> object:
    """Turn INC's percent text, such as `1%`, into a number; other values pass as they are."""
    if not isinstance(value, str) or not value.endswith("%"):
        return value
    try:
        return float(value[:-1]) / 100
    except ValueError:
        raise SpecError("is not a number with a percent sign.") from None
