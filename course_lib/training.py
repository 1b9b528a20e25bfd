"""Small training runs in NumPy: seeded, several seeds at once, seconds on one CPU core.

Every array has a leading axis of E runs, and one matmul serves them all.  A run
draws its weights and its batches from its own seed, so its result does not
depend on its company.  With one run in the model and N in the data, the same
axis gives N gradients, one for each sample.

`History`, `steps_to` and `sweep` know nothing of the net: any trainer that
returns a History with an "accuracy" can be compared with them.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from threadpoolctl import threadpool_limits

from .standardize import StandardizeCache, standardize, standardize_backward

NORM_AXES = {"none": (), "batch": (1,), "layer": (2,)}  # of (E, N, D)
EPS = 1e-5
POPULATION = 200  # training images whose statistics a net with batch norm is tested with
BLOCK = 200  # test images that go through at a time: small enough to stay in the cache, which is 3 times as fast


def one_thread():
    """Do NumPy's matrix products on one thread from here on.

    In nets as small as these, threads wait for each other longer than they
    compute: on a busy machine a second one makes training ten times slower.
    """
    threadpool_limits(1)


# The net


@dataclass(frozen=True)
class MLP:
    """A fully connected net, E times: weight (E, fan_in, fan_out); bias, gamma and beta (E, 1, fan_out)."""

    layers: tuple[dict[str, np.ndarray], ...]
    activation: str  # "sigmoid", "centred" (a sigmoid minus 1/2), "tanh" or "relu"
    norm: str  # a key of NORM_AXES; it stands before the activation


class Tape(NamedTuple):
    """What one hidden layer leaves behind for the backward pass, and for us to look at."""

    inputs: np.ndarray  # (E, N, fan_in)
    z: np.ndarray  # weight applied
    normed: StandardizeCache | None
    scale: np.ndarray | float  # the factor of the injected noise, 1 without
    y: np.ndarray  # what the activation gets
    a: np.ndarray  # what it gives


def mlp(widths, *, seeds, weight_std=0.1, activation="sigmoid", norm="none"):
    """A net with normal weights and zero biases, one run for each seed.

    Args:
        widths: (D, hidden, ..., classes).
        seeds: E whole numbers.
        weight_std: a number, or (E,), one for each run.
        activation: "sigmoid", "centred" (a sigmoid minus 1/2), "tanh" or "relu", after each hidden layer.
        norm: "none", "batch" or "layer", before each activation.
    Returns:
        MLP, float32.
    """
    generators = [np.random.default_rng([seed, 0]) for seed in seeds]
    std = np.reshape(np.broadcast_to(weight_std, len(generators)), (-1, 1, 1))
    layers = []
    for fan_in, fan_out in zip(widths, widths[1:]):
        weight = std * np.stack([rng.standard_normal((fan_in, fan_out)) for rng in generators])
        layer = {"weight": weight, "bias": np.zeros((len(std), 1, fan_out))}
        if norm != "none" and len(layers) < len(widths) - 2:  # beta does the work of a bias
            layer = {"weight": weight, "gamma": np.ones((len(std), 1, fan_out)), "beta": layer["bias"]}
        layers.append({name: value.astype(np.float32) for name, value in layer.items()})
    return MLP(tuple(layers), activation, norm)


def forward(model, x, *, statistics=None, noise=None):
    """Run the net.

    Args:
        x: (E, N, D), or (1, N, D) to give all runs the same samples.
        statistics: None to normalize by the statistics of x, as in training; or
            the result of `layer_statistics`, to test a net with batch norm.
        noise: None, or a function shape -> (scale, shift), applied to what each
            activation is about to get.
    Returns:
        logits (E, N, classes), and a list with one Tape for each hidden layer.
    """
    a, tapes = x, []
    for number, layer in enumerate(model.layers[:-1]):
        z, normed, scale = a @ layer["weight"], None, 1.0
        if model.norm == "none":
            y = z + layer["bias"]
        elif statistics is None:
            z_hat, normed = standardize(z, NORM_AXES[model.norm], eps=EPS)
            y = layer["gamma"] * z_hat + layer["beta"]
        else:
            mean, inv_std = statistics[number]
            y = (layer["gamma"] * inv_std) * (z - mean) + layer["beta"]
        if noise is not None:
            scale, shift = noise(y.shape)
            y = scale * y + shift
        tapes.append(Tape(a, z, normed, scale, y, _activate(y, model.activation)))
        a = tapes[-1].a
    return a @ model.layers[-1]["weight"] + model.layers[-1]["bias"], tapes


def backward(model, tapes, dlogits):
    """Gradients of a loss with respect to every parameter: one dict for each layer, as in MLP.layers."""
    a = tapes[-1].a
    gradients = [{"weight": a.mT @ dlogits, "bias": dlogits.sum(axis=1, keepdims=True)}]
    dz, above = dlogits, model.layers[-1]
    for layer, tape in zip(reversed(model.layers[:-1]), reversed(tapes)):
        dy = dz @ above["weight"].mT * slope(tape, model.activation) * tape.scale
        gradient = {"bias" if tape.normed is None else "beta": dy.sum(axis=1, keepdims=True)}
        dz, above = dy, layer
        if tape.normed is not None:
            gradient["gamma"] = (dy * tape.normed.x_hat).sum(axis=1, keepdims=True)
            dz = standardize_backward(layer["gamma"] * dy, tape.normed)
        gradients.append({"weight": tape.inputs.mT @ dz, **gradient})
    return gradients[::-1]


def loss_and_gradient(model, x, labels, *, noise=None):
    """Mean cross-entropy (E,) over the batch and its gradients; x (E, N, D), labels (E, N)."""
    logits, tapes = forward(model, x, noise=noise)
    loss, dlogits = cross_entropy(logits, labels)
    return loss, backward(model, tapes, dlogits)


def cross_entropy(logits, labels):
    """Mean cross-entropy of (E, N, classes) logits against (E, N) labels: (E,), and its gradient."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    right = np.broadcast_to(labels, log_p.shape[:-1])[..., None]
    loss = -np.take_along_axis(log_p, right, -1).mean(axis=(1, 2))
    dlogits = np.exp(log_p)
    np.put_along_axis(dlogits, right, np.take_along_axis(dlogits, right, -1) - 1, -1)
    return loss, dlogits / logits.shape[1]


def slope(tape, activation):
    """Derivative of the activation at what it gets, the shape of tape.y."""
    if activation == "relu":
        return (tape.y > 0).astype(tape.y.dtype)
    if activation == "sigmoid":
        return tape.a * (1 - tape.a)
    return (1 if activation == "tanh" else 0.25) - tape.a**2


def _activate(y, activation):
    if activation == "relu":
        return np.maximum(y, 0)
    if activation == "tanh":
        return np.tanh(y)
    a = 0.5 * y  # then in place: these nets spend their time here
    np.tanh(a, out=a)
    a *= 0.5  # 1 / (1 + exp(-y)) - 0.5 without overflow
    if activation == "sigmoid":
        a += 0.5
    return a


def sgd_step(model, gradients, lr, *, layers=slice(None)):
    """The net after one step of gradient descent; lr is a number or (E,); only `layers`, all by default, move."""
    lr = np.reshape(lr, (-1, 1, 1)).astype(np.float32)
    moving = range(len(model.layers))[layers]
    stepped = tuple(
        {name: value - lr * gradient[name] for name, value in layer.items()} if number in moving else layer
        for number, (layer, gradient) in enumerate(zip(model.layers, gradients))
    )
    return MLP(stepped, model.activation, model.norm)


# Training it


@dataclass(frozen=True)
class History:
    """What was observed during a run: history["accuracy"] is (T, E, ...), seen after history.step (T,) steps."""

    step: np.ndarray
    observed: dict[str, np.ndarray]
    model: object

    def __getitem__(self, name):
        return self.observed[name]


def batches(data, *, size, seeds, steps):
    """`steps` pairs x (E, size, D), labels (E, size); each run draws with its own seed, with replacement."""
    generators = [np.random.default_rng([seed, 1]) for seed in seeds]
    for _ in range(steps):
        index = np.stack([rng.integers(len(data.x_train), size=size) for rng in generators])
        yield data.x_train[index], data.y_train[index]


def shuffled(count, *, size, seeds, steps):
    """Indices of batches drawn without replacement, (E, steps, size): all `count` samples once before one comes again.

    Each run shuffles with its own seed; a batch may reach over the end of an epoch.
    """
    epochs = -(-steps * size // count)
    generators = [np.random.default_rng(seed) for seed in seeds]
    order = np.stack([np.concatenate([rng.permutation(count) for _ in range(epochs)]) for rng in generators])
    return order[:, :steps * size].reshape(len(generators), steps, size)


def layer_statistics(model, x):
    """Mean and 1 / std, (E, 1, D), of each hidden layer over all of x (N, D), for testing a net with batch norm."""
    if model.norm != "batch":
        return None
    _, tapes = forward(model, x[None])
    return [(tape.z.mean(axis=1, keepdims=True), tape.normed.inv_std) for tape in tapes]


def observe_accuracy(model, data):
    """Share of test samples that each run gets right: {"accuracy": (E,)}.

    A net with batch norm takes its statistics from the first 200 training images:
    cheap enough for `fine_looks`.
    """
    statistics = layer_statistics(model, data.x_train[:POPULATION])
    blocks = [data.x_test[None, k : k + BLOCK] for k in range(0, len(data.x_test), BLOCK)]
    classes = [forward(model, block, statistics=statistics)[0].argmax(axis=-1) for block in blocks]
    return {"accuracy": (np.concatenate(classes, axis=1) == data.y_test).mean(axis=1)}


def fine_looks(steps):
    """When to look, so that a tenth of a run's way shows: every 2 steps up to 40, every 4 up to 100, every 10 after.

    The last look is the last step.
    """
    looks = *range(0, 40, 2), *range(40, 100, 4), *range(100, steps, 10)
    return np.unique([*(step for step in looks if step < steps), steps])


def train(model, data, *, seeds, steps, lr, batch=60, looks=None, until=None, layers=slice(None), noise=None,
          observe=observe_accuracy):
    """Plain stochastic gradient descent, looked at on the way.

    Args:
        model: MLP of E runs; it is not changed.
        data: Data, as the functions of `data` return it.
        seeds: E numbers, for the batches.
        steps, batch: how many steps, and samples in each.
        lr: a number, or (E,), one for each run.
        looks: the steps after which to look; None for `fine_looks`.
        until: stop when every run has been seen at this accuracy.
        layers: those that learn; the others keep their weights.
        noise: as in `forward`; during training only.
        observe: function (model, data) -> dict of arrays (E, ...).
    Returns:
        History; history.model is the trained net.
    """
    looks = set(fine_looks(steps) if looks is None else looks)
    taken, seen, arrived = [], [], np.zeros(len(seeds), dtype=bool)
    draws = batches(data, size=batch, seeds=seeds, steps=steps)
    for step in range(steps + 1):
        if step > 0:
            _, gradients = loss_and_gradient(model, *next(draws), noise=noise)
            model = sgd_step(model, gradients, lr, layers=layers)
        if step in looks:
            taken.append(step)
            seen.append(observe(model, data))
            if until is not None:
                arrived |= seen[-1]["accuracy"] >= until
                if arrived.all():
                    break
    return History(np.array(taken), {name: np.stack([s[name] for s in seen]) for name in seen[0]}, model)


# Comparing what was trained


def steps_to(history, accuracy):
    """The first observed step at which each run's test accuracy is that high: (E,), infinite where it never is."""
    reached = history["accuracy"] >= accuracy
    return np.where(reached.any(axis=0), history.step[reached.argmax(axis=0)], np.inf)


@dataclass(frozen=True)
class Sweep:
    """Trainings of several arms at several learning rates: histories[arm][k] has all seeds at lrs[k]."""

    lrs: tuple[float, ...]
    histories: dict[str, tuple[History, ...]]

    def steps(self, arm, accuracy):
        """Steps to that accuracy, (learning rates, seeds); infinite where a run never got there."""
        return np.stack([steps_to(history, accuracy) for history in self.histories[arm]])

    def best(self, arm, accuracy):
        """The place in `lrs` of the arm's best learning rate: least median, and of equals the least mean.

        Raises:
            ValueError: at no learning rate do half of the seeds get there.
        """
        steps = self.steps(arm, accuracy)
        medians = _median(steps)
        if np.isinf(medians).all():
            raise ValueError(f"{arm}: at none of the learning rates {self.lrs} do half of the seeds reach {accuracy}")
        return min(range(len(self.lrs)), key=lambda k: (medians[k], steps[k].mean()))

    def at_best(self, arm, accuracy):
        """Steps of all seeds, (seeds,), at the arm's best learning rate for this accuracy."""
        return self.steps(arm, accuracy)[self.best(arm, accuracy)]

    def table(self, accuracy, *, name="lr"):
        """All arms and rates as text: median (least-most) of the seeds; * marks each arm's best rate.

        name: what was varied, for a sweep over something else than learning rates.
        """
        arms, width = list(self.histories), 20
        lines = [f"{name:>6}" + "".join(f"{arm:>{width}}" for arm in arms)]
        best = {arm: self.best(arm, accuracy) for arm in arms if np.isfinite(_median(self.steps(arm, accuracy))).any()}
        for k, lr in enumerate(self.lrs):
            cells = [span(self.steps(arm, accuracy)[k]) + ("*" if best.get(arm) == k else " ") for arm in arms]
            lines.append(f"{lr:6g}" + "".join(f"{cell:>{width}}" for cell in cells))
        return "\n".join(lines)


def sweep(run, arms, lrs):
    """Train every arm at every learning rate.

    Args:
        run: function (arm, lr) -> History of all seeds; NumPy or torch.
        arms: names.
        lrs: learning rates, the same for all arms.
    Returns:
        Sweep.
    """
    return Sweep(tuple(lrs), {arm: tuple(run(arm, lr) for lr in lrs) for arm in arms})


def span(steps):
    """Median and range of (seeds,) numbers of steps, as text: 43 (38-52), with - for never."""
    median, least, most = (f"{v:g}" if np.isfinite(v) else "-" for v in (_median(steps), min(steps), max(steps)))
    return f"{median} ({least}-{most})" if np.isfinite(min(steps)) else "-"


def _median(steps):
    """Over the last axis; of two middle values the upper, so that a half that never arrives counts as never."""
    return np.sort(steps, axis=-1)[..., np.shape(steps)[-1] // 2]
