"""The race of chapter 13: eleven layers in two small nets, many runs at once, on data that come with Python.

A layer is a function (x, extra) -> x_hat of x (N, C, S): samples, channels, positions (the pixels of a map, the
tokens of a sequence).  The nets follow it with gamma and beta per channel, whatever the layer is, so that arms differ
in nothing else.  `extra` (C,) is learned as well; only those layers read it that have such a parameter.

A net is a function of a dict of parameters; `torch.func.vmap` runs E of them as one.
"""

from dataclasses import dataclass
from typing import Callable

import numpy as np
import torch
from torch.nn import functional as F

from ... import data

EPS, BATCH, WIDTH = 1e-5, 32, 16

# The layers


def no_norm(x, extra):
    return x


def standardize(x, axes):
    """Mean 0 and variance 1 over these axes of (N, C, S)."""
    x = x - x.mean(axes, keepdim=True)
    return x * torch.rsqrt(x.square().mean(axes, keepdim=True) + EPS)


def rescale(x, axes):
    """Mean square 1 over these axes."""
    return x * torch.rsqrt(x.square().mean(axes, keepdim=True) + EPS)


def layer_norm(x, extra):
    return standardize(x, 1)


def rms_norm(x, extra):
    return rescale(x, 1)


def instance_norm(x, extra):
    return standardize(x, 2)


def filter_response_norm(x, extra):
    return rescale(x, 2)


def group_norm(x, extra):
    return standardize(x.unflatten(1, (4, -1)), (2, 3)).flatten(1, 2)


def dynamic_tanh(x, extra):
    return torch.tanh(extra[:, None] * x)


def batch_norm(x, extra):
    return standardize(x, (0, 2))


# the nets

def weights_of(v, how):
    if how == "plain":
        return v
    return v


def image_net(p, x, layer, act=F.relu):
    blocks = 4
    x = F.conv2d(x, p["stem"], stride=2, padding=1)

    def norm(x, site):
        y = layer(x.flatten(2), p["extra"][site])
        return F.relu(torch.addcmul(p["beta"][site][:, None], p["gamma"][site][:, None], y)).view(x.shape)
    for b in range(blocks):
        h = x
        for k in range(2):
            h = F.conv2d(norm(h, 2 * b + k), p["conv"][2 * b + k], padding=1)
        x = x + p["scale"][b] * h
    x = norm(x, 2 * blocks).mean((2, 3))
    return x @ p["head"] + p["bias"]


def sequence_net(p, x, layer, blocks=2, heads=4):
    x = p["token"][x] + p["place"]
    def norm(x, site):
        y = layer(x.transpose(1, 2), p["extra"][site])
        return torch.addcmul(p["beta"][site][:, None], p["gamma"][site][:, None], y).transpose(1, 2)
    for b in range(blocks):
        h = norm(x, 2 * b) @ p["qkv"][b]
        q, k, v = h.unflatten(-1, (3, heads, -1)).permute(2, 0, 3, 1, 4)
        s = (q @ k.transpose(-1, -2)) / q.shape[-1] ** 0.5
        h = (s.softmax(-1) @ v).transpose(1, 2).flatten(2) @ p["out"][b]
        x = x + p["scale"][2 * b] * h
        h = F.relu(norm(x, 2 * b + 1) @ p["up"][b]) @ p["down"][b]
        x = x + p["scale"][2 * b + 1] * h
    return norm(x, 2 * blocks) @ p["head"] + p["bias"]
