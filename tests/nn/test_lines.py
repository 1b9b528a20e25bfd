"""The plain lines: right by themselves, the same as blocks and kernels, and what runs for further derivatives."""

import layers
import numpy as np
import pytest
import torch
from twins import TWINS, gradients, leaves, twin_gradients

import course_lib as ours
from course_lib.nn import cpu, lines, lrn
from course_lib.nn import functional as F

FLOAT64 = 1e-11  # as in test_mirror: two programs, the same formula
SMALL = [layers.layer(name, (3, 4, 2), 1) for name in TWINS]
STRICT = {"rtol": 1e-6, "atol": 1e-7}


def refused(*_, **__):
    raise AssertionError("something else than the plain lines ran")


@pytest.fixture
def plain_lines(monkeypatch):
    """The lines run here as they do on a device for which there is nothing faster."""
    monkeypatch.setattr(F, "_by_blocks", lambda x: False)
    for unit in (cpu.Norm, cpu.TLU, cpu.LocalResponseNorm):
        monkeypatch.setattr(unit, "apply", refused)


only_lines = pytest.mark.usefixtures("plain_lines")


@only_lines
@pytest.mark.parametrize("layer", layers.ALL, ids=str)
def test_values_and_gradients_agree_with_numpy(layer):
    x, params, dy = layer.arrays()
    got, right = twin_gradients(layer, (x, params, dy), 0.1), layer.gradients(x, params, dy, 0.1)
    assert max(layers.errors(layer, (x, params, dy), got, right)) < FLOAT64


@only_lines
@pytest.mark.parametrize("dtype", [np.float16, np.float32], ids=lambda t: t.__name__)
@pytest.mark.parametrize("layer", layers.ONE_EACH, ids=str)
def test_types_are_those_of_numpy(layer, dtype):
    x, params, dy = layer.arrays(dtype)
    got, right = twin_gradients(layer, (x, params, dy), 1e-5), layer.gradients(x, params, dy, 1e-5)
    assert [a.dtype for a in got] == [a.dtype for a in right] == [dtype] * len(got)
    # Both round the same float32 numbers once to float16; float32 is summed in another order.
    tolerance = np.finfo(dtype).eps * (1 if dtype == np.float16 else 30)
    pairs = [(a.astype(float), b.astype(float)) for a, b in zip(got, right, strict=True)]
    assert max(layers.relative_error(a, b) for a, b in pairs) < tolerance


@only_lines
@pytest.mark.parametrize("layer", [layer for layer in layers.ONE_EACH if layer.center], ids=str)
def test_float32_keeps_its_digits_at_mean_1e4(layer):
    x, params, dy = layer.arrays(np.float32, mean=1e4, std=1.0)
    wide = [a.astype(np.float64) for a in (x, *params, dy)]
    right = layer.gradients(wide[0], wide[1:-1], wide[-1], 1e-5)
    assert max(map(layers.relative_error, twin_gradients(layer, (x, params, dy), 1e-5), right)) < 2e-6


@only_lines
@pytest.mark.parametrize("layer", SMALL, ids=str)
def test_derivatives_pass_gradcheck_and_gradgradcheck(layer):
    x, params, _ = layer.arrays()
    for check in (torch.autograd.gradcheck, torch.autograd.gradgradcheck):
        assert check(lambda *a: TWINS[layer.name](*a, eps=0.1), leaves([x, *params]), **STRICT)


@only_lines
@pytest.mark.parametrize("size, beta", [(1, 0.75), (4, 0.6), (5, 0.75), (9, 0.75)])
def test_local_response_norm_agrees_with_numpy(size, beta):
    x, dy = np.random.default_rng(1).standard_normal((2, 2, 6, 3, 4))
    setting = {"size": size, "k": 1.5, "alpha": 0.2, "beta": beta}
    y, cache = ours.local_response_norm(x, **setting)
    got = gradients(lambda x: F.local_response_norm(x, **setting), leaves([x]), dy)
    assert max(map(layers.relative_error, got, [y, ours.local_response_norm_backward(dy, cache)])) < 1e-13


@only_lines
@pytest.mark.parametrize("shape", layers.SHAPES, ids=str)
def test_filter_response_norm_with_tlu_agrees_with_numpy(shape):
    x, dz = np.random.default_rng(7).standard_normal((2, *shape))
    gamma, beta, tau, eps = np.random.default_rng(8).standard_normal((4, shape[1]))
    z, cache = ours.filter_response_norm_tlu(x, gamma, beta, tau, eps=eps)
    got = gradients(lambda x, g, b, tau, eps: F.filter_response_norm_tlu(x, g, b, tau, eps=eps),
                    leaves([x, gamma, beta, tau, eps]), dz)
    right = [z, *ours.filter_response_norm_tlu_backward(dz, cache)]
    assert max(map(layers.relative_error, got, right)) < FLOAT64


# A gradient of a gradient, gradients in batches, and a gradient in forward mode.
STEPS = {
    "norm": lambda x: F.group_norm(x, x[0, :, 0], x[0, :, 1], groups=2, eps=0.1),
    "tlu": lambda x: F.tlu(x, x[0, :, 0] + 0.01), "lrn": lambda x: F.local_response_norm(x, size=3, alpha=0.3),
}


@pytest.fixture(params=["lines", "cpu"])
def lines_or_blocks(request):
    if request.param == "lines":
        request.getfixturevalue("plain_lines")


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")  # torch's own
@pytest.mark.usefixtures("lines_or_blocks")
@pytest.mark.parametrize("name", STEPS)
def test_what_is_done_with_a_gradient_is_right(name):
    x, = leaves([SMALL[0].arrays()[0]])
    assert torch.autograd.gradgradcheck(STEPS[name], x, **STRICT)
    y = STEPS[name](x)
    dys = torch.stack([torch.ones_like(y), y.detach().cos()])
    one_by_one = [torch.autograd.grad(y, x, dy, retain_graph=True)[0] for dy in dys]
    together, = torch.autograd.grad(y, x, dys, is_grads_batched=True, retain_graph=True)
    torch.testing.assert_close(list(together), one_by_one, rtol=1e-11, atol=1e-12)
    with torch.autograd.forward_ad.dual_level():  # a gradient is linear in dy
        dual, = torch.autograd.grad(y, x, torch.autograd.forward_ad.make_dual(dys[0], dys[1]))
        found = list(torch.autograd.forward_ad.unpack_dual(dual))
        torch.testing.assert_close(found, one_by_one, rtol=1e-11, atol=1e-12)


# ---------------------------------------------------------------- lines, blocks, kernels


@pytest.fixture(params=["lines", "cpu", "gpu"])
def engine(request, monkeypatch):
    """Lets one of the three run, the kernels in Triton's interpreter where there is no GPU, and nothing else."""
    device = "cpu"
    if request.param == "gpu":
        operators = pytest.importorskip("course_lib.nn.gpu.operators", reason="Triton is not installed")
        device = "cuda" if torch.cuda.is_available() else "cpu"
        monkeypatch.setattr(operators, "DEVICES", {device})
        monkeypatch.setattr(lines, "layer", refused)
        monkeypatch.setattr(cpu.LocalResponseNorm, "apply", refused)
        monkeypatch.setattr(lrn.LocalResponseNorm, "apply", refused)
    elif request.param == "lines":
        request.getfixturevalue("plain_lines")
    else:
        monkeypatch.setattr(lines.Norm, "apply", refused)
        monkeypatch.setattr(lrn.LocalResponseNorm, "apply", refused)
    return device


@pytest.mark.parametrize("layer", layers.ONE_EACH, ids=str)
def test_lines_blocks_and_kernels_agree_with_numpy(layer, engine):
    x, params, dy = layer.arrays(np.float32)
    wide = [a.astype(np.float64) for a in (x, *params, dy)]
    right = layer.gradients(wide[0], wide[1:-1], wide[-1], 0.1)
    assert max(map(layers.relative_error, twin_gradients(layer, (x, params, dy), 0.1, engine), right)) < 1e-6


def test_windows_in_lines_blocks_and_kernels_agree_with_numpy(engine):
    x, dy = np.random.default_rng(1).standard_normal((2, 2, 6, 3, 4)).astype(np.float32)
    y, cache = ours.local_response_norm(x.astype(float), size=4, alpha=0.3)
    got = gradients(lambda x: F.local_response_norm(x, size=4, alpha=0.3), leaves([x], engine), dy)
    right = [y, ours.local_response_norm_backward(dy.astype(float), cache)]
    assert max(map(layers.relative_error, got, right)) < 1e-6


# ---------------------------------------------------------------- forward mode

# torch's own dual numbers make use of what torch deprecates.
torchs_own = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")
FORWARD = {
    **{str(layer): (lambda *a, name=layer.name: TWINS[name](*a, eps=0.1), [layer.arrays()[0], *layer.arrays()[1]])
       for layer in SMALL},
    "frn_tlu": (lambda x, g, b, tau: F.filter_response_norm_tlu(x, g, b, tau, eps=0.1),
                [SMALL[0].arrays()[0], *np.random.default_rng(0).standard_normal((3, 4))]),
    "tlu": (F.tlu, [SMALL[0].arrays()[0], np.full(4, 3.0)]),
    "lrn": (lambda x: F.local_response_norm(x, size=3, alpha=0.3), [SMALL[0].arrays()[0]]),
    "standardize": (lambda x: F.standardize(x, (0, 2)), [SMALL[0].arrays()[0]]),
}


@torchs_own
@pytest.mark.parametrize("name", FORWARD)
def test_forward_mode_is_the_backward_pass_transposed(name):
    """For v and dy of any kind, dy . J v = J^T dy . v."""
    function, arrays = FORWARD[name]
    rng = np.random.default_rng(3)
    inputs = leaves(arrays)
    tangents = [torch.tensor(rng.standard_normal(a.shape)) for a in arrays]
    y = function(*inputs)
    dy = torch.tensor(rng.standard_normal(y.shape))
    found = torch.autograd.grad(y, inputs, dy)
    with torch.autograd.forward_ad.dual_level():
        duals = [torch.autograd.forward_ad.make_dual(t.detach(), v) for t, v in zip(inputs, tangents)]
        primal, tangent = torch.autograd.forward_ad.unpack_dual(function(*duals))
    torch.testing.assert_close(primal, y.detach(), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close((dy * tangent).sum(), sum((d * v).sum() for d, v in zip(found, tangents)),
                               rtol=1e-11, atol=1e-11)


@torchs_own
def test_tlu_in_forward_mode_with_a_tangent_on_one_side():
    y, tau = torch.tensor([[1.0, 2.0], [3.0, 0.0]]), torch.tensor([2.0, 1.0])
    with torch.autograd.forward_ad.dual_level():
        z = F.tlu(torch.autograd.forward_ad.make_dual(y, torch.full_like(y, 5.0)), tau)
        assert torch.autograd.forward_ad.unpack_dual(z).tangent.tolist() == [[0, 5], [5, 0]]
        z = F.tlu(y, torch.autograd.forward_ad.make_dual(tau, torch.tensor([7.0, 9.0])))
        assert torch.autograd.forward_ad.unpack_dual(z).tangent.tolist() == [[7, 0], [0, 9]]
