"""What chapter 14 counts: bytes and operations of layers that are written step by step, and places in memory."""

import math

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


def held(a):
    """Bytes of an array in memory: an expanded dimension (stride 0) has one entry."""
    return a.itemsize * math.prod(n for n, step in zip(a.shape, a.stride(), strict=True) if step)


class Traffic(TorchDispatchMode):
    """Counts operations, the bytes they read and write, and their flops."""

    def __init__(self):
        super().__init__()
        self.steps = self.bytes = self.flops = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        arrays = {id(a): a for a in tree_leaves((args, out))
                  if torch.is_tensor(a)}.values()  # each once
        if not func.is_view:  # a view only looks at bytes
            self.steps += 1
            self.bytes += sum(map(held, arrays))
            self.flops += max(a.numel() for a in arrays)
        return out


def standardized(axes, center=True):
    """A layer written step by step; axes: those that share statistics."""
    def layer(x, gamma, beta):
        d = x - x.mean(axes, keepdim=True) if center else x
        var = (d * d).mean(axes, keepdim=True)
        x_hat = d * torch.rsqrt(var + 1e-5)
        return gamma * x_hat + beta if center else gamma * x_hat
    return layer


def local_response(x):
    """Local response norm over 5 channels, step by step."""
    squares = torch.nn.functional.pad(x * x, (0, 0, 0, 0, 2, 2))
    window = sum(squares[:, shift:shift + x.shape[1]] for shift in range(5))
    return x * (1 + 0.2 * window) ** -0.75


def add_rms(x, residual, gamma):
    """Residual and RMS norm, step by step: both h and y come out."""
    h = x + residual
    return h, gamma * h * torch.rsqrt((h * h).mean(-1, keepdim=True) + 1e-5)


TOKENS, IMAGES = (32768, 4096), (64, 256, 56, 56)
# layer step by step, shape of x, shape of each parameter, arrays that a fused forward and backward pass move
LAYERS = {
    "layer norm": (standardized((1,)), TOKENS, [(4096,)] * 2, (2, 3)),
    "RMS norm": (standardized((1,), center=False), TOKENS, [(4096,)] * 2, (2, 3)),
    "batch norm": (standardized((0, 2, 3)), IMAGES, [(256, 1, 1)] * 2, (3, 5)),
    "instance norm": (standardized((2, 3)), IMAGES, [(256, 1, 1)] * 2, (2, 3)),
    "local response norm": (local_response, IMAGES, [], (2, 3)),
}


def empty(*shape):
    """A bfloat16 tensor that has a shape and no memory."""
    return torch.empty(shape, dtype=torch.bfloat16, device="meta", requires_grad=True)


def counted(name):
    """Forward and backward pass of a layer, step by step: two `Traffic`, and the bytes of x."""
    layer, shape, parameters, _ = LAYERS[name]
    leaves = [empty(*shape), *(empty(*each) for each in parameters)]
    with Traffic() as forward:
        y = layer(*leaves)
    dy = torch.empty_like(y)
    with Traffic() as backward:
        torch.autograd.grad(y, leaves, dy, allow_unused=True)
    return forward, backward, leaves[0].nbytes


def product(tokens, width=4096):
    """Operations a byte of a matrix product in bfloat16: (tokens, width) times (width, width)."""
    flops = 2 * tokens * width * width
    return flops / (2 * (2 * tokens * width + width * width))

