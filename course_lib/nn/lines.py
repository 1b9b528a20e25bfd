"""The torch half in plain lines, to be read beside `course_lib/standardize.py` and `course_lib/norms.py`.

`cpu.py` does the same in blocks that fit a cache, `gpu/` in fused kernels.  The
lines run on every other device, for types that no kernel takes, and wherever
more than a first gradient is asked for: plain steps can be followed twice, in
forward mode and by `torch.func`.  Half types are computed in float32 and rounded
at the end.
"""

from functools import wraps

import torch
from torch.autograd import forward_ad


def standardize(x, axes, *, center=True, eps=1e-5):
    """Mirrors `course_lib.standardize`: x_hat and inv_std for the backward pass, and the mean and biased variance."""
    x = widen(x)
    x_centered, mu = centered(x, axes) if center else (x, x.new_zeros(()))
    var = mean(x_centered.square(), axes)
    inv_std = torch.rsqrt(var + eps)
    x_hat = x_centered * inv_std
    return x_hat, inv_std, mu, var


def standardize_backward(dx_hat, x_hat, inv_std, axes, center):
    """Mirrors `course_lib.standardize_backward`."""
    along_1 = mean(dx_hat, axes) if center else 0
    along_x_hat = x_hat * mean(dx_hat * x_hat, axes)
    return inv_std * (dx_hat - along_1 - along_x_hat)


def norm(x, gamma, beta, eps, axes, center):
    """Mirrors `_norm` of `course_lib.norms`: y, mean, variance; gamma, beta and a learned eps broadcast against x."""
    x_hat, _, mu, var = standardize(x, axes, center=center, eps=eps)
    y = x_hat * gamma if beta is None else x_hat * gamma + beta
    return y.to(x.dtype), mu, var


def tlu(y, tau):
    """Mirrors `course_lib.tlu`; tau broadcasts against y.  At y = tau the gradient goes to tau, NaN stays NaN."""
    return torch.where((y > tau) | y.isnan(), y, tau.to(y.dtype))


class Norm(torch.autograd.Function):
    """`norm`, with the gradients that `norm_backward` of `course_lib.norms` writes down."""

    @staticmethod
    def forward(ctx, x, gamma, beta, eps, axes, center):
        x_hat, inv_std, mu, var = standardize(x, axes, center=center, eps=eps)
        y = x_hat * gamma if beta is None else x_hat * gamma + beta
        ctx.save_for_backward(x, gamma, beta, eps if torch.is_tensor(eps) else None, x_hat, inv_std)
        ctx.eps, ctx.axes, ctx.center = eps, axes, center
        ctx.mark_non_differentiable(mu, var)
        return y.to(x.dtype), mu, var

    @staticmethod
    def backward(ctx, dy, *_):
        x, gamma, beta, eps, x_hat, inv_std = ctx.saved_tensors
        if torch.is_grad_enabled():  # somebody wants to differentiate the gradient
            eps = ctx.eps if eps is None else eps
            return *norm_gradients(dy, x, gamma, beta, eps, ctx.axes, ctx.center), None, None
        dy = widen(dy)
        dx_hat = dy * gamma
        dx = standardize_backward(dx_hat, x_hat, inv_std, ctx.axes, ctx.center)
        dgamma = (dy * x_hat).sum_to_size(gamma.shape)
        dbeta = None if beta is None else dy.sum_to_size(beta.shape)
        deps = None if eps is None else -0.5 * (total(dx_hat * x_hat, ctx.axes) * inv_std**2).sum_to_size(eps.shape)
        return dx, dgamma, dbeta, deps, None, None  # autograd rounds each to the type of its input


def norm_gradients(dy, x, gamma, beta, eps, axes, center):
    """The gradients of `norm` for x, gamma, beta and eps, with a graph."""
    return gradients(lambda *inputs: norm(*inputs, axes, center)[0], (x, gamma, beta, eps), dy)


def gradients(function, inputs, dy):
    """The gradients of plain lines, with a graph for the second derivative; None for what needs none."""
    with torch.enable_grad():  # aliases: where gamma depends on x, or is beta as well, each path is followed once
        inputs = [p.view_as(p) if torch.is_tensor(p) else p for p in inputs]
        wanted = [p for p in inputs if torch.is_tensor(p) and p.requires_grad]
        found = iter(torch.autograd.grad(function(*inputs), wanted, dy, create_graph=True))
    return [next(found) if torch.is_tensor(p) and p.requires_grad else None for p in inputs]


def transformed(*tensors):
    """Do `torch.func`, forward mode or batches of gradients follow each step?  A step of our own would stop them."""
    # Of two of the three torch has no public way to tell.
    return torch._C._are_functorch_transforms_active() or any(
        torch._C._functorch.is_legacy_batchedtensor(t) or forward_ad.unpack_dual(t).tangent is not None
        for t in tensors if torch.is_tensor(t))


def first_derivative_only(name):
    """Makes a `backward` whose results, where they have a graph, refuse to be differentiated.

    torch's `once_differentiable` refuses only where dy has a derivative too; else it is silent, and the second
    derivative is 0.
    """
    def decorate(backward):
        @wraps(backward)
        def run(ctx, *dy):
            with torch.no_grad():
                found = backward(ctx, *dy)
            if not torch.is_grad_enabled():
                return found
            return tuple(None if d is None else _Refusal.apply(d, name, *dy, *ctx.saved_tensors) for d in found)
        return run
    return decorate


class _Refusal(torch.autograd.Function):
    """A gradient, which depends on tensors in a way that has no derivative here."""

    generate_vmap_rule = True

    @staticmethod
    def forward(gradient, name, *sources):
        return gradient.clone()

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.name = inputs[1]

    @staticmethod
    def backward(ctx, _):
        raise RuntimeError(f"cannot differentiate twice: {ctx.name} has a first derivative only")


def layer(x, gamma, beta, tau, eps, over, center, *, norm=norm, tlu=tlu):
    """Any layer on parameters as users give them: y, mean and variance.

    Args:
        x: any shape that `over` has words for.
        gamma, beta, tau: of the shape of a channel axis or of the last axes, or None.
        eps: a number, or a tensor (C,); with "axes" one that broadcasts against the statistics.
        over: an `Over`.
        norm, tlu: those of this module, or steps of our own, which know their gradients.
    """
    gamma, beta, eps = (over.lift(p, x.ndim) for p in (gamma, beta, eps))
    seen = over.split(x)
    if gamma is None:
        gamma = torch.ones_like(eps) if torch.is_tensor(eps) else seen.new_ones((1,) * seen.ndim)
    y, mu, var = norm(seen, gamma, beta, eps, over.axes(x.ndim), center)
    y = over.joined(y)
    return y if tau is None else tlu(y, per_channel(tau, x.ndim)), mu, var


class TLU(torch.autograd.Function):
    """`tlu`, with the gradients that `tlu_backward` of `course_lib` writes down."""

    @staticmethod
    def forward(ctx, y, tau):
        z = torch.maximum(y, tau.to(y.dtype))
        ctx.save_for_backward(z, tau)
        return z

    @staticmethod
    def backward(ctx, dz):
        z, tau = ctx.saved_tensors
        dy, dtau = tlu_backward(dz, z, tau)
        return dy, dtau.to(tau.dtype)


def tlu_backward(dz, z, tau):
    """Mirrors `course_lib.tlu_backward`: linear in dz, in steps that autograd can follow."""
    z, tau = z.detach(), tau.detach().to(z.dtype)
    dy = dz * torch.gt(z, tau, out=torch.empty_like(z))  # numbers 0 and 1: torch is slow to multiply with booleans
    return dy, total(widen(dz - dy), (0, *range(2, z.ndim)))


def batch_norm_inference(x, gamma, beta, mean, var, eps):
    """Mirrors `course_lib.batch_norm_inference`."""
    gamma, beta, mean, var = (per_channel(p, x.ndim) for p in (gamma, beta, mean, var))
    inv_std = torch.rsqrt(widen(var, x) + eps)
    y = (x - widen(mean, x)) * (inv_std if gamma is None else gamma * inv_std)
    return (y if beta is None else y + beta).to(x.dtype)


def centered(a, axes):
    """Mirrors `course_lib.sums.centered`: the mean goes, then what its rounding has left."""
    first = mean(a, axes)
    a_centered = a - first
    rest = mean(a_centered, axes)
    return a_centered - rest, first + rest


def mean(a, axes):
    """The mean over `axes`, which stay as axes of length 1; that of nothing is 0."""
    return a.mean(axes, keepdim=True) if axes and a.numel() else total(a, axes)


def total(a, axes):
    """The sum over `axes`, which stay as axes of length 1; torch's own sum over no axes would be over all."""
    return a.sum(axes, keepdim=True) if axes else a


def widen(a, like=None):
    """`a`, in float32 if it, or what it is used with, is of a smaller type."""
    return a.to(wide(a if like is None else like))


def wide(a):
    """The type in which to compute with `a`: float32 or wider."""
    return torch.promote_types(a.dtype, torch.float32)


def per_channel(parameter, ndim):
    """A parameter (C,) with its axis where the channels of x are; None stays."""
    return None if parameter is None else parameter.reshape(1, -1, *(1,) * (ndim - 2))
