"""Chapters and exercises fit together, and a notebook with its stubs filled in says right at every check.

The text notebooks/NN_name.md is what is read here; that the .ipynb twin says
the same, without outputs, is proven in test_twins.py.
"""

import ast
import re
from pathlib import Path

import jupytext
import numpy as np
import pytest
from nbclient import NotebookClient

from course_lib.exercises import EXERCISES

TEXTS = sorted((Path(__file__).resolve().parents[2] / "notebooks").glob("[0-9][0-9]_*.md"))
CHAPTERS = [pytest.param(path, id=path.stem) for path in TEXTS]
STUB_BODY = "    ...  # your code"


def code_cells(path):
    return [cell for cell in jupytext.read(path).cells if cell.cell_type == "code"]


def tags(cell):
    return cell.metadata.get("tags", [])


def stubs(path):
    """Each stub cell of a chapter, by the name of its function."""
    found = [cell for cell in code_cells(path) if "exercise" in tags(cell)]
    names = [ast.parse(cell.source).body[-1].name for cell in found]
    assert len(set(names)) == len(names), f"two stubs have one name: {names}"
    return dict(zip(names, found, strict=True))


def of_chapter(path):
    return {name: each for name, each in EXERCISES.items() if each.chapter == int(path.name[:2])}


def names_in(source):
    """All names that a cell reads, writes, defines or imports; lines of magic commands are left out."""
    lines = [line if not line.lstrip().startswith(("%", "!")) else line[: -len(line.lstrip())] + "pass"
             for line in source.splitlines()]
    for node in ast.walk(ast.parse("\n".join(lines))):
        if isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            yield node.name
        elif isinstance(node, ast.alias):
            yield (node.asname or node.name).split(".")[0]


def test_there_are_chapters():
    assert TEXTS


@pytest.mark.parametrize("path", CHAPTERS)
def test_chapter_has_one_stub_for_each_of_its_exercises(path):
    assert list(stubs(path)) == list(of_chapter(path)), "the same names, in the same order"
    assert len(stubs(path)) >= 3


@pytest.mark.parametrize("path", CHAPTERS)
def test_head_and_docstring_of_a_stub_are_those_of_the_solution(path):
    for name, cell in stubs(path).items():
        (stub,) = ast.parse(cell.source).body
        right = ast.parse(EXERCISES[name].source).body[0]
        assert ast.unparse(stub.args) == ast.unparse(right.args), name
        assert ast.get_docstring(stub, clean=False) == ast.get_docstring(right, clean=False), name
        assert cell.source.rstrip().splitlines()[-1] == STUB_BODY, name
        assert len(stub.body) == 2, f"{name}: a stub is a docstring and `...`"


@pytest.mark.parametrize("path", CHAPTERS)
def test_stub_is_not_started(path):
    for name, cell in stubs(path).items():
        scope = {"np": np}
        exec(cell.source, scope)
        report = EXERCISES[name].check(scope[name])
        assert report.state == "not started" and len(repr(report).splitlines()) <= 3, report


@pytest.mark.parametrize("path", CHAPTERS)
def test_stub_is_followed_by_its_check_and_its_folded_solution(path):
    cells = code_cells(path)
    for name, stub in stubs(path).items():
        place = next(k for k, cell in enumerate(cells) if cell.source == stub.source)
        check, solution = cells[place + 1 : place + 3]
        assert check.source == f"check({name})"
        assert solution.source == f'solution("{name}")' and "remove-input" in tags(solution)


@pytest.mark.parametrize("path", CHAPTERS)
def test_no_other_cell_uses_a_learners_name(path):
    learners = stubs(path)
    for cell in code_cells(path):
        if "exercise" not in tags(cell) and cell.source not in {f"check({name})" for name in learners}:
            used = set(names_in(cell.source)) & set(learners)
            assert not used, f"{used} in a cell of the chapter:\n{cell.source}"


@pytest.mark.parametrize("path", CHAPTERS)
def test_exercises_have_numbered_headings_each_with_a_stub_or_an_answer_to_unfold(path):
    _, *sections = re.split(r"^### (?=Exercise)", path.read_text(encoding="utf8"), flags=re.MULTILINE)
    for number, section in enumerate(sections, start=1):
        assert re.match(rf"Exercise {int(path.name[:2])}\.{number}: .+ \(★{{1,3}}\)\n", section), section[:60]
        section = re.split(r"^##? ", section, flags=re.MULTILINE)[0]
        stubs_here = section.count(":tags: [exercise]")
        assert stubs_here == 1 or (stubs_here == 0 and "<details>" in section), section[:60]


@pytest.mark.parametrize("path", CHAPTERS)
def test_filled_notebook_says_right_at_every_check(path, tmp_path, monkeypatch):
    monkeypatch.setenv("NORM_COURSE_PROGRESS", str(tmp_path / "progress.json"))
    nb = jupytext.read(path)
    nb.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    for cell in nb.cells:
        if "exercise" in tags(cell):
            cell.source = EXERCISES[ast.parse(cell.source).body[-1].name].source
    NotebookClient(nb, timeout=120, resources={"metadata": {"path": str(path.parent)}}).execute()
    said = [_shown(cell) for cell in nb.cells if cell.cell_type == "code" and cell.source.startswith("check(")]
    assert len(said) == len(of_chapter(path)) and all(text.startswith("✓") for text in said), said
    (overview,) = [_shown(cell) for cell in nb.cells if cell.cell_type == "code" and cell.source == "progress()"]
    assert f"chapter {int(path.name[:2])}: {len(said)} of {len(said)}\n" in overview + "\n"


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
