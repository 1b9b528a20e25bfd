"""Fonts that carry only what the pages show: 900 kB of fonts become about 130.

Text fonts keep the characters of all pages, KaTeX's fonts those of the formulas, the
icon fonts the icons.  The source is always the whole font, so a later build can add.
"""

import html
import re
import string
from pathlib import Path

import pydata_sphinx_theme
from fontTools import subset
from fontTools.ttLib import TTFont
from fontTools.varLib import instancer

STATIC = Path(__file__).resolve().parents[1] / "_static"
ICONS = "vendor/fontawesome/webfonts"
ICON_SOURCE = Path(pydata_sphinx_theme.__file__).parent / "theme/pydata_sphinx_theme/static" / ICONS
ICON_RULE = re.compile(r'((?:\.fa-[\w-]+:before,?)+)\{content:"\\([0-9a-f]+)"\}')
ICON_NAME = re.compile(r"\bfa-[a-z0-9-]+")
SPAN = re.compile(r"<(/?)span\b")
TYPED = set(string.printable) | set("…–—‘’“”·×→✓✗○")  # what a search or a check may show, whether a page has it or not


def plain(markup):
    return html.unescape(re.sub(r"<[^>]+>", "", markup))


def formulas(page):
    """The visible part of each formula of a page."""
    for start in re.finditer('<span class="katex-html"', page):
        depth = 0
        for tag in SPAN.finditer(page, start.start()):
            depth += -1 if tag[1] else 1
            if depth == 0:
                yield plain(page[start.start() : tag.start()])
                break


def slim(source, target, characters):
    """Write the font `source` to `target` with these characters only."""
    options = subset.Options(flavor="woff2", ignore_missing_unicodes=True, notdef_outline=True)
    font = subset.load_font(source, options)
    subsetter = subset.Subsetter(options)
    subsetter.populate(unicodes={ord(c) for c in characters})
    subsetter.subset(font)
    subset.save_font(font, target, options)


def used_icons(static, pages):
    """Characters of the icons that pages and scripts name by class, and style sheets by code or by the character."""
    scripts = "".join(p.read_text(encoding="utf8") for p in (static / "scripts").glob("*sphinx*theme.js"))
    css = "".join(p.read_text(encoding="utf8") for p in static.rglob("*.css"))
    names = set(ICON_NAME.findall("".join(pages) + scripts))
    found = {chr(int(code, 16)) for rule, code in ICON_RULE.findall(css) if names & set(ICON_NAME.findall(rule))}
    rest = re.sub(r"\.fa-[^{}]*\{[^}]*\}", "", css)
    found |= {chr(int(code, 16)) for code in re.findall(r"\\(f[0-9a-f]{3})\b", rest, re.IGNORECASE)}
    return found | {c for c in rest + scripts if "\ue000" <= c <= "\uf8ff"}


def for_figures(folder):
    """Write the site's font as matplotlib can read it, whole and of one weight, and return its path."""
    font = instancer.instantiateVariableFont(TTFont(STATIC / "fonts/inter-latin-wght-normal.woff2"), {"wght": 400})
    font.flavor = None
    folder.mkdir(parents=True, exist_ok=True)
    font.save(folder / "Inter-Regular.ttf")
    return folder / "Inter-Regular.ttf"


def slim_all(static, pages):
    """Cut every font under `static` down to what the HTML `pages` show."""
    text = set("".join(plain(page) for page in pages)) | TYPED
    math = {c for page in pages for formula in formulas(page) for c in formula}
    for source, target, characters in (
        (STATIC / "fonts", static / "fonts", text),
        (STATIC / "katex/fonts", static / "katex/fonts", math),
        (ICON_SOURCE, static / ICONS, used_icons(static, pages)),
    ):
        for font in target.glob("*.woff2"):
            slim(source / font.name, font, characters)
