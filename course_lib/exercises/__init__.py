"""The exercises of the course: check, hint, solution, case, progress, at_work.

The engine alone: the exercises of a chapter, with their cases, laws and known
mistakes, stand in `course_lib/chapters/chNN/exercises.py` and are found there.
NumPy and the standard library are enough to run all this.
"""

import difflib
import importlib
import pkgutil
import textwrap
from collections.abc import Callable

from .. import chapters
from . import record
from .engine import EXERCISES, exercise
from .report import OWN_STEPS, STEPS, WIDTH, Case, Report, Solution, Text

__all__ = ["EXERCISES", "at_work", "case", "check", "exercise", "hint", "progress", "solution"]

_steps: dict[str, tuple[tuple, int]] = {}  # for each exercise the hints in turn, and how many have been shown
_right: dict[str, Callable] = {}  # the last right answer to each exercise

for _chapter in pkgutil.iter_modules(chapters.__path__, f"{chapters.__name__}."):
    importlib.import_module(f"{_chapter.name}.exercises")


def check(answer, name=None):
    """Check your function; the exercise is the one with its name.

    Each case may take a few seconds, then an endless loop is ended; not so on
    Windows, in a browser and outside of the main thread (see running.py).

    Args:
        answer: the function itself, not its result.
        name: of the exercise, for a function, lambda, partial or object with another name or none.
    Returns:
        a report, true when the answer is right.  Whatever the answer does,
        nothing is raised; only your own interrupt gets through.
    """
    try:
        found = _find(answer, name)
        if isinstance(found, Report):
            return found
        if isinstance(answer, str):
            return Report(answer, "no check", ("check takes the function itself, without quotes",))
        report = found.check(answer)
        _prepare_hints(found, report)
        return _after_right(found, answer, report) if report else report
    except ModuleNotFoundError as error:
        return Report(_name(answer), "no check", (_missing(error),))
    except Exception as error:  # a fault of the checker must not look like the learner's
        words = f"the checker failed with {type(error).__name__}: {error}; this is its fault, not yours"
        return Report(_name(answer), "no check", (words,))


def at_work(name):
    """Your own function at work: say, a small net that trains with it.

    It takes the answer that `check` last called right.
    """
    found = _find(name)
    if isinstance(found, Report):
        return found
    if found.at_work is None:
        able = [each.name for each in EXERCISES.values() if each.at_work]
        return Report(found.name, "no work", (f"this exercise has none; there is {', '.join(able) or 'none'}",))
    if found.name not in _right:
        return Report(found.name, "no work", (f"first check({found.name}) must say right",))
    try:
        return found.at_work(_right[found.name])
    except ModuleNotFoundError as error:
        return Report(found.name, "no work", (_missing(error),))
    except Exception as error:  # right on all cases, but not here
        words = f"with your function this raised {type(error).__name__}: {error}"
        return Report(found.name, "no work", (words, "the solution does not raise here"))


def hint(name):
    """The next hint, with those before it; after the last it stays there.

    Each exercise has three: what breaks, which path, which equation.  Its
    commonest mistakes have three of their own: the mistake, a thought that leads
    on, and where to mend it.  After a check that recognised one of these,
    its hints come, from the second on, as the check has shown the first.  After
    any other check, also of a mistake with a single line, the exercise's come.
    A check changes which hints come, and does not begin the same ones anew.
    """
    found = _find(name)
    if isinstance(found, Report):
        return found
    steps, shown = _steps.get(found.name, (found.hints, 0))
    shown = min(shown + 1, len(steps))
    _steps[found.name] = steps, shown
    last = shown == len(steps)
    more = f'that was the last; solution("{found.name}") shows how' if last else f'next: hint("{found.name}") again'
    labels = STEPS if steps == found.hints else OWN_STEPS
    lines = (f"{label}: {step}" for label, step in zip(labels, steps[:shown], strict=False))
    return Report(found.name, f"hint {shown} of {len(steps)}", reasons=tuple(lines), further=more)


def solution(name):
    """The solution of an exercise, folded until you open it."""
    found = _find(name)
    return found if isinstance(found, Report) else Solution(found.source)


def case(name, number, seed=0):
    """The arguments of one case, to try your function on: f(*case("f", 1)).

    Args:
        seed: as a report gives it, for a case that was made anew.
    Raises:
        ValueError: there is no such exercise, or no such case.
        ModuleNotFoundError: the case needs a library that is not installed.
    """
    found = _find(name)
    if isinstance(found, Report):
        raise ValueError(f"{found.name}: {' '.join(found.facts)}")
    try:
        cases = list(found.cases(seed) if seed else found.cases())
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


def _after_right(found, answer, report):
    """The report on a right answer with what is done, what comes next, and the offer to see it at work."""
    _right[found.name] = answer
    trouble = record.add(found.name)
    done = record.names()
    facts = [f"{report.facts[0]}; {_chapter_line(found.chapter, done)}", *filter(None, [trouble])]
    if found.at_work:
        facts.append(f'at_work("{found.name}") trains a small net with your function')
    if following := _next(found, done):
        facts.append(f"next: {following}")
    return Report(report.name, report.state, tuple(facts))


def _next(found, done):
    """The first open exercise after this one, else from the beginning; "" when all are done."""
    names = list(EXERCISES)
    place = names.index(found.name)
    return next((name for name in [*names[place:], *names[:place]] if name not in done), "")


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


def _find(thing, name=None):
    """The exercise of a name or of a function; a report that says what is amiss when there is none."""
    wanted = _name(thing) if name is None else _name(name)
    if isinstance(thing, str) or callable(thing):
        if wanted in EXERCISES:
            return EXERCISES[wanted]
        near = difflib.get_close_matches(wanted, EXERCISES, n=3) or list(EXERCISES)
        words = "no exercise has this name"
        if name is None and not isinstance(thing, str):
            words += '; check(f, "name") says which one is meant'
        return Report(wanted, "no check", (f"{words}; there is {', '.join(near) or 'none'}",))
    return Report(wanted, "no check", ("check takes the function itself: check(f), not check(f(x))",))
