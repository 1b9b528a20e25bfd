"""The docstrings of the package, as written for a reader of the code, become reStructuredText for the API page.

A docstring is plain text: sentences, an indented equation block, then sections
(`Args:`, `Returns:`, `Raises:`, `Source:`).  Nothing in it is markup except `name`.
"""

import re

SECTION = re.compile(r"(Args|Returns|Raises|Source|Note|Yields|Example):\s*(.*)")
ENTRY = re.compile(r"([A-Za-z_*][\w*, ]*?)( \([^)]*\))?: (.*)")
TITLES = {"Args": "Arguments"}


def prose(text):
    """Plain text with `names`, safe from markup: a star or an underscore stands for itself."""
    parts = re.split(r"`([^`]+)`", text)
    plain = [re.sub(r"([\\*_|])", r"\\\1", part) for part in parts[::2]]
    code = [f"``{part}``" for part in parts[1::2]]
    out = plain[0]
    for name, after in zip(code, plain[1:], strict=True):
        gap = "\\ " if after[:1].isalnum() else ""
        out += name + gap + after
    return out


def indent(line):
    return len(line) - len(line.lstrip())


def entries(lines):
    """The lines of a section, continuation lines (further in) joined to their entry."""
    lines = [line for line in lines if line.strip()]
    edge = min((indent(line) for line in lines), default=0)
    joined = []
    for line in lines:
        if indent(line) == edge or not joined:
            joined.append(line.strip())
        else:
            joined[-1] += " " + line.strip()
    return joined


def section(title, first, lines):
    """One section as a field; Args and Raises as a list, one line an entry."""
    found = entries(lines)
    if title not in ("Args", "Raises"):
        return [f":{TITLES.get(title, title)}: {prose(' '.join([first, *found]).strip())}"]
    out = [f":{TITLES.get(title, title)}:"]
    for entry in found:
        match = ENTRY.fullmatch(entry)
        text = f"``{match[1]}``{prose(match[2] or '')}: {prose(match[3])}" if match else prose(entry)
        out.append(f"    - {text}")
    return out


def to_rst(lines):
    """The lines of one docstring as reStructuredText."""
    out, fields, at = [], [], 0
    while at < len(lines):
        line, match = lines[at], SECTION.fullmatch(lines[at])
        end = at + 1
        if match:
            while end < len(lines) and (not lines[end].strip() or indent(lines[end])):
                end += 1
            fields += section(match[1], match[2], lines[at + 1 : end])
        elif indent(line):
            while end < len(lines) and (not lines[end].strip() or indent(lines[end])):
                end += 1
            out += ["", ".. code-block:: text", "", *lines[at:end], ""]
        else:
            out.append(prose(line))
        at = end
    return [*out, "", *fields, ""]


def process(app, what, name, obj, options, lines):
    lines[:] = to_rst(lines)


def skip(app, what, name, obj, skip, options):
    """The fields of a named tuple have no docstring of their own, only Python's."""
    return True if (getattr(obj, "__doc__", "") or "").startswith("Alias for field number") else None


def setup(app):
    app.setup_extension("sphinx.ext.autodoc")
    app.connect("autodoc-skip-member", skip)
    app.connect("autodoc-process-docstring", process)
