"""Rows of differences: of one task, of RankMixer, without sizes, and without verdicts where none is given."""

from __future__ import annotations

import pandas as pd

from harness.evaluation.verdict import withheld
from reports.decides.results import METRIC, OURS
from reports.sections import Section


def unsized(frame: pd.DataFrame, section: Section) -> pd.DataFrame:
    """The rows with ``variant`` and ``base_variant`` without the sizes."""
    lines = {who.key: who.variant_without_size for who in section.contestants}
    for architecture, variant in (("architecture", "variant"), ("base", "base_variant")):
        if variant in frame:
            keys = zip(frame[architecture], frame[variant], strict=True)
            frame = frame.assign(**{variant: [lines.get(key, key[1]) for key in keys]})
    return frame


def with_verdicts(frame: pd.DataFrame, section: Section) -> pd.DataFrame:
    """The differences, without verdicts where the section's data allow none."""
    return withheld(frame) if section.no_verdict else frame


def as_in_curves(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of ``comparisons.csv`` or ``contrasts.csv`` with the names that contrasts along curves have."""
    named = rows.rename(columns={"low": "diff_low", "high": "diff_high"})
    if "worlds" not in rows:
        return named.assign(repeats=rows["seeds"])
    return named.assign(repeats=rows["worlds"].where(rows["worlds"] > 1, rows["seeds"]))


def rows_of_task(frame: pd.DataFrame, task: str) -> pd.DataFrame:
    return frame[(frame["task"] == task) & (frame["metric"] == METRIC)]


def rows_of_ours(frame: pd.DataFrame, section: Section) -> pd.DataFrame:
    """RankMixer's rows, whatever their size."""
    named = frame["line"] if "line" in frame else unsized(frame, section)["variant"]
    return frame[(frame["architecture"] == OURS.architecture) & (named == OURS.variant)]
