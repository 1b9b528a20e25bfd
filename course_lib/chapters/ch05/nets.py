"""The digits with raw pixels, two kinds of small nets that read them, and plain SGD: what chapter 5 tests with."""

import math

import numpy as np
import torch
from torch import nn

from ... import data

_digits = data.digits(standardized=False)
x_train, x_test = (torch.tensor(16 * x) for x in (_digits.x_train, _digits.x_test))  # (1400, 64), (397, 64), 0 to 16
y_train, y_test = (torch.tensor(y) for y in (_digits.y_train, _digits.y_test))


def new_net(seed, norm=nn.BatchNorm1d):
    """Fully connected, two hidden layers of 100 units, each with a norm."""
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Linear(64, 100, bias=False), norm(100), nn.ReLU(),
        nn.Linear(100, 100, bias=False), norm(100), nn.ReLU(),
        nn.Linear(100, 10))


def conv_net(seed):
    """Two convolutions, 8 and 16 channels, each with batch norm."""
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Unflatten(1, (1, 8, 8)),
        nn.Conv2d(1, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
        nn.Flatten(), nn.Linear(256, 10))


def draw(rng, size, among=1400):
    """Numbers of images, drawn with replacement: a tensor (size,)."""
    return torch.from_numpy(rng.integers(among, size=size))


def drawn(seed, count, size, x=x_train):
    """`count` random batches of x."""
    rng = np.random.default_rng([seed, 3])
    return [x[draw(rng, size, len(x))] for _ in range(count)]


def of_class(seed, count=50, size=32):
    """`count` batches of each class, one class after the other."""
    return [x for c in range(10) for x in drawn(seed, count, size, x_train[y_train == c])]


def training(net, seed, steps=300, lr=0.2, size=32, x=x_train, y=y_train, decay=False):
    """Plain SGD; yields the number of each step.  decay: the rate falls to 0 along a cosine."""
    rng = np.random.default_rng([seed, 1])
    optimizer = torch.optim.SGD(net.parameters(), lr=lr)
    for step in range(1, steps + 1):
        if decay:
            optimizer.param_groups[0]["lr"] = lr * (1 + math.cos(math.pi * step / steps)) / 2
        i = draw(rng, size, among=len(x))
        loss = nn.functional.cross_entropy(net(x[i]), y[i])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        yield step


def after_training(net, seed, steps=300, lr=0.2, x=x_train, y=y_train):
    """The net itself, when `training` is through."""
    for _ in training(net, seed, steps, lr, x=x, y=y):
        pass
    return net
