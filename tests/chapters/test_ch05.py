"""Chapter 5: each displayed equation, and what the prose says about it.

The functions under test are those of the package and of the chapter's own modules; what they are held against is
torch, sums written out, or a Monte Carlo of its own.
"""

import math
import re
import sys

import numpy as np
import pytest
import torch
from chapter import ROOT

from course_lib import standardize
from course_lib.chapters.ch05 import conventions, ranks
from course_lib.running_stats import EMA, PopulationStats, batch_norm_inference, fold_batch_norm

EXACT = {"rtol": 1e-12, "atol": 1e-12}  # float64, sums of fewer than 1000 terms of size 1


def batches(seed=0, count=4, shape=(5, 3, 2, 4)):
    """Batches of images whose channels differ in mean and spread."""
    rng = np.random.default_rng(seed)
    offset, spread = rng.uniform(-9, 9, (shape[1], 1, 1)), rng.uniform(0.3, 4, (shape[1], 1, 1))
    return [offset + spread * rng.standard_normal(shape) for _ in range(count)]


def of_batch(x):
    """Mean and biased variance of each channel by plain sums, and m."""
    rows = np.moveaxis(x, 1, -1).reshape(-1, x.shape[1])
    mean = rows.sum(0) / len(rows)
    return mean, ((rows - mean) ** 2).sum(0) / len(rows), len(rows)


# Statistics as arguments


def test_layer_is_a_function_of_two_statistics():
    """Equation (5.1): torch in evaluation mode; with those of the batch it is the layer in training mode."""
    x, rng = batches()[0], np.random.default_rng(1)
    gamma, beta, mean = rng.standard_normal((3, 3))
    var = rng.uniform(0.5, 9, 3)
    theirs = torch.nn.functional.batch_norm(*map(torch.tensor, (x, mean, var, gamma, beta)), training=False, eps=0.1)
    assert np.allclose(batch_norm_inference(x, gamma, beta, mean, var, eps=0.1), theirs, **EXACT)
    mean, var, _ = of_batch(x)
    y = batch_norm_inference(x, np.ones(3), np.zeros(3), mean, var, eps=0.1)
    assert np.allclose(y, standardize(x, (0, 2, 3), eps=0.1)[0], **EXACT)


@pytest.mark.parametrize("m", [2, 8, 32])
def test_mean_of_a_batch_wavers_by_sigma_over_root_m(m):
    """Equation (5.2): 40,000 batches, so the variance has an error of about 0.7 %."""
    means = np.random.default_rng(2).exponential(3.0, (40_000, m)).mean(1)  # mean 3, variance 9
    assert abs(means.mean() - 3) < 5 * 3 / math.sqrt(40_000 * m) and np.isclose(means.var(), 9 / m, rtol=0.05)
    assert m != 32 or round(100 / math.sqrt(m)) == 18


# Three estimates


def test_algorithm_2_averages_means_and_corrected_variances():
    """Equation (5.3): the package's collector, torch with momentum=None, blending by 1/k, and the sums."""
    found, layer = PopulationStats(), torch.nn.BatchNorm2d(3, momentum=None).double()
    blended_mean, blended_var, mean, var = 0.0, 1.0, 0.0, 0.0
    for k, x in enumerate(batches(), start=1):
        found.update(x)
        layer(torch.tensor(x))
        mean_b, var_b, m = of_batch(x)
        mean, var = mean + mean_b / 4, var + m / (m - 1) * var_b / 4
        blended_mean += (mean_b - blended_mean) / k
        blended_var += (m / (m - 1) * var_b - blended_var) / k
    for each in (found.mean, layer.running_mean, blended_mean):
        assert np.allclose(each, mean, **EXACT)
    for each in (found.var, layer.running_var, blended_var):
        assert np.allclose(each, var, **EXACT)


@pytest.mark.parametrize("new_weight", [0.1, 0.4])
def test_moving_average_blends_each_batch_in(new_weight):
    """Equation (5.4): the package's collector and torch."""
    found, layer = EMA(new_weight), torch.nn.BatchNorm2d(3, momentum=new_weight).double()
    mean, var = np.zeros(3), np.ones(3)
    for x in batches():
        found.update(x)
        layer(torch.tensor(x))
        mean_b, var_b, m = of_batch(x)
        mean = (1 - new_weight) * mean + new_weight * mean_b
        var = (1 - new_weight) * var + new_weight * m / (m - 1) * var_b
    assert np.allclose(found.mean, mean, **EXACT) and np.allclose(layer.running_mean, mean, **EXACT)
    assert np.allclose(found.var, var, **EXACT) and np.allclose(layer.running_var, var, **EXACT)


@pytest.mark.parametrize("w, worth", [(0.1, 19), (0.01, 199)])
def test_moving_average_is_worth_so_many_batches(w, worth):
    """Exercise 5.1: the squares of its weights sum to w / (2 - w)."""
    weights = w * (1 - w) ** np.arange(5000)
    assert np.isclose((weights**2).sum(), w / (2 - w), rtol=1e-9) and round((2 - w) / w) == worth


# The factor


def test_batch_variance_falls_short_by_the_variance_of_the_batch_mean():
    """Equation (5.5): all 27 batches of three values out of three, and values that depend on each other."""
    values = np.array([1.0, 2.0, 6.0])
    triples = np.stack(np.meshgrid(values, values, values), -1).reshape(-1, 3)
    sigma2 = values.var()
    assert np.isclose(triples.var(1).mean(), sigma2 - triples.mean(1).var(), **EXACT)
    assert np.isclose(triples.var(1).mean(), sigma2 * 2 / 3, **EXACT)
    coupled = np.concatenate([triples, np.sort(triples, axis=1)[:, :1] + 0 * triples])  # half of them three times one
    coupled = coupled[np.random.default_rng(3).permutation(len(coupled))]
    sigma2 = coupled.var()
    assert np.isclose(coupled.var(1).mean(), sigma2 - coupled.mean(1).var(), **EXACT)
    assert coupled.var(1).mean() < 0.9 * sigma2 * 2 / 3  # so m / (m - 1) is not enough


@pytest.mark.parametrize("m, root", [(2, 0.798), (4, 0.921), (8, 0.965), (32, 0.992)])
def test_root_of_the_corrected_variance_is_too_small(m, root):
    """For normal values it is known in closed form: sqrt(2 / (m - 1)) Gamma(m / 2) / Gamma((m - 1) / 2)."""
    exact = math.sqrt(2 / (m - 1)) * math.exp(math.lgamma(m / 2) - math.lgamma((m - 1) / 2))
    assert round(exact, 3) == root
    drawn = np.random.default_rng(4).normal(7, 2, (40_000, m)).std(axis=1, ddof=1).mean() / 2
    assert np.isclose(drawn, exact, rtol=0.02)


# The start


def test_start_and_batches_share_the_weight():
    """Equation (5.6)."""
    rng, w, start = np.random.default_rng(5), 0.3, 7.0
    values, mean = rng.standard_normal(6), start
    for value in values:
        mean = (1 - w) * mean + w * value
    unrolled = (1 - w) ** 6 * start + w * sum((1 - w) ** (6 - s) * values[s - 1] for s in range(1, 7))
    assert np.isclose(mean, unrolled, **EXACT)


@pytest.mark.parametrize("w, steps", [(0.1, 44), (0.01, 459)])
def test_steps_until_the_start_weighs_less_than_a_percent(w, steps):
    """Equation (5.7), against torch: a layer that sees nothing but constant batches of mean 1."""
    assert math.ceil(math.log(0.01) / math.log(1 - w)) == steps
    layer, x = torch.nn.BatchNorm1d(1, momentum=w).double(), torch.tensor([[0.0], [2.0]]).double()
    for step in range(1, steps + 1):
        layer(x)
        assert (1 - layer.running_mean.item() < 0.01) == (step == steps)


def test_growing_weight_is_the_bias_correction():
    """Equation (5.8): blending by w_t gives the average divided by its weight, and 1/t for small w."""
    rng, w = np.random.default_rng(6), 0.2
    values, plain, corrected = rng.standard_normal(9), 0.0, 123.0
    for t, value in enumerate(values, start=1):
        plain += w * (value - plain)
        corrected += w / (1 - (1 - w) ** t) * (value - corrected)
        assert np.isclose(corrected, plain / (1 - (1 - w) ** t), **EXACT)
    assert np.allclose([1e-7 / (1 - (1 - 1e-7) ** t) for t in (1, 2, 10)], [1, 1 / 2, 1 / 10], rtol=1e-5)


# Conventions


def table(file, heading):
    """Rows of the first table under a heading, as lists of cells."""
    below = (ROOT / file).read_text(encoding="utf-8").split(heading, 1)[1]
    lines = [line for line in below.split("\n\n|", 1)[1].split("\n\n")[0].splitlines()[2:]]
    return [[cell.strip() for cell in line.strip("| ").split("|")] for line in lines]


def test_pytorch_row_is_torch():
    """Names, numbers and eps of what nn.BatchNorm2d stores."""
    layer = torch.nn.BatchNorm2d(3).double()
    for x in batches():
        layer(torch.tensor(x))
    stored, mean, var, eps = conventions.pytorch(batches())
    assert eps == layer.eps and list(stored) == [name for name, _ in layer.named_buffers()]
    for name, value in layer.named_buffers():
        assert np.allclose(stored[name], value, **EXACT)
    assert mean is stored["running_mean"] and var is stored["running_var"]


def one_step(library):
    """Weight of the new batch and bias of the variance, found from what a library makes of one batch of 8 values."""
    x = 5 + 3 * np.random.default_rng(7).standard_normal((2, 1, 2, 2))
    _, mean, var, eps = library([x])
    weight = (mean / x.mean())[0]
    unbiased = np.isclose((var[0] - (1 - weight)) / weight, x.var(ddof=1))
    assert unbiased or np.isclose((var[0] - (1 - weight)) / weight, x.var())
    return weight, unbiased, eps


@pytest.mark.parametrize("name", conventions.LIBRARIES)
def test_each_library_is_as_both_tables_say(name):
    """The functions, the chapter's table and that of book/conventions.md agree."""
    page = table("book/conventions.md", "## Batch norm")
    chapter = table("notebooks/05_inference_statistics.md", "## Nine conventions")
    short = {"tf_keras": "TensorFlow", "PyTorch": "PyTorch 2"}.get(name.split()[0], name.split()[0])
    (theirs,), (ours,) = ([row for row in rows if row[0].startswith(start)]
                          for rows, start in ((page, short), (chapter, name)))
    weight, unbiased, eps = one_step(conventions.LIBRARIES[name][0])
    assert theirs[4].split()[0].rstrip(",") == ("unbiased" if unbiased else "biased")
    assert ("unbiased" in ours[3]) == unbiased
    if name != "cuDNN":
        assert theirs[1] == ours[4] and float(ours[4].strip("`")) == eps
    if name not in ("cuDNN", "Haiku", "Caffe"):
        assert np.isclose(weight, float(theirs[3])) and np.isclose(weight, float(ours[2]))
        assert theirs[2] == re.search(r"=([\d.]+)`", ours[1])[1]
    if name in ("Haiku", "Caffe"):
        assert weight == pytest.approx(1)  # after one batch nothing of a start is left


def test_functions_keep_what_the_libraries_kept():
    """COMPARED, on the chapter's batches; float32 on one side, five decimals written down."""
    rng = np.random.default_rng(4)
    xs = [rng.normal(5, 2, (2, 1, 2, 2)) for _ in range(3)]
    assert set(conventions.COMPARED) == {name for name, (_, known) in conventions.LIBRARIES.items() if known == "run"}
    for name, (_, mean, var, eps) in conventions.COMPARED.items():
        ours = conventions.LIBRARIES[name][0](xs)[1:]
        assert np.allclose([ours[0][0], ours[1][0], ours[2]], [mean, var, eps], rtol=5e-5, atol=0), name


def test_two_libraries_correct_their_start():
    """Of equal batches they keep exactly those statistics, the others something on the way."""
    x = batches(count=1)[0]
    for name, (library, _) in conventions.LIBRARIES.items():
        _, mean, _, _ = library([x, x, x])
        assert np.allclose(mean, of_batch(x)[0], **EXACT) == (name in ("Haiku", "Caffe"))


def test_caffe_weighs_by_what_its_third_blob_holds():
    """Three batches against the weighted average written out."""
    xs, f = batches(count=3), 0.999
    stored, mean, var, _ = conventions.caffe(xs)
    weights = np.array([f**2, f, 1]) / (f**2 + f + 1)
    parts = [of_batch(x) for x in xs]
    assert np.isclose(stored["blobs"][2], f**2 + f + 1)
    assert np.allclose(mean, sum(w * mu for w, (mu, _, _) in zip(weights, parts)), **EXACT)
    assert np.allclose(var, sum(w * v * m / (m - 1) for w, (_, v, m) in zip(weights, parts)), **EXACT)


# Folding


def fold_setting(seed=8):
    rng = np.random.default_rng(seed)
    gamma, beta, mean = rng.standard_normal((3, 4))
    return rng, gamma, beta, mean, rng.uniform(0.2, 9, 4)


def test_evaluation_mode_is_one_multiplication_and_one_addition():
    """Equation (5.9)."""
    rng, gamma, beta, mean, var = fold_setting()
    x = rng.normal(3, 2, (6, 4))
    s = gamma / np.sqrt(var + 0.1)
    assert np.allclose(s * x + (beta - s * mean), batch_norm_inference(x, gamma, beta, mean, var, eps=0.1), **EXACT)


@pytest.mark.parametrize("kind", ["linear", "convolution"])
def test_layer_in_front_does_the_work_of_both(kind):
    """Equation (5.10): the package's fold, by rows and by filters, against torch's layer and batch norm."""
    rng, gamma, beta, mean, var = fold_setting()
    shape, x_shape = {"linear": ((4, 3), (6, 3)), "convolution": ((4, 3, 2, 3), (6, 3, 5, 7))}[kind]
    layer = {"linear": torch.nn.functional.linear, "convolution": torch.nn.functional.conv2d}[kind]
    W, b, x = rng.standard_normal(shape), rng.standard_normal(4), torch.tensor(rng.standard_normal(x_shape))
    two = torch.nn.functional.batch_norm(layer(x, torch.tensor(W), torch.tensor(b)),
                                         *map(torch.tensor, (mean, var, gamma, beta)), training=False, eps=0.1)
    W_new, b_new = fold_batch_norm(W, b, gamma, beta, mean, var, eps=0.1)
    assert torch.allclose(layer(x, torch.tensor(W_new), torch.tensor(b_new)), two, **EXACT)
    s = gamma / np.sqrt(var + 0.1)
    assert np.allclose(W_new.reshape(4, -1), np.diag(s) @ W.reshape(4, -1), **EXACT)
    assert np.allclose(b_new, s * b + beta - s * mean, **EXACT)


def test_wrong_roots_agree_where_the_variance_is_one():
    """And not at a standard deviation of 2, where the square under the root leaves 0.49985 of 1."""
    for var, alike in ((1.0, True), (4.0, False)):
        right = math.sqrt(var + 1e-5)
        assert all((abs(wrong / right - 1) < 1e-4) is alike for wrong in (math.sqrt(var**2 + 1e-5), var + 1e-5))
    assert np.isclose(2 / math.sqrt(4.0**2 + 1e-5) / 1, 0.5, rtol=1e-6)


def test_padding_keeps_a_batch_norm_in_front_from_folding_exactly():
    """Exercise 5.4: inner pixels agree, the border does not."""
    rng, gamma, beta, mean, var = fold_setting()
    x, W = torch.tensor(rng.normal(3, 2, (2, 4, 6, 6))), torch.tensor(rng.standard_normal((5, 4, 3, 3)))
    s = torch.tensor(gamma / np.sqrt(var + 1e-5))
    t = torch.tensor(beta) - s * torch.tensor(mean)
    conv = torch.nn.functional.conv2d
    two = conv(x * s[:, None, None] + t[:, None, None], W, padding=1)
    one = conv(x, W * s[:, None, None], (W.sum((2, 3)) * t).sum(1), padding=1)
    assert torch.allclose(one[..., 1:-1, 1:-1], two[..., 1:-1, 1:-1], **EXACT)
    assert (one - two).abs()[..., 0, :].max() > 0.1


# Test-time statistics


def test_batch_statistics_do_not_see_a_scanner_that_scales_and_shifts():
    """The prose on figure 5.7: exact for eps = 0, behind a linear layer; stored statistics see it."""
    rng = np.random.default_rng(9)
    x, W = rng.uniform(0, 16, (20, 6)), rng.standard_normal((6, 4))
    dull = 0.2 * x + 4
    clean, scanned = (standardize(each @ W, (0,), eps=0)[0] for each in (x, dull))
    assert np.allclose(clean, scanned, rtol=0, atol=1e-11)
    mean, var = (x @ W).mean(0), (x @ W).var(0)
    stored = batch_norm_inference(dull @ W, np.ones(4), np.zeros(4), mean, var, eps=0)
    assert np.abs(stored - clean).max() > 0.5


# Ranks


@pytest.mark.skipif(not torch.distributed.is_available() or sys.platform == "win32", reason="needs gloo")
def test_two_ranks_share_one_batch():
    """Unequal parts, one of them a single sample: one process on the whole batch gives the same."""
    rng = np.random.default_rng(10)
    x, dy = torch.tensor(rng.normal(3, 2, (7, 2))), torch.tensor(rng.standard_normal((7, 2)))
    first, second = ranks.on_two_ranks(x.split((1, 6)), dy.split((1, 6)))
    x.requires_grad_()
    y = torch.nn.functional.batch_norm(x, None, None, training=True)
    y.backward(dy)
    assert torch.equal(first["var"], second["var"])
    assert torch.allclose(first["mean"], x.mean(0), **EXACT)
    assert torch.allclose(first["var"], x.var(0, correction=0), **EXACT)
    assert torch.allclose(torch.cat([first["y"], second["y"]]), y, rtol=0, atol=1e-10)
    assert torch.allclose(torch.cat([first["dx"], second["dx"]]), x.grad, rtol=0, atol=1e-10)


@pytest.mark.skipif(not torch.distributed.is_available() or sys.platform == "win32", reason="needs gloo")
def test_ranks_that_fail_are_reported():
    """The gradient of rank 0 has a row too many: its process ends with an error, and the other does not wait."""
    x, dy = torch.randn(7, 2).double(), torch.randn(8, 2).double()
    with pytest.raises(RuntimeError, match="ended with codes"):
        ranks.on_two_ranks(x.split((3, 4)), dy.split((4, 4)))


# Today


@pytest.mark.parametrize("kind", [torch.float64, torch.float32])
def test_gain_of_rms_norm_folds_into_the_next_matrix(kind):
    """Equation (5.11): with torch's own RMS norm."""
    torch.manual_seed(11)
    x, W, g = torch.randn(5, 8, dtype=kind), torch.randn(8, 3, dtype=kind), torch.randn(8, dtype=kind)
    two = torch.nn.functional.linear(torch.nn.functional.rms_norm(x, (8,), g, eps=1e-6), W.T)
    one = torch.nn.functional.linear(torch.nn.functional.rms_norm(x, (8,), None, eps=1e-6), W.T @ torch.diag(g))
    assert torch.allclose(one, two, rtol=0, atol=50 * torch.finfo(kind).eps)
