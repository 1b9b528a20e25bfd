"""Chapter 7, layer norm and RMS norm: each equation, and what the prose says about it.

The functions under test are those of the package; what they are held against
is torch, central differences, or arithmetic done another way.
"""

import numpy as np
import pytest
import torch

import course_lib.nn
from course_lib import batch_norm, layer_norm, norm_backward, rms_norm, standardize, standardize_backward
from course_lib.chapters.ch07 import exercises, measures

EXACT = {"rtol": 1e-12, "atol": 1e-13}  # float64, sums of fewer than 1000 terms of size 1
DIFFERENCES = {"rtol": 1e-6, "atol": 1e-8}  # central differences with a step of 1e-5 have about nine digits
SHAPE = (2, 3, 5)  # B, T, D


def tokens(seed=0, shape=SHAPE):
    """x with a mean and a spread for each token, gamma with a negative entry, beta, and a random dy."""
    rng = np.random.default_rng(seed)
    x = rng.normal(0, 1, shape) * rng.uniform(0.3, 4, (*shape[:-1], 1)) + rng.uniform(-9, 9, (*shape[:-1], 1))
    gamma = rng.uniform(0.5, 2, shape[-1])
    gamma[1] *= -1
    return x, gamma, rng.uniform(-1, 1, shape[-1]), rng.standard_normal(shape) + 0.7


def ln(x, eps=0.0):
    return standardize(x, (x.ndim - 1,), eps=eps)[0]


def rms(x, eps=0.0):
    return standardize(x, (x.ndim - 1,), center=False, eps=eps)[0]


def slope(f, x, direction, step=1e-5):
    """Derivative of f at x along a direction, by central differences."""
    return (f(x + step * direction) - f(x - step * direction)) / (2 * step)


# The layers


@pytest.mark.parametrize("eps", [1e-5, 0.1])
def test_layer_norm_written_out(eps):
    """Equation (7.1): sums written out for each token, and torch in both halves."""
    x, gamma, beta, _ = tokens()
    y, _ = layer_norm(x, gamma, beta, eps=eps)
    for b, t in np.ndindex(2, 3):
        mu = sum(x[b, t]) / 5
        var = sum((v - mu) ** 2 for v in x[b, t]) / 5
        for k in range(5):
            assert np.isclose(y[b, t, k], gamma[k] * (x[b, t, k] - mu) / (var + eps) ** 0.5 + beta[k], **EXACT)
    for half in (torch.nn, course_lib.nn):
        layer = measures.with_parameters(half.LayerNorm(5, eps=eps).double(), gamma, beta)
        assert np.allclose(layer(torch.tensor(x)).detach(), y, **EXACT)


@pytest.mark.parametrize("eps", [1e-5, 0.1])
def test_rms_norm_written_out(eps):
    """Equation (7.2): sums written out for each token, and torch in both halves."""
    x, gamma, _, _ = tokens(1)
    y, _ = rms_norm(x, gamma, eps=eps)
    for b, t in np.ndindex(2, 3):
        nu2 = sum(v * v for v in x[b, t]) / 5
        for k in range(5):
            assert np.isclose(y[b, t, k], gamma[k] * x[b, t, k] / (nu2 + eps) ** 0.5, **EXACT)
    for half in (torch.nn, course_lib.nn):
        layer = measures.with_parameters(half.RMSNorm(5, eps=eps).double(), gamma, None)
        assert np.allclose(layer(torch.tensor(x)).detach(), y, **EXACT)


@pytest.mark.parametrize("eps", [1e-5, 0.1])
def test_backward_of_layer_norm(eps):
    """Equation (7.3): written out against the package, torch, differences; gamma in front is wrong."""
    x, gamma, beta, dy = tokens(2)
    dx, dgamma, dbeta = norm_backward(dy, layer_norm(x, gamma, beta, eps=eps)[1])
    x_hat, s = ln(x, eps), 1 / np.sqrt(x.var(-1, keepdims=True) + eps)

    def bracket(d):
        return d - d.mean(-1, keepdims=True) - x_hat * (d * x_hat).mean(-1, keepdims=True)

    assert np.allclose(dx, s * bracket(gamma * dy), **EXACT)
    assert np.abs(dx - gamma * s * bracket(dy)).max() > 0.05
    leaves = [torch.tensor(a, requires_grad=True) for a in (x, gamma, beta)]
    torch.nn.functional.layer_norm(leaves[0], (5,), *leaves[1:], eps).backward(torch.tensor(dy))
    for mine, theirs in zip((dx, dgamma, dbeta), leaves, strict=True):
        assert np.allclose(mine, theirs.grad, rtol=1e-10, atol=1e-12)
    v = np.random.default_rng(3).standard_normal(SHAPE)
    numeric = slope(lambda x: np.sum(dy * layer_norm(x, gamma, beta, eps=eps)[0]), x, v)
    assert np.isclose(numeric, np.sum(dx * v), **DIFFERENCES)


@pytest.mark.parametrize("eps", [1e-5, 0.1])
def test_backward_of_rms_norm(eps):
    """Equation (7.4): written out against the package and torch; its dx does not sum to 0."""
    x, gamma, _, dy = tokens(4)
    dx, dgamma = norm_backward(dy, rms_norm(x, gamma, eps=eps)[1])
    x_hat, s = rms(x, eps), 1 / np.sqrt((x**2).mean(-1, keepdims=True) + eps)
    d = gamma * dy
    assert np.allclose(dx, s * (d - x_hat * (d * x_hat).mean(-1, keepdims=True)), **EXACT)
    assert np.abs(dx.sum(-1)).max() > 0.01
    leaves = [torch.tensor(a, requires_grad=True) for a in (x, gamma)]
    torch.nn.functional.rms_norm(leaves[0], (5,), leaves[1], eps).backward(torch.tensor(dy))
    for mine, theirs in zip((dx, dgamma), leaves, strict=True):
        assert np.allclose(mine, theirs.grad, rtol=1e-10, atol=1e-12)


def test_famous_layer_on_the_vector_of_the_issue():
    """Exercise 7.1: 1.5 and 1.732; the ratio is sqrt((D - 1) / D), 13 % and 0.1 %."""
    x = torch.tensor([1.0, 0, 0, 0])
    famous = (x - x.mean()) / (x.std() + 1e-6)
    assert np.allclose(famous, [1.5, -0.5, -0.5, -0.5], atol=1e-5)
    right = exercises.mended_layer_norm(x.numpy()[None, None].astype(float), np.ones(4), np.zeros(4), 1e-6)
    assert np.allclose(right[0, 0], [1.732, -0.577, -0.577, -0.577], atol=1e-3)
    assert np.isclose(famous[0] / right[0, 0, 0], np.sqrt(3 / 4), atol=1e-5)
    assert round(100 * (1 - np.sqrt(3 / 4))) == 13 and round(100 * (1 - np.sqrt(511 / 512)), 1) == 0.1


# What the layers cannot see


BLIND = {  # one line for each change: batch, layer, RMS norm
    "one sample + 3": (0, 1, 0), "one sample times 3": (0, 1, 1), "other samples replaced": (0, 1, 1),
    "one feature + 3": (1, 0, 0), "one feature times 3": (1, 0, 0), "other features replaced": (1, 0, 0),
    "everything + 3": (1, 1, 0), "everything times 3": (1, 1, 1),
}


@pytest.mark.parametrize("change", BLIND)
@pytest.mark.parametrize("seed", range(3))
def test_twenty_four_cells(change, seed):
    """Figure 7.1 with eps = 0, other sizes and other numbers: exact where blind, far off where not."""
    rng = np.random.default_rng(seed)
    x, new = rng.normal(1, 2, (2, 9, 7))
    changed, part = measures.changes_of(x, new)[change]
    layers = (lambda v: standardize(v, (0,), eps=0)[0], ln, rms)
    for layer, blind in zip(layers, BLIND[change], strict=True):
        before, after = layer(x)[part], layer(changed)[part]
        size = np.linalg.norm(after - before) / np.linalg.norm(before)
        assert size < 1e-12 if blind else size > 0.01
    assert np.abs(changed - x).max() > 0.5


def test_changes_of_weights_are_changes_of_x():
    """The layer paper's table 1 for layer norm and RMS norm, with x = u @ W."""
    rng = np.random.default_rng(5)
    u, W = rng.standard_normal((6, 4)), rng.standard_normal((4, 7))
    same, column = W + rng.standard_normal((4, 1)), W * np.where(np.arange(7) == 2, 3.0, 1.0)
    for layer, cells in ((ln, (True, True, False, True, False)), (rms, (True, False, False, True, False))):
        found = (layer(u @ (3 * W)), layer(u @ same), layer(u @ column), layer((3 * u) @ W), layer((u + 1) @ W))
        assert tuple(np.allclose(y, layer(u @ W), **EXACT) for y in found) == cells


def test_without_a_bias_each_ray_gets_one_answer_and_a_bias_ends_that():
    """What figure 7.2 shows: the two hidden layers of the chapter's net, at random weights."""
    generator = torch.Generator().manual_seed(0)
    W, V = (torch.randn(n, k, generator=generator, dtype=torch.float64) for n, k in ((2, 8), (8, 3)))
    u = torch.randn(5, 2, generator=generator, dtype=torch.float64)
    for layer in (torch.nn.LayerNorm(8, eps=0.0), torch.nn.RMSNorm(8, eps=0.0)):
        norm = layer.double()

        def net(u, b, norm=norm):
            return torch.relu(norm(u @ W + b)) @ V

        assert torch.allclose(net(7 * u, 0), net(u, 0), rtol=1e-10, atol=1e-12)
        assert (net(7 * u, W[0]) - net(u, W[0])).abs().max() > 0.05


def test_on_paper():
    """Exercise 7.2: two features, one feature, a long token, and the mean of a bias."""
    rng = np.random.default_rng(6)
    x = rng.standard_normal((9, 2))
    assert np.allclose(ln(x), np.where(x > x[:, ::-1], 1, -1), **EXACT)
    one = rng.standard_normal((9, 1))
    assert np.all(ln(one, 1e-5) == 0) and np.allclose(rms(one), np.sign(one), **EXACT)
    v, d = rng.standard_normal((2, 1, 6))
    short, long = (standardize_backward(d, standardize(c * v, (1,), center=False, eps=0)[1]) for c in (1, 1000))
    assert np.allclose(long * 1000, short, **EXACT) and np.abs(short).max() > 0.05
    u, W, b = rng.standard_normal((8, 3)), rng.standard_normal((3, 5)), rng.standard_normal(5)
    db = standardize_backward(rng.standard_normal((8, 5)), standardize(u @ W + b, (1,))[1]).sum(axis=0)
    assert abs(db.sum()) < 1e-13 and np.abs(db).min() > 1e-3
    assert np.allclose(ln(u @ W + b + 4), ln(u @ W + b), **EXACT)


# Geometry


def test_layer_norm_is_rms_norm_of_the_projection():
    """Equation (7.5): the ray, the projector and their composition."""
    x, *_ = tokens(7)
    P = np.eye(5) - np.ones((5, 5)) / 5
    length = np.linalg.norm(x, axis=-1, keepdims=True)
    assert np.allclose(rms(x), np.sqrt(5) * x / length, **EXACT)
    assert np.allclose(P @ P, P, **EXACT) and np.linalg.matrix_rank(P) == 4
    assert np.allclose(ln(x), rms(x @ P), **EXACT)
    assert np.allclose(np.linalg.norm(ln(x), axis=-1), np.sqrt(5), **EXACT)


def test_matrices_of_derivatives():
    """Equation (7.6): by differences, and neither has a gradient along x; layer norm none along 1."""
    x = np.random.default_rng(8).normal(1, 2, 6)
    ones, nu, sigma = np.ones(6), np.sqrt(np.mean(x**2)), x.std()
    of_rms = (np.eye(6) - np.outer(rms(x), rms(x)) / 6) / nu
    of_ln = (np.eye(6) - 1 / 6 - np.outer(ln(x), ln(x)) / 6) / sigma
    for layer, matrix in ((rms, of_rms), (ln, of_ln)):
        columns = [slope(layer, x, unit) for unit in np.eye(6)]
        assert np.allclose(np.stack(columns, axis=1), matrix, **DIFFERENCES)
        assert np.allclose(matrix @ x, 0, rtol=0, atol=1e-13)
    assert np.allclose(of_ln @ ones, 0, rtol=0, atol=1e-13) and np.abs(of_rms @ ones).max() > 0.05


@pytest.mark.parametrize("eps", [0.0, 1e-5, 0.3])
def test_centred_weights_turn_layer_norm_into_rms_norm(eps):
    """Equation (7.7): with P as a matrix and as row means, for every eps; without centring it fails."""
    rng = np.random.default_rng(9)
    u, W, b = rng.standard_normal((8, 4)), 1 + rng.standard_normal((4, 6)), rng.standard_normal(6)
    P = np.eye(6) - 1 / 6
    assert np.allclose(W @ P, W - W.mean(axis=1, keepdims=True), **EXACT)
    assert np.allclose(rms(u @ (W @ P) + b @ P, eps), ln(u @ W + b, eps), **EXACT)
    assert np.abs(rms(u @ W + b, eps) - ln(u @ W + b, eps)).max() > 0.1


def test_share_of_the_mean():
    """Equation (7.8): both forms, the variance, 1/D for random directions and 1/pi behind a ReLU."""
    x = np.random.default_rng(10).normal(0.4, 1, (4000, 64))
    mu, nu2 = x.mean(-1), (x**2).mean(-1)
    rho = mu**2 / nu2
    P = np.eye(64) - 1 / 64
    assert np.allclose(rho, ((x - x @ P) ** 2).sum(-1) / (x**2).sum(-1), **EXACT)
    assert np.allclose(x.var(-1), (1 - rho) * nu2, **EXACT)
    z = np.random.default_rng(11).standard_normal((4000, 64))
    assert 0.9 / 64 < (z.mean(-1) ** 2 / (z**2).mean(-1)).mean() < 1.1 / 64
    wide = np.maximum(np.random.default_rng(12).standard_normal((100, 10_000)), 0)
    assert np.isclose((wide.mean(-1) ** 2 / (wide**2).mean(-1)).mean(), 1 / np.pi, rtol=0.01)


def test_translated_network():
    """Exercise 7.3 on a random net; a vector gamma is not dropped without a trace."""
    rng = np.random.default_rng(13)
    args = [rng.standard_normal(shape) for shape in ((3, 5), 5, 5, 5, (5, 2), 2)]
    W, b, gamma, beta, V, c = args
    u = rng.standard_normal((6, 3))
    old = layer_norm(u @ W + b, gamma, beta)[0] @ V + c
    W2, b2, V2, c2 = exercises.as_rms_net(*args)
    assert np.allclose(rms(u @ W2 + b2, 1e-5) @ V2 + c2, old, **EXACT)
    assert np.abs(rms(u @ W2 + b2, 1e-5) @ V + c2 - old).max() > 0.1


# Axes


def test_padding_and_the_future_do_not_leak():
    """What is run beside figure 7.5, in the package: exact for both norms, not for batch norm over B, T."""
    x, gamma, beta, _ = tokens(14, (2, 6, 8))
    longer = np.concatenate([x, np.zeros((2, 5, 8))], axis=1)
    later = x.copy()
    later[:, 5] += 3

    def of_rows(v, gamma, beta):
        y, _ = batch_norm(v.reshape(-1, 8), gamma, beta)
        return y.reshape(v.shape)

    for layer, leaks in ((lambda v: layer_norm(v, gamma, beta)[0], False), (lambda v: rms_norm(v, gamma)[0], False),
                         (lambda v: of_rows(v, gamma, beta), True)):
        apart = [np.abs(layer(v)[:, :5] - layer(x)[:, :5]).max() for v in (longer, later)]
        assert min(apart) > 0.05 if leaks else max(apart) == 0


def test_pixels():
    """Exercise 7.4 against the package's layer on rearranged data."""
    rng = np.random.default_rng(15)
    x, gamma, beta = rng.normal(2, 3, (2, 3, 4, 5)), rng.normal(1, 1, 3), rng.normal(0, 1, 3)
    last, _ = layer_norm(np.moveaxis(x, 1, -1), gamma, beta)
    assert np.allclose(exercises.pixel_layer_norm(x, gamma, beta, 1e-5), np.moveaxis(last, -1, 1), **EXACT)


# The recurrent net


def recurrent_cells():
    """What the chapter's own cells on sequences define, for nets of other seeds than the page's."""
    from functools import cache

    from chapter import chapters

    [text] = [each.text for each in chapters() if each.number == 7]
    cells = [part.split("```")[0] for part in text.split("```{code-cell} ipython3\n")]
    scope = {"np": np, "torch": torch, "cache": cache, "measures": measures, "five": range(20, 25)}
    for beginning in ("def layer_norm", "def of_one", "def read", "@cache\ndef learn_to_read", "LENGTHS"):
        [cell] = [part for part in cells if part.startswith(beginning)]
        exec(cell, scope)
    return scope


def test_batch_norm_of_a_step_counts_the_living_only():
    """of_step against torch's batch norm of the sequences that still run; in the test step t, or the last one kept."""
    cells = recurrent_cells()
    z = torch.randn(2, 6, 4, generator=torch.Generator().manual_seed(0))
    alive = torch.tensor([1.0, 1, 0, 1, 0, 1]).reshape(1, 6, 1).expand(2, 6, 1)
    y, (mu, var) = cells["of_step"](z, 0, alive, None)
    for net in range(2):
        rows = z[net][alive[net, :, 0] > 0]
        assert torch.allclose(y[net][alive[net, :, 0] > 0], torch.nn.functional.batch_norm(
            rows, None, None, training=True), atol=1e-5)
    known = [(mu, var), (mu + 1, 4 * var)]
    for t, (m, v) in ((0, known[0]), (1, known[1]), (50, known[1])):
        assert torch.allclose(cells["of_step"](z, t, alive, known)[0], (z - m) / (v + 1e-5).sqrt())


def test_batch_norm_of_a_step_fails_beyond_its_lengths_and_layer_norm_does_not():
    """What figure 7.6 shows, on five other seeds: batch norm falls, and statistics of long sequences mend it."""
    cells = recurrent_cells()
    by_length = {}
    for name, norm, length in (("layer", "of_one", None), ("batch", "of_step", None), ("long", "of_step", 24)):
        net = cells["learn_to_read"](cells[norm], 0.01)
        by_length[name] = np.median(cells["right_answers"](net, cells[norm], length), axis=1)
    short, longest = by_length["batch"][0], by_length["batch"][-1]
    assert cells["LENGTHS"][-1] == 64 and short > 0.95
    assert by_length["layer"].min() > 0.95
    assert longest < 0.85 and longest < by_length["long"][-1] - 0.1


# Small numbers, sixteen bits


@pytest.mark.parametrize("eps", [1e-3, 1e-5, 1e-6])
def test_eps_takes_over_at_its_root(eps):
    """The size of the output is nu / sqrt(nu**2 + eps): half of the power at nu = sqrt(eps), a fixed gain below."""
    direction = rms(np.random.default_rng(16).standard_normal(50))

    def size(nu):
        return np.sqrt(np.mean(rms(nu * direction, eps) ** 2))

    root = np.sqrt(eps)
    assert np.isclose(size(root), np.sqrt(0.5), **EXACT) and size(100 * root) > 0.9999
    assert np.isclose(size(root / 1000), 1e-3, rtol=1e-5)


def test_defaults_of_torch():
    """The table: eps of torch's layers, and what None means."""
    assert torch.nn.LayerNorm(3).eps == 1e-5 and torch.nn.RMSNorm(3).eps is None
    assert f"{torch.finfo(torch.float32).eps:.1e}" == "1.2e-07"
    tiny = 1e-4 * torch.ones(3)
    ours = tiny / (tiny.square().mean() + torch.finfo(torch.float32).eps).sqrt()
    assert torch.allclose(torch.nn.RMSNorm(3)(tiny), ours, rtol=1e-4)
    assert torch.nn.LayerNorm(3, bias=False).bias is None
    assert torch.nn.LayerNorm(3, elementwise_affine=False).weight is None


def test_two_roundings_cost_the_root_of_two():
    """Cast, then gain, against gain, then cast; and torch and the package round once."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(256, 1024, generator=generator).bfloat16()
    gain = (1 + 0.2 * torch.randn(1024, generator=generator)).bfloat16()
    hats = x.double() / (x.double().square().mean(-1, keepdim=True) + 1e-6).sqrt()
    exact = gain.double() * hats

    def error(y):
        return ((y.double() - exact).norm() / exact.norm()).item()

    once, twice = error((gain.float() * hats.float()).bfloat16()), error(gain * hats.bfloat16())
    assert np.isclose(twice / once, np.sqrt(2), rtol=0.05) and 0.0016 < once < 0.0017
    for layer in (torch.nn.functional.rms_norm(x, (1024,), gain, 1e-6),
                  course_lib.nn.functional.rms_norm(x, gain, eps=1e-6)):
        assert np.isclose(error(layer), once, rtol=1e-3)


def test_a_gain_stored_at_one_does_not_take_small_steps():
    """bfloat16: half of its spacing above 1 is 2**-8; near 0 the same steps count."""
    one, zero = torch.ones(1).bfloat16(), torch.zeros(1).bfloat16()
    assert torch.finfo(torch.bfloat16).eps == 2**-7
    assert one + 0.0038 == 1 and one + 0.0040 > 1 and zero + 0.0038 > 0


# Helpers


def test_sequences_are_mostly_short_and_a_few_are_long():
    s, lengths, first = measures.sequences([np.random.default_rng(k) for k in range(2)], 3000, 24)
    assert s.shape == (2, 24, 3000) and lengths.shape == first.shape == (2, 3000)
    assert lengths.min() == 2 and lengths.max() == 24 and (s[:, 0] == first).all()
    alive = [32 * (lengths > t).float().mean().item() for t in (11, 23)]
    assert 3.5 < alive[0] < 5.2 and 0.2 < alive[1] < 0.7  # of a batch of 32: about four, and one or none
    assert (measures.sequences([np.random.default_rng(0)], 5, 7, length=7)[1] == 7).all()


def test_each_net_trains_as_if_it_were_alone():
    """The seeds of one run do not see each other: five nets at once, and the third alone."""
    def run(seeds):
        return measures.train(measures.new_nets((2, 8, 2), seeds), forward, None, measures.ring_batches(
            seeds, steps=6), 0.3, lambda nets: torch.zeros(len(seeds)))

    def forward(nets, u, _):
        return torch.relu(u @ nets[0][0] + nets[0][2]) @ nets[1][0] + nets[1][2]

    together, alone = run(range(5)).model, run([2]).model
    for many, single in zip(together, alone, strict=True):
        for a, b in zip(many, single, strict=True):
            assert torch.allclose(a[2], b[0], atol=1e-5)
    assert (together[0][0] - measures.new_nets((2, 8, 2), range(5))[0][0]).abs().max() > 1e-3
    assert (together[0][1] == 0).all()  # b did not learn
