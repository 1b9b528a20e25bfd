"""Each layer again as plain Python loops, straight from its printed equation: slow, and a witness of its own.

An oracle shares no line with `course_lib`.  It says which entries of x share
statistics (`*_slices`, lists of indices), does the arithmetic of one slice on
Python floats, and looks up gamma and beta for each entry by itself.
"""

import itertools
import math

import numpy as np


def batch_norm_slices(shape):
    """One slice a channel: all samples, all positions."""
    n, c, *space = shape
    return [[(i, k, *s) for i in range(n) for s in np.ndindex(*space)] for k in range(c)]


def instance_norm_slices(shape):
    """One slice a sample and channel: all positions."""
    n, c, *space = shape
    return [[(i, k, *s) for s in np.ndindex(*space)] for i in range(n) for k in range(c)]


def group_norm_slices(shape, groups):
    """One slice a sample and group: neighbouring channels, all positions (Wu & He 2018, Eq. 7)."""
    n, c, *space = shape
    each = c // groups
    return [
        [(i, k, *s) for k in range(c) if k // each == g for s in np.ndindex(*space)]
        for i in range(n) for g in range(groups)
    ]


def layer_norm_slices(shape, depth):
    """One slice a sample: the last `depth` axes."""
    lead, last = shape[:len(shape) - depth], shape[len(shape) - depth:]
    return [[(*i, *d) for d in np.ndindex(*last)] for i in np.ndindex(*lead)]


def standardized(values, eps, center):
    """x_hat of one slice, and its inv_std: Ioffe & Szegedy 2015, Algorithm 1, lines 1 to 3."""
    m = len(values)
    mu = math.fsum(values) / m if center else 0.0
    var = math.fsum((v - mu) ** 2 for v in values) / m
    inv_std = 1 / math.sqrt(var + eps)
    return [(v - mu) * inv_std for v in values], inv_std


def chain_rule(values, dx_hat, eps, center):
    """dx of one slice, by the chain-rule lines of Ioffe & Szegedy 2015, section 3, not by the closed form."""
    m = len(values)
    mu = math.fsum(values) / m if center else 0.0
    var = math.fsum((v - mu) ** 2 for v in values) / m
    dvar = math.fsum(d * (v - mu) * -0.5 * (var + eps) ** -1.5 for d, v in zip(dx_hat, values, strict=True))
    dmu = 0.0
    if center:
        dmu = math.fsum(-d / math.sqrt(var + eps) for d in dx_hat)
        dmu += dvar * math.fsum(-2 * (v - mu) for v in values) / m
    return [
        d / math.sqrt(var + eps) + dvar * 2 * (v - mu) / m + dmu / m for d, v in zip(dx_hat, values, strict=True)
    ]


def layer(x, gamma, beta, slices, param_axes, *, eps, center=True):
    """y = gamma * x_hat + beta, an entry at a time; eps is a number or a list with one per channel."""
    y = np.empty(x.shape)
    for entries in slices:
        x_hat, _ = standardized([float(x[e]) for e in entries], _eps_of(eps, entries), center)
        for e, value in zip(entries, x_hat, strict=True):
            p = tuple(e[axis] for axis in param_axes)
            y[e] = gamma[p] * value + (0.0 if beta is None else beta[p])
    return y


def layer_gradients(dy, x, gamma, slices, param_axes, *, eps, center=True):
    """dx, dgamma, dbeta, deps, an entry at a time; deps has one value per channel."""
    dx, dgamma, dbeta, deps = np.empty(x.shape), np.zeros(gamma.shape), np.zeros(gamma.shape), np.zeros(x.shape[1:2])
    for entries in slices:
        values = [float(x[e]) for e in entries]
        x_hat, inv_std = standardized(values, _eps_of(eps, entries), center)
        params = [tuple(e[axis] for axis in param_axes) for e in entries]
        dx_hat = [float(gamma[p] * dy[e]) for p, e in zip(params, entries, strict=True)]
        for e, value in zip(entries, chain_rule(values, dx_hat, _eps_of(eps, entries), center), strict=True):
            dx[e] = value
        for e, p, value, d in zip(entries, params, x_hat, dx_hat, strict=True):
            dgamma[p] += dy[e] * value
            dbeta[p] += dy[e]
            if np.ndim(eps):
                # x_hat = v (var + eps)^(-1/2), so dx_hat/deps = -1/2 v (var + eps)^(-3/2), and d|eps|/deps is its sign
                deps[e[1]] += d * -0.5 * value * inv_std**2 * math.copysign(1, eps[e[1]])
    return dx, dgamma, dbeta, deps


def _eps_of(eps, entries):
    return abs(float(eps[entries[0][1]])) if np.ndim(eps) else eps


def tlu(y, tau):
    """z = max(y, tau), an entry at a time."""
    z = np.empty(y.shape)
    for e in np.ndindex(*y.shape):
        z[e] = max(y[e], tau[e[1]])
    return z


def tlu_gradients(dz, y, tau):
    """dy where y is above its threshold, dtau where it is not."""
    dy, dtau = np.zeros(y.shape), np.zeros(tau.shape)
    for e in np.ndindex(*y.shape):
        if y[e] > tau[e[1]]:
            dy[e] = dz[e]
        else:
            dtau[e[1]] += dz[e]
    return dy, dtau


def mean(a, axes):
    """Mean over axes, which stay with length 1, with exactly rounded sums."""
    kept = tuple(1 if axis in axes else n for axis, n in enumerate(a.shape))
    out = np.zeros(kept)
    for e in np.ndindex(*kept):
        ranges = [range(n) if axis in axes else [e[axis]] for axis, n in enumerate(a.shape)]
        values = [float(a[i]) for i in itertools.product(*ranges)]
        out[e] = math.fsum(values) / max(len(values), 1)
    return out
