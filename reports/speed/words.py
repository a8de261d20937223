"""Sentences about measured speeds, written from the data alone."""

from __future__ import annotations

import pandas as pd

from harness.records.listed import display_name
from reports.cells import grouped, model_name, percent, short
from reports.figures.models import contestants, drawn_name

MODES = {"inference": "inference", "train": "a training step"}


def speed_words(frame: pd.DataFrame) -> list[str]:
    """What was measured, the range of speeds of each mode, precision and batch, and what this cannot show.

    Args:
        frame: :func:`reports.speed.report.speed_frame`.
    """
    dense = frame[frame["part"] == "dense"]
    conditions = dense.groupby(["mode", "precision", "batch_size"], sort=False)
    return [
        _measured(dense),
        *(_fastest(rows, *map(str, key)) for key, rows in conditions),  # type: ignore[call-arg]
        "Medians of one machine at one time: no interval is given, and two rows closer than their spreads "
        "(profile.csv) cannot be ordered. The speeds are those of these sizes, not of the paper's.",
    ]


def _measured(dense: pd.DataFrame) -> str:
    names = ", ".join(map(drawn_name, contestants(dense)))
    datasets, devices = (", ".join(dict.fromkeys(dense[column])) for column in ("dataset", "device"))
    return (
        f"Measured on {devices} with batches of {datasets}: the dense part (tokens, architecture, towers), "
        f"which the comparisons below are about, and the whole with its look-ups. Models: {names}."
    )


def _fastest(rows: pd.DataFrame, mode: str, precision: str, batch: str) -> str:
    steady = rows[rows["samples_per_second"].notna()].sort_values("samples_per_second", ascending=False)
    where = f"{MODES[mode]}, {precision}, batch {batch}".capitalize()
    unsteady = [display_name(*model) for model in contestants(rows[rows["samples_per_second"].isna()])]
    left_out = f" Too unsteady to say: {', '.join(unsteady)}." if unsteady else ""
    if steady.empty:
        return f"{where}:{left_out}"
    speeds = [f"{grouped(row['samples_per_second'])} samples/s ({model_name(row)})" for row in _ends(steady)]
    shares = steady[steady["mfu"].notna()].sort_values("mfu", ascending=False)
    mfu = " to ".join(f"{percent(row['mfu'], 0)} ({model_name(row)})" for row in _ends(shares))
    share_of_peak = (
        f"; MFU {mfu} of the {short(rows['peak_flops'].median())}FLOP/s of a large matrix product"
        if mfu
        else ""
    )
    return f"{where}: {' to '.join(speeds)}{share_of_peak}.{left_out}"


def _ends(rows: pd.DataFrame) -> list[dict]:
    """The first and the last row; of one row that one."""
    return rows.iloc[[0, -1] if len(rows) > 1 else list(range(len(rows)))].to_dict("records")
