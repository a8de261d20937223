"""How certain differences are: p-values, effect sizes, and how small a difference could be found.

``comparisons.csv`` has the p-values; files older than those columns have none, and then nothing is shown.
"""

from __future__ import annotations

import pandas as pd

from harness.evaluation.quality import QUALITIES
from reports.cells import METRICS, POINTS, model_name, p_value, signed
from reports.sections import Section, slug
from reports.tables.markup import Table


def has_p_values(numbers: pd.DataFrame) -> bool:
    """Whether ``comparisons.csv`` was made with p-values, and any could be told."""
    return bool(numbers["p_holm"].notna().any())


def number_tested(numbers: pd.DataFrame, noun: str = "model") -> str:
    """``the 5 tested models``: how many differences of a metric were tested, which is the family's size.

    Args:
        numbers: one row a difference and metric, with the columns ``metric`` and ``resolved``.
    """
    if numbers.empty:
        return f"the tested {noun}s"
    shown = numbers[numbers["resolved"].notna()]
    by_metric = shown["resolved"].isin(["yes", "no"]).groupby(shown["metric"]).sum()
    counts = sorted({int(count) for count in by_metric}) or [0]
    number = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    return f"the {number} tested {noun}{'' if counts == [1] else 's'}"


def detectable_note(numbers: pd.DataFrame) -> list[str]:
    """How small a difference the rows could have shown; none where it is not known.

    Args:
        numbers: with the columns ``metric`` and ``detectable``; references, of a ``kind``, do not count.
    """
    models = numbers[numbers["kind"] == "model"] if "kind" in numbers else numbers
    by_metric = models.groupby("metric", sort=False)["detectable"].median().dropna()
    shown = [f"{name.upper()} {POINTS * by_metric[name]:.2f}" for name in METRICS if name in by_metric]
    if not shown:
        return []
    return [
        f"Smallest detectable difference, x100: {', '.join(shown)}. A true difference of this size would be "
        "found in 80 of 100 repetitions (median over the rows, after the correction). A smaller one may "
        "well be real and stay unresolved."
    ]


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
    for metric in section.metrics:
        title, rows = metric.upper(), models[models["metric"] == metric].to_dict("records")
        columns[f"{title} p-value"] = [p_value(row["p_value"]) for row in rows]
        columns[f"{title} p, Holm"] = [p_value(row["p_holm"]) for row in rows]
        columns[f"{title} effect size"] = [signed(row["effect_size"], 1) for row in rows]
    base = section.base_name
    return [
        Table.from_columns(
            name=f"significance-{section.name}-{slug(task)}",
            caption=f"How sure the differences to {base} are on {section.dataset}, task {task}",
            numbers=csv[(csv["kind"] == "model") & ~csv["is_base"]],
            columns=columns,
            notes=[
                "p-value: Student's t over the worlds' differences, with draws of users only if all worlds "
                "have the same test rows."
                if section.num_worlds > 1
                else "p-value: twice the share of the draws of users and seeds that fall on the smaller side "
                "of zero. The number of draws of users limits how small it can be.",
                f"Holm: corrected over {number_tested(models)} of this dataset, task and metric; there is no "
                "correction across tasks and metrics.",
                "Effect size: the difference in standard deviations of one run over seeds. It compares a "
                "difference with what another seed does, not with what a user would notice.",
            ],
        )
    ]
