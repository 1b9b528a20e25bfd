"""Figures of chapter 9: group norm."""

import matplotlib.pyplot as plt
import numpy as np

from ...plots import COLORS, INK, WIDTH

TICKS = [1, 2, 5, 10, 20, 50, 100]


def error_against_size(panels, sizes):
    """Test error against the samples that share a statistic, a panel for each head, with group norm as a level.

    Args:
        panels: dict from a title to a dict with "batch norm" (sizes, seeds), "group norm" and maybe "no norm" (seeds,).
        sizes: dict from a title to the samples that share a statistic, from many to one.
    """
    fig, grid = plt.subplots(2, len(panels) // 2, figsize=(WIDTH, 5.6), sharex=True, sharey=True)
    plt.close(fig)
    all_sizes = sorted({size for each in sizes.values() for size in each}, reverse=True)
    for panel, (title, arms) in zip(grid.flat, panels.items(), strict=True):
        places = np.array([all_sizes.index(size) for size in sizes[title]])
        panel.axhspan(arms["group norm"].min(), arms["group norm"].max(), color=COLORS[1], alpha=0.2, lw=0)
        panel.axhline(np.median(arms["group norm"]), color=COLORS[1], lw=3.5, alpha=0.7, label="group norm")
        if "no norm" in arms:
            panel.axhline(np.median(arms["no norm"]), color=INK, lw=1.4, ls=(0, (2, 2)), label="no norm")
        _medians(panel, places, arms["batch norm"], COLORS[0], "-o", "batch norm")
        panel.set(title=title, yscale="log", ylim=(0.9, 100), xlim=(-0.3, len(all_sizes) - 0.7))
        panel.set_xticks(range(len(all_sizes)), [f"{size}" for size in all_sizes])
        panel.set_yticks(TICKS, [f"{v}" for v in TICKS])
        panel.minorticks_off()
    for panel in grid[-1]:
        panel.set_xlabel("samples per statistic")
    for panel in grid[:, 0]:
        panel.set_ylabel("test error in %")
    handles, labels = grid.flat[0].get_legend_handles_labels()
    fig.legend(handles[::-1], labels[::-1], loc="outside lower center", ncols=3)
    return fig


def _medians(panel, x, values, color, style, label):
    """Medians of (places, seeds) as a line, with a bar for the range of the seeds."""
    middle = np.median(values, axis=1)
    panel.errorbar(x, middle, [middle - values.min(axis=1), values.max(axis=1) - middle], fmt=style, color=color, ms=5,
                   elinewidth=1.2, capsize=2.5, label=label)


def tiles(choices, samples=8, channels=8):
    """Which maps share a mean: squares are maps, a row of them a sample, and each box a statistic; one is filled.

    Args:
        choices: dict from a title to (samples, channels) of one box.
        samples, channels: of the whole batch.
    """
    fig, grid = plt.subplots(2, -(-len(choices) // 2), figsize=(WIDTH, 4.2))
    plt.close(fig)
    panels = grid.flat[: len(choices)]
    for panel in grid.flat[len(choices) :]:
        panel.set_axis_off()
    for k, (panel, (title, (tall, wide))) in enumerate(zip(panels, choices.items(), strict=True)):
        panel.add_patch(plt.Rectangle((0, 0), wide, tall, color=COLORS[k % len(COLORS)], alpha=0.75, lw=0))
        for edge in range(samples + 1):
            panel.plot([0, channels], [edge, edge], color=INK, lw=1.6 if edge % tall == 0 else 0.3)
        for edge in range(channels + 1):
            panel.plot([edge, edge], [0, samples], color=INK, lw=1.6 if edge % wide == 0 else 0.3)
        panel.set(aspect="equal", xticks=[], yticks=[], ylim=(samples + 0.1, -0.1))
        panel.set_title(title, fontsize=10)
        panel.spines[:].set_visible(False)
    panels[0].set_ylabel("samples", fontsize=10)
    panels[0].set_xlabel("channels", fontsize=10)
    return fig


def groups_of_entries(groups):
    """Which group each entry of a channels-last image falls into: rows of the image down, channels across.

    Args:
        groups: dict from a title to an array (rows, channels) of whole numbers.
    """
    fig, panels = plt.subplots(1, len(groups), figsize=(WIDTH, 2.5))
    plt.close(fig)
    for panel, (title, group) in zip(panels, groups.items(), strict=True):
        for row, column in np.ndindex(group.shape):
            g = group[row, column]
            panel.add_patch(plt.Rectangle((column, row), 0.92, 0.92, color=COLORS[g], alpha=0.75, lw=0))
            panel.text(column + 0.46, row + 0.48, f"{g}", ha="center", va="center", fontsize=10)
        panel.set(title=title, aspect="equal", xlim=(0, group.shape[1]), ylim=(group.shape[0], 0),
                  xlabel="channel", ylabel="row of the image")
        panel.set_xticks(np.arange(group.shape[1]) + 0.46, range(group.shape[1]))
        panel.set_yticks(np.arange(group.shape[0]) + 0.46, range(group.shape[0]))
        panel.tick_params(length=0)
        panel.spines[:].set_visible(False)
    return fig


def change_by_token(changes):
    """How far the output at each token moves when the last token is replaced; a panel for each layer.

    Args:
        changes: dict from a title to an array (T,).
    """
    fig, panels = plt.subplots(len(changes), 1, figsize=(WIDTH, 1.35 * len(changes)), sharex=True, sharey=True)
    plt.close(fig)
    for panel, (title, change), color in zip(panels, changes.items(), COLORS, strict=False):
        panel.bar(np.arange(1, len(change) + 1), change, color=color, alpha=0.75)
        panel.set(title=title)
    panels[-1].set(xlabel="token", xticks=range(1, len(change) + 1))
    fig.supylabel("change of the output", fontsize=11)
    return fig


def spread_against_size(sizes, ratios):
    """How much wider the head's inputs are in evaluation than in training: dots for the seeds, a line for the law.

    Args:
        sizes: samples that share a statistic.
        ratios: (sizes, seeds).
    """
    fig, panel = plt.subplots(figsize=(WIDTH, 2.9))
    plt.close(fig)
    k = np.geomspace(1.2, 40, 200)
    panel.plot(k, np.sqrt(k / (k - 1)), color=INK, ls="--", label="(9.5): root of k / (k - 1)")
    panel.plot(np.repeat(sizes, ratios.shape[1]), ratios.ravel(), "o", color=COLORS[0], ms=5, alpha=0.6, mew=0,
               label="measured, five nets a size")
    panel.set(xscale="log", ylim=(0.9, 2.45), xlabel="samples per statistic, k",
              ylabel="spread, stored / own")
    panel.set_xticks(sizes, [f"{size}" for size in sizes])
    panel.minorticks_off()
    panel.invert_xaxis()
    panel.legend()
    return fig


def mountain(samples, by_samples, channels, by_channels):
    """Test error against what a statistic is taken over: many samples, fewer, one map, more channels, all.

    Args:
        samples, channels: how many share a statistic.
        by_samples, by_channels: (len, seeds).
    """
    fig, panel = plt.subplots(figsize=(WIDTH, 3.5))
    plt.close(fig)
    left, right = np.arange(len(samples)), len(samples) + np.arange(len(channels))
    panel.axvline(len(samples) - 0.5, color=INK, lw=0.8, ls=":")
    _medians(panel, left, by_samples, COLORS[0], "-o", "k samples, one channel (batch norm)")
    _medians(panel, right, by_channels, COLORS[1], "--s", "k channels, one sample (group norm)")
    panel.set(yscale="log", ylim=(1, 120), ylabel="test error in %", xlabel="maps per statistic, k")
    panel.set_xticks([*left, *right], [*map(str, samples), *map(str, channels)])
    panel.set_yticks(TICKS, [f"{v}" for v in TICKS])
    panel.minorticks_off()
    fig.legend(*panel.get_legend_handles_labels(), loc="outside lower center")
    return fig
