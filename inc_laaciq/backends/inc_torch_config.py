"""`LAACIQConfig`: LA-ACIQ's settings in the form that Neural Compressor's torch API takes.

A subclass of `RTNConfig`, because Neural Compressor saves and loads by the class of the configuration.  Annotations are
types here and not text, because its tuning reads them.
"""

import inspect
import re
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from typing_extensions import Self

from inc_laaciq.backends import inc_api
from inc_laaciq.backends.inc_limits import check_carried
from inc_laaciq.checkpoint.strict_json import parse_object
from inc_laaciq.config import FairSpec, LaaciqSpec, RunSpec, WeightSpec, checks, run_spec
from inc_laaciq.errors import SpecError

inc_api.require("torch")

from neural_compressor.common.base_config import BaseConfig, register_config  # noqa: E402 - after the clear error
from neural_compressor.torch.quantization import RTNConfig  # noqa: E402

ALGORITHM = "laaciq"

_GRID = ("dtype", "bits", "group_size", "use_sym")
_SETTINGS = (
    *("mode", "reconcile", "weights", "shares", "languages", "signed", "scaling", "damping", "refine", "fair"),
    *("lm_head", "nan"),
)
# What Neural Compressor adds to every dictionary of settings, and what it sets by itself.
_BOOKKEEPING = ("params_list", "non_tunable_params", "_is_initialized", "use_layer_wise", "model_path")
_ELSEWHERE = {
    "calibration": "calibration text is what the model is run on: give run_fn=inc_laaciq.calibrate(loader)",
    "evaluation": "evaluate the quantized model by inc_laaciq.LanguageCriterion, or run `inc-laaciq quantize`",
    "gate": "judge the quantized model by inc_laaciq.LanguageCriterion, or run `inc-laaciq quantize`",
    "range_reconcile": "it is for static INT8: run `inc-laaciq quantize`",
    "model": "the model is the first argument of quantize and prepare",
    "strict_lid": "it is for text that is read from files; give it to `inc-laaciq quantize`",
    "scheme": "write use_sym=True or use_sym=False",
}


@register_config(framework_name="torch", algo_name=ALGORITHM, priority=100)
class LAACIQConfig(RTNConfig):  # type: ignore[misc]
    """Language-aware weight-only quantization, for `prepare`, `convert` and `quantize` of Neural Compressor.

    Parameters
    ----------
    dtype : "int" or "fp32"
        "fp32" leaves layers in float, in `set_local`.
    bits : int
        2 to 8.
    use_sym : bool
        Symmetric codes; with 8 bits Neural Compressor carries no others.
    group_size : int
        Weights that share a scale; -1 = a whole output channel.
    mode, reconcile, weights, shares, languages, signed, scaling, damping, refine, fair, lm_head, nan
        As in the `la_aciq:` section of a yaml file, with its defaults (see `yaml/annotated.yaml`).  They hold for the
        whole model; only `dtype`, `bits`, `use_sym` and `group_size` can be set for single layers.
    white_list : "*", list or None
        As for every configuration of Neural Compressor: names or types of modules to quantize.
    **kwargs
        What `to_dict` adds.  Settings of `RTNConfig` that have no meaning here are refused.

    Raises
    ------
    SpecError
        If a setting is unknown or wrong.

    Notes
    -----
    A list in the place of a value makes one configuration of each, in Neural Compressor's `autotune` only.
    """

    name = ALGORITHM

    def __init__(
        self,
        dtype: str = "int",
        bits: int = WeightSpec.bits,
        use_sym: bool = True,
        group_size: int = WeightSpec.group_size,
        mode: str = LaaciqSpec.mode,
        reconcile: str = LaaciqSpec.reconcile,
        weights: dict[str, float] | None = None,
        shares: dict[str, float] | None = None,
        languages: list[str] | None = None,
        signed: bool = LaaciqSpec.signed,
        scaling: bool = LaaciqSpec.scaling,
        damping: float = LaaciqSpec.damping,
        refine: int = LaaciqSpec.refine,
        fair: dict[str, Any] | None = None,
        lm_head: bool = LaaciqSpec.lm_head,
        nan: str = LaaciqSpec.nan,
        white_list: str | list[Any] | None = "*",
        **kwargs: Any,
    ) -> None:
        _check_unknown(kwargs)
        self.mode, self.reconcile = mode, reconcile
        self.weights, self.shares = weights, shares
        self.languages = None if languages is None else list(languages)
        self.signed, self.scaling = signed, scaling
        self.damping, self.refine, self.fair = damping, refine, fair
        self.lm_head, self.nan = lm_head or kwargs.get("quant_lm_head", False), nan
        super().__init__(
            dtype=dtype,
            bits=bits,
            use_sym=use_sym,
            group_size=group_size,
            quant_lm_head=self.lm_head,
            white_list=white_list,
            **{key: kwargs[key] for key in ("use_layer_wise", "model_path") if key in kwargs},
        )
        self._check()

    def _check(self) -> None:
        """Refuse wrong values now; of lists, in the configurations that tuning makes of them."""
        if self.dtype not in ("int", "fp32"):
            raise SpecError(f"dtype={self.dtype!r}: LA-ACIQ solves integer grids. Use 'int', or 'fp32' for float")
        values = [getattr(self, key) for key in (*_GRID, *_SETTINGS) if key != "languages"]
        if not any(isinstance(value, list) for value in values):
            self._run_spec()

    def settings(self) -> LaaciqSpec:
        """What holds for the whole model, as the rest of this package takes it."""
        return replace(self._run_spec().la_aciq, calibration=None, signed=self.signed, scaling=self.scaling)

    def weight_spec(self) -> WeightSpec | None:
        """The grid; None for float."""
        return None if self.dtype == "fp32" else self._run_spec().weight

    def _run_spec(self) -> RunSpec:
        given = {key: getattr(self, key) for key in _SETTINGS}
        settings = {key: value for key, value in given.items() if value is not None}
        if not isinstance(self.use_sym, bool):
            raise SpecError(f"use_sym={self.use_sym!r} must be true or false")
        scheme = "sym" if self.use_sym else "asym"
        # The reader refuses these two where they have no effect; here they are always there.
        checks.check_fields(self, signed=checks.boolean, scaling=checks.boolean)
        del settings["signed"], settings["scaling"]
        return run_spec(
            quantization={
                "model_wise": {"weight": {"bits": self.bits, "group_size": self.group_size, "scheme": scheme}}
            },
            # What is calibrated on comes by run_fn; the reader refuses settings by language where there is no text.
            la_aciq={**settings, "calibration": {"texts": "run_fn"}},
        )

    def for_layer(self, grid: WeightSpec | None) -> Self:
        """The same settings with another grid, None for float; it has no exceptions for single layers."""
        changed = {"dtype": "fp32"} if grid is None else _grid_arguments(grid)
        settings = {key: getattr(self, key) for key in (*_GRID, *_SETTINGS)}
        return type(self)(**{**settings, **changed}, white_list=None)

    def to_config_mapping(
        self, config_list: Any = None, model_info: Sequence[tuple[str, str]] = ()
    ) -> "OrderedDict[Any, Any]":
        """One configuration for each layer that the model has.

        Parameters
        ----------
        config_list : None
            Of Neural Compressor's signature.
        model_info : sequence of (name, type)

        Raises
        ------
        SpecError
            If an exception names no layer, belongs to another algorithm, or has settings that hold for whole models.
        """
        if unused := [key for key in self.local_config if not any(_names(key, *op) for op in model_info)]:
            known = ", ".join(name for name, _ in model_info[:3])
            raise SpecError(
                f"set_local({unused[0]!r}, ...) names no layer of the model. Layers are called {known}, ..."
            )
        types = [key for key in self.local_config if not isinstance(key, str)]
        ordered = [*types, *(key for key in self.local_config if isinstance(key, str))]
        grids = {key: self._grid_of(key) for key in ordered}
        default = [self.weight_spec()] if self.global_config is not None else []
        # One configuration for all layers of a grid.
        configs: dict[WeightSpec | None, Self] = {}
        mapping: OrderedDict[Any, Any] = OrderedDict()
        for op in model_info:
            for grid in [*default, *(grids[key] for key in ordered if _names(key, *op))][-1:]:
                if grid is not None:
                    check_carried(op[0], grid)
                mapping[op] = configs.setdefault(grid, self.for_layer(grid))
        return mapping

    def _grid_of(self, key: Any) -> WeightSpec | None:
        """The grid of an exception."""
        config = self.local_config[key]
        if getattr(config, "dtype", None) == "fp32":
            return None
        if not isinstance(config, LAACIQConfig):
            raise SpecError(
                f"set_local({key!r}, {type(config).__name__}(...)): another algorithm cannot take part in LA-ACIQ. "
                "Give a LAACIQConfig, or one with dtype='fp32'"
            )
        own = inspect.signature(LAACIQConfig.__init__).parameters
        for name in _SETTINGS:
            value = getattr(config, name)
            if value not in (own[name].default, getattr(self, name)):
                raise SpecError(
                    f"set_local({key!r}, LAACIQConfig({name}={value!r})): {name} holds for the whole model. Give it to "
                    "the configuration itself"
                )
        return config.weight_spec()

    def _get_op_name_op_type_config(self) -> Any:
        """Only `ComposableConfig` calls it: it would take the exceptions for single layers and nothing else."""
        raise _no_sum()

    def __add__(self, other: BaseConfig) -> BaseConfig:
        if isinstance(other, LAACIQConfig):
            return super().__add__(other)
        raise _no_sum()

    def __radd__(self, other: BaseConfig) -> BaseConfig:
        raise _no_sum()

    @classmethod
    def from_json_file(cls, filename: str | Path) -> Self:
        """Read what `to_json_file` wrote.

        Raises
        ------
        IntegrityError
            If it is not JSON.
        """
        found: Self = cls.from_dict(parse_object(Path(filename).read_bytes(), where=str(filename), floats=True))
        return found

    @classmethod
    def from_run(cls, run: RunSpec) -> Self:
        """The weight-only settings of a yaml file.

        Raises
        ------
        SpecError
            If its approach is another one.
        """
        if run.approach != "post_training_weight_only":
            raise SpecError(
                f"quantization.approach: {run.approach} has no LAACIQConfig, which is for weights only. Run it by "
                "`inc-laaciq quantize`"
            )
        settings = run.la_aciq
        config = cls(
            **_grid_arguments(run.weight),
            mode=settings.mode,
            reconcile=settings.reconcile,
            weights=dict(settings.weights) or None,
            shares=None if settings.shares is None else dict(settings.shares),
            languages=None if settings.languages is None else list(settings.languages),
            signed=settings.signed,
            scaling=settings.scaling,
            damping=settings.damping,
            refine=settings.refine,
            fair=_given(settings.fair) if settings.mode == "fair" else None,
            lm_head=settings.lm_head,
            nan=settings.nan,
        )
        for rule in run.rules:
            # Neural Compressor's patterns need to match only the beginning of a name here; those of a yaml all of it.
            config.set_local(rf"(?:{rule.pattern})\Z", config.for_layer(rule.weight))
        return config

    @classmethod
    def get_config_set_for_tuning(cls) -> "LAACIQConfig":
        """What Neural Compressor's `autotune` tries if it is told nothing."""
        return cls(bits=[3, 4, 8])  # type: ignore[arg-type]


def _given(fair: FairSpec) -> dict[str, Any]:
    """Settings of mode `fair`; what is left to the default is not among them."""
    return {name: value for name, value in asdict(fair).items() if value is not None}


def _grid_arguments(grid: WeightSpec) -> dict[str, Any]:
    return {"dtype": "int", "bits": grid.bits, "group_size": grid.group_size, "use_sym": grid.scheme == "sym"}


def _names(key: Any, name: str, kind: str) -> bool:
    """Whether Neural Compressor's key of an exception, a pattern or a class, is meant for a layer."""
    return re.match(key, name) is not None if isinstance(key, str) else key.__name__ == kind


def _check_unknown(given: Mapping[str, Any]) -> None:
    stock = inspect.signature(RTNConfig.__init__).parameters
    known = (*_GRID, *_SETTINGS, "white_list")
    for key, value in given.items():
        if key in _ELSEWHERE:
            raise SpecError(f"LAACIQConfig has no setting {key!r}: {_ELSEWHERE[key]}")
        if key in (*_BOOKKEEPING, "quant_lm_head") or (key in stock and value == stock[key].default):
            continue
        if key in stock:
            raise SpecError(f"LAACIQConfig: {key}={value!r} is a setting of RTNConfig that has no meaning here")
        hint = checks.did_you_mean(key, known)
        raise SpecError(f"LAACIQConfig has no setting {key!r}.{hint} Settings: {', '.join(sorted(known))}")


def _no_sum() -> SpecError:
    return SpecError(
        "LAACIQConfig cannot be added to a configuration of another algorithm: Neural Compressor would quantize "
        "nothing, without a word. Quantize one model by one algorithm"
    )
