"""Chapter 10, filter response norm and TLU: each equation, and what the prose says, by a way that is not its own."""

from functools import partial

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from torch.nn import functional as F

from course_lib import (
    filter_response_norm,
    filter_response_norm_tlu,
    filter_response_norm_tlu_backward,
    instance_norm,
    tlu,
    tlu_backward,
    training,
)
from course_lib.chapters.ch10 import measures

EXACT = {"rtol": 1e-11, "atol": 1e-12}  # float64, sums of fewer than 1000 terms of size 1
SHAPE = (4, 6, 3, 5)


def batch(seed=0, shape=SHAPE):
    """x off centre with a scale per channel; gamma with a negative entry, beta, tau, eps of both signs, and dz."""
    rng = np.random.default_rng(seed)
    channel = (shape[1], *[1] * (len(shape) - 2))
    x = rng.normal(0, 1, shape) * rng.uniform(0.3, 4, channel) + rng.uniform(-3, 3, channel)
    gamma, beta, tau = rng.uniform(0.5, 2, shape[1]), rng.uniform(-1, 1, shape[1]), rng.uniform(-1, 1, shape[1])
    gamma[1] *= -1
    eps = rng.uniform(0.2, 2, shape[1])
    eps[::2] *= -1
    return x, gamma, beta, tau, eps, rng.standard_normal(shape) + 0.7


def plain(x, eps=0.0):
    """Filter response norm without scale and shift."""
    return filter_response_norm(x, np.ones(x.shape[1]), np.zeros(x.shape[1]), eps=eps)[0]


# The layer


def test_layer_entry_by_entry():
    """Equation (10.1): sums written out map by map, with |eps|."""
    x, gamma, beta, _, eps, _ = batch()
    y, _ = filter_response_norm(x, gamma, beta, eps=eps)
    for n, c in np.ndindex(x.shape[:2]):
        nu2 = sum(v * v for v in x[n, c].ravel()) / 15
        assert np.allclose(y[n, c], gamma[c] * x[n, c] / (nu2 + abs(eps[c])) ** 0.5 + beta[c], **EXACT)


def test_cosine_and_sine():
    """Equation (10.2): the mean and the standard deviation of x_hat, whose squares add up to 1."""
    x, *_ = batch(1)
    mu, sigma, x_hat = x.mean((2, 3)), x.std((2, 3)), plain(x)
    assert np.allclose(x_hat.mean((2, 3)), mu / np.hypot(mu, sigma), **EXACT)
    assert np.allclose(x_hat.std((2, 3)), sigma / np.hypot(mu, sigma), **EXACT)
    centred = instance_norm(x, np.ones(6), np.zeros(6), eps=0.0)[0]  # what is left when the cosine is taken away
    assert np.allclose(x_hat, x_hat.mean((2, 3), keepdims=True) + x_hat.std((2, 3), keepdims=True) * centred, **EXACT)


def test_invariance():
    """Equation (10.3): a factor for each map leaves its sign; a shift is seen."""
    x, *_ = batch(2)
    a = np.random.default_rng(2).uniform(0.3, 3, (4, 6, 1, 1)) * np.random.default_rng(3).choice([-1, 1], (4, 6, 1, 1))
    assert np.allclose(plain(a * x), np.sign(a) * plain(x), **EXACT)
    assert np.abs(plain(x + 3) - plain(x)).max() > 0.1


def test_batch_is_not_seen():
    x, *_ = batch(3, (32, 3, 4, 4))
    assert np.allclose(plain(x)[:1], plain(x[:1]), **EXACT)


# One value


@pytest.mark.parametrize("eps", [1e-6, 0.01, 1.0])
def test_one_value(eps):
    """Equation (10.4): on 1 x 1, and its slope by central differences."""
    x = np.linspace(-3, 3, 61).reshape(61, 1, 1, 1)
    assert np.allclose(plain(x, eps), x / np.sqrt(x * x + eps), **EXACT)
    h = 1e-4 * np.sqrt(eps)
    slope = (plain(x + h, eps) - plain(x - h, eps)) / (2 * h)
    assert np.allclose(slope, eps / (x * x + eps) ** 1.5, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("eps", [1e-6, 1e-4])
def test_blows(eps):
    """Equation (10.5): both integrals for a normal density; the slopes add up to 2, whatever eps."""
    p_0 = (2 * np.pi) ** -0.5
    edges = np.sqrt(eps) * np.array([-3, 0, 3])

    def integral(f, limit):
        return quad(f, -limit, limit, points=edges, limit=500)[0]

    assert np.isclose(integral(lambda x: eps / (x * x + eps) ** 1.5, 100), 2, rtol=1e-5)
    first = integral(lambda x: eps / (x * x + eps) ** 1.5 * p_0 * np.exp(-x * x / 2), 8)
    second = integral(lambda x: (eps / (x * x + eps) ** 1.5) ** 2 * p_0 * np.exp(-x * x / 2), 8)
    assert np.isclose(first, 2 * p_0, rtol=0.02)
    assert np.isclose(second, 3 * np.pi / 8 * p_0 / np.sqrt(eps), rtol=0.01)


def test_two_values_lie_on_a_circle():
    """Exercise 10.2: the circle, and the half of it that is flat behind a TLU with tau = 1."""
    x = np.random.default_rng(4).standard_normal((200, 1, 1, 2))
    x_hat = plain(x)
    assert np.allclose((x_hat**2).sum(3), 2)
    flat = np.all(x_hat <= 1, axis=3).ravel()
    assert np.array_equal(flat, x.sum(3).ravel() <= 0)
    alone = np.zeros((1, 1, 3, 3))
    alone[0, 0, 1, 1] = 5.0
    assert np.isclose(plain(alone).max(), 3)


# The threshold


def test_threshold():
    """Equation (10.6): both forms, and neither of the usual slips."""
    x, _, _, tau, *_ = batch(5)
    t = tau[:, None, None]
    z, _ = tlu(x, tau)
    assert np.allclose(z, np.where(x > t, x, t)) and np.allclose(z, np.maximum(x - t, 0) + t, **EXACT)
    assert np.abs(z - np.maximum(x - t, 0)).max() > 0.1 < np.abs(z - np.maximum(x, 0)).max()


def test_mean_of_a_relu():
    """Equation (10.7): by integration; and the share of the offset behind random weights, by Monte Carlo."""
    first = quad(lambda u: u * np.exp(-u * u / 2) / np.sqrt(2 * np.pi), 0, 20)[0]
    second = quad(lambda u: u * u * np.exp(-u * u / 2) / np.sqrt(2 * np.pi), 0, 20)[0]
    assert np.isclose(first, measures.RELU_MEAN) and np.isclose(first**2 / second, 1 / np.pi)
    rng = np.random.default_rng(6)
    a = np.maximum(rng.standard_normal((2000, 100)), 0)
    x = a @ rng.standard_normal((100, 500))
    assert abs((x.mean(0) ** 2).mean() / (x**2).mean() - 1 / np.pi) < 0.03
    assert (((a - first) @ rng.standard_normal((100, 500))).mean(0) ** 2).mean() < 0.01 * (x**2).mean()


def test_threshold_is_a_bias_but_for_the_border():
    """What follows exercise 10.3: a convolution behind a TLU differs at its padded border only."""
    rng = torch.Generator().manual_seed(0)
    y, w = torch.randn(2, 3, 6, 6, generator=rng), torch.randn(4, 3, 3, 3, generator=rng)
    tau = torch.tensor([-0.5, 0.3, -1.0])
    floor = tau[:, None, None]
    with_tlu = F.conv2d(torch.maximum(y, floor), w, padding=1)
    with_bias = F.conv2d(torch.relu(y - floor), w, torch.einsum("oikl,i->o", w, tau), padding=1)
    off = (with_tlu - with_bias).abs().amax((0, 1))
    assert off[1:-1, 1:-1].max() < 1e-5 and off[0].min() > 0.1


# Backward


def test_backward_of_threshold():
    """Equation (10.8): each entry of dz goes to one of the two; ties go to tau."""
    x, _, _, tau, _, dz = batch(7)
    x[0, :, 0, 0] = tau  # ties
    dy, dtau = tlu_backward(dz, tlu(x, tau)[1])
    for c in range(6):
        at_floor = x[:, c] <= tau[c]
        assert np.allclose(dtau[c], dz[:, c][at_floor].sum(), **EXACT)
        assert np.all(dy[:, c][at_floor] == 0) and np.array_equal(dy[:, c][~at_floor], dz[:, c][~at_floor])


def gradients(seed=8):
    """Of the package's layer, and by autograd from another form of it."""
    *args, dz = batch(seed)
    z, cache = filter_response_norm_tlu(*args[:4], eps=args[4])
    ours = filter_response_norm_tlu_backward(dz, cache)
    leaves = [torch.tensor(v, requires_grad=True) for v in args]
    x, gamma, beta, tau, eps = (v if v.ndim == 4 else v.reshape(1, -1, 1, 1) for v in leaves)
    size = torch.linalg.vector_norm(x, dim=(2, 3), keepdim=True)
    y = gamma * x / torch.sqrt(size**2 / 15 + torch.abs(eps)) + beta
    torch_z = torch.where(y > tau, y, tau)
    assert np.allclose(z, torch_z.detach(), **EXACT)
    return args, dz, ours, torch.autograd.grad(torch_z, leaves, torch.tensor(dz))


def test_backward_by_torch():
    """Equation (10.9): dx with one road by the mean square, against autograd."""
    (x, gamma, beta, tau, eps), dz, ours, theirs = gradients()
    r = ((x**2).mean((2, 3), keepdims=True) + np.abs(eps)[:, None, None]) ** -0.5
    dx_hat = gamma[:, None, None] * dz * (gamma[:, None, None] * x * r + beta[:, None, None] > tau[:, None, None])
    dx = r * (dx_hat - x * r * (dx_hat * x * r).mean((2, 3), keepdims=True))
    assert np.allclose(dx, theirs[0], rtol=1e-9, atol=1e-10) and np.allclose(dx, ours[0], rtol=1e-9, atol=1e-10)
    for mine, torchs in zip(ours, theirs, strict=True):
        assert np.allclose(mine, torchs, rtol=1e-9, atol=1e-10)


def test_gradient_of_eps():
    """Equation (10.10): written out map by map, with the sign of eps, against autograd."""
    (x, gamma, beta, tau, eps), dz, _, theirs = gradients(9)
    for c in range(6):
        total = 0.0
        for n in range(4):
            r = (np.mean(x[n, c] ** 2) + abs(eps[c])) ** -0.5
            h = r * x[n, c]
            total += np.sum(np.where(gamma[c] * h + beta[c] > tau[c], gamma[c] * dz[n, c], 0) * h) * r**2
        assert np.isclose(-0.5 * np.sign(eps[c]) * total, theirs[4][c], rtol=1e-9)


# The nets


def plain_logits(nets, x, kind, norm, activation):
    """One net, written out: the convolutions by torch, everything else by its formula."""
    strides = {"pooled": (1, 2, 2), "flat": (1, 2, 1), "1 x 1": (1, 1, 1)}[kind]
    x = x.reshape(len(x), 64, 1, 1) if kind == "1 x 1" else x
    for layer, stride in zip(nets.layers, strides):
        weight, gamma, beta, tau, eps_l = (v.detach() for v in layer.values())
        x = F.conv2d(x, weight, stride=stride, padding=0 if kind == "1 x 1" else 1)
        eps = 1e-6 + eps_l.abs()[:, None, None] if norm is measures.learned else 1e-6
        x_hat = x / (torch.linalg.vector_norm(x, dim=(2, 3), keepdim=True) ** 2 / x[0, 0].numel() + eps).sqrt()
        y = gamma[:, None, None] * x_hat + beta[:, None, None]
        x = {measures.tlu: torch.maximum(y, tau[:, None, None]), measures.relu: y.clamp(min=0),
             measures.lowered: y.clamp(min=0) - 1 / np.sqrt(2 * np.pi),
             measures.leaky: torch.where(y > 0, y, 0.1 * y)}[activation]
    features = x.sum((2, 3)) / 4 if kind == "pooled" else x.reshape(len(x), -1)
    return features @ nets.head["weight"][0].detach() + nets.head["bias"][0, 0].detach()


@pytest.mark.parametrize("kind", measures.NETS)
@pytest.mark.parametrize(("norm", "activation"), [
    (measures.fixed, measures.tlu), (measures.learned, measures.tlu), (measures.fixed, measures.relu),
    (measures.fixed, measures.lowered), (measures.fixed, measures.leaky)])
def test_nets_against_a_plain_net(kind, norm, activation):
    nets = measures.Nets(kind, [3])
    with torch.no_grad():
        for layer in nets.layers:
            for name, values in layer.items():
                if name != "weight":
                    values += 0.3 * torch.randn(values.shape, generator=torch.Generator().manual_seed(1))
    x = measures.halves()[0][:40]
    x = x + 0.1 * torch.randn(x.shape, generator=torch.Generator().manual_seed(2))  # no map is nearly 0
    assert torch.allclose(nets(x, [norm] * 3, activation)[0], plain_logits(nets, x, kind, norm, activation), atol=1e-2)


def test_halves_are_disjoint():
    x_train, y_train, x_test, y_test = measures.halves()
    assert x_train.shape == x_test.shape == (896, 1, 8, 8) and y_train.shape == y_test.shape == (896,)
    assert not {each.tobytes() for each in x_train.numpy()} & {each.tobytes() for each in x_test.numpy()}


@pytest.mark.parametrize("kind", measures.NETS)
def test_stacked_nets_do_not_see_each_other(kind):
    norm = partial(measures.fixed, eps=0.1)
    both, alone = (measures.train(norm, measures.tlu, kind, 0.05, seeds=seeds, steps=3) for seeds in ([3, 7], [7]))
    logits = [nets(measures.halves()[2][:50], [norm] * 3, measures.tlu) for nets in (both, alone)]
    assert torch.allclose(logits[0][1], logits[1][0], rtol=1e-3, atol=1e-3)
    assert not torch.allclose(logits[0][0], logits[0][1], atol=1e-2)


def test_one_step_by_hand_frozen_and_warm():
    """One step is minus the rate times the gradient; what is frozen stays, and a warm-up starts with a small step."""
    before = measures.Nets("pooled", [3])
    x_train, y_train, *_ = measures.halves()
    drawn = training.shuffled(896, size=measures.BATCH, seeds=[3], steps=1)[0][0]
    logits = before(x_train[drawn], [measures.fixed] * 3, measures.tlu)[0]
    tau = before.layers[1]["tau"]
    gradient = torch.autograd.grad(F.cross_entropy(logits, y_train[drawn]), tau)[0]
    train = partial(measures.train, measures.fixed, measures.tlu, "pooled", 0.1, seeds=[3], steps=1)
    assert torch.allclose(train().layers[1]["tau"], tau - 0.1 * gradient, atol=1e-6)
    assert torch.allclose(train(warm_up=4).layers[1]["tau"], tau - 0.02 * gradient, atol=1e-6)
    kept = train(frozen=("weight",)).layers[1]
    assert torch.equal(kept["weight"], before.layers[1]["weight"]) and not torch.equal(kept["tau"], tau)


@pytest.mark.parametrize("k", [1, 4])
def test_stored_statistics_are_those_of_the_ghosts(k):
    norm = partial(measures.over_samples, k=k)
    nets = measures.train(norm, measures.relu, "pooled", 0.1, seeds=[0], steps=2)
    first = measures.stored(nets, k, measures.relu)[0]
    z = F.conv2d(measures.halves()[0][:512], nets.layers[0]["weight"], padding=1)
    ghosts = z.unflatten(0, (-1, k)).detach()
    var = torch.stack([ghost.var((0, 2, 3), correction=0) for ghost in ghosts]).mean(0)
    right = (z - z.mean((0, 2, 3))[:, None, None]) / (var + 1e-5).sqrt()[:, None, None]
    assert torch.allclose(first(z, None), right, atol=1e-4)
    assert measures.errors(nets, norm, measures.relu).shape == (1,)


def test_dead_units_are_counted():
    """A channel far below its floor is dead, one far above is not; for TLU the floor is tau."""
    nets = measures.Nets("pooled", [0, 1])
    with torch.no_grad():
        nets.layers[0]["beta"][:4] = -100  # of the first net
        nets.layers[1]["beta"][16:24] = -100  # of the second
        nets.layers[1]["tau"][16:20] = -200
    by_relu, by_tlu = (measures.dead(nets, measures.fixed, activation)[:2].tolist()
                       for activation in (measures.relu, measures.tlu))
    assert by_relu == [[25, 0], [0, 50]] and by_tlu == [[25, 0], [0, 25]]
