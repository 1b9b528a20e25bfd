"""Whitening in plain lines, to be read beside `course_lib/whitening.py`; in float64, whatever the type of x."""

import torch

from .. import checks
from .lines import first_derivative_only


class Whiten(torch.autograd.Function):
    """Mirrors `whiten` and `whiten_backward` of `course_lib`; mean and covariance come out as well, and what is kept."""

    @staticmethod
    def forward(x, method, eps):
        n, d = x.shape
        wide = x.to(torch.float64)
        mu = wide.sum(0) / max(n, 1)
        x_centered = wide - mu
        cov = x_centered.T @ x_centered / max(n, 1)
        ridge = cov + eps * torch.eye(d, dtype=cov.dtype, device=cov.device)
        if x.numel() == 0 or ridge.isnan().any():  # nothing to whiten, or nothing that could be: NaN goes on
            to_z = rotation = share = torch.full_like(cov, torch.nan)
        else:
            checks.full_rank(int(torch.linalg.matrix_rank(ridge, hermitian=True)), n, d)
            to_z, rotation, share = METHODS[method](ridge)
        z = x_centered @ to_z
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
    wide = cov.to(torch.float64)
    to_z, rotation, _ = _zca(wide + eps * torch.eye(len(cov), dtype=wide.dtype, device=wide.device))
    return ((x.to(wide.dtype) - mean) @ (to_z @ rotation)).to(x.dtype)


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
