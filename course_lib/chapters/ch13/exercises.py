"""Exercises of chapter 13: which norm, when, and none at all."""

import numpy as np

from ...exercises.engine import exercise

# 13.1: through a weight that is normed


def _weight_cases(seed=0):
    rng = np.random.default_rng(1310 + 100 * seed)
    yield "one filter of two weights, v = (3, 4)", (np.array([[1.0, 0.0]]), np.array([[3.0, 4.0]]), np.array([2.0]))
    for shape, size, name in [((2, 3), 1, "two filters of three weights"), ((4, 5), 1, "four filters of five weights"),
                              ((3, 4), 1000, "values around 1000")]:
        dw, v = rng.standard_normal(shape) + 0.5, size * (rng.standard_normal(shape) + 0.3)
        gain = rng.uniform(0.5, 2, shape[0])
        gain[1] *= -1
        yield name, (size * dw, v, gain)


def _weight_law(args, outputs):
    """A longer v is the same w, so the gradient has no part along v."""
    _, v, _ = args
    along = (outputs[0] * v).sum(axis=1)
    return np.allclose(along, 0, rtol=0, atol=1e-9 * (1 + np.abs(outputs[0] * v).sum()))


@exercise(
    cases=_weight_cases,
    outputs=("dv", "dgain"),
    hints=(
        "nudge one entry of v and compare the change of sum(dw * w) with your dv",
        "w = gain * v / |v|: v stands there twice, and the second time in a norm over its row",
        "with u = v / |v| it is chapter 4's projection: what is left of dw without its part along u, times gain / |v|",
    ),
    laws={"dv has no part along v, row by row: a longer v is the same w": _weight_law},
    mistakes={
        "the norm of v was held constant: it moves with v as well": {
            "gain[:, None] * (dw - along * u)": "gain[:, None] * dw"},
        "dv still lacks 1 / |v|: with a longer v, a step turns it less": {" / norm\n    return": "\n    return"},
        "one 1 / |v| is enough": {" / norm\n    return": " / norm**2\n    return"},
        "dv lacks the gain": {"gain[:, None] * (dw - along * u) / norm": "(dw - along * u) / norm"},
        "what is removed must point along u = v / |v|; yours points along v": {"along * u)": "along * v)"},
        "what is removed must point along u: multiply the number by u": {"along * u)": "along)"},
        "the part along u is removed, not doubled": {"dw - along * u": "dw + along * u"},
        "each filter has a norm of its own; yours is that of the whole matrix": {
            "np.sqrt((v**2).sum(axis=1, keepdims=True))": "np.sqrt((v**2).sum())"},
        "a filter is a row, (fan_out, fan_in): the norm is over axis 1": {
            "np.sqrt((v**2).sum(axis=1, keepdims=True))": "np.sqrt((v**2).sum(axis=0, keepdims=True))"},
        "the gain multiplies v / |v|, so its gradient is the part of dw along v / |v|, not along v": {
            "(dw * u).sum(axis=1)": "(dw * v).sum(axis=1)"},
        "the gain multiplies v / |v|, so its gradient knows nothing of the gain itself": {
            "return dv, (dw * u).sum(axis=1)": "return dv, gain * (dw * u).sum(axis=1)"},
        "each filter has a gain, and dgain an entry for it": {
            "return dv, (dw * u).sum(axis=1)": "return dv, np.full(len(v), (dw * u).sum())"},
    },
)
def weight_norm_gradient(dw, v, gain):
    """dv and dgain of weight norm, w = gain * v / |v| for each filter.

    dw and v are (O, I), one filter a row; gain is (O,); dw is dL/dw.
    """
    norm = np.sqrt((v**2).sum(axis=1, keepdims=True))
    u = v / norm
    along = (dw * u).sum(axis=1, keepdims=True)
    dv = gain[:, None] * (dw - along * u) / norm
    return dv, (dw * u).sum(axis=1)


# 13.2: the choice of a rate


def _choice_cases(seed=0):
    rng = np.random.default_rng(1320 + 100 * seed)
    nan = np.nan
    yield "the rate 0.2 is best in one seed, and lost in another", (
        np.array([0.05, 0.1, 0.2, 0.4]), np.array([[9.0, 8.0, 8.5], [6.0, 5.0, 5.5], [4.0, 5.8, nan], [nan, nan, nan]]))
    yield "the largest rate is best", (np.array([0.1, 0.2, 0.4]), np.array([[5.0, 6.0], [4.0, 4.4], [3.0, 3.5]]))
    yield "the smallest rate is best", (np.array([0.1, 0.2, 0.4]), np.array([[2.0, 6.0], [7.0, 4.4], [9.0, nan]]))
    yield "rates in no order", (
        np.array([0.4, 0.1, 0.8, 0.2]), np.array([[3.0, 2.0], [6.0, 6.0], [9.0, 9.5], [4.0, 4.2]]))
    yield "one seed has luck", (
        np.array([0.01, 0.02, 0.04]), np.array([[5.0, 5.2, 5.1], [4.0, 4.1, 4.2], [1.0, 9.0, 8.0]]))
    yield "one seed has bad luck", (
        np.array([0.01, 0.02, 0.04]), np.array([[5.0, 5.2, 5.1], [2.0, 5.5, 2.0], [6.0, 7.0, 6.0]]))
    yield "one seed does very badly, and the rate is the best for the others", (
        np.array([0.01, 0.02, 0.04, 0.08]),
        np.array([[7.0, 7.2, 7.1], [5.0, 5.2, 5.1], [2.0, 40.0, 2.0], [6.0, 7.0, 6.0]]))
    yield "one seed is lost, and all of the others are bad", (
        np.array([0.1, 0.2, 0.4]), np.array([[60.0, 65.0], [2.0, nan], [70.0, 80.0]]))
    rates = rng.uniform(0.005, 0.02) * 2.0 ** rng.permutation(5)
    yield "five rates, four seeds", (rates, np.abs(np.log2(rates / 0.05))[:, None] + rng.uniform(1, 3, (5, 4)))


def _choice_law(args, outputs):
    best, more = (float(each) for each in outputs)
    return best in args[0] and (more == 0 or more not in args[0])


@exercise(
    cases=_choice_cases,
    outputs=("best", "more"),
    hints=(
        "a seed that is lost is not a seed that is missing",
        "mean over the seeds, with 100 for each nan; then ask where the best rate stands among all rates",
        "best == rates.min() asks for half of it, best == rates.max() for twice, anything else for 0",
    ),
    laws={"best is one of the rates, and more is 0 or a rate that was not tried": _choice_law},
    mistakes={
        "a run that is lost counts as 100 %; yours was left out, as if that seed had not been drawn": {
            "np.where(np.isnan(errors), 100.0, errors).mean(axis=1)":
                "np.where(np.isnan(errors).all(axis=1), 100.0, np.nansum(errors, axis=1) / "
                "np.maximum((~np.isnan(errors)).sum(axis=1), 1))"},
        "argmin takes nan for the smallest number": {
            "np.where(np.isnan(errors), 100.0, errors).mean(axis=1)": "errors.mean(axis=1)"},
        "a lost run counts as 100 % wrong, not as 0": {"100.0, errors": "0.0, errors"},
        "the luckiest seed chose your rate: take the mean of the seeds": {
            "errors).mean(axis=1)": "errors).min(axis=1)"},
        "the median does not see a seed that is lost, or one that had bad luck: take the mean of the seeds": {
            "np.where(np.isnan(errors), 100.0, errors).mean(axis=1)":
                "np.median(np.where(np.isnan(errors), 100.0, errors), axis=1)"},
        "the worst seed chose your rate: take the mean of the seeds": {
            "errors).mean(axis=1)": "errors).max(axis=1)"},
        "best is a rate, not its place in the array": {"best = rates[score.argmin()]": "best = score.argmin()"},
        "these are errors: the best rate has the least": {"score.argmin()": "score.argmax()"},
        "the rates come in no order: the edge is the smallest or the largest rate, not the first or the last": {
            "rates.min()": "rates[0]", "rates.max()": "rates[-1]"},
        "a best rate at the edge wants a rate beyond it, outside the grid": {
            "return best, best / 2": "return best, best * 2", "return best, best * 2": "return best, best / 2"},
        "you look beyond the largest rate only; the grid has two edges": {
            "return best, best / 2": "return best, 0.0"},
        "you look beyond the smallest rate only; the grid has two edges": {
            "return best, best * 2": "return best, 0.0"},
        "a best rate inside the grid asks for nothing: more is 0": {"return best, 0.0": "return best, best"},
    },
)
def choose_rate(rates, errors):
    """The best rate, by the mean of its seeds, and the rate to try next.

    That is half or twice the best one if it stands at an edge, else 0.
    rates is (K,), in any order; errors is (K, R), in %, nan where a run was
    lost.
    """
    score = np.where(np.isnan(errors), 100.0, errors).mean(axis=1)
    best = rates[score.argmin()]
    if best == rates.min():
        return best, best / 2
    if best == rates.max():
        return best, best * 2
    return best, 0.0


# 13.3: many comparisons


def _holm_cases(seed=0):
    rng = np.random.default_rng(1330 + 100 * seed)
    yield "three comparisons", (np.array([0.04, 0.01, 0.03]),)
    yield "two that are equal", (np.array([0.02, 0.5, 0.02, 0.4]),)
    yield "large ones stay below 1", (np.array([0.9, 0.6, 0.7]),)
    yield "one alone", (np.array([0.2]),)
    yield "ten comparisons", (rng.uniform(0, 1, 10) ** 3,)


@exercise(
    cases=_holm_cases,
    outputs=("adjusted",),
    hints=(
        "the smallest of K is held against all K; once it is a finding, K - 1 are left",
        "sort, multiply by K, K - 1, ..., 1; the next may not come out smaller than the one before",
        "np.maximum.accumulate over the sorted ones, at most 1, and then back into the order they came in",
    ),
    laws={"an adjusted p is never smaller than p": lambda args, outputs: np.all(outputs[0] >= args[0] - 1e-12)},
    mistakes={
        "every p was multiplied by K: that is Bonferroni's rule, which gives away what the smaller ones have settled": {
            "np.arange(len(p), 0, -1)": "len(p)"},
        "the smallest p is multiplied by K and the largest by 1, not the other way round": {
            "np.arange(len(p), 0, -1)": "np.arange(1, len(p) + 1)"},
        "a larger p came out with a smaller result: keep the largest so far": {
            "np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))": "p[order] * np.arange(len(p), 0, -1)"},
        "the results stand in the order of size, not in the order of p": {
            "adjusted[order] = ": "adjusted[:] = "},
        "to go back, put into the places of the order; indexing by the order once more is another shuffle": {
            "adjusted[order] = np.minimum(stepped, 1)": "adjusted[:] = np.minimum(stepped, 1)[order]"},
        "no chance is above 1": {"np.minimum(stepped, 1)": "stepped"},
        "K p's are divided by nothing: they are multiplied, and so get larger": {
            "p[order] * np.arange": "p[order] / np.arange"},
        "the step counts what is left, K, K - 1, ..., 1; yours starts one too low": {
            "np.arange(len(p), 0, -1)": "np.arange(len(p) - 1, -1, -1)"},
    },
)
def holm(p):
    """The p of K comparisons, adjusted by Holm's rule.

    p and adjusted are (K,), in the same order.
    """
    order = np.argsort(p)
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(stepped, 1)
    return adjusted
