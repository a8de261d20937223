"""What is lost when a worker, a node, the command or its store is killed.

By hand: a trial takes a minute or two.

    python -m tests.suites.ray_kills FOLDER TRIALS [worker|node|driver|interrupt|store ...]

Three nodes of one CPU each are made up on this machine (`ray.cluster_utils`). In each trial one command runs
three models, something is killed when all of them have a checkpoint, and the records of the end are compared
with those of an undisturbed ``run`` without Ray, bit for bit. A loss is a record that is missing or differs,
or a run that began anew. ``store``: the command's ``--out`` is on an S3 server, which is away until all runs
have ended; the same command is started again then.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from files.remote import Store, is_url
from files.remote_copy import local_path
from tests.forked import Forked, forked_command
from tests.s3 import BUCKET, Server
from tests.test_cli import own_folder, records_of

if TYPE_CHECKING:
    from ray.cluster_utils import Cluster

NODE: dict[str, Any] = {"num_cpus": 1, "object_store_memory": 80 * 2**20, "include_dashboard": False}
MEASURED = {"started_at", "finished_at", "training", "checksum", "environment"}
ROWS = "architectures=[dlrm_mlp, own_models:Base, own_models:Shallow]"
COMMAND = [
    "run",
    "tiny.yaml",
    "--cache",
    "cache",
    "--no-speed",
    "--seeds",
    "1",
    "--checkpoint-seconds",
    "0.5",
]
COMMAND += ["--set", ROWS, "--set", "references=false", "--set", "training.epochs=300"]
PATIENCE = 600
UNREPORTED = "import bench; bench.report = lambda *_, **__: None"


class Trial:
    """One command on the cluster, with an output folder of its own, which may be in the server's store."""

    def __init__(self, cluster: Cluster, server: Server, folder: Path, out: str) -> None:
        self.cluster, self.server, self.folder, self.out = cluster, server, folder, out
        self.here = folder / local_path(out)
        self.process = self.start()

    def start(self) -> Forked:
        where = ["--out", self.out, "--executor", "ray", "--ray-address", self.cluster.address]
        return forked_command(self.folder, *COMMAND, *where, before=UNREPORTED)

    def until_all_have_checkpoints(self) -> None:
        def all_have() -> bool:
            assert self.process.poll() is None, self.process.communicate()
            return len(list(self.here.glob("runs/*.partial/checkpoint.json"))) == 3

        until(all_have)

    def steps(self) -> dict[str, int]:
        """The step of each run's last checkpoint."""
        steps = {}
        for path in self.here.glob("runs/*.partial/checkpoint.json"):
            with contextlib.suppress(OSError, ValueError):  # the run ends at this moment
                steps[path.parent.name] = json.loads(path.read_text())["tag"]
        return steps

    def watch_to_the_end(self, before: dict[str, int]) -> list[str]:
        """Runs whose next checkpoint is from an earlier step, which began anew."""
        anew = set()
        while self.process.poll() is None:
            anew |= {run for run, step in self.steps().items() if step < before.get(run, 0)}
            time.sleep(0.05)
        return sorted(anew)


def until(has_come: Callable[[], bool]) -> float:
    """Wait; returns how many seconds."""
    began = time.monotonic()
    while not has_come():
        assert time.monotonic() - began < PATIENCE
        time.sleep(0.05)
    return time.monotonic() - began


def runs_at_work() -> list[psutil.Process]:
    """Processes that carry out a run, of this script's own nodes."""
    children = psutil.Process().children(recursive=True)
    found = []
    for process in children:
        with contextlib.suppress(psutil.Error):  # it ends at this moment
            if "make_call" in " ".join(process.cmdline()):
                found.append(process)
    return found


def kill_worker(trial: Trial) -> None:
    random.choice(runs_at_work()).kill()


def kill_node(trial: Trial) -> None:
    node = random.choice(sorted(trial.cluster.worker_nodes, key=lambda node: node.node_id))
    trial.cluster.remove_node(node, allow_graceful=False)
    trial.cluster.add_node(**NODE)


def kill_driver(trial: Trial) -> None:
    trial.process.kill()
    trial.process.wait()
    print(f"  its runs ended after {until(lambda: not runs_at_work()):.1f} s", flush=True)
    trial.process = trial.start()


def interrupt(trial: Trial) -> None:
    trial.process.send_signal(signal.SIGINT)
    _, stderr = trial.process.communicate()
    assert trial.process.returncode == 130, stderr
    print(f"  its runs ended after {until(lambda: not runs_at_work()):.1f} s", flush=True)
    trial.process = trial.start()


def kill_store(trial: Trial) -> None:
    """Away from here to the end of all runs, and of the command if that ends, too."""
    trial.server.go_away()
    until(lambda: not runs_at_work() or trial.process.poll() is not None)
    trial.server.come_back()
    code = trial.process.wait(PATIENCE)
    print(f"  the command's exit code without the store: {code}", flush=True)
    if code:
        trial.process = trial.start()


KINDS = {
    "worker": kill_worker,
    "node": kill_node,
    "driver": kill_driver,
    "interrupt": interrupt,
    "store": kill_store,
}


def records_at_the_end(trial: Trial) -> Path:
    """Where the records are: in the store, if they belong there, whatever the copy here has."""
    if not is_url(trial.out):
        return trial.here
    there, store = trial.folder / "fetched" / trial.here.name, Store(trial.out)
    store.fetch({name: there / name for name in store.listing("runs")})
    return there


def found(out: Path) -> dict[tuple[str, int], dict]:
    records = records_of(out)
    return {run: {k: v for k, v in record.items() if k not in MEASURED} for run, record in records.items()}


def main(folder: Path, trials: int, kinds: list[str]) -> None:
    from ray.cluster_utils import Cluster  # late, since pytest imports this file where Ray is missing, too

    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0"}
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    own_folder(folder)
    undisturbed = forked_command(folder, *COMMAND, "--out", "out/alone", before=UNREPORTED)
    _, stderr = undisturbed.communicate(PATIENCE)
    assert undisturbed.returncode == 0, stderr
    expected = found(folder / "out/alone")
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # which tells of every request
    server = Server()
    os.environ |= server.environment()
    cluster = Cluster(initialize_head=True, head_node_args=NODE)
    for _ in range(2):
        cluster.add_node(**NODE)
    losses = dict.fromkeys(kinds, 0)
    for number in range(trials):
        for kind in kinds:
            out = f"s3://{BUCKET}/{number}" if kind == "store" else f"out/{kind}-{number}"
            trial = Trial(cluster, server, folder, out)
            trial.until_all_have_checkpoints()
            before = trial.steps()
            KINDS[kind](trial)
            anew = trial.watch_to_the_end(before)
            _, stderr = trial.process.communicate(PATIENCE)
            records = found(records_at_the_end(trial))
            lost = [run for run, record in expected.items() if records.get(run) != record]
            if lost or anew or trial.process.returncode:
                print(stderr, flush=True)
            losses[kind] += len(lost) + len(anew)
            code = trial.process.returncode
            print(f"{kind} {number}: exit code {code}, lost {lost}, began anew {anew}", flush=True)
    cluster.shutdown()
    server.go_away()
    for kind, lost_runs in losses.items():
        print(f"{kind}: {trials} trials, {lost_runs} losses of {trials * len(expected)} runs")


if __name__ == "__main__":
    main(Path(sys.argv[1]).absolute(), int(sys.argv[2]), sys.argv[3:] or list(KINDS))
