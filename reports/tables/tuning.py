"""What tuning found for each model of a suite: defaults against tuned, on the validation split."""

from __future__ import annotations

from typing import Any

import pandas as pd

from harness.records.contestant import label
from harness.records.suite import TunedContestant
from reports.cells import fixed, grouped, settings, signed
from reports.sections import Section
from reports.tables.markup import Table


def tuning_tables(section: Section) -> list[Table]:
    """One table, a row a tuned model in the suite's order; none where nothing was tuned."""
    tuned = {
        (row.architecture, row.variant): row for row in section.suite.tuned if row.dataset == section.dataset
    }
    names = [(contestant.architecture, contestant.variant) for contestant in section.contestants]
    rows = [tuned[name] for name in names if name in tuned]
    if not rows:
        return []
    metric = rows[0].metric.upper()
    return [
        Table(
            name=f"tuning-{section.name}",
            caption=f"What tuning found on {section.dataset}",
            numbers=pd.DataFrame([_numbers(row) for row in rows]),
            header=[
                "model",
                "trials",
                "given up",
                f"{metric} with defaults",
                "tuned",
                "gain x 100",
                "settings",
            ],
            rows=[_cells(row) for row in rows],
            notes=[
                f"{metric} on the validation split, mean over tasks, from a seed that no run here has. The "
                "best of several trials is biased upwards: the test split alone tells what tuning is worth."
            ],
        )
    ]


def _numbers(row: TunedContestant) -> dict[str, Any]:
    return row.model_dump(exclude={"training", "config"}) | row.config | row.training


def _cells(row: TunedContestant) -> list[str]:
    gain = None if row.default is None else 100 * (row.best - row.default)
    return [
        label(row.architecture, row.variant),
        grouped(row.trained),
        grouped(row.pruned),
        fixed(row.default, 4),
        fixed(row.best, 4),
        signed(gain, 2),
        settings(row.config | row.training),
    ]
