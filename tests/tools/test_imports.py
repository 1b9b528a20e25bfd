"""The import rule, on the graph of all imports of the package: who may import what, and no circles.

Top-level modules import NumPy only, so that the course is quick to load and runs in a browser; `nn` imports torch and
the top level; `training`, `plots`, `notebook`, `exercises` and `chapters` import what they need; nothing general
imports a chapter.
"""

import ast
import importlib.util
import os
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import course_lib

PACKAGE = Path(course_lib.__file__).parent
FREE = {"training", "plots", "notebook"}  # of the top level, these import what they need


def module_name(path):
    """course_lib/nn/lines.py is course_lib.nn.lines."""
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def imports(name, tree, *, inside_functions):
    """The full names of what a module imports, when it is loaded or at all."""
    stack = list(tree.body)
    while stack:
        node = stack.pop()
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and not inside_functions:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = name if MODULES[name].name == "__init__.py" else name.rpartition(".")[0]
            source = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
            # `from . import lines` imports a module, `from .lines import norm` a name of one.
            yield from (whole if (whole := f"{source}.{alias.name}") in MODULES else source for alias in node.names)
        stack.extend(ast.iter_child_nodes(node))


def graph(*, inside_functions):
    return {name: set(imports(name, ast.parse(path.read_text(encoding="utf8")), inside_functions=inside_functions))
            for name, path in MODULES.items()}


WHEN_LOADED, AT_ALL = graph(inside_functions=False), graph(inside_functions=True)


def part(name):
    """What the rule calls a module: the top level, or the folder that it is in."""
    inner = name.split(".")[1:]
    return inner[0] if len(inner) > 1 or PACKAGE.joinpath(*inner).is_dir() and inner else "top level"


def others(name):
    """The packages of other people that a module imports when it is loaded."""
    return {target.split(".")[0] for target in WHEN_LOADED[name]} - sys.stdlib_module_names - {"course_lib"}


TOP_LEVEL = [name for name in MODULES if part(name) == "top level" and name.rpartition(".")[2] not in FREE]
NN = [name for name in MODULES if part(name) == "nn"]
EXERCISES = [name for name in MODULES if part(name) == "exercises" or name.endswith(".exercises")]


def test_rule_sees_the_package():
    assert {"course_lib", "course_lib.checks", "course_lib.tlu"} <= set(TOP_LEVEL)
    assert {"course_lib.nn", "course_lib.nn.lines", "course_lib.nn.gpu.rows"} <= set(NN)
    assert {"course_lib.exercises.engine", "course_lib.chapters.ch01.exercises"} <= set(EXERCISES)
    assert {"course_lib.checks", "course_lib.sums", "numpy"} <= WHEN_LOADED["course_lib.standardize"]
    assert {"course_lib.nn.gpu", "course_lib.nn.cpu", "course_lib.checks"} <= WHEN_LOADED["course_lib.nn.functional"]


@pytest.mark.parametrize("name", TOP_LEVEL)
def test_top_level_module_imports_numpy_and_the_top_level_only(name):
    assert not others(name) - {"numpy"}
    ours = {target for target in WHEN_LOADED[name] if target.split(".")[0] == "course_lib"}
    assert ours <= set(TOP_LEVEL)


@pytest.mark.parametrize("name", NN)
def test_nn_module_imports_torch_and_the_top_level_only(name):
    triton = {"triton"} if name.startswith("course_lib.nn.gpu.") else set()
    assert not others(name) - {"torch", "numpy"} - triton
    ours = {target for target in WHEN_LOADED[name] if target.split(".")[0] == "course_lib"}
    trainer = {"course_lib.training"} if name == "course_lib.nn.training" else set()  # one History for both trainers
    assert ours <= {*TOP_LEVEL, *NN} | trainer


@pytest.mark.parametrize("name", EXERCISES)
def test_exercise_module_loads_numpy_and_the_course_only(name):
    """torch, if at all, inside the functions that need it."""
    assert not others(name) - {"numpy"}
    assert not any(part(target) == "nn" for target in WHEN_LOADED[name] if target in MODULES)


@pytest.mark.parametrize("name", [name for name in MODULES if part(name) != "chapters"])
def test_nothing_general_imports_a_chapter(name):
    """`exercises` knows the folder of the chapters, to collect what is there, and none of them by name."""
    folder = {"course_lib.chapters"} if name == "course_lib.exercises" else set()
    assert not {target for target in AT_ALL[name] if target.startswith("course_lib.chapters")} - folder


@pytest.mark.parametrize("name", [name for name in MODULES if part(name) == "chapters"])
def test_chapter_imports_no_other_chapter(name):
    own = ".".join(name.split(".")[:3])
    assert not {target for target in AT_ALL[name] if target.startswith("course_lib.chapters.")
                and not target.startswith(own)}


def circle(edges):
    """The modules of a circle, or None."""
    inner = {name: {target for target in targets if target in MODULES} for name, targets in edges.items()}
    try:
        TopologicalSorter(inner).prepare()
    except CycleError as error:
        return error.args[1]


def test_there_is_no_circle_of_imports():
    """Not even one that an import inside a function would break."""
    assert circle(AT_ALL) is None


def test_circle_would_be_seen():
    back = {"course_lib.nn.lines": AT_ALL["course_lib.nn.lines"] | {"course_lib.nn.functional"}}
    assert {"course_lib.nn.lines", "course_lib.nn.functional"} <= set(circle(AT_ALL | back))


def run(code, **environment):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True,
                          env={**os.environ, **environment})


def test_without_triton_the_torch_lines_run():
    found = run("import sys; sys.modules['triton'] = None\n"
                "import torch; from course_lib import nn\n"
                "assert nn.functional.gpu is None\n"
                "print(*nn.LayerNorm(2)(torch.tensor([[1.0, 3.0]])).tolist()[0])")
    assert [round(float(value), 4) for value in found.stdout.split()] == [-1.0, 1.0], found.stderr


@pytest.mark.parametrize("language", ["", "from triton.nowhere import constexpr"], ids=["a name", "a module"])
def test_broken_triton_is_told_and_not_taken_for_a_missing_one(language, tmp_path):
    """A name that a newer Triton has moved must not quietly turn the kernels off."""
    fake = tmp_path / "triton"
    fake.mkdir()
    (fake / "__init__.py").write_text("__version__ = '99.0'\n", encoding="utf8")
    (fake / "language.py").write_text(language, encoding="utf8")
    path = os.pathsep.join([str(tmp_path), str(PACKAGE.parent)])
    found = run("import torch, triton\nassert triton.__version__ == '99.0'\nfrom course_lib import nn", PYTHONPATH=path)
    assert found.returncode != 0
    assert ("has no attribute 'jit'" if not language else "No module named 'triton.nowhere'") in found.stderr


def test_no_module_shadows_a_library():
    names = {p.stem for p in PACKAGE.rglob("*.py")} | {p.name for p in PACKAGE.iterdir() if p.is_dir()}
    assert not names & {"torch", "numpy", "statistics", "matplotlib", "math"}


def test_import_loads_no_torch_and_no_matplotlib():
    found = run("import course_lib, course_lib.exercises, sys\n"
                "print(*{'torch', 'triton', 'matplotlib', 'sklearn'} & set(sys.modules))")
    assert found.returncode == 0 and found.stdout.strip() == ""


def test_import_takes_under_0_4_seconds_beyond_numpy():
    code = "import time, numpy; t = time.perf_counter(); import course_lib; print(time.perf_counter() - t)"
    assert min(float(run(code).stdout) for _ in range(3)) < 0.4  # the best of three: other work may disturb one
