"""Exercises that say what went wrong.

An exercise is a solution, the cases it is tried on, and the mistakes people
make on it.  A mistake is an edit of the solution with a hint.  The checker
recognises a mistake by what it computes; the tests run every mistake to see
that it is rejected with its own hint.

    @exercise(
        cases=_cases,                      # yields (label, args): by hand first, then sizes that all differ
        outputs=("x_centered",),
        hints=("columns have mean 0", "the mean runs over the samples", "equation (4.5)"),
        laws={"each column sums to 0": lambda args, outputs: np.allclose(outputs[0].sum(axis=0), 0)},
        mistakes={"that is the mean of each sample": {"axis=0": "axis=1"}, ...},
    )
    def center(x):
        '''The columns of x without their means; x is (N, D).'''
        return x - x.mean(axis=0)

The cases may take a seed, `def _cases(seed=0)`.  Then an answer that is right is
tried on them again with a seed of its own, so that nothing learnt by heart passes.
One case should have values around 1000, where a lost digit shows.

The docstring is read: letters for the axes of an argument, "x is (N, D)", give
words to a wrong shape, and a type is checked only where it speaks of one.

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

from . import probes, shapes
from .mistakes import edited, recognised
from .report import Report
from .running import Run, borrowed, fingerprint, run, wrong_arguments
from .values import NotNumbers, close, form_problem, relation, to_array, value_problem

SMALL = 150  # letters: longer arguments are not shown
EXERCISES: dict[str, "Exercise"] = {}


@dataclass
class Exercise:
    """A solution, the cases it is tried on, hints, laws and the known mistakes.

    Args:
        solution: the right function; the exercise has its name.
        cases: gives (label, args) pairs, small to large; args is a tuple.  It may take a seed.
        outputs: names of what the solution returns; one name means one value.
        hints: three lines: what breaks, which path, which equation.
        laws: {sentence: function of (args, outputs), true when the sentence holds}.
        mistakes: {hint: {words in the solution: what the learner wrote}}; a hint is
            one line, or three: the mistake, which is what a check shows, then what
            `hint` goes on with, a thought that leads on and where to mend it.
        at_work: None, or a function of a right answer that shows it at work, see work.py.
    """

    solution: Callable
    cases: Callable[..., Iterator[tuple[str, tuple]]]
    outputs: tuple[str, ...]
    hints: tuple[str, str, str]
    laws: dict[str, Callable] = field(default_factory=dict)
    mistakes: dict[str | tuple, dict[str, str]] = field(default_factory=dict)
    at_work: Callable | None = None

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
    def exact_type(self) -> bool:
        """True when the stub asks for a type."""
        return bool(re.search(r"\b(d?type|float\d\d)\b", self.solution.__doc__ or ""))

    @cached_property
    def tried(self) -> list[tuple[str, tuple, Run]]:
        """Label, arguments and right outputs of each case."""
        return self._tried(self.cases())

    def tried_again(self, seed) -> list[tuple[str, tuple, Run]]:
        """The cases with other values; none when they take no seed."""
        return self._tried(self.cases(seed)) if "seed" in inspect.signature(self.cases).parameters else []

    def _tried(self, cases):
        return [(label, args, self._run(self.solution, args)) for label, args in cases]

    @cached_property
    def siblings(self) -> dict[str | tuple, dict[str, str]]:
        """Mistakes of the chapter's other exercises that can be made here as well.

        Not those whose hint speaks of an equation or of what only the other one returns.
        """
        found = {}
        for each in EXERCISES.values():
            foreign = {*each.outputs, "output"} - set(self.outputs)
            for key, edits in each.mistakes.items() if each.chapter == self.chapter and each.name != self.name else ():
                words = key if isinstance(key, str) else " ".join(key)
                fits = all(self.code.count(right) == 1 for right in edits) and edits not in self.mistakes.values()
                if fits and not re.search(r"\(\d+\.\d+\)", words) and not foreign & set(re.findall(r"\w+", words)):
                    found[key] = edits
        return {key: edits for key, edits in found.items() if key not in self.mistakes}

    def mistaken(self, *keys) -> Callable | None:
        """The solution with these mistakes; None when they cannot be made at once."""
        if keys not in self._mistaken:
            known = self.siblings | self.mistakes
            try:
                self._mistaken[keys] = edited(self, *(known[key] for key in keys))
            except (ValueError, SyntaxError):
                self._mistaken[keys] = None
        return self._mistaken[keys]

    @cached_property
    def _mistaken(self) -> dict[tuple, Callable | None]:
        return {}

    @cached_property
    def _computed(self) -> dict[tuple, Run]:
        return {}

    def computed(self, keys, tried, number) -> Run:
        """What these mistakes compute on one case, kept for the next check."""
        known = self._computed if tried is self.tried else {}
        if (keys, number) not in known:
            known[keys, number] = self._run(self.mistaken(*keys), tried[number][1])
        return known[keys, number]

    def run_cases(self, function, tried) -> list[Run]:
        """What the function does on these cases, up to the first on which its time is over."""
        runs = []
        for _, args, _ in tried:
            runs.append(self._run(function, args))
            if runs[-1].late:
                break
        return runs

    def _run(self, function, args):
        return run(function, args, len(self.outputs))

    def accepts(self, answer, tried=None) -> bool:
        """True when the answer is right in every case; says nothing about the reason."""
        return not wrong_arguments(answer, self.solution) and not any(
            self.problems(self._run(answer, args), right) for _, args, right in tried or self.tried)

    def check(self, answer) -> Report:
        """Try an answer on every case and say what is wrong with the first that fails."""
        if problem := wrong_arguments(answer, self.solution):
            return Report(self.name, "wrong", (problem,), hints=self.hints)
        seed = 1 + fingerprint(answer) % 9999  # the same answer is always judged by the same cases
        for again in (0, seed):
            tried = self.tried_again(seed) if again else self.tried
            runs = self.run_cases(answer, tried)
            if not again and runs[0].unwritten:
                return self._not_started()
            problems = [self.problems(got, right) for got, (_, _, right) in zip(runs, tried)]
            if any(problems):
                return self._wrong(answer, again, tried, runs, problems)
        return Report(self.name, "right", (f"{len(self.tried)} cases",))

    def _not_started(self):
        return Report(self.name, "not started", ("write its body in a notebook, then run this cell",),
                      further=f'no idea? hint("{self.name}")', hints=self.hints)

    def _wrong(self, answer, seed, tried, runs, problems):
        """The report on the first case that fails, and the reasons as far as they can be found."""
        failed = next(k for k, problem in enumerate(problems) if problem)
        got, (label, args, _) = runs[failed], tried[failed]
        alone = "; the other cases are right" if len(tried) == len(runs) > sum(map(bool, problems)) == 1 else ""
        where = f"case {failed + 1} of {len(tried)}{', with other values' if seed else ''}: {label}{alone}"
        facts = [where, *problems[failed], *shapes.in_words(self, runs, tried, failed), *_shown(self.parameters, args),
                 *got.said, *borrowed(answer)]
        found, reasons = [], []
        if not any(each.slow or each.late for each in runs):
            with np.errstate(all="ignore"):
                found, reasons = self._reasons(answer, tried, runs, failed)
        numbers = f"{failed + 1}, {seed}" if seed else failed + 1
        further = f'next: hint("{self.name}"), or {self.name}(*case("{self.name}", {numbers}))'
        steps = next((key[1:] for key in found if not isinstance(key, str)), self.hints)  # the first has been shown
        return Report(self.name, "wrong", tuple(facts), tuple(reasons), tuple(found), further, steps)

    def _reasons(self, answer, tried, runs, failed):
        """The mistakes recognised, and the reasons in words."""
        if proven := [words for probe in probes.CERTAIN for words in probe(self, answer, tried, runs)]:
            return [], proven
        if found := recognised(self, answer, tried, runs, failed):
            return found, self._in_turn(found)
        if runs[failed].error:
            return [], []  # what raised needs no law
        hints = [words for probe in probes.HINTS for words in probe(self, answer, tried, runs)]
        reasons = [*hints[:2], *self._other_reasons(runs, tried)][:3]
        return [], reasons or [words for probe in probes.LAST for words in probe(self, answer, tried, runs)]

    def _in_turn(self, found):
        names = [f" {k}" if len(found) > 1 else "" for k in range(1, len(found) + 1)]
        return [f"mistake{number}: {first_line(key)}" for number, key in zip(names, found)]

    def problems(self, got, right) -> list[str]:
        """What is wrong in one case; empty when nothing is."""
        if got.late:
            return [got.error, *([f"it was at {got.at}"] if got.at else [])]
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
        problems = {name: self._problem(name, got.outputs[k], right.outputs[k]) for k, name in enumerate(self.outputs)}
        found = [problem for problem in problems.values() if problem]
        if good := [name for name in problems if found and not problems[name]]:
            found.append(f"right: {', '.join(good)}")
        return [*found, f"it changes its argument {changed} in place; work on a copy"] if changed else found

    def _problem(self, name, got, right):
        if problem := form_problem(got, right, self.exact_type):
            return f"{name} {problem}"
        return value_problem(name, got, right)

    def _other_reasons(self, runs, tried):
        """Simple relations to the right values, and the laws that the answer breaks, two of each at most."""
        whole = [(args, got.outputs, right.outputs) for got, (_, args, right) in zip(runs, tried)
                 if len(got.outputs) == len(right.outputs) and all(map(_comparable, got.outputs, right.outputs))]
        if not whole:
            return []
        laws = [f"this must hold, and does not: {law}{self._breaker(holds, broken)}"
                for law, holds in self.laws.items()
                if (broken := [each for each in whole if not _holds(holds, *each[:2])])]
        return [*self._relations(whole)[:2], *laws[:2]]

    def _breaker(self, holds, broken):
        """Which of several wrong outputs a broken law is about: with the right values of that one it holds."""
        wrong = [k for k in range(len(self.outputs)) if not all(close(got[k], right[k]) for _, got, right in broken)]
        mends = [k for k in wrong
                 if all(_holds(holds, args, (*got[:k], right[k], *got[k + 1 :])) for args, got, right in broken)]
        return f" (with the right {self.outputs[mends[0]]} it does)" if len(mends) == 1 < len(wrong) else ""

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


def _shown(names, args):
    """The arguments in one line, when they are small."""
    words = ", ".join(f"{name} = {_numbers(arg)}" for name, arg in zip(names, args))
    return [f"with {words}"] if len(words) <= SMALL else []


def _numbers(arg):
    array = to_array(arg)
    if isinstance(array, NotNumbers) or isinstance(arg, (tuple, list)) or not array.ndim:
        return repr(arg)
    words = np.array2string(array, precision=4, separator=", ", threshold=30, max_line_width=10**6)
    return " ".join(words.split()).replace(". ]", ".]")


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
