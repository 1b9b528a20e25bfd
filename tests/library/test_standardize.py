"""`standardize` and its gradient against loops, the definition, and central differences."""

import itertools

import numpy as np
import oracles
import pytest

from course_lib import standardize, standardize_backward

RNG_SHAPE = (3, 4, 5)
AXES = [axes for k in (1, 2, 3) for axes in itertools.combinations(range(3), k)]
CLOSE = {"rtol": 1e-12, "atol": 1e-12}  # float64 on both sides: a few hundred roundings of 1e-16


def draw(seed=0, shape=RNG_SHAPE):
    rng = np.random.default_rng(seed)
    return 3 + 2 * rng.standard_normal(shape), rng.standard_normal(shape)


def slices(axes, shape=RNG_SHAPE):
    """The indices of each slice along `axes`."""
    kept = [range(1) if axis in axes else range(n) for axis, n in enumerate(shape)]
    for at in itertools.product(*kept):
        yield [e for e in np.ndindex(*shape) if all(e[k] == at[k] for k in range(len(shape)) if k not in axes)]


@pytest.mark.parametrize("eps", [0.0, 1e-5, 0.1])
@pytest.mark.parametrize("center", [True, False])
@pytest.mark.parametrize("axes", AXES, ids=str)
def test_standardize_equals_loops(axes, center, eps):
    x, dx_hat = draw()
    x_hat, cache = standardize(x, axes, center=center, eps=eps)
    dx = standardize_backward(dx_hat, cache)
    for entries in slices(axes):
        values, upstream = ([float(a[e]) for e in entries] for a in (x, dx_hat))
        expected, inv_std = oracles.standardized(values, eps, center)
        np.testing.assert_allclose([x_hat[e] for e in entries], expected, **CLOSE)
        expected = oracles.chain_rule(values, upstream, eps, center)
        np.testing.assert_allclose([dx[e] for e in entries], expected, **CLOSE)
        small = tuple(0 if axis in axes else n for axis, n in enumerate(entries[0]))
        np.testing.assert_allclose(cache.inv_std[small], inv_std, **CLOSE)


def test_standardize_default_is_centred_with_eps_1e_5():
    x, _ = draw()
    default, cache = standardize(x, (1,))
    spelt, _ = standardize(x, (1,), center=True, eps=1e-5)
    np.testing.assert_array_equal(default, spelt)
    assert cache.center and cache.axes == (1,)


@pytest.mark.parametrize("axes", [(-1,), (2, 0), (-1, 0), [0, 2]], ids=str)
def test_standardize_axes_may_be_negative_and_in_any_order(axes):
    x, dx_hat = draw()
    ordered = tuple(sorted(axis % 3 for axis in axes))
    x_hat, cache = standardize(x, axes)
    right, right_cache = standardize(x, ordered)
    assert cache.axes == ordered
    np.testing.assert_array_equal(x_hat, right)
    np.testing.assert_array_equal(standardize_backward(dx_hat, cache), standardize_backward(dx_hat, right_cache))


def test_standardize_without_centring_may_have_one_entry_per_slice():
    """x / sqrt(x**2 + eps): the sign of x, softened by eps."""
    x = np.array([[-2.0, 0.0, 0.1]])
    x_hat, cache = standardize(x, (0,), center=False, eps=0.01)
    np.testing.assert_allclose(x_hat, x / np.sqrt(x**2 + 0.01), rtol=1e-15)
    np.testing.assert_array_equal(standardize(x, (), center=False, eps=0.01)[0], x_hat)
    # d/dx x (x**2 + eps)**-1/2 = eps (x**2 + eps)**-3/2
    np.testing.assert_allclose(standardize_backward(np.ones_like(x), cache), 0.01 * (x**2 + 0.01) ** -1.5, rtol=1e-12)


@pytest.mark.parametrize("center", [True, False])
def test_standardize_takes_an_eps_per_slice(center):
    x, dx_hat = draw()
    eps = np.array([0.0, 1e-3, 0.1, 1.0]).reshape(1, 4, 1)
    x_hat, cache = standardize(x, (0, 2), center=center, eps=eps)
    dx = standardize_backward(dx_hat, cache)
    for k in range(4):
        alone, alone_cache = standardize(x[:, k], (0, 1), center=center, eps=eps[0, k, 0])
        np.testing.assert_allclose(x_hat[:, k], alone, **CLOSE)
        np.testing.assert_allclose(dx[:, k], standardize_backward(dx_hat[:, k], alone_cache), **CLOSE)


@pytest.mark.parametrize("center", [True, False])
@pytest.mark.parametrize("eps", [1e-5, 0.1])
def test_standardize_backward_equals_central_differences(center, eps):
    """Along random directions: (L(x + h v) - L(x - h v)) / 2h = <dx, v> + O(h**2)."""
    x, dx_hat = draw()
    _, cache = standardize(x, (0, 2), center=center, eps=eps)
    dx = standardize_backward(dx_hat, cache)
    rng = np.random.default_rng(1)
    h = 1e-5
    for _ in range(5):
        v = rng.standard_normal(x.shape)
        plus, minus = (np.sum(dx_hat * standardize(x + s * h * v, (0, 2), center=center, eps=eps)[0]) for s in (1, -1))
        # h**2 = 1e-10 of truncation, 1e-16 / h = 1e-11 of rounding, values near 1
        assert abs((plus - minus) / (2 * h) - np.sum(dx * v)) < 1e-8


def test_standardize_with_eps_0_gives_nan_for_a_constant_slice():
    x = np.array([[1.0, 1.0], [1.0, 3.0]])
    with pytest.warns(RuntimeWarning, match="divide by zero|invalid value"):
        x_hat, _ = standardize(x, (1,), eps=0)
    np.testing.assert_array_equal(x_hat, [[np.nan, np.nan], [-1, 1]])


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_standardize_keeps_the_type(dtype):
    x, dx_hat = (a.astype(dtype) for a in draw())
    x_hat, cache = standardize(x, (0, 2))
    dx = standardize_backward(dx_hat, cache)
    assert x_hat.dtype == dx.dtype == dtype
    assert cache.x_hat.dtype == cache.inv_std.dtype == max(dtype, np.float32, key=lambda t: np.finfo(t).bits)


@pytest.mark.parametrize("center", [True, False])
def test_standardize_computes_in_the_type_of_x_under_a_float64_eps(center):
    x, _ = draw()
    x_hat, cache = standardize(x.astype(np.float32), (0, 2), center=center, eps=np.full((1, 4, 1), 0.1))
    assert x_hat.dtype == cache.x_hat.dtype == cache.inv_std.dtype == np.float32


def test_standardize_backward_returns_the_type_of_the_gradient():
    x, dx_hat = draw()
    _, cache = standardize(x, (0, 2))
    assert standardize_backward(dx_hat.astype(np.float32), cache).dtype == np.float32


def test_standardize_cache_is_one_large_array_and_a_small_one():
    x, _ = draw()
    x_hat, cache = standardize(x, (0, 2))
    assert cache.x_hat is x_hat
    assert cache.inv_std.shape == (1, 4, 1)
