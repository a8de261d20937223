"""From jobs to records: each is read if it is finished, and made if no other process holds it."""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import closing
from enum import Enum
from functools import partial
from typing import NamedTuple

from files.errors import UnfinishedError
from harness.data import InputError, is_full_disk
from harness.records.record import Record, TaskMetrics
from harness.runs.fitted import FITTED
from harness.runs.jobs import Job, carry_out
from harness.training.progress import Watcher
from harness.workers.isolation import BrokenCallError
from harness.workers.several import several
from suites.plan import Caller

HELD_SECONDS = 1.0  # between looks at runs that other processes hold


class NoRecord(Enum):
    """Why a run gives no record here: another process holds it, or it is the first rank's."""

    HELD = "held"
    NONE = "none"


class Broke(NamedTuple):
    """A run that left no record."""

    reason: str


class Made(NamedTuple):
    """What came of a job; ``seconds`` are those that its training took, None where it trained nothing."""

    job: Job
    found: Record | NoRecord | Broke
    seconds: float | None


def carried_out(jobs: list[Job], call: Caller, watcher: Watcher) -> Generator[Made]:
    """Every job as it ends. Those that another process holds are waited for when the others have ended."""
    if call.at_once > 1:
        yield from _at_once(jobs, call, watcher)
        return
    waiting: list[Job] = []
    for patient, due in ((False, jobs), (True, waiting)):
        for job in due:
            made = make(job, call, patient, watcher)
            if made.found is NoRecord.HELD:
                waiting.append(job)
            else:
                yield made


def _at_once(jobs: list[Job], call: Caller, watcher: Watcher) -> Generator[Made]:
    while jobs:
        calls = [partial(make, job, call, False, watcher.beside_others()) for job in jobs]
        held = []
        with closing(several(calls, call.at_once)) as ended:
            for _, made in ended:
                if made.found is NoRecord.HELD:
                    held.append(made.job)
                else:
                    yield made
        if len(held) == len(jobs):
            time.sleep(HELD_SECONDS)
        jobs = held


def make(job: Job, call: Caller, patient: bool, watcher: Watcher) -> Made:
    """Make the job's record, or read it; with ``patient``, wait while another process holds the run."""
    start = time.monotonic()
    was_finished = job.folder.is_finished
    found = _run_once(job, call, patient, watcher)
    return Made(job, found, None if was_finished or job.cost is None else time.monotonic() - start)


def _run_once(job: Job, call: Caller, patient: bool, watcher: Watcher) -> Record | NoRecord | Broke:
    """The job's record: read if it is finished, made if the run is free."""
    world = call.world
    if not world.is_first:
        decision = world.from_first(None, patient=True)
        if decision == "run":
            return _carry_out(job, call, watcher)
        return NoRecord.NONE if decision == "finished" else NoRecord.HELD
    try:
        with job.folder.locked(wait=patient) as held:
            return _run_locked(job, call, watcher, held)
    except UnfinishedError as error:  # the store fails, or another process took the run over
        if world.size > 1:
            raise
        return Broke(str(error))


def _run_locked(job: Job, call: Caller, watcher: Watcher, held: int | None) -> Record | NoRecord | Broke:
    """The first rank's part of `_run_once`, which has the lock ``held`` unless another process has it."""
    world = call.world
    finished = job.folder.is_finished
    decision = "finished" if finished else "run" if held is not None else "held"
    world.from_first(decision, patient=True)
    if finished:
        return job.folder.record()
    if held is None:
        return NoRecord.HELD
    try:
        return _carry_out(job, call, watcher, held)
    except Exception as error:
        # The other ranks would wait for this one, and a full disk breaks every run alike.
        if world.size > 1 or is_full_disk(error):
            raise
        in_words = isinstance(error, BrokenCallError | InputError)
        return Broke(str(error) if in_words else f"{type(error).__name__}: {error}")


def run_job(job: Job, call: Caller, watcher: Watcher) -> Record:
    """The record of one job, as `suites.run.run_suite` makes it; another process that makes it is waited for.

    Raises UnfinishedError where the run breaks.
    """
    found = _run_once(job, call, False, watcher)
    if found is NoRecord.HELD:
        watcher.note(f"{job.title}: another process holds it; waiting until that ends")
        found = _run_once(job, call, True, watcher)
    if isinstance(found, Broke):
        raise broke(job, found.reason)
    assert isinstance(found, Record)
    watcher.note(f"{job.title}: {outcome(found)}")
    return found


def broke(job: Job, reason: object) -> UnfinishedError:
    """The error of one run that broke."""
    return UnfinishedError(f"the run broke and left no record: {job.title} ({reason})")


def _carry_out(job: Job, call: Caller, watcher: Watcher, lock: int | None = None) -> Record | NoRecord:
    """The job's record; a reference that fits nothing is carried out in this process, where it runs alone."""
    if not computes(job) and call.at_once == 1:
        return carry_out(job, None, call.world, watcher) or NoRecord.NONE
    machine = call.machine(job.spec.training.precision) if job.cost else None
    return call(carry_out, job, machine, call.world, watcher=watcher, hold=lock) or NoRecord.NONE


def computes(job: Job) -> bool:
    """Whether the job trains or fits anything; other references take no time."""
    return job.cost is not None or job.spec.architecture in FITTED


def outcome(record: Record) -> str:
    """What a run found, in a line: its metrics and its pace, or why it failed."""
    if record.failure is not None:
        return f"FAILED: {record.failure.reason}"
    found = [f"{task} {_shown(metrics)}" for task, metrics in record.metrics.items()]
    rate = record.training.train_samples_per_second if record.training else None
    at_once = record.training.runs_at_once if record.training else None
    shared = f" (one of {at_once} at once)" if at_once else ""
    return ", ".join(found) + (f", {rate:,.0f} samples/s{shared}" if rate else "")


def _shown(metrics: TaskMetrics) -> str:
    values = {"AUC": metrics.auc, "UAUC": metrics.uauc}
    return " ".join(f"{name} {value:.4f}" for name, value in values.items() if value is not None)
