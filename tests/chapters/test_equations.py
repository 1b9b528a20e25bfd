"""Every displayed equation of a chapter has a number, and a test that names it."""

import re

import collect
import pytest
from chapter import chapters

CHAPTERS = [pytest.param(each, id=each.name) for each in chapters()]


def numbers(chapter):
    return [number for number, _ in chapter.equations]


def test_there_are_chapters():
    assert CHAPTERS


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_displayed_equations_are_numbered_in_order(chapter):
    assert all(len(found) == 1 for found, _ in chapter.displayed), "each displayed equation has one tag"
    assert numbers(chapter) == [f"{chapter.number}.{k}" for k in range(1, len(numbers(chapter)) + 1)]


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_displayed_equations_are_tested(chapter):
    missing = set(numbers(chapter)) - set(collect.tests_by_equation())
    assert not missing, f"no test's docstring names equation {sorted(missing)}"


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_equations_that_the_text_refers_to_exist(chapter):
    referred = set(re.findall(r"(?<!tag\{)\((\d+\.\d+)\)", chapter.prose))
    assert not {n for n in referred if n.split(".")[0] == str(chapter.number)} - set(numbers(chapter))


def test_tests_name_only_equations_that_exist():
    existing = {number for each in chapters() for number in numbers(each)}
    assert not set(collect.tests_by_equation()) - existing
