"""The figures of the course: each function takes arrays and returns a Figure."""

import os
from itertools import cycle

import matplotlib as mpl
import matplotlib.font_manager
import matplotlib.pyplot as plt
import numpy as np

INK = "#39424e"
COLORS = ["#3b82c4", "#d97706", "#2f9e6e", "#b0569c", "#7c8a9a"]
STYLES = ["-", "--", "-.", ":", (0, (5, 1.5, 1, 1.5, 1, 1.5))]
WIDTH = 5.2  # inches; with the font sizes below still readable on a phone


def setup():
    """Vector figures in the style of the course; call it once, in a notebook's first cell.

    They are drawn in dark ink.  On the site the background is transparent and
    the dark theme inverts the ink; elsewhere the background is white.
    """
    from matplotlib_inline.backend_inline import set_matplotlib_formats

    set_matplotlib_formats("svg", metadata={"Date": None})
    face = "none" if os.environ.get("COURSE_SITE") else "white"
    font = os.environ.get("COURSE_FONT")  # the site's font, while the site is built
    if font:
        mpl.font_manager.fontManager.addfont(font)
        mpl.rcParams["font.family"] = ["Inter", "DejaVu Sans"]
    mpl.rcParams.update({
        "figure.figsize": (WIDTH, 3.0), "figure.constrained_layout.use": True, "figure.facecolor": face,
        "axes.facecolor": face, "savefig.facecolor": face, "axes.edgecolor": INK, "axes.labelcolor": INK,
        "axes.titlesize": 11, "axes.titlelocation": "left", "axes.labelsize": 11, "axes.spines.top": False,
        "axes.spines.right": False, "axes.prop_cycle": mpl.cycler(color=COLORS), "font.size": 11,
        "xtick.color": INK, "ytick.color": INK, "xtick.labelsize": 10, "ytick.labelsize": 10, "text.color": INK,
        "grid.color": INK, "grid.alpha": 0.2, "legend.frameon": False, "legend.fontsize": 10, "lines.linewidth": 1.8,
        "svg.hashsalt": "course", "svg.fonttype": "path",
    })


def over_steps(step, curves, *, ylabel, log_steps=False, log_values=False):
    """A quantity during training: each run as a thin line, the mean of the runs as a thick one.

    Args:
        step: (T,).
        curves: dict from a label to an array (T, E).
    """
    fig, panel = plt.subplots(figsize=(WIDTH, 3.2))
    plt.close(fig)
    shown = slice(1 if log_steps else 0, None)  # a log axis has no step 0
    for (label, values), color, style in zip(curves.items(), cycle(COLORS), cycle(STYLES)):
        panel.plot(step[shown], values[shown], color=color, alpha=0.35, lw=0.8)
        panel.plot(step[shown], values[shown].mean(axis=1), ls=style, color=color, label=label)
    scale = {False: "linear", True: "log"}
    panel.set(xlabel="training step", ylabel=ylabel, xscale=scale[log_steps], yscale=scale[log_values])
    if log_steps:
        panel.xaxis.set_major_formatter("{x:g}")
        panel.xaxis.set_minor_formatter("")
    fig.legend(*panel.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return fig


def over_layers(curves, *, ylabel, first=1, log=False):
    """A quantity against the number of the layer: dots for the runs, a line through their means.

    Args:
        curves: dict from a label to an array (E, layers).
        first: the number of the first layer.
    """
    fig, panel = plt.subplots(figsize=(WIDTH, 3.2))
    plt.close(fig)
    for (label, values), color, style in zip(curves.items(), cycle(COLORS), cycle(STYLES)):
        layers = first + np.arange(values.shape[1])
        panel.plot(layers, values.T, "o", color=color, ms=3, alpha=0.5, mew=0)
        panel.plot(layers, values.mean(axis=0), ls=style, color=color, label=label)
    panel.set(xlabel="layer", ylabel=ylabel, yscale="log" if log else "linear", xticks=layers)
    fig.legend(*panel.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return fig


def median_and_range(panel, x, values, *, color, style="-", marker=None, label=None):
    """Draw into a panel: the median of the runs as a line, their range as a band.

    Args:
        x: (K,).
        values: (K, E), one column for each run.
    """
    low, middle, high = np.percentile(values, (0, 50, 100), axis=1)
    panel.fill_between(x, low, high, color=color, alpha=0.15, lw=0)
    panel.plot(x, middle, ls=style, marker=marker, color=color, ms=4.5, label=label)


def steps_against_rate(panel, rates, steps, *, most, color, style="-", marker=None, label=None):
    """`median_and_range` of the steps to a target, both axes logarithmic, where more than half of the runs arrive.

    Args:
        rates: (K,).
        steps: (K, E), infinite where a run did not arrive.
        most: the largest number of steps; the band is cut there.
    """
    there = np.median(steps, axis=1) <= most
    median_and_range(panel, np.asarray(rates)[there], np.minimum(steps, most)[there], color=color, style=style,
                     marker=marker, label=label)
    panel.set(xscale="log", yscale="log", ylim=(None, most))
