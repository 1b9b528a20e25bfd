"""Which kernel runs when: the layers of `functional` as operators on GPU tensors, known to torch as `course_lib::*`.

    slice in memory                               kernels
    contiguous, up to TILE entries                tile_forward; tile_backward or features_backward
    longer, strided, or batch norm                moments, merge, apply; sums, merge_sums, apply_backward

An operator is one opaque step for autograd, autocast, `torch.compile` and CUDA
graphs.  Nothing in here synchronizes with the GPU.
"""

from functools import wraps
from math import prod

import torch
from torch import Tensor
from torch.autograd import forward_ad

from . import functional, kernels

DEVICES = {"cuda"}  # Triton's interpreter adds "cpu": tests do so
DTYPES = {torch.float16, torch.bfloat16, torch.float32}  # float64 runs in the torch lines: there the digits matter
TILE, TILE_BACKWARD = 32768, 16384  # entries of x in one program; the backward pass holds dy as well
CHUNK = 8192  # features from which on the backward pass cuts a row
PART = 4096  # entries of a program that sees a part of a slice
MERGE = 1024  # partial results that a program adds at once
LARGEST_WINDOW = 9  # channels; the squares of larger ones do not fit into registers, and the torch lines run


def takes(x):
    """Do the kernels take this tensor?  Left to the torch lines: nothing at all, and derivatives in forward mode."""
    forward_mode = forward_ad._current_level >= 0  # torch has no public way to ask
    return x.device.type in DEVICES and x.dtype in DTYPES and x.numel() > 0 and not forward_mode


# ---------------------------------------------------------------- the operators


def on_its_device(operator):
    """Launches on the GPU of the first tensor: Triton takes the current one, which need not be it."""
    @wraps(operator)
    def run(x, *rest):
        with torch.cuda.device_of(x):
            return operator(x, *rest)
    return run


@torch.library.custom_op("course_lib::norm", mutates_args=())
@on_its_device
def norm(x: Tensor, gamma: Tensor | None, beta: Tensor | None, tau: Tensor | None, learned_eps: Tensor | None,
         eps: float, shared: str, count: int, center: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """y, and of each slice the mean in two floats and the biased variance.

    Args:
        x: floating, not empty.
        gamma, beta, tau: one entry per channel, or the shape of the last axes; None for 1, 0 and no threshold.
        learned_eps: (groups,), in place of eps.
        shared: which entries share statistics: "batch" of a channel, "group" of a sample, or the "last" axes.
        count: the number of groups, or of last axes.
        center: False to leave the mean where it is.
    """
    view = View(x, shared, count)
    y = torch.empty_like(view.x)
    hi, lo, var = (x.new_empty(view.slices, dtype=torch.float32) for _ in range(3))
    if view.fits(TILE):
        kernels.tile_forward[view.tile_grid()](
            view.x, gamma, beta, tau, learned_eps, y, hi, lo, var, view.slices, eps, CENTER=center, **view.tile())
    else:
        parts, size, grid = view.parts(3), view.part(), view.part_grid()
        kernels.moments[grid](
            view.x, parts, view.n, parts[0].numel(), C=view.c, S=view.s, ACROSS=view.across, LAST=view.last,
            CENTER=center, **size)
        kernels.merge[(view.slices,)](
            parts, hi, lo, var, view.n, parts[0].numel(), K=view.k, S=view.s, ACROSS=view.across, CENTER=center,
            BN=size["BN"], BS=size["BS"], BE=min(MERGE, power_of_2(view.k * parts.shape[-1])), num_warps=4)
        kernels.apply[grid](
            view.x, gamma, beta, tau, learned_eps, hi, lo, var, y, view.n, eps, CENTER=center, **view.sizes(), **size)
    return view.back(y), hi, lo, var


@norm.register_fake
def _(x, gamma, beta, tau, learned_eps, eps, shared, count, center):
    view = View(x, shared, count)
    return torch.empty_like(x), *(x.new_empty(view.slices, dtype=torch.float32) for _ in range(3))


@torch.library.custom_op("course_lib::norm_backward", mutates_args=())
@on_its_device
def norm_backward(dy: Tensor, x: Tensor, gamma: Tensor | None, beta: Tensor | None, tau: Tensor | None,
                  learned_eps: Tensor | None, hi: Tensor, lo: Tensor, var: Tensor, eps: float, shared: str, count: int,
                  center: bool) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """dx, dgamma, dbeta, dtau and deps; a parameter that is not there has a gradient of no entries."""
    view = View(x, shared, count)
    dy = view.like(dy)
    dx = torch.empty_like(view.x)
    saved = (gamma, beta, tau, learned_eps, hi, lo, var)
    if view.features:
        dgamma, dbeta = _features_backward(view, dy, gamma, beta, hi, lo, var, dx, eps, center)
        dtau = deps = None
    else:
        dgamma, dbeta, dtau = (None if p is None else view.per_channel() for p in (gamma, beta, tau))
        deps = None if learned_eps is None else torch.empty(view.slices, dtype=torch.float32, device=x.device)
        gradients = (dgamma, dbeta, dtau, deps)
        if view.fits(TILE_BACKWARD):
            kernels.tile_backward[view.tile_grid()](
                view.x, dy, *saved, dx, *gradients, view.slices, eps, CENTER=center, **view.tile())
        else:
            _parts_backward(view, dy, saved, gradients, dx, eps, center)
    # Added up in float32, in an order that depends on nothing but the shapes and the GPU.
    rows = [(dgamma, gamma), (dbeta, beta), (dtau, tau), (deps, learned_eps)]
    return view.back(dx), *(
        x.new_empty(0) if p is None else d.view(-1, p.numel()).sum(0).view(p.shape).to(p.dtype) for d, p in rows)


@norm_backward.register_fake
def _(dy, x, gamma, beta, tau, learned_eps, hi, lo, var, eps, shared, count, center):
    parameters = (gamma, beta, tau, learned_eps)
    return torch.empty_like(x), *(x.new_empty(0) if p is None else torch.empty_like(p) for p in parameters)


def _features_backward(view, dy, gamma, beta, hi, lo, var, dx, eps, center):
    """dx into its place; partial sums of dgamma and dbeta, for rows whose gamma runs along them."""
    d = view.s
    if view.fits(TILE_BACKWARD):
        # Measured by the compiler: these keep a row of 16384, and both sums, in registers.
        chunks, warps = 1, warps_for(d, 16)
        if d > CHUNK:
            chunks, warps = min(8, power_of_2(d)), 16 if dy.dtype == torch.float32 else 8
        programs = min(view.slices, processors(dy.device) * max(1, 32 // warps))
        dgamma, dbeta = (None if p is None else dx.new_empty((programs, d), dtype=torch.float32) for p in (gamma, beta))
        kernels.features_backward[(programs,)](
            view.x, dy, gamma, hi, lo, var, dx, dgamma, dbeta, view.slices, eps,
            D=d, CENTER=center, CHUNKS=chunks, BD=power_of_2(d) // chunks, num_warps=warps)
        return dgamma, dbeta
    _parts_backward(view, dy, (gamma, None, None, None, hi, lo, var), (None,) * 4, dx, eps, center)
    part, rows, columns = 32, 4, 512
    parts = -(-view.slices // (part * rows))
    dgamma, dbeta = (None if p is None else dx.new_empty((parts, d), dtype=torch.float32) for p in (gamma, beta))
    kernels.feature_gradients[(parts * -(-d // columns),)](
        view.x, dy, hi, lo, var, dgamma, dbeta, view.slices, eps, D=d, CENTER=center, PART=part, BR=rows, BD=columns,
        num_warps=8)
    return dgamma, dbeta


def _parts_backward(view, dy, saved, gradients, dx, eps, center):
    gamma, beta, tau, learned_eps, hi, lo, var = saved
    parts, size, grid = view.parts(2 if tau is None else 3), view.part(), view.part_grid()
    along = dx.new_empty((2, view.slices), dtype=torch.float32)
    kernels.sums[grid](
        view.x, dy, *saved, parts, None, view.n, parts[0].numel(), eps, CENTER=center, **view.sizes(), **size)
    block = min(64, MERGE, power_of_2(view.k))
    kernels.merge_sums[(view.slices,)](
        parts, None if view.features else gamma, var, learned_eps, *gradients, along, view.n, parts[0].numel(),
        view.slices, eps, C=view.c, K=view.k, S=view.s, ACROSS=view.across, BN=size["BN"], BS=size["BS"],
        BK=block, BP=min(max(1, MERGE // block), power_of_2(parts.shape[-1])), num_warps=4)
    kernels.apply_backward[grid](
        view.x, dy, *saved, along, dx, view.n, view.slices, eps, CENTER=center, **view.sizes(), **size)


@torch.library.custom_op("course_lib::scale_and_shift", mutates_args=())
@on_its_device
def scale_and_shift(x: Tensor, gamma: Tensor | None, beta: Tensor | None, mean: Tensor, var: Tensor,
                    eps: float) -> Tensor:
    """Batch norm with given statistics of each channel."""
    view = View(x, "batch", 0)
    y = torch.empty_like(view.x)
    kernels.apply[view.part_grid()](
        view.x, gamma, beta, None, None, mean, None, var, y, view.n, eps, CENTER=True, **view.sizes(), **view.part())
    return view.back(y)


@scale_and_shift.register_fake
def _(x, gamma, beta, mean, var, eps):
    return torch.empty_like(x)


@torch.library.custom_op("course_lib::scale_and_shift_backward", mutates_args=())
@on_its_device
def scale_and_shift_backward(dy: Tensor, x: Tensor, gamma: Tensor | None, mean: Tensor, var: Tensor,
                             eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """dx, and dgamma and dbeta in float32, of batch norm with given statistics."""
    view = View(x, "batch", 0)
    dx, parts = torch.empty_like(view.x), view.parts(2)
    kernels.sums[view.part_grid()](
        view.x, view.like(dy), gamma, None, None, None, mean, None, var, parts, dx, view.n, parts[0].numel(), eps,
        CENTER=True, **view.sizes(), **view.part())
    dbeta, dgamma = parts.sum(-1)[:, 0]
    return view.back(dx), dgamma.clone(), dbeta.clone()  # two results may not share memory


@scale_and_shift_backward.register_fake
def _(dy, x, gamma, mean, var, eps):
    return torch.empty_like(x), *(x.new_empty(x.shape[1], dtype=torch.float32) for _ in range(2))


@torch.library.custom_op("course_lib::window", mutates_args=())
@on_its_device
def window(x: Tensor, size: int, k: float, alpha: float, beta: float) -> Tensor:
    """Local response norm."""
    view = View(x, "group", 1)
    y = torch.empty_like(view.x)
    kernels.window_forward[view.part_grid(window=True)](
        view.x, y, view.n, k, alpha, C=view.c, S=view.s, LAST=view.last, SIZE=size, BETA=beta,
        **view.part(window=True))
    return view.back(y)


@window.register_fake
def _(x, size, k, alpha, beta):
    return torch.empty_like(x)


@torch.library.custom_op("course_lib::window_backward", mutates_args=())
@on_its_device
def window_backward(dy: Tensor, x: Tensor, size: int, k: float, alpha: float, beta: float) -> Tensor:
    """dx of local response norm."""
    view = View(x, "group", 1)
    dx = torch.empty_like(view.x)
    kernels.window_backward[view.part_grid(window=True)](
        view.x, view.like(dy), dx, view.n, k, alpha, C=view.c, S=view.s, LAST=view.last, SIZE=size, BETA=beta,
        **view.part(window=True))
    return view.back(dx)


@window_backward.register_fake
def _(dy, x, size, k, alpha, beta):
    return torch.empty_like(x)


# ---------------------------------------------------------------- what autograd keeps and asks for


def _keep(ctx, inputs, output):
    x, gamma, beta, tau, learned_eps, *ctx.setting = inputs
    ctx.save_for_backward(x, gamma, beta, tau, learned_eps, *output[1:])
    ctx.mark_non_differentiable(*output[1:])
    ctx.set_materialize_grads(False)


def _gradients(ctx, dy, *_):
    if dy is None:
        return (None,) * 9
    x, *parameters, hi, lo, var = ctx.saved_tensors
    if torch.is_grad_enabled():  # somebody wants to differentiate the gradient: the torch lines can
        found = functional.differentiable_gradients(dy, x, *parameters, *ctx.setting)
    else:
        found = norm_backward(dy, x, *parameters, hi, lo, var, *ctx.setting)
    given = [None if p is None else d for d, p in zip(found, (x, *parameters), strict=True)]
    return *given, None, None, None, None


norm.register_autograd(_gradients, setup_context=_keep)


def _keep_scale(ctx, inputs, output):
    x, gamma, beta, mean, var, ctx.eps = inputs
    ctx.save_for_backward(x, gamma, beta, mean, var)


def _scale_gradients(ctx, dy):
    x, gamma, beta, mean, var = ctx.saved_tensors
    if torch.is_grad_enabled():
        found = functional.differentiable_inference_gradients(dy, x, gamma, beta, mean, var, ctx.eps)
        return *found, None, None, None
    dx, dgamma, dbeta = scale_and_shift_backward(dy, x, gamma, mean, var, ctx.eps)
    return (dx, None if gamma is None else dgamma.to(gamma.dtype), None if beta is None else dbeta.to(beta.dtype),
            None, None, None)


scale_and_shift.register_autograd(_scale_gradients, setup_context=_keep_scale)


def _keep_window(ctx, inputs, output):
    x, *ctx.setting = inputs
    ctx.save_for_backward(x)


def _window_gradients(ctx, dy):
    return window_backward(dy, *ctx.saved_tensors, *ctx.setting), None, None, None, None


window.register_autograd(_window_gradients, setup_context=_keep_window)


# ---------------------------------------------------------------- shapes


class View:
    """x as the kernels see it: (n, c, s), contiguous or with the channels last, and the slices in it.

    A slice has k channels of s entries; a sample has `groups` of them.  With
    `across`, batch norm, a slice reaches over all samples.  Rows of `features`
    are samples of one channel; only `tile` sees them as channels of one entry.
    """

    def __init__(self, x, shared, count):
        self.given, self.across, self.features = x, shared == "batch", shared == "last"
        if self.features:
            self.x, self.last = x.contiguous(), False
            self.s = prod(x.shape[x.ndim - count:])
            self.n, self.c, self.groups, self.k = x.numel() // self.s, 1, 1, 1
        else:
            self.n, self.c, self.s = x.shape[0], x.shape[1], prod(x.shape[2:])
            self.groups = count if shared == "group" else self.c
            self.k = self.c // self.groups
            self.x = x if channels_last(x) else x.contiguous()
            self.last = channels_last(self.x)
        self.slices = self.groups * (1 if self.across else self.n)
        if self.n * self.c >= 2**30 or (self.c >= 2**19 and self.s > 1):
            raise ValueError(f"x of shape {tuple(x.shape)} has {self.n} x {self.c} maps, more than the kernels can "
                             "count; with use_kernels(False) the torch lines take it")

    def back(self, y):
        """The result with the strides of x as it came."""
        return y if self.x is self.given else torch.empty_like(self.given).copy_(y)

    def like(self, a):
        """The tensor with the memory layout that the kernels see."""
        return torch.empty_like(self.x, dtype=a.dtype).copy_(a) if a.stride() != self.x.stride() else a

    def fits(self, limit):
        """Does a slice lie in one piece, no longer than the limit?"""
        return not self.across and (not self.last or self.s == 1) and self._padded() <= limit

    def _padded(self):
        return power_of_2(self.k) * power_of_2(self.s)

    def tile(self):
        """Sizes of a tile of whole slices: short ones go together, to about 2048 entries."""
        rows = min(max(1, 2048 // self._padded()), power_of_2(self.slices))
        k, s = (self.s, 1) if self.features else (self.k, self.s)
        return {"G": self.groups, "K": k, "S": s, "ROWS": rows, "BK": power_of_2(k), "BS": power_of_2(s),
                "num_warps": warps_for(rows * self._padded(), 16)}

    def tile_grid(self):
        return (-(-self.slices // self.tile()["ROWS"]),)

    def part(self, window=False):
        """Sizes of a tile that sees parts of slices: about PART entries.

        A window looks at neighbour channels, so that its tile has many of them,
        and at so many that fewer entries fit into registers.
        """
        part = PART // 4 if window else PART
        bc = min(power_of_2(self.c), 64 if self.last else 8 if window else 1)
        bs = min(part // bc, power_of_2(self.s))
        bn = min(part // bc // bs, power_of_2(self.n)) if self.across else 1
        return {"BC": bc, "BN": bn, "BS": bs, "num_warps": warps_for(bc * bn * bs, 8 if window else 16)}

    def part_grid(self, window=False):
        size = self.part(window)
        return (-(-self.c // size["BC"]) * -(-self.s // size["BS"]) * -(-self.n // size["BN"]),)

    def parts(self, sums):
        """Room for some sums of each part of each channel."""
        size = self.part()
        stretches, blocks = -(-self.s // size["BS"]), -(-self.n // size["BN"])
        shape = (sums, 1, self.c, blocks * stretches) if self.across else (sums, self.n, self.c, stretches)
        return self.x.new_empty(shape, dtype=torch.float32)

    def per_channel(self):
        """Room for a sum of each channel of each sample, or of each channel."""
        return self.x.new_empty((1 if self.across else self.n, self.c), dtype=torch.float32)

    def sizes(self):
        return {"C": self.c, "K": self.k, "S": self.s, "ACROSS": self.across, "LAST": self.last,
                "FEATURES": self.features}


def channels_last(x):
    """Do the channels lie together?  So they do where there is one position, and where samples are mere rows."""
    if x.ndim == 2 or prod(x.shape[2:]) == 1:
        return x.is_contiguous()
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    return (x.ndim in formats and x.is_contiguous(memory_format=formats[x.ndim]) and not x.is_contiguous()) or (
        x.ndim == 3 and not x.is_contiguous() and x.mT.is_contiguous())


def power_of_2(n):
    """The smallest power of 2 that is not below n."""
    return 1 << max(0, n - 1).bit_length()


def warps_for(entries, each):
    """Warps of 32 threads, for `each` entries a thread."""
    return min(32, max(1, power_of_2(entries) // (32 * each)))


def processors(device):
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 4
