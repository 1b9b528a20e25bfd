"""What is collected from the chapters and from two data files, so that nobody keeps it by hand.

    python tools/collect.py            write the list of chapters in README.md and the reading time of each chapter
    python tools/collect.py --check    write nothing; exit with 1 if one of them is old

`book/chapters.yml` has the plan, `book/claims.yml` the claims of the study notes and where each is settled.
The functions give Markdown; `book/_ext/course_collect.py` puts it on the pages of the site.
"""

import ast
import re
import sys
from dataclasses import dataclass
from functools import lru_cache

import yaml
from chapter import READING_TIME, ROOT, Chapter, chapters

VERDICTS = ("right", "right, but", "imprecise", "wrong", "disputed", "missing")
START, END = "<!-- chapters -->", "<!-- /chapters -->"  # what make notebooks writes in the README stands between
NAMED = re.compile(r"Equations? (\([\d.]+\)(?:(?:,| and) \([\d.]+\))*)")


# The chapters


@dataclass(frozen=True)
class Planned:
    """One of the fourteen: what `book/chapters.yml` says of it."""

    number: int
    title: str
    line: str
    part: str


def plan():
    parts = yaml.safe_load((ROOT / "book/chapters.yml").read_text(encoding="utf8"))
    return [Planned(part=part["part"], **each) for part in parts for each in part["chapters"]]


def finished():
    """{number: Chapter} of the chapters that _toc.yml names and that have a text, in its order."""
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf8"))
    files = [page["file"] for part in toc["parts"] for page in part["chapters"]]
    paths = [ROOT / f"{file}.md" for file in files if file.startswith("notebooks/")]
    return {each.number: each for each in map(Chapter.read, filter(lambda path: path.exists(), paths))}


def chapter_list(to=""):
    """The finished chapters with links, then the planned ones; `to` leads from the page to the root, as "../"."""
    done, lines = finished(), []
    for each in plan():
        if each.number in done:
            title, name = done[each.number].title, done[each.number].name
            lines.append(f"- [{title}]({to}notebooks/{name}.md): {each.line}")
    waiting = [each for each in plan() if each.number not in done]
    if waiting:
        lines += ["", "Planned; each gets its page when it is finished, and not before:", ""]
    for part in dict.fromkeys(each.part for each in waiting):
        titles = "; ".join(f"{each.number} {_lower(each.title)}" for each in waiting if each.part == part)
        lines.append(f"- *{part}*: {titles}.")
    return "\n".join(lines)


def _lower(title):
    """A title inside of a sentence: What -> what, but RMS and AlexNet keep their capitals."""
    return title[0].lower() + title[1:] if title[1:2].islower() else title


# The claims of the notes


@dataclass(frozen=True)
class Claim:
    """What a note says, our verdict, and where it is settled: a link, one sentence, or "" while it waits."""

    id: str
    chapter: int
    claim: str
    verdict: str
    better: str = ""
    erratum: str = ""
    settled: str = ""

    @property
    def note(self):
        return self.id[:2]

    @property
    def link(self):
        """(file of the chapter, anchor) where a chapter settles the claim; None where it does not."""
        found = re.fullmatch(r"(notebooks/\w+\.md)#(\S+)", self.settled)
        return found.groups() if found else None

    def where(self, to=""):
        """Markdown of the place; a link is called like the section that it leads to."""
        if not self.settled:
            return f"waits for chapter {self.chapter}"
        if not self.link:
            return self.settled
        file, anchor = self.link
        return f"[{anchors(file).get(anchor, anchor)}]({to}{file}#{anchor})"


@lru_cache(None)
def anchors(file):
    """{anchor: title} of a chapter's headings; none where there is no such file."""
    return Chapter.read(ROOT / file).anchors if (ROOT / file).exists() else {}


def claims():
    return [Claim(**each) for each in yaml.safe_load((ROOT / "book/claims.yml").read_text(encoding="utf8"))]


def claims_count():
    """A sentence: how many are settled, and with which verdicts."""
    everything = claims()
    settled = [claim for claim in everything if claim.settled]
    verdicts = [f"{sum(claim.verdict == v for claim in settled)} {v}" for v in VERDICTS]
    return (f"Of {len(everything)} claims {len(settled)} are settled so far: {'; '.join(verdicts)}. "
            f"The other {len(everything) - len(settled)} wait for their chapter.")


def claims_of(note, to=""):
    """The table of the claims of one note, S0 to S4; the verdict is shown once it is settled."""
    rows = ["| | the note says | verdict | settled in |", "|---|---|---|---|"]
    for claim in claims():
        if claim.note == note:
            verdict = f"{claim.verdict}{f' ({claim.erratum})' if claim.erratum else ''}" if claim.settled else ""
            verdict += f": {claim.better}" if claim.settled and claim.better else ""
            rows.append(f"| {claim.id} | {claim.claim} | {verdict} | {claim.where(to)} |")
    return "\n".join(rows)


def errata(to=""):
    """{chapter: its table}: each error of the notes, what is better, and where it is shown."""
    tables, wrong = {}, [claim for claim in claims() if claim.erratum]
    for number in sorted({claim.chapter for claim in wrong}):
        rows = ["| no. | the note says | better | shown in |", "|---|---|---|---|"]
        mine = [claim for claim in wrong if claim.chapter == number]
        for erratum in sorted({claim.erratum for claim in mine}, key=lambda name: int(name[1:])):
            same = [claim for claim in mine if claim.erratum == erratum]
            says, better, where = (" ".join(dict.fromkeys(words)) for words in zip(
                *((claim.claim, claim.better, claim.where(to)) for claim in same)))
            rows.append(f"| {erratum} | {says} | {better} | {where} |")
        tables[number] = "\n".join(rows)
    return tables


# The equations and their tests


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


# What is written into files


def with_chapter_list(readme):
    """The text of the README with the list of chapters of today between its two marks."""
    before, _, rest = readme.partition(START)
    _, end, after = rest.partition(END)
    if not end:
        raise ValueError(f"README.md needs the lines {START} and {END}: the list of chapters is written between them")
    return f"{before}{START}\n{chapter_list()}\n{END}{after}"


def with_reading_time(chapter):
    """The text of a chapter with its reading time under the title."""
    if READING_TIME.search(chapter.text):
        return READING_TIME.sub(chapter.reading_time, chapter.text, count=1)
    return re.sub(r"^# .+$", rf"\g<0>\n\n{chapter.reading_time}", chapter.text, count=1, flags=re.MULTILINE)


def old_texts():
    """The (path, text) of each file that is not as it should be."""
    readme = ROOT / "README.md"
    wanted = {ROOT / f"notebooks/{each.name}.md": with_reading_time(each) for each in chapters()}
    wanted[readme] = with_chapter_list(readme.read_text(encoding="utf8"))
    return [(path, text) for path, text in wanted.items() if path.read_text(encoding="utf8") != text]


def main():
    old, check = old_texts(), "--check" in sys.argv
    for path, text in old:
        print(f"{path.name} is old: run make notebooks" if check else f"wrote {path.name}")
        if not check:
            path.write_text(text, encoding="utf8")
    return 1 if old and check else 0


if __name__ == "__main__":
    sys.exit(main())
