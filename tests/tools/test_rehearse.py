"""The parts of the rehearsal of Colab; the rehearsal itself is `make rehearse`."""

import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
import rehearse
import repository

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))
BEFORE = {"numpy": "2.1.3", "torch": "2.11.0", "pip": "24.1.2"}


def loaded_from(folder, numpy="2.1.3", torch="2.11.0"):
    place = rehearse.site_packages(folder)
    return {"numpy": [f"{place}/numpy/__init__.py", numpy], "torch": [f"{place}/torch/__init__.py", torch],
            "course_lib": [f"{place}/course_lib/__init__.py", ""]}


def test_versions_have_a_date_and_a_source():
    text = rehearse.VERSIONS.read_text(encoding="utf8")
    assert re.search(r"\b20\d\d-\d\d-\d\d\b", text) and "googlecolab/backend-info" in text
    pins = [line for line in text.splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"[\w-]+==[\d.]+", line) for line in pins)
    assert {"numpy", "ipython", "ipykernel", "matplotlib"} <= {line.split("==")[0] for line in pins}


def test_fetched_package_is_all_right(tmp_path):
    after = BEFORE | {"course-lib": "0.1.0"}
    assert list(rehearse.differences(BEFORE, after, loaded_from(tmp_path), tmp_path)) == []


@pytest.mark.parametrize("after, words", [
    ({"numpy": "2.4.6"}, "numpy was 2.1.3 and is 2.4.6"),
    ({"torch": "2.13.0"}, "torch was 2.11.0 and is 2.13.0"),
    ({"threadpoolctl": "3.8.0"}, "threadpoolctl was missing and is 3.8.0"),
])
def test_package_that_the_first_cell_changed_is_named(tmp_path, after, words):
    assert list(rehearse.differences(BEFORE, BEFORE | after, loaded_from(tmp_path), tmp_path)) == [words]


def test_package_that_went_away_is_named(tmp_path):
    after = {name: version for name, version in BEFORE.items() if name != "pip"}
    assert list(rehearse.differences(BEFORE, after, loaded_from(tmp_path), tmp_path)) == [
        "pip was 24.1.2 and is missing"]


def test_numpy_from_elsewhere_and_course_lib_from_elsewhere_are_named(tmp_path):
    loaded = loaded_from(tmp_path, numpy="1.26.4") | {"course_lib": [str(ROOT / "course_lib/__init__.py"), ""]}
    numpy, package = rehearse.differences(BEFORE, BEFORE, loaded, tmp_path)
    assert numpy == "the notebook runs numpy 1.26.4, and 2.1.3 was there before"
    assert package.startswith("course_lib was loaded from")


def test_kernel_sees_nothing_of_this_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("PYTHONSTARTUP", "start.py")
    monkeypatch.setenv("GIT_DIR", str(ROOT / ".git"))
    env = rehearse.surroundings(tmp_path / "colab", tmp_path / "fetched", tmp_path)
    assert not {"PYTHONPATH", "PYTHONSTARTUP", "VIRTUAL_ENV", "GIT_DIR"} & set(env)
    assert env["PATH"].startswith(str(tmp_path / "colab/bin"))


def test_git_takes_the_address_from_the_working_tree(tmp_path):
    """As pip asks git for it; what is not committed is there too."""
    rehearse.snapshot(tmp_path / "fetched")
    env = rehearse.surroundings(tmp_path / "colab", tmp_path / "fetched", tmp_path)
    url = repository.address() or rehearse.STAND_IN
    subprocess.run(["git", "clone", "--quiet", url, tmp_path / "clone"], env=env, check=True, timeout=60)
    for path in ("course_lib/standardize.py", "pyproject.toml"):
        assert (tmp_path / "clone" / path).read_bytes() == (ROOT / path).read_bytes()
    assert not list((tmp_path / "clone").rglob("__pycache__"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_that_is_played_has_an_open_first_cell_and_is_else_the_same(path):
    played, committed = rehearse.as_published(path), nbformat.read(path, as_version=4)
    differing = [cell.source for cell, other in zip(played.cells, committed.cells, strict=True) if cell != other]
    opened = repository.first_cell(repository.address() or rehearse.STAND_IN)
    assert differing == ([] if repository.address() else [opened])
    assert next(cell for cell in played.cells if cell.cell_type == "code").source == opened


@pytest.mark.parametrize("sources", [["x = 1"], ["x = 1", repository.first_cell("")], ["import course_lib"], []])
def test_notebook_whose_first_cell_is_another_is_refused(tmp_path, monkeypatch, sources):
    monkeypatch.setattr(repository, "address", lambda: "")
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources])
    nbformat.write(notebook, tmp_path / "notebook.ipynb")
    with pytest.raises(rehearse.RehearsalError, match="make repository"):
        rehearse.as_published(tmp_path / "notebook.ipynb")


@pytest.mark.parametrize("data, drawn", [({"image/svg+xml": "<svg/>"}, True), ({"image/png": "aa"}, True),
                                         ({"text/plain": "image/png"}, False)])
def test_figure_is_told_from_text(data, drawn):
    output = nbformat.v4.new_output("display_data", data=data)
    assert rehearse.draws(nbformat.v4.new_code_cell("", outputs=[output])) is drawn
    assert not rehearse.draws(nbformat.v4.new_markdown_cell("a figure"))


def test_linked_package_is_whole_and_can_be_removed_there(tmp_path):
    """The links of `iniconfig` stand for its files; taking them away leaves the files."""
    rehearse.link_package("iniconfig", tmp_path)
    here, there = rehearse.site_packages(sys.prefix), rehearse.site_packages(tmp_path)
    assert rehearse.installed(tmp_path)["iniconfig"] == rehearse.installed(sys.prefix)["iniconfig"]
    linked = [path.relative_to(there) for path in there.rglob("*.py")]
    assert Path("iniconfig/__init__.py") in linked
    for path in linked:
        assert (there / path).samefile(here / path)
        (there / path).unlink()
        assert (here / path).exists()


def test_what_torch_needs_is_found_through_others():
    needed = rehearse.needed_by("torch")
    assert {"torch", "sympy", "mpmath"} <= needed  # mpmath is what sympy needs
    assert "pytest" not in needed
