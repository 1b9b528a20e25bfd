"""What chapter 8 says of longer trainings and of other blocks than those it trains in its page.

    OMP_NUM_THREADS=1 python benchmarks/chapter08.py        writes course_lib/chapters/ch08/recorded.py

The nets, the trainings and the measures are the page's own functions, run with other arguments.  Each arm is tuned on
two seeds and judged on five others, as in the page.  The page and its tests read what is written.  It takes some
minutes, so it is not part of the tests.
"""

import ast
import os
from functools import partial

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before the libraries load their BLAS
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import torch
from page import CELL, ROOT, write_record

from course_lib.chapters.ch08 import measures

TEXT = ROOT / "notebooks" / "08_instance_norm_style.md"
WRITTEN = ROOT / "course_lib" / "chapters" / "ch08" / "recorded.py"


def definitions(text):
    """The page's imports and functions; no training is run."""
    scope = {}
    for cell in CELL.findall(text):
        if "# your code" in cell or cell.startswith("try:"):
            continue
        for node in ast.parse(cell).body:
            if isinstance(node, (ast.Import, ast.ImportFrom, ast.FunctionDef)) and (
                    getattr(node, "module", "") != "course_lib.chapters.ch08.recorded"):
                try:
                    exec(compile(ast.Module([node], []), "page", "exec"), scope)
                except NameError:  # a default that the page has computed
                    pass
    return scope


def last_matrix(scope, size):
    """The page's training, with the last matrix of each branch `size` times as large at the start."""
    start = measures.flow_weights

    def scaled(seeds, *, reads, last):
        p = start(seeds, reads=reads, last=last)
        return p | {name: size * value for name, value in p.items() if name.startswith("W2")}

    def train(block, final, rate, seeds):
        measures.flow_weights = scaled
        try:
            return scope["train_v"](block, final, rate, seeds)
        finally:
            measures.flow_weights = start

    return train


def linear_path(scope):
    """The page's training, with a matrix from x_t to the output, from 0, beside the net."""
    def net(block, final, p, x, t, y):
        return scope["flow"](block, final, p, x, t, y) + x @ p["path"]

    def train(block, final, rate, seeds):
        p = measures.flow_weights(seeds, reads=64, last=1) | {"path": torch.zeros(len(seeds), 64, 64)}
        f = partial(net, block, final)
        measures.train_flow(f, p, rate=rate, steps=200, seeds=seeds)
        return measures.held_out(f, p), p

    return train


def without_scale(scope):
    """A block as adaln_zero, whose norm gets a shift alone."""
    def block(p, k, h, c):
        _, b, g = scope["vectors"](p, k, c)
        return h + g * scope["branch"](p, k, scope["normed"](h) + b)

    return block


def arms(scope):
    """(name, run(rate, seeds), rates) of everything that is recorded."""
    by_norm, beside, train = scope["final_adaln"], scope["final_concat"], scope["train_v"]
    blocks = {
        "AdaLN, gate from 1": (scope["adaln"], by_norm), "AdaLN-zero": (scope["adaln_zero"], by_norm),
        "AdaLN, plain gate": (scope["adaln_gate"], by_norm),
        "AdaLN, 0.1": (partial(scope["adaln_fixed"], 0.1), by_norm),
        "concatenated": (scope["concat"], beside), "concat., plain gate": (scope["concat_gate"], beside),
        "concat., 0.1": (partial(scope["concat_fixed"], 0.1), beside)}
    for name, (block, final) in blocks.items():
        yield f"1000 steps: {name}", partial(train, block, final, steps=1000), (0.003, 0.006, 0.012, 0.024)
    for factor, rates in ((0.03, (0.024, 0.048, 0.096, 0.192)), (0.1, (0.012, 0.024, 0.048, 0.096)),
                          (0.3, (0.012, 0.024, 0.048, 0.096)), (1.0, (0.006, 0.012, 0.024, 0.048))):
        yield f"AdaLN, factor {factor:g}", partial(train, partial(scope["adaln_fixed"], factor), by_norm), rates
    low, high = (0.006, 0.012, 0.024, 0.048), (0.012, 0.024, 0.048, 0.096)
    whole = partial(scope["adaln_fixed"], 1.0)
    yield "AdaLN, factor 1, last W times 0.1", partial(last_matrix(scope, 0.1), whole, by_norm), low
    yield "AdaLN, factor 1, last W from 0", partial(last_matrix(scope, 0.0), whole, by_norm), low
    tenth = partial(scope["adaln_fixed"], 0.1)
    yield "AdaLN, factor 0.1, last W times 10", partial(last_matrix(scope, 10.0), tenth, by_norm), high
    yield "AdaLN-zero, no scale s", partial(train, without_scale(scope), by_norm), high
    yield "linear path, gate from 1", partial(linear_path(scope), scope["adaln"], by_norm), low
    yield "linear path, AdaLN-zero", partial(linear_path(scope), scope["adaln_zero"], by_norm), high
    for size in (1.0, 4.0):
        told = partial(scope["concatenated"], size=size)
        yield f"question, {size:g}", partial(scope["ask"], told, 5), (0.003, 0.01, 0.03)


def main():
    found = {}
    scope = definitions(TEXT.read_text(encoding="utf8"))
    scope["questions"] = list(measures.QUESTIONS)
    for name, run, rates in arms(scope):
        best, medians, values, _ = measures.tuned(run, rates)
        found[name] = values
        edge = " AT THE EDGE" if best in (rates[0], rates[-1]) else ""
        print(f"{name}: rate {best}{edge}, {[round(m, 3) for m in medians]}; {found[name]}", flush=True)
    write_record(WRITTEN, "What benchmarks/chapter08.py found: for each arm at its best rate a number for each seed:\n"
                 "the held-out loss of a diffusion net, or the wrong answers to questions in percent.", found, torch)


if __name__ == "__main__":
    main()
