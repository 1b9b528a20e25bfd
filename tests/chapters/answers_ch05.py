"""Right answers to the exercises of chapter 5 in other styles: the checker must accept each of them."""

import numpy as np


def update_by_torch(running_mean, running_var, x, momentum):
    import torch

    layer = torch.nn.BatchNorm2d(x.shape[1], momentum=momentum).double()
    layer.running_mean.copy_(torch.tensor(running_mean))
    layer.running_var.copy_(torch.tensor(running_var))
    layer(torch.tensor(x))
    return layer.running_mean.numpy(), layer.running_var.numpy()


def update_by_rows(running_mean, running_var, x, momentum):
    rows = np.moveaxis(x, 1, -1).reshape(-1, x.shape[1])
    mean = running_mean + momentum * (rows.mean(0) - running_mean)
    return mean, running_var + momentum * (rows.var(0, ddof=1) - running_var)


def update_by_channels(running_mean, running_var, x, momentum):
    mean, var = running_mean.copy(), running_var.copy()
    for c in range(x.shape[1]):
        values = x[:, c].ravel()
        unbiased = ((values - values.mean()) ** 2).sum() / (len(values) - 1)
        mean[c] = momentum * values.mean() + (1 - momentum) * mean[c]
        var[c] = momentum * unbiased + (1 - momentum) * var[c]
    return mean, var


def start_by_weights(running_mean, running_var, new_weight, steps):
    batches = sum(new_weight * (1 - new_weight) ** k for k in range(steps))
    return running_mean / batches, (running_var - (1 - batches)) / batches


def start_by_distance_from_one(running_mean, running_var, new_weight, steps):
    share = 1 - (1 - new_weight) ** steps
    return running_mean / share, 1 + (running_var - 1) / share


def start_by_loop(running_mean, running_var, new_weight, steps):
    left = 1.0
    for _ in range(steps):
        left -= new_weight * left
    return np.divide(running_mean, 1 - left), np.divide(running_var - left, 1 - left)


def next_by_trying(weight, bias, gamma, beta, mean, var, eps):
    def both(x):
        return weight @ (gamma * (x - mean) / (var + eps) ** 0.5 + beta) + bias

    at_zero = both(np.zeros(len(mean)))
    return np.stack([both(unit) - at_zero for unit in np.eye(len(mean))], axis=1), at_zero


def next_by_einsum(weight, bias, gamma, beta, mean, var, eps):
    s = gamma * (var + eps) ** -0.5
    return np.einsum("kd,d->kd", weight, s), bias + np.einsum("kd,d->k", weight, beta - mean * s)


def next_by_diagonal(weight, bias, gamma, beta, mean, var, eps):
    D = np.diag(gamma / np.sqrt(var + eps))
    return weight @ D, weight @ (beta - D @ mean) + bias


STYLES = {
    "mended_update": [update_by_torch, update_by_rows, update_by_channels],
    "without_start": [start_by_weights, start_by_distance_from_one, start_by_loop],
    "fold_into_next": [next_by_trying, next_by_einsum, next_by_diagonal],
}
EQUIVALENT = {}
