"""What chapter 11 trains and measures: small convolutional nets, all seeds at once, and filters on patches."""

from functools import cache

import numpy as np
import torch
from torch.nn import functional as F

from ... import data, training

CHANNELS, BATCH, STRIDES = 16, 32, (1, 2, 1)
PATCH, FILTER = 11, 7  # pixels: two filters beside each other overlap by half


@cache
def digits(shaded):
    """The digits (8 x 8, channels first) in two halves of 896 images, in torch: x_train, y_train, x_test, y_test.

    shaded: light each image unevenly: times exp(2 u), where u runs from -1 to 1 along a direction drawn for each
    image (to 1.4 in a corner).  The spread over the training half is 1 in both cases.
    """
    both = data.digits()
    x = torch.tensor(np.concatenate([both.x_train, both.x_test])).reshape(-1, 1, 8, 8)
    y = torch.tensor(np.concatenate([both.y_train, both.y_test]))
    if shaded:
        x = x * light(len(x))
    x = x / x[:896].std()
    return x[:896], y[:896], x[896:1792], y[896:1792]


def light(images):
    """Factors (N, 1, 8, 8), a ramp of the logarithm in a random direction for each image."""
    angle = 2 * np.pi * torch.rand(images, 1, 1, 1, generator=torch.Generator().manual_seed(0))
    u = torch.linspace(-1, 1, 8)
    return torch.exp(2 * (torch.cos(angle) * u + torch.sin(angle) * u[:, None]))


# The nets


class Nets:
    """E convolutional nets as one: their channels are stacked, and `groups=E` keeps them apart.

    Three convolutions 3 x 3 of 16 channels with biases and ReLUs; `divide` after
    the first two; then a linear layer on all 4 x 4 positions.

    Args:
        divide: function of (N, 16, H, W) that returns the same shape.
        seeds: E numbers, for the weights.
    """

    def __init__(self, divide, seeds):
        self.divide, self.runs, fan_in = divide, len(seeds), 1
        draws = [torch.Generator().manual_seed(seed) for seed in seeds]
        self.parameters = []
        for _ in STRIDES:
            weight = [torch.randn(CHANNELS, fan_in, 3, 3, generator=g) * (2 / (9 * fan_in)) ** 0.5 for g in draws]
            self.parameters += [torch.cat(weight), torch.zeros(self.runs * CHANNELS)]
            fan_in = CHANNELS
        features = 16 * CHANNELS
        weight = [torch.randn(features, 10, generator=g) / features**0.5 for g in draws]
        self.parameters += [torch.stack(weight), torch.zeros(self.runs, 1, 10)]
        for parameter in self.parameters:
            parameter.requires_grad_()

    def __call__(self, x):
        """Logits, (E, N, 10), of images (N, 1, 8, 8), or (N, E, 8, 8) where each net has its own."""
        x = x.expand(-1, self.runs, -1, -1)
        for k, stride in enumerate(STRIDES):
            weight, bias = self.parameters[2 * k : 2 * k + 2]
            x = F.relu(F.conv2d(x, weight, bias, stride=stride, padding=1, groups=self.runs))
            if k < 2:  # a window over channels stays within its net
                x = self.divide(x.unflatten(1, (self.runs, -1)).flatten(0, 1)).reshape(x.shape)
        weight, bias = self.parameters[-2:]
        return torch.baddbmm(bias, x.reshape(len(x), self.runs, -1).transpose(0, 1), weight)


def train(divide, rate, *, shaded=False, seeds=range(5), steps=140):
    """Nets trained by SGD with momentum 0.9 and a rate that falls to 0 (half a cosine), 32 images a step.

    Args:
        divide: as in `Nets`.
        rate: the learning rate at first.
        shaded: as in `digits`.
        seeds: one net for each, for its weights and its batches.
    Returns:
        Nets.
    """
    x_train, y_train, *_ = digits(shaded)
    nets = Nets(divide, seeds)
    order = torch.tensor(training.shuffled(len(x_train), size=BATCH, seeds=seeds, steps=steps))
    velocity = [torch.zeros_like(p) for p in nets.parameters]
    for step in range(steps):
        drawn = order[:, step]
        logits = nets(x_train[drawn, 0].transpose(0, 1))
        loss = F.cross_entropy(logits.flatten(0, 1), y_train[drawn].flatten(), reduction="sum") / BATCH
        gradients = torch.autograd.grad(loss, nets.parameters)
        falling = 0.5 * (1 + np.cos(np.pi * step / steps))
        with torch.no_grad():
            torch._foreach_mul_(velocity, 0.9)
            torch._foreach_add_(velocity, gradients)
            torch._foreach_add_(nets.parameters, velocity, alpha=-rate * falling)
    return nets


@torch.no_grad()
def errors(nets, shaded=False):
    """Test error of each net in %, (E,)."""
    *_, x_test, y_test = digits(shaded)
    return 100 * (nets(x_test).argmax(-1) != y_test).float().mean(1).numpy()


# Filters on patches


@cache
def _glyphs():
    return data.glyphs(train=600, test=1, standardized=False).x_train.reshape(-1, 28, 28)


def filters():
    """16 odd filters, (16, 121): gratings in 4 directions under a Gaussian, at 4 places of a patch of 11 x 11."""
    r = np.arange(FILTER) - FILTER // 2
    x, y = np.meshgrid(r, r)
    bank = []
    for angle in np.pi / 4 * np.arange(4):
        grating = np.sin(2 * np.pi / 5 * (x * np.cos(angle) + y * np.sin(angle)))
        grating = grating * np.exp(-(x**2 + y**2) / 5)
        for top, left in np.ndindex(2, 2):
            whole = np.zeros((PATCH, PATCH))
            whole[4 * top : 4 * top + FILTER, 4 * left : 4 * left + FILTER] = grating / np.linalg.norm(grating)
            bank.append(whole.ravel())
    return np.array(bank)


def responses(seed, count=20_000):
    """Responses of the 16 filters, (count, 16), each of spread 1, to patches at random places of random glyphs.

    The first half is from 300 images, the second from 300 others.
    """
    rng = np.random.default_rng(seed)
    half = count // 2
    image = np.concatenate([rng.integers(300, size=half), 300 + rng.integers(300, size=half)])
    top, left = rng.integers(28 - PATCH + 1, size=(2, count))
    windows = np.lib.stride_tricks.sliding_window_view(_glyphs(), (PATCH, PATCH), axis=(1, 2))
    z = windows[image, top, left].reshape(count, -1) @ filters().T
    return (z - z.mean(0)) / z.std(0)
