"""The words of the page: differences with their intervals and verdicts, and what was corrected for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd

from harness.records.listed import display_name
from reports.cells import POINTS, Shown, interval, model_name, signed
from reports.decides.frames import rows_of_task
from reports.decides.results import METRIC
from reports.sections import Section
from reports.tables.markup import Table

VERDICTS = {"yes": "resolved", "no": "not resolved"}


def verdict(row: Mapping[Any, Any], name: str = "resolved") -> str:
    """``resolved``, ``not resolved`` or ``not judged (few seeds)``."""
    return VERDICTS.get(row[name], f"not judged ({row[name]})")


def pair_name(row: Mapping[Any, Any]) -> str:
    """``RankMixer minus DCN``: whose difference it is."""
    return f"{model_name(dict(row))} minus {display_name(row['base'], row['base_variant'])}"


def points(value: float) -> Shown:
    """``+0.21``: a fraction as points x 100."""
    return signed(POINTS * value, 2)


def difference(row: Mapping[Any, Any]) -> str:
    """``+0.21 (+0.10 to +0.32), resolved``, in points x 100."""
    diff, low, high = (POINTS * row[name] for name in ("diff", "diff_low", "diff_high"))
    return f"{interval(diff, low, high, 2)}, {verdict(row)}"


def over(section: Section, frame: pd.DataFrame) -> str:
    """``95% intervals over 3 worlds``, those of which the rows have most."""
    repeats = int(frame["repeats"].max())
    if repeats < 2:
        return f"one {section.repeats.removesuffix('s')}, which tells no interval"
    return f"95% intervals over {repeats} {section.repeats}"


def corrected(family: pd.DataFrame) -> str:
    """What the verdicts of one family (the differences of a task and metric) are corrected for."""
    tested = int(family["resolved"].isin(list(VERDICTS)).sum())
    if not tested:
        return "no verdict is given on any"
    if tested == 1:
        return "the one difference of a task that was tested needs no correction"
    return f"verdicts after Holm's correction over the {tested} differences of a task"


def answer(asked: str, clauses: list[str], family: pd.DataFrame, section: Section) -> str:
    """The question, and the clauses as one sentence with what they are over and corrected for."""
    if not clauses:
        return f"{asked} Not known: these results do not hold the runs that would tell."
    judged = corrected(rows_of_task(family, section.tasks[0]))
    return f"{asked} {sentence(clauses)} ({over(section, family)}; {judged})."


def sentence(clauses: list[str]) -> str:
    """The clauses in one, which begins with a capital letter; its end is for what follows."""
    joined = "; ".join(clauses)
    return joined[0].upper() + joined[1:]


def judged_table(
    name: str,
    caption: str,
    frame: pd.DataFrame,
    header: list[str],
    named: Callable[[dict], list[str]],
    notes: list[str],
) -> Table:
    """A table with the difference of each task in AUC; its CSV has every metric.

    Args:
        header: titles of the columns that say which row it is, whose cells are ``named`` from a row.
    """
    shown = frame[frame["metric"] == METRIC]
    tasks = list(dict.fromkeys(shown["task"]))
    cells: dict[tuple[str, ...], dict[str, str]] = {}
    for row in shown.to_dict("records"):
        diff, low, high = (POINTS * row[end] for end in ("diff", "diff_low", "diff_high"))
        cell = interval(diff, low, high, 2, verdict(row), row["resolved"] in VERDICTS)
        cells.setdefault(tuple(named(row)), {})[row["task"]] = cell
    return Table(
        name=name,
        caption=caption,
        numbers=frame,
        header=[*header, *(f"{task} {METRIC.upper()} x {POINTS}" for task in tasks)],
        rows=[[*key, *(found.get(task, "") for task in tasks)] for key, found in cells.items()],
        notes=notes,
    )
