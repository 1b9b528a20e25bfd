"""Exercises of chapter 7: layer norm and RMS norm."""

import numpy as np

from ...exercises.engine import exercise
from ...standardize import standardize


def _vectors(seed, shape, *, mean=3.0, spread=2.0):
    """Vectors along the last axis that differ in mean and spread."""
    rng = np.random.default_rng(seed)
    each = (*shape[:-1], 1)
    return mean * rng.uniform(-2, 2, each) + spread * rng.uniform(0.5, 2, each) * rng.standard_normal(shape)


def _parameters(seed, size):
    """gamma with a negative entry, and beta, none of them 0 or 1."""
    rng = np.random.default_rng(seed)
    gamma = rng.uniform(0.5, 2.5, size)
    gamma[1:2] *= -1
    return gamma, rng.uniform(0.5, 1.5, size)


def _mended_cases(seed=0):
    yield "the vector of the issue", (np.array([[[1.0, 0.0, 0.0, 0.0]]]), np.ones(4), np.zeros(4), 1e-6)
    for k, shape, eps, name in [(1, (2, 4, 3), 1e-5, "2 sequences of 4 tokens"), (2, (4, 2, 5), 0.5, "eps matters")]:
        yield name, (_vectors(k + 100 * seed, shape), *_parameters(k + 100 * seed, shape[-1]), eps)
    yield "values around 1000", (1000 + _vectors(3 + 100 * seed, (3, 2, 6), spread=100),
                                 *_parameters(3 + 100 * seed, 6), 1e-5)


def _length_of_x_hat(args, outputs):
    x, gamma, beta, eps = args
    x_hat = (outputs[0] - beta) / gamma
    var = x.var(axis=-1)
    return np.allclose((x_hat**2).mean(axis=-1), var / (var + eps), rtol=1e-6, atol=1e-9)


@exercise(
    cases=_mended_cases,
    outputs=("y",),
    hints=(
        "take gamma = 1 and beta = 0: the mean square of each token's y must be almost 1",
        "look up what torch's std divides by, and where eps stands",
        "(7.1): the variance divides by D, and eps is added to it inside the root",
    ),
    laws={"the mean square of x_hat is var / (var + eps) for each token": _length_of_x_hat},
    mistakes={
        ("it still has both faults of the famous layer",
         "what does std divide by, and where does eps stand?",
         "(7.1): biased variance, eps inside the root"): {
            "x.var(axis=-1, keepdims=True)": "x.var(axis=-1, keepdims=True, ddof=1)",
            "np.sqrt(var + eps)": "(np.sqrt(var) + eps)"},
        "the variance divides by D, not by D - 1": {
            "x.var(axis=-1, keepdims=True)": "x.var(axis=-1, keepdims=True, ddof=1)"},
        "eps stands inside the root, added to the variance": {"np.sqrt(var + eps)": "(np.sqrt(var) + eps)"},
        "eps is missing: it is added to the variance, inside the root": {"var + eps": "var"},
        "eps is added, it is not a floor": {"var + eps": "np.maximum(var, eps)"},
        "the root is missing: divide by the standard deviation, not by the variance": {
            "np.sqrt(var + eps)": "(var + eps)"},
        "that is RMS norm: layer norm subtracts the mean": {
            "x.mean(axis=-1, keepdims=True)": "0.0",
            "x.var(axis=-1, keepdims=True)": "(x**2).mean(axis=-1, keepdims=True)"},
        "the mean is subtracted in the variance, and must be in x as well": {"(x - mu)": "x"},
        "each token has its own statistics: the sequence axis does not belong to them": {
            "x.mean(axis=-1, keepdims=True)": "x.mean(axis=(1, 2), keepdims=True)",
            "x.var(axis=-1, keepdims=True)": "x.var(axis=(1, 2), keepdims=True)"},
        "that is batch norm: statistics run over the features, not over sequences and tokens": {
            "x.mean(axis=-1, keepdims=True)": "x.mean(axis=(0, 1), keepdims=True)",
            "x.var(axis=-1, keepdims=True)": "x.var(axis=(0, 1), keepdims=True)"},
        "gamma scales x_hat only; beta is added afterwards": {
            "gamma * (x - mu) / np.sqrt(var + eps) + beta": "gamma * ((x - mu) / np.sqrt(var + eps) + beta)"},
        "beta is missing": {" + beta": " + 0 * beta"},
        "gamma is missing": {"gamma * (x": "(x"},
    },
)
def mended_layer_norm(x, gamma, beta, eps):
    """Layer norm over the last axis, as in (7.1).

    x is (B, T, D), gamma and beta are (D,).
    """
    mu = x.mean(axis=-1, keepdims=True)
    var = x.var(axis=-1, keepdims=True)
    return gamma * (x - mu) / np.sqrt(var + eps) + beta


def _translation_cases(seed=0):
    W = np.array([[1.0, 0.0, 2.0], [0.0, 4.0, 2.0]])
    yield "by hand: 2 inputs, 3 features, 1 output", (
        W, np.array([3.0, 0.0, 0.0]), np.array([2.0, 1.0, -1.0]), np.array([1.0, 0.0, 1.0]),
        np.array([[1.0], [1.0], [2.0]]), np.array([0.5]))
    for k, (K, D, M), size, name in [(4, (3, 5, 2), 1, "3 inputs, 5 features, 2 outputs"),
                                     (5, (5, 2, 4), 1, "5 inputs, 2 features, 4 outputs"),
                                     (6, (2, 4, 3), 1000, "values around 1000")]:
        rng = np.random.default_rng(k + 100 * seed)
        gamma, beta = _parameters(k + 100 * seed, D)
        yield name, (size * rng.uniform(-1, 2, (K, D)), size * rng.uniform(0.5, 2, D), gamma, beta,
                     rng.uniform(-1, 2, (D, M)), rng.uniform(0.5, 2, M))


def _same_function(args, outputs):
    W, b, gamma, beta, V, c = args
    u = np.random.default_rng(0).standard_normal((7, len(W)))
    old = (gamma * standardize(u @ W + b, (1,), eps=1e-5)[0] + beta) @ V + c
    new = standardize(u @ outputs[0] + outputs[1], (1,), center=False, eps=1e-5)[0] @ outputs[2] + outputs[3]
    return np.allclose(new, old, rtol=1e-7, atol=1e-7)


@exercise(
    cases=_translation_cases,
    outputs=("W_new", "b_new", "V_new", "c_new"),
    hints=(
        "try your arrays on a random u: which half is off, what is written or what is read?",
        "the projection P can be applied to each row of W, and gamma to each row of V",
        "(7.7) for W and b; then (gamma * x_hat + beta) @ V, multiplied out, for V and c",
    ),
    laws={"for random u the two networks give the same output": _same_function,
          "what is written has mean 0 over the features": lambda args, outputs: np.allclose(
              outputs[0].mean(axis=1), 0, atol=1e-9 * (1 + np.abs(args[0]).max()))
          and np.allclose(outputs[1].mean(), 0, atol=1e-9 * (1 + np.abs(args[1]).max()))},
    mistakes={
        ("W is centred along the wrong axis: the features of x are its columns",
         "for each input the mean over the features has to go",
         "(7.7): each row of W minus its own mean"): {"W.mean(axis=1, keepdims=True)": "W.mean(axis=0)"},
        "W has one mean for everything; each row has its own": {"W.mean(axis=1, keepdims=True)": "W.mean()"},
        "W is as it was: RMS norm does not subtract the mean, so W has to": {
            "W - W.mean(axis=1, keepdims=True)": "1 * W"},
        "b is a part of x as well: its mean has to go": {"b - b.mean()": "1 * b"},
        "b is not dropped: only its mean is idle": {"b - b.mean()": "0 * b"},
        "gamma is missing in V": {"gamma[:, None] * V": "1 * V"},
        "gamma belongs to the features, the rows of V, not to its columns": {
            "gamma[:, None] * V": "np.resize(gamma, V.shape[1]) * V"},
        "gamma stays on the far side of the norm: it goes into V, not into W": {
            "W - W.mean(axis=1, keepdims=True)": "gamma * (W - W.mean(axis=1, keepdims=True))",
            "gamma[:, None] * V": "1 * V"},
        "gamma divides nothing: y = gamma * x_hat, so V is multiplied by it": {
            "gamma[:, None] * V": "V / gamma[:, None]"},
        "beta is added after gamma, so it meets the old V, not the new one": {
            "c + beta @ V": "c + beta @ (gamma[:, None] * V)"},
        "beta is missing: it reaches the output through V": {"c + beta @ V": "1 * c"},
        "c is missing: it stays, and beta @ V is added": {"c + beta @ V": "beta @ V"},
    },
)
def as_rms_net(W, b, gamma, beta, V, c):
    """New W, b, V and c: rms_norm(u @ W + b) @ V + c is the old output.

    W is (K, D), b, gamma and beta are (D,), V is (D, M), c is (M,).
    """
    W_new = W - W.mean(axis=1, keepdims=True)
    b_new = b - b.mean()
    V_new = gamma[:, None] * V
    c_new = c + beta @ V
    return W_new, b_new, V_new, c_new


def _pixel_cases(seed=0):
    yield "one image, two channels, two pixels", (
        np.array([[[[1.0, 5.0]], [[3.0, 2.0]]]]), np.array([2.0, -1.0]), np.array([0.5, 3.0]), 1e-5)
    for k, shape, eps, name in [(7, (2, 3, 4, 5), 1e-5, "3 channels"), (8, (3, 5, 2, 4), 0.5, "eps matters")]:
        x = np.moveaxis(_vectors(k + 100 * seed, (shape[0], *shape[2:], shape[1])), -1, 1)
        yield name, (x, *_parameters(k + 100 * seed, shape[1]), eps)
    x = 1000 + np.moveaxis(_vectors(9 + 100 * seed, (2, 4, 3, 5), spread=100), -1, 1)
    yield "values around 1000", (x, *_parameters(9 + 100 * seed, 5), 1e-5)


@exercise(
    cases=_pixel_cases,
    outputs=("y",),
    hints=(
        "for gamma = 1 and beta = 0 each y[n, :, h, w] must have mean 0",
        "a pixel's vector of features is its channels: which axis is that?",
        "(7.1) with D = C, and gamma and beta of shape (C, 1, 1)",
    ),
    laws={"(y - beta) / gamma has mean 0 at each pixel": lambda args, outputs: np.allclose(
        ((outputs[0] - args[2][:, None, None]) / args[1][:, None, None]).mean(axis=1), 0, rtol=0, atol=1e-9)},
    mistakes={
        ("one mean for a whole image: that is the layer norm of the well-known picture",
         "here each pixel has its own statistics",
         "(7.1): D is the number of channels, axis 1"): {
            "x.mean(axis=1, keepdims=True)": "x.mean(axis=(1, 2, 3), keepdims=True)",
            "x.var(axis=1, keepdims=True)": "x.var(axis=(1, 2, 3), keepdims=True)"},
        "that is instance norm: it shares statistics over the pixels of a channel": {
            "x.mean(axis=1, keepdims=True)": "x.mean(axis=(2, 3), keepdims=True)",
            "x.var(axis=1, keepdims=True)": "x.var(axis=(2, 3), keepdims=True)"},
        "that is batch norm: here no pixel may see another": {
            "x.mean(axis=1, keepdims=True)": "x.mean(axis=(0, 2, 3), keepdims=True)",
            "x.var(axis=1, keepdims=True)": "x.var(axis=(0, 2, 3), keepdims=True)"},
        "the last axis of an image is its width; channels are axis 1": {
            "x.mean(axis=1, keepdims=True)": "x.mean(axis=-1, keepdims=True)",
            "x.var(axis=1, keepdims=True)": "x.var(axis=-1, keepdims=True)"},
        "gamma and beta of shape (C,) meet the LAST axis; they need the shape (C, 1, 1)": {
            "gamma[:, None, None]": "np.resize(gamma, x.shape[-1])", "beta[:, None, None]":
                "np.resize(beta, x.shape[-1])"},
        "the variance divides by C, not by C - 1": {
            "x.var(axis=1, keepdims=True)": "x.var(axis=1, keepdims=True, ddof=1)"},
        "eps stands inside the root, added to the variance": {"np.sqrt(var + eps)": "(np.sqrt(var) + eps)"},
        "eps is missing: it is added to the variance, inside the root": {"var + eps": "var"},
        "that is RMS norm: subtract the mean over the channels": {
            "x.mean(axis=1, keepdims=True)": "0.0",
            "x.var(axis=1, keepdims=True)": "(x**2).mean(axis=1, keepdims=True)"},
        "the mean is subtracted in the variance, and must be in x as well": {"(x - mu)": "x"},
        "beta is missing": {" + beta[:, None, None]": " + 0 * beta[:, None, None]"},
    },
)
def pixel_layer_norm(x, gamma, beta, eps):
    """Layer norm over the channels, at each pixel of each image by itself.

    x is (N, C, H, W), gamma and beta are (C,).
    """
    mu = x.mean(axis=1, keepdims=True)
    var = x.var(axis=1, keepdims=True)
    x_hat = (x - mu) / np.sqrt(var + eps)
    return gamma[:, None, None] * x_hat + beta[:, None, None]
