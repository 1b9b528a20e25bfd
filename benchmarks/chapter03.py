"""What chapter 3 says of wider nets, longer runs and other rules than those it trains in its page.

    OMP_NUM_THREADS=1 python benchmarks/chapter03.py        writes course_lib/chapters/ch03/recorded.py

The nets, the trainings and the measures are the page's own functions, run with other arguments.  The page and its
tests read what is written.  It takes some minutes, so it is not part of the tests.
"""

import ast
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before NumPy loads its BLAS
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
from page import CELL, ROOT, write_record

from course_lib import training

TEXT = ROOT / "notebooks" / "03_weight_initialization.md"
WRITTEN = ROOT / "course_lib" / "chapters" / "ch03" / "recorded.py"
GRIDS = {"digits", "sigmas", "rates", "adam_rates"}


def definitions(text):
    """The page's imports and functions, and the grids of its map and of its last figure; no training is run."""
    scope = {}
    for cell in CELL.findall(text):
        if "# your code" in cell or cell.startswith("try:"):
            continue
        for node in ast.parse(cell).body:
            named = isinstance(node, ast.Assign) and getattr(node.targets[0], "id", None) in GRIDS - scope.keys()
            if named or isinstance(node, (ast.Import, ast.ImportFrom, ast.FunctionDef)):
                exec(compile(ast.Module([node], []), "page", "exec"), scope)
    return scope


def map_again(scope, sigmas, **settings):
    """{sigma: share of right digits, (seeds,)} after training 32 layers, each at its best rate."""
    every = scope["sigmas"]
    scope["sigmas"] = sigmas
    right = scope["train_all"](32, **settings)  # (sigmas, rates, seeds)
    scope["sigmas"] = every
    return {sigma: each[np.median(each, axis=1).argmax()] for sigma, each in zip(sigmas, right)}


def small_starts(scope, orthogonal, adam, rates, seeds=5, sigmas=(0.7, 0.85), steps=150):
    """As `map_again`, from normal or orthogonal weights, by gradient descent or Adam (momenta 0.9 and 0.999)."""
    sigma, rate, seed = (axis.ravel() for axis in np.meshgrid(sigmas, rates, range(seeds), indexing="ij"))
    starts = []
    for size, number in zip(sigma, seed):
        rng = np.random.default_rng(number)
        pairs = list(zip([64, *[32] * 32], [*[32] * 32, 10]))
        starts.append([size * (scope["orthogonal"](rng, *pair) if orthogonal else
                               rng.normal(0, pair[0] ** -0.5, pair)) for pair in pairs])
    net = scope["as_net"](starts)
    lr, zeros = np.float32(rate).reshape(-1, 1, 1), [{k: 0 * v for k, v in layer.items()} for layer in net.layers]
    first, second = zeros, [dict(layer) for layer in zeros]
    draws = training.batches(scope["digits"], size=32, seeds=seed, steps=steps)
    with np.errstate(all="ignore"):  # large rates may overflow
        for t, (x, labels) in enumerate(draws, start=1):
            _, found = training.loss_and_gradient(net, x, labels)
            for layer, gradient, m, v in zip(net.layers, found, first, second) if adam else ():
                for name, g in gradient.items():
                    m[name] = m[name] + np.float32(0.1) * (g - m[name])
                    v[name] = v[name] + np.float32(0.001) * (g**2 - v[name])
                    root = np.sqrt(v[name] / np.float32(1 - 0.999**t)) + np.float32(1e-8)
                    layer[name] = layer[name] - lr / np.float32(1 - 0.9**t) * m[name] / root
            if not adam:
                net = training.sgd_step(net, found, np.float32(rate))
        right = training.observe_accuracy(net, scope["digits"])["accuracy"].reshape(len(sigmas), len(rates), seeds)
    best = np.median(right, axis=2).argmax(axis=1)
    print("best of", rates, "at", [rates[k] for k in best])
    return {size: each[k] for size, each, k in zip(sigmas, right, best)}


def best_rates(scope, n, mup, seeds=5, steps=40, rates_alone=False, variance_alone=False):
    """{name: numbers}: the rate of the least median loss, the losses there, and each seed's own best rate."""
    plain = scope["of_width"]
    if rates_alone or variance_alone:
        def of_width(n, mup, seeds, base=32):
            scaled, normal = plain(n, True, seeds), plain(n, False, seeds)
            return (normal[0], scaled[1]) if rates_alone else (scaled[0], normal[1])
        scope["of_width"] = of_width
    losses = np.array([scope["adam"](n, mup, lr, seeds=range(seeds), steps=steps) for lr in scope["adam_rates"]])
    scope["of_width"] = plain
    best = np.median(losses, axis=1).argmin()
    return {"best rate": [scope["adam_rates"][best]], "loss": losses[best],
            "best rate of each seed": scope["adam_rates"][losses.argmin(axis=0)]}


def quantities(scope):
    """{name: one number for each seed}."""
    yield from ((f"32 layers, 600 steps, right at sigma {s}", each)
                for s, each in map_again(scope, (0.85, 1, 2.2), steps=600).items())
    yield from ((f"32 layers of 96 units, right at sigma {s}", each)
                for s, each in map_again(scope, (1, 1.15, 1.75, 2.2), width=96, seeds=3).items())
    for orthogonal in (False, True):
        for adam in (False, True):
            rates = (3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 0.01, 0.03) if adam else (0.04, 0.125, 0.4, 1.2, 4, 10, 30)
            name = f"32 layers, {'orthogonal' if orthogonal else 'normal'}, {'Adam' if adam else 'gradient descent'}"
            for s, each in small_starts(scope, orthogonal, adam, rates).items():
                yield f"{name}, right at sigma {s}", each
    for name, mup in (("standard", False), ("muP", True)):
        for n in (64, 128, 256, 512, 1024):
            for what, each in best_rates(scope, n, mup, seeds=5 if n < 1024 else 3).items():
                yield f"width {n}, {name}: {what}", each
    for steps in (20, 120):
        for what, each in best_rates(scope, 256, True, steps=steps).items():
            yield f"width 256, muP, {steps} steps: {what}", each
    for what, each in best_rates(scope, 256, True, rates_alone=True).items():
        yield f"width 256, muP's rates alone: {what}", each
    for what, each in best_rates(scope, 256, True, variance_alone=True).items():
        yield f"width 256, muP's variance alone: {what}", each


def main():
    found = {}
    for name, values in quantities(definitions(TEXT.read_text(encoding="utf8"))):
        found[name] = values
        print(name, values, flush=True)
    write_record(WRITTEN, "What benchmarks/chapter03.py found: for each quantity a number for each seed.", found, np)


if __name__ == "__main__":
    main()
