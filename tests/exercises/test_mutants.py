"""A checker must tell right from almost right: every small edit of a solution is rejected.

One operator swapped, one operand dropped, one number changed, one function
taken for its neighbour.  A mutant that nothing can tell from the solution is
listed in EQUIVALENT of answers_chNN.py, with the reason.
"""

import ast
import copy
import importlib.util
import warnings

import numpy as np
import pytest

from course_lib.exercises import EXERCISES
from course_lib.exercises.engine import Exercise

SWAPS = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.Pow: ast.Mult,
         ast.FloorDiv: ast.Mult, ast.Mod: ast.FloorDiv, ast.And: ast.Or, ast.Or: ast.And,
         ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq}
NEIGHBOURS = {"mean": "sum", "sum": "mean", "var": "std", "std": "var", "sqrt": "square", "maximum": "minimum",
              "minimum": "maximum", "zeros": "ones", "zeros_like": "ones_like", "max": "min", "min": "max"}
EACH = [pytest.param(each, id=f"ch{each.chapter:02}-{each.name}") for each in EXERCISES.values()]


def replacements(node):
    """The small edits of one node of the syntax tree."""
    if isinstance(node, (ast.BinOp, ast.AugAssign)) and type(node.op) in SWAPS:
        yield _with(node, op=SWAPS[type(node.op)]())
    if isinstance(node, ast.BinOp):
        yield from (node.left, node.right)
    if isinstance(node, ast.BoolOp):
        yield _with(node, op=SWAPS[type(node.op)]())
    if isinstance(node, ast.UnaryOp):
        yield node.operand
    if isinstance(node, ast.Compare) and type(node.ops[0]) in SWAPS:
        yield _with(node, ops=[SWAPS[type(node.ops[0])](), *node.ops[1:]])
    if isinstance(node, ast.Constant) and isinstance(node.value, (bool, int, float)):
        value = node.value
        yield ast.Constant(not value if isinstance(value, bool) else value + 1 if isinstance(value, int) else 2 * value)
    if isinstance(node, ast.Attribute) and node.attr in NEIGHBOURS:
        yield _with(node, attr=NEIGHBOURS[node.attr])


def _with(node, **parts):
    new = copy.copy(node)
    for name, value in parts.items():
        setattr(new, name, value)
    return new


def mutants(exercise):
    """Pairs (words, function): each function is the solution with one small edit."""
    tree, seen = ast.parse(exercise.code), {}
    places = [(parent, name, k) for parent in ast.walk(tree) for name, child in ast.iter_fields(parent)
              for k in (range(len(child)) if isinstance(child, list) else [None]) if name not in ("op", "ops", "ctx")]
    for parent, name, k in places:
        old = getattr(parent, name) if k is None else getattr(parent, name)[k]
        for new in replacements(old) if isinstance(old, ast.AST) else ():
            _put(parent, name, k, new)
            words = f"{ast.unparse(old)} -> {ast.unparse(new)}"
            seen[words] = seen.get(words, 0) + 1
            yield words if seen[words] == 1 else f"{words} ({seen[words]})", _function(tree, exercise)
            _put(parent, name, k, old)


def _put(parent, name, k, node):
    if k is None:
        setattr(parent, name, node)
    else:
        getattr(parent, name)[k] = node


def _function(tree, exercise):
    scope = dict(exercise.solution.__globals__)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SyntaxWarning)  # a mutant may well call a number
        exec(compile(ast.fix_missing_locations(copy.deepcopy(tree)), "<mutant>", "exec"), scope)
    return scope[exercise.name]


def survivors(exercise):
    """Number of mutants, and the words of those that the checker takes for right."""
    tried = [(words, exercise.accepts(function)) for words, function in mutants(exercise)]
    return len(tried), [words for words, accepted in tried if accepted]


def equivalent(exercise):
    """The mutants that the chapter's author lists as equivalent, with the reasons."""
    module = f"answers_ch{exercise.chapter:02}"
    assert importlib.util.find_spec(module), f"write tests/chapters/{module}.py, with STYLES and EQUIVALENT"
    return importlib.import_module(module).EQUIVALENT.get(exercise.name, {})


@pytest.fixture(scope="module")
def found():
    """Each exercise's count of mutants and its survivors; computed once for all tests here."""
    return {name: survivors(exercise) for name, exercise in EXERCISES.items()}


@pytest.mark.parametrize("exercise", EACH)
def test_each_mutant_is_rejected_or_listed_as_equivalent(exercise, found):
    count, alive = found[exercise.name]
    listed = equivalent(exercise)
    assert count >= 4
    assert not set(alive) - set(listed), f"survivors: {[words for words in alive if words not in listed]}"
    assert not set(listed) - set(alive), f"listed, but rejected: {sorted(set(listed) - set(alive))}"
    assert all(len(reason.split()) >= 4 for reason in listed.values())


def test_ninety_eight_percent_of_all_mutants_are_rejected(found):
    count = sum(count for count, _ in found.values())
    alive = [f"{name}: {words}" for name, (_, survived) in found.items() for words in survived]
    assert count > 0
    assert len(alive) <= 0.02 * count, f"{len(alive)} of {count} survive: {alive}"


def scale(x, gamma, eps=0.5):
    """A toy for the two tests below."""
    if len(x) > 2:
        return gamma * (x - x.mean()) / np.sqrt(x.var() + eps)
    return -x


def test_weak_cases_are_found_out_by_their_survivors():
    x = np.array([1.0, 2.0, 4.0])
    weak = Exercise(scale, lambda: iter([("gamma is 1", (x, 1.0))]), ("y",), ("", "", ""))
    assert {"gamma * (x - x.mean()) -> x - x.mean()", "-x -> x", "2 -> 3"} & set(survivors(weak)[1]) == {
        "gamma * (x - x.mean()) -> x - x.mean()", "-x -> x"}


def test_mutants_cover_operators_operands_numbers_and_neighbours():
    exercise = Exercise(scale, lambda: iter([]), ("y",), ("", "", ""))
    words = [words for words, _ in mutants(exercise)]
    assert len(words) == len(set(words))
    for expected in ("x - x.mean() -> x + x.mean()", "x.var() + eps -> x.var()", "x.var() + eps -> eps", "0.5 -> 1.0",
                     "len(x) > 2 -> len(x) >= 2", "2 -> 3", "np.sqrt -> np.square", "x.mean -> x.sum", "-x -> x"):
        assert expected in words, words
