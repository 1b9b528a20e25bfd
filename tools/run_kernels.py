"""Runs each GPU kernel once, forward and backward, on small arrays: what compute-sanitizer watches.

    compute-sanitizer --tool memcheck python tools/run_kernels.py
"""

import sys

import torch

from course_lib.nn import functional as F
from course_lib.nn.gpu import rows, view

ROWS, IMAGES = (13, 1000), (3, 10, 5, 7)
LAYERS = [
    (F.layer_norm, ROWS, 2, 1000), (F.rms_norm, ROWS, 1, 1000), (F.batch_norm, IMAGES, 2, 10),
    (F.instance_norm, IMAGES, 2, 10), (F.filter_response_norm_tlu, IMAGES, 3, 10),
    (lambda x, gamma, beta: F.group_norm(x, gamma, beta, groups=2), IMAGES, 2, 10),
    (lambda x, gamma, beta: F.batch_norm_inference(x, gamma, beta, gamma.detach(), gamma.detach()**2), IMAGES, 2, 10),
    (F.local_response_norm, IMAGES, 0, 0),
]


def run(layer, shape, params, length, dtype, memory_format):
    x = torch.randn(shape, device="cuda", dtype=dtype)
    x = x.contiguous(memory_format=memory_format) if x.ndim == 4 else x
    leaves = [t.requires_grad_() for t in (x, *torch.randn((params, length), device="cuda"))]
    y = layer(*leaves)
    found = torch.autograd.grad(y, leaves, torch.randn_like(y))
    assert all(t.isfinite().all() for t in (y, *found))


def main():
    if not torch.cuda.is_available():
        sys.exit("torch sees no GPU here")
    for limits in ([], [(rows, "CHUNK", 0)],
                   [(view, "TILE", 0), (view, "TILE_BACKWARD", 0), (view, "PART", 64)]):  # the last hides the others
        for module, name, limit in limits:
            setattr(module, name, limit)
        for case in LAYERS:
            for memory_format in (torch.contiguous_format, torch.channels_last):
                for dtype in (torch.float32, torch.bfloat16):
                    run(*case, dtype, memory_format)
    torch.cuda.synchronize()
    print("each kernel has run")


if __name__ == "__main__":
    main()
