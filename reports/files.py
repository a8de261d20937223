"""Text files of a report, whole or not at all, so that two renders of one folder do not mix."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from files.plain_text import csv_text
from files.writing import replacing

__all__ = ["replacing", "write_text"]


def write_text(path: Path, text: str) -> None:
    """Write ``text`` as UTF-8, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_csv(path: Path, frame: pd.DataFrame) -> None:
    """Write a frame as CSV without its index; text that a spreadsheet would run has a ``'`` before it."""
    write_text(path, csv_text(frame))
