"""What chapter 12 trains on, and how: letters drawn from a seed, and several small transformers at once."""

from functools import cache
from math import cos, pi

import torch
from torch.nn import functional as F

LETTERS, T = 16, 16


# The task


@cache
def pair_table():
    """How often letter j follows letter i, (16, 16), the same for everybody; rows sum to 1."""
    draw = torch.Generator().manual_seed(7)
    return (1.5 * torch.randn(LETTERS, LETTERS, generator=draw)).softmax(-1)


@cache
def held_out():
    """128 texts that no net trains on, (128, 17)."""
    return texts(10**6, 128)


@cache
def levels():
    """The loss on the second half of the held-out texts of who knows the letters' frequencies, or the pairs too."""
    often = torch.full((LETTERS,), 1 / LETTERS)
    for _ in range(100):
        often = often @ pair_table()
    second = held_out()[:, T // 2:]  # nine letters, of which eight are asked for; the last one breaks the rule of pairs
    by_letters, by_pairs = often[second[:, 1:]], pair_table()[second[:, :-1], second[:, 1:]]
    by_pairs[:, -1] = by_letters[:, -1]
    return {"letters": -by_letters.log().mean().item(), "pairs": -by_pairs.log().mean().item()}


def texts(seed, count):
    """Texts (count, 17): eight letters, each drawn by the one before, the same eight again, and the first once more."""
    draw = torch.Generator().manual_seed(seed)
    s = torch.randint(LETTERS, (count, 1), generator=draw)
    for _ in range(T // 2 + 20):  # 21 letters of run-up, so that the first has the right frequency
        s = torch.cat([s, torch.multinomial(pair_table()[s[:, -1]], 1, generator=draw)], 1)
    s = s[:, -(T // 2):]
    return torch.cat([s, s, s[:, :1]], 1)


# The nets


def new_nets(depth, seeds, *, branch=1.0, out=1.0, width=32, heads=2):
    """Parameters of E nets, one for each seed: a list of dicts, one a block, and a dict for what stands outside.

    Matrices (E, fan_in, fan_out) have variance 1 / fan_in (2 / fan_in behind the
    ReLU), those that write to the stream `branch` times that spread; gains are 1,
    those at the end of a branch `out`; the stream starts at mean square 1.
    """
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    def draw(rows, columns, std):
        return torch.stack([std * torch.randn(rows, columns, generator=g) for g in generators])

    def ones(*shape):
        return torch.ones(len(generators), *shape)

    std, blocks = width**-0.5, []
    outside = {"letters": draw(LETTERS, width, 0.5**0.5), "places": draw(T, width, 0.5**0.5),
               "head": draw(width, LETTERS, std), "final": ones(1, width)}
    for _ in range(depth):
        blocks.append({"q": draw(width, width, std), "k": draw(width, width, std), "v": draw(width, width, std),
                       "o": draw(width, width, branch * std), "up": draw(width, 4 * width, std),
                       "down": draw(4 * width, width, branch * (2 / (4 * width)) ** 0.5),
                       "g_q": ones(1, 1, 1, width // heads), "g_k": ones(1, 1, 1, width // heads),
                       "a_in": ones(1, width), "f_in": ones(1, width), "a_out": out * ones(1, width),
                       "f_out": out * ones(1, width)})
    return blocks, outside


def parameters(nets):
    blocks, outside = nets
    return [p for part in (*blocks, outside) for p in part.values()]


def losses(logits, s):
    """Cross-entropy in nats, (E, B, T), of logits (E, B T, letters) for the texts s (E, B, T + 1)."""
    after = s[..., 1:]
    return F.cross_entropy(logits.flatten(0, 1), after.flatten(), reduction="none").view(after.shape)


def train(nets, forward, seeds, rates, *, steps=200, warm=20, batch=8):
    """Adam with clipping, each net by itself and with its own rate, which rises and falls as `schedule` says."""
    learned = [p.requires_grad_() for p in parameters(nets)]
    m, v = ([torch.zeros_like(p) for p in learned] for _ in range(2))
    drawn = torch.stack([texts(seed, steps * batch).view(steps, batch, -1) for seed in seeds])
    for t in range(steps):
        loss = losses(forward(nets, drawn[:, t]), drawn[:, t]).mean((1, 2))
        gradients = clipped(torch.autograd.grad(loss.sum(), learned, allow_unused=True), learned)
        with torch.no_grad():
            torch._foreach_lerp_(m, gradients, 0.1)
            torch._foreach_lerp_(v, torch._foreach_mul(gradients, gradients), 0.05)
            for p, a, b in zip(learned, m, v, strict=True):
                step = a / (1 - 0.9 ** (t + 1)) / ((b / (1 - 0.95 ** (t + 1))).sqrt() + 1e-8)
                p -= schedule(t, steps, warm) * rates.view(-1, *[1] * (p.dim() - 1)) * step
    return nets


def schedule(t, steps, warm):
    """The share of the rate that step t takes: a rise along a line over `warm` steps, and a cosine down to a tenth."""
    return min(1, (t + 1) / max(warm, 1)) * (0.55 + 0.45 * cos(pi * t / steps))


def clipped(gradients, learned, most=1.0):
    """The gradients, those of each net scaled down to length `most` if they are longer; 0 where there is none."""
    gradients = [torch.zeros_like(p) if g is None else g for g, p in zip(gradients, learned, strict=True)]
    length = sum((g.flatten(1) ** 2).sum(1) for g in gradients).sqrt()
    scale = (most / length).clamp(max=1).nan_to_num(0)
    return [g * scale.view(-1, *[1] * (g.dim() - 1)) for g in gradients]
