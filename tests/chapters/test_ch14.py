"""Chapter 14, normalization on a GPU: each equation and each claim about numbers, by a way that is not the text's own."""

import pytest


def test_chapter_is_tested():
    pytest.fail("WRITE: here a test of each equation of chapter 14, `Equation (14.1)` in its docstring")
