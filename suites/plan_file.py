"""Runs as data: a file with one line for each, from which any process carries one out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field, ValidationError

from files.errors import InputError
from files.writing import write_atomically
from harness.data import first_problem, open_prepared
from harness.model.architectures import source_hash
from harness.records.cost import Cost
from harness.records.record import Record
from harness.records.spec import RunSpec, Strict
from harness.runs.jobs import Job
from harness.training.progress import Watcher
from harness.training.ranks import World, start_world
from harness.workers.isolation import BrokenCallError
from harness.workers.worker import Limits
from suites.carrying_out import broke, run_job
from suites.options import Options
from suites.plan import Broken, Caller
from suites.run import plan_jobs, raise_broken
from suites.suite import Suite

PLAN_FORMAT: Literal[1] = 1
ANEW = "write the plan again with `run SUITE --plan FILE`"
LONGEST_SECONDS = 1e9  # between checkpoints: never, since JSON has no infinity


class PlannedRun(Strict):
    """A line of the file: one run with all that a process needs for it.

    ``prepared`` is the folder of its data, whose fingerprint is the spec's; ``leak_ok`` are the leaks that
    their schema acknowledges. ``spec_hash`` is that of the version that planned the run.
    """

    format: Literal[1] = PLAN_FORMAT
    spec_hash: str
    spec: RunSpec
    cost: Cost | None
    prepared: Path
    leak_ok: list[str]
    out: Path
    checkpoint_seconds: float = Field(ge=0)
    keeps_weights: bool
    run_minutes: float | None
    run_gigabytes: float | None

    @classmethod
    def from_job(cls, job: Job, limits: Limits) -> PlannedRun:
        """The run of a job, with its places made absolute."""
        return cls(
            spec_hash=job.spec.hash,
            spec=job.spec,
            cost=job.cost,
            prepared=job.prepared.path.absolute(),
            leak_ok=job.prepared.schema.leak_ok,
            out=job.out.absolute(),
            checkpoint_seconds=min(job.checkpoint_seconds, LONGEST_SECONDS),
            keeps_weights=job.keeps_weights,
            run_minutes=limits.minutes,
            run_gigabytes=limits.gigabytes,
        )

    @property
    def limits(self) -> Limits:
        return Limits(self.run_minutes, self.run_gigabytes)

    def job(self, cache_root: Path | None = None) -> Job:
        """The job, with its data opened, in ``cache_root`` unless that is None.

        Raises InputError where the folder is missing or damaged, or holds other data.
        """
        path = self.prepared if cache_root is None else cache_root / self.prepared.name
        prepared = open_prepared(path)
        if prepared.fingerprint != self.spec.dataset_fingerprint:
            raise InputError(
                f"{path}: holds data of the fingerprint {prepared.fingerprint}, and the run was planned on "
                f"{self.spec.dataset_fingerprint}; prepare those, or {ANEW}"
            )
        if self.spec.world is not None:
            prepared = prepared.in_world(self.spec.world, self.spec.shared_fingerprint)
        prepared = prepared.acknowledging(self.leak_ok)
        return Job(self.spec, self.cost, prepared, self.out, self.checkpoint_seconds, self.keeps_weights)


def write_plan(jobs: Sequence[Job], limits: Limits, path: Path) -> None:
    """Write a line for each job, in their order."""
    lines = [PlannedRun.from_job(job, limits).model_dump_json() for job in jobs]
    write_atomically(path, "".join(f"{line}\n" for line in lines).encode())


def read_planned(path: Path, number: int) -> PlannedRun:
    """The run of a line, counted from 0.

    Raises InputError where the file cannot be read or has no such line, and where the line is damaged or of
    another version.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeError) as error:
        raise InputError(f"{path}: cannot be read ({error}); {ANEW}") from None
    if not 0 <= number < len(lines):
        numbers = f"its runs are numbered from 0 to {len(lines) - 1}" if lines else "it has no runs"
        raise InputError(f"{path}: there is no run {number}: {numbers}")
    where = f"{path}: run {number}"
    try:
        content: Any = json.loads(lines[number])
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: is no JSON ({error}); {ANEW}") from None
    if not isinstance(content, dict) or content.get("format") != PLAN_FORMAT:
        raise InputError(f"{where}: is of another version of this program; {ANEW}")
    try:
        planned = PlannedRun.model_validate(content)
    except ValidationError as error:
        raise InputError(f"{first_problem(error, where)}; {ANEW}") from None
    if planned.spec.hash != planned.spec_hash:
        raise InputError(
            f"{where}: this version of the program knows it as {planned.spec.hash} and not as "
            f"{planned.spec_hash}; {ANEW}"
        )
    return planned


def plan_suite(suite: Suite, options: Options, path: Path, watcher: Watcher) -> int:
    """Write a line for each run of the suite that has no record; returns how many there are.

    All that comes before the first run is done as `suites.run.run_suite` does it, and nothing is trained.
    Raises as that does.
    """
    world = _alone(start_world(options.device), "--plan")
    call, broken = Caller(world, options.limits), Broken(watcher)
    plans, jobs = plan_jobs(suite, options, call, broken)
    left = [job for job in jobs if not job.folder.is_finished]
    write_plan(left, options.limits, path)
    raise_broken(broken, plans)
    return len(left)


def run_planned(path: Path, number: int, cache_root: Path | None, watcher: Watcher) -> Record:
    """Carry out the run of a line, counted from 0, as `suites.run.run_suite` would; returns its record.

    ``cache_root`` is where this machine has the prepared data, None: where the plan says.

    Raises InputError where the line cannot be used here: `read_planned`, `PlannedRun.job`, no GPU, or another
    code of the architecture; UnfinishedError where the run breaks.
    """
    planned = read_planned(path, number)
    if planned.spec.device == "cuda" and not torch.cuda.is_available():
        raise InputError(f"{path}: run {number} is planned for a GPU, and there is no usable one here")
    world = _alone(start_world(torch.device(planned.spec.device)), "run-one")
    job = planned.job(cache_root)
    call = Caller(world, planned.limits)
    call.start()
    if job.folder.is_finished:
        watcher.note(f"{job.title}: has its record, and nothing is left to do")
        return job.folder.record()
    try:
        _check_code(job, call)
    except BrokenCallError as error:
        raise broke(job, error) from None
    run_job(job, call, watcher)
    return job.folder.record()


def _alone(world: World, what: str) -> World:
    if world.size > 1:
        raise InputError(f"{what}: works on one process; start it without torchrun")
    return world


def _check_code(job: Job, call: Caller) -> None:
    """InputError where the architecture's code is not that which the record would say it is."""
    planned = job.spec.architecture_source
    if planned and call(source_hash, job.spec.architecture) != planned:
        raise InputError(
            f"the code of {job.spec.architecture!r} is not that which was planned (its hash differs); {ANEW}"
        )
