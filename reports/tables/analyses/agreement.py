"""How alike the models score, as a table for each task."""

from __future__ import annotations

from harness.evaluation.agreement import COLUMNS
from reports.cells import MISSING, fixed
from reports.sections import Section, slug
from reports.tables.markup import Table

Model = tuple[str, str]


def agreement_tables(section: Section) -> list[Table]:
    """Correlations of all pairs of models; none where the suite did not ask for them."""
    found = section.agreement
    return [_table(section, task) for task in dict.fromkeys(found["task"])]


def _table(section: Section, task: str) -> Table:
    rows = section.agreement[section.agreement["task"] == task]
    known: dict[tuple[Model, Model], float] = {}
    for row in rows.to_dict("records"):
        one = row["architecture"], row["variant"]
        other = row["other_architecture"], row["other_variant"]
        known[one, other] = known[other, one] = row["correlation"]
    models = [who for who in section.contestants if any(who.key in pair for pair in known)]
    return Table(
        name=f"agreement-{section.name}-{slug(task)}",
        caption=f"How alike the models score {task} on {section.dataset}",
        numbers=rows[COLUMNS],
        header=["model", *(who.display_name for who in models)],
        rows=[
            [
                who.display_name,
                *(fixed(known[who.key, o.key], 3) if (who.key, o.key) in known else MISSING for o in models),
            ]
            for who in models
        ],
        notes=[
            "Pearson's correlation of the logits of all test rows, mean over pairs of runs: of two models "
            "from the same seed, of a model with itself from different seeds."
        ],
    )
