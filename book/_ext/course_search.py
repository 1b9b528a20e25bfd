"""Search finds the sections of chapters, not chapters of forty screens.

Sphinx indexes whole pages.  Here each section of a chapter is entered as a page of its own, named `page#id`;
`search_scorer.js` makes the address out of that, and puts sections before names of functions.
"""

from pathlib import Path

import sphinx.search
from docutils import nodes

CHAPTERS = "notebooks/"
SCORER = Path(__file__).with_name("search_scorer.js")


def sections(page):
    """(section, what is its own) for a page and its sections down to the second level below the title."""
    inner = [node for node in page.children if isinstance(node, nodes.section)]
    yield page, [node for node in page.children if node not in inner]
    for section in inner:
        deeper = [node for node in section.children if isinstance(node, nodes.section)]
        yield section, [node for node in section.children if node not in deeper]
        yield from ((node, node.children) for node in deeper)


class SectionIndex(sphinx.search.IndexBuilder):
    """Sphinx's index with the sections of chapters."""

    def feed(self, docname, filename, title, doctree):
        if not docname.startswith(CHAPTERS):
            super().feed(docname, filename, title, doctree)
            return
        for table in (self._titles, self._filenames, self._all_titles):
            for name in [name for name in table if name.startswith(f"{docname}#")]:
                del table[name]
        page = next(doctree.findall(nodes.section))
        for section, own in sections(page):
            name = docname if section is page else f"{docname}#{section['ids'][0]}"
            words = title if section is page else f"{title} > {section[0].astext()}"
            part = nodes.section("", *[node.deepcopy() for node in own], ids=section["ids"])
            super().feed(name, filename, words, part)
            self._all_titles[name] = [(words, None)]

    def prune(self, docnames):
        docnames = set(docnames)
        super().prune([name for name in self._titles if name.split("#")[0] in docnames])


def setup(app):
    sphinx.search.IndexBuilder = SectionIndex  # there is no option for it; the builder imports it when it writes
    app.connect("config-inited", lambda app, config: setattr(config, "html_search_scorer", str(SCORER)))
