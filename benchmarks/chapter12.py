"""The long runs of chapter 12, which its figures draw: writes course_lib/chapters/ch12/long_runs.csv.

    OMP_NUM_THREADS=1 python benchmarks/chapter12.py            about eleven minutes on one quiet core
    OMP_NUM_THREADS=1 python benchmarks/chapter12.py 100        prints only, with seeds 100, 101, ...

Nothing is written twice: the transformer, its designs and the measures are those of the chapter's own text.
A line of the table is one number of one net: which experiment, arm, rate and seed, what, at which block, value.
"""

import ast
import csv
import os
import platform
import sys
import time
from datetime import date

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch loads its BLAS

import numpy as np
import torch
from page import CELL, ROOT, processor

sys.path.insert(0, str(ROOT))
TEXT = ROOT / "notebooks" / "12_norms_in_transformers.md"
TABLE = ROOT / "course_lib" / "chapters" / "ch12" / "long_runs.csv"


def definitions(text):
    """What the chapter's cells define: imports, functions, classes, and names in capitals."""
    scope = {"__name__": "chapter12"}
    for cell in CELL.findall(text):
        if "# your code" in cell:
            continue
        for node in ast.parse(cell).body:
            kept = isinstance(node, (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef)) or (
                isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "").isupper())
            if kept:
                exec(compile(ast.Module([node], []), "chapter 12", "exec"), scope)
    return scope


page = definitions(TEXT.read_text(encoding="utf8"))
Design, none, post, pre, peri, output = (page[n] for n in ("Design", "none", "post", "pre", "peri", "output"))
DEPTH, SIX = 24, 6
DEEP = {"none": Design(none), "post": Design(post), "pre": Design(pre), "peri": Design(peri),
        "output": Design(output), "output, QK-norm": Design(output, qk_norm=True),
        "pre, no final norm": Design(pre, final=False),
        "none, 1/sqrt(2L)": Design(none, branch=(2 * DEPTH) ** -0.5),
        "pre, 1/sqrt(2L)": Design(pre, branch=(2 * DEPTH) ** -0.5),
        "pre, LayerScale": Design(page["layer_scale"], out=0.1),
        "peri, out 0.1": Design(peri, out=0.1), "output, out 0.1": Design(output, out=0.1),
        "DeepNorm": Design(page["deepnorm"](DEPTH), branch=(8 * DEPTH) ** -0.25)}
WARM = {"post": Design(post), "pre": Design(pre), "peri": Design(peri),
        "DeepNorm": Design(page["deepnorm"](SIX), branch=(8 * SIX) ** -0.25),
        "post, alpha alone": Design(page["deepnorm"](SIX)),
        "post, small start alone": Design(post, branch=(8 * SIX) ** -0.25),
        # each half again, at the ratio of branch to skip that the two have together, (16 L^2)^(-1/4) = 0.204
        "post, alpha 4.9 alone": Design(page["deepnorm"](8 * SIX**2)),
        "post, small start 0.2 alone": Design(post, branch=(16 * SIX**2) ** -0.25)}
RATE = {"none": Design(none), "post": Design(post), "pre": Design(pre), "pre, cap": Design(pre, cap=10.0),
        "pre, QK-norm": Design(pre, qk_norm=True), "peri": Design(peri), "peri, cap": Design(peri, cap=10.0),
        "peri, QK-norm": Design(peri, qk_norm=True), "output": Design(output),
        "output, QK-norm": Design(output, qk_norm=True), "pre, no final norm": Design(pre, final=False)}
DEEP_RATES = dict.fromkeys(DEEP, (0.004, 0.008, 0.016, 0.032)) | {
    "none": (0.0005, 0.001), "DeepNorm": (0.002, 0.004, 0.008, 0.016), "post": (0.0005, 0.001, 0.004, 0.008),
    "none, 1/sqrt(2L)": (0.0005, 0.001, 0.002, 0.004)}  # each arm's best rate is none at the edge, where one trains
SLOW_RATES = (0.0005, 0.001, 0.0014, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064)
FAST_RATES = (0.005, 0.01, 0.02, 0.028, 0.04, 0.057, 0.08, 0.113, 0.16)


def look(experiment, arm, design, nets, rates, seeds, blocks):
    """The rows of trained nets."""
    rows, which = [], [(rate, seed) for rate in rates for seed in seeds]

    def add(what, values, block=""):
        rows.extend([experiment, arm, f"{rate:g}", seed, what, block, f"{value:.4g}"]
                    for (rate, seed), value in zip(which, values.tolist(), strict=True))

    add("copying loss", page["copying"](nets, design))
    forward, backward = page["through"](nets, design)
    for block in range(len(forward)) if blocks else [len(forward) - 1]:
        add("stream", forward[block], block)
        if blocks:
            add("dstream", backward[block], block)
    s = page["measures"].held_out()[:32].expand(len(which), -1, -1)
    with torch.no_grad():
        largest, entropy = zip(*(page["logits_and_entropy"](found) for found in
                                 page["attention_scores"](nets, s, design)))
    add("largest logit", torch.stack(largest).amax(0))
    add("entropy", torch.stack(entropy).mean(0))
    return rows


def at_the_start(seeds):
    """The rows of 24 blocks before any training, at "rate" 0."""
    nets = page["measures"].new_nets(DEPTH, seeds)
    for p in page["measures"].parameters(nets):
        p.requires_grad_()
    for arm in ("none", "post", "pre", "peri"):
        yield from look("start", arm, DEEP[arm], nets, [0], seeds, blocks=True)


def run(first):
    seeds = range(first, first + 5)
    yield from at_the_start(seeds)
    for experiment, arms, depth, grids, steps, warms in [
            ("rate", RATE, 2, dict.fromkeys(RATE, FAST_RATES), 200, [20]),
            ("warm-up", WARM, SIX, dict.fromkeys(WARM, SLOW_RATES), 200, [0, 60]),
            ("deep", DEEP, DEPTH, DEEP_RATES, 100, [20])]:
        for arm, design in arms.items():
            for warm in warms:
                name = f"{arm}, warm-up {warm}" if len(warms) > 1 else arm
                yield from trained(experiment, name, design, depth, grids[arm], steps, warm, seeds)


def trained(experiment, name, design, depth, rates, steps, warm, seeds):
    """The rows of one arm."""
    start = time.process_time()
    nets = page["learn"](design, depth, rates, steps=steps, warm=warm, seeds=seeds)
    rows = look(experiment, name, design, nets, rates, seeds, blocks=depth == DEPTH)
    loss = np.array([float(row[6]) for row in rows if row[4] == "copying loss"]).reshape(len(rates), len(seeds))
    best = f"{rates[np.nan_to_num(np.median(loss, axis=1), nan=np.inf).argmin()]:g}"
    rows = [row for row in rows if row[2] == best or row[5] in ("", len(nets[0])) and row[4] != "dstream"]
    print(f"{experiment}: {name:28} {time.process_time() - start:5.1f} s", *(
        f"{rate:g}: {np.median(each):.3f} [{each.min():.3f}, {each.max():.3f}]"
        for rate, each in zip(rates, loss, strict=True)), sep="  ", flush=True)
    return rows


def main():
    torch.set_num_threads(1)
    rows = list(run(int(sys.argv[1]) if len(sys.argv) == 2 else 0))
    print(f"{time.process_time():.0f} CPU seconds")
    if len(sys.argv) == 2:
        return
    with open(TABLE, "w", newline="", encoding="utf8") as file:
        file.write(f"# {date.today()}, {processor()}, one thread, {time.process_time():.0f} CPU seconds, "
                   f"Python {platform.python_version()}, torch {torch.__version__}\n")
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["experiment", "arm", "rate", "seed", "what", "block", "value"])
        table.writerows(rows)


if __name__ == "__main__":
    main()
