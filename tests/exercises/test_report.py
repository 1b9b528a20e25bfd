"""What the learner gets to see: in text, in a notebook, on the site; the time limit; the layer at work."""

import html.parser
import threading
import time

import numpy as np
import pytest

import course_lib.exercises as public
from course_lib.exercises import EXERCISES, at_work, check, hint, record, running
from course_lib.exercises.engine import Exercise
from course_lib.exercises.report import Report
from course_lib.exercises.work import Layer, backward_of, loss_and_gradients, train_with
from course_lib.norms import batch_norm

HINTS = ("column means are <0>", "the mean runs over axis 0", "(4.15) and (4.16)")


def _cases():
    yield "by hand", (np.array([[1.0], [3.0]]),)
    yield "larger", (np.arange(60.0).reshape(12, 5),)


def center(x):
    """The columns of x without their means; x is (N, D)."""
    return x - x.mean(axis=0)


def halve(x):
    """Half of x."""
    return x / 2


CENTER = Exercise(center, _cases, ("y",), HINTS, mistakes={
    ("the <mean> is missing", "by the mean", "(4.17)"): {" - x.mean(axis=0)": ""}},
    at_work=lambda answer: f"at work: {answer.__name__}")


@pytest.fixture(autouse=True)
def toys(monkeypatch, tmp_path):
    kept = dict(EXERCISES)
    EXERCISES.clear()
    EXERCISES.update({"center": CENTER, "halve": Exercise(halve, _cases, ("y",), HINTS)})
    monkeypatch.setattr(record, "_here", set())
    monkeypatch.setattr(public, "_right", {})
    monkeypatch.setattr(public, "_steps", {})
    monkeypatch.setenv("NORM_COURSE_PROGRESS", str(tmp_path / "progress.json"))
    yield
    EXERCISES.clear()
    EXERCISES.update(kept)


class _Page(html.parser.HTMLParser):
    """Tags that open and close in order, and the text."""

    def __init__(self, page):
        super().__init__()
        self.open, self.links, self.text, self.tags = [], [], "", []
        self.feed(page)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.open.append(tag)
        self.links += [value for name, value in attrs if name == "href"]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


# the report in a notebook


def test_got_and_expected_stand_side_by_side():
    page = _Page(check(lambda x: x + 1 - x.mean(axis=0), "center")._repr_html_())
    assert page.tags.count("table") == 1 and page.tags.count("tr") == 3
    assert "gotexpectedy[0, 0]0-1y[1, 0]21off by 1.0e+00; 2 of 2 values differ" in page.text


def test_state_is_told_by_mark_and_word_and_not_by_colour_alone():
    for answer, words in ((center, "✓ center: right"), (lambda x: x, "✗ center: wrong")):
        page = check(answer, "center")._repr_html_()
        assert words in _Page(page).text and "border-left: 4px solid #" in page


def test_text_takes_its_colour_from_the_page_so_that_it_is_legible_in_the_dark():
    page = check(lambda x: x + 1, "center")._repr_html_()
    assert "color: inherit" in page and "color: black" not in page and "background: white" not in page


def test_hints_unfold_one_inside_the_other_and_equations_are_links():
    page = _Page(check(lambda x: 2 * x, "center")._repr_html_())
    assert page.tags.count("details") == page.tags.count("summary") == 3
    assert page.links == ["#equation-4.15", "#equation-4.16"]
    assert page.text.index("what breaks") < page.text.index("which path") < page.text.index("which equation")


def test_hints_after_a_recognised_mistake_are_its_own_from_the_second_on():
    page = _Page(check(lambda x: x, "center")._repr_html_())
    assert "mistake: the <mean> is missing" in page.text and page.links == ["#equation-4.17"]
    assert "Hint: thinkby the meanHint: where(4.17)" in page.text and "column means" not in page.text


def test_what_an_answer_says_is_escaped():
    def center(x):
        print("<script>alert(1)</script>")
        raise ValueError("<img src=x onerror=alert(2)>")

    page = check(center)._repr_html_()
    assert "<script" not in page and "<img" not in page and "&lt;script&gt;" in page and "&lt;img" in page
    assert "<b>" not in Report("<b>", "wrong", ("<b>",), ("<b>",), (), "<b>", ("<b>",) * 3)._repr_html_()


def test_page_of_an_exercise_not_started_has_no_command_but_its_hints():
    """The site prints it below the stub, where there is no prompt."""
    def center(x):
        ...

    report = check(center)
    page = _Page(report._repr_html_())
    assert "not started" in page.text and 'hint("center")' not in page.text
    assert page.tags.count("details") == 3 and "column means are <0>" in page.text
    assert 'hint("center")' in repr(report)


def test_plain_text_has_no_markup():
    assert "<div" not in repr(check(lambda x: 2 * x, "center")) + repr(hint("center"))


def test_small_arguments_of_the_failing_case_are_shown_and_large_ones_not():
    assert "with x = [[1.], [3.]]" in repr(check(lambda x: 2 * x, "center"))
    assert "with x" not in repr(check(lambda x: center(x) if len(x) == 2 else x, "center"))
    assert "; the other cases are right" in repr(check(lambda x: center(x) if len(x) == 2 else x, "center"))


# after a right answer


def test_right_answer_names_the_next_open_exercise_and_offers_the_layer_at_work():
    report = repr(check(center))
    assert report.splitlines()[1:] == ["  2 cases; other exercises: 1 of 2",
                                       '  at_work("center") trains a small net with your function', "  next: halve"]
    assert "next" not in repr(check(halve)) and "at_work" not in repr(check(halve))


def test_last_exercise_is_followed_by_the_first_that_is_open():
    assert "next: center" in repr(check(halve))


def test_layer_at_work_is_the_learners_own_function():
    def mine(x):
        return center(x)

    check(mine, "center")
    assert at_work("center") == "at work: mine"


def test_layer_at_work_says_what_is_missing():
    assert "first check(center) must say right" in repr(at_work("center"))
    check(lambda x: x, "center")
    assert "must say right" in repr(at_work("center"))
    assert "this exercise has none; there is center" in repr(at_work("halve"))
    assert "no exercise has this name" in repr(at_work("nothing"))


def test_error_of_a_layer_at_work_is_told_and_not_raised():
    check(center)
    EXERCISES["center"] = Exercise(center, _cases, ("y",), HINTS, at_work=lambda answer: 1 / 0)
    assert "ZeroDivisionError" in repr(at_work("center"))


def _layer():
    return Layer(lambda x, gamma, beta: batch_norm(x, gamma, beta)[0], backward_of(batch_norm))


def test_gradients_of_the_small_net_are_those_of_its_loss():
    rng = np.random.default_rng(0)
    net = [{"weight": rng.standard_normal(shape), "gamma": rng.standard_normal(shape[1]),
            "beta": rng.standard_normal(shape[1])} for shape in ((2, 4), (4, 3), (3, 2))]
    x, labels = rng.standard_normal((9, 2)), rng.integers(2, size=9)
    _, gradients = loss_and_gradients(_layer(), net, x, labels)
    for number, part in enumerate(net):
        for name in part:
            direction = rng.standard_normal(part[name].shape)
            moved = [loss_and_gradients(_layer(), [*net[:number], {**part, name: part[name] + h * direction},
                                                   *net[number + 1 :]], x, labels)[0] for h in (-1e-5, 1e-5)]
            slope = (moved[1] - moved[0]) / 2e-5
            assert np.isclose(slope, np.sum(gradients[number][name] * direction), rtol=1e-5, atol=1e-8)


def test_small_net_learns_with_a_right_layer_and_draws_its_loss():
    shown = train_with(_layer())
    assert shown.losses[0] > 0.4 and np.mean(shown.losses[-20:]) < 0.1
    page = _Page(shown._repr_html_())
    assert {"svg", "polyline"} <= set(page.tags) and "of 500 new points" in page.text
    assert "currentColor" in shown._repr_html_()


# the time limit


@pytest.fixture
def short(monkeypatch):
    monkeypatch.setattr(running, "LIMIT", 0.1)


def test_endless_loop_ends_with_a_message_of_its_own(short):
    calls = []

    def center(x):
        calls.append(x)
        while True:
            x = x + 1

    start = time.perf_counter()
    report = check(center)
    assert time.perf_counter() - start < 5
    found = " ".join(repr(report).split())
    assert "no result after 0.1 seconds: a loop without an end? it was at line" in found and "raised" not in found
    assert len(calls) == 1  # the other cases would take as long


def test_loop_that_catches_exceptions_and_a_nap_end_too(short):
    def caught(x):
        while True:
            try:
                for _ in range(10**6):
                    x = x + 1
            except Exception:
                pass

    for answer in (caught, lambda x: time.sleep(10)):
        assert "no result after 0.1 seconds" in repr(check(answer, "center"))


def test_case_that_fails_before_the_endless_one_is_told_first(short):
    def center(x):
        while len(x) > 2:
            pass
        return x

    assert "case 1 of 2" in repr(check(center)) and "no result" not in repr(check(center))


def test_time_limit_leaves_an_alarm_of_others_as_it_was(short):
    signal = running.signal
    before = signal.signal(signal.SIGALRM, signal.SIG_IGN)
    signal.setitimer(signal.ITIMER_REAL, 100)
    try:
        for answer in (lambda x: time.sleep(10), center):
            check(answer, "center")
            assert signal.getsignal(signal.SIGALRM) is signal.SIG_IGN and signal.getitimer(signal.ITIMER_REAL)[0] > 50
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_answers_are_judged_without_a_limit_where_there_is_none(monkeypatch):
    found = []
    thread = threading.Thread(target=lambda: found.append(check(center)))
    thread.start()
    thread.join()
    monkeypatch.delattr(running.signal, "setitimer")
    assert found[0] and check(center) and not check(halve, "center")


def test_slow_answer_is_not_tried_again_and_again(monkeypatch):
    monkeypatch.setattr(running, "SLOW", 0.002)
    calls = []

    def center(x):
        calls.append(time.process_time())
        while time.process_time() < calls[-1] + 0.004:
            pass
        return x

    report = check(center)
    assert len(calls) == 2 and report.state == "wrong" and not report.mistakes
