"""Which exercises are done, kept in a small file beside the notebooks."""

import contextlib
import json
import os
from pathlib import Path

_here: set[str] = set()  # done in this session: counts also where nothing can be saved


def file():
    """progress.json beside the notebook; NORM_COURSE_PROGRESS moves it, say to a drive that outlives Colab."""
    return Path(os.path.expanduser(os.environ.get("NORM_COURSE_PROGRESS") or "progress.json"))


def names():
    """The exercises done, in this session or an earlier one; a file that cannot be read counts as empty."""
    try:
        saved = json.loads(file().read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        saved = []
    return _here | {name for name in saved if isinstance(name, str)} if isinstance(saved, list) else set(_here)


def add(name):
    """Note that an exercise is done.

    Returns:
        why the note could not be saved, or "" when it is.
    """
    _here.add(name)
    new = file().with_name(f"{file().name}.{os.getpid()}.new")
    try:
        file().parent.mkdir(parents=True, exist_ok=True)
        new.write_text(json.dumps(sorted(names()), indent=1), encoding="utf-8")
        os.replace(new, file())  # whole or not at all, also when the machine stops here
    except OSError as error:
        with contextlib.suppress(OSError):
            new.unlink()
        return f"not saved: {file()} cannot be written ({error.strerror or error})"
    return ""
