"""Chapter 11, local response and divisive normalization: each equation by a way that is not the text's own."""

import re
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar

from course_lib import (
    batch_norm,
    divisive_norm,
    filter_response_norm,
    group_norm,
    local_response_norm,
    local_response_norm_backward,
    rms_norm,
    training,
)
from course_lib.chapters.ch11 import exercises, measures

EXACT = {"rtol": 1e-11, "atol": 1e-12}  # float64, sums of a few terms of size 1
STRONG = {"k": 1.3, "alpha": 0.4, "beta": 0.6}  # with AlexNet's numbers a wrong window shows in the fourth digit only
ALEXNET = {"k": 2.0, "alpha": 1e-4, "beta": 0.75}


def maps(seed=0, shape=(3, 7, 2, 4), size=2.0):
    return size * np.random.default_rng(seed).standard_normal(shape)


def lone(x, *, k=2.0, alpha=1e-4, beta=0.75):
    """LRN of one channel alone, written out."""
    return x / (k + alpha * x**2) ** beta


# The layer


@pytest.mark.parametrize("size", [1, 3, 5, 9])
def test_formula(size):
    """Equation (11.1): entry by entry, with a window that ends where the channels do."""
    x, half = maps(), size // 2
    y, _ = local_response_norm(x, size=size, **STRONG)
    for n, i, h, w in np.ndindex(x.shape):
        window = [x[n, j, h, w] for j in range(i - half, i + half + 1) if 0 <= j < 7]
        t = 1.3 + 0.4 * sum(v**2 for v in window)
        assert np.isclose(y[n, i, h, w], x[n, i, h, w] / t**0.6, **EXACT)


@pytest.mark.parametrize(("left", "right"), [(2, 2), (1, 1), (2, 1), (0, 3), (3, 0)])
def test_gradient(left, right):
    """Equation (11.2): by the Jacobian, for windows that are symmetric and for others, whose sum is mirrored."""
    x, dy = maps(1), maps(2)
    i, j = np.indices((7, 7))
    sees = ((j >= i - left) & (j <= i + right)).astype(float)
    t = 1.3 + 0.4 * np.einsum("ij,njhw->nihw", sees, x**2)
    for n, h, w in np.ndindex(3, 2, 4):
        v, b = x[n, :, h, w], t[n, :, h, w]
        jacobian = np.diag(b**-0.6) - 0.6 * (v * b**-1.6)[:, None] * sees * 2 * 0.4 * v
        right_dx = jacobian.T @ dy[n, :, h, w]
        got = exercises.lrn_dx(dy[n : n + 1, :, h : h + 1, w : w + 1], x[n : n + 1, :, h : h + 1, w : w + 1], left,
                               right, 1.3, 0.4, 0.6)
        assert np.allclose(got.ravel(), right_dx, **EXACT)
    if left == right:
        _, cache = local_response_norm(x, size=left + right + 1, **STRONG)
        package = local_response_norm_backward(dy, cache)
        assert np.allclose(package, exercises.lrn_dx(dy, x, left, right, 1.3, 0.4, 0.6), **EXACT)


@pytest.mark.parametrize("delta", [0.01, 0.1, 0.5])
@pytest.mark.parametrize("beta", [0.5, 0.75, 1.2])
def test_energy_up_to_which_it_is_a_constant(delta, beta):
    """Equation (11.3): at that energy the output is below the constant by delta, and less so before."""
    k, alpha = 1.7, 0.02
    energy = k / alpha * ((1 - delta) ** (-1 / beta) - 1)
    for share, compare in [(0.98, np.greater), (1.0, np.isclose), (1.02, np.less)]:
        x = np.full((1, 5), np.sqrt(share * energy / 5))
        ratio = local_response_norm(x, k=k, alpha=alpha, beta=beta)[0][0, 2] / (k**-beta * x[0, 2])
        assert compare(ratio, 1 - delta)


def test_energy_of_alexnet():
    energy = 2e4 * (0.9 ** (-1 / 0.75) - 1)
    assert round(energy) == 3017 and 24.5 < np.sqrt(energy / 5) < 24.6


@pytest.mark.parametrize(("k", "alpha", "beta"), [(2, 1e-4, 0.75), (1, 2e-5, 0.75), (0.5, 0.3, 0.6), (3, 0.01, 2.0)])
def test_peak(k, alpha, beta):
    """Equation (11.4): found by a search; and the gradient changes its sign there."""
    peak = np.sqrt(k / (alpha * (2 * beta - 1)))
    found = minimize_scalar(lambda v: -lone(v, k=k, alpha=alpha, beta=beta), bounds=(0, 10 * peak), method="bounded",
                            options={"xatol": 1e-7 * peak})
    assert np.isclose(found.x, peak, rtol=1e-5)  # a maximum is flat: half of the digits
    for factor, sign in [(0.999, 1), (1.001, -1)]:
        _, cache = local_response_norm(np.array([[factor * peak]]), k=k, alpha=alpha, beta=beta)
        assert np.sign(local_response_norm_backward(np.ones((1, 1)), cache)) == sign


def test_peak_of_alexnet_and_of_torch():
    assert np.isclose(np.sqrt(2 / (1e-4 * 0.5)), 200) and 52 < lone(200.0) < 52.3
    x = torch.linspace(1, 1000, 99901, dtype=torch.float64)[:, None, None]
    y = torch.nn.functional.local_response_norm(x, 5)
    assert abs(x[y.argmax()].item() - np.sqrt(10 / 1e-4)) < 0.05
    for beta in (0.2, 0.5):  # without a peak it grows for ever, or up to a level
        assert np.all(np.diff(lone(np.geomspace(0.1, 1e6, 200), beta=beta)) > 0)
    assert np.isclose(lone(1e9, beta=0.5), 100)


def test_neighbours_move_the_peak():
    """Exercise 11.2: energy S beside it acts like a larger k, and the peak sinks as (k + alpha S)**(-1/4)."""
    values = np.linspace(1, 3000, 300_000)
    for energy in (0.0, 1e4, 3e5):
        y = lone(values, k=2 + 1e-4 * energy)
        at = np.sqrt(2 * (2 + 1e-4 * energy) / 1e-4)
        assert abs(values[y.argmax()] - at) < 0.05
        assert np.isclose(y.max(), at * (3 * (2 + 1e-4 * energy)) ** -0.75)
        assert np.isclose(y.max() / lone(200.0), (1 + 5e-5 * energy) ** -0.25)


@pytest.mark.parametrize("c", [0.01, 3.0, 255.0, -2.0])
def test_scale(c):
    """Equation (11.5)."""
    x = maps(3)
    for setting in (STRONG, ALEXNET):
        scaled = local_response_norm(c * x, **setting)[0]
        other = c * local_response_norm(x, **setting | {"alpha": c**2 * setting["alpha"]})[0]
        assert np.allclose(scaled, other, rtol=1e-11)


@pytest.mark.parametrize("size", [1, 3, 5, 13])
def test_ratios(size):
    """Equation (11.6); and a ratio stays exactly where both windows hold the same energy."""
    x = maps(4, (6, 7))
    y, cache = local_response_norm(x, size=size, **STRONG)
    for i, j in np.ndindex(7, 7):
        ratio, kept = y[:, i] / y[:, j], x[:, i] / x[:, j]
        assert np.allclose(ratio, kept * (cache.t[:, j] / cache.t[:, i]) ** 0.6, rtol=1e-11)
        assert np.allclose(ratio, kept, rtol=1e-11) == (i == j or size == 13)


@pytest.mark.parametrize("size", [3, 5, 7])
def test_active_channels_close_together_keep_their_ratios(size):
    reach = size // 2 + 1
    x = np.zeros((1, 20))
    x[0, 8 : 8 + reach] = np.arange(1, reach + 1)
    y, _ = local_response_norm(x, size=size, **STRONG)
    assert np.allclose(y[0, 8 : 8 + reach] / y[0, 8], np.arange(1, reach + 1))
    x[0, 8 + reach] = 5.0  # one more, and it is over
    assert not np.allclose(local_response_norm(x, size=size, **STRONG)[0][0, 9] / local_response_norm(
        x, size=size, **STRONG)[0][0, 8], 2)


# One equation


def mean(*axes):
    return lambda a: a.mean(axes, keepdims=True)


def total(a):
    return a.sum(1, keepdims=True)


def divided(v, pool, sigma, q=1, p=2, beta=0.5):
    return v**q / (sigma**p + pool(np.abs(v) ** p)) ** beta


def window(a):
    return np.stack([a[:, max(0, i - 2) : i + 3].sum(1) for i in range(a.shape[1])], 1)


def test_one_equation():
    """Equation (11.7): eight layers, against the package or torch."""
    x, one, zero = maps(5), np.ones(7), np.zeros(7)
    t, positive = torch.tensor(x), np.maximum(x, 0)
    cases = [
        (divided(positive, total, 3.0, q=3, p=3, beta=1),
         divisive_norm(positive, np.ones((7, 7)), sigma=3.0, exponent=3.0)),
        (1e-4**-0.75 * divided(x, window, np.sqrt(2 / 1e-4), beta=0.75), local_response_norm(x)[0]),
        (0.4**-0.6 * divided(x, window, np.sqrt(1.3 / 0.4), beta=0.6), local_response_norm(x, **STRONG)[0]),
        (divided(x - x.mean((0, 2, 3), keepdims=True), mean(0, 2, 3), 0.5), batch_norm(x, one, zero, eps=0.25)[0]),
        (divided(x - x.mean((1, 2, 3), keepdims=True), mean(1, 2, 3), 0.5),
         group_norm(x, one, zero, groups=1, eps=0.25)[0]),
        (np.moveaxis(divided(x, mean(1), 0.5), 1, -1), rms_norm(np.moveaxis(x, 1, -1), one, eps=0.25)[0]),
        (divided(x, mean(2, 3), 0.5), filter_response_norm(x, one, zero, eps=0.25)[0]),
        (divided(np.exp(x), total, 0, p=1, beta=1), torch.softmax(t, 1).numpy()),
        (divided(np.exp(x), total, np.exp(0.7), p=1, beta=1),
         torch.softmax(torch.cat([t, torch.full((3, 1, 2, 4), 0.7, dtype=t.dtype)], 1), 1)[:, :7].numpy()),
    ]
    for ours, layers in cases:
        assert np.allclose(ours, layers, **EXACT)


@pytest.mark.parametrize(("q", "p", "beta"), [(2, 2, 1), (1, 2, 0.5), (1, 1, 1), (1, 2, 0.75), (3, 2, 1.2)])
def test_power_of_strong_drives(q, p, beta):
    """Equation (11.8): the slope on logarithmic axes, far above sigma."""
    v = np.array([[1e7], [1e8]])
    slope = np.diff(np.log10(divided(v, total, 2.0, q=q, p=p, beta=beta)), axis=0).item()
    assert abs(slope - (q - p * beta)) < 1e-4


# The fitted pool


def from_the_chapter(name):
    """A function that stands in a visible cell of the text."""
    text = (Path(__file__).parents[2] / "notebooks" / "11_local_response_norm.md").read_text()
    (cell,) = [each for each in re.findall(r"```{code-cell} ipython3\n(.*?)```", text, re.S)
               if each.startswith(f"def {name}(")]
    scope = {"np": np}
    exec(cell, scope)
    return scope[name]


def test_fitted_variance():
    """Equation (11.9): a response whose variance follows it is found out; each step raises the likelihood."""
    rng = np.random.default_rng(6)
    z = rng.standard_normal((40_000, 3))
    z[:, 0] *= np.sqrt(0.3 + 0.7 * z[:, 1] ** 2)
    fit_pool = from_the_chapter("fit_pool")
    w = fit_pool(z, 300)
    assert np.allclose(w[:, 0], [0.3, 0, 0.7, 0], atol=0.04)  # the standard errors are about 0.01
    assert w[1, 0] == w[2, 1] == w[3, 2] == 0

    def log_likelihood(w):
        var = w[0] + z**2 @ w[1:]
        return -0.5 * np.sum(np.log(var) + z**2 / var)

    rising = [log_likelihood(fit_pool(z, steps)) for steps in (0, 1, 2, 5, 20, 60)]
    assert np.all(np.diff(rising) > 0)
    y, size = z[:, 0] / np.sqrt(w[0, 0] + z**2 @ w[1:, 0]), np.abs(z)
    assert abs(np.corrcoef(np.abs(y), size[:, 1])[0, 1]) < 0.02 < np.corrcoef(size[:, 0], size[:, 1])[0, 1]


def test_filters_and_responses():
    bank = measures.filters()
    assert bank.shape == (16, 121) and np.allclose(bank.sum(1), 0, atol=1e-12)  # a flat patch gives no response
    for each in bank.reshape(16, 11, 11):
        rows, columns = np.nonzero(each)
        corner = rows.min(), columns.min()
        inner = each[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
        assert np.allclose(inner, -inner[::-1, ::-1]) and max(corner) <= 5
    z = measures.responses(7, count=2000)
    assert z.shape == (2000, 16) and np.allclose(z.std(0), 1) and np.array_equal(z, measures.responses(7, count=2000))


def test_halves_are_from_different_images(monkeypatch):
    faint = np.random.default_rng(8).standard_normal((600, 28, 28))
    faint[300:] *= 10
    monkeypatch.setattr(measures, "_glyphs", lambda: faint)
    first, second = np.split(measures.responses(9, count=2000), 2)
    assert np.all(second.std(0) > 8 * first.std(0))  # 10, up to a few per cent of a sample's spread


# The nets


def test_light():
    factors = measures.light(50).numpy()
    assert factors.shape == (50, 1, 8, 8)
    logs = np.log(factors[:, 0])
    assert np.allclose(np.diff(logs, n=2, axis=1), 0, atol=1e-4) and np.allclose(logs.mean((1, 2)), 0, atol=1e-5)
    slopes = np.hypot(np.diff(logs, axis=1)[:, 0, 0], np.diff(logs, axis=2)[:, 0, 0])
    assert np.allclose(slopes, 4 / 7, atol=1e-4) and np.abs(logs).max() < 2 * np.sqrt(2) + 1e-4
    for shaded in (False, True):
        x_train, y_train, x_test, _ = measures.digits(shaded)
        assert x_train.shape == x_test.shape == (896, 1, 8, 8) and abs(x_train.std() - 1) < 1e-4
        assert not {each.tobytes() for each in x_train.numpy()} & {each.tobytes() for each in x_test.numpy()}
    assert torch.equal(measures.digits(True)[1], y_train)


def shares(x):
    """A division in which the channels of a net matter to each other."""
    return x / (1 + x.sum(1, keepdim=True))


def test_net_against_a_plain_net():
    nets = measures.Nets(shares, [3])
    x, y, *_ = measures.digits(False)

    def logits(parameters, a):
        for layer, stride in enumerate((1, 2, 1)):
            weight, bias = parameters[2 * layer : 2 * layer + 2]
            a = torch.nn.functional.conv2d(a, weight, stride=stride, padding=1) + bias[:, None, None]
            a = a.clamp(min=0)
            a = a / (1 + a.sum(1, keepdim=True)) if layer < 2 else a
        return a.flatten(1) @ parameters[6][0] + parameters[7][0, 0]

    parameters = [p.detach().clone().requires_grad_() for p in nets.parameters]
    assert torch.allclose(nets(x[:40])[0], logits(parameters, x[:40]), atol=1e-4)
    velocity = [torch.zeros_like(p) for p in parameters]
    for step, drawn in enumerate(training.shuffled(896, size=measures.BATCH, seeds=[3], steps=3)[0]):
        loss = torch.nn.functional.cross_entropy(logits(parameters, x[drawn]), y[drawn])
        gradients = torch.autograd.grad(loss, parameters)
        velocity = [0.9 * v + g for v, g in zip(velocity, gradients, strict=True)]
        rate = 0.1 * np.cos(np.pi * step / 6) ** 2  # half a cosine from 0.1 to 0
        parameters = [(p - rate * v).detach().requires_grad_() for p, v in zip(parameters, velocity, strict=True)]
    trained = measures.train(shares, 0.1, seeds=[3], steps=3)
    for plain, ours in zip(parameters, trained.parameters, strict=True):
        assert torch.allclose(plain, ours, atol=1e-5)


def test_stacked_nets_do_not_see_each_other():
    both, alone = (measures.train(shares, 0.1, seeds=seeds, steps=4) for seeds in ([3, 7], [7]))
    x = measures.digits(False)[2][:50]
    assert torch.allclose(both(x)[1], alone(x)[0], rtol=1e-3, atol=1e-4)
    assert not torch.allclose(both(x)[0], alone(x)[0], atol=1e-2)
    error = measures.errors(both)
    assert error.shape == (2,) and np.all((error >= 0) & (error <= 100))


# Today


def test_global_response_norm():
    scale = np.array([1.0, 2.0, 4.0])[None, :, None, None]
    x = scale * np.ones((1, 3, 2, 2))
    norm = np.sqrt((x**2).sum((2, 3), keepdims=True))
    share = norm / norm.mean(1, keepdims=True)
    assert np.allclose(divided(norm, mean(1), 0, p=1, beta=1), share)
    # with gamma the gain of channel c is 1 + gamma * 3 c / 7
    for gamma, ratio in [(0.0, [1, 2, 4]), (1.0, [1, 2.6, 7.6]), (-0.5, [1, 16 / 11, 8 / 11])]:
        out = gamma * (x * share) + x
        assert np.allclose((out / out[:, :1])[0, :, 0, 0], ratio)
    held = partial(local_response_norm, size=5, k=2.0, alpha=1.0)(x)[0]
    assert np.allclose(held / held[:, :1], scale)
