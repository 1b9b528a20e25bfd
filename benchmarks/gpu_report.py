"""The report of `gpu.py`: its table as CSV and Markdown, the goals it is held against, its figure.

A row is a dict with the keys FIELDS; what was not measured is None.  Nothing
here measures, and nothing needs torch or a GPU.
"""

import csv
import statistics

PASSES = ("forward", "backward", "forward + backward")
WHO = ("ours", "torch", "compile", "eager")
LABELS = {"ours": "ours", "torch": "torch.nn", "compile": "torch.compile", "eager": "eager"}
TIMINGS = {"as called": "_ms", "device time": "_device_ms"}
KEY = ("layer", "shape", "dtype", "memory_format", "pass")
FIELDS = (*KEY, "array_mb", "floor_arrays", "floor_mb", "floor_ms",
          *(who + ms for ms in TIMINGS.values() for who in WHO),
          "fraction_of_copy", "vs_torch", "vs_compile", "vs_eager", "spread", "ours_peak_mb", "rival_peak_mb", "error",
          "repeatable", "copy_gb_per_s", "machine")
# The largest error of an entry, over its size plus the root mean square of its array: the rounding of sums in float32,
# a unit in the last place of half types, which are rounded once, at the end.
TOLERANCE = {"float32": 1e-5, "bfloat16": 8e-3, "float16": 1e-3}
NOT_IN_TORCH = ("frn_tlu",)  # its rival is the composed formula in eager torch
REHEARSAL = "REHEARSAL, no measurement"

INTRO = """
Written by `benchmarks/gpu.py`. Times are medians of events around each call, in milliseconds; in brackets, where it was
measured, stands the time of the device alone, from the replay of a captured graph. The floor is the bytes that must
move over the copy bandwidth of the same run; it counts the arrays of the size of x that are read or written: 2 forward
and 3 backward, but 3 and 5 for batch norm, which needs all of x before it can write. "Of copy" is floor / ours, "x
torch" the time of torch.nn over ours: above 1, ours is faster. torch.compile gets the formula step by step. Inputs take
turns, past the L2 cache; still, what a call writes may stay there, so that a small array can reach a share above 1.
Batch and instance norm have float32 parameters beside half types, the other layers parameters of the type of x. The
spread of ours is from quartile to quartile. The error is that of the worst entry of y and of all gradients, against
float64, over its own size plus the root mean square of its array; what is wrong is not timed. The goals are about
contiguous arrays on an H200. MB is a million bytes.
"""


def key(row):
    return tuple(row[field] for field in KEY)


def name(row):
    memory_format = "" if row["memory_format"] == "contiguous" else f" {row['memory_format']}"
    return f"{row['layer'].replace('_', ' ')} {row['shape']}{memory_format} {row['dtype']}, {row['pass']}"


def read_rows(path):
    """{key: row}; what looks like a number comes back as one."""
    if not path.exists():
        return {}
    with path.open(encoding="utf8", newline="") as file:
        rows = [{field: number(row[field]) for field in FIELDS} for row in csv.DictReader(file)]
    return {key(row): row for row in rows}


def number(cell):
    try:
        return float(cell) if cell else None
    except ValueError:
        return cell


def write_rows(path, rows):
    with path.open("w", encoding="utf8", newline="") as file:
        writer = csv.DictWriter(file, FIELDS, lineterminator="\n")
        writer.writeheader()
        writer.writerows({f: f"{v:.6g}" if isinstance(v, float) else v for f, v in row.items()} for row in rows)


def ratio(a, b):
    return a / b if a and b else None


def share(row, ms):
    return ratio(row["floor_ms"], row["ours" + ms])


def against(who):
    return lambda row, ms: ratio(row[who + ms], row["ours" + ms])


def memory(row, _):
    return ratio(row["rival_peak_mb"], row["ours_peak_mb"])


def right(row, _):
    if row["error"] is None:
        return None
    return float(row["error"] <= TOLERANCE[row["dtype"]] and row["repeatable"] == "yes")


def goals(rows, large):
    """[(goal, what it asks for, {timing: verdict})] over the rows of a whole plan, measured or not.

    Args:
        large: MB of x from where the goals about the copy bandwidth hold.
    """
    found = []

    def goal(text, asked, about, value, *, mean=False, timings=TIMINGS):
        found.append((text, asked, {timing: verdict([(value(row, ms), row) for row in about], asked, mean)
                                    if timing in timings else "" for timing, ms in TIMINGS.items()}))

    def chosen(*passes, only=None, without=(), at_least=large):
        return [row for row in rows if row["pass"] in passes and row["array_mb"] >= at_least
                and row["layer"] not in without and only in (None, row["layer"])]

    forward, backward, both = PASSES
    size, batch, once = f"x of {large:g} MB and more", "batch_norm", ("as called",)
    goal(f"share of the copy bandwidth, forward, {size}", 0.9, chosen(forward, without=[batch]), share)
    goal(f"share of the copy bandwidth, backward, {size}", 0.8, chosen(backward, without=[batch]), share)
    goal(f"share of the copy bandwidth, batch norm, {size}", 0.85, chosen(forward, backward, only=batch), share)
    for where, at_least in (size, large), ("every shape", 0):
        for who, without in ("torch", NOT_IN_TORCH), ("compile", ()):
            goal(f"times as fast as {LABELS[who]}, each row, {where}", 0.95,
                 chosen(*PASSES, without=without, at_least=at_least), against(who))
            goal(f"times as fast as {LABELS[who]}, geometric mean of forward and of both passes, {where}", 1.3,
                 chosen(forward, both, without=without, at_least=at_least), against(who), mean=True)
    goal(f"local response norm, times as fast as torch.nn, {size}", 6,
         chosen(forward, both, only="local_response_norm"), against("torch"))
    goal(f"FRN + TLU, times as fast as the composed eager form, {size}", 4,
         chosen(forward, both, only="frn_tlu"), against("eager"))
    goal("peak memory of torch.nn (FRN + TLU: of the eager form) over ours", 1, chosen(both, at_least=0), memory,
         timings=once)
    goal("y and gradients are right, and the same bits twice: 1 is yes", 1, chosen(*PASSES, at_least=0), right,
         timings=once)
    return found


def verdict(found, asked, mean=False):
    """What the values of the rows, [(value or None, row), ...], say about a goal that asks for `asked` or more."""
    known = [pair for pair in found if pair[0] is not None]
    if not known:
        return "not measured"
    value, least = min(known, key=lambda pair: pair[0])
    value = statistics.geometric_mean(v for v, _ in known) if mean else value
    complete = len(known) == len(found)
    word = "not met" if value < asked else "met" if complete else "met so far"
    rows = f"{len(known)} rows" if complete else f"{len(known)} of {len(found)} rows"
    return f"**{word}**: {value:.3f}, {rows}" + ("" if mean else f", least in {name(least)}")


def summary(rows, plan, large, figure_name):
    """The first part of the report: what was measured where, the goals, the figure if there is one."""
    machines = sorted({f"{row['machine']}, copies {row['copy_gb_per_s']:.0f} GB/s" for row in rows if row["machine"]})
    rehearsal = any(REHEARSAL in machine for machine in machines)
    lines = [f"# {REHEARSAL}" if rehearsal else "# Speed on a GPU", ""]
    lines += [f"- {machine}" for machine in machines] or [
        "**Not measured yet.** Here are the bytes that must move, and the goals for a measurement."]
    if machines and not rehearsal and not all("H200" in machine for machine in machines):
        lines += ["", "**The goals are set for an H200; this was measured on another device.**"]
    lines += [INTRO, "## Goals", "", "| goal | at least | as called | device time |", "|---|---|---|---|"]
    lines += [f"| {goal} | {asked:g} | {found['as called']} | {found['device time']} |"
              for goal, asked, found in goals([row for row in rows if key(row) in plan], large)]
    if figure_name:
        lines += ["", f"![{alt_text(rows)}]({figure_name})"]
    return "\n".join(lines) + "\n"


def tables(rows):
    """The second part: a table per layer."""
    lines = []
    for layer in dict.fromkeys(row["layer"] for row in rows):
        rival = "eager" if layer in NOT_IN_TORCH else "torch"
        head = ("x", "type", "pass", "arrays", "MB to move", "floor", "ours", LABELS[rival], "torch.compile", "of copy",
                f"x {rival}", "x compile", "spread", "error", f"peak MB: ours, {LABELS[rival]}")
        lines += ["", f"## {layer.replace('_', ' ')}", "", f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
        lines += [f"| {' | '.join(cells(row, rival))} |" for row in rows if row["layer"] == layer]
    return "\n".join(lines) + "\n"


def cells(row, rival):
    """A row of the table of a layer."""
    def cell(pattern, *fields):
        values = [row[field] for field in fields]
        return "not measured" if None in values else pattern.format(*values)

    yield row["shape"] if row["memory_format"] == "contiguous" else f"{row['shape']} {row['memory_format']}"
    yield from (row["dtype"], row["pass"], cell("{:g}", "floor_arrays"), cell("{:.4g}", "floor_mb"))
    yield cell("{:.4g}", "floor_ms")
    for who in ("ours", rival, "compile"):
        yield cell("{:.4g}", f"{who}_ms") + (cell(" ({:.4g})", f"{who}_device_ms") if row[f"{who}_device_ms"] else "")
    yield from (cell("{:.2f}", field) for field in ("fraction_of_copy", f"vs_{rival}", "vs_compile"))
    yield cell("{:.0%}", "spread")
    yield cell("{:.0e}", "error")
    yield cell("{:.4g}, {:.4g}", "ours_peak_mb", "rival_peak_mb") if row["pass"] == PASSES[2] else ""


# The figure: colours of Okabe and Ito; the shapes tell the contenders apart without colour.

MARKS = {"ours": {"color": "#0072B2", "marker": "o", "markersize": 7},
         "torch": {"color": "#D55E00", "marker": "s", "fillstyle": "none"},
         "compile": {"color": "#009E73", "marker": "^", "fillstyle": "none"},
         "eager": {"color": "#CC79A7", "marker": "D", "fillstyle": "none"}}


def alt_text(rows):
    """The figure in words."""
    shares = [row["fraction_of_copy"] for row in rows if row["fraction_of_copy"] and row["pass"] != PASSES[2]]
    return ("A line per layer and shape, a panel per pass and type; marks show the share of the copy bandwidth that "
            "ours, torch.nn and torch.compile reach. "
            f"Ours: {min(shares):.2f} to {max(shares):.2f}, median {statistics.median(shares):.2f}.")


def save_figure(rows, path):
    """Shares of the copy bandwidth: a line per layer and shape, a panel per pass and type."""
    import matplotlib.pyplot as plt

    def line(row):
        return row["layer"], row["shape"] + ("" if row["memory_format"] == "contiguous" else " channels_last")

    rows = [row for row in rows if row["ours_ms"] and row["pass"] != PASSES[2]]
    lines = list(dict.fromkeys(map(line, rows)))
    panels = [(passed, dtype) for passed in PASSES for dtype in TOLERANCE
              if any((row["pass"], row["dtype"]) == (passed, dtype) for row in rows)]
    fig, axes = plt.subplots(1, len(panels), figsize=(3 + 2.4 * len(panels), 1.6 + 0.24 * len(lines)), sharex=True,
                             sharey=True, squeeze=False, layout="constrained")
    plt.close(fig)
    handles = {}
    for axis, panel in zip(axes[0], panels):
        for who in reversed(WHO):  # ours is drawn last, on top
            shown = [row for row in rows if (row["pass"], row["dtype"]) == panel and row[f"{who}_ms"]]
            if shown:
                handles[who], = axis.plot([row["floor_ms"] / row[f"{who}_ms"] for row in shown],
                                          [lines.index(line(row)) for row in shown], linestyle="", **MARKS[who])
        axis.axvline(1, color="0.3", linewidth=1, linestyle="--")
        axis.set(title=", ".join(panel), xlim=(0, None))
        axis.grid(alpha=0.3)
        axis.spines[["top", "right"]].set_visible(False)
        for above, (before, after) in enumerate(zip(lines, lines[1:])):
            if before[0] != after[0]:
                axis.axhline(above + 0.5, color="0.6", linewidth=0.8)
    axes[0, 0].set_yticks(range(len(lines)), [f"{layer.replace('_', ' ')} {shape}" for layer, shape in lines])
    axes[0, 0].set_ylim(len(lines) - 0.5, -0.5)
    fig.supxlabel("share of the copy bandwidth" + (f" ({REHEARSAL})" if REHEARSAL in rows[0]["machine"] else ""))
    fig.legend([handles[who] for who in WHO if who in handles], [LABELS[who] for who in WHO if who in handles],
               loc="outside upper center", ncols=4, frameon=False)
    with plt.rc_context({"svg.hashsalt": "course"}):  # the same numbers give the same file
        fig.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
