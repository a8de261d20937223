"""Measured speeds: ``OUT/profile.json`` to tables, figures, ``OUT/profile.md`` and the web page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import BaseModel, ConfigDict

from harness.records.contestant import label
from harness.records.record import read_json
from reports import cells
from reports.beside import printed_table
from reports.figures.models import contestants, rows_of
from reports.figures.saving import Drawing, Figures, markdown_drawing, write_drawing
from reports.figures.speed import latency_against_batch, roofline
from reports.files import write_csv, write_text
from reports.page.speed import SpeedContents, write_speed_page
from reports.paper import load_paper
from reports.speed_words import MODES, speed_words
from reports.tables.markup import (
    Table,
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
    "floor: FLOPs at that peak, or each weight, input and output once at the measured bandwidth, the "
    "longer. unfused: every operator by itself at the peak or the bandwidth; caches and fusion go below it.",
    "A dash: not measured, too few calls for the percentile, or the rounds differed too much to report "
    "(quartiles further apart than a quarter of the median).",
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
    """One row a model, part, mode, batch and precision: the columns of ``profile.csv``."""
    rows = [
        record | {"dense_params": (record.get("cost") or {}).get("dense_params")}
        for record in profile.records
    ]
    return pd.DataFrame(rows).reindex(columns=COLUMNS)


def operator_frame(profile: Profile) -> pd.DataFrame:
    """One row a measurement and operator: where the time goes."""
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
    frame, operators = speed_frame(profile), operator_frame(profile)
    for name, rows in (("profile.csv", frame), ("operators.csv", operators)):
        write_csv(out / name, rows)
    contents = _contents(profile, frame, operators)
    tables = [*contents.tables, *contents.printed]
    for table in tables:
        write_table(table, out / "tables")
    write_text(out / "tables" / "tables.tex", latex_document(tables))
    for name, drawing in contents.figures.items():
        write_drawing(drawing, out / "figures" / name)
    write_text(out / "profile.md", _page(contents))
    write_speed_page(contents, out)
    return out / "profile.md"


def _contents(profile: Profile, frame: pd.DataFrame, operators: pd.DataFrame) -> SpeedContents:
    paper, key = load_paper(), str(profile.paper_table)
    return SpeedContents(
        title=f"Speed: {profile.suite}",
        description=profile.description,
        command=profile.command,
        measured_at=profile.measured_at,
        machine=profile.environment,
        words=speed_words(frame),
        tables=[*_speed_tables(frame), *_operator_tables(operators)],
        printed=[printed_table(key, paper)] if key in paper.tables else [],
        figures=_figures(frame),
    )


def _figures(frame: pd.DataFrame) -> Figures:
    drawn: Figures = {}
    steady = frame[frame["flops_per_second"].notna()]
    dense = steady[steady["part"] == "dense"]
    for (precision, batch), rows in dense.groupby(["precision", "batch_size"], sort=False):
        caption = f"Roofline, {precision}, batch {batch}: FLOPs a second against FLOPs a byte of all operands"
        drawn[f"roofline-{precision}-{batch}"] = Drawing(roofline(rows), caption, rows)
    for precision, rows in steady.groupby("precision", sort=False):
        if len(set(rows["batch_size"])) > 1:
            caption = f"Time of a batch against its size, {precision!s}, dense part"
            of_dense = rows[rows["part"] == "dense"]
            drawn[f"latency-{precision!s}"] = Drawing(latency_against_batch(of_dense), caption, of_dense)
    return drawn


# --- Tables -----------------------------------------------------------------------------------------------


def _speed_tables(frame: pd.DataFrame) -> list[Table]:
    """One table a mode, precision and batch: a row a model, the dense part beside the whole."""
    tables = []
    for (mode, precision, batch), rows in frame.groupby(["mode", "precision", "batch_size"], sort=False):
        cells_of = [
            _speed_cells(label(*model), rows_of(rows, model).set_index("part").to_dict("index"))
            for model in contestants(rows)
        ]
        tables.append(
            Table(
                name=f"speed-{mode}-{precision}-{batch}",
                caption=f"Speed of {MODES[str(mode)]}, {precision}, batch {batch}",
                numbers=rows,
                header=list(cells_of[0]),
                rows=[list(row.values()) for row in cells_of],
                notes=_notes(rows),
            )
        )
    return tables


def _notes(rows: pd.DataFrame) -> list[str]:
    """What a table's cells mean, of those that it has."""
    replayed, has_errors = rows["cuda_graphs"].eq(True).any(), rows["probability_error_max"].notna().any()
    is_fp8 = rows["precision"].eq("fp8").any()
    chosen = {CUDA_GRAPHS: replayed, ERRORS: has_errors, FP8: is_fp8}
    return [*NOTES, *(note for note, holds in chosen.items() if holds)]


def _speed_cells(name: str, parts: dict[Any, dict]) -> dict[str, str]:
    dense, whole = parts.get("dense", {}), parts.get("whole", {})
    cellular = {
        "model": name,
        "params": cells.params(dense.get("dense_params")),
        "FLOPs": cells.short(dense.get("flops")),
        "FLOPs per param": cells.fixed(_ratio(dense.get("flops"), dense.get("dense_params")), 0),
        "p50, ms": cells.fixed(dense.get("latency_ms_p50"), 2),
        "p99, ms": cells.fixed(dense.get("latency_ms_p99"), 2),
        "samples/s": cells.grouped(dense.get("samples_per_second")),
        "FLOP/s": cells.short(dense.get("flops_per_second")),
        "MFU": cells.percent(dense.get("mfu"), 0),
        "MFU, datasheet": cells.percent(dense.get("mfu_datasheet"), 0),
        "floor, ms": cells.fixed(dense.get("floor_ms"), 2),
        "unfused, ms": cells.fixed(dense.get("unfused_ms"), 2),
        "FLOPs per byte": cells.fixed(dense.get("intensity"), 1),
        "memory, MB": cells.grouped(_megabytes(dense.get("peak_memory_bytes"))),
        "error, max": cells.fixed(dense.get("probability_error_max"), 5),
        "error, mean": cells.fixed(dense.get("probability_error_mean"), 6),
        "with look-ups: p50, ms": cells.fixed(whole.get("latency_ms_p50"), 2),
        "samples/s with look-ups": cells.grouped(whole.get("samples_per_second")),
        "MFU with look-ups": cells.percent(whole.get("mfu"), 0),
    }
    absent = set() if dense.get("device") == "cuda" else {"MFU, datasheet"}
    if cells.is_missing(dense.get("probability_error_max")):
        absent |= {"error, max", "error, mean"}
    return {key: value for key, value in cellular.items() if key not in absent}


def _ratio(value: float | None, by: float | None) -> float | None:
    return None if cells.is_missing(value) or not by else float(value or 0) / by


def _megabytes(value: float | None) -> float | None:
    return None if cells.is_missing(value) else float(value or 0) / 1e6


def _operator_tables(operators: pd.DataFrame, shown: int = 4) -> list[Table]:
    """For each mode the operators that take most of a dense part's time, of the first batch and precision."""
    tables = []
    for mode in dict.fromkeys(operators["mode"]):
        rows = operators[(operators["mode"] == mode) & (operators["part"] == "dense")]
        first = rows[["batch_size", "precision"]].head(1).itertuples(index=False)
        for batch, precision in first:
            mine = rows[(rows["batch_size"] == batch) & (rows["precision"] == precision)]
            of_models = [[label(*model), *_top(rows_of(mine, model), shown)] for model in contestants(mine)]
            tables.append(
                Table(
                    name=f"operators-{mode}",
                    caption=f"Where the time of {MODES[mode]} goes: dense part, {precision}, batch {batch}",
                    numbers=mine,
                    header=["model", *(f"operator {n + 1}" for n in range(shown))],
                    rows=of_models,
                    notes=["Share of the operators' own time, under the profiler; operators.csv has more."],
                )
            )
    return tables


def _top(rows: pd.DataFrame, shown: int) -> list[str]:
    top = rows.nlargest(shown, "share").to_dict("records")
    said = [f"{row['operator'].removeprefix('aten::')} {cells.percent(row['share'], 0)}" for row in top]
    return said + [cells.MISSING] * (shown - len(said))


def _page(contents: SpeedContents) -> str:
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
