"""The race of chapter 13: each arm tuned alike, then ten fresh seeds; small batches, depth, four times the rate; time.

    OMP_NUM_THREADS=1 python benchmarks/which_norm.py           runs what the table does not hold yet, and appends it
    OMP_NUM_THREADS=1 python benchmarks/which_norm.py card      draws the chapter's guide as a page to print

The table is course_lib/chapters/ch13/which_norm.csv, where the chapter reads it; delete it to run everything.  A line
that begins with # says when and on what machine the rows below it were made.  Half an hour on one core.

tune     the error in % of validation data, three seeds (100 to 102) at each rate of the grid; it grows by another
         factor of 2 for as long as the best rate stands at its edge
report   the error of test data at the best rate, ten seeds (0 to 9), or five where the setting is not "base"
rate x 4 the same at four times this rate, five seeds
"""

import csv
import os
import platform
import re
import sys
import time
from datetime import date
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch loads its thread pool

import numpy as np
import torch

from course_lib.chapters.ch13 import figures, guide, race

CARD = Path(__file__).resolve().parents[1] / "book/_static/which_norm_card.pdf"
TABLE = Path(race.__file__).with_name("which_norm.csv")
FIELDS = ["task", "setting", "arm", "kind", "rate", "seed", "value"]
RATES = {"images": [0.05, 0.1, 0.2, 0.4], "sequences": [0.01, 0.02, 0.04, 0.08]}
LOWER = [0.0125, 0.025, 0.05, 0.1]  # for 16 blocks: without a norm they are lost above
TUNE, REPORT, HIGH = range(100, 103), range(10), range(5)
SETTINGS = [  # in this order; those after the first two with five seeds, and without rate x 4
    ("sequences", "base", {}, list(race.ARMS)),
    ("images", "base", {}, list(race.ARMS)),
    ("images", "base", {}, list(race.HALVES)),
    ("images", "over 2 of 32", {}, ["batch norm"]),
    ("images", "over 1 of 32", {}, ["batch norm"]),
    ("images", "16 blocks", {"blocks": 16, "steps": 200}, ["none", "batch norm", "SkipInit", "layer norm", "DyT"]),
    ("sequences", "not before the head", {}, ["layer norm", "RMS norm"]),
    ("images", "1500 steps", {"steps": 1500}, ["none", "batch norm"]),
    ("sequences", "100 steps", {"steps": 100}, ["none", "layer norm", "batch norm"]),
    ("sequences", "900 steps", {"steps": 900}, ["none", "layer norm", "batch norm"]),
    ("images", "16 blocks", {"blocks": 16, "steps": 200}, ["weight standardization"]),
]


def machine():
    try:
        names = re.findall(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        names = []
    return (f"# {date.today()}, {names[0] if names else platform.machine()}, {torch.get_num_threads()} thread, "
            f"Python {platform.python_version()}, NumPy {np.__version__}, torch {torch.__version__}")


def rows():
    if not TABLE.exists():
        return []
    lines = [line for line in TABLE.read_text(encoding="utf8").splitlines() if not line.startswith("#")]
    return list(csv.DictReader(lines))


def append(new):
    with open(TABLE, "a", newline="", encoding="utf8") as file:
        csv.writer(file, lineterminator="\n").writerows(new)


def trials(task, arm, pairs, which, **setting):
    """Errors in %, one for each pair (rate, seed)."""
    rates, seeds = zip(*pairs)
    nets = race.train(task, arm, rates, seeds, **setting)
    return race.errors(task, arm, nets, which)


def beyond(found):
    """The rate to try next, in a list: half or twice the best one if it stands at the edge of the grid."""
    best = min(found, key=lambda rate: np.mean(found[rate]))
    if min(found) < best < max(found):
        return []
    return [float(f"{best / 2 if best == min(found) else best * 2:g}")]


def tuned(task, setting, name, arm, options, done):
    """The best rate, with the rows of all rates tried."""
    found = {}
    for row in done:
        if (row["task"], row["setting"], row["arm"], row["kind"]) == (task, setting, name, "tune"):
            found.setdefault(float(row["rate"]), []).append(float(row["value"]))
    grid = LOWER if setting == "16 blocks" else RATES[task]
    while todo := [rate for rate in grid if rate not in found] or beyond(found):
        pairs = [(rate, seed) for rate in todo for seed in TUNE]
        values = trials(task, arm, pairs, "valid", **options)
        append([task, setting, name, "tune", f"{rate:g}", seed, f"{value:.3f}"]
               for (rate, seed), value in zip(pairs, values))
        for (rate, _), value in zip(pairs, values):
            found.setdefault(rate, []).append(value)
    return min(found, key=lambda rate: np.mean(found[rate]))


def run(task, setting, name, options):
    done = rows()
    if any((row["task"], row["setting"], row["arm"], row["kind"]) == (task, setting, name, "report") for row in done):
        return
    began = time.process_time()
    over = {"over 2 of 32": 2, "over 1 of 32": 1}.get(setting, race.BATCH)
    arm = race.of_size((race.ARMS | race.HALVES)[name], over)
    arm = arm._replace(last=setting != "not before the head")
    best = tuned(task, setting, name, arm, options, done)
    pairs = [(best, seed) for seed in (REPORT if setting == "base" else HIGH)]
    if setting == "base":
        pairs += [(float(f"{4 * best:g}"), seed) for seed in HIGH]
    values = trials(task, arm, pairs, "test", **options)
    append([task, setting, name, "report" if rate == best else "rate x 4", f"{rate:g}", seed, f"{value:.3f}"]
           for (rate, seed), value in zip(pairs, values))
    report = [value for (rate, _), value in zip(pairs, values) if rate == best]
    print(f"{task}, {setting}, {name}: rate {best:g}, {np.mean(report):.2f} ({min(report):.2f} to {max(report):.2f}), "
          f"{time.process_time() - began:.0f} s", flush=True)


def step_times(rounds=8):
    """The arms take turns; the best time of a step of five nets, by the process's own clock, in ms for one net."""
    for task in race.TASKS:
        best = dict.fromkeys(race.ARMS, np.inf)
        for _ in range(rounds):
            for name, arm in race.ARMS.items():
                began = time.process_time()
                race.train(task, arm, [0.01] * 5, range(5), steps=4)
                best[name] = min(best[name], (time.process_time() - began) / 20)
        append([task, "base", name, "ms a step", "", "", f"{1000 * seconds:.3f}"] for name, seconds in best.items())


def main():
    if sys.argv[1:] == ["card"]:
        return figures.card("Which norm, when, and none at all", guide.ROWS, guide.FOOT).savefig(
            CARD, metadata={"CreationDate": None, "Keywords": guide.digest()})
    torch.set_num_threads(1)
    if not TABLE.exists():
        append([FIELDS])
    with open(TABLE, "a", encoding="utf8") as file:
        file.write(machine() + "\n")
    if not any(row["kind"] == "ms a step" for row in rows()):
        step_times()
    for task, setting, options, names in SETTINGS:
        for name in names:
            run(task, setting, name, options)


if __name__ == "__main__":
    main()
