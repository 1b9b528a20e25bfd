"""Chapter 12, norms in transformers: each equation and each claim about numbers, by a way that is not the text's own."""

import pytest


def test_chapter_is_tested():
    pytest.fail("WRITE: here a test of each equation of chapter 12, `Equation (12.1)` in its docstring")
