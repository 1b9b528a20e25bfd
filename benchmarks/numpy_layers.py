"""How fast the NumPy layers are, against the textbook form and against torch, on one thread.

    OMP_NUM_THREADS=1 python benchmarks/numpy_layers.py [rounds]

The rivals of a row take turns, round after round, so that a busy machine slows
them alike, and only the thread's own time counts.  A time is the best of all
rounds; a ratio is rival / ours, so above 1 ours is faster.  The textbook form
makes one temporary per step: it lays the shared entries along one axis of a
matrix, takes mean and variance along it, and goes back through the six
chain-rule lines of Ioffe & Szegedy 2015.  `extra` is our peak memory beside the
results, in arrays of the size of x.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before NumPy loads its BLAS
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import ctypes
import sys
import time
import tracemalloc
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F

import course_lib as ours

MAPS, ROWS = (32, 64, 56, 56), (4096, 1024)
# Tall and wide, few channels and few samples; then small maps.
EDGES = (10**6, 1), (10**6, 4), (10**5, 64), (16, 262144), (4, 10**6), (64, 512, 4, 4), (4, 10**5, 2, 2)
GROUPS = 32


def textbook_forward(rows, axis, eps, center=True):
    """Standardize a matrix along `axis`, a step a line, a temporary a step."""
    centered = rows - rows.mean(axis=axis, keepdims=True) if center else rows
    var = (centered**2).mean(axis=axis, keepdims=True)
    std = np.sqrt(var + eps)
    return centered / std, (centered, std, center)


def textbook_backward(dx_hat, cache, axis):
    """The chain rule line by line: dvar, dmu, dx."""
    centered, std, center = cache
    m = centered.shape[axis]
    dvar = (dx_hat * centered * -0.5 * std**-3).sum(axis=axis, keepdims=True)
    if not center:
        return dx_hat / std + dvar * 2 * centered / m
    dmu = (-dx_hat / std).sum(axis=axis, keepdims=True) + dvar * (-2 * centered).mean(axis=axis, keepdims=True)
    return dx_hat / std + dvar * 2 * centered / m + dmu / m


def textbook_columns(x, gamma, beta, dy):
    """Batch norm: every channel a column of an (N*H*W, C) matrix."""
    to_rows = (0, *range(2, x.ndim), 1)
    back = (0, x.ndim - 1, *range(1, x.ndim - 1))
    moved = x.transpose(to_rows)
    x_hat, cache = textbook_forward(moved.reshape(-1, x.shape[1]), 0, 1e-5)
    y = (gamma * x_hat + beta).reshape(moved.shape).transpose(back)
    if dy is None:
        return y
    dy = dy.transpose(to_rows).reshape(x_hat.shape)
    dx = textbook_backward(dy * gamma, cache, 0).reshape(moved.shape).transpose(back)
    return y, dx, (dy * x_hat).sum(axis=0), dy.sum(axis=0)


def textbook_rows(x, gamma, beta, dy, *, rows, shared, center=True):
    """The other layers: the entries that share statistics are a row of a (rows, -1) matrix."""
    x_hat, cache = textbook_forward(x.reshape(rows, -1), 1, 1e-5, center)
    x_hat = x_hat.reshape(x.shape)
    y = gamma * x_hat if beta is None else gamma * x_hat + beta
    if dy is None:
        return y
    dx = textbook_backward((dy * gamma).reshape(rows, -1), cache, 1).reshape(x.shape)
    gradients = y, dx, (dy * x_hat).sum(axis=shared)
    return gradients if beta is None else (*gradients, dy.sum(axis=shared))


def our_layer(layer, x, *parameters, dy, **options):
    y, cache = layer(x, *parameters, **options)
    return y if dy is None else (y, *ours.norm_backward(dy, cache))


def layers(shape):
    """Yield name, ours(dy), textbook(dy) for every layer that works on the shape; dy None is forward only."""
    rng = np.random.default_rng(0)
    x, dy = rng.standard_normal((2, *shape), dtype=np.float32)
    n, c, *spatial = shape
    groups = GROUPS if c % GROUPS == 0 else 1
    gamma, beta = rng.standard_normal((2, c), dtype=np.float32)
    gammas, betas = rng.standard_normal((2, *shape[1:]), dtype=np.float32)
    wide = (c, *[1] * len(spatial))
    g, b = gamma.reshape(wide), beta.reshape(wide)
    channel = {"shared": (0, *range(2, len(shape)))}

    def pair(name, layer, parameters, textbook, *arguments, options=(), **textbook_options):
        return (
            name, dy,
            lambda d: our_layer(layer, x, *parameters, dy=d, **dict(options)),
            lambda d: textbook(x, *arguments, d, **textbook_options),
        )

    yield pair("batch", ours.batch_norm, (gamma, beta), textbook_columns, gamma, beta)
    yield pair("layer", ours.layer_norm, (gammas, betas), textbook_rows, gammas, betas, rows=n, shared=0)
    yield pair("group", ours.group_norm, (gamma, beta), textbook_rows, g, b, rows=n * groups, **channel,
               options={"groups": groups})
    yield pair("rms", ours.rms_norm, (gammas,), textbook_rows, gammas, None, rows=n, shared=0, center=False)
    if spatial:
        yield pair("instance", ours.instance_norm, (gamma, beta), textbook_rows, g, b, rows=n * c, **channel)
        yield pair("frn", ours.filter_response_norm, (gamma, beta), textbook_rows, g, b, rows=n * c, center=False,
                   **channel, options={"eps": 1e-5})


def race(rivals, rounds):
    """Best time in ms of each function, all run in turn."""
    times = [[] for _ in rivals]
    for _ in range(rounds):
        for run, seconds in zip(rivals, times, strict=True):
            start = time.thread_time()
            run()
            seconds.append(time.thread_time() - start)
    return [1e3 * min(seconds) for seconds in times]


def peak_arrays(run, x):
    """The most memory the call holds at once beside its results, y and dx, in arrays of the size of x."""
    tracemalloc.start()
    results = run()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / x.nbytes - (2 if isinstance(results, tuple) else 1)


def row(what, shape, mode, mine, other, extra=""):
    print(f"{what:<22}{shape!s:<18}{mode:<9}{mine:9.1f}{other:9.1f}{other / mine:8.2f}{extra}", flush=True)


def against_textbook(rounds):
    ratios = {"forward": [], "fwd+bwd": []}
    for shape in (MAPS, ROWS):
        for name, dy, mine, textbook in layers(shape):
            for mode, upstream in (("forward", None), ("fwd+bwd", dy)):
                mine_now = partial(mine, upstream)
                a, b = race([mine_now, partial(textbook, upstream)], rounds)
                ratios[mode].append(b / a)
                row(name, shape, mode, a, b, f"{peak_arrays(mine_now, dy):9.1f}")
    for mode, values in ratios.items():
        print(f"geometric mean of {mode}: {np.exp(np.mean(np.log(values))):.2f} times as fast as the textbook form")


def at_the_edges(rounds):
    """Shapes that are unlike an image or a row of features."""
    for shape in EDGES:
        for name, dy, mine, textbook in layers(shape):
            for mode, upstream in (("forward", None), ("fwd+bwd", dy)):
                row(name, shape, mode, *race([partial(mine, upstream), partial(textbook, upstream)], rounds))


def against_torch(rounds):
    rng = np.random.default_rng(0)
    x, dy = rng.standard_normal((2, *MAPS), dtype=np.float32)
    gamma, beta = rng.standard_normal((2, MAPS[1]), dtype=np.float32)
    t, t_gamma, t_beta = map(torch.from_numpy, (x, gamma, beta))
    a, b = race([
        lambda: ours.batch_norm(x, gamma, beta),
        lambda: F.batch_norm(t, None, None, t_gamma, t_beta, training=True),
    ], rounds)
    row("batch, torch", MAPS, "forward", a, b)

    window = {"size": 5, "k": 2.0, "beta": 0.75}  # torch divides alpha by the size, the paper and ours do not
    a, b = race([
        lambda: ours.local_response_norm(x, alpha=1e-4, **window),
        lambda: F.local_response_norm(t, alpha=5e-4, **window),
    ], rounds)
    row("local response, torch", MAPS, "forward", a, b)

    def torch_both():
        leaf = t.clone().requires_grad_()
        F.local_response_norm(leaf, alpha=5e-4, **window).backward(torch.from_numpy(dy))

    def our_both():
        _, cache = ours.local_response_norm(x, alpha=1e-4, **window)
        ours.local_response_norm_backward(dy, cache)

    row("local response, torch", MAPS, "fwd+bwd", *race([our_both, torch_both], rounds))


def keep_freed_memory():
    """Let the C library keep what is freed (glibc only): else a time is mostly the system clearing fresh pages."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", lambda *_: None)
    m_trim_threshold, m_mmap_threshold = -1, -3
    mallopt(m_mmap_threshold, 2**30)
    mallopt(m_trim_threshold, 2**31 - 1)


def main():
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 7
    torch.set_num_threads(1)
    keep_freed_memory()
    print(f"{'layer':<22}{'shape':<18}{'pass':<9}{'ours ms':>9}{'rival':>9}{'ratio':>8}{'extra':>9}")
    against_textbook(rounds)
    at_the_edges(rounds)
    against_torch(rounds)


if __name__ == "__main__":
    main()
