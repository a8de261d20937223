"""One suite by each executor: whether the records are the same to the last bit, and how long it takes.

    python -m tests.suites.executors_alike FOLDER SUITE [OPTIONS OF run ...]

By hand, since it takes an hour. `run SUITE` is carried out one run after another, two at once, by Ray, and by
Ray on three nodes of one CPU each made up on this machine (`ray.cluster_utils`), one of which is killed when
half of the records are there. Each run has one thread. What differs is named, and the exit code is then 1.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.forked import SCRIPT
from tests.suites.ray_kills import MEASURED, NODE

RAY = ["--executor", "ray", "--cpus-per-run", "1", "--ray-address"]
LOOK_SECONDS = 0.5


def carried_out(
    folder: Path, out: str, command: Sequence[str], meanwhile: Callable[[Path], None] = lambda out: None
) -> tuple[dict[str, dict], float]:
    """The records of a command by run, without what is measured, and its seconds."""
    began = time.monotonic()
    with (folder / f"{out}.log").open("w", encoding="utf-8") as log:
        process = subprocess.Popen(
            [sys.executable, str(SCRIPT), *command, "--out", out], cwd=folder, stdout=log, stderr=log
        )
        while process.poll() is None:
            meanwhile(folder / out)
            time.sleep(LOOK_SECONDS)
    took = time.monotonic() - began
    if process.returncode:
        raise SystemExit(f"{out}: exit code {process.returncode}, see {folder / out}.log")
    records = {path.parent.name: json.loads(path.read_text()) for path in records_in(folder / out)}
    return {
        run: {k: v for k, v in found.items() if k not in MEASURED} for run, found in records.items()
    }, took


def records_in(out: Path) -> list[Path]:
    return sorted(out.glob("runs/*/record.json"))


@contextmanager
def three_nodes(runs: int) -> Iterator[tuple[str, Callable[[Path], None]]]:
    """The cluster's address, and what loses a node once when half of the records are there."""
    from ray.cluster_utils import Cluster  # late, since it may be missing

    cluster = Cluster(initialize_head=True, head_node_args=NODE)
    for _ in range(2):
        cluster.add_node(**NODE)

    def lose_a_node(out: Path) -> None:
        if len(cluster.worker_nodes) == 2 and 2 * len(records_in(out)) >= runs:
            node = random.choice(sorted(cluster.worker_nodes, key=lambda node: node.node_id))
            cluster.remove_node(node, allow_graceful=False)
            print(f"a node was killed after {len(records_in(out))} of {runs} records", flush=True)

    yield cluster.address, lose_a_node
    cluster.shutdown()


def main(folder: Path, suite: list[str]) -> int:
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0", "OMP_NUM_THREADS": "1"}
    folder.mkdir(parents=True, exist_ok=True)
    command = ["run", *suite, "--no-speed", "--cache", "cache"]
    carried_out(folder, "planned", [*command, "--plan", "plan.jsonl"])  # prepares the data for all
    expected, took = carried_out(folder, "alone", command)
    print(f"one after another: {len(expected)} records, {took:.0f} s", flush=True)

    differing = []

    def compared(out: str, records: dict[str, dict], took: float) -> None:
        other = sorted(run for run in expected | records if expected.get(run) != records.get(run))
        same = f"{len(expected) - len(other)} of {len(expected)} records the same to the last bit"
        print(f"{out}: {same}, {took:.0f} s", *other, flush=True)
        differing.extend(other)

    compared("jobs-2", *carried_out(folder, "jobs-2", [*command, "--jobs", "2"]))
    compared("ray", *carried_out(folder, "ray", [*command, *RAY, "local"]))
    with three_nodes(len(expected)) as (address, lose_a_node):
        compared("nodes", *carried_out(folder, "nodes", [*command, *RAY, address], lose_a_node))
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]).absolute(), sys.argv[2:]))
