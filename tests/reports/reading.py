"""What a report says, without drawing its figures or writing its files."""

from __future__ import annotations

from pathlib import Path

from harness.records.store import read_runs
from reports.contents import Contents, gather
from reports.render import markdown_page


def contents_of(out: Path) -> Contents:
    return gather(read_runs(out))


def report_text(out: Path) -> str:
    """The text that ``report.md`` would have."""
    return markdown_page(contents_of(out))
