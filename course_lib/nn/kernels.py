"""The normalization layers as GPU programs (Triton): x is read once, kept in registers, and y is written once.

Normalization does little arithmetic: its time is the time to move x.  A chain of
torch operations moves x at every step; these kernels move it as rarely as the
layer allows.  `fused.py` says which of them runs when.  Read them in this order:

    tile_forward, tile_backward    a slice fits into one program: layer, RMS, instance, group, filter response norm
    features_backward              the backward of layer and RMS norm, whose gamma runs along the row
    moments, merge, apply          batch norm, channels last, and slices too long for one program, in three steps
    sums, merge_sums, apply_backward, feature_gradients    and their backward
    window_forward, window_backward    local response norm

A slice holds the entries that share statistics.  Every kernel centres twice: the
mean is the sum of two floats, `hi + lo`, since one float near 10,000 is off by
up to 0.0005.  Sums run in float32 whatever the type of x.  No program adds to
what another program has written, so the same input gives the same bits.

Sizes of a layer are compiled in (`tl.constexpr`): the compiler then divides by
them with a multiplication, and knows which addresses allow 16 bytes at a time.
"""

import triton
import triton.language as tl


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


# ---------------------------------------------------------------- a slice in one program


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
    if tau_ptr is not None:  # entries below the threshold belong to tau
        y = x_hat * gamma
        if beta_ptr is not None:
            y += wide(beta_ptr + channel, known)
        passed = y > wide(tau_ptr + channel, known)
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
    program = tl.program_id(0)
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
            d = i * BD + tl.arange(0, BD)
            tl.store(dx_ptr + at + d, dx * inv_std, mask=d < D)
    for i in tl.static_range(CHUNKS):
        d = i * BD + tl.arange(0, BD)
        if dgamma_ptr is not None:
            tl.store(dgamma_ptr + program * D + d, dgamma[i], mask=d < D)
        if dbeta_ptr is not None:
            tl.store(dbeta_ptr + program * D + d, dbeta[i], mask=d < D)


@triton.jit
def chunk(x_ptr, dy_ptr, gamma_ptr, hi, lo, inv_std, i: tl.constexpr,
          D: tl.constexpr, CENTER: tl.constexpr, BD: tl.constexpr, KEEP: tl.constexpr):
    """x_hat, dy and dx_hat of the columns i * BD to (i + 1) * BD of a row; 0 beyond its end."""
    d = i * BD + tl.arange(0, BD)
    x_hat = tl.load(x_ptr + d, mask=d < D, other=0.0, eviction_policy=KEEP).to(tl.float32)
    if CENTER:
        x_hat = tl.where(d < D, x_hat - hi - lo, 0.0)
    x_hat *= inv_std
    dy = tl.load(dy_ptr + d, mask=d < D, other=0.0, eviction_policy=KEEP).to(tl.float32)
    return x_hat, dy, dy if gamma_ptr is None else dy * wide(gamma_ptr + d, d < D)


# ---------------------------------------------------------------- a slice in several programs
#
# x is (N, C, S), contiguous or with the channels last.  A program sees a tile of
# BC channels and BT positions.  Positions run over the S entries of one sample,
# or (ACROSS, batch norm) over all N * S.  Parts of a channel are merged later.


@triton.jit
def tile_of(n, C: tl.constexpr, S: tl.constexpr, ACROSS: tl.constexpr, LAST: tl.constexpr,
            BC: tl.constexpr, BT: tl.constexpr):
    """This program's sample (0 with ACROSS), part, channels (BC, 1), and the offsets and mask of its entries."""
    columns: tl.constexpr = (C + BC - 1) // BC
    length = n * S if ACROSS else S
    parts = tl.cdiv(length, BT)
    program = tl.program_id(0)
    c = program % columns * BC + tl.arange(0, BC)[:, None]
    part = program // columns % parts
    sample = program // columns // parts
    t = tl.arange(0, BT)[None, :]
    start = part.to(tl.int64) * BT
    mask = (c < C) & (t < length - start)
    if LAST:
        at = (sample.to(tl.int64) * S + start) * C + t * C + c
    elif ACROSS:
        s = start % S + t
        at = (start // S + s // S) * (C * S) + c.to(tl.int64) * S + s % S
    else:
        at = sample.to(tl.int64) * (C * S) + start + c * S + t
    return sample, part, parts, c, at, mask


@triton.jit
def moments(
    x_ptr, parts_ptr,  # parts (3, N or 1, C, parts): mean as hi and lo, and sum of squares about it
    n, stride,
    C: tl.constexpr, S: tl.constexpr, ACROSS: tl.constexpr, LAST: tl.constexpr, CENTER: tl.constexpr,
    BC: tl.constexpr, BT: tl.constexpr,
):
    """The mean and the sum of squares about it of each channel of each part."""
    sample, part, parts, c, at, mask = tile_of(n, C, S, ACROSS, LAST, BC, BT)
    x = wide(x_ptr + at, mask)
    out = parts_ptr + (sample.to(tl.int64) * C + c) * parts + part
    if CENTER:
        count = tl.sum(mask.to(tl.float32), 1, keep_dims=True)
        count = tl.maximum(count, 1.0)  # of channels that do not exist
        hi = tl.sum(x, 1, keep_dims=True) / count
        x = tl.where(mask, x - hi, 0.0)
        lo = tl.sum(x, 1, keep_dims=True) / count
        x = tl.where(mask, x - lo, 0.0)
        tl.store(out, hi, mask=c < C)
        tl.store(out + stride, lo, mask=c < C)
    tl.store(out + 2 * stride, tl.sum(x * x, 1, keep_dims=True), mask=c < C)


@triton.jit
def merge(
    parts_ptr, hi_ptr, lo_ptr, var_ptr,  # the last three one per slice
    n, stride,
    K: tl.constexpr, S: tl.constexpr, ACROSS: tl.constexpr, CENTER: tl.constexpr, BT: tl.constexpr, BE: tl.constexpr,
):
    """Mean and variance of a slice from those of its parts, in float64 (Chan, Golub & LeVeque 1979):

        mean = sum(n_i * mean_i) / n,   n * var = sum(M2_i + n_i * (mean_i - mean)**2)
    """
    slice_ = tl.program_id(0).to(tl.int64)
    length = n * S if ACROSS else S
    parts = tl.cdiv(length, BT)
    first = parts_ptr + slice_ * (K * parts)
    count = tl.cast(length, tl.float64) * K
    mean = tl.zeros((BE,), tl.float64)
    m2 = tl.zeros((BE,), tl.float64)
    center = 0.0
    if CENTER:
        for start in range(0, K * parts, BE):
            e = start + tl.arange(0, BE)
            n_i = tl.minimum(length - e % parts * BT, BT).to(tl.float64)
            mean += n_i * mean_of(first, e, stride, e < K * parts)
        center = tl.sum(mean, 0) / count
    for start in range(0, K * parts, BE):
        e = start + tl.arange(0, BE)
        m2 += wide(first + 2 * stride + e, e < K * parts).to(tl.float64)
        if CENTER:
            n_i = tl.minimum(length - e % parts * BT, BT).to(tl.float64)
            away = mean_of(first, e, stride, e < K * parts) - center
            m2 += tl.where(e < K * parts, n_i * away * away, 0.0)
    hi = (center + 0.0).to(tl.float32)
    tl.store(hi_ptr + slice_, hi)
    tl.store(lo_ptr + slice_, center - hi)
    tl.store(var_ptr + slice_, tl.sum(m2, 0) / count)


@triton.jit
def mean_of(first, e, stride, mask):
    """hi + lo of part e, in float64."""
    return wide(first + e, mask).to(tl.float64) + wide(first + stride + e, mask).to(tl.float64)


@triton.jit
def x_hat_of(x_ptr, hi_ptr, lo_ptr, var_ptr, eps_ptr, eps, sample, c, at, mask,
             C: tl.constexpr, K: tl.constexpr, CENTER: tl.constexpr):
    """x_hat of a tile, and inv_std of its channels."""
    slice_ = sample * (C // K) + c // K
    inv_std = inverse_std(wide(var_ptr + slice_, c < C), eps_of(eps_ptr, eps, c // K, c < C))
    x_hat = wide(x_ptr + at, mask)
    if CENTER:
        x_hat -= wide(hi_ptr + slice_, c < C)
        if lo_ptr is not None:
            x_hat -= wide(lo_ptr + slice_, c < C)
    return x_hat * inv_std, inv_std, slice_


@triton.jit
def parameter(pointer, c, part, C: tl.constexpr, S: tl.constexpr, FEATURES: tl.constexpr, BT: tl.constexpr):
    """gamma, beta or tau of a tile: one per channel, or, of rows of FEATURES, one per position."""
    if FEATURES:
        d = part * BT + tl.arange(0, BT)[None, :]
        return wide(pointer + d, d < S)
    return wide(pointer + c, c < C)


@triton.jit
def apply(
    x_ptr, gamma_ptr, beta_ptr, tau_ptr, eps_ptr, hi_ptr, lo_ptr, var_ptr, y_ptr,
    n, eps,
    C: tl.constexpr, K: tl.constexpr, S: tl.constexpr, ACROSS: tl.constexpr, LAST: tl.constexpr,
    CENTER: tl.constexpr, FEATURES: tl.constexpr, BC: tl.constexpr, BT: tl.constexpr,
):
    """y = gamma * (x - hi - lo) * inv_std + beta, from the statistics of each slice: a scale and a shift."""
    sample, part, parts, c, at, mask = tile_of(n, C, S, ACROSS, LAST, BC, BT)
    y, _, _ = x_hat_of(x_ptr, hi_ptr, lo_ptr, var_ptr, eps_ptr, eps, sample, c, at, mask, C, K, CENTER)
    if gamma_ptr is not None:
        y *= parameter(gamma_ptr, c, part, C, S, FEATURES, BT)
    if beta_ptr is not None:
        y += parameter(beta_ptr, c, part, C, S, FEATURES, BT)
    if tau_ptr is not None:
        tau = parameter(tau_ptr, c, part, C, S, FEATURES, BT)
        y = tl.maximum(y, tau, propagate_nan=tl.PropagateNan.ALL)
    tl.store(y_ptr + at, y, mask=mask)


@triton.jit
def passed_on(dy, x_hat, gamma_ptr, beta_ptr, tau_ptr, c, C: tl.constexpr):
    """dy where y is above the threshold of its channel, else 0."""
    y = x_hat
    if gamma_ptr is not None:
        y *= wide(gamma_ptr + c, c < C)
    if beta_ptr is not None:
        y += wide(beta_ptr + c, c < C)
    return tl.where(y > wide(tau_ptr + c, c < C), dy, 0.0)


@triton.jit
def sums(
    x_ptr, dy_ptr, gamma_ptr, beta_ptr, tau_ptr, eps_ptr, hi_ptr, lo_ptr, var_ptr,
    parts_ptr,  # (3, N or 1, C, parts): sums of dy, of dy * x_hat, and of what tau keeps
    n, stride, eps,
    C: tl.constexpr, K: tl.constexpr, S: tl.constexpr, ACROSS: tl.constexpr, LAST: tl.constexpr,
    CENTER: tl.constexpr, FEATURES: tl.constexpr, BC: tl.constexpr, BT: tl.constexpr,
):
    """The sums that the backward pass needs, for each channel of each part; of rows of FEATURES, of gamma * dy."""
    sample, part, parts, c, at, mask = tile_of(n, C, S, ACROSS, LAST, BC, BT)
    x_hat, _, _ = x_hat_of(x_ptr, hi_ptr, lo_ptr, var_ptr, eps_ptr, eps, sample, c, at, mask, C, K, CENTER)
    dy = wide(dy_ptr + at, mask)
    out = parts_ptr + (sample.to(tl.int64) * C + c) * parts + part
    if tau_ptr is not None:
        to_y = passed_on(dy, x_hat, gamma_ptr, beta_ptr, tau_ptr, c, C)
        tl.store(out + 2 * stride, tl.sum(dy - to_y, 1, keep_dims=True), mask=c < C)
        dy = to_y
    if FEATURES and gamma_ptr is not None:
        dy *= parameter(gamma_ptr, c, part, C, S, FEATURES, BT)
    tl.store(out, tl.sum(dy, 1, keep_dims=True), mask=c < C)
    tl.store(out + stride, tl.sum(tl.where(mask, dy * x_hat, 0.0), 1, keep_dims=True), mask=c < C)


@triton.jit
def merge_sums(
    parts_ptr, gamma_ptr, var_ptr, eps_ptr,
    dgamma_ptr, dbeta_ptr, dtau_ptr, deps_ptr,  # (N or 1, C), or None
    along_ptr,  # (2, slices): the means of dx_hat and of dx_hat * x_hat
    n, stride, slices, eps,
    C: tl.constexpr, K: tl.constexpr, S: tl.constexpr, ACROSS: tl.constexpr, BT: tl.constexpr,
    BK: tl.constexpr, BP: tl.constexpr,
):
    """Adds up the parts of each channel, and the channels of each slice, in a fixed order."""
    slice_ = tl.program_id(0).to(tl.int64)
    length = n * S if ACROSS else S
    parts = tl.cdiv(length, BT)
    along_1, along_x = tl.zeros((BK, 1), tl.float32), tl.zeros((BK, 1), tl.float32)
    for start in range(0, K, BK):
        k = start + tl.arange(0, BK)[:, None]
        out = slice_ * K + k  # sample * C + channel
        first = parts_ptr + out * parts
        sum_1 = row_total(first, parts, k < K, BK, BP)
        sum_x = row_total(first + stride, parts, k < K, BK, BP)
        if dgamma_ptr is not None:
            tl.store(dgamma_ptr + out, sum_x, mask=k < K)
        if dbeta_ptr is not None:
            tl.store(dbeta_ptr + out, sum_1, mask=k < K)
        if dtau_ptr is not None:
            tl.store(dtau_ptr + out, row_total(first + 2 * stride, parts, k < K, BK, BP), mask=k < K)
        if gamma_ptr is not None:
            gamma = wide(gamma_ptr + slice_ % (C // K) * K + k, k < K)
            sum_1 *= gamma
            sum_x *= gamma
        along_1 += sum_1
        along_x += sum_x
    count = tl.cast(length, tl.float32) * K
    mean_x = tl.sum(tl.sum(along_x, 1), 0) / count
    if deps_ptr is not None:
        inv_std = inverse_std(tl.load(var_ptr + slice_), tl.load(eps_ptr + slice_ % (C // K)).to(tl.float32))
        tl.store(deps_ptr + slice_, -0.5 * mean_x * count * inv_std * inv_std)
    tl.store(along_ptr + slice_, tl.sum(tl.sum(along_1, 1), 0) / count)
    tl.store(along_ptr + slices + slice_, mean_x)


@triton.jit
def row_total(first, length, mask, BK: tl.constexpr, BP: tl.constexpr):
    """Sum of `length` numbers after each pointer of `first` (BK, 1)."""
    result = tl.zeros((BK, BP), tl.float32)
    for start in range(0, length, BP):
        p = start + tl.arange(0, BP)[None, :]
        result += wide(first + p, mask & (p < length))
    return tl.sum(result, 1, keep_dims=True)


@triton.jit
def apply_backward(
    x_ptr, dy_ptr, gamma_ptr, beta_ptr, tau_ptr, eps_ptr, hi_ptr, lo_ptr, var_ptr, along_ptr, dx_ptr,
    n, slices, eps,
    C: tl.constexpr, K: tl.constexpr, S: tl.constexpr, ACROSS: tl.constexpr, LAST: tl.constexpr,
    CENTER: tl.constexpr, FEATURES: tl.constexpr, BC: tl.constexpr, BT: tl.constexpr,
):
    """dx = inv_std * (gamma * dy - mean(dx_hat) - x_hat * mean(dx_hat * x_hat)), from the means of each slice."""
    sample, part, parts, c, at, mask = tile_of(n, C, S, ACROSS, LAST, BC, BT)
    x_hat, inv_std, slice_ = x_hat_of(
        x_ptr, hi_ptr, lo_ptr, var_ptr, eps_ptr, eps, sample, c, at, mask, C, K, CENTER)
    dx = wide(dy_ptr + at, mask)
    if tau_ptr is not None:
        dx = passed_on(dx, x_hat, gamma_ptr, beta_ptr, tau_ptr, c, C)
    if gamma_ptr is not None:
        dx *= parameter(gamma_ptr, c, part, C, S, FEATURES, BT)
    if CENTER:
        dx -= wide(along_ptr + slice_, c < C)
    dx -= x_hat * wide(along_ptr + slices + slice_, c < C)
    tl.store(dx_ptr + at, dx * inv_std, mask=mask)


@triton.jit
def feature_gradients(
    x_ptr, dy_ptr, hi_ptr, lo_ptr, var_ptr, dgamma_ptr, dbeta_ptr,  # the last two (parts, D), or None
    rows, eps, D: tl.constexpr, CENTER: tl.constexpr, PART: tl.constexpr, BR: tl.constexpr, BD: tl.constexpr,
):
    """dgamma and dbeta of very long rows: each program sums BD columns over PART blocks of BR rows."""
    columns: tl.constexpr = (D + BD - 1) // BD
    part = tl.program_id(0) // columns
    d = tl.program_id(0) % columns * BD + tl.arange(0, BD)[None, :]
    dgamma, dbeta = tl.zeros((BR, BD), tl.float32), tl.zeros((BR, BD), tl.float32)
    for i in range(PART):
        row = (part * PART + i) * BR + tl.arange(0, BR)[:, None]
        at, mask = row.to(tl.int64) * D + d, (row < rows) & (d < D)
        x, dy = wide(x_ptr + at, mask), wide(dy_ptr + at, mask)
        if CENTER:
            x = x - wide(hi_ptr + row, row < rows) - wide(lo_ptr + row, row < rows)
        dgamma += dy * x * inverse_std(tl.load(var_ptr + row, mask=row < rows, other=1.0), eps)
        dbeta += dy
    if dgamma_ptr is not None:
        tl.store(dgamma_ptr + part * D + d, tl.sum(dgamma, 0, keep_dims=True), mask=d < D)
    if dbeta_ptr is not None:
        tl.store(dbeta_ptr + part * D + d, tl.sum(dbeta, 0, keep_dims=True), mask=d < D)


# ---------------------------------------------------------------- windows


@triton.jit
def inverse_power(t, BETA: tl.constexpr):
    """t**-BETA; the usual 0.75 from two roots."""
    if BETA == 0.75:
        root = 1.0 / tl.sqrt_rn(t)
        return root * tl.sqrt_rn(root)
    return tl.exp2(-BETA * tl.log2(t))


@triton.jit
def window_forward(
    x_ptr, y_ptr, t_ptr,  # t, the bracket, like x in float32
    n, k, alpha,
    C: tl.constexpr, S: tl.constexpr, LAST: tl.constexpr, SIZE: tl.constexpr, BETA: tl.constexpr,
    BC: tl.constexpr, BT: tl.constexpr,
):
    """t = k + alpha * (sum of x**2 over the SIZE channels around each), y = x / t**BETA.

    A program looks at each channel of its tile SIZE times; all but the first come out of the cache.
    """
    sample, part, parts, c, at, mask = tile_of(n, C, S, False, LAST, BC, BT)
    step: tl.constexpr = 1 if LAST else S
    squares = tl.zeros((BC, BT), tl.float32)
    for j in range(-(SIZE // 2), (SIZE - 1) // 2 + 1):
        neighbour = wide(x_ptr + at + j * step, mask & (c + j >= 0) & (c + j < C))
        squares += neighbour * neighbour
    t = k + alpha * squares
    tl.store(t_ptr + at, t, mask=mask)
    tl.store(y_ptr + at, wide(x_ptr + at, mask) * inverse_power(t, BETA), mask=mask)


@triton.jit
def window_backward(
    x_ptr, dy_ptr, t_ptr, dx_ptr,
    n, alpha,
    C: tl.constexpr, S: tl.constexpr, LAST: tl.constexpr, SIZE: tl.constexpr, BETA: tl.constexpr,
    BC: tl.constexpr, BT: tl.constexpr,
):
    """dx_j = dy_j / t_j**BETA - 2 alpha BETA x_j sum(dy_i x_i / t_i**(BETA + 1)) over the outputs i that saw x_j."""
    sample, part, parts, c, at, mask = tile_of(n, C, S, False, LAST, BC, BT)
    step: tl.constexpr = 1 if LAST else S
    seen_by = tl.zeros((BC, BT), tl.float32)
    for j in range(-((SIZE - 1) // 2), SIZE // 2 + 1):
        inside = mask & (c + j >= 0) & (c + j < C)
        x, dy = wide(x_ptr + at + j * step, inside), wide(dy_ptr + at + j * step, inside)
        t = tl.load(t_ptr + at + j * step, mask=inside, other=1.0)
        seen_by += dy * x * inverse_power(t, BETA) / t
    direct = wide(dy_ptr + at, mask) * inverse_power(tl.load(t_ptr + at, mask=mask, other=1.0), BETA)
    tl.store(dx_ptr + at, direct - 2 * alpha * BETA * wide(x_ptr + at, mask) * seen_by, mask=mask)
