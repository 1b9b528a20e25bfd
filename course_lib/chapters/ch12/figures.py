"""Figures of chapter 12: norms in transformers."""

import matplotlib.pyplot as plt
import numpy as np

from ...plots import COLORS, INK, STYLES, WIDTH, median_and_range

MARKS = ["o", "s", "^", "D", "v", "P"]


def _style(k):
    return {"color": (*COLORS, INK)[k % 6], "style": STYLES[k % len(STYLES)], "marker": MARKS[k % 6]}


def through_the_blocks(columns, limits):
    """The stream (above) and its gradient (below), block by block, a column for each title.

    Args:
        columns: dict from a title to a dict from an arm to (forward, backward), each (blocks + 1, E).
        limits: the range of each row.
    """
    fig, grid = plt.subplots(2, len(columns), figsize=(WIDTH, 4.6), sharex=True, sharey="row")
    plt.close(fig)
    names = list(dict.fromkeys(name for arms in columns.values() for name in arms))
    for place, (title, arms) in enumerate(columns.items()):
        grid[0, place].set(title=title)
        for row, limit in enumerate(limits):
            for name, both in arms.items():
                values = np.clip(both[row], limit[0] / 10, limit[1] * 10)
                style = _style(names.index(name))
                style["marker"] = None
                median_and_range(grid[row, place], np.arange(len(values)), values, label=name, **style)
            grid[row, place].set(yscale="log", ylim=limit)
            grid[row, place].minorticks_off()
        grid[1, place].set(xlabel="block", xticks=range(0, len(values), 6))
    grid[0, 0].set_ylabel("stream")
    grid[1, 0].set_ylabel("gradient at the stream")
    handles = {label: handle for panel in grid[0] for handle, label in zip(*panel.get_legend_handles_labels())}
    fig.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=4)
    return fig


def by_depth(depths, curves, laws):
    """A gradient against the depth of the net, both axes logarithmic, with a law (dashes) for some arms.

    Args:
        depths: (K,).
        curves: dict from an arm to (K, E).
        laws: dict from an arm to (K,).
    """
    fig, panel = plt.subplots(figsize=(WIDTH, 2.9))
    plt.close(fig)
    for k, (name, values) in enumerate(curves.items()):
        median_and_range(panel, depths, values, label=name, **_style(k))
    for name, values in laws.items():
        panel.plot(depths, values, color=INK, lw=1, ls=(0, (2, 2)), label=name)
    panel.set(xscale="log", yscale="log", xlabel="blocks", ylabel="gradient, last block")
    panel.set_xticks(depths, [f"{depth}" for depth in depths])
    panel.set_yticks([0.2, 0.5, 1, 2], ["0.2", "0.5", "1", "2"])
    panel.minorticks_off()
    fig.legend(*panel.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return fig


def warm_up(rates, losses, levels, alike):
    """Left: the loss against the rate, with and without warm-up. Right: how alike the tokens are, step by step.

    Args:
        rates: (K,).
        losses: dict from an arm to (K, E).
        levels: dict from a name to a loss.
        alike: dict from an arm to (steps, E).
    """
    fig, (left, right) = plt.subplots(1, 2, figsize=(WIDTH, 3.4))
    plt.close(fig)
    for k, (name, values) in enumerate(losses.items()):
        median_and_range(left, rates, values, label=name, **_style(k))
    _levels(left, levels)
    left.set(xscale="log", xlabel="learning rate", ylabel="loss, second half", ylim=(0, 2.95))
    left.set_xticks([0.001, 0.004, 0.016, 0.064], ["0.001", "0.004", "0.016", "0.064"])
    left.minorticks_off()
    for name, values in alike.items():
        style = _style(list(losses).index(name))
        style["marker"] = None
        steps = np.unique(np.geomspace(1, len(values), 36).astype(int))  # few points: the page carries each of them
        median_and_range(right, steps, np.maximum(1 - values[steps - 1], 1e-5), label=name, **style)
    right.set(xscale="log", yscale="log", xlabel="step", ylabel="1 - cosine of two tokens")
    right.minorticks_off()
    fig.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return fig


def _levels(panel, levels):
    for name, level in levels.items():
        panel.axhline(level, color=INK, lw=0.8, ls=":")
        panel.annotate(name, (0.03, level), xycoords=("axes fraction", "data"), xytext=(0, -2),
                       textcoords="offset points", va="top", fontsize=8)


def to_failure(rates, arms, levels):
    """Against the rate: the loss, the largest attention logit and the entropy of attention; medians and ranges.

    Args:
        rates: (K,).
        arms: dict from a name to a dict with "copying loss", "largest logit" and "entropy", each (K, E).
        levels: dict from a name to a loss.
    """
    fig, panels = plt.subplots(3, 1, figsize=(WIDTH, 6.4), sharex=True, height_ratios=(1.5, 1, 1))
    plt.close(fig)
    for what, panel in zip(("copying loss", "largest logit", "entropy"), panels, strict=True):
        for k, (name, values) in enumerate(arms.items()):
            median_and_range(panel, rates, values[what], label=name, **_style(k))
    _levels(panels[0], levels)
    panels[0].set(xscale="log", ylabel="loss, second half", ylim=(0, 2.95))
    panels[1].set(yscale="log", ylabel="largest logit")
    panels[1].minorticks_off()
    panels[2].set(xlabel="learning rate", ylabel="entropy, nats", ylim=(0, None))
    panels[2].set_xticks(rates, [f"{rate:g}" for rate in rates])
    panels[2].minorticks_off()
    fig.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return fig
