"""A layer at work: a small net in NumPy that trains with a learner's own function.

An exercise declares how, in its chapter's exercises.py:

    def _at_work(batch_norm_forward):
        return train_with(Layer(
            forward=lambda x, gamma, beta: batch_norm_forward(x, gamma, beta, 1e-5),
            backward=backward_of(batch_norm)))

    @exercise(..., at_work=_at_work)

Where the exercise is the backward pass, `forward` is the package's.
"""

import html
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..data import spirals
from ..norms import norm_backward
from .report import Text

WIDTHS = 2, 32, 32, 2


@dataclass(frozen=True)
class Layer:
    """A normalization layer of units, x (N, D); gamma and beta (D,)."""

    forward: Callable  # (x, gamma, beta) -> y
    backward: Callable  # (dy, x, gamma) -> dx, dgamma, dbeta


def backward_of(norm):
    """The package's backward pass of one of its layers, norm(x, gamma, beta) -> y, cache; for `Layer`."""
    def backward(dy, x, gamma):
        _, cache = norm(x, gamma, np.zeros_like(gamma))
        return norm_backward(dy, cache)

    return backward


class AtWork(Text):
    """What training gave, as text; in a notebook with the curve of the loss."""

    losses: tuple[float, ...] = ()

    def _repr_html_(self):
        last, top = len(self.losses) - 1, max(self.losses)
        points = " ".join(f"{300 * k / last:.1f},{90 - 85 * loss / top:.1f}" for k, loss in enumerate(self.losses))
        return (f'<div class="at-work"><div>{html.escape(self)}</div><svg viewBox="0 0 300 92" width="300" role="img" '
                'aria-label="loss at each step"><path d="M0 2V90H300" fill="none" stroke="currentColor" opacity=".4"/>'
                f'<polyline points="{points}" fill="none" stroke="currentColor" stroke-width="1.5"/></svg></div>')


def train_with(layer, *, steps=150, lr=0.3, batch=50, seed=0):
    """Train a small net on two spirals, with the layer before each activation: a fraction of a second."""
    data, rng = spirals(seed=seed), np.random.default_rng(seed)
    x_train, x_test = data.x_train.astype(float), data.x_test.astype(float)
    net = [{"weight": rng.standard_normal(shape) / np.sqrt(shape[0]), "gamma": np.ones(shape[1]),
            "beta": np.zeros(shape[1])} for shape in zip(WIDTHS, WIDTHS[1:])]
    losses = []
    for _ in range(steps):
        rows = rng.integers(len(x_train), size=batch)
        loss, gradients = loss_and_gradients(layer, net, x_train[rows], data.y_train[rows])
        losses.append(loss)
        net = [{name: part[name] - lr * gradient[name] for name in part} for part, gradient in zip(net, gradients)]
    logits, _ = _forward(layer, net, x_test)
    score = np.mean(logits.argmax(axis=1) == data.y_test)
    shown = AtWork(f"Your function in a net of {' - '.join(map(str, WIDTHS))} units, on two spirals: after {steps} "
                   f"steps the loss is {losses[-1]:.2f} (it was {losses[0]:.2f}), and of {len(x_test)} new points "
                   f"{score:.0%} are right.")
    shown.losses = tuple(losses)
    return shown


def _forward(layer, net, x):
    """Logits, and for each weight what it got and gave."""
    kept = []
    for number, part in enumerate(net, start=1):
        z = x @ part["weight"]
        kept.append((x, z))
        if number == len(net):
            return z + part["beta"], kept
        x = np.maximum(layer.forward(z, part["gamma"], part["beta"]), 0)


def loss_and_gradients(layer, net, x, labels):
    """Cross-entropy and its gradients, a dict for each layer."""
    logits, kept = _forward(layer, net, x)
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    here = np.arange(len(labels)), labels
    loss = -np.log(shares[here] + 1e-12).mean()
    shares[here] -= 1
    dz, gradients = shares / len(labels), []
    for number in reversed(range(len(net))):
        x, z = kept[number]
        part = net[number]
        gradient = {"gamma": 0.0, "beta": dz.sum(axis=0)}
        if number < len(net) - 1:
            dz, *both = layer.backward(dz, z, part["gamma"])
            gradient = dict(zip(("gamma", "beta"), both))
        gradients.insert(0, {**gradient, "weight": x.T @ dz})
        dz = (dz @ part["weight"].T) * (x > 0)  # x is what the activation gave; for the data it is not needed
    return float(loss), gradients
