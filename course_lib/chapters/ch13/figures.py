"""Figures of chapter 13: which norm, when, and none at all."""

import textwrap

import matplotlib.pyplot as plt
import numpy as np

from ...plots import COLORS, INK, WIDTH, median_and_range

FAMILY = {"none": INK, "weight norm": COLORS[1], "weight standardization": COLORS[1], "SkipInit": COLORS[2],
          "DyT": COLORS[3]}  # all others norm the activations
EVIDENCE = {"measured here": COLORS[2], "reported": COLORS[1], "by definition": COLORS[0]}  # the marks of the card
SHORT = {"weight standardization": "weight stand.", "instance norm": "instance norm"}


def race(panels, *, ticks, xlabel="test error in %"):
    """Every arm of every task: a dot for each seed, a bar at the median, and a band where "none" lies.

    Args:
        panels: dict from a title to a dict from an arm to an array (seeds,).
        ticks: dict from a title to the numbers on its axis.
    """
    arms = list(next(iter(panels.values())))
    fig, grid = plt.subplots(1, len(panels), figsize=(WIDTH, 0.9 + 0.27 * len(arms)), sharey=True, squeeze=False)
    plt.close(fig)
    for panel, (title, found) in zip(grid[0], panels.items()):
        panel.axvspan(found["none"].min(), found["none"].max(), color=INK, alpha=0.13, lw=0)
        for place, arm in enumerate(arms):
            color = FAMILY.get(arm, COLORS[0])
            panel.plot(found[arm], np.full(len(found[arm]), place), "o", color=color, ms=4, alpha=0.5, mew=0)
            panel.plot([np.median(found[arm])] * 2, [place - 0.33, place + 0.33], color=color, lw=2.4)
        panel.set(title=title, xscale="log", xlabel=xlabel, ylim=(len(arms) - 0.4, -0.6))
        panel.set_xticks(ticks[title], [f"{tick:g}" for tick in ticks[title]])
        panel.minorticks_off()
        panel.tick_params(axis="y", length=0)
        panel.set_yticks(range(len(arms)), [SHORT.get(arm, arm) for arm in arms])
    return fig


def ratios(panels, *, ticks):
    """Each arm's errors over those of "none" on the same seed: the mean of ten, and two intervals around it.

    Args:
        panels: dict from a title to a dict from an arm to (mean, half of the narrow interval, half of the wide one),
            all of logarithms.
        ticks: dict from a title to the numbers on its axis.
    """
    arms = list(next(iter(panels.values())))
    fig, grid = plt.subplots(1, len(panels), figsize=(WIDTH, 1.1 + 0.27 * len(arms)), sharey=True)
    plt.close(fig)
    for panel, (title, found) in zip(grid, panels.items()):
        panel.axvline(1, color=INK, lw=1)
        for place, arm in enumerate(arms):
            color = FAMILY.get(arm, COLORS[0])
            mean, narrow, wide = found[arm]
            panel.plot(np.exp([mean - wide, mean + wide]), [place] * 2, color=color, lw=1.2)
            panel.plot(np.exp([mean - narrow, mean + narrow]), [place] * 2, color=color, lw=4, alpha=0.55,
                       solid_capstyle="butt")
            panel.plot(np.exp(mean), place, "o", color=color, ms=5)
        panel.set(title=title, xscale="log", xlabel="errors, over those of none", ylim=(len(arms) - 0.4, -0.6))
        panel.set_xticks(ticks[title], [f"{tick:g}" for tick in ticks[title]])
        panel.minorticks_off()
        panel.tick_params(axis="y", length=0)
        panel.set_yticks(range(len(arms)), [SHORT.get(arm, arm) for arm in arms])
    return fig


def winners(arms, chances, level):
    """How often some arm "differs" though all are equal, against the number of arms held against one.

    Args:
        arms: (K,).
        chances: dict from a label to (K,).
        level: what one test allows.
    """
    fig, panel = plt.subplots(figsize=(WIDTH, 2.8))
    plt.close(fig)
    for (label, values), color, style in zip(chances.items(), [COLORS[0], INK, COLORS[2]], ["-o", "--", "-s"]):
        panel.plot(arms, 100 * np.asarray(values), style, color=color, ms=5, label=label)
    panel.axhline(100 * level, color=INK, lw=0.8, ls=":")
    panel.set(xlabel="arms held against none", ylabel="false findings, in %\nof the races", ylim=(0, None))
    panel.set_xticks(arms)
    fig.legend(*panel.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return fig


def error_against_rate(panels, *, ticks):
    """Validation error against the learning rate: medians and ranges of the tuning seeds.

    Args:
        panels: dict from a title to a dict from an arm to (rates, errors (rates, seeds)).
        ticks: numbers on the axis of the error.
    """
    fig, grid = plt.subplots(1, len(panels), figsize=(WIDTH, 3.4), sharey=True, squeeze=False)
    plt.close(fig)
    colors = {"none": INK, "batch norm": COLORS[0], "layer norm": COLORS[1], "SkipInit": COLORS[2], "DyT": COLORS[3]}
    for panel, (title, found) in zip(grid[0], panels.items()):
        for (arm, (rates, errors)), marker in zip(found.items(), "osD^vPX"):
            median_and_range(panel, rates, errors, color=colors.get(arm, COLORS[4]), marker=marker, label=arm)
        rates = sorted({rate for rates, _ in found.values() for rate in rates})[:: 2 if len(found) > 3 else 1]
        panel.set(title=title, xscale="log", yscale="log", xlabel="learning rate")
        panel.set_xticks(rates, [f"{rate:g}" for rate in rates], fontsize=9)
        panel.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
        panel.minorticks_off()
    grid[0, 0].set_ylabel("validation error in %")
    handles = {label: handle for panel in grid[0]
               for handle, label in zip(*panel.get_legend_handles_labels())}
    fig.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=3)
    return fig


def growth(blocks, streams):
    """Mean square of the stream after each block, at the start: medians and ranges of nets.

    Args:
        blocks: (L,).
        streams: dict from a label to (L, nets).
    """
    fig, panel = plt.subplots(figsize=(WIDTH, 2.9))
    plt.close(fig)
    for (label, values), color, marker in zip(streams.items(), [INK, *COLORS], "osD^v"):
        median_and_range(panel, blocks, values, color=color, marker=marker, label=label)
    panel.set(yscale="log", xlabel="block", ylabel="mean square\nof the stream")
    panel.set_xticks(blocks[::4])
    fig.legend(*panel.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return fig


def card(title, rows, below):
    """The guide on one page of A4, to print: for each row the case, what to take, and on what evidence.

    Args:
        rows: (case, advice, evidence), where the evidence says "measured here", "reported" or "by definition"; each
            of these gives the row a mark.
        below: a line at the foot.
    """
    fig = plt.figure(figsize=(8.27, 11.69), layout="none", facecolor="white")
    plt.close(fig)
    fig.text(0.08, 0.945, title, fontsize=20, weight="bold", color=INK)
    place = 0.915
    for case, advice, evidence in rows:
        marks = sorted((evidence.index(word), color) for word, color in EVIDENCE.items() if word in evidence)
        advice, evidence = textwrap.wrap(advice, 90), textwrap.wrap(evidence, 112)
        height = 0.0275 + 0.0155 * len(advice) + 0.0128 * len(evidence)
        for k, (_, color) in enumerate(marks):
            fig.add_artist(plt.Rectangle((0.064 - 0.008 * k, place - height + 0.012), 0.006, height - 0.011,
                                         color=color, lw=0))
        fig.text(0.08, place - 0.006, case, fontsize=11.5, weight="bold", color=INK)
        for k, line in enumerate(advice):
            fig.text(0.08, place - 0.0235 - 0.0155 * k, line, fontsize=10.5, color=INK)
        for k, line in enumerate(evidence):
            fig.text(0.08, place - 0.022 - 0.0155 * len(advice) - 0.0128 * k, line, fontsize=8.5, color=INK,
                     style="italic")
        place -= height
    for k, (word, color) in enumerate(EVIDENCE.items()):
        fig.add_artist(plt.Rectangle((0.08 + 0.15 * k, 0.079), 0.012, 0.0085, color=color, lw=0))
        fig.text(0.097 + 0.15 * k, 0.0795, word, fontsize=8.5, color=INK)
    fig.text(0.08, 0.03, "\n".join(textwrap.wrap(below, 115)), fontsize=8, color=INK)
    return fig
