"""Whitening in plain lines, to be read beside `course_lib/whitening.py`; in float64, whatever the type of x."""

import torch

from .. import checks
from .lines import first_derivative_only


class Whiten(torch.autograd.Function):
    """Mirrors `whiten` and `whiten_backward` of `course_lib`: y, mean and covariance, and what is kept."""

    @staticmethod
    def forward(x, method, eps):
        n, d = x.shape
        wide = x.to(torch.float64)
        mu = wide.sum(0) / max(n, 1)
        x_centered = wide - mu
        cov = x_centered.T @ x_centered / max(n, 1)
        ridge = cov + eps * torch.eye(d, dtype=cov.dtype, device=cov.device)
        if not _has_inverse(ridge, x):  # nothing to whiten, or nothing that could be: NaN goes on
            z, to_z, rotation, share = x_centered, *[torch.full_like(cov, torch.nan)] * 3
        else:
            z, to_z, rotation, share = _whitened(x_centered, ridge, method, eps)
        return (z @ rotation).to(x.dtype), mu, cov, z, to_z, rotation, share

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(inputs[0], *output[3:])
        ctx.mark_non_differentiable(*output[1:])

    @staticmethod
    @first_derivative_only("whiten")
    def backward(ctx, dy, *_):
        _, z, to_z, rotation, share = ctx.saved_tensors
        checks.no_tie(share.isinf().nonzero().tolist())
        n = max(len(z), 1)
        dz = dy.to(z.dtype) @ rotation.T
        overlap = share * (z.T @ dz) / n
        dx = (dz - dz.sum(0, keepdim=True) / n - z @ (overlap + overlap.T)) @ to_z.T
        return dx.to(dy.dtype), None, None


def whiten_inference(x, mean, cov, eps):
    """ZCA whitening with given statistics."""
    d, cov = len(cov), cov.to(torch.float64)
    ridge = cov + eps * torch.eye(d, dtype=cov.dtype, device=cov.device)
    if not ridge.is_meta and not ridge.isfinite().all():  # a batch has brought NaN into the running statistics
        return torch.full_like(x, torch.nan)
    if not ridge.is_meta:
        checks.full_rank(_rank(ridge)[0], None, d, eps)
    to_z, rotation, _ = _zca(ridge)
    return ((x.to(cov.dtype) - mean) @ (to_z @ rotation)).to(x.dtype)


def _has_inverse(cov, x):
    """Are there numbers in it?  An overflow is an error."""
    if x.is_meta or x.numel() == 0:
        return x.is_meta
    finite = bool(cov.isfinite().all())
    checks.no_overflow(finite, float(x.abs().max()))
    return finite


def _rank(cov):
    """The rank as far as rounding lets tell, the smallest and the largest variance, and how far rounding moves them."""
    var = torch.linalg.eigvalsh(cov)
    lost = len(cov) * torch.finfo(cov.dtype).eps * float(var[-1])
    return int((var > lost).sum()), float(var[0]), float(var[-1]), lost


def _whitened(x_centered, cov, method, eps):
    """z and the factors of W; for a covariance whose inverse is known to too few digits, an error."""
    if cov.is_meta:
        factors = METHODS[method](cov)
        return x_centered @ factors[0], *factors
    n, d = x_centered.shape
    rank, smallest, largest, lost = _rank(cov)
    checks.full_rank(rank, n, d, eps)
    try:
        factors = METHODS[method](cov)
    except torch.linalg.LinAlgError:  # rounding has made a variance negative
        checks.white(torch.inf, smallest, largest, eps)
    z = x_centered @ factors[0]
    if smallest * checks.WHITE < 10 * lost:
        expected = torch.eye(d, dtype=z.dtype, device=z.device) - eps * factors[0].T @ factors[0]
        checks.white(float((z.T @ z / n - expected).abs().max()), smallest, largest, eps)
    return z, *factors


def _zca(cov):
    s, u = _principal_axes(cov)
    return u / s, u.T, s[:, None] / (s[:, None] + s)


def _pca(cov):
    s, u = _principal_axes(cov)
    var = s**2
    gap = var[:, None] - var
    gap[gap.abs() <= len(var) * torch.finfo(cov.dtype).eps * var.max()] = 0  # as far as eigh can tell, a tie
    share = (var[:, None] / gap).fill_diagonal_(0.5)
    return u / s, torch.eye(len(var), dtype=cov.dtype, device=cov.device), share


def _cholesky(cov):
    eye = torch.eye(len(cov), dtype=cov.dtype, device=cov.device)
    to_z = torch.linalg.solve_triangular(torch.linalg.cholesky(cov), eye, upper=False).T
    return to_z, eye, torch.ones_like(cov).triu(1) + eye / 2


METHODS = {"zca": _zca, "pca": _pca, "cholesky": _cholesky}


def _principal_axes(cov):
    """Standard deviations, the largest first, and unit vectors whose largest entry is positive."""
    var, u = torch.linalg.eigh(cov)
    var, u = var.flip(0), u.flip(1)
    largest = u.abs().argmax(0, keepdim=True)
    return var.sqrt(), u * u.gather(0, largest).sign()
