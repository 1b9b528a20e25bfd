"""What the long runs share: the cells of a chapter's text, what a table says of its machine, and a written record."""

import platform
import re
import time
from datetime import date
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CELL = re.compile(r"```\{code-cell\} ipython3\n(?:---\n.*?\n---\n|:tags:[^\n]*\n+)?(.*?)\n```", re.DOTALL)


def processor():
    """The name of the processor where the system tells it, else its kind."""
    try:
        names = re.findall(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        names = []
    return names[0] if names else platform.machine()


def write_record(path, title, found, library):
    """Write RECORDED = {name: values} as a module; `library` is the one whose version its head names."""
    head = (f'"""{title}\n\n{date.today()}, one thread, {time.process_time():.0f} s; '
            f'Python {platform.python_version()}, {library.__name__} {library.__version__}.\n"""\n\n')
    lines = [f'    "{name}": ({", ".join(f"{value:.4g}" for value in values)},),' for name, values in found.items()]
    path.write_text(head + "\n".join(["RECORDED = {", *lines, "}", ""]), encoding="utf8")
