"""Each chapter keeps the rules of tools/bones.py; and each rule, on a chapter that breaks it, says what to write."""

import re

import bones
import pytest
from chapter import ROOT, Chapter, anchor, chapters
from collect import finished, with_reading_time

CHAPTERS = [pytest.param(each, id=each.name) for each in chapters()]
RULES = [pytest.param(rule, id=rule.__name__) for rule in bones.RULES]


def fail_with(sentences):
    """Fail with these sentences, if there are any, and nothing else: they say what to write where."""
    if said := "\n".join(sentences):
        pytest.fail(said, pytrace=False)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("chapter", CHAPTERS)
def test_chapter_keeps_the_rule(chapter, rule):
    fail_with(rule(chapter))


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_chapter_has_its_files(chapter):
    number = f"{chapter.number:02}"
    files = {
        f"notebooks/{chapter.name}.ipynb": "run: make notebooks",
        f"course_lib/chapters/ch{number}/exercises.py": "write the solution, cases and mistakes of each exercise there",
        f"tests/chapters/test_ch{number}.py": "write a test of each equation and each claim about numbers there",
        f"tests/chapters/answers_ch{number}.py": "write three right answers in other styles to each exercise there",
    }
    fail_with(f"{file} is missing: {what}" for file, what in files.items() if not (ROOT / file).exists())


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_chapter_is_in_the_table_of_contents(chapter):
    if chapter.number not in finished():
        fail_with([f"add `- file: notebooks/{chapter.name}` to the chapters in _toc.yml"])


def exercise(k, title):
    return f'''### Exercise 5.{k}: {title} (★)

Write it.

```{{code-cell}} ipython3
:tags: [exercise]

def {title}(x):
    """The task."""
    ...  # your code
```

```{{code-cell}} ipython3
check({title})
```
'''


GOOD = f'''# 5. Statistics at inference

This chapter is about one image in two batches.

```{{code-cell}} ipython3
:tags: [hide-input]

try:
    import course_lib
except ModuleNotFoundError:
    raise ModuleNotFoundError("course_lib is missing: install it first") from None
```

```{{code-cell}} ipython3
from course_lib import notebook

notebook.setup()
```

```{{code-cell}} ipython3
---
mystnb:
  image:
    alt: "One image, two bars of different height."
tags: [hide-input]
---
figures.two_answers()
```

*Figure 5.1. One image gets two answers, in two batches.*

Which of the two is right?

## Two batches

> **It is often said.** The layer learns nothing here.

The variance is $\\sigma^2$, and

$$
y = x . \\tag{{5.1}}
$$

```{{code-cell}} ipython3
x = 1
print(x)
```

```{{code-cell}} ipython3
:tags: [hide-input]

assert x == 1
```

{exercise(1, "first")}

{exercise(2, "second")}

## A moving average

```{{code-cell}} ipython3
---
mystnb:
  image:
    alt: "A curve that comes near to a line."
---
figures.curve()
```

*Figure 5.2. The average comes near.*

{exercise(3, "third")}

### Exercise 5.4: on paper (★★)

How long does it take?

<details><summary>An answer</summary>

Long.

</details>

### Today

A model of the 2020s has it.

## The chapter in short

**Remember.** One thing.

**Use it when.** Always.

**What breaks it.** A batch of one.

**Not known.** The reason.

## Exercises

[5.1](#exercise-51-first-), [5.2](#exercise-52-second-), [5.3](#exercise-53-third-), [5.4](#exercise-54-on-paper-)

```{{code-cell}} ipython3
progress()
```

## Further reading

- A paper.
'''
STUB = exercise(3, "third")
WORDS = "A moving average\n\n" + "word " * 4000
LINES = "```{code-cell} ipython3\n" + "y = x + 1\n" * 12 + "```\n\n"
FIGURE = "```{code-cell} ipython3\nfigures.another()\n```\n\n"

# For each rule: what is replaced in the good chapter, by what, and words of the sentence that must come.
BROKEN = [
    ("reading_time_stands_at_the_head", "**Reading time: about", "**Read me: about", "run make notebooks"),
    ("showpiece_comes_first", "notebook.setup()\n", "notebook.setup()\nprint(notebook)\n", "move 'from course_lib"),
    ("showpiece_comes_first", "notebook.setup()\n", "notebook.setup()\nnotebook\n", "prints before the showpiece"),
    ("showpiece_comes_first", "This chapter is", "Word. " * 400 + "This chapter is", "within the first 25"),
    ("showpiece_comes_first", "tags: [hide-input]\n---\nfigures", "---\nfigures", "the tag hide-input"),
    ("question_stands_under_the_showpiece", "Which of the two is right?", "The first is right.", "question mark"),
    ("words_are_within_the_budget", "A moving average", WORDS, "over the budget of 3500"),
    ("minutes_are_within_the_budget", "A moving average\n\n", WORDS + LINES * 40, "the budget is 45"),
    ("code_is_within_the_budget", "A moving average\n\n", "A moving average\n\n" + LINES * 21, "the budget is 250"),
    ("experiments_are_within_the_budget", "A moving average\n\n", "A moving average\n\n" + FIGURE * 8, "keep the 8"),
    ("cells_are_short", "x = 1\n", "x = 1\n" * 12, "split it, 12 are allowed"),
    ("code_lines_are_short", "x = 1\n", "x = 1" + " + 1" * 20 + "\n", "has 85 letters, 80 are allowed"),
    ("no_line_is_a_bracket_alone", "x = 1\n", "x = (\n    1\n)\n", "at the end of '1'"),
    ("asserts_are_folded", "print(x)\n", "print(x)\nassert x\n", "tag hide-input"),
    ("figures_are_described_and_captioned", "*Figure 5.2. The", "Figure 5.2: the", "*Figure 5.2. What is"),
    ("figures_are_described_and_captioned", "*Figure 5.2. The", "*Figure 5.3. The", "*Figure 5.2. What is"),
    ("figures_are_described_and_captioned", 'alt: "A curve that comes near to a line."', "x: 1", "image: alt:"),
    ("boxes_are_few", "> **It is", "> **It is often said.** A.\n\n" * 3 + "> **It is", "keep 3"),
    ("notes_stay_in_the_back_matter", "The variance is", "One note says that the variance is", "book/claims.yml"),
    ("today_has_its_place", "### Today", "### Now", "**Today.**"),
    ("exercises_are_enough", STUB, "", "write 4 to 6"),
    ("exercises_are_numbered_and_complete", "5.2: second (★)", "5.3: second (★)", "Exercise 5.2: its title"),
    ("exercises_are_numbered_and_complete", "<details>", "<em>", "an answer in <details>"),
    ("exercises_stand_where_they_train", "## A moving average", "A moving average", "after the section that it trains"),
    ("exercises_stand_where_they_train", "### Today", "## Exercises\n\n" + STUB, "1 exercises stand under 'Exercises'"),
    ("exercises_are_listed_at_the_end", "[5.2](#exercise-52-second-), ", "", "add a link to #exercise-52-second-"),
    ("exercises_are_listed_at_the_end", "## Exercises", "## Summary", "write a section ## Exercises"),
    ("end_is_the_same_in_each_chapter", "## The chapter in short", "## Summary", "**Remember.**, **Use it when.**"),
    ("end_is_the_same_in_each_chapter", "**Not known.** ", "", "lacks **Not known.**"),
    ("end_is_the_same_in_each_chapter", "**Remember.** One", "**Not known.** One", "lacks **Remember.**"),
    ("end_is_the_same_in_each_chapter", "**Remember.** One thing.\n\n**Use it when.** Always.",
     "**Use it when.** Always.\n\n**Remember.** One thing.", "come in the order Remember., Use it when."),
    ("end_is_the_same_in_each_chapter", "## Further reading", "## One more thing", "comes after"),
    ("nothing_of_the_skeleton_is_left", "Which of the two", "WRITE: the question? Which of the two", "write it"),
]


def chapter_of(text):
    return Chapter(text, "05_inference_statistics")


def good():
    return with_reading_time(chapter_of(GOOD))


def test_good_chapter_keeps_all_rules():
    assert bones.faults(chapter_of(good())) == []


@pytest.mark.parametrize("rule, old, new, words", [pytest.param(*each, id=each[0]) for each in BROKEN])
def test_broken_chapter_is_told_what_to_write(rule, old, new, words):
    broken = good().replace(old, new)
    assert broken != good()
    said = list(getattr(bones, rule)(chapter_of(broken)))
    assert said and any(words in sentence for sentence in said), said


def test_each_rule_is_broken_once():
    assert {rule for rule, *_ in BROKEN} == {rule.__name__ for rule in bones.RULES}


@pytest.mark.parametrize("number, words, minutes, exercises", [
    (1, 4500, 50, 4), (2, 3500, 45, 4), (4, 4500, 50, 4), (10, 2500, 45, 3), (11, 2500, 45, 3), (14, 3500, 45, 4)])
def test_budgets_are_those_of_the_chapters_kind(number, words, minutes, exercises):
    """As many words as the budget has are enough, and one more is too much."""
    def chapter(count):
        return Chapter(f"# {number}. Title\n\n" + "word " * count, f"{number:02}_name")

    assert not list(bones.words_are_within_the_budget(chapter(words)))
    assert list(bones.words_are_within_the_budget(chapter(words + 1)))
    assert bones.most_minutes(chapter(9)) == minutes and bones.fewest_exercises(chapter(9)) == exercises


def test_chapter_without_headings_and_cells_gets_sentences_too():
    said = bones.faults(chapter_of("Nothing yet.\n"))
    assert len(said) > 5 and all(re.search(r"[a-z]{3}", sentence) for sentence in said)


def test_body_is_what_is_no_exercise_and_no_list_of_them():
    assert [section.title for section in chapter_of(GOOD).body] == [
        "5. Statistics at inference", "Two batches", "A moving average", "Today", "The chapter in short",
        "Further reading"]


@pytest.mark.parametrize("tag, folded", [("hide-input", True), ("hide-cell", True), ("remove-input", True),
                                         ("remove-cell", True), ("hide-output", False), ("live", False)])
def test_code_that_is_folded_is_not_in_sight(tag, folded):
    chapter = chapter_of(f"# 5. A\n\n```{{code-cell}} ipython3\n:tags: [{tag}]\n\nx = 1\n```\n")
    assert chapter.cells[0].folded is folded and chapter.code_lines == (not folded)


def test_minutes_count_words_code_equations_and_figures():
    """300 words, 3 lines, 2 equations and 1 figure, beside what is not counted: 1.5 min + 12 s + 60 s + 20 s."""
    text = "\n\n".join([
        "# 5. " + "a " * 98, "b " * 150 + "$x + y$ [c d](https://x.org/e_(f)) **e**", "| not | counted |",
        "$$\nx \\tag{5.1}\n$$", "> $$y$$", "<details><summary>no</summary>\n\nno no\n\n</details>",
        "```{code-cell} ipython3\nx = 1\n\ny = 2\nfigures.one()\n```",
        "```{code-cell} ipython3\n:tags: [hide-input]\n\nx = 1\n```", "```python\nno no\n```", "<!-- no -->",
        "## Two more", "m " * 41 + "\n\n1. n n\n- o o", "### Exercise 5.1: no (★)", "no no no $$z$$"])
    chapter = chapter_of(text)
    assert (chapter.words, chapter.code_lines, len(chapter.figures)) == (150 + 1 + 2 + 1 + 41 + 4, 3, 1)
    assert chapter.minutes == pytest.approx(chapter.words / 200 + (3 * 4 + 2 * 30 + 20) / 60)


def test_reading_time_is_written_once_and_does_not_count_itself():
    once = with_reading_time(chapter_of(GOOD.replace("x = 1\n", "# one\nx = 1\n")))
    assert "# 5. Statistics at inference\n\n**Reading time: about 5 minutes.**\n\nThis chapter" in once
    assert with_reading_time(chapter_of(once)) == once
    assert len(re.findall("Reading time", once)) == 1
    assert chapter_of(once).words == chapter_of(GOOD).words
    assert with_reading_time(chapter_of(once.replace("about 5", "about 40"))) == once


def test_anchors_are_those_of_the_site():
    """The anchors of headings, by hand and by MyST's own rule."""
    from myst_parser.mdit_to_docutils.base import default_slugify

    taken = set()
    titles = ["Forward: eight", "More computation, or more steps?", "Exercise 4.1: a (★★)", "Forward: eight"]
    assert [anchor(title, taken) for title in titles] == [
        "forward-eight", "more-computation-or-more-steps", "exercise-41-a-", "forward-eight-1"]
    for chapter in chapters():
        for section in chapter.sections:
            if not re.search(r"[$`*\[]", section.title):
                assert anchor(section.title) == default_slugify(section.title)


def test_table_of_budgets_has_a_line_for_each_chapter():
    lines = bones.table([chapter_of(good())]).splitlines()
    assert len(lines) == 2 and re.search(r"^05_inference_statistics +\d+ \(3500\) +\d+ \(45\) +\d+ \(250\)", lines[1])
