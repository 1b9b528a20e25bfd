"""Figures of chapter 1: internal covariate shift."""

import matplotlib.pyplot as plt
import numpy as np

from ...plots import COLORS, INK, STYLES, WIDTH

MARKERS = ["o", "s", "^"]


def steps_by_rate_and_dose(by_rate, by_dose, accuracy):
    """Steps to an accuracy against the learning rate and against the dose of noise, a line for each net.

    Lines are medians over the seeds, bands their ranges.  A point above the
    dotted line means that most seeds did not arrive.

    Args:
        by_rate, by_dose: Sweep, the second over doses.
    """
    fig, panels = plt.subplots(2, 1, figsize=(WIDTH, 5.4))
    plt.close(fig)
    places = np.arange(len(by_dose.lrs))
    _steps(panels[0], by_rate.lrs, {arm: by_rate.steps(arm, accuracy) for arm in by_rate.histories})
    _steps(panels[1], places, {arm: by_dose.steps(arm, accuracy) for arm in by_dose.histories})
    panels[0].set(xscale="log", xlabel="learning rate")
    panels[0].set_xticks(by_rate.lrs, [f"{lr:g}" for lr in by_rate.lrs])
    panels[0].minorticks_off()
    panels[1].set(xlabel="dose of noise, at learning rate 1")
    panels[1].set_xticks(places, [f"{dose:g}" for dose in by_dose.lrs])
    fig.supylabel(f"steps to {100 * accuracy:.0f} % test accuracy", fontsize=11)
    fig.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, columnspacing=1.2)
    return fig


def _steps(panel, x, steps_by_arm):
    """Medians and ranges of (x, seeds) steps on a log axis, with a row on top for those that never arrive."""
    finite = np.concatenate([steps[np.isfinite(steps)] for steps in steps_by_arm.values()])
    never = 1.9 * finite.max()
    for (arm, steps), color, style, marker in zip(steps_by_arm.items(), COLORS, STYLES, MARKERS):
        median = np.sort(steps, axis=1)[:, steps.shape[1] // 2]
        shown = [np.minimum(values, never) for values in (median, steps.min(axis=1), steps.max(axis=1))]
        panel.fill_between(x, shown[1], shown[2], color=color, alpha=0.2, lw=0)
        panel.plot(x, shown[0], style, color=color, marker=marker, ms=5, label=arm)
    panel.axhline(1.35 * finite.max(), color=INK, lw=0.8, ls=":")
    panel.set(yscale="log", ylim=(0.8 * finite.min(), 1.25 * never))
    ticks = [v for v in (10, 20, 50, 100, 200, 500) if 0.8 * finite.min() <= v <= 1.35 * finite.max()]
    panel.set_yticks([*ticks, never], [*(f"{v}" for v in ticks), "never"])
    panel.minorticks_off()


def fits_under_shift(x_train, y_train, x_test, y_test, lines):
    """Training and test samples on the curve x**3 - x, and straight lines fitted to them.

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
    curve = np.linspace(*across, 200)
    panel.plot(curve, curve**3 - curve, color=INK, lw=0.8, label="the truth")
    panel.set(xlabel="x", ylabel="y", ylim=(-1.5, 2.5))
    fig.legend(*panel.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return fig


def percentile_tracks(step, tracks):
    """The 15th, 50th and 85th percentile of one activation's input during training, a panel for each net.

    Args:
        step: (T,).
        tracks: dict from a title to an array (T, 3).
    """
    fig, panels = plt.subplots(len(tracks), 1, figsize=(WIDTH, 1.8 * len(tracks)), sharex=True, sharey=True)
    plt.close(fig)
    for panel, (title, track), color in zip(panels, tracks.items(), COLORS):
        panel.fill_between(step, track[:, 0], track[:, 2], color=color, alpha=0.25, lw=0)
        panel.plot(step, track[:, [0, 2]], color=color, lw=1)
        panel.plot(step, track[:, 1], color=color)
        for name, value in zip(("15 %", "50 %", "85 %"), track[-1]):
            panel.annotate(name, (step[-1], value), (4, 0), textcoords="offset points", va="center", fontsize=9)
        panel.set(title=title)
    panels[-1].set(xlabel="training step", xlim=(0, 1.1 * step[-1]))
    fig.supylabel("input of one sigmoid", fontsize=11)
    return fig


def centre_and_width(step, moves):
    """How far centres, and how far widths, have moved: a panel for each, a line for each net.

    Args:
        step: (T,), from 0.
        moves: dict from a label to a pair of arrays (T, E): of the centre, of the width.
    """
    fig, panels = plt.subplots(1, 2, figsize=(WIDTH, 3.3), sharey=True)
    plt.close(fig)
    for k, (panel, title) in enumerate(zip(panels, ("centre", "width"))):
        for (label, pair), color, style in zip(moves.items(), COLORS, STYLES):
            panel.fill_between(step[1:], pair[k][1:].min(axis=1), pair[k][1:].max(axis=1), color=color, alpha=0.2, lw=0)
            panel.plot(step[1:], np.median(pair[k][1:], axis=1), style, color=color, label=label)
        panel.set(title=title, xscale="log", xlabel="training step")
        panel.xaxis.set_major_formatter("{x:g}")
    panels[0].set_ylabel("moved since the start")
    fig.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, columnspacing=1.2)
    return fig


def nudge_by_layer(change, predicted, share):
    """A small change in each layer: its size, measured (dots) and predicted (lines), and in percent of the signal.

    Args:
        change, predicted: mean squares, dict from a label to an array (E, layers).
        share: in percent, dict from a label to an array (E, layers).
    """
    fig, (left, right) = plt.subplots(1, 2, figsize=(WIDTH, 3.5))
    plt.close(fig)
    for (label, size), color, style, marker in zip(change.items(), COLORS, STYLES, [*MARKERS, "D"]):
        layers = np.arange(1, size.shape[1] + 1)
        left.plot(layers, np.exp(np.log(predicted[label]).mean(axis=0) / 2), style, color=color, label=label)
        left.plot(layers, np.sqrt(size.T), marker, color=color, ms=3, alpha=0.5, mew=0)
        right.plot(layers, share[label].mean(axis=0), style, color=color)
        right.plot(layers, share[label].T, marker, color=color, ms=3, alpha=0.5, mew=0)
    left.set(title="size of the change", yscale="log")
    right.set(title="% of the signal", yscale="log", yticks=[1, 2, 5, 10, 20], yticklabels=[1, 2, 5, 10, 20])
    right.minorticks_off()
    for panel in (left, right):
        panel.set(xlabel="layer", xticks=layers[::3])
    fig.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=4, columnspacing=1.2)
    return fig
