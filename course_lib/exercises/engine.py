"""Exercises that say what went wrong.

An exercise is a solution, the cases it is tried on, and the mistakes people
make on it.  A mistake is an edit of the solution with a hint.  The checker
recognises a mistake by what it computes; the tests run every mistake to prove
that it is rejected with its own hint.

    @exercise(
        cases=_cases,                      # yields (label, args): by hand first, then sizes that all differ
        outputs=("x_centered",),
        hints=("columns have mean 0", "the mean runs over the samples", "equation (4.5)"),
        laws={"each column sums to 0": lambda args, outputs: np.allclose(outputs[0].sum(axis=0), 0)},
        mistakes={"that is the mean of each sample": {"axis=0": "axis=1"}, ...},
    )
    def center(x):
        '''The columns of x without their means.'''
        return x - x.mean(axis=0)

The stub in the notebook has the same head and docstring.  The solution may use
what the notebook imports and nothing else of its own module, since the tests
put it into the notebook.
"""

import ast
import inspect
import re
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from .mistakes import edited, recognised
from .report import Report
from .running import Run, borrowed, run, wrong_arguments
from .values import NotNumbers, close, form_problem, relation, value_problem

EXERCISES: dict[str, "Exercise"] = {}


@dataclass
class Exercise:
    """A solution, the cases it is tried on, hints, laws and the known mistakes.

    Args:
        solution: the right function; the exercise has its name.
        cases: gives (label, args) pairs, small to large; args is a tuple.
        outputs: names of what the solution returns; one name means one value.
        hints: three lines: what breaks, which path, which equation.
        laws: {sentence: function of (args, outputs), true when the sentence holds}.
        mistakes: {hint: {words in the solution: what the learner wrote}}; a hint is
            one line, or three like `hints`, of which a check shows the first.
    """

    solution: Callable
    cases: Callable[[], Iterator[tuple[str, tuple]]]
    outputs: tuple[str, ...]
    hints: tuple[str, str, str]
    laws: dict[str, Callable] = field(default_factory=dict)
    mistakes: dict[str | tuple, dict[str, str]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.solution.__name__

    @property
    def chapter(self) -> int:
        """From the package's name, ch04 -> 4; 0 outside of chapters."""
        found = re.search(r"\.ch(\d+)\.exercises$", self.solution.__module__)
        return int(found[1]) if found else 0

    @cached_property
    def source(self) -> str:
        """The solution without its decorator."""
        source = textwrap.dedent(inspect.getsource(self.solution))
        first = ast.parse(source).body[0].lineno
        return "\n".join(source.splitlines()[first - 1 :])

    @cached_property
    def code(self) -> str:
        """The source without its docstring, which may repeat the words of the code."""
        function = ast.parse(self.source).body[0]
        if not ast.get_docstring(function):
            return self.source
        text, lines = function.body[0], self.source.splitlines()
        return "\n".join(lines[: text.lineno - 1] + lines[text.end_lineno :])

    @cached_property
    def parameters(self) -> list[str]:
        return list(inspect.signature(self.solution).parameters)

    @cached_property
    def tried(self) -> list[tuple[str, tuple, Run]]:
        """Label, arguments and right outputs of each case."""
        return [(label, args, self._run(self.solution, args)) for label, args in self.cases()]

    @cached_property
    def mistaken(self) -> dict[str | tuple, list[Run]]:
        """What each known mistake computes."""
        return {key: self.run_cases(edited(self, edits)) for key, edits in self.mistakes.items()}

    def run_cases(self, function, only=None) -> list[Run]:
        """What the function does on every case, or on the one with number `only`."""
        tried = self.tried if only is None else self.tried[only : only + 1]
        return [self._run(function, args) for _, args, _ in tried]

    def _run(self, function, args):
        return run(function, args, single=len(self.outputs) == 1)

    def accepts(self, answer) -> bool:
        """True when the answer is right in every case; says nothing about the reason."""
        return not wrong_arguments(answer, self.solution) and not any(
            self.problems(self._run(answer, args), right) for _, args, right in self.tried)

    def check(self, answer) -> Report:
        """Try an answer on every case and say what is wrong with the first that fails."""
        if problem := wrong_arguments(answer, self.solution):
            return Report(self.name, "wrong", (problem,))
        runs = self.run_cases(answer)
        if runs[0].unwritten:
            return Report(self.name, "not started", (f'no idea? hint("{self.name}")',))
        for number, (got, (label, _, right)) in enumerate(zip(runs, self.tried, strict=True), start=1):
            if problems := self.problems(got, right):
                facts = f"case {number} of {len(runs)}: {label}", *problems, *got.said, *borrowed(answer)
                further = f'next: hint("{self.name}"), or {self.name}(*case("{self.name}", {number}))'
                found = recognised(self, runs, number - 1)
                reasons = _in_turn(found) or self._other_reasons(runs)
                return Report(self.name, "wrong", facts, (*reasons, further), tuple(found))
        return Report(self.name, "right", (f"{len(runs)} cases",))

    def problems(self, got, right) -> list[str]:
        """What is wrong in one case; empty when nothing is."""
        if got.error:
            return [f"your code raised {got.error}", *([f"at {got.at}"] if got.at else [])]
        changed = ", ".join(self.parameters[k] for k in got.changed)
        if got.nothing:
            return [f"it changes its argument {changed} in place and returns nothing; return the result" if changed
                    else "it returns nothing: is a return missing?"]
        if len(got.outputs) != len(right.outputs):
            return [f"return {len(right.outputs)} values, {', '.join(self.outputs)}; yours returns {_some(got)}"]
        if got.several and not _comparable(got.outputs[0], right.outputs[0]):
            return [f"return one value, {self.outputs[0]}; yours returns a tuple of {got.several}"]
        problems = dict(zip(self.outputs, map(_problem, self.outputs, got.outputs, right.outputs), strict=True))
        found = [problem for problem in problems.values() if problem]
        if good := [name for name in problems if found and not problems[name]]:
            found.append(f"right: {', '.join(good)}")
        return [*found, f"it changes its argument {changed} in place; work on a copy"] if changed else found

    def _other_reasons(self, runs):
        """The laws that the answer breaks and simple relations to the right values, four lines at most."""
        whole = [(args, got.outputs, right.outputs) for got, (_, args, right) in zip(runs, self.tried, strict=True)
                 if len(got.outputs) == len(right.outputs) and all(map(_comparable, got.outputs, right.outputs))]
        if not whole:
            return []
        laws = [f"this must hold, and does not: {law}" for law, holds in self.laws.items()
                if not all(_holds(holds, args, got) for args, got, _ in whole)]
        return [*self._relations(whole)[:2], *laws[:2]]

    def _relations(self, whole):
        pairs = {name: [(got[k], right[k]) for _, got, right in whole] for k, name in enumerate(self.outputs)}
        wrong = [name for name in pairs if not all(close(got, right) for got, right in pairs[name])]
        for one, other in [(a, b) for a in wrong for b in wrong if a != b]:
            if all(close(got, right) for (got, _), (_, right) in zip(pairs[one], pairs[other], strict=True)):
                order = ", ".join(self.outputs)
                return [f"{one} has the values that belong to {other}: are they returned in this order, {order}?"]
        sizes = [_sizes(self.parameters, args) for args, _, _ in whole]
        return [f"{name} {words}" for name in wrong if (words := relation(pairs[name], sizes))]


def exercise(**parts):
    """Make the decorated function the solution of an exercise of the same name; for `parts` see Exercise."""

    def register(solution):
        new = Exercise(solution, **parts)
        old = EXERCISES.get(new.name)
        if old and old.solution.__module__ != solution.__module__:
            raise ValueError(f"{solution.__module__} and {old.solution.__module__} both have an exercise {new.name}")
        if isinstance(new.outputs, str) or isinstance(new.hints, str) or len(new.hints) != 3:
            raise ValueError(f"{new.name}: outputs is a tuple of names, hints a tuple of three lines")
        EXERCISES[new.name] = new
        return solution

    return register


def first_line(key) -> str:
    """The line of a hint that a check shows."""
    return key if isinstance(key, str) else key[0]


def _in_turn(found):
    if len(found) == 1:
        return [f"mistake: {first_line(found[0])}"]
    return [f"mistake {k}: {first_line(key)}" for k, key in enumerate(found, start=1)]


def _problem(name, got, right):
    if problem := form_problem(got, right):
        return f"{name} {problem}"
    return value_problem(name, got, right)


def _some(got):
    if len(got.outputs) != 1:
        return len(got.outputs)
    only = got.outputs[0]
    return f"one, which {only}" if isinstance(only, NotNumbers) else f"one, of shape {only.shape}"


def _comparable(got, right):
    return not isinstance(got, NotNumbers) and got.shape == right.shape


def _holds(law, args, outputs):
    try:
        return bool(law(args, outputs))
    except Exception:  # a law that cannot be asked is not broken
        return True


def _sizes(names, args):
    """Counts that an answer may have multiplied or divided by: sizes of the arguments, whole numbers among them."""
    sizes = {}
    for name, arg in zip(names, args, strict=False):  # the last arguments may be left to their defaults
        if isinstance(arg, (int, np.integer)) and not isinstance(arg, bool):
            sizes[name] = int(arg)
        shape = tuple(getattr(arg, "shape", ()))
        sizes |= {f"{name}.shape[{axis}]": size for axis, size in enumerate(shape)}
        if len(shape) > 1:
            sizes[f"{name}.size"] = int(np.prod(shape))
        if len(shape) > 2 and shape[1]:
            sizes[f"({name}.size / {name}.shape[1])"] = int(np.prod(shape)) // shape[1]
    return sizes
