"""The bones and the budgets of a chapter: each rule is a function that says what to write where.

    python tools/bones.py            the table of budgets, one line a chapter, then what each chapter still needs

A rule gets a `Chapter` and yields sentences, none when the chapter keeps it.  `tests/chapters/test_bones.py` holds
every chapter to every rule.  What only a reader can judge (one question, evidence, one letter for one thing) is not
here.
"""

import ast
import re
import textwrap

from chapter import FENCE, READING_TIME, chapters

LONGER, SHORT = {1, 4}, {10, 11}  # the two first chapters may be longer; history and one idea each are short
LINES_BEFORE_SHOWPIECE, LETTERS_A_LINE, LINES_A_CELL, LETTERS_A_CODE_LINE = 25, 80, 12, 80
CODE_LINES, EXPERIMENTS, BOXES = 250, 8, 3
END = "The chapter in short"
END_PARTS = ("Remember.", "Use it when.", "What breaks it.", "Not known.")
AFTER_THE_END = ("Exercises", "Further reading")
NOTES = re.compile(r"\b(?:the|these|those|source|study|five|one|some|another) notes?\b(?! that\b)", re.IGNORECASE)


def most_words(chapter):
    return 4500 if chapter.number in LONGER else 2500 if chapter.number in SHORT else 3500


def most_minutes(chapter):
    return 50 if chapter.number in LONGER else 45


def fewest_exercises(chapter):
    return 3 if chapter.number in SHORT else 4


def experiments(chapter):
    """Figures drawn after the showpiece: an experiment ends in a figure, a printed number alone is a step of it."""
    return max(0, sum(cell.is_figure for section in chapter.body for cell in section.cells) - 1)


# The head


def reading_time_stands_at_the_head(chapter):
    head = chapter.text.split("\n## ")[0]
    if chapter.reading_time not in head.splitlines():
        found = READING_TIME.search(chapter.text)
        yield (f"the reading time is {found[0] if found else 'missing'}, and should be {chapter.reading_time} under "
               "the title: run make notebooks, which writes it")


def showpiece_comes_first(chapter):
    lines = 0
    for part in chapter.parts:
        if isinstance(part, str):
            lines += sum(len(textwrap.wrap(line, LETTERS_A_LINE)) for line in _visible(part).splitlines())
        elif part.is_figure:
            if not part.folded:
                yield "the showpiece is drawn by a cell in sight: give that cell the tag hide-input"
            if lines > LINES_BEFORE_SHOWPIECE:
                yield (f"the first figure comes after {lines} lines of text (of {LETTERS_A_LINE} letters): "
                       f"draw it within the first {LINES_BEFORE_SHOWPIECE}")
            return
        elif part.prints:
            yield f"a cell prints before the showpiece, the figure that opens the chapter: move {part.lines[0]!r} below"
            return
    yield "the chapter has no figure: draw its showpiece in a cell with the tag hide-input under the first lines"


def question_stands_under_the_showpiece(chapter):
    after = _after_first_figure(chapter)
    if after is not None and not re.search(r"\?[\"*)]*(?:\s|$)", "\n\n".join(after[:3])):
        yield ("under the showpiece stands its caption and then the question of the chapter: write a sentence that "
               "ends with a question mark in the first two paragraphs after the caption")


def _after_first_figure(chapter):
    """The paragraphs between the first figure and the next cell; None where there is no figure."""
    parts = iter(chapter.parts)
    if not any(not isinstance(part, str) and part.is_figure for part in parts):
        return None
    return re.split(r"\n\s*\n", next((part for part in parts if isinstance(part, str)), "").strip())


def _visible(text):
    return re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)


# Budgets


def words_are_within_the_budget(chapter):
    if chapter.words > most_words(chapter):
        yield (f"the body has {chapter.words} words, {chapter.words - most_words(chapter)} over the budget of "
               f"{most_words(chapter)}: cut what the chapter's question does not need")


def minutes_are_within_the_budget(chapter):
    if chapter.minutes > most_minutes(chapter):
        yield f"reading takes {chapter.minutes:.0f} minutes, the budget is {most_minutes(chapter)}: cut text or code"


def code_is_within_the_budget(chapter):
    if chapter.code_lines > CODE_LINES:
        yield (f"{chapter.code_lines} lines of code are in sight, the budget is {CODE_LINES}: fold drawing and asserts "
               "(tag hide-input), or move them to course_lib/chapters")


def experiments_are_within_the_budget(chapter):
    if experiments(chapter) > EXPERIMENTS:
        yield (f"{experiments(chapter)} figures follow the showpiece, and each ends an experiment: "
               f"keep the {EXPERIMENTS} that the question needs")


# Code


def cells_are_short(chapter):
    for cell in chapter.visible_cells:
        if len(cell.lines) > LINES_A_CELL:
            yield (f"the cell that begins {cell.lines[0]!r} has {len(cell.lines)} lines: split it, "
                   f"{LINES_A_CELL} are allowed")


def code_lines_are_short(chapter):
    for cell in chapter.cells:
        for line in cell.lines if not cell.is_install else ():
            if len(line) > LETTERS_A_CODE_LINE:
                yield (f"a code line has {len(line)} letters, {LETTERS_A_CODE_LINE} are allowed: "
                       f"break {line.strip()[:50]!r}")


def no_line_is_a_bracket_alone(chapter):
    for cell in chapter.cells:
        for above, line in zip(cell.lines, cell.lines[1:]):
            if not re.search(r"[^\s()\[\]{}:,]", line):
                yield f"a code line is the bracket {line.strip()!r} alone: put it at the end of {above.strip()[:50]!r}"


def asserts_are_folded(chapter):
    for cell in chapter.cells:
        if not cell.folded and any(isinstance(node, ast.Assert) for node in ast.walk(cell.tree)):
            first = next(line.strip() for line in cell.lines if "assert" in line)
            yield (f"an assert is in sight: move {first[:50]!r} into a cell with the tag hide-input, "
                   "at the section's end")


# Figures, boxes, words


def figures_are_described_and_captioned(chapter):
    parts, k = chapter.parts, 0
    for place, part in enumerate(parts):
        if isinstance(part, str) or not part.is_figure:
            continue
        k += 1
        if len(part.alt) < 15:
            yield f"figure {chapter.number}.{k} has no description: write one in its cell, under mystnb: image: alt:"
        below = parts[place + 1] if place + 1 < len(parts) else ""
        if not isinstance(below, str) or not re.match(rf"\*Figure {chapter.number}\.{k}\. [^\n]+\*(\n\s*\n|$)", below):
            yield (f"under figure {chapter.number}.{k} stands no caption: write a paragraph "
                   f"*Figure {chapter.number}.{k}. What is to be seen.* right after its cell")


def boxes_are_few(chapter):
    said = sum(words.startswith("It is often said") for words in chapter.boxes)
    if said > BOXES:
        yield f"{said} boxes open with It is often said: keep {BOXES}, for beliefs that many people hold"


def notes_stay_in_the_back_matter(chapter):
    text = FENCE.sub("", chapter.text)
    for found in NOTES.finditer(text):
        line = text[: found.start()].rsplit("\n", 1)[-1][-30:] + text[found.start() :].split("\n", 1)[0][:40]
        yield (f"the text speaks of {found[0]!r} (... {line} ...): say what is often said, or settle it in "
               "book/claims.yml, which feeds the pages of claims and errata")


def today_has_its_place(chapter):
    if not re.search(r"^#+ .*\bToday\b|\*\*Today\b", chapter.prose, re.MULTILINE):
        yield ("nothing says where the matter stands today: write a section Today, or a paragraph that opens "
               "**Today.**, with a model of the 2020s and the line of its configuration or code")


# Exercises


def exercises_are_enough(chapter):
    fewest, count = fewest_exercises(chapter), len(chapter.exercises)
    if not fewest <= count <= 6:
        yield (f"exercises: there are {count}; write {fewest} to 6, each under a heading "
               f"### Exercise {chapter.number}.1: its title (★)")


def exercises_are_numbered_and_complete(chapter):
    for k, section in enumerate(chapter.exercises, start=1):
        if not re.fullmatch(rf"Exercise {chapter.number}\.{k}: .+ \(★{{1,3}}\)", section.title):
            yield f"{section.title!r} should read Exercise {chapter.number}.{k}: its title (★), with one to three stars"
        stubs = sum(cell.is_stub for cell in section.cells)
        if stubs > 1 or (not stubs and "<details>" not in section.text):
            yield f"{section.title!r} needs one stub (tag exercise), or, on paper, an answer in <details>"


def exercises_stand_where_they_train(chapter):
    tops = [section.top for section in chapter.exercises]
    for top in dict.fromkeys(tops):
        if top.startswith("Exercise"):
            yield f"{tops.count(top)} exercises stand under {top!r}: put each right after the section that it trains"
        elif tops.count(top) > 2:
            yield f"{tops.count(top)} exercises stand under {top!r}: put each right after the section that it trains"


def exercises_are_listed_at_the_end(chapter):
    lists = [section for section in chapter.sections if section.level == 2 and section.title == "Exercises"]
    if not lists:
        yield "the end lists the exercises: write a section ## Exercises with a link to each, [4.1: title](#its-anchor)"
        return
    for section in chapter.exercises:
        if f"(#{section.anchor})" not in lists[-1].text:
            yield f"the list under ## Exercises leaves out {section.title!r}: add a link to #{section.anchor}"


# The end


def end_is_the_same_in_each_chapter(chapter):
    tops = [section for section in chapter.sections if section.level == 2]
    ends = [section for section in tops if section.title == END]
    if not ends:
        yield f"the end is missing: write a section ## {END} with {', '.join(f'**{name}**' for name in END_PARTS)}"
        return
    places = [ends[0].text.find(f"**{name}**") for name in END_PARTS]
    for name, place in zip(END_PARTS, places):
        if place < 0:
            yield f"the section {END!r} lacks **{name}**: write it there, in bold"
    if min(places) >= 0 and places != sorted(places):
        yield f"the parts of {END!r} come in the order {', '.join(END_PARTS)}"
    for section in tops[tops.index(ends[0]) + 1 :]:
        if section.title not in AFTER_THE_END:
            yield f"{section.title!r} comes after {END!r}: only {' and '.join(AFTER_THE_END)} may"


def nothing_of_the_skeleton_is_left(chapter):
    for line in chapter.text.splitlines():
        if "WRITE:" in line:
            yield f"the skeleton says {line.strip(' #>*-')[:80]!r}: write it"


RULES = (
    reading_time_stands_at_the_head, showpiece_comes_first, question_stands_under_the_showpiece,
    words_are_within_the_budget, minutes_are_within_the_budget, code_is_within_the_budget,
    experiments_are_within_the_budget, cells_are_short, code_lines_are_short, no_line_is_a_bracket_alone,
    asserts_are_folded, figures_are_described_and_captioned, boxes_are_few, notes_stay_in_the_back_matter,
    today_has_its_place, exercises_are_enough, exercises_are_numbered_and_complete, exercises_stand_where_they_train,
    exercises_are_listed_at_the_end, end_is_the_same_in_each_chapter, nothing_of_the_skeleton_is_left,
)


def faults(chapter):
    """What the chapter still needs, one sentence each."""
    return [sentence for rule in RULES for sentence in rule(chapter)]


def table(all_chapters):
    """What each chapter spends, and in brackets what it may spend."""
    head = f"{'chapter':30}{'words':>14}{'minutes':>10}{'code':>11}{'equations':>11}{'figures':>9}{'exercises':>11}"
    lines = [head]
    for each in all_chapters:
        words, minutes = f"{each.words} ({most_words(each)})", f"{each.minutes:.0f} ({most_minutes(each)})"
        code, drawn = f"{each.code_lines} ({CODE_LINES})", f"{1 + experiments(each)} ({1 + EXPERIMENTS})"
        lines.append(f"{each.name[:29]:30}{words:>14}{minutes:>10}{code:>11}{len(each.displayed):>11}{drawn:>9}"
                     f"{len(each.exercises):>11}")
    return "\n".join(lines)


def main():
    found = chapters()
    print(table(found))
    for each in found:
        for sentence in faults(each):
            print(textwrap.fill(f"{each.name}: {sentence}", 120, subsequent_indent="    "))


if __name__ == "__main__":
    main()
