"""Probes: what a wrong answer tells when it is tried once more with one thing changed.

A probe takes the exercise, the answer, the cases and what the answer did on
them, and returns sentences.  CERTAIN probes prove what they say: with that one
change the answer is right.  HINTS are true, and may or may not be the reason.
LAST is for answers of which nothing else is known.
"""

import dis
import inspect
import itertools
import types

import numpy as np

from .running import plain
from .shapes import AXES, symbols
from .values import NotNumbers, close, differ, same, to_array


def floored(exercise, answer, tried, runs):
    """`//` where `/` is meant: the answer is right with its bytecode changed so."""
    changed = _with_true_division(plain(answer))
    return ["// rounds down to a whole number; / divides"] if changed and exercise.accepts(changed, tried) else []


def _with_true_division(function):
    """The function with / in place of //; None when it has no //."""
    if function is None:
        return None
    true = {step.argrepr: step.arg for step in dis.get_instructions("a / b; a /= b")
            if step.opname == "BINARY_OP"}
    code, found = bytearray(function.__code__.co_code), False
    for step in dis.get_instructions(function):
        if step.opname == "BINARY_OP" and step.argrepr in ("//", "//="):
            code[step.offset + 1], found = true[step.argrepr[1:]], True
    new = function.__code__.replace(co_code=bytes(code))
    return types.FunctionType(new, function.__globals__, function.__name__, function.__defaults__,
                              function.__closure__) if found else None


def reordered(exercise, answer, tried, runs):
    """The right parameters in another order, told by their names."""
    names, mine = exercise.parameters, list(inspect.signature(answer).parameters)
    if names == mine or sorted(names) != sorted(mine):
        return []
    by_name = _called_with(answer, [names.index(name) for name in mine])
    return [f"your parameters are in another order: they must be {', '.join(names)}"] if (
        exercise.accepts(by_name, tried)) else []


def exchanged(exercise, answer, tried, runs):
    """Two parameters whose places are exchanged, whatever their names."""
    names = exercise.parameters
    for one, other in itertools.combinations(range(len(names)), 2):
        order = list(range(len(names)))
        order[one], order[other] = other, one
        if exercise.accepts(_called_with(answer, order), tried):
            return [f"it is right with {names[one]} and {names[other]} exchanged: which comes first?"]
    return []


def _called_with(answer, order):
    return lambda *args: answer(*[args[k] for k in order if k < len(args)])


def unused(exercise, answer, tried, runs):
    """Arguments, or their first or last entries, that change nothing where they should."""
    found = []
    for k, name in enumerate(exercise.parameters):
        for part, words in _parts(exercise, name):
            if idle := _idle(exercise, answer, tried, runs, k, part):
                one = len(exercise.outputs) == 1 or len(idle) == len(exercise.outputs)
                result = "your result does" if one else f"{' and '.join(idle)} {'does' if len(idle) == 1 else 'do'}"
                found.append(f"{result} not depend on {words}")
                break  # not on the whole, so not on its parts
    return found


def _parts(exercise, name):
    """The whole argument, then the two ends of its first and its last axis."""
    yield (), name
    named = symbols(exercise, name)
    for axis in sorted({0, max(0, len(named) - 1)}):
        word = AXES.get(named[axis]) if named else None
        for end, which in ((-1, "last"), (0, "first")):
            index = ", ".join([*":" * axis, str(end)])
            yield (*[slice(None)] * axis, end), f"{name}[{index}]{f', the {which} {word}' if word else ''}"


def _idle(exercise, answer, tried, runs, k, part):
    """The outputs that never change with this part of argument k, though the right ones do."""
    needed, idle = set(), set(range(len(exercise.outputs)))
    for (label, args, right), got in zip(tried, runs):
        idle = {j for j in idle if j < len(got.outputs) and not isinstance(got.outputs[j], NotNumbers)}
        for new in _others(args[k], part) if k < len(args) else ():
            changed = label, (*args[:k], new, *args[k + 1 :]), None
            mine, theirs = (exercise.run_cases(each, [changed])[0] for each in (answer, exercise.solution))
            if mine.error or len(mine.outputs) != len(got.outputs):
                return []
            idle = {j for j in idle if _unchanged(mine.outputs[j], got.outputs[j])}
            if not idle:
                return []
            needed |= {j for j in idle if not theirs.error and not close(theirs.outputs[j], right.outputs[j])}
    return [exercise.outputs[j] for j in sorted(idle & needed)]


def _unchanged(one, other):
    return one == other if isinstance(one, NotNumbers) or isinstance(other, NotNumbers) else same(one, other)


def _others(value, part):
    """The value with other numbers in this part, a little away and far away; nothing when it cannot be."""
    if isinstance(value, (bool, np.bool_)):
        return
    if isinstance(value, (int, np.integer)):
        if not part:
            yield value + 1
    elif isinstance(value, (float, np.floating)):
        if not part:
            yield from (type(value)(3 * value + 0.5), type(value)(1000 * value + 30))
    else:
        array = to_array(value)
        if isinstance(array, NotNumbers) or array.dtype.kind != "f" or array.ndim < max(1, len(part)):
            return
        rng, size = np.random.default_rng(0), 1 + abs(array[np.isfinite(array)]).max(initial=0)
        for scale in (size, 1000 * size):
            new = array.copy()
            new[part] += (scale * rng.standard_normal(new[part].shape)).astype(array.dtype)
            yield value.new_tensor(new) if hasattr(value, "new_tensor") else new


def confined(exercise, answer, tried, runs):
    """Wrong values that all lie in one row, column or channel, in each case that has some."""
    found = []
    for k, name in enumerate(exercise.outputs):
        wrong = [_wrong_places(got, right, k) for got, (_, _, right) in zip(runs, tried)]
        wrong = [places for places in wrong if places is None or places.any()]
        if not wrong or any(places is None or places.ndim < 2 for places in wrong):
            continue
        for axis in range(min(places.ndim for places in wrong)):
            rows = [np.flatnonzero(places.any(axis=tuple(set(range(places.ndim)) - {axis}))) for places in wrong]
            one = all(len(row) == 1 < places.shape[axis] for row, places in zip(rows, wrong))
            if one and len(set(np.concatenate(rows).tolist())) == 1:
                found.append(f"all wrong values lie in {name}[{', '.join([*':' * axis, str(rows[0][0])])}]")
    return found


def _wrong_places(got, right, k):
    """Where output k is wrong; None when it cannot be compared."""
    if k >= len(got.outputs) or getattr(got.outputs[k], "shape", None) != right.outputs[k].shape:
        return None
    return differ(got.outputs[k], right.outputs[k])


def first_wrong(exercise, answer, tried, runs):
    """Where to begin: with the cases that are right, if some are, or with the first of several wrong outputs."""
    right = [number for number, (got, (_, _, right)) in enumerate(zip(runs, tried), start=1)
             if not exercise.problems(got, right)]
    if len(right) == len(tried) - 1:
        return []  # the report has said it
    if right:
        return [f"right in case {', '.join(map(str, right))}: what is different there?"]
    wrong = [name for k, name in enumerate(exercise.outputs) if any(
        (places := _wrong_places(got, right, k)) is None or places.any()
        for got, (_, _, right) in zip(runs, tried) if not got.error)]
    return [f"begin with {wrong[0]}: it is the first that is wrong, and {', '.join(wrong[1:])} may follow from it"] if (
        len(wrong) > 1) else []


def numbers_changed(exercise, tried):
    """The cases with one number among the arguments changed, a little and much: eps, lr, threshold."""
    for label, args, _ in tried:
        for k, value in enumerate(args):
            if isinstance(value, (float, np.floating)):
                yield from ((label, (*args[:k], new, *args[k + 1 :]), None) for new in _others(value, ()))


CERTAIN = (floored, reordered)
HINTS = (exchanged, unused, confined)
LAST = (first_wrong,)
