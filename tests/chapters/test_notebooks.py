"""Chapters and exercises fit together, and a notebook with its stubs filled in says right at every check.

The text notebooks/NN_name.md is what is read here; that the .ipynb twin says
the same, without outputs, is tested in test_twins.py.
"""

import ast

import jupytext
import numpy as np
import pytest
from chapter import ROOT, chapters
from nbclient import NotebookClient

from course_lib.exercises import EXERCISES

CHAPTERS = [pytest.param(each, id=each.name) for each in chapters()]
STUB_BODY = "    ...  # your code"


def of_chapter(chapter):
    return {name: each for name, each in EXERCISES.items() if each.chapter == chapter.number}


def stubs(chapter):
    """Each stub of a chapter by the name of its function, which must be that of an exercise."""
    found = dict(chapter.stubs)
    assert len(found) == len(chapter.stubs), f"two stubs have one name: {[name for name, _ in chapter.stubs]}"
    if unknown := [name for name in found if name not in EXERCISES]:
        where = f"course_lib/chapters/ch{chapter.number:02}/exercises.py"
        pytest.fail(f"the text has a stub of {', '.join(unknown)}, and no exercise: write it in {where}", pytrace=False)
    return found


def names_in(tree):
    """All names that a cell reads, writes, defines or imports."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            yield node.name
        elif isinstance(node, ast.alias):
            yield (node.asname or node.name).split(".")[0]


def test_there_are_chapters():
    assert CHAPTERS


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_chapter_has_one_stub_for_each_of_its_exercises(chapter):
    assert list(stubs(chapter)) == list(of_chapter(chapter)), "the same names, in the same order"


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_head_and_docstring_of_a_stub_are_those_of_the_solution(chapter):
    for name, cell in stubs(chapter).items():
        (stub,) = ast.parse(cell.source).body
        right = ast.parse(EXERCISES[name].source).body[0]
        assert ast.unparse(stub.args) == ast.unparse(right.args), name
        assert ast.get_docstring(stub, clean=False) == ast.get_docstring(right, clean=False), name
        assert cell.source.rstrip().splitlines()[-1] == STUB_BODY, name
        assert len(stub.body) == 2, f"{name}: a stub is a docstring and `...`"


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_stub_is_not_started(chapter):
    for name, cell in stubs(chapter).items():
        scope = {"np": np}
        exec(cell.source, scope)
        report = EXERCISES[name].check(scope[name])
        assert report.state == "not started" and len(repr(report).splitlines()) <= 3, report


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_stub_is_followed_by_its_check_and_its_folded_solution(chapter):
    cells = chapter.cells
    for name, stub in stubs(chapter).items():
        place = next(k for k, cell in enumerate(cells) if cell.source == stub.source)
        assert len(cells) > place + 2, f"after the stub of {name} come check({name}) and solution(\"{name}\")"
        check, solution = cells[place + 1 : place + 3]
        assert check.source == f"check({name})"
        assert solution.source == f'solution("{name}")' and "remove-input" in solution.tags


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_no_other_cell_uses_a_learners_name(chapter):
    learners = stubs(chapter)
    for cell in chapter.cells:
        if not cell.is_stub and cell.source not in {f"check({name})" for name in learners}:
            used = set(names_in(cell.tree)) & set(learners)
            assert not used, f"{used} in a cell of the chapter:\n{cell.source}"


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_filled_notebook_says_right_at_every_check(chapter, tmp_path, monkeypatch):
    """Solutions in place of stubs; nbval runs the whole chapter, here only set-up and exercise cells run."""
    monkeypatch.setenv("NORM_COURSE_PROGRESS", str(tmp_path / "progress.json"))
    nb = jupytext.reads(chapter.text, fmt="md:myst")
    nb.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    solutions = {cell.source: EXERCISES[name].source for name, cell in stubs(chapter).items()}
    for cell in nb.cells:
        if cell.cell_type == "code":
            cell.source = solutions.get(cell.source, cell.source)
    nb.cells = [cell for cell in nb.cells if cell.cell_type == "code" and (
        cell.source in solutions.values() or cell.source.startswith(("check(", "progress(")) or _sets_up(cell.source))]
    NotebookClient(nb, timeout=120, resources={"metadata": {"path": str(ROOT / "notebooks")}}).execute()
    said = [_shown(cell) for cell in nb.cells if cell.source.startswith("check(")]
    assert len(said) == len(of_chapter(chapter)) and all(text.startswith("✓") for text in said), said
    overview = [_shown(cell) for cell in nb.cells if cell.source == "progress()"]
    assert len(overview) == 1, "the list of exercises at the end has one cell with progress()"
    assert f"chapter {chapter.number}: {len(said)} of {len(said)}\n" in overview[0] + "\n"


def _sets_up(source):
    """The install cell and the one with the imports of the chapter."""
    return "notebook.setup()" in source or source.startswith("try:\n    import course_lib\n")


def _shown(cell):
    return "".join(output.data.get("text/plain", "") for output in cell.outputs if "data" in output)


def test_a_checker_that_accepts_everything_would_be_noticed():
    """The test above reads the kernel's own output: a wrong answer in place of a solution must show."""
    nb = jupytext.reads("```{code-cell} ipython3\nfrom course_lib.exercises import EXERCISES, check\n"
                        "name = next(iter(EXERCISES))\n"
                        "def wrong(*args): return 'nothing'\nwrong.__name__ = name\ncheck(wrong)\n```\n", fmt="md:myst")
    nb.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    NotebookClient(nb, timeout=60).execute()
    assert _shown(nb.cells[-1]).startswith("✗")
