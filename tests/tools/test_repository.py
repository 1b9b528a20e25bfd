"""The public address stands in one place, every other text has it from there, and without one no door leads nowhere."""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import jupytext
import pytest
import repository
import yaml

import notebooks

ROOT = Path(__file__).resolve().parents[2]
URL = "https://github.com/some-one/the.course_2"
DOORS = ("README.md", "CONTRIBUTING.md", "CITATION.cff", "pyproject.toml", "_config.yml", "book/how_to_use.md")
ABOUT_US = re.compile(r"git\+(https?://[^\s\"'@\\{]+)"
                      r"|(https?://)colab\.research\.google\.com/github/([\w.-]+/[\w.-]+)"
                      r"|(https?://github\.com/OWNER[\w./-]*)")
OLD_CELL = """\
try:
    import course_lib
except ModuleNotFoundError:  # Colab and other hosted notebooks: fetch the course's package once
    %pip install -q --no-deps "git+https://github.com/OWNER/normalization-course@main\""""


@pytest.fixture
def copy(tmp_path, monkeypatch):
    """A copy of the texts that the address stands in, which the tool works on."""
    for name in DOORS:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    shutil.copytree(ROOT / "notebooks", tmp_path / "notebooks", ignore=shutil.ignore_patterns(".*"))
    monkeypatch.setattr(repository, "ROOT", tmp_path)
    monkeypatch.setattr(notebooks, "NOTEBOOKS", tmp_path / "notebooks")
    return tmp_path


def everything(folder):
    return {path: path.read_text(encoding="utf8") for path in folder.rglob("*.*") if path.is_file()}


def chapters(folder):
    return sorted((folder / "notebooks").glob("[0-9][0-9]_*.md"))


def others(text, url):
    """The addresses in a text that mean this repository and are not `url`."""
    found = ["".join(match).replace("https://", "https://github.com/") if match[2] else "".join(match)
             for match in ABOUT_US.findall(text)]
    return [each for each in found if each != url]


def test_every_text_has_the_address_that_the_configuration_has():
    assert [path.name for path, _ in repository.old_texts(repository.address())] == [], "run: make repository"


def test_no_text_has_another_address():
    files = [path for pattern in ("*.md", "*.yml", "*.toml", "*.cff", "book/**/*.md", "book/**/*.html", "notebooks/*",
                                  "course_lib/**/*.py", "book/**/*.py", "tools/*.py", ".github/**/*.yml")
             for path in ROOT.glob(pattern) if path.is_file()]
    assert len(files) > 50
    url = repository.address()
    assert {path.name: others(path.read_text(encoding="utf8"), url) for path in files
            if others(path.read_text(encoding="utf8"), url)} == {}
    for name in DOORS:  # here each repository that is named is this one
        assert set(re.findall(r"https?://github\.com/[\w.-]+/[\w.-]+", (ROOT / name).read_text(encoding="utf8"))) <= {
            url, "https://github.com/who/what", "https://github.com/a/b"}, name


@pytest.mark.parametrize("bad", ['"git+https://github.com/else/where"', "https://github.com/OWNER/normalization-course",
                                 "https://colab.research.google.com/github/else/where/blob/main/a.ipynb"])
def test_another_address_would_be_noticed(bad):
    assert others(f"text {bad} text", URL)


def test_the_address_itself_is_not_another():
    path = URL.removeprefix("https://github.com/")
    assert others(f'"git+{URL}" (https://colab.research.google.com/github/{path}/blob/main/a.ipynb)', URL) == []


def test_one_command_sets_the_address_everywhere_and_takes_it_back(copy):
    before, was_open = everything(copy), repository.address()
    assert repository.main([URL]) == 0
    assert yaml.safe_load((copy / "_config.yml").read_text())["repository"] == {"url": URL, "branch": "main"}
    assert yaml.safe_load((copy / "CITATION.cff").read_text())["repository-code"] == URL
    for name in DOORS:
        assert URL in (copy / name).read_text(encoding="utf8"), name
    for path in chapters(copy):
        assert f'"git+{URL}"' in path.read_text(encoding="utf8")
        assert f"git+{URL}" in path.with_suffix(".ipynb").read_text(encoding="utf8")
    assert repository.main(["--check"]) == 0
    assert repository.main(["none"]) == 0
    closed = everything(copy)
    assert not any(URL in text for text in closed.values())
    assert was_open or closed == before


def test_second_run_changes_nothing(copy):
    repository.main([URL])
    once = everything(copy)
    assert repository.main([]) == repository.main([URL]) == 0
    assert everything(copy) == once


@pytest.mark.parametrize("name", [*DOORS, "notebooks/04_batch_norm.md"])
def test_stale_copy_is_noticed(copy, name, capsys):
    repository.main([URL])
    path = copy / name
    path.write_text(path.read_text(encoding="utf8").replace(URL, "https://github.com/else/where"), encoding="utf8")
    if name == "_config.yml":  # then all the others are stale
        name = "README.md"
    capsys.readouterr()
    assert repository.main(["--check"]) == 1
    assert f"{name} has another address" in capsys.readouterr().out


def test_cell_of_an_older_form_is_found(copy):
    path = chapters(copy)[0]
    text = path.read_text(encoding="utf8")
    new = repository.first_cell(repository.address())
    path.write_text(text.replace(new, OLD_CELL), encoding="utf8")
    assert path.read_text(encoding="utf8") != text
    repository.main([])
    assert path.read_text(encoding="utf8") == text


@pytest.mark.parametrize("times", [0, 2])
def test_chapter_without_its_one_first_cell_gets_a_clear_error(copy, times):
    path = chapters(copy)[0]
    cell = repository.first_cell(repository.address())
    fence = f"```{{code-cell}} ipython3\n{cell}\n```\n"
    text = path.read_text(encoding="utf8").replace(cell, "pass") + times * fence
    path.write_text(text, encoding="utf8")
    assert re.match(rf"{path.name}: {times} cells try to import course_lib", repository.main([]))
    assert path.read_text(encoding="utf8") == text


@pytest.mark.parametrize("bad", [
    "http://github.com/who/what", "github.com/who/what", "https://github.com/who", "https://github.com/who/what/",
    "https://github.com/who/what.git", "https://github.com/who/what/tree/main", "https://example.org/who/what",
    "https://github.com/-who/what", "https://github.com/who/..", "https://github.com/who/what\n", "git@github.com:a/b",
    'https://github.com/who/what";import os', "https://github.com/who/wh at", "https://github.com/" + 40 * "a" + "/b",
])
def test_what_is_no_address_is_refused(copy, bad):
    before = everything(copy)
    assert "it must look like https://github.com/who/what" in repository.main([bad])
    assert everything(copy) == before


def test_unknown_block_is_refused(copy):
    (copy / "README.md").write_text("<!-- repository: window -->\n<!-- /repository -->\n")
    assert "README.md: no block is called window" in repository.main([])


@pytest.mark.parametrize("path", chapters(ROOT), ids=lambda path: path.stem)
def test_first_code_cell_is_the_same_in_each_chapter(path):
    first = next(cell for cell in jupytext.read(path).cells if "import course_lib\n" in cell.source)
    assert first.source == repository.first_cell(repository.address())
    assert len(first.source.splitlines()) <= 12 and max(map(len, first.source.splitlines())) <= 80


def run_cell(source, folder):
    """The cell in a Python that has no course_lib."""
    return subprocess.run([sys.executable, "-I", "-S", "-c", source], cwd=folder, capture_output=True, text=True)


def test_closed_cell_says_what_to_do_where_the_package_is_missing(tmp_path):
    done = run_cell(repository.first_cell(""), tmp_path)
    assert done.returncode == 1
    assert done.stderr.count("Error") == 1 and "During handling" not in done.stderr
    assert "no public address" in done.stderr and "`make book`" in done.stderr


@pytest.mark.parametrize("url", ["", URL])
def test_cell_does_nothing_where_the_package_is_there(url):
    """Also in a Python that knows no %pip: the line that has it is not reached."""
    scope = {}
    exec(repository.first_cell(url).replace("%pip", "1 / 0  #"), scope)
    assert scope["course_lib"].__name__ == "course_lib"


def test_open_cell_leaves_numpy_and_torch_alone():
    cell = repository.first_cell(URL)
    (line,) = [line for line in cell.splitlines() if "%pip" in line]
    assert "--no-deps" in line and "-U" not in line and "numpy" not in cell and "torch" not in cell


# ---- the site's links


def context_of(page, url, extension=".md"):
    course_site, utils = pytest.importorskip("course_site"), pytest.importorskip("docutils.utils")
    app = SimpleNamespace(
        config=SimpleNamespace(
            html_baseurl="", html_theme_options={"repository_url": url, "repository_branch": "main"}),
        env=SimpleNamespace(doc2path=lambda name: name + extension))
    context = {"script_files": [], "css_files": []}
    course_site.page_context(app, page, "page.html", context, doctree=utils.new_document(page))
    return context


def head_of(context):
    """The links of a page's head, as its template writes them."""
    jinja2 = pytest.importorskip("jinja2")
    template = (ROOT / "book/_templates/page-actions.html").read_text(encoding="utf8")
    template = re.sub(r"\{% include .*? %\}", "", template)
    return re.findall(r'href="([^"]*)"', jinja2.Template(template).render(context, pathto=lambda name, _: name))


CHAPTER = chapters(ROOT)[0].relative_to(ROOT).with_suffix("")


@pytest.mark.parametrize("nothing", ["", None])
def test_without_an_address_a_chapter_offers_its_notebook_only(nothing):
    assert head_of(context_of(str(CHAPTER), nothing)) == [f"{CHAPTER}.ipynb"]
    assert head_of(context_of("book/notation", nothing)) == []


def test_with_an_address_a_chapter_offers_colab_its_notebook_and_its_text():
    path = URL.removeprefix("https://github.com/")
    assert head_of(context_of(str(CHAPTER), URL)) == [
        f"https://colab.research.google.com/github/{path}/blob/main/{CHAPTER}.ipynb",
        f"{CHAPTER}.ipynb", f"{URL}/edit/main/{CHAPTER}.md"]
    assert head_of(context_of("book/notation", URL)) == [f"{URL}/edit/main/book/notation.md"]
