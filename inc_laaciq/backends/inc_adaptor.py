"""The strategy `la_aciq` for Intel Neural Compressor's adaptor API (neural-compressor 2.6 to 3.7).

The strategy asks Neural Compressor for its tuning configuration, has the layers solved as that says, and hands the
solution to an adaptor that carries the codes unchanged.  The solution is a pure function of the configuration and the
float model: Neural Compressor may quantize the best configuration once more at the end and must get the same model.
"""

from __future__ import annotations

import copy
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from neural_compressor.adaptor.pytorch import PyTorch_FXAdaptor, PyTorchWeightOnlyAdaptor
from neural_compressor.strategy.strategy import STRATEGIES, TuneStrategy
from neural_compressor.strategy.utils.utility import quant_options

from inc_laaciq.backends.inc_inputs import criterion_of, loader_of, run_of
from inc_laaciq.backends.inc_ops import STATIC_WEIGHT, check_agreement, rules_of
from inc_laaciq.backends.inc_registration import STRATEGY
from inc_laaciq.backends.inc_static import LaAciqStaticAdaptor, plain_name
from inc_laaciq.backends.inc_weight_only import LaAciqWeightOnlyAdaptor
from inc_laaciq.calibration.layers import find_layers, linearize
from inc_laaciq.calibration.loader import LanguageLoader
from inc_laaciq.calibration.prepare import check_weights
from inc_laaciq.config import RunSpec, WeightSpec
from inc_laaciq.errors import BackendError, DataError, EvaluationError, LaaciqError, SpecError
from inc_laaciq.layerwise import Solution
from inc_laaciq.tuning.criterion import LanguageCriterion
from inc_laaciq.tuning.search import Trial, search
from inc_laaciq.tuning.solving import Solver

logger = logging.getLogger(__name__)

_BITS, _DTYPE = ("weight", "bits"), ("weight", "dtype")

# Neural Compressor's own codes for its global `quant_options.quant_type`, which it sets but never resets.
_WEIGHT_ONLY, _STATIC = 3, 1


class LaAciqSearch:
    """What the strategy does in `quantization.fit` and in the older `experimental.Quantization` alike.

    The rest of it comes from the base class that each of the two has for strategies; `_begin` is to be called first.
    """

    adaptor: Any
    baseline: Any
    calib_dataloader: Any
    model: Any
    q_func: Any
    tune_result_record: Any
    tuning_space: Any

    def _begin(
        self,
        run: RunSpec,
        *,
        mode_is_given: bool,
        timeout: int,
        criterion: str,
        languages: LanguageCriterion | None = None,
        keep_best: bool = False,
    ) -> None:
        self._failure: BaseException | None = None
        self._languages = languages
        self._keep_best = keep_best
        self._solutions: dict[int, Solution] = {}
        self._configs: dict[int, dict[Any, Any]] = {}
        self._found: Any = None
        self._run = run
        self._settings = run.la_aciq
        self._mode_is_given = mode_is_given
        self._timeout = timeout
        self._started = time.monotonic()  # before Neural Compressor's clock, or its interrupt would look like a user's
        self._criterion = criterion

    def _own_adaptor(self) -> Any:
        _, info = self._set_framework_info(self.calib_dataloader, self.q_func)  # type: ignore[attr-defined]
        if type(self.adaptor) is PyTorchWeightOnlyAdaptor:
            return LaAciqWeightOnlyAdaptor(info)
        if type(self.adaptor) is PyTorch_FXAdaptor:
            return LaAciqStaticAdaptor(info)
        raise BackendError(
            f"strategy 'la_aciq' has no adaptor for {type(self.adaptor).__name__}: it quantizes PyTorch models with "
            "approach 'weight_only' or 'static'"
        )

    def next_tune_cfg(self) -> Any:
        """Configurations to try: Neural Compressor's own, with the solution for it at hand.

        Without a criterion by language there is one; with it the search goes on until the gate passes.
        """
        _, _, ops = self.initial_tuning_cfg()  # type: ignore[attr-defined]
        batches, progress = self._batches()
        settings = self._settings
        if not batches and settings.mode == "balanced" and not self._mode_is_given:
            logger.warning("no calibration text was given: mode 'fast' is used, which needs none")
            settings = replace(settings, mode="fast")
        loader = self.calib_dataloader if batches else None
        weight, rules = WeightSpec(), rules_of(ops, self.model.model)
        if self._is_static:
            # torch's INT8 kernels take positive scales only, and read a range for every input.
            settings = replace(settings, signed=False)
            self._check_static(batches)
            # Neural Compressor's pattern `q_proj` does not match the lone layer that it calls `q_proj.module`.
            weight, rules = STATIC_WEIGHT, [*self._run.rules, *(rule for rule in rules if rule.weight is None)]
        model = self.model.model
        layers = find_layers(model, weight, rules, lm_head=settings.lm_head)
        check_agreement(layers, ops, self._run.rules)

        solver = Solver(
            model=model,
            loader=loader,
            activation=self._run.activation if self._is_static else None,
            progress=progress,
        )
        if self._languages is not None:
            self._languages.require(batches or ())
        if self._languages is None:
            trials: Iterable[Trial] = [
                Trial(number=0, description="", settings=settings, solution=solver.solve(layers, settings, None))
            ]
        else:
            trials = search(
                layers,
                settings,
                solver.solve,
                self._languages,
                solver.measure if batches else None,
                bits_can_rise=not self._is_static,
            )
        # All batches: the number that Neural Compressor has would end its own calibration after the first languages.
        samples = len(loader) * loader.batch_size if loader is not None else 1
        for trial in trials:
            config = self._config(ops, trial)
            config["calib_sampling_size"] = samples
            self._remember(trial, config)
            yield config

    def _check_static(self, batches: Any) -> None:
        if not batches:
            raise SpecError("static INT8 needs calibration text: give la_aciq.calibration.texts or calib_dataloader")
        if self.q_func is not None:
            raise SpecError(
                "calib_func is not possible with strategy 'la_aciq' and static INT8: Neural Compressor would take "
                "its own ranges in place of the solved ones. Give calib_dataloader instead"
            )

    def _config(self, ops: Mapping[Any, Any], trial: Trial) -> dict[Any, Any]:
        """Neural Compressor's tuning configuration for a trial."""
        weights = trial.solution.weights
        config: dict[Any, Any] = {}
        for key, op in ops.items():
            name = plain_name(op.op_name)
            if name not in weights:
                config[key] = type(op)(*key, "fp32", self.tuning_space)
            elif not self._is_static and op.kwargs.get(_BITS) != weights[name].grid.bits:
                config[key] = copy.copy(op)
                # Its `int4` and `int8` would set the bits back.
                config[key].weight_dtype = "int"
                config[key].kwargs = {**op.kwargs, _BITS: weights[name].grid.bits, _DTYPE: "int"}
            else:
                config[key] = op
        config[STRATEGY] = {"mode": trial.settings.mode, "reconcile": trial.settings.reconcile}
        if trial.number:
            config[STRATEGY]["trial"] = trial.number
        return config

    def _remember(self, trial: Trial, config: dict[Any, Any]) -> None:
        """Keep what is needed to quantize this trial, and the best one so far, once more."""
        kept = {trial.number}
        if self._languages is not None:
            self._languages.note(trial.number, trial.description, trial.settings, trial.solution.invalid)
            if self._languages.documents:
                kept.add(self._languages.best())
        self._solutions[trial.number], self._configs[trial.number] = trial.solution, config
        for known in (self._solutions, self._configs):
            for number in [number for number in known if number not in kept]:
                del known[number]
        self.adaptor.solutions = self._solutions
        if self._is_static:
            self.adaptor.algorithm = self._run.activation.algorithm

    @property
    def _is_static(self) -> bool:
        return isinstance(self.adaptor, LaAciqStaticAdaptor)

    def _batches(self) -> tuple[Mapping[str, Any] | None, Callable[[str, int, int], None] | None]:
        loader = self.calib_dataloader
        if isinstance(loader, LanguageLoader):
            if self._settings.languages is not None:
                # Neural Compressor's own calibration runs on it too, here and below.
                self.calib_dataloader = loader = _only_listed(loader, self._settings.languages)
            check_weights(self._settings, loader.batches)
            return loader.batches, loader.progress
        if loader is not None:
            raise SpecError(
                f"calib_dataloader is a {type(loader).__name__}, which does not say what language a batch is in. "
                "Give an inc_laaciq.LanguageLoader, for example from inc_laaciq.language_loader(tokenizer, texts)"
            )
        if self._settings.calibration is None:
            return None, None
        self.calib_dataloader = loader_of(self._run, self.model.model)
        return self.calib_dataloader.batches, None

    def traverse(self) -> None:
        """Neural Compressor's search; what goes wrong in it is kept, because `fit` swallows exceptions."""
        try:
            super().traverse()  # type: ignore[misc]
        except LaaciqError as error:
            self._failure = error
        except KeyboardInterrupt as error:
            # Neural Compressor's own time limit also arrives as an interrupt, and then the best model so far counts.
            if not self._timeout or time.monotonic() - self._started < self._timeout:
                self._failure = error
            elif not self.tune_result_record:
                self._failure = EvaluationError(
                    f"tuning.exit_policy.timeout={self._timeout} seconds was over before the first trial ended"
                )
        except Exception as error:
            # fit() logs the traceback and would then return None.
            self._failure = BackendError(f"Neural Compressor failed: {type(error).__name__}: {error}")
            self._failure.__cause__ = error
            raise
        except BaseException as error:  # a request to stop, such as SIGTERM, stays what it is
            self._failure = error
            raise

    def _accepted(self, best: Any) -> Any:
        """The accepted model, or the reason why there is none."""
        if self._failure is not None:
            raise self._failure
        if self._languages is not None and self._languages.is_passed:
            self._languages.kept = len(self._languages.documents) - 1
        if best is None:
            best = self._nearest()
        if self._languages is not None:
            best.la_aciq_trials = self._languages.trials()
        return best

    def _nearest(self) -> Any:
        """The trial that the gate is not sure about and lets through, or on request the one that fails by least."""
        if self._found is None:
            criterion = self._languages
            if criterion is None or not criterion.documents:
                raise EvaluationError(self._why_nothing_passed())
            trial = criterion.best()
            if not self._keep_best and not criterion.is_tolerable(trial):
                raise EvaluationError(self._why_nothing_passed())
            criterion.kept = trial
            config = self._tune_cfg_converter(self._configs[trial])  # type: ignore[attr-defined]
            self._found = self.adaptor.quantize(config, self.model, self.calib_dataloader, self.q_func)
        return self._found

    def _why_nothing_passed(self) -> str:
        if self._languages is not None and self._languages.documents:
            tried = "; ".join(
                f"trial {trial['number']} ({trial['description']}): {trial['reasons'][0]}"
                for trial in self._languages.trials()
            )
            return f"no trial passed the gate. {tried}. Widen the bounds, or allow more trials or languages' text"
        trials = "; ".join(
            f"trial {number}: {result[0]}" for number, result in enumerate(self.tune_result_record, start=1)
        )
        baseline = self.baseline[0] if self.baseline else "not evaluated"
        return (
            f"no quantized model met the accuracy criterion ({self._criterion}, baseline {baseline}). "
            f"Tried: {trials or 'nothing'}. "
            "Raise the bits, lower the group size, keep layers in float, or widen the criterion"
        )


class LaAciqTuneStrategy(LaAciqSearch, TuneStrategy):  # type: ignore[misc]
    """Neural Compressor's tuning strategy `la_aciq`, as `quantization.fit` runs it."""

    def __init__(self, model: Any, conf: Any, **kwargs: Any) -> None:
        criterion, accuracy = conf.quantization.tuning_criterion, conf.quantization.accuracy_criterion
        given = criterion.strategy_kwargs or {}
        run = run_of(given)
        languages = criterion_of(run, model._model, kwargs.get("eval_func"))
        if languages is not None:
            kwargs["eval_func"] = languages
        self._begin(
            run,
            mode_is_given=not {"mode", "run"}.isdisjoint(given),
            timeout=criterion.timeout,
            criterion=f"{accuracy.criterion} loss of at most {accuracy.tolerable_loss}",
            languages=languages,
            keep_best=bool(given.get("keep_best")),
        )
        if languages is not None and not accuracy.higher_is_better:
            raise SpecError(
                "accuracy_criterion.higher_is_better=False turns the gate's score round. Leave it out: the bounds of "
                "la_aciq.gate decide"
            )
        if conf.quantization.quant_level == 0:
            raise SpecError(
                "quant_level=0 makes Neural Compressor run its 'conservative' strategy instead of 'la_aciq'. "
                "Set quant_level=1, or leave it out"
            )
        model._model = linearize(model._model)
        super().__init__(model, conf, **kwargs)
        self.adaptor = self._own_adaptor()

    def _set_quant_type(self, config: Any) -> None:
        quant_options.quant_type = _WEIGHT_ONLY if config.approach == "post_training_weight_only" else _STATIC

    def get_best_qmodel(self) -> Any:
        """The accepted model, or the reason why there is none."""
        return self._accepted(super().get_best_qmodel())


def _only_listed(loader: LanguageLoader, languages: Sequence[str]) -> LanguageLoader:
    """The batches of a caller's loader that are in a language which the configuration names."""
    missing = ", ".join(tag for tag in languages if not loader.batches.get(tag))
    there = [tag for tag, rows in loader.batches.items() if rows and tag in languages]
    if not there:
        raise DataError(
            f"no calibration batch is in {missing}, which languages names. There are batches in "
            f"{', '.join(loader.batches)}"
        )
    if missing:
        logger.warning("No calibration batch is in %s, which languages names", missing)
    return loader.only(there)


def register() -> None:
    """Add `la_aciq` to the registry, and keep `quant_level: auto` from replacing it silently."""
    if STRATEGIES.get(STRATEGY) is LaAciqTuneStrategy:
        return
    STRATEGIES[STRATEGY] = LaAciqTuneStrategy
    for name in ("auto", "conservative"):
        if name in STRATEGIES:
            STRATEGIES[name] = _unless_la_aciq(STRATEGIES[name])


def _unless_la_aciq(stock: Any) -> Callable[..., Any]:
    """`fit` replaces the strategy's name when `quant_level` is "auto" or 0; the criterion still has the user's."""

    def create(model: Any, conf: Any, **kwargs: Any) -> Any:
        asked = conf.quantization.tuning_criterion.strategy
        return (LaAciqTuneStrategy if asked == STRATEGY else stock)(model, conf, **kwargs)

    return create
