"""The torch half by itself: derivatives of first and second order, digits, half types, autocast, bad input."""

import layers
import numpy as np
import pytest
import torch
from twins import (
    TWINS,
    assert_autocast_changes_nothing,
    gradients,
    leaves,
    on_each_device,
    parts,  # noqa: F401  a fixture
    twin_gradients,
    whole_and_in_parts,
)

import course_lib as ours
from course_lib.nn import functional as F
from course_lib.nn.over import Over

SMALL = [layers.layer(name, (3, 4, 2), 1) for name in TWINS]  # what gradcheck's full Jacobian finishes at once
OTHERS = {
    "tlu": (F.tlu, lambda x: x[0, :, 0] + 0.01),
    "frn_tlu": (lambda x, tau: F.filter_response_norm_tlu(x, tau, -tau, tau - 3, eps=0.1), lambda x: x[0, :, 0] + 0.01),
    "inference": (lambda x, mean: F.batch_norm_inference(x, mean, -mean, mean, mean**2), lambda x: x[1, :, 1]),
    "lrn": (lambda x: F.local_response_norm(x, size=3, alpha=0.3), None),
    "lrn_even_window_other_power": (lambda x: F.local_response_norm(x, size=4, alpha=0.3, beta=0.6), None),
    "zca": (lambda x: F.whiten(x.flatten(1).T, eps=0.1), None),
    "pca": (lambda x: F.whiten(x.flatten(1).T, method="pca", eps=0.1), None),
    "cholesky": (lambda x: F.whiten(x.flatten(1).T, method="cholesky", eps=0.1), None),
}


def small_leaves(layer):
    x, params, _ = layer.arrays()
    return leaves([x, *params])


# gradcheck's default tolerances let a backward without eps, or with N - 1 for
# N, pass.  At these the differences themselves are right to about 1e-8.
STRICT = {"rtol": 1e-6, "atol": 1e-7}


@whole_and_in_parts
@pytest.mark.parametrize("eps", [1e-5, 0.1])
@pytest.mark.parametrize("layer", SMALL, ids=str)
def test_gradient_passes_gradcheck(layer, eps):
    assert torch.autograd.gradcheck(lambda *a: TWINS[layer.name](*a, eps=eps), small_leaves(layer), **STRICT)


@whole_and_in_parts
@pytest.mark.parametrize("layer", SMALL, ids=str)
def test_second_derivative_passes_gradgradcheck(layer):
    assert torch.autograd.gradgradcheck(lambda *a: TWINS[layer.name](*a, eps=0.1), small_leaves(layer), **STRICT)


def other_leaves(name):
    function, second = OTHERS[name]
    x = torch.tensor(SMALL[0].arrays()[0])
    tensors = [x] if second is None else [x, second(x)]
    return function, [t.clone().requires_grad_() for t in tensors]


@whole_and_in_parts
@pytest.mark.parametrize("name", OTHERS)
def test_other_gradient_passes_gradcheck(name):
    assert torch.autograd.gradcheck(*other_leaves(name), **STRICT)


@whole_and_in_parts
@pytest.mark.parametrize("name", ["tlu", "frn_tlu", "inference", "lrn", "lrn_even_window_other_power"])
def test_other_second_derivative_passes_gradgradcheck(name):
    assert torch.autograd.gradgradcheck(*other_leaves(name), **STRICT)


def test_gradient_penalty_through_two_local_response_norms_is_that_of_torch():
    """The gradient of a sum is constant at the last layer, and depends on x all the same."""
    conv = torch.nn.Conv1d(3, 6, 2, dtype=torch.float64)
    x = torch.randn(2, 3, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64, requires_grad=True)
    found = []
    for norm in (lambda y: F.local_response_norm(y, size=3, k=1.0, alpha=1 / 3),
                 lambda y: torch.nn.functional.local_response_norm(y, 3, alpha=1.0)):
        dx, = torch.autograd.grad(norm(norm(conv(x))).sum(), x, create_graph=True)
        found.append(torch.autograd.grad(dx.square().sum(), [x, *conv.parameters()]))
    torch.testing.assert_close(*found, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("loss", [torch.sum, lambda y: y.square().sum()], ids=["constant dy", "dy of x"])
@pytest.mark.parametrize("name", ["zca", "pca", "cholesky"])
def test_second_derivative_of_whitening_is_refused(name, loss):
    function, (x,) = other_leaves(name)
    dx, = torch.autograd.grad(loss(function(x)), x, create_graph=True)
    torch.testing.assert_close(dx, torch.autograd.grad(loss(function(x)), x)[0], rtol=0, atol=0)
    with pytest.raises(RuntimeError, match="cannot differentiate twice: whiten has a first derivative only"):
        dx.square().sum().backward()


@pytest.mark.parametrize("layer", SMALL, ids=str)
def test_gradient_with_a_graph_equals_gradient_without(layer):
    x, params, dy = layer.arrays()
    tensors, dy = leaves([x, *params]), torch.tensor(dy)
    y = TWINS[layer.name](*tensors, eps=0.1)
    without = torch.autograd.grad(y, tensors, dy, retain_graph=True)
    with_graph = torch.autograd.grad(y, tensors, dy, create_graph=True)
    torch.testing.assert_close(with_graph, without, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("layer", SMALL, ids=str)
def test_frozen_inputs_need_no_gradient(layer):
    for frozen in range(len(small_leaves(layer))):
        tensors = small_leaves(layer)
        tensors[frozen].requires_grad_(False)
        others = [t for t in tensors if t.requires_grad]
        loss = TWINS[layer.name](*tensors, eps=0.1).square().sum()
        without = torch.autograd.grad(loss, others, retain_graph=True)
        torch.testing.assert_close(torch.autograd.grad(loss, others, create_graph=True), without)


# ---------------------------------------------------------------- digits

WIDE = [layers.layer(name, (8, 6, 17, 19), 2) for name in TWINS]
LONG = [layers.layer(name, (3, 6, 1280), 1) for name in TWINS]  # rows whose squares are summed by a norm


@whole_and_in_parts
@on_each_device
@pytest.mark.parametrize("mean", [0, 1, 1e2, 1e4, 1e6])
@pytest.mark.parametrize("layer", [layer for layer in WIDE + LONG if layer.center], ids=str)
def test_float32_stays_within_2e_6_of_float64_at_any_mean(layer, mean, device):
    x, params, dy = layer.arrays(np.float32, mean=mean, std=1.0)
    got = twin_gradients(layer, (x, params, dy), 1e-5, device)
    wide = [a.astype(np.float64) for a in (x, *params, dy)]
    right = layer.gradients(wide[0], wide[1:-1], wide[-1], 1e-5)  # the NumPy half, tested by itself
    assert max(map(layers.relative_error, got, right)) < 2e-6


@on_each_device
@pytest.mark.parametrize("layer", [layer for layer in WIDE + LONG if not layer.center], ids=str)
def test_float32_without_a_mean_stays_within_2e_6_of_float64(layer, device):
    x, params, dy = layer.arrays(np.float32, mean=1.0, std=1.0)
    got = twin_gradients(layer, (x, params, dy), 1e-5, device)
    wide = [a.astype(np.float64) for a in (x, *params, dy)]
    assert max(map(layers.relative_error, got, layer.gradients(wide[0], wide[1:-1], wide[-1], 1e-5))) < 2e-6


def test_variance_of_a_long_row_of_equal_squares_keeps_its_digits():
    x = torch.full((3, 16384), 0.7)
    x[:, ::2] *= -1  # one running sum of such squares is rounded the same way each time: 1e-5 off
    var = F.norm(x, None, None, over=Over("axes", (1,)), eps=0.0)[2]
    torch.testing.assert_close(var.double(), x.double().square().mean(1, keepdim=True), rtol=1e-6, atol=0)


def test_local_response_norm_in_float32_stays_within_2e_6_of_float64():
    rng = np.random.default_rng(0)
    x, dy = rng.standard_normal((2, 4, 9, 17, 19)).astype(np.float32) * 20
    got = gradients(F.local_response_norm, leaves([x]), dy)
    y, cache = ours.local_response_norm(x.astype(float))
    assert max(map(layers.relative_error, got, [y, ours.local_response_norm_backward(dy.astype(float), cache)])) < 2e-6


@on_each_device
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("wide_params", [True, False], ids=["float32 parameters", "half parameters"])
@pytest.mark.parametrize("layer", WIDE, ids=str)
def test_half_types_lose_no_more_than_the_rounding_of_the_output(layer, wide_params, dtype, device):
    x, params, dy = layer.arrays(np.float32, mean=10.0 if layer.center else 1.0, std=1.0)
    x, *params, dy = (torch.tensor(a, device=device).to(dtype) for a in (x, *params, dy))
    params = [p.float() for p in params] if wide_params else params
    tensors = [t.requires_grad_() for t in (x, *params)]
    exact = [t.detach().double().requires_grad_() for t in tensors]
    y, right = TWINS[layer.name](*tensors, eps=1e-5), TWINS[layer.name](*exact, eps=1e-5)
    found, right_found = torch.autograd.grad(y, tensors, dy), torch.autograd.grad(right, exact, dy.double())
    for a, b in zip((y, *found), (right, *right_found), strict=True):
        # Half a step is the rounding of the output; what float32 adds is below a hundredth of it, or alone
        # where the result is float32.
        step = torch.finfo(a.dtype).eps * torch.maximum(b.abs(), b.abs().max() * 2**-7)
        slack = 2e-6 * b.abs().max()
        assert bool(((a.double() - b).abs() <= 0.51 * step + slack).all())


@whole_and_in_parts
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", ["lrn", "lrn_even_window_other_power", "tlu", "inference"])
def test_half_types_of_the_others_lose_no_more_than_the_rounding_of_the_output(name, dtype):
    function, tensors = other_leaves(name)
    half = [t.detach().to(dtype).requires_grad_() for t in tensors[:1]] + [t.detach().float() for t in tensors[1:]]
    exact = [t.detach().double() for t in half]
    exact[0].requires_grad_()
    y, right = function(*half), function(*exact)
    dy = torch.linspace(-1, 1, y.numel()).reshape(y.shape).to(dtype)
    found = torch.autograd.grad(y, half[0], dy)[0], torch.autograd.grad(right, exact[0], dy.double())[0]
    for a, b in ((y, right), found):
        # Half a step of the type, and what float32 adds to it.
        step = torch.finfo(dtype).eps * b.abs() + torch.finfo(dtype).tiny
        assert a.dtype == dtype and bool(((a.double() - b).abs() <= 0.51 * step + 2e-6 * b.abs().max()).all())


@pytest.mark.parametrize("value", [0.1, 3.3e-3, 1e4 + 0.3, 1e7 + 1, -77.7])
@pytest.mark.parametrize("layer", [layer for layer in WIDE if layer.center], ids=str)
def test_constant_input_gives_exactly_beta(layer, value):
    _, (gamma, beta), _ = layer.arrays(np.float32)
    for shape in (layer.shape, (33, 6, 17, 19), (1, 6, 17, 19)):
        x = torch.full(shape, value)
        y = TWINS[layer.name](x, torch.tensor(gamma), torch.tensor(beta), eps=1e-5)
        expected = torch.tensor(beta).reshape([n if axis in layer.param_axes else 1 for axis, n in enumerate(x.shape)])
        assert torch.equal(y, expected.expand(shape))


# ---------------------------------------------------------------- autocast, side effects, NaN, nothing


@on_each_device
@pytest.mark.parametrize("layer", SMALL, ids=str)
def test_autocast_changes_nothing(layer, device):
    assert_autocast_changes_nothing(layer, device)


@pytest.mark.parametrize("name", ["zca", "lrn", "inference"])
def test_autocast_changes_nothing_for_the_others(name):
    function, tensors = other_leaves(name)
    tensors = [t.detach().float() for t in tensors]
    expected = function(*tensors)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(function(*tensors), expected)


def test_autocast_network_trains_in_bfloat16():
    linear = torch.nn.Linear(5, 6)
    x = torch.randn(7, 5, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", torch.bfloat16):
        y = F.layer_norm(linear(x), torch.ones(6), torch.zeros(6))
        assert y.dtype == torch.bfloat16
    y.float().square().sum().backward()
    assert linear.weight.grad.dtype == torch.float32 and linear.weight.grad.isfinite().all()


@whole_and_in_parts
@pytest.mark.parametrize("layer", SMALL, ids=str)
def test_inputs_are_left_as_they_are(layer):
    x, params, dy = layer.arrays(np.float32)
    tensors, dy = leaves([x, *params]), torch.tensor(dy)
    before = [t.detach().clone() for t in (*tensors, dy)]
    torch.autograd.grad(TWINS[layer.name](*tensors, eps=0.1), tensors, dy)
    torch.testing.assert_close([t.detach() for t in (*tensors, dy)], before, rtol=0, atol=0)


@pytest.mark.parametrize("layer", SMALL, ids=str)
def test_result_may_be_changed_in_place(layer):
    tensors, again = small_leaves(layer), small_leaves(layer)
    torch.relu_(TWINS[layer.name](*tensors, eps=0.1)).sum().backward()
    torch.relu(TWINS[layer.name](*again, eps=0.1)).sum().backward()
    torch.testing.assert_close([t.grad for t in tensors], [t.grad for t in again])


@whole_and_in_parts
@pytest.mark.parametrize("layer", SMALL, ids=str)
def test_nan_spreads_over_its_slice_and_no_further(layer):
    x, params, _ = layer.arrays()
    x[1, 2, 1] = np.nan
    y = TWINS[layer.name](*leaves([x, *params]), eps=0.1).detach().numpy()
    expected, _ = layer.run(x, *params, eps=0.1)
    assert np.array_equal(np.isnan(y), np.isnan(expected)) and 0 < np.isnan(y).sum() < y.size


@pytest.mark.parametrize("layer", SMALL, ids=str)
def test_batch_of_0_gives_an_empty_result_and_zero_gradients(layer):
    _, params, _ = layer.arrays()
    tensors = leaves([np.zeros((0, 4, 2)), *params])
    y, *found = gradients(lambda *a: TWINS[layer.name](*a, eps=0.1), tensors, torch.zeros(0, 4, 2))
    assert y.shape == found[0].shape == (0, 4, 2)
    assert all(not gradient.any() for gradient in found[1:])


def test_whitening_and_windows_of_nothing_are_nothing():
    assert F.whiten(torch.zeros(0, 4)).shape == (0, 4)
    assert F.local_response_norm(torch.zeros(0, 4, 3)).shape == (0, 4, 3)


def test_whitening_lets_nan_through():
    x = torch.randn(9, 3, generator=torch.Generator().manual_seed(0))
    x[4, 1] = torch.nan
    assert F.whiten(x).isnan().all()


def test_zca_gradient_is_finite_for_equal_variances():
    x = torch.tensor([[1.0, 1], [1, -1], [-1, 1], [-1, -1]], dtype=torch.float64, requires_grad=True)
    dy = torch.arange(8, dtype=torch.float64).reshape(4, 2)
    y = F.whiten(x)
    dx, = torch.autograd.grad(y, x, dy)
    np.testing.assert_allclose(dx, ours.whiten_backward(dy.numpy(), ours.whiten(x.detach().numpy())[1]), atol=1e-14)
    with pytest.raises(ValueError, match="components 0 and 1 have the same variance: pca has no gradient"):
        torch.autograd.grad(F.whiten(x, method="pca"), x, dy)


# ---------------------------------------------------------------- None, numbers for eps, bad input


@pytest.mark.parametrize("function", [F.batch_norm, F.instance_norm, F.filter_response_norm, TWINS["group_norm"]],
                         ids=["batch", "instance", "frn", "group"])
def test_no_gamma_is_1_and_no_beta_is_0(function):
    x = torch.tensor(SMALL[0].arrays()[0])
    torch.testing.assert_close(function(x, None, None, eps=0.1), function(x, torch.ones(4).double(), None, eps=0.1))
    torch.testing.assert_close(function(x, None, torch.zeros(4).double(), eps=0.1), function(x, None, None, eps=0.1))


def test_learned_eps_needs_no_gamma_and_may_be_a_single_number():
    x = torch.tensor(SMALL[0].arrays()[0])
    eps = torch.tensor(-0.3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda eps: F.filter_response_norm(x, None, None, eps=eps), eps, **STRICT)
    torch.testing.assert_close(F.filter_response_norm(x, None, None, eps=eps),
                               F.filter_response_norm(x, None, None, eps=0.3))


X = torch.ones(2, 4, 3)


@pytest.mark.parametrize(("call", "error", "message"), [
    (lambda: F.batch_norm(X, torch.ones(3), None), ValueError, r"x has 4 channels; gamma has shape \(3,\), not \(4,\)"),
    (lambda: F.batch_norm(X, torch.ones(4), torch.ones(5)), ValueError, r"beta has shape \(5,\), not \(4,\)"),
    (lambda: F.layer_norm(X, torch.ones(5), None), ValueError,
     r"x of shape \(2, 4, 3\) does not end in the shape of gamma, \(5,\)"),
    (lambda: F.layer_norm(X, torch.ones(3), torch.ones(5)), ValueError,
     r"x ends in \(3,\); beta has shape \(5,\), not \(3,\)"),
    (lambda: F.rms_norm(X, torch.ones(1, 2, 4, 3)), ValueError,
     r"x of shape \(2, 4, 3\) does not end in the shape of gamma, \(1, 2, 4, 3\)"),
    (lambda: F.group_norm(torch.ones(2, 10, 3), None, None, groups=3), ValueError,
     r"groups \(3\) must divide the number of channels \(10\)"),
    (lambda: F.group_norm(X, None, None, groups=0), ValueError, r"groups \(0\) must divide"),
    (lambda: F.batch_norm(X.long(), None, None), TypeError, "x is int64; normalization needs a floating type"),
    (lambda: F.local_response_norm(X.int()), TypeError, "x is int32; normalization needs a floating type"),
    (lambda: F.tlu(X.bool(), X[0, :, 0]), TypeError, "y is bool"),
    (lambda: F.whiten(X[0].long()), TypeError, "x is int64"),
    (lambda: F.batch_norm(X.double(), torch.ones(4), None), TypeError, "gamma is float32, but x is float64"),
    (lambda: F.batch_norm(X, None, torch.ones(4).half()), TypeError, "beta is float16, but x is float32"),
    (lambda: F.batch_norm(torch.ones(1, 4), None, None), ValueError, r"x of shape \(1, 4\) has 1 value per slice"),
    (lambda: F.batch_norm(X.numpy(), None, None), TypeError, "x is of type ndarray; the torch half takes tensors"),
    (lambda: F.tlu(X, [0.0] * 4), TypeError, "tau is of type list; the torch half takes tensors"),
    (lambda: F.batch_norm(X, np.ones(4), None), TypeError, "gamma is of type ndarray; the torch half takes tensors"),
    (lambda: F.batch_norm_inference(X, None, None, X[0, :, 0], 3.0), TypeError, "var is of type float; the torch half"),
    (lambda: F.batch_norm(X, None, None, eps=np.full(4, 0.1)), TypeError, "eps is array.*; it needs a number"),
    (lambda: F.batch_norm(X, None, None, eps=-1.0), ValueError, "eps must be 0 or more, got -1.0"),
    (lambda: F.batch_norm(X, None, None, eps=float("nan")), ValueError, "got nan"),
    (lambda: F.batch_norm(torch.ones(4), None, None), ValueError, r"x has shape \(4,\); it needs a sample axis"),
    (lambda: F.group_norm(torch.ones(4), None, None, groups=2), ValueError, r"\(4,\); it needs a sample axis"),
    (lambda: F.filter_response_norm(torch.ones(4), None, None), ValueError, r"\(4,\); it needs a sample axis"),
    (lambda: F.instance_norm(torch.ones(4), None, None), ValueError, r"\(4,\); it needs a sample axis"),
    (lambda: F.tlu(torch.ones(4), torch.ones(4)), ValueError, r"\(4,\); it needs a sample axis"),
    (lambda: F.local_response_norm(torch.ones(4)), ValueError, r"\(4,\); it needs a sample axis"),
    (lambda: F.batch_norm_inference(torch.ones(4), None, None, X[0, :, 0], X[0, :, 0]), ValueError, "a sample axis"),
    (lambda: F.batch_norm_inference(X.int(), None, None, X[0, :, 0], X[0, :, 0]), TypeError, "x is int32"),
    *[(lambda k=k: F.batch_norm_inference(X, *[torch.ones(3 if i == k else 4) for i in range(4)]), ValueError,
       rf"x has 4 channels; {name} has shape \(3,\)") for k, name in enumerate(("gamma", "beta", "mean", "var"))],
    (lambda: F.filter_response_norm(X, None, None, eps=torch.ones(3)), ValueError, r"eps has shape \(3,\)"),
    (lambda: F.local_response_norm(X, alpha=-1.0), ValueError, "alpha = -1.0"),
    (lambda: F.local_response_norm(X, size=2.5), ValueError, "got 2.5"),
    (lambda: F.local_response_norm(X, size=5.0), ValueError, "integer of 1 or more; got 5.0"),
    (lambda: F.local_response_norm(X, size=float("nan")), ValueError, "integer of 1 or more; got nan"),
    (lambda: F.standardize(X, (3,)), ValueError, r"x of shape \(2, 4, 3\) has no axes \(3,\)"),
    (lambda: F.standardize(X, (2,), eps=torch.ones(3)), ValueError,
     r"eps has shape \(3,\), but the statistics have \(2, 4, 1\)"),
    (lambda: F.batch_norm_inference(X, None, None, X[0, :, 0], X[0, :, 0], eps=-1.0), ValueError, "got -1.0"),
    (lambda: F.whiten(torch.ones(4, 0)), ValueError, r"x has shape \(4, 0\); whitening needs rows"),
    (lambda: F.local_response_norm(X, size=0), ValueError, "integer of 1 or more; got 0"),
    (lambda: F.local_response_norm(X, k=-1.0), ValueError, "k = -1.0 and alpha = 0.0001"),
    (lambda: F.whiten(X), ValueError, r"x has shape \(2, 4, 3\); whitening needs rows"),
    (lambda: F.whiten(torch.ones(1, 3)), ValueError, "has 1 sample; a covariance needs 2"),
    (lambda: F.whiten(torch.ones(9, 3)), ValueError, "the covariance of 9 samples with 3 features has rank 0"),
    (lambda: F.whiten(X[0], method="lda"), ValueError, "method is 'lda'; choose one of zca, pca, cholesky"),
    (lambda: F.whiten(X[0], eps=-1), ValueError, "eps must be 0 or more, got -1"),
    (lambda: F.filter_response_norm_tlu(X, None, None, torch.ones(3)), ValueError, r"tau has shape \(3,\), not \(4,\)"),
    (lambda: F.filter_response_norm_tlu(X.int(), None, None, X[0, :, 0]), TypeError, "x is int32"),
    (lambda: F.filter_response_norm_tlu(torch.ones(4), None, None, torch.ones(4)), ValueError, "needs a sample axis"),
    (lambda: F.tlu(X, torch.ones(3)), ValueError, r"x has 4 channels; tau has shape \(3,\)"),
])
def test_bad_input_is_refused_with_its_numbers(call, error, message):
    with pytest.raises(error, match=message):
        call()
