"""The page of equations: each numbered equation of a chapter, and the tests that name it."""

import ast
import re
from pathlib import Path

from docutils import nodes
from sphinx import addnodes
from sphinx.util.docutils import SphinxDirective

ROOT = Path(__file__).resolve().parents[2]
FENCE = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)
DISPLAY = re.compile(r"\$\$(.+?)\$\$", re.DOTALL)
TAG = re.compile(r"\\tag\{([\d.]+)\}")
NAMED = re.compile(r"Equations? (\([\d.]+\)(?:(?:,| and) \([\d.]+\))*)")


def equations(text):
    """(number, TeX without the tag) of each displayed equation of a chapter, in order."""
    for tex in DISPLAY.findall(FENCE.sub("", text)):
        tag = TAG.search(tex)
        if tag:
            yield tag[1], TAG.sub("", tex.replace("\n> ", "\n").replace("\n>", "\n")).strip()


def tests_by_equation():
    """{number: names of the tests whose docstring says `Equation (number)`}."""
    found = {}
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf8"))):
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                for group in NAMED.findall(ast.get_docstring(node) or ""):
                    for number in re.findall(r"\d+\.\d+", group):
                        found.setdefault(number, []).append(node.name)
    return found


class Equations(SphinxDirective):
    """A section for each chapter of the book, with its equations as a definition list."""

    def run(self):
        tests, sections = tests_by_equation(), []
        for path in sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.md")):
            docname = f"notebooks/{path.stem}"
            if docname not in self.env.found_docs:
                continue
            self.env.note_dependency(str(path))
            text = path.read_text(encoding="utf8")
            title = re.search(r"^# (.+)$", text, re.MULTILINE)[1]
            section = nodes.section("", nodes.title("", title), ids=[f"chapter-{path.stem[:2]}"])
            section += [self.entry(docname, number, tex, tests.get(number, [])) for number, tex in equations(text)]
            sections.append(section)
        for path in (ROOT / "tests").rglob("test_*.py"):
            self.env.note_dependency(str(path))
        return sections

    def entry(self, docname, number, tex, names):
        link = addnodes.pending_xref("", refdomain="", reftype="course-equation", refexplicit=True, refwarn=True,
                                     refdoc=self.env.docname, reftarget=number, docname=docname)
        link += nodes.inline("", f"({number})")
        named = nodes.paragraph("", "", link)
        for k, name in enumerate(names):
            named += [nodes.Text(", " if k else " tested by "), nodes.literal("", name)]
        formula = nodes.math_block(tex, tex, nowrap=False, number=None, label=None)
        return nodes.container("", formula, named, classes=["equation-entry"])


def link_to_equation(app, env, node, contnode):
    if node.get("reftype") != "course-equation":
        return None
    uri = app.builder.get_relative_uri(node["refdoc"], node["docname"])
    return nodes.reference("", "", contnode, internal=True, refuri=f"{uri}#equation-{node['reftarget']}")


def setup(app):
    app.add_directive("equations", Equations)
    app.connect("missing-reference", link_to_equation)
