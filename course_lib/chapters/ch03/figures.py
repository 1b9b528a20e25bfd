"""Figures of chapter 3: weight initialization."""

from itertools import cycle

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import LinearSegmentedColormap

from ... import plots
from ...plots import COLORS, INK, STYLES, WIDTH
from .measures import signal_map

MARKERS = "o^sDv"
FADING = LinearSegmentedColormap.from_list("fading", [COLORS[0], "#ffffff", COLORS[1]])


def map_of_scales(sigmas, depths, accuracy):
    """Depth against the scale of the weights: theory as colour and lines, training as dots.

    Args:
        sigmas: (S,), depths: (D,).
        accuracy: (S, D), of the median seed at the best learning rate.
    """
    fig, panel = plt.subplots(figsize=(WIDTH, 4.6))
    plt.close(fig)
    across, deepest = np.geomspace(0.62, 3.4, 40), 44
    growth, alike = signal_map(across, deepest)
    layers = np.arange(1, deepest + 1)
    levels = np.arange(-3, 3.1, 0.5)
    colour = panel.contourf(across, layers, np.log10(growth.T) / 2, levels, cmap=FADING, extend="both")
    panel.contour(across, layers, alike.T, [0.037], colors=INK, linestyles="--", linewidths=1.6)
    panel.contour(across, layers, growth.T, [1], colors=INK, linestyles=":", linewidths=1.6)
    panel.axvline(1, color=INK, lw=1.6)
    panel.text(1.02, 3.15, "χ = 1", color=INK, va="bottom")
    panel.text(2.55, 21, "likeness\nforgotten", color=INK, ha="center", fontsize=10)
    for s, sigma in enumerate(sigmas):
        for d, depth in enumerate(depths):
            face = INK if accuracy[s, d] >= 2 / 3 else "none"
            if accuracy[s, d] >= 1 / 3:
                panel.plot(sigma, depth, "o", ms=9, mfc=face, mec=INK, mew=1.6)
            else:
                panel.plot(sigma, depth, "x", ms=7, color=INK, mew=1.8)
    for label, marker, face in (("two thirds or more", "o", INK), ("a third or more", "o", "none"), ("less", "x", INK)):
        panel.plot([], [], marker, ms=8, mfc=face, mec=INK, mew=1.6, label=label)
    panel.set(xscale="log", yscale="log", xlabel="scale of the weights, σ", ylabel="hidden layers",
              xlim=(0.62, 3.4), ylim=(3, deepest))
    panel.set_xticks(sigmas, [f"{sigma:g}" for sigma in sigmas])
    panel.set_yticks(depths, [f"{depth}" for depth in depths])
    panel.minorticks_off()
    bar = fig.colorbar(colour, ticks=[-3, 0, 3], pad=0.02, extendfrac=0.03)
    bar.ax.set_yticklabels(["1/1000", "1", "1000"])
    bar.set_label("back-signal: bottom / top")
    bar.outline.set_visible(False)
    fig.legend(*panel.get_legend_handles_labels(), loc="outside upper center", ncols=3,
               title="digits right after training", title_fontsize=10)
    return fig


def rank_and_loss(steps, ranks, rates, losses):
    """Rank of the lower matrix over the steps, and the loss against the learning rate, one line for each start.

    Args:
        steps: (T,).
        ranks: dict from the name of a start to (T,).
        rates: (R,).
        losses: dict from the name of a start to (R, E).
    """
    fig, (left, right) = plt.subplots(2, 1, figsize=(WIDTH, 4.8))
    plt.close(fig)
    for (name, rank), color, marker, style in zip(ranks.items(), COLORS, MARKERS, STYLES):
        left.plot(np.arange(len(steps)), rank, marker=marker, ls=style, ms=5, color=color, label=name)
        plots.median_and_range(right, rates, np.nan_to_num(losses[name], nan=1e9), color=color, marker=marker,
                               style=style)
    left.set_xticks(range(len(steps)), [f"{step}" for step in steps])
    left.set(xlabel="step", ylabel="rank of W")
    right.set(xscale="log", yscale="log", xlabel="learning rate", ylabel="loss after 200 steps", ylim=(0.01, 30))
    _plain(right.xaxis, rates)
    fig.legend(*left.get_legend_handles_labels(), loc="outside upper center", ncols=2)
    return fig


def signals_of_three_scales(wide, narrow):
    """Activations, back-signals and weight gradients of all layers: a line for the wide net, dots for the narrow one.

    Args:
        wide: dict from a label to (3, K).
        narrow: dict from the same labels to (E, 3, K).
    """
    fig, panels = plt.subplots(1, 3, figsize=(WIDTH, 3.3), sharex=True, sharey=True)
    plt.close(fig)
    layers = 1 + np.arange(next(iter(wide.values())).shape[1])
    for (label, values), color, style in zip(wide.items(), COLORS, STYLES):
        for k, panel in enumerate(panels):
            panel.semilogy(layers, values[k], ls=style, color=color, label=f"s = {label}")
            panel.plot(layers, narrow[label][:, k].T, "o", color=color, ms=3.5, alpha=0.6, mew=0)
    for panel, title in zip(panels, ("activations", "back-signals", "weight gradients")):
        panel.set(title=title, xticks=layers, xlabel="layer")
        panel.title.set_fontsize(10)
    panels[0].set(ylabel="typical size", ylim=(0.03, 14))
    panels[0].set_yticks([0.1, 1, 10], ["0.1", "1", "10"])
    fig.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return fig


def two_directions(measured, predicted):
    """Mean squares of signal and gradient over the layers: dots measured, lines predicted; one panel each.

    Args:
        measured, predicted: dict from a label to (2, K), forward and backward.
    """
    fig, panels = plt.subplots(1, 2, figsize=(WIDTH, 3.2), sharey=True)
    plt.close(fig)
    for (label, lines), color, style, marker in zip(predicted.items(), COLORS, STYLES, MARKERS):
        for panel, line, dots in zip(panels, lines, measured[label]):
            layers = 1 + np.arange(len(line))
            panel.semilogy(layers, line, ls=style, color=color, lw=1.2)
            panel.plot(layers, dots, marker, color=color, ms=4, mew=0, label=label)
    for panel, title in zip(panels, ("forward, z", "backward, dz")):
        panel.set(title=title, xlabel="layer", xticks=[1, 5, 10, 15, 20])
    panels[0].set_ylabel("mean square")
    fig.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return fig


def over_depth(measured, predicted, *, letter, loglog=False):
    """Mean square of z over the layers: dots measured, lines predicted.

    Args:
        measured: dict from a label to (E, K).
        predicted: dict from a label, of those or new, to (K,).
        letter: what the labels of `measured` are values of.
    """
    fig, panel = plt.subplots(figsize=(WIDTH, 3.4))
    plt.close(fig)
    for (label, line), color, style in zip(predicted.items(), cycle(COLORS), cycle(STYLES)):
        layers = 1 + np.arange(len(line))
        seen = np.unique(np.geomspace(1, len(line), 20).astype(int)) if loglog else layers[::3]
        if label in measured:
            panel.plot(seen, measured[label].T[seen - 1], "o", color=color, ms=3.5, alpha=0.5, mew=0)
            panel.plot(layers, line, ls=style, color=color, label=f"{letter} = {label}")
        else:
            panel.plot(layers, line, ls=":", color=INK, label=label)
    panel.set(xlabel="layer", ylabel="mean square of z", yscale="log", xscale="log" if loglog else "linear")
    if loglog:
        _plain(panel.xaxis, [1, 2, 5, 10, 20, 50, 100])
    fig.legend(*panel.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return fig


def steps_against_rate(rates, steps, *, ylabel, top):
    """Steps to a target against the learning rate: median and range of the seeds, a cross where half do not arrive.

    Args:
        rates: (R,).
        steps: dict from the name of an arm to (R, E), infinite where a seed did not arrive.
    """
    fig, panel = plt.subplots(figsize=(WIDTH, 3.4))
    plt.close(fig)
    _steps(panel, rates, steps, top)
    panel.set(xlabel="learning rate times depth", ylabel=ylabel)
    fig.legend(*panel.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return fig


def stream_and_steps(blocks, measured, predicted, rates, steps, *, top):
    """Mean square of the residual stream over the blocks, and steps to the target against the learning rate.

    Args:
        blocks: (K,), their numbers; measured: dict to (E, K); predicted: dict to (K,).
        rates, steps, top: as in `steps_against_rate`.
    """
    fig, (left, right) = plt.subplots(2, 1, figsize=(WIDTH, 5.4))
    plt.close(fig)
    for (label, line), color, style in zip(predicted.items(), COLORS, STYLES):
        left.semilogy(blocks, line, ls=style, color=color)
        left.plot(blocks, measured[label].T, "o", color=color, ms=3.5, alpha=0.6, mew=0)
    left.set(xlabel="block", ylabel="mean square of x")
    _steps(right, rates, {f"r = {label}": arm for label, arm in steps.items()}, top)
    right.set(xlabel="learning rate", ylabel="steps to 90 %")
    fig.legend(*right.get_legend_handles_labels(), loc="outside upper center", ncols=2)
    return fig


def loss_against_rate(rates, losses):
    """Loss against the learning rate for several widths, one panel for each way to scale; the best rate is marked.

    Args:
        rates: (R,).
        losses: dict from the title of a panel to a dict from a width to (R, E).
    """
    fig, panels = plt.subplots(len(losses), 1, figsize=(WIDTH, 5.2), sharex=True, sharey=True)
    plt.close(fig)
    for panel, (title, widths) in zip(panels, losses.items()):
        for (n, loss), color, style, marker in zip(widths.items(), COLORS, STYLES, MARKERS):
            plots.median_and_range(panel, rates, np.nan_to_num(loss, nan=1e9), color=color, style=style,
                                   label=f"width {n}")
            best = np.median(loss, axis=1).argmin()
            panel.plot(rates[best], np.median(loss[best]), marker, color=color, ms=9, mec=INK)
        panel.set(title=title, xscale="log", yscale="log", ylabel="loss", ylim=(0.03, 2.5))
        panel.set_yticks([0.1, 1], ["0.1", "1"])
    panels[-1].set_xlabel("learning rate")
    _plain(panels[-1].xaxis, [0.001, 0.002, 0.005, 0.01, 0.02, 0.05])
    fig.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return fig


def _steps(panel, rates, steps, top):
    for (label, arm), color, style, marker in zip(steps.items(), COLORS, STYLES, MARKERS):
        plots.steps_against_rate(panel, rates, arm, most=top, color=color, style=style, marker=marker, label=label)
    panel.set_xlim(0.8 * min(rates), 1.25 * max(rates))
    _plain(panel.xaxis, rates)
    _plain(panel.yaxis, [tick for tick in (10, 20, 50, 100, 150) if tick <= top])


def _plain(axis, ticks):
    axis.set_ticks(ticks, [f"{tick:g}" for tick in ticks])
    axis.set_minor_formatter("")
    axis.set_ticks([], minor=True)
