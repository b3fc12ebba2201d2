"""Makes LA-ACIQ known to Intel Neural Compressor, the moment its modules are imported.

Importing `inc_laaciq` must not import Neural Compressor (seconds, and torch with it), yet after both imports, in
either order, the stock calls have to work.  So hooks wait for the modules that have to know of it:

- `neural_compressor.config`, whose `TuningCriterion` accepts a closed list of strategies;
- `neural_compressor.quantization`, whose `fit` looks the strategy up in a registry;
- `neural_compressor.experimental.quantization`, the API before that, with a registry of its own (2.x only);
- `neural_compressor.torch.quantization`, the torch API, with registries of configurations and of algorithms.
"""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any

import wrapt

STRATEGY = "la_aciq"
FP8_OBSERVER = "laaciq"


def register_on_import() -> None:
    """Wait for Neural Compressor's modules; hooks run at once for modules that are already imported."""
    wrapt.register_post_import_hook(accept_strategy_name, "neural_compressor.config")
    wrapt.register_post_import_hook(register_strategy, "neural_compressor.quantization")
    wrapt.register_post_import_hook(register_experimental_strategy, "neural_compressor.experimental.quantization")
    wrapt.register_post_import_hook(register_fp8_observer, "neural_compressor.torch.algorithms.fp8_quant.observer")
    wrapt.register_post_import_hook(register_torch_algorithm, "neural_compressor.torch.quantization")


def accept_strategy_name(config: ModuleType) -> None:
    """Let `TuningCriterion(strategy="la_aciq")` through; every other name goes to the setter that was there."""
    criterion = getattr(config, "TuningCriterion", None)
    if criterion is None or getattr(criterion, "_accepts_la_aciq", False):
        return
    known = criterion.strategy

    def set_strategy(self: Any, name: str) -> None:
        if name == STRATEGY:
            self._strategy = name
        else:
            known.fset(self, name)

    criterion.strategy = known.setter(set_strategy)
    criterion._accepts_la_aciq = True


def register_strategy(_quantization: ModuleType) -> None:
    """Put the strategy into Neural Compressor's registry; doing so twice changes nothing."""
    from inc_laaciq.backends.inc_adaptor import register

    register()


def register_experimental_strategy(_quantization: ModuleType) -> None:
    """Let `neural_compressor.experimental.Quantization` take a yaml file for `la_aciq`."""
    from inc_laaciq.backends.inc_experimental import register

    register()


def register_torch_algorithm(_quantization: ModuleType) -> None:
    """Put `LAACIQConfig` and the algorithm behind it into the torch API's registries; they register themselves.

    Whole modules are imported, no names from them: either may be the one that is just importing Neural Compressor.
    """
    importlib.import_module("inc_laaciq.backends.inc_torch_config")
    importlib.import_module("inc_laaciq.backends.inc_torch")


def register_fp8_observer(_observer: ModuleType) -> None:
    """Let `FP8Config(observer="laaciq")` measure by language."""
    from inc_laaciq.backends.gaudi_fp8_observer import register

    register()
