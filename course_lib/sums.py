"""Sums that keep their digits, and keep up their speed.

A float32 sum of a million numbers has lost three of its seven digits.  Here
short stretches are summed in the type of the array, which is fast, and the few
results in float64, which is exact enough.
"""

from contextlib import contextmanager
from math import prod

import numpy as np

# Terms summed in the type of the array, before float64 takes over.  BLAS adds in
# 16 to 64 parallel lanes, einsum one term after the other.
ROW, COLUMN = 1024, 64
# A loop costs NumPy as much as some 50 entries in it, so rows up to this long are not gone through one by one.
SHORT = 64


def widen(a):
    """The array, contiguous and at least in float32: sums of float16 would keep three digits."""
    return a.astype(np.promote_types(a.dtype, np.float32), order="C", copy=False)


def mean(a, axes, *, times=None):
    """Mean of `a`, or of `a * times`, over `axes`, which stay as axes of length 1.

    Args:
        a: floating array, float32 or wider.
        axes: sorted tuple of the axes to reduce.
        times: None, or an array of the shape of `a`.
    Returns:
        array of the type of `a`; the mean of nothing is 0.
    """
    count = prod(a.shape[axis] for axis in axes)
    if count == 1:
        return a if times is None else a * times
    return (total(a, axes, times=times) / max(count, 1)).astype(a.dtype)


def total(a, axes, *, times=None):
    """Sum of `a`, or of `a * times`, over `axes`, which stay as axes of length 1, in float64."""
    kept = [1 if axis in axes else n for axis, n in enumerate(a.shape)]
    if a.size == 0:
        return np.zeros(kept)
    axes = tuple(sum(n > 1 for n in a.shape[:axis]) for axis in axes if a.shape[axis] > 1)
    a, times = a.squeeze(), None if times is None else times.squeeze()  # axes of length 1 only take time
    if not axes:
        return np.multiply(a, 1 if times is None else times, dtype=np.float64).reshape(kept)
    row = _row(a.ndim, axes)
    if axes[0] < row < a.ndim and prod(a.shape[row:]) <= SHORT:  # short rows are summed last, when there are few
        before, within = axes[: axes.index(row)], axes[axes.index(row) :]
        return total(total(a, before, times=times), within).reshape(kept)
    along = _along_rows if row < a.ndim else _along_columns
    parts, rest = along(a, times, axes)
    return parts.sum(axis=(0, *rest), dtype=np.float64).reshape(kept)


def centered(a, axes):
    """`a` less its mean over `axes`, and that mean in float64.

    The mean is removed twice: a float32 mean near 10,000 is rounded by up to
    0.0005, and the second pass removes what the first one left.
    """
    first = mean(a, axes)
    with short_buffers():
        a_centered = a - repeated(first, a)
        rest = total(a_centered, axes) / max(prod(a.shape[axis] for axis in axes), 1)
        a_centered -= repeated(rest.astype(a.dtype), a)
    return a_centered, first + rest


def _row(ndim, axes):
    """Where the last axes begin that are all summed over; ndim if the very last is not."""
    return next(k for k in range(ndim + 1) if all(axis in axes for axis in range(k, ndim)))


def _along_rows(a, times, axes):
    lead = _row(a.ndim, axes)
    a = a.reshape(*a.shape[:lead], -1)
    length = 4 * ROW if times is None else ROW  # squares pile up; numbers of both signs cancel, and lose less
    pieces = _pieces(a, -1, length)
    others = [np.ones(p.shape[-1], a.dtype) for p in pieces] if times is None else _pieces(
        times.reshape(a.shape), -1, length)
    parts = [np.vecdot(p, q) for p, q in zip(pieces, others)]
    parts = np.ascontiguousarray(np.concatenate([np.moveaxis(p, -1, 0) for p in parts]))
    return parts, [axis + 1 for axis in axes if axis < lead]


def _along_columns(a, times, axes):
    first, *rest = axes
    a = np.moveaxis(a, first, 0)
    if times is None:
        return np.concatenate([np.einsum("pi...->p...", p) for p in _pieces(a, 0, COLUMN)]), rest
    pairs = zip(_pieces(a, 0, COLUMN), _pieces(np.moveaxis(times, first, 0), 0, COLUMN))
    return np.concatenate([np.einsum("pi...,pi...->p...", p, q) for p, q in pairs]), rest


def _pieces(a, axis, length):
    """Views of `a` with the axis cut in two: stretches of equal length, and what is left as one that is shorter."""
    n, at = a.shape[axis], axis % a.ndim
    whole, left = np.split(a, [n - n % length], axis)
    return [part.reshape(*a.shape[:at], -1, each, *a.shape[at + 1:])
            for part, each in ((whole, length), (left, n % length)) if part.size]


def repeated(statistic, a):
    """`statistic`, as many axes as `a`, repeated along the last ones if these are short and many share it."""
    row = next(k for k in range(a.ndim + 1) if all(n == 1 for n in statistic.shape[k:]))
    run = prod(a.shape[row:])
    if not 1 < run <= SHORT or 2 * statistic.size * run > a.size:
        return statistic
    return np.repeat(statistic, run).reshape(*statistic.shape[:row], *a.shape[row:])


@contextmanager
def short_buffers():
    """Let NumPy broadcast without copying: twice as fast when a statistic meets a large array.

    NumPy copies a broadcast operand through a buffer of 8192 entries whenever
    the inner loop is shorter than that.  A buffer shorter than a row avoids it.
    """
    with np.errstate():  # gives the old size back at its end (NumPy 2.0 and later)
        np.setbufsize(512)
        yield
