"""Exercises of chapter 5: statistics at inference."""

import numpy as np

from ...exercises.engine import exercise


def _images(rng, shape, *, mean=3.0, spread=2.0):
    """Values whose channels (axis 1) differ in mean and spread, none of them near mean 0 or spread 1."""
    channels = (shape[1], 1, 1)
    offset = mean * rng.uniform(1, 2, channels) * rng.choice([-1, 1], channels)
    return offset + spread * rng.uniform(0.7, 2, channels) * rng.standard_normal(shape)


def _update_cases(seed=0):
    rng = np.random.default_rng(51 + 100 * seed)
    by_hand = np.array([1.0, 3.0, 5.0, 7.0, 2.0, 2.0, 6.0, 6.0]).reshape(2, 1, 2, 2)
    yield "one channel, 2 images of 2 x 2", (np.array([2.0]), np.array([9.0]), by_hand, 0.25)
    for label, shape, momentum in [("3 channels", (2, 3, 1, 4), 0.1), ("5 images, 2 channels", (5, 2, 3, 4), 0.3)]:
        yield label, (rng.uniform(2, 5, shape[1]), rng.uniform(2, 20, shape[1]), _images(rng, shape), momentum)
    x = _images(rng, (3, 2, 2, 5), mean=1000, spread=300)
    yield "values around 1000", (rng.uniform(900, 1100, 2), rng.uniform(5e4, 2e5, 2), x, 0.1)


def _mean_moves_by_momentum(args, outputs):
    running_mean, _, x, momentum = args
    moved = momentum * (x.mean(axis=(0, 2, 3)) - running_mean)
    return np.allclose(outputs[0] - running_mean, moved, rtol=1e-9, atol=1e-9)


@exercise(
    cases=_update_cases,
    outputs=("new_mean", "new_var"),
    hints=(
        "try momentum = 0: then nothing may change. And momentum = 1: then nothing of the past may be left",
        "three things are wrong: which value the momentum weighs, what is averaged, and how many values m counts",
        "(5.4) has the average, and (5.5) the factor; on images m = N * H * W",
    ),
    laws={"the mean moves towards that of the batch by the share momentum": _mean_moves_by_momentum},
    mistakes={
        "torch's momentum is the weight of the new batch, yours weighs the past": {
            "(1 - momentum) * running_mean + momentum * mu": "momentum * running_mean + (1 - momentum) * mu",
            "(1 - momentum) * running_var + momentum * var": "momentum * running_var + (1 - momentum) * var"},
        "the mean is right; in the variance the momentum still weighs the past": {
            "(1 - momentum) * running_var + momentum * var": "momentum * running_var + (1 - momentum) * var"},
        "standard deviations are averaged here: average the variances, and take the root when it is needed": {
            "(1 - momentum) * running_var + momentum * var":
                "((1 - momentum) * np.sqrt(running_var) + momentum * np.sqrt(var)) ** 2"},
        "m counts images only; every position of every image is a value of its channel": {
            "x.size // x.shape[1]": "len(x)"},
        "m counts the positions of one image; all images belong to the batch": {
            "x.size // x.shape[1]": "x.shape[2] * x.shape[3]"},
        "m counts the channels too; each channel has its own N * H * W values": {"x.size // x.shape[1]": "x.size"},
        "the factor is missing: what is kept estimates the population": {" * m / (m - 1)": ""},
        "the factor came to the standard deviation, so the square squared it: it belongs to the variance": {
            "* m / (m - 1)": "* (m / (m - 1)) ** 2"},
        "the factor is upside down: the estimate is larger than the biased variance": {
            "* m / (m - 1)": "* (m - 1) / m"},
        "m is known exactly, so it is m / (m - 1), not (m + 1) / m": {"* m / (m - 1)": "* (m + 1) / m"},
        "the variances of the images are averaged; the differences between images are lost": {
            "x.var(axis=(0, 2, 3))": "x.var(axis=(2, 3)).mean(axis=0)"},
        "the past must fade by the weight that the batch gets: yours sums up without bound": {
            "(1 - momentum) * running_mean": "running_mean", "(1 - momentum) * running_var": "running_var"},
        "the root belongs to the layer's output: what is kept is a variance": {
            "momentum * var\n": "momentum * np.sqrt(var)\n"},
        "only the new batch is left: the past has the weight 1 - momentum": {
            "(1 - momentum) * running_mean + momentum * mu": "mu",
            "(1 - momentum) * running_var + momentum * var": "var"},
    },
)
def mended_update(running_mean, running_var, x, momentum):
    """What torch's BatchNorm2d keeps after a batch: the new mean and variance.

    NumPy arrays: running_mean and running_var are (C,), x is (N, C, H, W).
    """
    m = x.size // x.shape[1]
    mu = x.mean(axis=(0, 2, 3))
    var = x.var(axis=(0, 2, 3)) * m / (m - 1)
    new_mean = (1 - momentum) * running_mean + momentum * mu
    new_var = (1 - momentum) * running_var + momentum * var
    return new_mean, new_var


def _start_cases(seed=0):
    rng = np.random.default_rng(52 + 100 * seed)
    yield "one batch, so it is what is left", (np.array([0.5]), np.array([1.3]), 0.1, 1)
    for label, size, spread, new_weight, steps in [("3 features, 4 steps", 3, 2.0, 0.3, 4),
                                                   ("weight 0.01, 40 steps", 5, 3.0, 0.01, 40),
                                                   ("values around 1000", 2, 300.0, 0.2, 3)]:
        mean, var = np.zeros(size), np.ones(size)
        centre = spread * rng.uniform(2, 4, size) * rng.choice([-1, 1], size)
        for _ in range(steps):
            mean = (1 - new_weight) * mean + new_weight * (centre + rng.standard_normal(size))
            var = (1 - new_weight) * var + new_weight * spread**2 * rng.uniform(0.5, 1.5, size)
        yield label, (mean, var, new_weight, steps)


@exercise(
    cases=_start_cases,
    outputs=("mean", "var"),
    hints=(
        "after one batch nothing but that batch may be left: does your answer give its mean and its variance?",
        "mean and variance did not start from the same value: what has to be taken away, and what divided?",
        "(5.6): the first values 0 and 1 hold the weight (1 - w)**t, and the batches hold the rest",
    ),
    laws={"after one batch the mean is running_mean / new_weight": lambda args, outputs: args[3] != 1 or np.allclose(
        outputs[0], args[0] / args[2])},
    mistakes={
        "the variance started at 1, not at 0: take its share away before you divide": {
            "(running_var - left) / (1 - left)": "running_var / (1 - left)"},
        "the 1 that the variance started from has weighed less with every step": {
            "(running_var - left)": "(running_var - 1)"},
        "the mean started at 0: there is nothing to take away, only to divide": {
            "running_mean / (1 - left)": "(running_mean - left) / (1 - left)"},
        "what is left of the start has the weight (1 - w)**t; you took w**t": {
            "(1 - new_weight) ** steps": "new_weight**steps"},
        "w_t of (5.8) is the weight of one batch; divide by what all batches weigh, 1 - (1 - w)**t": {
            "running_mean / (1 - left)": "running_mean * new_weight / (1 - left)", "(running_var - left) / (1 - left)":
            "(running_var - left) * new_weight / (1 - left)"},
        "one step more has passed than you count": {"** steps": "** (steps - 1)"},
        "one step fewer has passed than you count": {"** steps": "** (steps + 1)"},
        "the weights of the past multiply from step to step; they are not a sum": {
            "(1 - new_weight) ** steps": "max(0, 1 - new_weight * steps)"},
        "divide by the weight of the batches, 1 - (1 - w)**t; you divided by that of the start": {
            "running_mean / (1 - left)": "running_mean / left", "(running_var - left) / (1 - left)":
            "(running_var - left) / left"},
        "the share of the start is gone; what remains must be divided, since its weights do not sum to 1": {
            "running_mean / (1 - left)": "running_mean", "(running_var - left) / (1 - left)": "running_var - left"},
        "the mean is right; the variance must be divided by the weight of the batches too": {
            "(running_var - left) / (1 - left)": "running_var - left"},
        "variances are averaged here, not standard deviations: no square on the weight": {
            "(running_var - left) / (1 - left)": "(running_var - left) / (1 - left) ** 2"},
    },
)
def without_start(running_mean, running_var, new_weight, steps):
    """The average of the batches alone, without the start at 0 and 1.

    running_mean and running_var are (D,), kept with (5.4) over this many
    steps; mean and var are (D,).
    """
    left = (1 - new_weight) ** steps
    mean = running_mean / (1 - left)
    var = (running_var - left) / (1 - left)
    return mean, var


def _next_cases(seed=0):
    rng = np.random.default_rng(53 + 100 * seed)
    yield "2 features to 2", (np.array([[1.0, 2.0], [-3.0, 4.0]]), np.array([0.5, -2.0]), np.array([3.0, 0.5]),
                              np.array([1.0, 2.0]), np.array([4.0, -1.0]), np.array([0.3, 8.0]), 0.1)
    yield "one feature", (np.array([[2.0]]), np.array([1.0]), np.array([3.0]), np.array([0.5]), np.array([4.0]),
                          np.array([0.3]), 0.1)
    for label, shape, size, eps in [("3 features to 2", (2, 3), 1.0, 1e-5), ("4 to 5, eps matters", (5, 4), 1.0, 0.1),
                                    ("values around 1000", (3, 2), 1000.0, 1e-5)]:
        out, features = shape
        gamma = rng.uniform(0.5, 2.5, features)
        gamma[1] *= -1
        yield label, (rng.standard_normal(shape), rng.uniform(0.5, 2, out), gamma, rng.uniform(0.5, 1.5, features),
                      size * rng.uniform(1, 3, features), size * rng.uniform(0.2, 3, features), eps)


def _same_answers(args, outputs):
    weight, bias, gamma, beta, mean, var, eps = args
    new_weight, new_bias = outputs
    x = mean + np.sqrt(var) * np.random.default_rng(0).standard_normal((7, len(mean)))
    y = gamma * (x - mean) / np.sqrt(var + eps) + beta
    return np.allclose(x @ new_weight.T + new_bias, y @ weight.T + bias, rtol=1e-9, atol=1e-8)


@exercise(
    cases=_next_cases,
    outputs=("new_weight", "new_bias"),
    hints=(
        "send a random x through batch norm and the layer, and through your one layer: the two must agree",
        "batch norm scales the inputs of the layer now: is an input a row or a column of weight?",
        "write (5.9) with the order turned round: weight @ (scale * x + shift) + bias, and open the bracket",
    ),
    laws={"one layer gives what the two gave, for any x": _same_answers},
    mistakes={
        ("you scaled the outputs; this batch norm stands in front, so it scales the inputs",
         "weight is (K, D), and each of its D columns belongs to an input",
         "open the bracket of weight @ (scale * x + shift) + bias"): {
            "weight * scale": "(weight.T * np.resize(scale, len(weight))).T"},
        "this is (5.10), for a batch norm behind the layer; here it stands in front: it scales the inputs": {
            "weight * scale": "np.diag(scale) @ weight", "bias + weight @ shift": "scale * bias + shift"},
        "the shift goes through the weights too: weight @ shift": {"bias + weight @ shift": "bias + shift"},
        "the shift is added before the layer, so the weights it meets are the old ones": {
            "weight @ shift": "(weight * scale) @ shift"},
        "the layer's own bias is lost": {"bias + weight @ shift": "weight @ shift"},
        "the shift of the batch norm is lost": {"bias + weight @ shift": "bias"},
        "the mean is scaled like x before it is subtracted": {"beta - scale * mean": "beta - gamma * mean"},
        "the mean is subtracted, not added": {"beta - scale * mean": "beta + scale * mean"},
        "beta is added after the scale, so it is not scaled": {"beta - scale * mean": "scale * (beta - mean)"},
        "beta is missing from the shift": {"beta - scale * mean": "-scale * mean"},
        "the mean is missing from the shift": {"beta - scale * mean": "beta"},
        "var is a variance already: no square under the root": {"np.sqrt(var + eps)": "np.sqrt(var**2 + eps)"},
        "the root is missing: x is divided by a standard deviation": {"np.sqrt(var + eps)": "(var + eps)"},
        "eps stands inside the root": {"np.sqrt(var + eps)": "(np.sqrt(var) + eps)"},
        "eps is missing: it is added to the variance, inside the root": {"var + eps": "var"},
        "gamma is missing from the scale": {"gamma / np.sqrt": "1 / np.sqrt"},
        "the layer's bias comes after the batch norm, so it is not shifted by the mean": {
            "bias + weight @ shift": "bias - weight @ mean + weight @ shift"},
    },
)
def fold_into_next(weight, bias, gamma, beta, mean, var, eps):
    """One layer for batch norm in evaluation mode followed by a linear layer.

    weight is (K, D), bias is (K,), as in torch; gamma, beta, mean and var
    are (D,).  new_weight and new_bias do the work of both: x @ new_weight.T
    + new_bias.
    """
    scale = gamma / np.sqrt(var + eps)
    shift = beta - scale * mean
    new_weight = weight * scale
    new_bias = bias + weight @ shift
    return new_weight, new_bias
