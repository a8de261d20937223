"""What RankMixer's parts and its experts are worth where there is more to learn."""

from __future__ import annotations

from statistics import fmean

import pandas as pd

from harness.evaluation.contrasts.along_rows import change_with_rows, contrasts_along_rows, paired_differences
from harness.records.contestant import Contestant
from reports.cells import METRICS, grouped, short
from reports.contents import Part
from reports.decides.frames import as_in_curves, rows_of_task, with_verdicts
from reports.decides.results import EXPERTS, METRIC, PARTS, Results, compared
from reports.decides.rows_and_size import HOW
from reports.decides.words import corrected, difference, judged_table, over, pair_name
from reports.figures.drawing.saving import Drawing
from reports.figures.parts_and_experts import parts_and_experts
from reports.sections import Section


def parts_part(results: Results) -> Part | None:
    """The waterfall of the parts at the most rows, beside the experts' contrast along rows."""
    parts, experts = (results.sections.get(name) for name in (PARTS, EXPERTS))
    changes = _changes(parts)
    along, gained = _along(experts)
    if changes.empty and along.empty:
        return None
    clauses = [
        *(_lost(changes, parts) if parts else []),
        *(_experts(along, gained, experts) if experts else []),
    ]
    asked = (
        "Which parts carry RankMixer, and are experts worth more than a dense network of the active FLOPs "
        "that they aim at?"
    )
    caption = (
        "Each change to RankMixer after the most rows; experts less a dense network over rows; 95% intervals"
    )
    drawing = Drawing(parts_and_experts, changes, caption, (along,), {"metrics": [METRIC]})
    there = [(name, section) for name, section in ((PARTS, parts), (EXPERTS, experts)) if section]
    tables = []
    if len(along):
        tables.append(
            judged_table(
                "decides-experts",
                "Experts less a dense network of the active FLOPs that they aim at",
                along,
                ["difference", "rows"],
                lambda row: [pair_name(row), grouped(row["samples"])],
                [
                    "The active FLOPs are those of inference; in training, all experts are computed.",
                    *(_active_flops(experts) if experts else []),
                ],
            )
        )
    return Part(
        name="parts",
        title="Parts and experts",
        in_short=f"{asked} {' '.join(clauses)}",
        overview=[*(compared(name, section) for name, section in there), HOW],
        tables=tables,
        figures={"decides-parts": drawing},
    )


def _changes(parts: Section | None) -> pd.DataFrame:
    """The rows of ``comparisons.csv`` of the models that differ from the whole one in a part."""
    if parts is None:
        return pd.DataFrame()
    models = {who.key for who in parts.contestants}
    rows = parts.comparisons
    keys = zip(rows["architecture"], rows["variant"], strict=True)
    wanted = pd.Series([key in models for key in keys], index=rows.index, dtype=bool)
    return rows[wanted & rows["diff"].notna() & rows["metric"].isin(METRICS)]


def _along(experts: Section | None) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The declared contrast at each number of rows, and its change from the fewest to the most."""
    if experts is None:
        return pd.DataFrame(), pd.DataFrame()
    paired = paired_differences(experts.records, experts.suite.contrasts)
    return (
        with_verdicts(contrasts_along_rows(paired), experts),
        with_verdicts(change_with_rows(paired), experts),
    )


def _active_flops(experts: Section) -> list[str]:
    """What the rows of the declared contrasts computed in the test split: gates decide, not aims."""
    named = {who for pair in experts.suite.contrasts for who in pair}
    found: dict[Contestant, list[float]] = {}
    for record in experts.records:
        if record.cost is not None and record.contestant in named:
            found.setdefault(record.contestant, []).append(record.cost.active_flops_per_sample)
    told = [f"{who.display_name} {short(fmean(flops))}" for who, flops in found.items()]
    return [f"Active FLOPs a sample in the test split, on average over runs: {', '.join(told)}."]


def _lost(changes: pd.DataFrame, parts: Section) -> list[str]:
    """How many changes lower the AUC of each task, and which most."""
    clauses, changes = [], as_in_curves(changes)
    for task in parts.tasks:
        here = rows_of_task(changes, task)
        if here.empty:
            continue
        lower = here[(here["resolved"] == "yes") & (here["diff"] < 0)]
        worst = here.sort_values("diff").iloc[0].to_dict()
        clauses.append(
            f"in AUC of {task} {len(lower)} of {len(here)} changes lower it and are resolved, and "
            f"{worst['variant']} is the lowest with {difference(worst)}"
        )
    if not clauses:
        return []
    judged = corrected(rows_of_task(changes, parts.tasks[0]))
    return [f"Parts: {'; '.join(clauses)} ({over(parts, changes)}; {judged})."]


def _experts(along: pd.DataFrame, gained: pd.DataFrame, experts: Section) -> list[str]:
    clauses = []
    for task in experts.tasks:
        rows = rows_of_task(along, task)
        if rows.empty:
            continue
        last = rows.sort_values("samples").iloc[-1].to_dict()
        change = "".join(
            f", a change of {difference(row)}, from what it is after {grouped(row['few'])}"
            for row in rows_of_task(gained, task).to_dict("records")
        )
        clauses.append(
            f"{pair_name(last)} in AUC of {task} is {difference(last)}, after {grouped(last['samples'])} "
            f"rows{change}"
        )
    if not clauses:
        return []
    judged = f"{corrected(rows_of_task(along, experts.tasks[0]))}, the change being one a task"
    return [f"Experts: {'; '.join(clauses)} ({over(experts, along)}; {judged}).", *_active_flops(experts)]
