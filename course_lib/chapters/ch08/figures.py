"""Figures of chapter 8: instance norm, style, condition."""

import matplotlib.pyplot as plt
import numpy as np

from ...plots import COLORS, INK, WIDTH


def gallery(rows, titles, *, limits=(0, 1), height=0.95):
    """Rows of small images, each row with its name.

    Args:
        rows: dict from a name to a list of images (H, W), or None for an empty place.
        titles: one for each column.
        limits: the values drawn white and black.
        height: of a row, in inches.
    """
    fig, panels = plt.subplots(len(rows), len(titles), figsize=(WIDTH, height * len(rows)), squeeze=False,
                               gridspec_kw={"wspace": 0.08, "hspace": 0.08})
    plt.close(fig)
    for line, (name, images) in zip(panels, rows.items(), strict=True):
        for panel, image in zip(line, images, strict=True):
            panel.set(xticks=[], yticks=[])
            panel.spines[:].set_visible(False)
            if image is not None:
                panel.imshow(np.asarray(image), cmap="gray_r", vmin=limits[0], vmax=limits[1], interpolation="nearest")
        line[0].set_ylabel(name, fontsize=9, rotation=0, ha="right", va="center")
    for panel, title in zip(panels[0], titles, strict=True):
        panel.set_title(title, fontsize=9, loc="center")
    return fig


def accuracy_against_change(strengths, arms):
    """Accuracy against how strongly contrast and brightness of each image are changed: medians and ranges.

    Args:
        strengths: (K,).
        arms: dict from a name to an array (K, E) in percent.
    """
    fig, panel = plt.subplots(figsize=(WIDTH, 3.2))
    plt.close(fig)
    for (label, values), color, style, marker in zip(arms.items(), COLORS, ("-", "--", "-.", "-", ":"), "osDv^",
                                                     strict=False):
        low, middle, high = np.percentile(values, (0, 50, 100), axis=1)
        panel.fill_between(strengths, low, high, color=color, alpha=0.13, lw=0)
        panel.plot(strengths, middle, ls=style, marker=marker, color=color, ms=4.5, label=label)
    panel.set(xlabel="strength of the change, s", ylabel="test accuracy in %", ylim=(40, 101))
    fig.legend(*panel.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return fig


def errors_by_question(questions, arms):
    """Wrong answers to each question, a mark for each way to tell it: medians and ranges of the seeds.

    Args:
        questions: their names.
        arms: dict from a name to an array (E, questions) in percent.
    """
    fig, panel = plt.subplots(figsize=(WIDTH, 3.2))
    plt.close(fig)
    for k, ((label, values), marker) in enumerate(zip(arms.items(), "xosD^", strict=True)):
        x = np.arange(len(questions)) + 0.14 * (k - 2)
        low, middle, high = np.percentile(values, (0, 50, 100), axis=0)
        panel.errorbar(x, middle, [middle - low, high - middle], fmt=marker, color=COLORS[k], ms=5, capsize=2, lw=1.2,
                       label=label)
    panel.set(ylabel="wrong answers in %", ylim=(0, 95))
    panel.set_xticks(range(len(questions)), questions)
    panel.tick_params(axis="x", length=0)
    fig.legend(*panel.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return fig


def loss_by_arm(panels, *, stuck):
    """Held-out loss of each arm at its best rate: a dot for each seed, a line at the median; a panel for each kind.

    Args:
        panels: dict from a title to a dict from the name of an arm to an array (E,).
        stuck: the loss of a net that knows the class and does not look at the picture.
    """
    heights = [len(arms) for arms in panels.values()]
    fig, grid = plt.subplots(len(panels), 1, figsize=(WIDTH, 0.9 + 0.42 * sum(heights)), sharex=True,
                             gridspec_kw={"height_ratios": heights})
    plt.close(fig)
    for panel, (title, arms) in zip(grid, panels.items(), strict=True):
        for k, (name, values) in enumerate(arms.items()):
            color = COLORS[0] if "AdaLN" in name else COLORS[1]
            panel.plot(values, np.full(len(values), k), "o", color=color, ms=5, alpha=0.6, mew=0)
            panel.plot([np.median(values)] * 2, [k - 0.32, k + 0.32], color=color, lw=2)
        panel.axvline(stuck, color=INK, lw=1, ls=":")
        panel.set(title=title, ylim=(len(arms) - 0.4, -0.6))
        panel.set_yticks(range(len(arms)), list(arms))
        panel.tick_params(axis="y", length=0)
    grid[0].text(stuck, -0.55, "class alone ", ha="right", va="top", fontsize=9)
    grid[-1].set_xlabel("held-out loss, each arm at its best rate")
    return fig
