"""Exercises of chapter 10: filter response norm and TLU."""

import numpy as np

from ...exercises.engine import exercise

# 10.1: sequences of different length


def _padded(rng, channels, lengths, *, mean=1.0, spread=2.0):
    """Sequences off centre, each channel with a scale of its own, zeros behind their ends."""
    x = mean + spread * rng.uniform(0.5, 2, (channels, 1)) * rng.standard_normal((len(lengths), channels, max(lengths)))
    return x * (np.arange(max(lengths)) < np.reshape(lengths, (-1, 1, 1))), np.array(lengths)


def _sequences_cases(seed=0):
    rng = np.random.default_rng(1010 + 100 * seed)
    yield "lengths 1 and 4, one channel", (np.array([[[3.0, 0, 0, 0]], [[1.0, 2, 3, 4]]]), np.array([1, 4]), 1e-6)
    yield "3 sequences, 2 channels", (*_padded(rng, 2, [5, 2, 3]), 1e-6)
    yield "eps matters", (*_padded(rng, 3, [2, 7, 4, 1], spread=0.5), 0.7)
    yield "values around 1000", (*_padded(rng, 2, [3, 6], mean=1000, spread=300), 1e-6)


def _sequences_law(args, outputs):
    x, lengths, eps = args
    for each, row, n in zip(outputs[0], x, lengths, strict=True):
        square = (row[:, :n] ** 2).mean(1)
        if not np.allclose((each[:, :n] ** 2).mean(1), square / (square + eps), rtol=1e-9):
            return False
    return True


@exercise(
    cases=_sequences_cases,
    outputs=("x_hat",),
    hints=(
        "cut one sequence at its end: what you compute for it must not change",
        "the zeros of the padding add nothing to a sum of squares; to what do they add something?",
        "(10.1), with the number of valid positions in place of H W: divide the sum by lengths[n]",
    ),
    laws={"over its valid positions each channel of each sequence has a mean square of nu2 / (nu2 + eps)":
          _sequences_law},
    mistakes={
        ("the padding counts in your mean: the longer the others, the smaller nu2 of a short sequence",
         "mean(axis=2) divides by T for every sequence, and a short one has fewer values",
         "(10.1): divide the sum of squares by lengths, one number for each sequence"): {
            "/ lengths[:, None, None]": "/ x.shape[2]"},
        "nu2 is a mean square; this is a sum, which grows with the length": {" / lengths[:, None, None]": ""},
        "each sequence has its own length; yours is the mean of all": {"lengths[:, None, None]": "lengths.mean()"},
        "the channels share your nu2; each has its own": {
            "(x**2).sum(axis=2, keepdims=True)": "(x**2).mean(axis=1, keepdims=True).sum(axis=2, keepdims=True)"},
        "the sequences share your nu2: this layer never looks at another sample": {
            "(x**2).sum(axis=2, keepdims=True)": "(x**2).mean(axis=0, keepdims=True).sum(axis=2, keepdims=True)"},
        "the channels share your nu2, and the padding counts in it: you take the mean over both axes": {
            "(x**2).sum(axis=2, keepdims=True) / lengths[:, None, None]": "(x**2).mean(axis=(1, 2), keepdims=True)"},
        "no mean is subtracted: that would be instance norm": {
            "x / np.sqrt(nu2 + eps)":
                "(x - x.sum(axis=2, keepdims=True) / lengths[:, None, None]) / np.sqrt(nu2 + eps)"},
        "the squares are those of x itself, not of its distance from the mean: that would be instance norm": {
            "(x**2).sum(axis=2, keepdims=True)":
                "((x - x.mean(axis=2, keepdims=True)) ** 2).sum(axis=2, keepdims=True)"},
        "the mean of the squares, not of the absolute values": {
            "(x**2).sum(axis=2, keepdims=True) / lengths[:, None, None]":
                "(np.abs(x).sum(axis=2, keepdims=True) / lengths[:, None, None]) ** 2"},
        "eps is missing: it is added to nu2, inside the root": {"nu2 + eps": "nu2"},
        "eps belongs inside the root": {"np.sqrt(nu2 + eps)": "(np.sqrt(nu2) + eps)"},
        "eps is added to the mean square, not to the sum": {
            "(x**2).sum(axis=2, keepdims=True)": "((x**2).sum(axis=2, keepdims=True) + eps)", "nu2 + eps": "nu2"},
        "the root is missing: nu2 is a mean square": {"np.sqrt(nu2 + eps)": "(nu2 + eps)"},
    },
)
def frn_of_sequences(x, lengths, eps):
    """x_hat of filter response norm over the valid positions.

    x is (N, C, T), floating, x_hat has its shape; lengths is (N,), whole
    numbers of at least 1: x[n, :, lengths[n]:] is padding, and 0. eps > 0.
    """
    nu2 = (x**2).sum(axis=2, keepdims=True) / lengths[:, None, None]
    return x / np.sqrt(nu2 + eps)


# 10.3: the threshold folded away


def _threshold_cases(seed=0):
    rng = np.random.default_rng(1030 + 100 * seed)
    yield "one channel", (np.array([1.0]), np.array([-0.5]), np.array([[2.0, -3.0]]), np.array([10.0, 20.0]))
    for channels, outputs, size, name in [(3, 2, 1, "3 channels, 2 outputs"), (4, 4, 1, "4 channels, 4 outputs"),
                                          (2, 5, 1000, "values around 1000")]:
        tau = size * rng.uniform(0.3, 2, channels) * rng.choice([-1, 1], channels)
        tau[:2] = -abs(tau[0]), abs(tau[1])
        yield name, (size * rng.normal(0.5, 1, channels), tau, rng.normal(0.3, 1, (channels, outputs)),
                     size * rng.normal(0, 1, outputs))


def _threshold_law(args, outputs):
    beta, tau, weight, bias = args
    y_hat = (1 + np.abs(tau).max()) * np.random.default_rng(0).standard_normal((50, len(beta)))
    before = np.maximum(y_hat + beta, tau) @ weight + bias
    return np.allclose(np.maximum(y_hat + outputs[0], 0) @ weight + outputs[1], before, rtol=1e-9, atol=1e-9)


@exercise(
    cases=_threshold_cases,
    outputs=("beta", "bias"),
    hints=(
        "draw some y_hat and compare the two sides: they must agree for every one",
        "two steps: the shift in front of the ReLU, then what the constant behind it does in the linear layer",
        "(10.6): y - tau = y_hat + (beta - tau), and tau @ weight is a constant vector",
    ),
    laws={"for every y_hat the ReLU with these gives what the TLU gave": _threshold_law},
    mistakes={
        ("in front of the ReLU tau is subtracted: the floor must come to lie at 0",
         "where y_hat + beta = tau, the new ReLU must get 0",
         "(10.6): the ReLU gets y - tau"): {"beta - tau": "beta + tau"},
        ("the constant behind the ReLU is lost: the linear layer multiplies tau by its weights",
         "at the floor TLU hands tau to the linear layer, and the ReLU hands it 0",
         "(10.6): tau @ weight belongs to the bias"): {"bias + tau @ weight": "bias"},
        "beta has not moved: with it the floor of the ReLU is in another place": {"beta - tau": "beta"},
        "tau comes back with a plus: the ReLU's floor is 0, and TLU's is tau": {"bias + tau @ weight":
            "bias - tau @ weight"},
        "the constant passes through the weights before it meets the bias": {"tau @ weight": "tau.sum()"},
        "each channel has its own tau and its own row of weights; you have taken one tau for all": {
            "tau @ weight": "tau.mean() * weight.sum(axis=0)"},
        "a negative tau counts as well: TLU lets numbers below 0 through": {
            "tau @ weight": "np.maximum(tau, 0) @ weight"},
        "weight is (C, K), so tau comes first: weight @ tau sums over the outputs (it runs only where C = K)": {
            "tau @ weight": "weight @ tau"},
        "the constant is tau, not beta - tau": {"tau @ weight": "(beta - tau) @ weight"},
        "the constant is tau; beta stays in front of the ReLU": {"tau @ weight": "(tau + beta) @ weight"},
        "only the constant comes back: the bias of the linear layer is added to it": {"bias + tau": "tau"},
    },
)
def without_threshold(beta, tau, weight, bias):
    """The new beta and bias, so that a ReLU does what the TLU did.

    Before: max(y_hat + beta, tau) @ weight + bias, after: with max(., 0).
    beta and tau are (C,), weight is (C, K), bias is (K,).
    """
    return beta - tau, bias + tau @ weight


# 10.4: the backward pass, mended


def _dx_cases(seed=0):
    rng = np.random.default_rng(1040 + 100 * seed)
    dz = np.zeros((1, 1, 2, 2))
    dz[0, 0, 0, 1] = 1.0
    yield "one map of four values, one entry of dz", (
        dz, np.array([[[[4.0, 1.0], [2.0, -3.0]]]]), np.array([2.0]), np.array([-1.0]), np.array([-0.5]),
        np.array([1e-6]))
    for shape, size, eps, name in [((2, 3, 2, 4), 1, 1e-6, "2 samples, 3 channels"),
                                   ((3, 2, 4, 2), 1, 2.0, "eps matters"),
                                   ((2, 4, 3, 2), 1000, 1e-6, "values around 1000")]:
        channels = (shape[1], 1, 1)
        x = size * (1 + rng.uniform(0.5, 2, channels) * rng.standard_normal(shape))
        gamma = rng.uniform(0.5, 2, shape[1])
        gamma[1::3] *= -1
        tau = rng.uniform(0.2, 0.8, shape[1])
        tau[::2] *= -1
        yield name, (size * (rng.standard_normal(shape) + 0.5), x, gamma, rng.normal(0, 0.5, shape[1]), tau,
                     eps * rng.uniform(0.5, 2, shape[1]))


def _dx_law(args, outputs):
    """Stretching a map costs nothing for eps = 0; for any eps, sum(x dx) = eps / (nu2 + eps) sum(dx_hat x_hat)."""
    dz, x, gamma, beta, tau, eps = args
    eps, gamma, beta, tau = (v[:, None, None] for v in (eps, gamma, beta, tau))
    nu2 = (x**2).mean((2, 3), keepdims=True)
    x_hat = x / np.sqrt(nu2 + eps)
    dx_hat = gamma * dz * (gamma * x_hat + beta > tau)
    right = (eps / (nu2 + eps) * dx_hat * x_hat).sum((2, 3))
    return np.allclose((outputs[0] * x).sum((2, 3)), right, rtol=0, atol=1e-9 * (1 + np.abs(outputs[0] * x).max()))


@exercise(
    cases=_dx_cases,
    outputs=("dx",),
    hints=(
        "nudge one entry of x and compare the change of sum(dz * z) with your dx",
        "which roads lead from x to z: is a mean subtracted anywhere? And where is the floor?",
        "(10.8) first, with the floor tau; then (10.9), which has one mean and not two",
    ),
    laws={"for each map sum(x * dx) is eps / (nu2 + eps) times the sum of dx_hat * x_hat": _dx_law},
    mistakes={
        ("the floor is tau, not 0: between them entries pass, or do not, against your mask",
         "an entry passes its gradient on if y is above tau",
         "(10.8): compare y with tau"): {"> tau[:, None, None]": "> 0"},
        ("the forward pass subtracts no mean, so there is no road by the mean",
         "subtracting the mean of dx_hat belongs to instance norm",
         "(10.9) has one mean, that of dx_hat * x_hat"): {
            "(dx_hat - x_hat * along)": "(dx_hat - dx_hat.mean(axis=(2, 3), keepdims=True) - x_hat * along)"},
        "no entry is held at the floor: the mask of TLU is missing": {" * above": ""},
        "upside down: entries above the floor pass, those at the floor send their gradient to tau": {
            "beta[:, None, None] > tau": "beta[:, None, None] <= tau"},
        "y is compared with tau, not x_hat: gamma and beta come before TLU": {
            "gamma[:, None, None] * x_hat + beta[:, None, None] > tau": "x_hat > tau"},
        "y is compared with tau, not x: gamma and beta come before TLU": {
            "gamma[:, None, None] * x_hat + beta[:, None, None] > tau": "x > tau"},
        "beta is missing in the comparison with tau": {
            "x_hat + beta[:, None, None] > tau": "x_hat > tau"},
        "gamma is missing: y = gamma * x_hat + beta": {"gamma[:, None, None] * dz": "dz"},
        "only the straight road: nu2 has been held constant": {" - x_hat * along": ""},
        "the road by nu2 lowers dx: its sign is negative": {"- x_hat * along": "+ x_hat * along"},
        "the mean over the map divides by H W; this is a sum": {
            "(dx_hat * x_hat).mean(axis=(2, 3), keepdims=True)": "(dx_hat * x_hat).sum(axis=(2, 3), keepdims=True)"},
        "what is removed points along x_hat; yours points along x": {"- x_hat * along": "- x * along"},
        "what is removed must point along x_hat: multiply the number by x_hat": {"x_hat * along": "along"},
        "the factor inv_rms is missing: dx is in units of 1 / x": {"inv_rms * (dx_hat": "(dx_hat"},
        "one inv_rms is enough": {"inv_rms * (dx_hat": "inv_rms**2 * (dx_hat"},
        "gamma counts once: it is in dx_hat already": {
            "return inv_rms * (dx_hat": "return gamma[:, None, None] * inv_rms * (dx_hat"},
        "eps is missing: it is added to nu2, inside the root": {"nu2 + eps[:, None, None]": "nu2"},
        "nu2 is the mean square of x itself: this is the variance": {
            "(x**2).mean(axis=(2, 3), keepdims=True)": "x.var(axis=(2, 3), keepdims=True)"},
        "nu2 is a mean square, not a sum": {
            "(x**2).mean(axis=(2, 3), keepdims=True)": "(x**2).sum(axis=(2, 3), keepdims=True)"},
        "the samples share your nu2; each map has its own": {
            "(x**2).mean(axis=(2, 3), keepdims=True)": "(x**2).mean(axis=(0, 2, 3), keepdims=True)"},
        "the channels share your nu2; each map has its own": {
            "(x**2).mean(axis=(2, 3), keepdims=True)": "(x**2).mean(axis=(1, 2, 3), keepdims=True)"},
        "the mask comes first: what is held at the floor has no part in the mean, but gets its share of the rest": {
            " * above": "", "(dx_hat - x_hat * along)": "(dx_hat - x_hat * along) * above"},
        "what is held at the floor still moves the others by nu2: it gets a dx too": {
            "return inv_rms * (dx_hat - x_hat * along)": "return inv_rms * (dx_hat - x_hat * along) * above"},
    },
)
def frn_tlu_dx(dz, x, gamma, beta, tau, eps):
    """dx of filter response norm followed by TLU.

    dz and x are (N, C, H, W); gamma, beta, tau and eps are (C,), eps > 0;
    dz is dL/dz.
    """
    nu2 = (x**2).mean(axis=(2, 3), keepdims=True)
    inv_rms = 1 / np.sqrt(nu2 + eps[:, None, None])
    x_hat = x * inv_rms
    above = gamma[:, None, None] * x_hat + beta[:, None, None] > tau[:, None, None]
    dx_hat = gamma[:, None, None] * dz * above
    along = (dx_hat * x_hat).mean(axis=(2, 3), keepdims=True)
    return inv_rms * (dx_hat - x_hat * along)
