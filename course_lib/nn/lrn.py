"""Local response norm in plain lines, to be read beside `course_lib/lrn.py`."""

import torch

from .lines import gradients, widen


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
        ctx.setting = size, k, alpha, beta
        return y

    @staticmethod
    def backward(ctx, dy):
        x, t = ctx.saved_tensors
        size, _, alpha, beta = ctx.setting
        if torch.is_grad_enabled():  # somebody wants to differentiate the gradient
            return window_gradient(dy, x, *ctx.setting), None, None, None, None
        direct = dy * inverse_power(t, beta)
        seen_by = window_sum(direct * x / t, left=(size - 1) // 2, right=size // 2)
        dx = direct - 2 * alpha * beta * x * seen_by
        return dx.to(x.dtype), None, None, None, None


def window_gradient(dy, x, size, k, alpha, beta):
    """The gradient of `local_response_norm`, with a graph."""
    return gradients(lambda x: local_response_norm(x, size, k, alpha, beta)[0], [x], dy)[0]


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
