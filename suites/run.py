"""Carrying out a suite: match costs, then run what is not yet on disk."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from harness.data import InputError, is_full_disk, leak_warnings, leaks_as_recorded, prepared_for_ranks
from harness.distributed import World, start_world
from harness.execute import run_model
from harness.peaks import peak
from harness.progress import Silent, Watcher
from harness.references import available_references, run_reference
from harness.runs import RunFolder, RunSpec, write_atomically
from suites.estimate import Workload, announcement
from suites.rows import MatchedRow, match_rows
from suites.setting import Setting
from suites.suite import Dataset, Suite, check_own_names
from suites.tuned import TunedRow


@dataclass(frozen=True)
class Options:
    """How to run, none of which changes a number: places, device, checkpoints."""

    out: Path
    cache_root: Path
    data_root: Path | None
    device: torch.device
    rebuild: bool = False
    checkpoint_seconds: float = 60.0
    command: str = ""


@dataclass(frozen=True)
class Job:
    """One run that a suite asks for, and the function that carries it out and returns its record."""

    title: str
    workload: Workload | None  # None of a reference, which trains nothing
    tuned: TunedRow | None
    spec: RunSpec
    folder: RunFolder
    carry_out: Callable[[], dict]
    leaks: dict  # of its dataset, as found and acknowledged now


def choose_device(name: str) -> torch.device:
    """``auto`` takes a GPU if there is one; InputError if ``cuda`` is asked for and absent."""
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("--device cuda: no usable GPU here; use --device cpu or auto")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def run_suite(suite: Suite, options: Options, watcher: Watcher) -> list[dict]:
    """Run everything of the suite that has no record yet; returns all records, failed ones too.

    Runs that another process holds are left until the end and then waited for. An exception in one
    run is reported and leaves no record, so that it is tried again next time; the others go on.

    Raises InputError before anything is written where two datasets have one name.
    """
    world = start_world(options.device)
    if suite.training.batch_size % world.size:
        raise InputError(
            f"training.batch_size {suite.training.batch_size} must be a multiple of "
            f"the {world.size} processes"
        )
    watcher = watcher if world.is_first else Silent()
    by_dataset = [_jobs(suite, dataset, options, world, watcher) for dataset in suite.datasets]
    check_own_names(suite.datasets, [jobs[0].spec.dataset for jobs in by_dataset])
    jobs = [job for of_dataset in by_dataset for job in of_dataset]
    if world.is_first:
        write_atomically(
            options.out / "suite.json", json.dumps(_as_run(suite, jobs, options), indent=1).encode()
        )
        watcher.note(_announcement(jobs, suite, world))
    records: list[dict] = []
    broken: list[str] = []
    waiting: list[Job] = []
    tally = Tally(len(jobs))
    for patient, due in ((False, jobs), (True, waiting)):
        for job in due:
            start = time.monotonic()
            was_finished = job.folder.is_finished
            record = _run_once(job, world, patient, watcher, broken)
            if record is None:
                waiting.append(job)
                continue
            tally.count(None if was_finished or job.workload is None else time.monotonic() - start)
            if record:
                records.append(record)
                watcher.note(f"{tally} {job.title}: {_outcome(record)}")
    if broken:
        raise RuntimeError(f"{len(broken)} of {len(jobs)} runs broke and left no record: {'; '.join(broken)}")
    return records


def _run_once(job: Job, world: World, patient: bool, watcher: Watcher, broken: list[str]) -> dict | None:
    """The job's record: read if it is finished, made if the run is free; None if another process holds it.

    Empty if the run broke, and on ranks other than the first for a run that was finished before.
    """
    if not world.is_first:
        decision = world.from_first(None)
        return job.carry_out() if decision == "run" else {} if decision == "finished" else None
    with job.folder.locked(wait=patient) as held:
        finished = job.folder.is_finished
        world.from_first("finished" if finished else "run" if held else "held")
        if finished:
            return job.folder.record()
        if not held:
            return None
        try:
            record = job.carry_out()
        except InputError:
            raise
        except Exception as error:
            # The other ranks would wait for this one, and a full disk breaks every run alike.
            if world.size > 1 or is_full_disk(error):
                raise
            broken.append(f"{job.title} ({type(error).__name__}: {error})")
            watcher.note(f"{job.title} broke: {type(error).__name__}: {error}")
            return {}
    return record


@dataclass
class Tally:
    """How far a suite is, and how long the rest may take at the pace so far."""

    total: int
    done: int = 0
    trained: int = 0
    seconds: float = 0.0

    def count(self, seconds: float | None) -> None:
        """One more run is done; it took ``seconds``, or None if there was nothing to train."""
        self.done += 1
        if seconds is not None:
            self.trained += 1
            self.seconds += seconds

    def __str__(self) -> str:
        if not self.trained or self.done == self.total:
            return f"[{self.done}/{self.total}]"
        left = self.seconds / self.trained * (self.total - self.done)
        return f"[{self.done}/{self.total}, {left / 60:.0f} min left]"


def _announcement(jobs: list[Job], suite: Suite, world: World) -> str:
    """What is left to train, and about how long it takes."""
    left = [(job, job.workload) for job in jobs if job.workload and not job.folder.is_finished]
    together = world.size if world.device.type == "cuda" else 1
    return announcement(
        [workload for _, workload in left],
        [job.spec.architecture for job, _ in left],
        together * peak(world.device, suite.training.precision).flops_per_second if left else 0.0,
    )


def _outcome(record: dict) -> str:
    if record["status"] == "failed":
        return f"FAILED: {record['failure']['reason']}"
    found = [
        f"{task} "
        + " ".join(
            f"{name.upper()} {metrics[name]:.4f}" for name in ("auc", "uauc") if metrics[name] is not None
        )
        for task, metrics in record["metrics"].items()
    ]
    rate = (record["training"] or {}).get("train_samples_per_second")
    return ", ".join(found) + (f", {rate:,.0f} samples/s" if rate else "")


def _jobs(suite: Suite, dataset: Dataset, options: Options, world: World, watcher: Watcher) -> list[Job]:
    watcher.note(f"{dataset.name}: preparing, or opening what is prepared")
    prepared = prepared_for_ranks(
        dataset.name, dataset.options, options.data_root, options.cache_root, options.rebuild, world
    )
    rows = match_rows(suite, prepared)
    setting = Setting(suite, dataset, prepared, world)
    leaks = leaks_as_recorded(prepared)
    for warning in leak_warnings(prepared, setting.tasks):
        watcher.note(f"{dataset.name}: {warning}")

    def model_job(row: MatchedRow, seed: int) -> Job:
        run = setting.spec(row, seed)
        folder = RunFolder(options.out, run.folder_name)
        return Job(
            title=run.title,
            workload=Workload.of(row.training, row.cost, prepared),
            tuned=row.tuned,
            spec=run,
            folder=folder,
            carry_out=lambda: run_model(
                run, row.cost, prepared, folder, world, watcher, options.checkpoint_seconds
            ),
            leaks=leaks,
        )

    def reference_job(name: str) -> Job:
        run = setting.reference_spec(name)
        folder = RunFolder(options.out, run.folder_name)
        return Job(
            title=f"{run.dataset} {name}",
            workload=None,
            tuned=None,
            spec=run,
            folder=folder,
            carry_out=lambda: run_reference(name, run, prepared, folder) if world.is_first else {},
            leaks=leaks,
        )

    references = available_references(prepared, setting.tasks) if suite.references else []
    return [
        *(reference_job(name) for name in references),
        *(model_job(row, seed) for seed in range(suite.seeds) for row in rows),
    ]


def _as_tuned(jobs: list[Job]) -> list[dict]:
    """What tuning found for each row, once a dataset."""
    found = {}
    for job in jobs:
        if job.tuned is not None:
            key = {name: getattr(job.spec, name) for name in ("dataset", "architecture", "variant")}
            kept = {"default", "best", "trained", "pruned", "training", "config"}
            found[tuple(key.values())] = (
                key
                | {"metric": job.spec.training.select_metric}
                | job.tuned.model_dump(mode="json", include=kept)
            )
    return list(found.values())


def _as_run(suite: Suite, jobs: list[Job], options: Options) -> dict:
    """``suite.json``: what was asked for, as the report reads it."""
    return {
        "name": suite.name,
        "description": suite.description,
        "paper_table": suite.paper_table,
        "base": suite.base or "",
        "architectures": [
            {"architecture": row.architecture, "variant": row.variant} for row in suite.architectures
        ],
        "datasets": list(dict.fromkeys(job.spec.dataset for job in jobs)),
        "seeds": suite.seeds,
        "tasks": suite.tasks,
        "budget": suite.budget.model_dump(exclude_none=True) if suite.budget else None,
        "sizes": [size.model_dump(exclude_none=True) for size in suite.sizes],
        "tuned": _as_tuned(jobs),
        "spec_hashes": [job.spec.hash for job in jobs],
        "leaks": {job.spec.dataset: job.leaks for job in jobs},
        "command": options.command,
    }
