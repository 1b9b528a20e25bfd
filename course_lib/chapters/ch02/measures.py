"""What chapter 2 measures with more than a few lines; the chapter shows the source of `descend`."""

import time

import numpy as np


def descend(H, gap, rate, target=1e-6, most=100_000):
    """Steps until each run's loss is within target of its least.

    gap is theta - theta*, (runs, D + 1).
    """
    steps = np.full(len(gap), np.inf)
    for step in range(1, most + 1):
        gap = gap - rate * (gap @ H)
        above = ((gap @ H) * gap).sum(axis=1) / 2
        steps[np.isinf(steps) & (above <= target)] = step
        if np.isfinite(steps).all():
            break
    return steps


def milliseconds(function, *args, repeats=5):
    """The least time of a call on the processor, in milliseconds."""
    taken = []
    for _ in range(repeats):
        start = time.process_time()
        function(*args)
        taken.append(time.process_time() - start)
    return 1000 * min(taken)


def batch_with_variances(variances, samples, seed=0):
    """A batch (samples, D) with exactly these variances along axes that are turned at random."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((samples, len(variances)))
    white = np.linalg.svd(x - x.mean(axis=0), full_matrices=False)[0] * np.sqrt(samples)
    axes = np.linalg.qr(rng.standard_normal((len(variances),) * 2))[0]
    return white * np.sqrt(variances) @ axes.T
