"""The race of chapter 13: eleven arms in two small residual nets, many runs at once, on data that come with Python.

A layer is a function (x, extra) -> x_hat of x (N, C, S): samples, channels, positions (the pixels of a map, the tokens
of a sequence).  Behind it every arm has gamma and beta per channel, and all arms start from the same weights, so that
they differ in nothing else.  `extra` (C,) is learned as well, by the arms that read it.

A net is a function of a dict of parameters, written for one run; `torch.func.vmap` runs E of them as one.
"""

from collections.abc import Callable
from functools import cache, partial
from typing import NamedTuple

import numpy as np
import torch
from torch.nn import functional as F

from ... import data

EPS, BATCH, HEADS = 1e-5, 32, 4
POPULATION = 448  # training samples whose batches give a net with batch norm the statistics that it is tested with
SYMBOLS, LENGTH = 16, 12


# Layers: x is (N, C, S)


def standardize(x, *axes):
    """Mean 0 and variance 1 over these axes."""
    return rescale(x - x.mean(axes, keepdim=True), *axes)


def rescale(x, *axes):
    """Mean square 1 over these axes."""
    return x * torch.rsqrt(x.square().mean(axes, keepdim=True) + EPS)


def no_norm(x, extra):
    return x


def layer_norm(x, extra):
    return standardize(x, 1)


def rms_norm(x, extra):
    return rescale(x, 1)


def instance_norm(x, extra):
    return standardize(x, 2)


def frn(x, extra):
    return rescale(x, 2)


def group_norm(x, extra):
    return standardize(x.unflatten(1, (4, -1)), 2, 3).flatten(1, 2)


def dyt(x, extra):
    return torch.tanh(extra[:, None] * x)


def batch_norm(x, extra, size=BATCH, stored=0):
    """Batches of `size`; the first `stored` samples give their mean statistics to the rest."""
    batches = x[: stored or len(x)].unflatten(0, (-1, size))
    mu = batches.mean((1, 3), keepdim=True)
    var = (batches - mu).square().mean((1, 3), keepdim=True)
    own = ((batches - mu) * torch.rsqrt(var + EPS)).flatten(0, 1)
    if not stored:
        return own
    return torch.cat([own, (x[stored:] - mu.mean(0)) * torch.rsqrt(var.mean(0) + EPS)])


def batch_mean(x, extra, size=BATCH, stored=0):
    """Batch norm's subtraction without its division."""
    batches = x[: stored or len(x)].unflatten(0, (-1, size))
    mu = batches.mean((1, 3), keepdim=True)
    own = (batches - mu).flatten(0, 1)
    return torch.cat([own, x[stored:] - mu.mean(0)]) if stored else own


def batch_scale(x, extra, size=BATCH, stored=0):
    """Division by the root of the batch's mean square, without a subtraction."""
    batches = x[: stored or len(x)].unflatten(0, (-1, size))
    nu2 = batches.square().mean((1, 3), keepdim=True)
    own = (batches * torch.rsqrt(nu2 + EPS)).flatten(0, 1)
    return torch.cat([own, x[stored:] * torch.rsqrt(nu2.mean(0) + EPS)]) if stored else own


# Weights: v is (fan_out, ...), gain is (fan_out,)


def plain(v, gain):
    return v


def weight_norm(v, gain):
    rows = v.flatten(1)
    return (gain[:, None] * rows / rows.norm(dim=1, keepdim=True)).view(v.shape)


def weight_standardization(v, gain):
    rows = v.flatten(1)
    return weight_norm((rows - rows.mean(1, keepdim=True)).view(v.shape), gain)


class Arm(NamedTuple):
    """What an arm changes in the net without a norm."""

    layer: Callable = no_norm
    weights: Callable = plain
    branch: float | None = None  # the factor of each branch at the start, learned; None: 1, not learned
    extra: float | None = None  # what `extra` is at the start; None: not learned
    threshold: bool = False  # in the image net: max(y, extra) in place of ReLU
    last: bool = True  # whether the layer stands before the head as well


ARMS = {
    "none": Arm(),
    "batch norm": Arm(batch_norm),
    "layer norm": Arm(layer_norm),
    "RMS norm": Arm(rms_norm),
    "instance norm": Arm(instance_norm),
    "group norm": Arm(group_norm),
    "FRN": Arm(frn, extra=0.0, threshold=True),
    "weight norm": Arm(weights=weight_norm),
    "weight standardization": Arm(weights=weight_standardization),
    "SkipInit": Arm(branch=0.0),
    "DyT": Arm(dyt, extra=0.5),
}
HALVES = {"batch mean only": Arm(batch_mean), "batch scale only": Arm(batch_scale)}  # of batch norm


def of_size(arm, size):
    """Batch norm over that many samples; the other layers do not know the size of a batch."""
    return arm._replace(layer=partial(batch_norm, size=size)) if arm.layer is batch_norm else arm


# Nets


def affine(p, site, arm, x):
    """gamma * layer(x) + beta, of x (N, C, S); site -1 stands before the head."""
    x_hat = arm.layer(x, p["extra"][site]) if arm.last or site >= 0 else x
    return torch.addcmul(p["beta"][site][:, None], p["gamma"][site][:, None], x_hat)


def activated(p, site, arm, x):
    """The layer, gamma and beta, and ReLU, of maps (N, C, H, W)."""
    y = affine(p, site, arm, x.flatten(2))
    y = torch.maximum(y, p["extra"][site][:, None]) if arm.threshold else F.relu(y)
    return y.view(x.shape)


def image_stream(p, x, arm):
    """Maps (N, C, 5, 5) of images (N, 1, 10, 10): what each block adds to, and the last sum."""
    stream = [F.conv2d(x, p["stem"], stride=2, padding=1)]
    for block, scale in enumerate(p["scale"]):
        h = stream[-1]
        for site in (2 * block, 2 * block + 1):
            weight = arm.weights(p["conv"][site], p["conv gain"][site])
            h = F.conv2d(activated(p, site, arm, h), weight, padding=1)
        stream.append(stream[-1] + scale * h)
    return stream


def image_net(p, x, arm):
    """Logits (N, 10) of images (N, 1, 10, 10)."""
    last = activated(p, -1, arm, image_stream(p, x, arm)[-1])
    return last.mean((2, 3)) @ p["head"] + p["bias"]


def attention(q, k, v):
    """Every token looks at all tokens: (N, heads, T, D / heads) to (N, T, D)."""
    weights = (q @ k.transpose(2, 3) / q.shape[3] ** 0.5).softmax(3)
    return (weights @ v).transpose(1, 2).flatten(2)


def sequence_net(p, x, arm):
    """Logits (N, T, symbols) of tokens (N, T)."""
    def before(x, site):
        return affine(p, site, arm, x.transpose(1, 2)).transpose(1, 2)

    def linear(x, name, block):
        return x @ arm.weights(p[name][block], p[f"{name} gain"][block]).T

    x = p["token"][x] + p["place"]
    for block, (first, second) in enumerate(p["scale"].unflatten(0, (-1, 2))):
        qkv = linear(before(x, 2 * block), "qkv", block).unflatten(2, (3, HEADS, -1))
        x = x + first * linear(attention(*qkv.permute(2, 0, 3, 1, 4)), "out", block)
        x = x + second * linear(F.relu(linear(before(x, 2 * block + 1), "up", block)), "down", block)
    return before(x, -1) @ p["head"] + p["bias"]


# Tasks


@cache
def images():
    """The digits of scikit-learn, x (1797, 1, 8, 8) and y: 897 to train, 300 to choose rates by, 600 to test."""
    digits = data.digits()
    x = np.concatenate([digits.x_train, digits.x_test]).reshape(-1, 1, 8, 8)
    return torch.tensor(x), torch.tensor(np.concatenate([digits.y_train, digits.y_test]))


def put(x, row, column):
    """Images (N, 1, 8, 8) on a ground of 10 x 10, each at its own place: 0 to 2 rows down, 0 to 2 columns across."""
    ground, index = torch.zeros(len(x), 1, 10, 10), torch.arange(8)
    rows, columns = (row[:, None] + index)[:, :, None], (column[:, None] + index)[:, None, :]
    ground[torch.arange(len(x))[:, None, None], 0, rows, columns] = x[:, 0]
    return ground


def image_batch(rng, size):
    """Training images, each at a place of its own."""
    x, y = images()
    drawn = torch.tensor(rng.integers(897, size=size))
    row, column = torch.tensor(rng.integers(3, size=(2, size)))
    return put(x[drawn], row, column), y[drawn]


@cache
def image_examples(which):
    """Images of "train" (450), "valid" (2700) or "test" (5400), each at all nine places."""
    x, y = images()
    part = {"train": slice(0, 50), "valid": slice(897, 1197), "test": slice(1197, 1797)}[which]
    x, y = x[part].repeat(9, 1, 1, 1), y[part].repeat(9)
    place = torch.arange(9).repeat_interleave(len(x) // 9)
    return put(x, place // 3, place % 3), y


def sequence_batch(rng, size):
    """Sequences of 12 symbols, and the same symbols sorted."""
    x = torch.tensor(rng.integers(SYMBOLS, size=(size, LENGTH)))
    return x, x.sort(dim=1).values


@cache
def sequence_examples(which):
    """Sequences of "train" (448), "valid" (500) or "test" (1000)."""
    size = {"train": POPULATION, "valid": 500, "test": 1000}[which]
    return sequence_batch(np.random.default_rng([77, len(which)]), size)


def image_parameters(rng, blocks, width=16):
    """The start of one net: He's weights, gamma 1, beta 0."""
    sites = 2 * blocks + 1
    return {
        "stem": rng.standard_normal((width, 1, 3, 3)) / 3,
        "conv": rng.standard_normal((2 * blocks, width, width, 3, 3)) * (2 / (9 * width)) ** 0.5,
        "conv gain": np.full((2 * blocks, width), 2**0.5),
        "gamma": np.ones((sites, width)), "beta": np.zeros((sites, width)), "extra": np.ones((sites, width)),
        "scale": np.ones(blocks),
        "head": rng.standard_normal((width, 10)) / width**0.5, "bias": np.zeros(10),
    }


def sequence_parameters(rng, blocks, width=32):
    """The start of one net: weights of variance 1 / fan_in, gamma 1, beta 0."""
    sites = 2 * blocks + 1
    shapes = {"qkv": (3 * width, width), "out": (width, width), "up": (2 * width, width), "down": (width, 2 * width)}
    matrices = {name: rng.standard_normal((blocks, *shape)) / shape[1] ** 0.5 for name, shape in shapes.items()}
    return {
        "token": rng.standard_normal((SYMBOLS, width)), "place": rng.standard_normal((LENGTH, width)),
        **matrices, **{f"{name} gain": np.ones((blocks, shape[0])) for name, shape in shapes.items()},
        "gamma": np.ones((sites, width)), "beta": np.zeros((sites, width)), "extra": np.ones((sites, width)),
        "scale": np.ones(2 * blocks),
        "head": rng.standard_normal((width, SYMBOLS)) / width**0.5, "bias": np.zeros(SYMBOLS),
    }


class Task(NamedTuple):
    """A net, its data and its optimizer: Adam, or SGD with momentum."""

    net: Callable
    batch: Callable
    examples: Callable
    parameters: Callable
    blocks: int
    steps: int
    adam: bool


TASKS = {
    "images": Task(image_net, image_batch, image_examples, image_parameters, 4, 500, False),
    "sequences": Task(sequence_net, sequence_batch, sequence_examples, sequence_parameters, 2, 300, True),
}


# Training


def start(task, arm, seeds, blocks):
    """Parameters of E nets at the start, (E, ...) each, and the names of those that this arm learns."""
    drawn = [TASKS[task].parameters(np.random.default_rng([seed, 0]), blocks) for seed in seeds]
    p = {name: torch.tensor(np.stack([each[name] for each in drawn]), dtype=torch.float32) for name in drawn[0]}
    p["scale"] *= 1 if arm.branch is None else arm.branch
    p["extra"] *= 1 if arm.extra is None else arm.extra
    fixed = ({"scale"} if arm.branch is None else set()) | ({"extra"} if arm.extra is None else set())
    fixed |= {name for name in p if name.endswith(" gain")} if arm.weights is plain else set()
    return p, [name for name in p if name not in fixed]


def train(task, arm, rates, seeds, *, blocks=None, steps=None, size=BATCH):
    """Train E nets at once.

    Args:
        task: "images" or "sequences".
        arm: Arm.
        rates, seeds: E learning rates and E seeds, of the weights and of the batches.  Nets of one seed start alike
            and see the same data, whatever their arm.
        blocks, steps: None for those of the task.
        size: samples in a batch.
    Returns:
        dict of the trained parameters, (E, ...) each.
    """
    of = TASKS[task]
    steps = steps or of.steps
    p, names = start(task, arm, seeds, blocks or of.blocks)
    moving = [p[name].requires_grad_() for name in names]
    run = torch.func.vmap(partial(of.net, arm=arm))
    draws = [np.random.default_rng([seed, 1]) for seed in seeds]
    first, second = ([torch.zeros_like(v) for v in moving] for _ in range(2))
    rates = torch.tensor(rates, dtype=torch.float32)
    for step in range(steps):
        x, y = map(torch.stack, zip(*(of.batch(rng, size) for rng in draws)))
        loss = F.cross_entropy(run(p, x).flatten(0, -2), y.flatten(), reduction="sum") / y[0].numel()
        gradients = torch.autograd.grad(loss, moving, materialize_grads=True)
        now = rates * min(1, (step + 1) / (0.1 * steps)) * 0.5 * (1 + np.cos(np.pi * step / steps))
        with torch.no_grad():
            for v, m, s, g in zip(moving, first, second, gradients):
                rate = now.view(-1, *[1] * (v.ndim - 1))
                if of.adam:
                    m.mul_(0.9).add_(g, alpha=0.1)
                    s.mul_(0.98).addcmul_(g, g, value=0.02)
                    v -= rate * m / (1 - 0.9 ** (step + 1)) / ((s / (1 - 0.98 ** (step + 1))).sqrt() + 1e-8)
                else:
                    m.mul_(0.9).add_(g)
                    v -= rate * m
    return p


@torch.no_grad()
def errors(task, arm, p, which):
    """Wrong answers in percent, (E,), of the data "valid" or "test"."""
    of = TASKS[task]
    x, y = of.examples(which)
    if getattr(arm.layer, "func", arm.layer) in (batch_norm, batch_mean, batch_scale):
        x = torch.cat([of.examples("train")[0][:POPULATION], x])
        arm = arm._replace(layer=partial(arm.layer, stored=POPULATION))
    logits = torch.func.vmap(partial(of.net, arm=arm), in_dims=(0, None))(p, x)
    return 100 * (logits[:, -len(y):].argmax(-1) != y).float().flatten(1).mean(1).numpy()
