"""Every displayed equation of a chapter has a number, and a test that names it."""

import re
from itertools import chain
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
course_equations = pytest.importorskip("course_equations", reason="needs Sphinx (requirements.txt)")

CHAPTERS = sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.md"))


def prose(path):
    """A chapter's text without its code cells."""
    return course_equations.FENCE.sub("", path.read_text(encoding="utf8"))


def tags(path):
    """For each displayed formula of a chapter, the numbers that stand in it."""
    return [course_equations.TAG.findall(formula) for formula in course_equations.DISPLAY.findall(prose(path))]


def test_there_are_chapters():
    assert CHAPTERS


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda p: p.stem)
def test_displayed_equations_are_numbered_in_order(path):
    numbers = tags(path)
    assert all(len(found) == 1 for found in numbers), "each displayed equation has one tag"
    chapter = int(path.stem[:2])
    assert [n for (n,) in numbers] == [f"{chapter}.{k}" for k in range(1, len(numbers) + 1)]


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda p: p.stem)
def test_displayed_equations_are_tested(path):
    missing = set(chain(*tags(path))) - set(course_equations.tests_by_equation())
    assert not missing, f"no test's docstring names equation {sorted(missing)}"


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda p: p.stem)
def test_equations_that_the_text_refers_to_exist(path):
    own = set(chain(*tags(path)))
    chapter = str(int(path.stem[:2]))
    referred = {n for n in re.findall(r"(?<!tag\{)\((\d+\.\d+)\)", prose(path))}
    assert not {n for n in referred if n.split(".")[0] == chapter} - own


def test_tests_name_only_equations_that_exist():
    existing = set(chain(*(number for path in CHAPTERS for number in tags(path))))
    assert not set(course_equations.tests_by_equation()) - existing
