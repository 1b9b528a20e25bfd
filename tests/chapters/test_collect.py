"""What is collected: the list of chapters, the claims of the notes and where they are settled, the errata."""

import re
from dataclasses import replace

import collect
import pytest
from chapter import ROOT, Chapter, chapters

CLAIMS = collect.claims()
LINKED = [claim for claim in CLAIMS if claim.link]


def test_all_claims_of_the_five_notes_are_there_once():
    """237 of them, numbered without a gap in each note."""
    counts = {"S0": 39, "S1": 44, "S2": 35, "S3": 26, "S4": 93}
    assert [claim.id for claim in CLAIMS] == [f"{note}-{k:02}" for note, n in counts.items() for k in range(1, n + 1)]


def test_claims_are_well_formed():
    numbers = {each.number for each in collect.plan()}
    for claim in CLAIMS:
        assert claim.chapter in numbers, f"{claim.id}: no chapter {claim.chapter} is planned"
        assert claim.verdict in collect.VERDICTS, f"{claim.id}: {claim.verdict!r} is none of {collect.VERDICTS}"
        assert claim.better or claim.verdict == "right", f"{claim.id}: say under `better` what is not right about it"
        assert len(claim.claim) <= 140, f"{claim.id}: say it in fewer words"
        assert "|" not in claim.claim + claim.better + claim.settled, f"{claim.id}: a | would end the table's cell"
        assert not claim.settled.startswith("notebooks/") or claim.link, f"{claim.id}: {claim.settled} has no #heading"


def test_formulas_of_claims_are_accepted_by_katex():
    course_tex = pytest.importorskip("course_tex", reason="needs quickjs-ng and Sphinx (requirements.txt)")
    formulas = [tex for claim in CLAIMS for tex in re.findall(r"\$([^$]+)\$", claim.claim + " " + claim.better)]
    assert len(formulas) > 50
    for tex in formulas:
        assert "katex" in course_tex.render(tex, display=False)


def test_errors_have_the_numbers_1_to_40_and_disputes_have_none():
    assert {claim.erratum for claim in CLAIMS if claim.erratum} == {f"E{k}" for k in range(1, 41)}
    assert not [claim.id for claim in CLAIMS if claim.erratum and claim.verdict == "disputed"]
    unnumbered = [claim.id for claim in CLAIMS if claim.verdict == "wrong" and not claim.erratum]
    assert not unnumbered, f"an error needs a number of its own under `erratum`: {unnumbered}"


@pytest.mark.parametrize("claim", LINKED, ids=lambda claim: claim.id)
def test_settled_claim_leads_to_a_heading(claim):
    file, anchor = claim.link
    if not (ROOT / file).exists():
        pytest.fail(f"{claim.id} is settled in {file}, which does not exist: change book/claims.yml", pytrace=False)
    if anchor not in collect.anchors(file):
        pytest.fail(f"{claim.id} is settled at #{anchor}, and {file} has no such heading: change book/claims.yml; "
                    f"it has {', '.join(collect.anchors(file))}", pytrace=False)


@pytest.mark.parametrize("chapter", [pytest.param(each, id=each.name) for each in chapters()])
def test_finished_chapter_settles_its_claims(chapter):
    waiting = [claim.id for claim in CLAIMS if claim.chapter == chapter.number and not claim.settled]
    if waiting:
        pytest.fail(f"{', '.join(waiting)} wait for chapter {chapter.number}: write under `settled` in book/claims.yml "
                    f"notebooks/{chapter.name}.md#heading, or one sentence that settles it", pytrace=False)


def test_pages_show_each_claim_once_and_its_verdict_only_when_it_is_settled():
    tables = {note: collect.claims_of(note, "../").splitlines() for note in ("S0", "S1", "S2", "S3", "S4")}
    for claim in CLAIMS:
        rows = [row for row in tables[claim.note] if row.startswith(f"| {claim.id} |")]
        assert len(rows) == 1 and claim.claim in rows[0]
        assert (f"waits for chapter {claim.chapter} |" in rows[0]) == (not claim.settled)
        assert (f"| {claim.verdict}" in rows[0]) == bool(claim.settled)
        if claim.link:
            assert f"](../{claim.settled})" in rows[0]


def test_errata_have_one_row_for_each_number_and_chapter():
    """E11, which three claims make in chapter 4, is one row with all three; E32 stands in chapters 1 and 4."""
    tables = collect.errata("../")
    rows = {(chapter, row.split(" | ")[0][2:]): row for chapter, table in tables.items()
            for row in table.splitlines()[2:]}
    assert sum(len(table.splitlines()) - 2 for table in tables.values()) == len(rows)
    assert set(rows) == {(claim.chapter, claim.erratum) for claim in CLAIMS if claim.erratum}
    for claim in CLAIMS:
        if claim.erratum:
            row = rows[claim.chapter, claim.erratum]
            assert claim.claim in row and claim.better in row and claim.where("../") in row
    assert {chapter for chapter, number in rows if number == "E32"} == {1, 4}
    assert list(rows) == sorted(rows, key=lambda place: (place[0], int(place[1][1:])))


def test_where_a_claim_is_settled_is_said_in_three_ways():
    claim = collect.Claim("S9-01", 4, "Words.", "right")
    assert claim.where() == "waits for chapter 4"
    assert replace(claim, settled="The paper says so.").where() == "The paper says so."
    chapter = chapters()[0]
    anchor, title = list(chapter.anchors.items())[1]
    file = f"notebooks/{chapter.name}.md"
    assert replace(claim, settled=f"{file}#{anchor}").where("../") == f"[{title}](../{file}#{anchor})"


def test_plan_has_fourteen_chapters_in_four_parts():
    assert [each.number for each in collect.plan()] == list(range(1, 15))
    assert len({each.part for each in collect.plan()}) == 4
    assert all(each.line.endswith(".") and each.line[:1].islower() for each in collect.plan())


def test_each_chapter_stands_in_the_list_once_with_a_link_when_it_is_finished():
    text, done = collect.chapter_list("../") + "\n", collect.finished()
    for each in collect.plan():
        if each.number in done:
            chapter = done[each.number]
            assert f"- [{chapter.title}](../notebooks/{chapter.name}.md): {each.line}\n" in text
            assert chapter.title.startswith(f"{each.number}. "), "the title of a chapter begins with its number"
        assert bool(re.search(rf"[:;] {each.number} \w", text)) == (each.number not in done)


def test_readme_has_the_list_of_chapters_of_today():
    readme = (ROOT / "README.md").read_text(encoding="utf8")
    assert collect.with_chapter_list(readme) == readme, "run: make notebooks"
    for path in re.findall(r"\]\((notebooks/\S+?\.md)\)", readme):
        assert (ROOT / path).exists()


def test_readme_without_its_marks_is_refused():
    with pytest.raises(ValueError, match="<!-- /chapters -->"):
        collect.with_chapter_list("no marks")
    old = f"a\n{collect.START}\nold\n{collect.END}\nb\n"
    assert collect.with_chapter_list(old) == f"a\n{collect.START}\n{collect.chapter_list()}\n{collect.END}\nb\n"


def test_chapter_that_is_not_in_the_contents_is_planned(monkeypatch, tmp_path):
    """A text alone is not a finished chapter, and a line in _toc.yml without a text is not one either."""
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks/02_whitening.md").write_text("# 2. Whitening\n")
    toc = "root: x\nparts:\n- chapters:\n  - file: book/notation\n  - file: notebooks/{}\n"
    monkeypatch.setattr(collect, "ROOT", tmp_path)
    (tmp_path / "_toc.yml").write_text(toc.format("03_missing"))
    assert collect.finished() == {}
    (tmp_path / "_toc.yml").write_text(toc.format("02_whitening"))
    assert [each.title for each in collect.finished().values()] == ["2. Whitening"]


def test_tests_are_found_by_the_equations_that_they_name(monkeypatch, tmp_path):
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests/test_x.py").write_text(
        'def test_a():\n    """Equations (4.1), (4.2) and (4.30): ..."""\n'
        'def test_b():\n    """Equation (4.2)."""\ndef helper():\n    """Equation (4.9)"""\n')
    monkeypatch.setattr(collect, "ROOT", tmp_path)
    assert collect.tests_by_equation() == {"4.1": ["test_a"], "4.2": ["test_a", "test_b"], "4.30": ["test_a"]}


def test_equations_of_a_chapter_are_read_without_code_tags_and_quotes():
    text = "# 4. T\n\n$$\na \\tag{4.1}\n$$\n\n```python\n$$no$$\n```\n\n> $$\n> b\n> \\tag{4.2}\n> $$\n\n$$c$$\n"
    chapter = Chapter(text, "04_t")
    assert chapter.equations == [("4.1", "a"), ("4.2", "b")]
    assert [numbers for numbers, _ in chapter.displayed] == [["4.1"], ["4.2"], []]


def test_the_layers_that_the_readme_lists_are_there():
    import course_lib
    from course_lib import nn
    text = (ROOT / "README.md").read_text(encoding="utf8")
    rows = re.findall(r"^\| [^|]+ \| [^|]+ \| (`[^|]+) \| ([^|]*)\| ([\d, ]+) \|$", text, re.MULTILINE)
    assert len(rows) == 9
    for numpy_names, torch_names, numbers in rows:
        for name in re.findall(r"`(\w+)`", numpy_names):
            assert hasattr(course_lib, name), name
        for name in re.findall(r"`([A-Z]\w+)`", torch_names):
            assert hasattr(nn, name), name
        for number in numbers.split(", "):
            assert int(number) in collect.finished(), f"the README sends the reader to chapter {number}"
