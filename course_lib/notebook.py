"""What opens a chapter: `setup()`, and what it shows code and tables with."""

import inspect

import numpy as np

from . import plots, training


def setup():
    """Figures in the course's style, four digits in print, one thread: once, in a notebook's first cell."""
    plots.setup()
    np.set_printoptions(precision=4, suppress=True)
    training.one_thread()


class Source(str):
    """Source text that a notebook shows as highlighted code."""

    def _repr_markdown_(self):
        return f"```python\n{self}\n```"

    def __repr__(self):
        return str(self)


def show_source(function):
    """The source of a function of the package, so that the page and the package cannot differ."""
    return Source(inspect.getsource(function).rstrip())


def table(rows, *, width=32):
    """Print one line for each name in `rows`, a dict from names to numbers."""
    for name, values in rows.items():
        print(f"{name:{width}}", np.round(values, 4))
