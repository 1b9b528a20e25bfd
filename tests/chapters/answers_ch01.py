"""Right answers to the exercises of chapter 1 in other styles: the checker must accept each of them."""

import numpy as np


def gradient_by_loops(x, y, w):
    gradient = np.zeros_like(w)
    for row, target in zip(x, y, strict=True):
        gradient += (row @ w - target) * row
    return gradient / len(y)


def gradient_by_einsum(x, y, w):
    return np.einsum("i,ij->j", np.einsum("ij,j->i", x, w) - y, x) / x.shape[0]


def gradient_of_single_samples(x, y, w):
    return np.mean((x @ w - y)[:, None] * x, axis=0)


def gradient_by_autograd(x, y, w):
    import torch

    x, y, w = map(torch.tensor, (x, y, w))
    w.requires_grad_()
    (((x @ w - y) ** 2).mean() / 2).backward()
    return w.grad


def share_by_loops(z, threshold):
    share = []
    for unit in z.T:
        slopes = [np.exp(-v) / (1 + np.exp(-v)) ** 2 for v in unit.astype(float)]
        share.append(sum(slope < threshold for slope in slopes) / len(slopes))
    return np.array(share)


def share_by_cosh(z, threshold):
    return np.mean(0.25 / np.cosh(z / 2) ** 2 < threshold, axis=0)


def share_by_tanh(z, threshold):
    return np.count_nonzero((1 - np.tanh(z / 2) ** 2) / 4 < threshold, axis=0) / z.shape[0]


def drift_by_loops(before, after):
    moves = []
    for unit in range(before.shape[1]):
        for p in (15, 50, 85):
            moves.append(abs(np.percentile(after[:, unit], p) - np.percentile(before[:, unit], p)))
    return sum(moves) / len(moves)


def drift_by_quantile(before, after):
    levels = np.array([0.15, 0.5, 0.85], dtype=before.dtype)
    return np.mean(np.abs(np.quantile(before, levels, axis=0) - np.quantile(after, levels, axis=0)))


def drift_by_sorting(before, after):
    def quantiles(z):
        z = np.sort(z.astype(float), axis=0)
        place = np.array([0.15, 0.5, 0.85]) * (len(z) - 1)
        low = np.floor(place).astype(int)
        part = (place - low)[:, None]
        return (1 - part) * z[low] + part * z[np.minimum(low + 1, len(z) - 1)]

    return abs(quantiles(after) - quantiles(before)).mean()


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


def second_by_loops(x, w1, b1, w2, b2):
    z2 = np.zeros((len(x), len(b2)), x.dtype)
    for i, row in enumerate(x):
        hidden = [1 / (1 + np.exp(-(row @ w1[:, j] + b1[j]))) for j in range(len(b1))]
        for k in range(len(b2)):
            z2[i, k] = sum(a * w2[j, k] for j, a in enumerate(hidden)) + b2[k]
    return z2


def second_by_tanh(x, w1, b1, w2, b2):
    return (0.5 + 0.5 * np.tanh((x @ w1 + b1) / 2)) @ w2 + b2


def second_in_torch(x, w1, b1, w2, b2):
    import torch

    x, w1, b1, w2, b2 = map(torch.tensor, (x, w1, b1, w2, b2))
    return torch.nn.functional.linear(torch.sigmoid(torch.nn.functional.linear(x, w1.T, b1)), w2.T, b2)


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
    "batch_gradient": [gradient_by_loops, gradient_by_einsum, gradient_of_single_samples, gradient_by_autograd],
    "saturated_share": [share_by_loops, share_by_cosh, share_by_tanh],
    "quantile_drift": [drift_by_loops, drift_by_quantile, drift_by_sorting],
    "weighted_line": [line_by_polyfit, line_by_normal_equations, line_by_sums],
    "second_pre_activation": [second_by_loops, second_by_tanh, second_in_torch],
    "shifted_gradient": [shift_by_autograd, shift_by_a_helper, shift_by_loops],
}

EQUIVALENT = {
    "saturated_share": {"-z -> z": "the slope of a sigmoid is the same on both sides of 0"},
}
