"""Figures of chapter 1: internal covariate shift."""

from itertools import cycle

import matplotlib.pyplot as plt
import numpy as np

from ...plots import COLORS, WIDTH


def error_against_batch(sizes, errors):
    """Error of the mini-batch gradient against the batch size, with a line that falls like 1 / sqrt(m).

    Args:
        sizes: (K,).
        errors: (K,), root mean square distances.
    """
    fig, panel = plt.subplots(figsize=(WIDTH, 2.8))
    plt.close(fig)
    panel.plot(sizes, errors[0] / np.sqrt(np.divide(sizes, sizes[0])), color=COLORS[1], label="falls like 1 / sqrt(m)")
    panel.plot(sizes, errors, "o", color=COLORS[0], label="measured")
    panel.set(xscale="log", yscale="log", xlabel="batch size m", ylabel="error of the gradient")
    panel.set_xticks(sizes[::2], [str(m) for m in sizes[::2]])
    decades = 10.0 ** np.arange(-3, 3)
    ticks = [v for v in np.outer(decades, (1, 2, 5)).ravel() if min(errors) <= v <= max(errors)]
    panel.set_yticks(ticks, [f"{v:g}" for v in ticks])
    panel.minorticks_off()
    panel.legend()
    return fig


def fits_under_shift(x_train, y_train, x_test, y_test, lines):
    """Training and test samples on one curve, and straight lines fitted to them.

    Args:
        x_train, y_train, x_test, y_test: (N,).
        lines: dict from a label to (slope, intercept).
    """
    fig, panel = plt.subplots(figsize=(WIDTH, 3.4))
    plt.close(fig)
    panel.plot(x_train, y_train, "o", color=COLORS[0], ms=4, alpha=0.5, mew=0, label="training samples")
    panel.plot(x_test, y_test, "^", color=COLORS[1], ms=4, alpha=0.5, mew=0, label="test samples")
    across = np.array([min(x_train.min(), x_test.min()), max(x_train.max(), x_test.max())])
    for (label, (slope, intercept)), color, style in zip(lines.items(), (COLORS[0], COLORS[1]), ("-", "--")):
        panel.plot(across, slope * across + intercept, style, color=color, label=label)
    panel.set(xlabel="x", ylabel="y")
    fig.legend(*panel.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return fig


def quantile_tracks(step, tracks):
    """The 15th, 50th and 85th percentile of one activation's input during training, a panel for each net.

    Args:
        step: (T,).
        tracks: dict from a title to an array (T, 3).
    """
    fig, panels = plt.subplots(len(tracks), 1, figsize=(WIDTH, 2.3 * len(tracks)), sharex=True, sharey=True)
    plt.close(fig)
    for panel, (title, track), color in zip(panels, tracks.items(), cycle(COLORS)):
        panel.fill_between(step, track[:, 0], track[:, 2], color=color, alpha=0.25, lw=0)
        panel.plot(step, track[:, [0, 2]], color=color, lw=1)
        panel.plot(step, track[:, 1], color=color)
        for name, value in zip(("15 %", "50 %", "85 %"), track[-1]):
            panel.annotate(name, (step[-1], value), (4, 0), textcoords="offset points", va="center", fontsize=9)
        panel.set(title=title, ylabel="input of a sigmoid")
    panels[-1].set(xlabel="training step", xlim=(0, 1.08 * step[-1]))
    return fig


def accuracy_grids(lrs, stds, grids):
    """Accuracy for each learning rate and each size of the first weights, as numbers on coloured squares.

    Args:
        lrs, stds: (K,), (J,).
        grids: dict from a title to an array (J, K) of accuracies between 0 and 1.
    """
    fig, panels = plt.subplots(1, len(grids), figsize=(WIDTH, 3.0), sharey=True)
    plt.close(fig)
    for panel, (title, grid) in zip(panels, grids.items()):
        panel.pcolormesh(grid, cmap="Blues", vmin=0, vmax=1.3, edgecolor="white", lw=1)
        for (row, column), value in np.ndenumerate(grid):
            panel.text(column + 0.5, row + 0.5, f"{100 * value:.0f}", ha="center", va="center", color="#10161d")
        panel.set(title=title, xlabel="learning rate")
        panel.set_xticks(np.arange(len(lrs)) + 0.5, [f"{lr:g}" for lr in lrs])
        panel.set_yticks(np.arange(len(stds)) + 0.5, [f"{std:g}" for std in stds])
        panel.tick_params(length=0)
        panel.spines[:].set_visible(False)
    panels[0].set_ylabel("std of the first weights")
    return fig
