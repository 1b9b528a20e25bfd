"""What chapter 8 trains: small nets in torch, several seeds at once, and what it measures on them."""

from functools import cache

import numpy as np
import torch
from scipy import ndimage
from torch.nn import functional as F

from ... import data

STYLES = ("negative", "outline", "bold", "soft", "shadow")
CHANNELS, EPS = 16, 1e-5
WIDTH, HIDDEN, CONDITION, BLOCKS = 64, 96, 32, 3  # of the diffusion net


def generators(seeds, salt=0):
    """A torch generator for each seed."""
    return [torch.Generator().manual_seed(10_000 * salt + seed) for seed in seeds]


def normal(draws, *shape, std):
    """Normal numbers, (E, *shape), float32, one run for each generator."""
    return torch.stack([torch.randn(*shape, generator=g) for g in draws]) * std


def adam(parameters, loss_of, *, rate, steps, warm=1):
    """Adam with a rate that rises over `warm` steps and falls to 0 (half a cosine).

    Args:
        parameters: tensors; those that the loss does not use stay as they are.
        loss_of: function step -> the loss, summed over the runs.
    """
    for parameter in parameters:
        parameter.requires_grad_()
    optimizer = torch.optim.Adam(parameters, lr=rate, betas=(0.9, 0.99), fused=True)
    for step in range(steps):
        gradients = torch.autograd.grad(loss_of(step), parameters, allow_unused=True)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient
        optimizer.param_groups[0]["lr"] = rate * min(1, (step + 1) / warm) * 0.5 * (1 + np.cos(np.pi * step / steps))
        optimizer.step()
    for parameter in parameters:
        parameter.requires_grad_(False)
        parameter.grad = None


def tuned(run, rates, *, seeds=range(5), tried=(100, 101)):
    """The rate with the least median over the seeds `tried`, and what `run` gives for other seeds at that rate.

    Args:
        run: function (rate, seeds) -> (values (E,), small is good, and anything else).
        rates: the grid.
    Returns:
        the rate; the medians of the seeds `tried` at all rates; values (E,) and the rest for `seeds` at the best.
    """
    medians = [float(np.median(run(rate, tried)[0])) for rate in rates]
    best = rates[int(np.argmin(medians))]
    return best, medians, *run(best, seeds)


def middle(values, digits=2):
    """Median and range of (E,) numbers, as text."""
    return f"{np.median(values):.{digits}f} ({np.min(values):.{digits}f} to {np.max(values):.{digits}f})"


def own_map(x):
    """Instance norm of (N, C, H, W), without gamma and beta."""
    var, mu = torch.var_mean(x, (2, 3), correction=0, keepdim=True)
    return (x - mu) * torch.rsqrt(var + EPS)


# Styles


def drawn(x, style):
    """Images (N, 28, 28), dark 1 on light 0, in one of the styles, by image processing."""
    if style == "negative":
        return 1 - x
    if style == "outline":
        return ndimage.maximum_filter(x, (1, 3, 3)) - ndimage.minimum_filter(x, (1, 3, 3))
    if style == "bold":
        return ndimage.maximum_filter(x, (1, 5, 5))
    if style == "soft":
        return ndimage.gaussian_filter(x, (0, 2, 2))
    return np.maximum(x, 0.5 * ndimage.shift(x, (0, 3, 3), order=0))


@cache
def pictures(train=500, test=500):
    """Printed digits, (N, 1, 28, 28), and the same in the five styles, (5, N, 1, 28, 28), to train and to test; labels.

    Returns:
        x_train, styled_train, y_train, x_test, styled_test, y_test: tensors.
    """
    glyphs, found = data.glyphs(train=train, test=test, standardized=False), []
    for x, y in ((glyphs.x_train, glyphs.y_train), (glyphs.x_test, glyphs.y_test)):
        x = np.clip(1.3 * ndimage.gaussian_filter(x.reshape(-1, 28, 28), (0, 0.7, 0.7)) - 0.1, 0, 1)
        styled = np.stack([drawn(x, style) for style in STYLES])
        found += [torch.tensor(a, dtype=torch.float32)[..., None, :, :] for a in (x, styled)] + [torch.tensor(y)]
    return tuple(found)


def same(x, weight):
    """Convolution that keeps the size; the border is repeated, so that no foreign 0 comes in."""
    k = weight.shape[-1] // 2
    return F.conv2d(F.pad(x, (k,) * 4, mode="replicate"), weight)


def paint(weights, x, gamma, beta):
    """Images from images; gamma and beta, (2, N, C), are all that says which style."""
    for k in range(2):
        x = own_map(same(x, weights[k]))
        x = F.relu(gamma[k, :, :, None, None] * x + beta[k, :, :, None, None])
    return same(x, weights[2]) + weights[3]


def filters(seed, outputs, inputs, size, gain=2.0):
    """Weights of one convolution, (outputs, inputs, size, size), with the variance gain / fan_in."""
    g = torch.Generator().manual_seed(seed)
    return torch.randn(outputs, inputs, size, size, generator=g) * (gain / (inputs * size**2)) ** 0.5


def train_pictures(net, parameters, *, steps, rate, batch=10):
    """Train net(content, style number, an image in that style of another digit) -> that content in that style."""
    x, styled, *_ = pictures()
    g = torch.Generator().manual_seed(1)

    def loss_of(step):
        i, j = torch.randint(len(x), (2, batch), generator=g)
        k = torch.randint(len(STYLES), (batch,), generator=g)
        return ((net(x[i], k, styled[k, j]) - styled[k, i]) ** 2).mean()

    adam(parameters, loss_of, rate=rate, steps=steps)


@torch.no_grad()
def unexplained(output, wanted):
    """Squared error as a share of the variance of what is wanted, for each style; both (5, N, 1, H, W)."""
    variance = wanted.var((1, 2, 3, 4), correction=0)
    return (((output - wanted) ** 2).mean((1, 2, 3, 4)) / variance).numpy()


def probe(x_train, labels, x_test, labels_test, ridge=3e-3):
    """Share of labels that a linear map of features (N, D) gets right, fitted by least squares with a small penalty."""
    mu, std = x_train.mean(0), x_train.std(0) + 1e-6
    a, b = (F.pad((x - mu) / std, (0, 1), value=1.0) for x in (x_train, x_test))
    weight = torch.linalg.solve(a.T @ a + ridge * len(a) * torch.eye(a.shape[1]), a.T @ F.one_hot(labels).float())
    return ((b @ weight).argmax(1) == labels_test).float().mean().item()


# Two convolutions on 8 x 8 digits, E nets at once: their channels are stacked, and `groups` keeps them apart


@cache
def digits():
    """Digits from 0 to 1 (N, 1, 8, 8), and labels, to train and to test: x_train, y_train, x_test, y_test."""
    x_train, y_train, x_test, y_test = (torch.tensor(a) for a in data.digits(standardized=False))
    return x_train.reshape(-1, 1, 8, 8), y_train, x_test.reshape(-1, 1, 8, 8), y_test


def conv_weights(seeds, outputs, fan_in):
    """Weights, gammas and betas of two convolutions, then a head (E, fan_in, outputs) and its bias."""
    draws, inputs, found = generators(seeds), 1, []
    for _ in range(2):
        weight = normal(draws, CHANNELS, inputs, 3, 3, std=(2 / (9 * inputs)) ** 0.5)
        found += [weight.flatten(0, 1), torch.ones(len(seeds) * CHANNELS), torch.zeros(len(seeds) * CHANNELS)]
        inputs = CHANNELS
    return [*found, normal(draws, fan_in, outputs, std=fan_in**-0.5), torch.zeros(len(seeds), 1, outputs)]


def body(p, x, norms, *, strides=(1, 2), padding="reflect"):
    """Two convolutions 3 x 3, each with norm, gamma, beta and ReLU: from (N, E, H, W) to (N, E * 16, ...)."""
    runs = p[-1].shape[0]
    for k, (norm, stride) in enumerate(zip(norms, strides, strict=True)):
        weight, gamma, beta = p[3 * k : 3 * k + 3]
        z = F.conv2d(F.pad(x, (1,) * 4, mode=padding), weight, stride=stride, groups=runs)
        x = F.relu(gamma[:, None, None] * norm(z) + beta[:, None, None])
    return x


def classify(p, x, norms, padding="reflect"):
    """Logits, (E, N, classes), of images (N, 1, 8, 8) that all nets share."""
    runs = p[-1].shape[0]
    z = body(p, x.expand(-1, runs, -1, -1), norms, padding=padding)
    return torch.baddbmm(p[7], z.reshape(len(x), runs, -1).transpose(0, 1), p[6])


def train_classifiers(norm, rate, seeds, *, task=None, padding="reflect", steps=80, batch=32):
    """Nets for the digits, or for another task: a function (x, y, generator) -> x, labels."""
    x_train, y_train, *_ = digits()
    p, g = conv_weights(seeds, 10, 16 * CHANNELS), torch.Generator().manual_seed(11)

    def loss_of(step):
        i = torch.randint(len(x_train), (batch,), generator=g)
        x, y = x_train[i], y_train[i]
        x, y = (x, y) if task is None else task(x, y, g)
        logits = classify(p, x, [norm] * 2, padding)
        return F.cross_entropy(logits.flatten(0, 1), y.repeat(len(seeds)), reduction="sum") / batch

    adam(p, loss_of, rate=rate, steps=steps)
    return p


@torch.no_grad()
def stored(forward):
    """Batch norm for evaluation: for each layer a function with fixed statistics, those of one pass.

    forward: function (norms) that runs a net with these two norms on all images.
    """
    kept = []

    def watch(z):
        var, mu = torch.var_mean(z, (0, 2, 3), correction=0, keepdim=True)
        kept.append(lambda z: (z - mu) * torch.rsqrt(var + EPS))
        return kept[-1](z)

    forward([watch] * 2)
    return kept


@torch.no_grad()
def accuracy(p, x, y, norms, padding="reflect"):
    """Share of right answers in percent, (E,)."""
    return 100 * (classify(p, x, norms, padding).argmax(-1) == y).float().mean(1).numpy()


# Enlarging: from 4 x 4 to 8 x 8


def enlarge(p, low, norms, *, skip):
    """Images (N, E, 8, 8) from (N, E, 4, 4): the body on the repeated pixels, then one 1 x 1 convolution."""
    up = low.repeat_interleave(2, 2).repeat_interleave(2, 3)
    z = body(p, up, norms, strides=(1, 1)).unflatten(1, (up.shape[1], CHANNELS))
    y = torch.einsum("neckl,ec->nekl", z, p[6][..., 0]) + p[7].reshape(1, -1, 1, 1)
    return y + up if skip else y


def train_enlargers(norm, rate, seeds, vary, *, skip, steps=80, batch=12):
    """Nets that learn to enlarge images whose contrast and brightness `vary` has changed."""
    x_train, runs = digits()[0], len(seeds)
    p, g = conv_weights(seeds, 1, CHANNELS), torch.Generator().manual_seed(12)
    p[6] *= 0.3

    def loss_of(step):
        i = torch.randint(len(x_train), (batch * runs,), generator=g)
        x = vary(x_train[i], g).reshape(batch, runs, 8, 8)
        return ((enlarge(p, F.avg_pool2d(x, 2), [norm] * 2, skip=skip) - x) ** 2).mean((0, 2, 3)).sum()

    adam(p, loss_of, rate=rate, steps=steps)
    return p


@torch.no_grad()
def enlarging_error(p, vary, norms, *, skip):
    """Mean squared error on the test images, in thousandths, (E,)."""
    x = vary(digits()[2], torch.Generator().manual_seed(5)).expand(-1, p[-1].shape[0], -1, -1)
    return 1000 * ((enlarge(p, F.avg_pool2d(x, 2), norms, skip=skip) - x) ** 2).mean((0, 2, 3)).numpy()


# Two digits, and a question about them

QUESTIONS = {"left": lambda a, b: a, "right": lambda a, b: b, "larger": torch.maximum,
             "sum, last digit": lambda a, b: (a + b) % 10, "smaller": torch.minimum}


def pairs(names, count, g, *, test=False):
    """Two digits side by side (count, 128), the number of a question in `names`, and the right answer."""
    x, y = (torch.tensor(a) for a in standardized()[2 * test : 2 * test + 2])
    i, j = torch.randint(len(x), (2, count), generator=g)
    asked = torch.randint(len(names), (count,), generator=g)
    answers = torch.stack([QUESTIONS[name](y[i], y[j]) for name in names])
    return torch.cat([x[i], x[j]], 1), asked, answers.gather(0, asked[None])[0]


@cache
def standardized():
    return data.digits()


def film_weights(seeds, questions, extra=0, width=128):
    """Three layers, with gamma and beta (E, questions, width) each, and a head; dict of tensors."""
    draws = generators(seeds, 2)
    p = {f"W{k}": normal(draws, 128 + extra, width, std=(2 / (128 + extra)) ** 0.5) for k in range(3)}
    for k in range(3):
        p[f"gamma{k}"] = torch.ones(len(seeds), questions, width)
        p[f"beta{k}"] = torch.zeros(len(seeds), questions, width)
    return p | {"head": normal(draws, width, 10, std=width**-0.5), "bias": torch.zeros(len(seeds), 1, 10)}


def train_film(net, p, learn, names, *, rate, steps, batch=64, seed=0):
    """Train those parameters of p whose names are in `learn`, on the questions `names`; net(p, x, asked) -> logits."""
    g, runs = torch.Generator().manual_seed(seed), len(p["head"])

    def loss_of(step):
        x, asked, answer = pairs(names, batch, g)
        return F.cross_entropy(net(p, x, asked).flatten(0, 1), answer.repeat(runs), reduction="sum") / batch

    adam([p[name] for name in learn], loss_of, rate=rate, steps=steps)


@torch.no_grad()
def film_errors(net, p, names, *, count=2000):
    """Wrong answers in percent, (E,), and for each question, (E, questions), on test digits."""
    x, asked, answer = pairs(names, count, torch.Generator().manual_seed(9), test=True)
    wrong = 100 * (net(p, x, asked).argmax(-1) != answer).float()
    return wrong.mean(1).numpy(), torch.stack([wrong[:, asked == k].mean(1) for k in range(len(names))], 1).numpy()


# Diffusion (flow matching) on 8 x 8 digits


@cache
def clean():
    """Digits as the diffusion sees them, (N, 64) with values from -1.5 to 1.5: x_train, y_train, x_test, y_test."""
    x_train, y_train, x_test, y_test = digits()
    return 3 * x_train.flatten(1) - 1.5, y_train, 3 * x_test.flatten(1) - 1.5, y_test


def flow_weights(seeds, *, reads, last, blocks=BLOCKS):
    """All that the diffusion nets learn, as a dict: what a way to condition does not use stays as it is.

    The matrices of the output, the modulations and the gates start at 0.

    Args:
        reads: how many numbers the branch of a block reads: WIDTH, or WIDTH + CONDITION.
        last: 1, or 0 to start the last matrix of each branch at 0.
    """
    draws, runs = generators(seeds, 3), len(seeds)
    p = {"embed": normal(draws, 26, CONDITION, std=26**-0.5), "embed bias": torch.zeros(runs, 1, CONDITION),
         "in": normal(draws, 64, WIDTH, std=1 / 8), "in bias": torch.zeros(runs, 1, WIDTH),
         "out": torch.zeros(runs, WIDTH, 64), "out bias": torch.zeros(runs, 1, 64),
         "out told": torch.zeros(runs, WIDTH + CONDITION, 64), "mod out": torch.zeros(runs, CONDITION, 2 * WIDTH),
         "mod bias out": torch.zeros(runs, 1, 2 * WIDTH)}
    for k in range(blocks):
        p[f"W1 {k}"] = normal(draws, reads, HIDDEN, std=reads**-0.5)
        p[f"b1 {k}"] = torch.zeros(runs, 1, HIDDEN)
        p[f"W2 {k}"] = normal(draws, HIDDEN, WIDTH, std=HIDDEN**-0.5) * last
        p[f"b2 {k}"] = torch.zeros(runs, 1, WIDTH)
        p[f"mod {k}"] = torch.zeros(runs, CONDITION, 3 * WIDTH)
        p[f"mod bias {k}"] = torch.zeros(runs, 1, 3 * WIDTH)
        p[f"gate {k}"] = torch.zeros(runs, 1, WIDTH)
    return p


def condition(p, t, y):
    """The vector (E, N, 32) that says time t (E, N, 1) and class y (E, N)."""
    waves = t * torch.tensor([0.25, 0.5, 1, 2, 4, 8, 16, 32]) * (np.pi / 2)
    told = torch.cat([waves.sin(), waves.cos(), F.one_hot(y, 10)], -1)
    return F.silu(torch.baddbmm(p["embed bias"], told, p["embed"]))


def train_flow(net, p, *, rate, steps, seeds, batch=64):
    """Train net(p, x, t, y) to tell x_1 - x_0 from x_t = (1 - t) x_0 + t x_1; x_0 is noise, x_1 a digit."""
    x_train, y_train, *_ = clean()
    draws = generators(seeds, 4)

    def loss_of(step):
        i = torch.stack([torch.randint(len(x_train), (batch,), generator=g) for g in draws])
        t = torch.stack([torch.rand(batch, 1, generator=g) for g in draws])
        x_0, x_1 = normal(draws, batch, 64, std=1), x_train[i]
        return ((net(p, (1 - t) * x_0 + t * x_1, t, y_train[i]) - (x_1 - x_0)) ** 2).mean((1, 2)).sum()

    adam(list(p.values()), loss_of, rate=rate, steps=steps, warm=20)


@torch.no_grad()
def held_out(net, p, *, shift=0):
    """Loss on the test digits, each with two times and two noises, the same for all nets: (E,); shift lies about y."""
    *_, x, y = clean()
    g, count, runs = torch.Generator().manual_seed(7), 2 * len(x), len(p["out"])
    x_1, y = x.repeat(2, 1), ((y + shift) % 10).repeat(2).expand(runs, -1)
    t = ((torch.randperm(count, generator=g) + 0.5) / count)[:, None]
    x_0 = torch.randn(count, 64, generator=g)
    v = net(p, ((1 - t) * x_0 + t * x_1).expand(runs, -1, -1), t.expand(runs, -1, -1), y)
    return ((v - (x_1 - x_0)) ** 2).mean((1, 2)).numpy()


@torch.no_grad()
def sample(net, p, *, each=20, steps=25):
    """Digits made from noise, `each` of every class, by `steps` steps of Euler: (E, 10 * each, 64), and the classes."""
    y, runs = torch.arange(10).repeat_interleave(each), len(p["out"])
    x = torch.randn(len(y), 64, generator=torch.Generator().manual_seed(8)).expand(runs, -1, -1)
    for step in range(steps):
        t = torch.full((runs, len(y), 1), step / steps)
        x = x + net(p, x, t, y.expand(runs, -1)) / steps
    return x, y


@cache
def reader():
    """A separate classifier of the digits, trained with some noise on them: a function (..., 64) -> classes."""
    x_train, y_train, *_ = clean()
    g = torch.Generator().manual_seed(0)
    p = [torch.randn(64, 128, generator=g) / 8, torch.zeros(128), torch.zeros(128, 10), torch.zeros(10)]

    def logits(x):
        return F.relu(x @ p[0] + p[1]) @ p[2] + p[3]

    def loss_of(step):
        i = torch.randint(len(x_train), (64,), generator=g)
        return F.cross_entropy(logits(x_train[i] + 0.3 * torch.randn(64, 64, generator=g)), y_train[i])

    adam(p, loss_of, rate=3e-3, steps=400)
    return lambda x: logits(x).argmax(-1)


def spread(x):
    """Standard deviation of the pixels over the images of one class, its mean over pixels and classes: (E,).

    x: (E, 10 * each, 64), ordered by class, as `sample` gives it.
    """
    return x.unflatten(1, (10, -1)).std(2).mean((1, 2)).numpy()
