"""Every exercise is checked: its solution, its mistakes, its laws, its hints, and answers in other styles.

Right answers in other styles live beside these tests, in answers_chNN.py, one module a chapter:

    STYLES = {"name of the exercise": [function, function, function, ...]}       three or more each
    EQUIVALENT = {"name of the exercise": {"mutant": "why nothing can tell it"}}  see test_mutants.py
"""

import ast
import dataclasses
import functools
import importlib
import importlib.util
import inspect
import itertools
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest

from course_lib.exercises import EXERCISES, check, hint, solution
from course_lib.exercises.engine import Exercise, first_line
from course_lib.exercises.mistakes import edited

ROOT = Path(__file__).resolve().parents[2]
FINISHED = sorted(int(path.name[:2]) for path in (ROOT / "notebooks").glob("[0-9][0-9]_*.md"))
EACH = [pytest.param(each, id=f"ch{each.chapter:02}-{each.name}") for each in EXERCISES.values()]
MISTAKES = [pytest.param(each, key, id=f"ch{each.chapter:02}-{each.name}-{first_line(key)[:40]}")
            for each in EXERCISES.values() for key in each.mistakes]
LAWS = [pytest.param(each, law, id=f"ch{each.chapter:02}-{each.name}-{law[:40]}")
        for each in EXERCISES.values() for law in each.laws]


def styles(exercise):
    """Answers of the chapter's author in other styles than the solution."""
    module = f"answers_ch{exercise.chapter:02}"
    assert importlib.util.find_spec(module), f"write tests/chapters/{module}.py, with STYLES and EQUIVALENT"
    return importlib.import_module(module).STYLES.get(exercise.name, [])


@pytest.mark.parametrize("chapter", FINISHED)
def test_finished_chapter_has_three_exercises_or_more(chapter):
    assert len([each for each in EXERCISES.values() if each.chapter == chapter]) >= 3


def test_exercises_belong_to_finished_chapters():
    assert EXERCISES
    assert {each.chapter for each in EXERCISES.values()} <= set(FINISHED)


@pytest.mark.parametrize("exercise", EACH)
def test_solution_is_right(exercise):
    report = check(exercise.solution)
    assert report and report.state == "right", report


@pytest.mark.parametrize("exercise", EACH)
def test_solution_has_numbers_for_outputs_and_changes_nothing(exercise):
    for _, _, right in exercise.tried:
        assert not right.error and not right.changed and not right.said
        assert len(right.outputs) == len(exercise.outputs)
        assert all(isinstance(output, np.ndarray) for output in right.outputs)
        assert sum(output.size for output in right.outputs) < 10_000  # cases are small: a browser checks them too


@pytest.mark.parametrize("exercise", EACH)
def test_cases_are_two_or_more_and_the_same_each_time(exercise):
    labels = [label for label, _ in exercise.cases()]
    assert len(set(labels)) == len(labels) >= 2
    again = Exercise(exercise.solution, exercise.cases, exercise.outputs, exercise.hints)
    for (label, args, right), (old_label, old_args, old_right) in zip(again.tried, exercise.tried, strict=True):
        assert label == old_label and len(args) == len(old_args)
        assert all(map(np.array_equal, right.outputs, old_right.outputs))  # the same seeds, so the same numbers


@pytest.mark.parametrize("exercise", EACH)
def test_exercise_has_four_mistakes_a_law_and_three_hints(exercise):
    assert len(exercise.mistakes) >= 4 and len(exercise.laws) >= 1
    for steps in [exercise.hints, *(key for key in exercise.mistakes if not isinstance(key, str))]:
        assert len(steps) == 3 and all(step.strip() for step in steps)


@pytest.mark.parametrize("exercise", [each for each in EACH if each.values[0].chapter in (1, 4)])
def test_three_mistakes_or_more_have_three_steps_and_hint_goes_on_with_them(exercise):
    own = [key for key in exercise.mistakes if not isinstance(key, str)]
    assert len(own) >= 3
    for key in own:
        check(edited(exercise, exercise.mistakes[key]), exercise.name)
        second, third = (" ".join(repr(hint(exercise.name)).split()) for _ in range(2))
        assert f"hint 2 of 3 the mistake: {key[0]} think: {key[1]} next:" in second
        assert f"think: {key[1]} where: {key[2]} that was the last" in third


@functools.cache
def checked(name, key):
    """The report on a mistake."""
    return EXERCISES[name].check(edited(EXERCISES[name], EXERCISES[name].mistakes[key]))


@pytest.mark.parametrize("exercise, key", MISTAKES)
def test_mistake_is_rejected_with_its_own_hint_and_no_other(exercise, key):
    report = checked(exercise.name, key)
    assert not report and report.state == "wrong"
    assert report.mistakes == (key,), report


@pytest.mark.parametrize("exercise, key", MISTAKES)
def test_feedback_is_short_and_keeps_the_solution_to_itself(exercise, key):
    report = checked(exercise.name, key)
    lines = repr(report).splitlines()
    assert len(lines) <= 12 and max(map(len, lines)) <= 104
    assert first_line(key)[:30] in " ".join(line.strip() for line in lines)
    for line in exercise.code.splitlines()[1:]:
        assert len(line.strip()) < 8 or line.strip() not in repr(report)  # shorter lines may occur by chance


@pytest.mark.parametrize("exercise", EACH)
def test_first_check_is_quick_also_of_an_answer_that_nothing_explains(exercise):
    def unknown(*args):
        outputs = exercise.solution(*args)
        return tuple(1.01 * each + 0.1 for each in outputs) if len(exercise.outputs) > 1 else 1.01 * outputs + 0.1

    exercise.check(exercise.solution)  # imports what the cases need
    for answer in (unknown, exercise.solution):
        new = dataclasses.replace(exercise)  # as for a learner who checks for the first time
        start = time.process_time()
        report = new.check(answer)
        assert time.process_time() - start < 0.3
        assert bool(report) == (answer is exercise.solution) and not report.mistakes


@pytest.mark.parametrize("exercise", EACH)
def test_two_mistakes_together_are_recognised(exercise):
    both = total = 0
    for pair in itertools.pairwise(exercise.mistakes):
        try:
            answer = edited(exercise, *(exercise.mistakes[key] for key in pair))
        except (ValueError, SyntaxError):
            continue  # these two change the same words
        report = exercise.check(answer)
        assert report.mistakes, report
        both, total = both + (set(report.mistakes) == set(pair)), total + 1
    assert both >= 0.5 * total  # in some pairs one mistake hides the other


@pytest.mark.parametrize("exercise, law", LAWS)
def test_law_holds_for_the_solution_and_fails_when_noise_is_added(exercise, law):
    holds, rng = exercise.laws[law], np.random.default_rng(0)
    assert all(holds(args, right.outputs) for _, args, right in exercise.tried)
    noisy = [(args, [_disturbed(output, rng) for output in right.outputs]) for _, args, right in exercise.tried]
    assert not all(holds(args, outputs) for args, outputs in noisy)


def _disturbed(output, rng):
    if output.dtype.kind in "biu":
        return output.astype(int) + rng.integers(1, 5, output.shape)
    return (output + rng.normal(size=output.shape) * (1 + np.abs(output))).astype(output.dtype)


@pytest.mark.parametrize("exercise", EACH)
def test_right_answers_in_three_other_styles_are_accepted(exercise):
    answers = styles(exercise)
    assert len({_source(answer) for answer in answers}) >= 3
    for answer in answers:
        report = exercise.check(answer)
        assert report, f"{answer.__name__}: {report}"


def _source(function):
    return textwrap.dedent(inspect.getsource(function))


@pytest.mark.parametrize("exercise", EACH)
def test_right_answers_are_accepted_with_any_seed_of_the_cases(exercise):
    for seed in (1, 2, 3, 4567, 9999):
        tried = exercise.tried_again(seed)
        assert [label for label, _, _ in tried] == [label for label, _, _ in exercise.tried], "cases take a seed"
        for answer in [exercise.solution, *styles(exercise)]:
            assert exercise.accepts(answer, tried), f"{answer.__name__}, seed {seed}"
        assert any(not np.array_equal(new.outputs[0], old.outputs[0])
                   for (_, _, new), (_, _, old) in zip(tried, exercise.tried))


@pytest.mark.parametrize("exercise", EACH)
def test_layer_at_work_learns_with_the_solution(exercise):
    if exercise.at_work:
        losses = exercise.at_work(exercise.solution).losses
        assert np.mean(losses[-20:]) < 0.5 * losses[0]


@pytest.mark.parametrize("exercise", EACH)
def test_hints_come_one_after_another(exercise):
    shown = []
    check(exercise.solution)
    for _ in range(3):
        shown.append(repr(hint(exercise.name)))
        assert len(shown[-1].splitlines()) <= 12
    assert [len(text) for text in shown] == sorted(len(text) for text in shown)
    assert all(" ".join(step.split())[:40] in " ".join(shown[-1].split()) for step in exercise.hints)


@pytest.mark.parametrize("exercise", EACH)
def test_solution_shown_is_the_function_that_is_tested(exercise):
    shown = solution(exercise.name)
    scope = dict(exercise.solution.__globals__)
    exec(str(shown), scope)
    assert exercise.accepts(scope[exercise.name])
    assert shown._repr_html_().startswith("<details") and "@exercise" not in shown
    assert ast.get_docstring(ast.parse(str(shown)).body[0]), "the docstring is the task in a line"
