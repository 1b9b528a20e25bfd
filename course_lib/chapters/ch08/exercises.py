"""Exercises of chapter 8: instance norm, style, condition."""

import numpy as np

from ...exercises.engine import exercise


def _maps(rng, shape, *, mean=3.0, spread=1.0):
    """Images (N, C, H, W) whose maps all differ in mean and spread."""
    one = (*shape[:2], 1, 1)
    return mean * rng.uniform(-2, 2, one) + spread * rng.uniform(0.5, 2, one) * rng.standard_normal(shape)


def _parameters(rng, size):
    gamma = rng.uniform(0.5, 2.5, size)
    gamma[1::3] *= -1
    return gamma, rng.uniform(0.5, 1.5, size)


# 8.1: instance norm by a routine that knows rows only


def _rows_cases(seed=0):
    rng = np.random.default_rng(810 + 100 * seed)
    yield "two images, two channels, two pixels", (
        np.array([[[[0.0, 2.0]], [[1.0, 5.0]]], [[[3.0, 4.0]], [[8.0, 2.0]]]]), np.array([1.0, 10.0]),
        np.array([0.0, 100.0]), 1e-5)
    for shape, eps, size, name in [((4, 3, 2, 5), 1e-5, 1, "4 images, 3 channels"),
                                   ((2, 4, 3, 2), 0.5, 1, "eps matters"),
                                   ((3, 2, 4, 3), 1e-5, 1000, "values around 1000")]:
        x = _maps(rng, shape, mean=size, spread=0.3 * size if size > 1 else 0.6)
        yield name, (x, *_parameters(rng, shape[1]), eps)


@exercise(
    cases=_rows_cases,
    outputs=("y",),
    hints=(
        "with one image all is well; with two, is the mean of each map of y the beta of its channel?",
        "the rows come image by image, and within an image channel by channel: 0, 1, 2, 0, 1, 2, ...",
        "np.repeat(gamma, 2) is g0 g0 g1 g1, np.tile(gamma, 2) is g0 g1 g0 g1: which order have the rows?",
    ),
    laws={"the mean of map (n, c) of y is beta[c]": lambda args, outputs: np.allclose(
        outputs[0].mean(axis=(2, 3)), args[2], rtol=0, atol=1e-8)},
    mistakes={
        ("the rows run through the channels of one image before the next image comes: gamma and beta must do so too",
         "write the number of the channel beside each of the first five rows, and then what repeat gives",
         "np.repeat(gamma, 2) is g0 g0 g1 g1, np.tile(gamma, 2) is g0 g1 g0 g1"): {
            "np.tile(gamma, samples)": "np.repeat(gamma, samples)",
            "np.tile(beta, samples)": "np.repeat(beta, samples)"},
        "beta is still in the order that belongs to no map": {"np.tile(beta, samples)": "np.repeat(beta, samples)"},
        "gamma is still in the order that belongs to no map": {"np.tile(gamma, samples)": "np.repeat(gamma, samples)"},
        "beta is missing": {" + shift)": ")"},
        "gamma is missing": {"scale * x_hat": "x_hat"},
        "the maps of a channel share your statistics over the images: that is batch norm": {
            "x.reshape(samples * channels, -1)": "x.swapaxes(0, 1).reshape(channels, -1)",
            "np.tile(gamma, samples)[:, None]": "gamma[:, None]", "np.tile(beta, samples)[:, None]": "beta[:, None]",
            ").reshape(x.shape)": ").reshape(channels, samples, *x.shape[2:]).swapaxes(0, 1)"},
        "the axes that you swapped to make the rows must be swapped back before the end": {
            "x.reshape(samples * channels, -1)": "x.swapaxes(0, 1).reshape(samples * channels, -1)",
            "np.tile(gamma, samples)": "np.repeat(gamma, samples)",
            "np.tile(beta, samples)": "np.repeat(beta, samples)"},
        "the channels of an image share your statistics: that is layer norm, or group norm with one group": {
            "maps.mean(axis=1, keepdims=True)": "np.repeat(x.mean(axis=(1, 2, 3)), channels)[:, None]",
            "maps.var(axis=1, keepdims=True)": "np.repeat(x.var(axis=(1, 2, 3)), channels)[:, None]"},
        "eps is missing: it is added to the variance, inside the square root": {"var + eps": "var"},
        "eps belongs inside the square root, added to the variance": {"np.sqrt(var + eps)": "(np.sqrt(var) + eps)"},
        "divide by the standard deviation, not by the variance": {"np.sqrt(var + eps)": "(var + eps)"},
        "the variance divides by the number of pixels, not by one less": {
            "maps.var(axis=1, keepdims=True)": "maps.var(axis=1, keepdims=True, ddof=1)"},
        "the mean has not been subtracted": {"(maps - mu)": "maps"},
    },
)
def instance_norm_by_rows(x, gamma, beta, eps):
    """Instance norm: y, with the shape of x.

    x is (N, C, H, W), floating; gamma and beta are (C,).
    """
    samples, channels = x.shape[:2]
    maps = x.reshape(samples * channels, -1)
    mu = maps.mean(axis=1, keepdims=True)
    var = maps.var(axis=1, keepdims=True)
    x_hat = (maps - mu) / np.sqrt(var + eps)
    scale = np.tile(gamma, samples)[:, None]
    shift = np.tile(beta, samples)[:, None]
    return (scale * x_hat + shift).reshape(x.shape)


# 8.3: what the loss asks of the style image


def _dstyle_cases(seed=0):
    rng = np.random.default_rng(830 + 100 * seed)
    dy = np.zeros((1, 1, 1, 2))
    dy[0, 0, 0, 1] = 1.0
    yield "one map of two pixels, style of four, only one dy is not 0", (
        dy, np.array([[[[1.0, 3.0]]]]), np.array([[[[0.0, 1.0], [2.0, 5.0]]]]), 1e-5)
    for shape, other, eps, size, name in [((2, 3, 4, 5), (2, 3, 3, 2), 1e-5, 1, "2 images, 3 channels, other sizes"),
                                          ((3, 2, 3, 3), (3, 2, 3, 3), 0.4, 1, "eps matters"),
                                          ((2, 2, 3, 4), (2, 2, 5, 2), 1e-5, 1000, "values around 1000")]:
        x, style = (_maps(rng, s, mean=size, spread=0.3 * size if size > 1 else 0.6) for s in (shape, other))
        yield name, (size * (rng.standard_normal(shape) + 0.5), x, style, eps)


def _dstyle_law(args, outputs):
    """A brighter style image makes y brighter by the same: the sums of dstyle and dy over a map agree."""
    dy, _, style, _ = args
    found = outputs[0].sum(axis=(2, 3))
    return outputs[0].shape == style.shape and np.allclose(
        found, dy.sum(axis=(2, 3)), rtol=1e-9, atol=1e-9 * (1 + np.abs(dy).max()))


@exercise(
    cases=_dstyle_cases,
    outputs=("dstyle",),
    hints=(
        "nudge one pixel of style and compare the change of sum(dy * y) with your dstyle",
        "style comes in by two numbers a map: its mean and its standard deviation. What is dL by each of them?",
        "(8.5): first the sums for the two numbers, as for beta and gamma in (8.3); then from a number to its pixels",
    ),
    laws={"over each map, dstyle sums to what dy sums to: a brighter style makes y brighter": _dstyle_law},
    mistakes={
        "only the road by the mean of style: its spread has been taken for a constant": {
            " + dstd * (style - mean) / (m * std)": " + 0 * style"},
        "only the road by the spread of style: its mean has been taken for a constant": {"dmean / m + ": ""},
        ("m counts the pixels of style, whose mean it is; yours counts those of x",
         "the first case has two pixels of x and four of style: which of them share one mean of style?",
         "(8.5): the mean of style runs over the pixels of style"): {
            "style.shape[2] * style.shape[3]": "x.shape[2] * x.shape[3]"},
        "each pixel of style moves its mean by 1 / m only": {"dmean / m": "dmean", "(m * std)": "std"},
        "the mean of style moves by 1 / m for each pixel: m is missing there": {"dmean / m": "dmean"},
        "the spread of style is a mean of m squares under a root: m is missing there": {"(m * std)": "std"},
        "the derivative of the root: divide by std once more": {"(m * std)": "m"},
        "std is a root: its derivative has std below, not the variance": {"(m * std)": "(m * std**2)"},
        "the 2 of the square goes with the 1/2 of the root": {"dstd * (style - mean)": "0.5 * dstd * (style - mean)"},
        "the spread multiplies x_hat, not x": {"(dy * x_hat)": "(dy * x)"},
        "the spread multiplies the normalized x: its gradient is the sum of dy times x_hat": {"(dy * x_hat)": "dy"},
        "y depends on style by sums over its own pixels: these are means of dy": {
            "dy.sum(axis=axes, keepdims=True)": "dy.mean(axis=axes, keepdims=True)",
            "(dy * x_hat).sum(axis=axes, keepdims=True)": "(dy * x_hat).mean(axis=axes, keepdims=True)"},
        "the mean of style must come off before the spread can tell how a pixel moves it": {
            "dstd * (style - mean)": "dstd * style"},
        "eps is missing in the spread of style": {"np.sqrt(style.var(axis=axes, keepdims=True) + eps)":
            "np.sqrt(style.var(axis=axes, keepdims=True))"},
        "eps is missing in x_hat": {"np.sqrt(x.var(axis=axes, keepdims=True) + eps)":
            "np.sqrt(x.var(axis=axes, keepdims=True))"},
        "each image takes the style of its own partner: no mean over the images": {"axes = (2, 3)": "axes = (0, 2, 3)"},
    },
)
def adain_dstyle(dy, x, style, eps):
    """dstyle, the gradient of the loss by the style image of (8.5).

    dy and x are (N, C, H, W), style and dstyle are (N, C, K, L); dy is dL/dy.
    """
    axes = (2, 3)
    x_hat = x - x.mean(axis=axes, keepdims=True)
    x_hat = x_hat / np.sqrt(x.var(axis=axes, keepdims=True) + eps)
    mean = style.mean(axis=axes, keepdims=True)
    std = np.sqrt(style.var(axis=axes, keepdims=True) + eps)
    dmean = dy.sum(axis=axes, keepdims=True)
    dstd = (dy * x_hat).sum(axis=axes, keepdims=True)
    m = style.shape[2] * style.shape[3]
    return dmean / m + dstd * (style - mean) / (m * std)


# 8.4: one condition for ever


def _fold_cases(seed=0):
    rng = np.random.default_rng(840 + 100 * seed)
    yield "two features, three outputs", (np.array([1.0, 0.0]), np.array([2.0, 1.0]),
                                          np.array([[1.0, 2.0, 3.0], [10.0, 20.0, 30.0]]), np.array([0.0, 0.0, 5.0]))
    for fan_in, fan_out, size, name in [(4, 3, 1, "4 features, 3 outputs"), (3, 5, 1, "3 features, 5 outputs"),
                                        (4, 4, 1, "as many outputs as features"), (3, 2, 1000, "values around 1000")]:
        yield name, (rng.normal(0.3, 1, fan_in), rng.normal(0.5, 1, fan_in),
                     size * rng.standard_normal((fan_in, fan_out)), size * rng.standard_normal(fan_out))


def _fold_law(args, outputs):
    scale, shift, W, b = args
    u = np.random.default_rng(3).standard_normal((5, len(scale)))
    right = ((1 + scale) * u + shift) @ W + b
    return np.allclose(u @ outputs[0] + outputs[1], right, rtol=0, atol=1e-9 * (1 + np.abs(right).max()))


@exercise(
    cases=_fold_cases,
    outputs=("W_new", "b_new"),
    hints=(
        "take some u and compare u @ W_new + b_new with ((1 + scale) * u + shift) @ W + b",
        "write out one output: which row of W does feature i of u meet?",
        "(8.9) for the modulation; what multiplies u goes into W, what does not goes into b",
    ),
    laws={"u @ W_new + b_new is ((1 + scale) * u + shift) @ W + b for any u": _fold_law},
    mistakes={
        ("the modulation multiplies by 1 + scale: a scale of 0 changes nothing",
         "with scale = 0 and shift = 0 the layer must stay what it is: what becomes of your W?",
         "(8.9): the branch reads (1 + scale) times the normalized input, plus shift"): {
            "(1 + scale)[:, None]": "scale[:, None]"},
        ("scale has one number for each feature that goes IN: it multiplies rows of W, here its columns",
         "u @ W: feature i of u meets row i of W",
         "a column of W belongs to an output: (1 + scale)[:, None] * W scales the rows"): {
            "(1 + scale)[:, None] * W": "np.resize(1 + scale, W.shape[1]) * W"},
        "the shift goes through W like any other input, before it reaches the output": {
            "shift @ W": "np.resize(shift, len(b))"},
        "the shift is added after the scale, so it meets the old W": {
            "shift @ W": "shift @ ((1 + scale)[:, None] * W)"},
        "the shift goes through W too: b stays what it was only for shift = 0": {
            "b + shift @ W": "b + 0 * (shift @ W)"},
        "the old b is missing": {"b + shift @ W": "shift @ W"},
        "b is added behind W, so it is not scaled": {"b + shift @ W": "b * (1 + scale.mean()) + shift @ W"},
        "b does not meet the scale: only what multiplies u is scaled": {
            "b + shift @ W": "np.resize(1 + scale, len(b)) * (b + shift @ W)"},
        "a shift has one number for each feature that goes in: it meets rows of W, yours meets columns": {
            "shift @ W": "np.resize(W @ np.resize(shift, W.shape[1]), len(b))"},
        "to undo is not to fold: multiply by 1 + scale": {"(1 + scale)[:, None] * W": "W / (1 + scale)[:, None]"},
        "the shift is added, not subtracted": {"b + shift @ W": "b - shift @ W"},
        "W_new has not changed: what multiplies u belongs into it": {"(1 + scale)[:, None] * W": "1.0 * W"},
    },
)
def fold_condition(scale, shift, W, b):
    """W_new and b_new of a linear layer that needs no modulation in front.

    scale and shift are (D,), W and W_new are (D, K), b and b_new are (K,).
    """
    W_new = (1 + scale)[:, None] * W
    b_new = b + shift @ W
    return W_new, b_new
