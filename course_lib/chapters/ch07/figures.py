"""Figures of chapter 7: layer norm and RMS norm."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import Rectangle

from ... import plots
from ...plots import COLORS, INK, STYLES, WIDTH

MARKERS = ["s", "o", "^", "v"]
ROWS, COLUMNS = 4, 5  # of the small pictures of x beside the table


def invariances(seen, tolerance):
    """Which changes of x (rows) each layer (columns) cannot see, with a small picture of each change.

    Args:
        seen: dict from the name of a change to a dict from the name of a layer to the relative change of its output.
        tolerance: below it, a layer has not seen the change.
    """
    fig, panel = plt.subplots(figsize=(WIDTH, 0.62 * len(seen) + 0.7))
    plt.close(fig)
    for y, (change, outcomes) in enumerate(seen.items()):
        _small_picture(panel, change, y)
        panel.text(1.05, y, change, va="center")
        for x, (layer, size) in enumerate(outcomes.items()):
            blind = size < tolerance
            panel.add_patch(Rectangle((4.72 + 1.35 * x, y - 0.42), 1.27, 0.84, lw=0, fc=COLORS[0] if blind else INK,
                                      alpha=0.9 if blind else 0.07))
            panel.text(5.355 + 1.35 * x, y, "blind" if blind else f"{size:.2f}", ha="center", va="center",
                       color="white" if blind else INK)
            if y == 0:
                panel.text(5.355 + 1.35 * x, -0.68, layer.replace(" ", "\n"), ha="center", va="bottom")
    panel.set(xlim=(0, 10.1), ylim=(len(seen) - 0.5, -1.7))
    panel.set_axis_off()
    return fig


def _small_picture(panel, change, y):
    """x as a grid, samples by features, the changed entries filled."""
    width, height = 0.85 / COLUMNS, 0.84 / ROWS
    for i in range(ROWS):
        for j in range(COLUMNS):
            changed = {"one sample": i == 0, "other samples": i > 0, "one feature": j == 0,
                       "other features": j > 0}.get(" ".join(change.split()[:2]), True)
            panel.add_patch(Rectangle((width * j, y - 0.42 + height * i), width, height, lw=0.6, ec=INK,
                                      fc=COLORS[1] if changed else "none"))


def ring_maps(maps, points, labels):
    """What each net says of each point of the plane, one panel a net, with some samples.

    Args:
        maps: dict from a title to an array (K, K) of probabilities of the outer ring, over [-2.2, 2.2] twice.
        points, labels: (N, 2), (N,).
    """
    fig, grid = plt.subplots(2, len(maps) // 2, figsize=(WIDTH, 4.05), sharex=True, sharey=True)
    plt.close(fig)
    for panel, (title, share) in zip(grid.flat, maps.items(), strict=True):
        panel.imshow(share > 0.5, extent=(-2.2, 2.2, -2.2, 2.2), origin="lower", cmap="RdBu_r", vmin=-0.9, vmax=1.9,
                     interpolation="nearest")
        for label, marker in ((0, "o"), (1, "s")):
            across, up = points[labels == label].T
            panel.plot(across, up, marker, color=INK, mfc="white" if label else INK, ms=2.6, mew=0.6)
        panel.set_title(title, fontsize=10)
        panel.set(xticks=[], yticks=[])
        panel.spines[:].set_visible(False)
    return fig


def project_and_sphere(x):
    """Where layer norm (left) and RMS norm (right) of three features send the same samples, eps = 0.

    Args:
        x: (N, 3).
    """
    fig, panels = plt.subplots(1, 2, figsize=(WIDTH, 2.75), subplot_kw={"projection": "3d"})
    plt.close(fig)
    d = x - x.mean(axis=1, keepdims=True)
    ends = {"layer norm": d * np.sqrt(3) / np.linalg.norm(d, axis=1, keepdims=True),
            "RMS norm": x * np.sqrt(3) / np.linalg.norm(x, axis=1, keepdims=True)}
    one, two = np.array([1, -1, 0]) / np.sqrt(2), np.array([1, 1, -2]) / np.sqrt(6)
    angle = np.linspace(0, 2 * np.pi, 100)
    circle = np.sqrt(3) * (np.outer(np.cos(angle), one) + np.outer(np.sin(angle), two))
    for panel, (title, y) in zip(panels, ends.items(), strict=True):
        across, up = np.meshgrid(np.linspace(0, 2 * np.pi, 25), np.linspace(0, np.pi, 13))
        panel.plot_wireframe(*(np.sqrt(3) * v for v in (np.cos(across) * np.sin(up), np.sin(across) * np.sin(up),
                                                      np.cos(up))), color=INK, alpha=0.13, lw=0.5)
        ones = np.array([-1.9, 1.9])
        panel.plot(ones, ones, ones, ":", color=INK, lw=1.2)
        panel.text(1.6, 1.6, 2.05, "1", color=INK, fontsize=13, ha="center")
        if title == "layer norm":
            panel.plot(*circle.T, color=COLORS[0], lw=1.6)
        for start, middle, end in zip(x, d, y, strict=True):
            way = [start, middle, end] if title == "layer norm" else [start, end]
            panel.plot(*np.transpose(way), color=COLORS[4], lw=0.9)
        panel.plot(*x.T, "o", color=COLORS[1], ms=3.5, mew=0)
        panel.plot(*y.T, "o", color=COLORS[0], ms=4.5, mew=0)
        panel.set_title(title, loc="center", y=0.97)
        panel.set(xlim=(-2, 2), ylim=(-2, 2), zlim=(-2, 2))
        panel.set_box_aspect((1, 1, 1), zoom=1.45)
        panel.view_init(elev=20, azim=-18)
        panel.set_axis_off()
    return fig


def steps_against_rate(sweeps, accuracy):
    """Steps to an accuracy against the learning rate, a panel for each sweep: medians and ranges of the seeds.

    Args:
        sweeps: dict from the title of a panel to a Sweep.
    """
    fig, panels = plt.subplots(1, len(sweeps), figsize=(WIDTH, 3.3), sharey=True)
    plt.close(fig)
    top = 150
    for panel, (title, each) in zip(panels, sweeps.items(), strict=True):
        for arm, color, style, marker in zip(each.histories, (COLORS[4], *COLORS), STYLES, MARKERS):
            plots.steps_against_rate(panel, each.lrs, each.steps(arm, accuracy), most=top, color=color, style=style,
                                     marker=marker, label=arm)
        panel.set(title=title, xlabel="learning rate", ylim=(14, top))
        panel.set_xticks([0.25, 0.5, 1, 2], ["1/4", "1/2", "1", "2"])
        panel.set_yticks([20, 50, 100], ["20", "50", "100"])
        panel.minorticks_off()
    panels[0].set_ylabel(f"steps to {100 * accuracy:.0f} % of test images")
    fig.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=4)
    return fig


def token_axes():
    """Two sequences of four tokens with five features, one of them padded; entries of one colour share a statistic."""
    rules = {"batch norm: over B and T": lambda b, t, d: d, "over T and D": lambda b, t, d: b,
             "layer and RMS norm: over D": lambda b, t, d: 4 * b + t}
    fig, panels = plt.subplots(1, 3, figsize=(WIDTH, 2.5))
    plt.close(fig)
    colors = plt.get_cmap("tab20")(np.linspace(0, 1, 20))
    for panel, (title, rule) in zip(panels, rules.items(), strict=True):
        for b in range(2):
            for t in range(4):
                for d in range(5):
                    padding = b == 1 and t > 1
                    panel.add_patch(Rectangle((d, 5 * b + t), 1, 1, fc=colors[2 * rule(b, t, d) + 1], ec="white", lw=1,
                                              hatch="////" if padding else None))
            panel.text(-0.35, 5 * b + 2, f"sequence {b + 1}", rotation=90, ha="center", va="center", fontsize=9)
        panel.set(xlim=(-0.8, 5.1), ylim=(9.1, -0.1), aspect="equal")
        panel.set_title(title.replace(": ", ":\n"), fontsize=9.5)
        panel.set_axis_off()
    return fig


def accuracy_by_length(lengths, accuracies, longest):
    """Share of right answers against the length of the sequence: medians and ranges of the seeds.

    Args:
        lengths: (K,).
        accuracies: dict from the name of an arm to an array (K, seeds).
        longest: the longest sequence in training.
    """
    fig, panel = plt.subplots(figsize=(WIDTH, 3.1))
    plt.close(fig)
    panel.axvspan(lengths[0] * 0.9, longest, color=INK, alpha=0.08, lw=0)
    panel.text(lengths[0], 0.1, "lengths in training", color=INK, va="center")
    panel.axhline(0.25, color=INK, lw=0.8, ls=":")
    panel.text(lengths[-1], 0.2, "guessing", color=INK, ha="right", va="center")
    for (arm, values), color, style, marker in zip(accuracies.items(), (COLORS[4], *COLORS[:3]), STYLES, MARKERS,
                                                   strict=False):
        plots.median_and_range(panel, lengths, values, color=color, style=style, marker=marker, label=arm)
    panel.set(xlabel="length of the sequence", ylabel="right answers", xscale="log", ylim=(0, 1.05))
    panel.set_xticks(lengths, [f"{length}" for length in lengths])
    panel.minorticks_off()
    fig.legend(*panel.get_legend_handles_labels(), loc="outside upper center", ncols=2)
    return fig


def size_out_against_size_in(sizes, outputs):
    """Root mean square of what a layer gives against that of what it gets, both on log scales.

    Args:
        sizes: (K,).
        outputs: dict from a label to an array (K,).
    """
    fig, panel = plt.subplots(figsize=(WIDTH, 3.1))
    plt.close(fig)
    for (label, values), color, style in zip(outputs.items(), COLORS, STYLES):
        panel.loglog(sizes, values, ls=style, color=color, label=label)
    panel.set(xlabel="root mean square of x", ylabel="root mean square of y", ylim=(1e-3, 1.6))
    panel.legend(loc="lower right")
    return fig
