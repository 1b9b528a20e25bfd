"""Chapter 6, what batch norm does, and where it breaks: each equation, and claims about numbers, by another way.

The chapter measures with NumPy nets; here the same is asked of torch's autograd, of quadrature, or of a simulation.
"""

import csv
from collections import defaultdict

import numpy as np
import pytest
import torch
from chapter import ROOT

from course_lib import batch_norm, data, norm_backward, training
from course_lib.chapters.ch06 import measures

RHO = np.pi / (np.pi - 1)
NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(120)
WEIGHTS = WEIGHTS / WEIGHTS.sum()


def growth_by_torch(activation, *, depth=7, width=512, batch=512, skip=False, seed=0):
    """Squared gradients below over above a stack of batch norm, activation, He's weights, by autograd."""
    torch.manual_seed(seed)
    h = torch.randn(batch, width)
    kept = []
    for _ in range(depth):
        z = activation(torch.nn.functional.batch_norm(h, None, None, training=True, eps=1e-12))
        h = z @ torch.randn(width, width) * (2 / width) ** 0.5 + (h if skip else 0)
        h.retain_grad() if h.requires_grad else h.requires_grad_()
        kept.append(h)
    (h * torch.randn_like(h)).sum().backward()
    squares = [each.grad.square().mean().item() for each in kept]
    return squares[0] / squares[-1]


def normal_mean(f):
    """E f(xi) for kinked f as well: a fine grid without a point at 0."""
    y = np.linspace(-9, 9, 200_000)
    density = np.exp(-(y**2) / 2)
    return (f(y) * density).sum() / density.sum()


# Why gradients grow


@pytest.mark.parametrize("name, law", [("relu", RHO), ("tanh", 1.1778), ("leaky", 1.0 / (1 - 0.49 / (1.09 * np.pi)))])
def test_growth_per_layer_is_mean_squared_slope_over_variance(name, law):
    """Equation (6.1): torch's autograd through seven layers; within 1.5 % at this width, and the three laws differ."""
    activation = {"relu": torch.relu, "tanh": torch.tanh, "leaky": lambda y: torch.where(y > 0, y, 0.3 * y)}[name]
    growth = growth_by_torch(activation) ** (1 / 6)
    assert abs(growth / law - 1) < 0.015, (growth, law)


def test_growth_of_relu_is_pi_over_pi_minus_one():
    """Equation (6.2): both moments by integration."""
    var = normal_mean(lambda y: np.maximum(y, 0) ** 2) - normal_mean(lambda y: np.maximum(y, 0)) ** 2
    assert np.isclose(var, 1 / 2 - 1 / (2 * np.pi), rtol=1e-6)
    assert np.isclose(normal_mean(lambda y: y > 0) / var, RHO, rtol=1e-6) and round(RHO, 4) == 1.4669


@pytest.mark.parametrize("f, slope", [(np.tanh, lambda y: 1 - np.tanh(y) ** 2), (np.sin, np.cos),
                                      (lambda y: y**3 + y, lambda y: 3 * y**2 + 1)])
def test_variance_is_a_sum_of_squared_hermite_coefficients_and_the_slope_counts_them(f, slope):
    """Equation (6.3): coefficients by quadrature; and variance <= mean squared slope."""
    k = np.arange(60)
    lengths = np.sqrt(np.cumprod([1.0, *k[1:]]))
    c = [WEIGHTS @ (f(NODES) * np.polynomial.hermite_e.hermeval(NODES, np.eye(60)[j])) / lengths[j] for j in k]
    var = WEIGHTS @ f(NODES) ** 2 - (WEIGHTS @ f(NODES)) ** 2
    square = WEIGHTS @ slope(NODES) ** 2
    assert np.isclose(np.sum(np.square(c)[1:]), var, rtol=1e-4)
    assert np.isclose(np.sum(k * np.square(c)), square, rtol=1e-3)
    assert var < square


def test_a_straight_line_alone_does_not_grow():
    assert abs(growth_by_torch(lambda y: y, depth=4) ** (1 / 3) - 1) < 0.02


def test_skips_turn_the_power_into_a_product():
    """Equation (6.4): autograd through 25 layers against the product, and the product goes as L ** rho."""
    q = 1 - 1 / np.pi

    def product(layers):
        return np.prod(1 + RHO * q / (1 + q * np.arange(1, layers)))

    measured = growth_by_torch(torch.relu, depth=25, width=256, batch=256, skip=True)
    assert abs(measured / product(25) - 1) < 0.15 and product(25) < RHO**24 / 100
    assert np.isclose(product(20_000) / product(10_000), 2**RHO, rtol=1e-3)


@pytest.mark.parametrize("alpha", [-1.0, -0.4, 0.0, 0.1, 0.7, 1.0])
def test_growth_of_leaky_relus(alpha):
    """Equation (6.5): both moments by integration; -1 is the worst, with 2.75."""
    def f(y):
        return np.where(y > 0, y, alpha * y)

    var = normal_mean(lambda y: f(y) ** 2) - normal_mean(f) ** 2
    rho = 1 / (1 - (1 - alpha) ** 2 / (np.pi * (1 + alpha**2)))
    assert np.isclose(normal_mean(lambda y: np.where(y > 0, 1, alpha**2)) / var, rho, rtol=1e-5)
    assert rho <= np.pi / (np.pi - 2) + 1e-12 and round(np.pi / (np.pi - 2), 2) == 2.75


def test_two_digits_stay_apart_as_independent_normals_do():
    """1 / pi is the cosine of two independent normal vectors after a ReLU."""
    a = np.maximum(np.random.default_rng(0).standard_normal((2, 10**6)), 0)
    assert np.isclose(a[0] @ a[1] / np.linalg.norm(a[0]) / np.linalg.norm(a[1]), 1 / np.pi, rtol=5e-3)


# The length of the weights


def direction_loss(seed=0):
    """The loss of weights (10, 1) in front of batch norm without eps, and its gradient."""
    rng = np.random.default_rng(seed)
    u, dy, gamma = 1 + rng.standard_normal((32, 10)), rng.standard_normal((32, 1)), np.array([-1.3])

    def loss(w):
        return np.sum(dy * batch_norm(u @ w, gamma, np.zeros(1), eps=0.0)[0])

    def gradient(w):
        return u.T @ norm_backward(dy, batch_norm(u @ w, gamma, np.zeros(1), eps=0.0)[1])[0]

    return loss, gradient, rng.standard_normal((10, 1))


def test_proposition_6_1():
    loss, gradient, w = direction_loss()
    for a in (1e-3, 0.5, 1000.0):
        assert np.isclose(loss(a * w), loss(w), rtol=1e-10)
        assert np.allclose(gradient(a * w), gradient(w) / a, rtol=1e-8)
    assert abs(np.sum(w * gradient(w))) < 1e-10 < 0.1 < np.linalg.norm(gradient(w))


def test_a_step_makes_the_weights_longer_by_pythagoras():
    """Equation (6.6)."""
    _, gradient, w = direction_loss(1)
    for lr in (0.1, 10.0):
        longer = np.sum((w - lr * gradient(w)) ** 2)
        assert np.isclose(longer, np.sum(w**2) + lr**2 * np.sum(gradient(w) ** 2), rtol=1e-10)


@pytest.mark.parametrize("length", [0.5, 3.0, 40.0])
def test_the_angle_of_a_step_has_the_rate_over_the_squared_length(length):
    """Equation (6.7): the angle between w before and after, for a small step."""
    _, gradient, w = direction_loss(2)
    w, unit, lr = length * w / np.linalg.norm(w), w / np.linalg.norm(w), 1e-3 * length**2
    new = w - lr * gradient(w)
    angle = np.arccos(np.sum(w * new) / np.linalg.norm(w) / np.linalg.norm(new))
    assert np.isclose(angle, lr / length**2 * np.linalg.norm(gradient(unit)), rtol=1e-3)
    assert np.isclose(angle, lr * np.linalg.norm(gradient(w)) / length, rtol=1e-3)


@pytest.mark.parametrize("lr, decay", [(0.1, 0.05), (0.5, 0.01), (0.02, 1.0)])
def test_growth_and_decay_balance_at_an_angle(lr, decay):
    """Equation (6.8): a random walk whose gradients stand on w and are 1 / |w| as long."""
    rng = np.random.default_rng(3)
    w, angles, balance = rng.standard_normal(200), [], []
    for _ in range(4000):
        g = rng.standard_normal(200) * rng.exponential()
        g = (g - (g @ w) * w / (w @ w)) / np.linalg.norm(w)
        new = (1 - lr * decay) * w - lr * g
        angles.append(np.arccos(w @ new / np.linalg.norm(w) / np.linalg.norm(new)))
        balance.append([lr**2 * (g @ g), 2 * lr * decay * (w @ w)])
        w = new
    assert np.isclose(np.sqrt(np.mean(np.square(angles[2000:]))), np.sqrt(2 * lr * decay), rtol=0.06)
    left, right = np.mean(balance[2000:], axis=0)
    assert np.isclose(left, right, rtol=0.06)


def test_with_eps_the_scale_of_tiny_weights_is_felt():
    _, _, w = direction_loss()
    u = 1 + np.random.default_rng(0).standard_normal((32, 10))

    def y(a):
        return batch_norm(a * (u @ w), np.ones(1), np.zeros(1))[0]

    assert np.abs(y(1e-3) - y(1)).max() > 0.05 and np.abs(y(10) - y(1)).max() < 1e-4


# Rates and smoothness


def deep_net(seeds=(0,), norm="batch"):
    return training.mlp((64, 64, 64, 64, 10), seeds=seeds, norm=norm, activation="relu", weight_std=np.sqrt(2 / 64))


def kappa(net, batch, walked):
    def hidden(net):
        return [{"weight": g["weight"]} for g in training.loss_and_gradient(net, *batch)[1][:-1]]

    start = hidden(net)
    apart = [measures.distance(hidden(measures.moved(net, start, s)), start) / s for s in walked]
    return np.max(apart, axis=0) / measures.distance(start)


def test_smoothness_has_the_unit_of_the_weights():
    """Equation (6.9): weights 10 times as long, walked 100 times as far: the same walk, a hundredth of kappa."""
    batch = next(training.batches(data.digits(), size=60, seeds=(0,), steps=1))
    net, walked = deep_net(), np.array([0.05, 0.1, 0.2])
    near = kappa(net, batch, walked)
    assert np.allclose(near, 100 * kappa(measures.stretched(net, 10), batch, 100 * walked), rtol=0.02)
    a, b = (np.random.default_rng(1).standard_normal((2, 1, 3, 4)) for _ in range(2))
    assert np.isclose(measures.distance([{"weight": a[0]}], [{"weight": b[1]}])[0], np.linalg.norm(a[0] - b[1]))


def test_moved_is_a_step_of_descent():
    batch = next(training.batches(data.digits(), size=60, seeds=(0,), steps=1))
    net = deep_net()
    gradients = training.loss_and_gradient(net, *batch)[1]
    theirs = training.sgd_step(net, gradients, 0.3)
    for ours, other in zip(measures.moved(net, gradients, 0.3).layers, theirs.layers, strict=True):
        assert all(np.allclose(ours[name], other[name], atol=1e-6) for name in other)
    assert measures.moved(net, gradients[:1], 0.3).layers[1]["weight"] is net.layers[1]["weight"]


def test_train_by_is_train_with_another_step():
    digits, net = data.digits(), deep_net((0, 1))
    ours = measures.train_by(training.sgd_step, net, digits, seeds=(0, 1), lr=0.5, steps=20, until=2)
    theirs = training.train(net, digits, seeds=(0, 1), lr=0.5, steps=20, looks=ours.step)
    assert np.array_equal(ours["accuracy"], theirs["accuracy"]) and list(ours.step) == [4, 8, 12, 16, 20]


# Noise


def test_noise_of_the_statistics_falls_with_the_size_of_the_batch():
    """Equation (6.10): 40,000 batches of normal values; the second is an approximation, better for larger m."""
    for m, tolerance in [(8, 0.1), (64, 0.04)]:
        x = 3 + 2 * np.random.default_rng(4).standard_normal((40_000, m))
        assert np.isclose(x.mean(1).var(), 4 / m, rtol=0.04)
        assert np.isclose(x.std(1).var(), 4 / (2 * m), rtol=tolerance)


@pytest.mark.parametrize("keep", [0.5, 0.8])
def test_dropout_changes_the_variance_and_not_the_mean(keep):
    """Equation (6.11): a million values; and 2.47 for a ReLU of normals with keep 0.5."""
    rng = np.random.default_rng(5)
    x = np.maximum(rng.standard_normal(10**6), 0)
    dropped = x * (rng.random(10**6) < keep) / keep
    law = (x.var() + x.mean() ** 2) / keep - x.mean() ** 2
    assert np.isclose(dropped.mean(), x.mean(), rtol=0.01) and np.isclose(dropped.var(), law, rtol=0.01)
    assert keep != 0.5 or abs(law / x.var() - 2.47) < 0.02


# Groups, sorted batches, accumulation


def test_a_step_in_groups_of_the_whole_batch_is_the_step():
    batch = next(training.batches(data.digits(), size=64, seeds=(0, 1), steps=1))
    net = deep_net((0, 1))
    _, whole = training.loss_and_gradient(net, *batch)
    grouped, x, labels = measures.groups(net, 64, *batch)
    merged = measures.merge(training.loss_and_gradient(grouped, x, labels)[1], 2)
    assert (measures.distance(merged, whole) < 1e-6).all()
    small, x, labels = measures.groups(net, 8, *batch)
    assert x.shape == (16, 8, 64)
    alone = training.loss_and_gradient(measures.one(net, 1), batch[0][1:, 16:24], batch[1][1:, 16:24])[1]
    of_group = training.loss_and_gradient(small, x, labels)[1]
    assert np.allclose(of_group[0]["weight"][10], alone[0]["weight"][0], atol=1e-6)
    merged = measures.merge(of_group, 2)[0]["weight"][1]
    assert np.allclose(merged, of_group[0]["weight"][8:].mean(axis=0), atol=1e-6)


@pytest.mark.parametrize("norm, exact", [("none", True), ("layer", True), ("batch", False)])
def test_accumulation_is_the_large_batch_but_for_batch_norm(norm, exact):
    """By torch, with modules of its own."""
    torch.manual_seed(0)
    layer = {"none": torch.nn.Identity(), "layer": torch.nn.LayerNorm(20), "batch": torch.nn.BatchNorm1d(20)}[norm]
    net = torch.nn.Sequential(torch.nn.Linear(8, 20), layer, torch.nn.ReLU(), torch.nn.Linear(20, 3)).double()
    x, y = torch.randn(32, 8, dtype=torch.float64), torch.randint(3, (32,))

    def gradient(parts):
        net.zero_grad()
        for a, b in zip(x.chunk(parts), y.chunk(parts), strict=True):
            (torch.nn.functional.cross_entropy(net(a), b) / parts).backward()
        return net[0].weight.grad.clone()

    apart = (gradient(8) - gradient(1)).norm() / gradient(1).norm()
    assert apart < 1e-12 if exact else apart > 0.3


def test_sorted_batches_have_one_class_a_group_and_mixed_ones_the_same_samples():
    digits = data.digits()
    kinds = [next(measures.sorted_batches(digits, size=64, group=8, seeds=(0, 3), steps=1, mixed=m)) for m in (0, 1)]
    for (x, labels), (x_mixed, labels_mixed) in [kinds]:
        assert all(len(set(group)) == 1 for run in labels for group in run.reshape(8, 8))
        assert any(len(set(group)) > 2 for run in labels_mixed for group in run.reshape(8, 8))
        assert np.allclose(np.sort(x.sum(2)), np.sort(x_mixed.sum(2)), atol=1e-3)


# Samples that see each other


def test_a_running_mean_gives_an_image_away():
    """Two means of the first layer, one image apart, by the pseudo-inverse; and it needs as many units as pixels."""
    rng = np.random.default_rng(6)
    images = rng.random((32, 64))
    for units, found in [(100, True), (40, False)]:
        W = rng.standard_normal((64, units))
        z = 32 * (images @ W).mean(0) - 31 * (images[:31] @ W).mean(0)
        assert np.allclose(z @ np.linalg.pinv(W), images[31], atol=1e-10) == found


def test_noise_with_one_label_holds_it_in_the_first_sample_only():
    x, labels = zip(*measures.noise_with_one_label((0, 1), 300))
    x, labels = np.concatenate(x), np.concatenate(labels)
    assert (labels == labels[:, :1]).all() and 0.4 < labels.mean() < 0.6
    assert np.array_equal(x[:, 0, 0] > 0, labels[:, 0] == 1)
    others = x[:, 1:].reshape(len(x), -1).mean(1)
    assert abs(np.corrcoef(others, labels[:, 0])[0, 1]) < 0.15


def test_every_setting_meets_every_seed():
    """Each setting for all seeds, then the next."""
    lr, decay, runs = measures.every((0, 5), [0.1, 0.2], 3)
    assert lr.tolist() == [0.1, 0.1, 0.2, 0.2] and decay.tolist() == [3] * 4 and runs == [0, 5, 0, 5]


# Sentences with a dagger: the long run of benchmarks/chapter06.py


@pytest.fixture(scope="module")
def long_run():
    """{quantity: its ten seeds} of the committed table."""
    found = defaultdict(list)
    with open(ROOT / "benchmarks" / "chapter06.csv", encoding="utf8") as file:
        for row in csv.DictReader(file):
            found[row["quantity"]].append(float(row["value"]))
    assert {len(values) for values in found.values()} == {10}
    return {name: np.array(values) for name, values in found.items()}


def of(long_run, start):
    (name,) = [name for name in long_run if name.startswith(start)]
    return long_run[name]


def test_every_dagger_has_a_test():
    """As many as there are sentences below; and the long run held the chapter's own asserts."""
    text = (ROOT / "notebooks" / "06_what_batch_norm_does.md").read_text(encoding="utf8")
    assert text.count("†") - 1 == 10  # one explains it
    assert "Every assert of the chapter holds." in (ROOT / "benchmarks" / "chapter06.txt").read_text(encoding="utf8")


def test_deep_nets_without_skips_gain_little(long_run):
    batch, none = (of(long_run, f"accuracy, %, 30 layers without skips, 300 steps, rate {end}")
                   for end in ("0.1: batch", "0.02: none"))
    assert [round(v) for v in (np.median(batch), *np.sort(batch)[[0, -1]])] == [69, 56, 73]
    assert [round(v) for v in (np.median(none), *np.sort(none)[[0, -1]])] == [61, 46, 67]


def test_angles_hold_within_5_percent_in_each_seed(long_run):
    for setting in range(1, 6):
        assert np.abs(long_run[f"angle of a step, measured over predicted: setting {setting}"] - 1).max() < 0.05


def test_frozen_hidden_weights_read_four_digits_of_five(long_run):
    frozen = long_run["best accuracy within 200 steps, weights in front frozen"]
    assert round(100 * np.median(frozen)) in (81, 82) and np.ptp(frozen) < 0.1


def test_at_a_small_rate_batch_norm_has_the_smaller_kappa(long_run):
    plain, batch = (long_run[f"change of the gradient for its distance, rate 0.05: {arm}"]
                    for arm in ("no normalization", "batch norm"))
    assert round(np.median(batch)) == 10 and round(np.median(plain)) in (24, 25)


def test_noisier_groups_help_at_a_small_rate_alone(long_run):
    whole, groups = (long_run[f"test error, %, 200 images, rate 0.2: batch norm, m = {m}"] for m in (64, 16))
    assert 1 <= np.median(whole) - np.median(groups) <= 2


def test_sorted_groups_need_one_half_of_batch_norm_to_train(long_run):
    assert long_run["last loss, one class each, both, at its best rate for it"].min() > 1.8
    assert 0.5 < long_run["last loss, one class each, mean alone"].min()
    assert long_run["last loss, one class each, mean alone"].max() < 1.25
    mean, scale = (long_run[f"test error, %, one class each, {half} alone"] for half in ("mean", "scale"))
    assert 66 < mean.min() and mean.max() < 84 and 13 < scale.min() and scale.max() < 27


def test_whole_digits_are_read_alike(long_run):
    for kind in ("layer", "batch"):
        assert 3 <= np.median(long_run[f"test error, %, after 8 rows, batches of 16 whole digits: {kind} norm"]) < 5
