"""The thresholded linear unit: the activation that goes with filter response norm.

A layer without a mean leaves its values anywhere, so that the 0 of a ReLU is no
natural place to cut; the threshold tau is learned, one per channel.
"""

from typing import NamedTuple

import numpy as np

from . import checks
from .norms import NormCache, filter_response_norm, norm_backward
from .sums import total, widen


class TLUCache(NamedTuple):
    """What `tlu_backward` needs."""

    passed: np.ndarray  # True where y > tau, the shape of y
    tau: np.ndarray  # of which it takes the shape and the type


class FRNTLUCache(NamedTuple):
    """What `filter_response_norm_tlu_backward` needs."""

    norm: NormCache
    tlu: TLUCache


def tlu(y, tau):
    """Thresholded linear unit, the activation that goes with filter response norm.

        z = max(y, tau) = relu(y - tau) + tau

    Args:
        y: (N, C, *S), floating.
        tau: (C,), learned.
    Returns:
        z with the shape and type of y, and the cache for `tlu_backward`.
    Raises:
        TypeError: y or tau is not of a floating type.
        ValueError: tau is not (C,).
    Source: Singh & Krishnan 2020, section 3.
    """
    y, tau = checks.array("y", y), checks.array("tau", tau)
    checks.channels(y.shape, "y")
    checks.parameters(y.shape, (1,), tau=tau)
    threshold = tau.reshape(-1, *[1] * (y.ndim - 2)).astype(y.dtype)
    return np.maximum(y, threshold), TLUCache(y > threshold, tau)


def tlu_backward(dz, cache):
    """Gradients of `tlu`: each entry of dz goes to y where y > tau, else to tau.

    Args:
        dz: dL/dz, the shape of y.
        cache: second result of `tlu`.
    Returns:
        dy, dtau, with the shapes of y and tau.
    Raises:
        TypeError: dz is not of a floating type.
        ValueError: dz has another shape than y.
    Source: own derivation; at y = tau, where there is no slope, it follows torch's ReLU.
    """
    checks.cache(cache, TLUCache)
    passed, tau = cache
    dz = checks.array("dz", dz)
    checks.same_shape("dz", dz.shape, "z", passed.shape)
    to_tau = total(widen(np.where(passed, 0, dz)), (0, *range(2, dz.ndim)))
    return np.where(passed, dz, 0), to_tau.reshape(tau.shape).astype(tau.dtype)


def filter_response_norm_tlu(x, gamma, beta, tau, *, eps=1e-6):
    """Filter response norm and the activation that goes with it, one after the other.

        z = max(gamma * x / sqrt(nu2 + |eps|) + beta, tau),   nu2 = mean(x**2) over *S

    Args:
        x: (N, C, *S), floating.
        gamma, beta, tau: (C,).
        eps: a number, or a learned array (C,), as in `filter_response_norm`.
    Returns:
        z with the shape and type of x, and the cache for `filter_response_norm_tlu_backward`.
    Raises:
        TypeError: x or a parameter is not of a floating type.
        ValueError: gamma, beta, tau or a learned eps is not (C,).
    Source: Singh & Krishnan 2020, section 3.
    """
    y, cache = filter_response_norm(x, gamma, beta, eps=eps)
    z, passed = tlu(y, tau)
    return z, FRNTLUCache(cache, passed)


def filter_response_norm_tlu_backward(dz, cache):
    """Gradients of `filter_response_norm_tlu`: those of `tlu`, then those of `filter_response_norm`.

    Args:
        dz: dL/dz, the shape of x.
        cache: second result of `filter_response_norm_tlu`.
    Returns:
        dx, dgamma, dbeta, dtau, with the shapes of x, gamma, beta, tau; followed
        by deps where eps is learned.
    Raises:
        TypeError: dz is not of a floating type.
        ValueError: dz has another shape than x.
    Source: own derivation.
    """
    checks.cache(cache, FRNTLUCache)
    dy, dtau = tlu_backward(dz, cache.tlu)
    dx, dgamma, dbeta, *deps = norm_backward(dy, cache.norm)
    return dx, dgamma, dbeta, dtau, *deps
