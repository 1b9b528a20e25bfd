"""Figures of chapter 14: normalization on a GPU."""

import matplotlib.pyplot as plt
import numpy as np

from ...plots import COLORS, INK, WIDTH


def roofline(points, products, card, bars):
    """Above: operations a second that each layer can reach at most.  Below: arrays moved, one bar a way of doing it.

    Args:
        points: dict from a layer to its operations a byte (step by step, one kernel).
        products: dict from a label to the operations a byte of a matrix product.
        card: name, bandwidth in bytes a second, and operations a second of the vector and the tensor units.
        bars: dict from a label to the arrays that its kernels read and write, one number a kernel.
    """
    name, bandwidth, vector, tensor = card
    fig, (above, below) = plt.subplots(2, 1, figsize=(WIDTH, 6.0), height_ratios=(2.4, 1))
    plt.close(fig)
    x = np.geomspace(0.08, 4000, 200)
    above.plot(x, np.minimum(x * bandwidth, tensor) / 1e12, color=INK, lw=1.2, ls=(0, (4, 2)))
    above.plot(x, np.minimum(x * bandwidth, vector) / 1e12, color=INK, lw=1.8)
    for color, marker, (layer, (steps, fused)) in zip(COLORS, "osD^v", points.items()):
        reach = [min(each * bandwidth, vector) / 1e12 for each in (steps, fused)]
        above.plot(steps, reach[0], marker, color=color, mfc="none", ms=8, mew=1.6)
        above.plot(fused, reach[1], marker, color=color, ms=8, label=layer)
    for label, each in products.items():
        reach, far = min(each * bandwidth, tensor) / 1e12, each > 10
        above.plot(each, reach, "X", color=INK, ms=9)
        above.annotate(label, (each, reach), (38, -8) if far else (12, -5), textcoords="offset points", va="top",
                       ha="right" if far else "left", fontsize=10)
    above.set(xscale="log", yscale="log", xlabel="operations for each byte moved", ylabel="10$^{12}$ operations / s",
              title=f"{name}, by its data sheet", xlim=(0.08, 5000), ylim=(0.15, 3000))
    above.text(4600, vector / 1e12 * 0.6, "vector units", ha="right", va="center", fontsize=10)
    above.text(4600, tensor / 1e12 * 1.3, "tensor cores", ha="right", fontsize=10)
    steps, fused = (np.median(each) for each in zip(*points.values(), strict=True))
    for label, each in [("step by step", steps), ("one kernel", fused)]:
        above.annotate(label, (each, each * bandwidth / 1e12), (16, -10), textcoords="offset points", fontsize=10)
    above.text(9, 17, "memory", fontsize=10)
    above.legend(loc="upper left", fontsize=10, handletextpad=0.2, borderpad=0.1, labelspacing=0.3)
    for place, parts in enumerate(bars.values()):
        starts = np.cumsum([0, *parts[:-1]])
        below.barh(place, np.array(parts) - 0.08, left=starts, color=COLORS[0])
        below.text(sum(parts) + 0.2, place, f"{sum(parts):g}", va="center")
    below.set(yticks=range(len(bars)), yticklabels=bars, xlabel="arrays of the size of x, read or written",
              title="layer norm forward", xlim=(0, 14))
    below.invert_yaxis()
    below.tick_params(axis="y", length=0)
    return fig


def memory(strips, width):
    """Where the entries of one statistic lie: each strip is all of x, in the order of its addresses.

    Args:
        strips: dict from a title to the addresses of the entries that share one statistic.
        width: entries of x.
    """
    fig, panel = plt.subplots(figsize=(WIDTH, 0.62 * len(strips) + 0.3))
    plt.close(fig)
    for row, (title, places) in enumerate(strips.items()):
        for place in range(width):
            filled = place in places
            panel.add_patch(plt.Rectangle((place, -row), 0.9, 0.42, fc=COLORS[1] if filled else "none", ec=INK,
                                          lw=0.5, alpha=1 if filled else 0.5))
        panel.text(0, -row + 0.5, title, fontsize=10, va="bottom")
    panel.set(xlim=(-0.3, width + 0.3), ylim=(-len(strips) + 0.8, 1.0))
    panel.axis("off")
    return fig


def digits_lost(panels):
    """Error of the variance against the mean, a panel for each type.

    Args:
        panels: dict from a title to (means, dict from a method to errors (means,), the step of the type).
    """
    fig, row = plt.subplots(1, len(panels), figsize=(WIDTH, 3.9), width_ratios=(1.5, 1))
    plt.close(fig)
    for panel, (title, (means, errors, step)) in zip(row, panels.items()):
        panel.axhline(step, color=INK, lw=1, ls=(0, (1, 2)))
        for color, marker, (method, error) in zip(COLORS, "osD^v", errors.items()):
            panel.plot(means, np.maximum(error, step / 20), marker + "-", color=color, ms=4.5, lw=1.5, label=method)
        panel.set(xscale="log", yscale="log", title=title, xlabel="mean, at spread 1")
    row[0].set_ylabel("relative error of the variance")
    fig.legend(*row[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return fig


def warps(lines):
    """What the compiler made of a row of each length, for each number of warps.

    Args:
        lines: (D, warps, registers, spilled bytes, wide loads, narrow loads) each.
    """
    lengths, counts = (sorted({line[k] for line in lines}) for k in (0, 1))
    fig, panel = plt.subplots(figsize=(WIDTH, 2.5))
    plt.close(fig)
    for d, each, registers, spilled, _, narrow in lines:
        x, y = counts.index(each), lengths.index(d)
        bad = spilled or narrow
        panel.add_patch(plt.Rectangle((x - 0.48, y - 0.46), 0.96, 0.92, fc=COLORS[1] if bad else COLORS[0],
                                      alpha=0.3 if bad else 0.18, lw=0))
        below = "spills" if spilled else "narrow" if narrow else "wide"
        panel.text(x, y + 0.13, f"{registers}", ha="center", va="center", fontsize=12)
        panel.text(x, y - 0.22, below, ha="center", va="center", fontsize=9)
    panel.set(xlim=(-0.5, len(counts) - 0.5), ylim=(-0.5, len(lengths) - 0.5), xlabel="warps of 32 threads",
              ylabel="features D", xticks=range(len(counts)), yticks=range(len(lengths)))
    panel.set_xticklabels(counts)
    panel.set_yticklabels(lengths)
    panel.tick_params(length=0)
    for side in panel.spines.values():
        side.set_visible(False)
    return fig
