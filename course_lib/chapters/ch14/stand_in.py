"""A stand-in for Triton where it is not installed: the kernels of chapter 14, one program after another, in torch.

It knows as much of `triton.language` as the chapter's kernels use, and checks nothing; Triton exists for Linux only.

    triton, tl = stand_in.modules()
"""

from types import SimpleNamespace

import torch

_now = {"program": 0, "programs": 1}


class Pointer:
    """An address, or many: the flat memory of a tensor and places in it."""

    def __init__(self, memory, places=0):
        self.memory, self.places = memory, places

    def __add__(self, steps):
        return Pointer(self.memory, self.places + steps)


class Kernel:
    """What `@triton.jit` makes of a function: kernel[(programs,)](...) runs it once for each program."""

    def __init__(self, function):
        self.function = function

    def __call__(self, *args, **constants):
        return self.function(*args, **constants)

    def __getitem__(self, grid):
        def launch(*args, num_warps=4, **constants):
            given = [Pointer(a.view(-1)) if isinstance(a, torch.Tensor) else a for a in args]
            _now["programs"] = grid[0]
            for _now["program"] in range(grid[0]):
                self.function(*given, **constants)
        return launch


def load(pointer, mask=None, other=0.0):
    """The entries at these addresses; `other` where the mask is off, and nothing is read there."""
    if mask is None:
        return pointer.memory[pointer.places]
    values = torch.full(mask.shape, other, dtype=pointer.memory.dtype)
    values[mask] = pointer.memory[pointer.places[mask]]
    return values


def store(pointer, value, mask=None):
    """Writes the values to these addresses, where the mask is on."""
    if mask is None:
        pointer.memory[pointer.places] = value
    else:
        pointer.memory[pointer.places[mask]] = value[mask].to(pointer.memory.dtype)


def modules():
    """What `import triton` and `import triton.language as tl` would bring."""
    language = SimpleNamespace(
        constexpr=int, float32=torch.float32, program_id=lambda axis: _now["program"],
        num_programs=lambda axis: _now["programs"], arange=torch.arange, load=load, store=store, sum=torch.sum,
        where=torch.where, sqrt=torch.sqrt, zeros=lambda shape, dtype: torch.zeros(shape, dtype=dtype))
    return SimpleNamespace(jit=Kernel, next_power_of_2=lambda n: 1 << (n - 1).bit_length()), language
