"""Sentences about measured speeds, written from the data alone."""

from __future__ import annotations

import pandas as pd

from harness.records.listed import display_name
from reports.cells import grouped, model_name, percent, short
from reports.figures.drawing.models import contestants, drawn_name

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
        *filter(None, [_peak_words(dense)]),
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
    return f"{where}: {' to '.join(speeds)}{f'; MFU {mfu}' if mfu else ''}.{left_out}"


def page_peaks(rows: pd.DataFrame) -> dict[str, float]:
    """The peak by precision that a page names: FLOP/s, the median over all that was measured.

    Each MFU is a share of the peak of its own rounds, which moves with the machine.
    """
    return {str(name): float(peak) for name, peak in rows.groupby("precision")["peak_flops"].median().items()}


def _peak_words(rows: pd.DataFrame) -> str:
    known = rows[rows["peak_flops"].notna()]
    if known.empty:
        return ""
    peaks = [f"{short(peak)}FLOP/s in {name}" for name, peak in page_peaks(known).items()]
    low, high = known["peak_flops"].min(), known["peak_flops"].max()
    moved = f"; from {short(low)}FLOP/s to {short(high)}FLOP/s" if high > 1.1 * low else ""
    return (
        f"The peak, a large matrix product timed in the same rounds: {', '.join(peaks)} (median{moved}). "
        "MFU is the share of the peak of a model's own rounds."
    )


def _ends(rows: pd.DataFrame) -> list[dict]:
    """The first and the last row; of one row that one."""
    return rows.iloc[[0, -1] if len(rows) > 1 else list(range(len(rows)))].to_dict("records")
