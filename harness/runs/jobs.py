"""A run as plain data: what a process, here or on another machine, needs in order to carry it out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from datasets.prepared import PreparedDataset
from harness.machine.facts import Machine
from harness.records.cost import Cost
from harness.records.folder import RunFolder
from harness.records.record import Record
from harness.records.spec import RunSpec
from harness.runs.references import run_reference
from harness.runs.run import run_model
from harness.training.progress import Watcher
from harness.training.ranks import World


@dataclass(frozen=True)
class Job:
    """One run of a suite. ``cost`` is None of a reference, which trains nothing and keeps no weights.

    ``runs_at_once`` of its command share the machine.
    """

    spec: RunSpec
    cost: Cost | None
    prepared: PreparedDataset
    out: Path
    checkpoint_seconds: float
    keeps_weights: bool = False
    runs_at_once: int = 1

    @property
    def title(self) -> str:
        return self.spec.title if self.cost else f"{self.spec.place} {self.spec.architecture}"

    @property
    def folder(self) -> RunFolder:
        return RunFolder(self.out, self.spec.folder_name)


def carry_out(job: Job, machine: Machine | None, world: World, watcher: Watcher) -> Record | None:
    """Train, or score by a reference, and write the record, which is returned.

    A reference is scored by the first rank alone; the others return nothing.
    """
    if job.cost is None:
        if not world.is_first:
            return None
        return run_reference(job.spec.architecture, job.spec, job.prepared, job.folder, machine)
    return run_model(
        job.spec,
        job.cost,
        job.prepared,
        job.folder,
        world,
        watcher,
        job.checkpoint_seconds,
        machine,
        job.keeps_weights,
        job.runs_at_once,
    )
