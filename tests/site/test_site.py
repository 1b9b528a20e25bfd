"""The built site in _build/html: links, anchors, weight, and nothing that comes from outside.

Built by `make book`; without it these tests are skipped.
"""

import base64
import gzip
import hashlib
import html
import json
import os
import re
from functools import lru_cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
SITE = Path(os.environ.get("COURSE_SITE_FOLDER") or ROOT / "_build/html")
PAGES = sorted(SITE.rglob("*.html"))
LIMIT = 400_000  # bytes on the wire of a page with everything that it loads
SHEET = SITE / "_static/site.css"  # the one style sheet
CONFIG = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf8"))
BASE = urlsplit(CONFIG["html"]["baseurl"]).path or "/"  # where the site stands on its host
LOADS = {"script": "src", "img": "src", "link": "href", "source": "src", "iframe": "src", "object": "data"}

pytestmark = pytest.mark.skipif(not PAGES, reason="the site is not built: make book")


class Page(HTMLParser):
    """The ids, links and loaded files of a page."""

    def __init__(self, path):
        super().__init__()
        self.ids, self.links, self.loads, self.images, self.handlers = set(), [], [], [], []
        self.policy = ""
        self.feed(path.read_text(encoding="utf8"))

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.ids |= {value for name, value in attrs if name in ("id", "name") and value}
        self.handlers += [name for name, _ in attrs if name.startswith("on")]
        if tag == "img":
            self.images.append(values)
        if tag == "meta" and values.get("http-equiv", "").lower() == "content-security-policy":
            self.policy = values["content"]
        address = values.get(LOADS.get(tag, ""))
        if tag == "link" and values.get("rel") not in ("stylesheet", "preload", "icon"):
            address = None
        if address:
            self.loads.append(address)
        if tag == "a" and values.get("href"):
            self.links.append(values["href"])


@lru_cache(None)
def parsed(path):
    return Page(path)


def target(path, address):
    """The file that an address of a page stands for."""
    parts = urlsplit(address)
    folder = SITE if parts.path.startswith("/") else path.parent
    file = (folder / unquote(parts.path.removeprefix(BASE))).resolve() if parts.path else path
    return file / "index.html" if file.is_dir() else file


def outside(address):
    parts = urlsplit(address)
    return bool(parts.netloc) or parts.scheme not in ("", "data")


def wire(path):
    """Bytes of a file as a server sends it: fonts as they are, text through gzip."""
    data = path.read_bytes()
    return len(data) if path.suffix in (".woff2", ".png") else len(gzip.compress(data, 6))


def page_id(path):
    return str(path.relative_to(SITE))


def pages(condition=lambda path: True):
    return pytest.mark.parametrize("path", [path for path in PAGES if condition(path)], ids=page_id)


@pages()
def test_links_lead_somewhere(path):
    """To a file of the site, and to an anchor that it has."""
    page = parsed(path)
    broken = []
    for link in page.links:
        if outside(link):
            continue
        file, anchor = target(path, link), unquote(urlsplit(link).fragment)
        if not file.exists() or (anchor and file.suffix == ".html" and anchor not in parsed(file).ids):
            broken.append(link)
    assert broken == []


@pages()
def test_nothing_comes_from_outside(path):
    """Scripts, style sheets, fonts and pictures lie in the site, and what they load does as well."""
    for address in parsed(path).loads:
        assert not outside(address), address
        if not address.startswith("data:"):
            assert target(path, address).exists(), address


def test_style_sheets_load_nothing_from_outside():
    sheets = {target(path, a) for path in PAGES for a in parsed(path).loads if urlsplit(a).path.endswith(".css")}
    assert sheets == {SHEET}
    for sheet in sheets:
        urls = re.findall(r"url\(['\"]?([^'\")]+)", sheet.read_text(encoding="utf8"))
        assert [url for url in urls if outside(url)] == []


@pages()
def test_pages_have_a_strict_policy(path):
    """No script but the site's own, none by attribute; an inline script runs only if its hash is listed."""
    page = parsed(path)
    rules = dict(rule.strip().split(" ", 1) for rule in page.policy.split(";"))
    assert rules["default-src"] == "'self'" and rules["object-src"] == "'none'"
    assert "unsafe" not in rules["script-src"] and "http" not in page.policy
    assert page.handlers == []


@pages()
def test_pictures_are_described(path):
    assert [image for image in parsed(path).images if image.get("alt") is None] == []


@pages(lambda path: path.parent.name == "notebooks")
def test_figures_of_chapters_have_words_and_load_late(path):
    figures = [image for image in parsed(path).images if "_images/" in image["src"]]
    assert figures
    for image in figures:
        assert len(image["alt"]) > 30, image["src"]
        assert image["loading"] == "lazy" and int(image["width"]) > 100


@pages()
def test_page_is_light(path):
    """At most 400 kB: the page, its style sheets, scripts and figures, and every font that the style sheets name."""
    files = {path} | {target(path, a) for a in parsed(path).loads if not a.startswith("data:")}
    text = path.read_text(encoding="utf8")
    for sheet in [file for file in files if file.suffix == ".css"]:
        for url in re.findall(r"url\(['\"]?([^'\")?#]+\.woff2)", sheet.read_text(encoding="utf8")):
            font = (sheet.parent / url).resolve()
            if not font.name.startswith("KaTeX") or used_by_katex(font.name, text):
                files.add(font)
    assert sum(wire(file) for file in files) < LIMIT


def used_by_katex(font, text):
    """Whether a page needs a font of KaTeX, by the class that asks for it; the common ones count for any formula."""
    classes = {"AMS-Regular": "mathbb|amsrm", "Caligraphic-Regular": "mathcal", "Fraktur-Regular": "mathfrak",
               "Script-Regular": "mathscr", "SansSerif-Regular": "mathsf|textsf", "Typewriter-Regular": "mathtt|texttt",
               "Main-Bold": "mathbf|textbf", "Math-BoldItalic": "boldsymbol", "Main-Italic": "mathit|textit"}
    common = ("Main-Regular", "Math-Italic", "Size1-Regular", "Size2-Regular", "Size3-Regular", "Size4-Regular")
    name = font.removeprefix("KaTeX_").removesuffix(".woff2")
    if name in classes:
        return bool(re.search(rf'class="[^"]*\b(?:{classes[name]})\b', text))
    return name in common and 'class="katex"' in text


@pages()
def test_no_formula_is_left_unset(path):
    """KaTeX's red error text, or TeX between the marks of MathJax, must not reach a reader."""
    text = path.read_text(encoding="utf8")
    assert "katex-error" not in text and "MathJax" not in text
    assert not re.search(r'class="math[^"]*"[^>]*>\s*\\[(\[]', text)


def test_every_page_of_the_contents_is_built():
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf8"))
    files = [toc["root"], *(page["file"] for part in toc["parts"] for page in part["chapters"])]
    assert [file for file in files if not (SITE / f"{file}.html").exists()] == []


def test_icons_that_pages_name_are_in_the_font():
    """The icon fonts are cut down to what is used; an icon that is missing shows as an empty box."""
    ttlib = pytest.importorskip("fontTools.ttLib")
    pytest.importorskip("brotli", reason="woff2 fonts need brotli to be read")
    css = SHEET.read_text(encoding="utf8")
    rules = re.findall(r'((?:\.fa-[\w-]+:before,?)+)\{content:"\\([0-9a-f]+)"\}', css)
    codes = {name: int(code, 16) for group, code in rules for name in re.findall(r"fa-[\w-]+", group)}
    fonts = (SITE / "_static/vendor/fontawesome/webfonts").glob("*.woff2")
    drawn = {code for font in fonts for code in ttlib.TTFont(font).getBestCmap()}
    named = {name for path in PAGES for name in re.findall(r"\bfa-[a-z0-9-]+", path.read_text(encoding="utf8"))}
    buttons = {"fa-bars", "fa-list", "fa-magnifying-glass", "fa-sun", "fa-moon", "fa-circle-half-stroke",
               "fa-angle-right"}
    assert buttons <= named & set(codes)
    assert {name for name in named & set(codes) if codes[name] not in drawn} == set()


def test_search_knows_the_chapters():
    """The index is a file of the site, and holds words of the text."""
    index = (SITE / "searchindex.js").read_text(encoding="utf8")
    assert "covari" in index and "normal" in index


def themed(path):
    """Pages with the theme: not the redirect, not the page for wrong addresses."""
    return path.parent != SITE or path.name == "search.html"


@pages(themed)
def test_colours_are_chosen_before_the_first_paint(path):
    """By a script of the head that stands before the style sheet; a reader without scripts gets light ones."""
    head = path.read_text(encoding="utf8").split("</head>")[0]
    assert 'data-theme="light"' in head[: head.index(">", head.index("<html"))]
    choice = re.search(r"<script>(.*?)</script>", head, re.DOTALL)
    assert "root.dataset.theme = " in choice[1] and choice.start() < head.index('rel="stylesheet"')
    digest = base64.b64encode(hashlib.sha256(choice[1].encode()).digest()).decode()
    assert f"'sha256-{digest}'" in parsed(path).policy


@pages(themed)
def test_scripts_do_not_hold_up_the_page(path):
    scripts = re.findall(r"<script[^>]*\bsrc=[^>]*>", path.read_text(encoding="utf8"))
    assert scripts and [script for script in scripts if " defer" not in script] == []


@pages(themed)
def test_fonts_of_the_text_are_asked_for_first(path):
    """The three at the top of a chapter, upright, italic and the menus'; each is one that the style sheet names."""
    text = path.read_text(encoding="utf8")
    early = re.findall(r'<link rel="preload" as="font"[^>]* crossorigin href="([^"]+)"', text)
    named = {(SHEET.parent / url).resolve() for url in re.findall(r"url\(([^)]+\.woff2)\)", SHEET.read_text())}
    assert len(set(early)) == 3 and {target(path, address) for address in early} <= named


def test_size_of_the_text_is_ours():
    """The theme takes the size away for each of the two themes; the last rule of the same strength counts."""
    css = SHEET.read_text(encoding="utf8")
    sizes = re.findall(r"html\[data-theme[^{}]*\{[^{}]*--pst-font-size-base:\s*(\w+)", css)
    assert sizes[0] == "none" and sizes[1:] == ["17px", "16px"]  # on a wide screen, on a phone


def test_sections_out_of_sight_are_not_laid_out():
    """Neither by the browser, nor because the theme's script asks for the width of each box; on paper they are."""
    css = SHEET.read_text(encoding="utf8")
    hidden, shown = (css.index(f"content-visibility: {value}") for value in ("auto", "visible"))
    assert hidden < css.rindex("@media print", 0, shown) < shown
    theme = (SITE / "_static/scripts/pydata-sphinx-theme.js").read_text(encoding="utf8")
    assert '.addEventListener("load",I)' not in theme and "scrollWidth" in theme


def test_heading_reached_by_a_link_gets_no_band():
    """The theme gives it one, by a rule that is stronger than ours would be without the last word."""
    css = SHEET.read_text(encoding="utf8")
    bands = [rule for rule in re.findall(r"[^{}]*:target ?> ?:is\(h1[^{}]*\{[^{}]*\}", css) if "background" in rule]
    assert len(bands) == 2 and "none !important" in bands[1]


def test_nothing_is_shipped_that_no_page_asks_for():
    files = {path.relative_to(SITE).as_posix() for path in SITE.rglob("*") if path.is_file()}
    assert [name for name in files if name.endswith((".map", ".md", ".ttf", ".buildinfo", ".po", ".mo"))] == []
    assert [name for name in files if name.endswith(".css")] == ["_static/site.css"]
    loaded = {target(path, a) for path in PAGES for a in parsed(path).loads if not outside(a)}
    scripts = {path.resolve() for path in (SITE / "_static").rglob("*.js")}
    assert scripts - loaded == set()


@pages(lambda path: themed(path) and path.name != "search.html")
def test_pages_say_what_they_are(path):
    """One title, one viewport, one description; no address while the site has none."""
    head = path.read_text(encoding="utf8").split("</head>")[0]
    title = re.search("<title>(.*?)</title>", head)[1].split(" &#8212; ")
    assert len(title) == len(set(title))
    assert head.count('name="viewport"') == 1
    words = re.findall(r'<meta name="description" content="([^"]*)"', head)
    assert len(words) == 1 and 20 < len(html.unescape(words[0])) <= 204
    known = bool(CONFIG["html"]["baseurl"])
    assert known == ('rel="canonical"' in head) == ('property="og:image"' in head) == (SITE / "sitemap.xml").exists()


def test_page_for_wrong_addresses_depends_on_no_folder():
    """A server shows it for any address, so each link in it begins at the root."""
    page = parsed(SITE / "404.html")
    assert page.loads == [] and page.links and [link for link in page.links if not link.startswith("/")] == []
    assert (SITE / "robots.txt").exists()


def test_no_index_is_built_that_no_page_links_to():
    assert [name for name in ("genindex.html", "py-modindex.html") if (SITE / name).exists()] == []


def test_entries_of_the_bibliography_are_items_of_a_list():
    """As screen readers want it: a list holds items, and nothing else."""
    text = (SITE / "book/bibliography.html").read_text(encoding="utf8")
    entries = re.findall(r'<div class="citation"[^>]*>', text)
    assert 'role="list"' in text and len(entries) > 50
    assert [entry for entry in entries if 'role="listitem"' not in entry] == []


CHAPTERS = pages(lambda path: path.parent.name == "notebooks")


@CHAPTERS
def test_sections_of_chapters_are_numbered_in_order(path):
    text = path.read_text(encoding="utf8")
    chapter = int(path.name[:2])
    numbers = re.findall(r'<h2><span class="section-number">([\d.]+)</span>', text)
    assert len(numbers) > 5 and numbers == [f"{chapter}.{k + 1}" for k in range(len(numbers))]
    titles = re.findall(r"<h[23]>(.*?)<a class=\"headerlink", text)
    assert [title for title in titles if "section-number" in title and "Exercise" in title] == []


@CHAPTERS
def test_captions_stand_with_their_figures(path):
    """None is left as a paragraph; the numbers go up by one, and no other number stands beside them."""
    text = path.read_text(encoding="utf8")
    assert "caption-number" not in text
    assert re.findall(r"<p><em>Figure \d+\.\d+\.", text) == []
    numbers = re.findall(r'<strong class="figure-number">Figure ([\d.]+)\.</strong>', text)
    assert numbers == [f"{int(path.name[:2])}.{k + 1}" for k in range(len(numbers))]
    assert numbers == re.findall(r'<figure [^>]*id="figure-([\d.]+)"', text)


@CHAPTERS
def test_equations_that_the_text_names_are_links(path):
    """Of each number in brackets in a paragraph that is the number of an equation of the page."""
    text = path.read_text(encoding="utf8")
    equations = set(re.findall(r'id="equation-([\d.]+)"', text))
    text = re.sub(r"<(pre|code|annotation)\b.*?</\1>", "", text, flags=re.DOTALL)
    named = re.findall(r"\((\d+\.\d+)\)", " ".join(re.findall(r"<p>(.*?)</p>", text, re.DOTALL)))
    assert [number for number in named if number in equations] == []
    links = re.findall(r'<a class="reference internal" href="#equation-([\d.]+)">\1</a>', text)
    assert len(links) > 5 and set(links) <= equations


def test_search_finds_sections():
    """A section of a chapter stands in the index as page#id, and the page has the id."""
    text = (SITE / "searchindex.js").read_text(encoding="utf8")
    index = json.loads(text.removeprefix("Search.setIndex(").removesuffix(")"))
    sections = {number: name for number, name in enumerate(index["docnames"]) if "#" in name}
    assert len(sections) > 20
    for name in sections.values():
        page, anchor = name.split("#")
        assert anchor in parsed(SITE / f"{page}.html").ids
    found = index["terms"]["varianc"]
    assert any(number in sections for number in found)
    assert "#${id}" in (SITE / "_static/language_data.js").read_text(encoding="utf8")  # the script that reads it


@pages(lambda path: path.name == "intro.html")
def test_first_page_has_a_door_to_a_chapter(path):
    text = path.read_text(encoding="utf8")
    door = re.search(r'<a class="start[^"]*" href="([^"]+)"', text)
    assert target(path, door[1]).exists() and door.start() < text.index('class="title-picture')
