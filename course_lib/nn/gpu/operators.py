"""The layers as operators on GPU tensors, known to torch as `course_lib::*`: one opaque step each for autograd,
autocast, `torch.compile` and CUDA graphs.

    slice in memory                               kernels
    contiguous, up to TILE entries                those of `rows.py`
    longer, strided, or batch norm                those of `columns.py`
    local response norm                           those of `windows.py`

Nothing in here synchronizes with the GPU.
"""

from functools import wraps

import torch
from torch import Tensor

from .. import lines, lrn
from ..over import Over
from . import columns, rows, windows
from .view import View

DEVICES = {"cuda"}  # Triton's interpreter adds "cpu": tests do so
DTYPES = {torch.float16, torch.bfloat16, torch.float32}  # float64 runs in the torch lines: there the digits matter


def takes(x):
    """Do the kernels take this tensor?  Nothing at all is left to the torch lines."""
    return x.device.type in DEVICES and x.dtype in DTYPES and x.numel() > 0


def layer(x, gamma, beta, tau, eps, over, center):
    """As `lines.layer`: y, mean and variance."""
    learned, number = (eps, 0.0) if torch.is_tensor(eps) else (None, float(eps))
    gamma, beta, tau, learned = map(_dense, (gamma, beta, tau, learned))
    y, hi, lo, var = norm(x, gamma, beta, tau, learned, number, over.kind, over.count, center)
    kept = over.kept(x)
    return y, (hi + lo).view(kept), var.view(kept)


def inference(x, gamma, beta, mean, var, eps):
    """As `lines.batch_norm_inference`."""
    return scale_and_shift(x, *map(_dense, (gamma, beta, mean, var)), float(eps))


def _dense(parameter):
    """The parameter as the kernels read it: entries one after the other."""
    return None if parameter is None else parameter.contiguous()


def on_its_device(operator):
    """Launches on the GPU of the first tensor: Triton takes the current one, which need not be it."""
    @wraps(operator)
    def run(x, *rest):
        with torch.cuda.device_of(x):
            return operator(x, *rest)
    return run


# ---------------------------------------------------------------- layers that standardize


@torch.library.custom_op("course_lib::norm", mutates_args=())
@on_its_device
def norm(x: Tensor, gamma: Tensor | None, beta: Tensor | None, tau: Tensor | None, learned_eps: Tensor | None,
         eps: float, kind: str, count: int, center: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """y, and of each slice the mean in two floats and the biased variance.

    Args:
        x: floating, not empty.
        gamma, beta, tau: one entry per channel, or the shape of the last axes; None for 1, 0 and no threshold.
        learned_eps: (C,), in place of eps.
        kind, count: of an `Over`.
        center: False to leave the mean where it is.
    """
    view = View(x, kind, count)
    y = torch.empty_like(view.x)
    hi, lo, var = (x.new_empty(view.slices, dtype=torch.float32) for _ in range(3))
    kernels = rows if view.fits_forward() else columns
    kernels.forward(view, gamma, beta, tau, learned_eps, y, hi, lo, var, eps, center)
    return view.back(y), hi, lo, var


@norm.register_fake
def _(x, gamma, beta, tau, learned_eps, eps, kind, count, center):
    view = View(x, kind, count)
    return torch.empty_like(x), *(x.new_empty(view.slices, dtype=torch.float32) for _ in range(3))


@torch.library.custom_op("course_lib::norm_backward", mutates_args=())
@on_its_device
def norm_backward(dy: Tensor, x: Tensor, gamma: Tensor | None, beta: Tensor | None, tau: Tensor | None,
                  learned_eps: Tensor | None, hi: Tensor, lo: Tensor, var: Tensor, eps: float, kind: str, count: int,
                  center: bool) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """dx, dgamma, dbeta, dtau and deps; a parameter that is not there has a gradient of no entries."""
    view = View(x, kind, count)
    dy, dx = view.like(dy), torch.empty_like(view.x)
    kernels = rows if view.fits_backward() else columns
    if view.features:
        dgamma, dbeta = kernels.backward_of_features(view, dy, gamma, beta, hi, lo, var, dx, eps, center)
        dtau = deps = None
    else:
        dgamma, dbeta, dtau = (None if p is None else view.per_channel() for p in (gamma, beta, tau))
        deps = None if learned_eps is None else torch.empty(view.slices, dtype=torch.float32, device=x.device)
        saved = (gamma, beta, tau, learned_eps, hi, lo, var)
        kernels.backward(view, dy, saved, dx, (dgamma, dbeta, dtau, deps), eps, center)
    # Added up in float32, in an order that depends on nothing but the shapes and the GPU.
    sums = [(dgamma, gamma), (dbeta, beta), (dtau, tau), (deps, learned_eps)]
    return view.back(dx), *(
        x.new_empty(0) if p is None else d.view(-1, p.numel()).sum(0).view(p.shape).to(p.dtype) for d, p in sums)


@norm_backward.register_fake
def _(dy, x, gamma, beta, tau, learned_eps, hi, lo, var, eps, kind, count, center):
    parameters = (gamma, beta, tau, learned_eps)
    return torch.empty_like(x), *(x.new_empty(0) if p is None else torch.empty_like(p) for p in parameters)


def _keep(ctx, inputs, output):
    x, gamma, beta, tau, learned_eps, *ctx.setting = inputs
    ctx.save_for_backward(x, gamma, beta, tau, learned_eps, *output[1:])
    ctx.mark_non_differentiable(*output[1:])
    ctx.set_materialize_grads(False)


def _gradients(ctx, dy, *_):
    if dy is None:
        return (None,) * 9
    x, *parameters, hi, lo, var = ctx.saved_tensors
    if torch.is_grad_enabled() or lines.transformed(dy):  # to be differentiated, or in batches: the torch lines can
        eps, kind, count, center = ctx.setting

        def plain(x, gamma, beta, tau, learned):
            return lines.layer(x, gamma, beta, tau, eps if learned is None else learned, Over(kind, count), center)[0]

        found = lines.gradients(plain, (x, *parameters), dy)
    else:
        found = norm_backward(dy, x, *parameters, hi, lo, var, *ctx.setting)
    given = [None if p is None else d for d, p in zip(found, (x, *parameters), strict=True)]
    return *given, None, None, None, None


norm.register_autograd(_gradients, setup_context=_keep)


# ---------------------------------------------------------------- batch norm with given statistics


@torch.library.custom_op("course_lib::scale_and_shift", mutates_args=())
@on_its_device
def scale_and_shift(x: Tensor, gamma: Tensor | None, beta: Tensor | None, mean: Tensor, var: Tensor,
                    eps: float) -> Tensor:
    """Batch norm with given statistics of each channel."""
    view = View(x, "batch", 0)
    y = torch.empty_like(view.x)
    columns.inference(view, gamma, beta, mean, var, y, eps)
    return view.back(y)


@scale_and_shift.register_fake
def _(x, gamma, beta, mean, var, eps):
    return torch.empty_like(x)


@torch.library.custom_op("course_lib::scale_and_shift_backward", mutates_args=())
@on_its_device
def scale_and_shift_backward(dy: Tensor, x: Tensor, gamma: Tensor | None, mean: Tensor, var: Tensor,
                             eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """dx, and dgamma and dbeta in float32, of batch norm with given statistics."""
    view = View(x, "batch", 0)
    dx = torch.empty_like(view.x)
    dgamma, dbeta = columns.inference_backward(view, view.like(dy), gamma, mean, var, dx, eps)
    return view.back(dx), dgamma.clone(), dbeta.clone()  # two results may not share memory


@scale_and_shift_backward.register_fake
def _(dy, x, gamma, mean, var, eps):
    return torch.empty_like(x), *(x.new_empty(x.shape[1], dtype=torch.float32) for _ in range(2))


def _keep_scale(ctx, inputs, output):
    x, gamma, beta, mean, var, ctx.eps = inputs
    ctx.save_for_backward(x, gamma, beta, mean, var)


def _scale_gradients(ctx, dy):
    x, gamma, beta, mean, var = ctx.saved_tensors
    if torch.is_grad_enabled() or lines.transformed(dy):
        def plain(x, gamma, beta):
            return lines.batch_norm_inference(x, gamma, beta, mean, var, ctx.eps)

        return *lines.gradients(plain, (x, gamma, beta), dy), None, None, None
    dx, dgamma, dbeta = scale_and_shift_backward(dy, x, gamma, mean, var, ctx.eps)
    return (dx, None if gamma is None else dgamma.to(gamma.dtype), None if beta is None else dbeta.to(beta.dtype),
            None, None, None)


scale_and_shift.register_autograd(_scale_gradients, setup_context=_keep_scale)


# ---------------------------------------------------------------- local response norm


@torch.library.custom_op("course_lib::window", mutates_args=())
@on_its_device
def window(x: Tensor, size: int, k: float, alpha: float, beta: float) -> Tensor:
    """Local response norm."""
    view = View(x, "group", 1)
    y = torch.empty_like(view.x)
    windows.forward(view, y, size, k, alpha, beta)
    return view.back(y)


@window.register_fake
def _(x, size, k, alpha, beta):
    return torch.empty_like(x)


@torch.library.custom_op("course_lib::window_backward", mutates_args=())
@on_its_device
def window_backward(dy: Tensor, x: Tensor, size: int, k: float, alpha: float, beta: float) -> Tensor:
    """dx of local response norm."""
    view = View(x, "group", 1)
    dx = torch.empty_like(view.x)
    windows.backward(view, view.like(dy), dx, size, k, alpha, beta)
    return view.back(dx)


@window_backward.register_fake
def _(dy, x, size, k, alpha, beta):
    return torch.empty_like(x)


def _keep_window(ctx, inputs, output):
    x, *ctx.setting = inputs
    ctx.save_for_backward(x)


def _window_gradients(ctx, dy):
    exact = torch.is_grad_enabled() or lines.transformed(dy)
    gradient = lrn.window_gradient if exact else window_backward
    return gradient(dy, *ctx.saved_tensors, *ctx.setting), None, None, None, None


window.register_autograd(_window_gradients, setup_context=_keep_window)
