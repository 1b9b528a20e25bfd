"""Break the NumPy core on purpose, one small edit at a time, and see whether a test notices.

    python tools/mutate.py                 all modules: 15 minutes on two cores
    python tools/mutate.py standardize     one module
    python tools/mutate.py --every 40      every 40th mutant, as `make test` does

Each mutant is one edit: an operator, a comparison, a number, True for False, a
condition turned over, a keyword or a statement left out.  It runs in a process
of its own that first shows that it loaded the mutant.  A mutant that no test
kills must stand in `tests/tools/mutants_survived.md` with the reason.
"""

import argparse
import ast
import os
import resource
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", HYPOTHESIS_PROFILE="quick")

ROOT = Path(__file__).resolve().parents[1]
SURVIVORS = ROOT / "tests" / "tools" / "mutants_survived.md"
CORE = ("test_standardize", "test_norms", "test_sums", "test_bad_input", "test_accuracy", "test_properties")
TESTS = {
    "standardize": CORE,
    "norms": ("test_norms", "test_bad_input", "test_accuracy", "test_properties"),
    "tlu": ("test_norms", "test_bad_input"),
    "checks": ("test_bad_input", "test_checks"),
    "sums": ("test_sums", "test_norms", "test_accuracy"),
    "lrn": ("test_lrn",),
    "running_stats": ("test_running_stats",),
    "whitening": ("test_whitening",),
}
SECONDS = 100  # of processor time for one mutant; one that takes longer runs in a circle and counts as killed
KILLED, SURVIVED, NOT_LOADED = 1, 0, 99

SWAP = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.Pow: ast.Mult, ast.Mod: ast.Mult,
    ast.FloorDiv: ast.Mult, ast.MatMult: ast.Mult, ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is,
    ast.And: ast.Or, ast.Or: ast.And,
}


class Mutant(NamedTuple):
    module: str
    line: int
    change: str  # where and what, without the line number: a name that lasts
    source: str


def mutants(module):
    """All mutants of a module of course_lib."""
    tree = ast.parse((ROOT / "course_lib" / f"{module}.py").read_text(encoding="utf8"))
    seen = {}
    for function, parent, field, index, old, new in _edits(tree):
        change = f"{module}.{function}: {_text(old)} -> {_text(new)}"
        seen[change] = seen.get(change, 0) + 1
        if seen[change] > 1:
            change += f" ({seen[change]})"
        _replace(parent, field, index, new)
        yield Mutant(module, old.lineno, change, ast.unparse(tree))
        _replace(parent, field, index, old)


def _replace(parent, field, index, node):
    if index is None:
        setattr(parent, field, node)
    else:
        getattr(parent, field)[index] = node


def _text(node):
    node = node.test if isinstance(node, (ast.If, ast.While)) else node
    text = " ".join(ast.unparse(node).split()).replace("|", "or")
    return text if len(text) < 90 else text[:87] + "..."


def _edits(tree):
    """(function, parent, field, index, old node, new node) for each edit, always in the same order."""
    for owner in tree.body:
        for parent in ast.walk(owner):
            if isinstance(parent, (ast.Raise, ast.JoinedStr)):
                _mark_as_message(parent)
            if hasattr(parent, "is_message"):
                continue
            for field, value in ast.iter_fields(parent):
                for index, old in enumerate(value) if isinstance(value, list) else [(None, value)]:
                    for new in _variants(old):
                        yield getattr(owner, "name", "top level"), parent, field, index, old, new


def _mark_as_message(node):
    """The words and numbers of an error are compared by the tests as they are."""
    for child in ast.walk(node):
        child.is_message = True


def _variants(node):
    match node:
        case ast.BinOp() | ast.AugAssign() | ast.BoolOp() if type(node.op) in SWAP:
            yield _copy(node, op=SWAP[type(node.op)]())
        case ast.Compare():
            yield _copy(node, ops=[SWAP[type(node.ops[0])](), *node.ops[1:]])
        case ast.UnaryOp(op=ast.USub() | ast.Not()):
            yield node.operand
        case ast.Constant(value=bool()):
            yield _copy(node, value=not node.value)
        case ast.Constant(value=int()):
            yield _copy(node, value=node.value + 1 if node.value < 32 else node.value * 64)
        case ast.Constant(value=float()):
            yield _copy(node, value=node.value * 2 if node.value else 1.0)
        case ast.If() | ast.IfExp() | ast.While() if not isinstance(node.test, (ast.Compare, ast.BoolOp, ast.UnaryOp)):
            yield _copy(node, test=ast.UnaryOp(ast.Not(), node.test))
        case ast.Call():
            for k in range(len(node.keywords)):
                yield _copy(node, keywords=node.keywords[:k] + node.keywords[k + 1:])
    match node:
        case ast.AugAssign() | ast.Raise() | ast.Expr(value=ast.Call()):
            yield ast.copy_location(ast.Pass(), node)


def _copy(node, **changes):
    fields = dict(ast.iter_fields(node)) | changes
    return ast.copy_location(type(node)(**fields), node)


def run_tests(mutant, folder, tests):
    """In a child process: put the mutant first on the path, see that it is what loads, run the tests."""
    package = folder / "course_lib"
    needless = shutil.ignore_patterns("__pycache__", "nn", "exercises", "chapters")
    shutil.copytree(ROOT / "course_lib", package, ignore=needless)
    (package / f"{mutant.module}.py").write_text(mutant.source, encoding="utf8")
    sys.path[:0] = str(folder), str(tests)
    sys.dont_write_bytecode = True
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS + 5))
    try:
        import course_lib
        loaded = Path(sys.modules[f"course_lib.{mutant.module}"].__file__)
        if Path(course_lib.__file__).parent != package or loaded.read_text(encoding="utf8") != mutant.source:
            return NOT_LOADED
    except Exception:  # a mutant may raise anything
        return KILLED  # it does not even import
    options = ["-x", "-q", "--assert=plain", "--no-header", "-p", "no:cacheprovider", "--rootdir", str(tests)]
    passed = (pytest.main([str(tests / "library" / f"{name}.py"), *options]) == 0 for name in TESTS[mutant.module])
    return SURVIVED if all(passed) else KILLED  # file by file: most die in the first


def fates(todo, processes):
    """Yield (mutant, exit code) as they become known; None is no mutant, and must pass all tests."""
    with tempfile.TemporaryDirectory() as temporary:
        tests = Path(temporary) / "tests"
        shutil.copytree(ROOT / "tests", tests, ignore=shutil.ignore_patterns("__pycache__"))
        running, waiting = {}, list(enumerate(todo))
        while waiting or running:
            while waiting and len(running) < processes:
                number, mutant = waiting.pop(0)
                running[_start(mutant, Path(temporary) / str(number), tests)] = mutant
            child, status = os.wait()
            mutant = running.pop(child)
            yield mutant, os.waitstatus_to_exitcode(status)


def _start(mutant, folder, tests):
    sys.stdout.flush()
    child = os.fork()
    if child:
        return child
    code = NOT_LOADED
    try:
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), 1)
            os.dup2(nowhere.fileno(), 2)
        code = run_tests(mutant, folder, tests)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os._exit(code)


def explained():
    """The mutants that may survive: the first column of the table."""
    if not SURVIVORS.exists():
        return set()
    rows = [line.split("|") for line in SURVIVORS.read_text(encoding="utf8").splitlines() if line.startswith("| `")]
    return {row[1].strip().strip("`") for row in rows}


def unedited(module):
    source = ast.unparse(ast.parse((ROOT / "course_lib" / f"{module}.py").read_text(encoding="utf8")))
    return Mutant(module, 0, f"{module}: unedited", source)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("modules", nargs="*", default=list(TESTS), help=f"some of {', '.join(TESTS)}")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="only every Nth mutant")
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()

    healthy = [unedited(module) for module in options.modules]
    for mutant, code in fates(healthy, options.processes):
        if code != SURVIVED:
            sys.exit(f"{mutant.change}, and its tests fail (code {code}): nothing can be learnt from its mutants")

    todo = [mutant for module in options.modules for mutant in mutants(module)][::options.every]
    start, survivors = time.perf_counter(), []
    for mutant, code in fates(todo, options.processes):
        if code == NOT_LOADED:
            sys.exit(f"line {mutant.line}, {mutant.change}: the mutant was not what the tests loaded")
        if code == SURVIVED:
            survivors.append(mutant.change)
        print("SURVIVED" if code == SURVIVED else "killed  ", f"line {mutant.line}", mutant.change, flush=True)

    killed = 1 - len(survivors) / max(len(todo), 1)
    print(f"{len(todo)} mutants, {killed:.1%} killed, {time.perf_counter() - start:.0f} seconds")
    unexplained = [change for change in survivors if change not in explained()]
    for change in unexplained:
        print(f"survived, and stands without a reason in {SURVIVORS.name}: {change}")
    sys.exit(bool(unexplained) or killed < 0.95)


# The children inherit what is loaded here and start at once; course_lib itself must not be among it.
import pytest
import torch.nn.functional  # noqa: F401
from hypothesis import given  # noqa: F401

if __name__ == "__main__":
    main()
