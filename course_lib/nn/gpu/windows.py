"""Windows: local response norm, where each channel has neighbours of its own.

Its tiles are those of `columns.py`, with many channels in each; nothing is
merged, since every program sees the neighbours of its channels itself.
"""

import triton
import triton.language as tl

from .columns import tile_of
from .rows import wide

LARGEST_WINDOW = 9  # channels; the squares of larger ones do not fit into registers, and the torch lines run


@triton.jit
def inverse_power(t, BETA: tl.constexpr):
    """t**-BETA; the usual 0.75 from two roots."""
    if BETA == 0.75:
        root = tl.rsqrt(t)
        result = root * tl.sqrt(root)
    else:
        result = tl.exp2(-BETA * tl.log2(t))
    return result


@triton.jit
def neighbour(pointers, c, mask, away: tl.constexpr, C: tl.constexpr, step: tl.constexpr):
    """The channel that is so many away; 0 beyond the first and the last."""
    return wide(pointers + away * step, mask & (c + away >= 0) & (c + away < C))


@triton.jit
def window_forward(
    x_ptr, y_ptr,
    n, k, alpha,
    C: tl.constexpr, S: tl.constexpr, LAST: tl.constexpr, SIZE: tl.constexpr, BETA: tl.constexpr,
    BC: tl.constexpr, BN: tl.constexpr, BS: tl.constexpr,
):
    """t = k + alpha * (sum of x**2 over the SIZE channels around each), y = x / t**BETA.

    A program reads each channel of its tile SIZE times; all but the first come out of the cache.
    """
    c, _, at, mask, _, _ = tile_of(n, C, S, False, LAST, BC, BN, BS)
    step: tl.constexpr = 1 if LAST else S
    squares = tl.zeros((BC, BN * BS), tl.float32)
    for j in tl.static_range(SIZE):
        x = neighbour(x_ptr + at, c, mask, j - SIZE // 2, C, step)
        squares += x * x
    y = wide(x_ptr + at, mask) * inverse_power(k + alpha * squares, BETA)
    tl.store(y_ptr + at, y, mask=mask)


@triton.jit
def window_backward(
    x_ptr, dy_ptr, dx_ptr,
    n, k, alpha,
    C: tl.constexpr, S: tl.constexpr, LAST: tl.constexpr, SIZE: tl.constexpr, BETA: tl.constexpr,
    BC: tl.constexpr, BN: tl.constexpr, BS: tl.constexpr,
):
    """dx_j = dy_j / t_j**BETA - 2 alpha BETA x_j sum(dy_i x_i / t_i**(BETA + 1)) over the outputs i that saw x_j.

    The brackets t are computed again: the squares of 2 SIZE - 1 channels stay in
    registers, and SIZE of them at a time give the bracket of one output.
    """
    c, _, at, mask, _, _ = tile_of(n, C, S, False, LAST, BC, BN, BS)
    step: tl.constexpr = 1 if LAST else S
    x = ()
    for j in tl.static_range(2 * SIZE - 1):
        x = x + (neighbour(x_ptr + at, c, mask, j - SIZE + 1, C, step),)
    seen_by = tl.zeros((BC, BN * BS), tl.float32)
    direct = seen_by
    for j in tl.static_range(SIZE):  # output i is j - (SIZE - 1) // 2 channels away, and x[SIZE // 2 + j] is its x
        dy = neighbour(dy_ptr + at, c, mask, j - (SIZE - 1) // 2, C, step)
        squares = tl.zeros((BC, BN * BS), tl.float32)
        for i in tl.static_range(SIZE):
            squares += x[i + j] * x[i + j]
        output = c + (j - (SIZE - 1) // 2)
        t = tl.where((output >= 0) & (output < C), k + alpha * squares, 1.0)  # 1 where there is no output: k may be 0
        power = inverse_power(t, BETA)
        seen_by += dy * x[SIZE // 2 + j] * power / t
        if j == (SIZE - 1) // 2:
            direct = dy * power
    tl.store(dx_ptr + at, direct - 2 * alpha * BETA * x[SIZE - 1] * seen_by, mask=mask)


# ---------------------------------------------------------------- which launches what


def forward(view, y, size, k, alpha, beta):
    """Writes y."""
    window_forward[view.part_grid(window=True)](
        view.x, y, view.n, k, alpha, C=view.c, S=view.s, LAST=view.last, SIZE=size, BETA=beta,
        **view.part(window=True))


def backward(view, dy, dx, size, k, alpha, beta):
    """Writes dx."""
    window_backward[view.part_grid(window=True)](
        view.x, dy, dx, view.n, k, alpha, C=view.c, S=view.s, LAST=view.last, SIZE=size, BETA=beta,
        **view.part(window=True))
