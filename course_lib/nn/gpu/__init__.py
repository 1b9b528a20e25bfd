"""The layers as GPU programs (Triton).  Normalization does little arithmetic: its time is the time to move x.

A chain of torch operations moves x at every step; these kernels move it as rarely
as the layer allows.  Three families, by how the entries that share statistics lie
in memory: `rows.py`, `columns.py`, `windows.py`, to be read in this order; then
`view.py` for shapes and sizes, and `operators.py` for what torch knows of them.
"""

from .operators import inference, layer, takes, window
from .windows import LARGEST_WINDOW

__all__ = ["LARGEST_WINDOW", "inference", "layer", "takes", "window"]
