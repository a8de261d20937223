"""Measured speeds: ``OUT/profile.json`` to tables, figures, ``OUT/profile.md`` and the web page."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import BaseModel, ConfigDict

from harness.records.record import read_json
from reports.figures.saving import Drawing, Figures, markdown_drawing, write_drawing
from reports.files import write_csv, write_text
from reports.paper.comparison import printed_table
from reports.paper.printed import load_paper
from reports.speed.figures import latency_against_batch, roofline
from reports.speed.page import SpeedContents, write_speed_page
from reports.speed.tables import operator_tables, speed_tables
from reports.speed.words import speed_words
from reports.tables.markup import (
    bullet_list,
    code_block,
    latex_document,
    markdown,
    markdown_table,
    write_table,
)

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
    """Write ``profile.csv``, ``operators.csv``, ``tables/``, ``figures/``, ``profile.md`` and ``report/``.

    Returns the path of ``profile.md``. Raises InputError where ``out/profile.json`` is not there or damaged.
    """
    profile = load_profile(out)
    write_csv(out / "profile.csv", speed_frame(profile))
    write_csv(out / "operators.csv", operator_frame(profile))
    contents = profile_contents(profile)
    tables = [*contents.tables, *contents.printed]
    for table in tables:
        write_table(table, out / "tables")
    write_text(out / "tables" / "tables.tex", latex_document(tables))
    for name, drawing in contents.figures.items():
        write_drawing(drawing, out / "figures" / name)
    write_text(out / "profile.md", profile_page(contents))
    write_speed_page(contents, out)
    return out / "profile.md"


def profile_contents(profile: Profile) -> SpeedContents:
    """All that the report on measured speeds says."""
    frame = speed_frame(profile)
    paper, key = load_paper(), str(profile.paper_table)
    return SpeedContents(
        title=f"Speed: {profile.suite}",
        description=profile.description,
        command=profile.command,
        measured_at=profile.measured_at,
        machine=profile.environment,
        words=speed_words(frame),
        tables=[*speed_tables(frame), *operator_tables(operator_frame(profile))],
        printed=[printed_table(key, paper)] if key in paper.tables else [],
        figures=_figures(frame),
    )


def _figures(frame: pd.DataFrame) -> Figures:
    figures: Figures = {}
    steady = frame[frame["flops_per_second"].notna()]
    dense = steady[steady["part"] == "dense"]
    for (precision, batch), rows in dense.groupby(["precision", "batch_size"], sort=False):
        caption = f"Roofline, {precision}, batch {batch}: FLOPs a second against FLOPs a byte of all operands"
        figures[f"roofline-{precision}-{batch}"] = Drawing(partial(roofline, rows), caption, rows)
    for precision, rows in steady.groupby("precision", sort=False):
        if len(set(rows["batch_size"])) > 1:
            caption = f"Time of a batch against its size, {precision!s}, dense part"
            rows = rows[rows["part"] == "dense"]
            figures[f"latency-{precision!s}"] = Drawing(partial(latency_against_batch, rows), caption, rows)
    return figures


def profile_page(contents: SpeedContents) -> str:
    """The report on measured speeds as Markdown."""
    machine = ", ".join(f"{name} {value}" for name, value in contents.machine.items() if value is not None)
    parts = [
        f"# {markdown(contents.title)}",
        markdown(contents.description),
        bullet_list(contents.words),
        *map(markdown_table, [*contents.tables, *contents.printed]),
        *(markdown_drawing(name, drawing) for name, drawing in contents.figures.items()),
        f"Machine: {markdown(machine)}. Measured {markdown(contents.measured_at)}.",
        code_block(contents.command) if contents.command else "",
        "Every number: [profile.csv](profile.csv), [operators.csv](operators.csv). "
        "As a web page: [report/index.html](report/index.html).",
    ]
    return "\n\n".join(part.strip() for part in parts if part) + "\n"
