"""Text files of a report, whole or not at all, so that two renders of one folder do not mix."""

from __future__ import annotations

from pathlib import Path

from files.writing import replacing

__all__ = ["replacing", "write_text"]


def write_text(path: Path, text: str) -> None:
    """Write ``text`` as UTF-8, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
