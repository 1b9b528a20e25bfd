"""What torch asks of a layer beyond numbers and a gradient: transforms, export and tracing, as torch.nn's own do."""

import copy

import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx

from course_lib import nn
from course_lib.nn import functional as F
from course_lib.nn import lines

CLOSE = {"rtol": 1e-9, "atol": 1e-10}
# torch's own dual numbers make use of what torch deprecates.
torchs_own = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")

# name, shape of x, positional arguments, settings
CASES = [
    ("BatchNorm1d", (5, 6), (6,), {"track_running_stats": False}), ("BatchNorm2d", (4, 6, 2, 3), (6,), {}),
    ("InstanceNorm1d", (4, 6, 3), (6,), {"affine": True, "track_running_stats": True}),
    ("InstanceNorm2d", (4, 6, 2, 3), (6,), {}), ("LayerNorm", (4, 2, 6), ([2, 6],), {}), ("RMSNorm", (4, 6), (6,), {}),
    ("GroupNorm", (4, 6, 3), (2, 6), {}), ("LocalResponseNorm", (4, 6, 3), (3, 0.3), {}),
]
cases = pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0]}-{'x'.join(map(str, case[1]))}")
modes = pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])


def pair(case, training, dtype=torch.float64):
    """Ours and torch's with the same random parameters, and x."""
    name, shape, args, setting = case
    generator = torch.Generator().manual_seed(0)
    mine, theirs = (getattr(package, name)(*args, **setting).to(dtype).train(training) for package in (nn, torch.nn))
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    mine.load_state_dict(theirs.state_dict())
    return mine, theirs, torch.randn(shape, generator=generator, dtype=dtype) + 0.5


def loss(layer):
    """A function of x and the parameters that depends on each entry of y in its own way."""
    names = [name for name, _ in layer.named_parameters()]

    def run(x, *parameters):
        y = torch.func.functional_call(layer, dict(zip(names, parameters)), (x,))
        return (y.square() * torch.linspace(-1, 1, y.numel(), dtype=y.dtype).reshape(y.shape)).sum()
    return run


def func_grad(layer, x):
    inputs = x, *(p.detach() for p in layer.parameters())
    return torch.func.grad(loss(layer), tuple(range(len(inputs))))(*inputs)


def func_jvp(layer, x):
    inputs = x, *(p.detach() for p in layer.parameters())
    return torch.func.jvp(loss(layer), inputs, tuple(a.cos() for a in inputs))


def func_hessian(layer, x):
    return torch.func.hessian(loss(layer))(x, *(p.detach() for p in layer.parameters()))


def func_vmap(layer, x):
    return torch.func.vmap(layer)(torch.stack([x, x.square()]))


def per_sample_gradients(layer, x):
    inputs = x, *(p.detach() for p in layer.parameters())
    each = torch.func.grad(lambda x, *parameters: loss(layer)(x[None], *parameters), tuple(range(len(inputs))))
    return torch.func.vmap(each, in_dims=(0, *[None] * (len(inputs) - 1)))(*inputs)


def batches_of_gradients(layer, x):
    x.requires_grad_()
    y = layer(x)
    return torch.autograd.grad(y, [x, *layer.parameters()], torch.stack([y.detach(), y.detach().cos()]),
                               is_grads_batched=True)


def forward_mode(layer, x):
    with torch.autograd.forward_ad.dual_level():
        return torch.autograd.forward_ad.unpack_dual(layer(torch.autograd.forward_ad.make_dual(x, x.cos())))


TRANSFORMS = [func_grad, func_jvp, func_hessian, func_vmap, per_sample_gradients, batches_of_gradients, forward_mode]


@torchs_own
@modes
@cases
@pytest.mark.parametrize("transform", TRANSFORMS, ids=lambda f: f.__name__)
def test_transform_gives_the_numbers_of_torch_wherever_torch_gives_any(case, transform, training):
    mine, theirs, x = pair(case, training)
    try:
        expected = transform(copy.deepcopy(theirs), x.clone())
    except (RuntimeError, ValueError) as error:  # running statistics that a transform may not change, a batch of one
        pytest.skip(f"torch.nn has no answer: {str(error)[:60]}")
    torch.testing.assert_close(list(transform(mine, x)), list(expected), **CLOSE)


@torchs_own
@pytest.mark.parametrize("name", ["frn", "frn_tlu", "zca"])
def test_layers_of_our_own_have_gradients_under_func(name):
    layer, shape = {"frn": (nn.FilterResponseNorm(6, learned_eps=True), (4, 6, 3)),
                    "frn_tlu": (nn.FilterResponseNormTLU(6), (4, 6, 3)),
                    "zca": (nn.ZCAWhitening(6, track_running_stats=False), (20, 6))}[name]
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64).requires_grad_()
    layer.double()
    expected = torch.autograd.grad(loss(layer)(x, *layer.parameters()), [x, *layer.parameters()])
    torch.testing.assert_close(func_grad(layer, x.detach()), expected, **CLOSE)
    if name == "zca":
        with pytest.raises(RuntimeError, match="Whiten"):
            func_vmap(layer, x.detach())
    else:
        torch.testing.assert_close(func_vmap(layer, x.detach())[1], layer(x.detach().square()), **CLOSE)


def test_plain_tlu_is_the_step_of_our_own():
    y = torch.tensor([[1.0, -1.0, torch.nan, 0.0, 2.0]]).requires_grad_()
    tau = torch.tensor([[0.5, -1.0, 0.0, torch.nan, 3.0]]).requires_grad_()
    both = [unit(y, tau) for unit in (lines.tlu, lines.TLU.apply)]
    torch.testing.assert_close(*both, rtol=0, atol=0, equal_nan=True)
    found = [torch.autograd.grad(z[:, [0, 1, 4]].sum(), (y, tau)) for z in both]
    torch.testing.assert_close(*found, rtol=0, atol=0)


@modes
@cases
def test_exported_program_runs_and_gives_the_numbers_of_the_layer(case, training):
    mine, _, x = pair(case, training, torch.float32)
    again = copy.deepcopy(mine)
    program = torch.export.export(torch.nn.Sequential(mine), (x,)).module()
    torch.testing.assert_close(program(x), again(x))
    torch.testing.assert_close(list(program.state_dict().values()), list(again.state_dict().values()))


@modes
@cases
def test_make_fx_traces_plain_steps(case, training):
    mine, _, x = pair(case, training, torch.float32)
    expected = copy.deepcopy(mine)(x)
    torch.testing.assert_close(make_fx(mine)(x)(x), expected)


@modes
@cases
def test_fx_traces_a_network_with_the_layer_as_one_step(case, training):
    mine, _, x = pair(case, training, torch.float32)
    again = copy.deepcopy(mine)
    traced = torch.fx.symbolic_trace(torch.nn.Sequential(mine, torch.nn.ReLU()))
    assert [node.op for node in traced.graph.nodes] == ["placeholder", "call_module", "call_module", "output"]
    torch.testing.assert_close(traced(x), torch.relu(again(x)), rtol=0, atol=0)


@pytest.mark.parametrize("layer", [nn.TLU(3), nn.FilterResponseNorm(3), nn.FilterResponseNormTLU(3),
                                   nn.ZCAWhitening(3), nn.SyncBatchNorm(3)], ids=lambda layer: type(layer).__name__)
def test_fx_knows_the_layers_of_our_own(layer):
    x = torch.randn(9, 3, generator=torch.Generator().manual_seed(0))
    again = copy.deepcopy(layer)
    torch.testing.assert_close(torch.fx.symbolic_trace(torch.nn.Sequential(layer))(x), again(x), rtol=0, atol=0)


def test_fx_says_that_a_layer_by_itself_is_no_network():
    with pytest.raises(TypeError, match="LayerNorm by itself cannot be traced; trace a network that holds it"):
        torch.fx.symbolic_trace(nn.LayerNorm(3))


def test_functions_under_vmap_are_those_of_each_sample():
    x = torch.randn(2, 4, 6, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for function in (lambda x: F.standardize(x, (0, 2)), lambda x: F.local_response_norm(x, size=4, alpha=0.3),
                     lambda x: F.batch_norm_inference(x, None, None, x[0, :, 0], x[0, :, 1].square())):
        torch.testing.assert_close(torch.func.vmap(function)(x), torch.stack([function(part) for part in x]), **CLOSE)
