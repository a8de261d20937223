"""Whether a token's own networks gain where feature groups share nothing, and lose where they share much."""

from __future__ import annotations

import pandas as pd

from harness.evaluation.contrasts.along_rows import PAIR, at_most_rows, paired_differences
from harness.evaluation.contrasts.between import contrasts_between
from reports.contents import Part, Words
from reports.decides.frames import as_in_curves, rows_of_task, with_verdicts
from reports.decides.results import APART, METRIC, SHARED, Results, compared
from reports.decides.words import corrected, difference, judged_table, pair_name
from reports.figures.contrasts import contrasts_side_by_side
from reports.figures.drawing.saving import Drawing
from reports.sections import Section

BETWEEN = f"{APART} less {SHARED}"


def heterogeneity_part(results: Results) -> Part | None:
    """The declared contrasts of both folders, and how they differ; of one folder without the other."""
    there = {name: results.sections[name] for name in (APART, SHARED) if name in results.sections}
    frames = [as_in_curves(section.contrasts).assign(result=name) for name, section in there.items()]
    frames = [frame for frame in frames if len(frame)]
    if not frames:
        return None
    between = pd.DataFrame()
    if len(there) == 2:
        between = _between(there[APART], there[SHARED])
        frames += [between.assign(result=BETWEEN)] if len(between) else []
    columns = ["task", "metric", *PAIR[:-1], "result", "repeats", "diff", "diff_low", "diff_high"]
    rows = pd.concat([frame[[*columns, "p_holm", "resolved"]] for frame in frames], ignore_index=True)
    caption = "Declared contrasts where feature groups share nothing and where they share much, 95% intervals"
    drawing = Drawing(contrasts_side_by_side, rows, caption, options={"metrics": [METRIC]})
    table = judged_table(
        "decides-heterogeneity",
        "Declared contrasts in both kinds of worlds",
        rows,
        ["difference", "in"],
        lambda row: [pair_name(row), row["result"]],
        [
            "Verdicts after Holm's correction over the pairs of one task, in each of the two results and for "
            "what lies between them; nothing is corrected across these, tasks and metrics.",
            f"{BETWEEN}: world by world, since world 3 of both has the same users, items and main effects, "
            "and its runs start from the same weights; Student's t over the worlds.",
        ],
    )
    return Part(
        name="heterogeneity",
        title="Feature groups that share little or much",
        in_short=_answer(rows, between, there),
        overview=[
            *(compared(name, section) for name, section in there.items()),
            Words("How the two are compared", [table.notes[1]]),
        ],
        tables=[table],
        figures={"decides-heterogeneity": drawing},
    )


def _between(apart: Section, shared: Section) -> pd.DataFrame:
    ours, others = (
        at_most_rows(paired_differences(section.records, section.suite.contrasts))
        for section in (apart, shared)
    )
    found = contrasts_between(ours, others)
    return with_verdicts(with_verdicts(found, apart), shared)


def _answer(rows: pd.DataFrame, between: pd.DataFrame, there: dict[str, Section]) -> str:
    asked = (
        "Do a token's own networks gain where feature groups share nothing, and less where they share much?"
    )
    tasks, clauses = list(dict.fromkeys(rows["task"])), []
    for _, of_pair in rows[rows["metric"] == METRIC].groupby(["task", *PAIR[:-1]], sort=False):
        found = of_pair.to_dict("records")
        places = [
            f"{difference(row)}, {'between the two' if row['result'] == BETWEEN else 'in ' + row['result']}"
            for row in found
        ]
        clauses.append(f"{pair_name(found[0])} in AUC of {found[0]['task']} is {', and '.join(places)}")
    worlds = " and ".join(
        f"{int(rows.loc[rows['result'] == name, 'repeats'].max())} in {name}" for name in there
    )
    last = rows_of_task(between if len(between) else rows[rows["result"] == next(iter(there))], tasks[0])
    alone = "" if len(there) == 2 else " The other kind of worlds is not there to compare with."
    return (
        f"{asked} {'; '.join(clauses)} (95% intervals over worlds, {worlds}; each time "
        f"{corrected(last)}).{alone}"
    )
