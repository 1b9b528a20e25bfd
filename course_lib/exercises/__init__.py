"""The exercises of the course: check, hint, solution, case, progress.

The engine alone: the exercises of a chapter, with their cases, laws and known
mistakes, stand in `course_lib/chapters/chNN/exercises.py` and are found there.
NumPy and the standard library are enough to run all this.
"""

import difflib
import importlib
import pkgutil
import textwrap

from .. import chapters
from . import record
from .engine import EXERCISES, exercise
from .report import STEPS, WIDTH, Case, Report, Solution, Text

__all__ = ["EXERCISES", "case", "check", "exercise", "hint", "progress", "solution"]

_steps: dict[str, tuple[tuple, int]] = {}  # for each exercise the hints in turn, and how many have been shown

for _chapter in pkgutil.iter_modules(chapters.__path__, f"{chapters.__name__}."):
    importlib.import_module(f"{_chapter.name}.exercises")


def check(answer):
    """Check your function; the exercise is the one with its name.

    Args:
        answer: the function itself, not its result.
    Returns:
        a report, true when the answer is right.  Whatever the answer does,
        nothing is raised; only your own interrupt gets through.
    """
    try:
        found = _find(answer)
        if isinstance(found, Report):
            return found
        if isinstance(answer, str):
            return Report(answer, "no check", ("check takes the function itself, without quotes",))
        report = found.check(answer)
        _prepare_hints(found, report)
        return _with_progress(found, report) if report else report
    except ModuleNotFoundError as error:
        return Report(_name(answer), "no check", (_missing(error),))
    except Exception as error:  # a fault of the checker must not look like the learner's
        words = f"the checker failed with {type(error).__name__}: {error}; this is its fault, not yours"
        return Report(_name(answer), "no check", (words,))


def hint(name):
    """The next hint: first what breaks, then which path, then which equation.

    After a check that recognised your mistake, the hints are about that mistake.
    """
    found = _find(name)
    if isinstance(found, Report):
        return found
    steps, shown = _steps.get(found.name, (found.hints, 0))
    shown = min(shown + 1, len(steps))
    _steps[found.name] = steps, shown
    last = shown == len(steps)
    more = f'that was the last; solution("{found.name}") shows how' if last else f'next: hint("{found.name}") again'
    lines = (f"{label}: {step}" for label, step in zip(STEPS, steps[:shown], strict=False))
    return Report(found.name, f"hint {shown} of {len(steps)}", tuple(lines), (more,))


def solution(name):
    """The solution of an exercise, folded until you open it."""
    found = _find(name)
    return found if isinstance(found, Report) else Solution(found.source)


def case(name, number):
    """The arguments of one case, to try your function on: f(*case("f", 1)).

    Raises:
        ValueError: there is no such exercise, or no such case.
        ModuleNotFoundError: the case needs a library that is not installed.
    """
    found = _find(name)
    if isinstance(found, Report):
        raise ValueError(f"{found.name}: {' '.join(found.facts)}")
    try:
        cases = list(found.cases())
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"{found.name}: {_missing(error)}", name=error.name) from None
    if number not in range(1, len(cases) + 1):
        raise ValueError(f"{found.name} has the cases 1 to {len(cases)}; there is no case {number!r}")
    chosen = Case(cases[number - 1][1])
    chosen.names = tuple(found.parameters)
    return chosen


def progress():
    """Which exercises are done and which are open, chapter by chapter."""
    done = record.names()
    chapters = sorted({each.chapter for each in EXERCISES.values()})
    lines = [_chapter_line(chapter, done, with_open=True) for chapter in chapters]
    total = f"{len(done & EXERCISES.keys())} of {len(EXERCISES)} exercises done"
    return Text("\n".join(textwrap.fill(line, WIDTH, subsequent_indent="    ") for line in [*lines, total]))


def _chapter_line(chapter, done, with_open=False):
    names = [each.name for each in EXERCISES.values() if each.chapter == chapter]
    open_names = [name for name in names if name not in done]
    head = f"chapter {chapter}" if chapter else "other exercises"
    left = f", open: {', '.join(open_names)}" if with_open and open_names else ""
    return f"{head}: {len(names) - len(open_names)} of {len(names)}{left}"


def _with_progress(found, report):
    trouble = record.add(found.name)
    facts = f"{report.facts[0]}; {_chapter_line(found.chapter, record.names())}"
    return Report(report.name, report.state, (facts, trouble) if trouble else (facts,))


def _prepare_hints(found, report):
    """The next hints are about the mistake just recognised, of which the first line has been shown."""
    own = [key for key in report.mistakes if not isinstance(key, str)]
    steps, start = (own[0], 1) if own else (found.hints, 0)
    if _steps.get(found.name, (None,))[0] != steps:
        _steps[found.name] = steps, start


def _missing(error):
    return f"this exercise needs {error.name}, which is not installed here; the exercises without {error.name} work"


def _name(thing):
    try:
        name = thing if isinstance(thing, str) else getattr(thing, "__name__", None)
    except Exception:  # an object may answer every question with an error
        name = None
    return name if isinstance(name, str) else type(thing).__name__


def _find(thing):
    """The exercise of a name or of a function; a report that says what is amiss when there is none."""
    name = _name(thing)
    if isinstance(thing, str) or callable(thing):
        if name in EXERCISES:
            return EXERCISES[name]
        near = difflib.get_close_matches(name, EXERCISES, n=3) or list(EXERCISES)
        words = "a function needs its name: def name(...)" if name == "<lambda>" else "no exercise has this name"
        return Report(name, "no check", (f"{words}; there is {', '.join(near) or 'none'}",))
    return Report(name, "no check", ("check takes the function itself: check(f), not check(f(x))",))
