"""Right answers to the exercises of chapter 6 in other styles: the checker must accept each of them."""

import numpy as np


def rates_by_loop(lr, decay, steps):
    rates, c = [], 1.0
    for _ in range(steps):
        after = c * (1 - lr * decay)
        rates.append(lr / (c * after))
        c = after
    return rates


def rates_by_powers(lr, decay, steps):
    c = (1 - lr * decay) ** np.arange(steps + 1.0)
    return lr / (c[:-1] * c[1:])


def rates_by_logarithm(lr, decay, steps):
    return np.array([np.exp(np.log(lr) - (2 * t + 1) * np.log1p(-lr * decay)) for t in range(steps)])


def merged_by_moments(mu, var, sizes):
    total = sizes.sum()
    mean = sizes @ mu / total
    return mean, sizes @ (var + (mu - mean) ** 2) / total


def merged_one_after_the_other(mu, var, sizes):
    """Chan's way, a micro-batch at a time."""
    mean, square, n = mu[0] * 1.0, var[0] * sizes[0], sizes[0]
    for m, v, k in zip(mu[1:], var[1:], sizes[1:]):
        apart = m - mean
        square = square + v * k + apart**2 * n * k / (n + k)
        mean = mean + apart * k / (n + k)
        n = n + k
    return mean, square / n


def merged_by_average(mu, var, sizes):
    mean = np.average(mu, axis=0, weights=sizes)
    return mean, np.average(var, axis=0, weights=sizes) + np.average((mu - mean) ** 2, axis=0, weights=sizes)


def masked_by_sums(x, lengths, eps):
    real = (np.arange(x.shape[1])[None, :] < lengths[:, None])[..., None]
    m = lengths.sum()
    mu = (x * real).sum((0, 1)) / m
    d = (x - mu) * real
    return d / np.sqrt((d * d).sum((0, 1)) / m + eps)


def masked_by_lists(x, lengths, eps):
    rows = np.concatenate([x[b, :n] for b, n in enumerate(lengths)])
    y = np.zeros_like(x)
    for b, n in enumerate(lengths):
        y[b, :n] = (x[b, :n] - rows.mean(0)) / np.sqrt(rows.var(0) + eps)
    return y


def masked_in_torch(x, lengths, eps):
    import torch

    x = torch.tensor(x)
    real = torch.arange(x.shape[1]) < torch.tensor(lengths)[:, None]
    y = torch.zeros_like(x)
    y[real] = torch.nn.functional.batch_norm(x[real], None, None, training=True, eps=eps)
    return y


STYLES = {
    "rates_without_decay": [rates_by_loop, rates_by_powers, rates_by_logarithm],
    "merged_statistics": [merged_by_moments, merged_one_after_the_other, merged_by_average],
    "masked_batch_norm": [masked_by_sums, masked_by_lists, masked_in_torch],
}

EQUIVALENT = {}
