"""What chapter 9 trains: small convolutional nets, five seeds at once, and the norms and measures that it shows."""

from functools import cache

import numpy as np
import torch
from torch.nn import functional as F

from ... import data, training

CHANNELS, LAYERS, BATCH, EPS = 16, 3, 32, 1e-5
HEADS = {"pooled": ((1, 2, 2), 1), "pooled, 4 x 4": ((1, 2, 1), 1),
         "flat, 2 x 2": ((1, 2, 2), 4), "flat, 4 x 4": ((1, 2, 1), 16)}


@cache
def halves():
    """The digits (8 x 8, channels first) in two halves: x_train, y_train, x_test, y_test, 896 images each, in torch."""
    digits = data.digits()
    x = torch.tensor(np.concatenate([digits.x_train, digits.x_test])).reshape(-1, 1, 8, 8)
    y = torch.tensor(np.concatenate([digits.y_train, digits.y_test]))
    return x[:896], y[:896], x[896:1792], y[896:1792]


# The norms: x is (N, C, H, W), and k maps share a mean and a variance


def over_channels(x, k):
    """Group norm: k neighbouring channels of one sample."""
    return F.group_norm(x, x.shape[1] // k, eps=EPS)


def over_samples(x, k):
    """Batch norm over ghost batches: k neighbouring samples of one channel."""
    return over_channels(x.transpose(0, 1), k).transpose(0, 1).contiguous()


def over_neighbours(x, k):
    """The mean of each channel over k neighbouring samples, for each sample: (N, C, 1, 1)."""
    mu = x.unflatten(0, (-1, k)).mean((1, 3, 4))
    return mu.repeat_interleave(k, 0)[..., None, None]


def ghost_statistics(x, k_mean, k_var):
    """Mean over k_mean samples, variance over k_var, for each sample."""
    var = over_neighbours((x - over_neighbours(x, min(k_mean, k_var))) ** 2, k_var)
    return over_neighbours(x, k_mean), var


def apart(x, k_mean, k_var):
    """Batch norm whose mean and variance have ghosts of different sizes."""
    mu, var = ghost_statistics(x, k_mean, k_var)
    return (x - mu) * torch.rsqrt(var + EPS)


# The nets


class Nets:
    """E convolutional nets as one: their channels are stacked, and `groups=E` keeps them apart.

    Three convolutions 3 x 3 of 16 channels, each followed by a norm, gamma and
    beta, and a ReLU; then a linear head.

    Args:
        head: "pooled" (maps of 2 x 2) and "pooled, 4 x 4", which read the mean of each last map, or "flat, 2 x 2" and
            "flat, 4 x 4", which read every position of it.
        seeds: E numbers, for the weights.
    """

    def __init__(self, head, seeds):
        self.head, self.runs, fan_in = head, len(seeds), 1
        draws = [torch.Generator().manual_seed(seed) for seed in seeds]
        self.parameters = []
        for _ in range(LAYERS):
            weight = [torch.randn(CHANNELS, fan_in, 3, 3, generator=g) * (2 / (9 * fan_in)) ** 0.5 for g in draws]
            self.parameters += [torch.cat(weight), torch.ones(self.runs * CHANNELS), torch.zeros(self.runs * CHANNELS)]
            fan_in = CHANNELS
        features = CHANNELS * HEADS[head][1]
        weight = [torch.randn(features, 10, generator=g) / features**0.5 for g in draws]
        self.parameters += [torch.stack(weight), torch.zeros(self.runs, 1, 10)]
        for parameter in self.parameters:
            parameter.requires_grad_()

    def features(self, x, norms):
        """What the head reads, (E, N, features), of images (N, 1, 8, 8), or (N, E, 8, 8) where each net has its own.

        norms: three functions x -> x_hat, of (N, E * 16, H, W), one for each layer.
        """
        x = x.expand(-1, self.runs, -1, -1)
        for k, (norm, stride) in enumerate(zip(norms, HEADS[self.head][0], strict=True)):
            weight, gamma, beta = self.parameters[3 * k : 3 * k + 3]
            x = norm(F.conv2d(x, weight, stride=stride, padding=1, groups=self.runs))
            x = F.relu(torch.addcmul(beta[:, None, None], gamma[:, None, None], x))
        x = x.mean((2, 3)) if self.head.startswith("pooled") else x
        return x.reshape(len(x), self.runs, -1).transpose(0, 1)

    def __call__(self, x, norms):
        """Logits, (E, N, 10)."""
        weight, bias = self.parameters[-2:]
        return torch.baddbmm(bias, self.features(x, norms), weight)


def train(norm, head, rate, *, seeds=range(5), steps=140):
    """Nets trained by SGD with momentum 0.9 and a rate that falls to 0 (half a cosine), 32 images a step.

    Args:
        norm: function x -> x_hat, of (N, E * 16, H, W), for all three layers.
        head: as in `Nets`.
        rate: the learning rate at first.
        seeds: one net for each, for its weights and its batches.
    Returns:
        Nets.
    """
    x_train, y_train, *_ = halves()
    nets = Nets(head, seeds)
    order = torch.tensor(training.shuffled(len(x_train), size=BATCH, seeds=seeds, steps=steps))
    velocity = [torch.zeros_like(p) for p in nets.parameters]
    for step in range(steps):
        drawn = order[:, step]
        logits = nets(x_train[drawn, 0].transpose(0, 1), [norm] * LAYERS)
        loss = F.cross_entropy(logits.flatten(0, 1), y_train[drawn].flatten(), reduction="sum") / BATCH
        gradients = torch.autograd.grad(loss, nets.parameters)
        falling = 0.5 * (1 + np.cos(np.pi * step / steps))
        with torch.no_grad():
            torch._foreach_mul_(velocity, 0.9)
            torch._foreach_add_(velocity, gradients)
            torch._foreach_add_(nets.parameters, velocity, alpha=-rate * falling)
    return nets


# The measures


@torch.no_grad()
def stored(nets, k_mean, k_var):
    """Evaluation with stored statistics: a function x -> x_hat for each layer."""
    kept = []

    def watch(x):
        mu, var = (v.mean(0) for v in ghost_statistics(x, k_mean, k_var))
        kept.append(lambda x: (x - mu) * torch.rsqrt(var + EPS))
        return apart(x, k_mean, k_var)

    nets.features(halves()[0][:512], [watch] * LAYERS)
    return kept


@torch.no_grad()
def errors(nets, norms, *, on="test"):
    """Wrong answers in percent, (E,)."""
    x, y = halves()[2:] if on == "test" else halves()[:2]
    logits = torch.cat([nets(part, norms) for part in x.split(128)], dim=1)
    return 100 * (logits.argmax(-1) != y).float().mean(1).numpy()
