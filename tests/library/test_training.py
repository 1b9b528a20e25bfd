"""The training runs of `course_lib.training`: the net, its gradients, what is observed, and sweeps."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from course_lib import data, training
from course_lib.training import History, forward, loss_and_gradient, mlp, span, steps_to, sweep

ACTIVATIONS = {"sigmoid": lambda z: 1 / (1 + np.exp(-z)), "centred": lambda z: 1 / (1 + np.exp(-z)) - 0.5,
               "tanh": np.tanh, "relu": lambda z: z * (z > 0)}


@pytest.fixture(scope="module")
def digits():
    return data.digits()


def small_batch(seed=0, runs=2, size=7, features=5, classes=3):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((runs, size, features)), rng.integers(classes, size=(runs, size))


def in_double(net):
    return replace(net, layers=tuple({n: v.astype(float) for n, v in layer.items()} for layer in net.layers))


def off_start(net, seed=0):
    """The net with every parameter moved, so that gamma is not 1 and no bias is 0; in float64."""
    rng = np.random.default_rng(seed)
    layers = tuple({n: v + 0.3 * rng.standard_normal(v.shape) for n, v in layer.items()} for layer in net.layers)
    return replace(net, layers=layers)


# The net and its gradients


@pytest.mark.parametrize("activation, function", ACTIVATIONS.items(), ids=ACTIVATIONS)
def test_forward_is_the_printed_formula(activation, function):
    """Equation (1.2): layer by layer and run by run, with biases that are not 0."""
    x, _ = small_batch()
    net = off_start(mlp((5, 4, 6, 3), seeds=[0, 1], activation=activation))
    logits, tapes = forward(net, x)
    for run in range(2):
        a = x[run]
        for layer, tape in zip(net.layers, tapes, strict=False):  # the last layer has no tape
            z = a @ layer["weight"][run] + layer["bias"][run]
            assert np.allclose(tape.inputs[run], a) and np.allclose(tape.y[run], z)
            a = function(z)
        assert np.allclose(logits[run], a @ net.layers[-1]["weight"][run] + net.layers[-1]["bias"][run])


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_batch_gradient_is_the_mean_of_the_samples_gradients(activation):
    x, labels = small_batch(runs=1)
    net = in_double(mlp((5, 4, 3), seeds=[0], activation=activation))
    _, whole = loss_and_gradient(net, x, labels)
    _, each = loss_and_gradient(net, x[0][:, None], labels[0][:, None])
    for a, b in zip(whole, each, strict=True):
        for name in a:
            assert np.allclose(a[name][0], b[name].mean(axis=0), atol=1e-12)  # float64, sums in another order


@pytest.mark.parametrize("norm", ["none", "batch", "layer"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_gradients_agree_with_differences(norm, activation):
    x, labels = small_batch()
    net = off_start(mlp((5, 4, 6, 3), seeds=[0, 1], norm=norm, activation=activation))
    rng = np.random.default_rng(1)
    scale, shift = 1 + 0.3 * rng.standard_normal((2, 2, 1, 1))
    noise = lambda shape: (scale, shift)  # noqa: E731
    _, gradients = loss_and_gradient(net, x, labels, noise=noise)
    way = tuple({name: rng.standard_normal(value.shape) for name, value in layer.items()} for layer in net.layers)

    def loss(h):
        there = tuple({n: v + h * d[n] for n, v in layer.items()} for layer, d in zip(net.layers, way, strict=True))
        return loss_and_gradient(replace(net, layers=there), x, labels, noise=noise)[0]

    along = sum((g[name] * d[name]).sum(axis=(1, 2)) for g, d in zip(gradients, way, strict=True) for name in g)
    assert np.allclose((loss(1e-5) - loss(-1e-5)) / 2e-5, along, rtol=1e-6, atol=1e-8)  # error of order h**2


def test_batch_norm_net_agrees_with_torch():
    x, labels = small_batch(size=9)
    net = off_start(mlp((5, 4, 6, 3), seeds=[0, 1], norm="batch"))
    _, gradients = loss_and_gradient(net, x, labels)
    for run in range(2):
        stack = torch_net(net, run)
        torch.nn.functional.cross_entropy(stack(torch.tensor(x[run])), torch.tensor(labels[run])).backward()
        first, norm = stack[0], stack[1]
        assert np.allclose(gradients[0]["weight"][run], first.weight.grad.T, atol=1e-12)
        assert np.allclose(gradients[0]["gamma"][run, 0], norm.weight.grad, atol=1e-12)
        assert np.allclose(gradients[0]["beta"][run, 0], norm.bias.grad, atol=1e-12)


def torch_net(net, run):
    stack = []
    for layer in net.layers[:-1]:
        linear = torch.nn.Linear(*layer["weight"].shape[1:], bias=False, dtype=float)
        norm = torch.nn.BatchNorm1d(layer["gamma"].shape[2], dtype=float)
        linear.weight.data = torch.tensor(layer["weight"][run].T)
        norm.weight.data, norm.bias.data = torch.tensor(layer["gamma"][run, 0]), torch.tensor(layer["beta"][run, 0])
        stack += [linear, norm, torch.nn.Sigmoid()]
    last = torch.nn.Linear(*net.layers[-1]["weight"].shape[1:], dtype=float)
    last.weight.data = torch.tensor(net.layers[-1]["weight"][run].T)
    last.bias.data = torch.tensor(net.layers[-1]["bias"][run, 0])
    return torch.nn.Sequential(*stack, last)


# Training and looking


def test_testing_uses_statistics_of_training_images(digits):
    net = off_start(mlp((64, 8, 10), seeds=[0, 1], norm="batch"))
    statistics = training.layer_statistics(net, digits.x_train)
    together = forward(net, digits.x_test[None], statistics=statistics)[0]
    alone = forward(net, digits.x_test[None, :1], statistics=statistics)[0]
    assert np.allclose(together[:, :1], alone)  # a sample's logits do not depend on its neighbours
    z = digits.x_train @ net.layers[0]["weight"][1]
    assert np.allclose(statistics[0][0][1, 0], z.mean(axis=0))
    assert np.allclose(statistics[0][1][1, 0], 1 / np.sqrt(z.var(axis=0) + 1e-5))


@pytest.mark.parametrize("norm", ["none", "batch"])
def test_observed_accuracy_is_what_one_would_count(digits, norm):
    net = off_start(mlp((64, 8, 10), seeds=[0, 1], norm=norm))
    statistics = training.layer_statistics(net, digits.x_train[: training.POPULATION])
    logits, _ = forward(net, digits.x_test[None], statistics=statistics)
    accuracy = training.observe_accuracy(net, digits)["accuracy"]
    assert accuracy.shape == (2,)
    assert accuracy[1] == np.mean([row.argmax() == label for row, label in zip(logits[1], digits.y_test, strict=True)])


def test_a_run_does_not_depend_on_its_company(digits):
    def final(seeds, lr):
        return training.train(mlp((64, 10, 10), seeds=seeds), digits, seeds=seeds, steps=20, lr=lr).model.layers

    together, alone = final((0, 1, 2), np.array([0.1, 0.5, 0.9])), final((1,), 0.5)
    for a, b in zip(together, alone, strict=True):
        for name in a:
            assert np.array_equal(a[name][1:2], b[name])


def test_training_leaves_its_model_alone_and_repeats_itself(digits):
    net = mlp((64, 10, 10), seeds=[0])
    before = [layer["weight"].copy() for layer in net.layers]
    runs = [training.train(net, digits, seeds=[0], steps=30, lr=0.5, looks=(0, 20, 30)) for _ in range(2)]
    assert all(np.array_equal(layer["weight"], old) for layer, old in zip(net.layers, before, strict=True))
    assert list(runs[0].step) == [0, 20, 30]
    assert np.array_equal(runs[0]["accuracy"], runs[1]["accuracy"])
    assert (runs[0]["accuracy"][-1] > runs[0]["accuracy"][0]).all()


def test_looks_are_fine_where_runs_are_fast():
    assert list(training.fine_looks(5)) == [0, 2, 4, 5]
    looks = training.fine_looks(233)
    assert list(looks[looks <= 40]) == list(range(0, 42, 2)) and list(looks[-3:]) == [220, 230, 233]
    assert (np.diff(looks)[looks[:-1] >= 20] <= looks[:-1][looks[:-1] >= 20] / 10).all()  # a tenth of the way shows


def test_training_stops_when_every_run_has_been_seen_to_arrive(digits):
    seeds = (0, 1)
    net, options = mlp((64, 30, 10), seeds=seeds, norm="batch"), {"seeds": seeds, "steps": 100, "lr": 0.5}
    whole = training.train(net, digits, **options)
    stopped = training.train(net, digits, **options, until=0.8)
    assert stopped.step[-1] == steps_to(whole, 0.8).max() < 100
    assert np.array_equal(stopped["accuracy"], whole["accuracy"][: len(stopped.step)])


def test_only_the_chosen_layers_learn(digits):
    net = mlp((64, 10, 10, 10), seeds=[0], norm="batch")
    trained = training.train(net, digits, seeds=[0], steps=3, lr=0.5, layers=slice(1, 2)).model
    still = [all(np.array_equal(a[n], b[n]) for n in a) for a, b in zip(net.layers, trained.layers, strict=True)]
    assert still == [True, False, True]


def test_noise_is_there_in_training_and_not_when_looking(digits):
    calls = []

    def noise(shape):
        calls.append(shape)
        return np.float32(1), np.float32(0)

    net = mlp((64, 10, 10), seeds=[0])
    noisy = training.train(net, digits, seeds=[0], steps=4, lr=0.5, noise=noise)
    assert calls == [(1, 60, 10)] * 4  # one hidden layer, four steps, no look
    assert np.array_equal(noisy["accuracy"], training.train(net, digits, seeds=[0], steps=4, lr=0.5)["accuracy"])


# Comparing


def history(*curves):
    """Runs whose accuracies, seen after 0, 10, 20, ... steps, are the curves."""
    return History(10 * np.arange(len(curves[0])), {"accuracy": np.array(curves).T}, None)


def test_steps_to_is_the_first_time_and_infinite_where_never():
    assert list(steps_to(history([0.1, 0.95, 0.8], [0.1, 0.2, 0.3]), 0.9)) == [10, np.inf]


RISE = {0.1: [0.1, 0.2, 0.5, 0.9], 1: [0.1, 0.9, 0.9, 0.9], 10: [0.1, 0.1, 0.1, 0.1]}


def test_sweep_tries_every_arm_at_every_rate():
    tried = []

    def run(arm, lr):
        tried.append((arm, lr))
        late = {"fast": RISE[lr], "slow": [0.1, *RISE[lr][:-1]]}[arm]
        return history(late, late, RISE[0.1])

    found = sweep(run, ("fast", "slow"), (0.1, 1, 10))
    assert tried == [(arm, lr) for arm in ("fast", "slow") for lr in (0.1, 1, 10)]
    assert np.array_equal(found.steps("slow", 0.9), [[np.inf, np.inf, 30], [20, 20, 30], [np.inf, np.inf, 30]])
    assert found.best("fast", 0.9) == found.best("slow", 0.9) == 1
    assert list(found.at_best("fast", 0.9)) == [10, 10, 30]
    rows = found.table(0.9).splitlines()
    assert rows[0].split() == ["lr", "fast", "slow"]
    assert rows[2].split() == ["1", "10", "(10-30)*", "20", "(20-30)*"]
    assert rows[3].split() == ["10", "-", "(30--)", "-", "(30--)"]


def test_of_two_rates_with_equal_medians_the_one_with_the_smaller_mean_is_best():
    late, early = [0.1, 0.2, 0.2, 0.9], [0.1, 0.9, 0.9, 0.9]
    middle = [0.1, 0.2, 0.9, 0.9]
    found = sweep(lambda arm, lr: history(middle, middle, late if lr == 1 else early), ["arm"], (1, 2, 3))
    assert found.best("arm", 0.9) == 1


def test_an_arm_that_never_arrives_has_no_best_rate():
    found = sweep(lambda arm, lr: history(RISE[10], RISE[10], RISE[1]), ["arm"], (1, 2))
    with pytest.raises(ValueError, match=r"arm: at none of the learning rates \(1, 2\)"):
        found.best("arm", 0.9)
    assert "*" not in found.table(0.9)


def test_half_that_never_arrives_counts_as_never():
    assert span(np.array([10, 20, np.inf, np.inf])) == "- (10--)"
    assert span(np.array([30, 10, 20])) == "20 (10-30)"
    assert span(np.array([np.inf, np.inf])) == "-"


def test_shuffled_batches_see_all_samples_once_before_one_comes_again():
    order = training.shuffled(10, size=4, seeds=[3, 4], steps=6)
    assert order.shape == (2, 6, 4)
    for run in order.reshape(2, -1):
        assert sorted(run[:10]) == sorted(run[10:20]) == list(range(10)) and len(set(run[20:])) == 4
    assert (order[0] != order[1]).any() and (order[1] == training.shuffled(10, size=4, seeds=[4], steps=6)[0]).all()
