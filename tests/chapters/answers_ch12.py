"""Right answers to the exercises of chapter 12 in other styles: the checker must accept each of them."""

import numpy as np


def post_dx_by_autograd(dy, x, W, gamma, eps):
    import torch

    x, W, gamma = torch.tensor(x, requires_grad=True), torch.tensor(W), torch.tensor(gamma)
    y = torch.nn.functional.rms_norm(x + torch.relu(x @ W), (len(gamma),), gamma, eps)
    return torch.autograd.grad(y, x, torch.tensor(dy))[0]


def post_dx_by_jacobians(dy, x, W, gamma, eps):
    dx, eye = np.empty_like(x), np.eye(x.shape[1])
    for t, token in enumerate(x):
        z = token + np.maximum(token @ W, 0)
        r = np.sqrt(np.mean(z**2) + eps)
        J_norm = np.diag(gamma) @ (eye - np.outer(z, z) / (len(z) * r**2)) / r  # dy_i / dz_j
        J_block = eye + np.diag(1.0 * (token @ W > 0)) @ W.T
        dx[t] = dy[t] @ J_norm @ J_block
    return dx


def post_dx_by_steps(dy, x, W, gamma, eps):
    z = x + np.where(x @ W > 0, x @ W, 0)
    v = np.mean(z * z, axis=1, keepdims=True) + eps
    d = dy * gamma
    dv = np.sum(d * z, axis=1, keepdims=True) * -0.5 * v**-1.5
    dz = d * v**-0.5 + dv * 2 * z / x.shape[1]
    dx = dz.copy()
    dx += np.where(x @ W > 0, dz, 0) @ np.transpose(W)
    return dx


def stack_by_functions(x, Ws, gammas, final, eps):
    def unit(v):
        return v * (np.mean(np.square(v), -1)[..., None] + eps) ** -0.5

    stream = np.array(x)
    for index, W in enumerate(Ws):
        stream += np.clip((unit(stream) * gammas[index]) @ W, 0, None)
    return unit(stream) * final


def stack_in_torch(x, Ws, gammas, final, eps):
    import torch

    def norm(x, gamma):
        return torch.nn.functional.rms_norm(x, (len(gamma),), torch.tensor(gamma), eps)

    x = torch.tensor(x)
    for W, gamma in zip(Ws, gammas):
        x = x + torch.relu(norm(x, gamma) @ torch.tensor(W))
    return norm(x, final)


def stack_folded(x, Ws, gammas, final, eps):
    for W, gamma in zip(Ws, gammas):
        folded = gamma[:, None] * W
        x = x + np.maximum(x @ folded / np.sqrt((x * x).mean(1, keepdims=True) + eps), 0)
    return final * x / np.sqrt((x * x).mean(1, keepdims=True) + eps)


def clip_by_loops(x, W_q, W_k, limit):
    new_q, new_k = W_q.copy(), W_k.copy()
    for head in range(len(W_q)):
        q, k = x @ W_q[head], x @ W_k[head]
        largest = max(abs(q[t] @ k[u]) / q.shape[1] ** 0.5 for t in range(len(x)) for u in range(t + 1))
        if largest > limit:
            new_q[head] *= (limit / largest) ** 0.5
            new_k[head] *= (limit / largest) ** 0.5
    return new_q, new_k


def clip_by_einsum(x, W_q, W_k, limit):
    q, k = np.einsum("td,hdk->htk", x, W_q), np.einsum("td,hdk->htk", x, W_k)
    s = np.einsum("htk,huk->htu", q, k)
    s = np.where(np.arange(len(x))[:, None] >= np.arange(len(x)), s, 0) * W_q.shape[-1] ** -0.5
    factor = np.minimum(limit / abs(s).reshape(len(s), -1).max(1), 1) ** 0.5
    return W_q * factor.reshape(-1, 1, 1), W_k * factor.reshape(-1, 1, 1)


def clip_in_torch(x, W_q, W_k, limit):
    import torch

    x, W_q, W_k = (torch.tensor(v) for v in (x, W_q, W_k))
    s = torch.einsum("htk,huk->htu", x @ W_q, x @ W_k) / W_q.shape[-1] ** 0.5
    factor = (limit / s.tril().abs().amax((1, 2))).clamp(max=1).sqrt()[:, None, None]
    return W_q * factor, W_k * factor


STYLES = {
    "post_block_dx": [post_dx_by_autograd, post_dx_by_jacobians, post_dx_by_steps],
    "pre_norm_stack": [stack_by_functions, stack_in_torch, stack_folded],
    "qk_clip": [clip_by_loops, clip_by_einsum, clip_in_torch],
}
_LAST = "the last of two axes is axis 1"
EQUIVALENT = {
    "post_block_dx": {"-1 -> 1": _LAST, "-1 -> 1 (2)": _LAST,
                      "x @ W > 0 -> x @ W >= 0": "it is exactly 0 only where W is, and then nothing passes W"},
    "pre_norm_stack": {"-1 -> 1": _LAST, "True -> False": "there are as many gains as matrices"},
}
