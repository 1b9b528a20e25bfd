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

A slice of one value is its own mean: x_hat is 0 and y = beta, whatever x is.  So
it is in torch and ONNX, and networks with such a layer are in use, so layer,
instance and group norm follow the formula.  Batch norm refuses: there it is an
accident, a last batch of one sample, and running statistics would have no variance.

Of all layers:

Args:
    x: floating, (N, C, *S), for layer and RMS norm any shape that ends in that of gamma.
    gamma, beta: floating, of the shape in the table.
    eps: added to the variance, or to the mean square where no mean is removed.
Returns:
    y with the shape and type of x, and the cache for `norm_backward`, which serves them all.
Raises:
    TypeError: x or a parameter is not of a floating type, or a masked array.
    ValueError: x has too few axes, gamma or beta does not fit, or eps is negative.
"""

from typing import NamedTuple

import numpy as np

from . import checks
from .standardize import StandardizeCache, standardize, standardize_backward
from .sums import repeated, short_buffers, total


class NormCache(NamedTuple):
    """What `norm_backward` needs; a gamma of its own, since a training step may change the caller's in place."""

    inner: StandardizeCache
    gamma: np.ndarray
    beta: np.ndarray | None
    eps: np.ndarray | None  # only where eps is learned
    param_axes: tuple[int, ...]  # the axes of x that gamma and beta have
    shape: tuple[int, ...]  # of x
    dtype: np.dtype  # of x


def _norm(x, gamma, beta, *, axes, param_axes=(1,), center=True, eps, view=None):
    """Every layer: standardize x, seen in the shape `view`, over `axes`; scale and shift along `param_axes`."""
    gamma, beta = checks.array("gamma", gamma).copy(), None if beta is None else checks.array("beta", beta)
    checks.parameters(x.shape, param_axes, gamma=gamma, beta=beta)
    _, inner = standardize(x.reshape(view or x.shape), axes, center=center, eps=eps)
    x_hat = inner.x_hat.reshape(x.shape)
    with short_buffers():
        y = x_hat * repeated(_broadcast(gamma, x.ndim, param_axes).astype(x_hat.dtype), x)
        if beta is not None:
            y += repeated(_broadcast(beta, x.ndim, param_axes), x)
    return y.astype(x.dtype, copy=False), NormCache(inner, gamma, beta, None, param_axes, x.shape, x.dtype)


def _broadcast(parameter, ndim, param_axes):
    """The parameter with its axes at `param_axes`, so that it broadcasts against x."""
    return np.expand_dims(parameter, tuple(axis for axis in range(ndim) if axis not in param_axes))


def batch_norm(x, gamma, beta, *, eps=1e-5):
    """Batch norm as in training: each channel gets its statistics from the batch.

        y = gamma * x_hat + beta,   x_hat standardized over N and *S

    Raises:
        ValueError: a channel has 1 value.
    Source: Ioffe & Szegedy 2015, Algorithm 1; section 3.2 for convolutions.
    """
    x = _with_channels(x)
    axes = (0, *range(2, x.ndim))
    checks.statistics(x.shape, axes)
    return _norm(x, gamma, beta, axes=axes, eps=eps)


def layer_norm(x, gamma, beta, *, eps=1e-5):
    """Layer norm: each sample gets its statistics from its own last axes.

        y = gamma * x_hat + beta,   x_hat standardized over the axes of gamma

    Source: Ba, Kiros & Hinton 2016, Eq. 3; the last axes as in torch.
    """
    x = checks.array("x", x)
    checks.gamma_given(gamma)
    last = checks.last_axes(x.shape, np.shape(gamma))
    return _norm(x, gamma, beta, axes=last, param_axes=last, eps=eps)


def instance_norm(x, gamma, beta, *, eps=1e-5):
    """Instance norm: each channel of each sample gets its statistics from its own map.

        y = gamma * x_hat + beta,   x_hat standardized over *S

    Source: Ulyanov, Vedaldi & Lempitsky 2016; Wu & He 2018, Eq. 5.
    """
    x = _with_channels(x)
    return _norm(x, gamma, beta, axes=tuple(range(2, x.ndim)), eps=eps)


def group_norm(x, gamma, beta, *, groups, eps=1e-5):
    """Group norm: the C / G neighbouring channels of a group share statistics.

        y = gamma * x_hat + beta,   x_hat standardized over C / G channels and *S

    With 1 group it is layer norm over (C, *S), with C groups instance norm,
    both with one gamma and beta per channel.

    Args:
        groups: G, a divisor of C.
    Raises:
        ValueError: groups does not divide C.
    Source: Wu & He 2018, Eq. 6 and 7.
    """
    x = _with_channels(x)
    n, channels, *spatial = x.shape
    checks.groups(groups, channels)
    view = (n, groups, channels // groups, *spatial)
    return _norm(x, gamma, beta, axes=tuple(range(2, len(view))), view=view, eps=eps)


def rms_norm(x, gamma, *, eps=1e-5):
    """RMS norm: layer norm without the mean and without beta.

        y = gamma * x / sqrt(mean(x**2) + eps)   over the axes of gamma

    Source: Zhang & Sennrich 2019, Eq. 4, which has no eps.
    """
    x = checks.array("x", x)
    checks.gamma_given(gamma)
    last = checks.last_axes(x.shape, np.shape(gamma))
    return _norm(x, gamma, None, axes=last, param_axes=last, center=False, eps=eps)


def filter_response_norm(x, gamma, beta, *, eps=1e-6):
    """Filter response norm: instance norm without the mean, so that a map may have a single value.

        y = gamma * x / sqrt(nu2 + |eps|) + beta,   nu2 = mean(x**2) over *S

    Args:
        eps: a number, or a learned array (C,), of which |eps| is used; then
            `norm_backward` returns its gradient as well.
    Raises:
        ValueError: a learned eps is not (C,).
    Source: Singh & Krishnan 2020, section 3.
    """
    x = _with_channels(x)
    axes = tuple(range(2, x.ndim))
    if not np.ndim(eps):
        return _norm(x, gamma, beta, axes=axes, center=False, eps=eps)
    eps = checks.array("eps", eps).copy()
    checks.parameters(x.shape, (1,), eps=eps)
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
    checks.cache(cache, NormCache)
    inner, gamma, beta, eps, param_axes, shape, dtype = cache
    dy = checks.array("dy", dy)
    checks.same_shape("dy", dy.shape, "y", shape)
    dy = dy.astype(inner.x_hat.dtype, order="C", copy=False)
    x_hat = inner.x_hat.reshape(shape)
    shared = tuple(axis for axis in range(len(shape)) if axis not in param_axes)
    with short_buffers():
        dx_hat = dy * repeated(_broadcast(gamma, dy.ndim, param_axes).astype(dy.dtype), dy)
    dx = standardize_backward(dx_hat.reshape(inner.x_hat.shape), inner).reshape(shape)
    gradients = [dx.astype(dtype, copy=False), total(dy, shared, times=x_hat).reshape(gamma.shape).astype(gamma.dtype)]
    if beta is not None:
        gradients.append(total(dy, shared).reshape(beta.shape).astype(beta.dtype))
    if eps is not None:
        per_map = total(dx_hat, inner.axes, times=x_hat) * inner.inv_std**2
        gradients.append((-0.5 * total(per_map, shared).reshape(eps.shape) * np.sign(eps)).astype(eps.dtype))
    return tuple(gradients)


def _with_channels(x):
    x = checks.array("x", x)
    checks.channels(x.shape)
    return x
