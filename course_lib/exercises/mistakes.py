"""Recognising a mistake by what it computes: the solution is edited, run, and compared with the answer."""

import itertools
import time

from .values import NotNumbers, close

PATIENCE = 0.15  # seconds spent on pairs of mistakes; the whole check takes 0.3 at most


def edited(exercise, *edits):
    """The solution with the words of all edits replaced at once.

    Raises:
        ValueError: words do not occur exactly once, or two edits overlap.
    """
    code, spots = exercise.code, []
    for right, wrong in [pair for edit in edits for pair in edit.items()]:
        if code.count(right) != 1:
            raise ValueError(f"{exercise.name}: {right!r} occurs {code.count(right)} times in the solution, not once")
        spots.append((code.index(right), len(right), wrong))
    for (start, length, _), (following, _, _) in itertools.pairwise(sorted(spots)):
        if start + length > following:
            raise ValueError(f"{exercise.name}: two edits change the same words")
    for start, length, wrong in sorted(spots, reverse=True):
        code = code[:start] + wrong + code[start + length :]
    scope = dict(exercise.solution.__globals__)
    exec(compile(code, f"<{exercise.name}, edited>", "exec"), scope)  # the package's own source
    return scope[exercise.name]


def recognised(exercise, runs, failed):
    """The known mistakes that compute what the answer computed.

    One mistake that explains everything comes first; then one for each wrong
    output; then two mistakes together.

    Args:
        runs: what the answer did, a Run for each case.
        failed: number of the first case that is wrong.
    Returns:
        list of keys of `exercise.mistakes`.
    """
    singles, rights = exercise.mistaken, [right for _, _, right in exercise.tried]
    strict = _alike(runs, rights)  # the values are right: it can only be a type, or a changed argument
    if whole := [key for key, theirs in singles.items() if _alike(runs, theirs, strict)]:
        return whole
    left = {k for k in range(len(exercise.outputs)) if not strict and not _explains(rights, runs, k)}
    found = []
    while best := max(singles, key=lambda key: _count(singles[key], runs, left), default=None):
        if not (covered := {k for k in left if _explains(singles[best], runs, k)}):
            break
        found, left = [*found, best], left - covered
    return found if found and not left else _by_pairs(exercise, runs, failed, left, strict, found)


def _by_pairs(exercise, runs, failed, left, strict, found):
    """Two mistakes at once that explain everything, or else what is left."""
    deadline, parts = time.perf_counter() + PATIENCE, {}
    there = runs[failed : failed + 1]
    for pair in itertools.combinations(exercise.mistakes, 2):
        if time.perf_counter() > deadline:
            break
        try:
            function = edited(exercise, *(exercise.mistakes[key] for key in pair))
        except (ValueError, SyntaxError):
            continue  # these two change the same words
        theirs = exercise.run_cases(function, only=failed)  # the case that fails rules out most pairs
        if not _alike(there, theirs, strict) and not _count(theirs, there, left):
            continue
        theirs = exercise.run_cases(function)
        if _alike(runs, theirs, strict):
            return list(pair)
        parts |= {k: pair for k in left - parts.keys() if _explains(theirs, runs, k)}
    return list(dict.fromkeys([*found, *(key for pair in parts.values() for key in pair)]))


def _count(theirs, runs, outputs):
    return sum(_explains(theirs, runs, k) for k in outputs)


def _explains(theirs, runs, k):
    """True when output k is the same on every case."""
    return all(k < min(len(a.outputs), len(b.outputs)) and close(b.outputs[k], a.outputs[k])
               for a, b in zip(theirs, runs, strict=True))


def _alike(runs, theirs, strict=False):
    """True when everything is the same on every case; `strict`: the types and the changed arguments as well."""
    return all(
        a.error == b.error and len(a.outputs) == len(b.outputs) and all(map(close, a.outputs, b.outputs))
        and (not strict or (a.changed == b.changed and list(map(_type, a.outputs)) == list(map(_type, b.outputs))))
        for a, b in zip(runs, theirs, strict=True))


def _type(output):
    return None if isinstance(output, NotNumbers) or not output.ndim else output.dtype
