"""Checks the built site: links, anchors, weight of each page, nothing from outside. Exits 1 on a fault.

    python tools/check_site.py [folder]      # default _build/html
"""

import contextlib
import io
import os
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
OPTIONS = ["-q", "-p", "no:cacheprovider", "-o", "addopts="]  # no list of slow tests


class Passed:
    """Counts the tests that pass."""

    count = 0

    def pytest_runtest_logreport(self, report):
        self.count += report.when == "call" and report.passed


def main():
    """Run tests/site/test_site.py on the folder: one line when all is well, pytest's report when it is not."""
    site = Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "_build/html").resolve()
    if not (site / "index.html").exists():
        sys.exit(f"{site} holds no site: make book")
    os.environ["COURSE_SITE_FOLDER"] = str(site)
    passed, said = Passed(), io.StringIO()
    with contextlib.redirect_stdout(said):
        code = pytest.main([str(ROOT / "tests/site/test_site.py"), *OPTIONS], [passed])
    if code or not passed.count:
        sys.exit(f"{said.getvalue()}\nThe site in {site} has a fault: see above")
    pages = sum(1 for _ in site.rglob("*.html"))
    print(f"Checked {pages} pages, {passed.count} checks: links, anchors, weight, policy, nothing from outside")


if __name__ == "__main__":
    main()
