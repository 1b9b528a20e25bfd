"""The lines of `lines.py` and `lrn.py` in blocks that stay in a cache of the CPU from step to step.

A CPU has its arrays in memory, and each step of a chain of torch operations
moves them there and back.  So x is cut where no statistics are shared, results
are written in place, and x_hat is computed again instead of kept.
"""

from itertools import repeat
from math import gcd

import torch

from . import lines
from .lines import norm_gradients, tlu_backward, total, transformed, wide
from .lrn import inverse_power, window_gradient, window_sum

BLOCK = 2**17  # entries worked on at once: a few arrays of 512 kB stay in the cache of a core


class Norm(torch.autograd.Function):
    """`lines.Norm`, which keeps x and the statistics, not x_hat: x is there anyway, and x_hat is three steps away."""

    @staticmethod
    def forward(ctx, x, gamma, beta, eps, axes, center):
        y, kept = torch.empty_like(x), [1 if axis in axes else n for axis, n in enumerate(x.shape)]
        mu, rest, var = torch.zeros((3, *kept), dtype=wide(x), device=x.device)
        for part in _blocks(axes, x, gamma, beta, eps, mu, rest, var, y):
            _forward(*part, axes=axes, center=center)
        ctx.save_for_backward(x, gamma, beta, eps if torch.is_tensor(eps) else None, mu, rest, var)
        ctx.eps, ctx.axes, ctx.center = eps, axes, center
        mean = mu + rest
        ctx.mark_non_differentiable(mean, var)
        return y, mean, var

    @staticmethod
    def backward(ctx, dy, *_):
        x, gamma, beta, eps, mu, rest, var = ctx.saved_tensors
        eps_given = ctx.eps if eps is None else eps
        if torch.is_grad_enabled() or transformed(dy):  # the gradient is to be differentiated, or comes in batches
            return *norm_gradients(dy, x, gamma, beta, eps_given, ctx.axes, ctx.center), None, None
        dx = torch.empty_like(x)
        dgamma, dbeta, deps = torch.zeros((3, *gamma.shape), dtype=mu.dtype, device=x.device)
        dbeta, deps = (None if parameter is None else d for d, parameter in ((dbeta, beta), (deps, eps)))
        inv_std = torch.rsqrt(var + eps_given)
        shared = tuple(axis for axis, n in enumerate(gamma.shape) if n == 1)
        for part in _blocks(ctx.axes, x, dy, gamma, mu, rest, inv_std, dx, dgamma, dbeta, deps):
            _backward(*part, axes=ctx.axes, shared=shared, center=ctx.center)
        return dx, dgamma.to(gamma.dtype), _like(dbeta, beta), _like(deps, eps), None, None


def _forward(x, gamma, beta, eps, mu, rest, var, y, *, axes, center):
    """The lines of `standardize`, then gamma and beta.  Writes into mu, rest, var and y, and works in y if it can."""
    x = x.to(mu.dtype)
    x_centered, y_wide = x, y if y.dtype == mu.dtype else torch.empty_like(x)
    if center:
        _mean(x, axes, out=mu)
        x_centered = torch.sub(x, mu, out=y_wide)
        _mean(x_centered, axes, out=rest)  # what the rounding of mu has left
        x_centered -= rest
    _mean_square(x_centered, axes, out=var)
    inv_std = torch.rsqrt(var + eps)
    if gamma.shape[-1] == 1:  # few gammas: multiply the small factors first
        torch.mul(x_centered, gamma * inv_std, out=y_wide)
        y.copy_(y_wide if beta is None else y_wide.add_(beta))
    else:
        x_hat = torch.mul(x_centered, inv_std, out=y_wide)
        y.copy_(x_hat.mul_(gamma) if beta is None else torch.addcmul(beta, x_hat, gamma, out=x_hat))


def _backward(x, dy, gamma, mu, rest, inv_std, dx, dgamma, dbeta, deps, *, axes, shared, center):
    """The lines of `norm_backward` and `standardize_backward`; writes dx, adds to dgamma, dbeta and deps.

        dx = inv_std * (dx_hat - mean(dx_hat) - x_hat * mean(dx_hat * x_hat)),   dx_hat = gamma * dy
    """
    inner = tuple(axis for axis in axes if axis in shared)  # one gamma: sum first, then multiply few numbers
    share = max(1, mu.numel()) / max(1, x.numel())  # 1 / m: a mean is this much of a sum
    x, dy = x.to(mu.dtype), dy.to(mu.dtype)
    x_centered = (x - mu).sub_(rest) if center else x
    dx_wide = dx if dx.dtype == mu.dtype else torch.empty_like(dy)
    dy_x_hat = total(torch.mul(dy, x_centered, out=dx_wide), inner).mul_(inv_std)
    dgamma += total(dy_x_hat, shared)
    along_x = total(dy_x_hat.mul_(gamma), axes) * inv_std**2
    if deps is not None:
        deps += total(-0.5 * along_x, shared)
    if center or dbeta is not None:
        dy_total = total(dy, inner)
    if dbeta is not None:
        dbeta += total(dy_total, shared)
    if gamma.shape[-1] == 1:
        scale = gamma * inv_std
        torch.mul(dy, scale, out=dx_wide)
        along_1 = total(dy_total * scale, axes) if center else None
    else:
        torch.mul(dy, gamma, out=dx_wide).mul_(inv_std)
        along_1 = total(dx_wide, axes) if center else None
    dx_wide.addcmul_(x_centered, along_x, value=-share)
    dx.copy_(dx_wide.sub_(along_1, alpha=share) if center else dx_wide)


class TLU(lines.TLU):
    """`lines.TLU`, whose backward pass goes block by block."""

    @staticmethod
    def backward(ctx, dz):
        z, tau = ctx.saved_tensors
        if torch.is_grad_enabled() or transformed(dz):  # linear in dz, in steps that autograd can follow
            dy, dtau = tlu_backward(dz, z, tau)
            return dy, dtau.to(tau.dtype)
        dy, dtau = torch.empty_like(z), torch.zeros_like(tau, dtype=wide(z))
        for z_, dz_, tau_, dy_, dtau_ in _blocks((), z, dz, tau, dy, dtau):
            dy_part, dtau_part = tlu_backward(dz_, z_, tau_)
            dy_.copy_(dy_part)
            dtau_ += dtau_part
        return dy, dtau.to(tau.dtype)


class LocalResponseNorm(torch.autograd.Function):
    """`lrn.LocalResponseNorm` in blocks."""

    @staticmethod
    def forward(ctx, x, size, k, alpha, beta):
        y, t = torch.empty_like(x), torch.empty_like(x, dtype=wide(x))
        for x_, y_, t_ in _blocks((1,), x, y, t):
            squares = x_.to(t.dtype).square()
            torch.mul(window_sum(squares, left=size // 2, right=(size - 1) // 2), alpha, out=t_).add_(k)
            y_.copy_(inverse_power(t_, beta).mul_(x_))
        ctx.save_for_backward(x, t)
        ctx.setting = size, k, alpha, beta
        return y

    @staticmethod
    def backward(ctx, dy):
        x, t = ctx.saved_tensors
        size, _, alpha, beta = ctx.setting
        if torch.is_grad_enabled() or transformed(dy):
            return window_gradient(dy, x, *ctx.setting), None, None, None, None
        dx = torch.empty_like(x)
        for x_, dy_, t_, dx_ in _blocks((1,), x, dy, t, dx):
            direct = inverse_power(t_, beta).mul_(dy_)
            seen_by = window_sum((direct * x_).div_(t_), left=(size - 1) // 2, right=size // 2)
            dx_.copy_(direct.addcmul_(seen_by, x_.to(t.dtype), value=-2 * alpha * beta))
        return dx, None, None, None, None


def _blocks(axes, x, *others):
    """Parts of x and of the others, one after the other, that stay in the cache from step to step.

    The cut is along the first axis that shares no statistics, so each part is a
    problem of its own.  What broadcasts along it, or is no tensor, is passed on.
    """
    axis = next((k for k, n in enumerate(x.shape[:-1]) if k not in axes and n > 1), None)
    if axis is None or x.numel() <= BLOCK or not x.is_contiguous():
        yield x, *others
        return
    step = max(1, BLOCK * x.shape[axis] // x.numel())
    split = [a.split(step, axis) if torch.is_tensor(a) and a.ndim and a.shape[axis] > 1 else repeat(a)
             for a in (x, *others)]
    yield from zip(*split, strict=False)


def _mean(a, axes, *, out=None):
    """The mean over `axes`, which stay; that of nothing is 0."""
    if axes and a.numel():
        return torch.mean(a, axes, keepdim=True, out=out)
    return total(a, axes) if out is None else out.copy_(total(a, axes))


def _mean_square(a, axes, *, out):
    """The mean of a**2 over `axes`, which stay.

    A norm needs no array of squares.  But it adds one by one, in float32: 256
    squares at a time keep as many digits as torch's sum does.
    """
    row = a.shape[-1] if a.shape[-1] <= 256 else gcd(a.shape[-1], 256)
    if not a.numel() or row < 32 or a.ndim - 1 not in axes or a.stride(-1) != 1:  # very short rows take long
        return _mean(a.square(), axes, out=out)
    squares = torch.linalg.vector_norm(a.view(*a.shape[:-1], -1, row), dim=-1).square_()
    return torch.sum(squares, axes, keepdim=True, out=out).div_(a.numel() // out.numel())


def _like(gradient, parameter):
    return None if parameter is None else gradient.to(parameter.dtype)
