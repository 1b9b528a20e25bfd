"""Settings of all tests: reproducible examples, one thread, nothing written into the tree."""

import os
import tempfile

# NumPy's and torch's thread pools read these when they load.  On the two cores
# of a test machine a second thread costs more than it brings, and the sums of
# two threads differ in the last digit.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("HYPOTHESIS_STORAGE_DIRECTORY", os.path.join(tempfile.gettempdir(), "course-hypothesis"))

# Without a GPU the kernels run in Triton's interpreter, on tensors of the CPU.
# Triton reads this when it loads.
import torch

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"

import pytest
from hypothesis import settings

# No deadline: a shared machine may pause in the middle of an example.
settings.register_profile("course", derandomize=True, max_examples=100, deadline=None, database=None)
settings.register_profile("explore", derandomize=False, max_examples=1000, deadline=None)
settings.register_profile("quick", derandomize=True, max_examples=10, deadline=None, database=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "course"))


@pytest.fixture(scope="session", autouse=True)
def progress_file(tmp_path_factory):
    """Solved exercises are noted in a temporary file, also by the notebooks that tests start."""
    before = os.environ.get("NORM_COURSE_PROGRESS")
    path = tmp_path_factory.mktemp("progress") / "progress.json"
    os.environ["NORM_COURSE_PROGRESS"] = str(path)
    yield path
    if before is None:
        del os.environ["NORM_COURSE_PROGRESS"]
    else:
        os.environ["NORM_COURSE_PROGRESS"] = before
