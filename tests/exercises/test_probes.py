"""What the checker can name in a wrong answer, what it must not say, and what it must not be fooled by."""

import functools
import re
import time
import types

import numpy as np
import pytest

from course_lib.exercises import EXERCISES, case
from course_lib.exercises.engine import Exercise
from course_lib.exercises.mistakes import edited

HINTS = ("it breaks", "this path", "that equation")


def _steps(seed=0):
    yield "by hand", (np.array([[1.0, 0.0], [3.0, 2.0], [5.0, 1.0]]), np.array([1.0, 2.0]), 0.5, 0.1)
    rng = np.random.default_rng(1 + seed)
    yield "5 samples, 4 features", (rng.normal(2, 1, (5, 4)), rng.normal(size=4), 0.25, 0.5)


def step(x, w, lr, eps):
    """A step of w along the normalized mean of x; x is (N, D), w is (D,)."""
    mu = x.mean(axis=0)
    return w - lr * mu / np.sqrt(x.var(axis=0) + eps)


STEP = Exercise(step, _steps, ("w_new",), HINTS, mistakes={"eps is missing": {" + eps": ""}, "the step goes uphill": {
    "w - lr": "w + lr"}})


def text(report):
    return " ".join(repr(report).split())


def said(answer, exercise=STEP):
    report = exercise.check(answer)
    assert report.state == "wrong"
    return text(report)


# it names


@pytest.mark.parametrize("answer, words", [
    (lambda x, w, lr, eps: step(x, w, 0.125, eps), "your result does not depend on lr"),
    (lambda x, w, lr, eps: step(x[:-1], w, lr, eps), "your result does not depend on x[-1], the last sample"),
    (lambda x, w, lr, eps: step(x[1:], w, lr, eps), "your result does not depend on x[0], the first sample"),
    (lambda x, w, lr, eps: step(x, 0 * w, lr, eps), "your result does not depend on w"),
])
def test_argument_without_effect_is_named(answer, words):
    assert words in said(answer)


def test_every_sample_has_an_effect_on_an_answer_that_is_wrong_otherwise():
    assert "not depend" not in said(lambda x, w, lr, eps: 1.1 * step(x, w, lr, eps))


def test_threshold_without_effect_is_named():
    def share_below(x, threshold):
        """Share of the samples below the threshold; x is (N, D)."""
        return (x < threshold).mean(axis=0)

    def cases():
        yield "one", (np.array([[0.1], [0.3], [0.9]]), 0.2)
        yield "two", (np.random.default_rng(0).uniform(size=(6, 2)), 0.4)

    toy = Exercise(share_below, cases, ("share",), HINTS)
    assert "your result does not depend on threshold" in said(lambda x, threshold: (x < 0.5).mean(axis=0), toy)


def test_of_several_outputs_the_one_without_effect_is_named():
    def both(x, eps):
        """Two things; x is (N, D)."""
        return x.var(axis=0) + eps, np.sqrt(x.var(axis=0) + eps)

    toy = Exercise(both, lambda: ((label, (x, eps)) for label, (x, _, _, eps) in _steps()), ("a", "b"), HINTS)
    assert "b does not depend on eps" in said(lambda x, eps: (both(x, eps)[0], 1.5 * x.std(axis=0)), toy)


def test_shapes_are_told_in_words():
    assert ("w_new has shape (3,); it must have (2,) that is one number per sample; one number per feature is asked for"
            in said(lambda x, w, lr, eps: x.mean(axis=1)))
    assert "that is one number for everything; one number per feature" in said(lambda x, w, lr, eps: x.mean())
    assert "one number per sample and feature; one" in said(lambda x, w, lr, eps: x - x.mean(axis=0))


def test_shape_of_many_axes_is_told_as_a_list():
    def images(x):
        """As it is; x is (N, C, H, W)."""
        return x

    cases = [("one", (np.ones((2, 3, 4, 5)),)), ("two", (np.ones((3, 2, 5, 6)),))]
    toy = Exercise(images, lambda: iter(cases), ("y",), HINTS)
    assert ("that is one number per channel; one number per sample, channel, row and column is asked for"
            in said(lambda x: x.mean(axis=(0, 2, 3)), toy))


def test_shape_without_letters_is_told_in_numbers_alone():
    found = said(lambda x, w, lr, eps: np.ones(7))
    assert "w_new has shape (7,); it must have (2,)" in found and "one number" not in found


def test_parameters_in_another_order_are_told():
    assert ("your parameters are in another order: they must be x, w, lr, eps"
            in said(lambda x, w, eps, lr: step(x, w, lr, eps)))
    assert ("it is right with lr and eps exchanged: which comes first?"
            in said(lambda x, w, lr, eps: step(x, w, eps, lr)))


def test_floor_division_is_named_as_such():
    def per_sample(x, w, lr, eps):
        total = x.sum(axis=0)
        return w - lr * (total // len(x)) / np.sqrt(x.var(axis=0) + eps)

    found = said(per_sample)
    assert "// rounds down to a whole number; / divides" in found and "mistake" not in found

    def in_place(x, w, lr, eps):
        total = x.sum(axis=0)
        total //= len(x)
        return w - lr * total / np.sqrt(x.var(axis=0) + eps)

    assert "// rounds down" in said(in_place)


def test_floor_division_that_is_not_the_reason_is_not_named():
    def half(x, w, lr, eps):
        return step(x, w, lr, eps) + len(x) // 1

    assert "//" not in said(half)


def test_mistake_of_a_sibling_is_named_when_its_hint_fits(monkeypatch):
    def root(x, eps):
        """A root; x is (N, D)."""
        return np.sqrt(x.var(axis=0) + eps)

    cases = lambda: ((label, (x, eps)) for label, (x, _, _, eps) in _steps())  # noqa: E731
    sibling = Exercise(root, cases, ("root",), HINTS, mistakes={
        "the variance divides by N": {"x.var(axis=0)": "x.var(axis=0, ddof=1)"},
        "(2.3) has no eps": {"x.var(axis=0) + eps": "x.var(axis=0) + 2 * eps"},
        "root is a square": {"np.sqrt": "np.square"}})
    monkeypatch.setitem(EXERCISES, "root", sibling)
    toy = Exercise(step, _steps, ("w_new",), HINTS, mistakes=STEP.mistakes)
    assert list(toy.siblings) == ["the variance divides by N"]  # the others speak of an equation, or of its output
    report = toy.check(edited(toy, {"x.var(axis=0)": "x.var(axis=0, ddof=1)"}))
    assert report.mistakes == ("the variance divides by N",) and "mistake: the variance divides by N" in text(report)


def test_pairs_of_mistakes_are_searched_by_count_however_slow_the_machine(monkeypatch):
    answer = edited(STEP, *({key: value} for each in STEP.mistakes.values() for key, value in each.items()))
    clock = iter(range(0, 10**9, 1000))
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
    assert STEP.check(answer).mistakes == tuple(STEP.mistakes)


def test_wrong_values_in_one_column_are_told():
    def center(x):
        """Without the means; x is (N, D)."""
        return x - x.mean(axis=0)

    toy = Exercise(center, lambda: ((label, args[:1]) for label, args in _steps()), ("y",), HINTS)
    spoilt = np.array([1, 0, 0, 0])
    assert "all wrong values lie in y[:, 0]" in said(lambda x: center(x) + spoilt[: x.shape[1]], toy)
    assert "lie in" not in said(lambda x: center(x) + np.eye(len(x))[:, : x.shape[1]], toy)
    narrow = Exercise(center, lambda: ((label, (args[0][:, :1],)) for label, args in _steps()), ("y",), HINTS)
    assert "lie in" not in said(lambda x: center(x) + np.sin(x), narrow)


def test_answer_of_which_nothing_is_known_is_told_where_to_begin():
    def powers(x, w, lr, eps):
        """Three powers."""
        return x, x**2, x**3

    toy = Exercise(powers, _steps, ("one", "two", "three"), HINTS)
    found = said(lambda x, *_: (x, x**2 + np.sin(x), x**3 + np.cos(x)), toy)
    assert "begin with two: it is the first that is wrong, and three may follow from it" in found
    more = [*_steps(), ("again", (np.eye(5), np.ones(5), 1.0, 1.0))]
    toy = Exercise(powers, lambda: iter(more), ("one", "two", "three"), HINTS)
    found = said(lambda x, *_: (x, x**2 + np.sin(x) * (len(x) == 5), x**3), toy)
    assert "right in case 1: what is different there?" in found and "begin" not in found
    toy = Exercise(powers, _steps, ("one", "two", "three"), HINTS)
    found = said(lambda x, *_: (x, x**2 + np.sin(x) * (len(x) == 5), x**3), toy)
    assert "the other cases are right" in found and "what is different" not in found


def test_infinite_arguments_are_probed_without_a_warning():
    def least(x, start):
        """The least; x is (n,)."""
        return np.min(x, initial=start)

    def cases():
        yield "one", (np.array([3.0, np.inf]), 9.0)
        yield "two", (np.array([np.inf, 4.0, np.nan]), 5.0)

    toy = Exercise(least, cases, ("least",), HINTS)
    assert "your result does not depend on x" in said(lambda x, start: start + 1, toy)


def test_infinite_value_is_no_reason_where_the_right_one_is_infinite_too():
    def least(x):
        """The least positive; x is (n,)."""
        return np.min(x[x > 0], initial=np.inf)

    cases = [(f"{x}", (np.array(x),)) for x in ([1.0, 2.0], [-1.0, -2.0, -3.0], [3.0, -1.0, 2.0, 5.0])]
    toy = Exercise(least, lambda: iter(cases), ("least",), HINTS)
    assert "infinite values" not in said(lambda x: np.max(x) if (x > 0).any() else np.inf, toy)
    assert "least has NaN or infinite values" in said(lambda x: np.inf, toy)


def test_nothing_is_said_to_depend_on_nothing_where_no_numbers_came_back():
    assert "depend" not in said(lambda x, w, lr, eps: (step(x, w, lr, eps), eps))  # a tuple of two
    assert "depend" not in said(lambda x, w, lr, eps: print(x))


def test_output_that_is_right_wherever_it_came_back_is_not_called_wrong():
    def both(x, w, lr, eps):
        """Two things."""
        return x.mean(axis=0), w

    toy = Exercise(both, _steps, ("mean", "w"), HINTS)
    assert "begin with" not in said(lambda x, w, lr, eps: (x.mean(axis=1) if len(x) < 5 else [][0], w), toy)


# it refuses no right answer


def test_array_that_unpacks_into_the_outputs_counts_as_these():
    def both(x, w, lr, eps):
        """Mean and variance."""
        return x.mean(axis=0), x.var(axis=0)

    toy = Exercise(both, _steps, ("mean", "var"), HINTS)
    assert toy.check(lambda x, *_: np.array([x.mean(axis=0), x.var(axis=0)]))
    assert "var[0] is" in said(lambda x, *_: np.array([x.mean(axis=0), x.std(axis=0)]), toy)
    assert "return 2 values" in said(lambda x, *_: np.ones(3), toy)


def test_type_is_checked_only_where_the_stub_asks_for_it():
    def cases():
        yield "float32", (np.arange(4, dtype=np.float32),)
        yield "more", (np.arange(5, dtype=np.float32),)

    def twice(x):
        """Twice x."""
        return 2 * x

    def twice_alike(x):
        """Twice x, of the type of x."""
        return 2 * x

    wide = lambda x: 2 * x.astype(float)  # noqa: E731
    assert Exercise(twice, cases, ("y",), HINTS).check(wide)
    assert "y is float64; it must be float32" in text(Exercise(twice_alike, cases, ("y",), HINTS).check(wide))


def test_type_too_short_for_the_values_is_named():
    assert "(float32 is too short)" in said(lambda x, w, lr, eps: step(x, w, lr, eps).astype(np.float32))


# it misleads nobody


def test_floor_is_not_called_a_lost_eps():
    """On the cases of this toy every variance is above eps."""
    def cases():
        for seed, size in ((0, 3), (1, 4)):
            yield f"{size} features", (3 * np.random.default_rng(seed).normal(size=(9, size)), 0.1)

    def inv_std(x, eps):
        """One over the standard deviation."""
        return 1 / np.sqrt(x.var(axis=0) + eps)

    toy = Exercise(inv_std, cases, ("inv_std",), HINTS, mistakes={"eps is missing": {" + eps": ""}})
    assert toy.check(lambda x, eps: 1 / x.std(axis=0)).mistakes == ("eps is missing",)
    floor = toy.check(lambda x, eps: 1 / np.sqrt(np.maximum(x.var(axis=0), eps)))
    assert floor.state == "wrong" and not floor.mistakes and "depend on eps" not in text(floor)
    named = Exercise(inv_std, cases, ("inv_std",), HINTS, mistakes=toy.mistakes | {
        "eps is no floor": {"x.var(axis=0) + eps": "np.maximum(x.var(axis=0), eps)"}})
    report = named.check(lambda x, eps: 1 / np.sqrt(np.maximum(x.var(axis=0), eps)))
    assert report.mistakes == ("eps is no floor",)


def test_no_law_is_told_after_an_exception():
    laws = {"w_new is w": lambda args, outputs: np.array_equal(args[1], outputs[0])}
    toy = Exercise(step, _steps, ("w_new",), HINTS, laws)
    found = said(lambda x, w, lr, eps: 1.5 * step(x, w, lr, eps) if len(x) == 5 else [][0], toy)
    assert "IndexError" in found and "must hold" not in found
    assert "must hold" in said(lambda x, w, lr, eps: 1.5 * step(x, w, lr, eps), toy)


def test_broken_law_names_the_output_that_breaks_it():
    def parts(x, w, lr, eps):
        """Three things."""
        return x.mean(axis=0), x.var(axis=0), (x**2).mean(axis=0)

    law = {"square is mean**2 + var": lambda args, outputs: np.allclose(outputs[2], outputs[0] ** 2 + outputs[1])}
    toy = Exercise(parts, _steps, ("mean", "var", "square"), HINTS, law)
    found = said(lambda x, *_: (x.mean(axis=0), x.std(axis=0) + 0.3, (x**2).mean(axis=0)), toy)
    assert "square is mean**2 + var" in found and "with the right" not in found  # one output is wrong: no choice
    laws = law | {"mean is no more than the largest": lambda args, outputs: np.all(outputs[0] <= args[0].max(axis=0))}
    toy = Exercise(parts, _steps, ("mean", "var", "square"), HINTS, laws)
    found = said(lambda x, *_: (x.max(axis=0) + 1, x.std(axis=0) + 0.3, (x**2).mean(axis=0)), toy)
    assert "mean is no more than the largest (with the right mean it does)" in found


# it is not fooled cheaply


def test_answer_that_knows_the_cases_by_heart_fails_on_other_values_of_the_same_shapes(monkeypatch):
    known = {args[0].tobytes(): right.outputs[0] for _, args, right in STEP.tried}

    def by_heart(x, w, lr, eps):
        return known.get(x.tobytes(), 0 * w)

    report = STEP.check(by_heart)
    assert report.state == "wrong"
    assert "case 2 of 2, with other values: 5 samples, 4 features" in text(report)
    number, seed = map(int, re.search(r'case\("step", (\d+), (\d+)\)', text(report)).groups())
    monkeypatch.setitem(EXERCISES, "step", STEP)
    args = case("step", number, seed)  # the case as it was made for this answer
    assert number == 2 and args[0].shape == (5, 4) and not np.array_equal(args[0], case("step", 2)[0])
    assert f"w_new[0] is 0, expected {step(*args)[0]:.6g}" in text(report)


def test_other_values_are_the_same_for_the_same_answer_and_others_for_another():
    seen = []

    def one(x, w, lr, eps):
        seen.append(x.copy())
        return step(x, w, lr, eps)

    assert STEP.check(one) and STEP.check(one)
    assert len(seen) == 8 and np.array_equal(seen[3], seen[7]) and not np.array_equal(seen[1], seen[3])
    twin = types.FunctionType(one.__code__.replace(co_consts=(*one.__code__.co_consts, 7)), one.__globals__, "one",
                              one.__defaults__, one.__closure__)
    assert STEP.check(twin)
    assert not np.array_equal(seen[3], seen[11])


def test_cases_without_a_seed_are_tried_once():
    calls = []

    def twice(x):
        """Twice."""
        return 2 * x

    toy = Exercise(twice, lambda: iter([("one", (1.0,)), ("two", (2.0,))]), ("y",), HINTS)
    assert toy.check(lambda x: calls.append(x) or 2 * x)
    assert calls == [1.0, 2.0]


def test_verdict_does_not_hang_on_what_a_notebook_does_to_numpy(monkeypatch):
    for name in ("isclose", "allclose", "array_equal", "abs", "equal"):
        monkeypatch.setattr(np, name, lambda *args, **kwargs: True)
    assert STEP.check(step)
    assert not STEP.check(lambda x, w, lr, eps: step(x, w, lr, eps) + 1)
    assert "changes its argument w in place" in said(lambda x, w, lr, eps: np.add(w, step(x, w, lr, eps) - w, out=w))


def test_right_value_with_an_infinite_or_missing_entry_is_compared_entry_by_entry():
    def odd(x):
        """Infinite, missing, and a number."""
        return np.array([np.inf, -np.inf, np.nan, x])

    toy = Exercise(odd, lambda: iter([("one", (1.0,)), ("two", (2.0,))]), ("y",), HINTS)
    assert toy.check(lambda x: odd(x))
    for wrong in ([np.inf, np.inf, np.nan, 1], [1, -np.inf, np.nan, 1], [np.inf, -np.inf, 0, 1]):
        assert not toy.check(lambda x, wrong=wrong: np.array(wrong) * [1, 1, 1, x])


# lambdas, partials, objects


class Callable:
    def __call__(self, x, w, lr, eps):
        return step(x, w, lr, eps)

    def method(self, x, w, lr, eps):
        return step(x, w, lr, eps)


@pytest.mark.parametrize("answer", [
    lambda x, w, lr, eps: step(x, w, lr, eps), functools.partial(lambda k, x, w, lr, eps: k * step(x, w, lr, eps), 1),
    Callable(), Callable().method, functools.cache(lambda *args: 1) and step,
])
def test_any_callable_is_checked_under_a_name(answer, monkeypatch):
    from course_lib.exercises import check

    monkeypatch.setitem(EXERCISES, "step", STEP)
    assert check(answer, "step")


def test_line_that_raised_is_found_inside_partials_and_objects():
    def breaks(k, x, w, lr, eps):
        return w[10**6]

    class Breaks:
        def __call__(self, x, w, lr, eps):
            return w[10**6]

    for answer in (functools.partial(breaks, 1), Breaks()):
        assert "return w[10**6]" in said(answer)


def test_stub_inside_a_partial_is_not_started_and_a_compiled_function_is_no_stub():
    def stub(k, x, w, lr, eps):
        ...

    assert STEP.check(functools.partial(stub, 1)).state == "not started"
    assert "it returns nothing" in said(print)
