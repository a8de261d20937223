"""A call that never ends, in a module that a process imports without PyTorch."""

from __future__ import annotations

import os
import time
from pathlib import Path


def sleep(path: Path | None = None) -> None:
    """With ``path``, a file there names the process that sleeps."""
    if path is not None:
        path.write_text(str(os.getpid()))
    time.sleep(600)
