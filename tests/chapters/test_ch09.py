"""Chapter 9, group norm: each equation, and what the prose says about it, by a way that is not the text's own."""

from functools import partial

import numpy as np
import pytest
import torch

from course_lib import batch_norm, group_norm, instance_norm, layer_norm, norm_backward, training
from course_lib.chapters.ch09 import measures

EXACT = {"rtol": 1e-11, "atol": 1e-12}  # float64, sums of fewer than 1000 terms of size 1
SHAPE = (4, 6, 3, 5)


def batch(seed=0, shape=SHAPE):
    """x off centre with a scale per channel, gamma with a negative entry, beta, and a random dy."""
    rng = np.random.default_rng(seed)
    channel = (shape[1], *[1] * (len(shape) - 2))
    x = rng.normal(0, 1, shape) * rng.uniform(0.3, 4, channel) + rng.uniform(-9, 9, channel)
    gamma = rng.uniform(0.5, 2, shape[1])
    gamma[1] *= -1
    return x, gamma, rng.uniform(-1, 1, shape[1]), rng.standard_normal(shape) + 0.7


def plain(x, groups, **parameters):
    """Group norm without scale and shift."""
    return group_norm(x, np.ones(x.shape[1]), np.zeros(x.shape[1]), groups=groups, **parameters)[0]


# The layer


@pytest.mark.parametrize("groups", [1, 2, 3, 6])
def test_statistics_of_a_group(groups):
    """Equation (9.1): sums written out entry by entry, with the group of a channel by its index."""
    x, gamma, beta, _ = batch()
    y, _ = group_norm(x, gamma, beta, groups=groups, eps=0.1)
    samples, channels, height, width = x.shape
    m = channels // groups * height * width
    for n in range(samples):
        for c in range(channels):
            g = c * groups // channels
            members = [d for d in range(channels) if d * groups // channels == g]
            mu = sum(x[n, d].sum() for d in members) / m
            var = sum(((x[n, d] - mu) ** 2).sum() for d in members) / m
            assert np.allclose(y[n, c], gamma[c] * (x[n, c] - mu) / np.sqrt(var + 0.1) + beta[c], **EXACT)


@pytest.mark.parametrize("groups", [1, 2, 3, 6])
@pytest.mark.parametrize("eps", [1e-5, 0.5])
def test_backward_by_torch(groups, eps):
    """Equation (9.2): the means over the group, the sums over everything of a channel; against autograd."""
    x, gamma, beta, dy = batch(1)
    samples, channels = x.shape[:2]
    rows = x.reshape(samples, groups, -1)
    s = 1 / np.sqrt(rows.var(2, keepdims=True) + eps)
    x_hat = (rows - rows.mean(2, keepdims=True)) * s
    dx_hat = (gamma.reshape(1, channels, 1, 1) * dy).reshape(rows.shape)
    dx = s * (dx_hat - dx_hat.mean(2, keepdims=True) - x_hat * (dx_hat * x_hat).mean(2, keepdims=True))
    ours = (dx.reshape(x.shape), (dy * x_hat.reshape(x.shape)).sum((0, 2, 3)), dy.sum((0, 2, 3)))
    leaves = [torch.tensor(each, requires_grad=True) for each in (x, gamma, beta)]
    y = torch.nn.functional.group_norm(leaves[0], groups, *leaves[1:], eps=eps)
    theirs = torch.autograd.grad(y, leaves, torch.tensor(dy))
    package = norm_backward(dy, group_norm(x, gamma, beta, groups=groups, eps=eps)[1])
    for each, torchs, packages in zip(ours, theirs, package, strict=True):
        assert np.allclose(each, torchs.numpy(), rtol=1e-9, atol=1e-10)
        assert np.allclose(each, packages, rtol=1e-9, atol=1e-10)


def test_gamma_outside_the_means_is_right_for_one_channel_a_group_only():
    x, gamma, beta, dy = batch(2)
    for groups in (2, 6):
        plain_dx = norm_backward(dy, group_norm(x, np.ones(6), beta, groups=groups)[1])[0]
        right = norm_backward(dy, group_norm(x, gamma, beta, groups=groups)[1])[0]
        agree = np.allclose(gamma.reshape(1, 6, 1, 1) * plain_dx, right, **EXACT)
        assert agree == (groups == 6)


# Boxes


@pytest.mark.parametrize("k", [1, 2, 4])
def test_ghost_batches(k):
    """Equation (9.3): batch norm of each run of k samples, which is group norm of the transpose."""
    x, *_ = batch(3)
    y = measures.over_samples(torch.tensor(x), k).numpy()
    for b in range(4 // k):
        part = x[b * k : (b + 1) * k]
        mu, var = part.mean((0, 2, 3), keepdims=True), part.var((0, 2, 3), keepdims=True)
        assert np.allclose(y[b * k : (b + 1) * k], (part - mu) / np.sqrt(var + 1e-5), **EXACT)
    assert np.allclose(y, plain(x.swapaxes(0, 1), 4 // k).swapaxes(0, 1), **EXACT)


def test_whole_batch_is_one_ghost():
    x, *_ = batch(4)
    assert np.allclose(measures.over_samples(torch.tensor(x), 4), batch_norm(x, np.ones(6), np.zeros(6))[0], **EXACT)


def test_extremes():
    """Equation (9.6): one group is layer norm over (C, H, W), C groups are instance norm, and not the other way."""
    x, *_ = batch(5)
    over_all = layer_norm(x, np.ones(x.shape[1:]), np.zeros(x.shape[1:]))[0]
    each_map = instance_norm(x, np.ones(6), np.zeros(6))[0]
    assert np.allclose(plain(x, 1), over_all, **EXACT) and np.allclose(plain(x, 6), each_map, **EXACT)
    assert np.abs(plain(x, 1) - each_map).max() > 0.5
    rows = plain(x, 1).reshape(4, -1)  # m = C H W: each sample as a whole has mean 0
    assert np.allclose(rows.mean(1), 0, **EXACT) and np.allclose(rows.var(1), 1, atol=1e-4)
    assert np.allclose(plain(x, 6).mean((2, 3)), 0, **EXACT)


def test_one_group_is_not_the_layer_norm_of_tokens():
    x = np.random.default_rng(6).standard_normal((2, 5, 7))  # (B, D, T)
    other = x.copy()
    other[:, :, -1] += 4 * np.random.default_rng(7).standard_normal((2, 5))
    by_token = [layer_norm(each.swapaxes(1, 2), np.ones(5), np.zeros(5))[0] for each in (x, other)]
    assert np.array_equal(by_token[0][:, :-1], by_token[1][:, :-1])
    assert np.abs(plain(x, 1) - plain(other, 1))[:, :, :-1].max() > 0.05


def test_maps_of_one_pixel():
    """One value a group gives beta, two give plus and minus one; torch refuses the first for one sample only."""
    x, gamma, beta, _ = batch(8, (3, 6, 1, 1))
    assert np.array_equal(group_norm(x, gamma, beta, groups=6)[0], np.broadcast_to(beta[:, None, None], x.shape))
    assert np.allclose(np.abs(plain(x, 3, eps=1e-12)), 1, atol=1e-6)
    with pytest.raises(ValueError, match="more than 1 value"):
        torch.nn.functional.group_norm(torch.randn(1, 4, 1, 1), 4)
    assert torch.all(torch.nn.functional.group_norm(torch.randn(2, 4, 1, 1), 4) == 0)


def test_swapped_arguments_are_noticed_only_where_they_differ():
    with pytest.raises(ValueError, match="divisible"):
        torch.nn.GroupNorm(6, 3)
    x = torch.randn(2, 8, 3, 3, dtype=torch.float64)
    layer = torch.nn.GroupNorm(8, 8, dtype=torch.float64)
    assert np.allclose(layer(x).detach(), torch.nn.functional.instance_norm(x), **EXACT)


def test_reshape_of_channels_last_cuts_rows_of_the_image():
    index = np.arange(4 * 4 * 4).reshape(1, 4, 4, 4)  # (N, H, W, C), each entry its own number
    upper, lower = index.reshape(1, 2, -1)[0]
    assert set(upper) == set(index[0, :2].ravel()) and set(lower) == set(index[0, 2:].ravel())


# Mean and scale of one map


@pytest.mark.parametrize("k", [1, 2, 4, 8])
def test_share_that_a_mean_of_k_leaves(k):
    """Equation (9.4): 1 - 1 / k of the variance, for numbers of any distribution."""
    a = np.random.default_rng(9).exponential(size=(400_000 // k, k))  # variance 1
    assert abs((a - a.mean(1, keepdims=True)).var() - (1 - 1 / k)) < 0.02  # its standard error is below 0.005


@pytest.mark.parametrize("k", [2, 4, 8])
def test_stored_means_leave_the_maps_wider(k):
    """Equation (9.5): the spread of the maps' means with stored numbers over that with those of the ghost batch."""
    rng = np.random.default_rng(10)
    x = torch.tensor(rng.normal(0, 1, (4096, 3, 1, 1)) + 0.5 * rng.standard_normal((4096, 3, 2, 2)))
    mu, var = (v.mean(0) for v in measures.ghost_statistics(x, k, k))
    stored = ((x - mu) / (var + 1e-5).sqrt()).mean((2, 3)).std(0)
    own = ((x.unflatten(0, (-1, k)) - x.unflatten(0, (-1, k)).mean((1, 3, 4), keepdim=True)).flatten(0, 1)
           / (var + 1e-5).sqrt()).mean((2, 3)).std(0)
    assert np.allclose(stored / own, np.sqrt(k / (k - 1)), rtol=0.03)


@pytest.mark.parametrize("groups", [1, 2, 3])
def test_invariance(groups):
    """Equation (9.7): a scale above 0 and a shift for each group of each sample; a negative scale turns signs."""
    x, *_ = batch(11)
    rng = np.random.default_rng(11)
    a, b = rng.uniform(0.3, 3, (4, groups, 1)), rng.normal(0, 5, (4, groups, 1))
    changed = (a * x.reshape(4, groups, -1) + b).reshape(x.shape)
    assert np.allclose(plain(changed, groups, eps=0), plain(x, groups, eps=0), rtol=1e-9, atol=1e-10)
    turned = (-a * x.reshape(4, groups, -1) + b).reshape(x.shape)
    assert np.allclose(plain(turned, groups, eps=0), -plain(x, groups, eps=0), rtol=1e-9, atol=1e-10)
    channel = x.copy()
    channel[:, 0] *= 3
    assert np.abs(plain(channel, groups) - plain(x, groups)).max() > 0.1


@pytest.mark.parametrize(("k_mean", "k_var"), [(1, 1), (1, 4), (4, 1), (2, 2), (4, 4)])
def test_mean_and_variance_apart(k_mean, k_var):
    """Of equal sizes it is ghost batch norm; else the mean is of k_mean samples, and the scale of k_var of them."""
    x = torch.tensor(batch(12)[0])
    y = measures.apart(x, k_mean, k_var)
    if k_mean == k_var:
        assert torch.allclose(y, measures.over_samples(x, k_mean), **EXACT)
    for n in range(4):
        near = x[n // k_mean * k_mean :][:k_mean].mean((0, 2, 3))
        if k_var == 1:
            scale = x[n].var((1, 2), correction=0)
        else:  # of what is left when each image, or each ghost, has lost its mean
            left = x - x.mean((2, 3), keepdim=True) if k_mean == 1 else x - measures.over_neighbours(x, k_mean)
            scale = (left[n // k_var * k_var :][:k_var] ** 2).mean((0, 2, 3))
        right = (x[n] - near[:, None, None]) / (scale + 1e-5).sqrt()[:, None, None]
        assert torch.allclose(y[n], right, **EXACT)


# The nets


def plain_logits(parameters, x, head, k):
    """One net with group norm, written out: the convolutions by torch, everything else by its formula."""
    kind, side = head.split(", ")[0], int(head[-1]) if "," in head else 2
    strides = (1, 2, 2) if side == 2 else (1, 2, 1)
    for layer, stride in enumerate(strides):
        weight, gamma, beta = parameters[3 * layer : 3 * layer + 3]
        x = torch.nn.functional.conv2d(x, weight, stride=stride, padding=1)
        rows = x.reshape(len(x), 16 // k, -1)
        rows = (rows - rows.mean(2, keepdim=True)) / (rows.var(2, keepdim=True, correction=0) + 1e-5).sqrt()
        x = (gamma[:, None, None] * rows.reshape(x.shape) + beta[:, None, None]).clamp(min=0)
    assert x.shape[2:] == (side, side)
    features = x.sum((2, 3)) / side**2 if kind == "pooled" else x.reshape(len(x), -1)
    weight, bias = parameters[9:]
    return features @ weight[0] + bias[0, 0]


@pytest.mark.parametrize("head", measures.HEADS)
def test_nets_against_a_plain_net(head):
    """The logits, and one step of the training, of a net that is written out and not stacked."""
    norm = partial(measures.over_channels, k=4)
    nets = measures.Nets(head, [3])
    x, y, *_ = measures.halves()
    parameters = [p.detach().clone().requires_grad_() for p in nets.parameters]
    assert torch.allclose(nets(x[:40], [norm] * 3)[0], plain_logits(parameters, x[:40], head, 4), atol=1e-4)
    drawn = training.shuffled(896, size=measures.BATCH, seeds=[3], steps=1)[0][0]
    loss = torch.nn.functional.cross_entropy(plain_logits(parameters, x[drawn], head, 4), y[drawn])
    gradients = torch.autograd.grad(loss, parameters)
    trained = measures.train(norm, head, 0.1, seeds=[3], steps=1)
    for before, gradient, after in zip(parameters, gradients, trained.parameters, strict=True):
        assert torch.allclose(before - 0.1 * gradient, after, atol=1e-5)


def test_halves_are_disjoint():
    x_train, y_train, x_test, y_test = measures.halves()
    assert x_train.shape == x_test.shape == (896, 1, 8, 8) and y_train.shape == y_test.shape == (896,)
    assert not {each.tobytes() for each in x_train.numpy()} & {each.tobytes() for each in x_test.numpy()}


@pytest.mark.parametrize("head", measures.HEADS)
def test_stacked_nets_do_not_see_each_other(head):
    """A net trained in company is the net trained alone: the convolutions are kept apart."""
    norm = partial(measures.over_channels, k=4)
    both, alone = (measures.train(norm, head, 0.1, seeds=seeds, steps=4) for seeds in ([3, 7], [7]))
    logits = [nets(measures.halves()[2][:50], [norm] * 3) for nets in (both, alone)]
    assert torch.allclose(logits[0][1], logits[1][0], rtol=1e-3, atol=1e-4)
    assert not torch.allclose(logits[0][0], logits[0][1], atol=1e-2)


def test_stored_statistics_are_those_of_the_ghosts():
    x = torch.randn(8, 3, 2, 2, dtype=torch.float64)
    mu, var = (v.mean(0) for v in measures.ghost_statistics(x, 4, 4))
    parts = [x[:4], x[4:]]
    assert torch.allclose(mu.flatten(), sum(part.mean((0, 2, 3)) for part in parts) / 2)
    assert torch.allclose(var.flatten(), sum(part.var((0, 2, 3), correction=0) for part in parts) / 2)
    nets = measures.train(partial(measures.over_samples, k=4), "pooled", 0.1, seeds=[0], steps=2)
    first = measures.stored(nets, 4, 4)[0]
    z = torch.nn.functional.conv2d(measures.halves()[0][:512], nets.parameters[0], padding=1)
    assert torch.allclose(first(z).mean((0, 2, 3)), torch.zeros(16), atol=1e-4)  # the mean of means is the mean


def test_one_sample_and_one_channel_train_alike():
    """The two middle points of figure 9.4: instance norm in training, and different only at test time."""
    nets = [measures.train(partial(norm, k=1), "pooled", 0.05, seeds=[0], steps=3)
            for norm in (measures.over_samples, measures.over_channels)]
    for a, b in zip(*(net.parameters for net in nets), strict=True):
        assert torch.allclose(a, b, atol=1e-4)
