"""Every layer against loops, torch and central differences; layouts, types, empty batches, memory."""

import tracemalloc

import numpy as np
import oracles
import pytest
import torch
from layers import ALL, ONE_EACH, SHAPES, errors, layer, relative_error

import course_lib as ours

EPS = pytest.mark.parametrize("eps", [1e-5, 0.1])
EACH = pytest.mark.parametrize("layer", ONE_EACH, ids=lambda case: case.name)
EVERY = pytest.mark.parametrize("layer", ALL, ids=str)


@EPS
@EVERY
def test_layer_equals_loops(layer, eps):
    arrays = layer.arrays()
    found = errors(layer, arrays, layer.gradients(*arrays, eps), layer.loop_gradients(*arrays, eps))
    assert max(found) < 1e-12  # float64 on both sides, the loops with exact sums


@EPS
@EVERY
def test_layer_equals_torch(layer, eps):
    arrays = layer.arrays(seed=1)
    found = errors(layer, arrays, layer.gradients(*arrays, eps), layer.torch_gradients(*arrays, eps))
    assert max(found) < 1e-10  # torch forms sum(dy * x) uncentred and loses a few digits


@EPS
@EVERY
def test_layer_gradients_equal_central_differences(layer, eps):
    """Of the input and of each parameter, along random directions; a witness that shares no formula with torch."""
    x, params, _ = layer.arrays(seed=2)
    error = ours.check_vjp(lambda *arrays: layer.run(*arrays, eps=eps), ours.norm_backward, x, *params)
    # A right gradient leaves less than 1e-7.  Where a slice has one entry, y is nearly the sign of x, and dx, of
    # the size of eps, is what two terms of the size of 1 leave.
    assert error < (1e-4 if layer.has_single_entries else 1e-6)


@EVERY
def test_layer_shapes_and_types_are_those_of_the_arguments(layer):
    for dtype in (np.float16, np.float32, np.float64):
        x, params, dy = layer.arrays(dtype)
        y, dx, *dparams = layer.gradients(x, params, dy, 1e-3)
        assert (y.shape, y.dtype) == (dx.shape, dx.dtype) == (x.shape, dtype)
        assert [(d.shape, d.dtype) for d in dparams] == [(p.shape, dtype) for p in params]


@EACH
def test_layer_parameters_of_another_type_keep_theirs(layer):
    """float32 data under float64 parameters, as NumPy makes them, and float16 data under float32 parameters."""
    for narrow, wide in ((np.float32, np.float64), (np.float16, np.float32)):
        x, _, dy = layer.arrays(narrow)
        _, params, _ = layer.arrays(wide)
        y, dx, *dparams = layer.gradients(x, params, dy.astype(wide), 1e-3)
        assert y.dtype == dx.dtype == narrow
        assert all(d.dtype == wide for d in dparams)


LAYOUTS = {
    "transposed": lambda a: np.ascontiguousarray(a.T).T,
    "channels_last": lambda a: np.moveaxis(np.ascontiguousarray(np.moveaxis(a, 1, -1)), -1, 1) if a.ndim > 1 else a,
    "every_second": lambda a: np.repeat(a, 2, axis=-1)[..., ::2],
    "reversed": lambda a: a[::-1].copy()[::-1],
    "read_only": lambda a: _frozen(a),
    "other_byte_order": lambda a: a.astype(a.dtype.newbyteorder()),
}


def _frozen(a):
    a = a.copy()
    a.setflags(write=False)
    return a


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@EVERY
def test_layer_takes_any_memory_layout(layer, dtype, layout):
    x, params, dy = layer.arrays(dtype)
    laid_out = LAYOUTS[layout]
    got = layer.gradients(laid_out(x), [laid_out(p) if p.ndim > 1 else p for p in params], laid_out(dy), 1e-5)
    for a, b in zip(got, layer.gradients(x, params, dy, 1e-5), strict=True):
        assert a.shape == b.shape
        assert relative_error(a, b) < 4 * np.finfo(dtype).eps  # sums may run in another order


@EVERY
def test_layer_leaves_its_arguments_alone(layer):
    x, params, dy = layer.arrays(np.float32)
    before = [a.copy() for a in (x, *params, dy)]
    layer.gradients(x, params, dy, 1e-5)
    for a, b in zip((x, *params, dy), before, strict=True):
        np.testing.assert_array_equal(a, b)


@EACH
def test_layer_result_is_memory_of_its_own(layer):
    x, params, dy = layer.arrays()
    y, dx, *dparams = layer.gradients(x, params, dy, 1e-5)
    for result in (y, dx, *dparams):
        assert not any(np.shares_memory(result, a) for a in (x, *params, dy))


@EACH
def test_layer_backward_runs_twice_on_one_cache(layer):
    x, params, dy = layer.arrays()
    _, cache = layer.run(x, *params, eps=1e-5)
    for a, b in zip(ours.norm_backward(dy, cache), ours.norm_backward(dy, cache), strict=True):
        np.testing.assert_array_equal(a, b)


@EACH
def test_layer_takes_lists(layer):
    x, params, _ = layer.arrays()
    y, _ = layer.run(x.tolist(), *(p.tolist() for p in params), eps=1e-5)
    np.testing.assert_array_equal(y, layer.run(x, *params, eps=1e-5)[0])


@pytest.mark.parametrize("layer", [case for case in ALL if len(case.shape) > len(case.param_axes)], ids=str)
def test_layer_of_an_empty_batch_is_empty(layer):
    x, params, dy = layer.arrays(np.float32, shape=(0, *layer.shape[1:]))
    y, dx, *dparams = layer.gradients(x, params, dy, 1e-5)
    assert y.shape == dx.shape == x.shape
    for d, p in zip(dparams, params, strict=True):
        np.testing.assert_array_equal(d, np.zeros_like(p))


@pytest.mark.parametrize("layer", [case for case in ALL if len(case.shape) > 2 and case.shape[-1] > 1], ids=str)
def test_layer_of_a_single_sample_equals_loops(layer):
    """N = 1 is no special case where each channel still has two values."""
    arrays = layer.arrays(shape=(1, *layer.shape[1:]))
    for got, right in zip(layer.gradients(*arrays, 1e-5), layer.loop_gradients(*arrays, 1e-5), strict=True):
        assert relative_error(got, right) < 1e-12


@EACH
def test_layer_lets_nan_through_and_keeps_it_in_its_slice(layer):
    x, params, dy = layer.arrays()
    x[2, 3, 1, 1] = np.nan
    y, dx, *_ = layer.gradients(x, params, dy, 1e-5)
    spoilt = np.zeros(x.shape, bool)
    for entries in layer.slices(x.shape):
        if (2, 3, 1, 1) in entries:
            spoilt[tuple(np.transpose(entries))] = True
    np.testing.assert_array_equal(np.isnan(y), spoilt)
    np.testing.assert_array_equal(np.isnan(dx), spoilt)


@EACH
def test_layer_lets_infinity_through_as_nan(layer):
    x, params, _ = layer.arrays()
    x[2, 3, 1, 1] = np.inf
    with np.errstate(invalid="ignore"):
        y, _ = layer.run(x, *params, eps=1e-5)
    assert np.isnan(y[2, 3, 1, 1])


def test_default_eps_is_1e_5_and_for_filter_response_norm_1e_6():
    """Singh & Krishnan 2020 use 1e-6."""
    for case in ONE_EACH:
        if case.learned_eps:
            continue
        x, params, _ = case.arrays(std=0.01, mean=0.0)  # small, so that eps shows
        expected, _ = case.run(x, *params, eps=1e-6 if case.name == "frn" else 1e-5)
        options = {"groups": 2} if case.name == "group_norm" else {}
        function = ours.filter_response_norm if case.name == "frn" else getattr(ours, case.name)
        np.testing.assert_array_equal(function(x, *params, **options)[0], expected)


def test_learned_eps_gets_its_gradient_with_the_sign_of_eps():
    case = layer("frn_learned_eps", SHAPES[2])
    x, (gamma, beta, eps), dy = case.arrays(std=0.5, mean=0.0)
    (dx, dgamma, dbeta, deps), flipped = (
        ours.norm_backward(dy, ours.filter_response_norm(x, gamma, beta, eps=e)[1]) for e in (eps, -eps)
    )
    for a, b in zip((dx, dgamma, dbeta, -deps), flipped, strict=True):
        np.testing.assert_array_equal(a, b)
    assert np.all(deps != 0)


def test_learned_eps_of_0_gets_the_gradient_0():
    """|eps| has a corner at 0, and 0 is the slope that torch takes there."""
    case = layer("frn_learned_eps", SHAPES[2])
    x, (gamma, beta, _), dy = case.arrays()
    *_, deps = ours.norm_backward(dy, ours.filter_response_norm(x, gamma, beta, eps=np.zeros(6))[1])
    np.testing.assert_array_equal(deps, np.zeros(6))


def test_a_number_as_eps_has_no_gradient():
    case = layer("frn", SHAPES[2])
    x, params, dy = case.arrays()
    assert len(case.gradients(x, params, dy, 1e-6)) == 4
    assert len(layer("rms_norm", SHAPES[2]).gradients(x, [np.ones(4)], dy, 1e-6)) == 3


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_tlu_equals_loops_and_torch(shape):
    rng = np.random.default_rng(0)
    y, dz = rng.standard_normal((2, *shape))
    tau = rng.standard_normal(shape[1])
    z, cache = ours.tlu(y, tau)
    dy, dtau = ours.tlu_backward(dz, cache)
    for got, right in zip((z, dy, dtau), (oracles.tlu(y, tau), *oracles.tlu_gradients(dz, y, tau)), strict=True):
        np.testing.assert_allclose(got, right, rtol=1e-13, atol=1e-14)
    leaves = [torch.tensor(a, requires_grad=True) for a in (y, tau)]
    twin = torch.maximum(leaves[0], leaves[1].reshape(1, -1, *[1] * (len(shape) - 2)))
    twin.backward(torch.tensor(dz))
    np.testing.assert_array_equal(z, twin.detach())
    np.testing.assert_allclose(dy, leaves[0].grad, rtol=1e-13)
    np.testing.assert_allclose(dtau, leaves[1].grad, rtol=1e-12)


@pytest.mark.parametrize("learned", [False, True], ids=["eps", "learned eps"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_filter_response_norm_with_tlu_equals_loops(shape, learned):
    rng = np.random.default_rng(0)
    x, dz = rng.standard_normal((2, *shape))
    gamma, beta, tau, eps = rng.standard_normal((4, shape[1]))
    slices, setting = oracles.instance_norm_slices(shape), {"eps": eps if learned else 0.1, "center": False}
    y = oracles.layer(x, gamma, beta, slices, (1,), **setting)
    dy, dtau = oracles.tlu_gradients(dz, y, tau)
    dx, dgamma, dbeta, deps = oracles.layer_gradients(dy, x, gamma, slices, (1,), **setting)
    z, cache = ours.filter_response_norm_tlu(x, gamma, beta, tau, eps=setting["eps"])
    got = z, *ours.filter_response_norm_tlu_backward(dz, cache)
    right = [oracles.tlu(y, tau), dx, dgamma, dbeta, dtau, *([deps] if learned else [])]
    for a, b in zip(got, right, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-12)  # sums of up to 24 terms, in another order


def test_filter_response_norm_with_tlu_has_the_eps_of_the_one_without():
    x, one = np.full((1, 1, 2), 1e-3), np.ones(1)  # so small that eps counts
    z, _ = ours.filter_response_norm_tlu(x, one, one, -one)
    assert np.array_equal(z, ours.filter_response_norm(x, one, one)[0])


def test_tlu_equals_a_shifted_relu():
    """z = relu(y - tau) + tau, the form that the paper gives beside max(y, tau)."""
    rng = np.random.default_rng(0)
    y, tau = rng.standard_normal((5, 3, 4)), rng.standard_normal((3, 1))
    np.testing.assert_allclose(ours.tlu(y, tau[:, 0])[0], np.maximum(y - tau, 0) + tau, rtol=1e-13, atol=1e-15)


def test_tlu_at_its_threshold_gives_the_gradient_to_tau():
    z, cache = ours.tlu(np.array([[1.0, 2.0]]), np.array([1.0, 1.0]))
    dy, dtau = ours.tlu_backward(np.array([[5.0, 7.0]]), cache)
    np.testing.assert_array_equal(z, [[1, 2]])
    np.testing.assert_array_equal(dy, [[0, 7]])
    np.testing.assert_array_equal(dtau, [5, 0])


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_tlu_keeps_types_and_arguments(dtype):
    rng = np.random.default_rng(0)
    y, dz = rng.standard_normal((2, 4, 3, 5)).astype(dtype)
    tau = rng.standard_normal(3).astype(np.float32)
    before = y.copy(), tau.copy(), dz.copy()
    z, cache = ours.tlu(y, tau)
    dy, dtau = ours.tlu_backward(dz, cache)
    assert z.dtype == dy.dtype == dtype
    assert dtau.dtype == np.float32
    for a, b in zip((y, tau, dz), before, strict=True):
        np.testing.assert_array_equal(a, b)


def test_tlu_sends_infinity_where_it_belongs():
    """0 * inf would be NaN: the gradient is selected, not multiplied by a mask."""
    _, cache = ours.tlu(np.array([[1.0, -1.0]]), np.zeros(2))
    dy, dtau = ours.tlu_backward(np.array([[np.inf, np.inf]]), cache)
    np.testing.assert_array_equal(dy, [[np.inf, 0]])
    np.testing.assert_array_equal(dtau, [0, np.inf])


def test_tlu_of_an_empty_batch_is_empty():
    z, cache = ours.tlu(np.zeros((0, 3, 4)), np.zeros(3))
    dy, dtau = ours.tlu_backward(np.zeros((0, 3, 4)), cache)
    assert z.shape == dy.shape == (0, 3, 4)
    np.testing.assert_array_equal(dtau, np.zeros(3))


def peak(run, size):
    """The most memory held at once, what `run` returns included, in arrays of `size` bytes."""
    tracemalloc.start()
    try:
        kept = run()
        return tracemalloc.get_traced_memory()[1] / size, kept
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("name", ["batch_norm", "instance_norm", "group_norm", "frn", "layer_norm", "rms_norm"])
def test_layer_needs_at_most_three_extra_arrays(name, order):
    """In a step: x_hat, which the cache keeps, and two more at a time; y is the caller's to keep or drop."""
    case = layer(name, (64, 8, 24, 26), 3)
    x, params, dy = (np.asarray(a, order=order) if isinstance(a, np.ndarray) else a for a in case.arrays(np.float32))
    forward, (y, cache) = peak(lambda: case.run(x, *params, eps=1e-5), x.nbytes)
    assert forward < 2.1  # x_hat, y, and what is as small as the statistics
    del y
    backward, _ = peak(lambda: ours.norm_backward(dy, cache), x.nbytes)
    assert 1 + backward < (3.1 if order == "C" else 4.1)  # a transposed dy is laid out once more
