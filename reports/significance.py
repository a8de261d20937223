"""Which differences hold after Holm's correction: their mark, their table, and what is said of them.

``comparisons.csv`` has the p-values; files older than those columns have none, and then nothing is shown.
"""

from __future__ import annotations

import pandas as pd

from reports.cells import Shown, is_missing, p_value, signed
from reports.markup import Table
from reports.records import label
from reports.sections import Section, slug

HOLM_MARK = "†"
LEVEL = 0.05
HOLM_NOTE = (
    f"{HOLM_MARK}: still resolved after Holm's correction over all models of this dataset, task and metric; "
    "across tasks and metrics nothing is corrected."
)


def holds_after_holm(row: dict, metric: str) -> bool:
    """Whether the difference of a row of ``quality_numbers`` is marked; never where no p-value is known."""
    p_holm = row.get(f"{metric}_p_holm")
    return not is_missing(p_holm) and float(p_holm) < LEVEL  # type: ignore[arg-type]


def has_p_values(numbers: pd.DataFrame) -> bool:
    """Whether ``comparisons.csv`` was made with p-values, and any could be told."""
    return any(numbers[name].notna().any() for name in numbers if str(name).endswith("_p_holm"))


def significance_table(
    section: Section, task: str, numbers: pd.DataFrame, metrics: tuple[str, ...]
) -> list[Table]:
    """One table of a task: p-value, Holm's p-value and effect size by metric; none without p-values.

    Args:
        numbers: :func:`reports.tables.quality_numbers` of the task.
    """
    models = numbers[(numbers["kind"] == "model") & ~numbers["is_base"]]
    if not has_p_values(models):
        return []
    header, rows = ["model"], [[label(row["architecture"], row["variant"])] for row in _records(models)]
    for metric in metrics:
        title = metric.upper()
        header += [f"{title} p-value", f"{title} p, Holm", f"{title} effect size"]
        for cells, row in zip(rows, _records(models), strict=True):
            cells += [p_value(row[f"{metric}_p_value"]), _holm_cell(row, metric)]
            cells += [signed(row[f"{metric}_effect_size"], 1)]
    base = section.base.label if section.base else "the base"
    return [
        Table(
            name=f"significance-{section.name}-{slug(task)}",
            caption=f"How sure the differences to {base} are on {section.dataset}, task {task}",
            numbers=models,
            header=header,
            rows=rows,
            notes=[
                "p-value: twice the share of the draws of users and seeds on the smaller side of zero; "
                "no smaller than the number of draws of users can tell.",
                f"Holm: corrected over the {len(rows)} models of this dataset, task and metric. {HOLM_NOTE}",
                "Effect size: the difference in standard deviations of one run over seeds, pooled over the "
                "dataset's models. It compares a difference with what another seed does, not with what "
                "a user would notice.",
            ],
        )
    ]


def _records(numbers: pd.DataFrame) -> list[dict]:
    return numbers.to_dict("records")


def _holm_cell(row: dict, metric: str) -> Shown:
    shown = p_value(row[f"{metric}_p_holm"])
    return Shown(f"{shown} {HOLM_MARK}", shown.value) if holds_after_holm(row, metric) else shown


def holm_sentence(tables: dict[str, pd.DataFrame], metrics: tuple[str, ...]) -> str:
    """How many differences were looked at, how many are resolved, and how many hold after the correction."""
    rows = [row for numbers in tables.values() for row in _records(numbers) if row["kind"] == "model"]
    tested = [(row, m) for row in rows for m in metrics if not is_missing(row[f"{m}_diff_low"])]
    if len(tested) < 2:
        return ""
    looked_at = f"{len(tested)} AUC and UAUC differences were looked at, each at 95%"
    chance = f"about {len(tested) / 20:.1f} would look resolved by chance if none were real"
    if not any(map(has_p_values, tables.values())):
        return f"{looked_at} and without correction: {chance}."
    resolved = sum(str(row[f"{m}_resolved"]) == "yes" for row, m in tested)
    kept = sum(holds_after_holm(row, m) for row, m in tested)
    after = f"{kept or 'none'} of them also after Holm's correction over the models of a task and metric"
    marked = f" (marked {HOLM_MARK})" if kept else ""
    return f"{looked_at}: {chance}. {resolved} are resolved, {after}{marked}."
