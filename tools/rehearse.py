"""Rehearse Colab: only a notebook's file in an empty folder, Colab's versions (tools/colab.txt), no course_lib.

    python tools/rehearse.py [notebooks/NN_name.ipynb ...]     all of them, where none is named

A fresh kernel runs each notebook from its first cell to the first that draws a figure.  The first cell fetches
course_lib with pip and git, as it stands; git is told that the address is the working tree.  The first notebook
fetches it, the others find it there, as a reader's second notebook does.  At the end every other package has the
version that it had before.

The environment is made once, in .venv/colab-*: torch and what it needs are links to the files in .venv.
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from importlib import metadata
from pathlib import Path

import nbformat
import repository
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
VERSIONS = ROOT / "tools/colab.txt"
STAND_IN = "https://github.com/rehearsal/course"  # while the repository has no address of its own
SECONDS_A_CELL = 120
COLOURS = re.compile(r"\x1b\[[\d;]*m")
KEPT = ("numpy", "torch")  # what a reader's other notebooks depend on
LAST_WORDS = """\
import json, sys
import numpy, torch, course_lib
print(json.dumps({m.__name__: [m.__file__, getattr(m, "__version__", "")] for m in (numpy, torch, course_lib)}))
"""


class RehearsalError(Exception):
    """What a reader would have met in Colab."""


def site_packages(folder):
    return Path(sysconfig.get_path("purelib", vars={"base": str(folder), "platbase": str(folder)}))


def installed(folder):
    """The version of each package of an environment."""
    return {canonicalize_name(each.name): each.version for each in metadata.distributions(path=[site_packages(folder)])}


def run(*command, **options):
    subprocess.run([str(part) for part in command], check=True, **options)


def needed_by(name):
    """A package of this environment, and all that it needs here."""
    found, waiting = set(), [name]
    while waiting:
        name = canonicalize_name(waiting.pop())
        if name not in found:
            found.add(name)
            needs = map(Requirement, metadata.requires(name) or [])
            waiting += [need.name for need in needs if not need.marker or need.marker.evaluate({"extra": ""})]
    return found


def link_package(name, folder):
    """A package of this environment in another one: the same bytes on the disk, and removing them there is safe."""
    here, there = site_packages(sys.prefix), site_packages(folder)
    for file in metadata.files(name):
        if ".." not in file.parts and (here / file).exists():
            (there / file).parent.mkdir(parents=True, exist_ok=True)
            os.link(here / file, there / file)


def environment():
    """The folder of the environment with Colab's versions, made where it is missing."""
    recipe = f"{VERSIONS.read_text()}{sys.version}{metadata.version('torch')}"
    folder = Path(sys.prefix) / f"colab-{hashlib.sha256(recipe.encode()).hexdigest()[:8]}"
    if (folder / "ready").exists():
        return folder
    print("Setting up an environment with Colab's versions", flush=True)
    for old in Path(sys.prefix).glob("colab-*"):
        shutil.rmtree(old)
    run(sys.executable, "-m", "venv", folder)
    run(folder / "bin/python", "-m", "pip", "install", "-qq", "--disable-pip-version-check", "-r", VERSIONS)
    for name in needed_by("torch") - set(installed(folder)):
        link_package(name, folder)
    kernel = folder / "share/jupyter/kernels/colab/kernel.json"
    kernel.parent.mkdir(parents=True)
    command = [str(folder / "bin/python"), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    kernel.write_text(json.dumps({"argv": command, "display_name": "Colab", "language": "python"}))
    (folder / "ready").touch()
    return folder


def snapshot(folder):
    """What pip fetches, as a repository of one commit: the package as it stands in the working tree."""
    shutil.copytree(ROOT / "course_lib", folder / "course_lib", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    git = ("git", "-C", folder, "-c", "user.name=rehearsal", "-c", "user.email=rehearsal@localhost")
    run(*git, "init", "--quiet", "--initial-branch=main")
    run(*git, "add", "--all")
    run(*git, "commit", "--quiet", "--message=The working tree")


def surroundings(colab, fetched, folder):
    """The variables of a kernel: git takes the address from `fetched`, and nothing of this environment shines in."""
    kept = {name: value for name, value in os.environ.items()
            if not name.startswith(("PYTHON", "GIT_", "JUPYTER", "IPYTHON", "MPL")) and name != "VIRTUAL_ENV"}
    return kept | {
        "IPYTHONDIR": str(folder / "ipython"), "MPLCONFIGDIR": str(folder / "matplotlib"),
        "PATH": f"{colab / 'bin'}{os.pathsep}{os.environ['PATH']}", "JUPYTER_PATH": str(colab / "share/jupyter"),
        "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PYDEVD_DISABLE_FILE_VALIDATION": "1",
        "GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": f"url.file://{fetched}.insteadOf",
        "GIT_CONFIG_VALUE_0": repository.address() or STAND_IN,
    }


def as_published(path):
    """The notebook with an open door: its first cell is the one that the reader of a public copy gets."""
    notebook = nbformat.read(path, as_version=4)
    url = repository.address()
    firsts = [cell for cell in notebook.cells if cell.source == repository.first_cell(url)]
    if len(firsts) != 1 or firsts[0] is not next(cell for cell in notebook.cells if cell.cell_type == "code"):
        raise RehearsalError("its first code cell is not the one that fetches course_lib: make repository")
    firsts[0].source = repository.first_cell(url or STAND_IN)
    return notebook


def draws(cell):
    return any(kind.startswith("image/") for output in cell.get("outputs", []) for kind in output.get("data", {}))


def said(cell):
    return "".join(output.get("text", "") for output in cell.get("outputs", []))


def play(notebook, folder, env):
    """Run the cells until one has drawn a figure; the number of that cell, and where the kernel has its packages."""
    os.environ["JUPYTER_PATH"] = env["JUPYTER_PATH"]
    resources = {"metadata": {"path": str(folder)}}
    client = NotebookClient(notebook, kernel_name="colab", timeout=SECONDS_A_CELL, resources=resources)
    with client.setup_kernel(env=env):
        for place, cell in enumerate(notebook.cells):
            try:
                client.execute_cell(cell, place)
            except CellExecutionError as error:
                printed = "".join(map(said, notebook.cells[: place + 1]))
                raise RehearsalError(COLOURS.sub("", f"cell {place} failed\n{printed}{error}")) from None
            if draws(cell):
                break
        else:
            raise RehearsalError("no cell draws a figure")
        notebook.cells.append(nbformat.v4.new_code_cell(LAST_WORDS))
        client.execute_cell(notebook.cells[-1], len(notebook.cells) - 1)
    return place, json.loads(said(notebook.cells[-1]))


def differences(before, after, loaded, folder):
    """What a reader would not forgive: packages that changed, or a course_lib from somewhere else."""
    others = {name: version for name, version in after.items() if name != "course-lib"}
    for name in sorted(before | others):
        if before.get(name) != others.get(name):
            yield f"{name} was {before.get(name, 'missing')} and is {others.get(name, 'missing')}"
    for name in KEPT:
        if loaded[name][1] != before[name]:
            yield f"the notebook runs {name} {loaded[name][1]}, and {before[name]} was there before"
    if site_packages(folder) not in Path(loaded["course_lib"][0]).parents:
        yield f"course_lib was loaded from {loaded['course_lib'][0]}"


def rehearse(paths):
    """Play each notebook; raises RehearsalError with what a reader would have met."""
    colab = environment()
    with tempfile.TemporaryDirectory() as temporary:
        temporary = Path(temporary).resolve()
        snapshot(temporary / "fetched")
        remove = (colab / "bin/python", "-m", "pip", "--quiet", "uninstall", "--yes", "course-lib")
        run(*remove, stderr=subprocess.DEVNULL)
        before = installed(colab)
        for path in paths:
            start, folder = time.monotonic(), temporary / path.stem
            folder.mkdir()
            try:
                notebook = as_published(path)
                nbformat.write(notebook, folder / path.name)
                place, loaded = play(notebook, folder, surroundings(colab, temporary / "fetched", temporary))
                if changed := list(differences(before, installed(colab), loaded, colab)):
                    (colab / "ready").unlink()  # the next rehearsal starts clean
                    raise RehearsalError("\n".join(changed))
            except RehearsalError as error:
                raise RehearsalError(f"{path.name}: {error}") from None
            print(f"{path.name}: cell {place} draws its figure, {time.monotonic() - start:.0f} s", flush=True)
        run(*remove)


def main(arguments):
    paths = [Path(each).resolve() for each in arguments] or sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))
    start = time.monotonic()
    try:
        rehearse(paths)
    except RehearsalError as error:
        return str(error)
    print(f"Rehearsed {len(paths)} notebooks with Colab's versions in {time.monotonic() - start:.0f} s")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
