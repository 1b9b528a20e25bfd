"""What the compiler says of layer norm's kernels for several numbers of warps: the table of chapter 14.

    python benchmarks/chapter14.py

Compiles `tile_forward` and `features_backward` for sm_90 (H100, H200) on a machine that needs no GPU, and writes
`benchmarks/chapter14.csv`, which the chapter reads: one line for each length of a row and number of warps.  Nothing
runs, and no time is measured.
"""

import csv
import os
import sys
from datetime import date
from pathlib import Path

import torch
import triton

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tools"))
import compile_kernels

HERE = Path(__file__).resolve().parent
ARCH, LENGTHS, WARPS = 90, (1024, 4096, 16384), (1, 2, 4, 8, 16, 32)
FIELDS = ("kernel", "D", "warps", "registers", "spilled_bytes", "wide_loads", "narrow_loads", "triton", "date")


def lines():
    for d in LENGTHS:
        kernel, given, _ = compile_kernels.long_rows("layer_norm", d, torch.float32)[0]
        for warps in WARPS:
            found = compile_kernels.compiled(kernel, given, warps, ARCH)
            loads = {name: count for name, count in found["accesses"].items() if name.startswith("LDG")}
            wide = sum(count for name, count in loads.items() if name.endswith(".128"))
            yield (found["kernel"], d, warps, found["registers"], found["stack"], wide, sum(loads.values()) - wide,
                   triton.__version__, date.today().isoformat())


def main():
    if os.environ.get("TRITON_INTERPRET") == "1":
        sys.exit("TRITON_INTERPRET=1 runs kernels in Python; unset it to compile them")
    with open(HERE / "chapter14.csv", "w", newline="", encoding="utf8") as file:
        table = csv.writer(file)
        table.writerow(FIELDS)
        for line in lines():
            print(*line)
            table.writerow(line)


if __name__ == "__main__":
    main()
