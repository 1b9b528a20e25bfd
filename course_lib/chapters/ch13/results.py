"""The table of the long runs, which_norm.csv: `benchmarks/which_norm.py` writes it, chapter 13 reads it here."""

import csv
from functools import cache
from pathlib import Path

import numpy as np

TABLE = Path(__file__).with_name("which_norm.csv")


@cache
def rows():
    """All rows, one dict each."""
    return list(csv.DictReader(line for line in _lines() if not line.startswith("#")))


def machines():
    """When and where the rows were made: the comments of the table that have rows below them."""
    lines = _lines()
    return list(dict.fromkeys(line[2:] for line, below in zip(lines, lines[1:])
                              if line.startswith("#") and not below.startswith("#")))


def values(task, arm, kind="report", setting="base"):
    """Errors in % by seed, (seeds,), of test data at the arm's best rate ("report") or at "rate x 4"."""
    found = [(int(row["seed"]), float(row["value"])) for row in _of(task, arm, kind, setting)]
    return np.array([value for _, value in sorted(found)])


def best_rate(task, arm, setting="base"):
    return float(_of(task, arm, "report", setting)[0]["rate"])


def tuning(task, arm, setting="base"):
    """Rates (K,), ascending, and the errors in % of validation data there, (K, seeds)."""
    found = {}
    for row in _of(task, arm, "tune", setting):
        found.setdefault(float(row["rate"]), []).append(float(row["value"]))
    rates = sorted(found)
    return np.array(rates), np.array([found[rate] for rate in rates])


def step_times(task):
    """Milliseconds of one step of one net on one thread, by arm."""
    return {row["arm"]: float(row["value"]) for row in rows() if (row["task"], row["kind"]) == (task, "ms a step")}


def _lines():
    return TABLE.read_text(encoding="utf8").splitlines()


def _of(task, arm, kind, setting):
    key = (task, setting, arm, kind)
    found = [row for row in rows() if (row["task"], row["setting"], row["arm"], row["kind"]) == key]
    if not found:
        raise ValueError(f"{TABLE.name} has no rows of {', '.join(key)}: run benchmarks/which_norm.py")
    return found
