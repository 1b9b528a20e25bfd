"""Chapter 1: its equations, and what it claims, on other seeds than its own.

The interventions and measures are those of the page: the functions that its
cells define are taken from there.
"""

import ast
import itertools
from pathlib import Path
from types import SimpleNamespace

import jupytext
import numpy as np
import pytest
import torch

from course_lib import data, training
from course_lib.training import MLP, forward, loss_and_gradient, mlp, sgd_step

PAGE = Path(__file__).resolve().parents[2] / "notebooks/01_internal_covariate_shift.md"
WIDTHS = (64, 100, 100, 100, 10)
SEEDS = (10, 11, 12, 13, 14)  # the chapter has 0 to 9: its claims must not hang on them
PLAIN, ONCE, BATCH = "no normalization", "normalized once", "batch norm"


@pytest.fixture(scope="module")
def digits():
    return data.digits()


@pytest.fixture(scope="module")
def page(digits):
    """The functions that the chapter defines, with the names that they use."""
    names = {"itertools": itertools, "np": np, "torch": torch, "training": training, "digits": digits, "five": SEEDS,
             "widths": WIDTHS, "arms": (PLAIN, ONCE, BATCH)}
    for cell in jupytext.read(PAGE).cells:
        if cell.cell_type == "code" and not {"exercise"} & set(cell.metadata.get("tags", [])):
            plain = "\n".join("" if line.lstrip().startswith("%") else line for line in cell.source.splitlines())
            if plain.startswith("try:"):
                continue
            functions = [node for node in ast.parse(plain).body if isinstance(node, ast.FunctionDef)]
            exec(compile(ast.Module(functions, []), str(PAGE), "exec"), names)
    names["few"] = names["three_nets"](SEEDS)
    return SimpleNamespace(**names)


def small_batch(seed=0, runs=2, size=7, features=5, classes=3):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((runs, size, features)), rng.integers(classes, size=(runs, size))


# The equations


def test_weighted_training_loss_is_the_test_loss():
    """Equation (1.1): exact, for inputs that take four values."""
    loss = np.array([0.3, 2.0, 1.0, 5.0])
    p_train, p_test = np.array([0.4, 0.3, 0.2, 0.1]), np.array([0.1, 0.1, 0.5, 0.3])
    assert p_train @ (p_test / p_train * loss) == pytest.approx(p_test @ loss)


def test_moved_is_the_mean_move_of_centre_and_width(page):
    """Equation (1.3): against loops over layers, units and percentiles."""
    q = np.random.default_rng(0).standard_normal((3, 2, 3, 4, 5))  # looks, runs, percentiles, layers, units
    centre, width = page.moved({"q": q})
    expected = np.zeros((2, 3, 2))
    for look, run in np.ndindex(3, 2):
        now, start = q[look, run].reshape(3, -1), q[0, run].reshape(3, -1)
        expected[0, look, run] = np.mean([abs(b - a) for a, b in zip(start[1], now[1], strict=True)])
        half = [(high - low) / 2 for (low, _, high) in now.T], [(high - low) / 2 for (low, _, high) in start.T]
        expected[1, look, run] = np.mean(np.abs(np.subtract(*half)))
    assert np.allclose([centre, width], expected)
    assert (centre[0] == 0).all() and (width[0] == 0).all()


def test_look_takes_percentiles_over_the_test_images(page, digits):
    seen = page.look(page.few[PLAIN], digits)
    z = digits.x_test @ page.few[PLAIN].layers[0]["weight"][1]
    assert seen["q"].shape == (5, 3, 3, 100)
    assert np.allclose(seen["q"][1, :, 0], np.percentile(z, (15, 50, 85), axis=0), atol=1e-5)


@pytest.mark.parametrize("gain", [0.7, 1.2, 2.0])
def test_chi_predicts_how_a_small_change_grows(gain):
    """Equation (1.4): one tanh layer of width 800; the nudge is independent of the input, as the formula assumes."""
    n, rng = 800, np.random.default_rng(0)
    weight = rng.standard_normal((n, n)) * gain / np.sqrt(n)
    z, nudge = rng.standard_normal((50, n)), 1e-4 * rng.standard_normal((50, n))
    chi = n * weight.var() * np.mean((1 - np.tanh(z) ** 2) ** 2)
    after = (np.tanh(z + nudge) - np.tanh(z)) @ weight
    assert (after**2).sum() / (nudge**2).sum() == pytest.approx(chi, rel=0.05)  # 40,000 entries of each


def test_the_pages_nudge_is_chi_of_its_own_net(page):
    """Equation (1.4): what the page draws as measured and predicted agree, layer by layer."""
    size, signal, chi = page.nudge(1.5, np.random.default_rng(1).standard_normal((1, 100, 100)))
    assert size.shape == signal.shape == chi.shape == (12, 5)
    assert np.allclose((size[1:] / size[:-1]).mean(axis=1), chi[:-1].mean(axis=1), rtol=0.1)


def test_variance_of_the_batch_mean_is_the_variance_over_m():
    """Equation (1.5): exact, over all batches of 2 and 3 out of 5 values, also behind a nonlinear layer."""
    x = np.random.default_rng(0).standard_normal(5)
    for z in (x, np.tanh(2 * x - 1)):
        for m in (2, 3):
            means = [np.mean(batch) for batch in itertools.product(z, repeat=m)]
            assert m * np.var(means) == pytest.approx(np.var(z))


@pytest.mark.parametrize("norm", ["none", "batch", "layer"])
def test_upper_layers_step_as_a_network_of_their_own(norm):
    """Equations (1.6) and (1.7): the composition has the loss of the whole, and the steps agree bit by bit."""
    x, labels = small_batch()
    net = mlp((5, 4, 6, 3), seeds=[0, 1], norm=norm)
    head, x = MLP(net.layers[1:], net.activation, net.norm), x.astype(np.float32)
    for _ in range(3):
        loss, gradients = loss_and_gradient(net, x, labels)
        loss_alone, alone = loss_and_gradient(head, forward(net, x)[1][0].a, labels)
        assert np.array_equal(loss, loss_alone)
        net, head = sgd_step(net, gradients, 0.5), sgd_step(head, alone, 0.5)
        for a, b in zip(net.layers[1:], head.layers, strict=True):
            assert all(np.array_equal(a[name], b[name]) for name in a)


def test_noise_stretches_and_shifts_the_output_of_the_norm_by_unit(page):
    """Equation (1.8): with the page's noise, drawn once more from the same seed."""
    x = small_batch()[0].astype(np.float32)
    net = mlp((5, 4, 3), seeds=[0, 1], norm="batch")
    stretch, shift = page.moving_noise(3)((2, 7, 4))
    clean, noisy = forward(net, x)[1][0], forward(net, x, noise=page.moving_noise(3))[1][0]
    assert stretch.shape == shift.shape == (2, 1, 4)
    assert np.allclose(noisy.y, stretch * clean.y + shift, atol=1e-6)


def test_noise_is_new_in_every_call_and_as_large_as_its_dose(page):
    noise = page.moving_noise(3)
    (stretch, shift), (stretch_next, shift_next) = noise((1, 60, 5000)), noise((1, 60, 5000))
    assert not np.array_equal(shift, shift_next) and not np.array_equal(stretch, stretch_next)
    assert 2.9 < np.abs(shift).max() <= 3 and abs(shift.mean()) < 0.1
    assert 0.75 <= stretch.min() < 0.76 and 1.24 < stretch.max() <= 1.25


def test_gradient_shift_is_the_definition_run_by_run(page):
    """Equation (1.9): against torch's autograd, with the layers below moved by hand."""
    x, labels = small_batch()
    rng = np.random.default_rng(0)
    net = mlp((5, 4, 6, 3), seeds=[0, 1], activation="tanh")
    net = MLP(tuple({n: v + 0.3 * rng.standard_normal(v.shape) for n, v in layer.items()} for layer in net.layers),
              net.activation, net.norm)
    shift = page.gradient_shift(net, x, labels, 0.3)
    for run in range(2):
        w = [(torch.tensor(layer["weight"][run]), torch.tensor(layer["bias"][run])) for layer in net.layers]
        old = torch_gradients(w, x[run], labels[run])
        for i in (1, 2):
            lr = float(np.float32(0.3))  # what sgd_step makes of it
            moved = [(a - lr * da, b - lr * db) for (a, b), (da, db) in zip(w, old, strict=True)]
            new = torch_gradients(moved[:i] + w[i:], x[run], labels[run])
            assert shift[run, i - 1] == pytest.approx(float((old[i][0] - new[i][0]).norm() / old[i][0].norm()))


def torch_gradients(parameters, x, labels):
    parameters = [(a.clone().requires_grad_(), b.clone().requires_grad_()) for a, b in parameters]
    a = torch.tensor(x)
    for weight, bias in parameters[:-1]:
        a = torch.tanh(a @ weight + bias)
    logits = a @ parameters[-1][0] + parameters[-1][1]
    torch.nn.functional.cross_entropy(logits, torch.tensor(labels)).backward()
    return [(weight.grad, bias.grad) for weight, bias in parameters]


# The page's own functions


def test_normalized_once_has_mean_0_and_std_1_in_every_layer(page, digits):
    assert page.few[ONCE].norm == "none"
    for tape in forward(page.few[ONCE], digits.x_train[None])[1]:
        assert np.allclose(tape.y.mean(axis=1), 0, atol=1e-4)  # float32, three layers on top of one another
        assert np.allclose(tape.y.std(axis=1), 1, atol=1e-3)


def test_the_plain_lines_are_the_layer_that_is_trained(page):
    x = 3 + small_batch()[0]
    net = mlp((5, 4, 3), seeds=[0, 1], norm="batch")
    tape = forward(net, x)[1][0]
    rng = np.random.default_rng(1)
    gamma, beta = rng.standard_normal((2, 2, 1, 4))
    assert np.allclose(page.batch_norm(tape.z, gamma, beta), gamma * tape.normed.x_hat + beta)


def test_watch_sees_centre_and_width_of_tokens(page):
    net = torch.nn.Sequential(torch.nn.Linear(6, 4), torch.nn.Sigmoid(), torch.nn.Linear(4, 2))
    seen = page.watch(net)
    x = torch.randn(3, 5, 6)  # (B, T, D)
    net(x)
    z = net[0](x).detach().reshape(15, 4).numpy()
    low, centre, high = np.percentile(z, (15, 50, 85), axis=0)
    assert list(seen) == ["1"]
    assert np.allclose(seen["1"][0], centre, atol=1e-5)
    assert np.allclose(seen["1"][1], (high - low) / 2, atol=1e-5)


# The claims, each with a margin


@pytest.fixture(scope="module")
def tuned(page, digits):
    """Three nets at the learning rates around the best of each."""
    def run(arm, lr):
        return training.train(page.few[arm], digits, seeds=SEEDS, steps=450, lr=lr, until=0.95)

    return training.sweep(run, page.arms, (0.5, 1, 2))


def test_tuned_batch_norm_and_normalized_once_are_equally_fast_and_both_far_faster_than_none(tuned):
    steps = {arm: np.median(tuned.at_best(arm, 0.9)) for arm in (PLAIN, ONCE, BATCH)}
    assert steps[PLAIN] > 6 * steps[ONCE] and steps[PLAIN] > 6 * steps[BATCH], steps
    later = {arm: np.median(tuned.at_best(arm, 0.95)) for arm in (ONCE, BATCH)}
    assert 0.6 < steps[ONCE] / steps[BATCH] < 1.6 and 0.6 < later[ONCE] / later[BATCH] < 1.6, (steps, later)


def test_one_low_rate_for_all_flatters_batch_norm(page, digits, tuned):
    def at_low_rate(arm):
        return np.median(training.steps_to(
            training.train(page.few[arm], digits, seeds=SEEDS, steps=800, lr=0.25, until=0.9), 0.9))

    ratio = at_low_rate(PLAIN) / at_low_rate(BATCH)
    assert ratio > 1.3 * np.median(tuned.at_best(PLAIN, 0.9)) / np.median(tuned.at_best(BATCH, 0.9))


def test_only_batch_norm_survives_a_rate_of_10(page, digits):
    def arrived(arm):
        run = training.train(page.few[arm], digits, seeds=SEEDS, steps=250, lr=10, until=0.9)
        return np.isfinite(training.steps_to(run, 0.9)).mean()

    assert arrived(BATCH) == 1 and arrived(ONCE) < 0.5 and arrived(PLAIN) < 0.5


def test_in_eight_layers_batch_norm_is_faster_than_normalized_once(page, digits):
    deep = page.three_nets(SEEDS, widths=(64, *[100] * 8, 10))

    def run(arm, lr):
        return training.train(deep[arm], digits, seeds=SEEDS, steps=150, lr=lr, until=0.9)

    found = training.sweep(run, (ONCE, BATCH), (0.25, 0.5, 1))
    assert np.median(found.at_best(ONCE, 0.9)) > 1.3 * np.median(found.at_best(BATCH, 0.9))


@pytest.mark.parametrize("lr", [0.5, 2])  # the page has 1
def test_noise_breaks_none_before_once_before_batch_norm(page, digits, lr):
    def arrived(arm, dose):
        run = training.train(page.few[arm], digits, seeds=SEEDS, steps=300, lr=lr, until=0.9,
                             noise=page.moving_noise(dose))
        return np.isfinite(training.steps_to(run, 0.9)).mean()

    assert arrived(PLAIN, 4) < 0.5 < arrived(ONCE, 2)
    assert arrived(ONCE, 8) < 0.5 < arrived(BATCH, 5)
    assert arrived(BATCH, 40) < 0.5


@pytest.mark.slow
@pytest.mark.parametrize("arm, stands, breaks", [(PLAIN, 2, 4), (ONCE, 5, 6), (BATCH, 14, 20)])
def test_tuned_anew_at_each_dose_the_order_is_the_same(page, digits, arm, stands, breaks):
    """The answer of Exercise 1.4: the dose that most runs stand at some rate, and one that they stand at none."""
    def arrived(dose):
        shares = []
        for lr in (4, 2, 1, 0.5, 0.25, 0.1):
            run = training.train(page.few[arm], digits, seeds=SEEDS, steps=600, lr=lr, until=0.9,
                                 noise=page.moving_noise(dose))
            shares.append(np.isfinite(training.steps_to(run, 0.9)).mean())
        return max(shares)

    assert arrived(stands) > 0.5 and arrived(breaks) < 0.5


def test_a_stretch_of_mean_1_neither_helps_nor_hurts(page, digits, tuned):
    run = training.train(page.few[PLAIN], digits, seeds=SEEDS, steps=400, lr=1, until=0.9, noise=page.moving_noise(0))
    assert 0.75 < np.median(training.steps_to(run, 0.9)) / np.median(tuned.steps(PLAIN, 0.9)[1]) < 1.33


def test_noise_in_one_layer_leaves_the_others_alone(page):
    noise = page.only(2, 3)
    for _ in range(2):
        scales, shifts = zip(*(noise((2, 7, 4)) for _ in range(3)), strict=True)
        assert scales[0] == scales[2] == 1 and shifts[0] == shifts[2] == 0
        assert shifts[1].shape == (2, 1, 4) and np.abs(shifts[1]).max() > 1


def test_batch_norm_protects_from_noise_below_and_not_from_noise_in_the_last_layer(page, digits):
    def steps(arm, layer):
        return np.median(training.steps_to(
            training.train(page.few[arm], digits, seeds=SEEDS, steps=400, lr=1, until=0.9, noise=page.only(layer, 5)),
            0.9))

    assert 0.6 < steps(ONCE, 3) / steps(BATCH, 3) < 1.6
    assert steps(ONCE, 1) > 2 * steps(BATCH, 1)


def steps_from(digits, net, lr):
    return np.median(training.steps_to(
        training.train(net, digits, seeds=SEEDS, steps=300, lr=lr, until=0.9), 0.9))


def test_centring_is_no_change_of_the_start(page, digits, tuned):
    """The same function at step 0; one learns four times as fast and more, the other gains nothing."""
    biased = page.with_bias(mlp(WIDTHS, seeds=SEEDS))
    centred = mlp(WIDTHS, seeds=SEEDS, activation="centred")
    outputs = [forward(net, digits.x_test[None])[0] for net in (biased, centred)]
    assert np.allclose(*outputs, atol=1e-4)
    plain = np.median(tuned.at_best(PLAIN, 0.9))
    assert min(steps_from(digits, biased, lr) for lr in (1, 3)) > 0.8 * plain
    assert 4 * steps_from(digits, centred, 7) < plain


def test_by_hand_a_start_alone_comes_close_and_with_centring_passes_batch_norm(page, digits, tuned):
    strong = {"seeds": SEEDS, "weight_std": 0.4}
    plain, batch = (np.median(tuned.at_best(arm, 0.9)) for arm in (PLAIN, BATCH))
    weights, both = steps_from(digits, mlp(WIDTHS, **strong), 1), steps_from(
        digits, page.with_bias(mlp(WIDTHS, **strong)), 1)
    assert 3 * weights < plain and 1.15 * batch < both < weights
    assert steps_from(digits, mlp(WIDTHS, **strong, activation="centred"), 3) < batch


def test_a_saturated_start_is_faster_than_the_weak_one(page, digits, tuned):
    large = mlp(WIDTHS, seeds=SEEDS, weight_std=1)
    assert page.saturated(large).min() > 0.5
    assert 2 * steps_from(digits, large, 2) < np.median(tuned.at_best(PLAIN, 0.9))


def test_the_bug_of_exercise_1_3_is_fast(digits, tuned):
    net = mlp(WIDTHS, seeds=SEEDS)
    a, layers = digits.x_train[None], []
    for layer in net.layers[:-1]:
        z = a @ layer["weight"]
        mu, sigma = z.mean(axis=1, keepdims=True), z.std(axis=1, keepdims=True)
        layers.append({"weight": layer["weight"] / sigma, "bias": -mu / sigma})
        a = 1 / (1 + np.exp(-z))
    net = MLP((*layers, net.layers[-1]), net.activation, net.norm)
    spread = [tape.y.std(axis=1).mean() for tape in forward(net, digits.x_train[None])[1]]
    assert np.allclose(spread, [1, 1.2, 6.2], rtol=0.05)
    assert steps_from(digits, net, 1) < np.median(tuned.at_best(ONCE, 0.9))


def test_a_nudge_grows_relative_to_the_signal_only_in_chaotic_networks(page):
    x = np.random.default_rng(1).standard_normal((1, 100, 100))

    def growth(gain):
        size, signal, _ = page.nudge(gain, x)
        share = np.sqrt(size / signal).mean(axis=1)
        return share[-1] / share[0]

    assert 0.8 < growth(0.5) < 1.2 and 0.8 < growth(1.0) < 1.4
    assert growth(1.5) > 1.7 and growth(2.5) > 8


@pytest.fixture(scope="module")
def watched(page, digits):
    def run(arm, lr, steps, looks):
        return training.train(page.few[arm], digits, seeds=SEEDS, steps=steps, lr=lr, looks=looks, observe=page.look)

    return run


def test_batch_norm_keeps_distributions_stiller_than_both_others(page, watched):
    late = {arm: sum(page.moved(watched(arm, 1, 400, (0, 400))))[-1] for arm in page.arms}
    assert (late[PLAIN] > 3 * late[BATCH]).all() and (late[ONCE] > 2 * late[BATCH]).all(), late


def test_at_a_low_rate_batch_norm_drifts_more_while_it_learns(page, watched):
    plain, batch = (watched(arm, 0.25, 40, (0, 40)) for arm in (PLAIN, BATCH))
    assert (sum(page.moved(batch))[-1] > 1.5 * sum(page.moved(plain))[-1]).all()
    assert (batch["accuracy"][-1] > 0.8).all() and (plain["accuracy"][-1] < 0.3).all()


def test_centres_move_before_anything_is_learned(page, watched):
    run = watched(PLAIN, 1, 20, (0, 20))
    assert (page.moved(run)[0][-1] > 0.3).all() and (run["accuracy"][-1] < 0.3).all()


def test_freezing_costs_accuracy_and_not_speed(page, digits, tuned):
    frozen = training.train(page.few[BATCH], digits, seeds=SEEDS, steps=400, lr=1, layers=slice(3, None))
    moving = training.train(page.few[BATCH], digits, seeds=SEEDS, steps=400, lr=1, looks=(400,))
    assert (1 - frozen["accuracy"][-1]).mean() > 2 * (1 - moving["accuracy"][-1]).mean()
    assert np.median(training.steps_to(frozen, 0.9)) < 1.2 * np.median(tuned.at_best(PLAIN, 0.9))


def test_the_gradients_shift_does_not_tell_slow_from_fast(page):
    slow, once, batch = (np.median(page.shift_at(arm, 1), axis=0) for arm in page.arms)
    assert (np.abs(np.log(slow[1:] / once[1:])) < np.log(2)).all()
    assert batch[0] > slow[0]
    assert (np.median(page.shift_at(PLAIN, 3), axis=0)[1:] > batch[1:]).all()
    assert (np.median(page.shift_at(BATCH, 0.5), axis=0) < 0.85 * batch).all()
