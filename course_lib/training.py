"""Small training runs in NumPy: seeded, several seeds at once, seconds on one CPU core.

Every array has a leading axis of E runs, and one matmul serves them all.  A run
draws its weights and its batches from its own seed, so its result does not
depend on its company.  With one run in the model and N in the data, the same
axis gives N gradients, one for each sample.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from threadpoolctl import threadpool_limits

from .standardize import StandardizeCache, standardize, standardize_backward

NORM_AXES = {"none": (), "batch": (1,), "layer": (2,)}  # of (E, N, D)
EPS = 1e-5
PERCENTILES = (15, 50, 85)  # those of the BatchNorm paper's Figure 1
SATURATED = 0.05  # a sigmoid's slope is 0.25 at most; below a fifth of that it counts as saturated


def one_thread():
    """Do NumPy's matrix products on one thread from here on.

    In nets as small as these, threads wait for each other longer than they
    compute: on a busy machine a second one makes training ten times slower.
    """
    threadpool_limits(1)


@dataclass(frozen=True)
class MLP:
    """A fully connected net, E times: weight (E, fan_in, fan_out); bias, gamma and beta (E, 1, fan_out)."""

    layers: tuple[dict[str, np.ndarray], ...]
    activation: str  # "sigmoid", "tanh", "relu", "linear"
    norm: str  # a key of NORM_AXES; it stands before the activation


class Tape(NamedTuple):
    """What one hidden layer leaves behind for the backward pass, and for us to look at."""

    inputs: np.ndarray  # (E, N, fan_in)
    z: np.ndarray  # weight and bias applied
    normed: StandardizeCache | None
    scale: np.ndarray | float  # the factor of the injected noise, 1 without
    y: np.ndarray  # what the activation gets
    a: np.ndarray  # what it gives


@dataclass(frozen=True)
class History:
    """What was observed during a run: history["loss"] is (T, E, ...), taken after history.step (T,) steps."""

    step: np.ndarray
    observed: dict[str, np.ndarray]
    model: MLP

    def __getitem__(self, name):
        return self.observed[name]


def mlp(widths, *, seeds, weight_std=0.1, activation="sigmoid", norm="none"):
    """A net with normal weights and zero biases, one run for each seed.

    Args:
        widths: (D, hidden, ..., classes).
        seeds: E whole numbers.
        weight_std: a number, or (E,), one for each run.
        activation: "sigmoid", "tanh", "relu" or "linear", after each hidden layer.
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
        noise: None, or a function shape -> (scale, shift) applied after each
            normalization: the control experiment of Santurkar et al. 2018.
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
            y = layer["gamma"] * (z - mean) * inv_std + layer["beta"]
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
    da = dlogits @ model.layers[-1]["weight"].mT
    for layer, tape in zip(reversed(model.layers[:-1]), reversed(tapes)):
        dy = da * _slope(tape, model.activation) * tape.scale
        gradient = {"bias" if tape.normed is None else "beta": dy.sum(axis=1, keepdims=True)}
        dz = dy
        if tape.normed is not None:
            gradient["gamma"] = (dy * tape.normed.x_hat).sum(axis=1, keepdims=True)
            dz = standardize_backward(layer["gamma"] * dy, tape.normed)
        gradients.append({"weight": tape.inputs.mT @ dz, **gradient})
        da = dz @ layer["weight"].mT
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


def sgd_step(model, gradients, lr, *, layers=slice(None)):
    """The net after one step of gradient descent; lr is a number or (E,); only `layers`, all by default, move."""
    lr = np.reshape(lr, (-1, 1, 1)).astype(np.float32)
    moving = range(len(model.layers))[layers]
    stepped = tuple(
        {name: value - lr * gradient[name] for name, value in layer.items()} if number in moving else layer
        for number, (layer, gradient) in enumerate(zip(model.layers, gradients))
    )
    return MLP(stepped, model.activation, model.norm)


def batches(data, *, size, seeds, steps):
    """`steps` pairs x (E, size, D), labels (E, size); each run draws with its own seed, with replacement."""
    generators = [np.random.default_rng([seed, 1]) for seed in seeds]
    for _ in range(steps):
        index = np.stack([rng.integers(len(data.x_train), size=size) for rng in generators])
        yield data.x_train[index], data.y_train[index]


def observe(model, data):
    """How a net stands: test loss and accuracy, and what its activations get, on the test set.

    Returns:
        loss, accuracy (E,); quantiles (E, hidden, 3, 100), the 15th, 50th and
        85th percentile of each of up to 100 units of each hidden layer;
        saturated (E, hidden), the share of slopes below 0.05; weight_rms (E, layers).
    """
    logits, tapes = forward(model, data.x_test[None], statistics=layer_statistics(model, data.x_train))
    return {
        "loss": cross_entropy(logits, data.y_test[None])[0],
        "accuracy": (logits.argmax(axis=-1) == data.y_test).mean(axis=1),
        "quantiles": quantiles(tapes),
        "saturated": np.stack([(_slope(tape, model.activation) < SATURATED).mean(axis=(1, 2)) for tape in tapes], 1),
        "weight_rms": np.stack([np.sqrt(np.mean(layer["weight"] ** 2, axis=(1, 2))) for layer in model.layers], 1),
    }


def train(model, data, *, seeds, steps, lr, batch=60, every=50, layers=slice(None), noise=None, observe=observe):
    """Plain stochastic gradient descent, with a look at the net before step 0, after `every` steps, and at the end.

    Args:
        model: MLP of E runs; it is not changed.
        data: Data, as the functions of `data` return it.
        seeds: E numbers, for the batches.
        steps, batch: how many steps, and samples in each.
        lr: a number, or (E,), one for each run.
        layers: those that learn; the others keep their weights.
        noise: as in `forward`; during training only.
        observe: function (model, data) -> dict of arrays (E, ...).
    Returns:
        History; history.model is the trained net.
    """
    taken, seen = [0], [observe(model, data)]
    for step, (x, labels) in enumerate(batches(data, size=batch, seeds=seeds, steps=steps), start=1):
        _, gradients = loss_and_gradient(model, x, labels, noise=noise)
        model = sgd_step(model, gradients, lr, layers=layers)
        if step % every == 0 or step == steps:
            taken.append(step)
            seen.append(observe(model, data))
    return History(np.array(taken), {name: np.stack([s[name] for s in seen]) for name in seen[0]}, model)


def quantiles(tapes, *, units=100):
    """Percentiles 15, 50 and 85 over the samples of what each unit's activation gets: (E, hidden, 3, units)."""
    return np.stack([np.moveaxis(np.percentile(tape.y[..., :units], PERCENTILES, axis=1), 0, 1) for tape in tapes], 1)


def drift(quantiles):
    """How far the inputs of each layer's activations have moved since the start.

        D_l(t) = mean over units and percentiles of |q(t) - q(0)|

    Args:
        quantiles: (T, E, hidden, 3, units), as in a History.
    Returns:
        (T, E, hidden).
    """
    return np.abs(quantiles - quantiles[0]).mean(axis=(-2, -1))


def steps_to(history, accuracy):
    """The first observed step at which each run's test accuracy is that high: (E,), infinite where it never is."""
    reached = history["accuracy"] >= accuracy
    return np.where(reached.any(axis=0), history.step[reached.argmax(axis=0)], np.inf)


def layer_statistics(model, x):
    """Mean and 1 / std, (E, 1, D), of each hidden layer over all of x (N, D), for testing a net with batch norm."""
    if model.norm != "batch":
        return None
    _, tapes = forward(model, x[None])
    return [(tape.z.mean(axis=1, keepdims=True), tape.normed.inv_std) for tape in tapes]


def normalize_once(model, x):
    """A net without normalization that starts as one with it: each unit's input has mean 0 and std 1 over x (N, D).

    The weights are divided and the biases set, before training; from then on
    nothing holds the distributions where they are.
    """
    a, layers = x[None], []
    for layer in model.layers[:-1]:
        z = a @ layer["weight"]
        mean, std = z.mean(axis=1, keepdims=True), z.std(axis=1, keepdims=True)
        layers.append({"weight": layer["weight"] / std, "bias": -mean / std})
        a = _activate((z - mean) / std, model.activation)
    return MLP((*layers, model.layers[-1]), model.activation, "none")


def layer_gradients(gradients, number):
    """All gradients of one layer in one vector for each run: (E, P)."""
    return np.concatenate([value.reshape(len(value), -1) for value in gradients[number].values()], axis=1)


def gradient_shift(model, x, labels, lr, *, noise=None):
    """How a layer's gradient changes when the layers below it take their step, on the same batch.

        G  = dL/dW_i at (W_1, ..., W_k)
        G' = dL/dW_i at (W_1', ..., W_{i-1}', W_i, ..., W_k),   W' after one step

    Returns:
        relative |G - G'| / |G| and the cosine of G and G', each (E, hidden), for
        every layer but the first, which has none below.
    Source: Santurkar et al. 2018, Definition 2.1, which has |G - G'|.
    """
    _, old = loss_and_gradient(model, x, labels, noise=noise)
    distance, cosine = [], []
    for number in range(1, len(model.layers)):
        moved = sgd_step(model, old, lr, layers=slice(number))
        before = layer_gradients(old, number)
        after = layer_gradients(loss_and_gradient(moved, x, labels, noise=noise)[1], number)
        norms = np.linalg.norm(before, axis=1), np.linalg.norm(after, axis=1)
        distance.append(np.linalg.norm(before - after, axis=1) / norms[0])
        cosine.append((before * after).sum(axis=1) / (norms[0] * norms[1]))
    return np.stack(distance, 1), np.stack(cosine, 1)


def distribution_shift(model, x, labels, lr, *, noise=None):
    """How far one step moves what activations get, on the same batch: mean |change of a percentile|, (E, hidden)."""
    logits, tapes = forward(model, x, noise=noise)
    gradients = backward(model, tapes, cross_entropy(logits, labels)[1])
    _, after = forward(sgd_step(model, gradients, lr), x, noise=noise)
    return np.abs(quantiles(after) - quantiles(tapes)).mean(axis=(2, 3))


def moving_noise(rng, *, shift=0.5, scale=1.25, jitter=0.1):
    """Noise with a new mean and a new size in every call, for `train(..., noise=...)`.

    Each unit draws a mean from U(-shift, shift) and a size from U(1, scale), and
    each sample a little around them: the distribution of every activation moves
    at every step, by more than training moves it.
    Source: after Santurkar et al. 2018, section 2.1.
    """

    def noise(shape):
        unit = (shape[0], 1, shape[2])
        scales = rng.uniform(1, scale, unit) + jitter * rng.standard_normal(shape)
        shifts = rng.uniform(-shift, shift, unit) + rng.uniform(-jitter, jitter, shape)
        return scales.astype(np.float32), shifts.astype(np.float32)

    return noise


def _activate(y, kind):
    if kind == "sigmoid":
        return 0.5 + 0.5 * np.tanh(0.5 * y)  # 1 / (1 + exp(-y)) without overflow
    if kind == "tanh":
        return np.tanh(y)
    return np.maximum(y, 0) if kind == "relu" else y


def _slope(tape, kind):
    if kind == "sigmoid":
        return tape.a * (1 - tape.a)
    if kind == "tanh":
        return 1 - tape.a**2
    return (tape.y > 0).astype(tape.y.dtype) if kind == "relu" else np.ones_like(tape.y)
