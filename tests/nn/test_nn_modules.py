"""The modules are drop-in for `torch.nn`: checkpoints, numbers over steps, buffers, errors; and three of our own."""

import numpy as np
import pytest
import torch
from twins import NO_GPU, on_each_device

import course_lib as ours
from course_lib import nn

# Same formula in float64, but torch's sums run in another order: 1e-16 a step,
# times the condition of a variance near eps.
CLOSE = {"rtol": 1e-9, "atol": 1e-10}

# name, shape of the input, positional arguments: axis lengths differ, and C / groups is not groups.
NORMS = [
    ("BatchNorm1d", (5, 6), (6,)), ("BatchNorm1d", (5, 6, 3), (6,)), ("BatchNorm2d", (5, 6, 3, 4), (6,)),
    ("BatchNorm3d", (2, 6, 3, 4, 5), (6,)),
    ("InstanceNorm1d", (5, 6, 3), (6,)), ("InstanceNorm1d", (6, 3), (6,)), ("InstanceNorm2d", (5, 6, 3, 4), (6,)),
    ("InstanceNorm2d", (6, 3, 4), (6,)), ("InstanceNorm3d", (2, 6, 3, 4, 5), (6,)),
    ("InstanceNorm3d", (6, 3, 4, 5), (6,)),
]
SETTINGS = [
    {}, {"affine": False}, {"affine": True}, {"momentum": None}, {"momentum": 0.7, "eps": 0.1},
    {"track_running_stats": True}, {"track_running_stats": False}, {"affine": True, "bias": False},
    {"affine": True, "track_running_stats": True, "momentum": None},
]
OTHERS = [
    ("LayerNorm", (5, 6, 3, 4), (4,), {}), ("LayerNorm", (5, 6, 3, 4), ([3, 4],), {"eps": 0.1}),
    ("LayerNorm", (5, 6), (6,), {"bias": False}), ("LayerNorm", (7,), (7,), {"elementwise_affine": False}),
    ("RMSNorm", (5, 6, 3, 4), (4,), {}), ("RMSNorm", (5, 6, 3, 4), ([3, 4],), {"eps": 0.1}),
    ("RMSNorm", (5, 6), (6,), {"elementwise_affine": False}),
    ("GroupNorm", (5, 6, 3, 4), (2, 6), {}), ("GroupNorm", (5, 6), (2, 6), {"eps": 0.1}),
    ("GroupNorm", (5, 6, 3), (3, 6), {"affine": False}), ("GroupNorm", (2, 6, 3, 4, 5), (2, 6), {"bias": False}),
    ("LocalResponseNorm", (5, 6, 3), (3,), {}), ("LocalResponseNorm", (5, 6, 3, 4), (4, 0.3, 0.6, 2.0), {}),
    ("LocalResponseNorm", (2, 6, 3, 4, 5), (2,), {"alpha": 0.5}),
]
ALL = [(name, shape, args, setting) for name, shape, args in NORMS for setting in SETTINGS] + OTHERS


def pair(name, args, setting, device="cpu"):
    """Ours and torch's with the same random parameters, moved from torch to ours by a strict checkpoint."""
    setting = dict(setting) if name == "LocalResponseNorm" else {"device": device, "dtype": torch.float64, **setting}
    mine, theirs = (getattr(package, name)(*args, **setting) for package in (nn, torch.nn))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for tensor in theirs.state_dict().values():
            if tensor.is_floating_point():
                tensor.copy_(torch.randn(tensor.shape, generator=generator, dtype=torch.float64).abs() + 0.5)
        for parameter in theirs.parameters():
            parameter.flatten()[0] = -1.5
    mine.load_state_dict(theirs.state_dict(), strict=True)
    return mine, theirs


def case_name(case):
    name, shape, args, setting = case
    return f"{name}-{'x'.join(map(str, shape))}-{','.join(f'{k}={v}' for k, v in setting.items()) or args}"


@on_each_device
@pytest.mark.parametrize("case", ALL, ids=case_name)
def test_module_gives_the_numbers_of_torch_over_several_steps(case, device):
    name, shape, args, setting = case
    mine, theirs = pair(name, args, setting, device)
    generator = torch.Generator().manual_seed(2)
    for step, training in enumerate([True, True, True, False, True, False]):
        x, dy = torch.randn((2, *shape), generator=generator, dtype=torch.float64).to(device)
        x = (step + 1) * x + 3
        results = []
        for layer in (mine, theirs):
            layer.train(training)
            leaf = x.clone().requires_grad_()
            y = layer(leaf)
            found = torch.autograd.grad(y, [leaf, *layer.parameters()], dy)
            results.append([y, *found, layer.state_dict()])
        torch.testing.assert_close(*results, **CLOSE)


@pytest.mark.parametrize("case", ALL, ids=case_name)
def test_checkpoint_loads_strictly_both_ways(case):
    name, _, args, setting = case
    mine, theirs = pair(name, args, setting)
    assert list(mine.state_dict()) == list(theirs.state_dict())
    fresh = getattr(torch.nn, name)(*args, **setting).double()
    fresh.load_state_dict(mine.state_dict(), strict=True)
    torch.testing.assert_close(fresh.state_dict(), theirs.state_dict(), rtol=0, atol=0)


@pytest.mark.parametrize("case", ALL, ids=case_name)
def test_module_prints_like_torch_and_starts_like_torch(case):
    name, _, args, setting = case
    mine, theirs = (getattr(package, name)(*args, **setting) for package in (nn, torch.nn))
    assert repr(mine) == repr(theirs)
    torch.testing.assert_close(mine.state_dict(), theirs.state_dict(), rtol=0, atol=0)


def test_checkpoint_of_another_layout_is_refused():
    with pytest.raises(RuntimeError, match="Missing key.*running_mean"):
        nn.BatchNorm2d(3).load_state_dict(torch.nn.BatchNorm2d(3, track_running_stats=False).state_dict())
    with pytest.raises(RuntimeError, match="size mismatch for weight"):
        nn.BatchNorm2d(3).load_state_dict(torch.nn.BatchNorm2d(4).state_dict())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_device_and_dtype_arguments_reach_parameters_and_buffers(dtype):
    for layer in (nn.BatchNorm1d(3, device="meta", dtype=dtype), nn.LayerNorm(3, device="meta", dtype=dtype),
                  nn.FilterResponseNorm(3, learned_eps=True, device="meta", dtype=dtype),
                  nn.TLU(3, device="meta", dtype=dtype), nn.ZCAWhitening(3, device="meta", dtype=dtype)):
        tensors = [t for t in layer.state_dict().values() if t.is_floating_point()]
        assert tensors and all(t.dtype == dtype and t.is_meta for t in tensors)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_model_trains_and_evaluates_like_torch(dtype):
    mine, theirs = (package.BatchNorm2d(6, dtype=dtype) for package in (nn, torch.nn))
    for step in range(3):
        x = torch.randn(4, 6, 5, 3, generator=torch.Generator().manual_seed(step)).to(dtype)
        # Two roundings to the half type, of y and of the statistics, that torch may do at other places.
        tolerance = {"rtol": 2 * torch.finfo(dtype).eps, "atol": 2 * torch.finfo(dtype).eps}
        torch.testing.assert_close(mine(x), theirs(x), **tolerance)
        torch.testing.assert_close(mine.state_dict(), theirs.state_dict(), **tolerance)
    torch.testing.assert_close(mine.eval()(x), theirs.eval()(x), **tolerance)


def test_network_of_torch_takes_our_layers_and_its_checkpoint():
    def network(package):
        return torch.nn.Sequential(
            torch.nn.Conv2d(3, 6, 3), package.BatchNorm2d(6), torch.nn.ReLU(inplace=True), torch.nn.Conv2d(6, 4, 2),
            package.GroupNorm(2, 4), torch.nn.Flatten(1, 3), package.LayerNorm(4 * 3 * 2))
    mine, theirs = network(nn), network(torch.nn)
    mine.load_state_dict(theirs.state_dict(), strict=True)
    optimizers = [torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9) for model in (mine, theirs)]
    generator = torch.Generator().manual_seed(0)
    for _ in range(4):
        x, target = torch.randn(7, 3, 6, 5, generator=generator), torch.randn(7, 24, generator=generator)
        losses = []
        for model, optimizer in zip((mine, theirs), optimizers, strict=True):
            optimizer.zero_grad()
            losses.append(torch.nn.functional.mse_loss(model(x), target))
            losses[-1].backward()
            optimizer.step()
        # float32, and four steps let a difference grow
        torch.testing.assert_close(*losses, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(mine.eval()(x), theirs.eval()(x), rtol=1e-3, atol=1e-4)


def test_batch_of_0_leaves_the_running_statistics_alone():
    tracking = nn.InstanceNorm2d(3, track_running_stats=True)
    for layer, shape in ((nn.BatchNorm2d(3), (0, 3, 4, 5)), (nn.ZCAWhitening(3), (0, 3, 4, 5)),
                         (nn.BatchNorm2d(3), (2, 3, 0, 5)), (tracking, (2, 3, 0, 5))):
        before = {k: v.clone() for k, v in layer.state_dict().items() if v.is_floating_point()}
        assert layer(torch.zeros(shape)).shape == shape
        torch.testing.assert_close({k: layer.state_dict()[k] for k in before}, before, rtol=0, atol=0)


def test_batch_of_0_is_refused_by_instance_norm_that_keeps_statistics_where_those_of_torch_become_nan():
    shape = 0, 3, 4, 5
    theirs, mine = (layers.InstanceNorm2d(3, track_running_stats=True) for layers in (torch.nn, nn))
    theirs(torch.zeros(shape))
    assert theirs.running_mean.isnan().all()
    with pytest.raises(ValueError, match=r"x of shape \(0, 3, 4, 5\) has no sample, and this layer keeps running"):
        mine(torch.zeros(shape))
    assert (mine.running_mean == 0).all() and (mine.running_var == 1).all()
    for layer in (mine.eval(), nn.InstanceNorm2d(3)):  # nothing is kept
        assert layer(torch.zeros(shape)).shape == shape


def test_nan_goes_through_and_stays_in_the_running_statistics():
    mine, theirs = nn.BatchNorm1d(3), torch.nn.BatchNorm1d(3)
    x = torch.ones(4, 3) + torch.arange(4)[:, None]
    x[2, 1] = torch.nan
    torch.testing.assert_close([mine(x), mine.state_dict()], [theirs(x), theirs.state_dict()], equal_nan=True)
    mine(torch.randn(4, 3))
    assert mine.running_mean.isnan().tolist() == [False, True, False]


@pytest.mark.parametrize("mean", [1e3, 1e5])
def test_running_variance_keeps_its_digits_at_a_large_mean(mean):
    x = (mean + torch.randn(64, 3, 20, generator=torch.Generator().manual_seed(0), dtype=torch.float64)).float()
    layer = nn.BatchNorm1d(3, momentum=1.0)
    layer(x)
    # The variance is a sum of 1280 squares in float32; torch loses all but three digits at 1e5.
    torch.testing.assert_close(layer.running_var.double(), x.double().var((0, 2)), rtol=1e-6, atol=0)


@pytest.mark.parametrize(("call", "error", "message"), [
    (lambda: nn.BatchNorm2d(3)(torch.ones(2, 4, 3, 3)), ValueError, "x has 4 channels; this BatchNorm has 3"),
    (lambda: nn.BatchNorm2d(3).eval()(torch.ones(2, 4, 3, 3)), ValueError, "x has 4 channels; this BatchNorm has 3"),
    (lambda: nn.BatchNorm2d(3)(torch.ones(2, 3, 4)), ValueError, r"expected 4D input \(got 3D input\)"),
    (lambda: nn.BatchNorm1d(3)(torch.ones(3)), ValueError, r"expected 2D or 3D input \(got 1D input\)"),
    (lambda: nn.BatchNorm1d(3)(torch.ones(1, 3)), ValueError, r"x of shape \(1, 3\) has 1 value per slice"),
    (lambda: nn.BatchNorm1d(3, track_running_stats=False).eval()(torch.ones(1, 3)), ValueError, "has 1 value"),
    (lambda: nn.BatchNorm1d(3, eps=0)(torch.ones(2, 3)), ValueError, "eps must be positive.*got 0"),
    (lambda: nn.BatchNorm1d(3, eps=-1)(torch.ones(2, 3)), ValueError, "eps must be positive.*got -1"),
    (lambda: nn.BatchNorm1d(3)(torch.ones(2, 3).long()), TypeError, "x is int64; normalization needs a floating type"),
    (lambda: nn.BatchNorm1d(3)(torch.ones(2, 3).double()), TypeError, "^weight is float32, but x is float64"),
    (lambda: nn.BatchNorm1d(3, affine=False).eval()(torch.ones(2, 3).double()), TypeError,
     "^running_mean is float32, but x is float64"),
    (lambda: nn.InstanceNorm1d(3, affine=True)(torch.ones(2, 3, 2).double()), TypeError, "^weight is float32, but x"),
    (lambda: nn.LayerNorm(3)(torch.ones(2, 3).double()), TypeError, "^weight is float32, but x is float64"),
    (lambda: nn.RMSNorm(3)(torch.ones(2, 3).double()), TypeError, "^weight is float32, but x is float64"),
    (lambda: nn.GroupNorm(1, 3)(torch.ones(2, 3).double()), TypeError, "^weight is float32, but x is float64"),
    (lambda: nn.FilterResponseNorm(3)(torch.ones(2, 3).double()), TypeError, "^weight is float32, but x is float64"),
    (lambda: nn.FilterResponseNormTLU(3)(torch.ones(2, 3).double()), TypeError, "^weight is float32, but x is float64"),
    (lambda: nn.BatchNorm1d(3)(np.ones((2, 3))), TypeError, "^x is of type ndarray; the torch half takes tensors"),
    (lambda: nn.GroupNorm("3", 9), TypeError, "num_groups is '3'; it needs an integer"),
    (lambda: nn.ZCAWhitening(3, eps=-2).eval()(torch.ones(2, 3)), ValueError, "eps must be 0 or more, got -2"),
    (lambda: nn.GroupNorm(3, 10), ValueError, r"num_groups \(3\) must divide the number of channels \(10\)"),
    (lambda: nn.GroupNorm(0, 10), ValueError, r"num_groups \(0\) must divide the number of channels \(10\)"),
    (lambda: nn.GroupNorm(2, 4)(torch.ones(2, 6, 3)), ValueError, "x has 6 channels; this GroupNorm has 4"),
    (lambda: nn.GroupNorm(2, 4)(torch.ones(4)), ValueError, r"expected at least 2D input \(got 1D input\)"),
    (lambda: nn.LayerNorm(5)(torch.ones(2, 4)), ValueError, r"x of shape \(2, 4\) .* normalized_shape \(5,\)"),
    (lambda: nn.LayerNorm([2, 3, 4])(torch.ones(3, 4)), ValueError, r"\(3, 4\) .* normalized_shape \(2, 3, 4\)"),
    (lambda: nn.RMSNorm(5)(torch.ones(2, 4)), ValueError, r"x of shape \(2, 4\) .* normalized_shape \(5,\)"),
    (lambda: nn.RMSNorm(4)(torch.ones(2, 4).int()), TypeError, "x is int32"),
    (lambda: nn.InstanceNorm2d(3, affine=True)(torch.ones(2, 4, 3, 3)), ValueError, r"num_features \(3\), but got: 4"),
    (lambda: nn.InstanceNorm2d(3)(torch.ones(2, 3, 1, 1)), ValueError, r"\(2, 3, 1, 1\) has 1 value per slice"),
    (lambda: nn.InstanceNorm2d(3)(torch.ones(3, 3)), ValueError, r"expected 3D or 4D input \(got 2D input\)"),
    (lambda: nn.FilterResponseNorm(3)(torch.ones(2, 4)), ValueError, "4 channels; this FilterResponseNorm has 3"),
    (lambda: nn.FilterResponseNormTLU(3)(torch.ones(2, 4)), ValueError, "4 channels; this FilterResponseNormTLU has 3"),
    (lambda: nn.TLU(3)(torch.ones(2, 4)), ValueError, "x has 4 channels; this TLU has 3"),
    (lambda: nn.ZCAWhitening(3)(torch.ones(2, 4)), ValueError, "x has 4 channels; this ZCAWhitening has 3"),
    (lambda: nn.ZCAWhitening(3)(torch.ones(1, 3)), ValueError, "has 1 sample; a covariance needs 2"),
    (lambda: nn.LocalResponseNorm(3)(torch.ones(2, 4)), ValueError, r"expected 3D .* \(got 2D input\)"),
    (lambda: nn.LocalResponseNorm(0)(torch.ones(2, 4, 3)), ValueError, "integer of 1 or more; got 0"),
])
def test_bad_input_is_refused_with_its_numbers(call, error, message):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.filterwarnings("ignore:.*does not match num_features")
@pytest.mark.parametrize(("name", "args", "shape"), [
    ("LayerNorm", (1,), (3, 1)), ("LayerNorm", ((1, 1),), (3, 1, 1)), ("GroupNorm", (4, 4), (3, 4)),
    ("GroupNorm", (2, 2), (3, 2, 1, 1)),
], ids=str)
def test_layer_with_one_value_per_slice_loads_its_checkpoint_and_gives_beta_as_in_torch(name, args, shape):
    mine, theirs = pair(name, args, {})
    for training in (True, False):
        x = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64).requires_grad_()
        results = []
        for layer in (mine, theirs):
            y = layer.train(training)(x)
            results.append([y, *torch.autograd.grad(y.square().sum(), [x, *layer.parameters()])])
        torch.testing.assert_close(*results, rtol=0, atol=1e-12)


def test_numpy_integers_are_integers():
    three, x = np.int64(3), torch.randn(2, 3, 4)
    for name, args in (("LocalResponseNorm", (three,)), ("GroupNorm", (three, three)), ("LayerNorm", (np.int64(4),)),
                       ("RMSNorm", (np.int32(4),)), ("BatchNorm1d", (three,)), ("InstanceNorm1d", (three,))):
        mine, theirs = (getattr(package, name)(*args) for package in (nn, torch.nn))
        torch.testing.assert_close(mine(x), theirs(x))
    for layer in (nn.FilterResponseNorm(three), nn.FilterResponseNormTLU(three), nn.TLU(three), nn.ZCAWhitening(three)):
        assert layer(x).shape == x.shape


def test_batch_norm_without_running_statistics_of_its_own_trains_as_in_torch():
    """As after `layer.running_mean = None`, which some do to make a layer of torch use the batch in evaluation too."""
    mine, theirs = nn.BatchNorm1d(3), torch.nn.BatchNorm1d(3)
    x = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    for layer in (mine, theirs):
        layer.running_mean = layer.running_var = None
    for training in (True, False):
        torch.testing.assert_close(mine.train(training)(x), theirs.train(training)(x))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_gradients_of_a_half_type_are_those_of_float64_rounded_once(dtype):
    """Sums over 640 rows; torch's layer norm takes them in the half type, and its dbias is off by a tenth and more."""
    torch.manual_seed(0)
    x, dy = torch.randn(128, 5, 5).to(dtype), torch.linspace(-1, 1, 3200).reshape(128, 5, 5).to(dtype)
    found = {}
    for name, layer, to in (("ours", nn.LayerNorm(5), dtype), ("torch", torch.nn.LayerNorm(5), dtype),
                            ("exact", torch.nn.LayerNorm(5), torch.float64)):
        layer.to(to)
        leaf = x.to(to).requires_grad_()
        found[name] = torch.autograd.grad(layer(leaf), [leaf, *layer.parameters()], dy.to(to))
    for ours_, theirs, exact in zip(*found.values(), strict=True):
        off, torch_off, once = ((each.double() - exact).abs().max() for each in (ours_, theirs, exact.to(dtype)))
        assert off <= 1.1 * once  # computed in float32, which may take the other side of a tie
        assert theirs.ndim > 1 or torch_off > 10 * once  # weight and bias


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_running_statistics_of_a_half_type_are_rounded_once(dtype):
    layer = nn.BatchNorm1d(200, dtype=dtype)
    x = torch.randn(9, 200, generator=torch.Generator().manual_seed(0)).to(dtype)
    with torch.no_grad():
        layer.running_mean.copy_(torch.randn(200, generator=torch.Generator().manual_seed(1)))
    right = 0.9 * layer.running_mean.double() + 0.1 * x.double().mean(0)
    layer(x)
    # Half a step of the type, and the last digits of float32.
    step = torch.finfo(dtype).eps * 2.0 ** torch.floor(torch.log2(right.abs()))
    assert bool(((layer.running_mean.double() - right).abs() <= 0.5 * step + 1e-6).all())


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_evaluation_after_a_batch_of_nan_gives_nan_and_no_error_of_the_solver():
    layer = nn.ZCAWhitening(3)
    layer(torch.full((9, 3), torch.nan))
    assert layer.eval()(torch.randn(2, 3)).isnan().all()


def test_zca_whitening_runs_on_meta_tensors():
    layer = nn.ZCAWhitening(3, device="meta")
    for training in (True, False):
        assert layer.train(training)(torch.empty(9, 3, device="meta")).shape == (9, 3)


def test_evaluation_of_zca_whitening_refuses_a_covariance_without_an_inverse():
    layer = nn.ZCAWhitening(3, eps=0.0).eval()
    layer.running_cov.fill_(1.0)
    with pytest.raises(ValueError, match="the running covariance of 3 features has rank 1; whitening needs rank 3"):
        layer(torch.randn(2, 3))


@pytest.mark.filterwarnings("ignore:.*does not match num_features")
def test_instance_norm_with_running_statistics_refuses_other_channels():
    with pytest.raises(ValueError, match="x has 5 channels; this InstanceNorm1d has 3"):
        nn.InstanceNorm1d(3, track_running_stats=True)(torch.ones(2, 5, 4))


def test_instance_norm_without_parameters_warns_of_other_channels_as_torch_does():
    with pytest.warns(UserWarning, match="does not match num_features"):
        nn.InstanceNorm1d(3)(torch.randn(2, 4, 5))


# ---------------------------------------------------------------- filter response norm, TLU


def test_filter_response_norm_starts_and_computes_as_in_the_paper():
    layer = nn.FilterResponseNorm(6, learned_eps=True).double()
    assert [name for name, _ in layer.named_parameters()] == ["weight", "bias", "eps_l"]
    assert torch.equal(layer.eps_l.detach(), torch.full((6,), 1e-4).double())
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(torch.randn(6, generator=torch.Generator().manual_seed(0)))
    x = torch.randn(5, 6, 3, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    gamma, beta, eps_l = (p.detach().numpy() for p in layer.parameters())
    y, cache = ours.filter_response_norm(x.numpy(), gamma, beta, eps=1e-6 + np.abs(eps_l))
    np.testing.assert_allclose(layer(x).detach(), y, rtol=1e-12)
    dy = torch.randn(x.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    layer(x).backward(dy)
    deps = ours.norm_backward(dy.numpy(), cache)[3] * np.sign(eps_l)
    np.testing.assert_allclose(layer.eps_l.grad, deps, rtol=1e-10)


def test_filter_response_norm_without_learned_eps_has_two_parameters():
    layer = nn.FilterResponseNorm(6, eps=0.1)
    assert [name for name, _ in layer.named_parameters()] == ["weight", "bias"]
    x = torch.randn(5, 6, 3)
    torch.testing.assert_close(layer(x), nn.functional.filter_response_norm(x, None, None, eps=0.1))
    assert repr(layer) == "FilterResponseNorm(6, eps=0.1, learned_eps=False)"


@pytest.mark.parametrize("learned_eps", [False, True])
def test_filter_response_norm_with_tlu_is_the_two_layers_in_one(learned_eps):
    both = nn.FilterResponseNormTLU(6, learned_eps=learned_eps).double()
    norm, tlu = nn.FilterResponseNorm(6, learned_eps=learned_eps).double(), nn.TLU(6).double()
    assert [name for name, _ in both.named_parameters()] == ["weight", "bias", "tau", "eps_l"][:4 if learned_eps else 3]
    assert torch.equal(both.tau, tlu.tau)
    with torch.no_grad():
        for parameter in both.parameters():
            parameter.copy_(torch.randn(6, generator=torch.Generator().manual_seed(0)))
        for layer in (norm, tlu):
            for name, parameter in layer.named_parameters():
                parameter.copy_(getattr(both, name))
    x = torch.randn(5, 6, 3, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    torch.testing.assert_close(both(x), tlu(norm(x)), rtol=0, atol=0)
    assert repr(both) == f"FilterResponseNormTLU(6, eps=1e-06, learned_eps={learned_eps})"


def test_tlu_starts_as_relu():
    x = torch.randn(5, 6, 3)
    layer = nn.TLU(6)
    assert torch.equal(layer(x), torch.relu(x)) and repr(layer) == "TLU(6)"


# ---------------------------------------------------------------- ZCA whitening


def mixed(n, seed, dtype=torch.float64):
    """Samples with mean, spread and correlation, (n, 3, 4, 5)."""
    generator = torch.Generator().manual_seed(seed)
    mix = torch.tensor([[2.0, 0, 0], [1, 1, 0], [-1, 0.5, 0.5]], dtype=dtype)
    return torch.einsum("dc,nchw->ndhw", mix, torch.randn(n, 3, 4, 5, generator=generator, dtype=dtype)) + 5


def moments(y):
    rows = y.movedim(1, -1).reshape(-1, y.shape[1])
    return rows.mean(0), torch.cov(rows.T, correction=0)


@on_each_device
def test_zca_whitening_whitens_a_batch(device):
    mean, cov = moments(nn.ZCAWhitening(3, eps=0.0, device=device, dtype=torch.float64)(mixed(8, 0).to(device)))
    torch.testing.assert_close(mean.cpu(), torch.zeros(3).double(), rtol=0, atol=1e-12)
    torch.testing.assert_close(cov.cpu(), torch.eye(3).double(), rtol=0, atol=1e-12)


def test_zca_whitening_of_one_channel_is_batch_norm_in_training_and_evaluation():
    whitening, batch_norm = nn.ZCAWhitening(1, dtype=torch.float64), nn.BatchNorm2d(1, dtype=torch.float64)
    for seed in range(3):
        x = mixed(4, seed)[:, :1]
        torch.testing.assert_close(whitening(x), batch_norm(x))
        torch.testing.assert_close(whitening.running_mean, batch_norm.running_mean)
        torch.testing.assert_close(whitening.running_cov[0], batch_norm.running_var)
    torch.testing.assert_close(whitening.eval()(x), batch_norm.eval()(x))


@pytest.mark.parametrize("momentum", [0.3, None])
def test_zca_whitening_tracks_the_unbiased_covariance_and_uses_it(momentum):
    layer = nn.ZCAWhitening(3, momentum=momentum, dtype=torch.float64)
    mean, cov = torch.zeros(3).double(), torch.eye(3).double()
    for step in range(1, 5):
        x = mixed(4, step)
        layer(x)
        weight = 1 / step if momentum is None else momentum
        rows = x.movedim(1, -1).reshape(-1, 3)
        mean, cov = (1 - weight) * mean + weight * rows.mean(0), (1 - weight) * cov + weight * torch.cov(rows.T)
    torch.testing.assert_close([layer.running_mean, layer.running_cov], [mean, cov])
    values, vectors = torch.linalg.eigh(cov + layer.eps * torch.eye(3))
    expected = (x.movedim(1, -1) - mean) @ (vectors / values.sqrt() @ vectors.T)
    torch.testing.assert_close(layer.eval()(x), expected.movedim(-1, 1))
    assert layer.num_batches_tracked == 4


def test_zca_whitening_settings_and_state():
    assert list(nn.ZCAWhitening(3).state_dict()) == ["weight", "bias", "running_mean", "running_cov",
                                                     "num_batches_tracked"]
    plain = nn.ZCAWhitening(3, affine=False, track_running_stats=False, dtype=torch.float64)
    assert not plain.state_dict()
    torch.testing.assert_close(plain.train()(mixed(4, 0)), plain.eval()(mixed(4, 0)))
    assert repr(plain) == "ZCAWhitening(3, eps=1e-05, momentum=0.1, affine=False, track_running_stats=False)"
    assert torch.equal(nn.ZCAWhitening(3, dtype=torch.float64)(mixed(4, 0)),
                       nn.ZCAWhitening(3, affine=False, dtype=torch.float64)(mixed(4, 0)))


def test_zca_whitening_passes_gradcheck_and_keeps_the_memory_format():
    layer = nn.ZCAWhitening(3, dtype=torch.float64)
    x = mixed(2, 0)[:, :, :2, :2].contiguous(memory_format=torch.channels_last).requires_grad_()
    assert layer(x).is_contiguous(memory_format=torch.channels_last)
    assert torch.autograd.gradcheck(layer, x, rtol=1e-6, atol=1e-7)
    assert torch.autograd.gradcheck(layer.eval(), x, rtol=1e-6, atol=1e-7)


@NO_GPU
def test_checkpoint_moves_to_the_gpu_and_back():
    layer = nn.BatchNorm2d(6).cuda()
    layer(torch.randn(4, 6, 3, 5, device="cuda"))
    back = torch.nn.BatchNorm2d(6)
    back.load_state_dict(layer.state_dict(), strict=True)
    torch.testing.assert_close(back.running_mean, layer.running_mean.cpu(), rtol=0, atol=0)
