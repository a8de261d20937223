"""The table at the top of a page: the main table's most asked-for columns, the best model first."""

from __future__ import annotations

import math
from dataclasses import replace

from reports.cells import METRICS, ROUGH, Shown
from reports.sections import Section
from reports.tables.markup import Table

COSTS = ("dense params", "FLOPs/sample", "inference MFU", "p99 ms")
SHOWN_TASKS = 2  # more do not fit beside each other


def ranked_table(section: Section, main: Table) -> Table:
    """The main table by falling AUC of the first task, without what a first look does not need.

    Of the intervals that the forest shows beside it, the cells keep the differences alone.
    """
    wanted = {"model", *COSTS} if "p99 ms" in main.header else {"model", *COSTS, "train MFU"}
    for task in section.tasks[:SHOWN_TASKS]:
        wanted |= {f"{task} {metric.upper()}{end}" for metric in METRICS for end in ("", " vs base")}
    kept = [place for place, title in enumerate(main.header) if title in wanted]
    first = main.header.index(f"{section.tasks[0]} AUC")
    by_quality = sorted(main.rows, key=lambda row: -_value(row[first]))
    return replace(
        main,
        name=f"ranked-{section.name}",
        caption=f"{section.dataset}: the best AUC of {section.tasks[0]} first",
        header=[_short(main.header[place]) for place in kept],
        rows=[[_alone(row[place]) for place in kept] for row in by_quality],
        references=[[_alone(row[place]) for place in kept] for row in main.references],
        notes=[note for note in main.notes if note.startswith(ROUGH) and "train MFU" in wanted],
    )


def _short(title: str) -> str:
    """A heading beside the one that it belongs to."""
    if title.endswith(" vs base"):
        return "vs base"
    return title.removeprefix("dense ").removeprefix("inference ").removesuffix("/sample")


def _value(cell: str) -> float:
    """The raw number; one that is not known comes last."""
    value = cell.value if isinstance(cell, Shown) else None
    return -math.inf if value is None else value


def _alone(cell: str) -> str:
    """The cell without its interval."""
    return Shown(str(cell), cell.value) if isinstance(cell, Shown) else cell
