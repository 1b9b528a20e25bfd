"""Digits: float32 results stay within 2e-6 of float64 on the same input, wherever the data lie.

The bound is relative to the largest right value, and 17 times the spacing of
float32.  A mean that is rounded to float32 costs up to 0.03 at 1e6; a variance
as E[x**2] - E[x]**2 costs everything from 1e4 on.
"""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from layers import layer, relative_error

import course_lib as ours

BOUND = 2e-6
MEANS = [0.0, 1.0, 1e2, 1e4, 1e6]
IMAGES, ROWS = (8, 16, 30, 34), (48, 1024)  # long enough for a running sum to lose digits
CASES = [
    *(layer(name, IMAGES) for name in ("batch_norm", "instance_norm", "group_norm", "frn", "frn_learned_eps")),
    *(layer(name, IMAGES, 3) for name in ("layer_norm", "rms_norm")),
    *(layer(name, ROWS) for name in ("batch_norm", "layer_norm", "group_norm", "rms_norm")),
]


@pytest.mark.parametrize("mean", MEANS)
@pytest.mark.parametrize("layer", CASES, ids=str)
def test_float32_stays_within_2e_6_of_float64_at_any_mean(layer, mean):
    x, params, dy = layer.arrays(np.float32, mean=mean, std=1.0)
    got = layer.gradients(x, params, dy, 1e-5)
    wide = layer.gradients(x.astype(np.float64), [p.astype(np.float64) for p in params], dy.astype(np.float64), 1e-5)
    for a, b in zip(got, wide, strict=True):
        assert a.dtype == np.float32
        assert relative_error(a, b) < BOUND


@pytest.mark.parametrize("mean", MEANS)
def test_float64_itself_is_right_at_any_mean(mean):
    """The yardstick above: on integers, whose sums are exact, the mean square of x_hat is var / (var + eps)."""
    x = np.rint(mean) + np.arange(-50.0, 51.0).reshape(1, 1, -1) * np.ones((1, 2, 1))
    x_hat, _ = ours.standardize(x, (2,), eps=0.1)
    np.testing.assert_allclose(x_hat[0, 0], np.arange(-50, 51) / np.sqrt(850 + 0.1), rtol=1e-14, atol=1e-15)


def test_torch_fails_this_bound():
    """Why the bound is worth having: torch's own float32 layers lose three digits at a mean of 1e4.

    Should this fail one day, torch has become better, and the text that says so must change.
    """
    case = layer("batch_norm", IMAGES)
    x, (gamma, beta), _ = case.arrays(np.float32, mean=1e4, std=1.0)
    right, _ = ours.batch_norm(x.astype(np.float64), gamma, beta)
    theirs = F.batch_norm(torch.tensor(x), None, None, torch.tensor(gamma), torch.tensor(beta), True)
    assert relative_error(theirs.numpy(), right) > 20 * BOUND


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("value", [0.1, 1.0, 1e4, 3e4, 1e7])
@pytest.mark.parametrize("layer", [case for case in CASES if case.center], ids=str)
def test_constant_slice_gives_exactly_beta(layer, value, dtype):
    value = min(value, float(np.finfo(dtype).max))
    x, (gamma, beta), dy = layer.arrays(dtype)  # gamma / sqrt(eps) stays below the largest float16
    y, dx, dgamma, _ = layer.gradients(np.full_like(x, value), [gamma, beta], dy, 1e-5)
    channels = beta if x.ndim == beta.ndim + 1 else beta[:, None, None]
    np.testing.assert_array_equal(y, np.broadcast_to(channels, x.shape))
    np.testing.assert_array_equal(dgamma, np.zeros_like(gamma))
    assert np.all(np.isfinite(dx))


@pytest.mark.parametrize("layer", CASES, ids=str)
def test_float16_is_summed_in_float32(layer):
    """Within the rounding of the output: half a spacing of float16, 2**-11, of the largest value."""
    x, params, dy = layer.arrays(np.float16, mean=10.0, std=1.0)
    y, dx, *dparams = layer.gradients(x, params, dy, 1e-3)
    wide = layer.gradients(x.astype(np.float64), [p.astype(np.float64) for p in params], dy.astype(np.float64), 1e-3)
    for a, b in zip((y, dx, *dparams), wide, strict=True):
        assert a.dtype == np.float16
        assert relative_error(a.astype(np.float64), b) < 1.05 * 2**-11


def test_float16_does_not_overflow_in_its_sums():
    """The squares of 300 exceed 65504, the largest float16; so do sums of ten thousand values."""
    x = np.full((4, 2, 60, 60), 300, np.float16)
    x[::2] = -300
    y, _ = ours.batch_norm(x, np.ones(2), np.zeros(2))
    np.testing.assert_array_equal(y, np.sign(x))
    _, cache = ours.tlu(x, np.full(2, 400.0, np.float32))
    _, dtau = ours.tlu_backward(np.full_like(x, 10), cache)
    np.testing.assert_array_equal(dtau, np.full(2, 10 * 4 * 60 * 60))


@pytest.mark.parametrize("spread", [1e-4, 3e-3, 1e-1])
@pytest.mark.parametrize("layer", CASES, ids=str)
def test_spread_near_the_root_of_eps_keeps_its_digits(layer, spread):
    x, params, dy = layer.arrays(np.float32, mean=0.0, std=spread)
    wide = layer.gradients(x.astype(np.float64), [p.astype(np.float64) for p in params], dy.astype(np.float64), 1e-5)
    for a, b in zip(layer.gradients(x, params, dy, 1e-5), wide, strict=True):
        assert relative_error(a, b) < BOUND


@pytest.mark.parametrize("axes", [(0, 2), (0,), (1,), (0, 1, 2)], ids=str)
def test_long_sums_lose_no_digits(axes):
    """A running float32 sum of a million ones and a bit would be off by 1e-4 and more."""
    x = (1 + 0.1 * np.random.default_rng(0).standard_normal((1000, 4, 300))).astype(np.float32)
    got = ours.sums.mean(x, axes)
    assert relative_error(got, x.astype(np.float64).mean(axes, keepdims=True)) < 3e-7


def test_overflowing_squares_give_0():
    """Squares of 1e25 are no float32: a limit that the docstring tells, and torch's batch norm shares."""
    x = np.array([[1e25], [-1e25]], np.float32)
    with np.errstate(over="ignore"):  # NumPy warns in some of its sums
        np.testing.assert_array_equal(ours.batch_norm(x, np.ones(1), np.zeros(1))[0], [[0], [0]])
    np.testing.assert_array_equal(ours.batch_norm(x.astype(np.float64), np.ones(1), np.zeros(1))[0], [[1], [-1]])
