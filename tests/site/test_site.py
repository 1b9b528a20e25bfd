"""The built site in _build/html: links, anchors, weight, and nothing that comes from outside.

Built by `make book`; without it these tests are skipped.
"""

import gzip
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
LIMIT = 500_000  # bytes on the wire of a page with everything that it loads
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
    file = (path.parent / unquote(parts.path)).resolve() if parts.path else path
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
    assert len(sheets) > 4
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
    """At most 500 kB: the page, its style sheets, scripts and figures, and every font that the style sheets name."""
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
    css = (SITE / "_static/styles/pydata-sphinx-theme.css").read_text(encoding="utf8")
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
