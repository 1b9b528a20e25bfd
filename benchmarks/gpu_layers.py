"""What `gpu.py` compares: our layers, torch's own, and the formula step by step, for torch.compile and eager torch."""

from typing import NamedTuple

import torch
import torch.nn.functional as theirs

from course_lib.nn import functional as ours


def lift(p, x):
    """A parameter (C,) against x (N, C, H, W), or (D,) against (N, D)."""
    return p.view(-1, *(1,) * (x.ndim - 2))


def composed(axes, *, center=True, groups=None, eps=1e-5):
    """A layer written down step by step; autograd finds the backward pass."""
    def layer(x, gamma, beta=None):
        seen = x.unflatten(1, (groups, -1)) if groups else x
        x_centered = seen - seen.mean(axes, keepdim=True) if center else seen
        x_hat = x_centered * torch.rsqrt(x_centered.square().mean(axes, keepdim=True) + eps)
        y = (x_hat.flatten(1, 2) if groups else x_hat) * lift(gamma, x)
        return (y if beta is None else y + lift(beta, x)).to(x.dtype)
    return layer


def composed_inference(x, gamma, beta, mean, var):
    gamma, beta, mean, var = (lift(p, x) for p in (gamma, beta, mean, var))
    return ((x - mean) * torch.rsqrt(var + 1e-5) * gamma + beta).to(x.dtype)


def composed_frn_tlu(x, gamma, beta, tau):
    return torch.maximum(composed((2, 3), center=False, eps=1e-6)(x, gamma, beta), lift(tau, x))


def composed_lrn(x):
    squares = theirs.pad(x.square(), (0, 0, 0, 0, 2, 2))
    window = sum(squares[:, shift:shift + x.shape[1]] for shift in range(5))
    return x / (1 + 0.2 * window) ** 0.75


class Layer(NamedTuple):
    ndim: int  # of x: 2 for rows, 4 for maps
    params: tuple
    arrays: tuple  # arrays of the size of x that must move in the forward and in the backward pass
    ours: callable
    torch: callable
    composed: callable


GROUPS = 32
AFFINE = ("gamma", "beta")
LAYERS = {
    "layer_norm": Layer(2, AFFINE, (2, 3), ours.layer_norm, lambda x, g, b: theirs.layer_norm(x, g.shape, g, b),
                        composed((1,))),
    "rms_norm": Layer(2, ("gamma",), (2, 3), ours.rms_norm, lambda x, g: theirs.rms_norm(x, g.shape, g, 1e-5),
                      composed((1,), center=False)),
    "batch_norm": Layer(4, AFFINE, (3, 5), ours.batch_norm,
                        lambda x, g, b: theirs.batch_norm(x, None, None, g, b, True), composed((0, 2, 3))),
    "batch_norm_inference": Layer(4, (*AFFINE, "mean", "var"), (2, 3), ours.batch_norm_inference,
                                  lambda x, g, b, mean, var: theirs.batch_norm(x, mean, var, g, b), composed_inference),
    "instance_norm": Layer(4, AFFINE, (2, 3), ours.instance_norm,
                           lambda x, g, b: theirs.instance_norm(x, weight=g, bias=b), composed((2, 3))),
    "group_norm": Layer(4, AFFINE, (2, 3), lambda x, g, b: ours.group_norm(x, g, b, groups=GROUPS),
                        lambda x, g, b: theirs.group_norm(x, GROUPS, g, b), composed((2, 3, 4), groups=GROUPS)),
    "frn_tlu": Layer(4, (*AFFINE, "tau"), (2, 3), ours.filter_response_norm_tlu, None, composed_frn_tlu),
    "local_response_norm": Layer(4, (), (2, 3), lambda x: ours.local_response_norm(x, k=1.0, alpha=0.2),
                                 lambda x: theirs.local_response_norm(x, 5, alpha=1.0), composed_lrn),
}
FLOAT32_PARAMS = ("batch_norm", "batch_norm_inference", "instance_norm")  # as under autocast: cuDNN asks for it
