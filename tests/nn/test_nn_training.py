"""The torch trainer: what settles a run, what a look leaves alone, and the same numbers as plain loops.

The two nets are those that chapters write in their pages: a ConvNet for digits
with a norm to choose, and a small causal transformer with one to place.
"""

import random
import textwrap
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from course_lib import data, training
from course_lib import nn as ours
from course_lib.nn import training as module
from course_lib.nn.training import batches, cross_entropy, on_test_set, train


def with_shape(flat, *shape):
    return flat._replace(x_train=flat.x_train.reshape(-1, *shape), x_test=flat.x_test.reshape(-1, *shape))


DIGITS = data.digits()
IMAGES = with_shape(DIGITS, 1, 8, 8)
POINTS = data.blobs(train=90, test=60, spread=2.0)


def no_norm(channels):
    return nn.Identity()


def conv_net(make_norm, width=8):
    """Three convolutions for images (N, 1, 8, 8), each normalized before its ReLU; mean over the map; 10 logits."""
    layers, channels = [], 1
    for out, stride in (width, 1), (2 * width, 2), (2 * width, 1):
        layers += [nn.Conv2d(channels, out, 3, stride, padding=1), make_norm(out), nn.ReLU()]
        channels = out
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 10))


class Attention(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads, self.qkv, self.out = heads, nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x):  # (B, T, D)
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in self.qkv(x).chunk(3, dim=-1))
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)  # (B, heads, T, D / heads)
        return self.out(mixed.transpose(1, 2).flatten(2))


class Pre(nn.Module):
    """x + f(N(x))"""

    def __init__(self, branch, norm):
        super().__init__()
        self.branch, self.norm = branch, norm

    def forward(self, x):
        return x + self.branch(self.norm(x))


class Post(Pre):
    """N(x + f(x))"""

    def forward(self, x):
        return self.norm(x + self.branch(x))


class Embedding(nn.Module):
    def __init__(self, letters, tokens, width):
        super().__init__()
        self.letter, self.place = nn.Embedding(letters, width), nn.Parameter(torch.randn(tokens, width))

    def forward(self, text):  # (B, T)
        return self.letter(text) + self.place


def transformer(place, make_norm, *, letters, tokens, width=32, heads=2, depth=2):
    """Text (B, T) to logits (B, T, letters), with `place` Pre or Post; Pre has a last norm."""
    layers = [Embedding(letters, tokens, width)]
    for _ in range(depth):
        wide = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        layers += [place(branch, make_norm(width)) for branch in (Attention(width, heads), wide)]
    return nn.Sequential(*layers, make_norm(width) if place is Pre else nn.Identity(), nn.Linear(width, letters))


def copying(*, length=8, letters=16, train=2000, test=100, seed=0):
    """Random strings written twice; the task is the next letter, asked in the second half only."""
    words = np.random.default_rng(seed).integers(letters, size=(train + test, length))
    text = np.concatenate([words, words], axis=1)
    x, y = text[:, :-1], text[:, 1:].copy()
    y[:, : length - 1] = -100
    return data.Data(x[:train], y[:train], x[train:], y[train:])


def perceptron():
    return nn.Sequential(nn.Linear(2, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))


RUN = dict(seeds=[0, 1], steps=12, lr=0.1, observe=on_test_set(POINTS))


def fit(make_net=perceptron, draw=None, **changes):
    return train(make_net, draw or batches(POINTS, size=10), **{**RUN, **changes})


def weights(net):
    return torch.cat([value.flatten().double() for value in net.state_dict().values()])


class Noted(nn.Module):
    """Hands x on and writes down in which mode, and on how many threads."""

    def __init__(self, notes):
        super().__init__()
        self.notes = notes

    def forward(self, x):
        self.notes.append((self.training, torch.is_grad_enabled(), torch.get_num_threads()))
        return x


def counted(draw, taken):
    def of(seed):
        for batch in draw(seed):
            taken.append(seed)
            yield batch

    return of


# What settles a run


def test_same_seed_gives_the_same_bits():
    first, again = fit(), fit()
    for name in ("loss", "accuracy"):
        assert np.array_equal(first[name], again[name])
    for net, twin in zip(first.model, again.model, strict=True):
        assert torch.equal(weights(net), weights(twin))


def test_a_run_does_not_depend_on_its_company():
    alone, third = fit(seeds=[7]), fit(seeds=[3, 5, 7])
    assert np.array_equal(alone["loss"][:, 0], third["loss"][:, 2])
    assert torch.equal(weights(alone.model[0]), weights(third.model[2]))


def test_another_seed_gives_other_weights_and_other_batches():
    loss = fit()["loss"]
    assert np.all(loss[:, 0] != loss[:, 1])  # the first row: weights

    def blank():
        net = perceptron()
        for parameter in net.parameters():
            nn.init.constant_(parameter, 0.1)
        return net

    loss = fit(blank)["loss"]
    assert loss[0, 0] == loss[0, 1] and np.all(loss[1:, 0] != loss[1:, 1])


def test_first_weights_do_not_depend_on_the_batches():
    small, large = (fit(draw=batches(POINTS, size=size), looks=[0]) for size in (2, 50))
    assert np.array_equal(small["loss"], large["loss"])


def test_batches_are_those_of_the_numpy_trainer():
    both = [batches(IMAGES, size=7)(seed) for seed in (4, 9)]
    for x, labels in training.batches(DIGITS, size=7, seeds=[4, 9], steps=3):
        for e, source in enumerate(both):
            our_x, our_labels = next(source)
            assert np.array_equal(our_x, x[e].reshape(7, 1, 8, 8)) and np.array_equal(our_labels, labels[e])


# What is seen, and when


def test_looks_after_the_steps_asked_for():
    history = fit(looks=[9, 0, 3, 3])
    assert history.step.tolist() == [0, 3, 9]
    assert history["loss"].shape == history["accuracy"].shape == (3, 2)
    for row, steps in ((1, 3), (2, 9)):
        assert np.array_equal(history["loss"][row], fit(steps=steps, looks=[steps])["loss"][0])
    assert len({*history["loss"][:, 0]}) == 3


def test_without_looks_it_looks_as_the_numpy_trainer():
    assert np.array_equal(fit(steps=5).step, training.fine_looks(5))


def test_training_goes_on_after_the_last_look():
    assert torch.equal(weights(fit(looks=[2]).model[0]), weights(fit().model[0]))


def test_trains_in_training_mode_and_looks_in_evaluation_mode_without_gradients():
    notes = []
    fit(lambda: nn.Sequential(Noted(notes), perceptron()), seeds=[0], steps=3, looks=[0, 2, 3])
    step, look = (True, True), (False, False)
    assert [note[:2] for note in notes] == [look, step, step, look, step, look]


def test_layers_set_to_evaluation_stay_there():
    def frozen():
        net = perceptron()
        net[1].eval()
        net[0].requires_grad_(False)
        return net

    net, = fit(frozen, seeds=[0]).model
    assert [layer.training for layer in net] == [True, False, True, True] and net.training
    assert torch.equal(net[1].running_var, torch.ones(8))
    torch.manual_seed(0)
    start = perceptron()
    assert torch.equal(net[0].weight, start[0].weight) and not torch.equal(net[3].weight, start[3].weight)


def test_looking_changes_nothing():
    def net():
        return nn.Sequential(perceptron()[:3], nn.Dropout(0.3), nn.Linear(8, 3))

    def disturbing(net):
        return {"loss": net(torch.randn(5, 2)).sum()}

    often, once = (fit(net, looks=looks, observe=disturbing) for looks in (range(13), [12]))
    for seen, unseen in zip(often.model, once.model, strict=True):
        assert torch.equal(weights(seen), weights(unseen))


def test_what_was_seen_is_a_copy():
    history = fit(observe=lambda net: {"weight": net[0].weight, "first": net[0].weight[0, 0].item()})
    assert history["weight"].shape == (len(history.step), 2, 8, 2)
    assert np.array_equal(history["weight"][:, :, 0, 0], history["first"])
    assert len({*history["first"][:, 0]}) == len(history.step)

    total = np.zeros(())

    def adding(net):
        total[...] += 1
        return {"total": total}

    counts = fit(observe=adding, seeds=[0], looks=[0, 1, 2])["total"]
    assert counts.dtype == np.float64 and counts[:, 0].tolist() == [1, 2, 3]


def test_accuracy_is_the_exact_share_of_the_labels_asked():
    x, labels = np.eye(3, dtype=np.float32)[[0, 1, 2, 0, 1]], np.array([0, 1, 0, -100, 2])
    seen = on_test_set(data.Data(x, labels, x, labels))(nn.Identity())
    assert seen["accuracy"].item() == 0.5
    asked = np.arange(5) != 3
    assert seen["loss"].item() == pytest.approx(training.cross_entropy(x[None, asked], labels[None, asked])[0][0])
    hits = np.where(np.arange(1000) < 900, 0, 1)
    always = np.tile(x[:1], (1000, 1))
    assert on_test_set(data.Data(always, hits, always, hits))(nn.Identity())["accuracy"].item() >= 0.9


def test_cross_entropy_serves_tokens():
    logits = torch.from_numpy(np.random.default_rng(0).standard_normal((2, 5, 7)))
    labels = torch.arange(10).reshape(2, 5) % 7
    assert cross_entropy(logits, labels).item() == pytest.approx(F.cross_entropy(logits.mT, labels).item())


# Runs that end early


def test_a_diverging_run_ends_and_never_arrives():
    taken = []
    history = fit(lambda: nn.Linear(2, 3), counted(batches(POINTS, size=10), taken), steps=500, lr=1e38)
    assert np.isfinite(history["loss"][0]).all() and np.isnan(history["accuracy"][-1]).all()
    assert np.isinf(training.steps_to(history, 1.0)).all()
    assert len(taken) < 100


def test_a_diverging_run_leaves_the_others_alone():
    healthy = fit(seeds=[0, 1, 2])
    sizes = iter([1, np.inf, 1])

    def one_is_broken():
        net, size = perceptron(), next(sizes)
        with torch.no_grad():
            net[3].weight *= size
        return net

    history = fit(one_is_broken, seeds=[0, 1, 2])
    assert np.array_equal(history["loss"][:, [0, 2]], healthy["loss"][:, [0, 2]])
    assert np.isnan(history["accuracy"][1:, 1]).all()


def test_a_run_that_diverges_before_the_first_look_is_recorded():
    history = fit(lambda: nn.Linear(2, 3), loss=lambda logits, labels: logits.sum() * np.nan, looks=[6, 12])
    assert history["accuracy"].shape == (2, 2) and np.isnan(history["accuracy"]).all()


def test_a_run_may_end_when_it_has_arrived():
    taken = []
    whole = fit(steps=60)
    history = fit(draw=counted(batches(POINTS, size=10), taken), steps=60, until=0.8)
    arrived = training.steps_to(history, 0.8)
    assert np.array_equal(arrived, training.steps_to(whole, 0.8)) and arrived.max() < 60
    assert [taken.count(seed) for seed in (0, 1)] == arrived.tolist()
    before = whole.step[:, None] <= arrived
    assert np.array_equal(history["accuracy"][before], whole["accuracy"][before])
    assert np.isnan(history["accuracy"][~before]).all()


# What is left alone


def test_random_state_and_threads_are_afterwards_what_they_were():
    notes, threads = [], torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
        fit(lambda: nn.Sequential(Noted(notes), nn.Dropout(), perceptron()))
        with pytest.raises(ZeroDivisionError):
            fit(observe=lambda net: 1 / 0)
        assert torch.get_num_threads() == 2 and {note[2] for note in notes} == {1}
        assert torch.equal(torch.get_rng_state(), before[0])
        assert np.array_equal(np.random.get_state()[1], before[1]) and random.getstate() == before[2]
    finally:
        torch.set_num_threads(threads)


def test_data_are_not_changed_and_may_be_read_only():
    held = data.Data(*(part.copy() for part in POINTS))
    for part in held:
        part.flags.writeable = False
    history = train(perceptron, batches(held, size=10), **{**RUN, "observe": on_test_set(held)})
    assert np.array_equal(history["loss"], fit()["loss"])


# The same numbers as others


def test_equals_a_loop_by_hand():
    """Adam, a schedule, batch norm: all that the trainer does, in the order of a textbook."""
    torch.manual_seed(3)
    net, rng = conv_net(nn.BatchNorm2d), np.random.default_rng([3, 1])
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.02)
    warm_up = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1, (step + 1) / 4))
    x_train, y_train, x_test, y_test = map(torch.from_numpy, IMAGES)
    losses = []
    for _ in range(6):
        index = rng.integers(1400, size=30)
        loss = F.cross_entropy(net(x_train[index]), y_train[index])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        warm_up.step()
        net.eval()
        losses.append(F.cross_entropy(net(x_test), y_test).item())
        net.train()
    history = train(lambda: conv_net(nn.BatchNorm2d), batches(IMAGES, size=30), observe=on_test_set(IMAGES), seeds=[3],
                    steps=6, lr=0.02, optimizer=torch.optim.AdamW, schedule=lambda step: min(1, (step + 1) / 4),
                    looks=range(1, 7))
    assert history["loss"][:, 0].tolist() == losses


@pytest.mark.parametrize("norm", ["none", "layer"])
def test_equals_the_numpy_trainer(norm):
    model = training.mlp((64, 30, 20, 10), seeds=[5], weight_std=0.2, norm=norm)

    def same_net():
        layers = []
        for number, layer in enumerate(model.layers):
            linear = nn.Linear(*layer["weight"][0].shape, bias="bias" in layer)
            layers.append(linear)
            linear.weight.data = torch.from_numpy(layer["weight"][0].T.copy())
            if "bias" in layer:
                linear.bias.data = torch.from_numpy(layer["bias"][0, 0].copy())
            if number < 2:
                layers += [nn.Identity() if norm == "none" else ours.LayerNorm(linear.out_features), nn.Sigmoid()]
        return nn.Sequential(*layers)

    def their_loss(model, data):
        return {"loss": training.cross_entropy(training.forward(model, data.x_test[None])[0], data.y_test[None])[0]}

    theirs = training.train(model, DIGITS, seeds=[5], steps=40, lr=0.5, batch=20, looks=range(41), observe=their_loss)
    history = train(same_net, batches(DIGITS, size=20), observe=on_test_set(DIGITS), seeds=[5], steps=40, lr=0.5,
                    looks=range(41))
    assert theirs["loss"][0, 0] - theirs["loss"][-1, 0] > 0.3  # it learns
    # The two halves round in another order; 40 steps let a rounding of 1e-7 grow, not more.
    np.testing.assert_allclose(history["loss"], theirs["loss"], rtol=1e-4)


def test_optimizer_and_its_groups_keep_their_own_rates():
    def slow_bias(parameters, lr):
        weight, bias = parameters
        return torch.optim.SGD([{"params": [weight]}, {"params": [bias], "lr": 0.0}], lr=lr)

    net, = fit(lambda: nn.Linear(2, 3), seeds=[0], optimizer=slow_bias, schedule=lambda step: 2.0).model
    torch.manual_seed(0)
    start = nn.Linear(2, 3)
    assert torch.equal(net.bias, start.bias) and not torch.equal(net.weight, start.weight)


def test_a_net_may_take_several_inputs():
    class Sum(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(2, 3)

        def forward(self, x, factor):
            return factor * self.layer(x)

    def with_factor(seed):
        return ((x, torch.full((), 2.0), labels) for x, labels in batches(POINTS, size=10)(seed))

    double = fit(Sum, with_factor, observe=lambda net: {"weight": net.layer.weight})
    single = fit(lambda: nn.Linear(2, 3), loss=lambda logits, labels: cross_entropy(2 * logits, labels),
                 observe=lambda net: {"weight": net.weight})
    np.testing.assert_allclose(double["weight"], single["weight"], rtol=1e-6)


# What chapters do with it


def test_the_example_runs():
    lines = [line for line in module.__doc__.splitlines() if line.startswith("    ")]
    example = textwrap.dedent("\n".join(lines)).replace("range(5), steps=300", "[0], steps=2")
    names = dict(vars(module), nn=nn, data=DIGITS, conv_net=conv_net)
    exec(example, names)
    assert names["history"]["accuracy"].shape == (2, 1)


def test_sweep_tells_a_conv_net_with_batch_norm_from_one_without():
    def run(arm, lr):
        return train(lambda: conv_net(arms[arm]), batches(IMAGES, size=60), observe=on_test_set(IMAGES), seeds=range(2),
                     steps=110, lr=lr, looks=range(0, 111, 5), until=0.9)

    arms = {"none": no_norm, "batch": ours.BatchNorm2d}
    sweep = training.sweep(run, arms, [1.0])
    assert np.isfinite(sweep.steps("batch", 0.9)).all()
    assert np.isinf(sweep.steps("none", 0.9)).all()
    assert "*" in sweep.table(0.9)


@pytest.mark.parametrize("make_norm", [ours.LayerNorm, ours.RMSNorm])
@pytest.mark.parametrize("place", [Pre, Post])
def test_a_transformer_learns_to_copy(place, make_norm):
    text = copying()
    history = train(lambda: transformer(place, make_norm, letters=16, tokens=15), batches(text, size=32), seeds=[0],
                    observe=on_test_set(text), steps=80, lr=0.01, optimizer=partial(torch.optim.AdamW, fused=True),
                    schedule=lambda step: min(1, (step + 1) / 20), looks=range(0, 81, 10), until=0.95)
    assert history["accuracy"][0, 0] < 0.2  # one of 16 letters by chance
    assert np.isfinite(training.steps_to(history, 0.95)).all()


# Bad input


@pytest.mark.parametrize("changes, message", [
    ({"seeds": []}, "got 0 seeds"),
    ({"steps": 0}, "got steps = 0"),
    ({"steps": -3}, "got steps = -3"),
    ({"looks": [0, 13]}, r"between 0 and steps = 12, got \[0, 13\]"),
    ({"looks": [-1, 5]}, r"between 0 and steps = 12, got \[-1, 5\]"),
    ({"looks": []}, r"got \[\]"),
    ({"draw": lambda seed: [(torch.zeros(4, 2), torch.tensor([0, 1, 2, 0]))] * 5}, "gave 5 batches for 12 steps"),
])
def test_runs_that_cannot_be_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        fit(**changes)


@pytest.mark.parametrize("size", [0, -2])
def test_batches_of_no_samples_are_refused(size):
    with pytest.raises(ValueError, match=f"size = {size}"):
        batches(POINTS, size=size)
