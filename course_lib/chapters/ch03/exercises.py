"""Exercises of chapter 3: weight initialization."""

import numpy as np

from ...exercises.engine import exercise


def _bound_cases(seed=0):
    rng = np.random.default_rng(30 + 100 * seed)
    yield "2 x 3 channels, kernel 1 x 1, ReLU", ((2, 3, 1, 1), 0.0)
    yield "5 channels to 7, kernel 3 x 2, slope 0.5", ((7, 5, 3, 2), 0.5)
    yield "slope 1 is no activation at all", ((4, 6, 2, 3), 1.0)
    yield "widths around 1000", ((1100, int(rng.integers(900, 1000)), 3, 5), float(rng.uniform(0.1, 0.6)))


@exercise(
    cases=_bound_cases,
    outputs=("a",),
    hints=(
        "draw a kernel with your a, send a leaky ReLU's output through it, and compare the mean squares",
        "three factors: the variance of U(-a, a), the number of terms in an output's sum, what a leaky ReLU keeps",
        "(3.4) with the right n, and (3.7) for two slopes: half of the values keep all, the others slope**2 of it",
    ),
    laws={"a**2 times the number of terms times what the leaky ReLU keeps is 3": lambda args, outputs: np.isclose(
        outputs[0] ** 2 * np.prod(args[0][1:]) * (1 + args[1] ** 2) / 2, 3, rtol=1e-9)},
    mistakes={
        "(-a, a) has the variance a**2 / 3, not a**2: that is the standard deviation, the bound is sqrt(3) times it": {
            "np.sqrt(3 / (n * kept))": "np.sqrt(1 / (n * kept))"},
        "(-a, a) is 2a wide, and its variance is (2a)**2 / 12 = a**2 / 3; you took the width for a": {
            "np.sqrt(3 / (n * kept))": "np.sqrt(12 / (n * kept))"},
        "that is the bound's square: take the root": {"np.sqrt(3 / (n * kept))": "3 / (n * kept)"},
        "one output is a sum over the in channels, which is the second of the shape, not over the out channels": {
            "_, channels": "channels, _"},
        "an output sums over all positions of the kernel too: n is in channels * height * width": {
            "channels * height * width": "channels"},
        "both sides of the kernel count, height and width": {"channels * height * width": "channels * height"},
        "the out channels belong to the backward pass; forward, n is in channels * height * width": {
            "channels * height * width": "np.prod(shape)"},
        "this would do for no activation: a leaky ReLU keeps less than all of the mean square": {
            "(1 + slope**2) / 2": "1"},
        "this is for a plain ReLU; the negative half is not lost, it keeps slope**2 of its mean square": {
            "(1 + slope**2) / 2": "1 / 2"},
        "the negative half is multiplied by slope, so its square by slope**2": {"slope**2": "slope"},
        "only half of the values are negative, and only half are positive: divide by 2": {
            "(1 + slope**2) / 2": "(1 + slope**2)"},
        "what is lost has to be made up for: divide by it": {"(n * kept)": "n * kept"},
        "0.3408 is for the variance of a ReLU's output; the next sum needs its mean square, with 1 / 2": {
            "(1 + slope**2) / 2": "(1 - 1 / np.pi) / 2 * (1 + slope**2)"},
    },
)
def uniform_bound(shape, slope):
    """The a for which W ~ U(-a, a) keeps the mean square of pre-activations.

    shape is (out channels, in channels, height, width) of the kernel; the
    input of the convolution is y where y > 0 and slope * y elsewhere, for y
    with a symmetric distribution.
    """
    _, channels, height, width = shape
    n = channels * height * width
    kept = (1 + slope**2) / 2
    return np.sqrt(3 / (n * kept))


def _lsuv_cases(seed=0):
    rng = np.random.default_rng(31 + 100 * seed)
    one = np.array([[2.0, 0.0], [0.0, 2.0], [2.0, 2.0]])
    yield "one layer, three samples", (np.array([[[1.0, 3.0], [0.5, -2.0]]]), one)
    yield "two layers", (rng.normal(0, [[[0.3]], [[2.0]]], (2, 4, 4)), rng.normal(1, 1, (6, 4)))
    yield "values around 1000", (rng.normal(0, [[[1.0]], [[0.1]], [[3.0]]], (3, 5, 5)), rng.normal(1000, 300, (7, 5)))


def _unit_std(args, outputs):
    h = args[1]
    for w in np.asarray(outputs[0]):
        z = h @ w
        if not np.isclose(z.std(), 1, rtol=1e-9):
            return False
        h = np.maximum(z, 0)
    return True


@exercise(
    cases=_lsuv_cases,
    outputs=("scaled",),
    hints=(
        "send x through the matrices that come out, and print z.std() of each layer: which is the first that is not 1?",
        "by what is W divided, and which activations does the second layer get: those of the old W, or of the new?",
        "z is linear in W: when W is divided by z.std(), z becomes z / z.std(), and that is what the next layer sees",
    ),
    laws={"all pre-activations of the scaled net have standard deviation 1": _unit_std},
    mistakes={
        ("W is divided by the variance: a matrix half as large has a quarter of the variance",
         "and the next layer still gets the old activations", "z is linear in W, so divide by z.std()"): {
            "W / z.std()": "W / z.var()", "z / z.std()": "z"},
        "W is divided by the variance, and z scales like W: divide by the standard deviation": {
            "W / z.std()": "W / z.var()"},
        "the next layer gets the activations of the old matrix: send those of the scaled one up": {"z / z.std()": "z"},
        "divide by the standard deviation in both places, not by the variance": {
            "W / z.std()": "W / z.var()", "z / z.std()": "z / z.var()"},
        "the net has a ReLU between the layers": {"np.maximum(z / z.std(), 0)": "z / z.std()"},
        "multiplied where it should be divided: a large std needs smaller weights": {
            "W / z.std()": "W * z.std()"},
        "that is the standard deviation of the ReLU's output; look at the pre-activations": {
            "W / z.std()": "W / np.maximum(z, 0).std()", "z / z.std()": "z / np.maximum(z, 0).std()"},
        "one number for the whole matrix: each column got its own, which is batch norm folded into the weights": {
            "W / z.std()": "W / z.std(axis=0)", "z / z.std()": "z / z.std(axis=0)"},
        "that is the root of the mean square; the task asks for the standard deviation, which subtracts the mean": {
            "W / z.std()": "W / np.sqrt(np.mean(z**2))", "z / z.std()": "z / np.sqrt(np.mean(z**2))"},
        "that is the std of the weights; what must become 1 is that of the pre-activations z": {
            "W / z.std()": "W / W.std()", "z / z.std()": "z / W.std()"},
        "the standard deviation divides by the number of entries, not by one less": {
            "W / z.std()": "W / z.std(ddof=1)", "z / z.std()": "z / z.std(ddof=1)"},
    },
)
def mended_lsuv(matrices, x):
    """The matrices, scaled so that z has standard deviation 1 in each layer.

    matrices is (K, D, D), one for each layer, and x is (N, D); a layer is
    z = h @ W, then a ReLU.
    """
    scaled, h = [], x
    for W in matrices:
        z = h @ W
        scaled.append(W / z.std())
        h = np.maximum(z / z.std(), 0)
    return np.array(scaled)


def _sizes_cases(seed=0):
    rng = np.random.default_rng(32 + 100 * seed)
    yield "two layers", ((2, 3, 5), (0.5, 1.0), 4)
    yield "equal widths, sigma 1/2", ((16, 16, 16, 16), (0.125, 0.125, 0.125), 10)
    yield "four layers, all different", ((7, 11, 4, 9, 3), tuple(rng.uniform(0.1, 0.9, 4)), 6)
    yield "widths around 1000", ((1000, 1300, 900, 1100), tuple(rng.uniform(0.01, 0.05, 3)), 1200)


def _neighbours(args, outputs):
    widths, stds, _ = args
    n, s, sizes = np.asarray(widths, float), np.asarray(stds, float), np.asarray(outputs[0], float)
    return np.allclose((sizes[:-1] / sizes[1:]) ** 2 * n[:-2] * s[:-1] ** 2, n[2:] * s[1:] ** 2, rtol=1e-9)


@exercise(
    cases=_sizes_cases,
    outputs=("sizes",),
    hints=(
        "draw one wide linear net, compute its dW by (3.2), and print their sizes beside yours",
        "an entry of dW is a sum over the samples of an activation below times a back-signal above: three factors",
        "(3.5) gives both mean squares: that of z of the layer below, and that of dz of this layer",
    ),
    laws={"two neighbours differ by what one of them gains backward and the other forward": _neighbours},
    mistakes={
        "dW is a sum over the samples, so its mean square grows with their number": {
            "np.sqrt(samples * h * dz)": "np.sqrt(h * dz)"},
        "the terms of the sum over samples are independent: their squares add, so the size grows with the root": {
            "np.sqrt(samples * h * dz)": "samples * np.sqrt(h * dz)"},
        "that is the mean square of dW; its size is the root": {"np.sqrt(samples * h * dz)": "samples * h * dz"},
        "dW of layer l takes the activations below it, h of layer l - 1; you took those that it makes itself": {
            "n[: k - 1] * s[: k - 1]": "n[:k] * s[:k]"},
        "dW of layer l takes dz of layer l itself; the factors of its own W come in below it only": {
            "n[k + 1 :] * s[k:]": "n[k:] * s[k - 1 :]"},
        "forward a sum has fan-in terms, the width below": {"n[: k - 1] * s[: k - 1]": "n[1:k] * s[: k - 1]"},
        "backward an input collects from the units above it: fan-out terms, not fan-in": {
            "n[k + 1 :] * s[k:]": "n[k:-1] * s[k:]"},
        "the widths count in both directions: each sum has as many terms as there are units": {
            "n[: k - 1] * s[: k - 1]": "s[: k - 1]", "n[k + 1 :] * s[k:]": "s[k:]"},
        "stds are standard deviations; a mean square takes their squares": {
            "np.square(stds)": "np.asarray(stds)"},
        "that is the forward half; dz shrinks or grows on the way down too": {
            "np.sqrt(samples * h * dz)": "np.sqrt(samples * h)"},
        "that is the backward half; the activations below belong to it": {
            "np.sqrt(samples * h * dz)": "np.sqrt(samples * dz)"},
    },
)
def weight_gradient_sizes(widths, stds, samples):
    """Root mean square of dW in each layer of a wide linear net: (K,).

    widths is (n_0, ..., n_K), stds the standard deviation of the weights of
    each of the K layers. x and the gradient on top, dz of the last layer,
    have independent entries of mean square 1; both have `samples` rows.
    """
    n, s = np.asarray(widths, float), np.square(stds)
    sizes = []
    for k in range(1, len(n)):
        h = np.prod(n[: k - 1] * s[: k - 1])
        dz = np.prod(n[k + 1 :] * s[k:])
        sizes.append(np.sqrt(samples * h * dz))
    return np.array(sizes)
