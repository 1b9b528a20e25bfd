"""Local response norm in plain lines, to be read beside `course_lib/lrn.py`."""

import torch
from torch.autograd.function import once_differentiable

from .lines import widen


def local_response_norm(x, size, k, alpha, beta):
    """Mirrors `course_lib.local_response_norm`: y, and the bracket t."""
    wide = widen(x)
    t = k + alpha * window_sum(wide.square(), left=size // 2, right=(size - 1) // 2)
    y = wide * inverse_power(t, beta)
    return y.to(x.dtype), t


class LocalResponseNorm(torch.autograd.Function):
    """`local_response_norm`, with the gradient that `course_lib.lrn` writes down."""

    @staticmethod
    def forward(ctx, x, size, k, alpha, beta):
        y, t = local_response_norm(x, size, k, alpha, beta)
        ctx.save_for_backward(x, t)
        ctx.size, ctx.alpha, ctx.beta = size, alpha, beta
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx, dy):
        x, t = ctx.saved_tensors
        size, alpha, beta = ctx.size, ctx.alpha, ctx.beta
        direct = dy * inverse_power(t, beta)
        seen_by = window_sum(direct * x / t, left=(size - 1) // 2, right=size // 2)
        dx = direct - 2 * alpha * beta * x * seen_by
        return dx.to(x.dtype), None, None, None, None


def window_sum(a, *, left, right):
    """Sum over the channels i - left, ..., i + right of each i; beyond the ends is nothing."""
    result, channels = a.clone(), a.shape[1]
    for shift in range(1, min(left, channels - 1) + 1):
        result[:, shift:] += a[:, :-shift]
    for shift in range(1, min(right, channels - 1) + 1):
        result[:, :-shift] += a[:, shift:]
    return result


def inverse_power(t, beta):
    """t**-beta; the usual 0.75 from two roots, which take a tenth of the time of a power."""
    if beta != 0.75:
        return t**-beta
    root = torch.rsqrt(t)
    return root * root.sqrt()
