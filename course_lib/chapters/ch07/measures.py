"""What chapter 7 measures with more than a few lines; the chapter shows the source of the first three."""

import time

import numpy as np
import torch

from ...training import History

LOOKS = {*range(2, 40, 2), *range(40, 201, 4)}  # when `train` looks


def changes_of(x, new):
    """Eight changes of x (N, D): what it becomes, and which entries to compare."""
    row, column = np.eye(*x.shape)[:, :1] > 0, np.eye(*x.shape)[:1] > 0
    return {
        "one sample + 3": (x + 3 * row, np.s_[:, :]),
        "one sample times 3": (np.where(row, 3 * x, x), np.s_[:, :]),
        "other samples replaced": (np.where(row, x, new), np.s_[:1]),
        "one feature + 3": (x + 3 * column, np.s_[:, :]),
        "one feature times 3": (np.where(column, 3 * x, x), np.s_[:, :]),
        "other features replaced": (np.where(column, x, new), np.s_[:, :1]),
        "everything + 3": (x + 3, np.s_[:, :]),
        "everything times 3": (3 * x, np.s_[:, :]),
    }


def train(nets, forward, norm, batches, lr, look, learned=(0, 2), until=2.0):
    """Plain SGD for all nets at once; look(nets) -> accuracy (nets,)."""
    nets = [[v.clone() for v in layer] for layer in nets]
    moving = [layer[k].requires_grad_() for layer in nets for k in learned]
    seen = {}
    for step, (u, labels) in enumerate(batches, 1):
        loss = losses(forward(nets, u, norm), labels).sum()
        gradients = torch.autograd.grad(loss, moving, materialize_grads=True)
        for v, dv in zip(moving, gradients):
            v.data -= lr * dv
        if step in LOOKS:
            seen[step] = look(nets).numpy()
        if seen and (np.max([*seen.values()], axis=0) >= until).all():
            break
    return History(np.array([*seen]), {"accuracy": np.array([*seen.values()])}, nets)


def losses(logits, labels):
    """Mean cross-entropy of each net, (nets,): logits (nets, N, classes), labels (nets, N)."""
    return torch.nn.functional.cross_entropy(logits.transpose(1, 2), labels, reduction="none").mean(dim=1)


def new_nets(widths, seeds, b=0.0):
    """One net a seed, all in one: for each layer W (nets, n, k) with He's variance, and b and beta (nets, 1, k)."""
    generators, nets = [torch.Generator().manual_seed(seed) for seed in seeds], []
    for n, k in zip(widths, widths[1:]):
        W = torch.stack([torch.randn(n, k, generator=generator) for generator in generators])
        zeros = torch.zeros(len(generators), 1, k)
        nets.append([W * (2 / n) ** 0.5, zeros + b, zeros.clone()])
    return nets


def digit_batches(data, seeds, *, steps, size=60):
    """Training images and labels, drawn by each net's own seed: (nets, size, 64) and (nets, size)."""
    generators = [np.random.default_rng(seed) for seed in seeds]
    x, y = torch.tensor(data.x_train), torch.tensor(data.y_train)
    for _ in range(steps):
        index = np.stack([rng.integers(len(x), size=size) for rng in generators])
        yield x[index], y[index]


def rings(rng, samples):
    """Points of the plane near a circle of radius 0.75 (class 0) or 1.75 (class 1): (samples, 2) and labels."""
    angle, label = rng.uniform(0, 2 * np.pi, samples), rng.integers(2, size=samples)
    radius = 0.75 + label + rng.uniform(-0.25, 0.25, samples)
    points = radius * np.stack([np.cos(angle), np.sin(angle)])
    return torch.tensor(points.T, dtype=torch.float32), torch.tensor(label)


def ring_batches(seeds, *, steps, size=64):
    """Points and labels for each net: (nets, size, 2) and (nets, size)."""
    generators = [np.random.default_rng(seed) for seed in seeds]
    for _ in range(steps):
        points, labels = zip(*(rings(rng, size) for rng in generators))
        yield torch.stack(points), torch.stack(labels)


def sequences(generators, samples, longest, *, length=None, symbols=4):
    """Random symbols (nets, longest, samples), lengths (nets, samples), and the first symbol, to be named.

    Most sequences are short and a few long: 2 plus an exponential number of mean 5, at most `longest`.  With `length`
    all are that long.
    """
    drawn = []
    for rng in generators:
        s, lengths = rng.integers(symbols, size=(longest, samples)), 2 + rng.exponential(5, samples).astype(int)
        drawn.append((s, np.minimum(lengths, longest) if length is None else np.full(samples, length)))
    s, lengths = (torch.tensor(np.stack(each)) for each in zip(*drawn))
    return s, lengths, s[:, 0]


def new_recurrent_nets(seeds, *, symbols=4, units=32):
    """U, W, gamma, beta, V, c of a recurrent net for each seed; all of them learn."""
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    def normal(n, k, std):
        return torch.stack([std * torch.randn(n, k, generator=generator) for generator in generators])

    row = torch.zeros(len(generators), 1, units)
    net = [normal(symbols, units, 1.0), normal(units, units, units**-0.5), row + 1, row.clone(),
           normal(units, symbols, units**-0.5), torch.zeros(len(generators), 1, symbols)]
    return [v.requires_grad_() for v in net]


def with_parameters(layer, gamma, beta):
    """A torch layer with these values as its weight and, where it has one, its bias."""
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(gamma))
        if getattr(layer, "bias", None) is not None:
            layer.bias.copy_(torch.tensor(beta))
    return layer


def seconds(functions, *, rounds=21):
    """Median wall-clock time of each function, in rounds that call all of them, so that a busy moment meets all.

    Args:
        functions: dict from a name to a function without arguments.
    """
    taken = {name: [] for name in functions}
    for _ in range(rounds):
        for name, function in functions.items():
            start = time.perf_counter()
            function()
            taken[name].append(time.perf_counter() - start)
    return {name: np.median(times) for name, times in taken.items()}
