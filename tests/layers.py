"""The layers of `norms.py` under one signature, with their torch and loop twins: what most tests run over.

Axis lengths differ from each other, groups is neither 1 nor C nor C / groups,
the data lie off centre, gamma has a negative entry, and dy is random: an
upstream gradient of ones makes dx zero, gamma = 1 hides a forgotten gamma.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import oracles
import torch
import torch.nn.functional as F

import course_lib as ours


class Layer(NamedTuple):
    """A layer on one shape; `run` and `torch` take (x, *params, eps), as does `slices` the shape."""

    name: str
    shape: tuple
    run: Callable
    torch: Callable
    slices: Callable
    param_axes: tuple = (1,)
    center: bool = True
    params: int = 2
    learned_eps: bool = False

    def __str__(self):
        last = "" if self.param_axes == (1,) else f"-last{len(self.param_axes)}"
        return f"{self.name}-{'x'.join(map(str, self.shape))}{last}"

    @property
    def has_single_entries(self):
        """Is a slice one entry, as on 1 x 1 maps?"""
        return len(self.slices(self.shape)[0]) == 1

    def arrays(self, dtype=np.float64, *, mean=3.0, std=2.0, shape=None, seed=0):
        """x, the parameters, dy."""
        rng = np.random.default_rng(seed)
        shape = shape or self.shape
        param_shape = [shape[axis] for axis in self.param_axes]
        x = mean + std * rng.standard_normal(shape)
        params = [rng.standard_normal(param_shape) for _ in range(self.params)]
        params[0].flat[0] = -1.5
        if self.learned_eps:
            params.append(np.linspace(-0.3, 0.7, shape[1]))
        dy = rng.standard_normal(shape)
        return x.astype(dtype), [p.astype(dtype) for p in params], dy.astype(dtype)

    def gradients(self, x, params, dy, eps):
        """y, dx and the gradients of the parameters, by the package."""
        y, cache = self.run(x, *params, eps=eps)
        return y, *ours.norm_backward(dy, cache)

    def torch_gradients(self, x, params, dy, eps):
        """The same by torch, in the type of x."""
        leaves = [torch.tensor(a, requires_grad=True) for a in (x, *params)]
        y = self.torch(*leaves, eps=eps)
        y.backward(torch.tensor(dy))
        return [y.detach().numpy(), *(leaf.grad.numpy() for leaf in leaves)]

    def loop_gradients(self, x, params, dy, eps):
        """The same by loops."""
        gamma, beta = params[0], params[1] if self.params == 2 else None
        setting = {"eps": params[2] if self.learned_eps else eps, "center": self.center}
        y = oracles.layer(x, gamma, beta, self.slices(x.shape), self.param_axes, **setting)
        dx, *rest = oracles.layer_gradients(dy, x, gamma, self.slices(x.shape), self.param_axes, **setting)
        return [y, dx, *rest[:len(params)]]


def _torch_frn(x, gamma, beta, *, eps):
    gamma, beta, eps = (torch.as_tensor(p, dtype=x.dtype).reshape(-1, 1) for p in (gamma, beta, eps))
    rows = x.reshape(*x.shape[:2], -1)
    nu2 = rows.square().mean(2, keepdim=True)
    return (gamma * rows / (nu2 + eps.abs()).sqrt() + beta).reshape(x.shape)


GROUPS = 2
LEARNED = "frn_learned_eps"


def layer(name, shape, depth=1):
    """The named layer on a shape; `depth` is how many axes layer and RMS norm share."""
    last = tuple(range(len(shape) - depth, len(shape)))
    return {
        "batch_norm": lambda: Layer(
            name, shape, ours.batch_norm, lambda x, g, b, eps: F.batch_norm(x, None, None, g, b, True, eps=eps),
            oracles.batch_norm_slices),
        "layer_norm": lambda: Layer(
            name, shape, ours.layer_norm, lambda x, g, b, eps: F.layer_norm(x, g.shape, g, b, eps),
            lambda s: oracles.layer_norm_slices(s, depth), last),
        "instance_norm": lambda: Layer(
            name, shape, ours.instance_norm, lambda x, g, b, eps: F.instance_norm(x, weight=g, bias=b, eps=eps),
            oracles.instance_norm_slices),
        "group_norm": lambda: Layer(
            name, shape, lambda x, g, b, eps: ours.group_norm(x, g, b, groups=GROUPS, eps=eps),
            lambda x, g, b, eps: F.group_norm(x, GROUPS, g, b, eps), lambda s: oracles.group_norm_slices(s, GROUPS)),
        "rms_norm": lambda: Layer(
            name, shape, ours.rms_norm, lambda x, g, eps: F.rms_norm(x, g.shape, g, eps),
            lambda s: oracles.layer_norm_slices(s, depth), last, center=False, params=1),
        "frn": lambda: Layer(
            name, shape, ours.filter_response_norm, _torch_frn, oracles.instance_norm_slices, center=False),
        LEARNED: lambda: Layer(
            name, shape, lambda x, g, b, e, eps: ours.filter_response_norm(x, g, b, eps=e),
            lambda x, g, b, e, eps: _torch_frn(x, g, b, eps=e), oracles.instance_norm_slices, center=False,
            learned_eps=True),
    }[name]()


CHANNELS = ("batch_norm", "instance_norm", "group_norm", "frn", LEARNED)
SHAPES = ((5, 6), (5, 6, 3), (5, 6, 3, 4), (2, 6, 3, 4, 5))  # C / groups = 3, groups = 2

# Every layer on every number of spatial axes; instance norm needs a spatial axis.
ALL = [
    *(layer(name, shape) for name in CHANNELS for shape in SHAPES if name != "instance_norm" or len(shape) > 2),
    layer("frn", (5, 6, 1, 1)),
    *(layer(name, (7,)) for name in ("layer_norm", "rms_norm")),
    *(layer(name, shape, depth) for name in ("layer_norm", "rms_norm") for shape in SHAPES
      for depth in range(1, len(shape))),
]

# Every layer once, on images.
ONE_EACH = [layer(name, SHAPES[2], 2) for name in (*CHANNELS, "layer_norm", "rms_norm")]


def relative_error(got, right):
    """The largest error, as a part of the largest right value."""
    return np.max(np.abs(got - right), initial=0) / (np.max(np.abs(right), initial=0) or 1)


def errors(layer, arrays, got, right):
    """The relative error of y, dx and each parameter's gradient.

    Where a slice has a single entry dx is what two nearly equal terms leave,
    and is measured against these: gamma * dy * inv_std.
    """
    result = [relative_error(a, b) for a, b in zip(got, right, strict=True)]
    if layer.has_single_entries:
        x, (gamma, *_), dy = arrays
        terms = gamma.reshape(-1, *[1] * (x.ndim - 2)) * dy / x
        result[1] = np.max(np.abs(got[1] - right[1])) / np.max(np.abs(terms))
    return result
