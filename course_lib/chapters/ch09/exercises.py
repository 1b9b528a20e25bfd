"""Exercises of chapter 9: group norm."""

import numpy as np

from ...exercises.engine import exercise


def _maps(rng, shape, axis, *, mean=3.0, spread=1.0):
    """Values whose channels (on that axis) and samples differ in mean and spread."""
    channel, sample = [1] * 4, [shape[0], 1, 1, 1]
    channel[axis] = shape[axis]
    scale = spread * rng.uniform(0.5, 2, channel) * rng.uniform(0.7, 1.5, sample)
    return mean * rng.uniform(-2, 2, channel) + mean * rng.uniform(0, 1, sample) + scale * rng.standard_normal(shape)


def _parameters(rng, size):
    gamma = rng.uniform(0.5, 2.5, size)
    gamma[1::3] *= -1
    return gamma, rng.uniform(0.5, 1.5, size)


# 9.1: the backward pass, mended


def _dx_cases(seed=0):
    rng = np.random.default_rng(910 + 100 * seed)
    x = np.arange(8.0).reshape(1, 2, 2, 2) ** 2
    dy = np.zeros_like(x)
    dy[0, 0, 0, 0] = 1.0
    yield "one group of two channels, only dy[0, 0, 0, 0] is not 0", (dy, x, np.array([2.0, -1.0]), 1, 1e-5)
    for shape, groups, eps, size, name in [((2, 6, 3, 4), 2, 1e-5, 1, "2 samples, 2 groups of 3 channels"),
                                           ((3, 4, 2, 3), 2, 0.5, 1, "eps matters"),
                                           ((2, 6, 2, 3), 3, 1e-5, 1000, "values around 1000")]:
        x = _maps(rng, shape, 1, mean=size, spread=0.6 * size)
        dy = size * (rng.standard_normal(shape) + 0.5)
        yield name, (dy, x, _parameters(rng, shape[1])[0], groups, eps)


def _dx_law(args, outputs):
    """Over each group the sum of dx is 0: a shift of the whole group costs nothing."""
    dy, x, gamma, groups, eps = args
    rows = np.reshape(outputs[0], (len(x), groups, -1))
    return np.allclose(rows.sum(axis=2), 0, rtol=0, atol=1e-9 * (1 + np.abs(rows).max()))


@exercise(
    cases=_dx_cases,
    outputs=("dx",),
    hints=(
        "nudge one entry of x and compare the change of sum(dy * y) with your dx",
        "inside a group of channels gamma is not constant: where may it stand?",
        "(9.2): the means are those of dx_hat = gamma * dy, over the group",
    ),
    laws={"over each group of each sample the entries of dx sum to 0": _dx_law},
    mistakes={
        "gamma is still outside the means: it differs from channel to channel of a group": {
            "dx_hat = (gamma[:, None, None] * dy).reshape(x_hat.shape)": "dx_hat = dy.reshape(x_hat.shape)",
            "return dx.reshape(x.shape)": "return gamma[:, None, None] * dx.reshape(x.shape)"},
        "what is removed points along x_hat; yours points along x": {"- x_hat * along": "- rows * along"},
        "gamma is in there twice: once it is in dx_hat, it does not come back at the end": {
            "return dx.reshape(x.shape)": "return gamma[:, None, None] * dx.reshape(x.shape)"},
        "gamma is missing altogether": {"gamma[:, None, None] * dy": "dy"},
        "the statistics are those of a group, not of each channel: that is the backward pass of instance norm": {
            "rows = x.reshape(len(x), groups, -1)": "rows = x.reshape(len(x), len(gamma), -1)"},
        "the statistics are those of a group, not of the whole sample: that is one group": {
            "rows = x.reshape(len(x), groups, -1)": "rows = x.reshape(len(x), 1, -1)"},
        "groups is the number of groups, not the number of channels in one": {
            "rows = x.reshape(len(x), groups, -1)": "rows = x.reshape(len(x), len(gamma) // groups, -1)"},
        "the road by the mean is missing": {"dx_hat - dx_hat.mean(axis=2, keepdims=True) - x_hat": "dx_hat - x_hat"},
        "the road by the variance is missing": {" - x_hat * along": ""},
        "only the straight road: both statistics have been held constant": {
            "(dx_hat - dx_hat.mean(axis=2, keepdims=True) - x_hat * along)": "dx_hat"},
        "the road by the variance lowers dx: its sign is negative": {" - x_hat * along": " + x_hat * along"},
        "the means divide by the entries of the group; these are sums": {
            "(dx_hat * x_hat).mean(axis=2, keepdims=True)": "(dx_hat * x_hat).sum(axis=2, keepdims=True)"},
        "what is removed must point along x_hat: multiply the number by x_hat": {"x_hat * along": "along"},
        "the factor inv_std is missing: dx is in units of 1 / x": {"inv_std * (dx_hat": "(dx_hat"},
        "one inv_std is enough": {"inv_std * (dx_hat": "inv_std**2 * (dx_hat"},
        "eps is missing: it is added to the variance, inside the root": {" + eps)": ")"},
        "other samples have no part in this: each group of each sample has its own means": {
            "(dx_hat * x_hat).mean(axis=2, keepdims=True)": "(dx_hat * x_hat).mean(axis=(0, 2), keepdims=True)"},
        "the variance divides by the number of entries, not by one less": {
            "rows.var(axis=2, keepdims=True)": "rows.var(axis=2, keepdims=True, ddof=1)"},
    },
)
def group_norm_dx(dy, x, gamma, groups, eps):
    """dx of group norm.

    dy and x are (N, C, H, W), gamma is (C,); groups is G; dy is dL/dy.
    """
    rows = x.reshape(len(x), groups, -1)
    inv_std = 1 / np.sqrt(rows.var(axis=2, keepdims=True) + eps)
    x_hat = (rows - rows.mean(axis=2, keepdims=True)) * inv_std
    dx_hat = (gamma[:, None, None] * dy).reshape(x_hat.shape)
    along = (dx_hat * x_hat).mean(axis=2, keepdims=True)
    dx = inv_std * (dx_hat - dx_hat.mean(axis=2, keepdims=True) - x_hat * along)
    return dx.reshape(x.shape)


# 9.2: ghost batches


def _ghost_cases(seed=0):
    rng = np.random.default_rng(920 + 100 * seed)
    yield "four images of one pixel, two ghosts", (np.array([1.0, 3.0, 10.0, 30.0]).reshape(4, 1, 1, 1), 2, 1e-5)
    yield "6 samples, 2 ghosts of 3", (_maps(rng, (6, 4, 2, 5), 1), 3, 1e-5)
    yield "8 samples, ghosts of 2, eps matters", (_maps(rng, (8, 3, 2, 2), 1, spread=0.4), 2, 0.3)
    yield "values around 1000", (_maps(rng, (6, 4, 3, 2), 1, mean=1000, spread=300), 2, 1e-5)


def _ghost_law(args, outputs):
    x, size, _ = args
    ghosts = outputs[0].reshape(-1, size, *x.shape[1:])
    return np.allclose(ghosts.mean(axis=(1, 3, 4)), 0, rtol=0, atol=1e-8)


@exercise(
    cases=_ghost_cases,
    outputs=("x_hat",),
    hints=(
        "the first `size` samples must have mean 0 in each channel, whatever the other samples are",
        "cut the axis of the samples into two: which ghost, and which sample of it",
        "after x.reshape(-1, size, C, H, W) the axes that share statistics are those of batch norm, one further on",
    ),
    laws={"in each ghost batch each channel has mean 0": _ghost_law},
    mistakes={
        "a ghost is `size` neighbouring samples; yours takes every second, third, ... one": {
            "x.reshape(-1, size, *x.shape[1:])": "x.reshape(size, -1, *x.shape[1:]).swapaxes(0, 1)",
            "return x_hat.reshape(x.shape)": "return x_hat.swapaxes(0, 1).reshape(x.shape)"},
        "size is the number of samples in a ghost, not the number of ghosts": {
            "x.reshape(-1, size, *x.shape[1:])": "x.reshape(size, -1, *x.shape[1:])"},
        "all samples share your statistics: that is batch norm of the whole batch": {"(1, 3, 4)": "(0, 1, 3, 4)"},
        "each sample has statistics of its own: that is instance norm": {"(1, 3, 4)": "(3, 4)"},
        "the channels of a ghost share your statistics; each channel has its own": {"(1, 3, 4)": "(1, 2, 3, 4)"},
        "the axes count from the new array: (1, 2, 3) are sample, channel and height": {"(1, 3, 4)": "(1, 2, 3)"},
        "one mean for each pixel: positions share statistics as well": {"(1, 3, 4)": "(1,)"},
        "the axis of the ghosts took part in the mean, and that of the samples did not": {"(1, 3, 4)": "(0, 3, 4)"},
        "eps is missing: it is added to the variance, inside the square root": {"var + eps": "var"},
        "eps belongs inside the square root, added to the variance": {"np.sqrt(var + eps)": "(np.sqrt(var) + eps)"},
        "divide by the standard deviation, not by the variance": {"np.sqrt(var + eps)": "(var + eps)"},
        "the variance divides by the number of entries, not by one less": {
            "ghosts.var(axis=axes, keepdims=True)": "ghosts.var(axis=axes, keepdims=True, ddof=1)"},
        "the mean has not been subtracted": {"(ghosts - mu)": "ghosts"},
    },
)
def ghost_batch_norm(x, size, eps):
    """x_hat of batch norm with statistics over `size` neighbouring samples.

    x is (N, C, H, W), floating, x_hat has its shape; size divides N.
    """
    ghosts = x.reshape(-1, size, *x.shape[1:])
    axes = (1, 3, 4)
    mu = ghosts.mean(axis=axes, keepdims=True)
    var = ghosts.var(axis=axes, keepdims=True)
    x_hat = (ghosts - mu) / np.sqrt(var + eps)
    return x_hat.reshape(x.shape)


# 9.5: channels last


def _last_cases(seed=0):
    rng = np.random.default_rng(940 + 100 * seed)
    x = np.arange(8.0).reshape(1, 2, 1, 4) ** 2
    yield "one row of two pixels, 4 channels", (x, np.ones(4), np.zeros(4), 2, 1e-5)
    for shape, groups, eps, mean, spread, name in [((2, 3, 4, 6), 2, 1e-5, 3.0, 1.0, "2 groups of 3 channels"),
                                                   ((3, 2, 5, 8), 2, 0.3, 3.0, 0.4, "eps matters"),
                                                   ((2, 3, 2, 6), 3, 1e-5, 1000.0, 300.0, "values around 1000")]:
        yield name, (_maps(rng, shape, 3, mean=mean, spread=spread), *_parameters(rng, shape[3]), groups, eps)


def _last_law(args, outputs):
    x, gamma, beta, groups, _ = args
    x_hat = ((outputs[0] - beta) / gamma).reshape(*x.shape[:3], groups, -1)
    return np.allclose(x_hat.mean(axis=(1, 2, 4)), 0, rtol=0, atol=1e-8)


@exercise(
    cases=_last_cases,
    outputs=("y",),
    hints=(
        "undo gamma and beta: over the channels of one group and all positions x_hat must have mean 0",
        "the new axis of the groups must stand beside the channels that it cuts",
        "x.reshape(N, H, W, G, C // G), and statistics over the axes (1, 2, 4)",
    ),
    laws={"without gamma and beta, each group of channels of each sample has mean 0": _last_law},
    mistakes={
        "reshape does not move axes: (N, G, -1) cuts a channels-last image into blocks of rows, not of channels": {
            "x.reshape(*x.shape[:3], groups, -1)": "x.reshape(len(x), groups, -1)",
            "(1, 2, 4)": "2"},
        ("the group is the slow axis: channels 0, 1, 2, ... of a group are neighbours",
         "your groups are interleaved, every second or third channel",
         "x.reshape(N, H, W, G, C // G), and statistics over the axes (1, 2, 4)"): {"(1, 2, 4)": "(1, 2, 3)",
            "x.reshape(*x.shape[:3], groups, -1)": "x.reshape(*x.shape[:3], -1, groups)"},
        "groups is the number of groups, not the number of channels in one": {
            "x.reshape(*x.shape[:3], groups, -1)": "x.reshape(*x.shape[:3], -1, groups)"},
        "all groups share your statistics: that is one group": {"(1, 2, 4)": "(1, 2, 3, 4)"},
        "each channel has statistics of its own: that is instance norm": {"(1, 2, 4)": "(1, 2)"},
        "each pixel has statistics of its own: positions share them as well": {"(1, 2, 4)": "4"},
        "the samples share your statistics; group norm never looks at another sample": {"(1, 2, 4)": "(0, 1, 2, 4)"},
        "gamma and beta have one entry per channel: they meet x_hat after it has the shape of x again": {
            "gamma * x_hat.reshape(x.shape) + beta":
                "(gamma[:groups, None] * x_hat + beta[:groups, None]).reshape(x.shape)"},
        "beta is missing": {" + beta": ""},
        "gamma is missing": {"gamma * x_hat": "x_hat"},
        "eps is missing: it is added to the variance, inside the square root": {"var + eps": "var"},
        "eps belongs inside the square root, added to the variance": {"np.sqrt(var + eps)": "(np.sqrt(var) + eps)"},
        "divide by the standard deviation, not by the variance": {"np.sqrt(var + eps)": "(var + eps)"},
        "the variance divides by the number of entries, not by one less": {
            "view.var(axis=axes, keepdims=True)": "view.var(axis=axes, keepdims=True, ddof=1)"},
    },
)
def group_norm_last(x, gamma, beta, groups, eps):
    """Group norm of images with channels last.

    x and y are (N, H, W, C), floating; gamma and beta are (C,); groups is G.
    """
    view = x.reshape(*x.shape[:3], groups, -1)
    axes = (1, 2, 4)
    mu = view.mean(axis=axes, keepdims=True)
    var = view.var(axis=axes, keepdims=True)
    x_hat = (view - mu) / np.sqrt(var + eps)
    return gamma * x_hat.reshape(x.shape) + beta
