"""Figures of chapter 6: what batch norm does, and where it breaks."""

import matplotlib.pyplot as plt
import numpy as np

from ... import plots
from ...plots import COLORS, INK, STYLES, WIDTH

MARKERS = ["o", "s", "^", "D", "v"]


def growth(squares, predicted):
    """Squared gradients against the layer, those of the last layer 1: a line for each seed, dots where predicted.

    Args:
        squares: dict from a label to (seeds, layers).
        predicted: dict from the same labels to (layers,).
    """
    fig, panel = plt.subplots(figsize=(WIDTH, 3.9))
    plt.close(fig)
    for (label, values), color, marker in zip(squares.items(), COLORS, MARKERS):
        layers = 1 + np.arange(values.shape[1])
        panel.plot(layers, (values / values[:, -1:]).T, color=color, lw=1, alpha=0.8)
        panel.plot(layers[::3], predicted[label][::3], marker, color=color, ms=5, mew=0, label=label)
    panel.set(yscale="log", xlabel="layer", ylabel="squared gradient, last layer = 1", xticks=[1, 10, 20, layers[-1]])
    fig.legend(*panel.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return fig


def balance(norms, angles, predicted, arrived):
    """Norms of the weights from several starts over the steps; below, angles of a step against the predicted ones.

    Args:
        norms: dict from a label to (steps, seeds).
        angles: (settings, seeds), in radians; predicted: (settings,).
        arrived: (settings,), False where the norm has not come to rest.
    """
    fig, panels = plt.subplots(2, 1, figsize=(WIDTH, 6.0))
    plt.close(fig)
    for (label, values), color in zip(norms.items(), COLORS):
        panels[0].plot(values, color=color, lw=1, alpha=0.8)
        panels[0].plot([], color=color, label=label)
    panels[0].set(yscale="log", xlabel="step", ylabel="length of the weights")
    panels[0].set_yticks([1, 10, 100], ["1", "10", "100"])
    panels[0].legend(title="start")
    line = np.array([0.8 * predicted.min(), 1.25 * predicted.max()])
    panels[1].plot(line, line, color=INK, lw=1, ls=":")
    for x, values, there in zip(predicted, angles, arrived):
        panels[1].plot(np.full(len(values), x), values, "o", color=COLORS[0], ms=6, alpha=0.7,
                       mfc=COLORS[0] if there else "none")
    ticks = [0.005, 0.01, 0.02, 0.05, 0.1, 0.2]
    panels[1].set(xscale="log", yscale="log", xlabel=r"predicted angle $\sqrt{2\eta\lambda}$", ylabel="measured angle")
    for axis, first in ((panels[1].xaxis, 3), (panels[1].yaxis, 0)):
        axis.set_ticks(ticks[first:], [f"{v:g}" for v in ticks[first:]])
        axis.set_minor_formatter("")
    return fig


def rates_to_failure(sweeps, accuracy, limit):
    """Accuracy over the steps for each arm at its best rate; below, steps to an accuracy against the rate.

    Args:
        sweeps: dict from a label to a Sweep with that one arm; the first two are drawn in the upper panel, the others
            are variants of the second.
        accuracy: what is to be reached, within `limit` steps.
    """
    fig, panels = plt.subplots(2, 1, figsize=(WIDTH, 6.4))
    plt.close(fig)
    never = 1.6 * limit
    for number, ((arm, found), color, style, marker) in enumerate(zip(sweeps.items(), COLORS, STYLES, MARKERS)):
        label = arm if number < 2 else f"batch norm: {arm}"
        steps = np.minimum(found.steps(arm, accuracy), never)
        median = np.sort(steps, axis=1)[:, steps.shape[1] // 2]
        panels[1].fill_between(found.lrs, steps.min(axis=1), steps.max(axis=1), color=color, alpha=0.18, lw=0)
        panels[1].plot(found.lrs, median, ls=style, marker=marker, color=color, ms=5, label=label)
    for (arm, found), color in list(zip(sweeps.items(), COLORS))[:2]:
        history = found.histories[arm][found.best(arm, accuracy)]
        panels[0].plot(history.step, 100 * history["accuracy"], color=color, lw=0.8, alpha=0.45)
        panels[0].plot(history.step, 100 * history["accuracy"].mean(axis=1), color=color)
    panels[0].set(xlabel="step", ylabel="test accuracy, %", ylim=(0, 100))
    panels[1].axhline(1.25 * limit, color=INK, lw=0.8, ls=":")
    panels[1].set(xscale="log", yscale="log", xlabel="learning rate", ylabel=f"steps to {100 * accuracy:.0f} %")
    panels[1].set_yticks([50, 100, 200, never], ["50", "100", "200", "never"])
    panels[1].set_xticks([0.1, 1, 10, 100, 1000], ["0.1", "1", "10", "100", "1000"])
    panels[1].minorticks_off()
    fig.legend(*panels[1].get_legend_handles_labels(), loc="outside lower center", ncols=1)
    return fig


def along_the_gradient(steps, ranges, changes):
    """Range of the loss along the gradient, and change of the gradient for its distance, over the training steps.

    Args:
        steps: (T,).
        ranges, changes: dicts from a label to (T, seeds).
    """
    fig, panels = plt.subplots(2, 1, figsize=(WIDTH, 5.6), sharex=True)
    plt.close(fig)
    for panel, curves, name in zip(panels, (ranges, changes), ("range of the loss", "change of the gradient")):
        for (label, values), color, style in zip(curves.items(), COLORS, STYLES):
            plots.median_and_range(panel, steps, values, color=color, style=style, label=label)
        panel.set(yscale="log", ylabel=name)
    panels[1].set_xlabel("step")
    fig.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=1)
    return fig


def noise_and_error(sizes, variance, errors):
    """Variance of an answer over random batches against their size; below, test errors of several ways to train.

    Args:
        sizes: (K,).
        variance: (K, seeds).
        errors: dict from a label to (seeds,), in percent.
    """
    fig, panels = plt.subplots(2, 1, figsize=(WIDTH, 5.8), height_ratios=(1, 1))
    plt.close(fig)
    panels[0].loglog(sizes, variance, color=COLORS[0], lw=1, marker="o", ms=3)
    middle = np.median(variance, axis=1)
    panels[0].loglog(sizes, middle[-2] * sizes[-2] / np.asarray(sizes), color=INK, ls=":", lw=1.2)
    panels[0].set_xticks(sizes, [str(m) for m in sizes])
    panels[0].minorticks_off()
    panels[0].set(xlabel="samples in the batch, m", ylabel="variance of an answer")
    for place, values in enumerate(errors.values()):
        jitter = np.linspace(-0.12, 0.12, len(values))
        panels[1].plot(values, place + jitter, "o", color=COLORS[0], ms=4, alpha=0.6, mew=0)
        panels[1].plot(np.median(values), place, "|", color=INK, ms=18, mew=2)
    panels[1].set_yticks(range(len(errors)), errors)
    panels[1].set(xlabel="test error, %, trained on 200 images", ylim=(len(errors) - 0.5, -0.5), xlim=(0, None))
    return fig


def errors_by_length(lengths, errors):
    """Test error against the length of the sequences, one panel for each size of the training batches.

    Args:
        lengths: (T,).
        errors: dict from the title of a panel to a dict from a label to (T, seeds), in percent.
    """
    fig, panels = plt.subplots(1, len(errors), figsize=(WIDTH, 3.5), sharey=True)
    plt.close(fig)
    for panel, (title, arms) in zip(panels, errors.items()):
        for (label, values), color, style, marker in zip(arms.items(), COLORS, STYLES, MARKERS):
            plots.median_and_range(panel, lengths, values, color=color, style=style, marker=marker, label=label)
        panel.set(title=title, xlabel="rows read", xticks=lengths, ylim=(0, 100))
    panels[0].set_ylabel("test error, %")
    fig.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return fig


def leak(images, found):
    """Images of 8 x 8 pixels above, and what was found of them below.

    Args:
        images, found: (K, 64).
    """
    fig, rows = plt.subplots(2, len(images), figsize=(WIDTH, 2.5))
    plt.close(fig)
    for panels, values, name in zip(rows, (images, found), ("in the batch", "computed")):
        for panel, image in zip(panels, values):
            panel.imshow(np.reshape(image, (8, 8)), cmap="gray_r", vmin=images.min(), vmax=images.max())
            panel.set(xticks=[], yticks=[])
            panel.spines[:].set_visible(True)
        panels[0].set_ylabel(name)
    return fig
