"""Local response normalization and divisive normalization."""

import tracemalloc

import numpy as np
import oracles
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from course_lib import check_vjp, divisive_norm, local_response_norm, local_response_norm_backward, lrn, rms_norm

pytestmark = pytest.mark.filterwarnings("error")  # a warning of NumPy is a fault of the package
SHAPES = [(3, 7), (3, 7, 2), (2, 7, 3, 4), (2, 5, 3, 2, 4)]
SIZES = [1, 2, 3, 4, 5, 8, 30]  # odd, even, and wider than there are channels
# alpha * sum is as large as k: with AlexNet's 1e-4 a wrong window would show in the fourth digit only
STRONG = {"k": 1.3, "alpha": 0.4, "beta": 0.6}


def random(shape, seed=0, scale=2.0):
    return scale * np.random.default_rng(seed).standard_normal(shape)


def both(x, dy, **options):
    y, cache = local_response_norm(x, **options)
    return y, local_response_norm_backward(dy, cache)


def by_torch(x, dy, *, size, k, alpha, beta):
    t = torch.tensor(x, requires_grad=True)
    y = F.local_response_norm(t, size, alpha=alpha * size, beta=beta, k=k)
    y.backward(torch.tensor(dy))
    return y.detach().numpy(), t.grad.numpy()


@pytest.mark.parametrize("beta", [0.75, 0.6, 0.5, 1.0, 1.5])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_local_response_norm_equals_loops(shape, size, beta):
    x, dy = random(shape), random(shape, seed=1)
    options = STRONG | {"size": size, "beta": beta}
    y, dx = both(x, dy, **options)
    # float64, sums of at most 7 terms: a few units in the last place
    np.testing.assert_allclose(y, oracles.local_response_norm(x, **options), rtol=1e-13)
    np.testing.assert_allclose(dx, oracles.local_response_norm_backward(x, dy, **options), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("beta", [0.75, 0.6])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("shape", SHAPES[1:], ids=str)
def test_local_response_norm_equals_torch_with_alpha_times_size(shape, size, beta):
    x, dy = random(shape), random(shape, seed=1)
    options = STRONG | {"size": size, "beta": beta}
    for ours, theirs in zip(both(x, dy, **options), by_torch(x, dy, **options), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-10, atol=1e-12)  # the goal of the course for float64


def test_local_response_norm_defaults_are_those_of_alexnet():
    x = random((2, 7, 3), scale=60)  # alpha * sum is about 2, as large as k
    expected = oracles.local_response_norm(x, size=5, k=2.0, alpha=1e-4, beta=0.75)
    np.testing.assert_allclose(local_response_norm(x)[0], expected, rtol=1e-13)


@pytest.mark.parametrize("size", SIZES)
def test_local_response_norm_backward_passes_the_gradient_check(size):
    x = random((2, 7, 3))
    assert check_vjp(lambda x: local_response_norm(x, size=size, **STRONG), local_response_norm_backward, x) < 1e-8


def test_even_window_reaches_left_and_its_gradient_right():
    x, dy = np.zeros((1, 6)), np.zeros((1, 6))
    x[0, 2], dy[0, 2] = 3.0, 1.0
    ones = np.ones((1, 6))
    y, _ = local_response_norm(x + 1e-9 * ones, size=2, k=1.0, alpha=1.0, beta=1.0)
    np.testing.assert_allclose(y[0] / (x[0] + 1e-9), [1, 1, 0.1, 0.1, 1, 1], rtol=1e-6)  # channels 2 and 3 see 3**2
    _, dx = both(x + ones, dy, size=2, k=1.0, alpha=1.0, beta=1.0)
    assert np.flatnonzero(dx).tolist() == [1, 2]  # output 2 saw channels 1 and 2


def test_response_of_an_isolated_unit_peaks_at_200_with_the_constants_of_alexnet():
    x = np.zeros((1001, 5))
    x[:, 2] = np.linspace(0, 1000, 1001)
    y, _ = local_response_norm(x)
    assert x[np.argmax(y[:, 2]), 2] == 200  # sqrt(k / (alpha * (2 * beta - 1)))


# Properties ----------------------------------------------------------------------------------------------------------

shapes = st.tuples(st.integers(1, 3), st.integers(1, 7), st.integers(1, 3))
seeds = st.integers(0, 2**16)
sizes = st.integers(1, 9)


@given(shapes, seeds, sizes)
def test_property_responses_keep_their_sign_and_shrink_when_k_is_1(shape, seed, size):
    x = random(shape, seed)
    y, _ = local_response_norm(x, size=size, k=1.0, alpha=0.4)
    assert np.all(np.sign(y) == np.sign(x)) and np.all(np.abs(y) <= np.abs(x))


@given(shapes, seeds, sizes, st.floats(0.1, 10))
def test_property_scaling_x_is_scaling_alpha(shape, seed, size, scale):
    x = random(shape, seed)
    scaled, _ = local_response_norm(scale * x, size=size, alpha=0.4)
    np.testing.assert_allclose(scaled, scale * local_response_norm(x, size=size, alpha=0.4 * scale**2)[0], rtol=1e-12)


@given(shapes, seeds, sizes, st.floats(0.1, 10))
def test_property_without_k_and_with_beta_one_half_it_is_blind_to_scale(shape, seed, size, scale):
    x = random(shape, seed)
    y, cache = local_response_norm(x, size=size, k=0.0, alpha=0.4, beta=0.5)
    np.testing.assert_allclose(local_response_norm(scale * x, size=size, k=0.0, alpha=0.4, beta=0.5)[0], y, rtol=1e-12)
    dx = local_response_norm_backward(random(shape, seed + 1), cache)
    # Euler: the gradient is orthogonal to x, position by position; 1e-12 of sums of 7 terms of size 1
    np.testing.assert_allclose(np.sum(x * dx, axis=1), 0, atol=1e-10)


@given(shapes, seeds, sizes)
def test_property_channels_in_one_window_keep_their_ratio(shape, seed, size):
    x = random(shape, seed)
    y, _ = local_response_norm(x, size=2 * shape[1] + size, **STRONG)  # every window holds all channels
    np.testing.assert_allclose(y * x[:, :1], x * y[:, :1], rtol=1e-12, atol=1e-300)


@given(shapes, seeds, sizes)
def test_property_odd_window_commutes_with_reversal(shape, seed, size):
    x = random(shape, seed)
    odd = {"size": 2 * size - 1, **STRONG}
    y, _ = local_response_norm(x, **odd)
    np.testing.assert_allclose(local_response_norm(x[:, ::-1], **odd)[0], y[:, ::-1], rtol=1e-12)  # another order


@given(shapes, seeds, sizes)
def test_property_samples_and_positions_do_not_meet(shape, seed, size):
    x = random(shape, seed)
    y, _ = local_response_norm(x, size=size, **STRONG)
    one = local_response_norm(x[-1:, :, -1], size=size, **STRONG)[0]
    np.testing.assert_allclose(y[-1:, :, -1], one, rtol=1e-14)


@given(shapes, seeds, sizes)
def test_property_backward_is_linear_in_dy(shape, seed, size):
    _, cache = local_response_norm(random(shape, seed), size=size, **STRONG)
    a, b = random(shape, seed + 1), random(shape, seed + 2)
    together = local_response_norm_backward(a - 3 * b, cache)
    apart = local_response_norm_backward(a, cache) - 3 * local_response_norm_backward(b, cache)
    np.testing.assert_allclose(together, apart, rtol=1e-12, atol=1e-12)


@given(shapes, seeds, st.floats(1e-6, 1))
def test_property_with_all_channels_in_the_window_it_is_rms_norm(shape, seed, eps):
    x = np.moveaxis(random(shape, seed), 1, -1)
    channels = shape[1]
    rms, _ = rms_norm(x, np.ones(channels), eps=eps)
    y, _ = local_response_norm(np.moveaxis(x, -1, 1), size=2 * channels, k=eps, alpha=1 / channels, beta=0.5)
    np.testing.assert_allclose(np.moveaxis(y, 1, -1), rms, rtol=1e-12)


# Types, layouts, sizes ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_local_response_norm_keeps_the_type_and_the_digits(dtype):
    x, dy = random((2, 6, 3)).astype(dtype), random((2, 6, 3), seed=1).astype(dtype)
    y, dx = both(x, dy, **STRONG)
    assert y.dtype == dx.dtype == dtype
    exact = both(x.astype(np.float64), dy.astype(np.float64), **STRONG)
    # half types: only the rounding of the result is left, half a unit in the last place; float32: a few roundings
    allowed = {np.float16: 5e-4, np.float32: 1e-6, np.float64: 1e-14}[dtype]
    np.testing.assert_allclose(y, exact[0], rtol=allowed, atol=allowed * 0.01)
    np.testing.assert_allclose(dx, exact[1], rtol=allowed, atol=allowed)


def test_float16_does_not_overflow_in_the_sum():
    x = np.full((1, 5), 300, dtype=np.float16)  # 300**2 is beyond float16
    np.testing.assert_allclose(local_response_norm(x)[0], local_response_norm(x.astype(np.float64))[0], rtol=5e-4)


def test_two_roots_equal_the_power():
    t = np.geomspace(1e-6, 1e6, 100)
    np.testing.assert_allclose(lrn._inverse_power(t, 0.75), t**-0.75, rtol=1e-15 * 4)  # three roundings
    np.testing.assert_allclose(lrn._inverse_power(t.astype(np.float32), 0.75), t**-0.75, rtol=5e-7)


def test_local_response_norm_does_not_depend_on_its_blocks(monkeypatch):
    x, dy = random((7, 5, 2, 2)), random((7, 5, 2, 2), seed=1)
    whole = both(x, dy, **STRONG)
    for entries in (1, 45, 1000):  # less than a sample; two samples, so that the last block is short; all
        monkeypatch.setattr(lrn, "BLOCK", entries)
        for ours, expected in zip(both(x, dy, **STRONG), whole, strict=True):
            np.testing.assert_array_equal(ours, expected)


def test_blocks_hold_as_many_samples_as_fit(monkeypatch):
    monkeypatch.setattr(lrn, "BLOCK", 45)
    assert lrn._blocks(np.zeros((5, 20))) == [slice(0, 2), slice(2, 4), slice(4, 6)]
    assert lrn._blocks(np.zeros((2, 46))) == [slice(0, 1), slice(1, 2)]
    assert lrn._blocks(np.zeros((50, 1))) == [slice(0, 45), slice(45, 90)]
    assert len(lrn._blocks(np.zeros((2, 3, 0)))) == 1


def test_local_response_norm_needs_two_arrays_and_its_backward_one():
    x, dy = random((8, 16, 64, 64)), random((8, 16, 64, 64), seed=1)  # 4 MB each, 8 blocks
    tracemalloc.start()
    try:
        _, cache = local_response_norm(x)
        assert tracemalloc.get_traced_memory()[1] < 2.6 * x.nbytes  # y, t and a few blocks
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        local_response_norm_backward(dy, cache)
        assert tracemalloc.get_traced_memory()[1] - before < 1.7 * x.nbytes  # dx and a few blocks
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("order", ["transposed", "strided", "reversed", "fortran"])
def test_local_response_norm_takes_any_layout(order):
    x = random((4, 6, 8))
    x = {"transposed": x.transpose(2, 1, 0), "strided": x[::2, ::2, ::3], "reversed": x[:, ::-1],
         "fortran": np.asfortranarray(x)}[order]
    dy = random(x.shape[::-1], seed=1).T
    for ours, expected in zip(both(x, dy, **STRONG), both(x.copy(), dy.copy(), **STRONG), strict=True):
        np.testing.assert_array_equal(ours, expected)


def test_local_response_norm_leaves_its_inputs_alone():
    x, dy = random((2, 6, 3)), random((2, 6, 3), seed=1)
    kept = x.copy(), dy.copy()
    both(x, dy)
    np.testing.assert_array_equal(x, kept[0])
    np.testing.assert_array_equal(dy, kept[1])


@pytest.mark.parametrize("shape", [(0, 4, 3), (2, 0, 3), (2, 4, 0)], ids=str)
def test_local_response_norm_of_nothing_is_nothing(shape):
    y, dx = both(np.zeros(shape), np.zeros(shape))
    assert y.shape == dx.shape == shape
    assert divisive_norm(np.zeros(shape), np.ones((shape[1],) * 2), sigma=1.0).shape == shape


def test_nan_reaches_the_windows_that_hold_it_and_no_others():
    x = random((2, 7, 3))
    x[0, 1, 2] = np.nan
    y, _ = local_response_norm(x, size=3)
    assert np.argwhere(np.isnan(y)).tolist() == [[0, 0, 2], [0, 1, 2], [0, 2, 2]]
    assert np.isnan(divisive_norm(np.abs(x), np.ones((7, 7)), sigma=1.0)[0, :, 2]).all()


@pytest.mark.parametrize(("x", "options", "error", "message"), [
    (np.zeros((2, 3), int), {}, TypeError, "x is int64; normalization needs a floating type"),
    (np.zeros(3), {}, ValueError, r"x has shape \(3,\); it needs a sample axis and a channel axis, \(N, C, \*S\)"),
    (np.zeros((2, 3)), {"size": 0}, ValueError, "an integer of 1 or more; got 0$"),
    (np.zeros((2, 3)), {"size": 2.5}, ValueError, "an integer of 1 or more; got 2.5$"),
    (np.zeros((2, 3)), {"size": 3.0}, ValueError, "an integer of 1 or more; got 3.0$"),
    (np.zeros((2, 3)), {"size": np.nan}, ValueError, "an integer of 1 or more; got nan$"),
    (np.zeros((2, 3)), {"k": -1.0}, ValueError, "k and alpha must be 0 or more, got k = -1.0 and alpha = 0.0001$"),
    (np.zeros((2, 3)), {"alpha": -0.5}, ValueError, "k and alpha must be 0 or more, got k = 2.0 and alpha = -0.5$"),
    (np.zeros((2, 3)), {"alpha": np.nan}, ValueError, "got k = 2.0 and alpha = nan$"),
])
def test_local_response_norm_refuses(x, options, error, message):
    with pytest.raises(error, match=message):
        local_response_norm(x, **options)


def test_local_response_norm_takes_zero_k_and_alpha():
    x = random((2, 3))
    np.testing.assert_array_equal(local_response_norm(x, k=1.0, alpha=0.0)[0], x)
    np.testing.assert_allclose(local_response_norm(x, size=1, k=0.0, alpha=1.0, beta=0.5)[0], np.sign(x))


def test_local_response_norm_backward_refuses_another_shape_and_integers():
    _, cache = local_response_norm(random((2, 3)))
    with pytest.raises(ValueError, match=r"dy has shape \(3, 2\), but y had \(2, 3\)"):
        local_response_norm_backward(np.zeros((3, 2)), cache)
    with pytest.raises(TypeError, match="dy is int64"):
        local_response_norm_backward(np.zeros((2, 3), int), cache)


# Divisive normalization -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("exponent", [2.0, 1.0, 2.7])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_divisive_norm_equals_loops(shape, exponent):
    x, weights = np.abs(random(shape)), np.random.default_rng(1).uniform(0, 1, (shape[1], shape[1]))
    expected = oracles.divisive_norm(x, weights, 0.7, exponent)
    np.testing.assert_allclose(divisive_norm(x, weights, sigma=0.7, exponent=exponent), expected, rtol=1e-12)


def test_divisive_norm_squares_by_default():
    x = np.abs(random((2, 3)))
    np.testing.assert_allclose(divisive_norm(x, np.eye(3), sigma=0.5), x**2 / (0.25 + x**2), rtol=1e-14)


@given(st.integers(1, 5), seeds, st.floats(0.1, 5))
def test_property_local_response_norm_with_beta_1_is_x_over_a_divisive_pool(channels, seed, sigma):
    x = np.abs(random((2, channels, 3), seed)) + 0.1
    band = (np.abs(np.subtract.outer(np.arange(channels), np.arange(channels))) <= 1).astype(float)
    y, _ = local_response_norm(x, size=3, k=sigma**2, alpha=1.0, beta=1.0)
    np.testing.assert_allclose(divisive_norm(x, band, sigma=sigma), x * y, rtol=1e-12)


@given(st.integers(1, 5), seeds, st.floats(0.5, 4))
def test_property_divisive_norm_saturates_and_is_one_half_at_sigma(channels, seed, exponent):
    x = np.abs(random((2, channels), seed))
    y = divisive_norm(x, np.ones((channels, channels)), sigma=1.0, exponent=exponent)
    assert np.all(y.sum(axis=1) < 1)  # the pool shares 1 between its units
    alone = divisive_norm(np.full((1, 1), 3.0), np.ones((1, 1)), sigma=3.0, exponent=exponent)
    np.testing.assert_allclose(alone, 0.5, rtol=1e-14)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_divisive_norm_keeps_the_type_and_its_inputs(dtype):
    x, weights = np.abs(random((2, 4, 3))).astype(dtype), np.ones((4, 4))
    kept = x.copy()
    y = divisive_norm(x, weights, sigma=1.0)
    assert y.dtype == dtype
    np.testing.assert_allclose(y, divisive_norm(x.astype(np.float64), weights, sigma=1.0), rtol=5e-4)
    np.testing.assert_array_equal(x, kept)


@pytest.mark.parametrize(("x", "weights", "sigma", "error", "message"), [
    (np.ones((2, 3), int), np.ones((3, 3)), 1.0, TypeError, "x is int64"),
    (np.ones((2, 3)), np.ones((3, 3), int), 1.0, TypeError, "weights is int64"),
    (np.ones(3), np.ones((3, 3)), 1.0, ValueError, r"x has shape \(3,\)"),
    (np.ones((2, 3)), np.ones((2, 3)), 1.0, ValueError,
     r"weights has shape \(2, 3\); x of shape \(2, 3\) needs \(3, 3\)"),
    (np.array([[1.0, -0.25, np.nan]]), np.ones((3, 3)), 1.0, ValueError, "x holds -0.25; a drive is a rectified"),
    (np.ones((2, 3)), np.ones((3, 3)), -1.0, ValueError, "sigma must be 0 or more, got -1.0"),
    (np.ones((2, 3)), np.ones((3, 3)), np.nan, ValueError, "sigma must be 0 or more, got nan"),
])
def test_divisive_norm_refuses(x, weights, sigma, error, message):
    with pytest.raises(error, match=message):
        divisive_norm(x, weights, sigma=sigma)


def test_divisive_norm_takes_zero_drives_and_zero_sigma():
    np.testing.assert_array_equal(divisive_norm(np.array([[0.0, 2.0]]), np.ones((2, 2)), sigma=0.0), [[0, 1]])


def test_window_wider_than_the_channels_is_the_window_of_all_channels():
    """And costs no more: its shifts end where the channels do."""
    x, dy = np.random.default_rng(0).standard_normal((2, 2, 5, 3))
    wide, cache = local_response_norm(x, size=10**15, alpha=0.3)
    all_channels, expected = local_response_norm(x, size=9, alpha=0.3)
    assert np.array_equal(wide, all_channels)
    assert np.array_equal(local_response_norm_backward(dy, cache), local_response_norm_backward(dy, expected))


def test_local_response_norm_backward_refuses_the_cache_in_the_place_of_the_gradient():
    x = np.ones((2, 3, 4))
    _, cache = local_response_norm(x)
    with pytest.raises(TypeError, match="the cache is of type ndarray"):
        local_response_norm_backward(cache, x)
