"""Functions that the tests of Ray have called as tasks; without torch, whose import takes a second."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

from files.errors import InputError


def sleep(file: str, watcher: Any) -> None:
    """Write this process's id to ``file``, whole or not at all, and go on and on, on the clock."""
    watcher.start_clock()
    Path(f"{file}.writing").write_text(str(os.getpid()))
    os.rename(f"{file}.writing", file)
    while True:
        time.sleep(0.1)


def leave(watcher: Any) -> None:
    sys.exit(3)


def refuse(watcher: Any) -> None:
    raise InputError("this cannot be; mend it")


def advance(watcher: Any) -> dict[str, Any]:
    """Tell of two steps in one second; returns where the call is made."""
    watcher.advance(1, 0.5, 2.0)
    watcher.advance(2, 0.5, 2.0)
    threads = os.environ.get("OMP_NUM_THREADS")
    return {"process": os.getpid(), "folder": os.getcwd(), "OMP_NUM_THREADS": threads}
