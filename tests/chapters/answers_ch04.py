"""Right answers to the exercises of chapter 4 in other styles: the checker must accept each of them."""

import math

import numpy as np


def parameters_by_ratio(x, mean, std, eps):
    return std * (1 + eps / x.var(0)) ** 0.5, mean


def parameters_by_trying(x, mean, std, eps):
    x_hat = (x - x.mean(0)) / np.sqrt(x.var(0) + eps)
    return std / x_hat.std(0), mean - x_hat.mean(0)


def parameters_by_loops(x, mean, std, eps):
    gamma = np.zeros(x.shape[1])
    for j, column in enumerate(x.T.tolist()):
        mu = math.fsum(column) / len(column)
        var = math.fsum((v - mu) ** 2 for v in column) / len(column)
        gamma[j] = std[j] * math.sqrt((var + eps) / var)
    return gamma, mean.copy()


def uncentred_by_autograd(dy, x, gamma, eps):
    import torch

    x = torch.tensor(x, requires_grad=True)
    y = torch.tensor(gamma) * x / (x.square().mean(0) + eps).sqrt()
    return torch.autograd.grad(y, x, torch.tensor(dy))[0]


def uncentred_by_two_roads(dy, x, gamma, eps):
    m, root = len(x), np.sqrt(np.mean(x * x, 0) + eps)
    dsquare = -np.sum(dy * gamma * x, 0) / (2 * root**3)
    return dy * gamma / root + dsquare * 2 * x / m


def uncentred_by_jacobian(dy, x, gamma, eps):
    dx = np.zeros_like(x)
    for j in range(x.shape[1]):
        s = (np.mean(x[:, j] ** 2) + eps) ** -0.5
        h = x[:, j] * s
        dx[:, j] = gamma[j] * s * (np.eye(len(h)) - np.outer(h, h) / len(h)) @ dy[:, j]
    return dx


def images_channels_last(x, gamma, beta, eps):
    last = np.moveaxis(x, 1, -1)
    rows = last.reshape(-1, x.shape[1])
    y = gamma * (rows - rows.mean(0)) / np.sqrt(rows.var(0) + eps) + beta
    return np.moveaxis(y.reshape(last.shape), -1, 1)


def images_by_channel(x, gamma, beta, eps):
    y = np.zeros_like(x)
    for c in range(x.shape[1]):
        values = x[:, c]
        y[:, c] = gamma[c] * (values - values.mean()) / np.sqrt(values.var() + eps) + beta[c]
    return y


def images_in_torch(x, gamma, beta, eps):
    import torch

    x, gamma, beta = map(torch.tensor, (x, gamma, beta))
    return torch.nn.functional.batch_norm(x, None, None, gamma, beta, training=True, eps=eps)


def mended_by_torch_itself(x, dy, eps):
    import torch

    x = x.clone().requires_grad_(True)
    y = torch.nn.functional.batch_norm(x, None, None, training=True, eps=eps)
    return y.detach(), torch.autograd.grad(y, x, dy)[0]


def mended_by_var_mean(x, dy, eps):
    import torch

    x = x.clone().requires_grad_(True)
    var, mu = torch.var_mean(x, dim=(0, 2, 3), correction=0, keepdim=True)
    y = (x - mu) * torch.rsqrt(var + eps)
    (y * dy).sum().backward()
    return y, x.grad


def mended_by_hand(x, dy, eps):
    axes = (0, 2, 3)
    d = x - x.mean(axes, keepdim=True)
    s = (d.square().mean(axes, keepdim=True) + eps).rsqrt()
    y = d * s
    return y, s * (dy - dy.mean(axes, keepdim=True) - y * (dy * y).mean(axes, keepdim=True))


STYLES = {
    "parameters_for": [parameters_by_ratio, parameters_by_trying, parameters_by_loops],
    "uncentred_backward": [uncentred_by_autograd, uncentred_by_two_roads, uncentred_by_jacobian],
    "batch_norm_images": [images_channels_last, images_by_channel, images_in_torch],
    "mended_batch_norm": [mended_by_torch_itself, mended_by_var_mean, mended_by_hand],
}

EQUIVALENT = {}
