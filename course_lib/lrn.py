"""Local response normalization and its ancestor, divisive normalization.

Divisive, not subtractive: no mean is removed, a response is divided by a
measure of its neighbours.  The axes of `norms.py` become a window that slides
over the channels.
"""

from math import prod
from typing import NamedTuple

import numpy as np

from . import checks
from .sums import widen

BLOCK = 65536  # entries worked on at once: a few arrays of 256 kB stay in the cache of a core


class LRNCache(NamedTuple):
    """What the backward pass needs: x itself and one array as large."""

    x: np.ndarray
    t: np.ndarray  # the bracket k + alpha * sum(a**2), the shape of x
    size: int
    alpha: float
    beta: float
    dtype: np.dtype  # of x as it came


def local_response_norm(x, *, size=5, k=2.0, alpha=1e-4, beta=0.75):
    """Divide each response by the energy of its neighbour channels at the same position.

        t_i = k + alpha * sum(x_j**2),   j = i - size // 2, ..., i + (size - 1) // 2
        y_i = x_i / t_i**beta

    Channels beyond the first and the last count as 0.  An odd window is
    symmetric, as in the paper; an even one reaches one channel further to the
    left, as in torch (the paper's i - n/2 to i + n/2 would be n + 1 channels).
    The defaults are AlexNet's.  Beware: torch, Caffe and ONNX divide alpha by
    size, so theirs is `alpha=1e-4 * size` here; and torch's default k is 1.

    Args:
        x: (N, C, *S), floating, with any number of spatial axes; float16 is
            computed in float32.
        size: the number of channels in the window, n in the paper.
        k, alpha: 0 or more.  With k = 0 a window of zeros gives NaN.
        beta: exponent of the bracket.
    Returns:
        y with the shape and type of x, and the cache for
        `local_response_norm_backward`, which may hold x itself, not a copy: an
        x changed in place in between changes the gradient.
    Raises:
        TypeError: x is not of a floating type, or k, alpha or beta is no number.
        ValueError: x has fewer than 2 axes, size is not a positive integer, or
            k or alpha is negative.
    Source: Krizhevsky, Sutskever & Hinton 2012, section 3.3.
    """
    x = checks.array("x", x)
    checks.channels(x.shape)
    checks.window(size, k, alpha, beta)
    wide = widen(x)
    y, t = np.empty_like(wide), np.empty_like(wide)
    for some in _blocks(wide):
        t[some] = k + alpha * _window_sum(np.square(wide[some]), left=size // 2, right=(size - 1) // 2)
        y[some] = wide[some] * _inverse_power(t[some], beta)
    return y.astype(x.dtype, copy=False), LRNCache(wide, t, size, alpha, beta, x.dtype)


def local_response_norm_backward(dy, cache):
    """Gradient of a loss with respect to the input of `local_response_norm`.

        dx_j = dy_j / t_j**beta - 2 * alpha * beta * x_j * sum(dy_i * x_i / t_i**(beta + 1))
        over i = j - (size - 1) // 2, ..., j + size // 2

    The sum runs over the outputs that saw x_j, not over those that x_j saw:
    the window is mirrored, which only an even size shows.

    Args:
        dy: dL/dy, the shape of x.
        cache: second result of `local_response_norm`.
    Returns:
        dx, with the shape and type of x.
    Raises:
        TypeError: dy is not of a floating type.
        ValueError: dy has another shape than x.
    Source: own derivation.
    """
    checks.cache(cache, LRNCache)
    x, t, size, alpha, beta, dtype = cache
    dy = checks.array("dy", dy)
    checks.same_shape("dy", dy.shape, "y", x.shape)
    dx = np.empty_like(x)
    for some in _blocks(x):
        direct = dy[some] * _inverse_power(t[some], beta)
        seen_by = _window_sum(direct * x[some] / t[some], left=(size - 1) // 2, right=size // 2)
        dx[some] = direct - 2 * alpha * beta * x[some] * seen_by
    return dx.astype(dtype, copy=False)


def divisive_norm(x, weights, *, sigma, exponent=2.0):
    """Divide the power of each drive by the power of a pool: how a cortex normalizes.

        y_j = x_j**n / (sigma**n + sum(weights[j, k] * x_k**n over k)),   n = exponent

    A response saturates at 1 / weights[j, j], is half of that at x_j = sigma
    when the weight is 1, and is held down by what else is in the pool.

    Args:
        x: (N, C, *S), floating, the drives: rectified, so none is negative.
        weights: (C, C); row j says how much each drive adds to the pool of unit j.
        sigma: 0 or more; the drive that counts as half of the maximum.  With
            sigma = 0 a pool of zeros gives NaN.
        exponent: n.
    Returns:
        y, with the shape and type of x.
    Raises:
        TypeError: x or weights is not of a floating type.
        ValueError: x has fewer than 2 axes or a negative entry, weights is not
            (C, C), or sigma is negative.
    Source: Carandini & Heeger 2012, Eq. 10; Heeger 1992 for n = 2.
    """
    x, weights = checks.array("x", x), checks.array("weights", weights)
    checks.channels(x.shape)
    channels = x.shape[1]
    if weights.shape != (channels, channels):
        raise ValueError(f"weights has shape {weights.shape}; x of shape {x.shape} needs {(channels, channels)}")
    if np.any(x < 0):
        raise ValueError(f"x holds {np.nanmin(x):.4g}; a drive is a rectified response, 0 or more")
    checks.not_negative(sigma, "sigma")
    power = widen(x) ** exponent
    pool = np.moveaxis(np.tensordot(power, weights.astype(power.dtype), axes=(1, 1)), -1, 1)
    return (power / (sigma**exponent + pool)).astype(x.dtype)


def _window_sum(a, *, left, right):
    """Sum over the channels i - left, ..., i + right of each i; beyond the ends is nothing."""
    result, channels = a.copy(), a.shape[1]
    for shift in range(1, min(left, channels - 1) + 1):
        result[:, shift:] += a[:, :-shift]
    for shift in range(1, min(right, channels - 1) + 1):
        result[:, :-shift] += a[:, shift:]
    return result


def _inverse_power(t, beta):
    """t**-beta; the usual 0.75 from two roots, which take a tenth of the time of a power."""
    if beta != 0.75:
        return t**-beta
    root = 1 / np.sqrt(t)
    return root * np.sqrt(root)


def _blocks(x):
    """Slices of samples that stay in the cache from one step to the next."""
    samples = max(1, BLOCK // max(1, prod(x.shape[1:])))
    return [slice(i, i + samples) for i in range(0, len(x), samples)]
