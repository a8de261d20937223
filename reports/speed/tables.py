"""Tables of measured speeds: one row for each model, and the operators that take most of the time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd

from harness.records.listed import display_name
from reports import cells
from reports.figures.drawing.models import contestants, select_model
from reports.speed.words import MODES
from reports.tables.markup import Table

SHOWN_OPERATORS = 4
CUDA_GRAPHS = "The dense part is timed as replays of a CUDA graph of its inference; look-ups are not in it."
ERRORS = (
    "error: largest and mean distance of the predicted probability from fp32's, over rows and tasks of the "
    "first batch, with the weights as they are before training."
)
FP8 = "fp8: RankMixer's per-token feed-forward networks; all else is bf16."
NOTES = [
    "dense: tokens, architecture and towers. with look-ups: the tables too, and in training their update.",
    "FLOPs and FLOPs per param: of the whole batch.",
    "MFU: FLOPs a second over those of a large matrix product of the same precision, timed beside each round "
    "on the same threads; the median over rounds. Training FLOPs are three times the forward pass.",
    "floor: the longer of two times: the FLOPs at that peak, or each weight, input and output once at the "
    "measured bandwidth. unfused: the time if every operator ran by itself at the peak or the bandwidth; "
    "caches and fusion can be faster.",
    "A dash: not measured, too few calls for the percentile, or the rounds differed too much to report "
    "(quartiles further apart than a quarter of the median).",
]


def _fixed(digits: int) -> Callable[[Any], str]:
    return lambda value: cells.fixed(value, digits)


def _percent(value: Any) -> str:
    return cells.percent(value, 0)


# title: part, what is read of its measurement, how it is printed
COLUMNS: dict[str, tuple[str, str, Callable[[Any], str]]] = {
    "params": ("dense", "dense_params", cells.params),
    "FLOPs": ("dense", "flops", cells.short),
    "FLOPs per param": ("dense", "flops_per_param", _fixed(0)),
    "p50, ms": ("dense", "latency_ms_p50", _fixed(2)),
    "p99, ms": ("dense", "latency_ms_p99", _fixed(2)),
    "samples/s": ("dense", "samples_per_second", cells.grouped),
    "FLOP/s": ("dense", "flops_per_second", cells.short),
    "MFU": ("dense", "mfu", _percent),
    "MFU, datasheet": ("dense", "mfu_datasheet", _percent),
    "floor, ms": ("dense", "floor_ms", _fixed(2)),
    "unfused, ms": ("dense", "unfused_ms", _fixed(2)),
    "FLOPs per byte": ("dense", "intensity", _fixed(1)),
    "memory, MB": ("dense", "peak_memory_mb", cells.grouped),
    "error, max": ("dense", "probability_error_max", _fixed(5)),
    "error, mean": ("dense", "probability_error_mean", _fixed(6)),
    "with look-ups: p50, ms": ("whole", "latency_ms_p50", _fixed(2)),
    "samples/s with look-ups": ("whole", "samples_per_second", cells.grouped),
    "MFU with look-ups": ("whole", "mfu", _percent),
}


def speed_tables(frame: pd.DataFrame) -> list[Table]:
    """One table for each mode, precision and batch: a row for each model, the dense part beside the whole.

    Args:
        frame: :func:`reports.speed.report.speed_frame`.
    """
    tables = []
    for (mode, precision, batch), rows in frame.groupby(["mode", "precision", "batch_size"], sort=False):
        columns = _columns(rows)
        tables.append(
            Table(
                name=f"speed-{mode}-{precision}-{batch}",
                caption=f"Speed of {MODES[str(mode)]}, {precision}, batch {batch}",
                numbers=rows,
                header=["model", *columns],
                rows=[_row(select_model(rows, model), columns) for model in contestants(rows)],
                notes=_notes(rows),
            )
        )
    return tables


def _columns(rows: pd.DataFrame) -> list[str]:
    """The columns that these measurements can have: a CPU has no datasheet, and fp32 no error."""
    absent = set() if rows["device"].eq("cuda").any() else {"MFU, datasheet"}
    if rows["probability_error_max"].isna().all():
        absent |= {"error, max", "error, mean"}
    return [title for title in COLUMNS if title not in absent]


def _row(rows: pd.DataFrame, columns: list[str]) -> list[str]:
    """The cells of one model."""
    numbers = rows[["flops", "dense_params", "peak_memory_bytes"]].astype(float)
    ratio = numbers["flops"] / numbers["dense_params"].where(numbers["dense_params"] > 0)
    rows = rows.assign(flops_per_param=ratio, peak_memory_mb=numbers["peak_memory_bytes"] / 1e6)
    parts = rows.set_index("part").to_dict("index")
    shown = []
    for title in columns:
        part, name, as_text = COLUMNS[title]
        shown.append(as_text(parts.get(part, {}).get(name)))
    [model] = contestants(rows)
    return [display_name(*model), *shown]


def _notes(rows: pd.DataFrame) -> list[str]:
    """What the cells mean, for the columns that the table has."""
    chosen = {
        CUDA_GRAPHS: rows["cuda_graphs"].eq(True).any(),
        ERRORS: rows["probability_error_max"].notna().any(),
        FP8: rows["precision"].eq("fp8").any(),
    }
    return [*NOTES, *(note for note, holds in chosen.items() if holds)]


def operator_tables(operators: pd.DataFrame) -> list[Table]:
    """For each mode the operators that take most of a dense part's time, of the first batch and precision.

    Args:
        operators: :func:`reports.speed.report.operator_frame`.
    """
    tables = []
    dense = operators[operators["part"] == "dense"]
    for mode, rows in dense.groupby("mode", sort=False):
        batch, precision = rows[["batch_size", "precision"]].iloc[0]
        rows = rows[(rows["batch_size"] == batch) & (rows["precision"] == precision)]
        tables.append(
            Table(
                name=f"operators-{mode}",
                caption=f"Where the time of {MODES[str(mode)]} goes: dense part, {precision}, batch {batch}",
                numbers=rows,
                header=["model", *(f"operator {number + 1}" for number in range(SHOWN_OPERATORS))],
                rows=[
                    [display_name(*model), *_top(select_model(rows, model))] for model in contestants(rows)
                ],
                notes=["Share of the operators' own time, under the profiler; operators.csv has more."],
            )
        )
    return tables


def _top(rows: pd.DataFrame) -> list[str]:
    top = rows.nlargest(SHOWN_OPERATORS, "share")
    texts = [
        f"{name.removeprefix('aten::')} {_percent(share)}"
        for name, share in zip(top["operator"], top["share"], strict=True)
    ]
    return texts + [cells.MISSING] * (SHOWN_OPERATORS - len(texts))
