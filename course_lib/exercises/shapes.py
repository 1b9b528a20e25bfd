"""Shapes in words, by the letters that the stub's docstring gives to them: x is (N, D), gamma is (D,)."""

import re

AXES = {"N": "sample", "m": "sample", "n": "sample", "D": "feature", "C": "channel", "H": "row", "W": "column",
        "G": "group", "L": "position", "T": "time step", "units": "unit"}


def symbols(exercise, name):
    """The letters of an argument's axes, say ("N", "D"); () when the docstring gives none."""
    found = re.search(rf"\b{name}\b[^().;]*\(([\w\s,]*)\)", exercise.solution.__doc__ or "")
    return tuple(re.findall(r"\w+", found[1])) if found else ()


def in_words(exercise, runs, tried, failed):
    """A sentence about the first wrong shape of the case that failed; none when the letters do not tell it."""
    pairs = enumerate(zip(_shapes(runs[failed]), _shapes(tried[failed][2])))
    output = next((k for k, (got, right) in pairs if got is not None and got != right), None)
    if output is None or any(len(run.outputs) <= output or _shapes(run)[output] is None for run in runs):
        return []
    cases = [_sizes(exercise, args) for _, args, _ in tried]
    got = _words([_shapes(run)[output] for run in runs], cases)
    right = _words([_shapes(right)[output] for _, _, right in tried], cases)
    return [f"that is {got}; {right} is asked for"] if got and right and got != right else []


def _shapes(run):
    """The shape of each output, None for what is no array."""
    return [getattr(output, "shape", None) for output in run.outputs]


def _sizes(exercise, args):
    """The size that each letter stands for in a case."""
    sizes = {}
    for name, arg in zip(exercise.parameters, args):
        shape, letters = getattr(arg, "shape", ()), symbols(exercise, name)
        if len(shape) == len(letters):
            sizes |= dict(zip(letters, shape))
    return sizes


def _words(shapes, cases):
    """What one array of these shapes, one for each case, has a number for; "" when several letters would do."""
    if len({len(shape) for shape in shapes}) != 1:
        return ""
    words = []
    for axis in range(len(shapes[0])):
        fits = [letter for letter in cases[0] if letter in AXES
                and all(sizes.get(letter) == shape[axis] for sizes, shape in zip(cases, shapes))]
        if len(fits) != 1:
            return ""
        words.append(AXES[fits[0]])
    listed = " and ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))
    return f"one number per {listed}" if words else "one number for everything"
