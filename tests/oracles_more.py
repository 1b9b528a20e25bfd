"""Oracles of whitening, local response norm, divisive normalization and inference: plain loops, on Python floats."""

import math

import numpy as np


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
