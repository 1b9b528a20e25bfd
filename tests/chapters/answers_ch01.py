"""Right answers to the exercises of chapter 1 in other styles: the checker must accept each of them."""

import numpy as np


def line_by_polyfit(x, y, weight):
    slope, intercept = np.polyfit(x, y, 1, w=np.sqrt(weight))
    return slope, intercept


def line_by_normal_equations(x, y, weight):
    design = np.stack([x, np.ones_like(x)], axis=1).astype(float)
    return tuple(np.linalg.solve(design.T * weight @ design, design.T * weight @ y))


def line_by_sums(x, y, weight):
    x, y, weight = (a.astype(float) for a in (x, y, weight))
    n, sx, sy = weight.sum(), (weight * x).sum(), (weight * y).sum()
    slope = (n * (weight * x * y).sum() - sx * sy) / (n * (weight * x * x).sum() - sx**2)
    return slope, (sy - slope * sx) / n


def dose_by_loops(steps, doses):
    smallest = np.inf
    for runs, dose in zip(steps, doses, strict=True):
        lost = sum(1 for steps_needed in runs if steps_needed == np.inf)
        if 2 * lost > len(runs):
            smallest = min(smallest, dose)
    return smallest


def dose_by_counting_arrivals(steps, doses):
    arrived = np.count_nonzero(np.isfinite(steps), axis=1)
    return min([*doses[2 * arrived < steps.shape[1]], np.inf])


def dose_by_sorting(steps, doses):
    order = np.argsort(doses)
    for k in order:
        if np.isfinite(steps[k]).mean() < 0.5:
            return doses[k]
    return float("inf")


def shift_by_autograd(x, y, w1, w2, lr):
    import torch

    x, y, w1, w2 = (torch.tensor(a, requires_grad=True) for a in (x, y, w1, w2))

    def gradients(first):
        loss = ((torch.tanh(x @ first) @ w2 - y) ** 2).mean() / 2
        return torch.autograd.grad(loss, (first, w2))

    dw1, before = gradients(w1)
    _, after = gradients(w1 - lr * dw1)
    return before, after, (after - before).norm()


def shift_by_a_helper(x, y, w1, w2, lr):
    def gradients(first):
        a = np.tanh(x @ first)
        error = a @ w2 - y
        return (x.T @ ((1 - a * a) * error[:, None] * w2)) / len(y), np.mean(error[:, None] * a, axis=0)

    step, before = gradients(w1)
    _, after = gradients(w1 - lr * step)
    return before, after, np.sqrt(((after - before) ** 2).sum())


def shift_by_loops(x, y, w1, w2, lr):
    def gradients(first):
        d_first, d_second = np.zeros_like(first), np.zeros_like(w2)
        for row, target in zip(x, y, strict=True):
            a = np.tanh(row @ first)
            error = (a @ w2 - target) / x.dtype.type(len(y))
            d_second += error * a
            d_first += np.outer(row, error * w2 * (1 - a**2))
        return d_first, d_second

    d_first, before = gradients(w1)
    after = gradients(w1 - lr * d_first)[1]
    return before, after, np.linalg.norm(before - after)


STYLES = {
    "weighted_line": [line_by_polyfit, line_by_normal_equations, line_by_sums],
    "breaking_dose": [dose_by_loops, dose_by_counting_arrivals, dose_by_sorting],
    "shifted_gradient": [shift_by_autograd, shift_by_a_helper, shift_by_loops],
}

EQUIVALENT = {}
