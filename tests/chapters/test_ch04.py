"""Chapter 4: each displayed equation, and what the prose says about it.

The functions under test are those of the package; what they are held against
is torch, central differences, or arithmetic done another way.
"""

import numpy as np
import pytest
import torch

from course_lib import batch_norm, norm_backward, standardize, standardize_backward
from course_lib.chapters.ch04 import measures

NOTE = np.array([1.0, 1.5, 1.2, 0.9, 1.7, 2.1, 3.1, 1.7])
SHAPE = (5, 3)
EXACT = {"rtol": 1e-12, "atol": 1e-13}  # float64, sums of fewer than 1000 terms of size 1
DIFFERENCES = {"rtol": 1e-6, "atol": 1e-8}  # central differences with a step of 1e-5 have about nine digits


def batch(seed=0, shape=SHAPE):
    """x off centre with a scale per channel, gamma with a negative entry, beta, and a random dy."""
    rng = np.random.default_rng(seed)
    channel = (shape[1], *[1] * (len(shape) - 2))
    x = rng.normal(3, 1, shape) * rng.uniform(0.3, 4, channel) + rng.uniform(-9, 9, channel)
    gamma = rng.uniform(0.5, 2, shape[1])
    gamma[1] *= -1
    return x, gamma, rng.uniform(-1, 1, shape[1]), rng.standard_normal(shape) + 0.7


def slope(f, x, direction, step=1e-5):
    """Derivative of f at x along a direction, by central differences."""
    return (f(x + step * direction) - f(x - step * direction)) / (2 * step)


def leaf(a):
    return torch.tensor(a, requires_grad=True)


# A bias that runs away


def bias_setting():
    rng = np.random.default_rng(0)
    u, t = rng.standard_normal(64), 0.5 + rng.standard_normal(64)
    return u, t, lambda b: np.mean((u + b - (u + b).mean() - t) ** 2) / 2


def test_centring_and_its_loss_do_not_see_the_bias():
    """Equation (4.1): x_hat and the loss are the same for every b."""
    u, _, loss = bias_setting()
    x_hat = standardize(u, (0,), eps=0)[0] * u.std()
    for b in (-40.0, 0.0, 3.0, 1000.0):
        x = u + b
        assert np.allclose(x - x.mean(), x_hat, rtol=0, atol=1e-11)  # 1000 has a grid of 1e-13
        assert np.isclose(loss(b), loss(0.0), rtol=1e-11)


def test_gradient_with_the_mean_held_constant_is_minus_the_mean_target():
    """Equation (4.2): torch agrees when the mean is detached, and b grows by the same step for ever."""
    u, t, _ = bias_setting()
    b = torch.tensor(0.4, dtype=torch.float64, requires_grad=True)
    x = torch.tensor(u) + b
    (((x - x.mean().detach() - torch.tensor(t)) ** 2).mean() / 2).backward()
    assert np.isclose(b.grad.item(), -t.mean(), **EXACT)
    assert abs(t.mean()) > 0.1  # the runaway is not a rounding error


def test_gradient_through_the_mean_is_zero():
    """Equation (4.3): by torch with the mean in the graph, and by differences."""
    u, t, loss = bias_setting()
    b = torch.tensor(0.4, dtype=torch.float64, requires_grad=True)
    x = torch.tensor(u) + b
    (((x - x.mean() - torch.tensor(t)) ** 2).mean() / 2).backward()
    assert abs(b.grad.item()) < 1e-14
    assert abs(slope(loss, 0.4, 1.0)) < 1e-9


def test_training_the_bias_runs_away_on_the_straight_road_only():
    """What figure 4.1 shows: a step of (4.2) for ever, no effect on the loss; and no step at all with (4.3)."""
    _, t, loss = bias_setting()
    bias, losses = measures.train_bias(lambda dx_hat: dx_hat, steps=200)
    assert np.allclose(np.diff(bias), 0.1 * t.mean(), **EXACT) and np.allclose(losses, loss(0.0), rtol=1e-11)
    bias, losses = measures.train_bias(lambda dx_hat: dx_hat - dx_hat.mean(), steps=200)
    assert np.abs(bias).max() < 1e-13 and np.allclose(losses, loss(0.0), rtol=1e-11)


# Forward


def test_forward_lines_are_what_batch_norm_computes():
    """Equations (4.4), (4.5) and (4.6): sums written out for each feature."""
    x, gamma, beta, _ = batch()
    y, _ = batch_norm(x, gamma, beta, eps=0.1)
    m = len(x)
    for j in range(x.shape[1]):
        mu = sum(x[:, j]) / m
        var = sum((value - mu) ** 2 for value in x[:, j]) / m
        for i in range(m):
            assert np.isclose(y[i, j], gamma[j] * (x[i, j] - mu) / (var + 0.1) ** 0.5 + beta[j], **EXACT)


def test_the_eight_numbers_of_the_note():
    """The note divides by m; with m - 1 its largest number would be 2.04."""
    assert np.isclose(NOTE.mean(), 1.65, **EXACT) and np.isclose(NOTE.var(), 0.44, **EXACT)
    printed = [-0.98, -0.23, -0.68, -1.13, 0.08, 0.68, 2.19, 0.08]
    assert np.array_equal(np.round(standardize(NOTE, (0,), eps=1e-8)[0], 2), printed)
    assert np.array_equal(np.round(1.65 + np.sqrt(0.44) * np.array(printed), 1), NOTE)
    assert np.round((3.1 - 1.65) / NOTE.std(ddof=1), 2) == 2.04


@pytest.mark.parametrize("eps", [0.0, 1e-5, 0.1])
def test_moments_after_standardizing(eps):
    """Equation (4.7): mean 0, and mean square var / (var + eps)."""
    x, *_ = batch(1)
    x_hat, _ = standardize(x, (0,), eps=eps)
    assert np.allclose(x_hat.mean(0), 0, **EXACT)
    assert np.allclose((x_hat**2).mean(0), x.var(0) / (x.var(0) + eps), **EXACT)


def test_dividing_by_the_variance_gives_another_spread():
    assert np.isclose(((NOTE - NOTE.mean()) / NOTE.var()).std(), 1 / NOTE.std(), **EXACT)


# What standardizing keeps


@pytest.mark.parametrize("eps", [0.0, 0.01, 1.0])
def test_correlations_are_kept_for_every_eps(eps):
    """Proposition 4.1 (a); covariances do change, and a negative gamma turns signs around."""
    rng = np.random.default_rng(2)
    x = rng.standard_normal((50, 3)) @ rng.standard_normal((3, 3)) + [5, 0, -50]
    x_hat, _ = standardize(x, (0,), eps=eps)
    assert np.allclose(np.corrcoef(x.T), np.corrcoef(x_hat.T), rtol=0, atol=1e-13)
    assert not np.allclose(np.cov(x.T), np.cov(x_hat.T), atol=0.1)
    signs = np.array([1, -1, 1])
    y, _ = batch_norm(x, 2.0 * signs, np.zeros(3), eps=eps)
    assert np.allclose(np.corrcoef(y.T), np.corrcoef(x.T) * np.outer(signs, signs), rtol=0, atol=1e-13)


@pytest.mark.parametrize("order", [3, 4, 5])
def test_standardized_moments_are_kept(order):
    """Proposition 4.1 (b): skewness, kurtosis and so on; an exponential sample stays skewed."""
    x = np.random.default_rng(3).exponential(size=4000)

    def moment(v):
        return np.mean((v - v.mean()) ** order) / np.mean((v - v.mean()) ** 2) ** (order / 2)

    assert np.isclose(moment(standardize(x, (0,), eps=0.3)[0]), moment(x), rtol=1e-10)
    assert order != 3 or moment(x) > 1.5  # 2 for the law itself, 0 for a normal one


def test_samples_keep_their_differences_over_the_batch_only():
    """x_i - x_j is only rescaled; and a faint copy stays faint where features have mean 0, not elsewhere."""
    def over_batch(x):
        return standardize(x, (0,), eps=0)[0]

    x = np.random.default_rng(4).standard_normal((64, 5))
    x[1] = x[0] / 10
    assert np.allclose(over_batch(x)[0] - over_batch(x)[1], (x[0] - x[1]) / x.std(0), **EXACT)
    over_features = standardize(x, (1,), eps=0)[0]
    assert np.allclose(over_features[0], over_features[1], **EXACT)  # the contrast is gone
    ratios = {}
    for name, offset in {"centred": 0.0, "off centre": 5.0}.items():
        x = offset + np.random.default_rng(4).standard_normal((2000, 50))
        x[1] = x[0] / 10
        ratios[name] = np.linalg.norm(over_batch(x)[0]) / np.linalg.norm(over_batch(x)[1])
    assert 8 < ratios["centred"] < 12 and ratios["off centre"] < 1


# Gamma and beta


def test_share_of_a_straight_line():
    """The share by covariances is that of the best line, and those of the prose: 0.984, 0.930, 0.807; ReLU 0.73."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(100)
    weights = weights / weights.sum()

    def both(f, gamma):
        z = gamma * nodes
        value = f(z)
        design = np.stack([z, np.ones_like(z)], 1) * np.sqrt(weights)[:, None]
        fit = np.linalg.lstsq(design, value * np.sqrt(weights), rcond=None)[0]
        var, cov = weights @ (value - weights @ value) ** 2, weights @ (z * (value - weights @ value))
        return 1 - weights @ (value - fit[0] * z - fit[1]) ** 2 / var, cov**2 / (var * (weights @ z**2))

    for f, gamma, share in [(lambda z: 1 / (1 + np.exp(-z)), 1, 0.984), (np.tanh, 1, 0.930),
                            (lambda z: 1 / (1 + np.exp(-z)), 5, 0.807)]:
        by_fit, by_covariance = both(f, gamma)
        assert np.isclose(by_fit, by_covariance, rtol=1e-10) and round(by_fit, 3) == share
    relu = [both(lambda z: np.maximum(z, 0), gamma)[1] for gamma in (0.1, 1, 5)]
    assert np.allclose(relu, relu[0], rtol=1e-12)  # no scale
    assert np.isclose(relu[0], 1 / 4 / (1 / 2 - 1 / (2 * np.pi)), atol=0.01)  # by hand: 0.734


def test_identity_parameters():
    """Equation (4.8): exact for this batch; sigma, -sigma and another batch are not."""
    x, *_ = batch(5)
    mu, sigma = x.mean(0), x.std(0)
    assert np.allclose(batch_norm(x, np.sqrt(sigma**2 + 1e-3), mu, eps=1e-3)[0], x, **EXACT)
    assert np.abs(batch_norm(x, sigma, mu, eps=1e-3)[0] - x).max() > 1e-5
    assert np.allclose(batch_norm(x, -np.sqrt(sigma**2 + 1e-3), mu, eps=1e-3)[0], 2 * mu - x, **EXACT)
    other = x + np.random.default_rng(5).standard_normal(x.shape)
    assert np.abs(batch_norm(other, np.sqrt(sigma**2 + 1e-3), mu, eps=1e-3)[0] - other).max() > 0.1


# Backward


def graph(eps=0.1, seed=6):
    """The forward pass node by node in torch, and the six lines in NumPy on the same numbers."""
    x, gamma, beta, dy = batch(seed)
    nodes = {"x": leaf(x), "gamma": leaf(gamma), "beta": leaf(beta)}
    nodes["mu"] = nodes["x"].mean(0)
    nodes["var"] = ((nodes["x"] - nodes["mu"]) ** 2).mean(0)
    nodes["x_hat"] = (nodes["x"] - nodes["mu"]) / (nodes["var"] + eps).sqrt()
    y = nodes["gamma"] * nodes["x_hat"] + nodes["beta"]
    found = torch.autograd.grad(y, list(nodes.values()), torch.tensor(dy))
    mu, var, m = x.mean(0), x.var(0), len(x)
    x_hat = (x - mu) / np.sqrt(var + eps)
    ours = {"x_hat": dy * gamma}
    ours["var"] = np.sum(ours["x_hat"] * (x - mu) * -0.5 * (var + eps) ** -1.5, axis=0)
    ours["mu"] = np.sum(ours["x_hat"] * -1 / np.sqrt(var + eps), axis=0) + ours["var"] * -2 / m * np.sum(x - mu, axis=0)
    ours["x"] = ours["x_hat"] / np.sqrt(var + eps) + ours["var"] * 2 * (x - mu) / m + ours["mu"] / m
    ours["gamma"], ours["beta"] = np.sum(dy * x_hat, axis=0), np.sum(dy, axis=0)
    return ours, {name: grad.numpy() for name, grad in zip(nodes, found, strict=True)}


def test_gradients_add_up_over_the_users():
    """Equation (4.9): a value used in two places gets the sum of both gradients."""
    v = leaf(np.array(0.7))
    c1, c2 = torch.sin(v), v**3
    (2 * c1 + 5 * c2).backward()
    assert np.isclose(v.grad.item(), 2 * np.cos(0.7) + 5 * 3 * 0.7**2, **EXACT)


@pytest.mark.parametrize("node", ["x_hat", "var", "mu", "x", "gamma", "beta"])
def test_six_lines_are_the_gradients_of_the_graph(node):
    """Equations (4.10), (4.11), (4.12), (4.13) and (4.14): torch at each node of the graph."""
    ours, torchs = graph()
    assert np.allclose(ours[node], torchs[node], rtol=1e-10, atol=1e-12)


def test_mean_line_loses_its_second_term():
    """Equation (4.15), first half."""
    x, gamma, _, dy = batch(6)
    ours, _ = graph()
    assert np.allclose(ours["mu"], -np.sum(dy * gamma, axis=0) / np.sqrt(x.var(0) + 0.1), **EXACT)
    assert np.allclose(np.sum(x - x.mean(0), axis=0), 0, rtol=0, atol=1e-13)


def test_variance_line_in_terms_of_x_hat():
    """Equation (4.15), second half."""
    x, gamma, _, dy = batch(6)
    ours, _ = graph()
    x_hat, cache = standardize(x, (0,), eps=0.1)
    assert np.allclose(ours["var"], -(cache.inv_std[0] ** 2) / 2 * np.sum(dy * gamma * x_hat, axis=0), **EXACT)


@pytest.mark.parametrize("eps", [1e-5, 0.1, 10.0])
def test_closed_form_equals_the_six_lines_for_every_eps(eps):
    """Equation (4.16): norm_backward against the six lines, torch and differences."""
    ours, torchs = graph(eps)
    x, gamma, beta, dy = batch(6)
    _, cache = batch_norm(x, gamma, beta, eps=eps)
    dx, dgamma, dbeta = norm_backward(dy, cache)
    for name, gradient in {"x": dx, "gamma": dgamma, "beta": dbeta}.items():
        assert np.allclose(gradient, ours[name], **EXACT)
        assert np.allclose(gradient, torchs[name], rtol=1e-10, atol=1e-12)
    v = np.random.default_rng(7).standard_normal(x.shape)
    numeric = slope(lambda x: np.sum(dy * batch_norm(x, gamma, beta, eps=eps)[0]), x, v)
    assert np.isclose(numeric, np.sum(dx * v), **DIFFERENCES)


def projector(x):
    x_hat = standardize(x, (0,), eps=0)[0]
    m = len(x)
    return np.eye(m) - np.ones((m, m)) / m - np.outer(x_hat, x_hat) / m, x_hat


def test_projector():
    """Equation (4.17): P is an orthogonal projector of rank m - 2, and dx = gamma / sigma * P dy."""
    P, x_hat = projector(NOTE)
    assert np.allclose(P @ P, P, **EXACT) and np.array_equal(P, P.T)
    assert np.allclose(P @ np.ones(8), 0, **EXACT) and np.allclose(P @ x_hat, 0, **EXACT)
    assert np.linalg.matrix_rank(P) == 6
    dy = np.random.default_rng(8).standard_normal(8)
    _, cache = batch_norm(NOTE[:, None], np.array([-1.7]), np.array([0.3]), eps=0)
    assert np.allclose(norm_backward(dy[:, None], cache)[0][:, 0], -1.7 / NOTE.std() * P @ dy, **EXACT)


@pytest.mark.parametrize("eps", [0.0, 1e-5, 0.1])
def test_gradient_sums_to_zero(eps):
    """Equation (4.18), first sum."""
    x, gamma, beta, dy = batch(9)
    dx, *_ = norm_backward(dy, batch_norm(x, gamma, beta, eps=eps)[1])
    assert np.allclose(dx.sum(0), 0, rtol=0, atol=1e-13)
    assert np.abs(dy.sum(0)).min() > 0.1  # dy itself does not sum to 0


@pytest.mark.parametrize("eps", [0.0, 1e-5, 0.1])
def test_gradient_along_x_hat_has_a_factor_eps(eps):
    """Equation (4.18), second sum."""
    x, *_, dx_hat = batch(9)
    x_hat, cache = standardize(x, (0,), eps=eps)
    dx = standardize_backward(dx_hat, cache)
    right = cache.inv_std[0] * eps / (x.var(0) + eps) * np.sum(dx_hat * x_hat, axis=0)
    assert np.allclose(np.sum(dx * x_hat, axis=0), right, **EXACT)
    assert eps < 0.1 or np.abs(right).max() > 1e-3  # not 0 = 0


def test_gradient_is_at_most_gamma_over_sigma_times_as_long():
    """For eps = 0: a projection makes nothing longer, and a feature with a small spread has its gradient enlarged."""
    dy = np.random.default_rng(10).standard_normal(8)
    for spread in (1.0, 0.01):
        _, cache = batch_norm(spread * NOTE[:, None], np.array([-1.7]), np.array([0.3]), eps=0)
        dx = norm_backward(dy[:, None], cache)[0]
        ratio = np.linalg.norm(dx) / np.linalg.norm(dy)
        assert 0.1 < ratio / (1.7 / (spread * NOTE.std())) < 1
        assert spread == 1.0 or ratio > 10


def test_gradients_of_a_batch_of_three_are_tangent_and_lead_outwards():
    """The picture: across the ray, shorter farther out, and each step widens the batch."""
    plane = np.array([[1, -1, 0], [1, 1, -2]]) / np.sqrt([[2], [6]])
    ray = np.array([np.cos(0.3), np.sin(0.3)])
    batches = np.array([1.2 * ray, 2.6 * ray]) @ plane
    x_hat, cache = standardize(batches, (1,), eps=0)
    dx = standardize_backward(np.tile([0.5, 0.2, -0.9], (2, 1)), cache)
    assert np.allclose(np.linalg.norm(x_hat, axis=1), np.sqrt(3), **EXACT)
    assert np.allclose((dx * batches).sum(1), 0, rtol=0, atol=1e-13)
    assert np.isclose(np.linalg.norm(dx[0]) / np.linalg.norm(dx[1]), 2.6 / 1.2, **EXACT)
    assert np.all(np.linalg.norm(batches - 0.1 * dx, axis=1) > np.linalg.norm(batches, axis=1))


def test_two_sums_do_not_see_a_wrong_factor():
    """What the prose says of (4.18): necessary, not sufficient."""
    x, *_, dx_hat = batch(9)
    x_hat, cache = standardize(x, (0,), eps=1e-5)
    wrong = 7 * standardize_backward(dx_hat, cache)
    assert np.allclose(wrong.sum(0), 0, rtol=0, atol=1e-12)
    assert np.abs((wrong * x_hat).sum(0)).max() < 1e-3 < np.abs(wrong).max()


def test_gradient_vanishes_where_the_ray_points_along_d():
    """The caption of figure 4.5: x_hat along d, centred, has dx = 0."""
    d = np.array([0.5, 0.2, -0.9])
    for sign in (1, -1):
        _, cache = standardize(3 + sign * 2 * (d - d.mean()), (0,), eps=0)
        assert np.allclose(standardize_backward(d, cache), 0, rtol=0, atol=1e-15)


def test_every_sample_depends_on_every_other():
    """Equation (4.19): the matrix of derivatives by differences; none of its entries is 0."""
    x_hat, cache = standardize(NOTE, (0,))
    jacobian = cache.inv_std * (np.eye(8) - 1 / 8 - np.outer(x_hat, x_hat) / 8)
    columns = [slope(lambda x: standardize(x, (0,))[0], NOTE, unit) for unit in np.eye(8)]
    assert np.allclose(np.stack(columns, axis=1), jacobian, **DIFFERENCES)
    assert np.abs(jacobian).min() > 1e-3 and np.argmin(np.diag(jacobian)) == 6


def test_bias_in_front_has_no_gradient():
    """Proposition 4.2: in torch, and the weights do have one."""
    torch.manual_seed(0)
    linear, norm = torch.nn.Linear(10, 5).double(), torch.nn.BatchNorm1d(5).double()
    y = norm(linear(torch.randn(32, 10, dtype=torch.float64)))
    (y * torch.randn_like(y)).sum().backward()
    assert linear.bias.grad.abs().max() < 1e-12 and linear.weight.grad.abs().max() > 1e-2


@pytest.mark.parametrize("eps", [0.0, 0.1])
def test_weights_in_front_are_orthogonal_to_their_gradient(eps):
    """Proposition 4.2: w . dw = 0 for eps = 0, with a bias and off centre; and so a step of descent lengthens w."""
    rng = np.random.default_rng(21)
    u, W, b = 2 + rng.standard_normal((32, 10)), rng.standard_normal((10, 3)), rng.standard_normal(3)
    dy, gamma = rng.standard_normal((32, 3)), np.array([1.0, -2.0, 0.5])
    _, cache = batch_norm(u @ W + b, gamma, np.zeros(3), eps=eps)
    dW = u.T @ norm_backward(dy, cache)[0]
    along = (W * dW).sum(axis=0)
    if eps:
        assert np.abs(along).min() > 1e-4  # not 0 = 0: with an eps there is a part along w
    else:
        assert np.allclose(along, 0, rtol=0, atol=1e-12) and np.linalg.norm(dW) > 0.1
        longer = np.linalg.norm(W - 0.1 * dW, axis=0) ** 2
        assert np.allclose(longer, np.linalg.norm(W, axis=0) ** 2 + 0.01 * np.linalg.norm(dW, axis=0) ** 2, **EXACT)
    shorter = u.T @ norm_backward(dy, batch_norm(4 * (u @ W + b), gamma, np.zeros(3), eps=eps)[1])[0]
    assert eps or np.allclose(shorter, dW / 4, **EXACT)  # four times longer w, a quarter of the gradient


# Images

IMAGES = (4, 3, 5, 6)


def test_statistics_of_images_are_per_channel():
    """Equation (4.20): batch_norm of images is that of the matrix with one row per position."""
    x, gamma, beta, _ = batch(11, IMAGES)
    y, _ = batch_norm(x, gamma, beta, eps=0.1)
    for c in range(3):
        mu = sum(x[:, c].ravel()) / 120
        var = sum((x[:, c].ravel() - mu) ** 2) / 120
        assert np.allclose(y[:, c], gamma[c] * (x[:, c] - mu) / np.sqrt(var + 0.1) + beta[c], **EXACT)
    rows, _ = batch_norm(x.transpose(0, 2, 3, 1).reshape(-1, 3), gamma, beta, eps=0.1)
    assert np.allclose(rows.reshape(4, 5, 6, 3).transpose(0, 3, 1, 2), y, **EXACT)


def test_reshape_without_transpose_looks_right_over_all_entries_only():
    x, *_ = batch(11, IMAGES)
    wrong = batch_norm(x.reshape(-1, 3), np.ones(3), np.zeros(3))[0].reshape(x.shape)
    assert abs(wrong.mean()) < 1e-12 and abs(wrong.var() - 1) < 1e-3
    assert np.abs(wrong.mean((0, 2, 3))).max() > 0.5


def test_total_variance_is_within_plus_between():
    """Equation (4.21)."""
    x, *_ = batch(12, IMAGES)
    x[0] += 2
    within, between = x.var((2, 3)).mean(0), x.mean((2, 3)).var(0)
    assert np.allclose(within + between, x.var((0, 2, 3)), **EXACT) and between.min() > 0.1


def test_parameter_gradients_of_images_are_sums_over_three_axes():
    """dgamma, dbeta and dx of images against sums written out and torch."""
    x, gamma, beta, dy = batch(13, IMAGES)
    _, cache = batch_norm(x, gamma, beta)
    dx, dgamma, dbeta = norm_backward(dy, cache)
    x_hat = standardize(x, (0, 2, 3))[0]
    assert np.allclose(dgamma, np.einsum("nchw,nchw->c", dy, x_hat), rtol=1e-11, atol=1e-11)
    assert np.allclose(dbeta, np.einsum("nchw->c", dy), rtol=1e-11, atol=1e-11)
    leaves = [leaf(a) for a in (x, gamma, beta)]
    torch.nn.functional.batch_norm(leaves[0], None, None, *leaves[1:], training=True).backward(torch.tensor(dy))
    for mine, theirs in zip((dx, dgamma, dbeta), leaves, strict=True):
        assert np.allclose(mine, theirs.grad, rtol=1e-10, atol=1e-11)


# Digits


def far(mean):
    return (np.random.default_rng(14).standard_normal((4, 4096)) + mean).astype(np.float32)


def error(x_hat, x):
    exact = x.astype(np.float64) - x.astype(np.float64).mean(1, keepdims=True)
    exact /= np.sqrt((exact**2).mean(1, keepdims=True) + 1e-5)
    return np.abs(x_hat - exact).max()


def test_two_ways_to_write_a_variance():
    """Equal on paper and in float64; in float32 at mean 10,000 the second has no right digit."""
    assert np.isclose(np.mean(NOTE**2) - NOTE.mean() ** 2, 0.44, rtol=1e-12)
    x = far(1e4)
    one_pass = (x * x).mean(1) - x.mean(1) ** 2
    assert one_pass.dtype == np.float32 and np.abs(one_pass - x.astype(float).var(1)).max() > 0.5


@pytest.mark.parametrize("mean", [0, 1e2, 1e4, 1e6])
def test_centring_twice_keeps_the_digits(mean):
    """By hand and in the package; centring once does not."""
    x = far(mean)
    d = x - x.mean(1, keepdims=True)
    once = d / np.sqrt((d * d).mean(1, keepdims=True) + np.float32(1e-5))
    d = d - d.mean(1, keepdims=True)
    twice = d / np.sqrt((d * d).mean(1, keepdims=True) + np.float32(1e-5))
    # At 1e6 the first mean is off by a few, more or less by the lanes of the processor; centring once has 7e-3 there.
    assert error(twice, x) < 1e-5 and error(standardize(x, (1,))[0], x) < 5e-6
    assert mean < 1e4 or error(once, x) > 1e-4


@pytest.mark.parametrize("mean", [1e2, 1e4, 1e6])
def test_storing_the_data_in_float32_costs_as_much_as_centring_twice_leaves(mean):
    """Against the data before they were rounded: centring twice adds nothing, centring once up to a few times."""
    data = np.random.default_rng(7).standard_normal((4, 8192)) + mean
    x = data.astype(np.float32)
    truth = standardize(data, (1,))[0]
    stored, twice = (np.abs(standardize(each, (1,))[0] - truth).max() for each in (x.astype(float), x))
    d = x - x.mean(1, keepdims=True)
    once = np.abs(d / np.sqrt((d * d).mean(1, keepdims=True) + np.float32(1e-5)) - truth).max()
    assert stored > 2e-8 * mean and twice < 1.2 * stored + 1e-6
    assert 1.2 < once / twice < 6


def test_sixteen_bits_need_wider_statistics():
    """float16 squares overflow from 256 on; bfloat16 statistics cost two or three times the rounding of the result."""
    squares = torch.tensor([255.0, 256.0], dtype=torch.float16) ** 2
    assert torch.isfinite(squares).tolist() == [True, False]
    x = (10 + torch.randn(4096, 16, generator=torch.Generator().manual_seed(0))).bfloat16()

    def standardized(x):
        return (x - x.mean(0)) / (x.var(0, correction=0) + 1e-5).sqrt()

    exact = standardized(x.double())
    narrow, wide = standardized(x), standardized(x.float()).bfloat16()
    best = (exact.bfloat16() - exact).abs().max()
    assert (narrow - exact).abs().max() > 1.5 * best and (wide - exact).abs().max() < 1.1 * best


def test_constant_channel_gives_exactly_beta():
    """In the package.  Torch's mean of this column is off, the variance is that error squared, and so x_hat is 1."""
    x = np.full((8192, 1), 12345.678, dtype=np.float32)
    y, _ = batch_norm(x, np.array([3.0], np.float32), np.array([0.25], np.float32))
    assert np.all(y == 0.25)
    mean, var = torch.zeros(1), torch.zeros(1)
    y = torch.nn.functional.batch_norm(torch.tensor(x), mean, var, training=True, momentum=1.0)
    off = x[0, 0] - mean.item()
    assert 0.1 < abs(off) and np.isclose(var.item(), off**2, rtol=0.05) and (y.abs() - 1).abs().max() < 0.01


def test_a_sum_of_ones_stops_at_256_in_bfloat16():
    total = torch.tensor(0.0).bfloat16()
    for one in torch.ones(300).bfloat16():
        total += one
    assert total == 256


def test_grid_of_float32():
    assert np.spacing(np.float32(1e8)) == 8 and 0.0009 < np.spacing(np.float32(1e4)) < 0.001


# eps


@pytest.mark.parametrize("eps, cap", [(1e-5, 316), (1e-3, 32)])
def test_eps_caps_the_gain(eps, cap):
    """Forward and backward; the cap is reached by a feature that hardly varies."""
    x = 1e-7 * np.random.default_rng(15).standard_normal((64, 1))
    y, cache = batch_norm(x, np.array([-2.0]), np.array([0.0]), eps=eps)
    gain = y.std() / x.std()
    assert np.isclose(gain, 2 / np.sqrt(x.var() + eps), rtol=1e-9) and round(gain / 2) == cap
    assert gain <= 2 / np.sqrt(eps)
    dy = np.random.default_rng(16).standard_normal((64, 1))
    dx, *_ = norm_backward(dy, cache)
    centred = dy - dy.mean()
    assert np.isclose(np.linalg.norm(dx) / np.linalg.norm(centred), gain, rtol=1e-2)  # the x_hat part is tiny here


def test_eps_outside_the_root_lets_a_dead_feature_through():
    dead = 1e-6 * np.random.default_rng(8).standard_normal(64)
    assert standardize(dead, (0,), eps=1e-5)[0].std() < 1e-3
    assert ((dead - dead.mean()) / (dead.std() + 1e-5)).std() > 0.05


class WithoutEps(torch.autograd.Function):
    """Standardize over axis 0, eps = 1e-5, with a backward pass that has forgotten it."""

    @staticmethod
    def forward(ctx, x):
        d = x - x.mean(0)
        ctx.save_for_backward(d)
        return d / (d.square().mean(0) + 1e-5).sqrt()

    @staticmethod
    def backward(ctx, dx_hat):
        (d,) = ctx.saved_tensors
        inv_std = d.square().mean(0).rsqrt()
        x_hat = d * inv_std
        return inv_std * (dx_hat - dx_hat.mean(0) - x_hat * (dx_hat * x_hat).mean(0))


@pytest.mark.parametrize("seed", range(5))
def test_default_gradcheck_misses_a_forgotten_eps_on_data_of_spread_one(seed):
    """The prose on tolerances: torch's default lets it pass, rtol 1e-6 and atol 1e-7 do not, nor does spread 0.1."""
    x = torch.randn(6, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))

    def passes(x, **tolerances):
        return torch.autograd.gradcheck(WithoutEps.apply, x.requires_grad_(), raise_exception=False, **tolerances)

    assert passes((x - x.mean(0)) / x.std(0)) and not passes(x, rtol=1e-6, atol=1e-7)
    assert not passes(0.1 * x)


# Exercises and their prose


def test_statistics_under_no_grad_give_the_gradient_without_projection():
    """The famous bug: with the biased variance and eps = 0, the true dx is the projection of the wrong one."""
    P, _ = projector(NOTE)
    dy = np.random.default_rng(17).standard_normal(8)
    wrong = dy / NOTE.std()
    right = standardize_backward(dy, standardize(NOTE, (0,), eps=0)[1])
    assert np.allclose(P @ wrong, right, **EXACT)
    assert wrong @ right > 0 and abs(wrong.sum()) > 0.1
    x, *_ = batch(18, IMAGES)
    x_t = torch.tensor(x)
    unbiased = (x_t - x_t.mean((0, 2, 3), keepdim=True)) / x_t.var((0, 2, 3), keepdim=True).sqrt()
    ratio = unbiased.numpy() / standardize(x, (0, 2, 3), eps=0)[0]
    assert np.allclose(ratio, np.sqrt(119 / 120), rtol=1e-9)


def test_gradients_of_weights_may_point_in_opposite_directions():
    """With the statistics held constant dx never opposes the true one, but u^T dx can: a search finds such a batch."""
    rng, worst = np.random.default_rng(22), 1.0
    for _ in range(2000):
        u, w, dx_hat = rng.standard_cauchy((6, 2)), rng.standard_normal(2), rng.standard_normal(6)
        _, cache = standardize(u @ w, (0,), eps=0)
        right, wrong = standardize_backward(dx_hat, cache), dx_hat * cache.inv_std
        assert right @ wrong >= 0
        of_weights, wrong_weights = u.T @ right, u.T @ wrong
        worst = min(worst, of_weights @ wrong_weights
                    / (np.linalg.norm(of_weights) * np.linalg.norm(wrong_weights)))
    assert worst < -0.9


def test_two_samples_pass_no_gradient():
    x_hat, cache = standardize(np.array([[3.0, -5.0], [7.0, 100.0]]), (0,), eps=0)
    assert np.allclose(np.abs(x_hat), 1, **EXACT)
    assert np.allclose(standardize_backward(np.array([[0.3, -1.0], [2.0, 0.5]]), cache), 0, rtol=0, atol=1e-14)


def test_ten_times_the_input_has_a_tenth_of_the_gradient():
    x, *_, dx_hat = batch(19)
    x_hat, cache = standardize(x, (0,), eps=0)
    scaled, scaled_cache = standardize(10 * x, (0,), eps=0)
    assert np.allclose(x_hat, scaled, **EXACT)
    assert np.allclose(standardize_backward(dx_hat, cache), 10 * standardize_backward(dx_hat, scaled_cache), **EXACT)
