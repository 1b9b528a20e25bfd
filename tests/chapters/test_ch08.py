"""Chapter 8, instance norm, style, condition: each equation, and what the prose says about it, by another way."""

import ast
import re
from functools import partial

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from course_lib import batch_norm, instance_norm, norm_backward
from course_lib.chapters.ch08 import measures
from course_lib.chapters.ch08.recorded import RECORDED

EXACT = {"rtol": 1e-11, "atol": 1e-12}  # float64, sums of fewer than 1000 terms of size 1
SHAPE = (4, 6, 3, 5)


def batch(seed=0, shape=SHAPE):
    """x off centre with a scale per map, gamma with a negative entry, beta, and a random dy."""
    rng = np.random.default_rng(seed)
    one = (*shape[:2], 1, 1)
    x = rng.normal(0, 1, shape) * rng.uniform(0.3, 4, one) + rng.uniform(-9, 9, one)
    gamma = rng.uniform(0.5, 2, shape[1])
    gamma[1] *= -1
    return x, gamma, rng.uniform(-1, 1, shape[1]), rng.standard_normal(shape) + 0.7


def cells(*beginnings):
    """What the chapter's own cells define, those which begin so (after their tags)."""
    from chapter import chapters

    [text] = [each.text for each in chapters() if each.number == 8]
    parts = [part.split("```")[0] for part in text.split("```{code-cell} ipython3\n")]
    parts = [re.sub(r"\A(---\n.*?\n---\n|:tags:.*\n+)", "", part, flags=re.DOTALL) for part in parts]
    scope = {"np": np, "torch": torch, "F": F, "partial": partial, "measures": measures, "own_map": measures.own_map}
    for beginning in beginnings:
        [cell] = [part for part in parts if part.startswith(beginning)]
        functions = [node for node in ast.parse(cell).body if isinstance(node, ast.FunctionDef)]
        exec(compile(ast.Module(functions, []), "page", "exec"), scope)
    return scope


def hat(z):
    """One sample of (D,) by its own mean and scale."""
    return (z - z.mean()) / ((z - z.mean()).square().mean() + 1e-5).sqrt()


def random_like(p, seed, size):
    g = torch.Generator().manual_seed(seed)
    return {name: size * torch.randn(value.shape, generator=g) for name, value in p.items()}


def plain(x, eps=1e-5):
    return instance_norm(x, np.ones(x.shape[1]), np.zeros(x.shape[1]), eps=eps)[0]


# The layer


def test_statistics_and_output_of_each_map():
    """Equations (8.1) and (8.2): sums written out for each map."""
    x, gamma, beta, _ = batch()
    y, _ = instance_norm(x, gamma, beta, eps=0.1)
    for n, c in np.ndindex(x.shape[:2]):
        mu = sum(x[n, c].ravel()) / 15
        var = sum((x[n, c].ravel() - mu) ** 2) / 15
        assert np.allclose(y[n, c], gamma[c] * (x[n, c] - mu) / (var + 0.1) ** 0.5 + beta[c], **EXACT)


@pytest.mark.parametrize("eps", [1e-5, 0.5])
def test_backward_by_torch(eps):
    """Equation (8.3): means over a map, sums over everything of a channel; torch, and the package."""
    x, gamma, beta, dy = batch(1)
    s = 1 / np.sqrt(x.var((2, 3), keepdims=True) + eps)
    x_hat = (x - x.mean((2, 3), keepdims=True)) * s
    d = gamma[:, None, None] * dy
    dx = s * (d - d.mean((2, 3), keepdims=True) - x_hat * (d * x_hat).mean((2, 3), keepdims=True))
    ours = dx, (dy * x_hat).sum((0, 2, 3)), dy.sum((0, 2, 3))
    leaves = [torch.tensor(v, requires_grad=True) for v in (x, gamma, beta)]
    y = F.instance_norm(leaves[0], weight=leaves[1], bias=leaves[2], eps=eps)
    theirs = torch.autograd.grad(y, leaves, torch.tensor(dy))
    package = norm_backward(dy, instance_norm(x, gamma, beta, eps=eps)[1])
    for each, torchs, packages in zip(ours, theirs, package, strict=True):
        assert np.allclose(each, torchs.numpy(), rtol=1e-9, atol=1e-10)
        assert np.allclose(each, packages, rtol=1e-9, atol=1e-10)


def test_one_image_is_a_batch():
    x, gamma, beta, _ = batch(2)
    assert np.allclose(instance_norm(x[:1], gamma, beta)[0], batch_norm(x[:1], gamma, beta)[0], **EXACT)
    assert np.abs(instance_norm(x, gamma, beta)[0] - batch_norm(x, gamma, beta)[0]).max() > 0.5


def test_contrast_and_brightness_of_each_map_are_gone():
    """Equation (8.4): for a > 0; a negative a turns the sign, and a gradient of light stays."""
    x, *_ = batch(3)
    rng = np.random.default_rng(3)
    a, b = rng.uniform(0.2, 5, (4, 6, 1, 1)), rng.normal(0, 9, (4, 6, 1, 1))
    assert np.allclose(plain(a * x + b, 0), plain(x, 0), rtol=0, atol=1e-11)
    assert np.allclose(plain(-x, 0), -plain(x, 0), **EXACT)
    assert np.abs(plain(x + np.linspace(0, 2, 5), 0) - plain(x, 0)).max() > 0.1


def test_maps_of_one_and_of_two_pixels():
    """One pixel gives beta, and torch refuses it in both modes; two give plus and minus one."""
    x, gamma, beta, _ = batch(4, (3, 4, 1, 1))
    assert np.array_equal(instance_norm(x, gamma, beta)[0], np.broadcast_to(beta[:, None, None], x.shape))
    for training in (True, False):
        with pytest.raises(ValueError, match="more than 1 spatial element"):
            torch.nn.InstanceNorm2d(4).train(training)(torch.tensor(x).float())
    pair = plain(np.array([[[[3.0, 7.0]], [[7.0, 3.0]], [[2.0, 2.0]]]]), 1e-15)
    assert np.allclose(pair, [[[[-1, 1]], [[1, -1]], [[0, 0]]]], rtol=0, atol=1e-12)


def test_mean_of_a_map_is_beta_whatever_the_image():
    """The answer of exercise 8.2 (b): pooling behind the layer sees nothing, and behind a ReLU no scale."""
    x, gamma, beta, _ = batch(5)
    y = instance_norm(x, gamma, beta, eps=0)[0]
    assert np.allclose(y.mean((2, 3)), beta, rtol=0, atol=1e-12)
    pooled, wider = (np.maximum(instance_norm(v, gamma, beta, eps=0)[0], 0).mean((2, 3)) for v in (x, 3 * x + 1))
    assert np.allclose(pooled, wider, **EXACT) and pooled.std(0).max() > 0.01


def test_tracked_statistics_make_it_another_layer():
    x = torch.randn(8, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    kept = torch.nn.InstanceNorm2d(3, track_running_stats=True)
    kept(x)
    kept.eval()
    assert (kept(2 * x + 3) - kept(x)).abs().max() > 1
    default = torch.nn.InstanceNorm2d(3).eval()
    assert torch.allclose(default(2 * x + 3), default(x), atol=1e-4) and not default.state_dict()


# Style


def test_adain_has_the_statistics_of_the_style():
    """Equation (8.5): the page's function; y has the mean of the style and its scale; content's own are gone."""
    adain = cells("def pixels_only")["pixels_only"]
    rng = np.random.default_rng(6)
    x, style = (torch.tensor(v) for v in (rng.normal(2, 3, (2, 3, 4, 5)), rng.normal(-1, 0.5, (2, 3, 6, 2))))
    y = adain(x, style)
    for n, c in np.ndindex(2, 3):
        s, content = style[n, c].numpy(), x[n, c].numpy()
        x_hat = (content - content.mean()) / np.sqrt(content.var() + 1e-5)
        assert np.allclose(y[n, c], np.sqrt(s.var() + 1e-5) * x_hat + s.mean(), **EXACT)
    assert torch.allclose(adain(7 * x - 1, style), y, atol=1e-4)


def test_gram_matrix_is_scales_correlations_and_means():
    """Equation (8.6): what the page takes for the Gram matrix and for correlations, by numpy's corrcoef."""
    maps = np.random.default_rng(7).standard_normal((16, 30)) @ np.random.default_rng(8).standard_normal((30, 30)) + 2
    found = cells("def summaries")["summaries"](torch.tensor(maps.reshape(1, 16, 5, 6)))
    mu, std, rows = maps.mean(1), maps.std(1), np.triu_indices(16)
    right = np.outer(std, std) * np.corrcoef(maps) + np.outer(mu, mu)
    assert np.allclose(found["Gram matrix"][0], right[rows], **EXACT)
    assert np.allclose(found["correlations alone"][0], np.corrcoef(maps)[rows], rtol=1e-5, atol=1e-5)  # eps


def test_own_map_and_paint():
    """What the page trains is instance norm; and two styles of one content differ by gamma and beta alone."""
    x, *_ = batch(9)
    assert np.allclose(measures.own_map(torch.tensor(x)), plain(x), **EXACT)
    weights = [measures.filters(0, 12, 1, 5), measures.filters(1, 12, 12, 3), measures.filters(2, 1, 12, 5),
               torch.tensor(0.3)]
    image = torch.rand(1, 1, 9, 9, generator=torch.Generator().manual_seed(0)).repeat(2, 1, 1, 1)
    gamma, beta = torch.ones(2, 2, 12), torch.zeros(2, 2, 12)
    gamma[0, 1, 3] = -2
    one, two = measures.paint(weights, image, gamma, beta)
    assert (one - two).abs().max() > 1e-3
    brighter = measures.paint(weights, 2 * image + 5, gamma, beta)
    assert torch.allclose(brighter, torch.stack([one, two]), atol=2e-3)  # up to eps: the border repeats, nothing leaks


def test_weights_of_a_style():
    shared = [measures.filters(0, 12, 1, 5), measures.filters(1, 12, 12, 3), measures.filters(2, 1, 12, 5)]
    assert sum(w.numel() for w in shared) + 1 == 1897 and 2 * 2 * 12 == 48


# Nets


@pytest.mark.parametrize("padding, leaks", [("reflect", False), ("constant", True)])
def test_zero_padding_tells_the_brightness(padding, leaks):
    p = measures.conv_weights([0, 1], 10, 16 * 16)
    x = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    outputs = [measures.classify(p, v, [measures.own_map] * 2, padding) for v in (x, x + 1)]
    moved = (outputs[0] - outputs[1]).abs().max()
    assert (moved > 0.05) == leaks


@pytest.mark.parametrize("gamma, beta", [(True, True), (True, False), (False, True)])
def test_film_by_hand(gamma, beta):
    """Equation (8.7): the page's net, sample by sample; what is not told is taken from question 0."""
    film = cells("def film")["film"]
    p = random_like(measures.film_weights([0, 1], 3), 2, 0.3)
    x, asked = torch.randn(4, 128, generator=torch.Generator().manual_seed(3)), torch.tensor([2, 0, 1, 2])
    y = film(p, x, asked, gamma=gamma, beta=beta)
    for e, n in np.ndindex(2, 4):
        h = x[n]
        for k in range(3):
            scale, shift = (p[f"{name}{k}"][e, asked[n] if told else 0]
                            for name, told in (("gamma", gamma), ("beta", beta)))
            h = torch.clamp(scale * hat(h @ p[f"W{k}"][e]) + shift, min=0)
        assert torch.allclose(y[e, n], h @ p["head"][e] + p["bias"][e, 0], atol=1e-4)


def test_questions():
    a, b = torch.tensor([3, 9]), torch.tensor([5, 4])
    answers = {name: f(a, b).tolist() for name, f in measures.QUESTIONS.items()}
    assert answers == {"left": [3, 9], "right": [5, 4], "larger": [5, 9], "sum, last digit": [8, 3], "smaller": [3, 4]}


def test_flow_matching_asks_for_the_mean_direction():
    """Equation (8.8): of constants the least loss has the mean of x_1 - x_0, 1 + the variance of the images."""
    *_, x, y = measures.clean()

    def constant(p, x_t, t, y):
        return x.mean(0).expand(1, x_t.shape[1], -1)

    loss = measures.held_out(constant, {"out": torch.zeros(1, 64, 64)})
    assert np.isclose(loss[0], 1 + ((x - x.mean(0)) ** 2).mean(), rtol=0.02)  # two noises an image


def blocks_of_the_page():
    return cells("def normed", "def adaln_zero", "def concat_gate", "def concat_fixed", "def final_adaln",
                 "def final_bare")


def test_adaln_block_sample_by_sample():
    """Equation (8.9): the page's blocks with random s, b, g and gates; and the two ends of the net."""
    page, p = blocks_of_the_page(), random_like(measures.flow_weights([0, 1], reads=64, last=1), 4, 0.2)
    g = torch.Generator().manual_seed(3)
    h, c = torch.randn(2, 4, 64, generator=g), torch.randn(2, 4, 32, generator=g)
    for e, n in np.ndindex(2, 4):
        scale, shift, gate = (c[e, n] @ p["mod 1"][e] + p["mod bias 1"][e, 0]).chunk(3)
        hidden = torch.clamp(((1 + scale) * hat(h[e, n]) + shift) @ p["W1 1"][e] + p["b1 1"][e, 0], min=0)
        f = hidden @ p["W2 1"][e] + p["b2 1"][e, 0]
        for block, factor in (("adaln_zero", gate), ("adaln", 1 + gate), ("adaln_gate", p["gate 1"][e, 0])):
            assert torch.allclose(page[block](p, 1, h, c)[e, n], h[e, n] + factor * f, atol=1e-4), block
        assert torch.allclose(page["adaln_fixed"](0.1, p, 1, h, c)[e, n], h[e, n] + 0.1 * f, atol=1e-4)
        scale, shift = (c[e, n] @ p["mod out"][e] + p["mod bias out"][e, 0]).chunk(2)
        for final, size in (("final_adaln", hat(h[e, n])), ("final_bare", h[e, n])):
            right = ((1 + scale) * size + shift) @ p["out"][e]
            assert torch.allclose(page[final](p, h, c)[e, n], right, atol=1e-4), final


def test_concatenated_blocks_sample_by_sample():
    page, p = blocks_of_the_page(), random_like(measures.flow_weights([0, 1], reads=96, last=1), 5, 0.2)
    g = torch.Generator().manual_seed(6)
    h, c = torch.randn(2, 4, 64, generator=g), torch.randn(2, 4, 32, generator=g)
    for e, n in np.ndindex(2, 4):
        u = torch.cat([hat(h[e, n]), c[e, n]])
        f = torch.clamp(u @ p["W1 0"][e] + p["b1 0"][e, 0], min=0) @ p["W2 0"][e] + p["b2 0"][e, 0]
        for block, factor in ((page["concat"], 1), (page["concat_gate"], p["gate 0"][e, 0]),
                              (partial(page["concat_fixed"], 0.1), 0.1)):
            assert torch.allclose(block(p, 0, h, c)[e, n], h[e, n] + factor * f, atol=1e-4)


def test_adaln_zero_starts_as_the_identity():
    page, p = blocks_of_the_page(), measures.flow_weights([0], reads=64, last=1)
    g = torch.Generator().manual_seed(3)
    h, c = torch.randn(1, 5, 64, generator=g), torch.randn(1, 5, 32, generator=g)
    assert torch.equal(page["adaln_zero"](p, 0, h, c), h)
    assert (page["adaln"](p, 0, h, c) - h).abs().max() > 0.1


def test_what_the_text_says_of_recorded_runs():
    """Of the gap of the page a tenth is left; the norm's way is ahead then; a small start and slow growth together."""
    middle = {name: np.median(values) for name, values in RECORDED.items()}
    assert all(len(values) == 5 for values in RECORDED.values())
    assert 0.02 < middle["1000 steps: AdaLN, gate from 1"] - middle["1000 steps: AdaLN-zero"] < 0.04
    for how in ("plain gate", "0.1"):
        assert max(RECORDED[f"1000 steps: AdaLN, {how}"]) < min(RECORDED[f"1000 steps: concat., {how}"])
    both = middle["AdaLN, factor 0.1"]
    for alone in ("1, last W times 0.1", "1, last W from 0", "0.1, last W times 10"):
        assert both + 0.15 < middle[f"AdaLN, factor {alone}"] < middle["AdaLN, factor 1"] - 0.1


def test_tuned_takes_the_rate_with_the_least_median_and_other_seeds():
    asked = []

    def run(rate, seeds):
        asked.append((rate, tuple(seeds)))
        return np.array([abs(rate - 2) + 0.1 * s for s in seeds]), rate

    best, medians, values, rest = measures.tuned(run, [1, 2, 3], seeds=range(5), tried=(0,))
    assert best == rest == 2 and medians == [1, 0, 1] and len(values) == 5
    assert asked[-1] == (2, (0, 1, 2, 3, 4))


def test_adam_leaves_unused_parameters_and_finds_a_minimum():
    used, unused = torch.tensor([3.0, -1.0]), torch.tensor([5.0])
    measures.adam([used, unused], lambda step: ((used - 1) ** 2).sum(), rate=0.1, steps=200)
    assert torch.allclose(used, torch.ones(2), atol=0.05) and unused.item() == 5 and not used.requires_grad
