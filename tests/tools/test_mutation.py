"""A sample of `tools/mutate.py`, which breaks the core one edit at a time: the tests notice, and the tool is alive."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
mutate = pytest.importorskip("mutate", reason="each mutant runs in a fork with a limit on its time: not on Windows")


@pytest.mark.slow
def test_sampled_mutants_of_standardize_die():
    """Every ninth; the whole list is for `python tools/mutate.py`."""
    command = [sys.executable, str(ROOT / "tools" / "mutate.py"), "standardize", "--every", "9"]
    run = subprocess.run(command, check=False, capture_output=True, text=True, cwd=ROOT)
    assert run.returncode == 0, run.stdout + run.stderr
    sample = len(list(mutate.mutants("standardize"))[::9])
    assert sample > 3 and re.search(rf"^{sample} mutants, ", run.stdout, re.MULTILINE), run.stdout


@pytest.mark.parametrize("module", mutate.TESTS)
def test_mutants_differ_from_the_module_and_from_each_other(module):
    sources = [mutant.source for mutant in mutate.mutants(module)]
    assert len(sources) >= 20
    assert len({mutate.unedited(module).source, *sources}) == len(sources) + 1


def test_listed_survivors_are_mutants_of_today():
    """A line of the list that fits no mutant explains nothing any more."""
    names = {mutant.change for module in mutate.TESTS for mutant in mutate.mutants(module)}
    assert mutate.explained() and not mutate.explained() - names
