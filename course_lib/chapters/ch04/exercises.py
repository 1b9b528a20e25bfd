"""Exercises of chapter 4: batch normalization, forward and backward."""

import numpy as np

from ...exercises.engine import exercise
from ...exercises.work import Layer, backward_of, train_with
from ...norms import batch_norm
from ...standardize import standardize

EIGHT = np.array([[1.0, 1.5, 1.2, 0.9, 1.7, 2.1, 3.1, 1.7]]).T  # one neuron of a worked example, 8 samples


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


def _parameters_cases(seed=0):
    yield "the eight numbers", (EIGHT, np.array([2.0]), np.array([0.5]), 0.1)
    yield "3 features, 5 samples", (_batch(13 + 100 * seed, (5, 3)), *_targets(13 + 100 * seed, 3), 1e-5)
    yield "spread near sqrt(eps)", (_batch(14 + 100 * seed, (6, 2), spread=0.3), *_targets(14 + 100 * seed, 2), 0.1)
    yield "values around 1000", (_batch(16 + 100 * seed, (5, 3), mean=1000, spread=300),
                                 *_targets(16 + 100 * seed, 3), 1e-5)
    x = _batch(15 + 100 * seed, (7, 2), spread=0.3)
    yield "its own mean and standard deviation", (x, x.mean(axis=0), x.std(axis=0), 0.1)


def _targets(seed, size):
    rng = np.random.default_rng(seed)
    return rng.uniform(-5, 5, size), rng.uniform(0.5, 3, size)


def _layer_has_these(args, outputs):
    x, mean, std, eps = args
    y = outputs[0] * standardize(x, (0,), eps=eps)[0] + outputs[1]
    return np.allclose(y.mean(axis=0), mean, rtol=0, atol=1e-9) and np.allclose(y.std(axis=0), std, rtol=1e-9)


@exercise(
    cases=_parameters_cases,
    outputs=("gamma", "beta"),
    hints=(
        "put your gamma and beta into bn_forward and look at the mean and the standard deviation of y",
        "x_hat has mean 0, but its standard deviation is a little less than 1, and with this eps not a little",
        "(4.7) has the variance of x_hat; (4.6) turns it into that of y",
    ),
    laws={"batch norm with these parameters has the mean and the standard deviation asked for": _layer_has_these},
    mistakes={
        ("this would be right for eps = 0: what is the standard deviation of x_hat here?",
         "x_hat divides by sqrt(var + eps), a little more than the spread of x: is it then wider or narrower than 1?",
         "(4.7): the line of gamma has to make up for the root of var / (var + eps)"): {
            "std * np.sqrt(var + eps) / np.sqrt(var)": "std"},
        "the layer divides x before gamma sees it: gamma stretches x_hat, not x": {"np.sqrt(var + eps)": "1"},
        ("upside down: x_hat is narrower than 1, so gamma must be larger than std",
         "gamma times the standard deviation of x_hat is to be std: which way does this divide?",
         "(4.7): the line of gamma divides by the root of var / (var + eps)"): {
            "np.sqrt(var + eps) / np.sqrt(var)": "np.sqrt(var) / np.sqrt(var + eps)"},
        "(4.7) is the variance of x_hat: its root is missing": {
            "np.sqrt(var + eps) / np.sqrt(var)": "(var + eps) / var"},
        "std is asked for, not std**2: gamma multiplies, so no root of std": {"std * np.sqrt(var + eps)":
            "np.sqrt(std) * np.sqrt(var + eps)"},
        "eps stands inside the root": {"np.sqrt(var + eps)": "(np.sqrt(var) + eps)"},
        "eps is added to the variance of x, not to the one asked for": {
            "std * np.sqrt(var + eps) / np.sqrt(var)": "np.sqrt(std**2 + eps)"},
        "the layer's variance divides by N, not by N - 1": {"x.var(axis=0)": "x.var(axis=0, ddof=1)"},
        "this takes x back to where it was, not to the spread asked for": {"std * np.sqrt(var + eps) / np.sqrt(var)":
            "np.sqrt(var + eps)"},
        ("x_hat has mean 0 already: the mean of x has been subtracted, beta need not do it again",
         "what is the mean of gamma * x_hat, whatever gamma is?",
         "(4.6): with it, the mean of y is beta alone"): {
            "beta = mean": "beta = mean - x.mean(axis=0)"},
        "x_hat has mean 0 already, whatever gamma is: beta has no mean of x to take away": {
            "beta = mean": "beta = mean - gamma * x.mean(axis=0)"},
        "beta is added after gamma, so it is not scaled": {"beta = mean": "beta = mean / gamma"},
        "one variance for everything; every feature has its own": {"x.var(axis=0)": "x.var()"},
        "gamma is to be positive; a negative one has the same spread and mirrors the data": {
            "gamma = std": "gamma = -std"},
    },
)
def parameters_for(x, mean, std, eps):
    """The gamma > 0 and beta that give batch norm of x this mean and this std.

    x is (N, D), without constant columns; mean, std, gamma and beta are (D,).
    """
    var = x.var(axis=0)
    gamma = std * np.sqrt(var + eps) / np.sqrt(var)
    beta = mean
    return gamma, beta


def _uncentred_cases(seed=0):
    one = np.zeros_like(EIGHT)
    one[0] = 1.0
    yield "the eight numbers, only dy[0] is not 0", (one, EIGHT, np.array([1.0]), 1e-5)
    for k, shape, eps, size, name in [(8, (5, 3), 1e-5, 1, "3 features, 5 samples"), (9, (4, 2), 0.5, 1, "eps matters"),
                                      (18, (5, 3), 1e-5, 1000, "values around 1000")]:
        x = size * _batch(k + 100 * seed, shape, mean=0.5, spread=0.6)
        dy = size * (np.random.default_rng(k + 100 * seed).standard_normal(shape) + 0.7)
        yield name, (dy, x, _parameters(k + 100 * seed, shape[1])[0], eps)


def _uncentred_at_work(uncentred_backward):
    """The layer whose dx the answer gives; its other gradients are sums."""
    def x_hat(x):
        return x / np.sqrt((x**2).mean(axis=0) + 1e-5)

    return train_with(Layer(
        lambda x, gamma, beta: gamma * x_hat(x) + beta,
        lambda dy, x, gamma: (uncentred_backward(dy, x, gamma, 1e-5), (dy * x_hat(x)).sum(axis=0), dy.sum(axis=0))))


def _uncentred_law(args, outputs):
    """The second sum of (4.18), with the mean square in place of the variance and x in place of x_hat."""
    dy, x, gamma, eps = args
    square = (x**2).mean(axis=0)
    x_hat = x / np.sqrt(square + eps)
    right = eps / (square + eps) * (gamma * dy * x_hat).sum(axis=0)
    scale = 1 + np.abs(outputs[0] * x).max()
    return np.allclose((outputs[0] * x).sum(axis=0), right, rtol=0, atol=1e-9 * scale)


@exercise(
    cases=_uncentred_cases,
    at_work=_uncentred_at_work,
    outputs=("dx",),
    hints=(
        "nudge one entry of x and compare the change of sum(dy * y) with your dx",
        "there are two roads now: straight, and by the mean square. Stretching x must still cost nothing",
        "(4.11) and (4.13) with mu = 0; then put x_hat in, as on the way to (4.16)",
    ),
    laws={"stretching x costs nothing: for small eps, sum(dx * x) is almost 0 "
          "(for any eps: eps / (square + eps) times sum(dx_hat * x_hat))": _uncentred_law},
    mistakes={
        ("your dx has no part along the ones, but this layer does see a shift of all values",
         "no mean is subtracted, so there is no road by the mean to take into account",
         "(4.16) without its second term"): {"(dx_hat - x_hat": "(dx_hat - dx_hat.mean(axis=0) - x_hat"},
        ("only the straight road: the mean square has been taken for a constant",
         "x[i] also changes the root that all samples are divided by",
         "(4.13), second term"): {" - x_hat * along": ""},
        "this is the backward pass of batch norm; here no mean is subtracted, neither in x_hat nor in dx": {
            "(x**2).mean(axis=0)": "x.var(axis=0)", "x * inv_rms": "(x - x.mean(axis=0)) * inv_rms",
            "(dx_hat - x_hat": "(dx_hat - dx_hat.mean(axis=0) - x_hat"},
        "the second road starts at dx_hat as well: gamma belongs into both terms": {
            "(dx_hat * x_hat).mean(axis=0)": "(dy * x_hat).mean(axis=0)"},
        "eps is missing in the second road: its root is the same as in the first": {
            " - x_hat * along": " - x * (dx_hat * x).mean(axis=0) / (x**2).mean(axis=0) ** 1.5 / inv_rms"},
        "eps stands inside the root, beside the mean square": {
            "np.sqrt((x**2).mean(axis=0) + eps)": "(np.sqrt((x**2).mean(axis=0)) + eps)"},
        "one mean square for everything; every feature has its own": {
            "(x**2).mean(axis=0)": "(x**2).mean()", "(dx_hat * x_hat).mean(axis=0)": "(dx_hat * x_hat).mean()"},
        "this layer divides by the root of the mean square of x, not by its standard deviation": {
            "(x**2).mean(axis=0)": "x.var(axis=0)"},
        ("y = gamma * x_hat, so dx_hat is dy times gamma",
         "if gamma is 0, y does not depend on x: what is dx then, and what is yours?",
         "(4.10), the line of dx_hat"): {"gamma * dy": "dy"},
        "the road by the mean square lowers dx: its sign is negative": {" - x_hat * along": " + x_hat * along"},
        "what is removed must point along x_hat: multiply the number by x_hat": {"x_hat * along": "along"},
        "the mean of dx_hat * x_hat is what counts, not its sum": {
            "(dx_hat * x_hat).mean(axis=0)": "(dx_hat * x_hat).sum(axis=0)"},
        "x**2 has the slope 2 * x, and its 2 goes with the 1/2 of the root: your second road is half as wide": {
            " - x_hat * along": " - 0.5 * x_hat * along"},
        "every sample is divided by the mean square, so its gradient is a sum over the samples; you took each alone": {
            "(dx_hat * x_hat).mean(axis=0)": "dx_hat * x_hat / len(x)"},
        "no mean is subtracted in this layer, so none in x_hat either": {
            "x * inv_rms": "(x - x.mean(axis=0)) * inv_rms"},
        "what is removed points along x_hat, not along y = gamma * x_hat": {"x * inv_rms": "gamma * x * inv_rms"},
        "dx_hat has gamma in it already; the second road needs it once, not twice": {
            " - x_hat * along": " - gamma * x_hat * along"},
        "the power rule takes -1/2 to -3/2: in terms of x the second road has inv_rms three times, yours twice": {
            " - x_hat * along": " - x_hat * along / inv_rms"},
        "the scale is missing: dx is in units of 1 / x": {"return inv_rms * ": "return "},
        "one inv_rms is enough": {"return inv_rms * ": "return inv_rms**3 * "},
        "eps is missing: it is added to the mean square, inside the root": {" + eps)": ")"},
        "along needs x_hat, the normalized value, in both places": {
            "(dx_hat * x_hat)": "(dx_hat * x)", "x_hat * along": "x * along"},
        "the mean square runs over the samples, axis 0; you took that of each sample's features": {
            "(x**2).mean(axis=0)": "(x**2).mean(axis=1, keepdims=True)",
            "(dx_hat * x_hat).mean(axis=0)": "(dx_hat * x_hat).mean(axis=1, keepdims=True)"},
    },
)
def uncentred_backward(dy, x, gamma, eps):
    """dx for y = gamma * x / sqrt(mean(x**2) + eps), means over the samples.

    dy and x are (N, D), gamma is (D,); dy is dL/dy, dx is dL/dx.
    """
    inv_rms = 1 / np.sqrt((x**2).mean(axis=0) + eps)
    x_hat = x * inv_rms
    dx_hat = gamma * dy
    along = (dx_hat * x_hat).mean(axis=0)
    return inv_rms * (dx_hat - x_hat * along)


def _image_cases(seed=0):
    x = np.arange(8.0).reshape(2, 1, 2, 2)
    yield "one channel, two images of 2 x 2", (x, np.array([2.0]), np.array([1.0]), 1e-5)
    yield "3 channels", (_batch(5 + 100 * seed, (4, 3, 2, 5)), *_parameters(5 + 100 * seed, 3), 1e-5)
    bright = _batch(6 + 100 * seed, (3, 2, 4, 5), spread=0.3)
    bright[0] += 1
    yield "one brighter image, spread near sqrt(eps)", (bright, *_parameters(6 + 100 * seed, 2), 0.1)
    yield "values around 1000", (_batch(17 + 100 * seed, (4, 3, 2, 5), mean=1000, spread=300),
                                 *_parameters(17 + 100 * seed, 3), 1e-5)
    single = _batch(7 + 100 * seed, (2, 5, 3, 4)), *_parameters(7 + 100 * seed, 5)
    yield "float32", (*(a.astype(np.float32) for a in single), 1e-3)


def _images_at_work(batch_norm_images):
    """Each unit of the small net is a channel of one pixel."""
    return train_with(Layer(
        lambda x, gamma, beta: batch_norm_images(x[:, :, None, None], gamma, beta, 1e-5)[:, :, 0, 0],
        backward_of(batch_norm)))


@exercise(
    cases=_image_cases,
    at_work=_images_at_work,
    outputs=("y",),
    hints=(
        "each channel of y, y[:, c], must have mean beta[c]; all entries together tell you nothing",
        "a channel shares its statistics over samples, rows and columns: which axes are left?",
        "(4.20) for the statistics, then (4.5) and (4.6) with gamma and beta of shape (C, 1, 1)",
    ),
    laws={
        "the mean of channel c of y, over samples and positions, is beta[c]": lambda args, outputs: np.allclose(
            outputs[0].mean(axis=(0, 2, 3)), args[2], rtol=0, atol=1e-5),
    },
    mistakes={
        ("one mean for each pixel; the statistics are shared over positions as well",
         "a convolution uses the same weights at every position: how many neurons is one channel?",
         "(4.20): the axes of both mean and var are those of N, H and W"): {"(0, 2, 3)": "(0,)"},
        ("each image got its own mean: that is instance norm. The batch axis belongs to the shared ones",
         "one image of the batch gets brighter: must the others notice?",
         "(4.20): the axes of both mean and var are those of N, H and W"): {"(0, 2, 3)": "(2, 3)"},
        "you mixed the channels and kept the positions": {"(0, 2, 3)": "(0, 1)"},
        "axes (0, 1, 2) are right for channels last, (N, H, W, C); here channels are axis 1": {
            "(0, 2, 3)": "(0, 1, 2)"},
        "each image was normalized over its channels too: that is layer norm": {"(0, 2, 3)": "(1, 2, 3)"},
        "one mean for everything; every channel needs its own": {"(0, 2, 3)": "(0, 1, 2, 3)"},
        "one mean for each column: the columns of an image share it too": {"(0, 2, 3)": "(0, 2)"},
        "you took the mean over the channels; it is all the other axes that a channel shares": {"(0, 2, 3)": "(1,)"},
        "reshape(-1, C) does not move axes: bring the channels to the end first": {
            "x.mean(axis=axes, keepdims=True)": "np.resize(x.reshape(-1, len(gamma)).mean(axis=0), x.shape)",
            "x.var(axis=axes, keepdims=True)": "np.resize(x.reshape(-1, len(gamma)).var(axis=0), x.shape)",
            "gamma[:, None, None]": "np.resize(gamma, x.shape)", "beta[:, None, None]": "np.resize(beta, x.shape)"},
        ("a parameter of shape (C,) meets the LAST axis, the width; it needs the shape (C, 1, 1)",
         "NumPy lines up shapes from the right: beside (N, C, H, W), under which letter does (C,) come to stand?",
         "the line of y: gamma[:, None, None], and beta alike"): {
            "gamma[:, None, None]": "gamma", "beta[:, None, None]": "beta"},
        "gamma[None, :] has the shape (1, C), and C still meets the LAST axis; it needs the shape (C, 1, 1)": {
            "gamma[:, None, None]": "gamma[None, :]", "beta[:, None, None]": "beta[None, :]"},
        "gamma[:, None] has the shape (C, 1), and C meets the height; it needs the shape (C, 1, 1)": {
            "gamma[:, None, None]": "gamma[:, None]", "beta[:, None, None]": "beta[:, None]"},
        "mean and variance of shape (C,) meet the LAST axis, the width: keep the axes, keepdims=True": {
            "x.mean(axis=axes, keepdims=True)": "x.mean(axis=axes)",
            "x.var(axis=axes, keepdims=True)": "x.var(axis=axes)"},
        "the variance of the images' means is only the part between images; see (4.21)": {
            "x.var(axis=axes, keepdims=True)": "x.mean(axis=(2, 3), keepdims=True).var(axis=0, keepdims=True)"},
        "the mean of the images' variances is only the part within images; see (4.21)": {
            "x.var(axis=axes, keepdims=True)": "x.var(axis=(2, 3), keepdims=True).mean(axis=0, keepdims=True)"},
        "eps is missing: it is added to the variance, inside the square root": {"var + eps": "var"},
        "eps is added, it is not a floor": {"var + eps": "np.maximum(var, eps)"},
        "eps is a variance already: it is not squared": {"var + eps": "var + eps**2"},
        "divide by the standard deviation: the root is missing": {"np.sqrt(var + eps)": "(var + eps)"},
        "the root of var**2 is var; var is squared already": {"var + eps": "var**2 + eps"},
        "a mean square is a variance only where the mean has been subtracted": {
            "x.var(axis=axes, keepdims=True)": "(x**2).mean(axis=axes, keepdims=True)"},
        "the mean is not subtracted": {"(x - mu)": "x"},
        "this is RMS norm: the mean is subtracted nowhere": {
            "(x - mu)": "x", "x.var(axis=axes, keepdims=True)": "(x**2).mean(axis=axes, keepdims=True)"},
        "beta is added after gamma, so it is not scaled": {"* x_hat + beta[:, None, None]":
            "* (x_hat + beta[:, None, None])"},
        "gamma may be negative, and then mirrors its channel": {"gamma[:, None, None]": "abs(gamma)[:, None, None]"},
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


def _torch_cases(seed=0):
    import torch

    for k, shape, eps, name in [(10, (4, 1, 1, 1), 1e-5, "one channel, four values"),
                                (11, (3, 2, 4, 5), 1e-5, "2 channels"), (12, (4, 3, 1, 2), 0.1, "eps matters")]:
        dy = np.random.default_rng(k + 100 * seed).standard_normal(shape) + 0.7
        yield name, (torch.tensor(_batch(k + 100 * seed, shape, spread=0.4)), torch.tensor(dy), eps)


@exercise(
    cases=_torch_cases,
    outputs=("y", "dx"),
    hints=(
        "in each channel the sum of dx must be 0, and the variance of y almost 1 (4.7): which of them is not?",
        "what is computed without gradient is a constant for the backward pass: two of the three roads are closed",
        "(4.13): the roads by the mean and by the variance; and (4.4) for the forward pass",
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
         "(4.13), second and third term: compute the statistics where autograd can see them"): {
            "(x - mu)": "(x - mu.detach())", "(var + eps)": "(var.detach() + eps)"},
        "the mean is still a constant for the backward pass": {"(x - mu)": "(x - mu.detach())"},
        ("the variance is still a constant for the backward pass",
         "the road by the mean is open, and dx sums to 0: which sum of (4.18) fails with your dx?",
         "(4.13), second term: the line of var where autograd can see it"): {"(var + eps)": "(var.detach() + eps)"},
        ("torch's var divides by m - 1 unless told otherwise; the layer divides by m",
         "the variance of y in your first case, with m = 4 values: is it 1, or 3/4?",
         "(4.4); the line of var, unbiased=False"): {
            "unbiased=False": "unbiased=True"},
        "eps belongs inside the square root, added to the variance": {"(var + eps).sqrt()": "(var.sqrt() + eps)"},
        "eps is missing: it is added to the variance, inside the square root": {"(var + eps)": "var"},
        "dx needs the upstream gradient dy, not ones": {"y.backward(dy)": "y.sum().backward()"},
        "torch keeps a gradient only where it is asked to: x.requires_grad_() on a copy of x, before the first step": {
            "x.detach().requires_grad_()": "x.detach()"},
        "rsqrt is one over the root: multiply by it": {"(var + eps).sqrt()": "(var + eps).rsqrt()"},
        "one mean for each pixel; the statistics are shared over positions as well": {
            "x.mean((0, 2, 3)": "x.mean((0,)", "x.var((0, 2, 3)": "x.var((0,)"},
        "the statistics are shared over the samples too: axes (0, 2, 3)": {
            "x.mean((0, 2, 3)": "x.mean((2, 3)", "x.var((0, 2, 3)": "x.var((2, 3)"},
    },
)
def mended_batch_norm(x, dy, eps):
    """Batch norm without gamma and beta, in torch: y, and dx by autograd.

    x and dy are tensors (N, C, H, W) without gradients; dy is dL/dy.
    """
    x = x.detach().requires_grad_()
    mu = x.mean((0, 2, 3), keepdim=True)
    var = x.var((0, 2, 3), keepdim=True, unbiased=False)
    y = (x - mu) / (var + eps).sqrt()
    y.backward(dy)
    return y.detach(), x.grad
