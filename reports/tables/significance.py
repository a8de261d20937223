"""Which differences hold after Holm's correction: their mark, their table, and the sentence about them.

``comparisons.csv`` has the p-values; files older than those columns have none, and then nothing is shown.
"""

from __future__ import annotations

import pandas as pd

from harness.evaluation.quality import QUALITIES
from reports.cells import Shown, is_missing, model_name, p_value, signed
from reports.sections import Section, slug
from reports.tables.markup import Table

HOLM_MARK = "†"
LEVEL = 0.05
HOLM_NOTE = (
    f"{HOLM_MARK}: still resolved after Holm's correction over all models of this dataset, task and metric; "
    "there is no correction across tasks and metrics."
)


def holds_after_holm(row: dict) -> bool:
    """Whether the difference of a row of ``quality_numbers`` is marked; never where no p-value is known."""
    p_holm = row.get("p_holm")
    return not is_missing(p_holm) and float(p_holm) < LEVEL  # type: ignore[arg-type]


def has_p_values(numbers: pd.DataFrame) -> bool:
    """Whether ``comparisons.csv`` was made with p-values, and any could be told."""
    return bool(numbers["p_holm"].notna().any())


def significance_table(section: Section, task: str, numbers: pd.DataFrame, csv: pd.DataFrame) -> list[Table]:
    """One table of a task: p-value, Holm's p-value and effect size by metric; none without p-values.

    Args:
        numbers: :func:`reports.tables.quality.quality_numbers` of the task.
        csv: the same with one row a contestant, for the table's CSV.
    """
    models = numbers[(numbers["kind"] == "model") & ~numbers["is_base"]]
    if not has_p_values(models):
        return []
    names = [model_name(row) for row in models[models["metric"] == QUALITIES[0]].to_dict("records")]
    columns: dict[str, list[str]] = {"model": names}
    for metric in QUALITIES:
        title, rows = metric.upper(), models[models["metric"] == metric].to_dict("records")
        columns[f"{title} p-value"] = [p_value(row["p_value"]) for row in rows]
        columns[f"{title} p, Holm"] = [_holm_cell(row) for row in rows]
        columns[f"{title} effect size"] = [signed(row["effect_size"], 1) for row in rows]
    base = section.base.label if section.base else "the base"
    return [
        Table.from_columns(
            name=f"significance-{section.name}-{slug(task)}",
            caption=f"How sure the differences to {base} are on {section.dataset}, task {task}",
            numbers=csv[(csv["kind"] == "model") & ~csv["is_base"]],
            columns=columns,
            notes=[
                "p-value: twice the share of the draws of users and seeds that fall on the smaller side of "
                "zero. The number of draws of users limits how small it can be.",
                f"Holm: corrected over the {len(names)} models of this dataset, task and metric. {HOLM_NOTE}",
                "Effect size: the difference in standard deviations of one run over seeds, pooled over the "
                "dataset's models. It compares a difference with what another seed does, not with what "
                "a user would notice.",
            ],
        )
    ]


def _holm_cell(row: dict) -> Shown:
    shown = p_value(row["p_holm"])
    return Shown(f"{shown} {HOLM_MARK}", shown.value) if holds_after_holm(row) else shown


def holm_sentence(tables: dict[str, pd.DataFrame], metrics: tuple[str, ...]) -> str:
    """How many differences were looked at, how many are resolved, and how many hold after the correction."""
    tested = [
        row
        for numbers in tables.values()
        for row in numbers[numbers["metric"].isin(metrics)].to_dict("records")
        if row["kind"] == "model" and not is_missing(row["diff_low"])
    ]
    if len(tested) < 2:
        return ""
    looked_at = f"{len(tested)} AUC and UAUC differences were tested, each at the 95% level"
    chance = f"about {len(tested) / 20:.1f} would look resolved by chance if none were real"
    if not any(map(has_p_values, tables.values())):
        return f"{looked_at} and without correction: {chance}."
    resolved = sum(str(row["resolved"]) == "yes" for row in tested)
    kept = sum(map(holds_after_holm, tested))
    after = f"{kept or 'none'} of them also after Holm's correction over the models of a task and metric"
    marked = f" (marked {HOLM_MARK})" if kept else ""
    return f"{looked_at}: {chance}. {resolved} are resolved, {after}{marked}."
