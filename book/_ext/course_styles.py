"""One style sheet for the site, with the rules that its pages can use, and no file that no page asks for.

The theme brings eight sheets, of which nine rules in ten fit nothing here; a browser must read them all before it
paints.  A rule stays when each class and id in its selector stands in a page or is a word of a script.
"""

import html
import posixpath
import re
import zlib

# In the order in which they count.  `course_site.page_context` stops the build when the theme wants another one.
SHEETS = ("basic.css", "styles/theme.css", "styles/pydata-sphinx-theme.css", "pygments.css",
          "styles/sphinx-book-theme.css", "copybutton.css", "mystnb.*.css", "katex/katex.min.css", "course.css")
SITE = "site.css"
KEPT = ("LICENSE", "share.png")
COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)
IMPORT = re.compile(r"@import\b[^;]*;|@charset\b[^;]*;")
OLD_FONT = re.compile(r",url\([^)]*\.ttf\) format\(\"truetype\"\)")
MARK = re.compile(r"""("(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|url\([^"')]*\))|([{};])""")
URL = re.compile(r"""url\(\s*["']?(?!data:|#)([^"')]+)["']?\s*\)""")
BRACKETS = re.compile(r"\((?:[^()]|\((?:[^()]|\([^()]*\))*\))*\)|\[[^\]]*\]")
NAME = re.compile(r"[.#](-?[A-Za-z_][\w-]*)")
NESTED = ("@media", "@supports", "@layer", "@container")
WORD = re.compile(r"[A-Za-z_][\w-]*")
ATTRIBUTE = re.compile(r'\s(?:class|id)="([^"]*)"')
ADDRESS = re.compile(r'\s(?:src|href)="([^"?#]+)')


def rules(css):
    """(what stands before the brace, what stands within) of each rule of a sheet."""
    depth, start, before = 0, 0, ""
    for mark in MARK.finditer(css):
        if mark[2] == "{":
            if depth == 0:
                before, start = css[start:mark.start()].strip(), mark.end()
            depth += 1
        elif mark[2] == "}":
            depth -= 1
            if depth == 0:
                yield before, css[start:mark.start()].strip()
                start = mark.end()


def split(selectors):
    """The selectors of a list; a comma in brackets does not part them."""
    plain = BRACKETS.sub(lambda inner: "x" * len(inner[0]), selectors)
    ends = [comma.start() for comma in re.finditer(",", plain)]
    return [selectors[a + 1 : b].strip() for a, b in zip([-1, *ends], [*ends, len(selectors)], strict=True)]


def keep(css, used):
    """The sheet without the selectors that name a class or an id that is not used."""
    out = []
    for before, within in rules(css):
        if before.startswith(NESTED):
            within = keep(within, used)
        elif not before.startswith("@"):
            before = ",".join(s for s in split(before) if used.issuperset(NAME.findall(BRACKETS.sub("", s))))
        if before and within:
            out.append(f"{before}{{{within}}}")
    return "\n".join(out)


def loaded(pages):
    """The files that the pages, a dict from their paths to their text, ask for."""
    return {(path.parent / html.unescape(address)).resolve()
            for path, page in pages.items() for address in ADDRESS.findall(page)}


def names(pages):
    """Classes and ids of the pages, and every word of their scripts, since a script may set it."""
    values = {value for page in pages.values() for value in ATTRIBUTE.findall(page)}
    found = {name for value in values for name in html.unescape(value).split()}
    for script in [path for path in loaded(pages) if path.suffix == ".js"]:
        found.update(WORD.findall(script.read_text(encoding="utf8")))
    return found


def rebased(css, folder):
    """A sheet of `folder` with the addresses in it as seen from the folder above."""
    return URL.sub(lambda url: f"url({posixpath.normpath(posixpath.join(folder, url[1]))})", css)


def bundle(static, pages):
    """Write the one sheet, and return its address with a mark that changes when it does."""
    used, parts = names(pages), []
    for pattern in SHEETS:
        for path in sorted(static.glob(pattern)):
            css = OLD_FONT.sub("", IMPORT.sub("", COMMENT.sub("", path.read_text(encoding="utf8"))))
            folder = path.parent.relative_to(static).as_posix()
            parts.append(rebased(keep(css, used), folder))
    sheet = "\n".join(parts)
    (static / SITE).write_text(sheet, encoding="utf8")
    return f"{SITE}?v={zlib.crc32(sheet.encode()):08x}"


def prune(out, pages):
    """Remove what neither a page nor the style sheet asks for; licences and the picture for sharing stay."""
    static = out / "_static"
    wanted = loaded(pages) | {(static / SITE).resolve()}
    wanted |= {(static / address.split("?")[0]).resolve() for address in URL.findall((static / SITE).read_text())}
    for path in sorted(static.rglob("*"), reverse=True):  # a folder after what it holds
        if path.is_dir():
            if not any(path.iterdir()):
                path.rmdir()
        elif path.resolve() not in wanted and not path.name.startswith(KEPT):
            path.unlink()
