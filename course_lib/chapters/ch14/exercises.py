"""Exercises of chapter 14: normalization on a GPU."""

import numpy as np

from ...exercises.engine import exercise

# 14.2: one pass, with a shift


def _shifted_cases(seed=0):
    rng = np.random.default_rng(142 + 100 * seed)
    yield "one row of three values near 100,000,000", (1e8 + np.array([[1.0, 2.0, 6.0]]),)
    yield "4 rows of 6", (rng.normal(3.0, 2.0, (4, 6)),)
    yield "one row near 30,000,000, one near 0", (np.array([[3e7], [0.0]]) + rng.normal(0.0, 1.0, (2, 9)),)
    yield "values around 1000", (rng.normal(1000.0, 300.0, (3, 8)),)


def _shifted_law(args, outputs):
    """The variance is that of the centred rows, to the digits that x has."""
    x, (_, var) = args[0], outputs
    right = ((x - x.mean(axis=1, keepdims=True)) ** 2).mean(axis=1)
    return np.allclose(var, right, rtol=1e-6, atol=0)


@exercise(
    cases=_shifted_cases,
    outputs=("mean", "var"),
    hints=(
        "a variance does not change when the same number is taken from all entries of a row",
        "which number near the mean does a program know before it has read the row?",
        "shift each row by its own first entry, use E[d^2] - E[d]^2 on what is left, and give the mean its shift back",
    ),
    laws={"the variance is that of x - mean(x), row by row": _shifted_law},
    mistakes={
        "the squares of numbers near 10^8 have 17 digits and float64 keeps 16: take a shift off before you square": {
            "shift = x[:, :1]": "shift = 0 * x[:, :1]"},
        "the mean is that of the shifted row: give it its shift back": {"shift[:, 0] + mean, var": "mean, var"},
        "that is the mean square of the shifted row: the square of its mean must go": {" - mean**2": ""},
        "the mean of the shifted row is subtracted, not the mean with its shift back": {
            " - mean**2": " - (shift[:, 0] + mean)**2"},
        "all rows have one shift: rows that lie far from it lose their digits": {
            "shift = x[:, :1]": "shift = np.full((len(x), 1), x[0, 0])"},
        "each column has its shift, and the entries of a row no longer share one": {
            "shift = x[:, :1]": "shift = x[:1]", "shift[:, 0] + mean, var": "shift.mean() + mean, var"},
        "the variance divides by the number of entries, not by one less": {
            "(d * d).mean(axis=1) - mean**2": "((d * d).mean(axis=1) - mean**2) * x.shape[1] / (x.shape[1] - 1)"},
        "these are the moments of columns: a row shares its mean": {
            "d.mean(axis=1)": "d.mean(axis=0)", "(d * d).mean(axis=1)": "(d * d).mean(axis=0)",
            "shift = x[:, :1]": "shift = x[:1]", "shift[:, 0] + mean": "shift[0] + mean"},
        "that is the standard deviation: the variance is its square": {
            "+ mean, var": "+ mean, np.sqrt(var)"},
        "the squares of the mean and of the entries have changed places: the variance is negative": {
            "(d * d).mean(axis=1) - mean**2": "mean**2 - (d * d).mean(axis=1)"},
    },
)
def shifted_moments(x):
    """Mean and biased variance of each row, where each entry is read once.

    x is (R, m), floating; mean and var are (R,).
    """
    shift = x[:, :1]
    d = x - shift
    mean = d.mean(axis=1)
    var = (d * d).mean(axis=1) - mean**2
    return shift[:, 0] + mean, var


# 14.3: lanes without a mask


def _lane_cases(seed=0):
    rng = np.random.default_rng(143 + 100 * seed)
    yield "one row (1, 2, 6) in 4 lanes", (np.array([[1.0, 2.0, 6.0]]), 4)
    yield "5 rows of 10 in 16 lanes", (rng.normal(2.0, 3.0, (5, 10)), 16)
    yield "3 rows of 8 in 8 lanes", (rng.normal(-1.0, 2.0, (3, 8)), 8)
    yield "values around 1000", (rng.normal(1000.0, 300.0, (4, 5)), 32)


def _lane_law(args, outputs):
    """Written out: lanes beyond the row hold 0 - mu after the mean is subtracted."""
    x, lanes = args
    padded = np.zeros((len(x), lanes))
    padded[:, : x.shape[1]] = x
    padded -= x.mean(axis=1, keepdims=True)
    return np.allclose(outputs[0], (padded**2).sum(axis=1) / x.shape[1], rtol=1e-9)


@exercise(
    cases=_lane_cases,
    outputs=("var",),
    hints=(
        "follow one lane beyond the end of the row: what does it hold after the load, and after x - mu?",
        "lanes - D of the lanes hold -mu, and the sum of squares counts them",
        "the kernel divides its sum by D",
    ),
    laws={"it is the sum of squares over all lanes, after the mean is subtracted, divided by D": _lane_law},
    mistakes={
        "that is the right variance; the kernel adds the squares of the idle lanes": {
            "x.var(axis=1) + idle * mu**2": "x.var(axis=1)"},
        "the kernel divides by D, the entries of the row; yours divides the idle lanes by all lanes": {
            "(lanes - D) / D": "(lanes - D) / lanes"},
        "only the idle lanes hold -mu, and there are lanes - D of them": {"(lanes - D) / D": "lanes / D"},
        "the square of an idle lane is mu^2": {"mu**2": "mu"},
        "a square is never negative: the idle lanes add to the variance": {" + idle": " - idle"},
        "the sum of the idle squares is divided by D, too": {"(lanes - D) / D": "(lanes - D)"},
        "the kernel's mean is right: its sum is divided by D, and idle lanes add 0": {
            "mu = x.mean(axis=1)": "mu = x.sum(axis=1) / lanes"},
        "all of the sum is divided by D, not by the lanes": {
            "x.var(axis=1) + idle * mu**2": "(x.var(axis=1) + idle * mu**2) * D / lanes"},
        "one idle lane is counted; there are lanes - D": {"(lanes - D) / D": "1 / D"},
    },
)
def lane_variance(x, lanes):
    """What the kernel `hurried` computes for the variance of each row.

    x is (R, D), var is (R,); lanes is BD, at least D.
    """
    D = x.shape[1]
    mu = x.mean(axis=1)
    idle = (lanes - D) / D
    return x.var(axis=1) + idle * mu**2


# 14.4: backward of residual + RMS norm


def _fused_cases(seed=0):
    rng = np.random.default_rng(144 + 100 * seed)
    yield "one token (3, 4), dy only", (np.array([[1.0, 0.0]]), np.zeros((1, 2)), np.array([[3.0, 4.0]]),
                                        np.array([2.0, 1.0]), 1e-5)
    for n, d, eps, size, name in [(5, 3, 1e-5, 1.0, "5 tokens of 3"), (4, 6, 0.7, 1.0, "eps matters"),
                                  (3, 5, 1e-5, 1000.0, "values around 1000")]:
        gamma = rng.uniform(0.5, 2.5, d)
        gamma[1] *= -1
        h = size * (1 + 0.5 * rng.standard_normal((n, d)))
        yield name, (size * rng.standard_normal((n, d)), rng.standard_normal((n, d)), h, gamma, eps)


def _fused_law(args, outputs):
    """What dx has beyond dh hardly moves the length of h: it is orthogonal to h, but for eps."""
    dy, dh, h, gamma, eps = args
    inv_rms = 1 / np.sqrt((h * h).mean(axis=1) + eps)
    along = ((outputs[0] - dh) * h).sum(axis=1)
    return np.allclose(along, eps * inv_rms**3 * (gamma * dy * h).sum(axis=1), rtol=1e-6, atol=1e-7 * np.abs(dy).max())


@exercise(
    cases=_fused_cases,
    outputs=("dx", "dgamma"),
    hints=(
        "h goes two ways: into the norm, and past it into the next block. What does the chain rule do with two ways?",
        "x and residual enter as a sum, so both have the same gradient, that of h",
        "dx is dh plus the backward pass of RMS norm (two terms, gamma inside); dgamma sums over the tokens",
    ),
    laws={"without dh, and but for eps, dx is orthogonal to h": _fused_law},
    mistakes={
        "h goes two ways, into the norm and past it: the gradient of the other way, dh, is missing": {
            "dh + inv": "inv"},
        "dh comes from past the norm, so it does not go through the norm's backward pass": {
            "dh_hat = gamma * dy": "dh_hat = gamma * dy + dh", "dx = dh + inv_rms": "dx = inv_rms"},
        "two ways add up, they are not subtracted": {"dh + inv_rms": "dh - inv_rms"},
        "gamma is missing in dx: inside the mean it weighs each feature": {"dh_hat = gamma * dy": "dh_hat = dy"},
        "gamma is still outside of the mean; it differs from feature to feature": {
            "dh_hat = gamma * dy": "dh_hat = dy", "dx = dh + inv_rms": "dx = dh + gamma * inv_rms"},
        "the road by the mean square is missing": {" - h_hat * along": ""},
        "the road by the mean square lowers dx: its sign is negative": {" - h_hat * along": " + h_hat * along"},
        "RMS norm subtracts no mean, so its backward pass subtracts none": {
            "(dh_hat - h_hat": "(dh_hat - dh_hat.mean(axis=1, keepdims=True) - h_hat"},
        "what is removed points along h_hat, not along h": {"- h_hat * along": "- h * along"},
        "the mean runs over the features of a token, not over the tokens": {
            "(dh_hat * h_hat).mean(axis=1, keepdims=True)": "(dh_hat * h_hat).mean(axis=0, keepdims=True)"},
        "the mean along h_hat divides by the number of features; this is the sum": {
            "(dh_hat * h_hat).mean(axis=1, keepdims=True)": "(dh_hat * h_hat).sum(axis=1, keepdims=True)"},
        "the factor inv_rms is missing: dx is in units of 1 / h": {"dh + inv_rms * (": "dh + ("},
        "eps is missing: it is added to the mean square, inside the root": {" + eps)": ")"},
        "dgamma multiplies dy by h_hat, what gamma was multiplied by, not by h": {"(dy * h_hat).sum": "(dy * h).sum"},
        "gamma touches y alone: dh comes past the norm and is no part of dgamma": {
            "(dy * h_hat).sum": "((dy + dh) * h_hat).sum"},
        "dgamma is a sum over the tokens, not a mean": {"(dy * h_hat).sum(axis=0)": "(dy * h_hat).mean(axis=0)"},
        "dgamma has gamma in it: y = gamma * h_hat, and its derivative by gamma is h_hat": {
            "(dy * h_hat).sum": "(dh_hat * h_hat).sum"},
    },
)
def fused_backward(dy, dh, h, gamma, eps):
    """Backward of h = x + residual, y = gamma * h / rms(h): dx and dgamma.

    dy, dh and h are (N, D), gamma is (D,); dh is what reaches h past the norm.
    """
    inv_rms = 1 / np.sqrt((h * h).mean(axis=1, keepdims=True) + eps)
    h_hat = h * inv_rms
    dh_hat = gamma * dy
    along = (dh_hat * h_hat).mean(axis=1, keepdims=True)
    dx = dh + inv_rms * (dh_hat - h_hat * along)
    return dx, (dy * h_hat).sum(axis=0)


# 14.5: a rank drops out


def _moments(x):
    return len(x), x.mean(axis=0), ((x - x.mean(axis=0)) ** 2).sum(axis=0)


def _rank_cases(seed=0):
    rng = np.random.default_rng(145 + 100 * seed)
    for name, one, rest in [
            ("one channel, (10,) leaves (1, 2, 3, 10)", np.array([[10.0]]), np.array([[1.0], [2.0], [3.0]])),
            ("2 of 7 samples leave, 3 channels", rng.normal(3, 2, (2, 3)), rng.normal(-1, 1, (5, 3))),
            ("6 of 9 samples leave", rng.normal(0, 1, (6, 2)), rng.normal(4, 3, (3, 2))),
            ("values around 1000", rng.normal(1000, 300, (4, 2)), rng.normal(2000, 300, (5, 2)))]:
        yield name, (*_moments(np.concatenate([one, rest])), *_moments(one))


def _rank_law(args, outputs):
    """Merged again, the rank and the rest have the mean of all."""
    n, mean, _, n_i, mean_i, _ = args
    return np.allclose((n_i * mean_i + (n - n_i) * outputs[0]) / n, mean, rtol=1e-9, atol=1e-9)


@exercise(
    cases=_rank_cases,
    outputs=("mean_rest", "M2_rest"),
    hints=(
        "write down what merging the rest and the rank would give, and solve it for the rest",
        "first the mean: n * mean is the sum over all; then the distance of the two means",
        "(14.5), read from right to left",
    ),
    laws={"the rank and the rest, merged, have the mean of all": _rank_law},
    mistakes={
        "the sums are subtracted, but not the distance of the two means: M2 is taken around another mean": {
            " - delta**2 * n_i * n_rest / n": ""},
        "the distance of the means made M2 larger, so here it is taken off": {
            "- delta**2 * n_i": "+ delta**2 * n_i"},
        "means are no sums: multiply by the counts before you subtract": {
            "(n * mean - n_i * mean_i) / n_rest": "mean - mean_i"},
        "that is the sum of the rest; divide by their count": {
            "(n * mean - n_i * mean_i) / n_rest": "n * mean - n_i * mean_i"},
        "the sum of the rest is divided by their own count, not by that of all": {
            "(n * mean - n_i * mean_i) / n_rest": "(n * mean - n_i * mean_i) / n"},
        "the distance goes from the rank's mean to the mean of the rest, not to the mean of all": {
            "delta = mean_i - mean_rest": "delta = mean_i - mean"},
        "the distance of the means is squared": {"delta**2": "abs(delta)"},
        "the product of the counts is divided by the count of all": {"n_i * n_rest / n\n": "n_i * n_rest\n"},
        "n counts the rank already: divide by n, not by n + n_i": {"n_i * n_rest / n\n": "n_i * n_rest / (n + n_i)\n"},
        "M2_rest is the sum of squares; yours is divided by the count": {
            "return mean_rest, M2_rest": "return mean_rest, M2_rest / n_rest"},
        "the rank's own squares are still in there": {"M2 - M2_i": "M2"},
        "n_rest is what is left, n - n_i": {"n_rest = n - n_i": "n_rest = n"},
    },
)
def without_rank(n, mean, M2, n_i, mean_i, M2_i):
    """Mean and M2 of all samples but those of rank i.

    mean, M2, mean_i and M2_i are (C,); n and n_i are counts, n_i below n.
    """
    n_rest = n - n_i
    mean_rest = (n * mean - n_i * mean_i) / n_rest
    delta = mean_i - mean_rest
    M2_rest = M2 - M2_i - delta**2 * n_i * n_rest / n
    return mean_rest, M2_rest
