"""What the learner sees: a few lines of text, or in a notebook the same with colours, a table and folded hints."""

import html
import re
import textwrap
from dataclasses import dataclass

from .values import Difference

WIDTH, LINES = 100, 12
MARKS = {"right": "✓", "wrong": "✗", "not started": "○", "no check": "?"}
COLOURS = {"right": "#2f9e5f", "wrong": "#d9534f"}  # of edge and mark; legible on white and on black
STEPS = ("what breaks", "which path", "which equation")  # of the hints of an exercise
OWN_STEPS = ("the mistake", "think", "where")  # of those that a mistake has of its own


@dataclass(frozen=True)
class Report:
    """What the checker found; true when the answer is right."""

    name: str
    state: str  # right, wrong, not started, no check, or hint 1 of 3
    facts: tuple[str, ...] = ()  # what was seen: case, outputs, expected and found
    reasons: tuple[str, ...] = ()  # why, as far as known
    mistakes: tuple[str, ...] = ()  # the known mistakes that were recognised, as their author wrote them
    further: str = ""  # a command to go on with
    hints: tuple[str, ...] = ()  # the steps that a notebook shows folded

    def __bool__(self):
        return self.state == "right"

    def __repr__(self):
        reasons = _wrapped([*self.reasons, *filter(None, [self.further])])[: LINES - 4]
        facts = _wrapped(self.facts)
        room = LINES - 1 - len(reasons)
        if len(facts) > room:
            facts = [*facts[: room - 1], "  ..."]
        return "\n".join([self._head(), *facts, *reasons])

    def _head(self):
        return f"{MARKS.get(self.state, '→')} {self.name}: {self.state}"

    def _repr_html_(self):
        """The same for a notebook and the site, which has no prompt: there the hints unfold with a click."""
        colour = COLOURS.get(self.state, "#7f8c9b")
        mark, rest = self._head().split(" ", 1)
        facts = [_table(fact) if isinstance(fact, Difference) else html.escape(fact) for fact in self.facts]
        reasons = [f"<strong>{_linked(reason)}</strong>" for reason in self.reasons]
        command = [f"<code>{html.escape(self.further)}</code>"] if self.further and self.state != "not started" else []
        lines = "".join(f"<div>{line}</div>" for line in [*facts, *reasons, *command])
        return (f'<div class="check-report" style="border-left: 4px solid {colour}; padding: .3em 1em; '
                f'margin: .4em 0; color: inherit; background: {colour}1a"><div>'
                f'<strong><span style="color: {colour}">{mark}</span> {html.escape(rest)}</strong></div>'
                f"{lines}{self._folded()}</div>")

    def _folded(self):
        """Each hint inside the one before it, so that a click shows one more and no more."""
        inside, labels = "", STEPS if len(self.hints) == len(STEPS) else OWN_STEPS[1:]  # the first has been shown
        for label, hint in reversed(list(zip(labels, self.hints))):
            inside = (f'<details style="border: 0; margin: .2em 0; padding: 0"><summary style="padding: 0">'
                      f'Hint: {label}</summary><div style="padding-left: 1em">{_linked(hint)}{inside}</div></details>')
        return inside


def _table(difference):
    """Got and expected side by side."""
    style = ('style="text-align: right; font-family: monospace; color: inherit; background: none; border: 0; '
             'padding: 0 .8em"')
    lines = [("", "got", "expected"), *difference.rows]
    cells = ("".join(f"<td {style}>{html.escape(text)}</td>" for text in line) for line in lines)
    body = "".join(f"<tr>{line}</tr>" for line in cells)
    return (f'<table style="margin: .2em 0; border: 0; width: auto; background: none"><tbody>{body}</tbody></table>'
            f"{html.escape(difference.rest)}")


def _linked(text):
    """Escaped, with a link to each equation that it names; the site gives equation (4.15) this address."""
    return re.sub(r"\(([1-9]\d*\.\d+)\)", r'(<a href="#equation-\1">\1</a>)', html.escape(text))


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
