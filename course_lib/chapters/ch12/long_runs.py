"""The table of the long runs, long_runs.csv: `benchmarks/chapter12.py` writes it, chapter 12 reads it here."""

import csv
from functools import cache
from pathlib import Path

import numpy as np

TABLE = Path(__file__).with_name("long_runs.csv")


@cache
def _table():
    with open(TABLE, encoding="utf8") as file:
        made = file.readline().lstrip("# ").strip()
        return made, list(csv.DictReader(file))


def made():
    """When and where the table was made."""
    return _table()[0]


@cache
def _of(experiment, arm):
    found = [row for row in _table()[1] if row["experiment"] == experiment and row["arm"] == arm]
    if not found:
        known = sorted({row["arm"] for row in _table()[1] if row["experiment"] == experiment})
        raise ValueError(f"no arm {arm!r} in experiment {experiment!r}; there is {known}")
    return found


def values(experiment, arm, what="copying loss"):
    """The learning rates (K,), ascending, and what was measured there after the training, (K, seeds)."""
    found = [row for row in _of(experiment, arm) if row["what"] == what]
    last = {(float(row["rate"]), int(row["seed"])): float(row["value"]) for row in found}  # of blocks the last
    rates, seeds = (sorted(set(each)) for each in zip(*last))
    return np.array(rates), np.array([[last[rate, seed] for seed in seeds] for rate in rates])


def best(experiment, arm):
    """The rate with the least median loss (nan counts as infinite), and the losses there, (seeds,)."""
    rates, losses = values(experiment, arm)
    k = np.nan_to_num(np.median(losses, axis=1), nan=np.inf).argmin()
    return rates[k], losses[k]


def by_block(experiment, arm, rate, what):
    """What was measured at each block, (blocks + 1, seeds)."""
    found = {(int(row["block"]), int(row["seed"])): float(row["value"]) for row in _of(experiment, arm)
             if row["what"] == what and float(row["rate"]) == rate}
    blocks, seeds = (sorted(set(each)) for each in zip(*found))
    return np.array([[found[block, seed] for seed in seeds] for block in blocks])
