"""Exercises of chapter 1: internal covariate shift."""

import numpy as np

from ...exercises.engine import exercise


def _normal(seed, *shapes, dtype=float):
    """Arrays of normal numbers off centre, with a spread that is not 1."""
    rng = np.random.default_rng(seed)
    return tuple((0.3 + 1.4 * rng.standard_normal(shape)).astype(dtype) for shape in shapes)


def _gradient_cases():
    yield "two samples, one feature", (np.array([[1.0], [2.0]]), np.array([0.0, 1.0]), np.array([1.0]))
    yield "5 samples, 3 features", _normal(1, (5, 3), 5, 3)
    yield "7 samples, 2 features, float32", _normal(2, (7, 2), 7, 2, dtype=np.float32)


def _gradient_along_w(args, outputs):
    x, y, w = (a.astype(float) for a in args)
    return np.allclose(outputs[0] @ w, np.mean((x @ w - y) * (x @ w)), rtol=1e-3, atol=1e-5)


@exercise(
    cases=_gradient_cases,
    outputs=("gradient",),
    hints=(
        "the same samples twice make a batch twice as large, and must leave the gradient as it is",
        "sample i contributes (x_i . w - y_i) * x_i; the chain rule gives the second factor",
        "(1.2): the mean of the contributions, of the shape of w",
    ),
    laws={"gradient . w is the mean of (x_i . w - y_i) * (x_i . w)": _gradient_along_w},
    mistakes={
        "this is the sum over the batch: a batch twice as large would make a step twice as long": {" / len(x)": ""},
        "the mean runs over the samples; you divide by the number of features": {"len(x)": "x.shape[1]"},
        "the gradient points downhill; the gradient of a loss points uphill, and the step subtracts it": {
            "x @ w - y": "y - x @ w"},
        "the loss has a factor 1/2, which cancels the 2 of the square": {"x.T @ error": "2 * x.T @ error"},
        "only the first sample counts: the sum over the batch is missing": {"x.T @ error / len(x)": "x[0] * error[0]"},
        "the factor x_i of the chain rule is missing": {"x.T @ error": "w * error.sum()"},
    },
)
def batch_gradient(x, y, w):
    """Gradient, (D,), of the mean of (x_i . w - y_i)**2 / 2 over a batch.

    x is (m, D), a sample in each row; y is (m,); w is (D,).
    """
    error = x @ w - y
    return x.T @ error / len(x)


def _share_cases():
    yield "one unit, four samples", (np.array([[0.0], [2.0], [4.0], [-4.0]]), 0.05)
    yield "the steepest slope is not below itself", (np.array([[0.0, 1.0], [0.0, 0.0]]), 0.25)
    yield "3 units, 8 samples", (3 * _normal(3, (8, 3))[0], 0.05)
    yield "4 units, 10 samples", (3 * _normal(4, (10, 4))[0], 0.12)


@exercise(
    cases=_share_cases,
    outputs=("share",),
    hints=(
        "a unit that only ever gets 0 is as steep as it can be; its share is 0",
        "from z to the sigmoid a, from a to the slope; compare the slope, not a, and take the mean over the samples",
        "(1.7)",
    ),
    laws={"times the number of samples, a share is a whole number":
          lambda args, outputs: np.allclose(outputs[0] * len(args[0]), np.round(outputs[0] * len(args[0])), atol=1e-6)},
    mistakes={
        "you compare the sigmoid, not its slope: that misses the upper flat end": {"a * (1 - a)": "a"},
        "one number for each sample; each unit is asked for. Which axis are the samples?": {"axis=0": "axis=1"},
        "one number for all units together": {"mean(axis=0)": "mean()"},
        "these are the sigmoids that are not saturated": {"slope < threshold": "slope > threshold"},
        "a count, where a share of the samples is asked for": {"mean(axis=0)": "sum(axis=0)"},
        "1 - a**2 is the slope of tanh": {"a * (1 - a)": "1 - a**2"},
        "a slope that equals the threshold is not below it": {"slope < threshold": "slope <= threshold"},
    },
)
def saturated_share(z, threshold):
    """Share of the samples on which a unit's sigmoid has a slope below the threshold.

    z, what the sigmoids get, is (m, units); the shares are (units,).
    """
    a = 1 / (1 + np.exp(-z))
    slope = a * (1 - a)
    return (slope < threshold).mean(axis=0)


def _layers_cases():
    yield "one unit in each layer", (np.array([[1.0], [-2.0]]), np.array([[2.0]]), np.array([1.0]),
                                     np.array([[3.0]]), np.array([-1.0]))
    yield "4 samples, 3 inputs, 5 units, 2 units", _normal(12, (4, 3), (3, 5), 5, (5, 2), 2)
    yield "6 samples, 2 inputs, 4 units, 3 units, float32", _normal(13, (6, 2), (2, 4), 4, (4, 3), 3, dtype=np.float32)


def _within_reach(args, outputs):
    *_, w2, b2 = args
    low, high = np.minimum(w2, 0).sum(axis=0), np.maximum(w2, 0).sum(axis=0)
    return bool(np.all((outputs[0] - b2 > low - 1e-5) & (outputs[0] - b2 < high + 1e-5)))


@exercise(
    cases=_layers_cases,
    outputs=("z2",),
    hints=(
        "a sigmoid lies between 0 and 1, so z2 cannot leave a certain range, however large x is; the note's can",
        "x to z1, z1 through the sigmoid to a1, and a1, not z1, to z2",
        "(1.5) with l = 1 and l = 2",
    ),
    laws={"z2 - b2 lies between the sum of the negative and the sum of the positive weights that lead to it":
          _within_reach},
    mistakes={
        "this is the note's formula: layer 2 gets z1, and two layers are one affine map": {"a1 @ w2": "z1 @ w2"},
        "the bias of layer 1 is missing": {" + b1": ""},
        "the bias of layer 2 is missing": {" + b2": ""},
        "z2 comes before the second activation, not after it": {
            "return a1 @ w2 + b2": "return 1 / (1 + np.exp(-(a1 @ w2 + b2)))"},
        "this sigmoid falls: check the sign in the exponent": {"np.exp(-z1)": "np.exp(z1)"},
        "the activation is a sigmoid, not a tanh": {"1 / (1 + np.exp(-z1))": "np.tanh(z1)"},
        "the activation is a sigmoid, not a ReLU": {"1 / (1 + np.exp(-z1))": "np.maximum(z1, 0)"},
        "layer 1 has no activation on x itself: the sigmoid comes after the weights": {
            "x @ w1 + b1": "1 / (1 + np.exp(-x)) @ w1 + b1"},
    },
)
def second_pre_activation(x, w1, b1, w2, b2):
    """What the second activation of a network of sigmoids gets: z2, of shape (m, units2).

    x is (m, D); w1 (D, units1) and b1 (units1,); w2 (units1, units2) and b2 (units2,).
    """
    z1 = x @ w1 + b1
    a1 = 1 / (1 + np.exp(-z1))
    return a1 @ w2 + b2


def _drift_cases():
    (before,) = _normal(5, (4, 1))
    yield "one unit, moved up by 2", (before, before + 2)
    before, after = _normal(6, (9, 2), (9, 2))
    yield "2 units, one moves up and one down", (before, before + np.array([1.0, -1.5]))
    yield "2 units, each sample moves for itself", (before, after)
    yield "3 units, the samples in another order", (np.roll(_normal(7, (8, 3))[0], 3, axis=0), _normal(7, (8, 3))[0])
    yield "4 units, twice as wide", (_normal(8, (11, 4))[0], 2 * _normal(8, (11, 4))[0])


def _drift_by_percentile(args, outputs):
    before, after = args
    each = [np.mean([abs(np.percentile(a, p) - np.percentile(b, p)) for a, b in zip(before.T, after.T)])
            for p in (15, 50, 85)]
    return np.allclose(3 * outputs[0], sum(each), rtol=1e-3, atol=1e-6)


@exercise(
    cases=_drift_cases,
    outputs=("drift",),
    hints=(
        "the same samples in another order are the same distribution: the drift is 0",
        "percentiles over the samples, separately for each unit; then differences, then absolute values, then one mean",
        "(1.6), with before at step 0 and after at step t",
    ),
    laws={"three times the drift is what the three percentiles move, each on average over the units":
          _drift_by_percentile},
    mistakes={
        "units that move up and units that move down cancel: take absolute values before the mean": {"np.abs": ""},
        "the percentiles run over the units; each unit's distribution is the one over the samples": {
            "before, percent, axis=0": "before, percent, axis=1", "after, percent, axis=0": "after, percent, axis=1"},
        "one distribution for all units together: units that swap places would not be noticed": {
            "before, percent, axis=0": "before, percent", "after, percent, axis=0": "after, percent"},
        "these are quartiles; (1.6) takes 15, 50 and 85": {"15, 50, 85": "25, 50, 75"},
        "np.percentile counts to 100, np.quantile to 1: these are the percentiles 0.15, 0.5 and 0.85": {
            "15, 50, 85": "0.15, 0.5, 0.85"},
        "the means alone do not see a distribution that gets wider": {
            "np.percentile(before, percent, axis=0)": "before.mean(axis=0)",
            "np.percentile(after, percent, axis=0)": "after.mean(axis=0)"},
        "you compare sample by sample; a distribution does not know which sample is which": {
            "np.percentile(before, percent, axis=0)": "before", "np.percentile(after, percent, axis=0)": "after"},
        "the median alone does not see a distribution that gets wider": {"15, 50, 85": "50"},
        "a sum, where (1.6) has a mean": {".mean()": ".sum()"},
    },
)
def quantile_drift(before, after):
    """Drift of a layer, from what its units got before to what they get after.

    before and after are (m, units); the drift is one number.
    """
    percent = [15, 50, 85]
    q_before = np.percentile(before, percent, axis=0)
    q_after = np.percentile(after, percent, axis=0)
    return np.abs(q_after - q_before).mean()


def _line_cases():
    yield "three points, the last counts twice", (np.array([0.0, 1.0, 2.0]), np.array([0.0, 0.0, 3.0]),
                                                  np.array([1.0, 1.0, 2.0]))
    rng = np.random.default_rng(10)
    x = rng.normal(0.5, 0.5, 12)
    yield "12 points of the chapter's curve", (x, x**3 - x, np.exp(-(x**2) / 0.18 + (x - 0.5) ** 2 / 0.5) / 0.6)
    x, y = _normal(11, 7, 7)
    yield "7 points, one of weight 0", (x, y, np.array([0.0, 3.0, 0.5, 1.0, 2.0, 0.1, 0.7]))
    yield "float32", tuple(a.astype(np.float32) for a in (x, y, np.abs(y) + 0.5))


def _residuals_vanish(args, outputs):
    x, y, weight = (a.astype(float) for a in args)
    slope, intercept = outputs
    residual = weight * (y - slope * x - intercept)
    return np.allclose([residual.sum(), (residual * x).sum()], 0, atol=1e-4 * weight.sum())


@exercise(
    cases=_line_cases,
    outputs=("slope", "intercept"),
    hints=(
        "a point of weight 2 must do what two points of weight 1 at its place would do",
        "every mean is a weighted mean: of x, of y, of the products and of the squares",
        "(1.4): minimise the sum of weight_i * (y_i - slope * x_i - intercept)**2; set both derivatives to 0",
    ),
    laws={"the weighted residuals sum to 0, also when each is multiplied by its x": _residuals_vanish},
    mistakes={
        "the weights have no effect on your line": {"weight / weight.sum()": "np.ones_like(weight) / weight.size"},
        "the weights are squared; np.polyfit squares its own, this sum does not": {
            "weight / weight.sum()": "weight**2 / (weight**2).sum()"},
        "divide the weights by their sum, or the weighted means are no means": {"weight / weight.sum()": "weight"},
        "the mean of x has to be weighted too": {"(share * x).sum()": "x.mean()"},
        "the mean of y has to be weighted too": {"(share * y).sum()": "y.mean()"},
        "the means of x and y have to be weighted too": {
            "(share * x).sum()": "x.mean()", "(share * y).sum()": "y.mean()",
            "(share * (x - mean_x) * y).sum()": "(share * (x - mean_x) * (y - mean_y)).sum()"},
        "a slope is a covariance over a variance; this is over a standard deviation": {
            "(share * (x - mean_x) ** 2).sum()": "np.sqrt((share * (x - mean_x) ** 2).sum())"},
        "the line does not go through the weighted centre: check the sign in the intercept": {
            "mean_y - slope": "mean_y + slope"},
    },
)
def weighted_line(x, y, weight):
    """Slope and intercept of the weighted least squares line.

    It minimises the sum of weight * (y - slope * x - intercept)**2.
    x, y and weight are (n,), the weights not negative.
    """
    share = weight / weight.sum()
    mean_x, mean_y = (share * x).sum(), (share * y).sum()
    slope = (share * (x - mean_x) * y).sum() / (share * (x - mean_x) ** 2).sum()
    return slope, mean_y - slope * mean_x


def _shift_cases():
    yield "one unit, two samples", (np.array([[1.0], [0.5]]), np.array([1.0, 0.0]), np.array([[0.5]]),
                                    np.array([2.0]), 0.5)
    yield "5 samples, 3 inputs, 4 units", (*_normal(14, (5, 3), 5, (3, 4), 4), 0.3)
    yield "7 samples, 2 inputs, 3 units, float32", (*_normal(15, (7, 2), 7, (2, 3), 3, dtype=np.float32), 0.2)


@exercise(
    cases=_shift_cases,
    outputs=("before", "after", "shift"),
    hints=(
        "with lr = 0 nothing moves, and the shift must be 0",
        "three stages: both gradients at the old weights, one step of w1 alone, the gradient of w2 once more",
        "(1.13) with i = 2; by the chain rule dL/dw1 = x.T @ (error_i * w2 * (1 - a**2)) / m",
    ),
    laws={"the shift is the length of after - before":
          lambda args, outputs: np.allclose(outputs[2], np.linalg.norm(outputs[1] - outputs[0]), rtol=1e-3, atol=1e-6)},
    mistakes={
        "only the layer below moves: keep the old w2 in the second gradient": {
            "a_moved @ w2 - y": "a_moved @ (w2 - lr * before) - y"},
        "the step goes uphill": {"w1 - lr * dw1": "w1 + lr * dw1"},
        "the slope of tanh is missing in the gradient of w1": {" * (1 - a**2)": ""},
        "the second gradient needs the new activations in both places": {"a_moved.T @": "a.T @"},
        "the gradients are means over the batch, not sums": {
            "(a @ w2 - y) / len(x)": "a @ w2 - y", "(a_moved @ w2 - y) / len(x)": "(a_moved @ w2 - y)"},
        "the second gradient is a mean over the batch as well": {
            "(a_moved @ w2 - y) / len(x)": "(a_moved @ w2 - y)"},
        "the length of a vector is the root of the sum of squares, not the largest entry": {
            "np.linalg.norm(after - before)": "np.abs(after - before).max()"},
    },
)
def shifted_gradient(x, y, w1, w2, lr):
    """Shift of the second layer, by gradients: dL/dw2 before, after, their distance.

    The network is tanh(x @ w1) @ w2, the loss the mean of (output - y)**2 / 2.
    "After" means: w1 has taken its step of gradient descent with learning rate lr,
    and w2 has not.  x is (m, D), y (m,), w1 (D, units), w2 (units,).
    """
    a = np.tanh(x @ w1)
    error = (a @ w2 - y) / len(x)
    before = a.T @ error
    dw1 = x.T @ (np.outer(error, w2) * (1 - a**2))
    a_moved = np.tanh(x @ (w1 - lr * dw1))
    after = a_moved.T @ (a_moved @ w2 - y) / len(x)
    return before, after, np.linalg.norm(after - before)
