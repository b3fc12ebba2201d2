"""How much of everything a run measures: the real sizes, and small ones that only show that it works."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Sizes of a run; the defaults are those of the figures that are published.

    Parameters
    ----------
    sizes : tuple of int
        Input and output features of the linear layers.
    repetitions : int
        Of every timing; the figure is their median.
    group_size : int
        Weights per scale in the linear layers; the shipped model has groups of 64.
    layer_tokens : int
        Calibration tokens of each of two languages for the linear layers.
    rounding : tuple of int
        Rows and columns of the matrix that is rounded without data: much larger than any cache.
    model_hidden : int or None
        None takes the shipped model; a number, one block of that width with random weights in its place.
    model_languages : tuple of str
        Of its calibration text; empty for all.
    model_tokens : int
        Of each language.
    fair_steps : int
    hidden : int
        Width of the model on which the cost of the statistics is measured.
    activations : int
        Values that a static range is found for.
    histogram_bins : int
        8001 is the number that Neural Compressor's collector of histograms takes unless told.
    is_quick : bool
        The sizes are too small for the figures to mean anything.
    """

    sizes: tuple[int, ...] = (1024, 2048, 4096)
    repetitions: int = 3
    group_size: int = 128
    layer_tokens: int = 2048
    rounding: tuple[int, int] = (16384, 8192)
    model_hidden: int | None = None
    model_languages: tuple[str, ...] = ()
    model_tokens: int = 2048
    fair_steps: int = 240
    hidden: int = 1024
    activations: int = 1 << 20
    histogram_bins: int = 8001
    is_quick: bool = False


QUICK = Settings(
    sizes=(64,),
    repetitions=2,
    group_size=32,
    layer_tokens=64,
    rounding=(512, 512),
    model_hidden=64,
    model_languages=("en", "fi"),
    model_tokens=32,
    fair_steps=1,
    hidden=64,
    activations=1 << 14,
    histogram_bins=401,
    is_quick=True,
)
"""For a test of the benchmark itself."""
