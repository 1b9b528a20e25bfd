"""Chapter 6 again, over other and more seeds: every experiment, every assert, and a table.

    OMP_NUM_THREADS=1 python benchmarks/chapter06.py            ten seeds; writes chapter06.csv and chapter06.txt
    OMP_NUM_THREADS=1 python benchmarks/chapter06.py 10 20      these seeds; prints only

Nothing is written twice: this runs the cells of the chapter's own text, with another `seeds`, so that its asserts
are tried on these seeds too.  Then it runs what the chapter marks with a dagger: controls that would cost a reader
too much time, the functions in BESIDE, with the chapter's own functions.  The csv has a line for each quantity and
seed, the txt medians and ranges; `tests/chapters/test_ch06.py` holds the chapter's sentences to the csv.  It takes
some minutes, so it is not part of the tests.
"""

import ast
import csv
import os
import platform
import re
import sys
import time
from datetime import date

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before NumPy loads its BLAS
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import matplotlib

matplotlib.use("Agg")
import numpy as np
import torch
from page import CELL, ROOT, processor

TEXT = ROOT / "notebooks" / "06_what_batch_norm_does.md"
NOT_RUN = re.compile(r"^(check|hint|solution|progress|notebook\.show_source)\(|# your code", re.MULTILINE)


def experiments(text, seeds):
    """The chapter's cells in order, with these seeds; without those that are about exercises."""
    cells = [cell for cell in CELL.findall(text) if not NOT_RUN.search(cell)]
    there = [cell for cell in cells if "seeds = range(5)" in cell]
    if len(there) != 1:
        raise ValueError(f"the chapter sets `seeds = range(5)` in {len(there)} cells, where it should be one")
    return [cell.replace("seeds = range(5)", f"seeds = {seeds!r}") for cell in cells]


def run(cells):
    """The names that the cells leave behind, and the asserts that did not hold, as text."""
    scope, failed = {"__name__": "chapter06"}, []
    for number, cell in enumerate(cells):
        for statement in ast.parse(cell).body:  # one by one, so that an assert that fails does not hide the next
            try:
                exec(compile(ast.Module([statement], []), f"cell {number}", "exec"), scope)
            except AssertionError:
                failed.append(ast.unparse(statement))
                print("does not hold:", failed[-1])
    return scope, failed


# Beside the page: each gets the names that the page leaves behind, and returns {name: one number for each seed}


def deep_without_skips(c, rates=(0.01, 0.02, 0.05, 0.1, 0.2), steps=300):
    """30 ReLU layers of width 64, with and without batch norm, best accuracy within these steps at the best rate."""
    found = {}
    for norm in ("none", "batch"):
        best = []
        for lr in rates:
            net = c["training"].mlp((64,) * 31 + (10,), norm=norm, **c["he"])
            with np.errstate(all="ignore"):
                history = c["training"].train(net, c["digits"], seeds=c["seeds"], lr=lr, steps=steps,
                                              looks=range(20, steps + 1, 20))
            best.append(100 * history["accuracy"].max(axis=0))
        k = int(np.argmax(np.median(best, axis=1)))
        found[f"accuracy, %, 30 layers without skips, {steps} steps, rate {rates[k]:g}: {norm}"] = best[k]
    return found


def hidden_weights_frozen(c):
    """The arm \"only those weights\" of figure 6.3 at a rate of 0."""
    return {"best accuracy within 200 steps, weights in front frozen": c["run"](c["only"], 0)["accuracy"].max(axis=0)}


def walks_at_a_small_rate(c):
    """Equation (6.9) as in figure 6.4, trained at 0.05."""
    return {f"change of the gradient for its distance, rate 0.05: {name}": np.median(
        c["walks_while_training"](net, 0.05, 0.05)[1][3:], axis=0)
        for name, net in (("no normalization", c["plain"]), ("batch norm", c["normed"]))}


def readers_of_whole_digits(c, rates=(0.1, 0.3, 0.5, 1)):
    """Figure 6.6, right, but all sequences have 8 rows."""
    found = {}
    for kind in ("layer", "batch"):
        errors = c["measures"].train_reader(c["read"], kind, 16, rates, c["digits"], c["seeds"], steps=600, shortest=8)
        found[f"test error, %, after 8 rows, batches of 16 whole digits: {kind} norm"] = min(
            errors[:, -1], key=np.mean)
    return found


def halves_of_batch_norm(c, rates=(0.1, 0.2, 0.5, 1, 2), steps=150, group=8):
    """The sorted groups of \"Small, sorted, accumulated\", with one half of batch norm: mean or scale alone.

    Scale alone divides by the standard deviation and subtracts nothing.  In torch, since the page's nets know whole
    layers only.  Test with the statistics of 200 training images, as on the page.
    """
    halves = {"mean alone": lambda z, mu, std: z - mu, "scale alone": lambda z, mu, std: z / std,
              "both": lambda z, mu, std: (z - mu) / std}
    runs, found = len(c["seeds"]), {}

    def logits(p, x, half, known=None):  # x: (runs, groups, samples, 64); and the statistics of each layer
        here = []
        for k in range(3):
            z = x @ p[f"W{k}"][:, None]
            here.append((z.mean(2, keepdim=True), (z.var(2, correction=0, keepdim=True) + 1e-5).sqrt()))
            y = half(z, *(known or here)[k]) * p[f"gamma{k}"][:, None] + p[f"beta{k}"][:, None]
            x = torch.relu(y)
        return x @ p["W3"][:, None] + p["beta3"][:, None], here

    x_test, y_test = torch.tensor(c["digits"].x_test), torch.tensor(c["digits"].y_test)
    x_known = torch.tensor(c["digits"].x_train[:200]).expand(runs, 1, -1, -1)
    for name, half in halves.items():
        tried = []
        for lr in rates:
            layers = c["three_layers"]("batch").layers
            p = {f"W{k}": torch.tensor(layer["weight"]) for k, layer in enumerate(layers)}
            p |= {f"beta{k}": torch.zeros(runs, 1, p[f"W{k}"].shape[2]) for k in range(4)}
            p |= {f"gamma{k}": torch.ones(runs, 1, 64) for k in range(3)}
            for x, labels in c["measures"].sorted_batches(c["digits"], size=64, group=group, seeds=c["seeds"],
                                                          steps=steps):
                leaves = [v.requires_grad_() for v in p.values()]
                out, _ = logits(p, torch.tensor(x).reshape(runs, -1, group, 64), half)
                losses = torch.nn.functional.cross_entropy(
                    out.reshape(-1, 10), torch.tensor(labels).flatten(), reduction="none").reshape(runs, -1).mean(1)
                gradients = torch.autograd.grad(losses.sum(), leaves)
                p = {key: (v - lr * dv).detach() for (key, v), dv in zip(p.items(), gradients, strict=True)}
            with torch.no_grad():
                known = logits(p, x_known, half)[1]
                wrong = logits(p, x_test.expand(runs, 1, -1, -1), half, known)[0][:, 0].argmax(2) != y_test
            tried.append((100 * wrong.double().mean(1).numpy(), losses.detach().numpy()))
        error, loss = min(tried, key=lambda each: np.median(each[0]))
        found[f"test error, %, one class each, {name}"], found[f"last loss, one class each, {name}"] = error, loss
        found[f"last loss, one class each, {name}, at its best rate for it"] = min(
            (each[1] for each in tried), key=np.median)
    return found


BESIDE = (deep_without_skips, hidden_weights_frozen, walks_at_a_small_rate, readers_of_whole_digits,
          halves_of_batch_norm)


def quantities(scope):
    """{name: one number for each seed}, of what the chapter measured."""
    found = {}
    for arm, values in scope["squares"].items():
        found[f"squared gradient, layer 1 over 30: {arm}"] = values[:, 0] / values[:, -1]
    for name, values in scope["measured"].items():
        found[f"growth per layer, width and batch 1024: {name}"] = values
    for norm, values in scope["alike"].items():
        found[f"cosine of two digits after 30 layers: {norm}"] = values
    for start, values in zip(scope["starts"], scope["lengths"][-1], strict=True):
        found[f"length of the weights after 800 steps, start x {start:g}"] = values
    for number, values in enumerate(scope["ratio"], start=1):
        found[f"angle of a step, measured over predicted: setting {number}"] = values
    for arm, sweep in scope["sweeps"].items():
        found[f"steps to 95 % at the best rate: {arm}"] = sweep.at_best(arm, 0.95)
        for lr, steps in zip(sweep.lrs, sweep.steps(arm, 0.95), strict=True):
            found[f"steps to 95 % at rate {lr:g}: {arm}"] = steps
    for arm in scope["ranges"]:
        found[f"range of the loss along the gradient: {arm}"] = np.median(scope["ranges"][arm][3:], axis=0)
        found[f"change of the gradient for its distance: {arm}"] = np.median(scope["changes"][arm][3:], axis=0)
    for m, values in zip(scope["sizes"], scope["variance"], strict=True):
        found[f"variance of an answer, batch of {m}"] = values
    for way, values in scope["tuned"].items():
        found[f"test error, %, 200 images: {way}"] = values
    for (way, lr), values in scope["errors"].items():
        found[f"test error, %, 200 images, rate {lr:g}: {way}"] = values
    found.update(scope["stored"])
    for name, values in scope["small"].items():
        found[f"test error, %: {name}"] = values
    for name, values in scope["accumulated"].items():
        found[f"accumulated against whole gradient: {name}"] = values
    for size, arms in scope["by_length"].items():
        for arm, values in arms.items():
            found[f"test error, %, after 8 rows, {size}: {arm}"] = values[-1]
    for m, values in scope["others"].items():
        found[f"share of a change that falls on others, batch of {m}"] = values
    for norm, values in scope["cheating"].items():
        found[f"accuracy of those that cannot know: {norm}"] = values
    return {name: np.asarray(values, dtype=float) for name, values in found.items()}


def main():
    first, end = map(int, sys.argv[1:]) if len(sys.argv) == 3 else (0, 10)
    seeds, start = range(first, end), time.process_time()
    scope, failed = run(experiments(TEXT.read_text(encoding="utf8"), seeds))
    found = quantities(scope)
    for control in BESIDE:
        found |= {name: np.asarray(values, dtype=float) for name, values in control(scope).items()}
    lines = [f"Seeds {first} to {end - 1}; median, and least to most. {date.today()}, {processor()}, one thread, "
             f"{time.process_time() - start:.0f} s;",
             f"Python {platform.python_version()}, NumPy {np.__version__}, torch {torch.__version__}.", ""]
    for name, values in found.items():
        low, middle, high = np.quantile(values, (0, 0.5, 1), method="nearest")
        lines.append(f"{name:76} {middle:10.4g}  ({low:.4g} to {high:.4g})")
    lines += ["", "Not held, of the chapter's asserts:" if failed else "Every assert of the chapter holds.", *failed]
    print("\n".join(lines))
    if len(sys.argv) == 3:
        return
    (ROOT / "benchmarks" / "chapter06.txt").write_text("\n".join([*lines, ""]), encoding="utf8")
    with open(ROOT / "benchmarks" / "chapter06.csv", "w", newline="", encoding="utf8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["quantity", "seed", "value"])
        table.writerows([name, seed, f"{value:.6g}"] for name, values in found.items()
                        for seed, value in zip(seeds, values, strict=True))


if __name__ == "__main__":
    main()
