"""Runs and trials as tasks of a Ray cluster: what is sent to a node, and what it does there."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch

from files.errors import InputError, UnfinishedError
from files.remote_copy import open_copy, url_of
from harness.data import PreparedDataset, prepare_dataset
from harness.records.record import Record
from harness.records.spec import Training
from harness.runs.jobs import Job
from harness.training.progress import Watcher
from harness.training.ranks import start_world
from harness.workers.isolation import BrokenCallError, in_this_process
from harness.workers.ray_cluster import RayCall, RayCluster
from harness.workers.ray_node import Share, Told, room_here
from harness.workers.worker import Limits
from suites.carrying_out import Broke, Made, NoRecord, computes, make
from suites.plan import Caller
from suites.planned_run import PlannedRun, check_code, open_data
from suites.setting import Setting
from suites.suite import Dataset, Suite, SuiteRow
from suites.tuning.trials import Carrier, Outcome, Trial, carry_out_trial

SEEN_SECONDS = 60.0  # after which a network's file system shows what another machine wrote


@dataclass(frozen=True)
class NodeData:
    """Prepared data as a node has them: in the folder of this path, or made there by its own means.

    ``stores`` are the URLs of what the cache and the data root are copies of, None where they are not.
    """

    folder: Path
    fingerprint: str
    shared_fingerprint: str
    leak_ok: list[str]
    dataset: str
    options: dict[str, Any]
    world: int | None
    data_root: Path | None
    stores: tuple[str | None, str | None]

    @classmethod
    def of(cls, prepared: PreparedDataset, dataset: Dataset, data_root: Path | None) -> NodeData:
        """Those that are prepared here; ``data_root`` holds the raw files on every node."""
        return cls(
            folder=prepared.path.absolute(),
            fingerprint=prepared.fingerprint,
            shared_fingerprint=prepared.shared_fingerprint,
            leak_ok=prepared.schema.leak_ok,
            dataset=dataset.name,
            options=dataset.options,
            world=prepared.world,
            data_root=data_root and data_root.absolute(),
            stores=(url_of(prepared.path.parent), url_of(data_root) if data_root else None),
        )

    def prepare(self) -> None:
        """Prepare the data on this node if they are not there; InputError where others come of it."""
        if self.folder.is_dir():
            return
        cache_url, data_url = self.stores
        cache = open_copy(cache_url or self.folder.parent).absolute()
        data_root = open_copy(data_url) if data_url else self.data_root
        made = prepare_dataset(self.dataset, self.options, data_root, cache, world=self.world)
        if made.path != self.folder:
            raise InputError(
                f"{self.folder}: is not on this machine, and {self.dataset} gives other data here "
                f"({made.path.name}); copy the folder, or the raw files that it was prepared from"
            )

    def opened(self) -> PreparedDataset:
        """The data, prepared first where they are missing. Raises InputError where they are others."""
        self.prepare()
        prepared = open_data(self.folder, self.fingerprint)
        if self.world is not None:
            prepared = prepared.in_world(self.world, self.shared_fingerprint)
        return prepared.acknowledging(self.leak_ok)


# ------------------------------------------------------------------------------------------------- runs


class Reply(NamedTuple):
    """What a task returns of its run: whether another process holds it, and how long it trained."""

    is_held: bool
    seconds: float | None


def carried_out_on_ray(
    jobs: list[Job], call: Caller, cluster: RayCluster, data: Mapping[Path, NodeData], watcher: Watcher
) -> Generator[Made]:
    """As `suites.carrying_out.carried_out`, on a cluster. ``data`` are those of the jobs' prepared folders.

    What is finished is read here, and so are references carried out that compute nothing. Where the caller
    stops listening, all tasks are killed.
    """
    due: list[Job] = []
    for job in jobs:
        if computes(job) and not job.folder.is_finished:
            due.append(job)
        else:
            yield make(job, call, True, watcher)
    for patient in (False, True):
        held: list[Job] = []
        for made in _as_tasks(due, patient, call.limits, cluster, data, watcher):
            if made.found is NoRecord.HELD:
                held.append(made.job)
            else:
                yield made
        due = held


def _as_tasks(
    jobs: list[Job],
    patient: bool,
    limits: Limits,
    cluster: RayCluster,
    data: Mapping[Path, NodeData],
    watcher: Watcher,
) -> Generator[Made]:
    tasks: dict[RayCall, Job] = {}
    try:
        for job in jobs:
            line = PlannedRun.from_job(job, limits).model_dump_json()
            sent = line, data[job.prepared.path], cluster.share, len(jobs), patient
            tasks[cluster.begin(run_on_node, *sent, watcher=watcher.beside_others(), limits=limits)] = job
        while tasks:
            for ended in cluster.wait(list(tasks)):
                yield _made(tasks.pop(ended), ended)
    finally:
        for task in tasks:
            task.kill()


def _made(job: Job, ended: RayCall) -> Made:
    try:
        reply: Reply = ended.result()
        if reply.is_held:
            return Made(job, NoRecord.HELD, None)
        record = _written(job)
    except (BrokenCallError, InputError, UnfinishedError) as error:
        return Made(job, Broke(str(error)), None)
    if ended.audience.knows_a_run:  # as without Ray, neither a reference nor a run that was finished before
        ended.watcher.ended(record)
    return Made(job, record, reply.seconds)


def _written(job: Job) -> Record:
    """The record that a node wrote.

    Raises InputError where it does not appear here, and InputError or UnfinishedError where the store that it
    was sent to cannot be reached.
    """
    deadline = time.monotonic() + SEEN_SECONDS
    while not _is_here(job):
        if time.monotonic() > deadline:
            raise InputError(
                f"a machine of the cluster finished it, and {url_of(job.out) or job.out} lacks its record; "
                "--out must be a folder that all machines share under one path, or a URL"
            )
        time.sleep(1.0)
    return job.folder.record()


def _is_here(job: Job) -> bool:
    if not job.folder.is_finished:
        job.folder.fetch()
    return job.folder.is_finished


@dataclass
class InTask(Caller):
    """Makes calls in this process, which is the run's own already, and starts the clock when the run begins.

    So the run's time is counted as a worker's is: without data that are prepared, and without the wait for
    another process that holds the run.
    """

    told: Told = field(kw_only=True)

    def __call__(
        self,
        function: Callable[..., Any],
        *arguments: Any,
        watcher: Watcher | None = None,
        hold: int | None = None,
    ) -> Any:
        """As `harness.workers.isolation.in_this_process`; the call that is watched is the run."""
        if watcher is not None:
            self.told.start_clock()
        return in_this_process(function, *arguments, watcher=watcher, limits=self.limits)


def run_on_node(line: str, data: NodeData, share: Share, runs: int, patient: bool, watcher: Told) -> Reply:
    """Carry out the planned run of a line in this process; of ``runs``, as many share the machine as fit.

    With ``patient``, another process that holds the run is waited for. Raises InputError where the run
    cannot be carried out here, BrokenCallError where it breaks.
    """
    planned = PlannedRun.model_validate_json(line)
    if planned.spec.device == "cuda" and not torch.cuda.is_available():
        raise InputError("the run is for a GPU, and the machine that Ray gave it has no usable one")
    data.prepare()
    job = replace(planned.job(), runs_at_once=min(room_here(share), runs))
    call = InTask(start_world(torch.device(planned.spec.device)), planned.limits, told=watcher)
    check_code(job, call)
    if not job.folder.agrees_with_store(patient):  # the command knows the store alone
        return Reply(is_held=True, seconds=None)
    made = make(job, call, patient, watcher)
    if isinstance(made.found, Broke):
        raise BrokenCallError(made.found.reason)
    return Reply(made.found is NoRecord.HELD, made.seconds)


# ----------------------------------------------------------------------------------------------- trials


def trials_on_ray(cluster: RayCluster, setting: Setting, data_root: Path | None, limits: Limits) -> Carrier:
    """Carries out each trial of a dataset as a task; the judge and the database stay in this process."""
    data = NodeData.of(setting.prepared, setting.dataset, data_root)
    shared = data, setting.suite, setting.dataset, setting.world.device.type

    def carry(trial: Trial, watcher: Watcher) -> Outcome:
        own = trial.row, trial.structure, trial.training, trial.seed
        return cluster.call(trial_on_node, *shared, *own, watcher=watcher, limits=limits)

    return carry


def trial_on_node(
    data: NodeData,
    suite: Suite,
    dataset: Dataset,
    device: str,
    row: SuiteRow,
    structure: dict[str, Any],
    training: Training,
    seed: int,
    watcher: Told,
) -> Outcome:
    """Carry out one trial in this process. Raises InputError where the data cannot be had here."""
    setting = Setting(suite, dataset, data.opened(), start_world(torch.device(device)))
    watcher.start_clock()
    with tempfile.TemporaryDirectory() as folder:
        return carry_out_trial(Trial(setting, row, structure, training, seed), Path(folder), watcher)
