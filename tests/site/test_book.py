"""The pages of the site, without building it: contents, links to papers, formulas, pictures, nothing from outside."""

import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from chapter import FENCE

ROOT = Path(__file__).resolve().parents[2]
course_tex = pytest.importorskip("course_tex", reason="needs quickjs-ng and Sphinx (requirements.txt)")
course_api = pytest.importorskip("course_api")
course_site = pytest.importorskip("course_site")

CHAPTERS = sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.md"))
PAGES = sorted((ROOT / "book").glob("*.md")) + CHAPTERS
EXTENSION = ROOT / "book/_ext/course_site.py"
CODE = re.compile(r"(`+)(?!`).+?(?<!`)\1(?!`)", re.DOTALL)
ARXIV = re.compile(r"arxiv\.org/(?:abs|pdf)/(\d{4}\.\d{4,5})")
PAPER_HOSTS = ("arxiv.org", "doi.org", "proceedings.mlr.press", "papers.nips.cc", "papers.neurips.cc", "openreview.net")


def prose(path):
    """The text of a page without its code."""
    return CODE.sub("", FENCE.sub("", path.read_text(encoding="utf8")))


def formulas(path):
    """(TeX, displayed?) of every formula of a page."""
    text = prose(path)
    displayed = re.findall(r"\$\$(.+?)\$\$", text, re.DOTALL)
    inline = re.findall(r"(?<![\\$])\$(?!\s)([^$]+?)(?<!\s)\$(?!\d)", re.sub(r"\$\$.+?\$\$", "", text, flags=re.DOTALL))
    return [(tex, True) for tex in displayed] + [(tex, False) for tex in inline]


def contents():
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf8"))
    return [toc["root"], *(page["file"] for part in toc["parts"] for page in part["chapters"])]


def bibliography():
    return (ROOT / "book/references.bib").read_text(encoding="utf8")


def page_id(path):
    return path.stem


def test_contents_and_pages_agree():
    """Each entry of the contents is a page, and each page is in the contents."""
    listed = contents()
    assert len(listed) == len(set(listed))
    assert {str(page.relative_to(ROOT).with_suffix("")) for page in PAGES} == set(listed)


@pytest.mark.parametrize("path", PAGES, ids=page_id)
def test_pages_have_one_title_and_end_with_a_newline(path):
    text = path.read_text(encoding="utf8")
    assert len(re.findall(r"^# ", FENCE.sub("", text), re.MULTILINE)) == 1
    assert text.endswith("\n") and not text.endswith("\n\n")


def test_configuration_names_files_that_exist():
    config = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf8"))
    sphinx = config["sphinx"]["config"]
    files = [config["logo"], config["html"]["favicon"], *config["bibtex_bibfiles"], *sphinx["templates_path"]]
    files += [f"{sphinx['html_static_path'][0]}/{name}" for name in sphinx["html_css_files"] + sphinx["html_js_files"]]
    assert [name for name in files if not (ROOT / name).exists()] == []


def test_configuration_refuses_what_would_hide_a_fault():
    """A cell that fails or writes to stderr stops the build, and formulas are set while it runs."""
    config = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf8"))
    assert config["execute"]["execute_notebooks"] == "cache"
    assert config["execute"]["stderr_output"] == "error"
    assert config["sphinx"]["config"]["nb_execution_raise_on_error"] is True
    assert config["sphinx"]["config"]["html_math_renderer"] == "katex"


@pytest.mark.parametrize("path", PAGES, ids=page_id)
def test_formulas_are_accepted_by_katex(path):
    for tex, display in formulas(path):
        assert "katex" in course_tex.render(tex, display=display)


def test_formulas_are_found():
    """The test above would pass on a page whose formulas it cannot see."""
    found = formulas(ROOT / "book/notation.md")
    assert (r"\gamma", False) in found and sum(display for _, display in found) == 1


@pytest.mark.parametrize("bad", [r"\frac{1}{", r"\nosuchmacro", "x^1^2", "}", r"\begin{aligned} x", "é"])
def test_formula_that_is_wrong_is_refused_by_name(bad):
    with pytest.raises(course_tex.TexError, match=re.escape(bad)):
        course_tex.render(bad, display=True)


def test_tag_becomes_a_number_beside_the_formula():
    html = course_tex.render(r"x = y \tag{4.3}", display=True)
    assert "katex-tag" in html and "4.3" in html
    assert "katex-tag" not in course_tex.render("x = y", display=True)


@pytest.mark.parametrize("path", PAGES, ids=page_id)
def test_papers_that_a_page_links_to_stand_in_the_bibliography(path):
    known = set(re.findall(r"eprint = \{([\d.]+)\}", bibliography()))
    assert set(ARXIV.findall(prose(path))) <= known


@pytest.mark.parametrize("path", PAGES, ids=page_id)
def test_papers_elsewhere_than_on_arxiv_stand_in_the_bibliography(path):
    links = re.findall(r"\]\(https?://(?:www\.)?((?:[^()\s]|\([^()\s]*\))+)\)", prose(path))
    papers = [link for link in links if link.startswith(PAPER_HOSTS) and not ARXIV.match(link)]
    assert [link for link in papers if link.removeprefix("doi.org/") not in bibliography()] == []


def test_bibliography_is_complete():
    """Each entry has an author, a title and a year, and its key is that of no other."""
    entries = re.findall(r"^@\w+\{(\w+),\n(.*?)\n\}", bibliography(), re.DOTALL | re.MULTILINE)
    assert len(entries) == bibliography().count("\n@") and len(entries) > 50
    assert len({key for key, _ in entries}) == len(entries)
    for key, body in entries:
        assert {"author", "title", "year"} <= set(re.findall(r"^  (\w+) =", body, re.MULTILINE)), key
    eprints = re.findall(r"eprint = \{([\d.]+)\}", bibliography())
    assert len(eprints) == len(set(eprints))


@pytest.mark.parametrize("path", PAGES, ids=page_id)
def test_pictures_have_a_description(path):
    """In Markdown, in a directive, and for each figure that a cell draws."""
    text = path.read_text(encoding="utf8")
    assert [m for m in re.findall(r"!\[([^\]]*)\]\(", prose(path)) if len(m) < 15] == []
    for fence in re.findall(r"^```\{(?:image|figure)\}.*?^```", text, re.DOTALL | re.MULTILINE):
        assert ":alt:" in fence
    for cell in re.findall(r"^```\{code-cell\}.*?^```", text, re.DOTALL | re.MULTILINE):
        if re.search(r"^(?:(?:plots|figures)\.\w+\(|plt\.show\(\))", cell, re.MULTILINE):
            assert "alt:" in cell, f"a figure without a description: {cell[:200]}"


def test_nothing_is_loaded_from_outside():
    """No template, style sheet or script of ours names another host as something to load."""
    files = [p for p in (ROOT / "book").rglob("*")
             if p.suffix in {".css", ".js", ".html"} and "katex.min.js" not in p.name]
    assert len(files) >= 5
    for path in files:
        text = path.read_text(encoding="utf8")
        assert not re.search(r"url\(\s*['\"]?(https?:)?//|@import|src=\s*['\"]?(https?:)?//", text), path
        assert not re.search(r"<link[^>]*href=['\"](https?:)?//|fetch\(|XMLHttpRequest", text), path


def test_style_sheets_name_fonts_that_are_here():
    for sheet in (ROOT / "book/_static/course.css", ROOT / "book/_static/katex/katex.min.css"):
        urls = re.findall(r"url\(([^)]+)\)", sheet.read_text(encoding="utf8"))
        assert urls
        assert [url for url in urls if not (sheet.parent / url).exists()] == []


def test_kinds_of_asides_have_a_style():
    kinds = re.search(r"^ASIDES = \((.*?)\)", EXTENSION.read_text(encoding="utf8"), re.DOTALL | re.MULTILINE)[1]
    css = (ROOT / "book/_static/course.css").read_text(encoding="utf8")
    for kind in re.findall(r'"([^"]+)"', kinds):
        assert kind == "note" or f".aside-{kind.replace(' ', '-')}" in css


@pytest.mark.parametrize("path", CHAPTERS, ids=page_id)
def test_asides_of_chapters_are_of_a_known_kind(path):
    known = ("Note.", "From the notes.", "Definition", "Proposition", "Predict.", "Disputed.")
    openings = re.findall(r"(?:^|\n\n)> \*\*([^*]+)\*\*", FENCE.sub("", path.read_text(encoding="utf8")))
    assert [words for words in openings if not words.startswith(known)] == []


def test_docstrings_become_lists_and_equations():
    source = ["Sum of `x` over *S.", "", "    y = a_1 * x", "", "Args:", "    x: (N, *S), floating,", "        finite.",
              "    gamma, beta: (C,).", "Returns:", "    y.", "Source: Ioffe 2015, Eq. 2."]
    lines = course_api.to_rst(source)
    assert lines[0] == r"Sum of ``x`` over \*S."
    assert ".. code-block:: text" in lines and "    y = a_1 * x" in lines
    assert r"    - ``x``: (N, \*S), floating, finite." in lines
    assert "    - ``gamma, beta``: (C,)." in lines
    assert ":Source: Ioffe 2015, Eq. 2." in lines


def test_changed_package_drops_the_runs_of_notebooks(tmp_path, monkeypatch):
    """The cache of runs stays while the package is the same, and goes when a file of it changes."""
    monkeypatch.setattr(course_site, "ROOT", tmp_path)
    module = tmp_path / "course_lib/module.py"
    module.parent.mkdir()
    module.write_text("x = 1\n")
    config = SimpleNamespace(nb_execution_cache_path="cache")
    run = tmp_path / "cache/run"
    course_site.forget_stale_runs(None, config)
    run.write_text("outputs")
    first = config.course_package
    course_site.forget_stale_runs(None, config)
    assert run.exists() and config.course_package == first
    module.write_text("x = 2\n")
    course_site.forget_stale_runs(None, config)
    assert not run.exists() and config.course_package != first


def test_asides_get_the_class_of_their_first_word():
    from docutils import nodes, utils

    document = utils.new_document("page")
    for words in ("From the notes.", "Proposition 4.1.", "Something."):
        document += nodes.block_quote("", nodes.paragraph("", "", nodes.strong("", words), nodes.Text(" text")))
    document += nodes.block_quote("", nodes.paragraph("", "plain"))
    course_site.mark_asides(None, document)
    classes = [quote["classes"] for quote in document.findall(nodes.block_quote)]
    assert classes == [["aside", "aside-from-the-notes"], ["aside", "aside-proposition"], ["aside", "aside-note"], []]


def test_inline_scripts_run_by_their_hash_only():
    """The hash of `alert(1)` is that of openssl dgst -sha256 -binary | base64."""
    rules = course_site.policy("<script>alert(1)</script><script src='a.js'></script>")
    assert "script-src 'self' 'sha256-bhHHL3z2vDgxUt0W3dWQOrprscmda2Y5pLsLg4GF+pI='" in rules


def test_bad_formula_stops_the_build():
    """All bad formulas of a page are named, not the first only."""
    from docutils import nodes, utils
    from sphinx.errors import ExtensionError

    document = utils.new_document("page")
    document += [nodes.math_block("", r"\frac{1}{"), nodes.math_block("", "x"), nodes.math_block("", r"\nosuchmacro")]
    with pytest.raises(ExtensionError) as error:
        course_tex.check_formulas(None, document, "page")
    assert r"\frac{1}{" in str(error.value) and r"\nosuchmacro" in str(error.value)
