"""The GPU kernels against the NumPy half: on a GPU where there is one, else in Triton's interpreter on small arrays.

The interpreter runs the same code a program at a time, so it proves indexing,
masks and arithmetic, but no race and no speed.  It runs about a hundred programs
a second; lowered limits send small arrays through the kernels of large ones.

Each kernel and each of its branches runs in the fast tier; the cases marked slow
repeat them on more shapes.
"""

import layers
import numpy as np
import pytest
import torch
from twins import NO_GPU, TWINS, assert_autocast_changes_nothing, gradients, leaves

import course_lib as ours
from course_lib import nn
from course_lib.nn import cpu, lines, lrn
from course_lib.nn import functional as F

pytest.importorskip("triton", reason="Triton is not installed")
from course_lib.nn.gpu import columns, operators, rows, view, windows

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
FORMATS = {4: torch.channels_last, 5: torch.channels_last_3d}


def rarely(*cases):
    """These parameters only in the slow tier."""
    return [pytest.param(case, marks=pytest.mark.slow) for case in cases]


# Few slices, since the interpreter takes about 10 ms for a program; axis lengths differ, and C / groups is not groups.
SHAPES = ((3, 6), (2, 6, 7), (2, 6, 3, 5), (2, 6, 2, 3, 4))
SMALL = [layers.layer(name, shape, depth) for name in TWINS for shape in SHAPES for depth in (1, 2)
         if name in ("layer_norm", "rms_norm") and depth < len(shape) < 5 or depth == 1 and name in layers.CHANNELS
         if name != "instance_norm" or len(shape) > 2]
ONE_EACH = [layers.layer(name, SHAPES[2], 2) for name in TWINS]
# Rows, columns, groups of channels with eps learned or not: what differs in memory.
KINDS = [layer for layer in ONE_EACH if layer.name in ("layer_norm", "batch_norm", "group_norm", layers.LEARNED)]
OTHERS = rarely(*(layer for layer in ONE_EACH if layer not in KINDS))


def with_fast(cases, fast):
    """All cases, of which those that are not `fast` run in the slow tier only."""
    return [case if fast(case) else rarely(case)[0] for case in cases]


# float32 sums of up to 2000 terms; the largest errors seen are 4e-7.
FLOAT32 = 1e-6


@pytest.fixture(autouse=True)
def kernels_only(monkeypatch):
    """The interpreter takes tensors of the CPU, and a layer that falls back to the torch lines is an error."""
    def fallen_back(*_, **__):
        raise AssertionError("the torch lines ran")
    monkeypatch.setattr(operators, "DEVICES", {DEVICE})
    monkeypatch.setattr(lines, "layer", fallen_back)
    for unit in (cpu.LocalResponseNorm, lrn.LocalResponseNorm):
        monkeypatch.setattr(unit, "apply", fallen_back)


@pytest.fixture(params=["one program", "several programs"])
def path(request, monkeypatch):
    """Runs a test twice: with slices that fit into one program, and with slices that do not."""
    if request.param == "several programs":
        for name, limit in (("TILE", 0), ("TILE_BACKWARD", 0), ("PART", 64)):
            monkeypatch.setattr(view, name, limit)


on_each_path = pytest.mark.usefixtures("path")


def exact(layer, x, params, dy, eps):
    """y and the gradients by the NumPy half in float64."""
    wide = [a.astype(np.float64) for a in (x, *params, dy)]
    return layer.gradients(wide[0], wide[1:-1], wide[-1], eps)


def by_kernels(layer, x, params, dy, eps, memory_format=torch.contiguous_format):
    """The same by the kernels."""
    x, *params = leaves([x, *params], DEVICE)
    x = x.detach().contiguous(memory_format=memory_format).requires_grad_()
    return gradients(lambda *tensors: TWINS[layer.name](*tensors, eps=eps), [x, *params], dy)


# ---------------------------------------------------------------- values and gradients


@on_each_path
@pytest.mark.parametrize("layer", with_fast(SMALL, lambda layer: layer.shape in SHAPES[::2] and layer.param_axes != (3,)),
                         ids=str)
def test_values_and_gradients_are_within_1e_6_of_float64_at_mean_1e4(layer):
    # Where nothing is subtracted the mean is part of what is measured.
    x, params, dy = layer.arrays(np.float32, mean=1e4 if layer.center else 1.0, std=1.0)
    got, right = by_kernels(layer, x, params, dy, 1e-5), exact(layer, x, params, dy, 1e-5)
    assert max(layers.errors(layer, (x, params, dy), got, right)) < FLOAT32


@pytest.mark.parametrize("layer", [*ONE_EACH, *rarely(*(layers.layer(name, SHAPES[3], 2) for name in TWINS))], ids=str)
def test_channels_last_goes_in_and_comes_out(layer):
    x, params, dy = layer.arrays(np.float32, mean=1e4 if layer.center else 1.0, std=1.0)
    memory_format = FORMATS[x.ndim]
    got = by_kernels(layer, x, params, dy, 1e-5, memory_format)
    assert max(map(layers.relative_error, got, exact(layer, x, params, dy, 1e-5))) < FLOAT32
    x = torch.tensor(x, device=DEVICE).contiguous(memory_format=memory_format).requires_grad_()
    y = TWINS[layer.name](x, *leaves(params, DEVICE), eps=1e-5)
    dx, = torch.autograd.grad(y, x, torch.tensor(dy, device=DEVICE))  # a gradient in the other format
    assert y.is_contiguous(memory_format=memory_format) and dx.is_contiguous(memory_format=memory_format)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("wide_params", [True, False], ids=["float32 parameters", "half parameters"])
@pytest.mark.parametrize("layer", [*KINDS, *OTHERS], ids=str)
def test_half_types_lose_no_more_than_the_rounding_of_the_output(layer, wide_params, dtype):
    x, params, dy = layer.arrays(np.float32, mean=10.0 if layer.center else 1.0, std=1.0)
    x, *params, dy = (torch.tensor(a, device=DEVICE).to(dtype) for a in (x, *params, dy))
    params = [p.float() for p in params] if wide_params else params
    tensors = [t.requires_grad_() for t in (x, *params)]
    y = TWINS[layer.name](*tensors, eps=1e-5)
    found = torch.autograd.grad(y, tensors, dy)
    right = exact(layer, *(a.detach().double().cpu().numpy() if torch.is_tensor(a) else
                           [p.detach().double().cpu().numpy() for p in a] for a in (x, params, dy)), 1e-5)
    assert [a.dtype for a in found] == [t.dtype for t in tensors]
    # Half a step of the type is its rounding; the interpreter cuts bfloat16 off instead, which is a whole one.
    part = 1.01 if dtype == torch.bfloat16 and DEVICE == "cpu" else 0.51
    for a, b in zip((y, *found), right, strict=True):
        step = torch.finfo(a.dtype).eps * np.maximum(np.abs(b), np.abs(b).max() * 2**-7)
        assert (np.abs(a.detach().double().cpu().numpy() - b) <= part * step + 2e-6 * np.abs(b).max()).all()


@pytest.mark.parametrize("limit", ["", "CHUNK", "TILE"])
@pytest.mark.parametrize("shape", [(3, 3), (2, 65), *rarely((1, 2), (2, 17), (11, 5), (3, 64), (2, 127), (1, 1000))],
                         ids=str)
@pytest.mark.parametrize("name", ["layer_norm", "rms_norm"])
def test_rows_of_any_length(name, shape, limit, monkeypatch):
    """In one program, cut into chunks in the backward pass, and in several programs."""
    for module, constant in {"": (), "CHUNK": [(rows, "CHUNK")],
                             "TILE": [(view, "TILE"), (view, "TILE_BACKWARD")]}[limit]:
        monkeypatch.setattr(module, constant, 0)
    layer = layers.layer(name, shape)
    x, params, dy = layer.arrays(np.float32)
    got, right = by_kernels(layer, x, params, dy, 0.1), exact(layer, x, params, dy, 0.1)
    assert max(map(layers.relative_error, got, right)) < FLOAT32


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last], ids=str)
@pytest.mark.parametrize("shape", [(1, 2, 1, 3), (9, 4, 1, 1), *rarely((2, 4, 8, 8), (3, 10, 5, 13), (1, 70, 3, 1))],
                         ids=str)
@pytest.mark.parametrize("name", ["batch_norm", "instance_norm", "group_norm", "frn"])
def test_images_of_any_size(name, shape, memory_format):
    if name == "instance_norm" and shape == (9, 4, 1, 1):
        shape = (9, 4, 2, 1)  # a variance needs 2 values
    layer = layers.layer(name, shape)
    x, params, dy = layer.arrays(np.float32)
    got, right = by_kernels(layer, x, params, dy, 0.1, memory_format), exact(layer, x, params, dy, 0.1)
    assert max(layers.errors(layer, (x, params, dy), got, right)) < FLOAT32


def test_more_parts_than_one_block_of_the_merge_takes(monkeypatch):
    monkeypatch.setattr(view, "PART", 4)
    monkeypatch.setattr(columns, "MERGE", 4)
    layer = layers.layer("batch_norm", (3, 1, 27))
    x, params, dy = layer.arrays(np.float32, mean=1e4)
    got, right = by_kernels(layer, x, params, dy, 1e-5), exact(layer, x, params, dy, 1e-5)
    assert max(map(layers.relative_error, got, right)) < FLOAT32


def test_a_group_of_more_channels_than_one_block_of_the_merge_takes(monkeypatch):
    for name, limit in (("TILE", 0), ("TILE_BACKWARD", 0), ("PART", 4)):
        monkeypatch.setattr(view, name, limit)
    monkeypatch.setattr(columns, "MERGE", 2)
    layer = layers.layer("group_norm", (1, 10, 7))
    x, params, dy = layer.arrays(np.float32, mean=1e4)
    got, right = by_kernels(layer, x, params, dy, 1e-5), exact(layer, x, params, dy, 1e-5)
    assert max(map(layers.relative_error, got, right)) < FLOAT32


# ---------------------------------------------------------------- filter response norm with TLU, windows, inference


@on_each_path
@pytest.mark.parametrize("learned", [False, True], ids=["eps", "learned eps"])
@pytest.mark.parametrize("shape", [SHAPES[2], *rarely(*SHAPES[:2], (5, 6, 1, 1))], ids=str)
def test_filter_response_norm_with_tlu_agrees_with_numpy(shape, learned):
    rng = np.random.default_rng(0)
    x, dz = rng.standard_normal((2, *shape)).astype(np.float32) + np.float32(0.5)
    gamma, beta, tau, eps = rng.standard_normal((4, shape[1])).astype(np.float32)
    z, cache = ours.filter_response_norm_tlu(*(a.astype(float) for a in (x, gamma, beta, tau)),
                                             eps=eps.astype(float) if learned else 0.1)
    right = z, *ours.filter_response_norm_tlu_backward(dz.astype(float), cache)
    for memory_format in {torch.contiguous_format, FORMATS.get(x.ndim, torch.contiguous_format)}:
        tensors = leaves([x, gamma, beta, tau, *([eps] if learned else [])], DEVICE)
        tensors[0] = tensors[0].detach().contiguous(memory_format=memory_format).requires_grad_()
        got = gradients(lambda x, g, b, tau, eps=0.1: F.filter_response_norm_tlu(x, g, b, tau, eps=eps), tensors, dz)
        assert max(map(layers.relative_error, got, right)) < FLOAT32


@on_each_path
def test_tlu_in_the_kernel_lets_nan_through_and_keeps_minus_infinity_out():
    x = torch.ones(2, 3, 4, device=DEVICE)
    x[0, 1, 2] = torch.nan
    beta = torch.tensor([0.0, 0.0, -torch.inf], device=DEVICE)
    z = F.filter_response_norm_tlu(x, None, beta, torch.zeros(3, device=DEVICE))
    assert z[0, 1].isnan().all() and z.isnan().sum() == 4 and (z[:, 2] == 0).all()


@pytest.mark.parametrize("part", [256, 4096])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last], ids=str)
@pytest.mark.parametrize("window", [(1, 0.75), (4, 0.6), (5, 0.75), *rarely((2, 0.75), (9, 1.0), (9, 0.75))], ids=str)
def test_local_response_norm_agrees_with_numpy(window, memory_format, part, monkeypatch):
    monkeypatch.setattr(view, "PART", part)
    size, beta = window
    rng = np.random.default_rng(1)
    x, dy = 3 * rng.standard_normal((2, 1, 11, 3, 5)).astype(np.float32)
    setting = {"size": size, "k": 1.5, "alpha": 0.2, "beta": beta}
    y, cache = ours.local_response_norm(x.astype(float), **setting)
    leaf = torch.tensor(x, device=DEVICE).contiguous(memory_format=memory_format).requires_grad_()
    got = gradients(lambda x: F.local_response_norm(x, **setting), [leaf], dy)
    right = [y, ours.local_response_norm_backward(dy.astype(float), cache)]
    # The powers come from the hardware's approximations, with errors of 2 in the last place, times 1.75.
    assert max(map(layers.relative_error, got, right)) < FLOAT32


def test_a_larger_window_is_left_to_the_torch_lines():
    with pytest.raises(AssertionError, match="the torch lines ran"):
        F.local_response_norm(torch.ones(2, 20, 3, device=DEVICE), size=windows.LARGEST_WINDOW + 1)


@on_each_path
@pytest.mark.parametrize("dtype", [np.float16, np.float32], ids=lambda t: t.__name__)
@pytest.mark.parametrize("shape", with_fast(SHAPES, lambda shape: len(shape) in (2, 4)), ids=str)
def test_batch_norm_inference_agrees_with_numpy(shape, dtype):
    rng = np.random.default_rng(4)
    x, dy = (rng.standard_normal((2, *shape)) + 3).astype(dtype)
    gamma, beta, mean, var = rng.standard_normal((4, shape[1])).astype(np.float32)
    arrays = [x, gamma, beta, mean, var**2]
    tensors = leaves(arrays, DEVICE)
    y = F.batch_norm_inference(*tensors[:3], tensors[3].detach(), tensors[4].detach())
    found = torch.autograd.grad(y, tensors[:3], torch.tensor(dy, device=DEVICE))
    found = [a.detach().cpu().numpy() for a in (y, *found)]
    wide = [leaf.detach().double().requires_grad_() for leaf in tensors]
    right = F.batch_norm_inference(*wide)  # float64: the torch lines
    right_found = torch.autograd.grad(right, wide[:3], torch.tensor(dy, device=DEVICE).double())
    assert layers.relative_error(right.detach().cpu().numpy(),
                                 ours.batch_norm_inference(*(a.astype(float) for a in arrays))) < 1e-13
    for a, b in zip(found, (right, *right_found), strict=True):
        b = b.detach().cpu().numpy()
        assert layers.relative_error(a.astype(float), b) < (1e-3 if a.dtype == np.float16 else FLOAT32)


# ---------------------------------------------------------------- what must not change


@on_each_path
@pytest.mark.parametrize("layer", [*KINDS, *OTHERS], ids=str)
def test_same_input_gives_the_same_bits(layer):
    x, params, dy = layer.arrays(np.float32)
    first, second = (by_kernels(layer, x, params, dy, 1e-5) for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


@on_each_path
@pytest.mark.parametrize("value", [1e7 + 1, *rarely(0.1, 1e4 + 0.3)])
@pytest.mark.parametrize("layer", [layer for layer in ONE_EACH if layer.center], ids=str)
def test_constant_input_gives_exactly_beta(layer, value):
    _, (gamma, beta), _ = layer.arrays(np.float32)
    x = torch.full(layer.shape, value, device=DEVICE)
    y = TWINS[layer.name](x, *leaves([gamma, beta], DEVICE), eps=1e-5).detach().cpu()
    shape = [n if axis in layer.param_axes else 1 for axis, n in enumerate(x.shape)]
    assert torch.equal(y, torch.tensor(beta).reshape(shape).expand(y.shape))


@on_each_path
@pytest.mark.parametrize("layer", [*KINDS, *OTHERS], ids=str)
def test_nan_spreads_over_its_slice_and_no_further(layer):
    x, params, _ = layer.arrays(np.float32)
    x[1, 2, 1] = np.nan
    y = TWINS[layer.name](*leaves([x, *params], DEVICE), eps=0.1).detach().cpu().numpy()
    expected, _ = layer.run(x, *params, eps=0.1)
    assert np.array_equal(np.isnan(y), np.isnan(expected)) and 0 < np.isnan(y).sum() < y.size


@pytest.mark.parametrize("layer", [*KINDS, *OTHERS], ids=str)
def test_inputs_are_left_as_they_are(layer):
    x, params, dy = layer.arrays(np.float32)
    tensors, dy = leaves([x, *params], DEVICE), torch.tensor(dy, device=DEVICE)
    before = [t.detach().clone() for t in (*tensors, dy)]
    torch.autograd.grad(TWINS[layer.name](*tensors, eps=0.1), tensors, dy)
    torch.testing.assert_close([t.detach() for t in (*tensors, dy)], before, rtol=0, atol=0)


@pytest.mark.parametrize("layer", [*KINDS, *OTHERS], ids=str)
def test_strided_inputs_and_gradients_give_the_same(layer):
    x, params, dy = layer.arrays(np.float32)
    right = exact(layer, x, params, dy, 1e-5)
    x, *params = leaves([x, *params], DEVICE)
    dy = torch.tensor(dy, device=DEVICE)
    views = [a.detach().mT.contiguous().mT for a in (x, dy)], [torch.stack((a, a), -1)[..., 0] for a in (x, dy)]
    for strided, upstream in views:
        strided = strided.detach().requires_grad_()
        found = torch.autograd.grad(TWINS[layer.name](strided, *params, eps=1e-5), (strided, *params), upstream)
        assert max(map(layers.relative_error, (a.cpu().numpy() for a in found), right[1:])) < FLOAT32
    one, = torch.autograd.grad(TWINS[layer.name](x, *params, eps=1e-5).sum(), x)  # dy of stride 0
    assert one.isfinite().all()


@pytest.mark.parametrize("layer", [*KINDS, *OTHERS], ids=str)
def test_strided_parameters_give_the_same(layer):
    x, params, _ = layer.arrays(np.float32)
    x, *params = leaves([x, *params], DEVICE)
    strided = [torch.stack((p, p + 1), -1)[..., 0] for p in params]
    torch.testing.assert_close(TWINS[layer.name](x, *strided, eps=1e-5), TWINS[layer.name](x, *params, eps=1e-5),
                               rtol=0, atol=0)


@pytest.mark.parametrize("layer", [*KINDS, *OTHERS], ids=str)
def test_autocast_changes_nothing(layer):
    assert_autocast_changes_nothing(layer, DEVICE)


def test_first_gradient_with_a_graph_is_right_where_inputs_depend_on_each_other(monkeypatch):
    monkeypatch.undo()  # the torch lines may run here
    monkeypatch.setattr(operators, "DEVICES", {DEVICE})
    x, (gamma, _), dy = layers.layer("layer_norm", SHAPES[0]).arrays(np.float32)
    x, gamma = leaves([x, gamma], DEVICE)
    dy = torch.tensor(dy, device=DEVICE)
    for y in (F.layer_norm(x, gamma, gamma), F.layer_norm(F.layer_norm(x, gamma, None), gamma, None),
              F.layer_norm(x, gamma * x.mean(0), None)):
        plain = torch.autograd.grad(y, [x, gamma], dy, retain_graph=True)
        graph = torch.autograd.grad(y, [x, gamma], dy, create_graph=True)
        for a, b in zip(graph, plain, strict=True):  # two gradients in float32, added
            assert layers.relative_error(a.detach().cpu().numpy(), b.cpu().numpy()) < 2e-6


def test_forward_mode_and_eps_of_each_sample_are_left_to_the_torch_lines():
    x = torch.randn(3, 3, 4, device=DEVICE)
    with torch.autograd.forward_ad.dual_level(), pytest.raises(AssertionError, match="the torch lines ran"):
        F.layer_norm(x, torch.ones(4, device=DEVICE), None)
    with pytest.raises(AssertionError, match="the torch lines ran"):
        F.standardize(x, (2,), eps=torch.ones(3, 1, 1, device=DEVICE))  # as many samples as channels
    with pytest.raises(AssertionError, match="the torch lines ran"):
        F.standardize(torch.arange(5.0, device=DEVICE), (0,))  # any axes, and no layer


@on_each_path
def test_tlu_at_its_threshold_gives_the_gradient_to_tau():
    x = torch.zeros(2, 3, 4, device=DEVICE)
    beta, tau = torch.zeros(2, 3, device=DEVICE).unbind()
    tau.requires_grad_(), beta.requires_grad_()
    z = F.filter_response_norm_tlu(x, None, beta, tau)
    dbeta, dtau = torch.autograd.grad(z.sum(), (beta, tau))
    assert (dbeta == 0).all() and (dtau == 8).all()


@on_each_path
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")  # dx is inf - inf, by its formula
def test_tlu_gives_an_infinite_gradient_to_one_side_only():
    x = torch.tensor([[[1.0, -1.0]]], device=DEVICE, requires_grad=True)
    tau = torch.zeros(1, device=DEVICE, requires_grad=True)
    z = F.filter_response_norm_tlu(x, None, None, tau)
    dtau, = torch.autograd.grad(z, tau, torch.tensor([[[torch.inf, 3.0]]], device=DEVICE))
    assert dtau == 3  # inf - inf would be NaN


def test_window_with_k_0_has_a_gradient_at_the_edges():
    x = torch.tensor([[0.0, 1, 2, 3]], device=DEVICE).view(1, 4, 1).requires_grad_()
    dx, = torch.autograd.grad(F.local_response_norm(x, size=3, k=0.0, alpha=1.0).sum(), x)
    y, cache = ours.local_response_norm(x.detach().cpu().double().numpy(), size=3, k=0.0, alpha=1.0)
    right = ours.local_response_norm_backward(np.ones(y.shape), cache)
    assert layers.relative_error(dx.cpu().numpy(), right) < FLOAT32


# ---------------------------------------------------------------- the operators


def operator_calls():
    """Each operator with tensors that use all its arguments."""
    generator = torch.Generator().manual_seed(0)
    x, dy = torch.randn(2, 3, 4, 5, 2, generator=generator)
    gamma, beta, tau, eps = torch.rand(4, 4, generator=generator)
    x, dy, gamma, beta, tau, eps = (t.to(DEVICE) for t in (x, dy, gamma, beta, tau, eps))
    row = torch.rand(2, device=DEVICE)
    hi, lo, var = operators.norm(x, None, None, None, eps, 0.0, "map", 0, False)[1:]
    return {
        "batch": (operators.norm, (x, gamma, beta, None, None, 0.1, "batch", 0, True)),
        "group": (operators.norm, (x, gamma, None, None, None, 0.1, "group", 2, True)),
        "frn": (operators.norm, (x, gamma, beta, tau, eps, 0.0, "map", 0, False)),
        "last": (operators.norm, (x, row, row, None, None, 0.1, "last", 1, True)),
        "backward": (operators.norm_backward, (dy, x, gamma, beta, tau, eps, hi, lo, var, 0.0, "map", 0, False)),
        "scale": (operators.scale_and_shift, (x, gamma, beta, tau, eps, 0.1)),
        "scale_backward": (operators.scale_and_shift_backward, (dy, x, gamma, tau, eps, 0.1)),
        "window": (operators.window, (x, 3, 1.0, 0.3, 0.75)),
        "window_backward": (operators.window_backward, (dy, x, 3, 1.0, 0.3, 0.75)),
        "channels_last": (operators.norm, (x.to(memory_format=torch.channels_last), gamma, None, None, None, 0.1,
                                           "batch", 0, True)),
        "permuted_backward": (operators.norm_backward, (dy, x.mT.contiguous().mT, gamma, None, None, None, hi, lo, var,
                                                        0.1, "map", 0, True)),
    }


@pytest.mark.parametrize("name", ["batch", "group", "frn", "last", "backward", "scale", "scale_backward", "window",
                                  "window_backward", "channels_last", "permuted_backward"])
def test_operator_is_what_it_tells_torch(name):
    operator, arguments = operator_calls()[name]
    if "backward" not in name:
        arguments = tuple(a.requires_grad_() if torch.is_tensor(a) and a is arguments[0] else a for a in arguments)
    # Schema, fake tensors, autograd registration, and tracing by AOTAutograd with static shapes.
    torch.library.opcheck(operator, arguments, test_utils=(
        "test_schema", "test_faketensor", "test_autograd_registration", "test_aot_dispatch_static"))


def network():
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Conv2d(2, 6, 3), nn.BatchNorm2d(6), torch.nn.ReLU(), nn.GroupNorm(2, 6), nn.InstanceNorm2d(6),
        nn.FilterResponseNorm(6, learned_eps=True), nn.TLU(6), nn.FilterResponseNormTLU(6), nn.LocalResponseNorm(3),
        torch.nn.Flatten(2), nn.RMSNorm(9), nn.LayerNorm(9)).to(DEVICE)


@pytest.mark.filterwarnings("ignore:.*autograd.function.Function.* should not be instantiated:DeprecationWarning")
def test_compile_makes_one_graph_of_all_layers_and_gives_the_same():
    x = torch.randn(3, 2, 5, 5, generator=torch.Generator().manual_seed(1)).to(DEVICE)
    eager, other = network(), network()
    # The graph is what is tested: aot_eager traces as inductor does, and needs no C compiler.
    compiled = torch.compile(other, backend="inductor" if DEVICE == "cuda" else "aot_eager", fullgraph=True)
    results = []
    for model in (eager, compiled):
        y = model(x)
        found = torch.autograd.grad(y.square().sum(), model.parameters())
        results.append([y.detach(), *found, dict(model.named_buffers())])
    results[1][-1] = {name.removeprefix("_orig_mod."): b for name, b in results[1][-1].items()}
    # Inductor may add in another order; the kernels are the same.
    torch.testing.assert_close(*results, rtol=1e-4, atol=1e-4) if DEVICE == "cuda" else torch.testing.assert_close(
        *results, rtol=0, atol=0)


@pytest.mark.parametrize("layer", ONE_EACH, ids=str)
def test_second_derivative_comes_from_the_torch_lines(layer, monkeypatch):
    monkeypatch.undo()  # the torch lines may run here
    monkeypatch.setattr(operators, "DEVICES", {DEVICE})
    x, params, dy = layer.arrays(np.float32, mean=1.0, std=1.0)
    results = []
    for dtype in (torch.float32, torch.float64):
        tensors = [t.detach().to(dtype).requires_grad_() for t in leaves([x, *params], DEVICE)]
        y = TWINS[layer.name](*tensors, eps=0.1)
        dx, = torch.autograd.grad(y, tensors[0], torch.tensor(dy, device=DEVICE, dtype=dtype), create_graph=True)
        results.append([t.double() for t in torch.autograd.grad(dx.square().sum(), tensors, allow_unused=True)
                        if t is not None])
    for a, b in zip(*results, strict=True):
        assert layers.relative_error(a.cpu().numpy(), b.cpu().numpy()) < 2e-5  # two derivatives in float32


def test_second_derivative_at_inference_comes_from_the_torch_lines():
    x, gamma, mean = torch.randn(2, 3, device=DEVICE), torch.rand(3, device=DEVICE), torch.rand(3, device=DEVICE)
    results = []
    for dtype in (torch.float32, torch.float64):
        x_, g_ = (t.to(dtype).requires_grad_() for t in (x, gamma))
        y = F.batch_norm_inference(x_, g_, None, mean.to(dtype), mean.to(dtype))
        dx, = torch.autograd.grad(y.square().sum(), x_, create_graph=True)
        results.append([t.double() for t in torch.autograd.grad(dx.square().sum(), (x_, g_))])
    torch.testing.assert_close(*results, rtol=1e-5, atol=1e-5)  # two derivatives in float32


def test_more_maps_than_the_kernels_can_count_are_refused():
    x = torch.empty(1, device=DEVICE).expand(2**15, 2**15, 1)
    with pytest.raises(ValueError, match="32768 x 32768 maps, more than the kernels can count"):
        view.View(x.to("meta"), "batch", 0)


def test_second_derivative_of_windows_is_refused():
    x = torch.ones(2, 4, 3, device=DEVICE, requires_grad=True)
    dx, = torch.autograd.grad(F.local_response_norm(x).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="no autograd formula|does not require grad|not registered"):
        dx.sum().backward()


# ---------------------------------------------------------------- modules and the switch


@on_each_path
@pytest.mark.parametrize("momentum", [0.3, *rarely(None)])
def test_batch_norm_module_tracks_and_evaluates_like_torch(momentum):
    mine, theirs = (package.BatchNorm2d(6, momentum=momentum, device=DEVICE) for package in (nn, torch.nn))
    for step in range(3):
        x = torch.randn(4, 6, 5, 3, generator=torch.Generator().manual_seed(step)).to(DEVICE) * 2 + 3
        # float32: the rounding of sums of 60, and torch's own
        torch.testing.assert_close(mine(x), theirs(x), rtol=1e-5, atol=2e-6)
        torch.testing.assert_close(mine.state_dict(), theirs.state_dict(), rtol=2e-6, atol=1e-6)
    torch.testing.assert_close(mine.eval()(x), theirs.eval()(x), rtol=1e-5, atol=2e-6)


def test_switch_turns_the_kernels_off_and_on_again():
    x = torch.randn(3, 5, device=DEVICE)
    with nn.use_kernels(False):
        for run in (lambda: F.layer_norm(x, torch.ones(5, device=DEVICE), None), lambda: F.local_response_norm(x)):
            with pytest.raises(AssertionError, match="the torch lines ran"):
                run()
        with nn.use_kernels(True):
            F.local_response_norm(x)
        assert F.KERNELS is False
    assert F.KERNELS is True
    nn.use_kernels(False)
    assert F.KERNELS is False
    nn.use_kernels(True)


def test_switch_is_restored_after_an_error():
    with pytest.raises(KeyError), nn.use_kernels(False):
        raise KeyError
    assert F.KERNELS is True


def test_float64_empty_batches_and_other_axes_are_left_to_the_torch_lines():
    x = torch.ones(3, 4, 5, device=DEVICE)
    for run in (lambda: F.batch_norm(x.double(), None, None), lambda: F.batch_norm(x[:0], None, None),
                lambda: F.standardize(x, (1,)), lambda: F.standardize(x, (2,), eps=torch.ones(3, 1, 1, device=DEVICE))):
        with pytest.raises(AssertionError, match="the torch lines ran"):
            run()


def test_kernels_and_torch_lines_differ_by_the_rounding_of_sums(monkeypatch):
    monkeypatch.undo()
    monkeypatch.setattr(operators, "DEVICES", {DEVICE})
    for layer in ONE_EACH:
        x, params, dy = layer.arrays(np.float32)
        on = by_kernels(layer, x, params, dy, 1e-5)
        with nn.use_kernels(False):
            off = by_kernels(layer, x, params, dy, 1e-5)
        assert max(map(layers.relative_error, on, off)) < FLOAT32


def test_bad_input_is_refused_before_a_kernel_sees_it():
    x = torch.ones(2, 4, 3, device=DEVICE)
    with pytest.raises(ValueError, match=r"x has 4 channels; gamma has shape \(3,\)"):
        F.batch_norm(x, torch.ones(3, device=DEVICE), None)
    with pytest.raises(ValueError, match=r"x has 4 channels; tau has shape \(3,\)"):
        F.filter_response_norm_tlu(x, None, None, torch.ones(3, device=DEVICE))
    with pytest.raises(ValueError, match="has 1 value per slice"):
        F.instance_norm(x[..., :1], None, None)
    with pytest.raises(TypeError, match="x is int64"):
        F.group_norm(x.long(), None, None, groups=2)


# ---------------------------------------------------------------- a GPU only


@NO_GPU
def test_more_than_2_31_elements():
    if torch.cuda.get_device_properties(0).total_memory < 40e9:
        pytest.skip("this takes 26 GB on the GPU")
    rows = 2**31 // 4096 + 3
    x = torch.randn(rows, 4096, device="cuda", dtype=torch.float16)
    x.requires_grad_()
    y = F.layer_norm(x, torch.ones(4096, device="cuda"), torch.zeros(4096, device="cuda"))
    dx, = torch.autograd.grad(y, x, x.detach())
    torch.testing.assert_close(y[-3:], torch.nn.functional.layer_norm(x[-3:], (4096,)), rtol=2e-3, atol=2e-3)
    last = x[-3:].detach().requires_grad_()
    right, = torch.autograd.grad(torch.nn.functional.layer_norm(last, (4096,)), last, last.detach())
    torch.testing.assert_close(dx[-3:], right, rtol=2e-2, atol=2e-3)
    del y, dx, right, last
    images = x.detach().view(-1, 4, 64, 128)[:65537]  # 65537 samples of 32768: beyond 2^31 entries as well
    y = F.batch_norm(images, None, None)
    assert abs(float(y[-1].float().mean())) < 0.1 and abs(float(y[-1].float().std()) - 1) < 0.1


@NO_GPU
def test_cuda_graph_replays_forward_and_backward():
    x = torch.randn(64, 512, device="cuda", requires_grad=True)
    layer = nn.LayerNorm(512, device="cuda")
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        for _ in range(3):
            torch.autograd.grad(layer(x).square().sum(), [x, *layer.parameters()])
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        found = torch.autograd.grad(layer(x).square().sum(), [x, *layer.parameters()])
    with torch.no_grad():
        x.copy_(torch.randn(64, 512, device="cuda"))
    graph.replay()
    again = torch.autograd.grad(layer(x).square().sum(), [x, *layer.parameters()])
    torch.testing.assert_close(found, again, rtol=0, atol=0)
