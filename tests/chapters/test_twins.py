"""The notebooks that readers run say what the chapters' texts say, and carry no outputs."""

from pathlib import Path

import nbformat
import pytest

import notebooks as tool

ROOT = Path(__file__).resolve().parents[2]

TEXTS = sorted((ROOT / "notebooks").glob("*.md"))


def test_every_notebook_has_a_text():
    assert TEXTS
    assert {p.stem for p in TEXTS} == {p.stem for p in (ROOT / "notebooks").glob("*.ipynb")}


@pytest.mark.parametrize("path", TEXTS, ids=lambda p: p.stem)
def test_notebook_is_what_its_text_says(path):
    notebook = path.with_suffix(".ipynb")
    assert notebook.exists() and notebook.read_text(encoding="utf8") == tool.twin(path), "run: make notebooks"


@pytest.mark.parametrize("path", TEXTS, ids=lambda p: p.stem)
def test_notebook_has_no_outputs_and_short_cells(path):
    assert path.with_suffix(".ipynb").exists(), "run: make notebooks"
    for cell in nbformat.read(path.with_suffix(".ipynb"), as_version=4).cells:
        if cell.cell_type == "code":
            assert cell.outputs == [] and cell.execution_count is None
            if "exercise" not in cell.metadata.get("tags", []):
                assert len(cell.source.splitlines()) <= 15, cell.source
