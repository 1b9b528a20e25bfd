"""What trains the nets of chapter 9: many at once, stacked along the channels; layers and measures are the chapter's."""

from functools import cache

import numpy as np
import torch
from torch.nn import functional as F

from ... import data

CHANNELS, LAYERS, BATCH, STEPS, SEEDS = 16, 3, 32, 140, range(5)


@cache
def halves():
    """The digits (8 x 8, channels first) in two halves: 896 images to train, 896 to test, as torch tensors."""
    digits = data.digits()
    x = torch.tensor(np.concatenate([digits.x_train, digits.x_test])).reshape(-1, 1, 8, 8)
    y = torch.tensor(np.concatenate([digits.y_train, digits.y_test]))
    return x[:896], y[:896], x[896:1792], y[896:1792]


class Nets:
    """E convolutional nets as one: their channels are stacked, and `groups=E` keeps them apart.

    Three convolutions 3 x 3 of 16 channels on maps of 8, 4 and 2 pixels a side,
    each followed by a norm, gamma and beta, and a ReLU; then a linear head.

    Args:
        head: "pooled", which reads the mean of each map, or "flat", which reads every position.
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
        features = CHANNELS if head == "pooled" else 4 * CHANNELS
        weight = [torch.randn(features, 10, generator=g) / features**0.5 for g in draws]
        self.parameters += [torch.stack(weight), torch.zeros(self.runs, 1, 10)]
        for parameter in self.parameters:
            parameter.requires_grad_()

    def features(self, x, norms):
        """What the head reads, (E, N, features), of images (N, 1, 8, 8), or (N, E, 8, 8) where each net has its own.

        norms: three functions x -> x_hat, of (N, E * 16, H, W), one for each layer.
        """
        x = x.expand(-1, self.runs, -1, -1)
        for k, (norm, stride) in enumerate(zip(norms, (1, 2, 2), strict=True)):
            weight, gamma, beta = self.parameters[3 * k : 3 * k + 3]
            x = norm(F.conv2d(x, weight, stride=stride, padding=1, groups=self.runs))
            x = F.relu(torch.addcmul(beta[:, None, None], gamma[:, None, None], x))
        x = x.mean((2, 3)) if self.head == "pooled" else x
        return x.reshape(len(x), self.runs, -1).transpose(0, 1)

    def __call__(self, x, norms):
        """Logits, (E, N, 10)."""
        weight, bias = self.parameters[-2:]
        return torch.baddbmm(bias, self.features(x, norms), weight)


def train(norm, head, rate, *, seeds=SEEDS, steps=STEPS):
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
    order = torch.tensor(np.stack([_order(seed, len(x_train), steps) for seed in seeds]))
    velocity = [torch.zeros_like(p) for p in nets.parameters]
    for step in range(steps):
        drawn = order[:, step]
        logits = nets(x_train[drawn, 0].transpose(0, 1), [norm] * LAYERS)
        loss = F.cross_entropy(logits.flatten(0, 1), y_train[drawn].flatten(), reduction="sum") / BATCH
        gradients = torch.autograd.grad(loss, nets.parameters)
        falling = 0.5 * (1 + np.cos(np.pi * step / steps))
        with torch.no_grad():
            for p, v, gradient in zip(nets.parameters, velocity, gradients, strict=True):
                p -= falling * rate * v.mul_(0.9).add_(gradient)
    return nets


def _order(seed, count, steps):
    """Which images a step sees, (steps, 32): all of them once before one comes again."""
    rng = np.random.default_rng(seed)
    epochs = -(-steps * BATCH // count)
    return np.concatenate([rng.permutation(count) for _ in range(epochs)])[: steps * BATCH].reshape(steps, BATCH)
