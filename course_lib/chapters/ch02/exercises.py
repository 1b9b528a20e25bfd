"""Exercises of chapter 2: whitening."""

import numpy as np

from ...exercises.engine import exercise


def _batch(seed, n, d, *, mean=2.0, spread=1.5):
    """Correlated rows off centre, each column with a spread of its own; the covariance is of moderate condition."""
    rng = np.random.default_rng(seed)
    mixing = np.eye(d) + 0.5 * rng.standard_normal((d, d))
    offset = mean * rng.uniform(0.5, 2, d) * rng.choice([-1, 1], d)
    return offset + spread * (rng.standard_normal((n, d)) @ mixing) * rng.uniform(0.7, 1.5, d)


def _recolour_cases(seed=0):
    square = np.array([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])  # white as it is
    yield "four white points, stretched and moved", (square, square * [2.0, 3.0] + [5.0, 0.0])
    yield "9 samples like 7 others, 3 features", (_batch(21 + 100 * seed, 9, 3), _batch(22 + 100 * seed, 7, 3))
    yield "12 samples like 30, 4 features", (_batch(23 + 100 * seed, 12, 4, mean=0.3),
                                            _batch(24 + 100 * seed, 30, 4, mean=5))
    yield "values around 1000", (_batch(25 + 100 * seed, 8, 2, mean=1000, spread=200),
                                 _batch(26 + 100 * seed, 11, 2, mean=1000, spread=300))


def _has_the_moments(args, outputs):
    y, reference = outputs[0], args[1]
    scale = 1 + np.abs(reference).max() ** 2
    return (np.allclose(y.mean(axis=0), reference.mean(axis=0), rtol=1e-9, atol=1e-9 * scale)
            and np.allclose(np.cov(y.T, bias=True), np.cov(reference.T, bias=True), rtol=0, atol=1e-9 * scale))


@exercise(
    cases=_recolour_cases,
    outputs=("y",),
    hints=(
        "print np.cov(y.T, bias=True) beside that of reference: which of mean and covariance is not right?",
        "three steps: take the mean off, make x white with cov(x)**(-1/2), then colour with cov(reference)**(1/2)",
        "(2.5), second matrix, and its inverse for the other covariance: u * s @ u.T",
    ),
    laws={"y has the mean and the covariance of reference": _has_the_moments},
    mistakes={
        ("the correlations of x are still there: standardizing is not whitening",
         "each feature was only divided by its own standard deviation; a full matrix is needed",
         "(2.5): A is cov(x)**(-1/2)"): {
            "root(x, -0.5)": "np.diag(1 / x.std(axis=0))", "root(reference, 0.5)": "np.diag(reference.std(axis=0))"},
        "y is white, not coloured: multiply by the root of the covariance of reference": {
            " @ root(reference, 0.5)": ""},
        "x was not made white before it was coloured": {" @ root(x, -0.5)": ""},
        "whitened twice: the second root is that of the covariance, not of its inverse": {
            "root(reference, 0.5)": "root(reference, -0.5)"},
        "var is a variance: the power is -1/2 for the first root": {"root(x, -0.5)": "root(x, -1)"},
        "var is a variance: the second root has the power 1/2": {"root(reference, 0.5)": "root(reference, 1)"},
        "both roots have lost their 1/2": {"root(x, -0.5)": "root(x, -1)", "root(reference, 0.5)":
            "root(reference, 1)"},
        "the mean of reference is missing": {"reference.mean(axis=0) + ": ""},
        "y keeps the mean of x: add that of reference": {"reference.mean(axis=0) + ": "x.mean(axis=0) + "},
        "the mean of x must come off before the matrices act": {"(x - x.mean(axis=0)) @": "x @"},
        ("the moments are right, but the second root is not symmetric: it was left in its principal axes",
         "after colouring, turn back: u * s @ u.T, not u * s",
         "(2.5): PCA leaves the data turned, ZCA turns them back"): {
            "root(reference, 0.5)": "np.linalg.cholesky(np.cov(reference.T, bias=True)).T"},
        "eigh gives eigenvectors as columns: u * var**power @ u.T, not u.T ... u": {
            "u * var**power @ u.T": "u.T * var**power @ u"},
        "that is PCA: turn back with u.T": {"u * var**power @ u.T": "u * var**power"},
        "a covariance divides by N here, not by N - 1": {"bias=True": "bias=False"},
        "np.cov wants features as rows: transpose": {"np.cov(batch.T, bias=True)":
            "np.resize(np.cov(batch, bias=True), (batch.shape[1],) * 2)"},
        ("the two roots stand in the wrong order: samples are rows, so what stands next to x acts first",
         "two matrices commute only when they share their axes, as in the first case",
         "x @ (make white) @ (colour)"): {
            "root(x, -0.5) @ root(reference, 0.5)": "root(reference, 0.5) @ root(x, -0.5)"},
        ("the moments are right, but both roots are Cholesky's, which are triangular: symmetric ones were asked for",
         "Cholesky whitens and colours too, and lands in another rotation",
         "(2.5), second and not third: u * var**power @ u.T"): {
            "root(x, -0.5)": "np.linalg.inv(np.linalg.cholesky(np.cov(x.T, bias=True))).T",
            "root(reference, 0.5)": "np.linalg.cholesky(np.cov(reference.T, bias=True)).T"},
        "x and reference have changed places": {"root(x, -0.5)": "root(reference, -0.5)",
            "root(reference, 0.5)": "root(x, 0.5)"},
    },
)
def recolour(x, reference):
    """x with the mean and covariance of reference: white by ZCA, then coloured.

    x is (N, D) and reference (M, D); both covariances have full rank, and
    divide by the number of samples. Both roots are symmetric.
    """
    def root(batch, power):
        var, u = np.linalg.eigh(np.cov(batch.T, bias=True))
        return u * var**power @ u.T

    return reference.mean(axis=0) + (x - x.mean(axis=0)) @ root(x, -0.5) @ root(reference, 0.5)


def _symmetric(seed, d):
    half = np.random.default_rng(seed).standard_normal((d, d))
    return half + half.T


def _covariance(seed, d, variances=None):
    rng = np.random.default_rng(seed)
    axes = np.linalg.qr(rng.standard_normal((d, d)))[0]
    variances = rng.uniform(0.3, 4, d) if variances is None else np.asarray(variances)
    cov = axes * variances @ axes.T
    return (cov + cov.T) / 2


def _root_cases(seed=0):
    yield "a diagonal covariance", (np.array([[1.0, 2.0], [2.0, 3.0]]), np.diag([4.0, 9.0]))
    yield "3 features", (_symmetric(31 + 100 * seed, 3), _covariance(32 + 100 * seed, 3))
    yield "the identity: all eigenvalues equal", (_symmetric(33 + 100 * seed, 3), np.eye(3))
    yield "two equal eigenvalues of four", (_symmetric(34 + 100 * seed, 4),
                                            _covariance(35 + 100 * seed, 4, [2.0, 2.0, 0.5, 5.0]))
    yield "values around 1000", (_symmetric(36 + 100 * seed, 5), 1000 * _covariance(37 + 100 * seed, 5))


def _moves_with_the_trace(args, outputs):
    """Along cov itself R grows by half of itself: sum(dcov * cov) = sum(dr * R) / 2."""
    dr, cov = args
    var, u = np.linalg.eigh(cov)
    return np.isclose((outputs[0] * cov).sum(), (dr * (u * np.sqrt(var) @ u.T)).sum() / 2, rtol=1e-7, atol=1e-9)


@exercise(
    cases=_root_cases,
    outputs=("dcov",),
    hints=(
        "try a diagonal cov: a single variance has R = sqrt(var), so dcov = dr / (2 * sqrt(var)) on the diagonal",
        "R R = cov, so dR R + R dR = dcov for small changes: in the basis of the eigenvectors each entry stands alone",
        "as (2.10), but the sum s_i + s_j alone divides: turn dr into the basis, divide, turn back",
    ),
    laws={"doubling cov makes R grow by a factor: sum(dcov * cov) is half of sum(dr * R)": _moves_with_the_trace},
    mistakes={
        "R has the roots of the eigenvalues of cov: it is those that are added, s_i + s_j": {"np.sqrt(var)": "var"},
        ("that is the gradient of the inverse root: its 1 / (s_i s_j) does not belong here",
         "R R = cov has no inverse in it",
         "divide by s_i + s_j alone"): {"/ (s[:, None] + s)": "/ (-s[:, None] * s * (s[:, None] + s))"},
        "a difference of the s divides by zero at a tie: the product rule gives a sum": {
            "(s[:, None] + s)": "(s[:, None] - s)"},
        "turn dr into the basis first: u.T @ dr @ u": {"u.T @ dr @ u": "dr"},
        "u and u.T have changed places in the first turn": {"u.T @ dr @ u": "u @ dr @ u.T"},
        "turn back with u ... u.T at the end": {"u @ inner @ u.T": "inner"},
        "u and u.T have changed places in the last turn": {"u @ inner @ u.T": "u.T @ inner @ u"},
        "2 * s_i is right on the diagonal only; off it the two differ": {"(s[:, None] + s)": "(2 * s)"},
        ("1 / 2 R^-1 dR is the rule for a number; R and dr are matrices, and do not commute",
         "from R R = cov comes dR R + R dR = dcov: two terms on two sides, and no common factor to divide by",
         "in the basis of the eigenvectors each entry has its own divisor, s_i + s_j"): {
            "u @ inner @ u.T": "np.linalg.inv(u * s @ u.T) @ dr / 2"},
        ("the mean of R^-1 dr / 2 and dr R^-1 / 2 is symmetric, but the rule of a number: R and dr do not commute",
         "in the basis of the eigenvectors it multiplies an entry by (1 / s_i + 1 / s_j) / 4",
         "R R = cov gives 1 / (s_i + s_j); the two agree only where s_i = s_j"): {
            "(u.T @ dr @ u) / (s[:, None] + s)": "(u.T @ dr @ u) * (1 / s[:, None] + 1 / s) / 4"},
        "the product rule has two terms: s_i + s_j, not its half": {"(s[:, None] + s)": "((s[:, None] + s) / 2)"},
        "a small change of cov moves R by less, the larger the variance: divide, do not multiply": {
            "/ (s[:, None] + s)": "* (s[:, None] + s)"},
    },
)
def root_backward(dr, cov):
    """dL/dcov from dr = dL/dR, where R is the symmetric root of cov.

    cov is (D, D), symmetric, with positive eigenvalues; dr is (D, D) and
    symmetric. The gradient is symmetric as well.
    """
    var, u = np.linalg.eigh(cov)
    s = np.sqrt(var)
    inner = (u.T @ dr @ u) / (s[:, None] + s)
    return u @ inner @ u.T


def _newton_cases(seed=0):
    yield "two variances, 4 and 3", (np.diag([4.0, 3.0]), 8)
    yield "3 features", (_covariance(41 + 100 * seed, 3), 12)
    yield "one step only, 4 features", (_covariance(42 + 100 * seed, 4), 1)
    yield "three steps, 2 features", (_covariance(44 + 100 * seed, 2), 3)
    yield "values around 1000", (1000 * _covariance(43 + 100 * seed, 5), 15)


def _scale_free(args, outputs):
    """After enough steps P cov P = I."""
    cov, steps = args
    return steps < 8 or np.allclose(outputs[0] @ cov @ outputs[0], np.eye(len(cov)), atol=1e-2)


@exercise(
    cases=_newton_cases,
    outputs=("P",),
    hints=(
        "print P @ cov @ P for a diagonal cov: it should go to the identity. By which factor is it off?",
        "the loop finds the inverse root of cov / scale. What is the inverse root of cov then?",
        "(cov / scale)**(-1/2) = scale**(1/2) * cov**(-1/2)",
    ),
    laws={"after many steps P cov P is nearly the identity": _scale_free},
    mistakes={
        ("all variances come out as 1 / scale: the factor goes with the root",
         "cov was divided by scale, so its inverse root has been multiplied by the root of scale",
         "divide by np.sqrt(scale)"): {"P / np.sqrt(scale)": "P / scale"},
        "the scale is not taken back at all": {"P / np.sqrt(scale)": "P"},
        "the wrong way round: the inverse root of cov / scale is too large, not too small": {
            "P / np.sqrt(scale)": "P * np.sqrt(scale)"},
        "Y is the root itself; the inverse root is P": {"return P / np.sqrt(scale)": "return Y * np.sqrt(scale)"},
        "Y is the root itself; the inverse root is P, and Y has the scale of cov / scale": {
            "return P / np.sqrt(scale)": "return Y / np.sqrt(scale)"},
        "the Frobenius norm was asked for, not the trace: the steps on the way differ": {
            "np.linalg.norm(cov)": "np.trace(cov)"},
        "the Frobenius norm was asked for, not the largest eigenvalue": {
            "np.linalg.norm(cov)": "np.linalg.norm(cov, 2)"},
        "without a scale the iteration leaves its basin: eigenvalues must stay below 3": {
            "np.linalg.norm(cov)": "1.0"},
        "the step was right: 3 I - P Y, halved": {"3 * np.eye(len(cov)) - P @ Y": "2 * np.eye(len(cov)) - P @ Y"},
        "the half is missing in the step": {") / 2": ")"},
        "one step too few: range(steps) takes steps of them": {"range(steps)": "range(steps - 1)"},
    },
)
def mended_newton(cov, steps):
    """The inverse symmetric root of cov after `steps` Newton steps.

    cov is (D, D), symmetric with positive eigenvalues. It is first divided
    by its Frobenius norm, the root of the sum of all squared entries.
    """
    scale = np.linalg.norm(cov)
    Y, P = cov / scale, np.eye(len(cov))
    for _ in range(steps):
        step = (3 * np.eye(len(cov)) - P @ Y) / 2
        Y, P = Y @ step, step @ P
    return P / np.sqrt(scale)
