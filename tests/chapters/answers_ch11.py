"""Right answers to the exercises of chapter 11 in other styles: the checker must accept each of them."""

import numpy as np


def dx_by_autograd(dy, x, left, right, k, alpha, beta):
    import torch

    x = torch.tensor(x, requires_grad=True)
    t = torch.stack([k + alpha * (x[:, max(0, i - left):i + right + 1] ** 2).sum(1) for i in range(x.shape[1])], 1)
    return torch.autograd.grad(x / t**beta, x, torch.tensor(dy))[0]


def dx_by_loops(dy, x, left, right, k, alpha, beta):
    C = x.shape[1]
    dx = np.zeros_like(x)
    for i in range(C):
        window = [j for j in range(i - left, i + right + 1) if 0 <= j < C]
        t = k + alpha * sum(x[:, j] ** 2 for j in window)
        dx[:, i] += dy[:, i] / t**beta
        for j in window:
            dx[:, j] -= dy[:, i] * x[:, i] * beta * t ** (-beta - 1) * 2 * alpha * x[:, j]
    return dx


def dx_by_matrix(dy, x, left, right, k, alpha, beta):
    i, j = np.indices((x.shape[1],) * 2)
    sees = ((j >= i - left) & (j <= i + right)).astype(float)
    t = k + alpha * np.einsum("ij,njhw->nihw", sees, x * x)
    y = x * t**-beta
    return dy * t**-beta - 2 * alpha * beta * x * np.einsum("ij,nihw->njhw", sees, dy * y / t)


def alpha_in_words(size, alpha, scale):
    per_channel = alpha * scale * scale
    return np.float64(per_channel) * size


def alpha_by_trial(size, alpha, scale):
    bracket = alpha * scale**2  # of one input of size 1
    return bracket / (1.0 / size)


def alpha_by_power(size, alpha, scale):
    return np.prod([size, alpha, np.square(scale)])


def contrast_by_loops(x, radius):
    N, C, H, W = x.shape
    area = C * (2 * radius + 1) ** 2
    y = np.empty_like(x)
    for n in range(N):
        def square(a, h, w):
            return a[:, max(0, h - radius):h + radius + 1, max(0, w - radius):w + radius + 1]
        v, s = np.empty_like(x[n]), np.empty((H, W))
        for h in range(H):
            for w in range(W):
                v[:, h, w] = x[n, :, h, w] - square(x[n], h, w).sum() / area
        for h in range(H):
            for w in range(W):
                s[h, w] = (np.square(square(v, h, w)).sum() / area) ** 0.5
        y[n] = v / np.where(s > s.mean(), s, s.mean())
    return y


def contrast_by_convolution(x, radius):
    import torch

    x = torch.tensor(x)
    size = 2 * radius + 1
    kernel = torch.full((1, x.shape[1], size, size), 1 / (x.shape[1] * size**2), dtype=x.dtype)
    v = x - torch.nn.functional.conv2d(x, kernel, padding=radius)
    s = torch.nn.functional.conv2d(v**2, kernel, padding=radius).sqrt()
    return v / torch.maximum(s, s.mean((2, 3), keepdim=True))


def contrast_by_windows(x, radius):
    def mean(a):
        whole = np.pad(a, [(0, 0), (0, 0)] + [(radius, radius)] * 2)
        windows = np.lib.stride_tricks.sliding_window_view(whole, (2 * radius + 1,) * 2, axis=(2, 3))
        return windows.mean((1, 4, 5))[:, None]

    v = x - mean(x)
    s = mean(v * v) ** 0.5
    floor = s.reshape(len(x), -1).mean(1).reshape(-1, 1, 1, 1)
    return v / s.clip(min=floor)


STYLES = {
    "lrn_dx": [dx_by_autograd, dx_by_loops, dx_by_matrix],
    "alpha_for_torch": [alpha_in_words, alpha_by_trial, alpha_by_power],
    "local_contrast_norm": [contrast_by_loops, contrast_by_convolution, contrast_by_windows],
}
EQUIVALENT = {}
