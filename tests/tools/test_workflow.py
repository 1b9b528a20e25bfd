"""Workflows of the public host: actions pinned by commit, no right more than needed, the commands of the Makefile."""

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.y*ml"))
TARGETS = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(encoding="utf8"), re.MULTILINE))
MAY_WRITE = {"deploy": {"pages": "write", "id-token": "write"}}  # by the name of a job


def faults(text):
    """What a workflow does that it should not, one sentence each."""
    workflow = yaml.safe_load(text)
    triggers = workflow[True]  # YAML reads `on` as a truth value
    if "pull_request_target" in triggers or "workflow_run" in triggers:
        yield "it runs with the rights of the repository on somebody else's change"
    if workflow.get("permissions") != {"contents": "read"}:
        yield "at the top, its only permission is to read the contents"
    if not {"group", "cancel-in-progress"} <= set(workflow.get("concurrency", {})):
        yield "two runs of one branch stand in each other's way"
    for line in text.splitlines():
        if "uses:" in line and not re.fullmatch(r"[\s-]*uses: [\w-]+/[\w/-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", line):
            yield f"an action is pinned by its 40 digits, with its release beside them: {line.strip()}"
    for name, job in workflow["jobs"].items():
        if not isinstance(job.get("timeout-minutes"), int):
            yield f"{name} may run for hours"
        if job.get("permissions", {}) != MAY_WRITE.get(name, {}):
            yield f"{name} has other permissions than it needs"
        for step in job["steps"]:
            yield from faults_of_step(step)


def faults_of_step(step):
    if "${{" in step.get("run", ""):
        yield "somebody else's words may become a command: pass them as a variable"
    for target in re.findall(r"make ([\w-]+)", step.get("run", "")):
        if target not in TARGETS:
            yield f"the Makefile has no {target}"
    if step.get("uses", "").startswith("actions/checkout@"):
        if step.get("with", {}).get("persist-credentials") is not False:
            yield "the checkout leaves a token behind"


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_workflow_has_no_fault(path):
    assert list(faults(path.read_text(encoding="utf8"))) == []


def test_workflows_test_the_course_build_the_book_and_rehearse():
    commands = {step.get("run") for path in WORKFLOWS
                for job in yaml.safe_load(path.read_text(encoding="utf8"))["jobs"].values() for step in job["steps"]}
    assert {"make test", "make book", "make rehearse"} <= commands


def test_each_action_has_one_commit():
    text = "".join(path.read_text(encoding="utf8") for path in WORKFLOWS)
    pins = set(re.findall(r"uses: ([\w/-]+)@(\w+)", text))
    assert pins and len({action for action, _ in pins}) == len(pins)


@pytest.mark.parametrize("old, new, words", [
    (r"@[0-9a-f]{40} # v7\.0\.1", "@v7", "an action is pinned"),
    (r"@[0-9a-f]{40} # v7\.0\.0", "@abcdef0 # v7.0.0", "an action is pinned"),
    (r" # v5\.0\.0", "", "an action is pinned"),
    (r"^permissions:\n  contents: read\n", "", "at the top"),
    (r"contents: read", "contents: write", "at the top"),
    (r"pages: write", "contents: write", "deploy has other permissions"),
    (r"    timeout-minutes: 30\n", "", "rehearse may run for hours"),
    (r"timeout-minutes: 45\n", "timeout-minutes: 45\n    permissions: write-all\n", "book has other permissions"),
    (r"pull_request:", "pull_request_target:", "rights of the repository"),
    (r"persist-credentials: false", "fetch-depth: 1", "leaves a token behind"),
    (r"make test", "make tset", "the Makefile has no tset"),
    (r"run: make book", "run: echo ${{ github.head_ref }}", "somebody else's words"),
    (r"^concurrency:\n(?:  .*\n)*", "", "two runs of one branch"),
])
def test_fault_would_be_noticed(old, new, words):
    text = (ROOT / ".github/workflows/ci.yml").read_text(encoding="utf8")
    broken = re.sub(old, new, text, count=1, flags=re.MULTILINE)
    assert broken != text
    assert any(words in fault for fault in faults(broken))
