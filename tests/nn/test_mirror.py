"""NumPy == nn == torch: the same names, the same values, gradients, buffers, types and memory formats."""

import inspect

import layers
import numpy as np
import pytest
import torch
from twins import (
    TWINS,
    gradients,
    leaves,
    on_each_device,
    parts,  # noqa: F401  a fixture
    twin_gradients,
    whole_and_in_parts,
)

import course_lib as ours
from course_lib import nn
from course_lib.nn import functional as F

# Two programs, the same formula, float64: they differ by rounding, 1e-16 a step,
# which a mean of 3 at a spread of 2 and an eps of 1e-5 make larger.
FLOAT64 = 1e-11

# Layers of the NumPy half without a twin: what a network is not trained through.
NUMPY_ONLY = {"divisive_norm", "fold_batch_norm"}


def layer_names():
    """Public functions of the NumPy half that map x to y: the layers, not their gradients and not the tools."""
    found = {name: getattr(ours, name) for name in ours.__all__}
    modules = {"standardize", "norms", "tlu", "whitening", "lrn", "running_stats"}
    return {name for name, value in found.items() if inspect.isfunction(value) and not name.endswith("_backward")
            and value.__module__.rpartition(".")[2] in modules} - NUMPY_ONLY


def test_functional_names_are_the_numpy_names():
    assert set(F.__all__) == layer_names()


@pytest.mark.parametrize("name", sorted(F.__all__))
def test_functional_signature_is_the_numpy_signature(name):
    twin, original = inspect.signature(getattr(F, name)), inspect.signature(getattr(ours, name))
    assert str(twin) == str(original)


@pytest.mark.parametrize("name", sorted(F.__all__))
def test_functional_docstring_opens_with_its_numpy_original(name):
    assert getattr(F, name).__doc__.startswith(f"Mirrors `course_lib.{name}`")


REFUSED = {  # what both halves refuse: m is one of them, a makes its arrays
    "channel axis": lambda m, a: m.batch_norm(a(4), a(4), a(4)),
    "channel axis, tlu": lambda m, a: m.tlu(a(4), a(4)),
    "channel axis, windows": lambda m, a: m.local_response_norm(a(4)),
    "type of x": lambda m, a: m.batch_norm(a(2, 4, dtype=int), a(4), a(4)),
    "type of gamma": lambda m, a: m.batch_norm(a(2, 4), a(4, dtype=int), a(4)),
    "type of beta": lambda m, a: m.layer_norm(a(2, 4), a(4), a(4, dtype=int)),
    "type of y": lambda m, a: m.tlu(a(2, 4, dtype=int), a(4)),
    "gamma": lambda m, a: m.instance_norm(a(2, 4, 3), a(3), a(4)),
    "beta": lambda m, a: m.group_norm(a(2, 4, 3), a(4), a(3), groups=2),
    "tau": lambda m, a: m.filter_response_norm_tlu(a(2, 4, 3), a(4), a(4), a(3)),
    "learned eps": lambda m, a: m.filter_response_norm(a(2, 4, 3), a(4), a(4), eps=a(3)),
    "last axes": lambda m, a: m.layer_norm(a(2, 4, 3), a(4), a(4)),
    "more axes than x": lambda m, a: m.rms_norm(a(3), a(2, 3)),
    "beta of the last axes": lambda m, a: m.layer_norm(a(2, 4, 3), a(3), a(4)),
    "groups": lambda m, a: m.group_norm(a(2, 4, 3), a(4), a(4), groups=3),
    "one value": lambda m, a: m.batch_norm(a(1, 4, 1), a(4), a(4)),
    "no gamma, layer": lambda m, a: m.layer_norm(a(2, 4), None, None),
    "no gamma, rms": lambda m, a: m.rms_norm(a(2, 4), None),
    "groups in words": lambda m, a: m.group_norm(a(2, 4), a(4), a(4), groups="2"),
    "no eps": lambda m, a: m.batch_norm(a(2, 4), a(4), a(4), eps=None),
    "eps in words": lambda m, a: m.batch_norm_inference(a(2, 4), a(4), a(4), a(4), a(4), eps="1e-5"),
    "eps of whitening": lambda m, a: m.whiten(a(9, 4), eps=None),
    "type of gamma, bool": lambda m, a: m.batch_norm(a(2, 4), a(4, dtype=bool), a(4)),
    "type of a given mean": lambda m, a: m.batch_norm_inference(a(2, 4), a(4), a(4), a(4, dtype=complex), a(4)),
    "type of a given var": lambda m, a: m.batch_norm_inference(a(2, 4), a(4), a(4), a(4), a(4, dtype=bool)),
    "negative var": lambda m, a: m.batch_norm_inference(a(2, 4), a(4), a(4), a(4), -a(4)),
    "negative eps in an array": lambda m, a: m.standardize(a(2, 4), (0,), eps=-a(4)),
    "an axis that is no tuple": lambda m, a: m.standardize(a(2, 4), 0),
    "axes given twice": lambda m, a: m.standardize(a(2, 4), (0, 0)),
    "no k": lambda m, a: m.local_response_norm(a(2, 4), k=None),
    "a list of methods": lambda m, a: m.whiten(a(9, 4), method=["zca"]),
    "rank with a small eps": lambda m, a: m.whiten(_two_features(a, 0), eps=1e-17),
    "almost singular": lambda m, a: m.whiten(_two_features(a, 1e-7)),
    "overflow": lambda m, a: m.whiten(_two_features(a, 1) * 1e200),
    "eps": lambda m, a: m.rms_norm(a(2, 4), a(4), eps=-1.0),
    "axes": lambda m, a: m.standardize(a(2, 4), (0, 2)),
    "axes twice": lambda m, a: m.standardize(a(2, 4), (1, -1)),
    "eps of statistics": lambda m, a: m.standardize(a(2, 4), (1,), eps=a(4)),
    "given mean": lambda m, a: m.batch_norm_inference(a(2, 4), a(4), a(4), a(3), a(4)),
    "given eps": lambda m, a: m.batch_norm_inference(a(2, 4), a(4), a(4), a(4), a(4), eps=-1.0),
    "window": lambda m, a: m.local_response_norm(a(2, 4), size=0),
    "k": lambda m, a: m.local_response_norm(a(2, 4), k=-1.0),
    "rows": lambda m, a: m.whiten(a(2, 4, 3)),
    "one row": lambda m, a: m.whiten(a(1, 4)),
    "method": lambda m, a: m.whiten(a(9, 4), method="lda"),
    "rank": lambda m, a: m.whiten(a(9, 4)),
    "eps of a covariance": lambda m, a: m.whiten(a(9, 4), eps=-1.0),
}


def _two_features(a, difference):
    """Four samples of two features that differ in one sample."""
    x = a(4, 2)
    x[:2] = -1.0
    x[1, 1] -= difference
    return x


@pytest.mark.parametrize("name", REFUSED)
def test_both_halves_refuse_in_the_same_words(name):
    def words(half, array):
        with pytest.raises((TypeError, ValueError)) as refusal:
            REFUSED[name](half, array)
        return refusal.type, str(refusal.value)
    numpy_words = words(ours, lambda *shape, dtype=float: np.ones(shape, dtype))
    torch_types = {float: torch.float64, int: torch.int64, bool: torch.bool, complex: torch.complex128}
    torch_words = words(F, lambda *shape, dtype=float: torch.ones(shape, dtype=torch_types[dtype]))
    assert torch_words == numpy_words


@pytest.mark.parametrize("name", sorted(set(nn.__all__) - {"functional"}))
def test_module_takes_the_arguments_of_its_torch_twin(name):
    theirs = getattr(torch.nn, name, None)
    if theirs is None:
        assert name in {"FilterResponseNorm", "FilterResponseNormTLU", "TLU", "ZCAWhitening", "convert_sync_batchnorm",
                        "use_kernels"}
    else:
        assert str(inspect.signature(getattr(nn, name))) == str(inspect.signature(theirs))
        # DistributedDataParallel refuses subclasses of torch's SyncBatchNorm on CPUs, so ours is its sister.
        assert issubclass(getattr(nn, name), theirs.__base__ if name == "SyncBatchNorm" else theirs)


@whole_and_in_parts
@on_each_device
@pytest.mark.parametrize("eps", [1e-5, 0.1])
@pytest.mark.parametrize("layer", layers.ALL, ids=str)
def test_values_and_gradients_agree_with_numpy_and_torch(layer, eps, device):
    x, params, dy = layer.arrays()
    got = twin_gradients(layer, (x, params, dy), eps, device)
    for right in (layer.gradients(x, params, dy, eps), layer.torch_gradients(x, params, dy, eps)):
        assert max(layers.errors(layer, (x, params, dy), got, right)) < FLOAT64


@whole_and_in_parts
@on_each_device
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64], ids=lambda t: t.__name__)
@pytest.mark.parametrize("layer", layers.ONE_EACH, ids=str)
def test_types_are_those_of_numpy(layer, dtype, device):
    x, params, dy = layer.arrays(dtype)
    got, right = twin_gradients(layer, (x, params, dy), 1e-5, device), layer.gradients(x, params, dy, 1e-5)
    assert [a.dtype for a in got] == [a.dtype for a in right] == [dtype] * len(got)
    # Both round the same float32 numbers once to float16, so they differ by one
    # step of the type at most; float32 and float64 are summed in another order.
    tolerance = np.finfo(dtype).eps * (1 if dtype == np.float16 else 30)
    pairs = [(a.astype(float), b.astype(float)) for a, b in zip(got, right, strict=True)]
    assert max(layers.relative_error(a, b) for a, b in pairs) < tolerance


@whole_and_in_parts
@pytest.mark.parametrize("size", [1, 2, 4, 5, 9])
@pytest.mark.parametrize("beta", [0.75, 0.6])
@pytest.mark.parametrize("shape", [(3, 6, 4), (2, 6, 3, 4)], ids=str)
def test_local_response_norm_agrees_with_numpy_and_torch(size, beta, shape):
    rng = np.random.default_rng(1)
    x, dy = 3 * rng.standard_normal(shape), rng.standard_normal(shape)
    setting = {"size": size, "k": 1.5, "alpha": 0.2, "beta": beta}
    got = gradients(lambda x: F.local_response_norm(x, **setting), leaves([x]), dy)
    y, cache = ours.local_response_norm(x, **setting)
    theirs = gradients(
        lambda x: torch.nn.functional.local_response_norm(x, size, alpha=0.2 * size, beta=beta, k=1.5), leaves([x]), dy)
    for right in ([y, ours.local_response_norm_backward(dy, cache)], theirs):
        assert max(map(layers.relative_error, got, right)) < 1e-13  # no sum is longer than the window


@on_each_device
@pytest.mark.parametrize("eps", [0.0, 0.1])
@pytest.mark.parametrize("method", ["zca", "pca", "cholesky"])
def test_whitening_agrees_with_numpy(method, eps, device):
    rng = np.random.default_rng(2)
    x = rng.standard_normal((23, 5)) @ rng.standard_normal((5, 5)) + 3
    dy = rng.standard_normal(x.shape)
    got = gradients(lambda x: F.whiten(x, method=method, eps=eps), leaves([x], device), dy)
    y, cache = ours.whiten(x, method=method, eps=eps)
    # The covariance's condition number is about 1e3, and the gradient of PCA divides by a difference of variances.
    assert max(map(layers.relative_error, got, [y, ours.whiten_backward(dy, cache)])) < 1e-10


def test_whitening_of_one_feature_is_standardize():
    x = torch.linspace(-1, 4, 9, dtype=torch.float64)[:, None] ** 2
    torch.testing.assert_close(F.whiten(x, eps=0.1), F.standardize(x, (0,), eps=0.1))


@on_each_device
@pytest.mark.parametrize("shape", layers.SHAPES, ids=str)
def test_tlu_agrees_with_numpy(shape, device):
    rng = np.random.default_rng(3)
    y, tau, dz = (rng.standard_normal(s) for s in (shape, shape[1], shape))
    y.flat[0] = tau[0]  # at the threshold the gradient goes to tau
    z, cache = ours.tlu(y, tau)
    got = gradients(F.tlu, leaves([y, tau], device), dz)
    assert max(map(layers.relative_error, got, [z, *ours.tlu_backward(dz, cache)])) < FLOAT64


@on_each_device
@pytest.mark.parametrize("learned", [False, True], ids=["eps", "learned eps"])
@pytest.mark.parametrize("shape", layers.SHAPES, ids=str)
def test_filter_response_norm_with_tlu_agrees_with_numpy(shape, learned, device):
    rng = np.random.default_rng(7)
    x, dz = rng.standard_normal((2, *shape))
    gamma, beta, tau, eps = rng.standard_normal((4, shape[1]))
    z, cache = ours.filter_response_norm_tlu(x, gamma, beta, tau, eps=eps if learned else 0.1)
    tensors = leaves([x, gamma, beta, tau, *([eps] if learned else [])], device)
    got = gradients(lambda x, g, b, tau, eps=0.1: F.filter_response_norm_tlu(x, g, b, tau, eps=eps), tensors, dz)
    right = [z, *ours.filter_response_norm_tlu_backward(dz, cache)]
    assert len(got) == len(right) and max(map(layers.relative_error, got, right)) < FLOAT64


@on_each_device
@pytest.mark.parametrize("shape", layers.SHAPES, ids=str)
def test_batch_norm_inference_agrees_with_numpy_and_torch(shape, device):
    rng = np.random.default_rng(4)
    x, dy = rng.standard_normal(shape) + 3, rng.standard_normal(shape)
    gamma, beta, mean, var = rng.standard_normal((4, shape[1]))
    arrays = [x, gamma, beta, mean, var**2]
    got = gradients(F.batch_norm_inference, leaves(arrays, device), dy)
    assert layers.relative_error(got[0], ours.batch_norm_inference(*arrays)) < FLOAT64
    theirs = gradients(lambda x, g, b: torch.nn.functional.batch_norm(
        x, torch.tensor(mean), torch.tensor(var**2), g, b), leaves(arrays[:3]), dy)
    assert max(map(layers.relative_error, got[:4], theirs)) < FLOAT64


@whole_and_in_parts
@on_each_device
def test_standardize_agrees_with_numpy_on_any_axes(device):
    rng = np.random.default_rng(5)
    row = rng.standard_normal(7)
    y, (right, _) = F.standardize(torch.tensor(row), (0,)), ours.standardize(row, (0,))
    assert layers.relative_error(y.numpy(), right) < FLOAT64
    x, dx_hat = rng.standard_normal((2, 3, 4, 5, 6)) + 2
    for axes in [(0,), (1, 3), (-1,), (3, 0), (0, 1, 2, 3)]:
        for center in (True, False):
            x_hat, cache = ours.standardize(x, axes, center=center, eps=0.1)
            got = gradients(lambda x: F.standardize(x, axes, center=center, eps=0.1), leaves([x], device), dx_hat)  # noqa: B023
            right = [x_hat, ours.standardize_backward(dx_hat, cache)]
            assert max(map(layers.relative_error, got, right)) < FLOAT64


@pytest.mark.parametrize("momentum", [0.1, 0.7, None])
def test_running_statistics_agree_with_numpy_and_torch(momentum):
    rng = np.random.default_rng(6)
    collector = ours.PopulationStats() if momentum is None else ours.EMA(momentum)
    mine, theirs = (package.BatchNorm2d(6, momentum=momentum, dtype=torch.float64) for package in (nn, torch.nn))
    for step in range(5):
        x = rng.standard_normal((4, 6, 3, 5)) * (step + 1) + step
        collector.update(x)
        mine(torch.tensor(x)), theirs(torch.tensor(x))
        torch.testing.assert_close(mine.state_dict(), theirs.state_dict(), rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(mine.running_mean, collector.mean, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(mine.running_var, collector.var, rtol=1e-12)


FORMATS = {4: torch.channels_last, 5: torch.channels_last_3d}
IMAGES = [layers.layer(name, shape, 2) for shape in layers.SHAPES[2:] for name in TWINS]


@whole_and_in_parts
@on_each_device
@pytest.mark.parametrize("layer", IMAGES, ids=str)
def test_channels_last_goes_in_and_comes_out(layer, device):
    x, params, dy = layer.arrays()
    right = layer.gradients(x, params, dy, 1e-5)
    memory_format = FORMATS[x.ndim]
    x, *params = leaves([x, *params], device)
    x = x.detach().contiguous(memory_format=memory_format).requires_grad_()
    y = TWINS[layer.name](x, *params, eps=1e-5)
    dx, = torch.autograd.grad(y, x, torch.tensor(dy, device=device))
    assert y.is_contiguous(memory_format=memory_format) and dx.is_contiguous(memory_format=memory_format)
    assert max(map(layers.relative_error, (y.detach().cpu().numpy(), dx.cpu().numpy()), right)) < FLOAT64


@pytest.mark.parametrize("function", [lambda x: F.local_response_norm(x), lambda x: F.tlu(x, x[0, :, 0, 0].detach())],
                         ids=["local_response_norm", "tlu"])
def test_channels_last_goes_through_windows_and_thresholds(function):
    x = torch.randn(2, 6, 3, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    last = x.contiguous(memory_format=torch.channels_last).requires_grad_()
    y = function(last)
    dx, = torch.autograd.grad(y.square().sum(), last)
    assert y.is_contiguous(memory_format=torch.channels_last) and dx.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(y, function(x))


@whole_and_in_parts
@on_each_device
@pytest.mark.parametrize("layer", layers.ONE_EACH, ids=str)
def test_transposed_and_strided_inputs_give_the_same(layer, device):
    x, params, dy = layer.arrays()
    right = layer.gradients(x, params, dy, 1e-5)
    x, *params = leaves([x, *params], device)
    dy = torch.tensor(dy, device=device)
    views = [a.detach().mT.contiguous().mT for a in (x, dy)], [torch.stack((a, a), -1)[..., 0] for a in (x, dy)]
    for view, upstream in views:
        view = view.detach().requires_grad_()
        assert not view.is_contiguous()
        found = torch.autograd.grad(TWINS[layer.name](view, *params, eps=1e-5), (view, *params), upstream)
        assert max(map(layers.relative_error, (a.cpu().numpy() for a in found), right[1:])) < FLOAT64
