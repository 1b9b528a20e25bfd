"""The loops of chapter 6; what they measure is written in the chapter."""

import numpy as np

from ... import training


def train_by(step, net, data, *, seeds, lr, steps, until):
    """`training.train` with another rule for a step.

    Args:
        step: function (net, gradients, lr) -> net, as `training.sgd_step`.
        net, data, seeds, lr, steps, until: as in `training.train`, with batches of 60, looked at every 4 steps,
            after 100 every 10.
    Returns:
        History.
    """
    looks, taken, seen = {*range(4, 100, 4), *range(100, steps + 1, 10)}, [], []
    for number, batch in enumerate(training.batches(data, size=60, seeds=seeds, steps=steps), start=1):
        net = step(net, training.loss_and_gradient(net, *batch)[1], lr)
        if number in looks:
            taken.append(number)
            seen.append(training.observe_accuracy(net, data)["accuracy"])
            if (np.max(seen, axis=0) >= until).all():
                break
    return training.History(np.array(taken), {"accuracy": np.stack(seen)}, net)


def groups(net, size, x, labels):
    """A batch cut into groups of `size` samples: the net once for each group, and x and labels of the groups.

    With `merge` this gives the step of a batch of N whose statistics cover `size` samples.
    """
    k = x.shape[1] // size
    layers = tuple({name: np.repeat(v, k, axis=0) for name, v in layer.items()} for layer in net.layers)
    x = x.reshape(-1, size, x.shape[2])
    return training.MLP(layers, net.activation, net.norm), x, labels.reshape(-1, size)


def merge(gradients, runs):
    """The mean over its groups for each of the runs."""
    return [{name: v.reshape(runs, -1, *v.shape[1:]).mean(axis=1) for name, v in layer.items()} for layer in gradients]


def mean_of(gradients):
    """The mean of several gradients of one net."""
    return [{name: np.mean([each[k][name] for each in gradients], axis=0) for name in layer}
            for k, layer in enumerate(gradients[0])]


def sorted_batches(data, *, size, group, seeds, steps, mixed=False):
    """As `training.batches`, but each `group` samples in a row are of one class; mixed: the same samples, shuffled."""
    members = [np.flatnonzero(data.y_train == label) for label in range(10)]
    generators = [np.random.default_rng([seed, 1]) for seed in seeds]
    for _ in range(steps):
        index = []
        for rng in generators:
            labels = rng.permutation(10)[: size // group]
            rows = np.concatenate([rng.choice(members[label], group) for label in labels])
            index.append(rng.permutation(rows) if mixed else rows)
        yield data.x_train[np.array(index)], data.y_train[np.array(index)]


def every(seeds, *settings):
    """Each of K settings for each seed: arrays (K * seeds,), and the seed of each run."""
    settings = [np.repeat(values, len(seeds)) for values in np.broadcast_arrays(*map(np.atleast_1d, settings))]
    return *settings, len(settings[0]) // len(seeds) * list(seeds)


def moved(net, gradients, s):
    """The net with `gradients` times s subtracted; what has no gradient stays."""
    layers = [dict(layer) for layer in net.layers]
    for layer, gradient in zip(layers, gradients):
        for name, value in gradient.items():
            layer[name] = layer[name] - np.float32(s) * value
    return training.MLP(tuple(layers), net.activation, net.norm)


def distance(gradients, others=None):
    """Euclidean length of gradients, or of their difference from others: (runs,)."""
    others = [{name: 0 for name in layer} for layer in gradients] if others is None else others
    return np.sqrt(sum(np.square(layer[name] - other[name]).sum(axis=(1, 2))
                       for layer, other in zip(gradients, others, strict=True) for name in layer))


def stretched(net, a):
    """The net with the weights of its hidden layers times a."""
    hidden = [{**layer, "weight": np.float32(a) * layer["weight"]} for layer in net.layers[:-1]]
    return training.MLP((*hidden, net.layers[-1]), net.activation, net.norm)


def one(net, run):
    """One run of a net of several."""
    layers = tuple({name: v[run : run + 1] for name, v in layer.items()} for layer in net.layers)
    return training.MLP(layers, net.activation, net.norm)


def noise_with_one_label(seeds, steps, *, samples=16, features=16):
    """`steps` batches of noise with one label of two for all samples, written into entry 0 of the first alone."""
    generators = [np.random.default_rng([seed, 1]) for seed in seeds]
    for _ in range(steps):
        label = np.array([rng.integers(2) for rng in generators])
        x = np.stack([rng.standard_normal((samples, features)) for rng in generators]).astype(np.float32)
        x[:, 0, 0] += 8 * (2 * label - 1)
        yield x, np.repeat(label[:, None], samples, axis=1)


def train_reader(read, kind, batch, rates, data, seeds, *, steps, shortest=3, units=48):
    """Test errors, in percent, of a recurrent net after 3, ..., 8 rows of a digit: (rates, 6, seeds).

    Args:
        read: function (parameters, x, length, kind, known) -> logits, statistics of each time; x (E, B, 8, 8).
        kind: "layer" or "batch".
        batch, steps: of plain gradient descent; each sequence has `shortest` to 8 rows, drawn at random.
        rates: learning rates; all of them train at once, each with every seed.
        units: of the state.
    """
    import torch

    generators = [torch.Generator().manual_seed(int(seed)) for seed in seeds]
    runs, lr = len(rates) * len(seeds), torch.tensor(np.repeat(rates, len(seeds)), dtype=torch.float32)[:, None, None]

    def for_each_rate(draw):
        return torch.stack([draw(g) for g in generators]).repeat(len(rates), *draw(torch.Generator()).ndim * [1])

    def normal(*shape):
        return for_each_rate(lambda g: torch.randn(shape, generator=g)) / shape[0] ** 0.5

    p = {"W": normal(8, units), "U": normal(units, units), "V": normal(units, 10), "c": torch.zeros(runs, 1, 10),
         "gamma": torch.ones(runs, 1, units), "beta": torch.zeros(runs, 1, units)}
    x_train, x_test = (torch.tensor(x).reshape(-1, 8, 8) for x in (data.x_train, data.x_test))
    y_train, y_test = torch.tensor(data.y_train), torch.tensor(data.y_test)
    for _ in range(steps):
        index = for_each_rate(lambda g: torch.randint(len(x_train), (batch,), generator=g))
        length = for_each_rate(lambda g: torch.randint(shortest, 9, (batch,), generator=g))
        leaves = [v.requires_grad_() for v in p.values()]
        logits, _ = read(p, x_train[index], length, kind)
        labels = y_train[index].flatten()
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels, reduction="sum") / batch
        found = torch.autograd.grad(loss, leaves)
        p = {name: (v - lr * dv).detach() for (name, v), dv in zip(p.items(), found)}
    with torch.no_grad():
        lengths, known = torch.randint(shortest, 9, (runs, 600), generator=generators[0]), None
        if kind == "batch":
            _, known = read(p, x_train[:600].expand(runs, -1, -1, -1), lengths, kind)
        errors = []
        for rows in range(3, 9):
            length = torch.full((runs, len(x_test)), rows)
            logits, _ = read(p, x_test.expand(runs, -1, -1, -1), length, kind, known)
            errors.append(100 * (logits.argmax(2) != y_test).float().mean(1))
    return torch.stack(errors).numpy().reshape(6, len(rates), -1).swapaxes(0, 1)
