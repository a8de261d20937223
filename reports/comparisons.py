"""Differences that the harness made of predictions: ``comparisons.csv``, ``variants.csv``, ``tiers.csv``."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd

from files.plain_text import csv_value, visible
from reports.records import RecordError

COMPARISON_COLUMNS = [
    *("suite", "dataset", "task", "metric", "architecture", "variant", "base", "seeds", "users"),
    *("mean", "base_mean", "diff", "users_low", "users_high", "seeds_low", "seeds_high"),
    *("low", "high", "resolved"),
]
TEST_COLUMNS = ["p_value", "p_holm", "effect_size"]  # older files lack them, and show nothing for them
TEXTS = ("suite", "dataset", "task", "metric", "base", "architecture", "variant", "tier", "resolved")
WITHHELD = "no verdict"  # in place of yes or no in "resolved", where the data leak
TIER_METRIC_COLUMNS = [
    *("suite", "dataset", "task", "tier", "architecture", "variant", "seed"),
    *("auc", "uauc", "users", "rows", "one_class_users"),
]


def not_filled(comparisons: pd.DataFrame) -> str:
    """What a mark that is not filled says in figures: not resolved, or that nothing is to be said."""
    return WITHHELD if (comparisons["resolved"] == WITHHELD).any() else "not resolved"


def load_comparisons(out: Path) -> pd.DataFrame:
    """``OUT/comparisons.csv``: one row a contestant, task and metric. Empty if there is no such file.

    ``TEST_COLUMNS`` are NaN where the file is older than they are.

    Raises:
        RecordError: the file cannot be read or lacks a column.
    """
    return _load(out / "comparisons.csv", COMPARISON_COLUMNS)


def load_variants(out: Path) -> pd.DataFrame:
    """``OUT/variants.csv``: variants' differences to their own architecture's plain row, the ``base``.

    Raises:
        RecordError: as ``load_comparisons``.
    """
    return _load(out / "variants.csv", COMPARISON_COLUMNS)


def load_tiers(out: Path) -> pd.DataFrame:
    """``OUT/tiers.csv``: the same within each user-activity tier, named in ``tier``, and between two of them.

    Raises:
        RecordError: as ``load_comparisons``.
    """
    return _load(out / "tiers.csv", [*COMPARISON_COLUMNS, "tier"])


def load_tier_metrics(out: Path) -> pd.DataFrame:
    """``OUT/tier_metrics.csv``: one row a run, task and tier.

    Raises:
        RecordError: as ``load_comparisons``.
    """
    return _load(out / "tier_metrics.csv", TIER_METRIC_COLUMNS)


def _load(path: Path, columns: list[str]) -> pd.DataFrame:
    if not path.is_file() or path.stat().st_size == 0:
        return pd.DataFrame(columns=[*columns, *(TEST_COLUMNS if "resolved" in columns else [])])
    mend = "remove it and run the suite again, which compares the finished runs anew"
    try:
        # A variant called 64 or None is text, and is not missing.
        frame = pd.read_csv(path, dtype=dict.fromkeys(TEXTS, str), keep_default_na=False, na_values=[""])
    except (OSError, ValueError) as error:
        raise RecordError(f"{path}: cannot be read as a table ({error}); {mend}") from None
    for name in frame.columns.intersection(list(TEXTS)):
        frame[name] = frame[name].map(lambda cell: visible(csv_value(cell)), na_action="ignore")
    for name in columns:
        if name not in frame:
            raise RecordError(f"{path}: lacks the column {name!r}; {mend}")
    frame["variant"] = frame["variant"].fillna("")
    if "resolved" in columns:
        frame = frame.assign(**{name: math.nan for name in TEST_COLUMNS if name not in frame})
    return frame
