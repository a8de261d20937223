"""All that is inferred from the predictions of a folder, each of which is read once."""

from __future__ import annotations

from harness.evaluation import tiers
from harness.evaluation.bootstrap import REPLICATES
from harness.evaluation.comparisons import COLUMNS, Rows, base_rows, comparable_runs, variant_rows, write_csv
from harness.records.store import StoredRuns
from harness.records.suite import read_suite


def write_inference(stored: StoredRuns, replicates: int = REPLICATES) -> None:
    """Write ``comparisons.csv`` and, where there is something to say, ``variants.csv`` and the tiers' files.

    Raises InputError where a file is missing, damaged or does not fit the others.
    """
    suite = stored.suite or read_suite(stored.out)
    to_base: Rows = []
    to_plain: Rows = []
    lifts: Rows = []
    by_tier: Rows = []
    for runs in comparable_runs(stored):
        for task in runs.predicted:
            measured = runs.measured(task, replicates)
            to_base += base_rows(runs, task, measured)
            to_plain += variant_rows(runs, task, measured)
            if suite.wants("tiers"):
                lifts += tiers.lift_rows(runs, task, replicates)
                by_tier += tiers.metric_rows(runs, task)
    write_csv(stored.out / "comparisons.csv", to_base, COLUMNS)
    if to_plain:
        write_csv(stored.out / "variants.csv", to_plain, COLUMNS)
    else:
        (stored.out / "variants.csv").unlink(missing_ok=True)
    if suite.wants("tiers"):
        write_csv(stored.out / "tiers.csv", lifts, tiers.DIFFERENCE_COLUMNS)
        write_csv(stored.out / "tier_metrics.csv", by_tier, tiers.METRIC_COLUMNS)
