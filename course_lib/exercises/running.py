"""Running an answer on one case: whatever it does, what comes back is a Run."""

import contextlib
import copy
import dis
import inspect
import io
import linecache
import warnings
from dataclasses import dataclass
from numbers import Number

import numpy as np

from .values import NotNumbers, to_array

STUB_STEPS = {"RESUME", "NOP", "LOAD_CONST", "RETURN_VALUE", "RETURN_CONST"}  # what `...  # your code` compiles to


@dataclass(frozen=True)
class Run:
    """What a function did on one case."""

    outputs: tuple = ()  # arrays, or NotNumbers
    error: str = ""  # type and message, when it raised
    at: str = ""  # the learner's own line that raised
    changed: tuple = ()  # numbers of the arguments that it changed in place
    said: tuple = ()  # remarks: warnings of NumPy, printed lines
    unwritten: bool = False  # the body is still the stub's
    nothing: bool = False  # it returned None
    several: int = 0  # values in the tuple that it returned where one is asked for


def run(function, args, single):
    """Call the function on a copy of the arguments; `single`: what it returns is one output."""
    given, printed = copy.deepcopy(args), _Printed()
    try:
        with warnings.catch_warnings(record=True) as warned, np.errstate(), contextlib.redirect_stdout(printed):
            warnings.simplefilter("always")
            value = function(*given)
            if inspect.iscoroutine(value):
                value.close()  # else Python complains later that nobody awaited it
            outputs = _outputs(value, single)
    except KeyboardInterrupt:
        raise  # the learner stops an endless loop
    except BaseException as error:  # SystemExit too: an answer must not end the session
        at = _own_line(error, function)
        unwritten = isinstance(error, NotImplementedError) and _raised_by(function, error)
        return Run(error=_in_words(error), at=at, changed=_changed(args, given), unwritten=unwritten)
    empty = value is None or value is ...
    return Run(outputs=outputs, changed=_changed(args, given), said=(*_first(warned), *printed.remark()), nothing=empty,
               unwritten=value is ... or empty and _is_stub(function),
               several=len(value) if single and isinstance(value, tuple) else 0)


class _Printed(io.TextIOBase):
    """Takes what an answer prints, however much, and keeps the count."""

    lines = 0

    def write(self, text):
        self.lines += text.count("\n")
        return len(text)

    def remark(self):
        lines = "one line" if self.lines == 1 else f"{self.lines} lines"
        return [f"it printed {lines}, not shown here"] if self.lines else []


def _outputs(value, single):
    if single:
        return (to_array(value),)
    if isinstance(value, (tuple, list)):
        return tuple(map(to_array, value))
    return (to_array(value),)


def _first(warned):
    """The first warning about numbers, as one remark."""
    about = [str(w.message) for w in warned if issubclass(w.category, RuntimeWarning)]
    return [f"NumPy warned: {one_line(about[0])}"] if about else []


def _is_stub(function):
    """True when the body does nothing: a docstring and `...` leave these steps only."""
    try:
        return {step.opname for step in dis.get_instructions(function)} <= STUB_STEPS
    except TypeError:  # not a plain function
        return False


def borrowed(function):
    """A remark on numbers and arrays that a function takes from the notebook: often a slip in a name."""
    try:
        names = {step.argval for step in dis.get_instructions(function) if step.opname == "LOAD_GLOBAL"}
    except TypeError:  # not a plain function
        return []
    outside = getattr(function, "__globals__", {})
    found = sorted(name for name in names if _is_numbers(outside.get(name)))
    return [f"it uses {', '.join(found)} from outside the function, not one of its arguments: a slip?"] if found else []


def _is_numbers(value):
    return isinstance(value, (Number, np.ndarray)) or type(value).__name__ == "Tensor"


def _changed(before, after):
    return tuple(k for k, (old, new) in enumerate(zip(before, after, strict=True)) if not _same(old, new))


def _same(old, new):
    if isinstance(old, (tuple, list)):
        return len(old) == len(new) and all(map(_same, old, new))
    old, new = to_array(old), to_array(new)
    if isinstance(old, NotNumbers) or isinstance(new, NotNumbers):
        return True  # names, flags, functions: nothing that arithmetic changes in place
    return old.shape == new.shape and np.array_equal(old, new, equal_nan=old.dtype.kind in "fc")


def _in_words(error):
    try:
        text = one_line(str(error))
    except Exception:  # an exception class may fail to print itself
        text = ""
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _own_line(error, function):
    """Number and text of the last line of the learner's own file that the error went through."""
    code = getattr(inspect.unwrap(function), "__code__", None)
    found, frame = "", error.__traceback__
    while code and frame:
        if frame.tb_frame.f_code.co_filename == code.co_filename:
            found = frame.tb_lineno
        frame = frame.tb_next
    if not found:
        return ""
    text = linecache.getline(code.co_filename, found).strip()
    return f"line {found}: {one_line(text)}" if text else f"line {found}"


def _raised_by(function, error):
    """True when the function itself raised, not something that it called."""
    last = error.__traceback__
    while last.tb_next:
        last = last.tb_next
    return last.tb_frame.f_code is getattr(inspect.unwrap(function), "__code__", None)


def one_line(text, most=160):
    """The text on one line, cut where it gets long."""
    text = " ".join(text[: 10 * most].split())
    return text if len(text) <= most else f"{text[: most - 4]} ..."


def wrong_arguments(function, like):
    """Says so when the function cannot be called as `like` is."""
    try:
        mine, right = inspect.signature(function), inspect.signature(like)
    except (TypeError, ValueError):
        return None  # a function of C may hide its arguments: calling it will tell
    try:
        mine.bind(*right.parameters)
    except TypeError:
        return f"your function takes {one_line(str(mine))}; it must take {right}"
    return None
