"""Exercises of chapter 11: local response and divisive normalization."""

import numpy as np

from ...exercises.engine import exercise
from ...lrn import local_response_norm

# 11.1: the backward pass, mended


def _dx_cases(seed=0):
    rng = np.random.default_rng(1110 + 100 * seed)
    x = np.array([1.0, 2.0, 3.0, 4.0]).reshape(1, 4, 1, 1)
    dy = np.array([0.0, 1.0, 0.0, 0.0]).reshape(1, 4, 1, 1)
    yield "four channels, each sees itself and the next, only dy[0, 1] is not 0", (dy, x, 0, 1, 1.0, 1.0, 0.5)
    for shape, window, setting, size, name in [((2, 7, 3, 4), (2, 1), (1.3, 0.4, 0.6), 2, "a window of 4"),
                                               ((3, 5, 2, 4), (1, 1), (2.0, 0.3, 0.75), 3, "a symmetric window"),
                                               ((2, 4, 3, 5), (0, 2), (0.5, 0.7, 1.2), 1, "nothing before"),
                                               ((2, 6, 3, 2), (1, 3), (2e6, 0.5, 0.75), 1000, "values around 1000")]:
        x, dy = size * rng.standard_normal((2, *shape))
        yield name, (dy, x, *window, *setting)


def _dx_law(args, outputs):
    """A step along x itself: sum(x dx) is the sum of dy y (1 - 2 beta (1 - k / t))."""
    dy, x, left, right, k, alpha, beta = args
    t = np.stack([k + alpha * (x[:, max(0, i - left) : i + right + 1] ** 2).sum(axis=1) for i in range(x.shape[1])], 1)
    along = dy * x * t**-beta * (1 - 2 * beta * (1 - k / t))
    return np.isclose(np.sum(x * outputs[0]), np.sum(along), rtol=0, atol=1e-9 * np.abs(along).sum())


@exercise(
    cases=_dx_cases,
    outputs=("dx",),
    hints=(
        "nudge one channel of x, and list the outputs that change",
        "in the first case only output 1 counts: which channels does it see?",
        "(11.2): the sum runs over the i whose window holds j, so from j - right to j + left",
    ),
    laws={"a step along x changes the loss by what its own scale does": _dx_law},
    mistakes={
        "the window is not mirrored: sum over the outputs that saw channel j, not over the channels that it saw": {
            "max(0, j - right) : j + left + 1": "max(0, j - left) : j + right + 1"},
        "the bracket t sums channels i - left to i + right; yours is mirrored in the forward pass": {
            "max(0, i - left) : i + right + 1": "max(0, i - right) : i + left + 1"},
        "the road through the bracket is missing": {" - 2 * alpha * beta * x * seen_by": ""},
        "the road through the bracket lowers dx: its sign is negative": {"- 2 * alpha * beta": "+ 2 * alpha * beta"},
        "a square has the derivative 2 x: the 2 is missing": {"2 * alpha * beta * x": "alpha * beta * x"},
        "beta is missing: it comes down as a factor when t**-beta is differentiated": {
            "2 * alpha * beta * x": "2 * alpha * x"},
        "alpha is missing: it is the slope of the bracket": {"2 * alpha * beta * x": "2 * beta * x"},
        "x_j is missing in the second road: the derivative of x_j**2 is 2 x_j": {
            "beta * x * seen_by": "beta * seen_by"},
        "the exponent goes down by one when a power is differentiated: t**(-beta - 1)": {
            "t ** (-beta - 1)": "t ** (-beta)"},
        "inside the sum each output brings its own x_i, not x_j": {
            "dy * x * t ** (-beta - 1)": "dy * t ** (-beta - 1)"},
        "t belongs to output i: its power stands inside the sum, not in front of it as t_j": {
            "dy * x * t ** (-beta - 1)": "dy * x",
            "2 * alpha * beta * x * seen_by": "2 * alpha * beta * x * t ** (-beta - 1) * seen_by"},
        "the first road is divided by t**beta as well": {"return dy * t**-beta": "return dy"},
        "the range ends one channel early: a slice does not hold its end": {"j + left + 1": "j + left"},
        "alpha is not divided by the size of the window here": {
            "2 * alpha * beta": "2 * alpha / (left + right + 1) * beta"},
    },
)
def lrn_dx(dy, x, left, right, k, alpha, beta):
    """dx of LRN whose window runs from channel i - left to i + right.

    dy and x are (N, C, H, W); the paper's formula, alpha is not divided.
    """
    channels = range(x.shape[1])
    t = np.stack([k + alpha * (x[:, max(0, i - left) : i + right + 1] ** 2).sum(axis=1) for i in channels], axis=1)
    part = dy * x * t ** (-beta - 1)
    seen_by = np.stack([part[:, max(0, j - right) : j + left + 1].sum(axis=1) for j in channels], axis=1)
    return dy * t**-beta - 2 * alpha * beta * x * seen_by


# 11.3: conventions and scale


def _alpha_cases(seed=0):
    rng = np.random.default_rng(1130 + 100 * seed)
    yield "AlexNet's numbers, pixels divided by 10", (5, 1e-4, 10.0)
    yield "AlexNet's numbers, pixels divided by 255", (5, 1e-4, 255.0)
    yield "nothing is divided", (9, 1e-3, 1.0)
    yield "other numbers", (int(2 * rng.integers(1, 6) + 1), rng.uniform(0.01, 1), rng.uniform(2, 60))
    yield "pixels multiplied by 4", (3, 0.2, 0.25)


def _alpha_law(args, outputs):
    """The package's alpha is not divided, torch's is."""
    size, alpha, scale = args
    x = scale * np.arange(1.0, 8.0)[None]
    old = local_response_norm(x, size=size, alpha=alpha)[0] / scale
    return np.allclose(local_response_norm(x / scale, size=size, alpha=float(outputs[0]) / size)[0], old, rtol=1e-9)


@exercise(
    cases=_alpha_cases,
    outputs=("alpha",),
    hints=(
        "try it: scale * torch's layer of x / scale must be the paper's layer of x",
        "the bracket must have the same value for both: alpha times a sum of squares",
        "(11.5) for the scale; torch divides its alpha by the size",
    ),
    laws={"torch's layer of x / scale is the paper's layer of x, divided by scale": _alpha_law},
    mistakes={
        "the inputs are squared in the bracket: so is the scale": {"scale**2": "scale"},
        "the scale is missing: smaller inputs need a larger alpha": {" * scale**2": ""},
        "the inputs are smaller than they were, so alpha grows with the scale": {"* scale**2": "/ scale**2"},
        "torch divides its alpha by the size: give it size times as much": {"size * alpha": "alpha"},
        "torch divides by the size once more: multiply by it, to undo that": {"size * alpha": "alpha / size"},
        "the size is not squared: torch divides alpha by it once": {"size * alpha": "size**2 * alpha"},
        "two slips that hide each other: alpha is per channel, and the scale enters squared": {
            "size * alpha * scale**2": "alpha * scale"},
    },
)
def alpha_for_torch(size, alpha, scale):
    """The alpha for torch, a number; alpha is the paper's, size is odd."""
    return size * alpha * scale**2


# 11.4: local contrast


def _contrast_cases(seed=0):
    rng = np.random.default_rng(1140 + 100 * seed)
    x = np.array([[1.0, 2.0, 4.0], [0.0, 3.0, 1.0], [5.0, 1.0, 2.0]]).reshape(1, 1, 3, 3)
    yield "one map of 3 x 3, r = 1", (x, 1)
    for shape, radius, size, name in [((2, 3, 5, 4), 1, 1, "two images of three maps"),
                                      ((3, 2, 6, 7), 2, 1, "r = 2"),
                                      ((2, 4, 3, 5), 1, 1000, "values around 1000")]:
        light = np.geomspace(0.05, 4, shape[3]) * np.array([1.0, 6.0, 0.2])[: shape[0], None, None, None]
        yield name, (size * (rng.standard_normal(shape) + 0.7) * light, radius)


def _contrast_law(args, outputs):
    """A larger contrast of a whole image changes nothing; and no position is larger than its square allows."""
    x, radius = args
    return bool(np.all(np.abs(outputs[0]) <= np.sqrt(x.shape[1]) * (2 * radius + 1) * (1 + 1e-9)))


@exercise(
    cases=_contrast_cases,
    outputs=("y",),
    hints=(
        "do the 3 x 3 map by hand: v in the middle is 3 minus the mean of all nine",
        "write a function that averages an array (N, 1, H, W) over the square around each position",
        "pad with zeros, add the (2 r + 1)**2 shifted copies, divide by their number: of x, then of v**2",
    ),
    laws={"no value exceeds the root of the number of values in its square": _contrast_law},
    mistakes={
        "the mean runs through all channels, one number for each position; yours has one for each map": {
            "x - around(x.mean(axis=1, keepdims=True))": "x - around(x)"},
        "s runs through all channels, one number for each position; yours has one for each map": {
            "np.sqrt(around((v**2).mean(axis=1, keepdims=True)))": "np.sqrt(around(v**2))"},
        "s is the spread of v, after the mean has gone; yours is that of x": {"(v**2)": "(x**2)"},
        "s**2 is the mean of v**2 over the square, each v with its own mean; E[x**2] - (E x)**2 is another number": {
            "np.sqrt(around((v**2).mean(axis=1, keepdims=True)))":
                "np.sqrt(np.maximum(around((x**2).mean(axis=1, keepdims=True)) "
                "- around(x.mean(axis=1, keepdims=True)) ** 2, 0))"},
        "s is a root: the mean of v**2 alone is in other units": {
            "np.sqrt(around((v**2).mean(axis=1, keepdims=True)))": "around((v**2).mean(axis=1, keepdims=True))"},
        "the floor is missing: where s is small, s-bar divides instead": {
            "np.maximum(s, s.mean(axis=(2, 3), keepdims=True))": "s"},
        "take the larger of s and s-bar, not the smaller": {"np.maximum": "np.minimum"},
        "s-bar is a mean over the positions of one image; yours mixes the images": {
            "s.mean(axis=(2, 3), keepdims=True)": "s.mean()"},
        "s and s-bar are compared, not added": {
            "np.maximum(s, s.mean(axis=(2, 3), keepdims=True))": "(s + s.mean(axis=(2, 3), keepdims=True))"},
        "y is v divided by the spread; yours divides x, whose mean is still there": {"return v /": "return x /"},
        "the square has 2 r + 1 positions on each side": {
            "for p in range(2 * radius + 1)": "for p in range(2 * radius)",
            "for q in range(2 * radius + 1)": "for q in range(2 * radius)"},
        "at the border the weights stay what they are, zeros included: divide by the whole square": {
            "return total / (2 * radius + 1) ** 2":
                "return total / np.where(total == 0, 1, sum(np.pad(np.ones_like(a), "
                "((0, 0), (0, 0), (radius, radius), (radius, radius)))[:, :, p : p + height, q : q + width] "
                "for p in range(2 * radius + 1) for q in range(2 * radius + 1)))"},
        "these are sums: divide by the number of positions in the square": {
            "return total / (2 * radius + 1) ** 2": "return total"},
        "outside of the image is 0; yours repeats the border": {
            "(radius, radius), (radius, radius)))": "(radius, radius), (radius, radius)), mode='edge')"},
    },
)
def local_contrast_norm(x, radius):
    """y, as described; x and y are (N, C, H, W), radius is r."""

    def around(a):
        height, width = a.shape[2:]
        padded = np.pad(a, ((0, 0), (0, 0), (radius, radius), (radius, radius)))
        total = 0
        for p in range(2 * radius + 1):
            for q in range(2 * radius + 1):
                total = total + padded[:, :, p : p + height, q : q + width]
        return total / (2 * radius + 1) ** 2

    v = x - around(x.mean(axis=1, keepdims=True))
    s = np.sqrt(around((v**2).mean(axis=1, keepdims=True)))
    return v / np.maximum(s, s.mean(axis=(2, 3), keepdims=True))
