"""Exercises of chapter 6: what batch norm does, and where it breaks."""

import numpy as np

from ...exercises.engine import exercise


def _rates_cases(seed=0):
    rng = np.random.default_rng(60 + 100 * seed)
    yield "lr 0.5, decay 0.5, 3 steps", (0.5, 0.5, 3)
    yield "lr near 0.3, decay 0.03, 6 steps", (rng.uniform(0.3, 0.4), 0.03, 6)
    yield "lr 0.1, decay near 2, 5 steps", (0.1, rng.uniform(1.5, 2.5), 5)
    yield "lr near 1000, decay 0.0001, 4 steps", (rng.uniform(900, 1100), 1e-4, 4)


def _same_path(args, outputs):
    """Both descents of a loss that sees only the direction of w end in the same direction."""
    lr, decay, steps = args
    a = np.array([3.0, -1.0, 2.0, 0.5])

    def gradient(w):  # of a . w / |w|
        length = np.linalg.norm(w)
        return a / length - (a @ w) * w / length**3

    w = u = np.array([1.0, 2.0, -0.5, 1.5])
    for rate in outputs[0]:
        w = w - lr * gradient(w) - lr * decay * w
        u = u - rate * gradient(u)
    return len(outputs[0]) == steps and np.allclose(w / np.linalg.norm(w), u / np.linalg.norm(u), rtol=0, atol=1e-9)


@exercise(
    cases=_rates_cases,
    outputs=("rates",),
    hints=(
        "take one step of both, with a gradient that you make up: which rate gives the same direction?",
        "let c be the factor that decay has taken off so far, w[t] = c[t] * u[t]: how long is the gradient at u?",
        "divide the step of w by c[t + 1], and use Proposition 6.1 (b) for the gradient at w = c[t] * u",
    ),
    laws={"on a loss that sees only the direction, both take the same path": _same_path},
    mistakes={
        "the rates must grow: without decay the weights stay longer, and a longer w turns less": {
            "shrink ** -(2 * t + 1)": "shrink ** (2 * t + 1)"},
        ("the gradient at u is shorter than that at w as well",
         "you have divided the step by c, but u is longer than w, so its gradient is smaller by the same factor again",
         "Proposition 6.1 (b): one more factor c[t]"): {"-(2 * t + 1)": "-(t + 1)"},
        "close: the first rate is not lr, since the first step shortens w as well: divide by c[t + 1], not c[t]": {
            "-(2 * t + 1)": "-(2 * t)"},
        "close: c[t] * c[t + 1], not c[t + 1] twice": {"-(2 * t + 1)": "-(2 * t + 2)"},
        "one factor for the step and one for the gradient; you have neither the second nor the shift by one": {
            "-(2 * t + 1)": "-t"},
        "one step takes off lr * decay of w, not decay": {"1 - lr * decay": "1 - decay"},
        "decay is subtracted: a step multiplies w by 1 - lr * decay": {"1 - lr * decay": "1 / (1 + lr * decay)"},
        "decay makes w shorter: 1 - lr * decay": {"1 - lr * decay": "1 + lr * decay"},
        "that is e**-(lr * decay) a step, close for small products; the factor is 1 - lr * decay exactly": {
            "1 - lr * decay": "np.exp(-lr * decay)"},
        "these are factors; the rates are lr times them": {"lr * shrink ** -": "shrink ** -"},
        "the decay of the square of a length is not wanted here: w itself shrinks by 1 - lr * decay": {
            "1 - lr * decay": "1 - 2 * lr * decay"},
        "steps are counted from 0": {"np.arange(steps)": "np.arange(1, steps + 1)"},
    },
)
def rates_without_decay(lr, decay, steps):
    """Rates that without weight decay take the path of lr with decay.

    lr and decay are numbers, lr * decay < 1; the rates are (steps,).
    """
    shrink = 1 - lr * decay
    t = np.arange(steps)
    return lr * shrink ** -(2 * t + 1)


def _merged_cases(seed=0):
    rng = np.random.default_rng(61 + 100 * seed)
    yield "two micro-batches of one feature", (np.array([[1.0], [4.0]]), np.array([[2.0], [0.0]]), np.array([2, 1]))
    for name, k, d, size in [("4 micro-batches, 3 features", 4, 3, 1.0), ("values around 1000", 3, 2, 1000.0)]:
        mu = size * (1 + 0.3 * rng.standard_normal((k, d)))
        var = size**2 * rng.uniform(0.01, 0.2, (k, d))
        yield name, (mu, var, rng.permutation(np.arange(2, 2 + 3 * k, 3)))
    mu = 1e6 + rng.standard_normal((3, 2))
    yield "a mean of a million, a spread of 1", (mu, rng.uniform(0.5, 2, (3, 2)), np.array([4, 9, 3]))
    mu = rng.standard_normal((5, 2))
    yield "equal sizes", (mu, rng.uniform(0.5, 2, (5, 2)), np.full(5, 8))


def _merged_law(args, outputs):
    """Samples with these statistics, put together."""
    mu, var, sizes = args
    if min(sizes) < 2:
        return True
    samples = []
    for m, v, n in zip(mu, var, sizes):
        z = np.linspace(-1, 1, n)[:, None]
        samples.append(m + np.sqrt(v) * z / z.std())
    x = np.concatenate(samples)
    return np.allclose(outputs[0], x.mean(0), rtol=1e-9) and np.allclose(outputs[1], x.var(0), rtol=1e-9)


@exercise(
    cases=_merged_cases,
    outputs=("mean", "variance"),
    hints=(
        "make up two micro-batches of different size, and put them together with np.concatenate",
        "the means of the micro-batches differ too: that is variance within, and variance between",
        "equation 4.21, with weights sizes / sizes.sum()",
    ),
    laws={"samples with these statistics, put together, have this mean and variance": _merged_law},
    mistakes={
        "a larger micro-batch counts more: weights in proportion to the sizes": {
            "sizes / sizes.sum()": "np.ones(len(sizes)) / len(sizes)"},
        ("the variance between the micro-batches is missing",
         "the means differ, and that spread is part of the whole: within plus between",
         "equation 4.21, second term"): {" + (share * (mu - mean) ** 2).sum(axis=0)": ""},
        "only the variance between is there; that within the micro-batches is missing": {
            "(share * var).sum(axis=0) + ": ""},
        "between and within add up": {"(share * var).sum(axis=0) + ": "(share * var).sum(axis=0) - "},
        "the variance between is taken around the mean of the whole, with the same weights as the rest": {
            "(share * (mu - mean) ** 2).sum(axis=0)": "mu.var(axis=0)"},
        "the distance to the mean of the whole is squared": {"(mu - mean) ** 2": "np.abs(mu - mean)"},
        "around the mean of the whole, not around 0": {"(mu - mean) ** 2": "mu ** 2"},
        "the mean of the whole is weighted as well": {"(share * mu).sum(axis=0)": "mu.mean(axis=0)"},
        "standard deviations do not average; variances do": {
            "(share * var).sum(axis=0)": "(share * np.sqrt(var)).sum(axis=0) ** 2"},
        ("right on paper, and lost in rounding: two squares of a million leave few digits of a spread of 1",
         "add what is small: the variances within, and the squared distances between the means",
         "equation 4.21, not the difference of two squares"): {
            "(share * var).sum(axis=0) + (share * (mu - mean) ** 2).sum(axis=0)":
                "(share * (var + mu**2)).sum(axis=0) - mean**2"},
        "biased: divide by the number of samples, not by one less": {
            "(share * var).sum(axis=0)": "(sizes[:, None] * var).sum(axis=0) / (sizes.sum() - 1)",
            "(share * (mu - mean) ** 2).sum(axis=0)":
                "(sizes[:, None] * (mu - mean) ** 2).sum(axis=0) / (sizes.sum() - 1)"},
    },
)
def merged_statistics(mu, var, sizes):
    """Mean and biased variance of all samples of k micro-batches together.

    mu and var are (k, D), of each micro-batch; sizes is (k,), its samples.
    """
    share = (sizes / sizes.sum())[:, None]
    mean = (share * mu).sum(axis=0)
    variance = (share * var).sum(axis=0) + (share * (mu - mean) ** 2).sum(axis=0)
    return mean, variance


def _masked_cases(seed=0):
    rng = np.random.default_rng(62 + 100 * seed)

    def padded(lengths, d, mean, spread):
        lengths = np.array(lengths)
        x = mean + spread * rng.standard_normal((len(lengths), lengths.max() + 1, d)) * np.arange(1, d + 1)
        x[np.arange(x.shape[1]) >= lengths[:, None]] = 0
        return x, lengths

    x = np.array([[[1.0], [3.0], [5.0]], [[7.0], [0.0], [0.0]]])
    yield "lengths 3 and 1, one feature", (x, np.array([3, 1]), 1e-5)
    x, lengths = padded([3, 5, 2], 2, 1.0, 1.0)
    yield "real entries that are 0, as behind a ReLU", (np.maximum(x, 0), lengths, 1e-5)
    yield "4 sequences, 2 features", (*padded([2, 5, 3, 1], 2, 2.0, 1.0), 1e-5)
    yield "spread near sqrt(eps)", (*padded([4, 2, 3], 3, 1.0, 0.3), 0.1)
    yield "values around 1000", (*padded([3, 1, 6], 2, 1000.0, 300.0), 1e-5)


def _masked_law(args, outputs):
    x, lengths, eps = args
    real = np.arange(x.shape[1]) < lengths[:, None]
    return np.allclose(outputs[0][real].mean(axis=0), 0, rtol=0, atol=1e-9) and not np.any(outputs[0][~real])


@exercise(
    cases=_masked_cases,
    outputs=("y",),
    hints=(
        "append one more entry of padding to every sequence: no real entry of y may change",
        "the padding counts as samples with the value 0; which entries are real?",
        "np.arange(T) < lengths[:, None] is True for real entries; equation 4.4 over these only",
    ),
    laws={"each feature has mean 0 over the real entries, and padding is 0": _masked_law},
    mistakes={
        ("the padding is in the mean and in the variance: zeros are counted as samples",
         "real entries are those before lengths[b]; neither mean nor variance may see the others",
         "x[real] is (all real entries, D)"): {"x[real].mean(axis=0)": "x.mean(axis=(0, 1))",
                                                 "x[real].var(axis=0)": "x.var(axis=(0, 1))"},
        "the mean is right now; the variance still sees the padding": {"x[real].var(axis=0)": "x.var(axis=(0, 1))"},
        "the variance is right now; the mean still sees the padding": {"x[real].mean(axis=0)": "x.mean(axis=(0, 1))"},
        "in y the padding must be 0 again: after the mean is subtracted it is not": {
            "np.where(real[:, :, None], y, 0)": "y"},
        "the last real entry is at lengths[b] - 1, counted from 0": {"< lengths[:, None]": "<= lengths[:, None]"},
        "a 0 can be a real entry; only lengths tell which are padding": {
            "x[real].mean(axis=0)": "x.sum(axis=(0, 1)) / (x != 0).sum(axis=(0, 1))",
            "x[real].var(axis=0)": "np.sum((x != 0) * (x - mu) ** 2, axis=(0, 1)) / (x != 0).sum(axis=(0, 1))",
            "real[:, :, None]": "x != 0"},
        "one mean and variance for each feature, over sequences and times; you have them for each time": {
            "x[real].mean(axis=0)": "np.nanmean(np.where(real[:, :, None], x, np.nan), axis=0)",
            "x[real].var(axis=0)": "np.nanvar(np.where(real[:, :, None], x, np.nan), axis=0)"},
        "you kept the padding and dropped the sequence": {"< lengths[:, None]": ">= lengths[:, None]"},
        "each feature has statistics of its own": {"x[real].mean(axis=0)": "x[real].mean()",
                                                     "x[real].var(axis=0)": "x[real].var()"},
        "eps belongs inside the square root, added to the variance": {"np.sqrt(var + eps)": "(np.sqrt(var) + eps)"},
        "eps is missing: it is added to the variance, inside the square root": {"var + eps": "var"},
        "the variance divides by the number of real entries, not by one less": {
            "x[real].var(axis=0)": "x[real].var(axis=0, ddof=1)"},
    },
)
def masked_batch_norm(x, lengths, eps):
    """Batch norm of sequences, statistics over all real entries: y.

    x is (B, T, D), padded with zeros after the first lengths[b] entries of
    sequence b; lengths is (B,). One mean and variance for each feature, over
    sequences and times. In y the padding is 0.
    """
    real = np.arange(x.shape[1]) < lengths[:, None]
    mu = x[real].mean(axis=0)
    var = x[real].var(axis=0)
    y = (x - mu) / np.sqrt(var + eps)
    return np.where(real[:, :, None], y, 0)
