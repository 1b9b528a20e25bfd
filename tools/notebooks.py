"""Make notebooks/NN_name.ipynb, the twin that readers run, from notebooks/NN_name.md, the text that we edit.

    python tools/notebooks.py            write the twins that are missing or old
    python tools/notebooks.py --check    write nothing; exit with 1 if one is old
"""

import hashlib
import sys
from pathlib import Path

import jupytext
import nbformat

NOTEBOOKS = Path(__file__).resolve().parents[1] / "notebooks"


def twin(path):
    """The notebook that the text says: no outputs, the same bytes on every run."""
    nb = jupytext.read(path)
    for number, cell in enumerate(nb.cells):
        cell["id"] = hashlib.sha256(f"{path.stem}/{number}".encode()).hexdigest()[:8]
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    nb.nbformat, nb.nbformat_minor = 4, 5
    nb.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    return nbformat.writes(nb, version=nbformat.NO_CONVERT, indent=1) + "\n"


def old_twins():
    """The (path, text) of each notebook that differs from its text."""
    for path in sorted(NOTEBOOKS.glob("*.md")):
        target, text = path.with_suffix(".ipynb"), twin(path)
        if not target.exists() or target.read_text(encoding="utf8") != text:
            yield target, text


def main(arguments):
    """Write, or with --check only name, the notebooks that are old."""
    check = "--check" in arguments
    old = list(old_twins())
    for target, text in old:
        print(f"{target.name} is not what its text says" if check else f"wrote {target.name}")
        if not check:
            target.write_text(text, encoding="utf8")
    return 1 if old and check else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
