"""Chapter 12, norms in transformers: each equation and each claim about numbers, by a way of its own."""

import chapter12 as long_benchmark  # benchmarks/chapter12.py: it takes the definitions out of the chapter's text
import numpy as np
import pytest
import torch
from torch.nn import functional as F

from course_lib.chapters.ch12 import long_runs, measures

PAGE = long_benchmark.page
CLOSE = {"rtol": 1e-5, "atol": 1e-6}  # float32, sums of fewer than 1000 terms of size 1


def rms(x, gamma=1.0, eps=1e-6):
    return gamma * x / np.sqrt((x**2).mean(-1, keepdims=True) + eps)


def texts(nets, count=8):
    return measures.held_out()[:count].expand(len(nets[1]["head"]), -1, -1)


def learned(nets):
    for p in measures.parameters(nets):
        p.requires_grad_()
    return nets


# The net


@pytest.mark.parametrize("place", ["none", "post", "pre", "peri", "output"])
def test_placements(place):
    """Equation (12.1): written out in NumPy, with gains that are not 1 and a branch that is not linear."""
    rng = np.random.default_rng(0)
    x, W = rng.normal(0.3, 2, (5, 6)), rng.standard_normal((6, 6))
    g_in, g_out = rng.normal(1, 0.5, (2, 6))
    right = {"none": x + np.tanh(x @ W), "post": rms(x + np.tanh(x @ W), g_out), "pre": x + np.tanh(rms(x, g_in) @ W),
             "peri": x + rms(np.tanh(rms(x, g_in) @ W), g_out), "output": x + rms(np.tanh(x @ W), g_out)}[place]
    ours = PAGE[place](torch.tensor(x), lambda u: torch.tanh(u @ torch.tensor(W)), torch.tensor(g_in),
                       torch.tensor(g_out))
    assert np.allclose(ours, right, rtol=1e-12)


def plain_logits(blocks, outside, s, place, qk_norm):
    """The logits of net 0 for one text, by torch's own attention and norm."""
    x = outside["letters"][0][s[:-1]] + outside["places"][0]

    def normed(x, gamma):
        return F.rms_norm(x, gamma.shape[-1:], gamma.flatten(), 1e-6)

    def attention(u, p):
        q, k, v = ((u @ p[name][0]).view(16, 2, -1).transpose(0, 1) for name in "qkv")
        if qk_norm:
            q, k = normed(q, p["g_q"]), normed(k, p["g_k"])
        return F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(0, 1).flatten(1) @ p["o"][0]

    for p in blocks:
        for f, sides in ((attention, "a"), (lambda u, p: F.relu(u @ p["up"][0]) @ p["down"][0], "f")):
            g_in, g_out = p[f"{sides}_in"], p[f"{sides}_out"]
            if place == "post":
                x = normed(x + f(x, p), g_out)
            elif place == "pre":
                x = x + f(normed(x, g_in), p)
            else:
                x = x + normed(f(normed(x, g_in), p), g_out)
    return normed(x, outside["final"]) @ outside["head"][0]


@pytest.mark.parametrize("place", ["post", "pre", "peri"])
@pytest.mark.parametrize("qk_norm", [False, True])
def test_net_against_a_plain_one(place, qk_norm):
    nets = measures.new_nets(2, [3])
    rng = torch.Generator().manual_seed(0)
    for p in measures.parameters(nets):  # so that no gain is 1
        p += 0.3 * torch.randn(p.shape, generator=rng)
    s = texts(nets, 3)
    logits, stream = PAGE["gpt"](nets, s, PAGE["Design"](PAGE[place], qk_norm=qk_norm))
    assert len(stream) == 3
    for ours, text in zip(logits.view(3, 16, -1), s[0], strict=True):
        assert torch.allclose(ours, plain_logits(*nets, text, place, qk_norm), rtol=1e-3, atol=1e-4)


def test_no_token_sees_the_future():
    nets, design = measures.new_nets(2, [0]), PAGE["Design"](PAGE["pre"])
    s = texts(nets, 1).clone()
    before = PAGE["gpt"](nets, s, design)[0][0]
    s[..., 10] = (s[..., 10] + 1) % 16
    after = PAGE["gpt"](nets, s, design)[0][0]
    assert torch.equal(before[:10], after[:10]) and not torch.allclose(before[10:], after[10:], atol=1e-3)


def test_nets_do_not_see_each_other():
    """A net trained in company, at its own rate, is the net trained alone."""
    design = PAGE["Design"](PAGE["peri"], qk_norm=True)
    both = PAGE["learn"](design, 1, [0.01, 0.03], steps=3, seeds=[4])
    alone = PAGE["learn"](design, 1, [0.03], steps=3, seeds=[4])
    for a, b in zip(measures.parameters(both), measures.parameters(alone), strict=True):
        assert torch.allclose(a[1], b[0], rtol=1e-3, atol=1e-4)


def test_training_is_adam():
    """Three steps against torch.optim.Adam with the same schedule and clipping."""
    nets, design, steps = measures.new_nets(1, [2]), PAGE["Design"](PAGE["pre"]), 3
    ours = PAGE["learn"](design, 1, [0.02], steps=steps, warm=2, seeds=[2])
    own = [p.requires_grad_() for p in measures.parameters(nets)]
    adam, s = torch.optim.Adam(own, betas=(0.9, 0.95)), measures.texts(2, steps * 8).view(steps, 1, 8, -1)
    for t in range(steps):
        adam.param_groups[0]["lr"] = 0.02 * measures.schedule(t, steps, 2)
        adam.zero_grad()
        measures.losses(PAGE["gpt"](nets, s[t], design)[0], s[t]).mean().backward()
        torch.nn.utils.clip_grad_norm_([p for p in own if p.grad is not None], 1.0)
        adam.step()
    for a, b in zip(measures.parameters(ours), own, strict=True):
        assert torch.allclose(a, b, rtol=1e-2, atol=2e-4)


def test_task():
    s = measures.texts(1, 4000)
    assert torch.equal(s[:, :8], s[:, 8:16]) and torch.equal(s[:, 0], s[:, 16])
    pairs = torch.zeros(16, 16).index_put_((s[:, 3], s[:, 4]), torch.ones(4000), accumulate=True)
    shares = pairs / pairs.sum(1, keepdim=True)
    assert (shares - measures.pair_table())[pairs.sum(1) > 100].abs().max() < 0.12
    assert 1.8 < measures.levels()["pairs"] < 2.2 < 2.6 < measures.levels()["letters"] < 2.8


# The stream


def test_stream_grows_by_sums():
    """Equation (12.2): random branches of mean square 1, and g^2, written out."""
    rng = np.random.default_rng(0)
    pre, peri, blocks, width = rng.standard_normal((2, 400, 64)), rng.standard_normal((400, 64)), 12, 64
    pre, g = pre[0], 0.5
    for _ in range(2 * blocks):
        pre = pre + rms(pre) @ (rng.standard_normal((width, width)) / np.sqrt(width))
        peri = peri + g * rms(np.maximum(rms(peri) @ rng.standard_normal((width, width)), 0)
                              @ rng.standard_normal((width, width)))
    assert abs((pre**2).mean() / (1 + 2 * blocks) - 1) < 0.2  # c = 2: every branch writes 1
    assert abs((peri**2).mean() / (1 + 2 * g**2 * blocks) - 1) < 0.35  # ReLUs make branches a little alike
    post = rms(rng.standard_normal((5, width)) + 3, g)
    assert np.allclose((post**2).mean(-1), g**2, rtol=1e-4)


@pytest.mark.parametrize("place", ["pre", "post"])
def test_two_ways_back(place):
    """Equation (12.3): as printed, against autograd, for one token and a branch with a known derivative."""
    printed = {"pre": r"\text{pre:}\quad dx = dy + dy\,F J,", "post": r"\text{post:}\quad dx = dy\,J + dy\,J\,F,"}
    assert printed[place] in long_benchmark.TEXT.read_text(encoding="utf8")
    rng = np.random.default_rng(1)
    x, W, dy = rng.normal(0.5, 2, 7), rng.standard_normal((7, 7)), rng.standard_normal(7)

    def J(z):
        nu = np.sqrt((z**2).mean())
        return (np.eye(7) - np.outer(z, z) / nu**2 / 7) / nu

    def branch(u):
        return np.tanh(W @ u), np.diag(1 - np.tanh(W @ u) ** 2) @ W  # and its derivative, dy_i / du_j

    if place == "pre":
        F = branch(rms(x, eps=0))[1]
        dx = dy + dy @ F @ J(x)
    else:
        value, F = branch(x)
        dx = dy @ J(x + value) + dy @ J(x + value) @ F
    x_t = torch.tensor(x, requires_grad=True)

    def f(u):
        return torch.tanh(torch.tensor(W) @ u)

    y = PAGE[place](x_t, f, torch.ones(7, dtype=torch.float64), torch.ones(7, dtype=torch.float64))
    assert np.allclose(torch.autograd.grad(y, x_t, torch.tensor(dy))[0], dx, rtol=1e-4, atol=1e-5)
    assert np.allclose(x @ J(x), 0, atol=1e-12) and np.allclose(np.linalg.norm(J(3 * x), 2) * 3,
                                                                np.linalg.norm(J(x), 2))


def test_alike_is_the_mean_cosine_of_two_tokens():
    x = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(0)) + 0.5
    x *= torch.tensor([1.0, 2, 3, 4, 5])[:, None]  # tokens of different lengths
    for ours, tokens in zip(PAGE["alike"](x), x.numpy(), strict=True):
        cosines = [a @ b / np.linalg.norm(a) / np.linalg.norm(b)
                   for i, a in enumerate(tokens) for j, b in enumerate(tokens) if i != j]
        assert np.isclose(ours.item(), np.mean(cosines), **CLOSE)


@pytest.mark.parametrize("place", ["post", "pre"])
def test_first_step_is_a_step_of_each_sign(place):
    """Each parameter moves by the rate against its gradient; the logits' change is measured in their length."""
    design, rate = PAGE["Design"](PAGE[place]), 1e-2  # large enough to tell down from up
    ours = PAGE["first_step"](design, 2, rate)
    for seed in (0, 3):
        nets = learned(measures.new_nets(2, [seed]))
        s = texts(nets, 32)
        before = PAGE["gpt"](nets, s, design)[0]
        measures.losses(before, s).mean().backward()
        with torch.no_grad():
            for p in measures.parameters(nets):
                if p.grad is not None:
                    p -= rate * p.grad.sign()
            after = PAGE["gpt"](nets, s, design)[0]
        assert np.isclose(ours[seed].item(), ((after - before).norm() / before.norm()).item(), rtol=0.02)


def test_last_gradient_falls_as_the_stream_grows():
    """Equation (12.4): times the stream's length it is constant for pre, and for post without it."""
    products = {}
    for place in ("pre", "post"):
        for depth in (6, 24):
            nets = measures.new_nets(depth, range(5))
            last = nets[0][-1]["down"].requires_grad_()
            s = texts(nets, 16)
            logits, stream = PAGE["gpt"](nets, s, PAGE["Design"](PAGE[place]))
            gradient = torch.autograd.grad(measures.losses(logits, s).mean((1, 2)).sum(), last)[0]
            length = (stream[-1] ** 2).mean((1, 2)).sqrt()
            products[place, depth] = (gradient.flatten(1).norm(dim=1) * length).median().item()
    assert 0.7 < products["pre", 24] / products["pre", 6] < 1.6
    assert 0.7 < products["post", 24] / products["post", 6] < 1.6


def test_bound_of_the_logits():
    """Equation (12.5): never exceeded, and reached by a vector with one entry."""
    rng = np.random.default_rng(2)
    x, w, gamma = rng.standard_normal((1000, 8)) ** 3, rng.standard_normal(8), rng.normal(0, 2, 8)
    bound = np.linalg.norm(w) * np.sqrt(8) * np.abs(gamma).max()
    assert np.abs(rms(x, gamma) @ w).max() <= bound
    one = np.eye(8)[np.abs(gamma).argmax()]
    assert np.isclose(np.abs(rms(7 * one, gamma, eps=0) @ one), np.sqrt(8) * np.abs(gamma).max())


def test_scaling_with_depth():
    """Equation (12.6): 1 + c / 2 for the small start; the three blocks written out."""
    depth = 24
    nets = measures.new_nets(depth, range(3), branch=(2 * depth) ** -0.5)
    with torch.no_grad():
        stream = PAGE["gpt"](nets, texts(nets, 32), PAGE["Design"](PAGE["pre"]))[1][-1]
    assert 1.5 < (stream**2).mean() < 2.1
    x, W = np.random.default_rng(3).standard_normal((2, 4, 4))

    def f(u):
        return u @ torch.tensor(W)

    one, out = torch.ones(4, dtype=torch.float64), 0.1 * torch.ones(4, dtype=torch.float64)
    deep = PAGE["deepnorm"](8)(torch.tensor(x), f, one, one)
    assert np.allclose(deep, rms(2 * x + x @ W), rtol=1e-12)  # (2 * 8) ** (1 / 4) = 2
    scaled = PAGE["layer_scale"](torch.tensor(x), f, one, out)
    assert np.allclose(scaled, x + 0.1 * (rms(x) @ W), rtol=1e-12)
    assert torch.allclose(measures.new_nets(1, [0], out=0.1)[0][0]["f_out"], torch.tensor(0.1))


# Attention


def test_bound_of_qk_norm():
    """Equation (12.7): never exceeded, reached by a query that is its key, and blind to the length of a query."""
    rng = np.random.default_rng(4)
    q, k = 9 * rng.standard_normal((2, 500, 4)) ** 3
    g_q, g_k = rng.normal(0, 2, (2, 4))
    s = rms(q, g_q) @ rms(k, g_k).T / np.sqrt(4)
    bound = np.sqrt(4) * np.abs(g_q * g_k).max()
    assert np.abs(s).max() <= bound
    one = np.eye(4)[np.abs(g_q * g_k).argmax()]
    assert np.isclose(np.abs(rms(5 * one, g_q, 0) @ rms(one, g_k, 0)) / 2, bound)
    assert np.allclose(rms(3 * q, g_q, 0), rms(q, g_q, 0))


def test_soft_cap():
    """Equation (12.8): the slope by autograd, and 0.0002 at five times the cap."""
    s = torch.linspace(-60, 60, 101, dtype=torch.float64, requires_grad=True)
    slope = torch.autograd.grad((10 * torch.tanh(s / 10)).sum(), s)[0].numpy()
    assert np.allclose(slope, 1 - np.tanh(s.detach().numpy() / 10) ** 2, rtol=1e-9, atol=1e-15)
    assert round(1 - np.tanh(5) ** 2, 4) == 0.0002


def test_entropy_and_largest_logit():
    s = torch.zeros(1, 1, 1, 16, 16)
    s[..., 0, 1] = 99.0  # the future: it does not count
    s[..., 5, 2] = -3.0
    largest, entropy = PAGE["logits_and_entropy"](s)
    assert largest.item() == 3
    s[..., 5, 2] = 0
    assert np.isclose(PAGE["logits_and_entropy"](s)[1].item(), np.log(np.arange(1, 17)).mean(), rtol=1e-5)


# Folding, sixteen bits, conditions


def test_folding():
    """Equation (12.9), and the whole pre net with gains that are not 1."""
    rng = np.random.default_rng(5)
    x, gamma, W = rng.standard_normal((3, 6)), rng.standard_normal(6), rng.standard_normal((6, 4))
    assert np.allclose((gamma * x) @ W, x @ (np.diag(gamma) @ W), rtol=1e-12)
    nets = measures.new_nets(2, [0])
    for p in measures.parameters(nets):
        p += 0.3 * torch.randn(p.shape, generator=torch.Generator().manual_seed(1))
    design, new = PAGE["Design"](PAGE["pre"]), PAGE["folded"](nets)
    assert torch.allclose(PAGE["gpt"](nets, texts(nets), design)[0], PAGE["gpt"](new, texts(nets), design)[0],
                          rtol=1e-3, atol=1e-4)
    assert all((p[name] == 1).all() for p in new[0] for name in ("a_in", "f_in")) and (new[1]["final"] == 1).all()


def test_rounding_of_the_stream():
    """Equation (12.10): the share 0.0017, for entries of many sizes; and none is off by more than 2 ** -8."""
    x = torch.randn(200_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    off = x.bfloat16().double() - x
    assert 0.0015 < off.norm() / x.norm() < 0.0018
    assert (off / x).abs().max() <= 2**-8
    added = 0.05 * torch.randn(200_000, dtype=torch.float64)
    ratio = ((x + added).bfloat16() - (x + added)).norm() / added.norm()
    assert abs(ratio / (0.0017 / 0.05) - 1) < 0.1


def test_condition_through_the_norm():
    """Equation (12.11): with s, b and a at 0 the block is the identity, and only the gate has a gradient."""
    rng = torch.Generator().manual_seed(6)
    x, W = torch.randn(3, 5, generator=rng), torch.randn(5, 5, generator=rng)
    s, b, a = (torch.zeros(5, requires_grad=True) for _ in range(3))
    y = x + a * torch.tanh(((1 + s) * F.layer_norm(x, (5,)) + b) @ W)
    assert torch.equal(y, x)
    ds, db, da = torch.autograd.grad((y * torch.randn(3, 5, generator=rng)).sum(), (s, b, a))
    assert ds.abs().max() == 0 and db.abs().max() == 0 and da.abs().min() > 0


# The long runs


def test_table_is_complete():
    fast = dict.fromkeys(long_benchmark.RATE, long_benchmark.FAST_RATES)
    for experiment, grids in [("deep", long_benchmark.DEEP_RATES), ("rate", fast)]:
        for arm, rates in grids.items():
            found, losses = long_runs.values(experiment, arm)
            assert tuple(found) == rates and losses.shape == (len(rates), 5)
    for arm in long_benchmark.WARM:
        for warm in (0, 60):
            assert long_runs.values("warm-up", f"{arm}, warm-up {warm}")[1].shape == (len(long_benchmark.SLOW_RATES), 5)
    assert long_runs.by_block("start", "pre", 0, "stream").shape == (25, 5)
    with pytest.raises(ValueError, match="no arm 'pro'"):
        long_runs.values("deep", "pro")


def test_table_is_that_of_this_code():
    """Two rates of one arm again: on another processor the seeds end elsewhere, but their medians near the table's."""
    design = PAGE["Design"](PAGE["peri"], qk_norm=True)
    ours = PAGE["copying"](PAGE["learn"](design, 2, [0.005, 0.02]), design).view(2, 5).median(1).values
    rates, losses = long_runs.values("rate", "peri, QK-norm")
    for rate, loss, factor in zip((0.005, 0.02), ours.tolist(), (1.5, 3), strict=True):
        theirs = np.median(losses[list(rates).index(rate)])
        assert 1 / factor < loss / theirs < factor
