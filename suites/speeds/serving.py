"""After a suite's trainings: how fast each of its models answers, in one pass a dataset."""

from __future__ import annotations

import datetime
import math
from collections.abc import Sequence
from pathlib import Path

from files.locks import locked
from harness.machine.facts import Machine
from harness.records.contestant import Contestant
from harness.records.record import Record
from harness.records.serving import ServedPart, ServingPass, read_serving, write_serving
from harness.records.spec import RunSpec
from harness.runs.jobs import Job
from harness.speed.serving import Served, ToServe, measure_serving
from harness.training.progress import Watcher
from harness.workers.isolation import BrokenCallError
from harness.workers.worker import Limits
from suites.plan import Caller
from suites.suite import ServingSettings

SHARE_OF_TRAINING = 1 / 9  # so a pass takes a tenth of the whole, or the few rounds that it needs
LOCK_FILE = ".serving.lock"
PARTS: tuple[ServedPart, ...] = ("dense", "whole")


def measure_models(
    jobs: Sequence[Job],
    records: Sequence[Record],
    settings: ServingSettings,
    out: Path,
    call: Caller,
    watcher: Watcher,
) -> None:
    """Measure the models of one dataset's jobs that have finished, and write ``out/serving.json``.

    Nothing is measured where the file holds these models already, at these settings. A pass that breaks is
    told and ends nothing: quality is known without it.
    """
    models = _distinct(jobs, records)
    if not models:
        return
    first = models[0].spec
    sizes = _sizes_that_fit(jobs[0], settings.batch_sizes, watcher)
    threads = settings.threads or call.threads
    with locked(out / "runs" / LOCK_FILE, wait=True):
        serving = read_serving(out)
        if not sizes or _holds(serving.on(first.suite, first.dataset), models, sizes, threads):
            return
        watcher.note(f"{first.dataset}: measuring how fast {_models(len(models))} answer")
        limit = SHARE_OF_TRAINING * sum(map(_seconds, records))
        measure = Caller(call.world, Limits())
        try:
            found: Served = measure(
                measure_serving, models, jobs[0].prepared, sizes, threads, limit, call.world.device
            )
        except BrokenCallError as error:
            watcher.note(f"{first.dataset}: how fast the models answer was not measured: {error}")
            return
        machine = call.machine(first.training.precision)
        write_serving(out, serving.replaced_by(_as_pass(first, sizes, threads, found, machine)))
    noisy = sum(model.noisy for model in found.models)
    marked = (
        f", {noisy} of {len(found.models)} figures noisy, as other work kept the machine" if noisy else ""
    )
    watcher.note(f"{first.dataset}: speeds measured in {found.seconds:.0f} s{marked}")


def _models(count: int) -> str:
    return "one model" if count == 1 else f"{count} models"


def _distinct(jobs: Sequence[Job], records: Sequence[Record]) -> list[ToServe]:
    """The first run of each contestant, with the cost that the first one to finish had."""
    finished = {record.spec_hash: record for record in records if record.status == "finished"}
    found: dict[Contestant, ToServe] = {}
    first: dict[Contestant, Job] = {}
    for job in jobs:
        contestant = job.spec.contestant
        record = finished.get(job.spec.hash)
        begun = first.setdefault(contestant, job)
        if job.cost is not None and record is not None and record.cost is not None:
            found.setdefault(contestant, ToServe(begun.spec, record.cost, begun.folder.final))
    return list(found.values())


def _sizes_that_fit(job: Job, wanted: Sequence[int], watcher: Watcher) -> list[int]:
    """The batch sizes that the training split has rows for."""
    rows = job.prepared.rows["train"]
    for size in wanted:
        if size > rows:
            watcher.note(f"{job.spec.dataset}: no speed at batch size {size}, of {rows} rows of training")
    return [size for size in wanted if size <= rows]


def _holds(found: ServingPass | None, models: Sequence[ToServe], sizes: list[int], threads: int) -> bool:
    if found is None or found.threads != threads:
        return False
    measured = {(model.spec_hash, model.part, model.batch_size) for model in found.models}
    return measured == {(model.spec.hash, part, size) for model in models for part in PARTS for size in sizes}


def _seconds(record: Record) -> float:
    """How long a run took; 0 where its record does not say."""
    try:
        begun, ended = map(datetime.datetime.fromisoformat, (record.started_at, record.finished_at))
    except ValueError:
        return 0.0
    return max(0.0, (ended - begun).total_seconds())


def _as_pass(first: RunSpec, sizes: list[int], threads: int, found: Served, machine: Machine) -> ServingPass:
    return ServingPass(
        suite=first.suite,
        dataset=first.dataset,
        batch_sizes=sizes,
        threads=threads,
        precision=first.training.precision,
        device=first.device,
        peak_flops=found.peak.flops_per_second,
        peak_source=found.peak.source,
        seconds=math.ceil(found.seconds),
        environment=dict(machine.environment) | {"threads": threads},
        models=found.models,
    )
