"""What chapter 10 trains: small nets, five seeds at once, and the norms, activations and measures that it shows."""

from functools import cache, partial

import numpy as np
import torch
from torch.nn import functional as F

from ... import data, training

LAYERS, BATCH = 3, 32
RELU_MEAN = (2 * np.pi) ** -0.5  # of max(n, 0) with a standard normal n
NAMES = ("weight", "gamma", "beta", "tau", "eps")  # the parameters of a layer
# Channels in, out, side of the kernel, strides, and how many values a channel hands to the head.
NETS = {"pooled": (1, 16, 3, (1, 2, 2), 1), "flat": (1, 16, 3, (1, 2, 1), 16), "1 x 1": (64, 64, 1, (1, 1, 1), 1)}


@cache
def halves():
    """The digits (8 x 8, channels first) in two halves: x_train, y_train, x_test, y_test, 896 images each, in torch."""
    digits = data.digits()
    x = torch.tensor(np.concatenate([digits.x_train, digits.x_test])).reshape(-1, 1, 8, 8)
    y = torch.tensor(np.concatenate([digits.y_train, digits.y_test]))
    return x[:896], y[:896], x[896:1792], y[896:1792]


# The norms: x is (N, C, H, W); eps_l, (C,), is a learned parameter of the layer, which only one of them uses


def frn(x, eps):
    """x_hat of filter response norm."""
    nu2 = x.square().mean((2, 3), keepdim=True)
    return x * torch.rsqrt(nu2 + eps)


def fixed(x, eps_l, eps=1e-6):
    """Filter response norm with a constant eps."""
    return frn(x, eps)


def learned(x, eps_l):
    """Filter response norm with a learned eps, 1e-6 + |eps_l|."""
    return frn(x, 1e-6 + eps_l.abs()[:, None, None])


def over_channels(x, eps_l, k):
    """Group norm: k neighbouring channels of one sample."""
    return F.group_norm(x, x.shape[1] // k, eps=1e-5)


def over_samples(x, eps_l, k):
    """Batch norm over ghost batches: k neighbouring samples of one channel (chapter 9)."""
    return over_channels(x.transpose(0, 1), None, k).transpose(0, 1).contiguous()


def no_norm(x, eps_l):
    """x itself."""
    return x


# The activations: tau, (C,), is a learned parameter of the layer, which only one of them uses


def relu(y, tau):
    """max(y, 0)."""
    return F.relu(y)


def tlu(y, tau):
    """max(y, tau)."""
    tau = tau[:, None, None]
    return F.relu(y - tau) + tau


def lowered(y, tau, activation=relu, c=RELU_MEAN):
    """An activation minus a constant; by default a ReLU minus its mean for a standard normal."""
    return activation(y, tau) - c


def leaky(y, tau):
    """y where it is positive, 0.1 y elsewhere: no unit is dead."""
    return F.leaky_relu(y, 0.1)


# The nets


class Nets:
    """E nets as one: their channels are stacked, and `groups=E` keeps them apart.

    Three layers: a convolution, a norm, gamma and beta, an activation; then a linear head.

    Args:
        kind: "pooled", whose head reads the mean of each last map; "flat", whose head reads every position of it; or
            "1 x 1", a fully connected net: its 64 pixels are 64 channels of one value.
        seeds: E numbers, for the weights.
    """

    def __init__(self, kind, seeds):
        self.kind, self.runs = kind, len(seeds)
        fan_in, self.channels, side, self.strides, values = NETS[kind]
        draws = [torch.Generator().manual_seed(seed) for seed in seeds]
        self.layers = []
        for _ in range(LAYERS):
            std = (2 / (side * side * fan_in)) ** 0.5
            weight = [torch.randn(self.channels, fan_in, side, side, generator=g) * std for g in draws]
            ones = torch.ones(self.runs * self.channels)
            self.layers.append(dict(zip(NAMES, [torch.cat(weight), ones, 0 * ones, 0 * ones, 1e-4 * ones])))
            fan_in = self.channels
        features = self.channels * values
        weight = [torch.randn(features, 10, generator=g) / features**0.5 for g in draws]
        self.head = {"weight": torch.stack(weight), "bias": torch.zeros(self.runs, 1, 10)}
        for parameter in self.parameters():
            parameter.requires_grad_()

    def parameters(self, frozen=()):
        """Those that learn, in a list; frozen: names of parameters of a layer that do not."""
        layers = [p for layer in self.layers for name, p in layer.items() if name not in frozen]
        return layers + list(self.head.values())

    def features(self, x, norms, activation, seen=None):
        """What the head reads, (E, N, features), of images (N, 1, 8, 8), or (N, E, 8, 8) where each net has its own.

        norms: three functions (x, eps_l) -> x_hat, one for each layer; activation: a function (y, tau) -> z.
        seen: a list, to which what each activation gets is appended.
        """
        x = x.expand(-1, self.runs, -1, -1)
        if self.kind == "1 x 1":
            x = x.reshape(len(x), -1, 1, 1)
        for layer, norm, stride in zip(self.layers, norms, self.strides, strict=True):
            weight, gamma, beta, tau, eps_l = layer.values()
            x = F.conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2, groups=self.runs)
            y = torch.addcmul(beta[:, None, None], gamma[:, None, None], norm(x, eps_l))
            if seen is not None:
                seen.append(y)
            x = activation(y, tau)
        x = x.mean((2, 3)) if self.kind == "pooled" else x
        return x.reshape(len(x), self.runs, -1).transpose(0, 1)

    def __call__(self, x, norms, activation):
        """Logits, (E, N, 10)."""
        return torch.baddbmm(self.head["bias"], self.features(x, norms, activation), self.head["weight"])


def train(norm, activation, kind, rate, *, seeds=range(5), steps=140, warm_up=0, frozen=()):
    """Nets trained by SGD with momentum 0.9 and a rate that falls to 0 (half a cosine), 32 images a step.

    Args:
        norm, activation: as in `Nets.features`, for all three layers.
        kind: as in `Nets`.
        rate: the learning rate at first.
        seeds: one net for each, for its weights and its batches.
        warm_up: steps over which the rate rises from 0.
        frozen: as in `Nets.parameters`.
    Returns:
        Nets.
    """
    x_train, y_train, *_ = halves()
    nets = Nets(kind, seeds)
    order = torch.tensor(training.shuffled(len(x_train), size=BATCH, seeds=seeds, steps=steps))
    moving = nets.parameters(frozen)
    velocity = [torch.zeros_like(p) for p in moving]
    for step in range(steps):
        drawn = order[:, step]
        logits = nets(x_train[drawn, 0].transpose(0, 1), [norm] * LAYERS, activation)
        loss = F.cross_entropy(logits.flatten(0, 1), y_train[drawn].flatten(), reduction="sum") / BATCH
        gradients = torch.autograd.grad(loss, moving, allow_unused=True, materialize_grads=True)
        share = 0.5 * (1 + np.cos(np.pi * step / steps)) * min(1, (step + 1) / (warm_up + 1))
        with torch.no_grad():
            torch._foreach_mul_(velocity, 0.9)
            torch._foreach_add_(velocity, gradients)
            torch._foreach_add_(moving, velocity, alpha=-rate * share)
    return nets


# The measures


@torch.no_grad()
def stored(nets, k, activation):
    """Batch norm in evaluation: for each layer a function, with the mean statistics of the ghosts of 512 images."""
    kept = []

    def watch(x, eps_l):
        ghosts = x.unflatten(0, (-1, k))
        mu = ghosts.mean((0, 1, 3, 4))[:, None, None]
        var = ghosts.var((1, 3, 4), correction=0).mean(0)[:, None, None]
        kept.append(lambda x, eps_l: (x - mu) * torch.rsqrt(var + 1e-5))
        return over_samples(x, eps_l, k)

    nets.features(halves()[0][:512], [watch] * LAYERS, activation)
    return kept


@torch.no_grad()
def errors(nets, norm, activation):
    """Wrong answers to the test images in percent, (E,)."""
    _, _, x, y = halves()
    norms = [norm] * LAYERS
    if isinstance(norm, partial) and norm.func is over_samples:
        norms = stored(nets, norm.keywords["k"], activation)
    return 100 * (nets(x, norms, activation).argmax(-1) != y).float().mean(1).numpy()


@torch.no_grad()
def dead(nets, norm, activation):
    """Units at the floor of their activation for all training images, in percent of a layer: (layers, E)."""
    seen = []
    nets.features(halves()[0], [norm] * LAYERS, activation, seen)
    shares = []
    for layer, y in zip(nets.layers, seen):
        floor = layer["tau"].detach() if activation is tlu else torch.zeros(y.shape[1])
        at_floor = (y <= floor[:, None, None]).all(3).all(2).all(0)
        shares.append(100 * at_floor.reshape(nets.runs, -1).float().mean(1).numpy())
    return np.array(shares)
