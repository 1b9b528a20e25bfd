"""The sums behind all layers, on every choice of axes, against exactly rounded ones."""

import itertools

import numpy as np
import oracles
import pytest

from course_lib.sums import COLUMN, ROW, SHORT, _along_rows, centered, mean, repeated, short_buffers, total, widen

SHAPE = (3, 4, 5, 2)
AXES = [axes for k in range(5) for axes in itertools.combinations(range(4), k)]


def draw(shape=SHAPE, dtype=np.float64):
    return np.random.default_rng(0).standard_normal((2, *shape)).astype(dtype)


@pytest.mark.parametrize("axes", AXES, ids=str)
def test_mean_equals_loops(axes):
    a, b = draw()
    np.testing.assert_allclose(mean(a, axes), oracles.mean(a, axes), rtol=1e-13, atol=1e-15)
    np.testing.assert_allclose(mean(a, axes, times=b), oracles.mean(a * b, axes), rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize("axes", AXES, ids=str)
def test_total_is_the_mean_times_the_count_in_float64(axes):
    a, b = draw(dtype=np.float32)
    count = np.prod([SHAPE[axis] for axis in axes], dtype=int)
    for times in (None, b):
        summed = total(a, axes, times=times)
        assert summed.dtype == np.float64
        assert mean(a, axes, times=times).dtype == np.float32
        np.testing.assert_array_equal(mean(a, axes, times=times), (summed / count).astype(np.float32))


@pytest.mark.parametrize("length", [1, COLUMN - 1, COLUMN, COLUMN + 1, ROW - 1, ROW, ROW + 1, 2 * ROW + 3])
def test_sums_take_every_stretch_once(length):
    """The ends of the stretches: a sum of ones is a count, a term left out or taken twice shows."""
    ones = np.ones((length, 2), np.float32)
    np.testing.assert_array_equal(total(ones, (0,)), [[length, length]])
    np.testing.assert_array_equal(total(np.ascontiguousarray(ones.T), (1,)), [[length], [length]])
    np.testing.assert_array_equal(total(ones, (0, 1)), [[2 * length]])


@pytest.mark.parametrize("axes", AXES, ids=str)
def test_sums_take_views(axes):
    a, b = draw((5, 4, 3, 4))
    a, b = a[::-1, :, :, ::2].swapaxes(0, 2), b[::-1, :, :, ::2].swapaxes(0, 2)
    np.testing.assert_allclose(mean(a, axes, times=b), oracles.mean(a * b, axes), rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize("shape", [(1, 4, 1, 2), (7, 1, 1, 1), (1, 1, 5, 1), (1, 1, 1, 1), (3, 1, 1, 2)], ids=str)
@pytest.mark.parametrize("axes", AXES, ids=str)
def test_axes_of_length_1_change_nothing(shape, axes):
    a, b = draw(shape)
    np.testing.assert_allclose(mean(a, axes), oracles.mean(a, axes), rtol=1e-13, atol=1e-15)
    np.testing.assert_allclose(mean(a, axes, times=b), oracles.mean(a * b, axes), rtol=1e-13, atol=1e-15)
    np.testing.assert_allclose(total(a, axes), a.sum(axes, keepdims=True), rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize("run", [(2, 2), (1, SHORT), (1, SHORT + 1), (SHORT // 2, 2), (SHORT, 2)], ids=str)
def test_short_rows_after_columns_keep_their_digits(run):
    """(N, C, *S) with small maps, summed over N first: a running float32 sum would be off by 1e-5 and more."""
    a = (1 + 0.1 * np.random.default_rng(0).standard_normal((3000, 3, *run))).astype(np.float32)
    wide = a.astype(np.float64)
    for axes in ((0, 2, 3), (0, 3), (0, 1, 3), (0, 1, 2, 3)):
        for times, right in ((None, wide), (a, wide**2)):
            found = total(a, axes, times=times)
            np.testing.assert_allclose(found, right.sum(axes, keepdims=True), rtol=3e-7)


@pytest.mark.parametrize("shape, kept, is_repeated", [
    ((4, 5, 2, 3), (1, 5, 1, 1), True), ((4, 5, 1, SHORT), (1, 5, 1, 1), True), ((2, 5, 3), (1, 5, 1), True),
    ((4, 5, 1, SHORT + 1), (1, 5, 1, 1), False), ((4, 5, 2, 3), (4, 5, 1, 1), False), ((1, 5, 3), (1, 5, 1), False),
    ((4, 5), (1, 5), False), ((4, 5, 1), (1, 5, 1), False), ((9, 3), (1, 1), False), ((9, 4, 3), (1, 4, 3), False),
    ((9, 4, 2), (1, 4, 1), True),
], ids=str)
def test_statistic_is_repeated_along_short_rows_that_many_share(shape, kept, is_repeated):
    a, statistic = np.zeros(shape), np.random.default_rng(0).standard_normal(kept)
    found = repeated(statistic, a)
    assert (found is not statistic) == is_repeated
    np.testing.assert_array_equal(np.broadcast_to(found, shape), np.broadcast_to(statistic, shape))


@pytest.mark.parametrize("axes", [(), (0,), (1,), (0, 1), (0, 2), (2,), (0, 1, 2)], ids=str)
@pytest.mark.parametrize("shape", [(0, 4, 5), (3, 0, 5), (3, 4, 0)], ids=str)
def test_mean_of_nothing_is_0(shape, axes):
    kept = tuple(1 if axis in axes else n for axis, n in enumerate(shape))
    np.testing.assert_array_equal(mean(np.ones(shape, np.float32), axes), np.zeros(kept))


@pytest.mark.parametrize("value", [1.001, 1.37, 1.7, 0.1])
@pytest.mark.parametrize("shape, axis, bound", [((60_000, 3), 0, 1e-6), ((3, 1_000_000), 1, 4e-6)], ids=str)
def test_stretches_are_short_enough_for_float32(shape, axis, bound, value):
    """Equal terms are the worst case, since their rounding errors all point one way.

    A float32 sum that runs on over all of them is off by more.  The bound for
    rows is that of 16 lanes, the fewest in use; 64 lanes keep 6e-7.
    """
    a = np.full(shape, value, np.float32)
    exact = np.float64(np.float32(value))
    assert np.all(np.abs(mean(a, (axis,)) / exact - 1) < bound)
    running = np.add.accumulate(a, axis).take(-1, axis) / shape[axis]
    assert np.all(np.abs(running / exact - 1) > bound)


@pytest.mark.parametrize("dtype, wide", [(np.float16, np.float32), (np.float32, np.float32), (np.float64, np.float64)])
def test_widen_makes_float16_float32_and_copies_nothing_else(dtype, wide):
    a = np.ones((3, 4), dtype)
    assert widen(a).dtype == wide
    assert (widen(a) is a) == (dtype == wide)
    assert widen(a.T).flags.c_contiguous


def test_short_buffers_gives_the_old_size_back():
    before = np.getbufsize()
    with short_buffers():
        assert np.getbufsize() < before
    assert np.getbufsize() == before
    with pytest.raises(ValueError), short_buffers():
        raise ValueError
    assert np.getbufsize() == before


def test_squares_are_summed_in_shorter_stretches_than_values():
    """Squares only grow; the first stretches of ROW squares and of 4 * ROW values are one sum each, no more."""
    a = np.ones(4 * ROW + 1, np.float32)
    assert len(_along_rows(a, a, (0,))[0]) == 5
    assert len(_along_rows(a, None, (0,))[0]) == 2 and len(_along_rows(a[1:], None, (0,))[0]) == 1


def counting(function, calls):
    def counted(*arguments):
        calls.append(function)
        return function(*arguments)
    return counted


@pytest.mark.parametrize("shape, axes", [((64 * 500 + 3, 2), (0,)), ((2, 4096 * 300 + 5), (1,)), ((64, 5), (0,)),
                                         ((63, 5), (0,)), ((7, 100, 2, 3), (0, 2, 3))], ids=str)
def test_number_of_calls_does_not_grow_with_the_array(shape, axes, monkeypatch):
    """A call for each stretch of 64 rows took 20 times as long as the textbook form where rows are short."""
    calls = []
    for name in ("einsum", "vecdot"):
        monkeypatch.setattr(np, name, counting(getattr(np, name), calls))
    a = np.random.default_rng(0).standard_normal(shape)
    np.testing.assert_allclose(total(a, axes, times=a).ravel(), (a * a).sum(axes), rtol=1e-12)
    np.testing.assert_allclose(total(a, axes).ravel(), a.sum(axes), rtol=1e-9, atol=1e-9)
    assert len(calls) <= 4


def test_mean_of_centered_has_more_digits_than_float32():
    a = (1e4 + np.random.default_rng(0).standard_normal((5000, 3))).astype(np.float32)
    a_centered, mu = centered(a, (0,))
    exact = a.astype(np.float64).mean(0, keepdims=True)
    np.testing.assert_allclose(mu, exact, rtol=1e-10)
    np.testing.assert_allclose(a_centered, a - exact, atol=2e-6)
