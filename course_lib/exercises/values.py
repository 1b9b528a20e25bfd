"""Values that an answer returned: turned into arrays, compared, and described in words."""

import numpy as np
from numpy import array_equal, errstate, finfo, isfinite  # bound here: what a notebook makes of np changes no verdict

SHOWN = 4  # wrong values that a notebook shows side by side with the right ones
LARGEST = 10**6  # more values than this come from a wrong broadcast; they are not looked at
POWERS = {"the square of": 2.0, "the square root of": 0.5, "one over": -1.0, "one over the square root of": -0.5}


class NotNumbers(str):
    """What an output is instead of numbers: the end of a sentence that begins with its name."""


def to_array(value):
    """A copy of the value as an array of numbers, or NotNumbers; tensors are turned, never raises."""
    if value is None or value is ...:
        return NotNumbers(f"is {value}: not computed yet")
    if isinstance(value, np.ma.MaskedArray):
        return NotNumbers("is a masked array; return a plain one")
    try:
        array = np.asarray(_plain(value))
    except Exception:  # ragged lists, tensors that need a gradient inside odd containers, recursive lists
        return NotNumbers(f"is {_kind(value)} that makes no array of numbers")
    if array.size > LARGEST:
        return NotNumbers(f"has shape {array.shape}, far too many values")
    if array.dtype.kind not in "biufc":
        return NotNumbers(f"is {_kind(value)}; it must be a number or an array of numbers")
    return array.copy()


def _plain(value):
    """Tensors as arrays, also those in lists; everything else as it is."""
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    if not hasattr(value, "detach"):
        return value
    tensor = value.detach().cpu()
    try:
        return tensor.numpy()
    except TypeError:  # bfloat16, which NumPy lacks
        return tensor.float().numpy()


def _kind(value):
    word = "array of objects" if isinstance(value, np.ndarray) and value.dtype.kind == "O" else type(value).__name__
    return f"{'an' if word[0].lower() in 'aeiou' else 'a'} {word}"


def tolerance(right):
    """Half the digits of the type, measured against the largest right value; integers are exact."""
    if right.dtype.kind in "biu":
        return 1e-6
    finite = abs(right[isfinite(right)])
    return finfo(right.dtype).eps ** 0.5 * (finite.max(initial=0) or 1)


def differ(got, right):
    """Where the values of two arrays of one shape differ; NaN equals NaN."""
    with errstate(all="ignore"):
        near = abs(got + 0 - right) <= tolerance(right)  # + 0 makes integers of booleans
    return ~(near | (got == right) | (got != got) & (right != right))  # infinite values are equal, NaN are not


def same(one, other):
    """True when two arrays agree to the last digit."""
    return one.shape == other.shape and array_equal(one, other, equal_nan=one.dtype.kind in "fc")


def close(got, right):
    """True when both are arrays of one shape and agree; also when both are the same NotNumbers."""
    if isinstance(got, NotNumbers) or isinstance(right, NotNumbers):
        return type(got) is type(right) and got == right
    return got.shape == right.shape and not differ(got, right).any()


class Difference(str):
    """A sentence about the first wrong value; `rows` has the first few, (where, found, expected), `rest` the counts."""

    rows: tuple[tuple[str, str, str], ...] = ()
    rest: str = ""


def form_problem(got, right, exact_type):
    """What is wrong with the kind, shape or type of an output; None when nothing is.

    Args:
        exact_type: the exercise asks for a type.  Otherwise any real type will do.
    """
    if isinstance(got, NotNumbers):
        return str(got)
    if got.shape != right.shape:
        return f"has shape {got.shape}; it must have {right.shape or '(), a single number'}"
    if got.dtype.kind == "c" != right.dtype.kind:
        return f"is {got.dtype}; it must be real"
    floats = "f" in (got.dtype.kind, right.dtype.kind)
    if exact_type and right.ndim and (
            got.dtype != right.dtype if floats else got.dtype.kind.replace("u", "i") != right.dtype.kind):
        return f"is {got.dtype}; it must be {right.dtype}"
    return None


def value_problem(name, got, right):
    """How many values differ, and the first of them: its index, found, expected; None when all agree."""
    wrong = differ(got, right)
    if not wrong.any():
        return None
    places = [tuple(map(int, place)) for place in np.argwhere(wrong)[:SHOWN]]
    rows = [(_place(name, at), *_two_numbers(got[at].item(), right[at].item())) for at in places]
    where, found, expected = rows[0]
    off = abs(got[places[0]].item() - right[places[0]].item())
    much = f"off by {off:.1e}" if right.dtype.kind in "fc" and np.isfinite(off) else ""
    count = f"{wrong.sum()} of {wrong.size} values differ" if wrong.size > 1 else ""
    rest = "; ".join(filter(None, [much, count])) + _few_digits(got, right)
    problem = Difference(f"{where} is {found}, expected {expected}{', ' if much else '; ' if rest else ''}{rest}")
    problem.rows, problem.rest = tuple(rows), rest
    return problem


def _place(name, at):
    return f"{name}[{', '.join(map(str, at))}]" if at else name


def _few_digits(got, right):
    """The type is a reason when its rounding alone makes the values wrong."""
    if "f" != got.dtype.kind or got.dtype.itemsize >= right.dtype.itemsize:
        return ""
    return f" ({got.dtype} is too short)" if np.allclose(got, right, rtol=16 * np.finfo(got.dtype).eps) else ""


def _two_numbers(found, expected):
    """Both printed with as few digits as tell them apart."""
    if isinstance(found, (bool, int)) and isinstance(expected, (bool, int)):
        return str(found), str(expected)
    for digits in (6, 9, 12, 17):
        pair = f"{found:.{digits}g}", f"{expected:.{digits}g}"
        if pair[0] != pair[1]:
            break
    return pair


def relation(pairs, sizes):
    """How wrong values relate to the right ones when they do so simply, in every case alike.

    Args:
        pairs: (got, right) of one output, a pair for each case.
        sizes: for each case the sizes of its arguments, {"x.shape[0]": 4, ...}.
    Returns:
        the end of a sentence that begins with the name of the output, or None.
    """
    if any((~np.isfinite(got) & np.isfinite(right)).any() for got, right in pairs):
        return "has NaN or infinite values"
    if not all(np.isfinite(got).all() for got, _ in pairs):
        return None
    flat = [(_floating(got), _floating(right)) for got, right in pairs]
    if sum(right.size for _, right in flat) < 3:
        return None  # by chance, two numbers are often in a simple relation
    with np.errstate(all="ignore"):
        return _ratio(flat, sizes) or _shift(flat) or _power(flat) or _turned(pairs)


def _floating(array):
    return array.ravel() if array.dtype.kind in "fc" else array.ravel().astype(float)


def _ratio(flat, sizes):
    known = [(np.vdot(right, got).real / np.vdot(right, right).real, size)
             for (got, right), size in zip(flat, sizes, strict=True) if right.any()]
    ratios = [ratio for ratio, _ in known]
    if not all(map(_proportional, flat)) or not known or not all(ratios):
        return None
    if _alike(ratios, [-1] * len(ratios)):
        return "has its sign flipped"
    for name in sizes[0]:
        counts = [size.get(name, 0) for _, size in known]
        if min(counts) > 1 and _alike(ratios, counts):
            return f"is {name} times too large in every case: a sum where a mean belongs?"
        if min(counts) > 1 and _alike(ratios, [1 / count for count in counts]):
            return f"is {name} times too small in every case: a mean where a sum belongs?"
    return f"is {ratios[0]:.6g} times the right value everywhere" if _alike(ratios, ratios[:1] * len(ratios)) else None


def _proportional(pair):
    got, right = pair
    scale = np.vdot(right, got) / np.vdot(right, right) if right.any() else 0
    return close(got, right * right.dtype.type(scale))


def _alike(ratios, expected):
    return np.allclose(ratios, expected, rtol=1e-4, atol=0)


def _shift(flat):
    largest, its_right = max(flat, key=lambda pair: pair[1].size)
    shift = float((largest - its_right).real.mean())
    if all(close(got, right + right.dtype.type(shift)) for got, right in flat):
        return f"is {abs(shift):.6g} too {'large' if shift > 0 else 'small'} everywhere"
    return None


def _power(flat):
    for words, power in POWERS.items():
        if all(np.isfinite(right**power).all() and close(got, right**power) for got, right in flat):
            return f"is {words} the right value"
    return None


def _turned(pairs):
    if all(got.ndim == 2 and got.shape == right.shape and close(got, right.T) for got, right in pairs):
        return "has its rows and columns exchanged"
    return None
