"""Statistics for inference, inference with them, and folding."""

import tracemalloc

import numpy as np
import oracles
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from course_lib import EMA, PopulationStats, batch_norm, batch_norm_inference, fold_batch_norm

pytestmark = pytest.mark.filterwarnings("error")  # a warning of NumPy is a fault of the package
SHAPES = [(6, 3), (5, 3, 4), (2, 3, 4, 5), (2, 3, 2, 4, 3)]


def random(shape, seed=0, mean=3.0, std=2.0):
    return mean + std * np.random.default_rng(seed).standard_normal(shape)


def parameters(channels=3, seed=5):
    """gamma (one negative), beta, mean, var."""
    rng = np.random.default_rng(seed)
    gamma = rng.standard_normal(channels)
    gamma[0] = -1.5
    return gamma, rng.standard_normal(channels), 3 + rng.standard_normal(channels), rng.uniform(0.2, 5, channels)


# Collecting -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_population_stats_are_algorithm_2_of_the_paper(shape):
    batches = [random((n, *shape[1:]), seed=n) for n in (shape[0], 7, 2)]
    stats = PopulationStats()
    for x in batches:
        stats.update(x)
    means, variances = zip(*(oracles.moments(x) for x in batches), strict=True)
    # float64 sums of some hundred terms
    np.testing.assert_allclose(stats.mean, np.mean(means, axis=0), rtol=1e-13)
    np.testing.assert_allclose(stats.var, np.mean(variances, axis=0), rtol=1e-13)
    assert stats.batches == 3 and stats.mean.dtype == stats.var.dtype == np.float64


@pytest.mark.parametrize("new_weight", [0.1, 0.3, 1.0])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_ema_is_the_running_statistics_of_torch(shape, new_weight):
    norm = {2: torch.nn.BatchNorm1d, 3: torch.nn.BatchNorm1d, 4: torch.nn.BatchNorm2d, 5: torch.nn.BatchNorm3d}
    layer = norm[len(shape)](3, momentum=new_weight).double()
    stats = EMA(new_weight)
    for seed in range(3):
        x = random(shape, seed)
        stats.update(x)
        layer(torch.tensor(x))
        np.testing.assert_allclose(stats.mean, layer.running_mean.numpy(), rtol=1e-10)
        np.testing.assert_allclose(stats.var, layer.running_var.numpy(), rtol=1e-10)
    assert stats.batches == 3


def test_population_stats_are_the_running_statistics_of_torch_without_momentum():
    layer, stats = torch.nn.BatchNorm1d(3, momentum=None).double(), PopulationStats()
    for seed in range(4):
        x = random((5, 3), seed)
        stats.update(x)
        layer(torch.tensor(x))
    np.testing.assert_allclose(stats.mean, layer.running_mean.numpy(), rtol=1e-10)
    np.testing.assert_allclose(stats.var, layer.running_var.numpy(), rtol=1e-10)


def test_new_weight_is_0_1_by_default():
    assert EMA().new_weight == 0.1


@pytest.mark.parametrize("make", [PopulationStats, EMA])
def test_before_the_first_batch_mean_is_0_and_var_is_1(make):
    assert (make().mean, make().var, make().batches) == (0, 1, 0)


def test_ema_forgets_its_start_like_powers_of_what_it_keeps():
    stats = EMA(0.1)
    for t in range(1, 45):
        stats.update(np.array([[0.0], [2.0]]))  # mean 1, unbiased variance 2
        np.testing.assert_allclose(stats.mean, 1 - 0.9**t, rtol=1e-12)
        np.testing.assert_allclose(stats.var, 2 - 0.9**t, rtol=1e-12)
    assert 0.9**44 < 0.01 < 0.9**43  # the start weighs less than 1 % after 44 batches


@pytest.mark.parametrize("m", [2, 3, 8])
def test_population_variance_is_right_on_average_for_batches_of_any_size(m):
    stats = PopulationStats()
    rng = np.random.default_rng(m)
    for _ in range(20):
        stats.update(4 + 2 * rng.standard_normal((m, 5000)))  # 5000 channels: 100,000 batches in all
    # the variance of s**2 is 2 * 2**4 / (m - 1): the standard error of the mean is under 0.018 for m = 2
    assert abs(stats.var.mean() - 4) < 5 * np.sqrt(32 / (m - 1) / 100_000)
    assert abs(stats.var.mean() * (m - 1) / m - 4) > 0.4  # without the factor it is off by 4 / m


@pytest.mark.parametrize("make", [PopulationStats, EMA])
def test_batch_of_nothing_changes_nothing(make):
    stats = make()
    stats.update(np.zeros((0, 3)))
    assert (stats.mean, stats.var, stats.batches) == (0, 1, 0)
    stats.update(random((4, 3)))
    kept = stats.mean, stats.var
    for shape in ((0, 3), (0, 3, 4), (4, 3, 0)):
        stats.update(np.zeros(shape))
    assert stats.mean is kept[0] and stats.var is kept[1] and stats.batches == 1


def test_earlier_statistics_are_not_changed_by_an_update():
    stats = EMA()
    stats.update(random((4, 3)))
    mean, var = stats.mean, stats.var
    kept = mean.copy(), var.copy()
    stats.update(random((4, 3), seed=1))
    np.testing.assert_array_equal(mean, kept[0])
    np.testing.assert_array_equal(var, kept[1])


def test_one_sample_with_positions_is_enough():
    stats = PopulationStats()
    stats.update(random((1, 3, 2)))
    np.testing.assert_allclose(stats.var, oracles.moments(random((1, 3, 2)))[1], rtol=1e-13)


@pytest.mark.parametrize(("dtype", "mean"), [
    (np.float32, 0), (np.float32, 1e2), (np.float32, 1e4), (np.float32, 1e6),
    (np.float16, 0), (np.float16, 1e2),  # further out float16 cannot hold a spread of 1
])
def test_moments_keep_their_digits_at_any_mean(dtype, mean):
    x = random((64, 3, 20, 20), mean=mean, std=1.0).astype(dtype)
    stats = PopulationStats()
    stats.update(x)
    wide = x.astype(np.float64)
    # float32 sums of centred values, in stretches: far below one float32 rounding of the mean at 1e4, which is 1e-3
    np.testing.assert_allclose(stats.mean, wide.mean(axis=(0, 2, 3)), rtol=0, atol=1e-7)
    np.testing.assert_allclose(stats.var, wide.var(axis=(0, 2, 3), ddof=1), rtol=2e-6)


def test_update_takes_any_layout_and_leaves_x_alone():
    x = random((4, 5, 6))
    kept = x.copy()
    for view in (x.transpose(2, 0, 1), x[::2, :, ::-1], np.asfortranarray(x)):
        stats = PopulationStats()
        stats.update(view)
        mean, var = oracles.moments(view)
        np.testing.assert_allclose(stats.mean, mean, rtol=1e-13)
        np.testing.assert_allclose(stats.var, var, rtol=1e-13)
    np.testing.assert_array_equal(x, kept)


def test_nan_stays_in_its_channel_for_ever():
    stats = EMA()
    x = random((4, 3))
    x[1, 2] = np.nan
    stats.update(x)
    stats.update(random((4, 3)))
    assert np.isnan(stats.mean).tolist() == np.isnan(stats.var).tolist() == [False, False, True]


@pytest.mark.parametrize(("x", "error", "message"), [
    (np.zeros((4, 3), int), TypeError, "x is int64; normalization needs a floating type"),
    (np.zeros(4), ValueError, r"x has shape \(4,\); it needs a sample axis and a channel axis, \(N, C, \*S\)"),
    (np.zeros((4, 2)), ValueError, "x has 2 channels; the batches before had 3"),
    (np.zeros((1, 3)), ValueError, r"x of shape \(1, 3\) has 1 value per channel; an unbiased variance needs 2"),
    (np.zeros((1, 3, 1, 1)), ValueError, r"x of shape \(1, 3, 1, 1\) has 1 value per channel"),
])
@pytest.mark.parametrize("make", [PopulationStats, EMA])
def test_update_refuses_and_keeps_what_it_has(make, x, error, message):
    stats = make()
    stats.update(random((4, 3)))
    kept = stats.mean, stats.var
    with pytest.raises(error, match=message):
        stats.update(x)
    assert (stats.mean is kept[0]) and (stats.var is kept[1]) and stats.batches == 1


@pytest.mark.parametrize("new_weight", [0, -0.1, 1.5, np.nan])
def test_ema_refuses_a_weight_out_of_range(new_weight):
    with pytest.raises(ValueError, match=f"new_weight must be above 0 and at most 1, got {new_weight}"):
        EMA(new_weight)


# Inference ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("eps", [1e-5, 0.1, 0.0])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_inference_equals_loops_and_torch(shape, eps):
    x, (gamma, beta, mean, var) = random(shape), parameters()
    y = batch_norm_inference(x, gamma, beta, mean, var, eps=eps)
    np.testing.assert_allclose(y, oracles.batch_norm_inference(x, gamma, beta, mean, var, eps), rtol=1e-12, atol=1e-13)
    theirs = F.batch_norm(*map(torch.tensor, (x, mean, var, gamma, beta)), eps=eps)
    np.testing.assert_allclose(y, theirs.numpy(), rtol=1e-10, atol=1e-12)


def test_eps_is_1e_5_by_default():
    x, p = random((4, 3)), parameters()
    small = [*p[:3], np.full(3, 1e-5)]  # a variance as small as eps, so that it shows
    np.testing.assert_array_equal(batch_norm_inference(x, *small), batch_norm_inference(x, *small, eps=1e-5))
    w = random((3, 4))
    np.testing.assert_array_equal(fold_batch_norm(w, None, *small)[0], fold_batch_norm(w, None, *small, eps=1e-5)[0])


def test_inference_with_the_statistics_of_the_batch_is_training():
    x, (gamma, beta, _, _) = random((5, 3, 4)), parameters()
    mean, var = x.mean(axis=(0, 2)), x.var(axis=(0, 2))
    y, _ = batch_norm(x, gamma, beta)
    np.testing.assert_allclose(batch_norm_inference(x, gamma, beta, mean, var), y, rtol=1e-9)


@pytest.mark.parametrize("mean", [0, 1, 1e2, 1e4, 1e6])
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_inference_in_float32_stays_within_2e_6_at_any_mean(kind, mean):
    x = random((8, 3, 16, 16), mean=mean, std=1.0).astype(np.float32)
    gamma, beta = np.array([1.0, -0.5, 2.0]), np.array([0.0, 1.0, -1.0])
    stats = PopulationStats()
    stats.update(x)
    p = [a.astype(kind) for a in (gamma, beta, stats.mean, stats.var)]
    y = batch_norm_inference(x, *p)
    assert y.dtype == np.float32
    exact = batch_norm_inference(x.astype(np.float64), *p)
    # the goal of the course; gamma = 2 doubles it
    assert np.abs(y - exact).max() < 4e-6


def test_inference_removes_a_mean_that_float32_cannot_hold():
    x = np.full((2, 1), 10000, dtype=np.float32)
    y = batch_norm_inference(x, np.ones(1), np.zeros(1), np.array([10000.0003]), np.ones(1), eps=0.0)
    np.testing.assert_allclose(y, -0.0003, rtol=1e-4)


def test_constant_channel_at_its_mean_gives_exactly_beta():
    x = np.full((4, 2, 3), 1e7, dtype=np.float32)
    y = batch_norm_inference(x, np.array([3.0, -2.0]), np.array([0.1, 0.7]), np.full(2, 1e7), np.zeros(2))
    np.testing.assert_array_equal(y, np.broadcast_to(np.array([[[0.1], [0.7]]], np.float32), y.shape))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_inference_keeps_the_type(dtype):
    x, p = random((4, 3, 5)).astype(dtype), parameters()
    y = batch_norm_inference(x, *p)
    assert y.dtype == dtype
    # float16: computed in float32, so half a unit in the last place of the result
    allowed = {np.float16: 5e-4, np.float32: 1e-6, np.float64: 1e-14}[dtype]
    exact = batch_norm_inference(x.astype(np.float64), *p)
    np.testing.assert_allclose(y, exact, rtol=allowed, atol=allowed)


def test_half_parameters_are_widened_before_they_are_combined():
    x, half = random((4, 3)), [a.astype(np.float16) for a in parameters()]
    wide = [a.astype(np.float64) for a in half]
    np.testing.assert_array_equal(batch_norm_inference(x, *half), batch_norm_inference(x, *wide))
    w = random((3, 4))
    np.testing.assert_array_equal(fold_batch_norm(w, None, *half)[0], fold_batch_norm(w, None, *wide)[0])


def test_inference_needs_one_array():
    x = random((8, 3, 128, 128))  # 3 MB
    tracemalloc.start()
    try:
        batch_norm_inference(x, *parameters())
        assert tracemalloc.get_traced_memory()[1] < 1.2 * x.nbytes
    finally:
        tracemalloc.stop()


def test_inference_takes_any_layout_nothing_and_nan_and_leaves_its_inputs_alone():
    x, p = random((4, 5, 3)).transpose(0, 2, 1), parameters()
    kept = x.copy(), [a.copy() for a in p]
    np.testing.assert_array_equal(batch_norm_inference(x, *p), batch_norm_inference(x.copy(), *p))
    np.testing.assert_array_equal(x, kept[0])
    for a, b in zip(p, kept[1], strict=True):
        np.testing.assert_array_equal(a, b)
    for shape in ((0, 3), (0, 3, 2), (2, 3, 0)):
        assert batch_norm_inference(np.zeros(shape), *p).shape == shape
    x = random((4, 3))
    x[1, 2] = np.nan
    assert np.argwhere(np.isnan(batch_norm_inference(x, *p))).tolist() == [[1, 2]]
    p[3][0] = np.nan
    assert np.isnan(batch_norm_inference(random((4, 3)), *p)).all(axis=0).tolist() == [True, False, False]


ONE, TWO = np.ones(3), np.ones(2)


@pytest.mark.parametrize(("x", "p", "eps", "error", "message"), [
    (np.zeros((4, 3), int), [ONE] * 4, 1e-5, TypeError, "x is int64"),
    (np.zeros(3), [ONE] * 4, 1e-5, ValueError, r"x has shape \(3,\); it needs a sample axis"),
    (np.zeros((4, 3)), [TWO, ONE, ONE, ONE], 1e-5, ValueError,
     r"x has 3 channels; gamma has shape \(2,\), not \(3,\)"),
    (np.zeros((4, 3)), [ONE, TWO, ONE, ONE], 1e-5, ValueError, r"x has 3 channels; beta has shape \(2,\), not \(3,\)"),
    (np.zeros((4, 3)), [ONE, ONE, TWO, ONE], 1e-5, ValueError, r"x has 3 channels; mean has shape \(2,\), not \(3,\)"),
    (np.zeros((4, 3)), [ONE, ONE, ONE, TWO], 1e-5, ValueError, r"x has 3 channels; var has shape \(2,\), not \(3,\)"),
    (np.zeros((4, 3)), [ONE, ONE, ONE, np.array([1, -0.5, 2])], 1e-5, ValueError,
     "var must be 0 or more, got -0.5"),
    (np.zeros((4, 3)), [ONE] * 4, -0.1, ValueError, "eps must be 0 or more, got -0.1"),
    (np.zeros((4, 3)), [ONE] * 4, np.nan, ValueError, "eps must be 0 or more, got nan"),
])
def test_inference_refuses(x, p, eps, error, message):
    with pytest.raises(error, match=message):
        batch_norm_inference(x, *p, eps=eps)


# Folding --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize("kernel", [(), (3,), (3, 2)], ids=["linear", "conv1d", "conv2d"])
def test_folded_layer_equals_layer_and_batch_norm(kernel, with_bias):
    apply = {0: F.linear, 1: F.conv1d, 2: F.conv2d}[len(kernel)]
    weight, p = random((3, 4, *kernel), mean=0.0), parameters()
    bias = random(3, seed=1) if with_bias else None
    x = torch.tensor(random((5, 4, 6, 7)[:2 + len(kernel)]))
    y = apply(x, torch.tensor(weight), None if bias is None else torch.tensor(bias)).numpy()
    folded = apply(x, *map(torch.tensor, fold_batch_norm(weight, bias, *p, eps=0.1))).numpy()
    np.testing.assert_allclose(folded, batch_norm_inference(y, *p, eps=0.1), rtol=1e-10, atol=1e-10)


def test_fold_keeps_the_type_and_its_inputs():
    weight, bias, p = random((3, 4, 2)).astype(np.float32), np.ones(3, np.float32), parameters()
    kept = weight.copy(), bias.copy()
    folded_weight, folded_bias = fold_batch_norm(weight, bias, *p)
    assert folded_weight.dtype == folded_bias.dtype == np.float32
    assert folded_weight.shape == (3, 4, 2) and folded_bias.shape == (3,)
    np.testing.assert_array_equal(weight, kept[0])
    np.testing.assert_array_equal(bias, kept[1])


@pytest.mark.parametrize(("weight", "bias", "p", "error", "message"), [
    (np.ones((3, 4), int), None, [ONE] * 4, TypeError, "weight is int64"),
    (np.ones(3), None, [ONE] * 4, ValueError,
     r"weight has shape \(3,\); it needs \(out, in\) or \(out, in, \*k\)"),
    (np.ones((3, 4)), TWO, [ONE] * 4, ValueError, r"bias has shape \(2,\); weight of shape \(3, 4\) needs \(3,\)"),
    (np.ones((3, 4)), None, [TWO] * 4, ValueError, r"gamma has shape \(2,\); weight of shape \(3, 4\) needs \(3,\)"),
    (np.ones((3, 4)), None, [ONE, ONE, ONE, -ONE], ValueError, "var must be 0 or more, got -1"),
])
def test_fold_refuses(weight, bias, p, error, message):
    with pytest.raises(error, match=message):
        fold_batch_norm(weight, bias, *p)


# Properties ----------------------------------------------------------------------------------------------------------

seeds = st.integers(0, 2**16)
shapes = st.tuples(st.integers(2, 6), st.integers(1, 4), st.integers(1, 3))
collectors = st.sampled_from([PopulationStats, EMA, lambda: EMA(0.5)])


def collect(stats, batches):
    for x in batches:
        stats.update(x)
    return stats


@given(shapes, seeds)
def test_property_population_stats_do_not_depend_on_the_order_of_batches(shape, seed):
    batches = [random(shape, seed + i) for i in range(4)]
    one, other = collect(PopulationStats(), batches), collect(PopulationStats(), batches[::-1])
    np.testing.assert_allclose(one.mean, other.mean, rtol=1e-12)
    np.testing.assert_allclose(one.var, other.var, rtol=1e-12)


@given(shapes, seeds)
def test_property_ema_with_weight_1_knows_the_last_batch_only(shape, seed):
    batches = [random(shape, seed + i) for i in range(3)]
    ema, last = collect(EMA(1.0), batches), collect(PopulationStats(), batches[-1:])
    np.testing.assert_array_equal(ema.mean, last.mean)
    np.testing.assert_array_equal(ema.var, last.var)


@given(shapes, seeds, collectors, st.floats(-10, 10), st.floats(0.1, 10))
def test_property_statistics_follow_shift_and_scale_of_the_data(shape, seed, make, shift, scale):
    batches = [random(shape, seed + i) for i in range(30)]
    one, other = collect(make(), batches), collect(make(), [scale * x + shift for x in batches])
    kept = 0 if isinstance(one, PopulationStats) else (1 - one.new_weight) ** 30  # what is left of mean 0, var 1
    np.testing.assert_allclose(other.mean, scale * one.mean + shift * (1 - kept), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(other.var - kept, scale**2 * (one.var - kept), rtol=1e-9, atol=1e-9)


@given(shapes, seeds, collectors)
def test_property_channels_do_not_meet(shape, seed, make):
    x = random(shape, seed)
    whole, part = collect(make(), [x, x]), collect(make(), [x[:, -1:], x[:, -1:]])
    np.testing.assert_allclose(whole.mean[-1:], part.mean, rtol=1e-13)
    np.testing.assert_allclose(whole.var[-1:], part.var, rtol=1e-12)


@given(shapes, seeds, collectors)
def test_property_positions_count_as_samples(shape, seed, make):
    x = random(shape, seed)
    flat = np.moveaxis(x, 1, -1).reshape(-1, shape[1])
    np.testing.assert_allclose(collect(make(), [x]).var, collect(make(), [flat]).var, rtol=1e-12)


@given(shapes, seeds)
def test_property_inference_gives_a_sample_the_same_whatever_its_batch(shape, seed):
    x, p = random(shape, seed), parameters(shape[1], seed)
    np.testing.assert_array_equal(batch_norm_inference(x, *p)[-1:], batch_norm_inference(x[-1:], *p))


@given(shapes, seeds, st.floats(0.1, 10), st.floats(-10, 10))
def test_property_inference_is_affine_in_x(shape, seed, scale, shift):
    x, (gamma, beta, mean, var) = random(shape, seed), parameters(shape[1], seed)
    y = batch_norm_inference(x, gamma, beta, mean, var, eps=0.0)
    moved = batch_norm_inference(scale * x + shift, gamma, beta, scale * mean + shift, scale**2 * var, eps=0.0)
    np.testing.assert_allclose(moved, y, rtol=1e-9, atol=1e-9)


@given(seeds)
def test_property_folding_with_neutral_statistics_changes_nothing(seed):
    w, b = random((3, 4), seed), random(3, seed)
    folded = fold_batch_norm(w, b, ONE, np.zeros(3), np.zeros(3), ONE, eps=0.0)
    np.testing.assert_array_equal(folded[0], w)
    np.testing.assert_array_equal(folded[1], b)


def test_weight_that_is_no_number_is_refused():
    with pytest.raises(TypeError, match="new_weight is None; it needs a number"):
        EMA(None)
