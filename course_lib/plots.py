"""The figures of the course: each function takes arrays and returns a Figure."""

import inspect
import os

import matplotlib as mpl
import matplotlib.pyplot as plt

INK = "#39424e"
COLORS = ["#3b82c4", "#d97706", "#2f9e6e", "#b0569c"]
WIDTH = 5.2  # inches; with the font sizes below still readable on a phone


def setup():
    """Vector figures in the style of the course; call it once, in a notebook's first cell.

    They are drawn in dark ink.  On the site the background is transparent and
    the dark theme inverts the ink; elsewhere the background is white.
    """
    from matplotlib_inline.backend_inline import set_matplotlib_formats

    set_matplotlib_formats("svg", metadata={"Date": None})
    face = "none" if os.environ.get("COURSE_SITE") else "white"
    mpl.rcParams.update({
        "figure.figsize": (WIDTH, 3.0), "figure.constrained_layout.use": True, "figure.facecolor": face,
        "axes.facecolor": face, "savefig.facecolor": face, "axes.edgecolor": INK, "axes.labelcolor": INK,
        "axes.titlesize": 11, "axes.titlelocation": "left", "axes.labelsize": 11, "axes.spines.top": False,
        "axes.spines.right": False, "axes.prop_cycle": mpl.cycler(color=COLORS), "font.size": 11,
        "xtick.color": INK, "ytick.color": INK, "xtick.labelsize": 10, "ytick.labelsize": 10, "text.color": INK,
        "grid.color": INK, "grid.alpha": 0.2, "legend.frameon": False, "legend.fontsize": 10, "lines.linewidth": 1.8,
        "svg.hashsalt": "course", "svg.fonttype": "path",
    })


class Source(str):
    """Source text that a notebook shows as highlighted code."""

    def _repr_markdown_(self):
        return f"```python\n{self}\n```"

    def __repr__(self):
        return str(self)


def show_source(function):
    """The source of a function of the package, so that the page and the package cannot differ."""
    return Source(inspect.getsource(function).rstrip())
