"""From ``OUT/profile.json`` to tables, figures, ``OUT/profile.md`` and the web page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import BaseModel, ConfigDict

from harness.records.record import read_json
from reports.contents import Contents, Part, Words
from reports.figures.drawing.saving import Drawing, Figures
from reports.files import write_csv
from reports.page.run_pages import flattened
from reports.paper.comparison import printed_table
from reports.paper.printed import load_paper
from reports.render import write_report
from reports.speed.figures import latency_against_batch, roofline
from reports.speed.tables import operator_tables, speed_tables
from reports.speed.words import page_peaks, speed_words

PROFILE_FILE = "profile.json"
COLUMNS = [
    *("suite", "dataset", "architecture", "variant", "part", "mode", "batch_size", "precision", "compiled"),
    *("cuda_graphs", "device", "dense_params", "flops", "latency_ms_p50", "latency_ms_p99"),
    *("samples_per_second", "flops_per_second", "mfu", "mfu_datasheet", "peak_flops", "spread", "mfu_spread"),
    *("calls", "rounds", "least_bytes", "operator_bytes", "intensity", "bandwidth", "floor_ms", "unfused_ms"),
    *("peak_memory_bytes", "probability_error_max", "probability_error_mean"),
]


class Profile(BaseModel):
    """What ``profile models`` wrote."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    suite: str
    description: str = ""
    paper_table: str | None = None
    command: str = ""
    measured_at: str = ""
    environment: dict[str, Any]
    records: list[dict[str, Any]]


def load_profile(out: Path) -> Profile:
    """``out/profile.json``; InputError naming the file and the mend if it is not there or damaged."""
    mend = "measure again with `run_bench.py profile models`"
    return read_json(out / PROFILE_FILE, Profile, "profile", mend)


def speed_frame(profile: Profile) -> pd.DataFrame:
    """One row for each model, part, mode, batch and precision: the columns of ``profile.csv``."""
    rows = [
        record | {"dense_params": (record.get("cost") or {}).get("dense_params")}
        for record in profile.records
    ]
    return pd.DataFrame(rows).reindex(columns=COLUMNS)


def operator_frame(profile: Profile) -> pd.DataFrame:
    """One row for each measurement and operator: where the time goes."""
    names = ["architecture", "variant", "part", "mode", "batch_size", "precision"]
    rows = [
        {name: record[name] for name in names} | operator
        for record in profile.records
        for operator in record.get("operators", [])
    ]
    return pd.DataFrame(rows, columns=[*names, "operator", "calls", "milliseconds", "share"])


def render_profile(out: Path) -> Path:
    """Write ``profile.csv``, ``operators.csv`` and the report on them; returns the path of ``profile.md``.

    Raises InputError where ``out/profile.json`` is not there or damaged.
    """
    profile = load_profile(out)
    write_csv(out / "profile.csv", speed_frame(profile))
    write_csv(out / "operators.csv", operator_frame(profile))
    return write_report(profile_contents(profile), out)


def profile_contents(profile: Profile) -> Contents:
    """The content of the report on measured speeds."""
    frame = speed_frame(profile)
    paper, key = load_paper(), str(profile.paper_table)
    in_short, *found = speed_words(frame)
    part = Part(
        name="speed",
        title="Speed",
        in_short=in_short,
        overview=[Words("What was measured, and what cannot be concluded", found)],
        tables=[*speed_tables(frame), *operator_tables(operator_frame(profile))],
        figures=_figures(frame),
        environment=where_and_when(profile.environment, profile.measured_at),
    )
    return Contents(
        title=f"Speed: {profile.suite}",
        descriptions=[profile.description] if profile.description else [],
        commands=[profile.command] if profile.command else [],
        parts=[part],
        printed=[printed_table(key, paper)] if key in paper.tables else [],
        data=["profile.csv", "operators.csv", PROFILE_FILE],
        page="profile.md",
    )


def where_and_when(environment: dict[str, Any], measured_at: str) -> list[str]:
    """The machine in one sentence, and the time of measuring."""
    machine = ", ".join(f"{name} {value}" for name, value in flattened(environment))
    return [machine, f"Measured {measured_at}"]


def _figures(frame: pd.DataFrame) -> Figures:
    figures: Figures = {}
    steady = frame[frame["flops_per_second"].notna()]
    dense = steady[steady["part"] == "dense"]
    dense = dense.assign(page_peak=dense["precision"].map(page_peaks(frame[frame["part"] == "dense"])))
    for (precision, batch), rows in dense.groupby(["precision", "batch_size"], sort=False):
        caption = f"Roofline, {precision}, batch {batch}: FLOPs a second against FLOPs a byte of all operands"
        figures[f"roofline-{precision}-{batch}"] = Drawing(roofline, rows, caption)
    for precision, rows in steady.groupby("precision", sort=False):
        if len(set(rows["batch_size"])) > 1:
            caption = f"Time of a batch against its size, {precision!s}, dense part"
            rows = rows[rows["part"] == "dense"]
            figures[f"latency-{precision!s}"] = Drawing(latency_against_batch, rows, caption)
    return figures
