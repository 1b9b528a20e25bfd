"""A chapter's text, read once: what the site, the tests and the tools need to know of it.

The site collects equations from it (`book/_ext/course_collect.py`), `bones.py` holds it to the rules,
`fill.py` writes its reading time.  Nobody else takes a chapter's text apart.
"""

import ast
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import jupytext

ROOT = Path(__file__).resolve().parents[1]
FENCE = re.compile(r"^(`{3,}|:{3,}).*?^\1\s*$", re.DOTALL | re.MULTILINE)
DISPLAY = re.compile(r"\$\$(.+?)\$\$", re.DOTALL)
TAG = re.compile(r"\\tag\{([\d.]+)\}")
HEADING = re.compile(r"^(#{1,6}) (.+?)\s*$", re.MULTILINE)
FIGURE = re.compile(r"^(?:(?:plots|figures)\.\w+\(|plt\.show\(\))", re.MULTILINE)
PICTURE = re.compile(r"!\[([^\]]*)\]\([^)]*\)")
READING_TIME = re.compile(r"^\*\*Reading time: about (\d+) minutes\.\*\*$", re.MULTILINE)
FOLDED = {"hide-input", "hide-cell", "remove-input", "remove-cell"}

WORDS_A_MINUTE, SECONDS_A_LINE, SECONDS_AN_EQUATION, SECONDS_A_FIGURE = 200, 4, 30, 20


@dataclass(frozen=True)
class Cell:
    """A code cell: its source, its tags and the description of the figure that it draws ("" where it has none)."""

    source: str
    tags: tuple[str, ...] = ()
    alt: str = ""

    @property
    def folded(self):
        return bool(FOLDED & set(self.tags))

    @property
    def is_stub(self):
        return "exercise" in self.tags

    @property
    def is_install(self):
        """The first cell, the same in all chapters."""
        return self.source.startswith("try:\n    import course_lib\n")

    @property
    def is_figure(self):
        return bool(self.alt or FIGURE.search(self.source))

    @property
    def lines(self):
        """The lines that are not empty."""
        return [line for line in self.source.splitlines() if line.strip()]

    @cached_property
    def tree(self):
        """The parsed source, in which a magic command is `pass`."""
        return ast.parse(re.sub(r"^(\s*)[%!].*$", r"\1pass", self.source, flags=re.MULTILINE))

    @property
    def prints(self):
        """Whether something appears under the cell: a print, a table, or the value of its last line."""
        calls = [node for node in ast.walk(self.tree) if isinstance(node, ast.Call)]
        if any(_called(call) in ("print", "table") for call in calls):
            return True
        last = self.tree.body[-1] if self.tree.body else None
        return isinstance(last, ast.Expr) and not (isinstance(last.value, ast.Call) and _called(last.value) == "setup")


def _called(call):
    """The last name of what is called: `table` in notebook.table(...)."""
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


@dataclass(frozen=True)
class Section:
    """What stands from one heading to the next, in order: pieces of Markdown (`str`) and cells."""

    level: int
    title: str
    anchor: str
    top: str  # the title of the `##` section that it belongs to
    in_exercise: bool  # whether it is an exercise, or the list of them
    parts: tuple[str | Cell, ...]

    @property
    def text(self):
        return "\n\n".join(part for part in self.parts if isinstance(part, str))

    @property
    def cells(self):
        return [part for part in self.parts if isinstance(part, Cell)]


class Chapter:
    """A chapter from its text; `name` is that of its file without the ending, "04_batch_norm"."""

    def __init__(self, text, name):
        self.text, self.name, self.number = text, name, int(name[:2])

    @classmethod
    def read(cls, path):
        return cls(path.read_text(encoding="utf8"), path.stem)

    @cached_property
    def parts(self):
        """Pieces of Markdown and code cells, in order."""
        return [_cell(cell) if cell.cell_type == "code" else cell.source
                for cell in jupytext.reads(self.text, fmt="md:myst").cells]

    @property
    def cells(self):
        return [part for part in self.parts if isinstance(part, Cell)]

    @cached_property
    def title(self):
        return next((section.title for section in self.sections if section.level == 1), "")

    @cached_property
    def sections(self):
        """The chapter from heading to heading; what comes before the title is left out."""
        pieces = []
        for part in self.parts:
            pieces += _split_at_headings(part) if isinstance(part, str) else [part]
        found, taken, top, exercise = [], set(), "", 0
        for piece in pieces:
            if isinstance(piece, re.Match):
                level, title = len(piece[1]), piece[2]
                top = title if level <= 2 else top
                if exercise and level <= exercise:
                    exercise = 0
                if not exercise and title.startswith("Exercise"):
                    exercise = level
                found.append([level, title, anchor(title, taken), top, bool(exercise), []])
            elif found:
                found[-1][-1].append(piece)
        return [Section(*head, tuple(parts)) for *head, parts in found]

    @property
    def anchors(self):
        """{anchor: title} of the headings that a link can lead to."""
        return {section.anchor: section.title for section in self.sections}

    @property
    def body(self):
        """The sections that are neither an exercise nor the list of exercises."""
        return [section for section in self.sections if not section.in_exercise]

    @property
    def exercises(self):
        """The sections of the exercises, each from its own heading to the next."""
        return [section for section in self.sections if re.match(r"Exercise \d", section.title)]

    @property
    def stubs(self):
        """(name of the function, cell) of each stub, in order; the name is "" where a cell defines none."""
        functions = ([node for node in cell.tree.body if isinstance(node, ast.FunctionDef)] for cell in self.cells
                     if cell.is_stub)
        cells = [cell for cell in self.cells if cell.is_stub]
        return [(defined[-1].name if defined else "", cell) for defined, cell in zip(functions, cells)]

    @property
    def prose(self):
        """The whole Markdown without its code, formulas and folded answers included."""
        return FENCE.sub("", self.text)

    @property
    def displayed(self):
        """(the numbers in it, TeX without them) of each displayed formula, in order."""
        return [(TAG.findall(tex), TAG.sub("", re.sub(r"\n> ?", "\n", tex)).strip())
                for tex in DISPLAY.findall(self.prose)]

    @property
    def equations(self):
        """(number, TeX) of each displayed formula that has a number, in order."""
        return [(numbers[0], tex) for numbers, tex in self.displayed if numbers]

    @property
    def boxes(self):
        """The first words, in bold, of each block quote that has such words."""
        return re.findall(r"(?:^|\n\n)> \*\*([^*]+)\*\*", self.prose)

    # What a reader spends time on: headings, exercises, tables, folded answers and folded code are not counted.

    @property
    def words(self):
        return sum(len(plain(section.text).split()) for section in self.body)

    @property
    def visible_cells(self):
        return [cell for section in self.body for cell in section.cells if not (cell.folded or cell.is_stub)]

    @property
    def code_lines(self):
        return sum(len(cell.lines) for cell in self.visible_cells)

    @property
    def figures(self):
        """Cells that draw, and pictures, of the body."""
        return [part for section in self.body for part in section.parts
                if (part.is_figure if isinstance(part, Cell) else PICTURE.search(part))]

    @property
    def minutes(self):
        equations = sum(len(DISPLAY.findall(_unfolded(section.text))) for section in self.body)
        seconds = (self.code_lines * SECONDS_A_LINE + equations * SECONDS_AN_EQUATION
                   + len(self.figures) * SECONDS_A_FIGURE)
        return self.words / WORDS_A_MINUTE + seconds / 60

    @property
    def reading_time(self):
        """The line at the head of the chapter, to five minutes, so that a sentence more does not change it."""
        return f"**Reading time: about {max(5, 5 * round(self.minutes / 5))} minutes.**"


def chapters():
    """All chapters that have a text, in order."""
    return [Chapter.read(path) for path in sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.md"))]


def anchor(title, taken=None):
    """The anchor that GitHub and MyST give a heading; `taken` holds those of the page so far."""
    words = re.sub(r"\$[^$]*\$|[`*]", "", re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", title))
    name = first = re.sub(r"[^\w\- ]", "", words.lower().replace(" ", "-"))
    taken, k = set() if taken is None else taken, 1
    while name in taken:
        name, k = f"{first}-{k}", k + 1
    taken.add(name)
    return name


def plain(text):
    """The words of a piece of Markdown that are read as text; a formula in a line is one word."""
    text = DISPLAY.sub("", PICTURE.sub("", _unfolded(FENCE.sub("", text))))
    text = READING_TIME.sub("", re.sub(r"^(> )?\|.*$", "", text, flags=re.MULTILINE))
    text = re.sub(r"\[([^\]]*)\]\((?:[^()]|\([^()]*\))*\)", r"\1", text)
    text = re.sub(r"(?<![\\$])\$(?!\s)[^$]+?(?<!\s)\$", "formula", text)
    return re.sub(r"<[^>]+>|^\s*(?:[>#*-]|\d+\.)+\s", "", text, flags=re.MULTILINE)


def _unfolded(text):
    """The text without folded answers and comments."""
    return re.sub(r"<details.*?</details>|<!--.*?-->", "", text, flags=re.DOTALL)


def _cell(cell):
    image = cell.metadata.get("mystnb", {}).get("image", {})
    return Cell(cell.source, tuple(cell.metadata.get("tags", ())), image.get("alt", ""))


def _split_at_headings(text):
    """Headings as matches, and the pieces of text between them; a # in a code fence is no heading."""
    fences = [match.span() for match in FENCE.finditer(text)]
    start = 0
    for match in HEADING.finditer(text):
        if any(a <= match.start() < b for a, b in fences):
            continue
        if text[start : match.start()].strip():
            yield text[start : match.start()].strip()
        yield match
        start = match.end()
    if text[start:].strip():
        yield text[start:].strip()
