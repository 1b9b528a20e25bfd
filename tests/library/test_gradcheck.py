"""The gradient check: it must pass what is right and catch each of the classic mistakes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import course_lib as ours
from course_lib import check_vjp, gradcheck

RIGHT, WRONG = 1e-8, 1e-6  # central differences in float64 reach about 1e-10; the gap between the two is empty


def fixture(shape=(32, 8), seed=0):
    """Data off centre, a random gamma with a negative entry, beta."""
    rng = np.random.default_rng(seed)
    gamma = rng.standard_normal(shape[1])
    gamma[0] = -1.5
    return 3 + 2 * rng.standard_normal(shape), gamma, rng.standard_normal(shape[1])


def forward(x, gamma, beta, eps=1e-5, *, ddof=0, outside=False):
    """Batch norm of (N, C), with two mistakes to choose."""
    centred = x - x.mean(axis=0)
    var = np.sum(centred**2, axis=0) / (len(x) - ddof)
    inv_std = 1 / (np.sqrt(var) + eps) if outside else 1 / np.sqrt(var + eps)
    return gamma * centred * inv_std + beta, (centred, centred * inv_std, inv_std, var, gamma)


def backward(dy, cache, mistake=None):
    """Its gradients, with one mistake to choose."""
    centred, x_hat, inv_std, var, gamma = cache
    dx_hat = dy if mistake == "gamma forgotten in dx" else gamma * dy
    along_one, along_x_hat = dx_hat.mean(axis=0), x_hat * np.mean(dx_hat * x_hat, axis=0)
    if mistake == "mean term dropped":
        along_one = 0
    if mistake == "x_hat term dropped":
        along_x_hat = 0
    if mistake == "sign flipped":
        along_one = -along_one
    if mistake == "statistics held constant":
        along_one = along_x_hat = 0
    if mistake == "sum for mean in the x_hat term":
        along_x_hat = along_x_hat * len(dy)
    if mistake == "eps forgotten":
        along_x_hat = centred / np.sqrt(var) * np.mean(dx_hat * centred, axis=0) / np.sqrt(var)
    dx = inv_std * (dx_hat - along_one - along_x_hat)
    if mistake == "inv_std cubed":
        dx = dx * inv_std**2
    dgamma = np.mean(dy * x_hat, axis=0) if mistake == "mean for sum in dgamma" else np.sum(dy * x_hat, axis=0)
    dbeta = np.mean(dy, axis=0) if mistake == "mean for sum in dbeta" else np.sum(dy, axis=0)
    return dx, dgamma, dbeta


MISTAKES = [
    "mean term dropped", "x_hat term dropped", "sign flipped", "statistics held constant", "inv_std cubed",
    "sum for mean in the x_hat term", "gamma forgotten in dx", "mean for sum in dgamma", "mean for sum in dbeta",
]


@pytest.mark.parametrize("eps", [1e-5, 0.1])
def test_right_gradients_pass(eps):
    assert check_vjp(lambda *a: forward(*a, eps=eps), backward, *fixture()) < RIGHT
    assert check_vjp(lambda *a: ours.batch_norm(*a, eps=eps), ours.norm_backward, *fixture((4, 3, 5))) < RIGHT


@pytest.mark.parametrize("n", [6, 32, 64])
@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistake_in_the_backward_is_caught(mistake, n):
    error = check_vjp(forward, lambda dy, cache: backward(dy, cache, mistake), *fixture((n, 8)))
    assert error > 1e-3


@pytest.mark.parametrize("wrong", [{"ddof": 1}, {"outside": True}], ids=["n - 1", "eps outside the root"])
def test_mistake_in_the_forward_is_caught(wrong):
    # the backward gets the cache of the right forward: what a learner's forward would be compared with
    def run(*args):
        y, _ = forward(*args, eps=0.1, **wrong)
        return y, forward(*args, eps=0.1)[1]

    assert check_vjp(run, backward, *fixture()) > 1e-3


@pytest.mark.parametrize("eps", [1e-5, 0.1])
def test_forgotten_eps_is_caught_even_when_it_is_small(eps):
    run = check_vjp(lambda *a: forward(*a, eps=eps), lambda dy, c: backward(dy, c, "eps forgotten"), *fixture((64, 8)))
    assert run > 10 * RIGHT
    assert (run > 1e-3) == (eps == 0.1)


def test_upstream_gradient_is_random():
    seen = []

    def spy(dy, cache):
        seen.append(dy)
        return backward(dy, cache)

    check_vjp(forward, spy, *fixture())
    check_vjp(forward, spy, *fixture(), seed=1)
    assert np.unique(seen[0]).size == seen[0].size and np.all(seen[0] != seen[1])


def test_single_gradient_needs_no_tuple():
    x = fixture()[0]
    assert check_vjp(lambda x: ours.standardize(x, (0,)), ours.standardize_backward, x) < RIGHT


def test_wrong_gradient_of_any_argument_counts():
    x, gamma, beta = fixture()
    for position in range(3):
        def spoiled(dy, cache, position=position):
            gradients = list(backward(dy, cache))
            gradients[position] = gradients[position] * 1.001
            return tuple(gradients)

        assert 1e-5 < check_vjp(forward, spoiled, x, gamma, beta) < 1e-2


def test_one_wrong_entry_of_many_is_caught():
    def spoiled(dy, cache):
        dx, *rest = backward(dy, cache)
        dx[3, 5] += 1e-3
        return (dx, *rest)

    assert check_vjp(forward, spoiled, *fixture()) > WRONG


def test_gradient_of_a_constant_is_zero_not_noise():
    def constant(x):
        return x - x + 1e3, x  # differences of 1e3 are rounded to 1e-13

    assert check_vjp(constant, lambda dy, x: np.zeros_like(x), fixture()[0]) < RIGHT
    assert check_vjp(constant, lambda dy, x: np.full_like(x, 1e-3), fixture()[0]) > WRONG


def test_nan_is_an_error():
    def spoiled(dy, cache):
        return np.full_like(dy, np.nan), *backward(dy, cache)[1:]

    assert np.isnan(check_vjp(forward, spoiled, *fixture()))


def test_arguments_are_left_alone():
    args = fixture()
    kept = [a.copy() for a in args]
    check_vjp(forward, backward, *args)
    for a, b in zip(args, kept, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int64])
def test_arguments_must_be_float64(dtype):
    x, gamma, beta = fixture()
    with pytest.raises(TypeError, match=f"argument 1 is {np.dtype(dtype)}; differences need float64"):
        check_vjp(forward, backward, x, gamma.astype(dtype), beta)


def test_number_and_shape_of_gradients_must_fit():
    args = fixture()
    with pytest.raises(ValueError, match="backward returned 2 gradients for 3 arguments"):
        check_vjp(forward, lambda dy, cache: backward(dy, cache)[:2], *args)
    with pytest.raises(ValueError, match=r"argument 1 has shape \(8,\), but its gradient has \(1, 8\)"):
        check_vjp(forward, lambda dy, cache: (cache[0], cache[4][None], cache[4]), *args)


# Properties ----------------------------------------------------------------------------------------------------------

seeds = st.integers(0, 2**16)
shapes = st.tuples(st.integers(1, 4), st.integers(1, 4))


def matrix(seed, shape):
    return np.random.default_rng(seed).standard_normal(shape)


@given(seeds, shapes)
def test_property_linear_maps_pass_to_rounding(seed, shape):
    a = matrix(seed, (shape[1], 3))
    assert check_vjp(lambda x: (x @ a, None), lambda dy, _: dy @ a.T, matrix(seed + 1, shape)) < RIGHT


@given(seeds, shapes)
def test_property_products_pass_in_both_arguments(seed, shape):
    x, w = matrix(seed, shape), matrix(seed + 1, shape)
    assert check_vjp(lambda x, w: (x * w, (x, w)), lambda dy, c: (dy * c[1], dy * c[0]), x, w) < RIGHT


@given(seeds, shapes)
def test_property_exchanged_gradients_are_caught(seed, shape):
    x, w = matrix(seed, shape), matrix(seed + 1, shape)
    assert check_vjp(lambda x, w: (x * w, (x, w)), lambda dy, c: (dy * c[0], dy * c[1]), x, w) > WRONG


@given(seeds, shapes, st.floats(1e-5, 0.5), st.sampled_from([-1, 1]))
def test_property_relative_error_is_found_as_large_as_it_is(seed, shape, relative, sign):
    wrong = 1 + sign * relative
    error = check_vjp(lambda x: (np.sin(x), x), lambda dy, x: dy * np.cos(x) * wrong, matrix(seed, shape))
    assert relative / 30 < error < 3 * relative  # 8 directions: their largest projection is about that of the norm


@given(seeds, shapes, st.floats(0.01, 100))
def test_property_error_does_not_depend_on_the_scale_of_the_output(seed, shape, scale):
    x = matrix(seed, shape)
    one, other = (
        check_vjp(lambda x, s=s: (s * np.sin(x), x), lambda dy, x, s=s: 1.1 * s * dy * np.cos(x), x) for s in (1, scale)
    )
    np.testing.assert_allclose(one, other, rtol=1e-4)


@given(seeds, shapes)
def test_property_same_seed_same_error(seed, shape):
    x = matrix(seed, shape)
    run = [check_vjp(lambda x: (x**3, x), lambda dy, x: dy * 3 * x**2, x, seed=seed) for _ in range(2)]
    assert run[0] == run[1] < 1e-6


@pytest.mark.parametrize("size", [1e-9, 1e-6, 1e-3, 1e3, 1e6, 1e9])
def test_right_passes_and_wrong_fails_at_any_size_of_the_data(size):
    """A step of 1e-5 would leap over small data and drown in the rounding of large ones."""
    x = size * fixture()[0]
    assert check_vjp(lambda x: ours.standardize(x, (0,), eps=0.0), ours.standardize_backward, x) < 1e-7
    for mistake in ("mean term dropped", "x_hat term dropped", "inv_std cubed"):
        _, gamma, beta = fixture()
        error = check_vjp(lambda x, gamma, beta: forward(x, gamma, beta, eps=0.0),
                          lambda dy, cache, mistake=mistake: backward(dy, cache, mistake), x, gamma, beta)
        assert error > 1e-3


def test_step_at_ordinary_data_is_1e_5():
    rng = np.random.default_rng(0)
    for a in (rng.standard_normal(50), 3 + rng.standard_normal((4, 5)), np.ones(4), np.zeros(3), np.array([-2.0])):
        assert gradcheck._scales(a) == (1, 1)


def test_small_noise_on_a_large_parameter_does_not_make_the_step_vanish():
    gamma = 1 + 1e-12 * np.arange(8.0)
    x, _, beta = fixture()
    assert check_vjp(ours.batch_norm, ours.norm_backward, x, gamma, beta) < 1e-6


def test_argument_without_entries_has_no_error_and_empty_result_nothing_to_check():
    def add(a, b):
        return a + b.sum(), None
    assert check_vjp(add, lambda dy, _: (dy, np.zeros(0)), np.ones(3), np.zeros(0)) < RIGHT
    with pytest.raises(ValueError, match=r"y has shape \(0,\): there is nothing to differentiate"):
        check_vjp(lambda a: (a, None), lambda dy, _: dy, np.zeros(0))
