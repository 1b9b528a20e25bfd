"""Exercises of chapter 14: normalization on a GPU."""

import numpy as np

from ...exercises.engine import exercise


def _example_cases(seed=0):
    rng = np.random.default_rng(14 + 100 * seed)
    yield "two columns", (rng.integers(1, 9, (2, 2)) * [1.0, 10.0],)
    yield "5 samples, 3 columns", (rng.normal(2.0, 3.0, (5, 3)),)
    yield "values around 1000", (rng.normal(1000.0, 300.0, (4, 2)),)


# WRITE: the exercises of the chapter in place of this example; course_lib/exercises/engine.py explains the parts.
@exercise(
    cases=_example_cases,
    outputs=("y",),
    hints=("each column of y must have mean 0", "the mean runs over the samples", "axis 0"),
    laws={"each column of y sums to 0": lambda args, outputs: np.allclose(outputs[0].sum(axis=0), 0)},
    mistakes={
        "one mean for everything; each column has its own": {"x.mean(axis=0)": "x.mean()"},
        "that is the mean of each sample": {"axis=0": "axis=1, keepdims=True"},
        "the mean is added, not subtracted": {"x - ": "x + "},
        "only the mean comes back; it must be subtracted": {"x - x.mean(axis=0)": "0 * x + x.mean(axis=0)"},
    },
)
def example_ch14(x):
    """The columns of x without their means; x is (N, D)."""
    return x - x.mean(axis=0)
