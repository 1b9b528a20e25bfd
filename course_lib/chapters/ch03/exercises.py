"""Exercises of chapter 3: weight initialization."""

import numpy as np

from ...exercises.engine import exercise


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
        ("n is the average of fan-in and fan-out here, Glorot's compromise; to keep the forward signal, take fan-in",
         "one output sums over in channels * height * width values, however many outputs there are",
         "(3.4) with n in channels * height * width"): {
            "n = channels * height * width": "n = (shape[0] + channels) * height * width / 2"},
        "the variances for fan-in and fan-out are averaged here; the forward signal depends on fan-in alone": {
            "n = channels * height * width": "n = 2 / (1 / channels + 1 / shape[0]) * height * width"},
        "that is the order of Keras, (height, width, in, out); here the shape is (out, in, height, width)": {
            "_, channels, height, width = shape": "height, width, channels, _ = shape"},
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


def _start_cases(seed=0):
    rng = np.random.default_rng(31 + 100 * seed)
    one = np.array([[2.0, 0.0], [0.0, 2.0], [2.0, 2.0]])
    yield "one layer, three samples", (np.array([[[1.0, 3.0], [0.5, -2.0]]]), one)
    yield "two layers", (rng.normal(0, [[[0.3]], [[2.0]]], (2, 4, 4)), rng.normal(1, 1, (6, 4)))
    yield "values around 1000", (rng.normal(0, [[[1.0]], [[0.1]], [[3.0]]], (3, 5, 5)), rng.normal(1000, 300, (17, 5)))


def _each_unit_is_standard(args, outputs):
    h = args[1]
    for w, b in zip(*map(np.asarray, outputs)):
        z = h @ w + b
        if not (np.allclose(z.mean(axis=0), 0, atol=1e-8) and np.allclose(z.std(axis=0), 1, rtol=1e-8)):
            return False
        h = np.maximum(z, 0)
    return True


@exercise(
    cases=_start_cases,
    outputs=("scaled", "biases"),
    hints=(
        "send x through what comes out, and print z.mean(axis=0) and z.std(axis=0) of each layer: what is not 0 and 1?",
        "W is scaled before the bias is added: which mean must the bias take off? And what does the next layer get?",
        "(z - mean) / std = h @ (W / std) + bias for each unit; read off the bias, and send the left side on",
    ),
    laws={"each pre-activation of the new net has mean 0 and standard deviation 1": _each_unit_is_standard},
    mistakes={
        ("each bias takes off the mean of the old z, but it is added to the scaled one",
         "and the next layer still gets activations without the bias",
         "(z - mean) / std = h @ (W / std) - mean / std"): {
            "-z.mean(axis=0) / std": "-z.mean(axis=0)", "(z - z.mean(axis=0)) / std": "z / std"},
        "each bias takes off the mean of the old z; the scaled z has the mean z.mean(axis=0) / std": {
            "-z.mean(axis=0) / std": "-z.mean(axis=0)"},
        "the next layer gets activations without the bias: send those of the new layer up": {
            "(z - z.mean(axis=0)) / std": "z / std"},
        "the next layer gets the activations of the old matrix: send those of the new layer up": {
            "(z - z.mean(axis=0)) / std": "z"},
        ("one number for the whole layer, as in LSUV; here each unit, a column of z, has its own",
         "the samples are the rows of z", "z.std(axis=0) and z.mean(axis=0)"): {
            "std = z.std(axis=0)": "std = z.std()"},
        "each bias takes off the mean of the old z, in what comes out and in what is sent on": {
            "-z.mean(axis=0) / std": "-z.mean(axis=0)", "(z - z.mean(axis=0)) / std": "z / std - z.mean(axis=0)"},
        "that is LSUV: one number for the layer, and no bias; here each unit, a column of z, has both of its own": {
            "std = z.std(axis=0)": "std = z.std()", "-z.mean(axis=0) / std": "0 * z[0]",
            "(z - z.mean(axis=0)) / std": "z / std"},
        "one mean and one standard deviation for the whole layer; each unit, a column of z, has its own": {
            "std = z.std(axis=0)": "std = z.std()", "-z.mean(axis=0) / std": "np.full(len(W), -z.mean() / std)",
            "(z - z.mean(axis=0)) / std": "(z - z.mean()) / std"},
        "the mean is to be taken off: the bias needs a minus": {
            "-z.mean(axis=0) / std": "z.mean(axis=0) / std",
            "(z - z.mean(axis=0)) / std": "(z + z.mean(axis=0)) / std"},
        "the sign of the bias: it takes the mean off": {"-z.mean(axis=0) / std": "z.mean(axis=0) / std"},
        "there is no bias yet: with the scale alone each unit keeps its mean": {
            "-z.mean(axis=0) / std": "0 * std", "(z - z.mean(axis=0)) / std": "z / std"},
        "divided by the variance: z is linear in W, so divide by the standard deviation": {
            "std = z.std(axis=0)": "std = z.var(axis=0)"},
        "that is the root of the mean square; the standard deviation subtracts the mean": {
            "std = z.std(axis=0)": "std = np.sqrt(np.mean(z**2, axis=0))"},
        "measured behind the ReLU: it is the pre-activation z that should have standard deviation 1": {
            "std = z.std(axis=0)": "std = np.maximum(z, 0).std(axis=0)"},
        "mean and standard deviation were measured behind the ReLU; it is the pre-activation z that counts": {
            "z = h @ W": "z = np.maximum(h @ W, 0)"},
        "the net has a ReLU between the layers, and none is taken while you measure": {
            "np.maximum((z - z.mean(axis=0)) / std, 0)": "(z - z.mean(axis=0)) / std"},
        "tanh is left over from the chapter's net; this one has ReLUs between its layers": {
            "np.maximum((z - z.mean(axis=0)) / std, 0)": "np.tanh((z - z.mean(axis=0)) / std)"},
        "multiplied where it should be divided: a large std needs smaller weights": {"W / std": "W * std"},
        "that is the standard deviation of the weights; what must become 1 is that of the pre-activations z": {
            "std = z.std(axis=0)": "std = W.std(axis=0)"},
        "the standard deviation divides by the number of samples, not by one less": {
            "std = z.std(axis=0)": "std = z.std(axis=0, ddof=1)"},
    },
)
def unit_start(matrices, x):
    """Weights and biases with which each pre-activation has mean 0, std 1.

    matrices is (K, D, D), one for each layer, and x is (N, D); a layer is
    z = h @ W + b, then a ReLU. Returns the scaled matrices, which keep the
    directions of their columns, and the biases, (K, D).
    """
    scaled, biases, h = [], [], x
    for W in matrices:
        z = h @ W
        std = z.std(axis=0)
        scaled.append(W / std)
        biases.append(-z.mean(axis=0) / std)
        h = np.maximum((z - z.mean(axis=0)) / std, 0)
    return np.array(scaled), np.array(biases)
