"""Checks the built site: links, anchors, weight of each page, nothing from outside. Exits 1 on a fault.

    python tools/check_site.py [folder]      # default _build/html
"""

import os
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

if __name__ == "__main__":
    site = Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "_build/html").resolve()
    if not (site / "index.html").exists():
        sys.exit(f"{site} holds no site: make book")
    os.environ["COURSE_SITE_FOLDER"] = str(site)
    sys.exit(pytest.main(["-q", "-p", "no:cacheprovider", "--durations=0", "--durations-min=60", str(ROOT / "tests/test_site.py")]))
