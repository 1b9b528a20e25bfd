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


def local_response_norm(x, size, k, alpha, beta):
    """Krizhevsky et al. 2012, section 3.3, even windows as in torch: size // 2 to the left."""
    y = np.empty_like(x)
    n, channels, *space = x.shape
    for i, c, *s in np.ndindex(n, channels, *space):
        energy = 0.0
        for j in range(c - size // 2, c + (size - 1) // 2 + 1):
            if 0 <= j < channels:
                energy += float(x[i, j, *s]) ** 2
        y[i, c, *s] = float(x[i, c, *s]) / (k + alpha * energy) ** beta
    return y


def local_response_norm_backward(x, dy, size, k, alpha, beta):
    """The chain rule, one pair (output i, input j) at a time."""
    dx = np.zeros_like(x)
    n, channels, *space = x.shape
    for m, i, *s in np.ndindex(n, channels, *space):
        window = [j for j in range(i - size // 2, i + (size - 1) // 2 + 1) if 0 <= j < channels]
        bracket = k + alpha * sum(float(x[m, j, *s]) ** 2 for j in window)
        for j in window:
            own = bracket**-beta if i == j else 0.0
            through_bracket = -beta * bracket ** (-beta - 1) * 2 * alpha * float(x[m, j, *s]) * float(x[m, i, *s])
            dx[m, j, *s] += dy[m, i, *s] * (own + through_bracket)
    return dx


def divisive_norm(x, weights, sigma, exponent):
    """Carandini & Heeger 2012, Eq. 10, with a weight for each pair."""
    y = np.empty_like(x)
    n, channels, *space = x.shape
    for i, j, *s in np.ndindex(n, channels, *space):
        pool = sum(float(weights[j, c]) * float(x[i, c, *s]) ** exponent for c in range(channels))
        y[i, j, *s] = float(x[i, j, *s]) ** exponent / (sigma**exponent + pool)
    return y


def covariance(x):
    """Biased covariance of the rows of x, entry by entry."""
    n, d = x.shape
    mean = [math.fsum(x[:, i]) / n for i in range(d)]
    cov = np.empty((d, d))
    for i, j in np.ndindex(d, d):
        cov[i, j] = math.fsum((x[r, i] - mean[i]) * (x[r, j] - mean[j]) for r in range(n)) / n
    return np.array(mean), cov


def moments(x):
    """Mean and unbiased variance of each channel, over samples and positions."""
    n, channels, *space = x.shape
    means, variances = [], []
    for c in range(channels):
        values = [float(x[i, c, *s]) for i in range(n) for s in np.ndindex(*space)]
        mu = math.fsum(values) / len(values)
        means.append(mu)
        biased = math.fsum((v - mu) ** 2 for v in values) / len(values)
        variances.append(len(values) / (len(values) - 1) * biased)
    return np.array(means), np.array(variances)


def batch_norm_inference(x, gamma, beta, mean, var, eps):
    """Ioffe & Szegedy 2015, Algorithm 2, line 11."""
    y = np.empty_like(x)
    for i, c, *s in np.ndindex(*x.shape):
        root = math.sqrt(var[c] + eps)
        y[i, c, *s] = gamma[c] / root * float(x[i, c, *s]) + (beta[c] - gamma[c] * mean[c] / root)
    return y
