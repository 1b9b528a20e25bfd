"""Right answers to the exercises of chapter 3 in other styles: the checker must accept each of them."""

import math

import numpy as np


def bound_from_the_standard_deviation(shape, slope):
    std = math.sqrt(2 / (1 + slope * slope) / math.prod(shape[1:]))
    return std * math.sqrt(3)


def bound_by_torch_names(shape, slope):
    fan_in = np.prod(shape) // shape[0]
    gain = np.sqrt(2 / (1 + slope**2))
    return gain * np.sqrt(3 / fan_in)


def bound_in_one_line(shape, slope):
    return np.array((6 / ((1 + slope**2) * shape[1] * shape[2] * shape[3])) ** 0.5)


def start_layer_by_layer(matrices, x):
    scaled, biases = matrices.copy(), np.empty(matrices.shape[:2])
    for k in range(len(scaled)):
        scaled[k] /= (x @ scaled[k]).std(0)
        biases[k] = -(x @ scaled[k]).mean(0)
        x = (x @ scaled[k] + biases[k]).clip(0)
    return scaled, biases


def start_by_running_from_the_bottom(matrices, x):
    Ws, bs = [], []
    for W in matrices:
        h = x
        for V, b in zip(Ws, bs):
            h = np.maximum(h @ V + b, 0)
        mu, sd = np.mean(h @ W, axis=0), np.sqrt(np.var(h @ W, axis=0))
        Ws.append(W @ np.diag(1 / sd))
        bs.append(-mu / sd)
    return np.stack(Ws), np.stack(bs)


def start_by_standardize(matrices, x):
    from course_lib import standardize

    scaled, biases, h = [], [], x
    for W in matrices:
        z = h @ W
        z_hat, cache = standardize(z, (0,), eps=0)
        scaled.append(W * cache.inv_std)
        biases.append((z_hat - h @ scaled[-1])[0])
        h = np.where(z_hat > 0, z_hat, 0)
    return scaled, biases


def sizes_by_two_passes(widths, stds, samples):
    K = len(stds)
    h, dz = [1.0], [1.0]
    for k in range(K - 1):
        h.append(h[-1] * widths[k] * stds[k] ** 2)
    for k in reversed(range(1, K)):
        dz.insert(0, dz[0] * widths[k + 1] * stds[k] ** 2)
    return [math.sqrt(samples * a * b) for a, b in zip(h, dz)]


def sizes_by_cumulated_products(widths, stds, samples):
    n, v = np.array(widths, dtype=float), np.array(stds) ** 2
    below = np.cumprod([1, *(n[:-2] * v[:-1])])
    above = np.cumprod([1, *(n[2:] * v[1:])[::-1]])[::-1]
    return np.sqrt(samples) * np.sqrt(below) * np.sqrt(above)


def sizes_from_neighbours(widths, stds, samples):
    first = samples
    for n, s in zip(widths[2:], stds[1:]):
        first *= n * s * s
    squares = [first]
    for k in range(1, len(stds)):
        squares.append(squares[-1] * widths[k - 1] * stds[k - 1] ** 2 / (widths[k + 1] * stds[k] ** 2))
    return np.array(squares) ** 0.5


STYLES = {
    "uniform_bound": [bound_from_the_standard_deviation, bound_by_torch_names, bound_in_one_line],
    "unit_start": [start_layer_by_layer, start_by_running_from_the_bottom, start_by_standardize],
    "weight_gradient_sizes": [sizes_by_two_passes, sizes_by_cumulated_products, sizes_from_neighbours],
}

EQUIVALENT = {}
