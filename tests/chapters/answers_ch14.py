"""Right answers to the exercises of chapter 14 in other styles: the checker must accept each of them."""

import numpy as np


def shifted_by_sums(x):
    m, first = x.shape[1], x[:, 0]
    s1, s2 = np.zeros(len(x)), np.zeros(len(x))
    for column in x.T:
        d = column - first
        s1, s2 = s1 + d, s2 + d**2
    return first + s1 / m, s2 / m - (s1 / m) ** 2


def shifted_by_welford(x):
    mean, M2 = np.zeros(len(x)), np.zeros(len(x))
    for k, column in enumerate(x.T, start=1):
        delta = column - mean
        mean = mean + delta / k
        M2 = M2 + delta * (column - mean)
    return mean, M2 / x.shape[1]


def shifted_by_numpy(x):
    return x.mean(axis=1), x.var(axis=1)


def lanes_written_out(x, lanes):
    padded = np.pad(x, ((0, 0), (0, lanes - x.shape[1]))) - x.mean(axis=1, keepdims=True)
    return np.sum(padded * padded, axis=1) / x.shape[1]


def lanes_from_squares(x, lanes):
    D = x.shape[1]
    return np.mean(x**2, axis=1) - (2 - lanes / D) * np.mean(x, axis=1) ** 2


def lanes_by_rows(x, lanes):
    D = x.shape[1]
    return [np.var(row) + (lanes / D - 1) * np.mean(row) ** 2 for row in x]


def fused_by_autograd(dy, dh, h, gamma, eps):
    import torch

    h, gamma = torch.tensor(h, requires_grad=True), torch.tensor(gamma, requires_grad=True)
    y = torch.nn.functional.rms_norm(h, gamma.shape, gamma, eps)
    return torch.autograd.grad([y, h * 1], [h, gamma], [torch.tensor(dy), torch.tensor(dh)])


def fused_by_tokens(dy, dh, h, gamma, eps):
    dx, dgamma = np.array(dh), np.zeros_like(gamma)
    for n in range(len(h)):
        s = (np.mean(h[n] ** 2) + eps) ** -0.5
        d = gamma * dy[n]
        dx[n] += s * d - s**3 * h[n] * np.mean(d * h[n])
        dgamma += dy[n] * h[n] * s
    return dx, dgamma


def fused_by_matrices(dy, dh, h, gamma, eps):
    D = h.shape[1]
    nu = np.sqrt(np.einsum("nd,nd->n", h, h) / D + eps)
    h_hat = h / nu[:, None]
    jacobian = (np.eye(D) - h_hat[:, :, None] * h_hat[:, None, :] / D) / nu[:, None, None]
    return dh + np.einsum("nd,nde->ne", dy * gamma, jacobian), np.einsum("nd,nd->d", dy, h_hat)


def rest_by_sums_of_squares(n, mean, M2, n_i, mean_i, M2_i):
    n_rest = n - n_i
    mean_rest = (n * mean - n_i * mean_i) / n_rest
    squares = M2 + n * mean**2 - (M2_i + n_i * mean_i**2)
    return mean_rest, squares - n_rest * mean_rest**2


def rest_around_the_common_mean(n, mean, M2, n_i, mean_i, M2_i):
    n_rest = n - n_i
    mean_rest = mean + (mean - mean_i) * n_i / n_rest
    return mean_rest, M2 - (M2_i + n_i * (mean_i - mean) ** 2) - n_rest * (mean_rest - mean) ** 2


def rest_by_a_negative_rank(n, mean, M2, n_i, mean_i, M2_i):
    a, b = float(n), -float(n_i)
    delta = mean_i - mean
    return mean + delta * b / (a + b), M2 - M2_i + delta**2 * a * b / (a + b)


STYLES = {
    "shifted_moments": [shifted_by_sums, shifted_by_welford, shifted_by_numpy],
    "lane_variance": [lanes_written_out, lanes_from_squares, lanes_by_rows],
    "fused_backward": [fused_by_autograd, fused_by_tokens, fused_by_matrices],
    "without_rank": [rest_by_sums_of_squares, rest_around_the_common_mean, rest_by_a_negative_rank],
}
EQUIVALENT = {}
