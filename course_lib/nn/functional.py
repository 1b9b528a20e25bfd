"""The torch half: the names of the NumPy half for tensors, on whatever device they are on.

Names, arguments and conventions are those of `course_lib`, but autograd takes
the place of cache and backward, so that each function returns its result alone.
Half types are computed in float32 and rounded once, at the end.  gamma and beta
may be None, which means 1 and 0, but for layer and RMS norm, to which the shape
of gamma says the axes.

The formulas stand three times, and this module chooses:

    lines.py, whitening.py, lrn.py    plain steps, which run anywhere
    cpu.py                            the same in blocks that fit a cache
    gpu/                              the same as fused kernels, where Triton is installed, but not in float64
"""

from importlib.util import find_spec

import torch
from torch.fx.experimental.proxy_tensor import get_proxy_mode

from .. import checks
from . import cpu, lines, lrn, whitening
from .over import BATCH, MAP, Over

if find_spec("triton"):  # not on macOS and Windows; a Triton that is there and broken raises here
    from . import gpu
else:
    gpu = None

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


class use_kernels:
    """Turns the fused GPU kernels on or off, for good or, in a `with` statement, for a while.

    They are on at first, and serve tensors on a GPU in float16, bfloat16 and
    float32; `standardize`, whitening, windows of 10 channels and more, and
    derivatives beyond a first gradient run in plain torch lines there too.
    Turned off, all do.  The results differ by the rounding of sums.

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


# ---------------------------------------------------------------- the choice


def _by_kernels(x, *others):
    """A kernel is one step that `torch.compile` knows; `torch.func` and forward mode get lines."""
    return KERNELS and gpu is not None and gpu.takes(x) and (
        torch.compiler.is_compiling() or not lines.transformed(x, *others))


def _by_blocks(x):
    return x.device.type == "cpu"


def _followed(*tensors):
    """Does torch follow each step: compile, export, `make_fx`, `torch.func`, forward mode?  It needs plain ones."""
    return torch.compiler.is_compiling() or get_proxy_mode() is not None or lines.transformed(*tensors)


def norm(x, gamma, beta, *, over, center=True, eps, tau=None):
    """Any layer that standardizes, with the mean and the biased variance of its slices, which modules keep averages of.

    Args:
        x: any shape, floating.
        gamma, beta: (C,), or of the shape of the last axes, or None.
        over: an `Over`: which entries share statistics.
        center: False to leave the mean where it is.
        eps: a number, or a tensor: (C,), or for "axes" one that broadcasts against the statistics.
        tau: thresholds (C,) of a TLU that follows, or None.
    Returns:
        y, mean, var; the last two with the reduced axes at length 1.
    """
    checks.floating(x=x)
    require_parameters(x, over.param_axes(x.ndim), gamma=gamma, beta=beta)
    _require_not_negative("eps", eps)
    if over.kind == "batch":
        checks.statistics(x.shape, over.axes(x.ndim))
    known = over.kind != "axes" and (over.kind == "map" or not torch.is_tensor(eps))
    if known and _by_kernels(x, gamma, beta, tau, eps):
        return gpu.layer(x, gamma, beta, tau, eps, over, center)
    if _followed(x, gamma, beta, tau, eps):
        engine, unit = lines.norm, lines.tlu
    elif _by_blocks(x):
        engine, unit = cpu.Norm.apply, cpu.TLU.apply
    else:
        engine, unit = lines.Norm.apply, lines.TLU.apply
    return lines.layer(x, gamma, beta, tau, eps, over, center, norm=engine, tlu=unit)


# ---------------------------------------------------------------- the names


def standardize(x, axes, *, center=True, eps=1e-5):
    """Mirrors `course_lib.standardize`: give each slice of x along `axes` mean 0 and mean square 1."""
    require_tensors(x=x)
    axes = checks.axes_of(x.shape, axes)
    if torch.is_tensor(eps):
        checks.eps_fits(eps.shape, x.shape, axes)
        eps = eps.reshape((1,) * (x.ndim - eps.ndim) + eps.shape)
    return norm(x, None, None, over=Over("axes", axes), center=center, eps=eps)[0]


def batch_norm(x, gamma, beta, *, eps=1e-5):
    """Mirrors `course_lib.batch_norm`: batch norm as in training."""
    require_tensors(x=x)
    checks.channels(x.shape)
    return norm(x, gamma, beta, over=BATCH, eps=eps)[0]


def layer_norm(x, gamma, beta, *, eps=1e-5):
    """Mirrors `course_lib.layer_norm`: statistics over the axes of gamma, the last ones."""
    checks.gamma_given(gamma)
    require_tensors(x=x, gamma=gamma)
    last = checks.last_axes(x.shape, gamma.shape)
    return norm(x, gamma, beta, over=Over("last", len(last)), eps=eps)[0]


def instance_norm(x, gamma, beta, *, eps=1e-5):
    """Mirrors `course_lib.instance_norm`: statistics over the spatial axes of each sample."""
    require_tensors(x=x)
    checks.channels(x.shape)
    return norm(x, gamma, beta, over=MAP, eps=eps)[0]


def group_norm(x, gamma, beta, *, groups, eps=1e-5):
    """Mirrors `course_lib.group_norm`: statistics over C / groups channels and the spatial axes of each sample."""
    require_tensors(x=x)
    checks.channels(x.shape)
    checks.groups(groups, x.shape[1])
    return norm(x, gamma, beta, over=Over("group", groups), eps=eps)[0]


def rms_norm(x, gamma, *, eps=1e-5):
    """Mirrors `course_lib.rms_norm`: layer norm without the mean and without beta."""
    checks.gamma_given(gamma)
    require_tensors(x=x, gamma=gamma)
    last = checks.last_axes(x.shape, gamma.shape)
    return norm(x, gamma, None, over=Over("last", len(last)), center=False, eps=eps)[0]


def filter_response_norm(x, gamma, beta, *, eps=1e-6):
    """Mirrors `course_lib.filter_response_norm`: instance norm without the mean; eps may be a learned tensor (C,)."""
    require_tensors(x=x)
    checks.channels(x.shape)
    return norm(x, gamma, beta, over=MAP, center=False, eps=_learned(eps, x))[0]


def filter_response_norm_tlu(x, gamma, beta, tau, *, eps=1e-6):
    """Mirrors `course_lib.filter_response_norm_tlu`: filter response norm and its unit in one step."""
    require_tensors(x=x, tau=tau)
    checks.channels(x.shape)
    checks.floating(x=x)
    require_parameters(x, (1,), tau=tau)
    return norm(x, gamma, beta, over=MAP, center=False, eps=_learned(eps, x), tau=tau)[0]


def tlu(y, tau):
    """Mirrors `course_lib.tlu`: the thresholded linear unit, max(y, tau)."""
    require_tensors(y=y, tau=tau)
    checks.channels(y.shape, "y")
    checks.floating(y=y)
    require_parameters(y, (1,), tau=tau)
    unit = lines.tlu if _followed(y, tau) else cpu.TLU.apply if _by_blocks(y) else lines.TLU.apply
    return unit(y, lines.per_channel(tau, y.ndim))


def batch_norm_inference(x, gamma, beta, mean, var, *, eps=1e-5):
    """Mirrors `course_lib.batch_norm_inference`: batch norm with given statistics."""
    require_tensors(x=x, mean=mean, var=var)
    checks.channels(x.shape)
    checks.floating(x=x)
    require_parameters(x, (1,), gamma=gamma, beta=beta, mean=mean, var=var)
    checks.not_negative(eps)
    _require_not_negative("var", var)
    if _by_kernels(x, gamma, beta, mean, var) and not (mean.requires_grad or var.requires_grad):
        return gpu.inference(x, gamma, beta, mean, var, eps)
    return lines.batch_norm_inference(x, gamma, beta, mean, var, eps)


def local_response_norm(x, *, size=5, k=2.0, alpha=1e-4, beta=0.75):
    """Mirrors `course_lib.local_response_norm`: AlexNet's formula, where alpha is not divided by size."""
    require_tensors(x=x)
    checks.channels(x.shape)
    checks.floating(x=x)
    checks.window(size, k, alpha, beta)
    if _by_kernels(x) and size <= gpu.LARGEST_WINDOW:
        return gpu.window(x, int(size), float(k), float(alpha), float(beta))
    if _followed(x):
        return lrn.local_response_norm(x, size, k, alpha, beta)[0]
    unit = cpu.LocalResponseNorm if _by_blocks(x) else lrn.LocalResponseNorm
    return unit.apply(x, size, k, alpha, beta)


def whiten(x, *, method="zca", eps=0.0):
    """Mirrors `course_lib.whiten`: rows of mean 0 and covariance I."""
    return whiten_with_moments(x, method=method, eps=eps)[0]


def whiten_with_moments(x, *, method="zca", eps=0.0):
    """The result of `whiten`, and the mean and the biased covariance of the rows in float64, for running statistics."""
    require_tensors(x=x)
    checks.floating(x=x)
    checks.samples(x.shape)
    checks.method(method, whitening.METHODS)
    checks.not_negative(eps)
    return whitening.Whiten.apply(x, method, eps)[:3]


def whiten_inference(x, mean, cov, *, eps=0.0):
    """ZCA whitening of the rows of x with given statistics, in plain steps for autograd."""
    require_tensors(x=x, mean=mean, cov=cov)
    checks.floating(x=x)
    checks.not_negative(eps)
    return whitening.whiten_inference(x, mean, cov, eps)


# ---------------------------------------------------------------- what torch asks beyond the NumPy half


def _learned(eps, x):
    """|eps| as a tensor (C,) where it is learned, else the number."""
    if not torch.is_tensor(eps):
        return eps
    eps = eps if eps.ndim else eps.expand(x.shape[1])
    require_parameters(x, (1,), eps=eps)
    return eps.abs()


def require_tensors(**arrays):
    """Tensors, not arrays of NumPy or lists; the keywords name them."""
    for name, a in arrays.items():
        if not torch.is_tensor(a):
            raise TypeError(f"{name} is of type {type(a).__name__}; the torch half takes tensors")


def require_parameters(x, axes, **parameters):
    """The types fit as well: a parameter is of the type of x, or of the one that x is computed in."""
    for name, parameter in parameters.items():
        if parameter is not None:
            require_tensors(**{name: parameter})
    checks.parameters(x.shape, axes, **parameters)
    for name, parameter in parameters.items():
        if parameter is not None and parameter.dtype not in (x.dtype, lines.wide(x)):
            raise TypeError(f"{name} is {checks.type_name(parameter.dtype)}, but x is {checks.type_name(x.dtype)}")


def _require_not_negative(name, value):
    """A tensor is looked at where that is cheap: on a CPU, and not while torch follows the steps for other numbers."""
    if not torch.is_tensor(value):
        checks.number(name, value)
        checks.not_negative(value, name)
    elif type(value) in (torch.Tensor, torch.nn.Parameter) and value.device.type == "cpu" and not _followed(value):
        if (value < 0).any():
            checks.not_negative(float(value[value < 0].min()), name)
