"""TeX becomes HTML while the site is built: KaTeX inside QuickJS.

So a page carries no math script, a reader needs no Node, and a formula that does
not parse stops the build.
"""

import json
import re
from functools import lru_cache
from pathlib import Path

import quickjs
from docutils import nodes
from sphinx.errors import ExtensionError

KATEX = Path(__file__).parent / "katex/katex.min.js"
TAG = re.compile(r"\\tag\{([^}]*)\}")
# The result travels as JSON: QuickJS cannot hand over a string that it has not yet joined up.
GLUE = """
function render(tex, displayMode) {
  try {
    return JSON.stringify({html: katex.renderToString(tex, {displayMode, throwOnError: true, strict: "error"})});
  } catch (error) {
    return JSON.stringify({error: String(error.message)});
  }
}
"""


class TexError(ValueError):
    """A formula that KaTeX refuses."""


@lru_cache(1)
def _engine():
    context = quickjs.Context()
    context.eval(KATEX.read_text(encoding="utf8"))
    context.eval(GLUE)
    return context.get("render")


@lru_cache(None)
def render(tex, *, display):
    """HTML (with MathML inside) of one formula; `TexError` names the formula that is wrong."""
    answer = json.loads(_engine()(tex, display))
    if "error" in answer:
        raise TexError(f"{answer['error']}\n    in: {tex.strip()}")
    return answer["html"]


def check_formulas(app, doctree, docname):
    """Before a page is written: render each of its formulas and tell of all that fail, not of the first only."""
    bad = []
    for node in doctree.findall(lambda n: isinstance(n, nodes.math | nodes.math_block)):
        try:
            render(node.astext(), display=isinstance(node, nodes.math_block))
        except TexError as error:
            bad.append(str(error))
    if bad:
        raise ExtensionError(f"{docname}: formulas that KaTeX refuses\n  " + "\n  ".join(bad))


def visit_inline(self, node):
    self.body.append(f'<span class="math notranslate nohighlight">{render(node.astext(), display=False)}</span>')
    raise nodes.SkipNode


def visit_block(self, node):
    """A displayed formula; one with \\tag{4.3} can be linked to as #equation-4.3."""
    tag = TAG.search(node.astext())
    anchor = f' id="equation-{tag[1]}"' if tag else ""
    # The box scrolls when the formula is wider than the page, so it must be reachable by keyboard.
    self.body.append(f'<div class="math notranslate nohighlight"{anchor} tabindex="0">')
    self.body.append(render(node.astext(), display=True) + "</div>\n")
    raise nodes.SkipNode


def setup(app):
    app.add_html_math_renderer("katex", (visit_inline, None), (visit_block, None))
    app.connect("doctree-resolved", check_formulas)
