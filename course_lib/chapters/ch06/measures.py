"""The loops of chapter 6; what they measure is written in the chapter."""

import numpy as np

from ... import training


def train_by(step, net, data, *, seeds, lr, steps, until):
    """`training.train` with another rule for a step.

    Args:
        step: function (net, gradients, lr) -> net, as `training.sgd_step`.
        net, data, seeds, lr, steps, until: as in `training.train`, with batches of 60 and `fine_looks`.
    Returns:
        History.
    """
    looks, taken, seen = set(training.fine_looks(steps)), [], []
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
