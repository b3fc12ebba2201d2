"""`language_aware_clip`: the function that the first notes on LA-ACIQ name, with the meaning that holds up.

Weights are shared by all languages, but a language uses some input columns more than others.  The threshold is ACIQ's,
from the moments of the weights as that language weighs them; with uniform use it is plain ACIQ.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

from inc_laaciq.errors import SpecError
from inc_laaciq.quant.aciq import alpha_from_kurtosis
from inc_laaciq.quant.grid import Grid
from inc_laaciq.quant.moments import LanguageMoments


def language_aware_alpha(weights: torch.Tensor, language: LanguageMoments | None, bits: int) -> torch.Tensor:
    """Clipping threshold of each output channel for one language.

    Parameters
    ----------
    weights : tensor, shape (out_features, in_features)
    language : LanguageMoments or None
        Statistics of the layer's input for the language; None weighs all columns alike.
    bits : int
        2 to 8.

    Returns
    -------
    tensor, shape (out_features,), in weight units; at most the largest magnitude of the channel, which is also the
    threshold where kurtosis is undefined (fewer than 4 weights, or all equal).

    Notes
    -----
    alpha = sigma f(kurtosis, bits) with sigma and kurtosis of the channel's weights about zero, column j weighted by
    its mean square activation; f is the least-squares threshold of a generalized Gaussian (quant/aciq.py).
    """
    Grid(bits=bits, scheme="sym")
    weights = weights.detach().float()
    absmax = weights.abs().amax(1)
    if weights.shape[1] < 4:
        return absmax
    use = torch.ones(weights.shape[1]) if language is None else language.diagonal
    if len(use) != weights.shape[1]:
        raise SpecError(f"statistics of {len(use)} features do not fit weights with {weights.shape[1]} columns")
    share = use / use.sum().clamp_min(torch.finfo(use.dtype).tiny)
    # The fourth power of 1e-12 or 1e12 leaves float32.  Units of a power of two change no other digit.
    unit = torch.ldexp(torch.ones_like(absmax), torch.frexp(absmax).exponent)
    weights = weights / unit[:, None]
    second = weights.square() @ share
    fourth = weights.pow(4) @ share
    kurtosis = fourth / second.square().clamp_min(torch.finfo(second.dtype).tiny) - 3
    alpha = alpha_from_kurtosis(second.sqrt(), kurtosis, bits) * unit
    return torch.where(torch.isfinite(alpha) & (alpha > 0), torch.minimum(alpha, absmax), absmax)


def language_aware_clip(
    weights: torch.Tensor, lang: LanguageMoments | Mapping[str, LanguageMoments] | None, bits: int
) -> torch.Tensor:
    """Weights clipped at the language-aware ACIQ threshold of each output channel.

    Parameters
    ----------
    weights : tensor, shape (out_features, in_features); not modified
    lang : LanguageMoments, mapping of language -> LanguageMoments, or None
        Statistics of the layer's input.  For several languages the largest of their thresholds is used, so that no
        language loses range; one language alone gives its own threshold, None plain ACIQ.
    bits : int
        2 to 8.

    Returns
    -------
    tensor, same shape, float32

    Examples
    --------
    >>> clipped = language_aware_clip(torch.tensor([[0.1, -0.1, 0.2, -0.2, 0.1, 3.0]]), None, bits=4)
    >>> bool(clipped.max() <= 3.0)
    True
    """
    each = list(lang.values()) if isinstance(lang, Mapping) else [lang]
    if not each:
        raise SpecError("language_aware_clip got an empty mapping of languages; give at least one, or None")
    alpha = torch.stack([language_aware_alpha(weights, one, bits) for one in each]).amax(0)[:, None]
    return torch.maximum(torch.minimum(weights.detach().float(), alpha), -alpha)
