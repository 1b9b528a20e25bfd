"""Chapter 13, which norm, when, and none at all: each equation and each claim about numbers, by another way."""

import pytest


def test_chapter_is_tested():
    pytest.fail("WRITE: here a test of each equation of chapter 13, `Equation (13.1)` in its docstring")
