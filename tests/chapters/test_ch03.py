"""Chapter 3, weight initialization: each equation and each claim about numbers, by a way that is not the text's own."""

import numpy as np
import pytest
import torch

from course_lib import data, init, training
from course_lib.chapters.ch03 import measures

EXACT = {"rtol": 1e-10, "atol": 1e-12}  # float64, sums of fewer than 10,000 terms of size 1


def torch_net(widths, stds, activation, *, samples=7, seed=0):
    """Activations and gradients of a random net, by autograd: weights, zs, hs (h^0 first), with dz and dW in .grad."""
    rng = np.random.default_rng(seed)
    weights = [torch.tensor(rng.normal(0, s, shape), requires_grad=True)
               for s, shape in zip(stds, zip(widths, widths[1:]))]
    hs, zs = [torch.tensor(rng.standard_normal((samples, widths[0])))], []
    for w in weights:
        z = hs[-1] @ w
        z.retain_grad()
        zs.append(z)
        hs.append(activation(z))
    top = rng.standard_normal(hs[-1].shape)
    (hs[-1] * torch.tensor(top)).sum().backward()
    return weights, zs, hs, top


def test_forward_pass_is_a_chain_of_layers():
    """Equation (3.1): torch's Linear without bias, which stores the transpose."""
    weights, _, hs, _ = torch_net((5, 4, 3), (0.7, 0.9), torch.tanh)
    h = hs[0]
    for w in weights:
        linear = torch.nn.Linear(*w.shape, bias=False, dtype=torch.float64)
        linear.weight.data = w.detach().T
        h = torch.tanh(linear(h))
    assert np.allclose(h.detach(), hs[-1].detach(), **EXACT)


def test_backward_pass_of_a_layer():
    """Equation (3.2): three lines against autograd, widths all different."""
    weights, zs, hs, dh = torch_net((5, 4, 6, 3), (0.7, 0.9, 0.8), torch.tanh)
    for w, z, below in zip(weights[::-1], zs[::-1], hs[-2::-1]):
        dz = dh * (1 - np.tanh(z.detach().numpy()) ** 2)
        assert np.allclose(dz, z.grad, **EXACT)
        assert np.allclose(below.detach().numpy().T @ dz, w.grad, **EXACT)
        dh = dz @ w.detach().numpy().T


def test_sum_of_squares_of_a_product_by_gram_matrices():
    rng = np.random.default_rng(1)
    a, b = rng.standard_normal((6, 40)), rng.standard_normal((6, 30))
    assert np.isclose(((a.T @ b) ** 2).sum(), ((a @ a.T) * (b @ b.T)).sum(), **EXACT)


@pytest.mark.parametrize("sigma", [0.64, 1.0, 1.3])
def test_weight_gradients_of_a_linear_net_are_equal_in_all_layers(sigma):
    """Equation (3.3): no l in it; and the factor sigma^(K - 1)."""
    n, K, samples = 500, 6, 20
    weights, *_ = torch_net([n] * (K + 1), [sigma / n**0.5] * K, lambda z: 1 * z, samples=samples)
    sizes = np.array([w.grad.square().mean().sqrt().item() for w in weights])
    assert np.allclose(sizes, samples**0.5 * sigma ** (K - 1), rtol=0.2)  # 20 samples of a net of width 500


def test_signals_of_the_lectures_net_agree_with_the_prose():
    """Small weights: both signals fade and their product does not; large: 1.4 a layer; and what 0.01 does at 512."""
    def sizes(n, s, seed=0):
        weights, zs, hs, _ = torch_net([n] * 7, [s] * 6, torch.tanh, samples=16, seed=seed)
        return np.array([[v.square().mean().sqrt().item() for v in (h.detach(), z.grad, w.grad)]
                         for w, z, h in zip(weights, zs, hs[1:])]).T

    h, dz, dw = sizes(512, 0.01 * 8**0.5)
    assert h[-1] < 0.06 and dz[0] < 0.1 and np.ptp(dw) < 0.15 * dw.mean()
    h, dz, dw = sizes(512, 0.05 * 8**0.5)
    assert 1.35 < (dw[0] / dw[-1]) ** (1 / 5) < 1.5 and 0.8 < h[-1] < 0.9
    assert 5e-5 < sizes(512, 0.01)[0, -1] < 3e-4


@pytest.mark.parametrize("mean", [0.0, 0.5, 2.0])
def test_variance_of_a_sum_takes_the_mean_square(mean):
    """Equation (3.4): dependent inputs with a mean; and the slip with Var[x]."""
    rng = np.random.default_rng(2)
    x = mean + rng.standard_normal((50, 1)) + rng.standard_normal((50, 400))  # entries share a part
    w = rng.uniform(-1, 1, (400, 4000)) * 0.1
    found = (x @ w).var(axis=1)  # over the weights, for each sample
    assert np.allclose(found, 400 * 0.01 / 3 * (x**2).mean(axis=1), rtol=0.1)
    assert mean < 2 or (x**2).mean() > 2.5 * x.var()


def test_weights_that_depend_on_the_inputs_break_the_sum():
    """Why w must be independent of x: uncorrelated is not enough."""
    rng = np.random.default_rng(3)
    x = rng.standard_normal((20000, 50))
    w = np.sign(x) * rng.choice([-1, 1], (20000, 1))  # mean 0, each w_i uncorrelated with x_i
    assert abs((x * w).mean()) < 0.02
    assert (x * w).sum(axis=1).var() > 10 * 50 * 1 * (x**2).mean()


def test_products_over_layers_forward_and_backward():
    """Equation (3.5): a linear net whose widths and scales all differ."""
    widths, stds = (60, 400, 150, 300), (0.1, 0.05, 0.12)
    ratios = []
    for seed in range(8):
        weights, zs, hs, top = torch_net(widths, stds, lambda z: 1 * z, samples=40, seed=seed)
        ratios.append((zs[-1].detach().square().mean() / hs[0].square().mean(),
                       zs[0].grad.square().mean() / np.mean(top**2)))
    forward, backward = np.mean(ratios, axis=0)
    assert np.isclose(forward, 60 * 0.01 * 400 * 0.0025 * 150 * 0.0144, rtol=0.15)
    assert np.isclose(backward, 150 * 0.0025 * 300 * 0.0144, rtol=0.15)


def test_glorots_rule_and_its_losses():
    """Equation (3.6): torch's xavier_normal_; and 0.64 for each pair of layers of 128 and 512."""
    w = torch.nn.init.xavier_normal_(torch.empty(300, 500, dtype=torch.float64))
    assert np.isclose(w.var().item(), 2 / 800, rtol=0.02)
    into_wide, into_narrow = 128 * 2 / 640, 512 * 2 / 640
    assert np.allclose([into_wide, into_narrow, into_wide * into_narrow], [0.4, 1.6, 0.64])
    widths = np.array([128, 512] * 10 + [128])
    assert np.isclose(np.prod(widths[1:] / widths[:-1]), 1)  # fan-in's factors backward cancel


def test_relu_keeps_half_of_the_mean_square_of_any_symmetric_law():
    """Equation (3.7): exact on a symmetric sample; and He's rule in torch."""
    for y in (np.random.default_rng(4).standard_cauchy(50), np.random.default_rng(4).uniform(0, 1, 50)):
        y = np.concatenate([y, -y])
        assert np.isclose(np.mean(np.maximum(y, 0) ** 2), y.var() / 2, **EXACT)
    w = torch.nn.init.kaiming_normal_(torch.empty(400, 600, dtype=torch.float64))
    assert np.isclose(600 * w.var().item(), 2, rtol=0.02)


def test_variance_of_a_relu_is_a_third():
    """Equation (3.8): by quadrature, and the growth of a net that takes it for the half."""
    u = np.linspace(0, 9, 200001)
    density = np.exp(-(u**2) / 2) / np.sqrt(2 * np.pi)
    mean, square = np.trapezoid(u * density, u), np.trapezoid(u**2 * density, u)
    assert np.isclose(square - mean**2, 0.5 * (1 - 1 / np.pi), rtol=1e-8)
    assert round(square - mean**2, 4) == 0.3408
    growth = 0.5 / (square - mean**2)
    assert np.isclose(growth, np.pi / (np.pi - 1), rtol=1e-8) and 6e4 < growth**29 < 8e4


def test_samples_of_a_relu_net_become_alike():
    rng = np.random.default_rng(5)
    h = rng.standard_normal((2, 400))
    first = np.corrcoef(h)[0, 1]
    for _ in range(30):
        z = h @ rng.normal(0, np.sqrt(2 / 400), (400, 400))
        h = np.maximum(z, 0)
    assert abs(first) < 0.2 and np.corrcoef(z)[0, 1] > 0.8 and 0.4 < np.mean(h == 0) < 0.6


def recursion(sigma, depth, q=1.0):
    """q of (3.9) and chi of (3.10) by the package's own quadrature, not the chapter's."""
    found = init.predicted_variances([1000] * (depth + 1), [sigma**2 / 1000] * depth, "tanh", x_mean_square=q)
    return found.z, found.dz


def test_mean_square_of_the_next_layer_depends_on_the_last_alone():
    """Equation (3.9): by sampling one wide layer."""
    rng = np.random.default_rng(6)
    for sigma, q in ((0.9, 0.5), (1.59, 1.0), (3.0, 6.0)):
        z = np.sqrt(q) * rng.standard_normal((20, 2000))
        following = np.tanh(z) @ rng.normal(0, sigma / np.sqrt(2000), (2000, 2000))
        wanted = sigma**2 * np.mean(np.tanh(np.sqrt(q) * rng.standard_normal(1_000_000)) ** 2)
        assert np.isclose(np.mean(following**2), wanted, rtol=0.03)


def test_chi_is_the_growth_of_the_squared_gradient():
    """Equation (3.10): a real net's gradients by autograd, at three scales; ReLU's is sigma^2 / 2."""
    for sigma, rtol in ((0.8, 0.1), (1.3, 0.1), (2.0, 0.15)):
        n, K = 700, 10
        weights, zs, *_ = torch_net([n] * (K + 1), [sigma / n**0.5] * K, torch.tanh, samples=10)
        measured = (zs[0].grad.square().mean() / zs[-1].grad.square().mean()).item() ** (1 / (K - 1))
        q, _ = recursion(sigma, K)
        u = np.random.default_rng(7).standard_normal(400_000)
        chi = [sigma**2 * np.mean((1 - np.tanh(np.sqrt(v) * u) ** 2) ** 2) for v in q[:-1]]
        assert np.isclose(measured, np.prod(chi) ** (1 / (K - 1)), rtol=rtol)
    z = np.random.default_rng(8).standard_normal(100_000)
    assert np.isclose(2 * np.mean(z > 0), 1, atol=0.02)  # He: sigma^2 = 2 is the line


def test_power_law_at_the_critical_scale():
    """Equation (3.11): the recursion itself, far out, and its expansion for small q."""
    q, _ = recursion(1.0, 3000)
    layers = 1 + np.arange(3000)
    assert np.allclose((2 * layers * q)[1000:], 1, atol=0.01)
    u = np.random.default_rng(9).standard_normal(1_000_000)
    for small in (0.01, 0.001):
        step = np.mean(np.tanh(np.sqrt(small) * u) ** 2 - small * u**2)  # the noise of u**2 cancels
        assert np.isclose(step, -2 * small**2, rtol=0.1)
        chi = np.mean((1 - np.tanh(np.sqrt(small) * u) ** 2) ** 2)
        assert np.isclose(chi, 1 - 2 * small, atol=20 * small**2)


def test_likeness_falls_by_the_square_of_the_mean_slope():
    """Equation (3.12): one wide layer on two inputs of small correlation; and the map's own recursion."""
    rng = np.random.default_rng(10)
    sigma, c = 2.2, 0.1
    q = recursion(sigma, 60)[0][-1]
    u, v = rng.standard_normal((2, 1_000_000))
    one, other = np.tanh(np.sqrt(q) * u), np.tanh(np.sqrt(q) * (c * u + np.sqrt(1 - c**2) * v))
    measured = np.corrcoef(one, other)[0, 1] / c
    wanted = sigma**2 * np.mean(1 - np.tanh(np.sqrt(q) * u) ** 2) ** 2
    assert np.isclose(measured, wanted, rtol=0.03) and wanted < 0.9
    _, alike = measures.signal_map([sigma], 40, likeness=c)
    assert np.isclose(alike[0, -1] / alike[0, -2], wanted, rtol=0.02)


def test_map_agrees_with_the_packages_recursion():
    for sigma in (0.7, 1.0, 1.75):
        growth, alike = measures.signal_map([sigma], 12, likeness=0.6)
        _, g = recursion(sigma, 12)
        q, _ = recursion(sigma, 12)
        u = np.sqrt(q[-1])
        nodes, weights = np.polynomial.hermite_e.hermegauss(60)
        last = weights @ (1 - np.tanh(u * nodes) ** 2) ** 2 / weights.sum()
        assert np.isclose(growth[0, -1], g[0] / last, rtol=5e-3)  # 60 nodes; g starts with the slope of the last layer
        assert alike[0, 0] == 0.6 and np.all(np.diff(alike[0]) <= 1e-12)


def test_numbers_of_the_critical_line():
    """Gradient 6.6 times smaller at 32 layers; LSUV's sigma and chi; torch's gain 5/3 and torch's default."""
    growth, _ = measures.signal_map([1.0, 1.15], 32)
    assert np.allclose(growth[:, -1] ** -0.5, [6.6, 1.6], rtol=0.05)
    u = np.random.default_rng(11).standard_normal(1_000_000)
    sigma = np.mean(np.tanh(u) ** 2) ** -0.5
    assert np.isclose(sigma, 1.59, atol=0.01)
    assert np.isclose(sigma**2 * np.mean((1 - np.tanh(u) ** 2) ** 2), 1.18, atol=0.01)
    assert torch.nn.init.calculate_gain("tanh") == 5 / 3
    torch.manual_seed(0)
    weight = torch.nn.Linear(600, 400).weight
    assert np.isclose(600**0.5 * weight.std().item(), 1 / 3**0.5, rtol=0.02)


def test_calls_of_torch_and_of_the_package_draw_at_the_same_scale():
    """The table of "Where libraries stand on the map": sigma of a matrix that is not square."""
    torch.manual_seed(1)
    w, rng, n_in, n_out = torch.empty(500, 700), np.random.default_rng(1), 700, 500
    calls = torch.nn.init
    for squared, ours, theirs in [
        (1, init.lecun_normal(rng, n_in, n_out), lambda: calls.kaiming_normal_(w, nonlinearity="linear")),
        (2 * n_in / (n_in + n_out), init.xavier_normal(rng, n_in, n_out), lambda: calls.xavier_normal_(w)),
        (2, init.he_normal(rng, n_in, n_out), lambda: calls.kaiming_normal_(w, nonlinearity="relu")),
        (1.15**2, init.orthogonal(rng, n_in, n_out, gain=1.15), lambda: calls.orthogonal_(w, gain=1.15)),
        (1 / 3, None, lambda: calls.kaiming_uniform_(w, a=5**0.5)),
    ]:
        for drawn in [theirs().numpy()] + ([] if ours is None else [ours.T]):
            assert np.isclose(n_in * np.mean(drawn**2), squared, rtol=0.02)


def test_sixteen_bits_run_out_after_ninety_layers():
    """The answer to exercise 3.4."""
    smallest = float(torch.finfo(torch.float16).smallest_normal) * 2.0**-10
    assert np.isclose(smallest, 6e-8, rtol=0.02)
    assert round(np.log(1e-3 / smallest) / np.log(1 / 0.9)) == 92
    assert 2e8 < (1e-3 / smallest) ** 2 < 4e8


def test_residual_stream_grows_by_one_plus_s_squared():
    """Equation (3.13): one wide block; and e as the limit of K blocks."""
    rng = np.random.default_rng(12)
    x, n = rng.standard_normal((50, 800)), 800
    W = rng.normal(0, np.sqrt(2 / n), (n, n))
    for s in (1, 0.5, 0):
        V = rng.normal(0, 1 / np.sqrt(n), (n, n)) * s
        after = x + np.maximum(x @ W, 0) @ V
        assert np.isclose(np.mean(after**2) / np.mean(x**2), 1 + s**2, rtol=0.03)
    assert np.isclose((1 + 1 / 1000) ** 1000, np.e, rtol=1e-3) and (1 + 1 / 8) ** 8 < np.e


def test_adams_first_step_moves_a_hidden_layer_in_proportion_to_the_width():
    """Equation (3.14): and with a rate of 1 / n the move does not depend on the width."""
    digits, moves = data.digits(), {}
    for n in (64, 256, 1024):
        torch.manual_seed(n)
        net = torch.nn.Sequential(torch.nn.Linear(64, n), torch.nn.ReLU(), torch.nn.Linear(n, n), torch.nn.ReLU(),
                                  torch.nn.Linear(n, 10))
        x, y = torch.tensor(digits.x_train[:64]), torch.tensor(digits.y_train[:64])
        for layer in net[::2]:
            torch.nn.init.kaiming_normal_(layer.weight)
        with torch.no_grad():
            h = net[1](net[0](x))
        before = net[2](h).detach()
        torch.nn.functional.cross_entropy(net(x), y).backward()
        torch.optim.Adam([net[2].weight], lr=1e-3).step()
        moves[n] = (net[2](h) - before).square().mean().sqrt().item()
    assert 10 < moves[1024] / moves[64] < 22  # 16 times as wide
    assert 2.8 < moves[256] / moves[64] < 5.5


def run_cells(*beginnings):
    """The names that the chapter's own cells define, those which begin so."""
    from chapter import chapters

    [text] = [each.text for each in chapters() if each.number == 3]
    cells = [part.split("```")[0] for part in text.split("```{code-cell} ipython3\n")]
    scope = {"np": np, "training": training}
    for beginning in beginnings:
        [cell] = [cell for cell in cells if cell.startswith(beginning)]
        exec(cell, scope)
    return scope


def test_mup_rule_is_the_table_for_adam():
    """Equation (3.15): the chapter's own cell, at twice and at eight times the base width."""
    scope = run_cells("def of_width")
    for n, ratio in ((64, 1 / 2), (256, 1 / 8)):
        plain, same = scope["of_width"](n, False, [0])
        mup, factors = scope["of_width"](n, True, [0])
        assert same == (1, 1, 1) and factors == (1, ratio, ratio)
        assert np.allclose(mup[2], plain[2] * ratio**0.5) and np.array_equal(mup[1], plain[1])
        assert np.isclose(mup[2].var(), 2 / n * ratio, rtol=0.2)


def in_float64(values):
    return [in_float64(v) if isinstance(v, tuple) else torch.tensor(v, dtype=torch.float64, requires_grad=True)
            for v in values]


def batch_of_glyphs():
    rng = np.random.default_rng(4)
    return rng.standard_normal((1, 9, 64)), rng.integers(0, 10, (1, 9))


def test_gradients_of_the_residual_net_are_those_of_autograd():
    """Two cells of the chapter, forward and gradients, against torch: every W and V, first and last matrix."""
    scope = run_cells("def residual_net", "def forward", "def gradients(net")
    x, labels = batch_of_glyphs()
    net = scope["residual_net"](3, 1.0, 0)
    first, *blocks, last = found = in_float64(net)
    h = torch.tensor(x) @ first
    for W, V in blocks:
        h = h + torch.relu(h @ W) @ V
    torch.nn.functional.cross_entropy((h @ last)[0], torch.tensor(labels[0])).backward()
    net64 = [w[None].astype(float) if isinstance(w, np.ndarray) else tuple(v[None].astype(float) for v in w)
             for w in net]
    ours = scope["gradients"](net64, x, labels)
    for theirs, mine in zip(found, ours, strict=True):
        for w, dw in zip(theirs, mine, strict=True) if isinstance(theirs, list) else [(theirs, mine)]:
            assert w.grad.abs().max() > 1e-4 and np.allclose(dw[0], w.grad, **EXACT)


def test_gradients_of_the_net_with_two_hidden_layers_are_those_of_autograd():
    scope = run_cells("def of_width", "def gradients_of")
    x, labels = batch_of_glyphs()
    weights, _ = scope["of_width"](48, True, [0])
    found = in_float64(w[0] for w in weights)
    h = torch.tensor(x[0])
    for W in found[:-1]:
        h = torch.relu(h @ W)
    wanted = torch.nn.functional.cross_entropy(h @ found[-1], torch.tensor(labels[0]))
    wanted.backward()
    loss, ours = scope["gradients_of"]([w.astype(float) for w in weights], x, labels)
    assert np.isclose(loss[0], wanted.item(), **EXACT)
    for W, dW in zip(found, ours, strict=True):
        assert W.grad.abs().max() > 1e-4 and np.allclose(dW[0], W.grad, **EXACT)


def test_depth_moves_the_place_where_the_back_signal_keeps_its_size():
    """1.65, 1.45, 1.32, 1.23 for 4, 8, 16, 32 layers; and chi at the fixed point of 1.15, by sampling."""
    for depth, wanted in ((4, 1.65), (8, 1.45), (16, 1.32), (32, 1.23)):
        products = []
        for sigma in (wanted - 0.02, wanted + 0.02):
            growth, _ = measures.signal_map([sigma], depth)
            products.append(growth[0, -1])
        assert products[0] < 1 < products[1]
    q, _ = recursion(1.15, 300)
    u = np.random.default_rng(12).standard_normal(1_000_000)
    assert np.isclose(1.15**2 * np.mean((1 - np.tanh(np.sqrt(q[-1]) * u) ** 2) ** 2), 1.02, atol=0.01)


def two_layer_net(W, V, b=None, seed=0):
    digits = data.digits()
    x, y = torch.tensor(digits.x_train[:64], dtype=torch.float64), torch.tensor(digits.y_train[:64])
    parameters = [torch.tensor(v, requires_grad=True) for v in (W, V, np.zeros(W.shape[1]) if b is None else b)]
    return x, y, parameters


def spread_of_units(*, b=None, dropout=False, decay=0.0, steps=3, V=None):
    """How far the columns of W are apart after some steps from constants."""
    torch.manual_seed(0)
    W = np.full((64, 8), 0.05)
    x, y, (W, V, b) = two_layer_net(W, np.full((8, 10), 0.05) if V is None else V, b)
    for _ in range(steps):
        h = torch.tanh(x @ W + b)
        if dropout:
            h = h * (torch.rand_like(h) < 0.5)
        loss = torch.nn.functional.cross_entropy(h @ V, y)
        grads = torch.autograd.grad(loss, (W, V, b))
        with torch.no_grad():
            for v, g in zip((W, V, b), grads):
                v -= 0.5 * g + decay * v
    return (W - W.mean(dim=1, keepdim=True)).abs().max().item()


def test_who_breaks_the_symmetry():
    """The answer to exercise 3.1; and one random matrix is enough."""
    assert spread_of_units() < 1e-12 and spread_of_units(decay=0.1) < 1e-12
    assert spread_of_units(b=np.random.default_rng(0).normal(0, 0.5, 8)) > 1e-4
    assert spread_of_units(dropout=True) > 1e-4
    assert spread_of_units(V=np.random.default_rng(0).normal(0, 0.18, (8, 10))) > 1e-3


def test_zero_weights_get_no_gradient_at_all():
    x, y, (W, V, b) = two_layer_net(np.zeros((64, 8)), np.zeros((8, 10)))
    loss = torch.nn.functional.cross_entropy(torch.tanh(x @ W + b) @ V, y)
    assert all(not g.any() for g in torch.autograd.grad(loss, (W, V, b)))


def test_gradients_of_the_logits_sum_to_zero_in_each_sample():
    """Why W has rank 1 + 9 after one step from a constant W."""
    logits = np.random.default_rng(1).standard_normal((1, 6, 10))
    _, dz = training.cross_entropy(logits, np.zeros((1, 6), dtype=int))
    assert np.allclose(dz.sum(axis=-1), 0, **EXACT)


def test_orthogonal_matrices_do_not_stretch_and_normal_ones_do():
    rng = np.random.default_rng(13)
    turns = np.linalg.multi_dot([init.orthogonal(rng, 100, 100) for _ in range(20)])
    normal = np.linalg.multi_dot(rng.normal(0, 0.1, (20, 100, 100)))
    assert np.allclose(np.linalg.svd(turns, compute_uv=False), 1, rtol=1e-10)
    stretch = np.linalg.svd(normal, compute_uv=False)
    assert stretch[0] > 2 and np.median(stretch) < 0.005 and stretch[-1] < 1e-9


def test_uniform_bound_is_the_packages_and_torchs():
    from course_lib.exercises import EXERCISES

    bound = EXERCISES["uniform_bound"].solution((40, 20, 3, 5), 0.3)
    theirs = torch.nn.init.kaiming_uniform_(torch.empty(40, 20, 3, 5), a=0.3).abs().max().item()
    ours = np.abs(init.he_uniform(np.random.default_rng(0), 20 * 15, 40, negative_slope=0.3)).max()
    assert np.allclose([theirs, ours], bound, rtol=2e-3) and max(theirs, ours) <= bound * (1 + 1e-6)


def test_weight_gradient_sizes_are_those_of_a_real_net():
    from course_lib.exercises import EXERCISES

    widths, stds = (300, 500, 200, 400), (0.05, 0.03, 0.08)
    found = []
    for seed in range(4):
        weights, *_ = torch_net(widths, stds, lambda z: 1 * z, samples=30, seed=seed)
        found.append([w.grad.square().mean().sqrt().item() for w in weights])
    assert np.allclose(np.mean(found, axis=0), EXERCISES["weight_gradient_sizes"].solution(widths, stds, 30), rtol=0.1)
