"""How alike the models score, as a table for each task."""

from __future__ import annotations

import pandas as pd

from harness.evaluation.agreement import COLUMNS
from reports.cells import fixed
from reports.figures.drawing.models import Model
from reports.sections import Section, slug
from reports.tables.markup import Table


def agreement_tables(section: Section) -> list[Table]:
    """Correlations of all pairs of models; none where the suite did not ask for them."""
    found = section.agreement.groupby("task", sort=False)
    return [_table(section, str(task), rows) for task, rows in found]


def _table(section: Section, task: str, rows: pd.DataFrame) -> Table:
    known: dict[tuple[Model, Model], float] = {}
    for row in rows.to_dict("records"):
        one, other = ((row[f"{o}architecture"], row[f"{o}variant"]) for o in ("", "other_"))
        known[one, other] = known[other, one] = row["correlation"]
    models = [who for who in section.contestants if any(who.key in pair for pair in known)]
    return Table(
        name=f"agreement-{section.name}-{slug(task)}",
        caption=f"How alike the models score {task} on {section.dataset}",
        numbers=rows[COLUMNS],
        header=["model", *(who.display_name for who in models)],
        rows=[
            [who.display_name, *(fixed(known.get((who.key, other.key)), 3) for other in models)]
            for who in models
        ],
        notes=[
            "Pearson's correlation of the logits of all test rows, mean over pairs of runs: of two models "
            "from the same seed, of a model with itself from different seeds."
        ],
    )
