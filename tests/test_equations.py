"""Every displayed equation of a chapter has a number, and a test that names it."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
CHAPTERS = sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.md"))
DISPLAY = re.compile(r"\$\$(.+?)\$\$", re.S)
TAG = re.compile(r"\\tag\{(\d+\.\d+)\}")


def displayed(path):
    """The displayed formulas of a chapter's text, code cells left out."""
    text = re.sub(r"```.*?```", "", path.read_text(encoding="utf8"), flags=re.S)
    return DISPLAY.findall(text)


def numbers_in_tests():
    """Numbers of the equations that docstrings of tests name, as `Equation (4.3)`."""
    for path in (ROOT / "tests").glob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf8"))):
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                named = ast.get_docstring(node) or ""
                for group in re.findall(r"Equations? (\([\d.]+\)(?:(?:,| and) \([\d.]+\))*)", named):
                    yield from re.findall(r"\d+\.\d+", group)


def test_there_are_chapters():
    assert CHAPTERS


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda p: p.stem)
def test_displayed_equations_are_numbered_in_order(path):
    numbers = [TAG.findall(formula) for formula in displayed(path)]
    assert all(len(found) == 1 for found in numbers), "each displayed equation has one tag"
    chapter = int(path.stem[:2])
    assert [n for (n,) in numbers] == [f"{chapter}.{k}" for k in range(1, len(numbers) + 1)]


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda p: p.stem)
def test_displayed_equations_are_tested(path):
    missing = {n for formula in displayed(path) for n in TAG.findall(formula)} - set(numbers_in_tests())
    assert not missing, f"no test's docstring names equation {sorted(missing)}"


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda p: p.stem)
def test_equations_that_the_text_refers_to_exist(path):
    text = path.read_text(encoding="utf8")
    own = set(TAG.findall(text))
    chapter = str(int(path.stem[:2]))
    referred = {n for n in re.findall(r"(?<!tag\{)\((\d+\.\d+)\)", re.sub(r"```.*?```", "", text, flags=re.S))}
    assert not {n for n in referred if n.split(".")[0] == chapter} - own


def test_tests_name_only_equations_that_exist():
    existing = {n for path in CHAPTERS for formula in displayed(path) for n in TAG.findall(formula)}
    assert not set(numbers_in_tests()) - existing
