"""A new chapter with the fixed bones, to be written over: make chapter N=05 NAME=inference_statistics.

Writes the text, an exercise, its test and answers in other styles; overwrites nothing.  Whatever is still to be
written says WRITE:, and `make chapter-05` says in sentences what is missing.
"""

import re
import sys

from chapter import ROOT, Chapter
from collect import plan, with_reading_time

TEXT = '''---
jupytext:
  text_representation:
    extension: .md
    format_name: myst
kernelspec:
  display_name: Python 3
  language: python
  name: python3
---

# {n}. {title}

WRITE: in three sentences, what this chapter is about and what the reader will be able to do.

```{{code-cell}} ipython3
:tags: [hide-input]

{install}
```

```{{code-cell}} ipython3
:tags: [hide-input]

import matplotlib.pyplot as plt
import numpy as np

from course_lib import notebook
from course_lib.exercises import case, check, hint, progress, solution

notebook.setup()
```

```{{code-cell}} ipython3
---
mystnb:
  image:
    alt: "WRITE: what somebody who cannot see the figure should know."
tags: [hide-input]
---
plt.plot(np.arange(3))
plt.show()
```

*Figure {n}.1. WRITE: a caption that can be read alone.*

WRITE: what is the question of the chapter?

## WRITE: a section in its plain lines

WRITE: question, prediction, experiment, explanation.

> **Predict.** WRITE: what the reader should guess before the next cell.

### Exercise {n}.1: WRITE: its title (★)

WRITE: the task. Four to six exercises, each after the section that it trains, one of them on paper.

```{{code-cell}} ipython3
:tags: [exercise]

def example_ch{nn}(x):
    """The columns of x without their means; x is (N, D)."""
    ...  # your code
```

```{{code-cell}} ipython3
check(example_ch{nn})
```

```{{code-cell}} ipython3
:tags: [remove-input]

solution("example_ch{nn}")
```

## WRITE: a section that trains something with it

WRITE: each arm at its best learning rate, five seeds or more with their range, and a positive control.

## Today

WRITE: one fact from a model of the 2020s with the line of its configuration or code, and where the matter stands.

## The chapter in short

**Remember.** WRITE: five lines.

**Use it when.** WRITE: when.

**What breaks it.** WRITE: what.

**Not known.** WRITE: what nobody knows, or what we did not check.

## Exercises

- [{n}.1: WRITE: its title](#exercise-{n}1-write-its-title-)

```{{code-cell}} ipython3
progress()
```

## Further reading

- WRITE: papers that were read, each with what it is good for.
'''

EXERCISES = '''"""Exercises of chapter {n}: {lower}."""

import numpy as np

from ...exercises.engine import exercise


def _example_cases(seed=0):
    rng = np.random.default_rng({n} + 100 * seed)
    yield "two columns", (rng.integers(1, 9, (2, 2)) * [1.0, 10.0],)
    yield "5 samples, 3 columns", (rng.normal(2.0, 3.0, (5, 3)),)
    yield "values around 1000", (rng.normal(1000.0, 300.0, (4, 2)),)


# WRITE: the exercises of the chapter in place of this example; course_lib/exercises/engine.py explains the parts.
@exercise(
    cases=_example_cases,
    outputs=("y",),
    hints=("each column of y must have mean 0", "the mean runs over the samples", "axis 0"),
    laws={{"each column of y sums to 0": lambda args, outputs: np.allclose(outputs[0].sum(axis=0), 0)}},
    mistakes={{
        "one mean for everything; each column has its own": {{"x.mean(axis=0)": "x.mean()"}},
        "that is the mean of each sample": {{"axis=0": "axis=1, keepdims=True"}},
        "the mean is added, not subtracted": {{"x - ": "x + "}},
        "only the mean comes back; it must be subtracted": {{"x - x.mean(axis=0)": "0 * x + x.mean(axis=0)"}},
    }},
)
def example_ch{nn}(x):
    """The columns of x without their means; x is (N, D)."""
    return x - x.mean(axis=0)
'''

TEST = '''"""Chapter {n}, {lower}: each equation and each claim about numbers, by a way that is not the text's own."""

import pytest


def test_chapter_is_tested():
    pytest.fail("WRITE: here a test of each equation of chapter {n}, `Equation ({n}.1)` in its docstring")
'''

ANSWERS = '''"""Right answers to the exercises of chapter {n} in other styles: the checker must accept each of them."""

import numpy as np


def example_by_columns(x):
    return np.stack([column - column.mean() for column in x.T], axis=1)


def example_with_keepdims(x):
    return x - np.mean(x, axis=0, keepdims=True)


def example_by_sums(x):
    return x - x.sum(axis=0) / len(x)


STYLES = {{"example_ch{nn}": [example_by_columns, example_with_keepdims, example_by_sums]}}
EQUIVALENT = {{}}
'''


def files(number, name):
    """{path: text} of the chapter with this number and this name.

    Raises:
        ValueError: no such chapter is planned, the name is no name, or the chapter has been begun.
    """
    titles = {each.number: each.title for each in plan()}
    if number not in titles:
        raise ValueError(f"chapter {number} is not planned: write its title and line into book/chapters.yml first")
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise ValueError(f"NAME={name}: small letters, digits and _, as in NAME=inference_statistics")
    nn = f"{number:02}"
    begun = sorted((ROOT / "notebooks").glob(f"{nn}_*.md"))
    templates = {
        f"notebooks/{nn}_{name}.md": TEXT,
        f"course_lib/chapters/ch{nn}/__init__.py": "",
        f"course_lib/chapters/ch{nn}/exercises.py": EXERCISES,
        f"tests/chapters/test_ch{nn}.py": TEST,
        f"tests/chapters/answers_ch{nn}.py": ANSWERS,
    }
    there = [path.name for path in begun] + [path for path in templates if (ROOT / path).exists()]
    if there:
        raise ValueError(f"chapter {number} has been begun, and nothing is overwritten: {', '.join(there)}")
    title = titles[number]
    words = {"n": number, "nn": nn, "title": title, "lower": title[0].lower() + title[1:], "install": install_cell()}
    made = {path: text.format(**words) for path, text in templates.items()}
    text = f"notebooks/{nn}_{name}.md"
    made[text] = with_reading_time(Chapter(made[text], f"{nn}_{name}"))
    return made


def install_cell():
    """The first cell, as the chapters that exist have it."""
    first = sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.md"))[0]
    return next(cell.source for cell in Chapter.read(first).cells if cell.is_install)


def main():
    if len(sys.argv) != 3 or not sys.argv[1].isdigit():
        sys.exit("make chapter N=05 NAME=inference_statistics")
    number, name = int(sys.argv[1]), sys.argv[2]
    try:
        made = files(number, name)
    except ValueError as error:
        sys.exit(str(error))
    for path, text in made.items():
        (ROOT / path).parent.mkdir(exist_ok=True)
        (ROOT / path).write_text(text, encoding="utf8")
        print(f"wrote {path}")
    print(f"Next: write over what says WRITE:, and run make chapter-{number:02}, which says what is missing.\n"
          f"When it says nothing more, add `- file: notebooks/{number:02}_{name}` to the chapters in _toc.yml.")


if __name__ == "__main__":
    main()
