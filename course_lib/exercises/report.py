"""What the learner sees: a few lines of text, or a folded piece of code."""

import html
import textwrap
from dataclasses import dataclass

WIDTH, LINES = 100, 12
MARKS = {"right": "✓", "wrong": "✗", "not started": "○", "no check": "?"}
STEPS = ("what breaks", "which path", "which equation")


@dataclass(frozen=True)
class Report:
    """What the checker found; true when the answer is right."""

    name: str
    state: str  # right, wrong, not started, no check, or hint 1 of 3
    facts: tuple[str, ...] = ()  # what was seen: case, outputs, expected and found
    reasons: tuple[str, ...] = ()  # why, as far as known
    mistakes: tuple[str, ...] = ()  # the known mistakes that were recognised, as their author wrote them

    def __bool__(self):
        return self.state == "right"

    def __repr__(self):
        head = f"{MARKS.get(self.state, '→')} {self.name}: {self.state}"
        reasons = _wrapped(self.reasons)[: LINES - 4]
        facts = _wrapped(self.facts)
        room = LINES - 1 - len(reasons)
        if len(facts) > room:
            facts = [*facts[: room - 1], "  ..."]
        return "\n".join([head, *facts, *reasons])


def _wrapped(lines):
    return [part for line in lines for part in textwrap.wrap(
        line, WIDTH, initial_indent="  ", subsequent_indent="    ", break_long_words=True)]


class Text(str):
    """Text that shows itself, without quotes."""

    def __repr__(self):
        return str(self)


class Solution(Text):
    """Source text that a notebook and the site show folded."""

    def _repr_html_(self):
        return ('<details class="solution"><summary>Solution</summary>'
                f'<div class="highlight"><pre><code>{_highlighted(self)}</code></pre></div></details>')


def _highlighted(code):
    """The code as HTML, coloured by the page's own style where Pygments is at hand, as in every notebook."""
    try:
        from pygments import highlight
        from pygments.formatters import HtmlFormatter
        from pygments.lexers import PythonLexer
    except ImportError:
        return html.escape(code)
    return highlight(code, PythonLexer(), HtmlFormatter(nowrap=True)).rstrip()


class Case(tuple):
    """The arguments of a case, shown with their names."""

    names: tuple[str, ...] = ()

    def __repr__(self):
        return "\n".join(f"{name} = {value!r}" for name, value in zip(self.names, self, strict=False))
