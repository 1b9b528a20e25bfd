"""Figures of chapter 2: whitening."""

import matplotlib.pyplot as plt
import numpy as np

from ... import plots
from ...plots import COLORS, INK, STYLES, WIDTH

MARKERS = ["s", "o", "^", "D", "v"]


def descent_paths(paths, steps, curvature):
    """Paths of gradient descent in the plane of the two weights, a panel for each treatment of the data.

    Args:
        paths: dict from a treatment to (T, 2), weights of the raw features, relative to the best ones.
        steps: dict from a treatment to its number of steps.
        curvature: (2, 2), of the loss in these weights, with the best bias.
    """
    fig, grid = plt.subplots(2, 2, figsize=(WIDTH, 5.0), sharex=True, sharey=True)
    plt.close(fig)
    reach = 1.12 * max(np.abs(path).max() for path in paths.values())
    angle = np.linspace(0, 2 * np.pi, 25)
    unit = np.linalg.solve(np.linalg.cholesky(curvature).T, [np.cos(angle), np.sin(angle)])  # where the loss is 1/2
    for panel, (name, path), color in zip(grid.flat, paths.items(), COLORS):
        for radius in np.geomspace(0.13, 1.6, 4):
            panel.plot(*radius * unit, color=INK, lw=0.7, alpha=0.35)
        pairs = np.unique(np.geomspace(1, len(path), 45).astype(int)) // 2 * 2  # early steps all, late ones sparsely
        shown = np.minimum(np.stack([pairs, pairs + 1], axis=1).ravel(), len(path) - 1)
        panel.plot(*path[shown].T, "-", color=color, lw=0.7 if len(path) > 3 else 1.6, alpha=0.8)
        panel.plot(*path[0], "o", color=color, ms=7, mew=0)
        panel.plot(0, 0, "x", color=INK, ms=8, mew=2)
        panel.set(title=f"{name}: {steps[name]:,} step{'s' if steps[name] > 1 else ''}", aspect="equal",
                  xlim=(-reach, reach), ylim=(-reach, reach))
    fig.supxlabel("first weight, from its best value", fontsize=11)
    fig.supylabel("second weight", fontsize=11)
    return fig


def whitened_images(rows, shape):
    """Images, a row for each matrix: what becomes of some samples, and last a column of the matrix itself.

    Args:
        rows: dict from a label to (K, pixels).
        shape: (H, W) of an image.
    """
    scaled = []
    for images in rows.values():
        limit = np.percentile(np.abs(images[:-1]), 99)
        scaled.append([*images[:-1] / limit, images[-1] / np.abs(images[-1]).max()])
    fig, panel = plt.subplots(figsize=(WIDTH, 0.75 * len(rows) + 0.3))
    plt.close(fig)
    titles = [""] * (len(scaled[0]) - 1) + ["a column"]
    _mosaic(panel, np.array(scaled), shape, labels=list(rows), titles=titles)
    return fig


def _mosaic(panel, images, shape, labels, titles):
    """Images (rows, columns, pixels), values from -1 to 1, as one picture with gaps between them."""
    (height, width), (count, across) = shape, images.shape[:2]
    full = np.full((count * (height + 1) - 1, across * (width + 1) - 1), np.nan)
    for k, line in enumerate(images):
        for j, image in enumerate(line):
            full[k * (height + 1) :, j * (width + 1) :][:height, :width] = image.reshape(shape)
    panel.imshow(full, cmap="RdBu_r", vmin=-1, vmax=1, interpolation="none")
    panel.set_yticks(np.arange(count) * (height + 1) + (height - 1) / 2, labels)
    panel.set_xticks(np.arange(across) * (width + 1) + (width - 1) / 2, titles)
    panel.tick_params(length=0, top=False, labeltop=True, bottom=False, labelbottom=False)
    panel.spines[:].set_visible(False)


def tracked_samples(places):
    """Where the same few samples land when their batch is whitened, over several batches; a panel for each method.

    Args:
        places: dict from a method to (batches, samples, 2).
    """
    fig, panels = plt.subplots(1, len(places), figsize=(WIDTH, 2.3), sharex=True, sharey=True)
    plt.close(fig)
    for panel, (method, tracks) in zip(panels, places.items(), strict=True):
        for sample, color, marker in zip(tracks.swapaxes(0, 1), COLORS, MARKERS):
            panel.plot(*sample.T, "-", color=color, lw=0.6, alpha=0.6)
            panel.plot(*sample.T, marker, color=color, ms=5, mew=0, alpha=0.85)
        panel.axhline(0, color=INK, lw=0.6, alpha=0.3)
        panel.axvline(0, color=INK, lw=0.6, alpha=0.3)
        panel.set(title=method, aspect="equal")
    return fig


def error_against_gap(gaps, errors):
    """Relative error of a gradient against the distance of two eigenvalues, both on log scales.

    Args:
        gaps: (K,).
        errors: dict from the name of a way to (K,).
    """
    fig, panel = plt.subplots(figsize=(WIDTH, 3.0))
    plt.close(fig)
    for (label, error), color, style, marker in zip(errors.items(), COLORS, STYLES, MARKERS):
        panel.loglog(gaps, error, ls=style, color=color, marker=marker, ms=5, label=label)
    panel.invert_xaxis()
    panel.set(xlabel="distance of the two eigenvalues", ylabel="relative error of dx")
    panel.legend()
    return fig


def cost_against_size(sizes, milliseconds, powers):
    """Time of a forward pass against the number of features, both on log scales, with the fitted power.

    Args:
        sizes: (K,).
        milliseconds: dict from the name of a way to (K,).
        powers: dict from some of the names to the fitted power.
    """
    fig, panel = plt.subplots(figsize=(WIDTH, 3.2))
    plt.close(fig)
    for (label, time), color, style, marker in zip(milliseconds.items(), COLORS, STYLES, MARKERS):
        label += f": power {powers[label]:.1f}" if label in powers else ""
        panel.loglog(sizes, time, ls=style, color=color, marker=marker, ms=5, label=label)
    panel.set(xlabel="number of features D", ylabel="milliseconds")
    panel.set_xticks(sizes, [str(size) for size in sizes])
    panel.minorticks_off()
    panel.legend()
    return fig


def newton_steps(errors, images, counts, shape):
    """How white Newton's iteration makes the data after k steps, in two forms, and images after some k.

    Args:
        errors: dict from a form to (K,), the largest distance of a variance from its aim.
        images: (rows, len(counts) + 1, pixels): after each count, and last the exact answer.
        counts: numbers of steps that the images belong to.
        shape: (H, W).
    """
    fig = plt.figure(figsize=(WIDTH, 4.9))
    plt.close(fig)
    upper, lower = fig.subfigures(2, 1, height_ratios=(1.25, 1))
    panel = upper.subplots()
    for (label, error), color, style in zip(errors.items(), COLORS, STYLES):
        panel.semilogy(np.minimum(error, 1e9), ls=style, color=color, label=label)
    panel.axhline(1, color=INK, lw=0.8, ls=":")
    panel.set(xlabel="steps k", ylabel="off white", ylim=(1e-13, 1e4))
    panel.legend()
    scaled = images / np.abs(images).max(axis=2, keepdims=True)
    titles = [f"k = {count}" for count in counts] + ["exact"]
    _mosaic(lower.subplots(), scaled, shape, labels=[""] * len(images), titles=titles)
    return fig


def steps_against_rate(sweeps, target, most):
    """Steps to a target against the learning rate, a panel for each setting: medians and ranges over the seeds.

    Args:
        sweeps: dict from a title to (rates, {arm: (rates, seeds) steps}), infinite where a seed did not arrive.
        target: what is reached, for the label.
        most: the largest number of steps drawn.
    """
    fig, panels = plt.subplots(len(sweeps), 1, figsize=(WIDTH, 2.1 * len(sweeps) + 0.5), sharex=True)
    plt.close(fig)
    for panel, (title, (rates, arms)) in zip(panels, sweeps.items(), strict=True):
        for (label, arm), color, style, marker in zip(arms.items(), COLORS, STYLES, MARKERS):
            plots.steps_against_rate(panel, rates, arm, most=most, color=color, style=style, marker=marker, label=label)
        panel.set(title=title, ylim=(7, most))
        panel.set_yticks([10, 20, 50, 100, 200], ["10", "20", "50", "100", "200"])
        panel.set_xticks(rates, [f"{rate:g}" for rate in rates])
        panel.minorticks_off()
    panels[-1].set_xlabel("learning rate")
    fig.supylabel(f"steps to {target}", fontsize=11)
    fig.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=2)
    return fig


def where_it_hurts(numbers, steps, curves, features):
    """Test accuracy: for the digit against training images, and against steps for the digit and the faint task.

    Args:
        numbers: (K,) training images.
        steps: (T,) numbers of steps.
        curves: dict from (task, number of images) to a dict from an arm to (seeds, T).
        features: number of features, drawn as a line.
    """
    fig, panels = plt.subplots(3, 1, figsize=(WIDTH, 6.8))
    plt.close(fig)
    best = {arm: np.array([curves["digit", n][arm].max(axis=1) for n in numbers]).T for arm in curves["digit", 61]}
    for panel, x, arms, title in [(panels[0], numbers, best, "digit, best number of steps"),
                                  (panels[1], steps, curves["digit", 120], "digit, 120 images"),
                                  (panels[2], steps, curves["faint", 500], "faint task, 500 images")]:
        for (label, values), color, style in zip(arms.items(), COLORS, STYLES):
            plots.median_and_range(panel, x, values.T, color=color, style=style, label=label)
        panel.set(title=title, xscale="log", ylabel="accuracy", xlabel="steps of gradient descent")
    panels[0].axvline(features, color=INK, lw=0.8, ls=":")
    panels[0].annotate(f"{features} features", (features, 0.3), (5, 0), textcoords="offset points", fontsize=9)
    panels[0].set_xticks(numbers, [str(number) for number in numbers])
    panels[0].minorticks_off()
    panels[0].set_xlabel("training images")
    fig.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=3)
    return fig


def loss_against_outputs(outputs, losses):
    """Loss that is left after a fixed number of steps against the number of outputs: medians and ranges, log scales.

    Args:
        outputs: (K,).
        losses: dict from an arm to (K, seeds), as shares of the loss at the start.
    """
    fig, panel = plt.subplots(figsize=(WIDTH, 3.3))
    plt.close(fig)
    for (label, values), color, style, marker in zip(losses.items(), COLORS, STYLES, MARKERS, strict=True):
        plots.median_and_range(panel, outputs, values, color=color, style=style, marker=marker, label=label)
    panel.set(xscale="log", yscale="log", xlabel="number of outputs", ylabel="share of the loss left")
    panel.set_xticks(outputs, [str(count) for count in outputs])
    panel.minorticks_off()
    fig.legend(*panel.get_legend_handles_labels(), loc="outside upper center", ncols=2)
    return fig
