"""The exercise engine, branch by branch, on toy exercises."""

import functools
import gc
import json
import os
import subprocess
import sys
import time

import numpy as np
import pytest

import course_lib.exercises as public
from course_lib.exercises import EXERCISES, case, check, exercise, hint, progress, record, solution
from course_lib.exercises.engine import Exercise
from course_lib.exercises.mistakes import edited
from course_lib.exercises.report import Report
from course_lib.exercises.values import LARGEST, close, to_array, tolerance


def _rows():
    rng = np.random.default_rng(0)
    yield "four numbers", (np.array([[1.0], [2.0], [4.0], [3.0]]), np.array([2.0]))
    yield "5 rows, 3 columns", (rng.normal(size=(5, 3)), rng.normal(size=3))
    yield "small spread", (1e-3 * rng.normal(size=(6, 2)), rng.normal(size=2), 1e-4)
    yield "float32", (rng.normal(size=(7, 4)).astype(np.float32), rng.normal(size=4).astype(np.float32))


def standardize_rows(x, gamma, eps=1e-5):
    """The columns of x with mean 0 and standard deviation gamma, of the type of x; and their means."""
    mu = x.mean(axis=0)
    inv_std = 1 / np.sqrt(x.var(axis=0) + eps)
    return gamma * (x - mu) * inv_std, mu


NO_EPS = ("eps is missing", "eps stands beside the variance", "equation (2.1)")
ROWS = Exercise(
    standardize_rows, _rows, ("y", "mu"), ("it breaks", "this path", "that equation"),
    laws={"each column of y sums to 0": lambda args, outputs: np.allclose(outputs[0].sum(axis=0), 0, atol=1e-5)},
    mistakes={
        NO_EPS: {" + eps": ""},
        "the variance is divided by N": {"x.var(axis=0)": "x.var(axis=0, ddof=1)"},
        "gamma is missing": {"gamma * (": "("},
        "the mean goes over axis 0": {"x.mean(axis=0)": "x.mean(axis=1)"},
        "mu is a sum": {", mu": ", len(x) * mu"},
        "y keeps the type of x": {"gamma * (x - mu) * inv_std": "(gamma * (x - mu) * inv_std).astype(float)"},
    })


def _counts():
    yield "a batch of images", ((8, 6, 4, 4),)
    yield "another", ((2, 3, 5, 7),)


def count_means(shape):
    """How many means batch norm computes."""
    return shape[1]


COUNT = Exercise(count_means, _counts, ("count",), ("a", "b", "c"))


@pytest.fixture(autouse=True)
def toys(monkeypatch, tmp_path):
    """The toys stand in for all other exercises; nothing is done yet, no hint given."""
    kept = dict(EXERCISES)
    EXERCISES.clear()
    EXERCISES.update({"standardize_rows": ROWS, "count_means": COUNT})
    monkeypatch.setattr(record, "_here", set())
    monkeypatch.setattr(public, "_steps", {})
    monkeypatch.setenv("NORM_COURSE_PROGRESS", str(tmp_path / "progress.json"))
    yield
    EXERCISES.clear()
    EXERCISES.update(kept)


def answered(function, name="standardize_rows"):
    """The report on a function, as if the learner had given it the name."""
    function.__name__ = name
    return check(function)


def changed(change):
    """The report on an answer that computes `change` of the right outputs."""
    return answered(lambda x, gamma, eps=1e-5: change(*standardize_rows(x, gamma, eps)))


def text(report):
    return " ".join(repr(report).split())


# right, and not started


def test_right_answer_is_true_and_counts():
    report = check(standardize_rows)
    assert report
    assert repr(report) == "✓ standardize_rows: right\n  4 cases; other exercises: 1 of 2\n  next: count_means"


def test_answers_in_other_forms_are_right():
    assert changed(lambda y, mu: [y, mu])
    assert changed(lambda y, mu: (np.asfortranarray(y), mu[::-1].copy()[::-1]))
    assert answered(lambda shape: float(shape[1]), "count_means")
    assert answered(lambda shape: np.array(shape[1], dtype=np.int32), "count_means")
    assert changed(lambda y, mu: (y * (1 + 1e-10), mu))  # another order of the sums


@pytest.mark.parametrize("body", ["...  # your code", "pass", "raise NotImplementedError", "return ...", "return None",
                                  "raise NotImplementedError('later')"])
def test_stub_is_not_started(body):
    scope = {}
    exec(f'def standardize_rows(x, gamma, eps=1e-5):\n    """Doc."""\n    {body}', scope)
    report = check(scope["standardize_rows"])
    assert report.state == "not started" and not report
    assert repr(report) == ('○ standardize_rows: not started\n  write its body in a notebook, then run this cell\n'
                            '  no idea? hint("standardize_rows")')


def test_not_implemented_in_a_library_is_an_error_not_a_stub():
    def library():
        raise NotImplementedError("no such kernel")

    report = answered(lambda x, gamma, eps=1e-5: library())
    assert report.state == "wrong" and "NotImplementedError: no such kernel" in text(report)


def test_missing_return_is_told():
    def standardize_rows(x, gamma, eps=1e-5):
        y = gamma * x  # noqa: F841

    assert "it returns nothing: is a return missing?" in text(check(standardize_rows))


# the first wrong value


def test_feedback_names_case_index_found_and_expected():
    def one_wrong(y, mu):
        y = y.copy()
        y[-1, -1] += 1 if y.shape == (5, 3) else 0
        return y, mu

    report = changed(one_wrong)
    right = standardize_rows(*list(_rows())[1][1])[0][4, 2]
    lines = repr(report).splitlines()
    assert lines[:4] == ["✗ standardize_rows: wrong", "  case 2 of 4: 5 rows, 3 columns; the other cases are right",
                         f"  y[4, 2] is {right + 1:.6g}, expected {right:.6g}, off by 1.0e+00; 1 of 15 values differ",
                         "  right: mu"]
    assert lines[-1] == '  next: hint("standardize_rows"), or standardize_rows(*case("standardize_rows", 2))'


def test_numbers_that_look_alike_get_more_digits():
    report = answered(lambda x, gamma, eps=1e-5: (standardize_rows(x, gamma, eps)[0], x.mean(axis=0) + 1e-7))
    assert "mu[0] is 2.5000001, expected 2.5, off by 1.0e-07" in text(report)


def test_integers_are_compared_exactly():
    report = answered(lambda shape: shape[1] + 1, "count_means")
    assert "count is 7, expected 6\n" in repr(report)


def test_float32_gets_the_tolerance_of_float32():
    def rounded(y, mu):
        return y.astype(np.float32).astype(y.dtype), mu

    assert "case 1 of 4" in repr(changed(rounded))
    assert changed(lambda y, mu: rounded(y, mu) if y.dtype == np.float32 else (y, mu))


def test_tolerance_goes_with_the_largest_finite_value():
    half_the_digits = 2**-26  # of float64, whose eps is 2**-52
    assert tolerance(np.array([-1e6, 1.0, np.nan, np.inf])) == 1e6 * half_the_digits
    assert tolerance(np.array([1e-6])) == 1e-6 * half_the_digits
    assert tolerance(np.zeros(3)) == tolerance(np.zeros(0)) == half_the_digits  # nothing to measure against


def test_nan_and_inf_are_found_and_named():
    report = changed(lambda y, mu: (y * np.nan, mu))
    assert "y[0, 0] is nan, expected" in text(report) and "y has NaN or infinite values" in text(report)


def test_warning_of_numpy_is_told_in_the_report_and_not_raised():
    report = answered(lambda x, gamma, eps=1e-5: ((x - x) / (x - x), x.mean(axis=0)))
    assert "NumPy warned: invalid value encountered in divide" in text(report)


# form: shapes, types, numbers of outputs


@pytest.mark.parametrize("change, words", [
    (lambda y, mu: y, "return 2 values, y, mu; yours returns one, of shape (4, 1)"),
    (lambda y, mu: (y, mu, mu), "return 2 values, y, mu; yours returns 3"),
    (lambda y, mu: {"y": y, "mu": mu}, "yours returns one, which is a dict; it must be a number or an array"),
    (lambda y, mu: (v for v in (y, mu)), "yours returns one, which is a generator"),
    (lambda y, mu: ((y, mu), mu), "y is a tuple that makes no array of numbers"),
    (lambda y, mu: (y, mu[None]), "mu has shape (1, 1); it must have (1,)"),
    (lambda y, mu: (y, mu.sum()), "mu has shape (); it must have (1,)"),
    (lambda y, mu: (y, None), "mu is None: not computed yet right: y"),
    (lambda y, mu: (y, "mu"), "mu is a str; it must be a number or an array of numbers"),
    (lambda y, mu: (y, ["2.5"]), "mu is a list; it must be"),
    (lambda y, mu: (y.astype(object), mu), "y is an array of objects; it must be"),
    (lambda y, mu: (y, [[1], [1, 2]]), "mu is a list that makes no array of numbers"),
    (lambda y, mu: (np.ma.masked_array(y), mu), "y is a masked array; return a plain one"),
    (lambda y, mu: (y + 0j, mu), "y is complex128; it must be real"),
    (lambda y, mu: (y > 0, mu), "y is bool; it must be float64"),
    (lambda y, mu: (np.broadcast_to(y[:1], (LARGEST + 1, 1)), mu), "y has shape (1000001, 1), far too many values"),
    (lambda y, mu: (lambda: y, mu), "y is a function; it must be"),
])
def test_wrong_form_is_told(change, words):
    report = changed(change)
    assert report.state == "wrong" and words in text(report)


def test_zero_dimensional_answer_is_called_a_single_number():
    assert "count has shape (1,); it must have (), a single number" in text(
        answered(lambda shape: [shape[1]], "count_means"))
    assert "it must be real" in text(answered(lambda shape: shape[1] + 0j, "count_means"))


def test_two_values_where_one_is_asked_for_are_told():
    found = "return one value, count; yours returns a tuple of 2"
    assert found in text(answered(lambda shape: (shape[1], {}), "count_means"))
    assert found in text(answered(lambda shape: (shape[1], shape[1]), "count_means"))
    assert "tuple" not in text(answered(lambda shape: [shape[1]] * 2, "count_means"))


def test_number_taken_from_outside_is_told():
    """A slip in a name often finds a variable of the notebook, and then nothing raises."""
    scope = {"np": np, "mean": 1e6, "x_hat": np.ones((5, 3)), "shape": np.shape, "__name__": "notebook"}
    exec("def standardize_rows(x, gamma, eps=1e-5):\n    return gamma * (x - mean), x.mean(axis=0)", scope)
    assert "it uses mean from outside the function, not one of its arguments: a slip?" in text(
        check(scope["standardize_rows"]))
    exec("def standardize_rows(x, gamma, eps=1e-5):\n    return gamma * (x - x.mean()), shape(x)", scope)
    assert "outside" not in text(check(scope["standardize_rows"]))  # a method, a function and a module are no slips


def test_wrong_float_type_is_told_with_its_mistake():
    report = changed(lambda y, mu: (y.astype(float), mu))
    assert "float32; the other cases are right y is float64; it must be float32 right: mu" in text(report)
    assert report.mistakes == ("y keeps the type of x",)


def test_integer_arrays_may_have_any_width_but_must_be_integers():
    def sizes_of(shape):
        """The shape as an array; its type is that of whole numbers."""
        return np.array(shape)

    toy = Exercise(sizes_of, _counts, ("sizes",), ("a", "b", "c"))
    for kind in (np.int32, np.int64, np.uint8):  # in a browser the default has 32 bits
        assert toy.check(lambda shape, kind=kind: np.array(shape, dtype=kind))
    assert toy.check(lambda shape: list(shape)) and toy.check(lambda shape: shape)
    assert "sizes is float64; it must be int" in repr(toy.check(lambda shape: np.array(shape, dtype=float)))
    assert "sizes is bool; it must be int" in repr(toy.check(lambda shape: np.array(shape) > 0))


def test_outputs_that_are_no_numbers_are_alike_only_when_both_are_the_same():
    assert close(to_array(None), to_array(None))
    assert not close(to_array(None), to_array("text"))
    assert not close(to_array(None), np.ones(1)) and not close(np.ones(1), to_array(None))


# arguments


def test_answer_with_other_arguments_is_told_what_they_must_be():
    report = answered(lambda x: x)
    assert text(report) == ("✗ standardize_rows: wrong your function takes (x); "
                            "it must take (x, gamma, eps=1e-05)")


def test_changed_argument_is_told():
    def standardize_rows_in_place(x, gamma, eps=1e-5):
        right = standardize_rows(x, gamma, eps)
        x -= x.mean(axis=0)
        return right

    before = [args[0].copy() for _, args, _ in ROWS.tried]
    report = answered(standardize_rows_in_place)
    assert "it changes its argument x in place; work on a copy" in text(report)
    assert all(map(np.array_equal, before, [args[0] for _, args, _ in ROWS.tried]))  # only the learner's copy changed


def test_answer_that_only_changes_its_argument_is_told_so():
    def standardize_rows(x, gamma, eps=1e-5):
        x -= x.mean(axis=0)

    assert "it changes its argument x in place and returns nothing; return the result" in text(
        check(standardize_rows))


def test_changed_argument_inside_a_tuple_is_noticed():
    def _caches():
        yield "a cache", ((np.ones(2), "name", np.array([np.nan])),)
        yield "another", ((np.zeros(3), None, np.array([1.0])),)

    def first_of(cache):
        """The first."""
        return cache[0] + 0

    toy = Exercise(first_of, _caches, ("first",), ("a", "b", "c"))

    def spoils(cache):
        first = cache[0] + 0
        cache[2][:] = 5
        return first

    assert toy.check(first_of)
    assert "changes its argument cache" in repr(toy.check(spoils))


# mistakes


@pytest.mark.parametrize("key", list(ROWS.mistakes), ids=str)
def test_known_mistake_is_named_and_no_other(key):
    assert ROWS.check(edited(ROWS, ROWS.mistakes[key])).mistakes == (key,)


def test_two_mistakes_at_once_are_both_named():
    keys = [NO_EPS, "gamma is missing"]  # both change y
    report = ROWS.check(edited(ROWS, *(ROWS.mistakes[key] for key in keys)))
    assert report.mistakes == tuple(keys)
    assert "mistake 1: eps is missing mistake 2: gamma is missing" in text(report)


def test_two_mistakes_in_two_outputs_are_both_named():
    keys = ["gamma is missing", "mu is a sum"]
    report = ROWS.check(edited(ROWS, *(ROWS.mistakes[key] for key in keys)))
    assert set(report.mistakes) == set(keys)


def test_two_mistakes_in_one_output_and_a_third_in_another_are_all_named():
    keys = ["mu is a sum", NO_EPS, "gamma is missing"]
    report = ROWS.check(edited(ROWS, *(ROWS.mistakes[key] for key in keys)))
    assert set(report.mistakes) == set(keys)
    assert len(repr(report).splitlines()) <= 12


def test_known_mistake_beside_an_unknown_one_is_named():
    report = answered(lambda x, gamma, eps=1e-5: (standardize_rows(x, gamma, 0)[0], np.sin(x.mean(axis=0))))
    assert report.mistakes == (NO_EPS,)


def test_two_mistakes_in_one_output_beside_an_unknown_one_are_named():
    report = answered(lambda x, gamma, eps=1e-5: (standardize_rows(x, 1, 0)[0], np.sin(x.mean(axis=0))))
    assert report.mistakes == (NO_EPS, "gamma is missing")


def test_mistake_that_raises_is_recognised_by_its_error():
    report = answered(lambda x, gamma, eps=1e-5: standardize_rows(x, gamma, eps) if len(x) == 4 else x - x.mean(axis=1))
    assert "your code raised ValueError: operands could not be broadcast together" in text(report)
    wrong = ROWS.check(edited(ROWS, ROWS.mistakes["the mean goes over axis 0"]))
    assert "mu has shape (4,); it must have (1,)" in text(wrong)
    assert "mistake: the mean goes over axis 0" in text(wrong)


def test_edit_must_name_words_that_occur_once():
    for words in ("nowhere", "x"):
        with pytest.raises(ValueError, match="times in the solution, not once"):
            edited(ROWS, {words: ""})
    with pytest.raises(ValueError, match="two edits change the same words"):
        edited(ROWS, {" + eps": ""}, {"axis=0) + eps": ""})


def test_words_of_the_docstring_do_not_count():
    assert "mean 0" in ROWS.source
    with pytest.raises(ValueError, match="occurs 0 times"):
        edited(ROWS, {"mean 0": "mean 1"})


# laws and relations


def test_broken_law_is_told():
    def uneven(y, mu):
        y = y.copy()
        y[0] += 0.25
        return y, mu

    assert "this must hold, and does not: each column of y sums to 0" in text(changed(uneven))


def test_law_that_fails_to_run_is_not_called_broken():
    toy = Exercise(count_means, _counts, ("count",), ("a", "b", "c"), laws={"never asked": lambda args, outputs: 1 / 0})
    assert "never asked" not in repr(toy.check(lambda shape: shape[0]))


@pytest.mark.parametrize("change, words", [
    (lambda y, mu: (-y, mu), "y has its sign flipped"),
    (lambda y, mu: (y * len(y), mu), "y is x.shape[0] times too large in every case: a sum where a mean belongs?"),
    (lambda y, mu: (y / len(y), mu), "y is x.shape[0] times too small in every case: a mean where a sum belongs?"),
    (lambda y, mu: (y / y.size, mu), "y is x.size times too small"),
    (lambda y, mu: (3 * y, mu), "y is 3 times the right value everywhere"),
    (lambda y, mu: (y + 0.5, mu), "y is 0.5 too large everywhere"),
    (lambda y, mu: (y, mu - 0.5), "mu is 0.5 too small everywhere"),
    (lambda y, mu: (y**2, mu), "y is the square of the right value"),
    (lambda y, mu: (1 / y, mu), "y is one over the right value"),
    (lambda y, mu: (y, mu**2), "mu is the square of the right value"),
])
def test_simple_relation_is_told(change, words):
    report = changed(change)
    assert not report.mistakes and words in text(report)


def _squares():
    rng = np.random.default_rng(0)
    yield "two", (rng.normal(size=(2, 2)), 2)
    yield "three", (rng.normal(size=(3, 3)), 5)


def pair_of(a, groups):
    """Two squares."""
    return a @ a, a + groups


PAIR = Exercise(pair_of, _squares, ("first", "second"), ("a", "b", "c"))


def test_exchanged_outputs_rows_and_counts_are_told():
    assert ("first has the values that belong to second: are they returned in this order, first, second?"
            in text(PAIR.check(lambda a, groups: pair_of(a, groups)[::-1])))
    assert "first has its rows and columns exchanged" in text(PAIR.check(lambda a, groups: ((a @ a).T, a + groups)))
    assert "first is groups times too large" in text(PAIR.check(lambda a, groups: (groups * (a @ a), a + groups)))


def test_square_roots_are_told():
    def var_of(x):
        """The variances."""
        return x.var(axis=0)

    toy = Exercise(var_of, lambda: ((label, args[:1]) for label, args in _rows()), ("var",), ("a", "b", "c"))
    assert "var is the square root of the right value" in text(toy.check(lambda x: x.std(axis=0)))
    assert "var is one over the square root of the right value" in text(toy.check(lambda x: 1 / x.std(axis=0)))


def test_no_relation_is_made_up():
    report = changed(lambda y, mu: (y + np.arange(y.size, dtype=y.dtype).reshape(y.shape), mu))
    relations = ("times", "sign", "everywhere", "square", "one over", "exchanged")
    assert not any(words in text(report) for words in relations)


# whatever the answer does


class Odd(Exception):
    def __str__(self):
        raise RuntimeError


def _recursive(x, gamma, eps=1e-5):
    return _recursive(x, gamma, eps)


def _exits(x, gamma, eps=1e-5):
    sys.exit(3)


def _odd(x, gamma, eps=1e-5):
    raise Odd


def _long(x, gamma, eps=1e-5):
    raise ValueError("long " * 10**6)


async def _coroutine(x, gamma, eps=1e-5):
    return x


def _generator(x, gamma, eps=1e-5):
    yield x


def _list_in_itself(x, gamma, eps=1e-5):
    mine = []
    mine.append(mine)
    return mine, x


class _Hostile:
    def __getattr__(self, name):
        raise RuntimeError(name)


def _hostile(x, gamma, eps=1e-5):
    return _Hostile(), _Hostile()


def test_garbage_of_a_long_session_is_not_collected_at_an_answers_cost():
    seen = []

    def answer(x, gamma, eps=1e-5):
        seen.append(gc.isenabled())
        raise ValueError("also where the answer fails")

    assert gc.isenabled()
    answered(answer)
    assert seen and not any(seen) and gc.isenabled()


@pytest.mark.parametrize("answer, words", [
    (_recursive, "RecursionError"), (_exits, "raised SystemExit: 3"), (_odd, "your code raised Odd"),
    (_long, "raised ValueError: long long"), (_coroutine, "which is a coroutine"), (_generator, "which is a generator"),
    (_list_in_itself, "y is a list that makes no array"), (_hostile, "y is a _Hostile that makes no array"),
    (lambda x, gamma, eps=1e-5: undefined_name, "NameError: name 'undefined_name' is not defined"),  # noqa: F821
    (lambda x, gamma, eps=1e-5: np.empty((10**7, 10**7)), "raised"),
])
def test_nothing_that_an_answer_does_gets_out(answer, words):
    start = time.process_time()
    report = answered(answer)
    assert time.process_time() - start < 0.3
    assert report.state == "wrong" and words in text(report)
    assert len(repr(report).splitlines()) <= 12


def test_error_names_the_learners_own_line():
    def standardize_rows(x, gamma, eps=1e-5):
        return np.linalg.inv(x), x

    line = standardize_rows.__code__.co_firstlineno + 1
    assert f"at line {line}: return np.linalg.inv(x), x" in text(check(standardize_rows))


def test_interrupt_of_the_learner_gets_through():
    def standardize_rows(x, gamma, eps=1e-5):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        check(standardize_rows)


def test_first_lines_that_an_answer_prints_are_shown_and_the_rest_counted(capsys):
    def standardize_rows(x, gamma, eps=1e-5):
        for k in range(1000):
            print("shape", k, x.shape)
        return x, x.mean(axis=0)

    report = check(standardize_rows)
    assert capsys.readouterr().out == ""
    assert ("it printed: shape 0 (4, 1) / shape 1 (4, 1) / shape 2 (4, 1) / and 997 lines more"
            in text(report))


def test_printed_lines_are_those_of_the_case_that_fails_also_when_it_raises():
    def count_means(shape):
        print("given", shape)
        return shape[1] if shape[0] == 8 else [][0]

    found = text(check(count_means))
    assert "it printed: given (2, 3, 5, 7)" in found and "(8, 6" not in found and "IndexError" in found


def test_printed_line_without_an_end_is_cut():
    report = answered(lambda shape: print("debug " * 10**5) or 0, "count_means")
    assert "it printed: debug debug" in text(report) and len(repr(report)) < 1000


def test_library_that_a_case_needs_and_lacks_is_named():
    def cases():
        import no_such_library

        yield "never", (no_such_library.zeros(3),)

    EXERCISES["count_means"] = Exercise(count_means, cases, ("count",), ("a", "b", "c"))
    words = "this exercise needs no_such_library, which is not installed here"
    assert check(count_means).state == "no check" and words in text(check(count_means))
    with pytest.raises(ModuleNotFoundError, match=words):
        case("count_means", 1)


def test_settings_that_an_answer_changes_are_put_back():
    def standardize_rows(x, gamma, eps=1e-5):
        np.seterr(all="raise")
        sys.stdout = None
        return x, x

    before, out = np.geterr(), sys.stdout
    check(standardize_rows)
    assert np.geterr() == before and sys.stdout is out


@pytest.mark.parametrize("thing, words", [
    (3, "check takes the function itself: check(f), not check(f(x))"),
    (None, "check takes the function itself"),
    (functools.partial(len), "no exercise has this name"),
    (np.ones(3), "check takes the function itself"),
    ("standardize_rows", "check takes the function itself, without quotes"),
    (lambda x: x, 'check(f, "name") says which one is meant; there is standardize_rows, count_means'),
    (np.linalg.norm, 'no exercise has this name; check(f, "name")'),
])
def test_check_of_something_else_says_what_is_needed(thing, words):
    report = check(thing)
    assert report.state == "no check" and not report and words in text(report)


def test_name_given_to_check_must_be_that_of_an_exercise():
    assert check(lambda x, gamma, eps=1e-5: standardize_rows(x, gamma, eps), "standardize_rows")
    assert "no exercise has this name; there is standardize_rows" in text(check(standardize_rows, "standardise_rows"))
    assert "no exercise has this name" in text(check(standardize_rows, standardize_rows(*case("standardize_rows", 1))))
    assert "takes the function itself" in text(check(3, "standardize_rows"))


def test_check_of_an_object_that_answers_no_question_says_what_is_needed():
    assert "check takes the function itself" in text(check(_Hostile()))


def test_adjacent_edits_are_no_overlap():
    answer = edited(COUNT, {"return": "return 1 +"}, {" shape[1]": " shape[0]"})
    assert answer((5, 7)) == 6


def test_misspelt_name_gets_the_nearest():
    assert "there is standardize_rows" in text(hint("standardise_rows"))
    assert "count_means" not in text(solution("standardise_rows"))


def test_failure_of_the_checker_is_owned():
    def _none():
        yield "no numbers", (object(), 1 / 0)

    EXERCISES["count_means"] = Exercise(count_means, _none, ("count",), ("a", "b", "c"))
    assert "the checker failed with ZeroDivisionError" in text(answered(lambda shape: 1, "count_means"))


def test_report_has_twelve_lines_at_most_and_keeps_the_reasons():
    report = Report("f", "wrong", tuple(f"output {k} " * 20 for k in range(30)), tuple(f"reason {k}" for k in range(4)))
    lines = repr(report).splitlines()
    assert len(lines) == 12 and lines[-1] == "  reason 3" and "  ..." in lines
    assert max(map(len, lines)) <= 104


# torch


def test_torch_functions_are_checked_as_numpy_ones():
    torch = pytest.importorskip("torch")

    def _tensors():
        generator = torch.Generator().manual_seed(0)
        yield "small", (torch.randn(3, 2, generator=generator),)
        yield "with gradient", (torch.randn(4, 5, generator=generator, dtype=torch.float64).requires_grad_(),)

    def twice(x):
        """Twice x, and its sum."""
        return 2 * x, x.sum()

    toy = Exercise(twice, _tensors, ("y", "total"), ("a", "b", "c"), mistakes={"not twice": {"2 * x": "x"}})
    assert toy.check(twice)
    assert toy.check(lambda x: (2 * x.detach().numpy(), float(x.sum())))
    assert "y is 0.5 times" not in repr(toy.check(lambda x: (x, x.sum())))
    assert toy.check(lambda x: (x, x.sum())).mistakes == ("not twice",)
    assert "it changes its argument x" in repr(toy.check(lambda x: (x.detach().mul_(2), x.detach().sum() / 2)))
    assert to_array(torch.ones(2, dtype=torch.bfloat16)).tolist() == [1, 1]
    assert to_array([torch.ones(2, requires_grad=True)]).shape == (1, 2)


# hints, solutions, cases


def test_hints_come_in_three_steps():
    shown = [repr(hint("standardize_rows")) for _ in range(4)]
    assert shown[0] == ("→ standardize_rows: hint 1 of 3\n  what breaks: it breaks\n"
                        '  next: hint("standardize_rows") again')
    assert shown[1].splitlines()[1:3] == ["  what breaks: it breaks", "  which path: this path"]
    assert shown[2].splitlines()[3:] == ["  which equation: that equation",
                                         '  that was the last; solution("standardize_rows") shows how']
    assert shown[3] == shown[2]


def test_hints_after_a_recognised_mistake_are_about_it():
    hint("standardize_rows")
    answered(edited(ROWS, ROWS.mistakes[NO_EPS]))
    assert "eps stands beside the variance" in repr(hint("standardize_rows"))
    answered(edited(ROWS, ROWS.mistakes[NO_EPS]))  # the same again: the hints go on
    assert "equation (2.1)" in repr(hint("standardize_rows"))
    answered(edited(ROWS, ROWS.mistakes["gamma is missing"]))  # has no steps of its own: back to the general ones
    again = repr(hint(standardize_rows)).splitlines()
    assert again[:2] == ["→ standardize_rows: hint 1 of 3", "  what breaks: it breaks"]


def test_solution_is_folded_html_and_plain_text():
    shown = solution("standardize_rows")
    assert repr(shown).startswith("def standardize_rows(x, gamma, eps=1e-5):")
    page = shown._repr_html_()
    assert page.startswith('<details class="solution"><summary>Solution</summary>') and page.endswith("</details>")
    assert "<pre>" in page and "<script" not in page


def test_solution_is_escaped_also_without_pygments(monkeypatch):
    monkeypatch.setitem(sys.modules, "pygments", None)
    shown = public.Solution("if a < b and '<script>':\n    pass")
    assert "if a &lt; b and &#x27;&lt;script&gt;&#x27;" in shown._repr_html_()


def test_case_gives_named_arguments_to_call_with():
    first = case("standardize_rows", 1)
    assert standardize_rows(*first)[1] == [2.5]
    assert repr(first).startswith("x = array([[1.],") and "gamma = array([2.])" in repr(first)
    first[0][:] = 0
    assert case("standardize_rows", 1)[0].any()  # made anew each time


def test_case_that_is_not_there_is_a_clear_error():
    with pytest.raises(ValueError, match="standardize_rows has the cases 1 to 4; there is no case 5"):
        case("standardize_rows", 5)
    with pytest.raises(ValueError, match="no exercise has this name"):
        case("nothing", 1)


def test_exercise_registers_under_its_name_and_refuses_a_second_of_another_module():
    def count_means(shape):
        """Again."""
        return shape[1]

    register = exercise(cases=_counts, outputs=("count",), hints=("a", "b", "c"))
    assert register(count_means) is count_means and EXERCISES["count_means"].solution is count_means
    elsewhere = _in_chapter("count_means", 42).solution
    with pytest.raises(ValueError, match="ch42.exercises and .* both have an exercise count_means"):
        register(elsewhere)
    with pytest.raises(ValueError, match="hints a tuple of three lines"):
        exercise(cases=_counts, outputs=("count",), hints=("a", "b"))(standardize_rows)


# progress


def _in_chapter(function, number):
    def copy_of(shape):
        """A copy."""
        return shape[1]

    copy_of.__name__, copy_of.__module__ = function, f"course_lib.chapters.ch{number:02}.exercises"
    return Exercise(copy_of, _counts, ("count",), ("a", "b", "c"))


@pytest.fixture
def chapters():
    EXERCISES.clear()
    EXERCISES.update({name: _in_chapter(name, k) for name, k in [("one", 1), ("two", 4), ("three", 4)]})


def test_progress_lists_done_and_open_by_chapter(chapters):
    assert repr(progress()).splitlines() == [
        "chapter 1: 0 of 1, open: one", "chapter 4: 0 of 2, open: two, three", "0 of 3 exercises done"]
    assert "2 cases; chapter 4: 1 of 2" in repr(answered(lambda shape: shape[1], "two"))
    answered(lambda shape: shape[1], "one")
    assert repr(progress()) == "chapter 1: 1 of 1\nchapter 4: 1 of 2, open: three\n2 of 3 exercises done"


def test_wrong_answer_is_not_progress_and_takes_none_away(chapters):
    answered(lambda shape: shape[0], "two")
    assert "0 of 3" in progress()
    answered(lambda shape: shape[1], "two")
    answered(lambda shape: shape[0], "two")
    assert "1 of 3" in progress()


def test_progress_survives_a_restart(chapters, monkeypatch):
    answered(lambda shape: shape[1], "two")
    monkeypatch.setattr(record, "_here", set())  # what a new kernel knows
    assert "1 of 3" in progress()


def test_progress_is_read_by_another_process(chapters, tmp_path):
    answered(lambda shape: shape[1], "two")
    code = "from course_lib.exercises import record; print(record.names())"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "{'two'}"


@pytest.mark.parametrize("broken", [
    "", "{", '{"two": 1}', "null", "[1, null, [2]]", "\x00\x01", "[" * 100_000, '["gone"]'])
def test_broken_file_counts_as_empty_and_is_written_anew(chapters, broken):
    record.file().write_text(broken)
    assert "0 of 3" in progress()
    assert check(EXERCISES["two"].solution)
    assert "two" in json.loads(record.file().read_text()) and "1 of 3" in progress()


def test_file_of_other_bytes_counts_as_empty(chapters):
    record.file().write_bytes(b"\xff\xfe\x80")
    assert "0 of 3" in progress()


def test_file_that_cannot_be_written_loses_only_the_note(chapters, monkeypatch, tmp_path):
    (tmp_path / "a file").write_text("")
    for place in (tmp_path / "a file" / "progress.json", tmp_path):  # below a file; a folder
        monkeypatch.setenv("NORM_COURSE_PROGRESS", str(place))
        report = check(EXERCISES["two"].solution)
        assert report and "not saved:" in text(report) and "cannot be written" in text(report)
        assert "1 of 3" in progress()  # for this session it counts


def test_read_only_folder_loses_only_the_note(chapters, monkeypatch, tmp_path):
    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "replace", refuse)  # as root, which tests may be, a folder cannot be made read-only
    report = check(EXERCISES["two"].solution)
    assert report and "(Permission denied)" in text(report)
    assert list(tmp_path.iterdir()) == []  # no temporary file is left


def test_progress_file_lies_beside_the_notebook_unless_moved(monkeypatch, tmp_path):
    monkeypatch.delenv("NORM_COURSE_PROGRESS")
    monkeypatch.chdir(tmp_path)
    check(standardize_rows)
    assert json.loads((tmp_path / "progress.json").read_text()) == ["standardize_rows"]
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("NORM_COURSE_PROGRESS", "~/drive/progress.json")
    assert record.file() == tmp_path / "home/drive/progress.json"


def test_engine_needs_numpy_only():
    code = ("import sys\n"
            "for name in ('torch', 'matplotlib', 'sklearn', 'pygments', 'IPython'): sys.modules[name] = None\n"
            "import course_lib.exercises as e\n"
            "name = next(name for name, each in e.EXERCISES.items() if 'torch' not in each.source)\n"
            "print(e.check(e.EXERCISES[name].solution).state, e.solution(name)._repr_html_()[:8])")
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "right <details"
