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
course_search = pytest.importorskip("course_search")
course_styles = pytest.importorskip("course_styles")
course_text = pytest.importorskip("course_text")

CHAPTERS = sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.md"))
PAGES = sorted((ROOT / "book").glob("*.md")) + CHAPTERS
STYLE = ROOT / "book/_static/course.css"
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
    css = STYLE.read_text(encoding="utf8")
    assert [kind for kind in course_text.ASIDES
            if kind != "note" and f".aside-{kind.replace(' ', '-')} " not in css.replace(",", " ")] == []


@pytest.mark.parametrize("path", CHAPTERS, ids=page_id)
def test_asides_of_chapters_are_of_a_known_kind(path):
    known = ("Note.", "It is often said", "Definition", "Proposition", "Predict.", "Disputed.")
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


def parsed(markup, name="page"):
    """A document of docutils with these nodes, and the app that reads it, as far as the text's changes ask for it."""
    from docutils import utils

    document = utils.new_document("page")
    document += markup
    env = SimpleNamespace(docname=name, found_docs={f"notebooks/{path.stem}" for path in CHAPTERS})
    builder = SimpleNamespace(get_relative_uri=lambda source, target: f"to/{target}.html")
    return document, SimpleNamespace(env=env, builder=builder)


def chapter(*sections):
    """A chapter 4 with these (title, nodes of the section)."""
    from docutils import nodes

    page = nodes.section("", nodes.title("", "4. Batch normalization"), ids=["top"])
    for title, content in sections:
        page += nodes.section("", nodes.title("", title), *content, ids=[title.lower().replace(" ", "-")])
    return parsed(page, "notebooks/04_batch_norm")


def test_asides_get_the_class_of_their_first_words():
    from docutils import nodes

    quotes = [nodes.block_quote("", nodes.paragraph("", "", nodes.strong("", words), nodes.Text(" text")))
              for words in ("It is often said", "Proposition 4.1.", "Something.")]
    document, app = parsed([*quotes, nodes.block_quote("", nodes.paragraph("", "plain"))])
    course_text.mark_asides(app, document)
    classes = [quote["classes"] for quote in document.findall(nodes.block_quote)]
    assert classes == [["aside", "aside-it-is-often-said"], ["aside", "aside-proposition"], ["aside", "aside-note"], []]


def test_sections_of_a_chapter_are_numbered_but_not_its_back_matter():
    from docutils import nodes

    document, app = chapter(("Forward", []), ("Exercises", []), ("Backward", []), ("The chapter in short", []))
    course_text.number_sections(app, document)
    titles = [section[0].astext() for section in document[0][1:]]
    assert titles == ["4.1 Forward", "Exercises", "4.2 Backward", "The chapter in short"]
    document, app = parsed(nodes.section("", nodes.title("", "Notation"), nodes.section("", nodes.title("", "Axes"))))
    course_text.number_sections(app, document)
    assert document[0][1][0].astext() == "Axes"


def test_section_that_opens_with_essential_is_marked():
    """The word itself goes; one further down is text."""
    from docutils import nodes

    def word():
        return nodes.paragraph("", "", nodes.emphasis("", "Essential."))

    document, app = chapter(("Forward", [word(), nodes.paragraph("", "text")]),
                            ("Backward", [nodes.paragraph("", "text"), word()]))
    course_text.number_sections(app, document)
    first, second = document[0][1:]
    assert "essential" in first["classes"] and "Essential." not in first.astext()
    assert "essential" not in second["classes"] and "Essential." in second.astext()


def figure_cell():
    from docutils import nodes

    return nodes.container("", nodes.container("", nodes.literal_block("", "plot()")),
                           nodes.container("", nodes.image("", uri="a.svg"), classes=["cell_output"]))


def test_caption_below_a_cell_becomes_a_figure():
    from docutils import nodes

    words = nodes.emphasis("", "", nodes.Text("Figure 4.2. Means of "), nodes.math("", "x"), nodes.Text("."))
    document, app = parsed([figure_cell(), nodes.paragraph("", "", words), nodes.paragraph("", "Text.")])
    course_text.set_captions(app, document)
    figure = next(document.findall(nodes.figure))
    assert figure["ids"] == ["figure-4.2"] and isinstance(figure[0], nodes.image)
    assert figure[1].astext() == "Figure 4.2. Means of x." and figure[1][0].astext() == "Figure 4.2."
    assert [node.astext() for node in document.findall(nodes.paragraph)] == ["Text."]


def test_caption_needs_a_figure_above_it():
    from docutils import nodes

    document, app = parsed([nodes.paragraph("", "Text."),
                            nodes.paragraph("", "", nodes.emphasis("", "Figure 4.2. Lost."))])
    course_text.set_captions(app, document)
    assert list(document.findall(nodes.figure)) == []


def test_numbers_in_the_text_are_links():
    """To equations and figures that there are, alone, in lists and in ranges; in code and in captions' heads none."""
    from docutils import nodes

    equation, other = "4.3", "1.2"
    words = nodes.paragraph("", "", nodes.Text(f"By (4.3), ({equation} to 4.4) and ({other}), but not (4.999) or 4.3."),
                            nodes.literal("", "(4.3)"))
    document, app = parsed(words, "notebooks/04_batch_norm")
    course_text.link_numbers(app, document)
    links = [(link.astext(), link["refuri"]) for link in document.findall(nodes.reference)]
    chapter_1 = next(path.stem for path in CHAPTERS if path.stem.startswith("01"))
    assert links == [("4.3", "#equation-4.3"), ("4.3", "#equation-4.3"), ("4.4", "#equation-4.4"),
                     ("1.2", f"to/notebooks/{chapter_1}.html#equation-1.2")]
    assert document.astext() == "By (4.3), (4.3 to 4.4) and (1.2), but not (4.999) or 4.3.(4.3)"


def test_figures_in_the_text_are_links(monkeypatch):
    from docutils import nodes

    monkeypatch.setattr(course_text, "numbers", lambda path: (set(), {"4.2"}))
    label = nodes.strong("", "Figure 4.2.", classes=["figure-number"])
    document, app = parsed(nodes.paragraph("", "", label, nodes.Text(" As figure 4.2 and Figure 4.9 show.")),
                           "notebooks/04_batch_norm")
    course_text.link_numbers(app, document)
    assert [(link.astext(), link["refuri"]) for link in document.findall(nodes.reference)] == [
        ("figure 4.2", "#figure-4.2")]


def test_search_enters_each_section_with_its_own_words():
    from docutils import nodes

    inner = nodes.section("", nodes.title("", "Inner"), nodes.paragraph("", "deep"), ids=["inner"])
    document, _ = chapter(("Forward", [nodes.paragraph("", "wide"), inner]))
    found = {section["ids"][0]: " ".join(node.astext() for node in own)
             for section, own in course_search.sections(document[0])}
    assert found == {"top": "4. Batch normalization", "forward": "Forward wide", "inner": "Inner deep"}


def test_style_rules_that_no_page_can_use_are_dropped():
    css = """@import url(basic.css); a{x:y} .used,.not, a:not(.not){x:"}"} .not > .used{x:y} #here:is(.not, h1){x:y}
    @media print{.not{x:y}} @media print{.used{x:y}} @font-face{src:url(a.woff2)} [data-a=".not"]{x:y}"""
    kept = course_styles.keep(course_styles.IMPORT.sub("", css), {"used", "here"}).split("\n")
    assert kept == ["a{x:y}", '.used,a:not(.not){x:"}"}', "#here:is(.not, h1){x:y}", "@media print{.used{x:y}}",
                    "@font-face{src:url(a.woff2)}", '[data-a=".not"]{x:y}']


def test_addresses_in_a_style_sheet_follow_it_to_its_new_place():
    css = "url(../fonts/a.woff2) url('b.png') url(data:x) url(#c)"
    assert course_styles.rebased(css, "styles") == "url(fonts/a.woff2) url(styles/b.png) url(data:x) url(#c)"


def test_descriptions_are_whole_sentences():
    from docutils import nodes

    def described(*texts):
        return course_site.description(parsed([nodes.paragraph("", text) for text in texts])[0])

    sentence = "A first sentence that is long enough to stand alone."
    assert described("45 minutes.", f"One.  Two\n{sentence}", "More.") == f"One. Two {sentence}"
    assert described(f"{sentence} " + "word " * 60) == sentence
    assert described("word " * 60) == "word " * 39 + "word ..."
    assert described("Short.") == ""


@pytest.mark.parametrize("base, root", [("", "/"), ("https://course.example/norm/", "/norm/")])
def test_doors_of_the_site_name_its_address_only_where_it_is_known(tmp_path, base, root):
    config = SimpleNamespace(html_title="Norms & more", root_doc="book/intro", html_baseurl=base)
    for name in ("book/intro.html", "notebooks/04.html", "search.html"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    course_site.write_doors(tmp_path, config)
    missing = (tmp_path / "404.html").read_text(encoding="utf8")
    assert f'href="{root}search.html"' in missing and "Norms &amp; more" in missing
    robots, sitemap = (tmp_path / "robots.txt").read_text(encoding="utf8"), tmp_path / "sitemap.xml"
    assert sitemap.exists() == bool(base) == ("Sitemap:" in robots)
    if base:
        addresses = re.findall("<loc>(.*?)</loc>", sitemap.read_text(encoding="utf8"))
        assert addresses == [f"{base}book/intro.html", f"{base}notebooks/04.html"]


def test_each_build_writes_every_page(tmp_path):
    """The pages of an earlier build are gone before Sphinx asks which are old; another builder's stay."""
    page = tmp_path / "book/intro.html"
    page.parent.mkdir()
    page.write_text("")
    for builder, stays in (("gettext", True), ("html", False)):
        course_site.forget_pages(SimpleNamespace(outdir=tmp_path, builder=SimpleNamespace(name=builder)))
        assert page.exists() == stays


def test_theme_that_no_longer_asks_for_widths_stops_the_build():
    from sphinx.errors import ExtensionError

    assert course_site.WIDTHS not in course_site.without_widths(f"a;{course_site.WIDTHS};b")
    with pytest.raises(ExtensionError, match="has changed"):
        course_site.without_widths("a;b")


def test_fonts_that_stand_in_are_as_high_as_ours():
    """ascent-override and descent-override by size-adjust are the ascent and the descent of the font that comes."""
    ttlib = pytest.importorskip("fontTools.ttLib")
    pytest.importorskip("brotli", reason="woff2 fonts need brotli to be read")
    faces = re.findall(r'"(Serif|Sans) like \w+"; src: local.*?size-adjust: ([\d.]+)%; ascent-override: ([\d.]+)%; '
                       r"descent-override: ([\d.]+)%; line-gap-override: 0%", STYLE.read_text(encoding="utf8"))
    assert len(faces) == 4
    for kind, adjust, ascent, descent in faces:
        name = {"Serif": "source-serif-4", "Sans": "inter"}[kind]
        font = ttlib.TTFont(ROOT / f"book/_static/fonts/{name}-latin-wght-normal.woff2")
        for ours, theirs in ((font["hhea"].ascent, ascent), (-font["hhea"].descent, descent)):
            want = ours / font["head"].unitsPerEm
            assert float(adjust) * float(theirs) / 1e4 == pytest.approx(want, rel=0.005)


def test_figures_get_the_font_of_the_site(tmp_path):
    """As a file that matplotlib can read, under the name that plots ask for."""
    fonts = pytest.importorskip("course_fonts")
    from matplotlib import ft2font

    font = ft2font.FT2Font(str(fonts.for_figures(tmp_path)))
    assert font.family_name == "Inter" and {ord("a"), ord("\u2212")} <= set(font.get_charmap())


def test_title_picture_is_what_the_script_draws():
    draw_axes = pytest.importorskip("draw_axes")
    for name, columns in (("axes", 4), ("axes-narrow", 2)):
        assert draw_axes.picture(columns) == (ROOT / f"book/_static/{name}.svg").read_text(encoding="utf8")


def test_first_page_has_a_way_in_before_its_picture():
    text = (ROOT / "book/intro.md").read_text(encoding="utf8")
    start = re.search(r"\[Start here[^]]*\]\(\.\./(notebooks/[^)]+\.md)\)\{\.start\}", text)
    assert (ROOT / start[1]).exists() and start.start() < text.index("![")
    assert not re.search(r"\bprove", text)


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


def test_lighter_figure_keeps_what_is_drawn():
    figure = """<svg id="whole">
 <metadata>a program</metadata>
 <!-- 0.5 -->
 <defs><path id="m1" d="M 1.23456 -2.5"/>
  <clipPath id="p1"><rect x="0.125"/></clipPath></defs>
 <g id="axes_1" clip-path="url(#p1)"><use xlink:href="#m1" x="7.98765" style="opacity: 0.12345"/></g>
</svg>"""
    assert course_site.lighter(figure) == """<svg>
<defs><path id="m1" d="M 1.23 -2.5"/>
<clipPath id="p1"><rect x="0.12"/></clipPath></defs>
<g clip-path="url(#p1)"><use xlink:href="#m1" x="7.98" style="opacity: 0.12345"/></g>
</svg>"""
