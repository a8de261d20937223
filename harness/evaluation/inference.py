"""All that is inferred from the predictions of a folder, each of which is read once."""

from __future__ import annotations

from harness.evaluation import agreement, pairs, tiers
from harness.evaluation.comparisons import (
    COLUMNS,
    CONTRAST_COLUMNS,
    Rows,
    comparable_runs,
    compared_rows,
    write_csv,
    write_csv_if_any,
)
from harness.evaluation.oracle import gap, loss_fits
from harness.evaluation.statistics.bootstrap import REPLICATES
from harness.records.store import StoredRuns
from harness.records.suite import read_suite


def write_inference(stored: StoredRuns, replicates: int = REPLICATES) -> None:
    """Write ``comparisons.csv`` and, where there are any, the other files of comparisons.

    Raises InputError where a file is missing, damaged or does not fit the others.
    """
    suite = stored.suite or read_suite(stored.out)
    to_base: Rows = []
    to_plain: Rows = []
    declared: Rows = []
    lifts: Rows = []
    by_tier: Rows = []
    alike: Rows = []
    to_oracle: Rows = []
    paired: Rows = []
    for runs in comparable_runs(stored):
        for task in runs.tasks:
            measured = runs.measured(task, replicates)
            to_base += compared_rows(runs, task, measured, runs.to_base)
            to_plain += compared_rows(runs, task, measured, runs.to_plain)
            declared += compared_rows(runs, task, measured, runs.contrasts)
            to_oracle += gap.gap_rows(runs, task, measured, replicates)
            if suite.wants("agreement"):
                alike += agreement.agreement_rows(runs, task)
            if suite.wants("ordering"):
                paired += pairs.pair_rows(runs, task, measured)
            if suite.wants("tiers"):
                lifts += tiers.lift_rows(runs, task, replicates)
                by_tier += tiers.metric_rows(runs, task)
    fits: Rows = []
    for selection in stored.selections() if suite.wants("loss_fits") else ():
        fits += loss_fits.loss_fit_rows(selection)
    write_csv(stored.out / "comparisons.csv", to_base, COLUMNS)
    write_csv_if_any(stored.out / "variants.csv", to_plain, COLUMNS)
    write_csv_if_any(stored.out / "contrasts.csv", declared, CONTRAST_COLUMNS)
    write_csv_if_any(stored.out / "pairs.csv", paired, pairs.COLUMNS)
    write_csv_if_any(stored.out / "agreement.csv", alike, agreement.COLUMNS)
    write_csv_if_any(stored.out / "oracle_gap.csv", to_oracle, gap.COLUMNS)
    write_csv_if_any(stored.out / "loss_fits.csv", fits, loss_fits.COLUMNS)
    if suite.wants("tiers"):
        write_csv(stored.out / "tiers.csv", lifts, tiers.DIFFERENCE_COLUMNS)
        write_csv(stored.out / "tier_metrics.csv", by_tier, tiers.METRIC_COLUMNS)
