"""Writes the text files of a report so that a reader never finds one half-written."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from files.plain_text import csv_text
from files.writing import replacing


def write_text(path: Path, text: str) -> None:
    """Write ``text`` as UTF-8; the old file stays until the new one is complete."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_csv(path: Path, frame: pd.DataFrame) -> None:
    """Write a frame as CSV without its index, with a ``'`` before text that a spreadsheet would run."""
    write_text(path, csv_text(frame))
