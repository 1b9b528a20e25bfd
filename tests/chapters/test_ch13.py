"""Chapter 13, which norm, when, and none at all: each equation and each claim about numbers, by another way."""

import runpy
from functools import partial

import numpy as np
import pytest
import torch
from chapter import ROOT
from scipy import stats

from course_lib import batch_norm, filter_response_norm, group_norm, instance_norm, layer_norm, nn, rms_norm
from course_lib.chapters.ch13 import figures, guide, race, results

NAMES = list(race.ARMS)
TASKS = list(race.TASKS)


def activations(seed=0, shape=(8, 16, 5)):
    rng = np.random.default_rng(seed)
    return rng.normal(0, 1, shape) * rng.uniform(0.3, 3, (1, shape[1], 1)) + rng.uniform(-2, 2, (1, shape[1], 1))


# The arms


def test_scale_and_shift():
    """Equation (13.1): gamma and beta per channel, entry by entry, behind whatever the layer does."""
    x, rng = torch.tensor(activations()), np.random.default_rng(1)
    p = {name: torch.tensor(rng.standard_normal((3, 16))) for name in ("gamma", "beta", "extra")}
    y = race.affine(p, 1, race.ARMS["RMS norm"], x)
    x_hat = race.rms_norm(x, None)
    for n, c, s in np.ndindex(*x.shape):
        assert np.isclose(y[n, c, s], p["gamma"][1, c] * x_hat[n, c, s] + p["beta"][1, c])


def test_layers_are_those_of_the_other_chapters():
    """Equation (13.2): each choice of axes against the package's layer of that name."""
    x = activations()
    one, zero = np.ones(16), np.zeros(16)
    tokens = x.swapaxes(1, 2)
    theirs = {
        "none": x,
        "batch norm": batch_norm(x, one, zero)[0],
        "layer norm": layer_norm(tokens, one, zero)[0].swapaxes(1, 2),
        "RMS norm": rms_norm(tokens, one)[0].swapaxes(1, 2),
        "instance norm": instance_norm(x, one, zero)[0],
        "group norm": group_norm(x, one, zero, groups=4)[0],
        "FRN": filter_response_norm(x, one, zero, eps=race.EPS)[0],
    }
    for name, right in theirs.items():
        layer = partial(race.batch_norm, size=8) if name == "batch norm" else race.ARMS[name].layer
        assert np.allclose(layer(torch.tensor(x), None), right, atol=1e-10), name


def test_weights_that_are_normed():
    """Equation (13.3): against torch's weight_norm, and against batch norm of the filters, as timm has it."""
    rng = np.random.default_rng(2)
    v, gain = torch.tensor(rng.standard_normal((4, 3, 3, 3)) + 0.5), torch.tensor(rng.uniform(1, 2, 4))
    theirs = torch._weight_norm(v, gain.view(4, 1, 1, 1), 0)
    assert torch.allclose(race.weight_norm(v, gain), theirs)
    standard = nn.functional.batch_norm(v.reshape(1, 4, -1), gain, torch.zeros_like(gain), eps=0.0)
    assert torch.allclose(race.weight_standardization(v, gain), standard.view(v.shape) / 27**0.5)
    assert torch.allclose(race.weight_norm(3 * v, gain), race.weight_norm(v, gain))


@pytest.mark.parametrize("name", ["none", "SkipInit", "layer norm"])
def test_branches(name):
    """Equation (13.4): the stream of SkipInit does not change before training; elsewhere the branch is added whole."""
    arm, x = race.ARMS[name], race.image_examples("valid")[0][:20]
    p, learned = race.start("images", arm, [3], 4)
    p = {key: value[0] for key, value in p.items()}
    stream = race.image_stream(p, x, arm)
    assert (name == "SkipInit") == ("scale" in learned)
    for block, (before, after) in enumerate(zip(stream, stream[1:])):
        branch = before
        for site in (2 * block, 2 * block + 1):
            branch = torch.nn.functional.conv2d(
                race.activated(p, site, arm, branch), p["conv"][site], padding=1)
        assert branch.abs().mean() > 0.1
        assert torch.allclose(after - before, 0 * branch if name == "SkipInit" else branch, atol=1e-4)


def test_dynamic_tanh():
    """Equation (13.5): entry by entry, and one half at the start."""
    x, alpha = activations(3), np.linspace(0.2, 2, 16)
    y = race.dyt(torch.tensor(x), torch.tensor(alpha)).numpy()
    for c in range(16):
        assert np.allclose(y[:, c], np.tanh(alpha[c] * x[:, c]))
    p, learned = race.start("sequences", race.ARMS["DyT"], [0], 2)
    assert torch.all(p["extra"] == 0.5) and "extra" in learned


@pytest.mark.parametrize("task", TASKS)
def test_arms_differ_in_nothing_else(task):
    """One seed is one start and one order of the data, for every arm."""
    starts = {name: race.start(task, arm, [5], 2)[0] for name, arm in race.ARMS.items()}
    for name, p in starts.items():
        for key, value in p.items():
            if key not in ("scale", "extra"):
                assert torch.equal(value, starts["none"][key]), (name, key)
    first, second = (race.TASKS[task].batch(np.random.default_rng([5, 1]), 32) for _ in range(2))
    assert torch.equal(first[0], second[0]) and torch.equal(first[1], second[1])


def test_stored_statistics():
    """In a test, the samples behind the first ones get the mean of their batches' means and variances."""
    x = torch.tensor(activations(4, (12, 16, 5)))
    y = race.batch_norm(x, None, size=4, stored=8)
    batches = [x[:4], x[4:8]]
    for part, got in zip(batches, (y[:4], y[4:8])):
        assert torch.allclose(got, race.standardize(part, 0, 2))
    mu = sum(part.mean((0, 2)) for part in batches) / 2
    var = sum(part.var((0, 2), correction=0) for part in batches) / 2
    assert torch.allclose(y[8:], (x[8:] - mu[:, None]) / (var[:, None] + race.EPS).sqrt())


def test_the_halves_of_batch_norm():
    x = torch.tensor(activations(4, (12, 16, 5)))
    mean, scale = race.batch_mean(x, None, size=4, stored=8), race.batch_scale(x, None, size=4, stored=8)
    batches = [x[:4], x[4:8]]
    for part, k in zip(batches, (slice(0, 4), slice(4, 8))):
        assert torch.allclose(mean[k], part - part.mean((0, 2), keepdim=True))
        assert torch.allclose(scale[k], race.rescale(part, 0, 2))
        assert torch.allclose(race.batch_scale(race.batch_mean(part, None, 4), None, 4), race.standardize(part, 0, 2))
    assert torch.allclose(mean[8:], x[8:] - sum(part.mean((0, 2), keepdim=True) for part in batches)[0] / 2)
    nu2 = sum(part.square().mean((0, 2)) for part in batches) / 2
    assert torch.allclose(scale[8:], x[8:] / (nu2[:, None] + race.EPS).sqrt())


def test_only_batch_norm_sees_the_batch():
    x = torch.tensor(activations(5))
    for name, arm in race.ARMS.items():
        extra = torch.ones(16, dtype=torch.float64)
        alone, together = arm.layer(x[:1], extra) if name != "batch norm" else None, None
        if name == "batch norm":
            alone = race.batch_norm(x[:1], extra, size=1)
            together = race.batch_norm(x, extra, size=8)[:1]
        else:
            together = arm.layer(x, extra)[:1]
        assert torch.allclose(alone, together) == (name != "batch norm")


# Nets and training


def plain_image_net(p, x):
    """The image net with layer norm, written out."""
    def normed(x, site):
        mu, var = x.mean(1, keepdim=True), x.var(1, keepdim=True, correction=0)
        y = p["gamma"][site].view(-1, 1, 1) * (x - mu) / (var + 1e-5).sqrt() + p["beta"][site].view(-1, 1, 1)
        return y.clamp(min=0)

    x = torch.nn.functional.conv2d(x, p["stem"], stride=2, padding=1)
    assert x.shape[2:] == (5, 5)
    for block in range(4):
        h = torch.nn.functional.conv2d(normed(x, 2 * block), p["conv"][2 * block], padding=1)
        x = x + torch.nn.functional.conv2d(normed(h, 2 * block + 1), p["conv"][2 * block + 1], padding=1)
    return normed(x, 8).sum((2, 3)) / 25 @ p["head"] + p["bias"]


def plain_sequence_net(p, tokens):
    """The sequence net with layer norm, by torch's own attention."""
    def normed(x, site):
        return torch.nn.functional.layer_norm(x, x.shape[-1:], p["gamma"][site], p["beta"][site], 1e-5)

    x = p["token"][tokens] + p["place"]
    for block in range(2):
        q, k, v = (h.unflatten(2, (4, 8)).transpose(1, 2) for h in
                   (normed(x, 2 * block) @ p["qkv"][block].T).chunk(3, dim=2))
        mixed = torch.nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        x = x + mixed @ p["out"][block].T
        x = x + (normed(x, 2 * block + 1) @ p["up"][block].T).clamp(min=0) @ p["down"][block].T
    return normed(x, 4) @ p["head"] + p["bias"]


@pytest.mark.parametrize(("task", "plain"), [("images", plain_image_net), ("sequences", plain_sequence_net)])
def test_nets_against_plain_nets(task, plain):
    p, _ = race.start(task, race.ARMS["layer norm"], [2], race.TASKS[task].blocks)
    p = {name: value[0] for name, value in p.items()}
    rng = np.random.default_rng(6)
    for name in ("gamma", "beta"):
        p[name] = p[name] + torch.tensor(0.3 * rng.standard_normal(p[name].shape), dtype=torch.float32)
    x = race.TASKS[task].examples("valid")[0][:40]
    assert torch.allclose(race.TASKS[task].net(p, x, race.ARMS["layer norm"]), plain(p, x), atol=1e-4)


@pytest.mark.parametrize("task", TASKS)
def test_nets_do_not_see_each_other(task):
    """A net trained in company is the net trained alone, also beside one that is lost."""
    arm = race.ARMS["none"]
    both = race.train(task, arm, [0.01, 1e6], [3, 7], steps=5)
    alone = race.train(task, arm, [0.01], [3], steps=5)
    for name in ("head", "gamma"):
        assert torch.allclose(both[name][0], alone[name][0], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(("task", "optimizer"), [
    ("images", lambda p, rate: torch.optim.SGD(p, rate, momentum=0.9)),
    ("sequences", lambda p, rate: torch.optim.Adam(p, rate, betas=(0.9, 0.98)))])
def test_steps_are_those_of_torchs_optimizers(task, optimizer):
    of, arm, steps, rate = race.TASKS[task], race.ARMS["layer norm"], 4, 0.02
    ours = race.train(task, arm, [rate], [1], steps=steps)
    p, names = race.start(task, arm, [1], of.blocks)
    p = {name: value[0].requires_grad_(name in names) for name, value in p.items()}
    theirs = optimizer([p[name] for name in names], rate)
    draw = np.random.default_rng([1, 1])
    for step in range(steps):
        x, y = of.batch(draw, 32)
        theirs.param_groups[0]["lr"] = rate * 0.5 * (1 + np.cos(np.pi * step / steps))  # four steps have no warm-up
        theirs.zero_grad()
        torch.nn.functional.cross_entropy(of.net(p, x, arm).flatten(0, -2), y.flatten()).backward()
        theirs.step()
    for name in names:
        assert torch.allclose(ours[name][0], p[name], rtol=1e-3, atol=2e-5), name


def test_places_and_splits():
    x, _ = race.images()
    placed = race.put(x[:2], torch.tensor([0, 2]), torch.tensor([1, 2]))
    assert torch.equal(placed[0, :, :8, 1:9], x[0]) and torch.equal(placed[1, :, 2:, 2:], x[1])
    assert torch.equal(placed.sum((1, 2, 3)), torch.stack([placed[k].sum() for k in range(2)]))
    valid, test = (race.image_examples(which)[0] for which in ("valid", "test"))
    assert len(valid) == 2700 and len(test) == 5400
    train = {each.numpy().tobytes() for each in x[:897]}
    assert not train & {each[:, 1:9, 1:9].numpy().tobytes() for each in torch.cat([valid, test])}
    sequences, in_order = race.sequence_examples("test")
    assert sequences.shape == (1000, 12) and torch.equal(sequences.sort(1).values, in_order)


def test_a_net_without_the_norm_before_its_head():
    p, _ = race.start("sequences", race.ARMS["layer norm"], [2], 2)
    p = {name: value[0] for name, value in p.items()}
    p["gamma"] = p["gamma"] * torch.tensor([1.0, 1, 1, 1, 0])[:, None]  # the last one lets only beta through
    x = race.sequence_examples("valid")[0][:5]
    for last in (True, False):
        logits = race.sequence_net(p, x, race.ARMS["layer norm"]._replace(last=last))
        assert torch.allclose(logits, p["bias"].expand_as(logits))
    large = torch.tensor(1000 * activations())
    p = {name: torch.ones(5, 16) for name in ("gamma", "beta", "extra")}
    for site, last, kept in [(0, False, False), (-1, False, True), (-1, True, False)]:
        y = race.affine(p, site, race.ARMS["layer norm"]._replace(last=last), large)
        assert (y.abs().max() > 100) == kept


# The statistics


def test_t_of_pairs():
    """Equation (13.6): scipy's test of pairs, on logarithms."""
    a, b = (results.values("sequences", name) for name in ("layer norm", "none"))
    d = np.log(a / b)
    assert np.isclose(d.mean() / (d.std(ddof=1) / len(d) ** 0.5), stats.ttest_rel(np.log(a), np.log(b)).statistic)
    assert abs(stats.t.ppf(0.975, 9) - 2.262) < 1e-3


def test_chance_of_one_finding_among_many():
    """Equation (13.7): for independent tests, by counting; for arms that share their control it is less."""
    p = np.random.default_rng(7).random((40_000, 10))
    assert abs((p < 0.05).any(axis=1).mean() - (1 - 0.95**10)) < 0.01
    noise = np.random.default_rng(8).standard_normal((20_000, 11, 10))
    d = noise[:, 1:] - noise[:, :1]
    t = np.abs(d.mean(2) / (d.std(2, ddof=1) / 10**0.5)).max(1)
    assert 0.27 < (t > stats.t.ppf(0.975, 9)).mean() < 0.35
    assert 3.4 < np.quantile(t, 0.95) < 3.75


def test_centred_filters_do_not_see_a_common_constant():
    """Equation (13.8): the filters of weight standardization, on inputs that are shifted together."""
    rng = np.random.default_rng(10)
    v, z = torch.tensor(rng.standard_normal((6, 4, 3, 3)) + 0.7), torch.tensor(rng.standard_normal((5, 4, 3, 3)))
    gain = torch.tensor(rng.uniform(1, 2, 6))
    for norm, blind in [(race.weight_standardization, True), (race.weight_norm, False)]:
        w = norm(v, gain)
        outputs = [torch.einsum("ocij,ncij->no", w, each) for each in (z, z + 3.5)]
        assert torch.allclose(*outputs) == blind


@pytest.mark.parametrize("width", [256])
def test_growth_of_the_stream(width):
    """Equation (13.9): He's weights double the mean square in each block without borders; a normed branch adds one."""
    rng = np.random.default_rng(9)
    plain = normed = rng.standard_normal((200, width))

    def branch(x, weights):
        for w in weights:
            x = np.maximum(x, 0) @ w
        return x

    for block in range(1, 7):
        weights = [rng.standard_normal((width, width)) * (2 / width) ** 0.5 for _ in range(2)]
        plain = plain + branch(plain, weights)
        normed = normed + branch(normed / np.sqrt((normed**2).mean(1, keepdims=True)), weights)
        assert np.isclose((plain**2).mean(), 2**block, rtol=0.3)
        assert np.isclose((normed**2).mean(), 1 + block, rtol=0.3)


# The table


@pytest.mark.parametrize("task", TASKS)
def test_table_has_eleven_arms_and_ten_seeds_each(task):
    assert len(NAMES) == 11
    for name in NAMES:
        values = results.values(task, name)
        assert values.shape == (10,) and np.all((values > 0) & (values < 100))
        rates, errors = results.tuning(task, name)
        assert errors.shape == (len(rates), 3) and len(rates) >= 4
        assert np.allclose(rates[1:] / rates[:-1], 2)
        assert rates[0] < results.best_rate(task, name) == rates[errors.mean(1).argmin()] < rates[-1]
        assert results.values(task, name, "rate x 4").shape == (5,)


@pytest.mark.parametrize(("task", "setting", "name"), [
    ("images", "base", "batch mean only"), ("images", "base", "batch scale only"),
    ("images", "over 2 of 32", "batch norm"), ("images", "over 1 of 32", "batch norm"),
    ("sequences", "not before the head", "layer norm"), ("sequences", "not before the head", "RMS norm"),
    ("images", "1500 steps", "none"), ("images", "1500 steps", "batch norm"),
    *(("sequences", f"{steps} steps", name) for steps in (100, 900) for name in ("none", "layer norm", "batch norm")),
    ("images", "16 blocks", "weight standardization"),
    *(("images", "16 blocks", name) for name in ("none", "batch norm", "SkipInit", "layer norm", "DyT"))])
def test_other_settings_are_tuned_too(task, setting, name):
    rates, errors = results.tuning(task, name, setting)
    assert errors.shape == (len(rates), 3)
    assert rates[0] < results.best_rate(task, name, setting) == rates[errors.mean(1).argmin()] < rates[-1]
    assert len(results.values(task, name, setting=setting)) >= 5


def test_rates_are_chosen_by_other_seeds_and_other_data_than_reported(monkeypatch):
    seeds = {kind: {int(row["seed"]) for row in results.rows() if row["kind"] == kind}
             for kind in ("tune", "report", "rate x 4")}
    assert seeds["tune"] == {100, 101, 102}
    assert not seeds["tune"] & (seeds["report"] | seeds["rate x 4"])
    script = runpy.run_path(str(ROOT / "benchmarks/which_norm.py"))
    asked, scope = [], script["run"].__globals__
    monkeypatch.setitem(scope, "rows", list)
    monkeypatch.setitem(scope, "append", lambda new: list(new))

    def trials(task, arm, pairs, which, **setting):
        asked.append((which, {seed for _, seed in pairs}))
        return [abs(np.log(rate / 0.02)) for rate, _ in pairs]

    monkeypatch.setitem(scope, "trials", trials)
    script["run"]("sequences", "base", "none", {})
    *tuning, report = asked
    assert tuning and all(each == ("valid", {100, 101, 102}) for each in tuning)
    assert report == ("test", set(range(10)))


def test_table_says_when_and_where():
    for line in results.machines():
        assert all(word in line for word in ("2026", "thread", "torch", "NumPy"))
    for task in TASKS:
        assert set(results.step_times(task)) == set(NAMES)


def test_missing_rows_are_named():
    with pytest.raises(ValueError, match="has no rows of images, base, no such arm"):
        results.values("images", "no such arm")


# The guide


def test_guide_says_on_what_evidence():
    for _, _, evidence in guide.ROWS:
        assert evidence.startswith(tuple(figures.EVIDENCE))


def test_page_and_card_hold_the_guide():
    page = (ROOT / "notebooks" / "13_which_norm.md").read_text(encoding="utf8").replace("*", "")
    for case, advice, evidence in guide.ROWS:
        assert f"| {case} | {advice} | {evidence} |" in page, case
    card = (ROOT / "book/_static/which_norm_card.pdf").read_bytes()
    assert guide.digest().encode() in card, "run: python benchmarks/which_norm.py card"
