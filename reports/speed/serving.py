"""From ``OUT/serving_profile.json`` to tables, the figure of latency against load, and a report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from harness.records.serving_profile import (
    SERVING_PROFILE_FILE,
    ProfiledEngine,
    ServingProfile,
    read_serving_profile,
)
from reports.cells import MISSING, Shown, fixed, grouped, is_missing, model_name, percent, short
from reports.contents import Contents, Part, Words
from reports.figures.drawing.models import contestants, select_model
from reports.figures.drawing.saving import Drawing, Figures
from reports.files import write_csv
from reports.render import write_report
from reports.speed.figures import latency_against_load
from reports.speed.report import where_and_when
from reports.tables.markup import Table

CSV_FILE = "serving_profile.csv"
LOADS_FILE = "serving_loads.csv"
KEYS = ["architecture", "variant", "engine", "candidates"]
AT_BOUND = [
    *("latency_ms_p50", "latency_ms_p99", "latency_ms_p99_low", "latency_ms_p99_high", "queue_ms_p50"),
    *("queue_ms_p99", "compute_ms_p50", "compute_ms_p99", "requests"),
]
COLUMNS = [
    *KEYS,
    *("qps", "qps_low", "qps_high", "alone_ms_p50", "alone_ms_p99", "candidates_per_second", "spread"),
    *(f"{name}_at_bound" for name in AT_BOUND),
    *("price_per_million", "score_difference", "noisy", "refused"),
]
NOTES = [
    "QPS: requests a second of the highest load that was offered whose p99 holds the bound, and in brackets "
    "between which loads it lies: the first holds it with the whole 95% interval of its p99, the second "
    "exceeds it so. Where no load does, the ends are 0 and the server's own rate.",
    "A latency goes from a request's scheduled arrival to its answer. The interval of a p99 allows for "
    "successive requests waiting behind one another.",
    "~: noisy; the compute of rounds or loads differs by more than 5%, as when the machine has other work; "
    "measure again on a quiet machine before such rows are compared.",
    "A dash: a hundred requests, which a p99 needs, would have taken too long; give a longer --seconds.",
]


def serving_profile_frame(profile: ServingProfile) -> pd.DataFrame:
    """One row a model, engine and number of candidates: the columns of ``serving_profile.csv``."""
    rows = [_row(model, profile.price_per_hour) for model in profile.models]
    aucs = dict.fromkeys(f"auc_{task}" for model in profile.models for task in model.auc)
    return pd.DataFrame(rows).reindex(columns=[*COLUMNS, *aucs])


def _row(model: ProfiledEngine, price_per_hour: float | None) -> dict[str, Any]:
    named = model.model_dump(mode="json", exclude={"loads", "auc"})
    found = model.at_bound
    at_bound = {f"{name}_at_bound": getattr(found, name) for name in AT_BOUND} if found else {}
    price = None if price_per_hour is None else model.price_per_million(price_per_hour)
    aucs = {f"auc_{task}": value for task, value in model.auc.items()}
    named |= {"noisy": model.noisy}
    return named | at_bound | {"price_per_million": price} | aucs


def loads_frame(profile: ServingProfile) -> pd.DataFrame:
    """One row a model, engine, number of candidates and offered load."""
    return pd.DataFrame(
        [
            {name: getattr(model, name) for name in KEYS} | load.model_dump()
            for model in profile.models
            for load in model.loads
        ]
    )


def render_serving_profile(out: Path) -> Path:
    """Write ``serving_profile.csv``, ``serving_loads.csv`` and the report; returns ``serving_profile.md``.

    Raises InputError where ``out/serving_profile.json`` is not there or damaged.
    """
    profile = read_serving_profile(out)
    frame, loads = serving_profile_frame(profile), loads_frame(profile)
    write_csv(out / CSV_FILE, frame)
    write_csv(out / LOADS_FILE, loads)
    return write_report(_contents(profile, frame, loads), out)


def _contents(profile: ServingProfile, frame: pd.DataFrame, loads: pd.DataFrame) -> Contents:
    tables = [table for rows in _by_candidates(frame) for table in _tables(profile, rows)]
    part = Part(
        name="serving",
        title="Serving",
        in_short=_in_short(profile, frame),
        overview=[Words("What was measured, and what cannot be concluded", _words(profile))],
        more=[Words("Not measured", refused)] if (refused := _refused(frame)) else [],
        tables=tables,
        figures=_figures(profile, loads),
        environment=where_and_when(profile.environment, profile.measured_at),
    )
    return Contents(
        title=f"Serving: {profile.suite}",
        descriptions=[profile.description] if profile.description else [],
        commands=[profile.command] if profile.command else [],
        parts=[part],
        data=[CSV_FILE, LOADS_FILE, SERVING_PROFILE_FILE],
        page="serving_profile.md",
    )


def _figures(profile: ServingProfile, loads: pd.DataFrame) -> Figures:
    if loads.empty:
        return {}
    caption = (
        f"Latency against offered load on {profile.dataset}: p99 (full) and p50 (faint), a line a model and "
        f"engine; dashed, the bound of {profile.bound_ms:g} ms"
    )
    return {"latency-load": Drawing(latency_against_load, loads, caption, (profile.bound_ms,))}


# --- Words -------------------------------------------------------------------------------------------------


def _in_short(profile: ServingProfile, frame: pd.DataFrame) -> str:
    sentences = []
    for rows in _by_candidates(frame):
        answered = rows[rows["qps"].fillna(0) > 0].sort_values("qps", ascending=False).to_dict("records")
        most = f"Requests of {rows['candidates'].iloc[0]} candidates within a p99 of {profile.bound_ms:g} ms"
        if answered:
            named = [f"{model_name(row)} in {row['engine']} {grouped(row['qps'])}" for row in answered]
            sentences.append(f"{most}, a second: {', '.join(dict.fromkeys([named[0], named[-1]]))}.")
        else:
            sentences.append(f"{most}: none at any load that was offered.")
    return " ".join(sentences)


def _words(profile: ServingProfile) -> list[str]:
    shared = ", ".join(profile.user_features)
    graphs = ", as replays of CUDA graphs" if profile.cuda_graphs else ""
    weights = (
        "Weights are as they are before training; an architecture whose gates choose experts may then open "
        "others."
    )
    return [
        f"Whole models with their look-ups, in {profile.precision} on {profile.device}{graphs}, "
        f"{profile.threads} threads. {weights}",
        "A request: successive rows of the shuffled training split as candidates, with the first row's user: "
        f"{shared or 'nothing, as all features are of groups item or cross, or none is'}.",
        "Server: requests arrive at random (Poisson) from another process, and one server answers one at a "
        f"time, first come first served. Each load is offered for {profile.seconds:g} seconds, at most "
        "10,000 requests. Offline: requests one after another.",
        "Models were measured one after another: other work on the machine falls on some of them alone, and "
        "raises a p99 more than a median.",
    ]


def _refused(frame: pd.DataFrame) -> list[str]:
    return [
        f"{model_name(row)}, {row['engine']}, {row['candidates']} candidates: {row['refused']}"
        for row in frame[frame["refused"] != ""].to_dict("records")
    ]


# --- Tables ------------------------------------------------------------------------------------------------


def _by_candidates(frame: pd.DataFrame) -> list[pd.DataFrame]:
    return [rows for _, rows in frame.groupby("candidates", sort=False)]


def _tables(profile: ServingProfile, rows: pd.DataFrame) -> list[Table]:
    """QPS at the bound beside AUC, one row a model; and all else, one row a model and engine."""
    count = rows["candidates"].iloc[0]
    header, shown = _qps_cells(rows)
    bound = f"p99 of {profile.bound_ms:g} ms, {count} candidates a request"
    source = f"AUC: mean over the finished runs of {profile.results}."
    qps = Table(
        name=f"qps-{count}",
        caption=f"Requests a second within a {bound}",
        numbers=rows,
        header=["model", *header],
        rows=shown,
        notes=[*NOTES, *([source] if profile.results else [])],
    )
    details = {title: [show(row) for row in rows.to_dict("records")] for title, show in _details(profile)}
    return [qps, Table.from_columns(f"serving-{count}", f"At the {bound}, and offline", rows, details, [])]


def _qps_cells(rows: pd.DataFrame) -> tuple[list[str], list[list[str]]]:
    tasks = [str(name) for name in rows.columns if str(name).startswith("auc_")]
    engines = list(dict.fromkeys(rows["engine"]))
    header = [f"AUC {name.removeprefix('auc_')}" for name in tasks] + [f"QPS, {name}" for name in engines]
    shown = []
    for model in contestants(rows):
        own = select_model(rows, model).to_dict("records")
        by_engine = {row["engine"]: row for row in own}
        aucs = [fixed(own[0][name], 4) for name in tasks]
        shown.append([model_name(own[0]), *aucs, *(_qps(by_engine[name]) for name in engines)])
    return header, shown


def _qps(row: dict) -> str:
    if row["refused"]:
        return "refused"
    if is_missing(row["qps"]):
        return MISSING
    noisy = "~" if row["noisy"] else ""
    text = f"{noisy}{grouped(row['qps'])} ({grouped(row['qps_low'])} to {grouped(row['qps_high'])})"
    return Shown(text, row["qps"], row["qps_low"], row["qps_high"])


def _details(profile: ServingProfile) -> list[tuple[str, Any]]:
    def number(name: str, digits: int = 2) -> Any:
        return lambda row: fixed(row[name], digits)

    price = ("price a million candidates", lambda row: short(row["price_per_million"]))
    return [
        ("model", model_name),
        ("engine", lambda row: row["engine"]),
        ("QPS", lambda row: MISSING if row["refused"] else grouped(row["qps"])),
        ("p50, ms", number("latency_ms_p50_at_bound")),
        ("p99, ms", _p99),
        ("queue p99, ms", number("queue_ms_p99_at_bound")),
        ("compute p50, ms", number("compute_ms_p50_at_bound")),
        ("requests", lambda row: grouped(row["requests_at_bound"])),
        ("offline candidates/s", lambda row: grouped(row["candidates_per_second"])),
        ("spread", lambda row: percent(row["spread"], 0)),
        *([price] if profile.price_per_hour is not None else []),
        ("score difference", lambda row: short(row["score_difference"])),
    ]


def _p99(row: dict) -> str:
    ends = (row["latency_ms_p99_low_at_bound"], row["latency_ms_p99_high_at_bound"])
    shown = fixed(row["latency_ms_p99_at_bound"], 2)
    return shown if shown == MISSING else f"{shown} ({fixed(ends[0], 2)} to {fixed(ends[1], 2)})"
