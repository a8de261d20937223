"""The speed of a suite's rows: matched as a run would, then timed instead of trained."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from files.writing import write_atomically
from harness.data import InputError, prepare_dataset
from harness.machine.environment import environment
from harness.machine.peaks import DTYPES
from harness.runs.run import now
from harness.speed.cuda_graphs import require_cuda_graphs
from harness.speed.fp8 import fp8_obstacle, require_fp8
from harness.speed.models import Machine, profile_model
from harness.speed.profiles.figures import figure
from harness.speed.profiles.pipeline import profile_pipeline
from harness.training.ranks import World
from suites.rows import MatchedRow, match_rows
from suites.setting import Setting
from suites.suite import Suite

PROFILE_FILE = "profile.json"
FORMAT = 1


@dataclass(frozen=True)
class ProfileOptions:
    """Where and at which batches and precisions to measure; ``out`` holds what an earlier call measured."""

    out: Path
    cache_root: Path
    data_root: Path | None
    device: torch.device
    batch_sizes: list[int]
    precisions: list[str]
    compile: bool = False
    cuda_graphs: bool = False
    command: str = ""


def profile_suite(suite: Suite, options: ProfileOptions, say: Callable[[str], None]) -> list[dict[str, Any]]:
    """Measure every row at every precision and batch, and write ``out/profile.json`` after each.

    Returns all records: a row, precision, batch, part and mode each (`harness.speed.models`).
    """
    for precision in options.precisions:
        if precision not in DTYPES:
            raise InputError(f"--precision {precision}: choose from {', '.join(DTYPES)}")
    if options.cuda_graphs:
        require_cuda_graphs(options.device)
    if "fp8" in options.precisions:
        require_fp8(options.device)
    setting, matched = matched_rows(suite, options.data_root, options.cache_root, options.device)
    records: list[dict[str, Any]] = []
    for precision in options.precisions:
        rows = _with_fp8(matched, setting, say) if precision == "fp8" else matched
        machine = Machine.of(options.device, precision)
        others = "bf16" if precision == "fp8" else precision
        for row in rows:
            training = row.training.model_copy(update={"precision": others, "compile": options.compile})
            spec = setting.spec(row, seed=0).model_copy(update={"training": training})
            for batch_size in options.batch_sizes:
                found = profile_model(
                    spec, row.cost, setting.prepared, machine, batch_size, cuda_graphs=options.cuda_graphs
                )
                records += [{**record, "cost": row.cost.as_dict(), "config": row.config} for record in found]
                say(f"{row.name}, {precision}, batch {batch_size}: {_outcome(found)}")
                _write(suite, options, records)
    return records


def _with_fp8(rows: list[MatchedRow], setting: Setting, say: Callable[[str], None]) -> list[MatchedRow]:
    """The rows that can be measured in fp8, saying why the others are left out; InputError if all are."""
    obstacles = {row.name: fp8_obstacle(setting.spec(row, seed=0)) for row in rows}
    found = [row for row in rows if obstacles[row.name] is None]
    if not found:
        raise InputError(f"--precision fp8: {rows[0].name} {obstacles[rows[0].name]}; use bf16")
    for name, obstacle in obstacles.items():
        if obstacle is not None:
            say(f"{name}, fp8: not measured; it {obstacle}")
    say("fp8 is of inference alone: there is no training step in it")
    return found


def profile_pipelines(
    suite: Suite, data_root: Path | None, cache_root: Path, command: str, say: Callable[[str], None]
) -> list[dict[str, Any]]:
    """Figures of every row's whole training step, beside plain PyTorch (`harness.speed.profiles.pipeline`).

    The first row's have no prefix, the others' their row's name. On the CPU, at the suite's batch size.
    """
    setting, rows = matched_rows(suite, data_root, cache_root, torch.device("cpu"))
    figures: list[dict[str, Any]] = []
    for row in rows:
        prefix = f"{row.name}." if figures else ""
        say(f"{row.name}: {'' if prefix else 'the figures without a prefix; '}measuring")
        figures += profile_pipeline(setting.spec(row, seed=0), setting.prepared, prefix, command)
    return figures


def matched_rows(
    suite: Suite, data_root: Path | None, cache_root: Path, device: torch.device
) -> tuple[Setting, list[MatchedRow]]:
    """The suite's setting on its one dataset, and its rows at their budgets; InputError with several."""
    if len(suite.datasets) > 1:
        raise InputError("profile measures on one dataset; name it with --dataset")
    dataset = suite.datasets[0]
    prepared = prepare_dataset(
        dataset.name, dataset.options, data_root, cache_root, world=dataset.each_world[0]
    )
    setting = Setting(suite, dataset, prepared, World(0, 1, device))
    return setting, match_rows(suite, prepared)


def profile_figures(records: Iterable[Mapping[Any, Any]], command: str) -> list[dict[str, Any]]:
    """The dense part's MFU and samples a second as ``profile`` prints them; steady ones only.

    ``<row>.inference_mfu`` and ``<row>.train_mfu`` are of the first precision and batch; others have theirs
    in the name.
    """
    figures = []
    dense = [record for record in records if record["part"] == "dense"]
    for record in dense:
        conditions = record["precision"], record["batch_size"]
        first = conditions == (dense[0]["precision"], dense[0]["batch_size"])
        row = "-".join(filter(None, [record["architecture"], record["variant"]]))
        name = f"{row}{'' if first else '@{}-{}'.format(*conditions)}.{record['mode']}"
        rates = [record["batch_size"] / seconds for seconds in record["seconds_rounds"]]
        if record["mfu"] is not None:
            figures.append(figure(f"{name}_mfu", record["mfu_rounds"], "of the GEMM peak", command))
        if record["samples_per_second"] is not None:
            figures.append(figure(f"{name}_samples_per_second", rates, "samples/s", command))
    return figures


def _outcome(records: list[dict[str, Any]]) -> str:
    outcomes = []
    for record in records:
        latency, mfu = record["latency_ms_p50"], record["mfu"]
        speed = "too unsteady to say" if latency is None else f"{latency:,.2f} ms"
        share = "" if mfu is None else f" {mfu:.0%}"
        outcomes.append(f"{record['part']} {record['mode']} {speed}{share}")
    return ", ".join(outcomes)


def _write(suite: Suite, options: ProfileOptions, records: list[dict[str, Any]]) -> None:
    content = {
        "format": FORMAT,
        "suite": suite.name,
        "description": suite.description,
        "paper_table": suite.paper_table,
        "command": options.command,
        "measured_at": now(),
        "environment": environment(),
        "records": records,
    }
    options.out.mkdir(parents=True, exist_ok=True)
    write_atomically(options.out / PROFILE_FILE, json.dumps(content, indent=1).encode())
