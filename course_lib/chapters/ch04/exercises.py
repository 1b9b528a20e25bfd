"""Exercises of chapter 4: batch normalization, forward and backward."""

import numpy as np

from ...exercises.engine import exercise
from ...standardize import standardize

NOTE_ROW = np.array([[1.0, 1.5, 1.2, 0.9, 1.7, 2.1, 3.1, 1.7]]).T  # one neuron of a source note, 8 samples


def _batch(seed, shape, *, mean=3.0, spread=2.0):
    """Values whose channels (axis 1) differ in mean and spread, none of them near mean 0 or spread 1."""
    rng = np.random.default_rng(seed)
    channels = (shape[1], *[1] * (len(shape) - 2))
    offset = mean * rng.uniform(1, 2, channels) * rng.choice([-1, 1], channels)
    return offset + spread * rng.uniform(0.5, 2, channels) * rng.standard_normal(shape)


def _parameters(seed, size):
    """gamma with a negative entry where there are two or more, and beta, none of them 0 or 1."""
    rng = np.random.default_rng(seed)
    gamma = rng.uniform(0.5, 2.5, size)
    gamma[1:2] *= -1
    return gamma, rng.uniform(0.5, 1.5, size)


def _forward_cases():
    yield "the note's row", (NOTE_ROW, np.array([1.0]), np.array([0.0]), 1e-8)
    yield "3 features, 5 samples", (_batch(1, (5, 3)), *_parameters(1, 3), 1e-5)
    yield "spread near sqrt(eps)", (_batch(2, (7, 2), spread=0.3), *_parameters(2, 2), 0.1)
    constant = _batch(3, (4, 3))
    constant[:, 0] = 5.0
    yield "one constant feature", (constant, *_parameters(3, 3), 0.1)
    far = [a.astype(np.float32) for a in (_batch(4, (16, 2), mean=1000, spread=1), *_parameters(4, 2))]
    yield "float32, mean over 1000", (*far, 1e-5)


def _column_means_are_beta(args, outputs):
    return np.allclose(outputs[0].mean(axis=0), args[2], rtol=0, atol=1e-3)  # float32 at mean 1000 has 6e-5


def _column_variances_fit(args, outputs):
    x, gamma, _, eps = args
    var = x.astype(float).var(axis=0)
    return np.allclose(outputs[0].var(axis=0), gamma**2 * var / (var + eps), rtol=1e-3, atol=1e-6)


@exercise(
    cases=_forward_cases,
    outputs=("y",),
    hints=(
        "column j of y must have mean beta[j] and variance gamma[j]**2 * var / (var + eps); print both",
        "mean and variance run over the samples, axis 0, and leave one number for each feature",
        "(4.5) to (4.8), line by line",
    ),
    laws={
        "the mean of column j of y is beta[j]": _column_means_are_beta,
        "the variance of column j of y is gamma[j]**2 * var / (var + eps)": _column_variances_fit,
    },
    mistakes={
        "one mean for everything; batch norm keeps one mean for each feature": {
            "x.mean(axis=0)": "x.mean()", "x.var(axis=0)": "x.var()"},
        "each sample got its own mean: that is layer norm. Which axis is the batch?": {
            "x.mean(axis=0)": "x.mean(axis=1, keepdims=True)", "x.var(axis=0)": "x.var(axis=1, keepdims=True)"},
        "inside the layer the variance divides by N, not by N - 1; the batch itself must come out with variance 1": {
            "x.var(axis=0)": "x.var(axis=0, ddof=1)"},
        "eps belongs inside the square root, added to the variance": {"np.sqrt(var + eps)": "(np.sqrt(var) + eps)"},
        "eps is on the scale of the variance already: do not square it": {"var + eps": "var + eps**2"},
        "your output has standard deviation 1 / sigma: divide by the standard deviation": {
            "np.sqrt(var + eps)": "(var + eps)"},
        "the root of var**2 is var again; the root is there to turn the variance into a standard deviation": {
            "var + eps": "var**2 + eps"},
        "without eps a constant feature gives 0 / 0": {"var + eps": "var"},
        "eps is added, it is not a floor": {"var + eps": "np.maximum(var, eps)"},
        "y does not depend on gamma": {"gamma * x_hat": "x_hat"},
        "y does not depend on beta": {" + beta": ""},
        "beta must not be scaled: y = gamma * x_hat + beta": {"gamma * x_hat + beta": "gamma * (x_hat + beta)"},
        "gamma may be negative": {"gamma * x_hat": "abs(gamma) * x_hat"},
        "the mean of x**2 is the variance only where the mean is 0": {"x.var(axis=0)": "(x**2).mean(axis=0)"},
        "the mean has not been subtracted": {"(x - mu)": "x"},
        "mean(x**2) - mu**2 subtracts two large numbers: in float32 its digits are lost": {
            "x.var(axis=0)": "np.abs((x**2).mean(axis=0) - mu**2)"},
    },
)
def batch_norm_forward(x, gamma, beta, eps):
    """Batch norm as in training: y, with the shape and type of x.

    x is (N, D), floating; gamma and beta are (D,).
    """
    mu = x.mean(axis=0)
    var = x.var(axis=0)
    x_hat = (x - mu) / np.sqrt(var + eps)
    return gamma * x_hat + beta


def _image_cases():
    x = np.arange(8.0).reshape(2, 1, 2, 2)
    yield "one channel, two images of 2 x 2", (x, np.array([2.0]), np.array([1.0]), 1e-5)
    yield "3 channels", (_batch(5, (4, 3, 2, 5)), *_parameters(5, 3), 1e-5)
    bright = _batch(6, (3, 2, 4, 5), spread=0.3)
    bright[0] += 1
    yield "one brighter image, spread near sqrt(eps)", (bright, *_parameters(6, 2), 0.1)
    yield "float32", (*(a.astype(np.float32) for a in (_batch(7, (2, 5, 3, 4)), *_parameters(7, 5))), 1e-3)


@exercise(
    cases=_image_cases,
    outputs=("y",),
    hints=(
        "each channel of y, y[:, c], must have mean beta[c]; all entries together tell you nothing",
        "a channel shares its statistics over samples, rows and columns: which axes are left?",
        "(4.30) for the statistics, then (4.7) and (4.8) with gamma and beta of shape (C, 1, 1)",
    ),
    laws={
        "the mean of channel c of y, over samples and positions, is beta[c]": lambda args, outputs: np.allclose(
            outputs[0].mean(axis=(0, 2, 3)), args[2], rtol=0, atol=1e-5),
    },
    mistakes={
        "one mean for each pixel; the statistics are shared over positions as well": {"(0, 2, 3)": "(0,)"},
        "each image got its own mean: that is instance norm. The batch axis belongs to the shared ones": {
            "(0, 2, 3)": "(2, 3)"},
        "you mixed the channels and kept the positions": {"(0, 2, 3)": "(0, 1)"},
        "axes (0, 1, 2) are right for channels last, (N, H, W, C); here channels are axis 1": {
            "(0, 2, 3)": "(0, 1, 2)"},
        "each image was normalized over its channels too: that is layer norm": {"(0, 2, 3)": "(1, 2, 3)"},
        "one mean for everything; every channel needs its own": {"(0, 2, 3)": "(0, 1, 2, 3)"},
        "reshape(-1, C) does not move axes: bring the channels to the end first": {
            "x.mean(axis=axes, keepdims=True)": "np.resize(x.reshape(-1, len(gamma)).mean(axis=0), x.shape)",
            "x.var(axis=axes, keepdims=True)": "np.resize(x.reshape(-1, len(gamma)).var(axis=0), x.shape)",
            "gamma[:, None, None]": "np.resize(gamma, x.shape)", "beta[:, None, None]": "np.resize(beta, x.shape)"},
        "a parameter of shape (C,) meets the LAST axis, the width; it needs the shape (C, 1, 1)": {
            "gamma[:, None, None]": "gamma", "beta[:, None, None]": "beta"},
        "mean and variance of shape (C,) meet the LAST axis, the width: keep the axes, keepdims=True": {
            "x.mean(axis=axes, keepdims=True)": "x.mean(axis=axes)",
            "x.var(axis=axes, keepdims=True)": "x.var(axis=axes)"},
        "the variance of the images' means is only the part between images; see (4.31)": {
            "x.var(axis=axes, keepdims=True)": "x.mean(axis=(2, 3), keepdims=True).var(axis=0, keepdims=True)"},
        "the mean of the images' variances is only the part within images; see (4.31)": {
            "x.var(axis=axes, keepdims=True)": "x.var(axis=(2, 3), keepdims=True).mean(axis=0, keepdims=True)"},
        "eps is missing: it is added to the variance, inside the square root": {"var + eps": "var"},
        "the variance divides by m = N * H * W, not by m - 1": {
            "x.var(axis=axes, keepdims=True)": "x.var(axis=axes, keepdims=True, ddof=1)"},
        "eps belongs inside the square root, added to the variance": {"np.sqrt(var + eps)": "(np.sqrt(var) + eps)"},
    },
)
def batch_norm_images(x, gamma, beta, eps):
    """Batch norm as in training: y, with the shape and type of x.

    x is (N, C, H, W), floating; gamma and beta are (C,).
    """
    axes = (0, 2, 3)
    mu = x.mean(axis=axes, keepdims=True)
    var = x.var(axis=axes, keepdims=True)
    x_hat = (x - mu) / np.sqrt(var + eps)
    return gamma[:, None, None] * x_hat + beta[:, None, None]


def _backward_cases():
    one = np.zeros_like(NOTE_ROW)
    one[0] = 1.0
    yield "the note's row, only dy[0] is not 0", (one, NOTE_ROW, np.array([1.0]), 1e-5)
    for seed, shape, eps, name in [(8, (5, 3), 1e-5, "3 features, 5 samples"), (9, (4, 2), 0.1, "eps matters")]:
        x = _batch(seed, shape, spread=0.4)
        dy = np.random.default_rng(seed).standard_normal(shape) + 0.7
        yield name, (dy, x, _parameters(seed, shape[1])[0], eps)


def _dx_sums_to_zero(args, outputs):
    dx = outputs[3]
    return np.allclose(dx.sum(axis=0), 0, rtol=0, atol=1e-9 * max(1, np.abs(dx).max()))


@exercise(
    cases=_backward_cases,
    outputs=("dx_hat", "dvar", "dmu", "dx", "dgamma", "dbeta"),
    hints=(
        "check dx alone: each of its columns must sum to 0, for every dy",
        "x[i] is used by its own x_hat[i], by the mean and by the variance: three terms",
        "(4.15) to (4.20), one line of code each; write the forward pass first",
    ),
    laws={
        "each column of dx sums to 0, because a constant added to a column of x leaves y as it is": _dx_sums_to_zero,
        "dbeta is the gradient of a number that is added to every sample": lambda args, outputs: np.allclose(
            outputs[5], args[0].sum(axis=0), rtol=0, atol=1e-9),
        "dmu, dvar and the straight road together give dx": lambda args, outputs: np.allclose(
            outputs[3], outputs[0] / np.sqrt(args[1].var(axis=0) + args[3]) + outputs[2] / len(args[1])
            + outputs[1] * 2 * (args[1] - args[1].mean(axis=0)) / len(args[1]), rtol=0, atol=1e-8),
    },
    mistakes={
        ("dx misses the road by the mean", "every column of dx must sum to 0; which term makes it so?",
         "(4.18), third term"): {" + dmu / m": ""},
        ("dx misses the road by the variance", "the sum of dx * x_hat must be almost 0; which term makes it so?",
         "(4.18), second term"): {" + dvar * 2 * (x - mu) / m": ""},
        "each sample contributes 1 / m to the mean": {"dmu / m": "dmu"},
        "each sample contributes 2 * (x - mu) / m to the variance: the 1 / m is missing": {"(x - mu) / m": "(x - mu)"},
        "the forward pass divides by m, so the backward pass does too, not by m - 1": {
            "(x - mu) / m": "(x - mu) / (m - 1)"},
        "the derivative of (x - mu)**2 has a factor 2": {"dvar * 2": "dvar"},
        "y = gamma * x_hat + beta, so dx_hat is dy times gamma": {"gamma * dy": "dy"},
        "the derivative of (var + eps)**-0.5 is negative": {"* -0.5": "* 0.5"},
        "the derivative lowers the power from -1/2 to -3/2": {"inv_std**3": "inv_std"},
        "raising the mean lowers every x_hat: dmu has a minus sign": {"-inv_std * np.sum": "inv_std * np.sum"},
        "use the same var + eps as in the forward pass; here eps got lost": {"np.sqrt(var + eps)": "np.sqrt(var)"},
        "dmu comes by way of x_hat: it needs dx_hat, not dy": {"np.sum(dx_hat, axis=0)": "np.sum(dy, axis=0)"},
        "gamma multiplies x_hat, not x": {"np.sum(dy * x_hat, axis=0)": "np.sum(dy * x, axis=0)"},
        "dgamma needs dy: gamma is already in dx_hat": {
            "np.sum(dy * x_hat, axis=0)": "np.sum(dx_hat * x_hat, axis=0)"},
        "beta is added to every sample: dbeta is a sum, not a mean": {
            "dbeta = np.sum(dy, axis=0)": "dbeta = np.mean(dy, axis=0)"},
        "gamma is used by every sample: dgamma is a sum, not a mean": {
            "np.sum(dy * x_hat, axis=0)": "np.mean(dy * x_hat, axis=0)"},
        "the variance divides by m, not by m - 1": {"x.var(axis=0)": "x.var(axis=0, ddof=1)"},
    },
)
def six_lines(dy, x, gamma, eps):
    """The six gradients of batch norm: dx_hat, dvar, dmu, dx, dgamma, dbeta.

    dy and x are (N, D), gamma is (D,); dy is dL/dy.
    """
    m = len(x)
    mu = x.mean(axis=0)
    var = x.var(axis=0)
    inv_std = 1 / np.sqrt(var + eps)
    x_hat = (x - mu) * inv_std
    dx_hat = gamma * dy
    dvar = np.sum(dx_hat * (x - mu), axis=0) * -0.5 * inv_std**3
    dmu = -inv_std * np.sum(dx_hat, axis=0)
    dx = dx_hat * inv_std + dvar * 2 * (x - mu) / m + dmu / m
    dgamma = np.sum(dy * x_hat, axis=0)
    dbeta = np.sum(dy, axis=0)
    return dx_hat, dvar, dmu, dx, dgamma, dbeta


def _closed_cases():
    for name, (dy, x, gamma, eps) in _backward_cases():
        _, cache = standardize(x, (0,), eps=eps)
        yield name, (dy, cache.x_hat, cache.inv_std[0], gamma)


def _closed_x_hat_law(args, outputs):
    """Equation (4.26), with 1 - mean(x_hat**2) for eps / (var + eps)."""
    dy, x_hat, inv_std, gamma = args
    right = inv_std * (1 - (x_hat**2).mean(axis=0)) * (gamma * dy * x_hat).sum(axis=0)
    return np.allclose((outputs[0] * x_hat).sum(axis=0), right, rtol=0, atol=1e-9)


@exercise(
    cases=_closed_cases,
    outputs=("dx",),
    hints=(
        "each column of dx must sum to 0, and the sum of dx * x_hat must be almost 0",
        "take dx_hat, remove its mean, remove its part along x_hat, then scale",
        "(4.23)",
    ),
    laws={
        "each column of dx sums to 0, because a constant added to a column of x leaves y as it is":
            lambda args, outputs: np.allclose(outputs[0].sum(axis=0), 0, rtol=0, atol=1e-9),
        "the sum of dx * x_hat is as in (4.26)": _closed_x_hat_law,
    },
    mistakes={
        "gamma is missing: the gradient passes y = gamma * x_hat + beta on its way": {"gamma * dy": "dy"},
        "dx misses the road by the mean: no part along the ones has been removed": {" - along_ones": ""},
        "dx misses the road by the variance: no part along x_hat has been removed": {" - x_hat * along_x_hat": ""},
        "the mean of dx_hat is removed, not its sum": {"dx_hat.mean(axis=0)": "dx_hat.sum(axis=0)"},
        "the mean of dx_hat * x_hat is what counts, not its sum": {
            "(dx_hat * x_hat).mean(axis=0)": "(dx_hat * x_hat).sum(axis=0)"},
        "what is removed must point along x_hat: multiply the number by x_hat": {
            "x_hat * along_x_hat": "along_x_hat"},
        "the part along x_hat is removed, not added": {" - x_hat * along_x_hat": " + x_hat * along_x_hat"},
        "the mean is removed, not added": {" - along_ones": " + along_ones"},
        "one inv_std is enough": {"inv_std * (": "inv_std**3 * ("},
        "the scale is missing: dx is in units of 1 / x": {"inv_std * (": "("},
        "inv_std is one over the standard deviation already: multiply by it": {"inv_std * (": "1 / inv_std * ("},
        "the means run over the samples, axis 0; yours run over the features of one sample": {
            "dx_hat.mean(axis=0)": "dx_hat.mean(axis=1, keepdims=True)",
            "(dx_hat * x_hat).mean(axis=0)": "(dx_hat * x_hat).mean(axis=1, keepdims=True)"},
        "means run over the batch only; every feature has its own": {
            "dx_hat.mean(axis=0)": "dx_hat.mean()", "(dx_hat * x_hat).mean(axis=0)": "(dx_hat * x_hat).mean()"},
    },
)
def closed_form(dy, x_hat, inv_std, gamma):
    """Gradient of batch norm for its input, dx, from what the forward pass has kept.

    dy and x_hat are (N, D); inv_std and gamma are (D,).
    """
    dx_hat = gamma * dy
    along_ones = dx_hat.mean(axis=0)
    along_x_hat = (dx_hat * x_hat).mean(axis=0)
    return inv_std * (dx_hat - along_ones - x_hat * along_x_hat)


def _torch_cases():
    import torch

    for seed, shape, eps, name in [(10, (2, 1, 2, 1), 1e-5, "one channel, four values"),
                                   (11, (3, 2, 4, 5), 1e-5, "2 channels"), (12, (4, 3, 1, 2), 0.1, "eps matters")]:
        dy = np.random.default_rng(seed).standard_normal(shape) + 0.7
        yield name, (torch.tensor(_batch(seed, shape, spread=0.4)), torch.tensor(dy), eps)


@exercise(
    cases=_torch_cases,
    outputs=("y", "dx"),
    hints=(
        "the sum of dx over a channel must be 0, and it is not",
        "what is computed without gradient is a constant for the backward pass: two of the three roads are closed",
        "(4.18): the roads by the mean and by the variance; and (4.6) for the forward pass",
    ),
    laws={
        "dx sums to 0 in each channel": lambda args, outputs: np.allclose(
            outputs[1].sum(axis=(0, 2, 3)), 0, rtol=0, atol=1e-9),
        "y has mean 0 in each channel": lambda args, outputs: np.allclose(
            outputs[0].mean(axis=(0, 2, 3)), 0, rtol=0, atol=1e-9),
    },
    mistakes={
        ("mean and variance are constants for the backward pass: their gradients are switched off",
         "two of the three roads are closed; only the straight one is left",
         "(4.18), second and third term: compute the statistics where autograd can see them"): {
            "(x - mu)": "(x - mu.detach())", "(var + eps)": "(var.detach() + eps)"},
        "the mean is still a constant for the backward pass": {"(x - mu)": "(x - mu.detach())"},
        "the variance is still a constant for the backward pass": {"(var + eps)": "(var.detach() + eps)"},
        "torch's var divides by m - 1 unless told otherwise; the layer divides by m": {
            "unbiased=False": "unbiased=True"},
        "eps belongs inside the square root, added to the variance": {"(var + eps).sqrt()": "(var.sqrt() + eps)"},
        "eps is missing: it is added to the variance, inside the square root": {"(var + eps)": "var"},
        "dx needs the upstream gradient dy, not ones": {"y.backward(dy)": "y.sum().backward()"},
        "the statistics are shared over the samples too: axes (0, 2, 3)": {
            "x.mean((0, 2, 3)": "x.mean((2, 3)", "x.var((0, 2, 3)": "x.var((2, 3)"},
    },
)
def mended_batch_norm(x, dy, eps):
    """Batch norm without gamma and beta, in torch: y, and dx by autograd.

    x and dy are tensors (N, C, H, W) without gradients; dy is dL/dy, dx is dL/dx.
    """
    x = x.detach().requires_grad_()
    mu = x.mean((0, 2, 3), keepdim=True)
    var = x.var((0, 2, 3), keepdim=True, unbiased=False)
    y = (x - mu) / (var + eps).sqrt()
    y.backward(dy)
    return y.detach(), x.grad


def _identity_cases():
    yield "the note's row", (NOTE_ROW, 1e-3)
    yield "3 features, 5 samples", (_batch(13, (5, 3)), 1e-5)
    yield "spread near sqrt(eps)", (_batch(14, (6, 2), spread=0.3), 0.1)


def _gives_x_back(args, outputs):
    x, eps = args
    gamma, beta = outputs
    return np.allclose(gamma * standardize(x, (0,), eps=eps)[0] + beta, x, rtol=0, atol=1e-7)


@exercise(
    cases=_identity_cases,
    outputs=("gamma", "beta"),
    hints=(
        "put your gamma and beta into batch_norm and compare y with x",
        "gamma must undo the division in (4.7), all of it; beta must undo the subtraction",
        "(4.13)",
    ),
    laws={"batch norm with these parameters gives x back": _gives_x_back},
    mistakes={
        "gamma must undo the division by the root of var + eps: eps is missing": {"np.sqrt(var + eps)": "np.sqrt(var)"},
        "gamma multiplies, and the layer divides by a root: you gave its square": {"np.sqrt(var + eps)": "var + eps"},
        "this is the variance; gamma is the square root of the variance with eps": {"np.sqrt(var + eps)": "var"},
        "gamma**2 = var + eps has two solutions, and the negative one mirrors the data": {
            "np.sqrt(var + eps)": "-np.sqrt(var + eps)"},
        "eps belongs inside the square root": {"np.sqrt(var + eps)": "np.sqrt(var) + eps"},
        "the layer's variance divides by N, not by N - 1": {"x.var(axis=0)": "x.var(axis=0, ddof=1)"},
        "the mean was subtracted, so it must be added: beta has the wrong sign": {"x.mean(axis=0)": "-x.mean(axis=0)"},
        "gamma is multiplied, so it needs the root itself, not its inverse": {
            "np.sqrt(var + eps)": "1 / np.sqrt(var + eps)"},
        "beta is added after gamma, so it is not scaled": {"beta = x.mean(axis=0)": "beta = x.mean(axis=0) / gamma"},
    },
)
def identity_parameters(x, eps):
    """The gamma and beta for which batch norm with this eps gives this x, (N, D), back; both (D,)."""
    var = x.var(axis=0)
    gamma = np.sqrt(var + eps)
    beta = x.mean(axis=0)
    return gamma, beta


def _far_cases():
    yield "the note's row", (NOTE_ROW.astype(np.float32), 1e-5)
    yield "spread near sqrt(eps)", (_batch(15, (6, 2), spread=0.3).astype(np.float32), 0.1)
    for seed, mean in ((16, 1e4), (17, 1e6)):
        rng = np.random.default_rng(seed)
        yield f"mean {mean:,.0f}", ((mean + rng.standard_normal((61, 3)) * [1, 2, 3]).astype(np.float32), 1e-5)


@exercise(
    cases=_far_cases,
    outputs=("x_hat",),
    hints=(
        "x_hat must have mean 0 in each column; at mean 1,000,000 look at what yours has",
        "the mean is rounded to the nearest float32, and every difference inherits that error",
        "(4.34): what the first subtraction leaves over is a small mean",
    ),
    laws={
        "each column of x_hat has mean 0": lambda args, outputs: np.allclose(
            outputs[0].mean(axis=0), 0, rtol=0, atol=1e-5),
    },
    mistakes={
        "one subtraction is not enough: the rounded mean leaves a small mean behind": {
            "d = d - d.mean(axis=0)": "d = d * 1"},
        "mean(x**2) - mean(x)**2 loses all digits here": {
            "(d**2).mean(axis=0)": "np.abs((x**2).mean(axis=0) - x.mean(axis=0) ** 2)"},
        "mean(x**2) - mean(x)**2 loses all digits here, and even its sign: hence the NaN": {
            "(d**2).mean(axis=0)": "(x**2).mean(axis=0) - x.mean(axis=0) ** 2"},
        "eps is missing: it is added to the variance, inside the square root": {"var + eps": "var"},
        "the second mean is subtracted as well, not added": {"d - d.mean(axis=0)": "d + d.mean(axis=0)"},
        "eps belongs inside the square root, added to the variance": {"np.sqrt(var + eps)": "(np.sqrt(var) + eps)"},
        "the variance divides by N, not by N - 1": {"(d**2).mean(axis=0)": "(d**2).sum(axis=0) / (len(x) - 1)"},
        "divide by the standard deviation, not by the variance": {"np.sqrt(var + eps)": "(var + eps)"},
    },
)
def standardize_far(x, eps):
    """x_hat, float32, for x of shape (N, D), float32, whose mean may be a million times its spread."""
    d = x - x.mean(axis=0)
    d = d - d.mean(axis=0)
    var = (d**2).mean(axis=0)
    return d / np.sqrt(var + eps)
