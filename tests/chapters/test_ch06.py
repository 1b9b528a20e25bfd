"""Chapter 6, what batch norm does, and where it breaks: each equation and each claim about numbers, by a way that is not the text's own."""

import pytest


def test_chapter_is_tested():
    pytest.fail("WRITE: here a test of each equation of chapter 6, `Equation (6.1)` in its docstring")
