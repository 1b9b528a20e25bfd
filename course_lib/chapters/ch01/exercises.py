"""Exercises of chapter 1: internal covariate shift."""

import numpy as np

from ...exercises.engine import exercise


def _normal(seed, *shapes, dtype=float):
    """Arrays of normal numbers off centre, with a spread that is not 1."""
    rng = np.random.default_rng(seed)
    return tuple((0.3 + 1.4 * rng.standard_normal(shape)).astype(dtype) for shape in shapes)


def _line_cases(seed=0):
    yield "three points, the last counts twice", (np.array([0.0, 1.0, 2.0]), np.array([0.0, 0.0, 3.0]),
                                                  np.array([1.0, 1.0, 2.0]))
    rng = np.random.default_rng(10 + 100 * seed)
    x = rng.normal(0.5, 0.5, 12)
    yield "12 points of the chapter's curve", (x, x**3 - x, np.exp(-(x**2) / 0.18 + (x - 0.5) ** 2 / 0.5) / 0.6)
    x, y = _normal(11 + 100 * seed, 7, 7)
    yield "7 points, one of weight 0", (x, y, np.array([0.0, 3.0, 0.5, 1.0, 2.0, 0.1, 0.7]))
    yield "values around 1000", (1000 + 300 * x, 1000 * y, np.abs(y) + 0.5)
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
        "minimise the sum of weight_i * (y_i - slope * x_i - intercept)**2; set both derivatives to 0",
    ),
    laws={"the weighted residuals sum to 0, also when each is multiplied by its x": _residuals_vanish},
    mistakes={
        ("the weights have no effect on your line",
         "a point of weight 0 might as well not be there: which of your sums would not notice it?",
         "each mean: not np.mean(z), but the sum of weight * z over the sum of the weights"): {
            "weight / weight.sum()": "np.ones_like(weight) / weight.size"},
        ("the weights are squared; np.polyfit squares its own, this sum does not",
         "in the sum that is minimised, what stands before the squared residual: weight, or its square?",
         "where the weights enter: once, as they are (np.polyfit would have to get their roots)"): {
            "weight / weight.sum()": "weight**2 / (weight**2).sum()"},
        "divide the weights by their sum, or the weighted means are no means": {"weight / weight.sum()": "weight"},
        ("the mean of x has to be weighted too",
         "two points at one place count as one of weight 2: where does x.mean() put their centre?",
         "the line of mean_x: a sum over x with the same shares as in the slope"): {"(share * x).sum()": "x.mean()"},
        "the mean of y has to be weighted too": {"(share * y).sum()": "y.mean()"},
        "the means of x and y have to be weighted too": {
            "(share * x).sum()": "x.mean()", "(share * y).sum()": "y.mean()",
            "(share * (x - mean_x) * y).sum()": "(share * (x - mean_x) * (y - mean_y)).sum()"},
        "the variance of x has to be weighted too": {"(share * (x - mean_x) ** 2).sum()": "x.var()"},
        "a slope is a covariance over a variance; this is over a standard deviation": {
            "(share * (x - mean_x) ** 2).sum()": "np.sqrt((share * (x - mean_x) ** 2).sum())"},
        "the line does not go through the weighted centre: check the sign in the intercept": {
            "mean_y - slope": "mean_y + slope"},
        "the intercept needs the weighted means, as the slope does": {
            "mean_y - slope * mean_x": "y.mean() - slope * x.mean()"},
        "this slope is that of a line through the origin: take the weighted mean from x first": {
            "(share * (x - mean_x) * y).sum() / (share * (x - mean_x) ** 2).sum()":
            "(share * x * y).sum() / (share * x**2).sum()"},
        "divided by the variance of y: this is the line of x on y": {
            "(share * (x - mean_x) ** 2).sum()": "(share * (y - mean_y) ** 2).sum()"},
        "a covariance over both standard deviations is a correlation, not a slope": {
            "(share * (x - mean_x) ** 2).sum()":
            "np.sqrt((share * (x - mean_x) ** 2).sum() * (share * (y - mean_y) ** 2).sum())"},
        "the weights belong to the squared residuals; you multiplied x and y by them": {
            "weight / weight.sum()": "np.full(len(x), 1 / len(x)); x, y = weight * x, weight * y"},
        "with x and y multiplied by the roots of the weights, the 1 of the intercept has to be as well": {
            "weight / weight.sum()":
            "np.full(len(x), 1 / len(x)); x, y = np.sqrt(weight) * x, np.sqrt(weight) * y"},
        "np.mean of weight * x divides by n, not by the sum of the weights": {
            "weight / weight.sum()": "weight / weight.size", "* y).sum() /": "* (y - mean_y)).sum() /"},
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


def _dose_cases(seed=0):
    """With a seed the same doses, each a little larger, in another order."""
    for label, (steps, doses) in _doses():
        order = np.random.default_rng(seed).permutation(len(doses)) if seed else slice(None)
        yield label, (steps[order], doses[order] * (1 + seed % 7 / 10))


def _doses():
    never = np.inf
    yield "the larger of two doses breaks all runs", (np.array([[20.0, 30.0, 25.0], [never] * 3]), np.array([1.0, 3.0]))
    yield "one run of five is lost, then three", (
        np.array([[20.0, 24.0, 22.0, 26.0, never], [400.0, never, never, 380.0, never], [never] * 5]),
        np.array([1.0, 3.0, 6.0]))
    yield "every dose is survived", (np.array([[20.0, 22.0], [40.0, 38.0]]), np.array([2.0, 5.0]))
    yield "half of the runs is not most", (np.array([[30.0, never, 40.0, never], [never, never, never, 90.0]]),
                                           np.array([4.0, 8.0]))
    yield "doses in no order", (np.array([[never] * 3, [18.0, 20.0, 26.0], [never, never, 300.0]]),
                                np.array([20.0, 1.0, 10.0]))


def _dose_or_never(args, outputs):
    return bool(np.isin(outputs[0], [*args[1], np.inf]))


@exercise(
    cases=_dose_cases,
    outputs=("dose",),
    hints=(
        "one unlucky run is not a broken net, and one lucky run is not a whole one: count the runs",
        "for each dose the share of runs that never arrived; then the doses where it is above a half; then the least",
        "steps is infinite for a run that never arrived: np.isinf(steps) is what to count, along axis 1",
    ),
    laws={"the answer is one of the doses, or infinite": _dose_or_never},
    mistakes={
        ("a single lost run breaks no net: count how many are lost",
         "one run of five is lost: how many of five are most?",
         "the line that looks at np.isinf(steps): a share along axis 1 in place of any"): {
            ".mean(axis=1) > 0.5": ".any(axis=1)"},
        ("a single run that arrives saves no net: count how many are lost",
         "one run of five arrives: how many are lost, and are these most?",
         "the line that looks at np.isinf(steps): a share along axis 1 in place of all"): {
            ".mean(axis=1) > 0.5": ".all(axis=1)"},
        ("half of the runs is not most of them",
         "two of four runs are lost, and two arrive: which of the two are most?",
         "the comparison with a half: a share of exactly 0.5 must not pass"): {"> 0.5": ">= 0.5"},
        "this is the largest dose that is survived, not the smallest that breaks": {
            "np.min(doses[broken], initial=np.inf)": "np.max(doses[~broken], initial=-np.inf)"},
        "this is the place in the list, not the dose": {
            "np.min(doses[broken], initial=np.inf)": "np.argmax(broken)"},
        "the doses may come in any order: the first that breaks in the list need not be the smallest": {
            "np.min(doses[broken], initial=np.inf)": "doses[broken][0] if broken.any() else np.inf"},
        "this is the largest dose that breaks": {
            "np.min(doses[broken], initial=np.inf)": "np.max(doses[broken]) if broken.any() else np.inf"},
        "where every dose is survived the answer is infinite": {"initial=np.inf": "initial=doses.max()"},
        "where every dose is survived the answer is infinite, not 0": {
            "np.min(doses[broken], initial=np.inf)": "doses[broken].min() if broken.any() else 0"},
        "where every dose is survived there is no smallest of the rest: then the answer is infinite": {
            ", initial=np.inf": ""},
        "this is the place of the first that breaks, not its dose": {
            "np.min(doses[broken], initial=np.inf)": "np.flatnonzero(broken)[0] if broken.any() else np.inf"},
        "this counts the runs that arrive; a dose breaks where most do not": {"np.isinf": "np.isfinite"},
        "a run that never arrives has infinitely many steps, not NaN": {"np.isinf": "np.isnan"},
        "the runs of a dose lie along axis 1": {".mean(axis=1)": ".mean(axis=0)"},
    },
)
def breaking_dose(steps, doses):
    """The smallest dose at which most runs never arrive; infinite if none.

    steps is (doses, runs), with np.inf for a run that never arrived.
    doses is (doses,), in any order.
    """
    broken = np.isinf(steps).mean(axis=1) > 0.5
    return np.min(doses[broken], initial=np.inf)


def _shift_cases(seed=0):
    yield "one unit, two samples", (np.array([[1.0], [0.5]]), np.array([1.0, 0.0]), np.array([[0.5]]),
                                    np.array([2.0]), 0.5)
    yield "5 samples, 3 inputs, 4 units", (*_normal(14 + 100 * seed, (5, 3), 5, (3, 4), 4), 0.3)
    single = _normal(15 + 100 * seed, (7, 2), 7, (2, 3), 3, dtype=np.float32)
    yield "7 samples, 2 inputs, 3 units, float32", (*single, 0.2)


@exercise(
    cases=_shift_cases,
    outputs=("before", "after", "shift"),
    hints=(
        "with lr = 0 nothing moves, and the shift must be 0",
        "three stages: both gradients at the old weights, one step of w1 alone, the gradient of w2 once more",
        "(1.9) with l = 2; by the chain rule dL/dw1 = x.T @ (error_i * w2 * (1 - a**2)) / m",
    ),
    laws={"the shift is the length of after - before":
          lambda args, outputs: np.allclose(outputs[2], np.linalg.norm(outputs[1] - outputs[0]), rtol=1e-3, atol=1e-6)},
    mistakes={
        ("only the layer below moves: keep the old w2 in the second gradient",
         "in (1.9) G and G' have the same W_l: what has been changed between them, and what not?",
         "(1.9): the line of the output after the step has w2 as it came"): {
            "a_moved @ w2 - y": "a_moved @ (w2 - lr * before) - y"},
        "the step goes uphill": {"w1 - lr * dw1": "w1 + lr * dw1"},
        ("the second gradient needs the new error as well, not only the new activations",
         "w1 has moved, so the activations have: does the output stay?",
         "the line of after: its error is a_moved @ w2 - y, like that of before with a"): {
            "(a_moved @ w2 - y)": "(a @ w2 - y)"},
        "the slope of tanh is 1 - a**2": {"1 - a**2": "1 - a"},
        "the slope of tanh is missing in the gradient of w1": {" * (1 - a**2)": ""},
        "the second gradient needs the new activations in both places": {"a_moved.T @": "a.T @"},
        ("the gradients are means over the batch, not sums",
         "the loss is the mean of (output - y)**2 / 2: what happens to its gradient when each sample comes twice?",
         "both lines with an error in them: / len(x)"): {
            "(a @ w2 - y) / len(x)": "a @ w2 - y", "(a_moved @ w2 - y) / len(x)": "(a_moved @ w2 - y)"},
        "the second gradient is a mean over the batch as well": {
            "(a_moved @ w2 - y) / len(x)": "(a_moved @ w2 - y)"},
        "the gradient of w1 is a mean over the batch as well": {
            "(a @ w2 - y) / len(x)": "a @ w2 - y", "a.T @ error": "a.T @ error / len(x)"},
        "the 1/2 of the loss takes the 2 of the square away": {
            "(a @ w2 - y) / len(x)": "2 * (a @ w2 - y) / len(x)", "(a_moved @ w2 - y)": "(2 * (a_moved @ w2 - y))"},
        "a * (1 - a) is the slope of a sigmoid; that of tanh is 1 - a**2": {"1 - a**2": "a * (1 - a)"},
        "a is the tanh already: its slope is 1 - a**2": {"1 - a**2": "1 - np.tanh(a) ** 2"},
        "both gradients stand at the old weights: that of w1 needs the old w2": {
            "np.outer(error, w2)": "np.outer(error, w2 - lr * before)"},
        "the upper layer must stand still and the lower one move: yours is the other way round": {
            "np.tanh(x @ (w1 - lr * dw1))": "a", "(a_moved @ w2 - y)": "(a_moved @ (w2 - lr * before) - y)"},
        "the distance is asked for, not its share of the gradient": {
            "np.linalg.norm(after - before)": "np.linalg.norm(after - before) / np.linalg.norm(before)"},
        "the length of the difference is asked for, not the difference of the lengths": {
            "np.linalg.norm(after - before)": "abs(np.linalg.norm(after) - np.linalg.norm(before))"},
        "the length of a vector is the root of the sum of squares, not the sum of the entries": {
            "np.linalg.norm(after - before)": "np.abs(after - before).sum()"},
        "the length of a vector is the root of the sum of squares, not the largest entry": {
            "np.linalg.norm(after - before)": "np.abs(after - before).max()"},
    },
)
def shifted_gradient(x, y, w1, w2, lr):
    """Shift of the second layer: dL/dw2 before, dL/dw2 after, their distance.

    The network is tanh(x @ w1) @ w2, the loss the mean of (output - y)**2 / 2.
    "After" means: w1 has taken its step of gradient descent, with learning
    rate lr, and w2 has not.  x is (m, D), y (m,), w1 (D, units), w2 (units,).
    """
    a = np.tanh(x @ w1)
    error = (a @ w2 - y) / len(x)
    before = a.T @ error
    dw1 = x.T @ (np.outer(error, w2) * (1 - a**2))
    a_moved = np.tanh(x @ (w1 - lr * dw1))
    after = a_moved.T @ (a_moved @ w2 - y) / len(x)
    return before, after, np.linalg.norm(after - before)
