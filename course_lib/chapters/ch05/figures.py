"""Figures of chapter 5: statistics at inference."""

import itertools

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import NullFormatter

from ...plots import COLORS, INK, STYLES, WIDTH

MARKERS = "os^D"


def _image(panel, image, color=None):
    panel.imshow(np.reshape(image, (8, 8)), cmap="gray_r", vmin=0, vmax=16)
    panel.set(xticks=[], yticks=[])
    panel.spines[:].set(visible=True, color=color or INK, linewidth=2.5 if color else 0.6)


def two_answers(image, rows):
    """One image, and the class probabilities that it gets in several companies.

    Args:
        image: (64,), pixels from 0 to 16.
        rows: dict from a title to (company, probabilities): company (n, 64) or None, probabilities (10,).
    """
    fig = plt.figure(figsize=(WIDTH, 4.8))
    plt.close(fig)
    for part, (title, (company, p)) in zip(fig.subfigures(len(rows), 1), rows.items(), strict=True):
        part.suptitle(title, fontsize=10, x=0.01, ha="left")
        grid = part.add_gridspec(2, 7, width_ratios=(1, 1, 1, 1, 1, 1, 6))
        _image(part.add_subplot(grid[:, :2]), image, COLORS[1])
        for j in range(8):
            panel = part.add_subplot(grid[j // 4, 2 + j % 4])
            if company is None or j >= len(company):
                panel.set_axis_off()
            else:
                _image(panel, company[j])
        bars, best = part.add_subplot(grid[:, 6]), int(np.argmax(p))
        bars.bar(range(10), p, color=[COLORS[1] if c == best else COLORS[0] for c in range(10)])
        bars.text(best, p[best] + 0.06, f"{p[best]:.0%}", ha="center", fontsize=10)
        bars.set(ylim=(0, 1.3), yticks=(), xticks=range(10))
        bars.spines["left"].set_visible(False)
        bars.tick_params(length=0, labelsize=9)
    bars.set_xlabel("class", fontsize=10)
    return fig


def _band(panel, x, arm, label, k, *, band=True):
    arm = np.asarray(arm)
    if band:
        panel.fill_between(x, arm.min(axis=1), arm.max(axis=1), color=COLORS[k], alpha=0.15, lw=0)
    panel.plot(x, np.median(arm, axis=1), ls=STYLES[k], marker=MARKERS[k], ms=4, color=COLORS[k], label=label)


def _powers_of_two(panel, x):
    panel.set_xscale("log", base=2)
    panel.set_xticks(x, [f"{each:g}" for each in x])
    panel.xaxis.set_minor_formatter(NullFormatter())


def over_batch_sizes(sizes, curves, *, ylabel, log=False):
    """Medians and ranges of seeds against the batch size.

    Args:
        sizes: (K,).
        curves: dict from a label to an array (K, seeds).
    """
    fig, panel = plt.subplots(figsize=(WIDTH, 3.2))
    plt.close(fig)
    for k, (label, arm) in enumerate(curves.items()):
        _band(panel, sizes, arm, label, k)
    _powers_of_two(panel, sizes)
    panel.set(xlabel="images in a batch", ylabel=ylabel)
    if log:
        panel.set_yscale("log")
    if len(curves) > 1:
        fig.legend(*panel.get_legend_handles_labels(), loc="outside upper center", ncols=2)
    return fig


def errors_of_estimates(sizes, errors):
    """Errors of stored means and standard deviations against the batch size, two panels, log scales.

    Args:
        sizes: (K,).
        errors: dict from the name of the estimate to an array (K, seeds, 2).
    """
    fig, panels = plt.subplots(1, 2, figsize=(WIDTH, 3.5), sharey=True)
    plt.close(fig)
    for panel, which, title in zip(panels, (0, 1), ("mean", "standard deviation"), strict=True):
        for k, (label, arm) in enumerate(errors.items()):
            _band(panel, sizes, np.asarray(arm)[:, :, which], label, k)
        _powers_of_two(panel, sizes)
        panel.set(title=title, yscale="log", xlabel="images in a batch")
    panels[0].set_ylabel("error, in units of $\\sigma$")
    panels[1].set_ylabel("relative error")
    panels[0].set_yticks([0.003, 0.01, 0.03, 0.1, 0.3, 1], ["0.3 %", "1 %", "3 %", "10 %", "30 %", "100 %"])
    panels[0].yaxis.set_minor_formatter(NullFormatter())
    fig.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=2)
    return fig


def expected_statistics(panels_of):
    """Averages of batch statistics, relative to the population, against the size of the batch.

    Args:
        panels_of: dict from a title to (xlabel, sizes, curves); curves from a label to an array (K,).
    """
    fig, panels = plt.subplots(1, len(panels_of), figsize=(WIDTH, 3.7))
    plt.close(fig)
    ks = itertools.count()  # no colour twice: each curve means something else
    for panel, (title, (xlabel, sizes, curves)) in zip(panels, panels_of.items(), strict=True):
        panel.axhline(1, color=INK, alpha=0.4, lw=1)
        for (label, values), k in zip(curves.items(), ks):
            panel.plot(sizes, values, ls=STYLES[k % 3], marker=MARKERS[k % 4], ms=5, color=(*COLORS, INK)[k],
                       label=label)
        _powers_of_two(panel, sizes)
        panel.set(title=title, xlabel=xlabel)
        panel.legend(loc="upper center", bbox_to_anchor=(0.45, -0.24))
    panels[0].set_ylabel("average / population")
    return fig


def start_of_averages(step, curves, banded):
    """Test accuracy in evaluation mode against the step, medians and ranges of seeds, log axis of steps.

    Args:
        step: (T,).
        curves: dict from a label to an array (T, seeds).
        banded: labels of the curves whose range is drawn.
    """
    fig, panel = plt.subplots(figsize=(WIDTH, 3.3))
    plt.close(fig)
    for k, (label, arm) in enumerate(curves.items()):
        _band(panel, step, 100 * np.asarray(arm), label, k, band=label in banded)
    panel.set(xscale="log", xlabel="training step", ylabel="right in evaluation mode, %", ylim=(0, 102))
    panel.set_xticks([1, 3, 10, 30, 100, 300], [1, 3, 10, 30, 100, 300])
    panel.xaxis.set_minor_formatter(NullFormatter())
    fig.legend(*panel.get_legend_handles_labels(), loc="outside upper center", ncols=2)
    return fig


def failed_and_cured(traps):
    """One line a trap: accuracy of each seed when it fails, and when it is cured.

    Args:
        traps: dict from a title to (failed, cured), accuracies (seeds,) each.
    """
    fig, panel = plt.subplots(figsize=(WIDTH, 0.55 + 0.48 * len(traps)))
    plt.close(fig)
    for k, (failed, cured) in enumerate(traps.values()):
        panel.plot([100 * np.median(failed), 100 * np.median(cured)], [k, k], color=INK, alpha=0.35, lw=1.2, zorder=0)
        for values, color, marker, label in ((failed, COLORS[1], "X", "failed"), (cured, COLORS[2], "o", "cured")):
            panel.plot(100 * np.asarray(values), np.full(len(values), k), marker, color=color, ms=6, alpha=0.75, mew=0,
                       label=label if k == 0 else None)
    panel.set(xlabel="right on the test images, %", xlim=(0, 103), ylim=(len(traps) - 0.5, -0.5))
    panel.set_yticks(range(len(traps)), list(traps))
    panel.tick_params(axis="y", length=0)
    fig.legend(*panel.get_legend_handles_labels(), loc="outside upper center", ncols=2)
    return fig


def doses(panels_of):
    """Accuracies against a dose, medians and ranges of seeds, one panel a dose.

    Args:
        panels_of: dict from a title to (xlabel, doses, curves); curves from a label to an array (K, seeds).
    """
    fig, panels = plt.subplots(1, len(panels_of), figsize=(WIDTH, 3.4), sharey=True)
    plt.close(fig)
    for panel, (title, (xlabel, dose, curves)) in zip(panels, panels_of.items(), strict=True):
        places = np.arange(len(dose))
        for k, (label, arm) in enumerate(curves.items()):
            _band(panel, places, 100 * np.asarray(arm), label, k)
        panel.set(title=title, xlabel=xlabel, ylim=(0, 103))
        panel.set_xticks(places, [f"{each:g}" for each in dose])
    panels[0].set_ylabel("right, %")
    fig.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=2)
    return fig
