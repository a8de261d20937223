"""The differences to the base in ``comparisons.csv``, which the harness makes from predictions."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from reports.records import RecordError

COMPARISON_COLUMNS = [
    *("suite", "dataset", "task", "metric", "architecture", "variant", "base", "seeds", "users"),
    *("mean", "base_mean", "diff", "users_low", "users_high", "seeds_low", "seeds_high"),
    *("low", "high", "resolved"),
]


def load_comparisons(out: Path) -> pd.DataFrame:
    """``OUT/comparisons.csv``: one row a contestant, task and metric. Empty if there is no such file.

    Raises:
        RecordError: the file cannot be read or lacks a column.
    """
    path = out / "comparisons.csv"
    if not path.is_file() or path.stat().st_size == 0:
        return pd.DataFrame(columns=COMPARISON_COLUMNS)
    mend = "remove it and run the suite again, which compares the finished runs anew"
    try:
        frame = pd.read_csv(path, dtype=dict.fromkeys(("suite", "dataset", "task", "metric", "base"), str))
    except (OSError, ValueError) as error:
        raise RecordError(f"{path}: cannot be read as a table ({error}); {mend}") from None
    for name in COMPARISON_COLUMNS:
        if name not in frame:
            raise RecordError(f"{path}: lacks the column {name!r}; {mend}")
    frame["architecture"] = frame["architecture"].astype(str)
    frame["variant"] = frame["variant"].fillna("").astype(str)
    frame["resolved"] = frame["resolved"].astype(str)
    return frame
