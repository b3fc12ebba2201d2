"""Every error that inc_laaciq raises on purpose.

LaaciqError                     exit code 1
|-- SpecError (ValueError)      2  a configuration value or an argument is wrong
|-- DataError                   2  calibration or evaluation text cannot be used
|-- ModelError                  2  the model cannot be loaded or is of the wrong kind
|-- IntegrityError              2  a file is damaged, hostile, or not what it claims to be
|-- NumericError                2  NaN or infinity where numbers are needed
|-- ResourceError               1  memory, disk, permission, or another process is in the way
|-- BackendError                1  Intel Neural Compressor (or another backend) failed
|-- EvaluationError             1  an evaluation or a search ended without a usable result
|   `-- AutotuneError           1  a search of `autotune` did; it has the trials
`-- MismatchError               5  baseline and candidate were not measured on the same things

A message says what is wrong, where, what was given, what is allowed, and what to do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any


class LaaciqError(Exception):
    """Base of the tree; `exit_code` is what the command line returns for it."""

    exit_code = 1


class SpecError(LaaciqError, ValueError):
    """A configuration value or an argument is wrong."""

    exit_code = 2


class DataError(LaaciqError):
    """Calibration or evaluation text cannot be used as it is."""

    exit_code = 2


class ModelError(LaaciqError):
    """The model cannot be loaded, or is of a kind that cannot be quantized here."""

    exit_code = 2


class IntegrityError(LaaciqError):
    """A file is damaged, hostile, or not what it claims to be."""

    exit_code = 2


class NumericError(LaaciqError):
    """NaN or infinity where numbers are needed."""

    exit_code = 2


class ResourceError(LaaciqError):
    """Memory, disk, a permission, or another process is in the way."""


class BackendError(LaaciqError):
    """Intel Neural Compressor, or another backend, failed."""


class EvaluationError(LaaciqError):
    """An evaluation or a search ended without a usable result."""


class AutotuneError(EvaluationError):
    """A search of `autotune` ended without an accepted model.

    Parameters
    ----------
    message : str
    trials : sequence of mapping
        What was tried until then, as in `AutotuneResult.trials`.
    """

    def __init__(self, message: str, *, trials: Sequence[Mapping[str, Any]] = ()) -> None:
        super().__init__(message)
        self.trials = list(trials)


class MismatchError(LaaciqError):
    """Baseline and candidate were not measured on the same things, so they cannot be compared."""

    exit_code = 5
