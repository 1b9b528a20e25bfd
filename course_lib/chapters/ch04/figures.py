"""Figures of chapter 4: batch normalization, forward and backward."""

import matplotlib.pyplot as plt
import numpy as np

from ... import plots
from ...plots import COLORS, INK, WIDTH


def bias_runaway(runs):
    """A bias and the loss over the steps of training, one line per way to take the gradient.

    Args:
        runs: dict from the name of the way to an array (2, steps), as `measures.train_bias` gives it.
    """
    fig, panels = plt.subplots(2, 1, figsize=(WIDTH, 4.0), sharex=True)
    plt.close(fig)
    for (label, (bias, loss)), style in zip(runs.items(), ("-", "--"), strict=True):
        panels[0].plot(bias, style, label=label)
        panels[1].plot(loss, style, label=label)
    panels[0].set_ylabel("bias b")
    panels[1].set(xlabel="step", ylabel="loss", ylim=(0, 1.3 * max(loss.max() for _, loss in runs.values())))
    panels[0].legend()
    return fig


def neurons_before_after(x, y):
    """The values of each neuron as dots on a line, before and after a layer.

    Args:
        x, y: (N, D), one line per neuron.
    """
    fig, panels = plt.subplots(1, 2, figsize=(WIDTH, 2.8), sharey=True)
    plt.close(fig)
    for panel, values, title in zip(panels, (x, y), ("before", "after"), strict=True):
        for j, column in enumerate(values.T):
            panel.axhline(j, color=INK, alpha=0.25, lw=0.8, zorder=0)
            panel.plot(column, np.full(len(column), j), "o", color=COLORS[j % len(COLORS)], alpha=0.75, ms=7, mew=0)
            panel.plot(column.mean(), j, "|", color=INK, ms=16, mew=2)
        panel.set(title=title, xlabel="value", ylim=(len(x.T) - 0.5, -0.5))
        panel.spines["left"].set_visible(False)
        panel.tick_params(left=False)
    panels[0].set_yticks(range(len(x.T)), [f"neuron {j + 1}" for j in range(len(x.T))])
    return fig


def against_normal(samples):
    """Histograms of standardized values, each with the normal density for comparison.

    Args:
        samples: dict from a title to an array of values with mean 0 and variance 1.
    """
    fig, panels = plt.subplots(1, len(samples), figsize=(WIDTH, 2.6), sharey=True)
    plt.close(fig)
    z = np.linspace(-4, 4, 200)
    for panel, (title, values) in zip(panels, samples.items(), strict=True):
        panel.hist(values, bins=np.linspace(-4, 4, 49), density=True, color=COLORS[0], alpha=0.6)
        panel.plot(z, np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi), color=COLORS[1])
        panel.set(title=title, xlabel="x_hat", xticks=(-4, -2, 0, 2, 4))
    panels[0].set_ylabel("density")
    return fig


def batch_norm_graph():
    """The computation graph of batch norm: three roads lead from x to x_hat."""
    fig, panel = plt.subplots(figsize=(WIDTH, 3.7))
    plt.close(fig)
    mu, var, x_hat, gamma, beta = r"$\mu$", r"$\sigma^2$", r"$\hat x$", r"$\gamma$", r"$\beta$"
    places = {"x": (0.3, 2), mu: (1.5, 3.3), var: (2.8, 3.3), x_hat: (4.1, 2), "y": (5.3, 2), "L": (6.4, 2),
              gamma: (4.6, 0.7), beta: (5.9, 0.7)}
    roads = [("x", x_hat, 0), ("x", mu, 1), (mu, x_hat, 1), ("x", var, 2), (var, x_hat, 2), (mu, var, None),
             (x_hat, "y", None), ("y", "L", None), (gamma, "y", None), (beta, "y", None)]
    for start, end, road in roads:
        color = INK if road is None else COLORS[road]
        panel.annotate("", places[end], places[start], arrowprops={
            "arrowstyle": "-|>", "color": color, "lw": 1.2 if road is None else 2.2, "shrinkA": 15, "shrinkB": 15})
    for name, (across, up) in places.items():
        panel.plot(across, up, "o", ms=29, mfc="none", mec=INK, mew=1.2)
        panel.text(across, up, name, ha="center", va="center", fontsize=13)
    for text, place, road in [("straight", (2.2, 1.7), 0), ("by the mean", (-0.2, 3.4), 1),
                              ("by the variance", (3.6, 3.0), 2)]:
        panel.text(*place, text, color=COLORS[road])
    panel.set(xlim=(-0.3, 6.8), ylim=(0.2, 3.8))
    panel.set_axis_off()
    return fig


def coupling(jacobian):
    """Matrix of derivatives as coloured squares: row i, output of sample i; column j, input of sample j.

    Args:
        jacobian: (m, m).
    """
    fig, panel = plt.subplots(figsize=(WIDTH, 3.9))
    plt.close(fig)
    limit, m = np.abs(jacobian).max(), len(jacobian)
    image = panel.pcolormesh(jacobian, cmap="RdBu_r", vmin=-limit, vmax=limit, edgecolor="white", lw=1)
    ticks = np.arange(m) + 0.5
    panel.set(xlabel="input of sample j", ylabel="output of sample i", aspect="equal", ylim=(m, 0))
    panel.set_xticks(ticks, range(1, m + 1))
    panel.set_yticks(ticks, range(1, m + 1))
    panel.tick_params(length=0)
    panel.spines[:].set_visible(False)
    fig.colorbar(image, label="derivative").outline.set_visible(False)
    return fig


def tangent_gradients(points, steps, radius):
    """Steps of descent in the plane of centred batches of three; the loss is constant along each ray.

    Args:
        points: (K, 2), centred batches in coordinates of the plane.
        steps: (K, 2), the direction of descent at each point.
        radius: of the circle on which every x_hat lies.
    """
    fig, panel = plt.subplots(figsize=(WIDTH, 4.4))
    plt.close(fig)
    angle, reach = np.linspace(0, 2 * np.pi, 200), 1.15 * np.abs(points).max()
    for across, up in points / np.linalg.norm(points, axis=1, keepdims=True):
        panel.plot([0, reach * across], [0, reach * up], color=INK, alpha=0.2, lw=1)
    panel.plot(radius * np.cos(angle), radius * np.sin(angle), color=COLORS[0])
    panel.quiver(*points.T, *steps.T, color=COLORS[1], angles="xy", scale_units="xy", scale=1, width=0.008)
    panel.plot(*points.T, "o", color=INK, ms=5)
    panel.text(0.15 * radius, 1.15 * radius, "mean 0,\nvariance 1", color=COLORS[0], ha="center")
    panel.set(aspect="equal")
    panel.set_axis_off()
    return fig


def error_against_mean(means, errors):
    """Largest error of several ways to standardize, against the mean of the data, both on log scales.

    Args:
        means: (K,).
        errors: dict from the name of the way to an array (K,); the last is drawn as a limit, in ink.
    """
    fig, panel = plt.subplots(figsize=(WIDTH, 3.6))
    plt.close(fig)
    *ways, limit = errors
    for label, marker in zip(ways, "o^s", strict=True):
        panel.loglog(means, errors[label], marker=marker, ms=5, label=label)
    panel.loglog(means, errors[limit], color=INK, ls=":", label=limit)
    panel.axhline(1, color=INK, alpha=0.5, lw=1)
    panel.text(means[0], 1.6, "as large as the result", color=INK)
    panel.set(xlabel="mean of the data (standard deviation 1)", ylabel="largest error")
    panel.legend(loc="upper center", bbox_to_anchor=(0.45, 1.28), ncols=2)
    return fig


def gain_against_std(std, gains):
    """Factor by which a feature is stretched, against its standard deviation, both on log scales.

    Args:
        std: (K,).
        gains: dict from the name of the rule to an array (K,).
    """
    fig, panel = plt.subplots(figsize=(WIDTH, 3.2))
    plt.close(fig)
    for (label, gain), style in zip(gains.items(), ("-", "--", "-."), strict=True):
        panel.loglog(std, gain, style, label=label)
    panel.set(xlabel="standard deviation of the feature", ylabel="gain")
    panel.legend()
    return fig


def steps_against_rate(rates, steps):
    """Steps to a target against the learning rate, both on log scales, four panels: medians and ranges.

    Args:
        rates: (K,).
        steps: dict from the title of a panel to a dict from the name of an arm to an array (K, E), infinite where a
            seed did not arrive; a rate is drawn where more than half of the seeds did.
    """
    fig, grid = plt.subplots(2, len(steps) // 2, figsize=(WIDTH, 5.0), sharex=True, sharey=True)
    plt.close(fig)
    panels, top = grid.flat, 200
    for panel, (title, arms) in zip(panels, steps.items(), strict=True):
        for (label, arm), color, style, marker in zip(arms.items(), COLORS, ("-", "--", "-"), "s^o", strict=False):
            plots.steps_against_rate(panel, rates, arm, most=top, color=color, style=style, marker=marker, label=label)
        panel.set(title=title, ylim=(11, top))
        panel.set_xticks([0.125, 0.25, 0.5, 1, 2], ["1/8", "1/4", "1/2", "1", "2"])
        panel.set_yticks([20, 50, 100, 200], ["20", "50", "100", "200"])
        panel.minorticks_off()
    fig.supxlabel("learning rate", fontsize=11)
    fig.supylabel("steps to 95 %", fontsize=11)
    fig.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=len(arms))
    return fig
