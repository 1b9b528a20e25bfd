"""Small training runs in torch: convolutions and transformers, several seeds, seconds on one CPU core.

It returns the History of `course_lib.training`, so `steps_to` and `sweep` serve
both.  The trainer knows no net, no layer and no data: a chapter hands them in
as functions, and they stay in its page.

    images = data._replace(x_train=data.x_train.reshape(-1, 1, 8, 8),
                           x_test=data.x_test.reshape(-1, 1, 8, 8))
    history = train(lambda: conv_net(nn.BatchNorm2d), batches(images, size=60), observe=on_test_set(images),
                    seeds=range(5), steps=300, lr=0.1)

Seeds run one after another.  One call of `torch.func.vmap` for five of them is
no faster, except for nets too small to be worth it, and it refuses running
statistics and our layers.

Roughly, on one core: three convolutions on digits take 1 to 4 ms a step, a
transformer takes 1 to 2 ms a block (32 tokens, width 32, batch 8).  A look at
397 digits costs about one step, at 200 texts four: look at fewer, or less often.
"""

from contextlib import contextmanager
from math import isfinite

import numpy as np
import torch
import torch.nn.functional as F

from ..training import History, fine_looks


def cross_entropy(logits, labels):
    """Mean cross-entropy of (*, classes) logits against (*) labels: one an image, or one a token; -100 is not asked."""
    return F.cross_entropy(logits.flatten(0, -2), labels.flatten())


def batches(data, *, size):
    """A function seed -> endless pairs x (size, ...), labels (size, ...), drawn with replacement.

    The same seed draws the same samples as `course_lib.training.batches`.

    Args:
        data: Data; x_train may have any shape after its first axis.
        size: samples in a batch.
    Raises:
        ValueError: size is below 1.
    """
    if size < 1:
        raise ValueError(f"a batch needs 1 sample or more, got size = {size}")
    x, labels = torch.tensor(data.x_train), torch.tensor(data.y_train)

    def of(seed):
        rng = np.random.default_rng([seed, 1])
        while True:
            index = torch.from_numpy(rng.integers(len(x), size=size))
            yield x[index], labels[index]

    return of


def on_test_set(data, *, loss=cross_entropy):
    """A function net -> its loss on the test set, and its accuracy: the share of labels, those of -100 left out."""
    x, labels = torch.tensor(data.x_test), torch.tensor(data.y_test)
    asked = labels != -100

    def observe(net):
        output = net(x)
        right = (output.argmax(dim=-1) == labels)[asked]
        return {"loss": loss(output, labels), "accuracy": right.double().mean()}

    return observe


def train(make_net, batches_of, *, seeds, steps, lr, observe, optimizer=torch.optim.SGD,
          schedule=lambda step: 1.0, loss=cross_entropy, looks=None, until=None):
    """Train one net for each seed, and look at it on the way.

    A run is settled by its seed: torch's generator, seeded with it, draws the
    first weights, and `batches_of` its batches, the same for every net.  Looking
    changes nothing, and neither do the other runs.  Random state and number of
    threads are afterwards what they were.

    A run ends early when its loss is no longer finite, or when it has been seen
    at the accuracy `until`; what was not seen is NaN.  So a run has diverged if
    its last entry is NaN and `steps_to` says that it never arrived.

    Args:
        make_net: function () -> Module; the layers it has set to evaluation
            mode, or to need no gradient, stay as they are.
        batches_of: function seed -> iterable of (*inputs, target), as `batches` makes it.
        seeds: E numbers.
        steps: how many.
        lr: learning rate.
        observe: function net -> dict of numbers or arrays, as `on_test_set`
            makes it; called in evaluation mode and without gradients (a measure
            of gradients opens `torch.enable_grad()` itself).
        optimizer: function (parameters, lr=lr) -> Optimizer, for example
            `partial(torch.optim.AdamW, fused=True)`, the fastest of its kind on a CPU.
        schedule: function step -> factor of the learning rate; the first step is 0.
        loss: function (net(*inputs), target) -> number.
        looks: the steps after which to look; None for `fine_looks`.
        until: the accuracy, as `observe` sees it, at which a run may end.
    Returns:
        History; history.model is the list of trained nets, in training mode.
    Raises:
        ValueError: there is no seed, no step, no look, a look outside 0 ... steps, or no batch left.
    """
    seeds, looks = list(seeds), sorted(set(fine_looks(steps) if looks is None else looks))
    _require_runs(seeds, steps, looks)
    nets, runs = [], []
    with _one_thread():
        for seed in seeds:
            with torch.random.fork_rng(devices=[]):
                torch.default_generator.manual_seed(seed)
                net = make_net()
                runs.append(_run(net, iter(batches_of(seed)), optimizer(net.parameters(), lr=lr), steps=steps,
                                 schedule=schedule, loss=loss, observe=observe, looks=looks, until=until))
                nets.append(net)
    observed = {name: np.stack([[seen[name] for seen in run] for run in runs], axis=1) for name in runs[0][0]}
    return History(np.array(looks), observed, nets)


def _run(net, source, optimizer, *, steps, schedule, loss, observe, looks, until):
    """Train one net; what was seen at each look, as dicts of arrays."""
    rates, seen = [group["lr"] for group in optimizer.param_groups], []
    for step in range(steps + 1):
        if step > 0:
            batch = next(source, None)
            if batch is None:
                raise ValueError(f"batches_of gave {step - 1} batches for {steps} steps")
            for group, rate in zip(optimizer.param_groups, rates):
                group["lr"] = rate * schedule(step - 1)
            if not _step(net, batch, optimizer, loss):
                break
        if step in looks:
            seen.append(_look(net, observe))
            if until is not None and seen[-1]["accuracy"] >= until:
                break
    shapes = seen[0] if seen else _look(net, observe)
    unseen = {name: np.full_like(value, np.nan) for name, value in shapes.items()}
    return seen + [unseen] * (len(looks) - len(seen))


def _step(net, batch, optimizer, loss):
    """One step of training, or False if the loss is not finite."""
    *inputs, target = batch
    value = loss(net(*inputs), target)
    if not isfinite(value.item()):
        return False
    optimizer.zero_grad()
    value.backward()
    optimizer.step()
    return True


def _look(net, observe):
    """What `observe` says of the net, as float64 copies; the net, its modes and the random state stay as they are."""
    modes = [(layer, layer.training) for layer in net.modules()]
    net.eval()
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        seen = observe(net)
    for layer, mode in modes:
        layer.training = mode
    return {name: torch.as_tensor(value).detach().to(torch.float64, copy=True).numpy() for name, value in seen.items()}


@contextmanager
def _one_thread():
    """In nets as small as these, threads wait for each other longer than they compute."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _require_runs(seeds, steps, looks):
    if not seeds:
        raise ValueError("train needs a seed or more, got 0 seeds")
    if steps < 1:
        raise ValueError(f"train needs 1 step or more, got steps = {steps}")
    if not looks or looks[0] < 0 or looks[-1] > steps:
        raise ValueError(f"looks must lie between 0 and steps = {steps}, got {looks}")
