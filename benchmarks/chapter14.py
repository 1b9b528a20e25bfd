"""What the compiler says of chapter 14's forward kernel for several numbers of warps.

    PYTHONPATH=.:tools python benchmarks/chapter14.py

Takes the kernels out of the chapter's text, compiles `ln_forward` for sm_90 (H100, H200) on a machine that needs no
GPU, and writes `course_lib/chapters/ch14/compiled.py`, which the chapter reads.  Nothing runs, and no time is measured.
`ln_backward` and `add_rms` are compiled once, to see that the compiler takes them.
"""

import importlib.util
import os
import sys
import tempfile
from datetime import date
from pathlib import Path

import compile_kernels
import torch
import triton
from chapter import ROOT, chapters

ARCH, LENGTHS, WARPS = 90, (1024, 4096, 16384), (1, 2, 4, 8, 16, 32)
HEAD = '''"""What Triton {version} makes of chapter 14's forward kernel for an H100; from benchmarks/chapter14.py."""

VERSION, DATE = "{version}", "{day}"
# D, warps, registers of a thread, spilled bytes of a thread, loads of 16 bytes, narrower loads
LINES = (
'''


def kernels(folder):
    """The kernels of the chapter, as a module."""
    (chapter,) = (each for each in chapters() if each.number == 14)
    cells = [cell.source for cell in chapter.cells
             if cell.source.startswith("@triton.jit") and len(cell.tree.body) == 1]
    path = Path(folder, "kernels_of_chapter14.py")
    path.write_text("import triton\nimport triton.language as tl\n\n\n" + "\n\n\n".join(cells), encoding="utf8")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def made_of(kernel, d, warps):
    """Registers, stack and memory accesses of a kernel for rows of d float32."""
    given = {name: torch.empty(1) for name in kernel.arg_names if name.endswith("_ptr")}
    given |= {"rows": 4096, "eps": 1e-5, "D": d, "BD": triton.next_power_of_2(d)}
    return compile_kernels.compiled(kernel, given, warps, ARCH)


def lines(module):
    for d in LENGTHS:
        for warps in WARPS:
            found = made_of(module.ln_forward, d, warps)
            loads = {name: count for name, count in found["accesses"].items() if name.startswith("LDG")}
            wide = sum(count for name, count in loads.items() if name.endswith(".128"))
            yield d, warps, found["registers"], found["stack"], wide, sum(loads.values()) - wide
    for name in ("ln_backward", "add_rms"):
        print(name, made_of(getattr(module, name), 4096, 8))


def main():
    if os.environ.get("TRITON_INTERPRET") == "1":
        sys.exit("TRITON_INTERPRET=1 runs kernels in Python; unset it to compile them")
    with tempfile.TemporaryDirectory() as folder:
        table = "".join(f"    {line},\n" for line in lines(kernels(folder)))
    text = HEAD.format(version=triton.__version__, day=date.today().isoformat()) + table + ")\n"
    (ROOT / "course_lib/chapters/ch14/compiled.py").write_text(text, encoding="utf8")
    print(text)


if __name__ == "__main__":
    main()
