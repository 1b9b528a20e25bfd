"""Cuts the theme's icon fonts (300 kB) down to the icons that the site uses (4 kB); run after `make book`.

    python tools/slim_icons.py

A file of the same name under book/_static replaces the theme's own.  An icon is named by its class in a page or
script, by its code in a style sheet, or by the character itself; all three are looked for.
"""

import re
from pathlib import Path

import pydata_sphinx_theme
from fontTools import subset

ROOT = Path(__file__).resolve().parents[1]
SITE = ROOT / "_build/html"
FONTS = "vendor/fontawesome/webfonts"
THEME = Path(pydata_sphinx_theme.__file__).parent / "theme/pydata_sphinx_theme/static" / FONTS
CLASS_RULE = re.compile(r"((?:\.fa-[\w-]+:before,?)+)\{content:\"\\([0-9a-f]+)\"\}")


def used_codes():
    """Code points of the icons that pages, scripts and style sheets name."""
    def text(pattern):
        return "".join(path.read_text(encoding="utf8") for path in SITE.rglob(pattern))

    css, scripts = text("*.css"), text("*sphinx*theme.js") + text("course.js")
    names = set(re.findall(r"fa-[a-z0-9-]+", text("*.html") + scripts))
    codes = {int(code, 16) for rule, code in CLASS_RULE.findall(css) if names & set(re.findall(r"fa-[\w-]+", rule))}
    rest = re.sub(r"\.fa-[^{}]*\{[^}]*\}", "", css)
    codes |= {int(code, 16) for code in re.findall(r"\\(f[0-9a-f]{3})\b", rest, re.I)}
    return codes | {ord(c) for c in rest + scripts if "\ue000" <= c <= "\uf8ff"}


def main():
    target = ROOT / "book/_static" / FONTS
    target.mkdir(parents=True, exist_ok=True)
    codes = used_codes()
    for font in sorted(THEME.glob("*.woff2")):
        options = subset.Options(flavor="woff2", ignore_missing_unicodes=True, notdef_outline=True)
        loaded = subset.load_font(font, options)
        subsetter = subset.Subsetter(options)
        subsetter.populate(unicodes=codes)
        subsetter.subset(loaded)
        subset.save_font(loaded, target / font.name, options)
        print(f"{font.name}: {font.stat().st_size} -> {(target / font.name).stat().st_size} bytes")


if __name__ == "__main__":
    main()
