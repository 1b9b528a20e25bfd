"""What must hold for every input: hypothesis looks for one where it does not.

float64, the data off centre, gamma of any sign.  Tolerances are a few hundred
roundings of 1e-16, times what a formula may lose: a slice whose spread is
1/1000 of its mean, the worst drawn here, loses three digits.
"""

from functools import lru_cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from layers import layer

import course_lib as ours

CLOSE = {"rtol": 1e-9, "atol": 1e-9}
CENTRED = ("batch_norm", "layer_norm", "instance_norm", "group_norm")
FAMILIES = (*CENTRED, "rms_norm", "frn", "frn_learned_eps")
PER_SAMPLE = tuple(name for name in FAMILIES if name != "batch_norm")

every = pytest.mark.parametrize("name", FAMILIES)
every_centred = pytest.mark.parametrize("name", CENTRED)
every_per_sample = pytest.mark.parametrize("name", PER_SAMPLE)
seeds = st.integers(0, 2**32 - 1)
epsilons = st.sampled_from([0.0, 1e-5, 0.1])
# (N, C, *S) with C a multiple of GROUPS; two samples and two positions at least, so that every slice has two entries
shapes = st.tuples(
    st.integers(2, 5), st.sampled_from([2, 4, 6, 8]), st.lists(st.integers(2, 5), min_size=1, max_size=3)
).map(lambda parts: (*parts[:2], *parts[2]))


def drawn(name, shape, seed):
    """The layer on the shape, and arrays whose mean and spread the seed chooses as well."""
    rng = np.random.default_rng(seed)
    case = layer(name, shape, 2)
    mean, std = rng.uniform(-10, 10), 10 ** rng.uniform(-2, 2)
    return case, *case.arrays(mean=mean, std=std, seed=seed)


def plain(case):
    """gamma = 1, beta = 0, so that the layer returns x_hat."""
    size = [case.shape[axis] for axis in case.param_axes]
    return [np.ones(size), np.zeros(size)][:case.params] + ([np.full(case.shape[1], 0.1)] if case.learned_eps else [])


def per_slice(case, a):
    """(slices, entries) of an array of the layer's shape."""
    return a[entries_of(case.name, case.shape)]


@lru_cache(maxsize=64)
def entries_of(name, shape):
    """The loops of the oracle as an index: a test asks for the slices of a shape several times."""
    return tuple(np.moveaxis(np.array(layer(name, shape, 2).slices(shape)), -1, 0))


def size_of_terms(case, x, params, dy, eps):
    """How large the terms are that dx is the difference of: gamma * dy * inv_std, at most.

    dx itself may be 0, as it is for every dy where a slice has two entries and eps is 0.
    """
    rows = per_slice(case, x)
    var = rows.var(axis=1) if case.center else (rows**2).mean(axis=1)
    eps = np.min(np.abs(params[2])) if case.learned_eps else eps
    return np.max(np.abs(params[0])) * np.max(np.abs(dy)) / np.sqrt(np.min(var) + eps)


# --- forward --------------------------------------------------------------------------------------------------------


@every_centred
@given(shape=shapes, seed=seeds, eps=epsilons)
def test_x_hat_has_mean_0(name, shape, seed, eps):
    case, x, _, _ = drawn(name, shape, seed)
    y, _ = case.run(x, *plain(case), eps=eps)
    np.testing.assert_allclose(per_slice(case, y).mean(axis=1), 0, atol=1e-9)


@every
@given(shape=shapes, seed=seeds, eps=epsilons)
def test_x_hat_has_mean_square_var_over_var_plus_eps(name, shape, seed, eps):
    """And so 1 at eps = 0; var is the mean square of x where the layer does not centre."""
    case, x, _, _ = drawn(name, shape, seed)
    eps = 0.1 if case.learned_eps else eps
    rows = per_slice(case, x)
    var = rows.var(axis=1) if case.center else (rows**2).mean(axis=1)
    y, _ = case.run(x, *plain(case), eps=eps)
    np.testing.assert_allclose((per_slice(case, y) ** 2).mean(axis=1), var / (var + eps), **CLOSE)


@every
@given(shape=shapes, seed=seeds, eps=epsilons)
def test_x_hat_is_bounded_by_the_number_of_entries(name, shape, seed, eps):
    """|x_hat| <= sqrt(m - 1) where the mean is removed, sqrt(m) where not: one entry may hold all the variance."""
    case, x, _, _ = drawn(name, shape, seed)
    y, _ = case.run(x, *plain(case), eps=eps)
    m = len(case.slices(shape)[0])
    assert np.max(np.abs(y)) <= np.sqrt(m - case.center) * (1 + 1e-12)


@every_centred
@given(shape=shapes, seed=seeds, eps=epsilons, shift=st.floats(-100, 100))
def test_shift_of_x_changes_nothing(name, shape, seed, eps, shift):
    case, x, params, dy = drawn(name, shape, seed)
    terms = [1, size_of_terms(case, x, params, dy, eps), 1, 1]
    shifted = case.gradients(x + shift, params, dy, eps)
    for a, b, size in zip(shifted, case.gradients(x, params, dy, eps), terms, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-7, atol=1e-7 * size)  # x + shift itself rounds


@pytest.mark.parametrize("name", ["rms_norm", "frn", "frn_learned_eps"])
@given(shape=shapes, seed=seeds)
def test_shift_of_x_shows_where_the_mean_stays(name, shape, seed):
    case, x, params, _ = drawn(name, shape, seed)
    y, _ = case.run(x, *params, eps=1e-5)
    shifted, _ = case.run(x + 3 * x.std() + 1, *params, eps=1e-5)
    assert not np.allclose(y, shifted)


@every
@given(shape=shapes, seed=seeds, eps=epsilons, scale=st.floats(1e-3, 1e3))
def test_scale_of_x_changes_nothing_if_eps_is_scaled_too(name, shape, seed, eps, scale):
    """y(s x; s**2 eps) = y(x; eps), and so dx shrinks by s."""
    case, x, params, dy = drawn(name, shape, seed)
    y, dx, *dparams = case.gradients(x, params, dy, eps)
    scaled = [*params[:-1], params[-1] * scale**2] if case.learned_eps else params
    y2, dx2, *dparams2 = case.gradients(x * scale, scaled, dy, eps * scale**2)
    dparams2 = [*dparams2[:-1], dparams2[-1] * scale**2] if case.learned_eps else dparams2
    np.testing.assert_allclose(dx2 * scale, dx, rtol=1e-9, atol=1e-9 * size_of_terms(case, x, params, dy, eps))
    for a, b in zip((y2, *dparams2), (y, *dparams), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9 * np.max(np.abs(b)))


@pytest.mark.parametrize("name", [n for n in FAMILIES if n != "frn_learned_eps"])
@given(shape=shapes, seed=seeds)
def test_sign_of_x_turns_x_hat_over(name, shape, seed):
    case, x, _, _ = drawn(name, shape, seed)
    np.testing.assert_array_equal(case.run(-x, *plain(case), eps=1e-5)[0], -case.run(x, *plain(case), eps=1e-5)[0])


@every
@given(shape=shapes, seed=seeds, data=st.data())
def test_permuted_batch_gives_permuted_results(name, shape, seed, data):
    case, x, params, dy = drawn(name, shape, seed)
    order = data.draw(st.permutations(range(shape[0])))
    y, dx, *dparams = case.gradients(x, params, dy, 1e-5)
    y2, dx2, *dparams2 = case.gradients(x[order], params, dy[order], 1e-5)
    for a, b in zip((y2, dx2, *dparams2), (y[order], dx[order], *dparams), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9 * np.max(np.abs(b)))


@every_per_sample
@given(shape=shapes, seed=seeds)
def test_samples_do_not_touch_each_other(name, shape, seed):
    case, x, params, dy = drawn(name, shape, seed)
    y, dx, *dparams = case.gradients(x, params, dy, 1e-5)
    alone = [case.gradients(x[i:i + 1], params, dy[i:i + 1], 1e-5) for i in range(shape[0])]
    np.testing.assert_array_equal(y, np.concatenate([one[0] for one in alone]))
    np.testing.assert_array_equal(dx, np.concatenate([one[1] for one in alone]))
    for k, d in enumerate(dparams):
        np.testing.assert_allclose(sum(one[2 + k] for one in alone), d, rtol=1e-9, atol=1e-9 * np.max(np.abs(d)))


@given(shape=shapes, seed=seeds)
def test_samples_of_a_batch_norm_do_touch_each_other(shape, seed):
    case, x, params, _ = drawn("batch_norm", shape, seed)
    changed = x.copy()
    changed[0] += 1 + np.arange(x[0].size).reshape(x[0].shape) * x.std()
    assert not np.allclose(case.run(x, *params, eps=1e-5)[0][1], case.run(changed, *params, eps=1e-5)[0][1])


@every
@given(shape=shapes, seed=seeds)
def test_gamma_and_beta_act_after_standardizing(name, shape, seed):
    case, x, params, _ = drawn(name, shape, seed)
    gamma, *rest = params
    wide = gamma if case.param_axes[-1] == x.ndim - 1 else gamma.reshape(-1, *[1] * (x.ndim - 2))
    beta = rest[0].reshape(wide.shape) if case.params == 2 else 0
    ones = [np.ones_like(gamma), *([np.zeros_like(gamma)] if case.params == 2 else []), *rest[case.params - 1:]]
    x_hat, _ = case.run(x, *ones, eps=1e-5)
    np.testing.assert_allclose(case.run(x, *params, eps=1e-5)[0], wide * x_hat + beta, **CLOSE)


# --- identities between layers --------------------------------------------------------------------------------------


@given(shape=shapes, seed=seeds, eps=epsilons)
def test_group_norm_with_1_group_is_layer_norm(shape, seed, eps):
    """Over (C, *S); the source notes have it the other way round."""
    _, x, (gamma, beta), dy = drawn("group_norm", shape, seed)
    y, cache = ours.group_norm(x, gamma, beta, groups=1, eps=eps)
    wide = [np.broadcast_to(p.reshape(-1, *[1] * (x.ndim - 2)), shape[1:]) for p in (gamma, beta)]
    y2, cache2 = ours.layer_norm(x, *wide, eps=eps)
    np.testing.assert_allclose(y, y2, **CLOSE)
    dx, dgamma, dbeta = ours.norm_backward(dy, cache)
    dx2, dgamma2, dbeta2 = ours.norm_backward(dy, cache2)
    np.testing.assert_allclose(dx, dx2, rtol=1e-9, atol=1e-9 * np.max(np.abs(dx)))
    space = tuple(range(1, x.ndim - 1))
    np.testing.assert_allclose(dgamma, dgamma2.sum(space), **CLOSE)
    np.testing.assert_allclose(dbeta, dbeta2.sum(space), **CLOSE)


@given(shape=shapes, seed=seeds, eps=epsilons)
def test_group_norm_with_c_groups_is_instance_norm(shape, seed, eps):
    _, x, (gamma, beta), dy = drawn("group_norm", shape, seed)
    y, cache = ours.group_norm(x, gamma, beta, groups=shape[1], eps=eps)
    y2, cache2 = ours.instance_norm(x, gamma, beta, eps=eps)
    for a, b in zip((y, *ours.norm_backward(dy, cache)), (y2, *ours.norm_backward(dy, cache2)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9 * np.max(np.abs(b)))


@given(shape=shapes, seed=seeds, eps=epsilons)
def test_batch_norm_of_one_sample_is_instance_norm(shape, seed, eps):
    _, x, (gamma, beta), dy = drawn("batch_norm", (1, *shape[1:]), seed)
    y, cache = ours.batch_norm(x, gamma, beta, eps=eps)
    y2, cache2 = ours.instance_norm(x, gamma, beta, eps=eps)
    for a, b in zip((y, *ours.norm_backward(dy, cache)), (y2, *ours.norm_backward(dy, cache2)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9 * np.max(np.abs(b)))


@given(n=st.integers(2, 9), c=st.integers(2, 9), seed=seeds, eps=epsilons)
def test_batch_norm_is_layer_norm_of_the_transpose(n, c, seed, eps):
    rng = np.random.default_rng(seed)
    x, dy = 3 + rng.standard_normal((2, n, c))
    x += np.arange(n)[:, None]  # no channel is nearly constant
    y, cache = ours.batch_norm(x, np.ones(c), np.zeros(c), eps=eps)
    y2, cache2 = ours.layer_norm(x.T, np.ones(n), np.zeros(n), eps=eps)
    np.testing.assert_allclose(y, y2.T, **CLOSE)
    dx, dx2 = ours.norm_backward(dy, cache)[0], ours.norm_backward(dy.T, cache2)[0].T
    np.testing.assert_allclose(dx, dx2, rtol=1e-9, atol=1e-9 * np.max(cache.inner.inv_std))


@given(shape=shapes, seed=seeds, eps=epsilons)
def test_rms_norm_of_centred_data_is_layer_norm(shape, seed, eps):
    case, x, (gamma, beta), _ = drawn("layer_norm", shape, seed)
    centred = x - x.mean(case.param_axes, keepdims=True)
    np.testing.assert_allclose(
        ours.rms_norm(centred, gamma, eps=eps)[0], ours.layer_norm(x, gamma, np.zeros_like(beta), eps=eps)[0], **CLOSE)


@given(shape=shapes, seed=seeds, eps=epsilons)
def test_filter_response_norm_of_centred_data_is_instance_norm(shape, seed, eps):
    _, x, (gamma, beta), _ = drawn("frn", shape, seed)
    centred = x - x.mean(tuple(range(2, x.ndim)), keepdims=True)
    y, _ = ours.filter_response_norm(centred, gamma, beta, eps=eps)
    np.testing.assert_allclose(y, ours.instance_norm(x, gamma, beta, eps=eps)[0], **CLOSE)


@given(shape=shapes, seed=seeds, eps=st.floats(0, 1))
def test_learned_eps_computes_what_a_number_does(shape, seed, eps):
    """With either sign, since |eps| is used."""
    _, x, (gamma, beta), dy = drawn("frn", shape, seed)
    y, cache = ours.filter_response_norm(x, gamma, beta, eps=eps)
    for learned in (np.full(shape[1], eps), np.full(shape[1], -eps)):
        y2, cache2 = ours.filter_response_norm(x, gamma, beta, eps=learned)
        for a, b in zip((y, *ours.norm_backward(dy, cache)), (y2, *ours.norm_backward(dy, cache2)[:3]), strict=True):
            np.testing.assert_array_equal(a, b)


# --- backward -------------------------------------------------------------------------------------------------------


@every_centred
@given(shape=shapes, seed=seeds, eps=epsilons)
def test_dx_sums_to_0_in_each_slice(name, shape, seed, eps):
    """Shifting a slice leaves y as it was."""
    case, x, params, dy = drawn(name, shape, seed)
    dx = per_slice(case, case.gradients(x, params, dy, eps)[1])
    np.testing.assert_allclose(dx.sum(axis=1), 0, atol=1e-9 * size_of_terms(case, x, params, dy, eps))


@pytest.mark.parametrize("name", [n for n in FAMILIES if n != "frn_learned_eps"])
@given(shape=shapes, seed=seeds)
def test_dx_is_orthogonal_to_x_hat_at_eps_0(name, shape, seed):
    """Stretching a slice leaves y as it was, as long as no eps is in the way."""
    case, x, params, dy = drawn(name, shape, seed)
    x_hat, dx = (per_slice(case, a) for a in
                 (case.run(x, *plain(case), eps=0.0)[0], case.gradients(x, params, dy, 0.0)[1]))
    np.testing.assert_allclose((dx * x_hat).sum(axis=1), 0, atol=1e-9 * size_of_terms(case, x, params, dy, 0.0))


@every
@given(shape=shapes, seed=seeds)
def test_dx_along_x_hat_is_what_eps_leaves(name, shape, seed):
    """sum(dx * x_hat) = inv_std * sum(dx_hat * x_hat) * eps / (var + eps)."""
    case, x, params, dy = drawn(name, shape, seed)
    if case.learned_eps:
        params = [*params[:2], np.full(shape[1], 0.1)]
    x_hat, _ = case.run(x, *plain(case), eps=0.1)
    gamma = params[0] if case.param_axes[-1] == x.ndim - 1 else params[0].reshape(-1, *[1] * (x.ndim - 2))
    rows, x_hat, dx_hat = per_slice(case, x), per_slice(case, x_hat), per_slice(case, gamma * dy)
    var = rows.var(axis=1) if case.center else (rows**2).mean(axis=1)
    dx = per_slice(case, case.gradients(x, params, dy, 0.1)[1])
    expected = (dx_hat * x_hat).sum(axis=1) * 0.1 * (var + 0.1) ** -1.5
    np.testing.assert_allclose((dx * x_hat).sum(axis=1), expected, rtol=1e-7, atol=1e-9 * np.max(np.abs(dx)))


@every
@given(shape=shapes, seed=seeds, eps=epsilons, a=st.floats(-5, 5), b=st.floats(-5, 5))
def test_backward_is_linear_in_dy(name, shape, seed, eps, a, b):
    case, x, params, dy = drawn(name, shape, seed)
    other = np.random.default_rng(seed + 1).standard_normal(shape)
    _, cache = case.run(x, *params, eps=eps)
    one, two, both = (ours.norm_backward(d, cache) for d in (dy, other, a * dy + b * other))
    terms = size_of_terms(case, x, params, np.stack([dy, other]), eps)
    for k, (p, q, sum_) in enumerate(zip(one, two, both, strict=True)):
        size = terms if k == 0 else max(np.max(np.abs(p)), np.max(np.abs(q)))
        np.testing.assert_allclose(sum_, a * p + b * q, rtol=1e-9, atol=1e-9 * size)


@every
@given(shape=shapes, seed=seeds)
def test_dgamma_measures_the_layer_along_gamma(name, shape, seed):
    """y is linear in gamma and beta: <dy, y> = <dgamma, gamma> + <dbeta, beta>."""
    case, x, params, dy = drawn(name, shape, seed)
    y, _, *dparams = case.gradients(x, params, dy, 1e-5)
    inner = sum(np.sum(d * p) for d, p in zip(dparams[:case.params], params, strict=False))
    np.testing.assert_allclose(inner, np.sum(dy * y), rtol=1e-9, atol=1e-9 * np.sum(np.abs(dy * y)))


@every
@given(shape=shapes, seed=seeds, eps=epsilons)
def test_backward_of_x_hat_is_symmetric(name, shape, seed, eps):
    """With gamma = 1 the Jacobian is a projection times inv_std: <v, J w> = <J v, w>."""
    case, x, _, v = drawn(name, shape, seed)
    w = np.random.default_rng(seed + 1).standard_normal(shape)
    _, cache = case.run(x, *plain(case), eps=eps)
    jv, jw = ours.norm_backward(v, cache)[0], ours.norm_backward(w, cache)[0]
    size = size_of_terms(case, x, plain(case), np.stack([v, w]), eps)
    np.testing.assert_allclose(np.sum(v * jw), np.sum(jv * w), rtol=1e-8, atol=1e-9 * size * np.sum(np.abs(v)))


# --- TLU ------------------------------------------------------------------------------------------------------------


def tlu_arrays(shape, seed):
    rng = np.random.default_rng(seed)
    y, dz = rng.standard_normal((2, *shape))
    return y, rng.standard_normal(shape[1]), dz


def wide(tau, y):
    return tau.reshape(-1, *[1] * (y.ndim - 2))


@given(shape=shapes, seed=seeds)
def test_tlu_is_at_least_its_threshold_and_its_input(shape, seed):
    y, tau, _ = tlu_arrays(shape, seed)
    z, _ = ours.tlu(y, tau)
    assert np.all(z >= y) and np.all(z >= wide(tau, y))
    assert np.all((z == y) | (z == wide(tau, y)))


@given(shape=shapes, seed=seeds)
def test_tlu_twice_is_tlu_once(shape, seed):
    y, tau, _ = tlu_arrays(shape, seed)
    z, _ = ours.tlu(y, tau)
    np.testing.assert_array_equal(ours.tlu(z, tau)[0], z)


@given(shape=shapes, seed=seeds)
def test_tlu_with_threshold_0_is_relu(shape, seed):
    y, tau, dz = tlu_arrays(shape, seed)
    z, cache = ours.tlu(y, np.zeros_like(tau))
    np.testing.assert_array_equal(z, np.maximum(y, 0))
    np.testing.assert_array_equal(ours.tlu_backward(dz, cache)[0], dz * (y > 0))


@given(shape=shapes, seed=seeds)
def test_tlu_with_threshold_far_below_is_the_identity(shape, seed):
    y, tau, dz = tlu_arrays(shape, seed)
    z, cache = ours.tlu(y, np.full_like(tau, -np.inf))
    np.testing.assert_array_equal(z, y)
    dy, dtau = ours.tlu_backward(dz, cache)
    np.testing.assert_array_equal(dy, dz)
    np.testing.assert_array_equal(dtau, np.zeros_like(tau))


@given(shape=shapes, seed=seeds, shift=st.floats(-10, 10))
def test_tlu_shifts_with_its_input_and_threshold(shape, seed, shift):
    y, tau, _ = tlu_arrays(shape, seed)
    np.testing.assert_allclose(ours.tlu(y + shift, tau + shift)[0], ours.tlu(y, tau)[0] + shift, rtol=1e-13, atol=1e-14)


@given(shape=shapes, seed=seeds)
def test_tlu_loses_no_gradient(shape, seed):
    """Every entry of dz goes either to y or to tau."""
    y, tau, dz = tlu_arrays(shape, seed)
    _, cache = ours.tlu(y, tau)
    dy, dtau = ours.tlu_backward(dz, cache)
    axes = (0, *range(2, y.ndim))
    np.testing.assert_allclose(dy.sum(axes) + dtau, dz.sum(axes), rtol=1e-9, atol=1e-12)
    np.testing.assert_array_equal(dy, dz * (y > wide(tau, y)))


@given(shape=shapes, seed=seeds, a=st.floats(-5, 5))
def test_tlu_backward_is_linear_in_dz(shape, seed, a):
    y, tau, dz = tlu_arrays(shape, seed)
    _, cache = ours.tlu(y, tau)
    for scaled, once in zip(ours.tlu_backward(a * dz, cache), ours.tlu_backward(dz, cache), strict=True):
        np.testing.assert_allclose(scaled, a * once, rtol=1e-9, atol=1e-12)
