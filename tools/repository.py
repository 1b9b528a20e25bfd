"""Write the public address of the repository, which stands in _config.yml, to every place that needs it.

    python tools/repository.py https://github.com/who/what    set the address and write it
    python tools/repository.py none                           there is none: close the doors
    python tools/repository.py                                write it again, after a text was added
    python tools/repository.py --check                        write nothing; exit with 1 if a text is old

The places: the first code cell of each chapter, CITATION.cff, pyproject.toml, and in README.md, CONTRIBUTING.md and
the pages of book/ what stands between `<!-- repository: NAME -->` and `<!-- /repository -->`.  The site's own links
are made from _config.yml when it is built.
"""

import re
import sys
from pathlib import Path

import yaml

import notebooks

ROOT = Path(__file__).resolve().parents[1]
ADDRESS = re.compile(r"https://github\.com/[A-Za-z0-9](?:-?[A-Za-z0-9]){0,38}/(?![.-])[A-Za-z0-9._-]{1,100}(?<!\.git)")

CELL = re.compile(r"(?<=\n)try:\n    import course_lib\nexcept \w+.*?(?=\n```\n)", re.DOTALL)
OPEN_CELL = """\
try:
    import course_lib
except ModuleNotFoundError:  # in Colab: fetch the course's package, once
    address = "git+{url}"
    %pip install -q --no-deps "$address"
"""
CLOSED_CELL = """\
try:
    import course_lib
except ModuleNotFoundError:
    raise ModuleNotFoundError(
        "course_lib is missing, and this copy of the course has no public "
        "address to fetch it from. Open the notebook in your own copy, after "
        "`make book`, or install that copy: pip install PATH_OF_THE_COPY"
    ) from None
"""

BLOCK = re.compile(r"(<!-- repository: (\w+) -->\n).*?(<!-- /repository -->)", re.DOTALL)
OPEN = {
    "clone": "```sh\ngit clone {url}\ncd {name}\n```\n",
    "colab": "At the head of a chapter, *Open in Colab* opens its notebook in a browser. Its first cell fetches the "
             "package of the course, and leaves the NumPy and PyTorch that Colab brings as they are.\n",
    "report": "Open an [issue]({url}/issues/new/choose); it has a form for each case.\n",
}
CLOSED = {
    "clone": "Start in the folder of your copy, the one that holds `README.md`.\n",
    "colab": "This copy has no public address yet, so Colab has nowhere to fetch it from: open the notebook from your "
             "own copy. Whoever publishes it runs `make repository URL=https://github.com/who/what` once; that opens "
             "the doors: *Open in Colab* and *Edit* at the head of each chapter.\n",
    "report": "This copy has no public address yet: tell the one you have it from.\n",
}


def address():
    """The address in _config.yml; empty while there is none."""
    return checked(yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf8"))["repository"]["url"] or "")


def checked(url):
    """The address itself, or an error if no repository can have it."""
    if url and not ADDRESS.fullmatch(url):
        raise ValueError(f"{url!r} is no address of a repository; it must look like https://github.com/who/what")
    return url


def first_cell(url):
    """The code that opens each chapter: it fetches course_lib where that is missing, and does nothing elsewhere."""
    return (OPEN_CELL.format(url=url) if url else CLOSED_CELL).rstrip()


def chapter(text, url):
    """The text of a chapter, with its first cell written anew."""
    new, found = CELL.subn(lambda _: first_cell(url), text)
    if found != 1:
        raise ValueError(f"{found} cells try to import course_lib; a chapter has one, its first:\n\n{first_cell(url)}")
    return new


def page(text, url):
    """A Markdown text, with its blocks written anew."""
    words = OPEN if url else CLOSED
    if unknown := {name for _, name, _ in BLOCK.findall(text)} - set(words):
        raise ValueError(f"no block is called {', '.join(unknown)}; there are {', '.join(words)}")
    filled = {name: words[name].format(url=url, name=url.rpartition("/")[2]) for name in words}
    return BLOCK.sub(lambda block: block[1] + filled[block[2]] + block[3], text)


def configuration(text, url):
    return re.sub(r"(?<=^repository:\n  url:).*", f' "{url}"', text, flags=re.MULTILINE)


def citation(text, url):
    text = re.sub(r"^repository-code:.*\n", "", text, flags=re.MULTILINE)
    return text + (f'repository-code: "{url}"\n' if url else "")


def project(text, url):
    text = re.sub(r"^\[project\.urls\]\n.*\n\n", "", text, flags=re.MULTILINE)
    table = f'[project.urls]\nRepository = "{url}"\n\n' if url else ""
    return text.replace("[project.optional-dependencies]", f"{table}[project.optional-dependencies]")


def texts(url):
    """The (path, text) of each file that the address stands in."""
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "book").glob("*.md"))]
    chapters = sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.md"))
    writers = {ROOT / "_config.yml": configuration, ROOT / "CITATION.cff": citation, ROOT / "pyproject.toml": project}
    for path, write in (writers | dict.fromkeys(pages, page) | dict.fromkeys(chapters, chapter)).items():
        try:
            yield path, write(path.read_text(encoding="utf8"), url)
        except ValueError as error:
            raise ValueError(f"{path.name}: {error}") from None


def old_texts(url):
    """Those of them that say something else now."""
    return [(path, text) for path, text in texts(url) if path.read_text(encoding="utf8") != text]


def main(arguments):
    """Write, or with --check only name, the files that are old."""
    check = arguments == ["--check"]
    try:
        url = address() if check or not arguments else checked("" if arguments == ["none"] else " ".join(arguments))
        old = old_texts(url)
    except ValueError as error:
        return str(error)
    for path, text in old:
        print(f"{path.relative_to(ROOT)} {'has another address' if check else 'written'}")
        if not check:
            path.write_text(text, encoding="utf8")
    return int(bool(old)) if check else notebooks.main([])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
