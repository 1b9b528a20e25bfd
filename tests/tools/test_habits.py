"""The papers of the house: what they name exists, and the forms have what the host and its readers ask for."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
PAPERS = ("README.md", "CONTRIBUTING.md", "book/how_to_use.md")
FORMS = sorted(path for path in (ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml") if path.name != "config.yml")


def read(name):
    return (ROOT / name).read_text(encoding="utf8")


def targets_named(text):
    """What `make` is asked for: in a block of commands up to the comment, and in a line of text."""
    blocks = re.findall(r"^```sh\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    spans = re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE))
    code = [line.split("  #")[0] for block in blocks for line in block.splitlines()] + spans
    return {target for line in code for target in re.findall(r"\bmake ([a-z][a-z-]*(?:\d\d)?)", line)}


def missing_targets(text, makefile):
    names = re.findall(r"^([a-z][a-z%-]*):", makefile, re.MULTILINE)
    patterns = [re.compile(name.replace("%", r"\d\d")) for name in names]
    return {target for target in targets_named(text) if not any(each.fullmatch(target) for each in patterns)}


def missing_files(text):
    """The files of the repository that a paper names and that are not there; NN stands for any number."""
    names = re.findall(r"[`(]((?:\.?[\w-]+/)*\.?[\w-]+\.(?:md|py|yml|txt|svg|cff|toml|ipynb))[`)]", text)
    roots = (ROOT, ROOT / "book", ROOT / "course_lib")
    return [name for name in names if "NN" not in name and not any((root / name).exists() for root in roots)]


@pytest.mark.parametrize("name", PAPERS)
def test_commands_that_a_paper_names_are_in_the_makefile(name):
    assert targets_named(read(name)) >= {"book"}
    assert missing_targets(read(name), read("Makefile")) == set()


@pytest.mark.parametrize("name", PAPERS)
def test_files_that_a_paper_names_are_there(name):
    assert missing_files(read(name)) == []


def test_missing_command_and_missing_file_would_be_noticed():
    text = "`make book`, `make boook`\n\n```sh\nmake chapter-05  # make it\n```\n\nsee `tests/no.py`, [this](no.md)"
    assert targets_named(text) == {"book", "boook", "chapter-05"}
    assert missing_targets(text, "book: x\nchapter-%: y\n") == {"boook"}
    assert missing_files(text) == ["tests/no.py", "no.md"]


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.stem)
def test_form_has_what_the_host_asks_for(path):
    form = yaml.safe_load(path.read_text(encoding="utf8"))
    assert all(isinstance(form[key], str) and form[key] for key in ("name", "description"))
    assert set(form) <= {"name", "description", "title", "body"}
    ids = [field["id"] for field in form["body"]]
    assert len(set(ids)) == len(ids) >= 3
    for field in form["body"]:
        assert field["type"] in {"input", "textarea"} and field["attributes"]["label"]
        if "validations" in field:
            assert field["validations"] == {"required": True}


def test_there_is_a_form_for_each_report_that_contributing_names():
    assert [path.stem for path in FORMS] == ["bug", "error_in_the_text", "rejected_answer"]
    assert len({yaml.safe_load(path.read_text(encoding="utf8"))["name"] for path in FORMS}) == 3
    assert yaml.safe_load(read(".github/ISSUE_TEMPLATE/config.yml")) == {"blank_issues_enabled": True}


def test_citation_has_what_its_format_asks_for():
    citation = yaml.safe_load(read("CITATION.cff"))
    assert citation["cff-version"] == "1.2.0" and citation["authors"] == [{"name": "The course authors"}]
    assert {"message", "title"} <= set(citation)
    assert citation["type"] in {"software", "dataset"}
    assert citation["title"] == yaml.safe_load(read("_config.yml"))["title"]
    project = tomllib.loads(read("pyproject.toml"))["project"]
    assert (citation["version"], citation["license"]) == (project["version"], project["license"])


def test_editors_and_ruff_agree_on_the_width():
    width = re.search(r"^max_line_length = (\d+)", read(".editorconfig"), re.MULTILINE)[1]
    assert int(width) == tomllib.loads(read("pyproject.toml"))["tool"]["ruff"]["line-length"]


def test_hooks_run_what_is_there():
    hooks = [hook for repo in yaml.safe_load(read(".pre-commit-config.yaml"))["repos"] for hook in repo["hooks"]]
    assert [hook["id"] for hook in hooks] == ["ruff", "address", "notebooks", "library"]
    for hook in hooks:
        for name in re.findall(r"(?<![\w.])(?:tools|tests)/\S+", hook["entry"]):
            assert (ROOT / name).exists()
        assert ".venv/bin/" in hook["entry"] and hook["language"] == "system"
        re.compile(hook.get("files", ""))


def test_every_file_of_the_package_is_installed_with_it():
    """A chapter that reads a table finds it in an installed copy too, as on Colab."""
    patterns = tomllib.loads(read("pyproject.toml"))["tool"]["setuptools"]["package-data"]["*"]
    data = {path for path in (ROOT / "course_lib").rglob("*")
            if path.is_file() and path.suffix not in (".py", ".pyc")}
    assert [str(path) for path in data if not any(path.match(each) for each in patterns)] == []
