"""Bad input gets an error that says what is wrong, with both numbers; NaN and infinity are never hidden.

The table is the one of the other frameworks' answers, where many are silent or
name neither number: a wrong number of channels, groups that do not divide,
one value per slice, integers, ranks and shapes that do not fit.
"""

import re

import numpy as np
import pytest

import course_lib as ours

X = np.random.default_rng(0).standard_normal((5, 4, 3))
CHANNEL_LAYERS = {
    "batch_norm": ours.batch_norm,
    "instance_norm": ours.instance_norm,
    "group_norm": lambda x, gamma, beta, eps=1e-5: ours.group_norm(x, gamma, beta, groups=2, eps=eps),
    "filter_response_norm": ours.filter_response_norm,
}
LAYERS = {
    **CHANNEL_LAYERS,
    "layer_norm": lambda x, gamma, beta, eps=1e-5: ours.layer_norm(x, gamma[:3], beta[:3], eps=eps),
    "rms_norm": lambda x, gamma, beta, eps=1e-5: ours.rms_norm(x, gamma[:3], eps=eps),
}
WITH_BETA = {name: run for name, run in LAYERS.items() if name != "rms_norm"}
channel_layers = pytest.mark.parametrize("run", CHANNEL_LAYERS.values(), ids=CHANNEL_LAYERS)
layers = pytest.mark.parametrize("run", LAYERS.values(), ids=LAYERS)
ONES = np.ones(4)


def refuses(error, message):
    """The error with exactly this message."""
    return pytest.raises(error, match=f"^{re.escape(message)}$")


@channel_layers
def test_wrong_number_of_channels_is_told(run):
    with refuses(ValueError, "x has 4 channels; gamma has shape (3,), not (4,)"):
        run(X, np.ones(3), ONES)
    with refuses(ValueError, "x has 4 channels; beta has shape (6,), not (4,)"):
        run(X, ONES, np.ones(6))


@channel_layers
def test_parameters_that_would_broadcast_are_refused(run):
    """A scalar, or one value for all channels, or a column, would compute something, and not what was meant."""
    for gamma, shape in ((1.0, "()"), (np.ones(1), "(1,)"), (np.ones((4, 1)), "(4, 1)")):
        with refuses(ValueError, f"x has 4 channels; gamma has shape {shape}, not (4,)"):
            run(X, gamma, ONES)


def test_learned_eps_of_another_shape_is_refused():
    with refuses(ValueError, "x has 4 channels; eps has shape (3,), not (4,)"):
        ours.filter_response_norm(X, ONES, ONES, eps=np.ones(3))


@pytest.mark.parametrize("groups, channels", [(3, 10), (4, 6), (7, 6), (0, 6), (-2, 6)])
def test_groups_that_do_not_divide_the_channels_are_refused(groups, channels):
    gamma = np.ones(channels)
    with refuses(ValueError, f"groups ({groups}) must divide the number of channels ({channels})"):
        ours.group_norm(np.ones((2, channels, 3)), gamma, gamma, groups=groups)


@pytest.mark.parametrize("x, shape, axes", [
    (X[:1, :, 0], "(1, 4)", "(0,)"), (X[:1, :, :1], "(1, 4, 1)", "(0, 2)"),
], ids=["batch", "batch 1x1"])
def test_one_value_per_channel_is_refused_by_batch_norm(x, shape, axes):
    """A last batch of one sample: the layer would return beta whatever x is, and have no variance to keep."""
    with refuses(ValueError, f"x of shape {shape} has 1 value per slice along axes {axes}; a variance needs 2 or more"):
        ours.batch_norm(x, ONES, ONES)


@pytest.mark.parametrize("run, x", [
    (lambda x, gamma, beta: ours.instance_norm(x, gamma, beta), X[:, :, :1]),
    (lambda x, gamma, beta: ours.instance_norm(x, gamma, beta), X[:, :, 0]),
    (lambda x, gamma, beta: ours.group_norm(x, gamma, beta, groups=4), X[:, :, 0]),
    (lambda x, gamma, beta: ours.layer_norm(x[:, :, None], gamma[:1], beta[:1]), X[:, :, 0]),
], ids=["instance 1x1", "instance without space", "group", "layer"])
def test_one_value_per_slice_gives_beta_and_no_gradient_to_x(run, x):
    """As in torch and ONNX: the formula, where the value is its own mean."""
    gamma, beta = np.arange(1.0, 5), np.arange(2.0, 6)
    y, cache = run(x, gamma, beta)
    shift = beta[:1] if y.ndim > x.ndim else beta.reshape(4, *[1] * (x.ndim - 2))
    assert np.array_equal(y, np.broadcast_to(shift, y.shape))
    dx, dgamma, dbeta = ours.norm_backward(np.ones(y.shape), cache)
    assert not dx.any() and not dgamma.any() and dbeta.sum() == y.size


def test_one_value_per_slice_is_itself_without_centring():
    x = np.array([[3.0, -4.0]])
    np.testing.assert_allclose(ours.filter_response_norm(x, ONES[:2], 0 * ONES[:2], eps=0.0)[0], [[1, -1]])
    np.testing.assert_allclose(ours.rms_norm(x[:, :, None], ONES[:1], eps=0.0)[0], [[[1], [-1]]])


# ---------------------------------------------------------------- what would lose something without a word

WITH_PARAMETERS = {
    **WITH_BETA,
    "inference": lambda x, gamma, beta: ours.batch_norm_inference(x, gamma, beta, ONES, ONES),
    "inference, statistics": lambda x, gamma, beta: ours.batch_norm_inference(x, ONES, ONES, gamma, beta),
    "fold": lambda x, gamma, beta: ours.fold_batch_norm(x.reshape(4, -1), beta, gamma, beta, ONES, ONES),
    "fold, statistics": lambda x, gamma, beta: ours.fold_batch_norm(x.reshape(4, -1), None, ONES, ONES, gamma, beta),
}


@pytest.mark.parametrize("bad", [np.ones(4, bool), np.ones(4) + 1j, np.array(["1"] * 4), [None] * 4], ids=str)
@pytest.mark.parametrize("run", WITH_PARAMETERS.values(), ids=WITH_PARAMETERS)
def test_parameters_that_are_no_real_numbers_are_refused(run, bad):
    """A string would be read, and a complex number lose its imaginary part."""
    for gamma, beta in ((bad, ONES), (ONES, bad)):
        with pytest.raises(TypeError, match=r"is (bool|complex128|<U1|object); normalization needs a floating type"):
            run(X, gamma, beta)


@layers
def test_masked_arrays_are_refused(run):
    masked = np.ma.masked_array(X, X > 0)
    with refuses(TypeError, "x is a masked array, and its mask would be lost; give the entries that count"):
        run(masked, ONES, ONES)
    _, cache = run(X, ONES, ONES)
    with refuses(TypeError, "dy is a masked array, and its mask would be lost; give the entries that count"):
        ours.norm_backward(masked, cache)


@layers
def test_dy_may_be_a_list_and_must_be_numbers(run):
    _, cache = run(X, ONES, ONES)
    for a, b in zip(ours.norm_backward(X.tolist(), cache), ours.norm_backward(X, cache), strict=True):
        assert np.array_equal(a, b)
    with refuses(TypeError, "dy is object; normalization needs a floating type"):
        ours.norm_backward(None, cache)


BACKWARD = {
    "standardize": lambda dy, cache: ours.standardize_backward(dy, cache),
    "norm": ours.norm_backward, "tlu": ours.tlu_backward, "frn_tlu": ours.filter_response_norm_tlu_backward,
    "lrn": ours.local_response_norm_backward, "whiten": ours.whiten_backward,
}


@pytest.mark.parametrize("backward", BACKWARD.values(), ids=BACKWARD)
def test_gradient_and_cache_in_the_other_order_are_told_apart(backward):
    with refuses(TypeError, "the cache is of type ndarray; "
                 "it is the second result of the forward pass, and comes after the gradient"):
        backward(ours.standardize(X, (0,))[1], X)


FORWARD_BACKWARD = {  # all pairs of the package, on fresh arrays: x, then the parameters
    "standardize": (lambda x: ours.standardize(x, (0,)), ours.standardize_backward, ()),
    **{name: (run, ours.norm_backward, (4, 4)) for name, run in LAYERS.items()},
    "learned eps": (lambda x, g, b, e: ours.filter_response_norm(x, g, b, eps=e), ours.norm_backward, (4, 4, 4)),
    "eps of an array": (lambda x, e: ours.standardize(x, (0, 2), eps=np.abs(e)[:, None]), ours.standardize_backward,
                        (4,)),
    "tlu": (ours.tlu, ours.tlu_backward, (4,)),
    "frn_tlu": (ours.filter_response_norm_tlu, ours.filter_response_norm_tlu_backward, (4, 4, 4)),
    "whiten": (lambda x: ours.whiten(x.reshape(-1, 3)), lambda dy, cache: ours.whiten_backward(dy, cache), ()),
    "lrn": (lambda x: ours.local_response_norm(x.copy(), alpha=0.3), ours.local_response_norm_backward, ()),
}


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64], ids=lambda t: t.__name__)
@pytest.mark.parametrize("name", FORWARD_BACKWARD)
def test_what_is_changed_in_place_after_the_forward_pass_changes_no_gradient(name, dtype):
    """x, y and every parameter, but for x of local response norm, whose docstring says so: there x is a copy here."""
    run, backward, sizes = FORWARD_BACKWARD[name]

    def gradients(change):
        rng = np.random.default_rng(5)
        inputs = [rng.standard_normal(X.shape).astype(dtype), *(rng.standard_normal(n).astype(dtype) for n in sizes)]
        y, cache = run(*inputs)
        dy = np.random.default_rng(6).standard_normal(y.shape).astype(dtype)
        for a in (y, *inputs) if change else ():
            if a.flags.writeable:
                a[...] = 7
            else:  # refused, so that nothing happens without a word
                with pytest.raises(ValueError, match="read-only"):
                    a[...] = 7
        found = backward(dy, cache)
        return found if isinstance(found, tuple) else (found,)

    for a, b in zip(gradients(True), gradients(False), strict=True):
        assert np.array_equal(a, b)


@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.uint8, bool, np.complex64])
@layers
def test_x_that_is_not_floating_is_refused(run, dtype):
    with refuses(TypeError, f"x is {np.dtype(dtype)}; normalization needs a floating type"):
        run(np.ones(X.shape, dtype), ONES, ONES)


@pytest.mark.skipif(np.dtype(np.longdouble).itemsize == 8, reason="here it is float64 under another name")
@layers
def test_longer_than_float64_is_refused(run):
    """Sums are in float64: the result would look as if it had digits that it has not."""
    words = f"is {np.dtype(np.longdouble)}; sums here keep the digits of float64, so give it as that"
    with refuses(TypeError, f"x {words}"):
        run(X.astype(np.longdouble), ONES, ONES)
    with refuses(TypeError, f"gamma {words}"):
        run(X, ONES.astype(np.longdouble), ONES)
    _, cache = run(X, ONES, ONES)
    with refuses(TypeError, f"dy {words}"):
        ours.norm_backward(X.astype(np.longdouble), cache)


@pytest.mark.parametrize("beta", ["0.75", None, 1j, [0.75], np.ones(3)], ids=str)
def test_exponent_of_local_response_norm_that_is_no_number_is_refused(beta):
    with refuses(TypeError, f"beta is {beta!r}; it needs a number"):
        ours.local_response_norm(X, beta=beta)


@layers
def test_integer_parameters_are_refused(run):
    """Their gradients would be cut off to integers."""
    with refuses(TypeError, "gamma is int64; normalization needs a floating type"):
        run(X, np.ones(4, np.int64), ONES)


@pytest.mark.parametrize("run", WITH_BETA.values(), ids=WITH_BETA)
def test_integer_beta_is_refused(run):
    with refuses(TypeError, "beta is int64; normalization needs a floating type"):
        run(X, ONES, np.ones(4, np.int64))


@pytest.mark.parametrize("gamma", [(4,), (4, 2), (5, 4), (2, 5, 4, 3), ()], ids=str)
def test_layer_norm_names_both_shapes(gamma):
    gamma = np.ones(gamma)
    message = f"x of shape (5, 4, 3) does not end in the shape of gamma, {gamma.shape}"
    with refuses(ValueError, message):
        ours.layer_norm(X, gamma, gamma)
    with refuses(ValueError, message):
        ours.rms_norm(X, gamma)


def test_layer_norm_beta_of_another_shape_is_refused():
    with refuses(ValueError, "x ends in (3,); beta has shape (4,), not (3,)"):
        ours.layer_norm(X, np.ones(3), np.ones(4))


@channel_layers
def test_x_without_a_channel_axis_is_refused(run):
    with refuses(ValueError, "x has shape (4,); it needs a sample axis and a channel axis, (N, C, *S)"):
        run(np.ones(4), ONES, ONES)


@pytest.mark.parametrize("eps", [-1e-5, -1, np.nan])
@layers
def test_negative_eps_is_refused(run, eps):
    """0 is allowed: the gradient identities are exact there."""
    with refuses(ValueError, f"eps must be 0 or more, got {eps}"):
        run(X, ONES, ONES, eps=eps)
    run(X, ONES, ONES, eps=0)


def test_learned_eps_may_be_negative():
    """Its absolute value is used, so that gradient descent may not walk out of the domain."""
    ours.filter_response_norm(X, ONES, ONES, eps=-0.1 * ONES)


@layers
def test_dy_of_another_shape_is_refused(run):
    _, cache = run(X, ONES, ONES)
    for dy, shape in ((X[:4], "(4, 4, 3)"), (X[:1], "(1, 4, 3)"), (X.reshape(5, 3, 4), "(5, 3, 4)")):
        with refuses(ValueError, f"dy has shape {shape}, but y had (5, 4, 3)"):
            ours.norm_backward(dy, cache)


@layers
def test_integer_dy_is_refused(run):
    _, cache = run(X, ONES, ONES)
    with refuses(TypeError, "dy is int64; normalization needs a floating type"):
        ours.norm_backward(np.ones(X.shape, np.int64), cache)


def test_standardize_backward_refuses_what_does_not_fit():
    _, cache = ours.standardize(X, (0,))
    with refuses(ValueError, "dx_hat has shape (1, 4, 3), but x_hat had (5, 4, 3)"):
        ours.standardize_backward(X[:1], cache)
    with refuses(TypeError, "dx_hat is int64; normalization needs a floating type"):
        ours.standardize_backward(np.ones(X.shape, np.int64), cache)


@pytest.mark.parametrize("axes, message", [
    ((3,), "x of shape (5, 4, 3) has no axes (3,)"),
    ((0, -4), "x of shape (5, 4, 3) has no axes (0, -4)"),
    ((1, -2), "axes (1, -2) of x of shape (5, 4, 3) name an axis twice"),
], ids=str)
def test_standardize_refuses_axes_that_x_has_not(axes, message):
    with refuses(ValueError, message):
        ours.standardize(X, axes)


@pytest.mark.parametrize("shape", [(4,), (5, 4, 3), (2, 1, 4, 1), (1, 3, 1)], ids=str)
def test_standardize_refuses_an_eps_that_does_not_fit_the_statistics(shape):
    with refuses(ValueError, f"eps has shape {shape}, but the statistics have (1, 4, 1)"):
        ours.standardize(X, (0, 2), eps=np.ones(shape))


def test_filter_response_norm_with_tlu_refuses_what_does_not_fit():
    with refuses(ValueError, "x has 4 channels; gamma has shape (3,), not (4,)"):
        ours.filter_response_norm_tlu(X, np.ones(3), ONES, ONES)
    with refuses(ValueError, "x has 4 channels; tau has shape (3,), not (4,)"):
        ours.filter_response_norm_tlu(X, ONES, ONES, np.ones(3))
    _, cache = ours.filter_response_norm_tlu(X, ONES, ONES, ONES)
    with refuses(ValueError, f"dz has shape {X[:4].shape}, but z had {X.shape}"):
        ours.filter_response_norm_tlu_backward(X[:4], cache)


def test_tlu_refuses_what_does_not_fit():
    with refuses(ValueError, "x has 4 channels; tau has shape (3,), not (4,)"):
        ours.tlu(X, np.ones(3))
    with refuses(ValueError, "y has shape (4,); it needs a sample axis and a channel axis, (N, C, *S)"):
        ours.tlu(np.ones(4), ONES)
    with refuses(TypeError, "y is int64; normalization needs a floating type"):
        ours.tlu(np.ones((5, 4), np.int64), ONES)
    with refuses(TypeError, "tau is int64; normalization needs a floating type"):
        ours.tlu(X, np.ones(4, np.int64))
    _, cache = ours.tlu(X, ONES)
    with refuses(ValueError, "dz has shape (4, 4, 3), but z had (5, 4, 3)"):
        ours.tlu_backward(X[:4], cache)
    with refuses(TypeError, "dz is int64; normalization needs a floating type"):
        ours.tlu_backward(np.ones(X.shape, np.int64), cache)


def test_options_are_keywords_only():
    """batch_norm(x, gamma, beta, 0.1): is that eps, or a momentum?"""
    for call in (
        lambda: ours.batch_norm(X, ONES, ONES, 0.1), lambda: ours.instance_norm(X, ONES, ONES, 0.1),
        lambda: ours.layer_norm(X, ONES[:3], ONES[:3], 0.1), lambda: ours.group_norm(X, ONES, ONES, 2),
        lambda: ours.rms_norm(X, ONES[:3], 0.1), lambda: ours.filter_response_norm(X, ONES, ONES, 0.1),
        lambda: ours.standardize(X, (0,), False),
    ):
        with pytest.raises(TypeError, match="positional argument"):
            call()
