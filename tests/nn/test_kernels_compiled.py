"""What the compiler makes of the GPU kernels, seen without a GPU: no spilled registers, and 16 bytes at a time.

A register that does not fit is spilled to memory, and a 4-byte access takes four
times as many instructions: either would cost the speed that the kernels exist for.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton", reason="Triton is not installed")

ROOT = Path(__file__).resolve().parents[2]
ROWS = re.compile(r"(layer|rms)_norm (1024|2048|4096|8192|16384) ")


# One process for each architecture, where pytest has several: --dist loadgroup.
ARCHITECTURES = [pytest.param(80, id="sm_80", marks=[pytest.mark.slow, pytest.mark.xdist_group("sm_80")]),
                 pytest.param(90, id="sm_90", marks=pytest.mark.xdist_group("sm_90"))]


@pytest.fixture(scope="module", params=ARCHITECTURES)
def launches(request):
    """One dictionary for each launch of each case; in a process of its own, since this one interprets kernels."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), environment.get("PYTHONPATH", "")])
    run = subprocess.run([sys.executable, ROOT / "tools/compile_kernels.py", str(request.param)],
                         capture_output=True, text=True, env=environment)
    assert run.returncode == 0, run.stderr
    return [json.loads(line) for line in run.stdout.splitlines()]


def test_every_kernel_is_compiled(launches):
    source = "".join(path.read_text(encoding="utf8") for path in (ROOT / "course_lib/nn/gpu").glob("*.py"))
    kernels = set(re.findall(r"@triton\.jit\ndef (\w+)\(\n", source))  # helpers have their arguments on the same line
    assert len(kernels) == 12 and {launch["kernel"] for launch in launches} == kernels


def test_no_register_is_spilled(launches):
    assert [launch for launch in launches if launch["stack"]] == []


def test_rows_are_read_and_written_16_bytes_at_a_time(launches):
    rows = [launch for launch in launches if ROWS.match(launch["case"])]
    assert len(rows) == 24
    for launch in rows:
        narrow = {access: n for access, n in launch["accesses"].items() if not access.endswith(".128")}
        # One number per row: mean in two floats, and variance.
        assert set(narrow) <= {"LDG.E", "STG.E"} and all(n <= 3 for n in narrow.values()), launch


def test_large_images_are_read_16_bytes_at_a_time(launches):
    seen = 0
    for launch in launches:
        if "large" in launch["case"] and launch["kernel"] in (
                "moments", "apply", "sums", "apply_backward", "tile_forward", "tile_backward", "window_forward"):
            loads = {access: n for access, n in launch["accesses"].items() if access.startswith("LDG")}
            assert not any("U16" in access for access in loads) and any(".128" in access for access in loads), launch
            seen += 1
    assert seen >= 20


def test_registers_leave_room_for_enough_warps(launches):
    """An SM has 65536 registers: at these ceilings 16 warps or more are there at a time, 8 in the longest rows."""
    for launch in launches:
        long = launch["case"].startswith(("layer_norm 16384", "rms_norm 16384"))
        at_least = 8 if long else 16
        per_program = launch["registers"] * 32 * launch["warps"]
        resident = 65536 // per_program * launch["warps"]
        assert resident >= at_least, launch
        assert launch["registers"] <= (255 if long else 128), launch
