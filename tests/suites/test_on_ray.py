"""Runs and trials on a Ray cluster: the records of a run without it, and every way in which a task can end.

``make test-ray`` starts a cluster of one node for all tests that need one, and ``make test`` skips those. A
new process costs Ray seconds of imports where it trains, so one run alone is a task; what surrounds tasks is
tested with workers in their place. Kills of nodes and of the command are tried by hand: ``ray_kills.py``.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from threading import Timer
from types import SimpleNamespace
from typing import Any

import optuna
import psutil
import pytest
import torch
import yaml

import suites.on_ray
from datasets.catalog import prepare_dataset
from files.errors import InputError
from files.remote import Store
from files.remote_claims import Claim
from files.remote_copy import copy_at, local_path
from harness.records.folder import RunFolder
from harness.training.progress import OneOfSeveral, Silent
from harness.training.ranks import World
from harness.workers.isolation import BrokenCallError, in_worker
from harness.workers.ray_cluster import RayCall, RayOptions, joined
from harness.workers.ray_node import BEGAN, TIMED, Share, Told, rooms_by_host
from harness.workers.worker import Limits, WatcherCall
from suites.on_ray import NodeData
from suites.options import Options, check_ray
from suites.planned_run import PlannedRun
from suites.suite import Dataset
from tests.forked import Forked
from tests.harness.ray_calls import advance, leave, refuse, sleep
from tests.harness.training.test_trackers import needs, tensorboard_points
from tests.s3 import endpoint, url  # noqa: F401 - fixtures
from tests.suites.test_jobs import DIES, found
from tests.suites.test_plan_file import planning_without_memory  # noqa: F401 - fixture
from tests.test_cli import bench, check_refusal, own, records_of, unreported  # noqa: F401 - fixtures

RUN = ["run", "tiny.yaml", "--cache", "cache", "--no-speed", "--set", "references=false", "--seeds", "1"]
KILLED_ONCE = """

import suites.plan
from harness.machine import peaks
from tests.forked import made_up_machine

peaks.SMALL_SIZE, suites.plan.machine_of = 64, made_up_machine  # measuring takes longer than the run

class KilledOnce(Base):
    def __init__(self, num_tokens, token_dim, config):
        super().__init__(num_tokens, token_dim, config)
        self.calls = 0

    def forward(self, tokens):
        self.calls += not tokens.is_meta
        if self.calls == 60 and not Path("killed").exists():
            Path("killed").touch()
            os.kill(os.getpid(), 9)
        return super().forward(tokens)
"""


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """Of a cluster of one node with room for two."""
    if find_spec("ray") is None or "TEST_RAY" not in os.environ:
        pytest.skip("SKIPPED: no Ray cluster is started; `make test-ray` does, for a minute")
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 2, "object_store_memory": 80 * 2**20, "include_dashboard": False}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        cluster = Cluster(initialize_head=True, head_node_args=node)
        yield cluster.address
        cluster.shutdown()


# ------------------------------------------------------------------------------------------------- a task


def test_a_run_that_is_killed_goes_on_to_the_same_record(address, own, bench, unreported, monkeypatch):  # noqa: F811
    with (own / "own_models.py").open("a") as file:
        file.write(KILLED_ONCE)
    begun: list[int] = []
    monkeypatch.setattr(OneOfSeveral, "start", lambda self, spec, samples, total: begun.append(samples))
    row = ["--set", "architectures=[own_models:KilledOnce]", "--set", "base=null"]
    command = [*RUN, *row, "--checkpoint-seconds", "0", "--set", "training.epochs=4"]
    outcome = bench(*command, "--executor", "ray", "--ray-address", address)
    assert outcome.code == 0, outcome.err
    assert (own / "killed").exists()
    assert begun[0] == 0 < begun[1]
    assert len(begun) == 2
    assert bench(*command, "--out", "out/alone").code == 0
    [record], [alone] = (records_of(own / out).values() for out in ("out/tiny", "out/alone"))
    assert found(record) == found(alone)
    assert record["environment"]["threads"] == 1
    assert "runs_at_once" not in record["training"]


def test_tasks_have_processes_and_threads_of_their_own_and_end_as_workers_do(address, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    told: list[tuple] = []

    class Listening(Silent):
        def advance(self, *arguments: Any) -> None:
            told.append(arguments)

    with joined(RayOptions(address, Share(cpus=2)), Silent()) as cluster:
        assert list(cluster.rooms().values()) == [1]

        def begin(function: Callable, *arguments: Any, **limits: float) -> RayCall:
            return cluster.begin(function, *arguments, watcher=Listening(), limits=Limits(**limits))

        late = begin(sleep, str(tmp_path / "late"), minutes=0.02)
        calls = [begin(advance), begin(advance), begin(leave), begin(refuse)]
        waiting = [late, *calls]
        while waiting:
            waiting = [call for call in waiting if call not in cluster.wait(waiting)]
        found = [call.result() for call in calls[:2]]
        assert len({call.pop("process") for call in found}) == 2
        assert found == 2 * [{"OMP_NUM_THREADS": "2", "folder": str(tmp_path)}]
        assert told == 2 * [(1, 0.5, 2.0)]
        with pytest.raises(BrokenCallError, match=r"it called sys\.exit\(3\)"):
            calls[2].result()
        with pytest.raises(InputError, match="this cannot be; mend it"):
            calls[3].result()
        with pytest.raises(BrokenCallError, match=r"longer than the 0\.02 minutes of --run-minutes"):
            late.result()


INTERRUPTED = """
import sys
from harness.training.progress import Silent
from harness.workers.ray_cluster import RayOptions, joined
from harness.workers.worker import Limits
from tests.harness.ray_calls import sleep
with joined(RayOptions(sys.argv[1]), Silent()) as cluster:
    cluster.call(sleep, sys.argv[2], watcher=Silent(), limits=Limits())
"""


def test_ctrl_c_leaves_no_process(address, tmp_path):
    process = Forked(INTERRUPTED, tmp_path, "command", address, tmp_path / "sleeping")
    deadline = time.monotonic() + 300
    while not (tmp_path / "sleeping").exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    sleeping = psutil.Process(int((tmp_path / "sleeping").read_text()))
    process.send_signal(signal.SIGINT)
    _, said = process.communicate()
    assert said.splitlines()[-1] == "KeyboardInterrupt"
    psutil.wait_procs([sleeping], timeout=60)
    assert not sleeping.is_running()


# ------------------------------------------------------------------------------- workers in place of tasks


class Worker(RayCall):
    """A call of `Workers`, made when its result is asked for; it hears what its node's `Told` tells."""

    def __init__(self, function: Callable, arguments: tuple, watcher: Silent, limits: Limits) -> None:
        super().__init__(0, None, watcher, limits)
        self.function, self.arguments = function, arguments

    def result(self) -> Any:
        given = self.function, self.arguments, Workers.folder
        return in_worker(on_a_node_with_room_for_two, *given, watcher=Hearing(self), limits=self.limits)

    def kill(self) -> None:
        pass


class Hearing(Silent):
    """The board of a call in a worker, which the worker's relay tells one event after another."""

    def __init__(self, call: RayCall) -> None:
        self.call = call

    def take(self, event: WatcherCall) -> None:
        self.call.hear([event])


class BoardBehindRelay:
    """What a `Told` in a worker takes for the board; its ``tell.remote`` is Ray's way to call an actor."""

    def __init__(self, relay: Any) -> None:
        self.tell = SimpleNamespace(remote=lambda number, event: relay.take(event))


class Workers:
    """As `RayCluster`, with a worker of this machine for each task."""

    share = Share()
    folder = "."  # of the nodes, where copies of a store's folders are

    def rooms(self) -> dict[str, int]:
        return {"here": 2, "there": 1}

    def begin(self, function: Callable, *arguments: Any, watcher: Silent, limits: Limits) -> Worker:
        return Worker(function, arguments, watcher, limits)

    def wait(self, calls: list[Worker]) -> list[Worker]:
        return calls[-1:]

    def call(self, function: Callable, *arguments: Any, watcher: Silent, limits: Limits) -> Any:
        return self.begin(function, *arguments, watcher=watcher, limits=limits).result()


def on_a_node_with_room_for_two(function: Callable, arguments: tuple, folder: str, relay: Any) -> Any:
    os.chdir(folder)
    suites.on_ray.room_here = lambda share: 2
    return function(*arguments, Told(BoardBehindRelay(relay), 0))


@pytest.fixture
def workers(monkeypatch) -> list[str]:
    """Has `joined` yield workers; arguments that ask for them."""
    if find_spec("ray") is None:
        monkeypatch.setattr("harness.workers.ray_cluster.require_ray", lambda: None)

    @contextmanager
    def made_up(options: RayOptions, watcher: Silent) -> Iterator[Workers]:
        yield Workers()

    monkeypatch.setattr("suites.run.joined", made_up)
    monkeypatch.setattr("suites.tuning.tune.joined", made_up)
    return ["--executor", "ray"]


def test_a_row_that_breaks_breaks_alone_and_one_that_diverges_is_a_record(own, bench, workers, unreported):  # noqa: F811
    with (own / "own_models.py").open("a") as file:
        file.write(DIES)
    rows = ["--set", "architectures=[own_models:Dies, own_models:Diverging, dlrm_mlp]"]
    outcome = bench(*RUN, *rows, *workers)
    check_refusal(outcome, ["1 of 3 runs broke", "own_models:Dies seed 0 (its process was killed"], code=1)
    records = records_of(own / "out/tiny")
    status = {name: record["status"] for (name, _), record in records.items()}
    assert status == {"own_models:Diverging": "failed", "dlrm_mlp": "finished"}
    assert records["dlrm_mlp", 0]["training"]["runs_at_once"] == 2
    assert "[2/3" in outcome.err


def test_data_that_a_node_lacks_are_prepared_there(own, bench, unreported, workers, monkeypatch):  # noqa: F811
    sent: list[NodeData] = []
    timed: list[bool] = []
    begin = Workers.begin

    def without_data(self, function, line, data, *more, **options):
        sent.append(data)
        data.folder.rename(own / "elsewhere")
        return begin(self, function, line, data, *more, **options)

    monkeypatch.setattr(Workers, "begin", without_data)
    listen_for(TIMED, monkeypatch, lambda: timed.append(sent[0].folder.is_dir()))
    command = [*RUN, "--set", "architectures=[dlrm_mlp]", *workers]
    assert bench(*command).code == 0
    assert len(sent) == 1
    assert sent[0].folder.is_dir()
    assert timed == [True]  # preparing is on no limit
    names = sorted(path.relative_to(own / "elsewhere") for path in (own / "elsewhere").rglob("*.parquet"))
    assert sorted(path.relative_to(sent[0].folder) for path in sent[0].folder.rglob("*.parquet")) == names
    [record] = records_of(own / "out/tiny").values()
    assert record["dataset_info"]["fingerprint"] == sent[0].fingerprint
    assert bench(*command).code == 0
    assert len(sent) == 1  # the run is finished, and is no task


def test_a_record_that_does_not_appear_breaks_its_row_and_the_others_go_on(
    own,  # noqa: F811
    bench,  # noqa: F811
    unreported,  # noqa: F811
    workers,
    monkeypatch,
):
    monkeypatch.setattr(suites.on_ray, "SEEN_SECONDS", 0.0)
    result = Worker.result

    def into_a_folder_of_its_own(self):
        planned = PlannedRun.model_validate_json(self.arguments[0])
        if planned.spec.architecture == "dlrm_mlp":
            planned = planned.model_copy(update={"out": own / "elsewhere"})
        self.arguments = planned.model_dump_json(), *self.arguments[1:]
        return result(self)

    monkeypatch.setattr(Worker, "result", into_a_folder_of_its_own)
    outcome = bench(*RUN, "--set", "architectures=[own_models:Shallow, dlrm_mlp]", *workers)
    words = [
        "1 of 2 runs broke",
        "dlrm_mlp seed 0 (a machine of the cluster finished it, and out/tiny lacks",
    ]
    check_refusal(outcome, words, code=1)
    assert list(records_of(own / "elsewhere")) == [("dlrm_mlp", 0)]
    assert list(records_of(own / "out/tiny")) == [("own_models:Shallow", 0)]


def test_a_row_that_only_the_nodes_have_memory_for_is_carried_out(
    own,  # noqa: F811
    bench,  # noqa: F811
    unreported,  # noqa: F811
    workers,
    planning_without_memory,  # noqa: F811
):
    outcome = bench(*RUN, "--set", "architectures=[dlrm_mlp]", *workers)
    assert outcome.code == 0, outcome.err
    assert set(records_of(own / "out/tiny")) == {("dlrm_mlp", 0)}


def test_a_run_that_a_node_alone_has_is_sent_and_made_again_where_it_was_deleted_in_the_store(
    own,  # noqa: F811
    bench,  # noqa: F811
    unreported,  # noqa: F811
    workers,
    url,  # noqa: F811
    monkeypatch,
):
    begun: list[int] = []
    monkeypatch.setattr(OneOfSeveral, "start", lambda self, spec, samples, total: begun.append(samples))
    monkeypatch.setattr(suites.on_ray, "SEEN_SECONDS", 0.0)
    monkeypatch.setattr(Workers, "folder", str(own / "node"))
    (own / "node").mkdir()
    command = [*RUN, "--set", "architectures=[dlrm_mlp]", "--out", url, *workers]
    store, there = Store(url), own / "node" / local_path(url)

    def delete_and_run_again() -> None:
        store.remove(list(store.listing("runs")))
        outcome = bench(*command)
        assert outcome.code == 0, outcome.err
        for path in (there / "runs").glob("*/*"):
            assert store.read(f"runs/{path.parent.name}/{path.name}") == path.read_bytes()

    delete_and_run_again()
    assert begun == [0]
    delete_and_run_again()
    assert begun == [0, 0]

    [run] = (there / "runs").glob("mine-*")
    copy = copy_at(there)
    assert copy is not None
    copy.forget(f"runs/{run.name}")  # as if the store had been away when it ended
    delete_and_run_again()
    assert begun == [0, 0]

    store.remove(list(store.listing("runs")))
    other = Claim(store, f"runs/.{run.name}.claim", "another machine")
    assert other.take()
    folder = RunFolder(there, run.name)
    assert not folder.agrees_with_store(wait=False)  # which is to be waited for
    other.release()
    assert folder.agrees_with_store(wait=False)
    assert not folder.is_finished


def listen_for(method: str, monkeypatch: pytest.MonkeyPatch, then: Callable[[], object]) -> None:
    """Do something whenever a task's event of this name is heard."""
    hear = RayCall.hear

    def listening(self: RayCall, events: list[WatcherCall]) -> None:
        hear(self, events)
        for event in events:
            if event.method == method:
                then()

    monkeypatch.setattr(RayCall, "hear", listening)


def test_the_wait_for_a_run_that_another_process_holds_is_on_no_limit(
    own,  # noqa: F811
    bench,  # noqa: F811
    unreported,  # noqa: F811
    workers,
    monkeypatch,
):
    seen: list[str] = []
    begin = Workers.begin

    with ExitStack() as holding:

        def held(self, function, line, data, share, runs, patient, **options):
            if patient:
                holding.callback(seen.append, "released")
                Timer(1.0, holding.close).start()
            else:
                holding.enter_context(PlannedRun.model_validate_json(line).job().folder.locked(wait=False))
            return begin(self, function, line, data, share, runs, patient, **options)

        monkeypatch.setattr(Workers, "begin", held)
        listen_for(TIMED, monkeypatch, lambda: seen.append("timed"))
        outcome = bench(*RUN, "--set", "architectures=[dlrm_mlp]", *workers)
    assert outcome.code == 0, outcome.err
    assert seen == ["released", "timed"]


def test_a_call_has_its_minutes_from_where_it_starts_its_clock_in_each_try(monkeypatch):
    killed: list[RayCall] = []
    monkeypatch.setattr(RayCall, "kill", lambda self: killed.append(self))
    call = RayCall(0, None, Silent(), Limits(minutes=1e-9))
    for event, ends in ((BEGAN, False), (TIMED, True), (BEGAN, False), (TIMED, True)):
        call.hear([WatcherCall(event, ())])
        time.sleep(1e-6)
        assert call.ends_by_time() == ends
    assert killed == 2 * [call]


def test_watchers_hear_of_the_run_that_trained_and_of_no_reference_or_run_that_was_finished_elsewhere(
    own,  # noqa: F811
    bench,  # noqa: F811
    unreported,  # noqa: F811
    workers,
    monkeypatch,
):
    needs("tensorboard")
    begin = Workers.begin

    def meanwhile(self, function, line, *more, **options):
        if PlannedRun.model_validate_json(line).spec.architecture == "own_models:Shallow":
            begin(self, function, line, *more, watcher=Silent(), limits=Limits()).result()
        return begin(self, function, line, *more, **options)

    monkeypatch.setattr(Workers, "begin", meanwhile)
    rows = ["--set", "architectures=[dlrm_mlp, own_models:Shallow]", "--set", "references=[logistic]"]
    outcome = bench(*RUN, *rows, *workers, "--watch", "tensorboard")
    assert outcome.code == 0, outcome.err
    out = own / "out/tiny"
    assert {name for name, _ in records_of(out)} == {"dlrm_mlp", "own_models:Shallow", "logistic"}
    [folder] = (out / "tensorboard").iterdir()
    assert folder.name.startswith("mine-dlrm_mlp-")
    assert "test/click/auc" in tensorboard_points(out, folder.name)


def test_tuning_makes_the_trials_asked_for_and_finds_what_it_finds_alone(own, bench, workers, monkeypatch):  # noqa: F811
    monkeypatch.setattr("suites.tuning.confirm.RATE_FACTORS", (1.0,))
    monkeypatch.setattr("suites.tuning.confirm.RESCORED_SEEDS", (1001, 1002))
    rows = ["--set", "architectures=[own_models:Shallow]", "--set", "base=null"]
    rows += ["--set", "references=false"]
    command = ["tune", "tiny.yaml", "--trials", "2", "--cache", "cache", *rows]
    written = []
    for more in (["--storage", "sqlite:///ray.db", *workers], ["--storage", "sqlite:///alone.db"]):
        outcome = bench(*command, *more)
        assert outcome.code == 0, outcome.err
        written.append(yaml.safe_load((own / "tuned/tiny-mine.yaml").read_text()))
    for key in ("fingerprint", "rows"):
        assert written[0][key] == written[1][key]
    for database in ("ray.db", "alone.db"):
        storage = f"sqlite:///{own}/{database}"
        names = [name for name in optuna.get_all_study_names(storage) if not name.endswith("/again")]
        assert [len(optuna.load_study(study_name=name, storage=storage).trials) for name in names] == [2]


# ------------------------------------------------------------------------------------- nodes and their data


def node(host: str, alive: bool = True, **resources: float) -> dict[str, Any]:
    return {"NodeManagerHostname": host, "Alive": alive, "Resources": resources}


@pytest.mark.parametrize(
    ("share", "rooms"),
    [
        (Share(), {"a": 12, "b": 4}),
        (Share(cpus=3), {"a": 3, "b": 1}),
        (Share(gpus=1), {"a": 2, "b": 0}),
        (Share(gpus=0.5), {"a": 4, "b": 0}),
        (Share(gigabytes=8), {"a": 5, "b": 1}),
    ],
)
def test_a_machine_has_room_for_what_the_scarcest_resource_of_each_node_allows(share, rooms):
    nodes = [
        node("a", CPU=8.0, GPU=2.0, memory=32e9),
        node("a", CPU=4.0, memory=15e9),
        node("b", CPU=4.0, memory=15e9),
        node("b", alive=False, CPU=64.0, GPU=8.0, memory=1e12),
    ]
    assert rooms_by_host(nodes, share) == rooms


def test_a_node_whose_raw_files_are_others_is_told_to_copy_the_folder(own):  # noqa: F811
    prepared = prepare_dataset("data/schema.yaml", {}, None, own / "cache")
    data = NodeData.of(prepared, Dataset(name="data/schema.yaml"), None)
    (own / "cache").rename(own / "elsewhere")
    log = own / "data/log.csv"
    log.write_text("\n".join(log.read_text().splitlines()[:1500]) + "\n")
    with pytest.raises(InputError, match=r"gives other data here .*; copy the folder"):
        data.opened()


# ------------------------------------------------------------------------------------------------ refusals


def test_without_ray_the_mend_is_said_and_nothing_is_begun(own, bench, monkeypatch):  # noqa: F811
    monkeypatch.setattr("harness.workers.ray_cluster.importlib.util.find_spec", lambda name: None)
    for command in (["run"], ["tune"]):
        outcome = bench(*command, "tiny.yaml", "--executor", "ray")
        check_refusal(outcome, ["Ray is not installed; pip install -c requirements/lock.txt -e '.[ray]'"])
    assert not (own / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--ray-address", "local"], ["--ray-address", "add --executor ray"]),
        (["--cpus-per-run", "2"], ["--cpus-per-run", "add --executor ray"]),
        (["--executor", "ray", "--jobs", "2"], ["leave --jobs 2 out", "--cpus-per-run"]),
        (
            ["--executor", "ray", "--gpus-per-run", "1", "--device", "cpu"],
            ["--gpus-per-run 1", "for the CPU"],
        ),
        (["--executor", "ray", "--ray-address", "somewhere"], ["--ray-address somewhere", "HOST:PORT"]),
        (
            ["--executor", "ray", "--ray-address", "localhost:1"],
            ["no Ray cluster answers"],
        ),
        (["--executor", "ray", "--plan", "jobs.jsonl"], ["--plan trains nothing: leave --executor out"]),
    ],
)
@pytest.mark.skipif(find_spec("ray") is None, reason="SKIPPED: Ray is not installed")
def test_what_does_not_go_together_is_refused_with_the_mend(own, bench, arguments, words):  # noqa: F811
    check_refusal(bench("run", "tiny.yaml", *arguments), words)
    assert not (own / "out").exists()


@pytest.mark.parametrize(
    ("world", "words"),
    [
        (World(0, 2, torch.device("cpu")), "torchrun's 2 processes .*; start without torchrun"),
        (World(0, 1, torch.device("cuda")), "the runs need a GPU; give --gpus-per-run 1"),
    ],
)
def test_runs_that_cannot_be_tasks_are_refused_with_the_mend(world, words):
    options = Options(Path("out"), Path("cache"), None, world.device)
    check_ray(options, world)
    with pytest.raises(InputError, match=words):
        check_ray(replace(options, ray=RayOptions()), world)
