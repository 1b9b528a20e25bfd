"""Compiles the GPU kernels on a machine without a GPU, and says what the compiler made of them.

    python tools/compile_kernels.py [80 90]

Each layer runs once with stand-ins for the kernels, which note what is launched;
then Triton compiles those launches for the given architectures.  The
table holds registers per thread, bytes of stack (spilled registers), and the
widest and narrowest access to x and y.  `tests/nn/test_kernels_compiled.py` sets
limits to it.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from course_lib.nn import functional as F
from course_lib.nn.gpu import columns, operators, rows, windows

NAMES = {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}
TOOLS = Path(triton.__file__).parent / "backends/nvidia/bin"


class Recorder:
    """Stands in for a kernel, and notes its launches."""

    def __init__(self, kernel, launches):
        self.kernel, self.launches = kernel, launches

    def __getitem__(self, grid):
        def launch(*args, num_warps=4, **constants):
            given = dict(zip(self.kernel.arg_names, args, strict=False)) | constants
            self.launches.append((self.kernel, given, num_warps))
        return launch


def launches_of(layer, *tensors):
    """What a forward and a backward pass launch.  The kernels do not run, so large tensors cost nothing."""
    launches, devices = [], operators.DEVICES
    real = [(module, name, value) for module in (rows, columns, windows) for name, value in vars(module).items()
            if isinstance(value, triton.JITFunction)]
    try:
        operators.DEVICES = {"cpu"}
        for module, name, kernel in real:
            setattr(module, name, Recorder(kernel, launches))
        leaves = [t.requires_grad_() for t in tensors]
        y = layer(*leaves)
        torch.autograd.grad(y, leaves, torch.empty_like(y))
    finally:
        operators.DEVICES = devices
        for module, name, kernel in real:
            setattr(module, name, kernel)
    return launches


def compiled(kernel, given, num_warps, arch):
    """Registers, stack and memory instructions of a launch, as the compiler for `arch` makes it."""
    signature, constants, attributes = {}, {}, {}
    for position, name in enumerate(kernel.arg_names):
        value = given[name]
        if torch.is_tensor(value):
            signature[name] = "*" + NAMES[value.dtype]
        elif isinstance(value, float) and not kernel.params[position].is_constexpr:
            signature[name] = "fp32"
        elif isinstance(value, int) and value != 1 and not kernel.params[position].is_constexpr:
            signature[name] = "i32" if value < 2**31 else "i64"
        else:
            signature[name], constants[(position,)] = "constexpr", value
        if torch.is_tensor(value) or signature[name].startswith("i") and value % 16 == 0:
            attributes[(position,)] = [["tt.divisibility", 16]]
    source = ASTSource(kernel, signature, constants, attributes)
    binary = triton.compile(source, target=GPUTarget("cuda", arch, 32), options={"num_warps": num_warps})
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernel.cubin"
        path.write_bytes(binary.asm["cubin"])
        report = subprocess.run([TOOLS / "cuobjdump", "-res-usage", "-sass", path], capture_output=True, text=True,
                                check=True).stdout
    registers, stack = map(int, re.search(r"REG:(\d+) STACK:(\d+)", report).groups())
    accesses = re.findall(r"\b((?:LDG|STG)\.E(?:\.\w+)*)", report)
    return {"kernel": kernel.fn.__name__, "arch": arch, "warps": num_warps, "registers": registers, "stack": stack,
            "accesses": {a: accesses.count(a) for a in sorted(set(accesses))}}


def long_rows(layer, d, dtype):
    """Layer norm or RMS norm of rows of d features, with float32 parameters."""
    params = [torch.empty(d) for _ in range(2 if layer == "layer_norm" else 1)]
    return launches_of(getattr(F, layer), torch.empty((4096, d), dtype=dtype), *params)


def images(layer, shape, dtype, memory_format=torch.contiguous_format):
    """A layer of images, with float32 parameters."""
    x = torch.empty(shape, dtype=dtype).to(memory_format=memory_format)
    run, params = {
        "batch_norm": (F.batch_norm, 2),
        "batch_norm_inference": (lambda x, g, b: F.batch_norm_inference(x, g, b, *torch.ones(2, len(g))), 2),
        "instance_norm": (F.instance_norm, 2),
        "group_norm": (lambda x, g, b: F.group_norm(x, g, b, groups=32), 2),
        "filter_response_norm_tlu": (F.filter_response_norm_tlu, 3),
        "local_response_norm": (F.local_response_norm, 0),
    }[layer]
    return launches_of(run, x, *(torch.empty(shape[1]) for _ in range(params)))


def cases():
    """Name and launches: rows of many lengths, and each layer of images in the shapes that take different kernels."""
    for dtype in (torch.float32, torch.bfloat16):
        for d in (1024, 2048, 4096, 8192, 16384):
            yield f"layer_norm {d} {NAMES[dtype]}", long_rows("layer_norm", d, dtype)
        yield f"rms_norm 16384 {NAMES[dtype]}", long_rows("rms_norm", 16384, dtype)
    yield "layer_norm 40000 bf16", long_rows("layer_norm", 40000, torch.bfloat16)
    large, small, last = (2, 256, 112, 112), (4, 512, 14, 14), torch.channels_last
    for layer in ("batch_norm", "batch_norm_inference", "group_norm", "local_response_norm"):
        yield f"{layer} large fp32", images(layer, large, torch.float32)
        yield f"{layer} large bf16", images(layer, large, torch.bfloat16)
        yield f"{layer} channels_last bf16", images(layer, large, torch.bfloat16, last)
    for layer in ("instance_norm", "group_norm", "filter_response_norm_tlu"):
        yield f"{layer} small fp32", images(layer, small, torch.float32)
    yield "instance_norm large bf16", images("instance_norm", large, torch.bfloat16)
    yield "filter_response_norm_tlu channels_last fp16", images("filter_response_norm_tlu", small, torch.float16, last)


def main(architectures):
    for name, launches in cases():
        for launch in launches:
            for arch in architectures:
                print(json.dumps({"case": name} | compiled(*launch, arch)), flush=True)


if __name__ == "__main__":
    if os.environ.get("TRITON_INTERPRET") == "1":
        sys.exit("TRITON_INTERPRET=1 runs kernels in Python; unset it to compile them")
    main([int(a) for a in sys.argv[1:]] or [80, 90])
