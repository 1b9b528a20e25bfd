"""Pages and lists that are collected: equations with their tests, claims, errata, chapters.

What they say is made in `tools/collect.py`; here it becomes part of a page. In a page of `book/`:

    ```{chapters}          the finished chapters, then the planned ones
    ```{equations}         each numbered equation, and the tests that name it
    ```{errata}            the errors of the study notes, chapter by chapter
    ```{claims}            how many claims are settled; with S0 to S4 as argument, the claims of that note
"""

import sys
from pathlib import Path

from docutils import nodes
from docutils.statemachine import StringList
from sphinx import addnodes
from sphinx.util.docutils import SphinxDirective

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "tools"))  # a build of the site starts without it

import collect  # noqa: E402

ROOT_OF_PAGES = "../"  # from a page of book/ to the root


class Collected(SphinxDirective):
    """Markdown that is made for the page; the page is read again when one of its sources changes."""

    def parsed(self, markdown):
        box = nodes.Element()
        self.state.nested_parse(StringList(markdown.splitlines(), source=self.env.docname), 0, box)
        for table in box.findall(nodes.table):
            table["classes"].append("collected")  # for the style sheet: no break in "S0-01"
        return box.children

    def section(self, name, title, content):
        return nodes.section("", nodes.title("", "", nodes.Text(title)), *content, ids=[name], names=[name])

    def run(self):
        for path in (ROOT / "_toc.yml", *(ROOT / "book").glob("*.yml"), *(ROOT / "notebooks").glob("*.md")):
            self.env.note_dependency(str(path))
        collect.anchors.cache_clear()  # the server of an editor builds more than once
        return self.collected()


class Chapters(Collected):
    def collected(self):
        return self.parsed(collect.chapter_list(ROOT_OF_PAGES))


class Claims(Collected):
    optional_arguments = 1

    def collected(self):
        notes = self.arguments
        return self.parsed(collect.claims_of(notes[0], ROOT_OF_PAGES) if notes else collect.claims_count())


class Errata(Collected):
    def collected(self):
        titles = {each.number: f"{each.number}. {each.title}" for each in collect.plan()}
        return [self.section(f"errata-chapter-{number}", titles[number], self.parsed(table))
                for number, table in collect.errata(ROOT_OF_PAGES).items()]


class Equations(Collected):
    """A section for each chapter of the book, with its equations and the tests of each."""

    def collected(self):
        for path in (ROOT / "tests").rglob("test_*.py"):
            self.env.note_dependency(str(path))
        tests = collect.tests_by_equation()
        return [self.section(f"chapter-{each.name[:2]}", each.title,
                             [self.entry(f"notebooks/{each.name}", number, tex, tests.get(number, []))
                              for number, tex in each.equations])
                for each in collect.finished().values()]

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
    for name, directive in {"chapters": Chapters, "equations": Equations, "errata": Errata, "claims": Claims}.items():
        app.add_directive(name, directive)
    app.connect("missing-reference", link_to_equation)
