"""What the tests of `course_lib.nn` share: devices, the functional twins of the layers, and how to run them."""

import layers
import numpy as np
import pytest
import torch

from course_lib.nn import cpu
from course_lib.nn import functional as F

torch.set_num_threads(1)

NO_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no GPU for torch")
on_each_device = pytest.mark.parametrize("device", ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"])

TWINS = {
    "batch_norm": F.batch_norm,
    "layer_norm": F.layer_norm,
    "instance_norm": F.instance_norm,
    "group_norm": lambda x, gamma, beta, *, eps: F.group_norm(x, gamma, beta, groups=layers.GROUPS, eps=eps),
    "rms_norm": F.rms_norm,
    "frn": F.filter_response_norm,
    layers.LEARNED: lambda x, gamma, beta, learned, *, eps: F.filter_response_norm(x, gamma, beta, eps=learned),
}


@pytest.fixture(params=["whole", "in parts"])
def parts(request, monkeypatch):
    """Runs a test twice: small inputs fit into one part, so that the cutting needs a smaller limit to be seen."""
    if request.param == "in parts":
        monkeypatch.setattr(cpu, "BLOCK", 16)


whole_and_in_parts = pytest.mark.usefixtures("parts")  # the test's module must know the fixture: import it too


def leaves(arrays, device="cpu"):
    return [torch.tensor(a, device=device, requires_grad=True) for a in arrays]


def gradients(function, tensors, dy):
    """The result and the gradients of all inputs, as NumPy arrays."""
    y = function(*tensors)
    found = torch.autograd.grad(y, tensors, torch.as_tensor(dy, dtype=y.dtype, device=y.device))
    return [a.detach().cpu().numpy() for a in (y, *found)]


def twin_gradients(layer, arrays, eps, device="cpu"):
    """y, dx and the gradients of the parameters by the torch half, from the NumPy arrays of `layer.arrays`."""
    x, params, dy = arrays
    return gradients(lambda *tensors: TWINS[layer.name](*tensors, eps=eps), leaves([x, *params], device), dy)


def assert_autocast_changes_nothing(layer, device):
    """y and the gradients of a layer keep their bits and types under autocast, in float32 and in bfloat16."""
    x, params, dy = layer.arrays(np.float32)
    for dtype in (torch.float32, torch.bfloat16):
        results = []
        for enabled in (False, True):
            tensors = leaves([x, *params], device)
            with torch.autocast(device, torch.bfloat16, enabled=enabled):
                y = TWINS[layer.name](tensors[0].to(dtype), *tensors[1:], eps=0.1)
                assert y.dtype == dtype
                y.backward(torch.tensor(dy, device=device).to(dtype))  # inside, which is worse than usual
            results.append([y.detach(), *(t.grad for t in tensors)])
        torch.testing.assert_close(*results, rtol=0, atol=0)
