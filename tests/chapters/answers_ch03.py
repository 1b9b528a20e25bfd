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


def lsuv_with_the_new_matrix(matrices, x):
    scaled = matrices.copy()
    for k in range(len(scaled)):
        scaled[k] /= (x @ scaled[k]).std()
        x = np.maximum(x @ scaled[k], 0)
    return scaled


def lsuv_by_running_from_the_bottom(matrices, x):
    found = []
    for W in matrices:
        h = x
        for V in found:
            h = (h @ V).clip(0)
        found.append(W / np.sqrt(np.var(h @ W)))
    return np.stack(found)


def lsuv_with_one_factor_for_the_chain(matrices, x):
    h, before, scaled = x, 1.0, []
    for W in matrices:
        z = h @ W  # of the old net: a ReLU passes positive factors on
        scaled.append(W * before / np.std(z))
        before = np.std(z)
        h = np.maximum(z, 0)
    return scaled


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
    "mended_lsuv": [lsuv_with_the_new_matrix, lsuv_by_running_from_the_bottom, lsuv_with_one_factor_for_the_chain],
    "weight_gradient_sizes": [sizes_by_two_passes, sizes_by_cumulated_products, sizes_from_neighbours],
}

EQUIVALENT = {}
