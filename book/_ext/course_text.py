"""What plain Markdown says by position and wording becomes structure on the site.

- `> **Predict.** ...`, a block quote that opens with a bold word, is an aside of that kind;
- `*Figure 4.2. What it shows.*`, a paragraph right after the cell that draws the figure, is its caption;
- the sections of a chapter are numbered, and one whose first paragraph is `*Essential.*` is marked;
- an equation or figure that the text names, (4.12) or Figure 4.2, is a link to it.

Chapters are read in other places as well, so none of this needs a directive.
"""

import re
from functools import lru_cache
from pathlib import Path

import course_tex
from docutils import nodes

ROOT = Path(__file__).resolve().parents[2]
ASIDES = ("note", "it is often said", "definition", "proposition", "predict", "disputed")
CHAPTER = re.compile(r"notebooks/(\d\d)_\w+")
UNNUMBERED = ("exercises", "the chapter in short", "further reading")  # back matter
CAPTION = re.compile(r"(Figure (\d+\.\d+)\.)\s*")
# "(4.12)", "(4.12, 4.13)", "(4.12 to 4.15)", and "Figure 4.2"
NAMED = re.compile(r"\(\d+\.\d+(?:(?:, | to | and |–)\d+\.\d+)*\)|\b[Ff]igure \d+\.\d+")
NUMBER = re.compile(r"\d+\.\d+")
CLOSED = (nodes.reference, nodes.literal, nodes.literal_block, nodes.title, nodes.math, nodes.math_block)


def mark_asides(app, doctree):
    """**Note.** at the head of a block quote makes it an aside of the kind note."""
    for quote in doctree.findall(nodes.block_quote):
        first = next((node for node in quote.findall(nodes.Text) if node.strip()), None)
        if first is not None and isinstance(first.parent, nodes.strong):
            kind = next((kind for kind in ASIDES if first.lower().startswith(kind)), "note")
            quote["classes"] += ["aside", f"aside-{kind.replace(' ', '-')}"]


def number_sections(app, doctree):
    """4.1, 4.2 ... before the sections of chapter 4; before its exercises and its back matter none."""
    chapter = CHAPTER.fullmatch(app.env.docname)
    page = next(doctree.findall(nodes.section), None)
    if not chapter or page is None:
        return
    sections = [node for node in page.children if isinstance(node, nodes.section)]
    count = 0
    for section in sections:
        if section[0].astext().lower().startswith(UNNUMBERED):
            continue
        count += 1
        number = nodes.inline("", f"{int(chapter[1])}.{count}", classes=["section-number"])
        section[0].insert(0, [number, nodes.Text(" ")])
        if len(section) > 1 and isinstance(section[1], nodes.paragraph) and section[1].astext() == "Essential.":
            section["classes"].append("essential")
            section.remove(section[1])


def draws(node):
    """Whether a node is the cell of a notebook with a figure in its output."""
    return isinstance(node, nodes.container) and any(isinstance(image, nodes.image) for image in node.findall())


def set_captions(app, doctree):
    """The paragraph *Figure 4.2. ...* after a cell and the output of that cell become a figure."""
    for paragraph in list(doctree.findall(nodes.paragraph)):
        first = paragraph.children[0] if paragraph.children else None
        match = CAPTION.match(first.astext()) if isinstance(first, nodes.emphasis) else None
        if not match or not isinstance(first[0], nodes.Text):
            continue
        cell = paragraph.previous_sibling()
        if not draws(cell):
            continue
        label = nodes.strong("", match[1], classes=["figure-number"])
        words = nodes.Text(f" {CAPTION.sub('', first[0].astext(), count=1)}")
        output = cell.children[-1]
        caption = nodes.caption("", "", label, words, *first.children[1:], *paragraph.children[1:])
        output.children = [nodes.figure("", *output.children, caption, ids=[f"figure-{match[2]}"])]
        output.setup_child(output[0])
        paragraph.parent.remove(paragraph)


@lru_cache(None)
def numbers(path):
    """(numbers of the equations, numbers of the figures) of a chapter."""
    text = path.read_text(encoding="utf8")
    return set(course_tex.TAG.findall(text)), {number for _, number in CAPTION.findall(text)}


def target(app, number, kind):
    """The address of an equation or a figure from the page that is being read; None where there is no such thing."""
    chapter = next((ROOT / "notebooks").glob(f"{int(number.split('.')[0]):02}_*.md"), None)
    docname = f"notebooks/{chapter.stem}" if chapter else None
    if docname not in app.env.found_docs or number not in numbers(chapter)[kind == "figure"]:
        return None
    page = "" if docname == app.env.docname else app.builder.get_relative_uri(app.env.docname, docname)
    return f"{page}#{kind}-{number}"


def linked(app, words):
    """The nodes of a text: what it names as links, the rest as it is."""
    out, end = [], 0
    for name in NAMED.finditer(words):
        kind = "figure" if name[0][0] in "Ff" else "equation"
        for number in NUMBER.finditer(words, name.start(), name.end()):
            address = target(app, number[0], kind)
            if address:
                start, stop = (name.span() if kind == "figure" else number.span())
                out += [nodes.Text(words[end:start]),
                        nodes.reference("", words[start:stop], internal=True, refuri=address)]
                end = stop
    return [*out, nodes.Text(words[end:])] if out else []


def link_numbers(app, doctree):
    for text in list(doctree.findall(nodes.Text)):
        node = text.parent
        while node is not None and not (isinstance(node, CLOSED) or "figure-number" in node["classes"]):
            node = node.parent
        new = linked(app, text.astext()) if node is None else []
        if new:
            text.parent.replace(text, new)


def count_no_figures(app, config):
    """A figure's number stands in its caption; an extension of Jupyter Book asks Sphinx for another one."""
    config.numfig = False


def setup(app):
    numbers.cache_clear()
    app.connect("config-inited", count_no_figures, priority=900)
    for change in (mark_asides, number_sections, set_captions, link_numbers):  # before the contents are collected
        app.connect("doctree-read", change, priority=400)
