"""How fast the torch half is on a GPU: beside torch.nn, torch.compile and the floor that the memory sets.

    python benchmarks/gpu.py [--layers ...] [--graphs] [--out FOLDER]    measures, on a machine with a GPU
    python benchmarks/gpu.py [--merge TABLE.csv ...]                     writes the report anew, on any machine
    python benchmarks/gpu.py --rehearse --out FOLDER                     the whole program with tiny arrays, no GPU

A normalization computes little; what takes time is to move arrays.  So the floor
of a layer is the bytes that it must move, over the speed at which the device
copies a large array in the same run.

Times come from events around each call.  The calls take turns over copies of x
that together are four times the L2 cache, so that none finds its input there,
and the contenders take turns in each round.  Nobody waits for the device between
two calls: its queue stays full, unless Python is slower than the device, as with
small arrays.  --graphs also replays the same calls without Python.

Each run adds its rows to gpu.csv in FOLDER, so that several short runs make one
table, and writes gpu.md (table and goals) and gpu.svg from all of them.
"""

import argparse
import gc
import platform
import statistics
import subprocess
import sys
import time
import traceback
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from math import ceil, prod
from pathlib import Path
from typing import NamedTuple

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # time the course_lib beside this file, installed or not

import gpu_report as report
from gpu_layers import FLOAT32_PARAMS, LAYERS, lift
from gpu_report import PASSES, REHEARSAL, TOLERANCE

from course_lib.nn import functional


class Settings(NamedTuple):
    device: str
    rows: tuple  # shapes (N, D)
    maps: tuple  # shapes (N, C, H, W)
    large: float  # MB of x from where the goals about the copy bandwidth hold
    l2: int  # bytes
    copied: int  # bytes of the array whose copy gives the bandwidth
    warm_up: float  # seconds, so that the clocks of the device are up


FULL = Settings("cuda", ((8192, 1024), (32768, 4096), (4096, 16384)),
                ((64, 256, 112, 112), (32, 256, 56, 56), (64, 512, 14, 14), (2, 256, 56, 56)), 256, 0, 2**31, 0.3)
TINY = Settings("cpu", ((16, 32), (8, 48)), ((3, 64, 5, 4), (2, 32, 6, 7)), 0.01, 2**11, 2**20, 0)


# The clocks: events on a GPU; for a rehearsal, the clock on the wall.


class GpuClock:
    wait = staticmethod(torch.cuda.synchronize)

    def stamp(self):
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def ms(self, start, end):
        return start.elapsed_time(end)

    def capture(self, work):
        """A function that replays what `work` does on the device, without Python."""
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            work()  # what is done once only must not be part of the graph
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            work()
        return graph.replay

    def peak_mb(self, work):
        """The most memory that `work` held at once beyond what was there before."""
        self.wait()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        work()
        self.wait()
        return (torch.cuda.max_memory_allocated() - before) / 1e6


class CpuClock:
    stamp = staticmethod(time.perf_counter)

    def wait(self):
        pass

    def ms(self, start, end):
        return (end - start) * 1e3

    def capture(self, work):
        return work

    def peak_mb(self, work):
        return work() and None  # torch counts no memory on a CPU


# One case: a layer, a shape, a type, a memory format.


class Case(NamedTuple):
    layer: str
    shape: tuple
    dtype: str
    memory_format: str

    def row(self, passed):
        """The row of the table before anything is measured."""
        forward, backward = LAYERS[self.layer].arrays
        arrays = {"forward": forward, "backward": backward}.get(passed, forward + backward)
        array_mb = prod(self.shape) * getattr(torch, self.dtype).itemsize / 1e6
        return dict.fromkeys(report.FIELDS) | {
            "layer": self.layer, "shape": "x".join(map(str, self.shape)), "dtype": self.dtype,
            "memory_format": self.memory_format, "pass": passed, "array_mb": array_mb, "floor_arrays": arrays,
            "floor_mb": arrays * array_mb}


class Copy(NamedTuple):
    inputs: list
    wanted: list  # those of the inputs that get a gradient
    dy: torch.Tensor


def make_copies(case, settings):
    """Copies of x and dy, so many that the x of them do not fit into the L2 cache; they share the parameters."""
    torch.manual_seed(0)
    layer, dtype = LAYERS[case.layer], getattr(torch, case.dtype)
    memory_format = {"contiguous": torch.contiguous_format}.get(case.memory_format, torch.channels_last)

    def random(shape, dtype):
        return torch.randn(shape, device=settings.device, dtype=dtype)

    params = [random(case.shape[1], torch.float32 if case.layer in FLOAT32_PARAMS else dtype) for _ in layer.params]
    params = [p.abs().add_(0.5) if name == "var" else p for name, p in zip(layer.params, params)]
    learned = [p.requires_grad_() for name, p in zip(layer.params, params) if name not in ("mean", "var")]
    copies = []
    for _ in range(max(2, 1 + ceil(4 * settings.l2 / (prod(case.shape) * dtype.itemsize)))):
        x, dy = (random(case.shape, dtype).contiguous(memory_format=memory_format) for _ in range(2))
        x.mul_(2).add_(1).requires_grad_()
        copies.append(Copy([x, *params], [x, *learned], dy))
    return copies


def gradients(y, copy):
    return torch.autograd.grad(y, copy.wanted, copy.dy)


def forward_backward(function, copy):
    return gradients(function(*copy.inputs), copy)


def check(case, copy):
    """The error of our y and gradients against float64, and whether a second run gives the same bits."""
    layer = LAYERS[case.layer]
    exact = [t.detach().double().requires_grad_(t.requires_grad) for t in copy.inputs]
    dy = copy.dy
    if case.layer == "frn_tlu":  # next to a tie, two roundings may choose two sides, both right: nothing flows there
        *others, tau = exact
        distance = layer.composed(*others, torch.full_like(tau, -torch.inf)) - lift(tau, copy.dy)
        dy = dy * (distance.abs() > 0.02 * (1 + lift(tau, copy.dy).abs()))
    y = layer.composed(*exact)
    expected = y.detach(), *torch.autograd.grad(y, [t for t in exact if t.requires_grad], dy.double())
    first, second = ((y.detach(), *gradients(y, copy._replace(dy=dy)))
                     for y in (layer.ours(*copy.inputs) for _ in range(2)))
    errors = [((a - b).abs() / (b.abs() + b.square().mean().sqrt())).max() for a, b in zip(first, expected)]
    return torch.stack(errors).max().item(), all(map(torch.equal, first, second))


def contenders(case, compiled):
    layer = LAYERS[case.layer]
    found = {"ours": layer.ours, "torch" if layer.torch else "eager": layer.torch or layer.composed}
    if compiled:
        torch._dynamo.reset()  # each case is compiled for its own shape
        found["compile"] = torch.compile(layer.composed, dynamic=False)
    return found


def attempt(who, work, *args):
    """What `work` returns; None if a rival raises, whatever it is, so that the others still get their times."""
    try:
        return work(*args)
    except Exception as problem:
        if who == "ours":
            raise
        print(f"  {who} fails in {work.__name__}: {problem!r}"[:300], flush=True)


def one_turn(function, copies, clock, stamps):
    """Each pass over all copies; appends (start, end) to the list of each pass in `stamps`.

    All forward passes come before the first backward pass, which then finds
    neither x nor y in the cache.
    """
    def timed(passed, work, *args):
        start = clock.stamp()
        result = work(*args)
        stamps[passed].append((start, clock.stamp()))
        return result

    outputs = [timed("forward", function, *copy.inputs) for copy in copies]
    for copy in copies:
        timed("backward", gradients, outputs.pop(0), copy)
    for copy in copies:
        timed("forward + backward", forward_backward, function, copy)


def warm_up(function, copies, clock, seconds):
    """Compiles, fills torch's store of memory, brings up the clocks of the device; True once this has worked."""
    start = time.monotonic()
    while True:
        one_turn(function, copies, clock, {passed: [] for passed in PASSES})
        clock.wait()
        if time.monotonic() - start >= seconds:
            return True


def times_as_called(functions, copies, clock, samples):
    """{(who, pass): milliseconds of each call}; the contenders take turns."""
    stamps = {who: {passed: [] for passed in PASSES} for who in functions}
    for _ in range(max(5, ceil(samples / len(copies)))):
        for who, function in functions.items():
            one_turn(function, copies, clock, stamps[who])
    clock.wait()  # only here: a wait in between would add the time in which Python gets going again
    return {(who, passed): [clock.ms(*pair) for pair in pairs]
            for who, of_pass in stamps.items() for passed, pairs in of_pass.items()}


def times_on_device(function, copies, clock):
    """{pass: milliseconds} of captured calls; the backward pass is what it adds to the forward passes before it."""
    def forward():
        return [function(*copy.inputs) for copy in copies]

    def both():
        return [gradients(y, copy) for y, copy in zip(forward(), copies)]

    medians = []
    for work in (forward, both):
        replay = clock.capture(work)
        medians.append(median_ms([(clock.stamp(), replay(), clock.stamp()) for _ in range(20)], clock) / len(copies))
    forward_ms, both_ms = medians
    backward_ms = both_ms - forward_ms
    return dict(zip(PASSES, (forward_ms, backward_ms if backward_ms > 0 else None, both_ms)))


def median_ms(stamps, clock):
    clock.wait()
    return statistics.median(clock.ms(start, end) for start, _, end in stamps)


def measure(case, settings, clock, args, about):
    """The three rows of a case.  Where ours is wrong, they say so and hold no time."""
    copies = make_copies(case, settings)
    error, repeatable = check(case, copies[0])
    about = about | {"error": error, "repeatable": "yes" if repeatable else "no"}
    rows = {passed: case.row(passed) | about for passed in PASSES}
    for row in rows.values():
        row["floor_ms"] = row["floor_mb"] / row["copy_gb_per_s"]  # MB / (GB/s) = ms
    if not (error <= TOLERANCE[case.dtype] and repeatable):
        print(f"WRONG, not timed: {case}, error {error:.1e}, the same bits twice: {about['repeatable']}", flush=True)
        return rows.values()
    functions = {who: function for who, function in contenders(case, not args.no_compile).items()
                 if attempt(who, warm_up, function, copies, clock, settings.warm_up)}
    samples = times_as_called(functions, copies, clock, args.samples)
    for who, function in functions.items():
        on_device = (args.graphs and attempt(who, times_on_device, function, copies, clock)) or {}
        for passed, row in rows.items():
            row[f"{who}_ms"] = statistics.median(samples[who, passed])
            row[f"{who}_device_ms"] = on_device.get(passed)
    for passed, row in rows.items():
        low, _, high = statistics.quantiles(samples["ours", passed], n=4)
        row["spread"] = (high - low) / row["ours_ms"]
        row["fraction_of_copy"] = row["floor_ms"] / row["ours_ms"]
        for who in functions.keys() - {"ours"}:
            row[f"vs_{who}"] = row[f"{who}_ms"] / row["ours_ms"]
    for who, field in ("ours", "ours_peak_mb"), ("torch", "rival_peak_mb"), ("eager", "rival_peak_mb"):
        if who in functions:
            rows[PASSES[2]][field] = clock.peak_mb(partial(forward_backward, functions[who], copies[0]))
    return rows.values()


def copy_bandwidth(settings, clock):
    """GB/s, bytes read plus bytes written, of a large copy on the device."""
    source = torch.randn(settings.copied // 4, device=settings.device)
    target = source.clone()
    stamps = [(clock.stamp(), target.copy_(source), clock.stamp()) for _ in range(23)][3:]
    return 2 * settings.copied / median_ms(stamps, clock) / 1e6


def machine(settings):
    """What the times depend on, in a line."""
    versions = f"Python {platform.python_version()}, torch {torch.__version__}"
    today = datetime.now(UTC).date().isoformat()
    if settings.device == "cpu":
        return f"{REHEARSAL}: {today}, a CPU, {versions}"
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader", "--id=0"]
    driver = subprocess.run(query, capture_output=True, text=True, check=False).stdout.strip()
    fused = f"triton {version('triton')}" if functional.gpu else "no Triton, so no fused kernels"
    return f"{today}, {torch.cuda.get_device_name()}, driver {driver}, CUDA {torch.version.cuda}, {versions}, {fused}"


def cases(settings, layers, shapes, dtypes, memory_formats):
    """Every case of the plan that the arguments name."""
    return [Case(layer, shape, dtype, memory_format)
            for layer in layers for memory_format in memory_formats
            for shape in (settings.rows if LAYERS[layer].ndim == 2 else settings.maps) for dtype in dtypes
            if (not shapes or shape in shapes) and (memory_format == "contiguous" or len(shape) == 4)]


def run(args, settings, rows, table):
    """Measures case after case, adds to `rows` and to the table on the disk; returns how many cases went wrong."""
    start, failed, clock = time.monotonic(), 0, CpuClock() if args.rehearse else GpuClock()
    if not args.rehearse:
        settings = settings._replace(l2=torch.cuda.get_device_properties(0).L2_cache_size,
                                     copied=min(settings.copied, torch.cuda.mem_get_info()[0] // 4))
    about = {"copy_gb_per_s": copy_bandwidth(settings, clock), "machine": machine(settings)}
    print(f"{about['machine']}\ncopies {settings.copied / 1e9:.2f} GB at {about['copy_gb_per_s']:.0f} GB/s, "
          f"read and written; L2 {settings.l2 / 1e6:.0f} MB\n", flush=True)
    for case in cases(settings, args.layers, args.shapes, args.dtypes, args.formats):
        if time.monotonic() - start > 60 * args.minutes:
            print(f"{args.minutes:g} minutes are over; {case} and what follows is left for another run")
            break
        try:
            measured = measure(case, settings, clock, args, about)
        except Exception:  # the other cases still get their rows
            failed += 1
            print(f"FAILED: {case}\n{traceback.format_exc(limit=-2)}", flush=True)
            continue
        failed += any(row["ours_ms"] is None for row in measured)
        rows |= {report.key(row): row for row in measured}
        report.write_rows(table, [row for row in rows.values() if row["machine"]])
        for row in measured:
            times = ", ".join(f"{who} {row[f'{who}_ms']:.4g}" for who in report.WHO if row[f"{who}_ms"])
            print(f"{time.monotonic() - start:4.0f} s  {report.name(row)}: floor {row['floor_ms']:.4g}, {times} ms",
                  flush=True)
        gc.collect()
        if not args.rehearse:
            torch.cuda.empty_cache()
    return failed


def arguments(argv):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", nargs="+", choices=LAYERS, default=list(LAYERS), metavar="LAYER",
                        help=f"some of: {', '.join(LAYERS)}")
    parser.add_argument("--shapes", nargs="+", type=lambda s: tuple(map(int, s.split("x"))), metavar="SHAPE",
                        help="some of the shapes of the plan, written 8192x1024")
    parser.add_argument("--dtypes", nargs="+", choices=TOLERANCE, default=["float32", "bfloat16"])
    parser.add_argument("--formats", nargs="+", choices=("contiguous", "channels_last"), default=["contiguous"])
    parser.add_argument("--samples", type=int, default=60, help="timed calls of each pass, at least")
    parser.add_argument("--no-compile", action="store_true", help="leave out torch.compile, which takes seconds a case")
    parser.add_argument("--graphs", action="store_true", help="also time captured graphs: the device without Python")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin no new case after so long")
    parser.add_argument("--merge", nargs="+", type=Path, default=[], metavar="TABLE.csv",
                        help="measure nothing; add the rows of these tables, from other runs, to gpu.csv")
    parser.add_argument("--rehearse", action="store_true", help="tiny arrays on the CPU; needs --out")
    parser.add_argument("--out", type=Path, help="folder of the table, report and figure (default: beside this file)")
    args = parser.parse_args(argv)
    if args.rehearse and not args.out:
        parser.error("--rehearse needs --out: a rehearsal must not lie beside measurements")
    for path in args.merge:
        if not path.is_file():
            parser.error(f"there is no table {path}")
    return args


def main(argv=None):
    args = arguments(argv)
    settings, stem = (TINY, "rehearsal") if args.rehearse else (FULL, "gpu")
    folder = args.out or Path(__file__).resolve().parent
    folder.mkdir(parents=True, exist_ok=True)
    plan = {report.key(row): row for case in cases(settings, LAYERS, None, ("float32", "bfloat16"), ["contiguous"])
            for row in map(case.row, PASSES)}
    rows, failed, table = dict(plan), 0, folder / f"{stem}.csv"
    for path in (table, *args.merge):
        rows |= report.read_rows(path)
    if not args.rehearse and any(REHEARSAL in (row["machine"] or "") for row in rows.values()):
        sys.exit("Among these tables is one of a rehearsal; it must not stand among measurements.")
    measuring = args.rehearse or (torch.cuda.is_available() and not args.merge)
    if measuring:
        failed = run(args, settings, rows, table)
    elif not args.merge:
        print("No GPU is at hand: nothing is measured. The report is written from the measurements that are there.\n")
    rows = sorted(rows.values(), key=lambda row: list(LAYERS).index(row["layer"]))
    picture = f"{stem}.svg" if any(row["ours_ms"] for row in rows) else None
    if any(row["machine"] for row in rows):
        report.write_rows(table, [row for row in rows if row["machine"]])
        written = report.read_rows(table)  # with the digits of the table, so that the report can be made from it again
        rows = [written.get(report.key(row), row) for row in rows]
    if picture:
        report.save_figure(rows, folder / picture)
    summary, tables = report.summary(rows, plan, settings.large, picture), report.tables(rows)
    (folder / f"{stem}.md").write_text(summary + tables, encoding="utf8")
    print(summary if measuring else summary + tables)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
