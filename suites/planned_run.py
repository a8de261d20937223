"""One run as plain data: what a process, here or on another machine, needs in order to carry it out."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from files.errors import InputError
from files.remote_copy import open_copy, url_of
from harness.data import PreparedDataset, fetched, open_prepared
from harness.model.architectures import source_hash
from harness.records.cost import Cost
from harness.records.spec import RunSpec, Strict
from harness.runs.jobs import Job
from harness.workers.worker import Limits
from suites.plan import Caller

PLAN_FORMAT: Literal[1] = 1
ANEW = "write the plan again with `run SUITE --plan FILE`"
LONGEST_SECONDS = 1e9  # between checkpoints: never, since JSON has no infinity


class PlannedRun(Strict):
    """A line of a plan: one run with all that a process needs for it.

    ``prepared`` is the folder of its data, whose fingerprint is the spec's; ``leak_ok`` are the leaks that
    their schema acknowledges. ``spec_hash`` is that of the version that planned the run. Where ``out`` is a
    copy of a folder in a store, ``store`` is its URL, and each machine has a copy of its own.
    """

    format: Literal[1] = PLAN_FORMAT
    spec_hash: str
    spec: RunSpec
    cost: Cost | None
    prepared: Path
    leak_ok: list[str]
    out: Path
    store: str | None = None
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
            store=url_of(job.out),
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
        prepared = open_data(path, self.spec.dataset_fingerprint)
        if self.spec.world is not None:
            prepared = prepared.in_world(self.spec.world, self.spec.shared_fingerprint)
        prepared = prepared.acknowledging(self.leak_ok)
        out = self.out if self.store is None else open_copy(self.store, shared=True)
        return Job(self.spec, self.cost, prepared, out, self.checkpoint_seconds, self.keeps_weights)


def open_data(path: Path, fingerprint: str) -> PreparedDataset:
    """The prepared data of a folder; InputError where it is missing or damaged, or holds other data.

    Where the folder around it is a copy of a store's, it is fetched if it is not here.
    """
    if not path.is_dir():
        fetched(path)
    prepared = open_prepared(path)
    if prepared.fingerprint != fingerprint:
        raise InputError(
            f"{path}: holds data of the fingerprint {prepared.fingerprint}, and the run was planned on "
            f"{fingerprint}; prepare those, or {ANEW}"
        )
    return prepared


def check_code(job: Job, call: Caller) -> None:
    """InputError where the architecture's code is not that which the record would say it is."""
    planned = job.spec.architecture_source
    if planned and call(source_hash, job.spec.architecture) != planned:
        raise InputError(
            f"the code of {job.spec.architecture!r} is not that which was planned (its hash differs); {ANEW}"
        )
