"""Right answers to the exercises of chapter 7 in other styles: the checker must accept each of them."""

import math

import numpy as np


def mended_by_loops(x, gamma, beta, eps):
    y = np.zeros(x.shape)
    for b, t in np.ndindex(x.shape[:2]):
        values = x[b, t].tolist()
        mu = math.fsum(values) / len(values)
        var = math.fsum((v - mu) ** 2 for v in values) / len(values)
        for d, v in enumerate(values):
            y[b, t, d] = gamma[d] * (v - mu) / math.sqrt(var + eps) + beta[d]
    return y


def mended_in_torch(x, gamma, beta, eps):
    import torch

    x, gamma, beta = map(torch.tensor, (x, gamma, beta))
    return torch.nn.functional.layer_norm(x, gamma.shape, gamma, beta, eps)


def mended_from_the_famous_lines(x, gamma, beta, eps):
    mean = x.mean(-1, keepdims=True)
    std = np.sqrt(x.std(-1, keepdims=True) ** 2 + eps)
    return gamma * (x - mean) / std + beta


def rms_net_by_matrix(W, b, gamma, beta, V, c):
    D = len(b)
    P = np.eye(D) - np.ones((D, D)) / D
    return W @ P, b @ P, np.diag(gamma) @ V, beta @ V + c


def rms_net_by_transposes(W, b, gamma, beta, V, c):
    return (W.T - W.mean(1)).T, b - np.mean(b), (V.T * gamma).T, c + V.T @ beta


def rms_net_by_rows(W, b, gamma, beta, V, c):
    W_new = np.stack([row - row.mean() for row in W])
    V_new = np.stack([g * row for g, row in zip(gamma, V)])
    return W_new, b - b.sum() / len(b), V_new, sum((s * row for s, row in zip(beta, V)), c)


def pixel_channels_last(x, gamma, beta, eps):
    last = np.moveaxis(x, 1, -1)
    d = last - last.mean(-1, keepdims=True)
    y = gamma * d / np.sqrt((d**2).mean(-1, keepdims=True) + eps) + beta
    return np.moveaxis(y, -1, 1)


def pixel_in_torch(x, gamma, beta, eps):
    import torch

    x, gamma, beta = map(torch.tensor, (x, gamma, beta))
    y = torch.nn.functional.layer_norm(x.permute(0, 2, 3, 1), gamma.shape, gamma, beta, eps)
    return y.permute(0, 3, 1, 2)


def pixel_by_pixel(x, gamma, beta, eps):
    y = np.empty_like(x)
    for n, h, w in np.ndindex(len(x), *x.shape[2:]):
        v = x[n, :, h, w]
        y[n, :, h, w] = gamma * (v - v.mean()) / np.sqrt(v.var() + eps) + beta
    return y


STYLES = {
    "mended_layer_norm": [mended_by_loops, mended_in_torch, mended_from_the_famous_lines],
    "as_rms_net": [rms_net_by_matrix, rms_net_by_transposes, rms_net_by_rows],
    "pixel_layer_norm": [pixel_channels_last, pixel_in_torch, pixel_by_pixel],
}
EQUIVALENT = {}
