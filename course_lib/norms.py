"""Batch, layer, instance, group, RMS and filter response normalization.

x is (N, C, *S): samples, channels, then any number of spatial axes.  A layer
picks the axes that share statistics, calls `standardize`, scales and shifts:

    layer                  shares statistics over    gamma, beta
    batch_norm             N and *S                  (C,)
    layer_norm             the last axes             the shape of those axes
    instance_norm          *S                        (C,)
    group_norm             C / G channels and *S     (C,)
    rms_norm               the last axes, no mean    the shape of those axes, no beta
    filter_response_norm   *S, no mean               (C,)

Each forward returns (y, cache), and `norm_backward` serves them all.
"""

from typing import NamedTuple

import numpy as np

from .standardize import StandardizeCache, require_floating, standardize, standardize_backward
from .sums import short_buffers, total, widen


class NormCache(NamedTuple):
    """What `norm_backward` needs; the parameters as given, and where they broadcast."""

    inner: StandardizeCache
    gamma: np.ndarray
    beta: np.ndarray | None
    eps: np.ndarray | None  # only where eps is learned
    param_axes: tuple[int, ...]  # the axes of x that gamma and beta have
    shape: tuple[int, ...]  # of x
    dtype: np.dtype  # of x


def batch_norm(x, gamma, beta, *, eps=1e-5):
    """Batch norm as in training: each channel gets its statistics from the batch.

        y = gamma * x_hat + beta,   x_hat standardized over N and *S

    Args:
        x: (N, C, *S), floating.
        gamma, beta: (C,).
        eps: added to the variance.
    Returns:
        y with the shape and type of x, and the cache for `norm_backward`.
    Raises:
        TypeError: x or a parameter is not of a floating type.
        ValueError: gamma or beta is not (C,), or a channel has 1 value.
    Source: Ioffe & Szegedy 2015, Algorithm 1; section 3.2 for convolutions.
    """
    x = at_least_2d(x)
    return _norm(x, gamma, beta, axes=(0, *range(2, x.ndim)), eps=eps)


def layer_norm(x, gamma, beta, *, eps=1e-5):
    """Layer norm: each sample gets its statistics from its own last axes.

        y = gamma * x_hat + beta,   x_hat standardized over the axes of gamma

    Args:
        x: (*, *D), floating.
        gamma, beta: (*D); the axes of gamma are those that are normalized.
        eps: added to the variance.
    Returns:
        y with the shape and type of x, and the cache for `norm_backward`.
    Raises:
        TypeError: x or a parameter is not of a floating type.
        ValueError: x does not end in the shape of gamma and beta, or D is 1.
    Source: Ba, Kiros & Hinton 2016, Eq. 3; the last axes as in torch.
    """
    x, last = _last_axes(x, gamma)
    return _norm(x, gamma, beta, axes=last, param_axes=last, eps=eps)


def instance_norm(x, gamma, beta, *, eps=1e-5):
    """Instance norm: each channel of each sample gets its statistics from its own map.

        y = gamma * x_hat + beta,   x_hat standardized over *S

    Args:
        x: (N, C, *S), floating, with two or more spatial entries.
        gamma, beta: (C,).
        eps: added to the variance.
    Returns:
        y with the shape and type of x, and the cache for `norm_backward`.
    Raises:
        TypeError: x or a parameter is not of a floating type.
        ValueError: gamma or beta is not (C,), or *S has 1 entry.
    Source: Ulyanov, Vedaldi & Lempitsky 2016; Wu & He 2018, Eq. 5.
    """
    x = at_least_2d(x)
    return _norm(x, gamma, beta, axes=tuple(range(2, x.ndim)), eps=eps)


def group_norm(x, gamma, beta, *, groups, eps=1e-5):
    """Group norm: the C / G neighbouring channels of a group share statistics.

        y = gamma * x_hat + beta,   x_hat standardized over C / G channels and *S

    With 1 group it is layer norm over (C, *S), with C groups instance norm,
    both with one gamma and beta per channel.

    Args:
        x: (N, C, *S), floating.
        gamma, beta: (C,), one per channel, not per group.
        groups: G, a divisor of C.
        eps: added to the variance.
    Returns:
        y with the shape and type of x, and the cache for `norm_backward`.
    Raises:
        TypeError: x or a parameter is not of a floating type.
        ValueError: groups does not divide C, gamma or beta is not (C,), or a
            group has 1 value.
    Source: Wu & He 2018, Eq. 6 and 7.
    """
    x = at_least_2d(x)
    n, channels, *spatial = x.shape
    if groups < 1 or channels % groups:
        raise ValueError(f"groups ({groups}) must divide the number of channels ({channels})")
    view = (n, groups, channels // groups, *spatial)
    return _norm(x, gamma, beta, axes=tuple(range(2, len(view))), view=view, eps=eps)


def rms_norm(x, gamma, *, eps=1e-5):
    """RMS norm: layer norm without the mean and without beta.

        y = gamma * x / sqrt(mean(x**2) + eps)   over the axes of gamma

    Args:
        x: (*, *D), floating.
        gamma: (*D); its axes are those that are normalized.
        eps: added to the mean square.
    Returns:
        y with the shape and type of x, and the cache for `norm_backward`.
    Raises:
        TypeError: x or a parameter is not of a floating type.
        ValueError: x does not end in the shape of gamma.
    Source: Zhang & Sennrich 2019, Eq. 4, which has no eps.
    """
    x, last = _last_axes(x, gamma)
    return _norm(x, gamma, None, axes=last, param_axes=last, center=False, eps=eps)


def filter_response_norm(x, gamma, beta, *, eps=1e-6):
    """Filter response norm: instance norm without the mean.

        y = gamma * x / sqrt(nu2 + |eps|) + beta,   nu2 = mean(x**2) over *S

    Args:
        x: (N, C, *S), floating; a map may have a single entry.
        gamma, beta: (C,).
        eps: a number, or a learned array (C,), of which |eps| is used; then
            `norm_backward` returns its gradient as well.
    Returns:
        y with the shape and type of x, and the cache for `norm_backward`.
    Raises:
        TypeError: x or a parameter is not of a floating type.
        ValueError: gamma, beta or a learned eps is not (C,).
    Source: Singh & Krishnan 2020, section 3.
    """
    x = at_least_2d(x)
    axes = tuple(range(2, x.ndim))
    learned = np.ndim(eps) > 0
    if not learned:
        return _norm(x, gamma, beta, axes=axes, center=False, eps=eps)
    eps = np.asarray(eps)
    _require_parameters(x, (1,), eps=eps)
    y, cache = _norm(x, gamma, beta, axes=axes, center=False, eps=np.abs(_broadcast(eps, x.ndim, (1,))))
    return y, cache._replace(eps=eps)


def norm_backward(dy, cache):
    """Gradients of any layer of this module.

        dx_hat = gamma * dy
        dx     = standardize_backward(dx_hat)
        dgamma = sum(dy * x_hat),   dbeta = sum(dy)   over the axes that gamma lacks
        deps   = -1/2 * sum(dx_hat * x_hat * inv_std**2) * sign(eps)

    Args:
        dy: dL/dy, the shape of x.
        cache: second result of a layer of this module.
    Returns:
        dx, dgamma, dbeta, with the shapes and types of x, gamma, beta; without
        dbeta for `rms_norm`, which has none, and followed by deps where
        `filter_response_norm` got a learned eps.
    Raises:
        TypeError: dy is not of a floating type.
        ValueError: dy has another shape than x.
    Source: Ioffe & Szegedy 2015, section 3.
    """
    inner, gamma, beta, eps, param_axes, shape, dtype = cache
    require_floating(dy=dy)
    if dy.shape != shape:
        raise ValueError(f"dy has shape {dy.shape}, but y had {shape}")
    dy = dy.astype(inner.x_hat.dtype, order="C", copy=False)
    x_hat = inner.x_hat.reshape(shape)
    shared = tuple(axis for axis in range(len(shape)) if axis not in param_axes)
    with short_buffers():
        dx_hat = dy * _broadcast(gamma, dy.ndim, param_axes).astype(dy.dtype)
    dx = standardize_backward(dx_hat.reshape(inner.x_hat.shape), inner).reshape(shape)
    gradients = [dx.astype(dtype, copy=False), total(dy, shared, times=x_hat).reshape(gamma.shape).astype(gamma.dtype)]
    if beta is not None:
        gradients.append(total(dy, shared).reshape(beta.shape).astype(beta.dtype))
    if eps is not None:
        per_map = total(dx_hat, inner.axes, times=x_hat) * inner.inv_std**2
        gradients.append((-0.5 * total(per_map, shared).reshape(eps.shape) * np.sign(eps)).astype(eps.dtype))
    return tuple(gradients)


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
    y, tau = at_least_2d(y, "y"), np.asarray(tau)
    require_floating(y=y)
    _require_parameters(y, (1,), tau=tau)
    threshold = _broadcast(tau, y.ndim, (1,)).astype(y.dtype)
    return np.maximum(y, threshold), (y > threshold, tau)


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
    passed, tau = cache
    require_floating(dz=dz)
    if dz.shape != passed.shape:
        raise ValueError(f"dz has shape {dz.shape}, but z had {passed.shape}")
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
    return z, (cache, passed)


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
    cache, passed = cache
    dy, dtau = tlu_backward(dz, passed)
    dx, dgamma, dbeta, *deps = norm_backward(dy, cache)
    return dx, dgamma, dbeta, dtau, *deps


def _norm(x, gamma, beta, *, axes, param_axes=(1,), center=True, eps, view=None):
    """Every layer: standardize x, seen in the shape `view`, over `axes`; scale and shift along `param_axes`."""
    gamma, beta = np.asarray(gamma), None if beta is None else np.asarray(beta)
    _require_parameters(x, param_axes, gamma=gamma, beta=beta)
    _, inner = standardize(x.reshape(view or x.shape), axes, center=center, eps=eps)
    x_hat = inner.x_hat.reshape(x.shape)
    with short_buffers():
        y = x_hat * _broadcast(gamma, x.ndim, param_axes).astype(x_hat.dtype)
        if beta is not None:
            y += _broadcast(beta, x.ndim, param_axes)
    return y.astype(x.dtype, copy=False), NormCache(inner, gamma, beta, None, param_axes, x.shape, x.dtype)


def _broadcast(parameter, ndim, param_axes):
    """The parameter with its axes at `param_axes`, so that it broadcasts against x."""
    return np.expand_dims(parameter, tuple(axis for axis in range(ndim) if axis not in param_axes))


def _require_parameters(x, param_axes, **parameters):
    parameters = {name: parameter for name, parameter in parameters.items() if parameter is not None}
    require_floating(**parameters)
    expected = tuple(x.shape[axis] for axis in param_axes)
    has = f"has {x.shape[1]} channels" if param_axes == (1,) else f"ends in {expected}"
    for name, parameter in parameters.items():
        if parameter.shape != expected:
            raise ValueError(f"x {has}; {name} has shape {parameter.shape}, not {expected}")


def at_least_2d(x, name="x"):
    """The array, which has a sample and a channel axis; for every layer with parameters of shape (C,)."""
    x = np.asarray(x)
    if x.ndim < 2:
        raise ValueError(f"{name} has shape {x.shape}; it needs a sample axis and a channel axis, (N, C, *S)")
    return x


def _last_axes(x, gamma):
    x, depth = np.asarray(x), np.ndim(gamma)
    if not depth or np.shape(gamma) != x.shape[x.ndim - depth:]:
        raise ValueError(f"x of shape {x.shape} does not end in the shape of gamma, {np.shape(gamma)}")
    return x, tuple(range(x.ndim - depth, x.ndim))
