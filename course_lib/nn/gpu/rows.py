"""Rows: the entries that share statistics lie together, and one program holds a whole slice.

Layer, RMS, instance, group and filter response norm.  x is read once, kept in
registers, and y is written once.  Read the kernels in this order:

    tile_forward, tile_backward    every one of these layers; gamma has one entry per channel
    features_backward              the backward of layer and RMS norm, whose gamma runs along the row

Slices that are too long for one program, or whose entries lie apart, are in
`columns.py`, which takes the small steps at the top of this file over.

A slice holds the entries that share statistics.  Every kernel centres twice: the
mean is the sum of two floats, `hi + lo`, since one float near 10,000 is off by
up to 0.0005.  Sums run in float32 whatever the type of x.  No program adds to
what another program has written, so the same input gives the same bits.

Sizes of a layer are compiled in (`tl.constexpr`): the compiler then divides by
them with a multiplication, and knows which addresses allow 16 bytes at a time.
"""

import torch
import triton
import triton.language as tl

from .view import power_of_2, warps_for

CHUNK = 8192  # features from which on the backward pass cuts a row


@triton.jit
def wide(pointers, mask):
    """Loads in float32; 0 where the mask is off."""
    return tl.load(pointers, mask=mask, other=0.0).to(tl.float32)


@triton.jit
def total(a):
    """Sum over all but the first axis of a tile (ROWS, BK, BS); these two stay with length 1."""
    return tl.sum(tl.sum(a, 2, keep_dims=True), 1, keep_dims=True)


@triton.jit
def inverse_std(var, eps):
    """1 / sqrt(var + eps), both steps rounded correctly: there is one per slice, so it costs nothing."""
    return tl.div_rn(1.0, tl.sqrt_rn(var + eps))


@triton.jit
def eps_of(eps_ptr, eps, group, mask):
    """eps of each group where it is learned, else the one number."""
    return eps if eps_ptr is None else tl.load(eps_ptr + group, mask=mask, other=1.0).to(tl.float32)


@triton.jit
def above(x_hat, gamma_ptr, beta_ptr, tau_ptr, channel, mask):
    """Which entries of y = gamma * x_hat + beta are above the thresholds of their channels?"""
    y = x_hat
    if gamma_ptr is not None:
        y *= wide(gamma_ptr + channel, mask)
    if beta_ptr is not None:
        y += wide(beta_ptr + channel, mask)
    return y > wide(tau_ptr + channel, mask)


@triton.jit
def tile_forward(
    x_ptr, gamma_ptr, beta_ptr, tau_ptr, eps_ptr,  # eps per group, or None and `eps`; gamma, beta, tau or None
    y_ptr, hi_ptr, lo_ptr, var_ptr,  # y like x; the others one per slice
    slices, eps,
    G: tl.constexpr, K: tl.constexpr, S: tl.constexpr, CENTER: tl.constexpr,
    ROWS: tl.constexpr, BK: tl.constexpr, BS: tl.constexpr,
):
    """Normalizes slices that lie one after the other, ROWS of them at a time; each is K channels of S entries.

    Slice r has the channels (r % G) * K + k of its sample: K = C / G in group
    norm, K = 1 in instance and filter response norm; G = S = 1 and K = D in
    layer and RMS norm of D features.
    """
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)[:, None, None]
    k, s = tl.arange(0, BK)[None, :, None], tl.arange(0, BS)[None, None, :]
    here = row < slices
    mask = here & (k < K) & (s < S)
    at = row.to(tl.int64) * (K * S) + k * S + s
    channel = row % G * K + k
    if S == 1:  # an index for each entry, as x has, so that gamma arrives where x is
        channel += s
    known = here & (k < K)

    x = wide(x_ptr + at, mask)
    hi = tl.zeros((ROWS, 1, 1), tl.float32)
    lo = hi
    if CENTER:
        hi = total(x) / (K * S)
        x = tl.where(mask, x - hi, 0.0)
        lo = total(x) / (K * S)  # what the rounding of hi has left
        x = tl.where(mask, x - lo, 0.0)
    var = total(x * x) / (K * S)
    y = x * inverse_std(var, eps_of(eps_ptr, eps, row % G, here))
    if gamma_ptr is not None:
        y *= wide(gamma_ptr + channel, known)
    if beta_ptr is not None:
        y += wide(beta_ptr + channel, known)
    if tau_ptr is not None:
        y = tl.maximum(y, wide(tau_ptr + channel, known), propagate_nan=tl.PropagateNan.ALL)
    tl.store(y_ptr + at, y, mask=mask)
    tl.store(hi_ptr + row, hi, mask=here)
    tl.store(lo_ptr + row, lo, mask=here)
    tl.store(var_ptr + row, var, mask=here)


@triton.jit
def tile_backward(
    x_ptr, dy_ptr, gamma_ptr, beta_ptr, tau_ptr, eps_ptr, hi_ptr, lo_ptr, var_ptr,
    dx_ptr, dgamma_ptr, dbeta_ptr, dtau_ptr, deps_ptr,  # dx like x, deps one per slice; the others (slices, K); or None
    slices, eps,
    G: tl.constexpr, K: tl.constexpr, S: tl.constexpr, CENTER: tl.constexpr,
    ROWS: tl.constexpr, BK: tl.constexpr, BS: tl.constexpr,
):
    """Backward of `tile_forward` where gamma has one entry per channel: each slice sums for its own channels.

        dx = inv_std * (dx_hat - mean(dx_hat) - x_hat * mean(dx_hat * x_hat)),   dx_hat = gamma * dy
    """
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)[:, None, None]
    k, s = tl.arange(0, BK)[None, :, None], tl.arange(0, BS)[None, None, :]
    here = row < slices
    mask = here & (k < K) & (s < S)
    at = row.to(tl.int64) * (K * S) + k * S + s
    channel, known = row % G * K + k, here & (k < K)

    inv_std = inverse_std(wide(var_ptr + row, here), eps_of(eps_ptr, eps, row % G, here))
    x_hat, dy = wide(x_ptr + at, mask), wide(dy_ptr + at, mask)
    if CENTER:
        x_hat = tl.where(mask, x_hat - wide(hi_ptr + row, here) - wide(lo_ptr + row, here), 0.0)
    x_hat *= inv_std
    gamma = 1.0
    if gamma_ptr is not None:
        gamma = wide(gamma_ptr + channel, known)
    if tau_ptr is not None:  # entries up to the threshold belong to tau
        passed = above(x_hat, gamma_ptr, beta_ptr, tau_ptr, channel, known)
        tl.store(dtau_ptr + row * K + k, tl.sum(tl.where(passed, 0.0, dy), 2, keep_dims=True), mask=known)
        dy = tl.where(passed, dy, 0.0)
    if dgamma_ptr is not None:
        tl.store(dgamma_ptr + row * K + k, tl.sum(dy * x_hat, 2, keep_dims=True), mask=known)
    if dbeta_ptr is not None:
        tl.store(dbeta_ptr + row * K + k, tl.sum(dy, 2, keep_dims=True), mask=known)
    dx_hat = dy * gamma
    along_x = total(dx_hat * x_hat)
    if deps_ptr is not None:
        tl.store(deps_ptr + row, -0.5 * along_x * inv_std * inv_std, mask=here)
    dx = dx_hat - x_hat * (along_x / (K * S))
    if CENTER:
        dx -= total(dx_hat) / (K * S)
    tl.store(dx_ptr + at, dx * inv_std, mask=mask)


@triton.jit
def features_backward(
    x_ptr, dy_ptr, gamma_ptr, hi_ptr, lo_ptr, var_ptr,  # gamma (D,) or None
    dx_ptr, dgamma_ptr, dbeta_ptr,  # dx like x; the others (programs, D), or None
    rows, eps,
    D: tl.constexpr, CENTER: tl.constexpr, CHUNKS: tl.constexpr, BD: tl.constexpr,
):
    """Backward of `tile_forward` where gamma has the shape (D,) of a row; dx as in `tile_backward`.

    A program takes every so-many-th row and sums dgamma and dbeta over all of
    them in registers; it leaves one row of partial sums.  Where x, dy and both
    sums do not fit into registers, the row is cut into CHUNKS, and the second
    look at x and dy comes out of the cache.
    """
    program, d = tl.program_id(0), tl.arange(0, BD)
    zeros = tl.zeros((BD,), tl.float32)
    dgamma, dbeta = (zeros,) * CHUNKS, (zeros,) * CHUNKS
    for row in tl.range(program, rows, tl.num_programs(0)):
        at = tl.cast(row, tl.int64) * D
        inv_std = inverse_std(tl.load(var_ptr + row), eps)
        hi, lo = tl.load(hi_ptr + row), tl.load(lo_ptr + row)
        sum_1, sum_x = zeros, zeros
        for i in tl.static_range(CHUNKS):
            x_hat, dy, dx_hat = chunk(x_ptr + at, dy_ptr + at, gamma_ptr, hi, lo, inv_std, i, D, CENTER, BD,
                                      "evict_last")
            sum_1 += dx_hat
            sum_x += dx_hat * x_hat
        along_1, along_x = tl.sum(sum_1, 0) / D, tl.sum(sum_x, 0) / D
        for i in tl.static_range(CHUNKS):
            if CHUNKS > 1:
                x_hat, dy, dx_hat = chunk(x_ptr + at, dy_ptr + at, gamma_ptr, hi, lo, inv_std, i, D, CENTER, BD,
                                          "evict_first")
            dgamma = dgamma[:i] + (dgamma[i] + dy * x_hat,) + dgamma[i + 1:]
            dbeta = dbeta[:i] + (dbeta[i] + dy,) + dbeta[i + 1:]
            dx = dx_hat - x_hat * along_x
            if CENTER:
                dx -= along_1
            tl.store(dx_ptr + at + d + i * BD, dx * inv_std, mask=d + i * BD < D)
    for i in tl.static_range(CHUNKS):
        if dgamma_ptr is not None:
            tl.store(dgamma_ptr + program * D + d + i * BD, dgamma[i], mask=d + i * BD < D)
        if dbeta_ptr is not None:
            tl.store(dbeta_ptr + program * D + d + i * BD, dbeta[i], mask=d + i * BD < D)


@triton.jit
def chunk(x_ptr, dy_ptr, gamma_ptr, hi, lo, inv_std, i: tl.constexpr,
          D: tl.constexpr, CENTER: tl.constexpr, BD: tl.constexpr, KEEP: tl.constexpr):
    """x_hat, dy and dx_hat of the columns i * BD to (i + 1) * BD of a row; 0 beyond its end."""
    d = tl.arange(0, BD)
    mask = d + i * BD < D
    # First d, then the constant: one address serves all chunks, or registers run out.
    x_hat = tl.load(x_ptr + d + i * BD, mask=mask, other=0.0, eviction_policy=KEEP).to(tl.float32)
    dy = tl.load(dy_ptr + d + i * BD, mask=mask, other=0.0, eviction_policy=KEEP).to(tl.float32)
    dx_hat = dy
    if gamma_ptr is not None:
        dx_hat = dy * wide(gamma_ptr + d + i * BD, mask)
    if CENTER:
        x_hat = tl.where(mask, x_hat - hi - lo, 0.0)
    return x_hat * inv_std, dy, dx_hat


# ---------------------------------------------------------------- which launches what


def forward(view, gamma, beta, tau, learned_eps, y, hi, lo, var, eps, center):
    """Writes y, and hi, lo and var of each slice."""
    tile_forward[view.tile_grid()](
        view.x, gamma, beta, tau, learned_eps, y, hi, lo, var, view.slices, eps, CENTER=center, **view.tile())


def backward(view, dy, saved, dx, gradients, eps, center):
    """Writes dx and the sums of each slice for the parameters; `saved`: gamma, beta, tau, learned eps, hi, lo, var."""
    tile_backward[view.tile_grid()](
        view.x, dy, *saved, dx, *gradients, view.slices, eps, CENTER=center, **view.tile())


def backward_of_features(view, dy, gamma, beta, hi, lo, var, dx, eps, center):
    """Writes dx; returns partial sums of dgamma and dbeta, a row a program."""
    # Measured by the compiler: these keep a row of 16384, and both sums, in registers.
    d = view.s
    chunks, warps = 1, warps_for(d, 16)
    if d > CHUNK:
        chunks, warps = min(8, power_of_2(d)), 16 if dy.dtype == torch.float32 else 8
    programs = min(view.slices, processors(dy.device) * max(1, 32 // warps))
    dgamma, dbeta = (None if p is None else dx.new_empty((programs, d), dtype=torch.float32) for p in (gamma, beta))
    features_backward[(programs,)](
        view.x, dy, gamma, hi, lo, var, dx, dgamma, dbeta, view.slices, eps,
        D=d, CENTER=center, CHUNKS=chunks, BD=power_of_2(d) // chunks, num_warps=warps)
    return dgamma, dbeta


def processors(device):
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 4
