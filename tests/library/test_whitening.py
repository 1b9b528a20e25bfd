"""Whitening: PCA, ZCA, Cholesky, and the one backward behind them."""

import re

import numpy as np
import oracles
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from course_lib import check_vjp, standardize, standardize_backward, whiten, whiten_backward
from course_lib import whitening as numpy_half
from course_lib.nn import functional as F
from course_lib.nn import whitening as torch_half

pytestmark = pytest.mark.filterwarnings("error")  # a warning of NumPy is a fault of the package
METHODS = ["zca", "pca", "cholesky"]


def random(n=11, d=4, seed=0, offset=3.0):
    """Correlated rows off centre, with a covariance of moderate condition."""
    rng = np.random.default_rng(seed)
    return offset + rng.standard_normal((n, d)) @ (np.eye(d) + 0.5 * rng.standard_normal((d, d)))


def equal_eigenvalues(d=3):
    """Rows whose covariance is exactly a multiple of I: plus and minus each unit vector."""
    return np.vstack([np.eye(d), -np.eye(d)])


def by_definition(x, method, eps):
    """(x - mu) W^T from a covariance made by loops, and a W checked by what defines it."""
    mean, cov = oracles.covariance(x)
    cov += eps * np.eye(len(cov))
    var, u = np.linalg.eigh(cov)
    if method == "zca":
        w = sum(np.outer(u[:, i], u[:, i]) / np.sqrt(var[i]) for i in range(len(var)))
    elif method == "pca":
        axes = [u[:, i] * np.sign(u[np.argmax(np.abs(u[:, i])), i]) / np.sqrt(var[i]) for i in range(len(var))]
        w = np.array(axes[::-1])
    else:
        w = np.linalg.inv(np.linalg.cholesky(cov))
    np.testing.assert_allclose(w.T @ w @ cov, np.eye(len(cov)), atol=1e-10)
    return (x - mean) @ w.T


def by_torch(x, dy, method, eps):
    t = torch.tensor(x, requires_grad=True)
    centred = t - t.mean(0)
    cov = centred.T @ centred / len(x) + eps * torch.eye(x.shape[1], dtype=torch.float64)
    if method == "cholesky":
        y = torch.linalg.solve_triangular(torch.linalg.cholesky(cov), centred.T, upper=False).T
    else:
        var, u = torch.linalg.eigh(cov)
        var, u = var.flip(0), u.flip(1)
        u = u * torch.sign(u.gather(0, u.abs().argmax(0, keepdim=True)))
        y = centred @ u / var.sqrt() @ (u.T if method == "zca" else torch.eye(len(var), dtype=torch.float64))
    y.backward(torch.tensor(dy))
    return y.detach().numpy(), t.grad.numpy()


@pytest.mark.parametrize("eps", [0.0, 0.1])
@pytest.mark.parametrize("method", METHODS)
def test_whiten_equals_its_definition(method, eps):
    x = random()
    # 1e-10: rounding of a covariance, times its condition number (about 100)
    np.testing.assert_allclose(whiten(x, method=method, eps=eps)[0], by_definition(x, method, eps), atol=1e-10)


@pytest.mark.parametrize("eps", [0.0, 0.1])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("n", "d"), [(11, 4), (7, 2), (40, 6)])
def test_whiten_and_its_backward_equal_torch(n, d, method, eps):
    x, dy = random(n, d), random(n, d, seed=1)
    y, cache = whiten(x, method=method, eps=eps)
    for ours, theirs in zip((y, whiten_backward(dy, cache)), by_torch(x, dy, method, eps), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-10)  # the goal of the course for float64


@pytest.mark.parametrize("eps", [0.0, 1e-5, 0.1])
@pytest.mark.parametrize("method", METHODS)
def test_whiten_backward_passes_the_gradient_check(method, eps):
    assert check_vjp(lambda x: whiten(x, method=method, eps=eps), whiten_backward, random()) < 1e-7


def test_whiten_is_zca_without_eps_by_default():
    x = random()
    np.testing.assert_array_equal(whiten(x)[0], whiten(x, method="zca", eps=0.0)[0])


@pytest.mark.parametrize("method", ["zca", "cholesky"])
def test_gradient_is_finite_and_right_for_equal_eigenvalues(method):
    x = equal_eigenvalues()
    dx = whiten_backward(random(6, 3), whiten(x, method=method)[1])
    assert np.isfinite(dx).all()
    assert check_vjp(lambda x: whiten(x, method=method), whiten_backward, x) < 1e-7


def test_torch_autograd_through_eigenvectors_is_not_finite_for_equal_eigenvalues():
    x = equal_eigenvalues()
    _, dx = by_torch(x, random(6, 3), "zca", 0.0)
    assert not np.isfinite(dx).all()  # the reason for our formula


def test_pca_refuses_a_gradient_where_two_variances_are_equal():
    y, cache = whiten(equal_eigenvalues(), method="pca")
    np.testing.assert_allclose(y.T @ y / 6, np.eye(3), atol=1e-12)  # forward is fine
    with pytest.raises(ValueError, match="principal components 0 and 1 have the same variance: pca has no gradient"):
        whiten_backward(np.ones((6, 3)), cache)


def test_pca_tells_a_tie_from_rounding_but_not_from_a_small_gap():
    x = equal_eigenvalues(2)
    for stretch, tie in ((1 + 1e-16, True), (1 + 5e-16, True), (1 + 1e-12, False)):
        _, cache = whiten(x * [stretch, 1], method="pca")
        assert np.isinf(cache.share).any() == tie
    _, cache = whiten(1e3 * x * [1 + 2e-16, 1], method="pca")  # the bound is relative to the variance
    assert np.isinf(cache.share).any()


def test_pca_gradient_grows_as_variances_meet_and_the_others_do_not():
    dy = random(4, 2)
    size = {}
    for method in METHODS:
        for gap in (1e-2, 1e-6):
            _, cache = whiten(equal_eigenvalues(2) * [1 + gap, 1], method=method)
            size[method, gap] = np.abs(whiten_backward(dy, cache)).max()
    assert size["pca", 1e-6] > 1e3 * size["pca", 1e-2]
    assert size["zca", 1e-6] < 2 * size["zca", 1e-2] and size["cholesky", 1e-6] < 2 * size["cholesky", 1e-2]


@pytest.mark.parametrize("eps", [0.0, 0.3])
@pytest.mark.parametrize("method", METHODS)
def test_with_one_feature_whiten_is_standardize(method, eps):
    x, dy = random(9, 1), random(9, 1, seed=1)
    y, cache = whiten(x, method=method, eps=eps)
    x_hat, inner = standardize(x, (0,), eps=eps)
    np.testing.assert_allclose(y, x_hat, rtol=1e-13, atol=1e-14)
    np.testing.assert_allclose(whiten_backward(dy, cache), standardize_backward(dy, inner), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("seed", range(6))
def test_principal_components_come_with_the_largest_variance_first_and_a_positive_largest_entry(seed):
    x = random(50, 4, seed=seed)
    _, cache = whiten(x, method="pca")
    u = cache.to_z / np.linalg.norm(cache.to_z, axis=0)
    assert np.all(np.diff(((x - x.mean(0)) @ u).var(axis=0)) < 0)
    assert np.all(u[np.argmax(np.abs(u), axis=0), range(4)] > 0)


def test_zca_stays_closest_to_the_data():
    x = random(200, 4)
    centred = x - x.mean(0)
    distance = {method: np.mean((whiten(x, method=method)[0] - centred) ** 2) for method in METHODS}
    assert distance["zca"] < distance["pca"] and distance["zca"] < distance["cholesky"]


# Properties ----------------------------------------------------------------------------------------------------------

seeds = st.integers(0, 2**16)
sizes = st.tuples(st.integers(8, 30), st.integers(1, 5))
methods = st.sampled_from(METHODS)


def well_posed(size, seed, least_gap=0.02):
    x = random(*size, seed=seed)
    var = np.linalg.eigvalsh(np.cov(x.T, bias=True).reshape(size[1], size[1]))
    assume(var[0] > 1e-3 and np.all(np.diff(var) > least_gap * var[1:]))  # else 1e-8 would be too much to ask
    return x


@given(sizes, seeds, methods)
def test_property_output_has_mean_0_and_covariance_i(size, seed, method):
    y, _ = whiten(well_posed(size, seed), method=method)
    np.testing.assert_allclose(y.mean(axis=0), 0, atol=1e-10)
    np.testing.assert_allclose(y.T @ y / len(y), np.eye(size[1]), atol=1e-9)


@given(sizes, seeds, methods, st.floats(0.01, 2))
def test_property_eps_shrinks_each_principal_variance_to_v_over_v_plus_eps(size, seed, method, eps):
    x = well_posed(size, seed)
    y, _ = whiten(x, method=method, eps=eps)
    var = np.linalg.eigvalsh(np.cov(x.T, bias=True).reshape(size[1], size[1]))
    np.testing.assert_allclose(np.linalg.eigvalsh(y.T @ y / len(y)), var / (var + eps), rtol=1e-9)


@given(sizes, seeds, methods, st.floats(-100, 100), st.floats(0.1, 10))
def test_property_shift_and_scale_of_the_data_change_nothing(size, seed, method, shift, scale):
    x = well_posed(size, seed)
    np.testing.assert_allclose(whiten(scale * x + shift, method=method)[0], whiten(x, method=method)[0], atol=1e-8)


@given(sizes, seeds)
def test_property_zca_turns_with_the_data_and_its_matrix_is_symmetric(size, seed):
    x = well_posed(size, seed)
    turn = np.linalg.qr(np.random.default_rng(seed).standard_normal((size[1], size[1])))[0]
    y, cache = whiten(x)
    np.testing.assert_allclose(whiten(x @ turn)[0], y @ turn, atol=1e-8)
    w = cache.to_z @ cache.rotation
    np.testing.assert_allclose(w, w.T, atol=1e-9)


@given(sizes, seeds)
def test_property_cholesky_leaves_the_first_feature_standardized_and_its_matrix_is_triangular(size, seed):
    x = well_posed(size, seed)
    y, cache = whiten(x, method="cholesky")
    np.testing.assert_allclose(y[:, :1], standardize(x[:, :1], (0,), eps=0.0)[0], atol=1e-9)
    np.testing.assert_allclose(np.tril(cache.to_z, -1), 0, atol=1e-12 * np.abs(cache.to_z).max())


@given(sizes, seeds, methods)
def test_property_gradient_has_no_part_along_a_shift_or_a_linear_map_of_the_data(size, seed, method):
    x = well_posed(size, seed)
    _, cache = whiten(x, method=method)
    dx = whiten_backward(random(*size, seed=seed + 1), cache)
    assert np.abs(dx.sum(axis=0)).max() <= 1e-8 * np.abs(dx).max()
    if method != "pca":  # y is blind to a common scale; for Cholesky also to any lower triangular map of features
        np.testing.assert_allclose(np.sum(dx * (x - x.mean(0))), 0, atol=1e-7 * np.abs(dx).max() * x.size)
    if method == "cholesky":
        np.testing.assert_allclose(np.triu((x - x.mean(0)).T @ dx), 0, atol=1e-7 * np.abs(dx).max() * x.size)


@given(sizes, seeds, methods)
def test_property_order_of_the_samples_does_not_matter(size, seed, method):
    x, dy = well_posed(size, seed), random(*size, seed=seed + 1)
    order = np.random.default_rng(seed).permutation(size[0])
    y, cache = whiten(x, method=method)
    y_mixed, cache_mixed = whiten(x[order], method=method)
    np.testing.assert_allclose(y_mixed, y[order], atol=1e-8)
    dx = whiten_backward(dy, cache)
    np.testing.assert_allclose(whiten_backward(dy[order], cache_mixed), dx[order], atol=1e-6 * np.abs(dx).max())


@given(seeds, methods)
def test_property_shares_of_a_pair_add_up_to_1(seed, method):
    _, cache = whiten(well_posed((12, 4), seed), method=method)
    np.testing.assert_allclose(cache.share + cache.share.T, 1, rtol=1e-10)


# Types, layouts, sizes ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("method", METHODS)
def test_whiten_keeps_the_type_and_the_digits(method, dtype):
    x, dy = random().astype(dtype), random(seed=1).astype(dtype)
    y, cache = whiten(x, method=method)
    dx = whiten_backward(dy, cache)
    assert y.dtype == dx.dtype == dtype
    exact, cache = whiten(x.astype(np.float64), method=method)
    allowed = np.finfo(dtype).eps  # computed in float64: only the result is rounded
    np.testing.assert_allclose(y, exact, rtol=allowed, atol=allowed * 1e-2)
    np.testing.assert_allclose(dx, whiten_backward(dy.astype(np.float64), cache), rtol=allowed, atol=allowed)


@pytest.mark.parametrize("method", METHODS)
def test_whiten_keeps_its_digits_at_a_large_mean(method):
    near = np.round(random(30, 3, offset=0.0) * 2**20) / 2**20  # on a grid, so that adding 2**30 is exact
    y, _ = whiten(near, method=method)
    far, _ = whiten(near + 2.0**30 + np.pi, method=method)  # the mean is no float64: centring once leaves 1e-7
    np.testing.assert_allclose(far, y, atol=2e-6)  # 2**30 + pi is itself rounded to 1e-7
    assert np.abs(far.mean(axis=0)).max() < 1e-13


@pytest.mark.parametrize("layout", ["transposed", "strided", "fortran"])
def test_whiten_takes_any_layout_and_leaves_its_inputs_alone(layout):
    x, dy = random(12, 12)[:, :4], random(12, 4, seed=1)
    x = {"transposed": np.ascontiguousarray(x.T).T, "strided": x[::1, ::2], "fortran": np.asfortranarray(x)}[layout]
    dy = dy[:, :x.shape[1]]
    kept = x.copy(), dy.copy()
    y, cache = whiten(x)
    dx = whiten_backward(dy, cache)
    y_copy, cache = whiten(x.copy())
    np.testing.assert_allclose(y, y_copy, atol=1e-12)  # BLAS may add in another order
    np.testing.assert_allclose(dx, whiten_backward(dy.copy(), cache), atol=1e-12)
    np.testing.assert_array_equal(x, kept[0])
    np.testing.assert_array_equal(dy, kept[1])


@pytest.mark.parametrize("method", METHODS)
def test_whiten_of_nothing_is_nothing(method):
    y, cache = whiten(np.zeros((0, 3)), method=method)
    assert y.shape == whiten_backward(np.zeros((0, 3)), cache).shape == (0, 3)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nan_goes_on(bad, method):
    x = random()
    x[2, 1] = bad
    with np.errstate(invalid="ignore"):  # inf - inf
        y, cache = whiten(x, method=method)
        assert np.isnan(y).all() and np.isnan(whiten_backward(random(seed=1), cache)).all()


@pytest.mark.parametrize(("x", "options", "error", "message"), [
    (np.zeros((5, 3), int), {}, TypeError, "x is int64; normalization needs a floating type"),
    (np.zeros(5), {}, ValueError, r"x has shape \(5,\); whitening needs rows of samples, \(N, D\)"),
    (np.zeros((2, 3, 4)), {}, ValueError, r"x has shape \(2, 3, 4\); whitening needs rows"),
    (np.zeros((5, 0)), {}, ValueError, r"x has shape \(5, 0\); whitening needs rows"),
    (np.zeros((1, 3)), {}, ValueError, r"x of shape \(1, 3\) has 1 sample; a covariance needs 2 or more"),
    (random(), {"method": "ZCA"}, ValueError, "method is 'ZCA'; choose one of zca, pca, cholesky"),
    (random(), {"eps": -0.1}, ValueError, "eps must be 0 or more, got -0.1"),
    (random(), {"eps": np.nan}, ValueError, "eps must be 0 or more, got nan"),
])
def test_whiten_refuses(x, options, error, message):
    with pytest.raises(error, match=message):
        whiten(x, **options)


@pytest.mark.parametrize("method", METHODS)
def test_singular_covariance_is_refused_with_its_numbers_and_eps_helps(method):
    x = random(3, 5)
    with pytest.raises(ValueError, match="covariance of 3 samples with 5 features has rank 2; whitening needs rank 5"):
        whiten(x, method=method)
    assert np.isfinite(whiten(x, method=method, eps=0.1)[0]).all()
    if method != "pca":  # eps alone is the variance of three directions: a tie
        assert check_vjp(lambda x: whiten(x, method=method, eps=0.1), whiten_backward, x) < 1e-7


@pytest.mark.parametrize("method", METHODS)
def test_linear_dependence_is_refused_too(method):
    x = random(20, 3)
    x[:, 2] = x[:, 0] - 2 * x[:, 1]
    with pytest.raises(ValueError, match="20 samples with 3 features has rank 2"):
        whiten(x, method=method)


def test_whiten_takes_two_samples_of_one_feature():
    np.testing.assert_allclose(whiten(np.array([[1.0], [5.0]]))[0], [[-1], [1]])


def test_whiten_backward_refuses_another_shape_and_integers():
    _, cache = whiten(random(11, 4))
    with pytest.raises(ValueError, match=r"dy has shape \(4, 11\), but y had \(11, 4\)"):
        whiten_backward(np.zeros((4, 11)), cache)
    with pytest.raises(TypeError, match="dy is int64"):
        whiten_backward(np.zeros((11, 4), int), cache)
    with pytest.raises(TypeError, match="the cache is of type ndarray"):
        whiten_backward(cache, np.zeros((11, 4)))


def almost_singular(seed):
    """200 rows, 2 to 5 features, of which two differ by 1e-9 to 1e-4 of their size."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((200, 2 + seed % 4))
    x[:, 1] = x[:, 0] + 10 ** rng.uniform(-9, -4) * x[:, 1]
    return x


def torch_whiten(x, method):
    return F.whiten(torch.tensor(x), method=method).numpy()


@pytest.mark.parametrize("run", [lambda x, method: whiten(x, method=method)[0], torch_whiten], ids=["numpy", "torch"])
@pytest.mark.parametrize("method", METHODS)
def test_near_singularity_the_rows_are_white_or_the_error_says_why(method, run):
    """Rounding spoils the inverse of a covariance long before its rank is less than D."""
    refused = {"has rank": 0, "is almost singular: its variances run from": 0}
    for seed in range(100):
        x = almost_singular(seed)
        try:
            y = run(x, method)
        except ValueError as error:
            refused[next(words for words in refused if words in str(error))] += 1
            continue
        cov = np.cov(y.T, bias=True)
        assert np.max(np.abs(cov - np.eye(len(cov)))) < 2e-6  # 1e-6, and the rounding of this sum
    assert all(refused.values()) and sum(refused.values()) < 100


@pytest.mark.parametrize("method", METHODS)
def test_small_eps_on_a_singular_covariance_does_what_it_claims(method):
    """A direction of variance v gets v / (v + eps): here 1, 1 and 0."""
    x = random(200, 2)
    x = np.column_stack([x, x[:, 0] - x[:, 1]])
    y = whiten(x, method=method, eps=1e-8)[0]
    np.testing.assert_allclose(np.linalg.eigvalsh(np.cov(y.T, bias=True)), [0, 1, 1], atol=2e-6)


def test_error_near_singularity_has_its_numbers():
    x = almost_singular(27)
    var = np.linalg.eigvalsh(np.cov(x.T, bias=True))
    with pytest.raises(ValueError, match="is almost singular") as refusal:
        whiten(x)
    words = str(refusal.value)
    smallest, largest = re.search(r"run from (\S+) to (\S+), and", words).groups()
    error = float(re.search(r"rows (\S+) away", words)[1])
    np.testing.assert_allclose([float(smallest), float(largest)], var[[0, -1]], rtol=0.1)
    assert 1e-6 < error < 1 and words.endswith("an eps above 0")


def test_verdict_does_not_depend_on_the_unit_of_the_data():
    def verdict(x):
        try:
            return np.round(whiten(x)[0], 9).tolist()
        except ValueError as error:
            return str(error)[:30]
    for seed in range(20):
        x = almost_singular(seed)
        assert verdict(x) == verdict(2.0**20 * x) == verdict(2.0**-20 * x)  # powers of two: nothing is rounded


def test_an_eps_too_small_to_help_is_named():
    with pytest.raises(ValueError, match="is almost singular.* away from white.*an eps above 1e-17"):
        whiten(almost_singular(1)[:, :2], eps=1e-17)


def test_rows_whose_squares_overflow_are_refused():
    with pytest.raises(ValueError, match="x holds .*e.200, and squares of that size overflow"):
        whiten(random() * 1e200)


@pytest.mark.parametrize("run, methods, error", [
    (lambda x: whiten(x), numpy_half._METHODS, np.linalg.LinAlgError),
    (lambda x: torch_whiten(x, "zca"), torch_half.METHODS, torch.linalg.LinAlgError),
], ids=["numpy", "torch"])
def test_failure_of_the_solver_is_told_in_our_words(run, methods, error, monkeypatch):
    """It is a matter of luck which covariance a solver fails on; none is known since the rank is asked for first."""
    def failing(cov):
        raise error("the matrix is not positive definite")
    monkeypatch.setitem(methods, "zca", failing)
    var = np.linalg.eigvalsh(np.cov(random().T, bias=True))
    with pytest.raises(ValueError, match=f"is almost singular.*from {var[0]:.3g} to {var[-1]:.3g}, .* inf away from"):
        run(random())
