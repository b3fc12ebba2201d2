"""Language-aware quantization for Intel Neural Compressor.

Importing this package makes the strategy `la_aciq` and the algorithm `laaciq` known to Neural Compressor, whichever of
the two is imported first.
Nothing heavy is imported until a name is used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from inc_laaciq.backends.inc_registration import register_on_import
from inc_laaciq.errors import (
    AutotuneError,
    BackendError,
    DataError,
    EvaluationError,
    IntegrityError,
    LaaciqError,
    MismatchError,
    ModelError,
    NumericError,
    ResourceError,
    SpecError,
)

if TYPE_CHECKING:
    from inc_laaciq.api import language_loader, load_config
    from inc_laaciq.assess import assess_quantization_risk
    from inc_laaciq.autotuning import AutotuneResult, autotune
    from inc_laaciq.backends.inc_torch_calibration import calibrate
    from inc_laaciq.backends.inc_torch_config import LAACIQConfig
    from inc_laaciq.backends.packed_loading import load_packed_checkpoint
    from inc_laaciq.calibration.current_language import calibration_language
    from inc_laaciq.calibration.layers import linearize
    from inc_laaciq.calibration.loader import LanguageLoader
    from inc_laaciq.quant.language_clip import language_aware_clip
    from inc_laaciq.tuning.criterion import LanguageCriterion

__all__ = [
    "AutotuneError",
    "AutotuneResult",
    "BackendError",
    "DataError",
    "EvaluationError",
    "IntegrityError",
    "LAACIQConfig",
    "LaaciqError",
    "LanguageCriterion",
    "LanguageLoader",
    "MismatchError",
    "ModelError",
    "NumericError",
    "ResourceError",
    "SpecError",
    "assess_quantization_risk",
    "autotune",
    "calibrate",
    "calibration_language",
    "language_aware_clip",
    "language_loader",
    "linearize",
    "load_config",
    "load_packed_checkpoint",
]

_LAZY = {
    "AutotuneResult": "inc_laaciq.autotuning",
    "autotune": "inc_laaciq.autotuning",
    "assess_quantization_risk": "inc_laaciq.assess",
    "calibrate": "inc_laaciq.backends.inc_torch_calibration",
    "calibration_language": "inc_laaciq.calibration.current_language",
    "LAACIQConfig": "inc_laaciq.backends.inc_torch_config",
    "LanguageCriterion": "inc_laaciq.tuning.criterion",
    "LanguageLoader": "inc_laaciq.calibration.loader",
    "linearize": "inc_laaciq.calibration.layers",
    "language_aware_clip": "inc_laaciq.quant.language_clip",
    "language_loader": "inc_laaciq.api",
    "load_config": "inc_laaciq.api",
    "load_packed_checkpoint": "inc_laaciq.backends.packed_loading",
}

register_on_import()


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
