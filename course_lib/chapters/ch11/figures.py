"""Figures of chapter 11: local response and divisive normalization."""

import matplotlib.pyplot as plt
import numpy as np

from ...plots import COLORS, INK, STYLES, WIDTH

WIDTHS = [2.6, 1.8, 1.8, 1.8]


def response_curves(drive, panels):
    """Responses against the drive of one unit, a panel for each neighbour; each curve as a share of its own maximum.

    Args:
        drive: (K,).
        panels: dict from a title to a dict from a name to (K,); the first panel's maxima are the unit.
    """
    fig, grid = plt.subplots(1, len(panels), figsize=(WIDTH, 3.5), sharey=True)
    plt.close(fig)
    full = {name: curve.max() for name, curve in next(iter(panels.values())).items()}
    for panel, (title, curves) in zip(grid, panels.items(), strict=True):
        for k, (name, curve) in enumerate(curves.items()):
            panel.plot(drive, curve / full[name], ls=STYLES[k], color=COLORS[k], label=name, lw=WIDTHS[k])
        panel.set(title=title, xscale="log", xlabel="drive", ylim=(0, 1.05))
        panel.set_xticks([0.1, 1, 10, 100], ["0.1", "1", "10", "100"])
        panel.minorticks_off()
    grid[0].set_ylabel("response / its maximum")
    fig.legend(*grid[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, columnspacing=1.2)
    return fig


def lone_response(x, curves, line, peak):
    """LRN's output against one input, both axes logarithmic, with the straight line that small inputs follow.

    Args:
        x: (K,).
        curves: dict from a label to (K,).
        line: (K,), the straight line.
        peak: (x, y) of the maximum of the first curve.
    """
    fig, panel = plt.subplots(figsize=(WIDTH, 3.3))
    plt.close(fig)
    panel.plot(x, line, color=INK, lw=1.2, ls=(0, (2, 2)), label="0.59 x")
    for k, (label, curve) in enumerate(curves.items()):
        panel.plot(x, curve, ls=STYLES[k], color=COLORS[k], label=label)
    panel.plot(*peak, "o", color=COLORS[0], ms=6)
    panel.annotate("200", peak, xytext=(0, -16), textcoords="offset points", ha="center")
    panel.set(xscale="log", yscale="log", xlabel="input x", ylabel="output y", ylim=(0.3, 200))
    panel.set_xticks([1, 10, 100, 1000, 10000], ["1", "10", "100", "1000", "10,000"])
    panel.set_yticks([1, 10, 100], ["1", "10", "100"])
    panel.minorticks_off()
    fig.legend(*panel.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return fig


def over_channels(inputs, outputs):
    """A profile over the channels and what LRN makes of it, one panel above the other.

    Args:
        inputs: (C,).
        outputs: dict from a label to (C,).
    """
    fig, (above, below) = plt.subplots(2, 1, figsize=(WIDTH, 3.7), sharex=True, height_ratios=[1, 1.6])
    plt.close(fig)
    above.plot(inputs, drawstyle="steps-mid", color=INK)
    above.set(ylabel="input", ylim=(0, 1.25 * inputs.max()))
    for k, (label, values) in enumerate(outputs.items()):
        below.plot(values, marker="os^"[k], ms=4.5, ls=STYLES[k], color=COLORS[k], label=label)
    below.set(xlabel="channel", ylabel="output", ylim=(0, None))
    fig.legend(*below.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return fig


def error_of_arms(panels):
    """Test error of each arm at its best rate: a row for each, a dot for each seed, a tick for their median.

    Args:
        panels: dict from a title to a dict from a label to (E,).
    """
    fig, grid = plt.subplots(1, len(panels), figsize=(WIDTH, 3.6), sharey=True)
    plt.close(fig)
    rows = list(max(panels.values(), key=len))
    for panel, (title, arms) in zip(grid, panels.items(), strict=True):
        for label, values in arms.items():
            row = rows.index(label)
            panel.plot(values, np.full(len(values), row), "o", color=COLORS[0], ms=5, alpha=0.5, mew=0)
            panel.plot(np.median(values), row, "|", color=INK, ms=13, mew=2)
        panel.set(title=title, xscale="log", xlim=(1.8, 12), xlabel="test error in %")
        panel.set_xticks([2, 3, 5, 10], ["2", "3", "5", "10"])
        panel.minorticks_off()
        panel.grid(axis="x")
    grid[0].set_yticks(range(len(rows)), rows)
    grid[0].invert_yaxis()
    return fig


def conditional_spread(size, curves):
    """Spread of a response against how large another one is, runs as dots, their median as a line.

    Args:
        size: (K,), where each bin lies.
        curves: dict from a label to (runs, K).
    """
    fig, panel = plt.subplots(figsize=(WIDTH, 3.2))
    plt.close(fig)
    panel.axhline(1, color=INK, lw=0.8, ls=":")
    for k, (label, values) in enumerate(curves.items()):
        panel.plot(size, values.T, "o", color=COLORS[k], ms=3, alpha=0.5, mew=0)
        panel.plot(size, np.median(values, axis=0), ls=STYLES[k], color=COLORS[k], label=label)
    panel.set(xlabel="share of patches where the other filter responds less", ylabel="spread of a response")
    fig.legend(*panel.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return fig
