"""Chapter 2: each displayed equation, and what the prose says about it, by a way that is not the text's own."""

import inspect

import numpy as np
import pytest
import torch
from torch.optim import _muon

from course_lib import standardize, standardize_backward, whiten, whiten_backward
from course_lib.chapters.ch02 import measures
from course_lib.chapters.ch02.exercises import mended_newton, recolour, root_backward

EXACT = {"rtol": 1e-9, "atol": 1e-11}  # float64 through an eigendecomposition of condition below 1000
DIFFERENCES = {"rtol": 1e-6, "atol": 1e-7}  # central differences with a step of 1e-5


def batch(seed=0, n=11, d=4):
    """Correlated rows off centre, of moderate condition."""
    rng = np.random.default_rng(seed)
    return 3 + rng.standard_normal((n, d)) @ (np.eye(d) + 0.5 * rng.standard_normal((d, d)))


def covariance(x):
    return sum(np.outer(row, row) for row in x - x.mean(axis=0)) / len(x)


def power(matrix, p):
    """Of a symmetric matrix, from its eigenvectors."""
    var, u = np.linalg.eigh(matrix)
    return sum(v**p * np.outer(axis, axis) for v, axis in zip(var, u.T))


def slope(f, x, direction, step=1e-5):
    return (f(x + step * direction) - f(x - step * direction)) / (2 * step)


# A round bowl


def linear_problem(seed=1):
    rng = np.random.default_rng(seed)
    x, t = batch(seed, 30, 3), rng.standard_normal(30)
    with_one = np.column_stack([x, np.ones(30)])
    return x, t, with_one, np.linalg.lstsq(with_one, t, rcond=None)[0]


def test_loss_is_a_bowl_of_the_inputs_alone():
    """Equation (2.1): against the loss as a mean of squared errors, for targets that no line fits."""
    x, t, with_one, best = linear_problem()
    H = sum(np.outer(row, row) for row in with_one) / 30

    def loss(theta):
        return np.mean((x @ theta[:3] + theta[3] - t) ** 2) / 2

    for theta in np.random.default_rng(2).standard_normal((5, 4)):
        assert np.isclose(loss(theta) - loss(best), (theta - best) @ H @ (theta - best) / 2, **EXACT)
    assert loss(best) > 0.1  # not a perfect fit


def test_a_step_of_descent_shrinks_the_gap():
    """Equation (2.2): the gradient by torch."""
    x, t, with_one, best = linear_problem()
    theta = torch.tensor([0.3, -1.0, 2.0, 0.5], dtype=torch.float64, requires_grad=True)
    (((torch.tensor(with_one) @ theta - torch.tensor(t)) ** 2).mean() / 2).backward()
    stepped = theta.detach().numpy() - 0.01 * theta.grad.numpy()
    H = with_one.T @ with_one / 30
    assert np.allclose(stepped - best, (np.eye(4) - 0.01 * H) @ (theta.detach().numpy() - best), **EXACT)


@pytest.mark.parametrize("kappa", [2.0, 30.0, 1000.0])
def test_bound_on_the_steps(kappa):
    """Equation (2.3): holds for every start, is met by the worst within one step, and nears kappa/4 ln(L0/L1)."""
    curve = np.array([1.0, kappa])
    H, rate = np.diag(curve), 2 / (1 + kappa)
    starts = np.random.default_rng(3).standard_normal((20, 2))
    above = (starts**2 @ curve) / 2
    bound = np.log(above / 1e-6) / 2 / np.log((kappa + 1) / (kappa - 1))
    steps = measures.descend(H, starts, rate)
    assert (steps <= np.ceil(bound)).all() and (steps > bound - 1).all()  # both axes shrink alike at this rate
    assert kappa < 10 or np.allclose(bound, kappa / 4 * np.log(above / 1e-6), rtol=0.01)
    # no other rate does as well for the worst start, which has all its gap along the flat axis or the steep one
    worst = np.array([[1000.0, 0.0], [0.0, 1000.0 / np.sqrt(kappa)]])
    best = measures.descend(H, worst, rate).max()
    for other in (0.8 * rate, 1.9 / kappa, 1.99 / kappa):
        assert measures.descend(H, worst, other).max() >= best


def test_descend_counts_the_first_step_within_the_target():
    """One axis, halved in every step: 0.5 * gap**2 falls below 1e-6 after ceil(log2(gap / sqrt(2e-6))) steps."""
    steps = measures.descend(np.eye(1), np.array([[1.0], [64.0], [1e-9]]), 0.5)
    assert steps.tolist() == [10, 16, 1]
    assert np.isinf(measures.descend(np.eye(1), np.array([[1.0]]), 2.1, most=50)).all()


def test_translated_parameters_give_the_same_function():
    """Equation (2.4): and without the second half, the offset, they do not."""
    x, *_ = linear_problem()
    rng = np.random.default_rng(4)
    A, w, b, mu = rng.standard_normal((3, 3)), rng.standard_normal(3), 0.7, x.mean(axis=0)
    w_hat, b_hat = np.linalg.solve(A, w), b + w @ mu
    assert np.allclose((x - mu) @ A @ w_hat + b_hat, x @ w + b, **EXACT)
    assert not np.allclose((x - mu) @ A @ w_hat + b, x @ w + b)


def test_one_step_on_white_data():
    x, t, *_ = linear_problem()
    y, _ = whiten(x)
    one = np.column_stack([y, np.ones(30)])
    theta = one.T @ t / 30  # from 0 with rate 1
    assert np.allclose(theta, np.linalg.lstsq(one, t, rcond=None)[0], **EXACT)


def test_a_linear_model_does_not_see_a_rotation():
    """Gradient descent from the same function on white data and on the same data turned: the same function again."""
    x, t, *_ = linear_problem()
    y, _ = whiten(x)
    Q = np.linalg.qr(np.random.default_rng(5).standard_normal((3, 3)))[0]
    w, turned = np.array([1.0, -2.0, 0.5]), Q.T @ np.array([1.0, -2.0, 0.5])
    for _ in range(4):
        w = w - 0.3 * y.T @ (y @ w - t) / 30
        turned = turned - 0.3 * (y @ Q).T @ (y @ Q @ turned - t) / 30
    assert np.allclose(y @ w, y @ Q @ turned, **EXACT)


def test_one_feature_far_from_zero():
    """Exercise 2.1: the fourth power of the mean, and over the square of the spread."""
    for mean, spread in [(5, 1), (50, 1), (2000, 10)]:
        H = np.array([[mean**2 + spread**2, mean], [mean, 1]], dtype=float)
        least, most = np.linalg.eigvalsh(H)
        assert np.isclose(most / least, (mean**2 + spread**2 + 1) ** 2 / spread**2, rtol=0.01)


# Which whitening?


def whiteners(cov):
    var, u = np.linalg.eigh(cov)
    std = np.sqrt(np.diag(cov))
    return {"pca": u / np.sqrt(var), "zca": power(cov, -0.5), "cholesky": np.linalg.inv(np.linalg.cholesky(cov)).T,
            "cor": power(cov / np.outer(std, std), -0.5) / std[:, None]}


@pytest.mark.parametrize("name", ["pca", "zca", "cholesky", "cor"])
def test_four_matrices_whiten(name):
    """Equation (2.5): the covariance of (x - mu) A is the identity; and each is what the prose says of it."""
    x = batch(5)
    A = whiteners(covariance(x))[name]
    assert np.allclose(covariance(x @ A), np.eye(4), **EXACT)
    assert name != "cholesky" or np.allclose(A, np.triu(A))  # feature i, less what those before it tell
    assert (name == "zca") == np.allclose(A, A.T)
    if name in ("zca", "cholesky"):
        assert np.allclose((x - x.mean(axis=0)) @ A, whiten(x, method=name)[0], **EXACT)


def test_whitening_is_a_rotation_of_zca():
    """Proposition 2.1, both directions, with reflections."""
    cov = covariance(batch(6))
    for seed in range(5):
        Q = np.linalg.qr(np.random.default_rng(seed).standard_normal((4, 4)))[0]
        A = power(cov, -0.5) @ Q
        assert np.allclose(A.T @ cov @ A, np.eye(4), **EXACT)
    for A in whiteners(cov).values():
        Q = power(cov, 0.5) @ A
        assert np.allclose(Q.T @ Q, np.eye(4), **EXACT)


def test_distance_from_the_data_and_zca_is_least():
    """Equation (2.6): against the mean of squared distances; no rotation of 200 does better than none."""
    x = batch(7)
    x_centered, cov = x - x.mean(axis=0), covariance(x)
    root, rng = power(cov, 0.5), np.random.default_rng(8)

    def distance(Q):
        return np.mean(np.sum((x_centered @ power(cov, -0.5) @ Q - x_centered) ** 2, axis=1))

    nearest = distance(np.eye(4))
    for _ in range(200):
        Q = np.linalg.qr(rng.standard_normal((4, 4)))[0]
        assert np.isclose(distance(Q), np.trace(cov) + 4 - 2 * np.trace(root @ Q), **EXACT)
        assert distance(Q) > nearest


def test_variances_with_a_ridge():
    """Equation (2.7)."""
    x = batch(9)
    y, _ = whiten(x, method="pca", eps=0.3)
    var = np.linalg.eigvalsh(covariance(x))[::-1]
    assert np.allclose(covariance(y), np.diag(var / (var + 0.3)), **EXACT)


def test_recoloured_data_have_the_moments_asked_for():
    x, reference = batch(10), batch(11, 20)
    y = recolour(x, reference)
    assert np.allclose(y.mean(axis=0), reference.mean(axis=0), **EXACT)
    assert np.allclose(covariance(y), covariance(reference), **EXACT)
    assert np.allclose(recolour(x, x), x, **EXACT)


# The next batch


@pytest.mark.parametrize("m", [2, 5, 12, 13, 40])
def test_lost_directions(m):
    """Equation (2.8): for 12 features, from the singular values."""
    cov = covariance(np.random.default_rng(m).standard_normal((m, 12)))
    lost = np.sum(np.linalg.svd(cov, compute_uv=False) < 1e-12)
    assert lost == 12 - min(m - 1, 12)
    if lost:
        with pytest.raises(ValueError, match="rank"):
            whiten(np.random.default_rng(m).standard_normal((m, 12)))


def test_few_white_samples_are_all_equally_far_apart():
    """Exercise 2.3: by a tiny ridge instead of the singular value decomposition of the answer."""
    x = np.random.default_rng(12).standard_normal((7, 10)) * np.arange(1, 11)
    y, _ = whiten(x, eps=1e-5)
    far = np.sum((y[:, None] - y) ** 2, axis=2)
    assert np.allclose(far[~np.eye(7, dtype=bool)], 14, rtol=1e-4)


def test_pca_swaps_axes_where_zca_does_not():
    """Two batches whose larger variance lies along another feature: PCA exchanges the features, ZCA keeps them."""
    x = np.array([[1.0, 0], [-1, 0], [0, 1], [0, -1]])
    for method, same in [("zca", True), ("pca", False)]:
        wide, tall = (whiten(x * stretch, method=method)[0] for stretch in ([1.1, 1.0], [1.0, 1.1]))
        assert np.allclose(wide, tall) == same
        assert same or np.allclose(np.abs(wide), np.abs(tall[:, ::-1]))


# Backward


def moving(seed=13, d=4):
    """A covariance and a symmetric direction in which it moves."""
    rng = np.random.default_rng(seed)
    half = rng.standard_normal((d, d))
    return covariance(batch(seed, 9, d)), half + half.T


def test_inverse_root_solves_a_lyapunov_equation():
    """Equation (2.9): with the change of A by differences."""
    cov, change = moving()
    A = power(cov, -0.5)
    A_dot = slope(lambda c: power(c, -0.5), cov, change)
    left = A_dot @ np.linalg.inv(A) + np.linalg.inv(A) @ A_dot
    assert np.allclose(left, -A @ change @ A, **DIFFERENCES)


@pytest.mark.parametrize("variances", [[3.0, 2.0, 0.5, 0.1], [2.0, 2.0, 2.0, 0.5]])
def test_entries_of_the_change(variances):
    """Equation (2.10): in the basis of the principal axes, with equal variances and without."""
    axes = np.linalg.qr(np.random.default_rng(14).standard_normal((4, 4)))[0]
    _, change = moving(14)
    s = np.sqrt(variances)
    A_dot = axes.T @ slope(lambda c: power(c, -0.5), axes * np.square(s) @ axes.T, change) @ axes
    turned = axes.T @ change @ axes
    for i in range(4):
        for j in range(4):
            assert np.isclose(A_dot[i, j], -turned[i, j] / (s[i] * s[j] * (s[i] + s[j])), rtol=1e-5, atol=1e-6)


def formula(x, dy, eps=0.0):
    """Equation (2.11) as it stands in the text."""
    m, mu = len(x), x.mean(axis=0)
    var, U = np.linalg.eigh(covariance(x) + eps * np.eye(x.shape[1]))
    s = np.sqrt(var)
    z, dz = (x - mu) @ U @ np.diag(1 / s), dy @ U
    B, F = z.T @ dz / m, np.array([[a / (a + b) for b in s] for a in s])
    return (dz - dz.mean(axis=0) - z @ (F * B + (F * B).T)) @ np.diag(1 / s) @ U.T


@pytest.mark.parametrize("eps", [0.0, 0.1])
def test_gradient_of_zca(eps):
    """Equation (2.11): against differences along random directions, torch, and the package."""
    x, rng = batch(15), np.random.default_rng(15)
    dy = rng.standard_normal(x.shape)

    def y(x):
        return (x - x.mean(axis=0)) @ power(covariance(x) + eps * np.eye(4), -0.5)

    dx = formula(x, dy, eps)
    for direction in rng.standard_normal((5, *x.shape)):
        assert np.isclose(slope(lambda x: np.sum(dy * y(x)), x, direction), np.sum(dx * direction), **DIFFERENCES)
    assert np.allclose(dx, whiten_backward(dy, whiten(x, eps=eps)[1]), **EXACT)
    t = torch.tensor(x, requires_grad=True)
    centred = t - t.mean(0)
    var, u = torch.linalg.eigh(centred.T @ centred / len(x) + eps * torch.eye(4, dtype=torch.float64))
    (centred @ u / var.sqrt() @ u.T).backward(torch.tensor(dy))
    assert np.allclose(dx, t.grad, **EXACT)


def test_gradient_at_equal_eigenvalues():
    """Torch gives NaN there; (2.11) agrees with differences, in every entry."""
    x = np.concatenate([np.eye(3), -np.eye(3)])
    dy = np.random.default_rng(16).standard_normal((6, 3))
    dx = formula(x, dy)
    for i in range(6):
        for j in range(3):
            unit = np.zeros((6, 3))
            unit[i, j] = 1
            numeric = slope(lambda x: np.sum(dy * ((x - x.mean(0)) @ power(covariance(x), -0.5))), x, unit)
            assert np.isclose(numeric, dx[i, j], rtol=1e-5, atol=1e-6)
    t = torch.tensor(x, requires_grad=True)
    var, u = torch.linalg.eigh(t.T @ t / 6)
    (t @ u / var.sqrt() @ u.T).backward(torch.tensor(dy))
    assert t.grad.isnan().any()


def test_with_one_feature_it_is_that_of_standardize():
    x, dy = batch(17, d=1), np.random.default_rng(17).standard_normal((11, 1))
    assert np.allclose(formula(x, dy), standardize_backward(dy, standardize(x, (0,), eps=0)[1]), **EXACT)


def test_batches_have_the_variances_asked_for():
    x = measures.batch_with_variances([4, 1, 1, 0.5], 20)
    assert np.allclose(x.mean(axis=0), 0, atol=1e-14)
    assert np.allclose(np.linalg.eigvalsh(covariance(x)), [0.5, 1, 1, 4], **EXACT)


def test_root_backward_is_the_gradient_of_the_root():
    cov, dr = moving(18)
    _, change = moving(19)
    cov = cov + np.eye(4)
    numeric = slope(lambda c: np.sum(dr * power(c, 0.5)), cov, change)
    assert np.isclose(numeric, np.sum(root_backward(dr, cov) * change), **DIFFERENCES)


# What it costs


def test_newton_on_a_matrix_is_newton_on_its_eigenvalues():
    """Equation (2.12): and it converges to the inverse root for eigenvalues up to 1."""
    cov = covariance(batch(20)) + np.eye(4)
    share, P = cov / np.trace(cov), np.eye(4)
    lam, axes = np.linalg.eigh(share)
    p = np.ones(4)
    for _ in range(14):
        P = (3 * P - P @ P @ P @ share) / 2
        p = (3 * p - lam * p**3) / 2
        assert np.allclose(P, axes * p @ axes.T, rtol=1e-6, atol=1e-8)
    assert np.allclose(p, 1 / np.sqrt(lam), rtol=1e-6)
    assert np.allclose(mended_newton(cov, 25), power(cov, -0.5), **EXACT)


@pytest.mark.parametrize("lam", [1e-2, 1e-4, 4e-7])
def test_steps_that_newton_needs(lam):
    """Equation (2.13): the variance lam p**2 passes a half within 2.5 steps of it; five steps reach shares of 1.7 %."""
    p, k = 1.0, 0
    while lam * p**2 < 0.5:
        p, k = (3 * p - lam * p**3) / 2, k + 1
    assert abs(k - np.log(1 / np.sqrt(lam)) / np.log(1.5)) < 2.5
    assert round(100 * 1.5**-10, 1) == 1.7


def test_plain_newton_breaks_down_where_the_coupled_form_arrives():
    """Condition 1e6: the same on paper."""
    axes = np.linalg.qr(np.random.default_rng(21).standard_normal((20, 20)))[0]
    cov = axes * np.geomspace(1, 1e-6, 20) @ axes.T
    share, P = cov / np.trace(cov), np.eye(20)
    off = []
    with np.errstate(all="ignore"):
        for _ in range(26):
            P = (3 * P - P @ P @ P @ share) / 2
            off.append(np.abs(P @ share @ P - np.eye(20)).max())
    assert not min(off[18:]) < 1
    white = mended_newton(cov, 30)
    assert np.allclose(white @ cov @ white, np.eye(20), atol=1e-6)


# Where it hurts


def test_closed_form_of_gradient_descent():
    """Equation (2.14): against the steps themselves."""
    Z = batch(22, 15, 4)
    Z = Z - Z.mean(axis=0)
    T = np.random.default_rng(22).standard_normal((15, 3))
    lam, q = np.linalg.eigh(Z.T @ Z / 15)
    eta, w = 1 / lam.max(), np.zeros((4, 3))
    for t in range(1, 40):
        w = w - eta * Z.T @ (Z @ w - T) / 15
        closed = sum((1 - (1 - eta * v) ** t) / v * np.outer(axis, axis) for v, axis in zip(lam, q.T)) @ Z.T @ T / 15
        assert np.allclose(w, closed, **EXACT)


def test_on_white_data_every_step_points_the_same_way():
    y, _ = whiten(batch(23))
    T = np.random.default_rng(23).standard_normal((11, 2))
    end = y.T @ T / 11
    w = 0.3 * y.T @ (T - y @ (0.2 * end)) / 11
    assert np.allclose(w / end, (w / end)[0, 0], **EXACT)


# Today


def test_orthogonalized_is_whitened():
    """Equation (2.15): all singular values become 1, the singular vectors stay; of a vector it is the direction."""
    G = np.random.default_rng(24).standard_normal((5, 3))
    P, _, Q = np.linalg.svd(G, full_matrices=False)
    assert np.allclose(P @ Q, G @ power(G.T @ G, -0.5), **EXACT)
    g = G[:, :1]
    P, _, Q = np.linalg.svd(g, full_matrices=False)
    assert np.allclose(P @ Q, g / np.linalg.norm(g), **EXACT)


def test_muon_in_torch_has_the_numbers_of_the_page():
    source = inspect.getsource(_muon)
    for line in ("DEFAULT_A = 3.4445", "DEFAULT_B = -4.7750", "DEFAULT_C = 2.0315", "DEFAULT_NS_STEPS = 5"):
        assert line in source
