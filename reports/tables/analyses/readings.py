"""Rows compared with another row than the base: variants with the plain row of their architecture, and the
contrasts that the suite declares.
"""

from __future__ import annotations

from typing import NamedTuple

import pandas as pd

from harness.evaluation.quality import difference
from harness.records.contestant import Contestant
from reports.cells import METRICS, settings
from reports.sections import Section, shown_metrics
from reports.tables.markup import Table
from reports.tables.quality import NOT_RESOLVED, difference_cell
from reports.tables.significance import detectable_note, number_tested


class Pair(NamedTuple):
    """A row, the row that it is compared with, and their differences."""

    row: Contestant
    other: Contestant
    differences: pd.DataFrame


def reading_tables(section: Section) -> list[Table]:
    """One table of every variant that was compared with its own architecture; none where there is none."""
    note = "Difference to the architecture's row without a variant"
    return _tables(section, "variants", "Variants against their own architecture", note)


def contrast_tables(section: Section) -> list[Table]:
    """One table of the pairs of rows that the suite declares; none where it declares none."""
    return _tables(section, "contrasts", "Declared contrasts", "Difference of the first row to the second")


def _tables(section: Section, kind: str, caption: str, note: str) -> list[Table]:
    frame: pd.DataFrame = getattr(section, kind)
    pairs = _pairs(frame)
    if not pairs:
        return []
    tested = frame[frame["metric"].isin(METRICS)]
    tested = tested.assign(metric=tested["task"] + " " + tested["metric"])  # a column of the table each
    columns = [(task, metric) for task in section.tasks for metric in shown_metrics(section)]
    verdicts = (
        ""
        if section.no_verdict
        else ' "Higher" and "lower" survive Holm\'s correction over '
        f"{number_tested(tested, 'row')} of a column; the others are {NOT_RESOLVED} or untested."
    )
    return [
        Table(
            name=f"{kind}-{section.name}",
            caption=f"{caption} on {section.dataset}, test split",
            numbers=frame,
            header=["row", "against", "settings", *(f"{task} {m.upper()} x100" for task, m in columns)],
            rows=[
                [pair.row.display_name, pair.other.display_name, _changed(section, pair)]
                + [
                    difference_cell({"is_base": False} | difference(pair.differences, *column, pair.row))
                    for column in columns
                ]
                for pair in pairs
            ],
            notes=[
                f"{note}, in points x 100, with its 95% interval over {section.drawn_anew}.{verdicts}",
                *detectable_note(frame),
                "Settings: fields whose value differs from that row's; some widths follow from the budget.",
            ],
        )
    ]


def _pairs(frame: pd.DataFrame) -> list[Pair]:
    if frame.empty:
        return []
    named = frame if "base_variant" in frame else frame.assign(base_variant="")
    names = ["architecture", "variant", "base", "base_variant"]
    return [
        Pair(Contestant(str(key[0]), str(key[1])), Contestant(str(key[2]), str(key[3])), differences)
        for key, differences in named.groupby(names, sort=False)
    ]


def _changed(section: Section, pair: Pair) -> str:
    """The fields of the config that differ from those of the other row."""
    other, own = _config(section, pair.other), _config(section, pair.row)
    return settings({name: value for name, value in own.items() if value != other.get(name)})


def _config(section: Section, contestant: Contestant) -> dict:
    runs = section.runs_of(contestant)
    config = runs[0].spec.get("config") if runs else None
    return config if isinstance(config, dict) else {}
