"""A chapter just begun fails with sentences that say what to write where, and with nothing else.

In a copy of the tree, with a fifteenth chapter in the plan: by `make chapter`, and by hand with a text alone.
"""

import os
import re
import shutil
import subprocess
import sys

import bones
import collect
import new_chapter
import pytest
from chapter import ROOT, Chapter

TRACEBACKS = re.compile(r"\b(?!AssertionError)\w+(?:Error|Exception|Iteration)\b")
PLAN = "- part: A trial\n  chapters:\n    - {number: 15, title: A trial, line: a trial.}\n"
CLAIM = "\n- {id: S5-01, chapter: 15, claim: It works., verdict: right}\n"
BY_HAND = '''# 15. A trial

```{code-cell} ipython3
:tags: [exercise]

def trial(x):
    """The task."""
    ...  # your code
```
'''


@pytest.fixture
def tree(tmp_path):
    """A copy of the tree, without what is built and what is remembered."""
    copy = tmp_path / "course"
    ignore = shutil.ignore_patterns(".*", "_build", "build", "*.egg-info", "__pycache__", "_static", "progress.json")
    shutil.copytree(ROOT, copy, ignore=ignore)
    for file, more in {"chapters.yml": PLAN, "claims.yml": CLAIM}.items():
        with open(copy / "book" / file, "a", encoding="utf8") as data:
            data.write(more)
    return copy


def run(tree, *command):
    """What a command of Python says, out and error together, and whether it went well."""
    env = {**os.environ, "PYTHONPATH": str(tree), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}  # no plugin is used: quicker
    done = subprocess.run([sys.executable, *command], cwd=tree, env=env, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True)
    return done.stdout, done.returncode == 0


def failures(tree):
    """The names of the tests of chapter 15 that fail, and all that pytest said; the notebook itself is not run."""
    names = ("bones", "collect", "equations", "notebooks", "twins", "ch15")
    files = [f"tests/chapters/test_{name}.py" for name in names if (tree / f"tests/chapters/test_{name}.py").exists()]
    options = ("-q", "-rf", "--tb=short", "-o", "addopts=", "-p", "no:cacheprovider",
               "--noconftest")  # which would load torch
    said, passed = run(tree, "-m", "pytest", *options, *files, "tests/exercises/test_exercises.py",
                       "-k", "(ch15 or 15_) and not filled")
    assert not passed and " passed" in said and " error" not in said.splitlines()[-1], said
    assert not TRACEBACKS.search(said), f"a traceback instead of a sentence:\n{said}"
    return set(re.findall(r"^FAILED tests/\w+/\w+\.py::(\w+)", said, re.MULTILINE)), said


def test_skeleton_fails_only_with_what_is_to_be_written(tree):
    said, well = run(tree, "tools/new_chapter.py", "15", "trial")
    assert well and "wrote notebooks/15_trial.md" in said and "_toc.yml" in said
    assert run(tree, "tools/notebooks.py") == ("wrote 15_trial.ipynb\n", True)
    failed, said = failures(tree)
    assert failed == {"test_chapter_keeps_the_rule", "test_chapter_is_in_the_table_of_contents",
                      "test_finished_chapter_settles_its_claims", "test_chapter_is_tested"}
    for sentence in ("there are 1; write 4 to 6", "add `- file: notebooks/15_trial`", "the question of the chapter?",
                     "S5-01 wait for chapter 15", "a test of each equation"):
        assert sentence in said, said


def test_chapter_by_hand_is_told_which_files_are_missing(tree):
    """No twin, no tests, no answers to the one exercise there is, and a stub of another."""
    run(tree, "tools/new_chapter.py", "15", "trial")
    (tree / "notebooks/15_trial.md").write_text(BY_HAND, encoding="utf8")
    for file in ("answers_ch15.py", "test_ch15.py"):
        (tree / "tests/chapters" / file).unlink()
    _, said = failures(tree)
    for sentence in ("run: make notebooks", "a stub of trial, and no exercise: write it in course_lib/chapters/ch15",
                     "tests/chapters/answers_ch15.py is missing", "write tests/chapters/answers_ch15.py, with STYLES",
                     "tests/chapters/test_ch15.py is missing", "the chapter has no figure", "the end is missing"):
        assert sentence in said, said


@pytest.fixture
def begun(monkeypatch):
    """Chapter 15 is planned; what there is of chapter 1 stays where it is."""
    planned = [collect.Planned(number, f"Title {number}", "a line.", "A part") for number in (1, 15)]
    monkeypatch.setattr(new_chapter, "plan", lambda: planned)


@pytest.mark.parametrize("number, name, words", [
    (1, "internal_covariate_shift", "has been begun, and nothing is overwritten: 01_internal_covariate_shift.md"),
    (1, "another_name", "has been begun, and nothing is overwritten"),
    (16, "trial", "chapter 16 is not planned: write its title and line into book/chapters.yml"),
    (15, "My Trial", "NAME=My Trial: small letters"),
    (15, "../trial", "small letters"),
])
def test_new_chapter_overwrites_nothing_and_refuses_what_is_not_planned(begun, number, name, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        new_chapter.files(number, name)


def test_new_chapter_keeps_the_bones_that_can_be_there_from_the_start(begun):
    """What is left are the sentences that only its author can write."""
    text = new_chapter.files(15, "trial")["notebooks/15_trial.md"]
    assert text.count("# 15. Title 15\n\n**Reading time: about 5 minutes.**\n") == 1
    left = [rule.__name__ for rule in bones.RULES if list(rule(Chapter(text, "15_trial")))]
    assert left == ["exercises_are_enough", "nothing_of_the_skeleton_is_left"]


def test_command_without_a_number_and_a_name_says_how(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["new_chapter.py", "", ""])
    with pytest.raises(SystemExit, match="make chapter N=05 NAME=inference_statistics"):
        new_chapter.main()
