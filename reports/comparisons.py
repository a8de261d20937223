"""Reads the differences that the harness computed: ``comparisons.csv``, ``variants.csv``, ``tiers.csv``."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd

from files.errors import InputError
from files.plain_text import csv_value, visible
from harness.evaluation.agreement import COLUMNS as AGREEMENT_COLUMNS
from harness.evaluation.comparisons import INTERVAL_COLUMNS, TEST_COLUMNS
from harness.evaluation.oracle.gap import COLUMNS as GAP_COLUMNS
from harness.evaluation.oracle.loss_fits import COLUMNS as FIT_COLUMNS
from harness.evaluation.pairs import COLUMNS as PAIR_COLUMNS
from harness.evaluation.tiers import METRIC_COLUMNS

FILES = {
    "comparisons": INTERVAL_COLUMNS,
    "variants": INTERVAL_COLUMNS,
    "contrasts": [*INTERVAL_COLUMNS, "base_variant"],
    "pairs": PAIR_COLUMNS,
    "tiers": [*INTERVAL_COLUMNS, "tier"],
    "agreement": AGREEMENT_COLUMNS,
    "oracle_gap": GAP_COLUMNS,
    "loss_fits": FIT_COLUMNS,
    "tier_metrics": [name for name in METRIC_COLUMNS if name != "world"],
}
TEXTS = (
    *("suite", "dataset", "task", "metric", "base", "base_variant", "architecture", "variant", "tier"),
    *("resolved", "other_architecture", "other_variant", "not_identified", "refused"),
)


def load_inferred(out: Path, name: str) -> pd.DataFrame:
    """``OUT/<name>.csv``, one of ``FILES``; empty if there is no such file.

    ``comparisons`` has one row for each contestant, task and metric. In ``variants`` the ``base`` is the
    plain row of the variant's own architecture, in ``contrasts`` the row that the suite names; ``pairs`` has
    every two models of one size. ``tiers`` has the differences within each tier of user activity and between
    two of them; ``tier_metrics`` has one row for each run, task and tier, ``agreement`` one for each pair of
    models, ``oracle_gap`` one for each model, task and metric, ``loss_fits`` one for each model and task.
    ``TEST_COLUMNS`` are NaN where the file is older than they are.

    Raises:
        InputError: the file cannot be read or lacks a column.
    """
    path, columns = out / f"{name}.csv", FILES[name]
    if not path.is_file() or path.stat().st_size == 0:
        return pd.DataFrame(columns=[*columns, *(TEST_COLUMNS if "resolved" in columns else [])])
    mend = "remove it and run the suite again, which compares the finished runs anew"
    try:
        # A variant called 64 or None is text, and is not missing.
        frame = pd.read_csv(path, dtype=dict.fromkeys(TEXTS, str), keep_default_na=False, na_values=[""])
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as a table ({error}); {mend}") from None
    for name in frame.columns.intersection(list(TEXTS)):
        frame[name] = frame[name].map(lambda cell: visible(csv_value(cell)), na_action="ignore")
    for name in columns:
        if name not in frame:
            raise InputError(f"{path}: lacks the column {name!r}; {mend}")
    for name in frame.columns.intersection(["variant", "base_variant", "other_variant"]):
        frame[name] = frame[name].fillna("")
    if "resolved" in columns:
        frame = frame.assign(**{name: math.nan for name in TEST_COLUMNS if name not in frame})
    return frame
