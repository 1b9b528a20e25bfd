"""Running an answer on one case: whatever it does, what comes back is a Run."""

import contextlib
import copy
import dis
import functools
import gc
import inspect
import io
import linecache
import signal
import sys
import threading
import time
import types
import warnings
import zlib
from dataclasses import dataclass
from numbers import Number

import numpy as np

from .values import NotNumbers, same, to_array

LIMIT = 5.0  # seconds for one case; a right answer takes milliseconds
SLOW = 0.25  # seconds of computing; an answer that takes more is not tried again to find reasons
SHOWN_LINES = 3  # of those that an answer prints
STUB_STEPS = {"RESUME", "NOP", "LOAD_CONST", "RETURN_VALUE", "RETURN_CONST"}  # what `...  # your code` compiles to


@dataclass(frozen=True)
class Run:
    """What a function did on one case."""

    outputs: tuple = ()  # arrays, or NotNumbers
    error: str = ""  # type and message, when it raised
    at: str = ""  # the learner's own line that raised, or that ran when the time was over
    late: bool = False  # the time was over
    slow: bool = False
    changed: tuple = ()  # numbers of the arguments that it changed in place
    said: tuple = ()  # remarks: warnings of NumPy, printed lines
    unwritten: bool = False  # the body is still the stub's
    nothing: bool = False  # it returned None
    several: int = 0  # values in the tuple that it returned where one is asked for


def run(function, args, wanted):
    """Call the function on a copy of the arguments; `wanted`: how many outputs are asked for."""
    given, printed, start = copy.deepcopy(args), _Printed(), time.process_time()
    try:
        with (warnings.catch_warnings(record=True) as warned, np.errstate(), contextlib.redirect_stdout(printed),
              _no_collection(), _time_limit()):
            warnings.simplefilter("always")
            value = function(*given)
            if inspect.iscoroutine(value):
                value.close()  # else Python complains later that nobody awaited it
            outputs = _outputs(value, wanted)
    except KeyboardInterrupt:
        raise  # the learner stops what takes too long
    except BaseException as error:  # SystemExit too: an answer must not end the session
        unwritten = isinstance(error, NotImplementedError) and _raised_by(function, error)
        late, slow = isinstance(error, _TimeIsOver), time.process_time() - start > SLOW
        words = str(error) if late else _in_words(error)
        return Run(error=words, at=_own_line(error, function), late=late, slow=slow,
                   changed=_changed(args, given), said=tuple(printed.remarks()), unwritten=unwritten)
    slow, empty = time.process_time() - start > SLOW, value is None or value is ...
    return Run(outputs=outputs, slow=slow, changed=_changed(args, given), nothing=empty,
               said=(*_first(warned), *printed.remarks()), unwritten=value is ... or empty and _is_stub(function),
               several=len(value) if wanted == 1 and isinstance(value, tuple) else 0)


@contextlib.contextmanager
def _no_collection():
    """No garbage of a long session is collected inside: that can take half a second, which is not the answer's."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


class _TimeIsOver(BaseException):
    """No Exception, so that an answer which catches those cannot go on."""

    def __str__(self):
        return f"no result after {LIMIT:g} seconds: a loop without an end?"


@contextlib.contextmanager
def _time_limit():
    """Interrupt what runs inside after LIMIT seconds.

    It takes the signal SIGALRM and the main thread, in which a notebook runs its
    cells.  On Windows, in a browser (Pyodide) and in other threads there is no
    limit: there the learner has to interrupt an endless loop.  Compiled code is
    interrupted only when it comes back to Python.
    """
    if (not hasattr(signal, "setitimer") or sys.platform == "emscripten"
            or threading.current_thread() is not threading.main_thread()):
        yield
        return
    handler = signal.signal(signal.SIGALRM, _interrupt)
    timer = signal.setitimer(signal.ITIMER_REAL, LIMIT)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, *timer)
        signal.signal(signal.SIGALRM, handler)


def _interrupt(*_):
    raise _TimeIsOver


class _Printed(io.TextIOBase):
    """Takes what an answer prints, however much; keeps the beginning, and the count of the lines."""

    text, lines = "", 0

    def write(self, text):
        self.lines += text.count("\n")
        if len(self.text) < 1000:
            self.text += text[:1000]
        return len(text)

    def remarks(self):
        shown = [one_line(line, 60) for line in self.text.splitlines()[:SHOWN_LINES] if line.strip()]
        more = [f"and {self.lines - SHOWN_LINES} lines more"] if self.lines > SHOWN_LINES else []
        return [f"it printed: {' / '.join([*shown, *more])}"] if shown else []


def _outputs(value, wanted):
    """The outputs as arrays; an array that unpacks into as many as are asked for counts as these."""
    if wanted == 1:
        return (to_array(value),)
    if isinstance(value, (tuple, list)):
        return tuple(map(to_array, value))
    array = to_array(value)
    unpacks = not isinstance(array, NotNumbers) and array.ndim and len(array) == wanted
    return tuple(map(np.asarray, array)) if unpacks else (array,)


def _first(warned):
    """The first warning about numbers, as one remark."""
    about = [str(w.message) for w in warned if issubclass(w.category, RuntimeWarning)]
    return [f"NumPy warned: {one_line(about[0])}"] if about else []


def plain(function):
    """The learner's own function inside partials, decorators and callable objects; None when there is none."""
    while isinstance(function, functools.partial):
        function = function.func
    if isinstance(function, types.MethodType):
        function = function.__func__
    elif not isinstance(function, types.FunctionType):
        function = type(function).__call__
    function = inspect.unwrap(function)
    return function if isinstance(function, types.FunctionType) else None


def _steps(function):
    inner = plain(function)
    return list(dis.get_instructions(inner)) if inner else []


def _is_stub(function):
    """True when the body does nothing: a docstring and `...` leave these steps only."""
    names = {step.opname for step in _steps(function)}
    return bool(names) and names <= STUB_STEPS


def borrowed(function):
    """A remark on numbers and arrays that a function takes from the notebook: often a slip in a name."""
    names = {step.argval for step in _steps(function) if step.opname == "LOAD_GLOBAL"}
    outside = getattr(plain(function), "__globals__", {})
    found = sorted(name for name in names if _is_numbers(outside.get(name)))
    return [f"it uses {', '.join(found)} from outside the function, not one of its arguments: a slip?"] if found else []


def _is_numbers(value):
    return isinstance(value, (Number, np.ndarray)) or type(value).__name__ == "Tensor"


def fingerprint(function):
    """A number that belongs to this text of the function: the same in every session, another after a change."""
    code = getattr(plain(function), "__code__", None)
    if code is None:
        return 0
    constants = [value for value in code.co_consts if isinstance(value, (Number, str, tuple))]
    return zlib.crc32(code.co_code + repr((code.co_names, constants)).encode())


def _changed(before, after):
    return tuple(k for k, (old, new) in enumerate(zip(before, after, strict=True)) if not _unchanged(old, new))


def _unchanged(old, new):
    if isinstance(old, (tuple, list)):
        return len(old) == len(new) and all(map(_unchanged, old, new))
    old, new = to_array(old), to_array(new)
    if isinstance(old, NotNumbers) or isinstance(new, NotNumbers):
        return True  # names, flags, functions: nothing that arithmetic changes in place
    return same(old, new)


def _in_words(error):
    try:
        text = one_line(str(error))
    except Exception:  # an exception class may fail to print itself
        text = ""
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _own_line(error, function):
    """Number and text of the last line of the learner's own file that the error went through."""
    code = getattr(plain(function), "__code__", None)
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
    return last.tb_frame.f_code is getattr(plain(function), "__code__", None)


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
