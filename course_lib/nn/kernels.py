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


@triton.jit
def above(x_hat, gamma_ptr, beta_ptr, tau_ptr, channel, mask):
    """Which entries of y = gamma * x_hat + beta are above the thresholds of their channels?"""
    y = x_hat
    if gamma_ptr is not None:
        y *= wide(gamma_ptr + channel, mask)
    if beta_ptr is not None:
        y += wide(beta_ptr + channel, mask)
    return y > wide(tau_ptr + channel, mask)


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


# ---------------------------------------------------------------- a slice in several programs
#
# x is (N, C, S), contiguous or with the channels last.  A program sees a tile of
# BC channels, and of BN samples with BS entries each.  The statistics of batch
# norm reach ACROSS samples; else BN is 1.  Parts of a channel are merged later.


@triton.jit
def tile_of(n, C: tl.constexpr, S: tl.constexpr, ACROSS: tl.constexpr, LAST: tl.constexpr,
            BC: tl.constexpr, BN: tl.constexpr, BS: tl.constexpr):
    """This program's channels (BC, 1), entries s (1, BN * BS), their offsets and mask, its part, its sample."""
    columns: tl.constexpr = (C + BC - 1) // BC
    stretches: tl.constexpr = (S + BS - 1) // BS
    program = tl.program_id(0)
    c = program % columns * BC + tl.arange(0, BC)[:, None]
    stretch = program // columns % stretches
    block = program // columns // stretches
    t = tl.arange(0, BN * BS)[None, :]  # BS is a power of 2, so that the compiler sees which entries lie together
    s, sample = stretch * BS + t % BS, t // BS
    mask = (c < C) & (s < S) & (sample < n - block * BN)
    first = tl.cast(block, tl.int64) * BN * (C * S)
    if LAST:
        at = first + (sample * S + s) * C + c
    else:
        at = first + sample * (C * S) + c * S + s
    if ACROSS:
        part, of_sample = c * parts_of(n, S, BN, BS) + block * stretches + stretch, 0
    else:
        part, of_sample = (tl.cast(block, tl.int64) * C + c) * stretches + stretch, block
    return c, s, at, mask, part, of_sample


@triton.jit
def moments(
    x_ptr, parts_ptr,  # parts (3, N or 1, C, parts): mean as hi and lo, and sum of squares about it
    n, stride,
    C: tl.constexpr, S: tl.constexpr, ACROSS: tl.constexpr, LAST: tl.constexpr, CENTER: tl.constexpr,
    BC: tl.constexpr, BN: tl.constexpr, BS: tl.constexpr,
):
    """The mean and the sum of squares about it of each channel of each part."""
    c, s, at, mask, part, sample = tile_of(n, C, S, ACROSS, LAST, BC, BN, BS)
    x = wide(x_ptr + at, mask)
    out = parts_ptr + part
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
    K: tl.constexpr, S: tl.constexpr, ACROSS: tl.constexpr, CENTER: tl.constexpr,
    BN: tl.constexpr, BS: tl.constexpr, BE: tl.constexpr,
):
    """Mean and variance of a slice from those of its parts, in float64 (Chan, Golub & LeVeque 1979):

        mean = sum(n_i * mean_i) / n,   n * var = sum(M2_i + n_i * (mean_i - mean)**2)
    """
    slice_ = tl.program_id(0).to(tl.int64)
    samples = n if ACROSS else 1
    parts = parts_of(samples, S, BN, BS)
    first = parts_ptr + slice_ * (K * parts)
    count = tl.cast(samples, tl.float64) * (K * S)
    sum_ = tl.zeros((BE,), tl.float64)
    m2 = tl.zeros((BE,), tl.float64)
    mean = tl.sum(sum_, 0)
    if CENTER:
        for start in range(0, K * parts, BE):
            e = start + tl.arange(0, BE)
            sum_ += size_of(e % parts, samples, S, BN, BS) * mean_of(first, e, stride, e < K * parts)
        mean = tl.sum(sum_, 0) / count
    for start in range(0, K * parts, BE):
        e = start + tl.arange(0, BE)
        m2 += wide(first + 2 * stride + e, e < K * parts).to(tl.float64)
        if CENTER:
            away = tl.where(e < K * parts, mean_of(first, e, stride, e < K * parts) - mean, 0.0)
            m2 += size_of(e % parts, samples, S, BN, BS) * away * away
    hi = mean.to(tl.float32)
    tl.store(hi_ptr + slice_, hi)
    tl.store(lo_ptr + slice_, mean - hi)
    tl.store(var_ptr + slice_, tl.sum(m2, 0) / count)


@triton.jit
def parts_of(samples, S: tl.constexpr, BN: tl.constexpr, BS: tl.constexpr):
    """How many parts a channel has."""
    return tl.cdiv(samples, BN) * ((S + BS - 1) // BS)


@triton.jit
def size_of(part, samples, S: tl.constexpr, BN: tl.constexpr, BS: tl.constexpr):
    """How many entries a part of a channel has."""
    stretches: tl.constexpr = (S + BS - 1) // BS
    rows = tl.minimum(samples - part // stretches * BN, BN)
    return (rows * tl.minimum(S - part % stretches * BS, BS)).to(tl.float64)


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
def parameter(pointer, c, s, C: tl.constexpr, S: tl.constexpr, FEATURES: tl.constexpr):
    """gamma, beta or tau of a tile: one per channel, or, of rows of FEATURES, one per entry."""
    if FEATURES:
        result = wide(pointer + s, s < S)
    else:
        result = wide(pointer + c, c < C)
    return result


@triton.jit
def apply(
    x_ptr, gamma_ptr, beta_ptr, tau_ptr, eps_ptr, hi_ptr, lo_ptr, var_ptr, y_ptr,
    n, eps,
    C: tl.constexpr, K: tl.constexpr, S: tl.constexpr, ACROSS: tl.constexpr, LAST: tl.constexpr,
    CENTER: tl.constexpr, FEATURES: tl.constexpr, BC: tl.constexpr, BN: tl.constexpr, BS: tl.constexpr,
):
    """y = gamma * (x - hi - lo) * inv_std + beta, from the statistics of each slice: a scale and a shift."""
    c, s, at, mask, part, sample = tile_of(n, C, S, ACROSS, LAST, BC, BN, BS)
    y, _, _ = x_hat_of(x_ptr, hi_ptr, lo_ptr, var_ptr, eps_ptr, eps, sample, c, at, mask, C, K, CENTER)
    if gamma_ptr is not None:
        y *= parameter(gamma_ptr, c, s, C, S, FEATURES)
    if beta_ptr is not None:
        y += parameter(beta_ptr, c, s, C, S, FEATURES)
    if tau_ptr is not None:
        tau = parameter(tau_ptr, c, s, C, S, FEATURES)
        y = tl.maximum(y, tau, propagate_nan=tl.PropagateNan.ALL)
    tl.store(y_ptr + at, y, mask=mask)


@triton.jit
def sums(
    x_ptr, dy_ptr, gamma_ptr, beta_ptr, tau_ptr, eps_ptr, hi_ptr, lo_ptr, var_ptr,
    parts_ptr,  # (3, N or 1, C, parts): sums of dy, of dy * x_hat, and of what tau keeps
    dx_ptr,  # like x, where the statistics are given and dx is a multiple of dy; or None
    n, stride, eps,
    C: tl.constexpr, K: tl.constexpr, S: tl.constexpr, ACROSS: tl.constexpr, LAST: tl.constexpr,
    CENTER: tl.constexpr, FEATURES: tl.constexpr, BC: tl.constexpr, BN: tl.constexpr, BS: tl.constexpr,
):
    """The sums that the backward pass needs, for each channel of each part; of rows of FEATURES, of gamma * dy."""
    c, s, at, mask, part, sample = tile_of(n, C, S, ACROSS, LAST, BC, BN, BS)
    x_hat, inv_std, _ = x_hat_of(x_ptr, hi_ptr, lo_ptr, var_ptr, eps_ptr, eps, sample, c, at, mask, C, K, CENTER)
    dy = wide(dy_ptr + at, mask)
    out = parts_ptr + part
    if dx_ptr is not None:
        if gamma_ptr is not None:
            inv_std *= wide(gamma_ptr + c, c < C)
        tl.store(dx_ptr + at, dy * inv_std, mask=mask)
    if tau_ptr is not None:
        passed = above(x_hat, gamma_ptr, beta_ptr, tau_ptr, c, c < C)
        tl.store(out + 2 * stride, tl.sum(tl.where(passed, 0.0, dy), 1, keep_dims=True), mask=c < C)
        dy = tl.where(passed, dy, 0.0)
    if FEATURES and gamma_ptr is not None:
        dy *= parameter(gamma_ptr, c, s, C, S, FEATURES)
    tl.store(out, tl.sum(dy, 1, keep_dims=True), mask=c < C)
    tl.store(out + stride, tl.sum(tl.where(mask, dy * x_hat, 0.0), 1, keep_dims=True), mask=c < C)


@triton.jit
def merge_sums(
    parts_ptr, gamma_ptr, var_ptr, eps_ptr,
    dgamma_ptr, dbeta_ptr, dtau_ptr, deps_ptr,  # (N or 1, C), or None
    along_ptr,  # (2, slices): the means of dx_hat and of dx_hat * x_hat
    n, stride, slices, eps,
    C: tl.constexpr, K: tl.constexpr, S: tl.constexpr, ACROSS: tl.constexpr, BN: tl.constexpr, BS: tl.constexpr,
    BK: tl.constexpr, BP: tl.constexpr,
):
    """Adds up the parts of each channel, and the channels of each slice, in a fixed order."""
    slice_ = tl.program_id(0).to(tl.int64)
    samples = n if ACROSS else 1
    parts = parts_of(samples, S, BN, BS)
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
    count = tl.cast(samples, tl.float32) * (K * S)
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
    CENTER: tl.constexpr, FEATURES: tl.constexpr, BC: tl.constexpr, BN: tl.constexpr, BS: tl.constexpr,
):
    """dx = inv_std * (gamma * dy - mean(dx_hat) - x_hat * mean(dx_hat * x_hat)), from the means of each slice."""
    c, s, at, mask, part, sample = tile_of(n, C, S, ACROSS, LAST, BC, BN, BS)
    x_hat, inv_std, slice_ = x_hat_of(
        x_ptr, hi_ptr, lo_ptr, var_ptr, eps_ptr, eps, sample, c, at, mask, C, K, CENTER)
    dx = wide(dy_ptr + at, mask)
    if tau_ptr is not None:
        dx = tl.where(above(x_hat, gamma_ptr, beta_ptr, tau_ptr, c, c < C), dx, 0.0)
    if gamma_ptr is not None:
        dx *= parameter(gamma_ptr, c, s, C, S, FEATURES)
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
    first = part * (PART * BR)
    for start in range(first, tl.minimum(first + PART * BR, rows), BR):
        row = start + tl.arange(0, BR)[:, None]
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
