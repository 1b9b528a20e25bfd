"""Figures of chapter 10: filter response norm and TLU."""

import matplotlib.pyplot as plt
import numpy as np

from ...plots import COLORS, INK, STYLES, WIDTH, median_and_range

TICKS = [2, 5, 10, 20, 50, 100]


def responses(x, panels):
    """What layers make of a single number: a panel for each title, a curve for each layer.

    Args:
        x: (K,).
        panels: dict from a title to a dict from a label to an array (K,).
    """
    fig, grid = plt.subplots(1, len(panels), figsize=(WIDTH, 3.7), sharey=True)
    plt.close(fig)
    color = iter(2 * COLORS)
    for panel, (title, curves) in zip(grid, panels.items(), strict=True):
        panel.axhline(0, color=INK, lw=0.6)
        for (label, y), style in zip(curves.items(), STYLES):
            panel.plot(x, y, ls=style, color=next(color), label=label)
        panel.set(xlabel="the number", title=title)
        panel.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), fontsize=9)
    grid[0].set_ylabel("what comes out")
    return fig


def error_against_eps(eps, errors, levels):
    """Test error of fully connected nets against a constant eps, with other nets as levels.

    Args:
        eps: (K,).
        errors: (K, seeds).
        levels: dict from a label to an array (seeds,), drawn as its median and range.
    """
    fig, panel = plt.subplots(figsize=(WIDTH, 3.6))
    plt.close(fig)
    median_and_range(panel, eps, errors, color=COLORS[0], marker="o", label="filter response norm, constant eps")
    for (label, level), color, style in zip(levels.items(), COLORS[1:], STYLES[1:]):
        panel.axhspan(level.min(), level.max(), color=color, alpha=0.15, lw=0)
        panel.axhline(np.median(level), color=color, ls=style, label=label)
    panel.set(xscale="log", yscale="log", ylim=(1.8, 110), xlabel="eps", ylabel="test error in %")
    panel.set_yticks(TICKS, [f"{v}" for v in TICKS])
    panel.minorticks_off()
    fig.legend(*panel.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return fig


def thresholds(taus):
    """Where the learned thresholds end, for each norm: dots, and medians as bars; the last layer in grey.

    Args:
        taus: dict from a name to a list of arrays of thresholds, one for each layer.
    """
    fig, panel = plt.subplots(figsize=(WIDTH, 3.3))
    plt.close(fig)
    rng = np.random.default_rng(0)
    for place, layers in enumerate(taus.values()):
        for side, color, values in [(-0.2, COLORS[0], np.concatenate(layers[:-1])), (0.22, "0.55", layers[-1])]:
            shown = rng.permutation(values)[:60]  # enough to see the shape
            middle = place + side
            panel.plot(middle + rng.uniform(-0.12, 0.12, len(shown)), shown, "o", color=color, ms=3, alpha=0.35, mew=0)
            panel.plot([middle - 0.17, middle + 0.17], [np.median(values)] * 2, color=COLORS[1], lw=3)
    panel.axhline(0, color=INK, lw=0.8)
    panel.text(len(taus) - 0.45, 0, "start", ha="left", va="center", fontsize=9)
    panel.set(xlim=(-0.5, len(taus) - 0.5), ylim=(-1.8, 0.6), ylabel="tau after training")
    panel.set_xticks(range(len(taus)), [name.replace(" ", "\n") for name in taus], fontsize=9)
    blue, grey = (plt.Line2D([], [], ls="", marker="o", color=color) for color in (COLORS[0], "0.55"))
    fig.legend([blue, grey], ["layers 1 and 2", "layer 3, before the head"], loc="outside lower center", ncols=2)
    return fig


def ladder(errors):
    """Test error of each arm, from the top down: dots for the seeds, a bar for the median.

    Args:
        errors: dict from a name to an array (seeds,).
    """
    fig, panel = plt.subplots(figsize=(WIDTH, 0.36 * len(errors) + 0.9))
    plt.close(fig)
    for place, (name, values) in enumerate(errors.items()):
        color = COLORS[1] if name.startswith("FRN") else COLORS[0]
        panel.plot([values.min(), values.max()], [place] * 2, color=color, lw=1.2)
        panel.plot(values, [place] * len(values), "o", color=color, ms=4.5, alpha=0.5, mew=0)
        panel.plot([np.median(values)] * 2, [place - 0.3, place + 0.3], color=color, lw=3)
    panel.set(ylim=(len(errors) - 0.5, -0.5), xlim=(0, None), xlabel="test error in %")
    panel.set_yticks(range(len(errors)), list(errors))
    panel.grid(axis="x")
    return fig
