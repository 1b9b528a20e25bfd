"""The torch half: the lines of the NumPy half as `autograd.Function`s, on whatever device x is on.

Names, arguments and conventions are those of `course_lib`, but autograd takes
the place of cache and backward, so that each function returns its result alone.
Half types are computed in float32 and rounded once, at the end.  gamma and beta
may be None, which means 1 and 0.

On a GPU the same formulas run as fused kernels (`fused.py`) in float16, bfloat16
and float32, where Triton is installed; `use_kernels(False)` runs these lines.
"""

from itertools import repeat
from math import gcd, prod

import torch
from torch.autograd.function import once_differentiable

__all__ = [
    "batch_norm",
    "batch_norm_inference",
    "filter_response_norm",
    "filter_response_norm_tlu",
    "group_norm",
    "instance_norm",
    "layer_norm",
    "local_response_norm",
    "rms_norm",
    "standardize",
    "tlu",
    "whiten",
]

KERNELS = True  # set by `use_kernels`
BLOCK = 2**17  # entries worked on at once on a CPU: a few arrays of 512 kB stay in the cache of a core


class use_kernels:
    """Turns the fused GPU kernels on or off, for good or, in a `with` statement, for a while.

    They are on at first, and serve tensors on a GPU in float16, bfloat16 and
    float32; whitening, windows of 10 channels and more, and axes that belong
    to no layer run in the torch lines of this module there too.  Turned off,
    all do.  The results differ by the rounding of sums.

    Args:
        enabled: True or False.
    """

    def __init__(self, enabled):
        global KERNELS
        self.before, KERNELS = KERNELS, bool(enabled)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        global KERNELS
        KERNELS = self.before


class Norm(torch.autograd.Function):
    """Mirrors `_norm` and `norm_backward` of `course_lib.norms`; gamma, beta and a learned eps broadcast against x.

    Keeps x and the statistics, not x_hat: x is there anyway, and x_hat is three
    steps away.  Mean and biased variance come out as well, for running
    statistics; no gradient flows through these two.
    """

    @staticmethod
    def forward(ctx, x, gamma, beta, eps, axes, center):
        y = torch.empty_like(x)
        mu, rest, var = torch.zeros((3, *_kept(x, axes)), dtype=_wide(x), device=x.device)
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
        if torch.is_grad_enabled():  # somebody wants to differentiate the gradient
            return *_differentiable_gradients(dy, x, gamma, beta, eps_given, ctx), None, None
        dx = torch.empty_like(x)
        dgamma, dbeta, deps = torch.zeros((3, *gamma.shape), dtype=mu.dtype, device=x.device)
        dbeta, deps = (None if parameter is None else total for total, parameter in ((dbeta, beta), (deps, eps)))
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
    dy_x_hat = _total(torch.mul(dy, x_centered, out=dx_wide), inner).mul_(inv_std)
    dgamma += _total(dy_x_hat, shared)
    along_x = _total(dy_x_hat.mul_(gamma), axes) * inv_std**2
    if deps is not None:
        deps += _total(-0.5 * along_x, shared)
    if center or dbeta is not None:
        dy_total = _total(dy, inner)
    if dbeta is not None:
        dbeta += _total(dy_total, shared)
    if gamma.shape[-1] == 1:
        scale = gamma * inv_std
        torch.mul(dy, scale, out=dx_wide)
        along_1 = _total(dy_total * scale, axes) if center else None
    else:
        torch.mul(dy, gamma, out=dx_wide).mul_(inv_std)
        along_1 = _total(dx_wide, axes) if center else None
    dx_wide.addcmul_(x_centered, along_x, value=-share)
    dx.copy_(dx_wide.sub_(along_1, alpha=share) if center else dx_wide)


def _differentiable_gradients(dy, x, gamma, beta, eps, ctx):
    """The gradients of `Norm` by steps that autograd can follow, for second derivatives."""
    x, gamma, beta, eps = inputs = [p.view_as(p) if torch.is_tensor(p) else p for p in (x, gamma, beta, eps)]
    wanted = [i for i, needed in enumerate(ctx.needs_input_grad[:4]) if needed]
    work = x.to(_wide(x))
    x_centered = work - _mean(work, ctx.axes) if ctx.center else work
    if ctx.center:
        x_centered = x_centered - _mean(x_centered, ctx.axes)
    x_hat = x_centered * torch.rsqrt(_mean(x_centered.square(), ctx.axes) + eps)
    y = x_hat * gamma if beta is None else x_hat * gamma + beta
    found = torch.autograd.grad(y.to(x.dtype), [inputs[i] for i in wanted], dy, create_graph=True)
    return [found[wanted.index(i)] if i in wanted else None for i in range(4)]


def standardize(x, axes, *, center=True, eps=1e-5):
    """Mirrors `course_lib.standardize`: give each slice of x along `axes` mean 0 and mean square 1."""
    if not all(-x.ndim <= axis < x.ndim for axis in axes):
        raise ValueError(f"x of shape {tuple(x.shape)} has no axes {tuple(axes)}")
    axes = tuple(sorted({axis % x.ndim for axis in axes}))
    if torch.is_tensor(eps):
        kept = tuple(_kept(x, axes))
        if torch.broadcast_shapes(kept, eps.shape) != kept:
            raise ValueError(f"eps has shape {tuple(eps.shape)}, but the statistics have {kept}")
        eps = eps.reshape((1,) * (x.ndim - eps.ndim) + eps.shape)
    return norm(x, None, None, axes=axes, param_axes=(), center=center, eps=eps)[0]


def batch_norm(x, gamma, beta, *, eps=1e-5):
    """Mirrors `course_lib.batch_norm`: batch norm as in training."""
    _require_channels(x)
    return norm(x, gamma, beta, axes=(0, *range(2, x.ndim)), eps=eps)[0]


def layer_norm(x, gamma, beta, *, eps=1e-5):
    """Mirrors `course_lib.layer_norm`: statistics over the axes of gamma, the last ones."""
    last = _last_axes(x, gamma)
    return norm(x, gamma, beta, axes=last, param_axes=last, eps=eps)[0]


def instance_norm(x, gamma, beta, *, eps=1e-5):
    """Mirrors `course_lib.instance_norm`: statistics over the spatial axes of each sample."""
    _require_channels(x)
    return norm(x, gamma, beta, axes=tuple(range(2, x.ndim)), eps=eps)[0]


def group_norm(x, gamma, beta, *, groups, eps=1e-5):
    """Mirrors `course_lib.group_norm`: statistics over C / groups channels and the spatial axes of each sample."""
    _require_channels(x)
    require_groups(groups, x.shape[1])
    return norm(x, gamma, beta, axes=tuple(range(2, x.ndim + 1)), groups=groups, eps=eps)[0]


def rms_norm(x, gamma, *, eps=1e-5):
    """Mirrors `course_lib.rms_norm`: layer norm without the mean and without beta."""
    last = _last_axes(x, gamma)
    return norm(x, gamma, None, axes=last, param_axes=last, center=False, eps=eps)[0]


def filter_response_norm(x, gamma, beta, *, eps=1e-6):
    """Mirrors `course_lib.filter_response_norm`: instance norm without the mean; eps may be a learned tensor (C,)."""
    _require_channels(x)
    return _filter_response_norm(x, gamma, beta, eps, None)


def _filter_response_norm(x, gamma, beta, eps, tau):
    if torch.is_tensor(eps):
        eps = eps if eps.ndim else eps.expand(x.shape[1])
        _require_shape(x, (1,), eps=eps)
        eps = _broadcast(eps.abs(), x.ndim, (1,))
    return norm(x, gamma, beta, axes=tuple(range(2, x.ndim)), center=False, eps=eps, tau=tau)[0]


def filter_response_norm_tlu(x, gamma, beta, tau, *, eps=1e-6):
    """Mirrors `course_lib.filter_response_norm_tlu`: filter response norm and its unit in one step."""
    _require_channels(x)
    _require_floating(x)
    _require_shape(x, (1,), tau=tau)
    return _filter_response_norm(x, gamma, beta, eps, tau)


def tlu(y, tau):
    """Mirrors `course_lib.tlu`: the thresholded linear unit, max(y, tau)."""
    _require_channels(y)
    _require_floating(y)
    _require_shape(y, (1,), tau=tau)
    return TLU.apply(y, _broadcast(tau, y.ndim, (1,)))


class TLU(torch.autograd.Function):
    """Mirrors `tlu` and `tlu_backward` of `course_lib.norms`."""

    @staticmethod
    def forward(ctx, y, tau):
        z = torch.maximum(y, tau.to(y.dtype))
        ctx.save_for_backward(z, tau)
        return z

    @staticmethod
    def backward(ctx, dz):
        z, tau = ctx.saved_tensors
        if torch.is_grad_enabled():  # linear in dz, in steps that autograd can follow: the second derivative is right
            dy, dtau = _tlu_backward(z, dz, tau)
            return dy, dtau.to(tau.dtype)
        dy, dtau = torch.empty_like(z), torch.zeros_like(tau, dtype=_wide(z))
        for z_, dz_, tau_, dy_, dtau_ in _blocks((), z, dz, tau, dy, dtau):
            dy_part, dtau_part = _tlu_backward(z_, dz_, tau_)
            dy_.copy_(dy_part)
            dtau_ += dtau_part
        return dy, dtau.to(tau.dtype)


def _tlu_backward(z, dz, tau):
    z, tau = z.detach(), tau.detach().to(z.dtype)
    dy = dz * torch.gt(z, tau, out=torch.empty_like(z))  # numbers 0 and 1: torch is slow to multiply with booleans
    return dy, _total((dz - dy).to(_wide(z)), (0, *range(2, z.ndim)))


def batch_norm_inference(x, gamma, beta, mean, var, *, eps=1e-5):
    """Mirrors `course_lib.batch_norm_inference`: batch norm with given statistics, plain steps for autograd."""
    _require_channels(x)
    _require_floating(x)
    _require_shape(x, (1,), gamma=gamma, beta=beta, mean=mean, var=var)
    _require_eps(eps)
    if _fused(x) and not (mean.requires_grad or var.requires_grad):
        return fused.scale_and_shift(x, *map(_dense, (gamma, beta, mean, var)), float(eps))
    return _inference_lines(x, gamma, beta, mean, var, eps)


def _inference_lines(x, gamma, beta, mean, var, eps):
    gamma, beta, mean, var = (None if p is None else _broadcast(p, x.ndim, (1,)) for p in (gamma, beta, mean, var))
    inv_std = torch.rsqrt(var.to(_wide(x)) + eps)
    y = (x - mean.to(_wide(x))) * (inv_std if gamma is None else gamma * inv_std)
    return (y if beta is None else y + beta).to(x.dtype)


class LocalResponseNorm(torch.autograd.Function):
    """Mirrors `local_response_norm` and `local_response_norm_backward` of `course_lib.lrn`."""

    @staticmethod
    def forward(ctx, x, size, k, alpha, beta):
        y, t = torch.empty_like(x), torch.empty_like(x, dtype=_wide(x))
        for x_, y_, t_ in _blocks((1,), x, y, t):
            squares = x_.to(t.dtype).square()
            torch.mul(_window_sum(squares, left=size // 2, right=(size - 1) // 2), alpha, out=t_).add_(k)
            y_.copy_(_inverse_power(t_, beta).mul_(x_))
        ctx.save_for_backward(x, t)
        ctx.size, ctx.alpha, ctx.beta = size, alpha, beta
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx, dy):
        x, t = ctx.saved_tensors
        dx = torch.empty_like(x)
        for x_, dy_, t_, dx_ in _blocks((1,), x, dy, t, dx):
            direct = _inverse_power(t_, ctx.beta).mul_(dy_)
            seen_by = _window_sum((direct * x_).div_(t_), left=(ctx.size - 1) // 2, right=ctx.size // 2)
            dx_.copy_(direct.addcmul_(seen_by, x_.to(t.dtype), value=-2 * ctx.alpha * ctx.beta))
        return dx, None, None, None, None


def local_response_norm(x, *, size=5, k=2.0, alpha=1e-4, beta=0.75):
    """Mirrors `course_lib.local_response_norm`: AlexNet's formula, where alpha is not divided by size."""
    _require_channels(x)
    _require_floating(x)
    require_window(size)
    if not (k >= 0 and alpha >= 0):
        raise ValueError(f"k and alpha must be 0 or more, got k = {k} and alpha = {alpha}")
    if _fused(x) and size <= fused.LARGEST_WINDOW:
        return fused.window(x, size, float(k), float(alpha), float(beta))
    return LocalResponseNorm.apply(x, size, k, alpha, beta)


def _window_sum(a, *, left, right):
    """Sum over the channels i - left, ..., i + right of each i; beyond the ends is nothing."""
    result, channels = a.clone(), a.shape[1]
    for shift in range(1, min(left, channels - 1) + 1):
        result[:, shift:] += a[:, :-shift]
    for shift in range(1, min(right, channels - 1) + 1):
        result[:, :-shift] += a[:, shift:]
    return result


def _inverse_power(t, beta):
    """t**-beta; the usual 0.75 from two roots, which take a tenth of the time of a power."""
    if beta != 0.75:
        return t**-beta
    root = torch.rsqrt(t)
    return root.sqrt().mul_(root)


class Whiten(torch.autograd.Function):
    """Mirrors `whiten` and `whiten_backward` of `course_lib.whitening`; mean and covariance come out as well."""

    @staticmethod
    def forward(ctx, x, method, eps):
        n, d = x.shape
        wide = x.to(torch.float64)
        mu = wide.sum(0) / max(n, 1)
        x_centered = wide - mu
        cov = x_centered.T @ x_centered / max(n, 1)
        ridge = cov + eps * torch.eye(d, dtype=cov.dtype, device=cov.device)
        if x.numel() == 0 or ridge.isnan().any():  # nothing to whiten, or nothing that could be: NaN goes on
            to_z = rotation = share = torch.full_like(cov, torch.nan)
        else:
            _require_full_rank(ridge, n)
            to_z, rotation, share = WHITENING[method](ridge)
        z = x_centered @ to_z
        ctx.save_for_backward(z, to_z, rotation, share)
        ctx.mark_non_differentiable(mu, cov)
        return (z @ rotation).to(x.dtype), mu, cov

    @staticmethod
    @once_differentiable
    def backward(ctx, dy, *_):
        z, to_z, rotation, share = ctx.saved_tensors
        if share.isinf().any():
            i, j = share.isinf().nonzero()[0].tolist()
            raise ValueError(
                f"principal components {i} and {j} have the same variance: pca has no gradient, zca has one")
        n = max(len(z), 1)
        dz = dy.to(z.dtype) @ rotation.T
        overlap = share * (z.T @ dz) / n
        dx = (dz - dz.sum(0, keepdim=True) / n - z @ (overlap + overlap.T)) @ to_z.T
        return dx.to(dy.dtype), None, None


def whiten(x, *, method="zca", eps=0.0):
    """Mirrors `course_lib.whiten`: rows of mean 0 and covariance I."""
    return whiten_with_moments(x, method=method, eps=eps)[0]


def whiten_with_moments(x, *, method="zca", eps=0.0):
    """The result of `whiten`, and the mean and the biased covariance of the rows in float64, for running statistics."""
    _require_floating(x)
    if x.ndim != 2 or x.shape[1] == 0:
        raise ValueError(f"x has shape {tuple(x.shape)}; whitening needs rows of samples, (N, D)")
    if len(x) == 1:
        raise ValueError(f"x of shape {tuple(x.shape)} has 1 sample; a covariance needs 2 or more")
    if method not in WHITENING:
        raise ValueError(f"method is {method!r}; choose one of {', '.join(WHITENING)}")
    _require_eps(eps)
    return Whiten.apply(x, method, eps)


def whiten_inference(x, mean, cov, *, eps=0.0):
    """ZCA whitening of the rows of x with given statistics, in plain steps for autograd."""
    _require_floating(x)
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


WHITENING = {"zca": _zca, "pca": _pca, "cholesky": _cholesky}


def _principal_axes(cov):
    """Standard deviations, the largest first, and unit vectors whose largest entry is positive."""
    var, u = torch.linalg.eigh(cov)
    var, u = var.flip(0), u.flip(1)
    largest = u.abs().argmax(0, keepdim=True)
    return var.sqrt(), u * u.gather(0, largest).sign()


def _require_full_rank(cov, n):
    d, rank = len(cov), int(torch.linalg.matrix_rank(cov, hermitian=True))
    if rank < d:
        raise ValueError(
            f"the covariance of {n} samples with {d} features has rank {rank}; "
            f"whitening needs rank {d}: take more samples, or an eps above 0"
        )


def norm(x, gamma, beta, *, axes, param_axes=(1,), center=True, eps, groups=None, tau=None):
    """Any layer above, with the mean and the biased variance of its slices, which modules keep running averages of.

    Args:
        x: any shape, floating.
        gamma, beta: tensors with the axes `param_axes` of x, or None.
        axes: the axes that share statistics; with `groups`, axes of x seen as (N, groups, C / groups, *S).
        center: False to leave the mean where it is.
        eps: a number, or a tensor that broadcasts against the statistics.
        tau: thresholds (C,) of a TLU that follows, or None.
    Returns:
        y, mean, var; the last two with the reduced axes at length 1.
    """
    _require_floating(x)
    _require_shape(x, param_axes, gamma=gamma, beta=beta)
    seen = x if groups is None else x.unflatten(1, (groups, x.shape[1] // groups))
    _require_statistics(seen, axes, center, eps)
    shared = _fused(x) and _what_is_shared(x, axes, param_axes, groups, eps)
    if shared:
        learned, number = (eps.flatten(), 0.0) if torch.is_tensor(eps) else (None, float(eps))
        gamma, beta, tau, learned = map(_dense, (gamma, beta, tau, learned))
        y, hi, lo, var = fused.norm(x, gamma, beta, tau, learned, number, *shared, center)
        return y, (hi + lo).view(_kept(seen, axes)), var.view(_kept(seen, axes))

    y, mean, var = _norm_lines(seen, *(_lift(p, x, param_axes, groups) for p in (gamma, beta)), eps, axes, center)
    y = y if groups is None else y.flatten(1, 2)
    return y if tau is None else tlu(y, tau), mean, var


def _lift(parameter, x, param_axes, groups):
    """The parameter with its axes where those of x are, or those of x seen in groups."""
    if parameter is None:
        return None
    lifted = _broadcast(parameter, x.ndim, param_axes)
    return lifted if groups is None else lifted.unflatten(1, (groups, x.shape[1] // groups))


def _norm_lines(seen, gamma, beta, eps, axes, center):
    if gamma is None:
        gamma = torch.ones_like(eps) if torch.is_tensor(eps) else seen.new_ones((1,) * seen.ndim)
    return Norm.apply(seen, gamma, beta, eps, axes, center)


def _fused(x):
    """Will the kernels run?"""
    return KERNELS and fused is not None and fused.takes(x)


def _what_is_shared(x, axes, param_axes, groups, eps):
    """Which entries share statistics, in the words of `fused.norm`; None where no kernel knows them."""
    channels, space = x.ndim > 1 and param_axes in ((1,), ()), tuple(range(2, x.ndim))
    by_map = channels and groups is None and axes == space
    if torch.is_tensor(eps):
        return ("group", x.shape[1]) if by_map and eps.shape == (1, x.shape[1], *(1,) * len(space)) else None
    if by_map:
        return "group", x.shape[1]
    if groups is not None:
        return "group", groups
    if channels and axes == (0, *space):
        return "batch", 0
    if axes == tuple(range(x.ndim - len(axes), x.ndim)) and param_axes in (axes, ()):
        return "last", len(axes)
    return None


def differentiable_gradients(dy, x, gamma, beta, tau, learned_eps, eps, shared, count, center):
    """The gradients of `fused.norm` by the torch lines, in steps that autograd can follow, for second derivatives."""
    inputs = [x, gamma, beta, tau, learned_eps]
    with torch.enable_grad():  # aliases: where gamma depends on x, or is beta as well, each path is followed once
        x, gamma, beta, tau, learned_eps = aliases = [None if p is None else p.view_as(p) for p in inputs]
    wanted = [p for p in aliases if p is not None and p.requires_grad]
    groups = count if shared == "group" and count < x.shape[1] else None
    axes = {"last": tuple(range(x.ndim - count, x.ndim)), "batch": (0, *range(2, x.ndim)),
            "group": tuple(range(2, x.ndim + (groups is not None)))}[shared]
    seen = x if groups is None else x.unflatten(1, (groups, x.shape[1] // groups))
    lifted = [_lift(p, x, axes if shared == "last" else (1,), groups) for p in (gamma, beta)]
    with torch.enable_grad():
        eps = eps if learned_eps is None else _broadcast(learned_eps, x.ndim, (1,))
        y = _norm_lines(seen, *lifted, eps, axes, center)[0].reshape(x.shape)
        y = y if tau is None else TLU.apply(y, _broadcast(tau, x.ndim, (1,)))
        found = iter(torch.autograd.grad(y, wanted, dy, create_graph=True))
    return [next(found) if p is not None and p.requires_grad else None for p in inputs]


def differentiable_inference_gradients(dy, x, gamma, beta, mean, var, eps):
    """The gradients of `fused.scale_and_shift` for x, gamma and beta, by the torch lines, for second derivatives."""
    with torch.enable_grad():
        aliases = [None if p is None else p.view_as(p) for p in (x, gamma, beta)]
        wanted = [p for p in aliases if p is not None and p.requires_grad]
        y = _inference_lines(*aliases, mean, var, eps)
        found = iter(torch.autograd.grad(y, wanted, dy, create_graph=True))
    return [next(found) if p is not None and p.requires_grad else None for p in aliases]


def _blocks(axes, x, *others):
    """Parts of x and of the others, one after the other, that stay in a CPU's cache from step to step.

    The cut is along the first axis that shares no statistics, so each part is a
    problem of its own.  What broadcasts along it, or is no tensor, is passed on.
    """
    axis = next((k for k, n in enumerate(x.shape[:-1]) if k not in axes and n > 1), None)
    if axis is None or x.device.type != "cpu" or not x.is_contiguous():
        yield x, *others
        return
    step = max(1, BLOCK * x.shape[axis] // max(1, x.numel()))
    split = [a.split(step, axis) if torch.is_tensor(a) and a.ndim and a.shape[axis] > 1 else repeat(a)
             for a in (x, *others)]
    yield from zip(*split, strict=False)


def _wide(x):
    return torch.promote_types(x.dtype, torch.float32)


def _kept(x, axes):
    return [1 if axis in axes else n for axis, n in enumerate(x.shape)]


def _total(a, axes):
    """The sum over `axes`, which stay as axes of length 1; torch's own sum over no axes would be over all."""
    return a.sum(axes, keepdim=True) if axes else a


def _mean(a, axes, *, out=None):
    """The mean over `axes`, which stay; that of nothing is 0."""
    if axes and a.numel():
        return torch.mean(a, axes, keepdim=True, out=out)
    return _total(a, axes) if out is None else out.copy_(_total(a, axes))


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


def _dense(parameter):
    """The parameter as the kernels read it: entries one after the other."""
    return None if parameter is None else parameter.contiguous()


def _like(gradient, parameter):
    return None if parameter is None else gradient.to(parameter.dtype)


def _broadcast(parameter, ndim, param_axes):
    """The parameter with its axes at `param_axes`, so that it broadcasts against x."""
    shape = [1] * ndim
    for axis, size in zip(param_axes, parameter.shape, strict=True):
        shape[axis] = size
    return parameter.reshape(shape)


def require_groups(groups, channels, name="groups"):
    if groups < 1 or channels % groups:
        raise ValueError(f"{name} ({groups}) must divide the number of channels ({channels})")


def require_window(size):
    if not isinstance(size, int) or size < 1:
        raise ValueError(f"size is the number of channels in the window, an integer of 1 or more; got {size}")


def _require_floating(x):
    if not x.is_floating_point():
        raise TypeError(f"x is {_name(x.dtype)}; normalization needs a floating type")


def _require_channels(x):
    if x.ndim < 2:
        raise ValueError(f"x has shape {tuple(x.shape)}; it needs a sample axis and a channel axis, (N, C, *S)")


def _require_shape(x, param_axes, **parameters):
    expected = tuple(x.shape[axis] for axis in param_axes)
    has = f"has {x.shape[1]} channels" if param_axes == (1,) else f"ends in {expected}"
    for name, parameter in parameters.items():
        if parameter is None:
            continue
        if tuple(parameter.shape) != expected:
            raise ValueError(f"x {has}; {name} has shape {tuple(parameter.shape)}, not {expected}")
        if parameter.dtype not in (x.dtype, _wide(x)):
            raise TypeError(f"{name} is {_name(parameter.dtype)}, but x is {_name(x.dtype)}")


def _require_eps(eps):
    if not torch.is_tensor(eps) and not eps >= 0:  # a tensor may be on a GPU, where looking at it takes long
        raise ValueError(f"eps must be 0 or more, got {eps}")


def _require_statistics(x, axes, center, eps):
    _require_eps(eps)
    if center and x.numel() and prod([x.shape[axis] for axis in axes]) == 1:
        raise ValueError(
            f"x of shape {tuple(x.shape)} has 1 value per slice along axes {axes}; a variance needs 2 or more")


def _last_axes(x, gamma):
    if not 0 < gamma.ndim <= x.ndim:
        raise ValueError(
            f"x has shape {tuple(x.shape)} and gamma {tuple(gamma.shape)}; x must end in the shape of gamma")
    return tuple(range(x.ndim - gamma.ndim, x.ndim))


def _name(dtype):
    return str(dtype).removeprefix("torch.")


try:  # last, since it looks into this module for second derivatives
    from . import fused
except ImportError:  # no Triton, as on macOS and Windows: the torch lines run everywhere
    fused = None
