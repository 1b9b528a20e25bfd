"""Whitening: standardization with a full matrix, which also removes correlations.

Any W with W^T W = S^-1 turns covariance S into the identity.  Three choices:

    zca        W = U diag(1/s) U^T     stays closest to the data; W is symmetric
    pca        W = diag(1/s) U^T       principal components, the largest variance first
    cholesky   W = L^-1, S = L L^T     feature i, less what features 0 to i - 1 tell of it

where S = U diag(s**2) U^T.  With one feature all three are `standardize`.
"""

from typing import NamedTuple

import numpy as np

from . import checks
from .sums import centered, mean


class WhiteningCache(NamedTuple):
    """What `whiten_backward` needs.  y = z @ rotation and z = x_centered @ to_z."""

    z: np.ndarray  # (N, D)
    to_z: np.ndarray  # (D, D)
    rotation: np.ndarray  # (D, D), orthogonal
    share: np.ndarray  # (D, D), share + share.T == 1


def whiten(x, *, method="zca", eps=0.0):
    """Give the rows of x mean 0 and covariance I.

        mu = mean(x),   S = (x - mu)^T (x - mu) / N + eps * I
        y  = (x - mu) W^T,   W^T W = S^-1

    The covariance divides by N (biased), as `standardize` does, and is computed
    in float64, because its condition number is the square of that of x.

    Args:
        x: (N, D), floating; rows are samples.
        method: "zca", "pca" or "cholesky".
        eps: added to each variance; a direction of variance v gets v / (v + eps).
    Returns:
        y with the shape and type of x, and the cache for `whiten_backward`.
    Raises:
        TypeError: x is not of a floating type.
        ValueError: x is not (N, D), D is 0, N is 1, method is unknown, eps is negative,
            or eps is 0 and the covariance is singular, as it is for N <= D, or so
            nearly singular that y could not be made white to 1e-6.
    Source: Kessy, Lewin & Strimmer 2018, who factor S^-1, not S, for Cholesky.
    """
    x = checks.array("x", x)
    checks.samples(x.shape)
    checks.method(method, _METHODS)
    checks.not_negative(eps)
    n, d = x.shape
    x_centered, _ = centered(x.astype(np.float64), (0,))
    with np.errstate(invalid="ignore", over="ignore"):  # a batch of 0 has covariance 0 / 0
        cov = x_centered.T @ x_centered / n + eps * np.eye(d)
    checks.no_overflow(np.isfinite(cov).all(), np.max(np.abs(x), initial=0 if n else np.inf))
    if not np.isfinite(cov).all():  # x holds NaN or infinity, or nothing
        z, to_z, rotation, share = x_centered, *[np.full((d, d), np.nan)] * 3
    else:
        z, to_z, rotation, share = _whitened(x_centered, cov, method, eps)
    return (z @ rotation).astype(x.dtype), WhiteningCache(z, to_z, rotation, share)


def whiten_backward(dy, cache):
    """Gradient of a loss with respect to the input of `whiten`, exact for every method and eps.

        dz = dy rotation^T,   A = z^T dz / N
        dx = (dz - mean(dz) - z (share * A + share^T * A^T)) to_z^T

    Two features that were made uncorrelated must stay so, however x moves; the
    methods differ in how they share that duty between features i and j:

        zca         share_ij = s_i / (s_i + s_j)
        cholesky    share_ij = 1 where i < j, 1/2 where i = j, 0 where i > j
        pca         share_ij = s_i**2 / (s_i**2 - s_j**2),   1/2 where i = j

    Only PCA divides by a difference, so only its gradient grows without bound
    as two variances meet.  With D = 1 this is `standardize_backward`.

    Args:
        dy: dL/dy, (N, D).
        cache: second result of `whiten`.
    Returns:
        dx, with the shape and type of dy.
    Raises:
        TypeError: dy is not of a floating type.
        ValueError: dy has another shape than x, or method was "pca" and two
            variances are equal, so that there is no gradient.
    Source: own derivation; Huang et al. 2018 train through ZCA, by way of the eigenvectors.
    """
    checks.cache(cache, WhiteningCache)
    z, to_z, rotation, share = cache
    dy = checks.array("dy", dy)
    checks.same_shape("dy", dy.shape, "y", z.shape)
    checks.no_tie(np.argwhere(np.isinf(share)))
    dz = dy.astype(np.float64) @ rotation.T
    overlap = share * (z.T @ dz) / len(z)
    dx = (dz - mean(dz, (0,)) - z @ (overlap + overlap.T)) @ to_z.T
    return dx.astype(dy.dtype)


def _whitened(x_centered, cov, method, eps):
    """z and the factors of W; for a covariance whose inverse is known to too few digits, an error."""
    n, d = x_centered.shape
    var = np.linalg.eigvalsh(cov)
    lost = d * np.finfo(float).eps * var[-1]  # rounding moves each variance by about this much
    checks.full_rank(np.count_nonzero(var > lost), n, d, eps)
    try:
        factors = _METHODS[method](cov)
    except np.linalg.LinAlgError:  # rounding has made a variance negative
        checks.white(np.inf, var[0], var[-1], eps)
    z = x_centered @ factors[0]
    if var[0] * checks.WHITE < 10 * lost:
        expected = np.eye(d) - eps * factors[0].T @ factors[0]
        checks.white(np.max(np.abs(z.T @ z / n - expected)), var[0], var[-1], eps)
    return z, *factors


def _zca(cov):
    s, u = _principal_axes(cov)
    return u / s, u.T, s[:, None] / (s[:, None] + s)


def _pca(cov):
    s, u = _principal_axes(cov)
    var = s**2
    gap = var[:, None] - var
    gap[np.abs(gap) <= len(var) * np.finfo(float).eps * var.max()] = 0  # as far as eigh can tell, a tie
    with np.errstate(divide="ignore"):
        share = var[:, None] / gap
    np.fill_diagonal(share, 0.5)
    return u / s, np.eye(len(var)), share


def _cholesky(cov):
    d = len(cov)
    return np.linalg.inv(np.linalg.cholesky(cov)).T, np.eye(d), np.triu(np.ones((d, d)), 1) + np.eye(d) / 2


_METHODS = {"zca": _zca, "pca": _pca, "cholesky": _cholesky}


def _principal_axes(cov):
    """Standard deviations, the largest first, and unit vectors whose largest entry is positive."""
    var, u = np.linalg.eigh(cov)
    var, u = var[::-1], u[:, ::-1]
    largest = np.argmax(np.abs(u), axis=0)
    return np.sqrt(var), u * np.sign(u[largest, np.arange(len(var))])
