"""Right answers to the exercises of chapter 10 in other styles: the checker must accept each of them."""

import numpy as np


def sequences_by_loops(x, lengths, eps):
    x_hat = np.zeros_like(x)
    for n, length in enumerate(lengths):
        valid = x[n, :, :length]
        x_hat[n, :, :length] = valid / np.sqrt(np.mean(valid**2, axis=1, keepdims=True) + eps)
    return x_hat


def sequences_by_mask(x, lengths, eps):
    mask = np.arange(x.shape[2]) < lengths[:, None]
    nu2 = np.mean(x**2, axis=2, where=mask[:, None, :], keepdims=True)
    return np.where(mask[:, None, :], x * (nu2 + eps) ** -0.5, 0)


def sequences_by_einsum(x, lengths, eps):
    nu2 = np.einsum("nct,nct->nc", x, x) / np.reshape(lengths, (-1, 1))
    return np.einsum("nct,nc->nct", x, 1 / np.sqrt(nu2 + eps))


def sequences_by_torch(x, lengths, eps):
    import torch

    x, lengths = torch.as_tensor(x), torch.as_tensor(lengths)
    return x * torch.rsqrt(x.square().sum(2, keepdim=True) / lengths.reshape(-1, 1, 1) + eps)


def threshold_by_sums(beta, tau, weight, bias):
    return beta - tau, bias + (tau[:, None] * weight).sum(axis=0)


def threshold_by_loops(beta, tau, weight, bias):
    new = bias.copy()
    for c in range(len(tau)):
        new += tau[c] * weight[c]
    return [b - t for b, t in zip(beta, tau)], new


def threshold_by_its_floor(beta, tau, weight, bias):
    floor = np.maximum(np.full(len(beta), -1e9) + beta, tau) @ weight + bias  # everything at the floor: a ReLU gives 0
    return np.subtract(beta, tau), floor


def dx_by_autograd(dz, x, gamma, beta, tau, eps):
    import torch

    x = torch.tensor(x, requires_grad=True)
    gamma, beta, tau, eps = (torch.tensor(v).reshape(-1, 1, 1) for v in (gamma, beta, tau, eps))
    y = gamma * x / (x.square().mean((2, 3), keepdim=True) + eps).sqrt() + beta
    return torch.autograd.grad(torch.maximum(y, tau), x, torch.tensor(dz))[0]


def dx_by_loops(dz, x, gamma, beta, tau, eps):
    dx = np.empty_like(x)
    for n, c in np.ndindex(x.shape[:2]):
        r = (np.mean(x[n, c] ** 2) + eps[c]) ** -0.5
        h = r * x[n, c]
        d = np.where(gamma[c] * h + beta[c] > tau[c], gamma[c] * dz[n, c], 0)
        dx[n, c] = r * (d - h * np.mean(d * h))
    return dx


def dx_by_two_roads(dz, x, gamma, beta, tau, eps):
    gamma, beta, tau, eps = (v.reshape(1, -1, 1, 1) for v in (gamma, beta, tau, eps))
    m = x.shape[2] * x.shape[3]
    s = np.sum(x * x, axis=(2, 3), keepdims=True) / m + eps
    d = dz * gamma
    d[gamma * x / s**0.5 + beta <= tau] = 0
    dnu2 = np.sum(d * x * -0.5 * s**-1.5, axis=(2, 3), keepdims=True)
    return d * s**-0.5 + dnu2 * 2 * x / m


STYLES = {
    "frn_of_sequences": [sequences_by_loops, sequences_by_mask, sequences_by_einsum, sequences_by_torch],
    "without_threshold": [threshold_by_sums, threshold_by_loops, threshold_by_its_floor],
    "frn_tlu_dx": [dx_by_autograd, dx_by_loops, dx_by_two_roads],
}

_MASK = "gamma[:, None, None] * x_hat + beta[:, None, None] {} tau[:, None, None]"
_TIE = f"{_MASK.format('>')} -> {_MASK.format('>=')}"
EQUIVALENT = {name: {} for name in STYLES}
EQUIVALENT["frn_tlu_dx"] = {_TIE: "at a tie there is no slope: both are right"}
