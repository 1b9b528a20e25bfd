"""Exercises of chapter 12: norms in transformers."""

import numpy as np

from ...exercises.engine import exercise


def _stream(rng, tokens, width, size=1.0):
    """Tokens of different lengths, off centre."""
    return size * rng.uniform(0.5, 2, (tokens, 1)) * (rng.standard_normal((tokens, width)) + 0.4)


def _gain(rng, width):
    gamma = rng.uniform(0.5, 2, width)
    gamma[1::3] *= -1
    return gamma


# 12.1: backward through a post block


def _post_cases(seed=0):
    rng = np.random.default_rng(1210 + 100 * seed)
    x, dy = np.array([[3.0, 4.0]]), np.array([[1.0, 0.0]])
    yield "one token, a branch that writes nothing", (dy, x, np.zeros((2, 2)), np.ones(2), 1e-6)
    for tokens, width, eps, size, name in [(3, 4, 1e-6, 1, "3 tokens"), (2, 5, 0.5, 1, "eps matters"),
                                           (4, 3, 1e-6, 100, "a long stream")]:
        W = rng.standard_normal((width, width)) / np.sqrt(width)
        dy = rng.standard_normal((tokens, width)) + 0.3
        yield name, (dy, _stream(rng, tokens, width, size), W, _gain(rng, width), eps)


def _post_law(args, outputs):
    """The block is homogeneous where eps does not matter: stretching a token costs nothing."""
    dy, x, W, gamma, eps = args
    if eps > 1e-3:
        return True
    along = (outputs[0] * x).sum(axis=-1)
    return np.allclose(along, 0, rtol=0, atol=1e-4 * (1 + np.abs(outputs[0] * x).max()))


@exercise(
    cases=_post_cases,
    outputs=("dx",),
    hints=(
        "two steps back: first through the norm, then through x + f(x). Nudge an entry of x to test yours",
        "call z = x + relu(x @ W). The norm's backward pass, chapter 7's, belongs to z, and gives dz",
        "dx is dz by the skip, and (dz where x @ W > 0) @ W.T by the branch",
    ),
    laws={"stretching a token costs nothing (eps is small): the sum of dx * x is 0 for each token": _post_law},
    mistakes={
        ("this is the way back through a pre block: there the skip is outside the norm, here it is inside",
         "which of the two summands of z does the norm see?",
         "first dz through the norm of x + f(x), then the skip and the branch"): {
            "return dz + (dz * (x @ W > 0)) @ W.T": "return dy + (dz * (x @ W > 0)) @ W.T"},
        ("the order is turned round: dy meets the norm first, for the norm comes last, and only then the branch",
         "in dx = dy J + dy J F, what does the branch's F multiply: dy, or dy J?",
         "dz through the norm first; then dz by the skip, and dz by the branch"): {
            "dz_hat = gamma * dy": "dz_hat = gamma * (dy + (dy * (x @ W > 0)) @ W.T)",
            "return dz + (dz * (x @ W > 0)) @ W.T": "return dz"},
        "the skip is missing: x reaches z directly as well": {
            "return dz + (dz * (x @ W > 0)) @ W.T": "return (dz * (x @ W > 0)) @ W.T"},
        "the branch is missing: x reaches z through W as well": {
            "return dz + (dz * (x @ W > 0)) @ W.T": "return dz"},
        "the norm is that of z = x + f(x), not of x": {"z = x + np.maximum(x @ W, 0)": "z = x"},
        "the norm's scale is a function of z too: its second road is missing": {
            "dz = inv_rms * (dz_hat - z_hat * along)": "dz = inv_rms * dz_hat"},
        "gamma belongs inside the mean: it differs from feature to feature": {
            "dz_hat = gamma * dy": "dz_hat = dy", "dz = inv_rms * (dz_hat - z_hat * along)":
            "dz = gamma * inv_rms * (dz_hat - z_hat * along)"},
        "gamma is missing": {"dz_hat = gamma * dy": "dz_hat = dy"},
        "no mean is subtracted in an RMS norm, so no mean of the gradient either": {
            "dz = inv_rms * (dz_hat - z_hat * along)":
            "dz = inv_rms * (dz_hat - dz_hat.mean(axis=-1, keepdims=True) - z_hat * along)"},
        "the ReLU lets a gradient through only where x @ W is above 0": {"(dz * (x @ W > 0)) @ W.T": "dz @ W.T"},
        "the ReLU's mask is that of x @ W, not of z": {"x @ W > 0": "z > 0"},
        "back through x @ W goes W transposed": {"@ W.T": "@ W"},
        "each token has its own norm: means over the last axis": {
            "(z**2).mean(axis=-1, keepdims=True)": "(z**2).mean(axis=0)",
            "(dz_hat * z_hat).mean(axis=-1, keepdims=True)": "(dz_hat * z_hat).mean(axis=0)"},
        "along is a mean over the features, not a sum": {
            "(dz_hat * z_hat).mean(axis=-1, keepdims=True)": "(dz_hat * z_hat).sum(axis=-1, keepdims=True)"},
        "the scale 1 / rms is missing": {"dz = inv_rms * (": "dz = 1.0 * ("},
        "the root is missing: 1 / rms, not 1 / rms**2": {
            "np.sqrt((z**2).mean(axis=-1, keepdims=True) + eps)": "((z**2).mean(axis=-1, keepdims=True) + eps)"},
        "eps is missing: it is added to the mean square, inside the root": {" + eps)": ")"},
        "the second road lowers dz: its sign is negative": {"- z_hat * along": "+ z_hat * along"},
    },
)
def post_block_dx(dy, x, W, gamma, eps):
    """dx of the post block y = gamma * z / rms(z), z = x + relu(x @ W).

    dy and x are (T, D), W is (D, D), gamma is (D,);
    rms(z) is the root of mean(z**2) + eps, for each token by itself.
    """
    z = x + np.maximum(x @ W, 0)
    inv_rms = 1 / np.sqrt((z**2).mean(axis=-1, keepdims=True) + eps)
    z_hat = z * inv_rms
    dz_hat = gamma * dy
    along = (dz_hat * z_hat).mean(axis=-1, keepdims=True)
    dz = inv_rms * (dz_hat - z_hat * along)
    return dz + (dz * (x @ W > 0)) @ W.T


# 12.3: a stack of pre blocks, mended


def _stack_cases(seed=0):
    rng = np.random.default_rng(1230 + 100 * seed)
    x = np.array([[3.0, 4.0]])
    yield "one block that writes nothing", (x, [np.zeros((2, 2))], [np.ones(2)], np.ones(2), 1e-6)
    for depth, tokens, width, eps, size, name in [(1, 3, 4, 1e-6, 2, "one block"), (3, 2, 5, 1e-6, 3, "three blocks"),
                                                  (2, 3, 4, 0.5, 1, "eps matters")]:
        Ws = [rng.standard_normal((width, width)) / np.sqrt(width) for _ in range(depth)]
        yield name, (_stream(rng, tokens, width, size), Ws, [_gain(rng, width) for _ in Ws], _gain(rng, width), eps)


def _stack_law(args, outputs):
    _, _, _, final, eps = args
    if eps > 1e-3:
        return True
    return np.allclose(((outputs[0] / final) ** 2).mean(axis=-1), 1, rtol=0, atol=1e-4)


@exercise(
    cases=_stack_cases,
    outputs=("y",),
    hints=(
        "if all W are 0, nothing is written: what must the stream be then, and what the output?",
        "the norm belongs to what the branch reads; what is added to, and what is handed on, is the stream itself",
        "x = x + relu(norm(x) @ W) in the loop, and the norm with `final` once after it",
    ),
    laws={"without its gain, each token of the output has mean square 1 (eps is small)": _stack_law},
    mistakes={
        ("the stream itself is still normalized at every block: what is added to must be x, not norm(x)",
         "let all W be 0. After three blocks, is your stream still the x that came in?",
         "x = x + relu(norm(x) @ W): the norm is inside the branch only"): {
            "x = x + np.maximum(": "x = rms(x, gamma) + np.maximum("},
        ("the norm after the last block is missing: what the head reads would grow with the depth",
         "the branches read a normalized stream; who normalizes it for the head?",
         "one more norm, with `final`, after the loop"): {"return rms(x, final)": "return x"},
        "this is post-norm: the norm stands after the addition in each block": {
            "x = x + np.maximum(rms(x, gamma) @ W, 0)": "x = rms(x + np.maximum(x @ W, 0), gamma)"},
        "this norms what the branch writes; asked for is what it reads": {
            "np.maximum(rms(x, gamma) @ W, 0)": "rms(np.maximum(x @ W, 0), gamma)"},
        "the branch reads the stream without a norm": {"rms(x, gamma) @ W": "x @ W"},
        "the skip is missing: a block adds to the stream": {"x = x + np.maximum(": "x = np.maximum("},
        "the last norm stands after the loop, once, not in each block": {
            "x = x + np.maximum(rms(x, gamma) @ W, 0)": "x = rms(x + np.maximum(rms(x, gamma) @ W, 0), final)"},
        "the last norm has its own gain, `final`": {"return rms(x, final)": "return rms(x, gamma)"},
        "each block has its own gain": {"zip(Ws, gammas, strict=True)": "zip(Ws, [gammas[0]] * len(Ws), strict=True)"},
        "each token is normalized by itself: the mean runs over the last axis": {
            "(x**2).mean(axis=-1, keepdims=True)": "(x**2).mean(axis=0)"},
        "eps stands inside the root": {"np.sqrt((x**2).mean(axis=-1, keepdims=True) + eps)":
                                       "(np.sqrt((x**2).mean(axis=-1, keepdims=True)) + eps)"},
        "eps is missing": {" + eps)": ")"},
        "this norm subtracts no mean": {
            "return gamma * x / np.sqrt((x**2).mean(axis=-1, keepdims=True) + eps)":
            "return gamma * (x - x.mean(axis=-1, keepdims=True)) / np.sqrt(x.var(axis=-1, keepdims=True) + eps)"},
        "the ReLU is part of the branch: what is added is never negative": {
            "np.maximum(rms(x, gamma) @ W, 0)": "rms(x, gamma) @ W"},
    },
)
def pre_norm_stack(x, Ws, gammas, final, eps):
    """Blocks x + relu(norm(x) @ W), one for each W, and a norm after the last.

    x is (T, D); Ws and gammas are lists of (D, D) and (D,); final is the gain
    of the last norm. norm(x) is gamma * x over the root of mean(x**2) + eps.
    """
    def rms(x, gamma):
        return gamma * x / np.sqrt((x**2).mean(axis=-1, keepdims=True) + eps)

    for W, gamma in zip(Ws, gammas, strict=True):
        x = x + np.maximum(rms(x, gamma) @ W, 0)
    return rms(x, final)


# 12.4: QK-clip


def _clip_cases(seed=0):
    rng = np.random.default_rng(1240 + 100 * seed)
    x = np.array([[1.0, 0.0], [0.0, 1.0]])
    W_q = np.array([[[8.0, 0.0], [0.0, 8.0]], [[1.0, 0.0], [0.0, 1.0]]])
    yield "one head too large, one within the limit", (x, W_q, np.array([np.eye(2), np.eye(2)]), 2.0)
    for tokens, width, heads, K, size, limit, name in [(5, 4, 3, 4, 3, 5.0, "3 heads"), (4, 6, 2, 9, 4, 10.0, "9 wide"),
                                                       (3, 4, 2, 2, 0.1, 5.0, "all within the limit")]:
        x = rng.standard_normal((tokens, width))
        x[0] *= 0.2
        x[-1] *= 3  # the future is loud: what a token may not see must not count
        W_q = size * rng.uniform(0.1, 1.5, (heads, 1, 1)) * rng.standard_normal((heads, width, K))
        yield name, (x, W_q, rng.standard_normal((heads, width, K)), limit)


def _largest(x, W_q, W_k):
    s = (x @ W_q) @ (x @ W_k).mT / np.sqrt(W_q.shape[2])
    return np.abs(np.tril(s)).max(axis=(1, 2))


def _clip_law(args, outputs):
    x, W_q, W_k, limit = args
    before, after = _largest(x, W_q, W_k), _largest(x, *outputs)
    return np.allclose(after, np.minimum(before, limit), rtol=1e-9)


@exercise(
    cases=_clip_cases,
    outputs=("W_q", "W_k"),
    hints=(
        "compute the logits again with your weights: the largest of each head must be limit, or what it was if smaller",
        "a logit is a product of two things that you scale: each of the two takes a part of the factor",
        "factor = min(1, limit / largest) for each head; W_q and W_k both times its root",
    ),
    laws={"the largest logit of a head is limit, or what it was where that was smaller": _clip_law},
    mistakes={
        ("a logit has q and k in it, so both factors multiply: each needs the root",
         "your largest logit is limit**2 / largest: smaller than asked for",
         "sqrt(min(1, limit / largest)) for each of the two"): {
            "np.sqrt(np.minimum(1, limit / largest))": "np.minimum(1, limit / largest)"},
        "each head has its own largest logit; yours share one": {".max(axis=(1, 2))": ".max(keepdims=True)[:, 0, 0]"},
        "heads within the limit stay as they are: the factor is at most 1": {
            "np.minimum(1, limit / largest)": "(limit / largest)"},
        "the logits are divided by the root of K": {" / np.sqrt(W_q.shape[2])": ""},
        "the logits are divided by the root of K, the size of a head, not of D": {
            "np.sqrt(W_q.shape[2])": "np.sqrt(W_q.shape[1])"},
        "the logits are divided by the root of K, not by K": {"np.sqrt(W_q.shape[2])": "W_q.shape[2]"},
        "a token sees only itself and those before it: the logits above the diagonal do not count": {
            "np.tril(s)": "s"},
        "row t of q @ k.T holds what token t sees: the lower triangle counts": {"np.tril(s)": "np.triu(s)"},
        "a large negative logit counts as well: the largest in size": {"np.abs(np.tril(s))": "np.tril(s)"},
        "W_k takes its half of the factor too": {"return W_q * scale, W_k * scale": "return W_q * scale, W_k"},
        "both take half of it: the whole factor is on W_q now": {
            "return W_q * scale, W_k * scale": "return W_q * scale**2, W_k"},
        "a factor for each token's row is no change of a weight: one for each head": {
            ".max(axis=(1, 2))[:, None, None]": ".max(axis=2)[:, :1, None]"},
    },
)
def qk_clip(x, W_q, W_k, limit):
    """W_q and W_k scaled so that no logit of a head is larger than limit.

    x is (T, D); W_q and W_k are (heads, D, K). Logits are those of causal
    attention, and count by size. Both weights of a head get the same factor.
    """
    s = (x @ W_q) @ (x @ W_k).mT / np.sqrt(W_q.shape[2])
    largest = np.abs(np.tril(s)).max(axis=(1, 2))[:, None, None]
    scale = np.sqrt(np.minimum(1, limit / largest))
    return W_q * scale, W_k * scale
