"""What tuning chose for each model of a suite, by the validation split: settings, scores, learning rates."""

from __future__ import annotations

import pandas as pd

from harness.records.listed import display_name
from harness.records.suite import TunedContestant
from reports.cells import MISSING, fixed, grouped, settings, signed
from reports.sections import Section
from reports.tables.markup import Table

DIVERGED = "diverged"


def tuning_tables(section: Section) -> list[Table]:
    """What was chosen, and the learning-rate curves: one row for each tuned model; no table without any."""
    rows = tuned_rows(section)
    if not rows:
        return []
    curved = [row for row in rows if row.lr_curve]
    return [_chosen(section, rows), *([_curves(section, curved)] if curved else [])]


def tuned_rows(section: Section) -> list[TunedContestant]:
    """The tuned models of a section, in the suite's order."""
    rows = [row for row in section.suite.tuned if row.dataset == section.dataset]
    tuned = {(row.architecture, row.variant): row for row in rows}
    return [tuned[who.key] for who in section.contestants if who.key in tuned]


def learning_rate_frame(section: Section) -> pd.DataFrame:
    """Columns architecture, variant, metric, factor, dense_lr, score; a row a training, NaN: it diverged."""
    return pd.DataFrame(
        [
            {"architecture": row.architecture, "variant": row.variant, "metric": row.metric}
            | {"factor": point.factor, "dense_lr": point.dense_lr, "score": point.score}
            for row in tuned_rows(section)
            for point in row.lr_curve
        ],
        columns=["architecture", "variant", "metric", "factor", "dense_lr", "score"],
    ).astype({"score": float})


def _chosen(section: Section, rows: list[TunedContestant]) -> Table:
    metric, apart = rows[0].metric.upper(), {"training", "config", "tokens", "lr_curve"}
    numbers = [row.model_dump(exclude=apart) | row.tokens | row.config | row.training for row in rows]
    return Table.from_columns(
        name=f"tuning-{section.name}",
        caption=f"What tuning found on {section.dataset}",
        numbers=pd.DataFrame(numbers),
        columns={
            "model": [display_name(row.architecture, row.variant) for row in rows],
            "trials": [grouped(row.trained) for row in rows],
            "given up": [grouped(row.pruned) for row in rows],
            "diverged": [grouped(row.diverged) for row in rows],
            "out of reach": [grouped(row.out_of_reach) for row in rows],
            f"{metric} with defaults": [fixed(row.default, 4) for row in rows],
            "best trial": [fixed(row.best, 4) for row in rows],
            "chosen, x 100": [_decision(row) for row in rows],
            "settings": [settings(row.tokens | row.config | row.training) for row in rows],
        },
        notes=_notes(rows, metric),
    )


def _notes(rows: list[TunedContestant], metric: str) -> list[str]:
    notes = [
        f"{metric} on the validation split, mean over tasks. Its two columns are from one seed, that of the "
        "search, and the best of several trials is biased upwards: the test split alone tells what tuning is "
        "worth.",
        "Trials count those that were given up on the way and those that diverged, but not those out of "
        "reach of the budget.",
    ]
    if any(row.defaults_kept is not None for row in rows):
        notes.append(
            "The best three settings and the defaults were trained again from three further seeds. The "
            "defaults are kept unless a setting's mean difference to them, paired by seed, exceeds its "
            "standard error (after the ±); of those that do, the best mean is taken. Nothing here has been "
            "seen on the test split."
        )
    if any(row.defaults_kept is None for row in rows):
        notes.append(
            "Rows without a decision were tuned by an earlier version: the best trial was taken, and trials "
            "that diverged are counted as given up."
        )
    return notes


def _curves(section: Section, rows: list[TunedContestant]) -> Table:
    factors = [point.factor for point in rows[0].lr_curve]
    return Table(
        name=f"learning-rates-{section.name}",
        caption=f"{rows[0].metric.upper()} over the dense learning rate on {section.dataset}",
        numbers=learning_rate_frame(section),
        header=["model", "dense_lr", *(f"x {f:.3g}" if f >= 1 else f"/ {1 / f:.3g}" for f in factors)],
        rows=[_curve_cells(row) for row in rows],
        notes=[
            "On the validation split, mean over tasks, one seed each; all other settings as chosen. "
            "A row whose best rate is at an end of the range may do better beyond it."
        ],
    )


def _curve_cells(row: TunedContestant) -> list[str]:
    name = display_name(row.architecture, row.variant)
    chosen = next(point.dense_lr for point in row.lr_curve if point.factor == 1)
    scores = [DIVERGED if point.score is None else fixed(point.score, 4) for point in row.lr_curve]
    return [name, fixed(chosen, 5), *scores]


def _decision(row: TunedContestant) -> str:
    """``defaults kept``, or by how much the chosen settings beat them."""
    if row.defaults_kept is None:
        return MISSING
    if row.defaults_kept:
        return "defaults kept"
    if row.gain is None or row.standard_error is None:
        return "the defaults diverged"
    return f"{signed(100 * row.gain, 2)} ± {fixed(100 * row.standard_error, 2)}"
