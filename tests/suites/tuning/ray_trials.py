"""Tuning on a cluster that loses a node: whether each study has exactly the trials asked for. By hand.

    python -m tests.suites.tuning.ray_trials FOLDER TRIALS

Three nodes of one CPU each are made up on this machine (`ray.cluster_utils`); one is killed when a third of
the trials have ended. The exit code is 1 where a study has other than TRIALS trials that ended, or were given
up early, as hopeless ones are.
"""

from __future__ import annotations

import os
import random
import sys
from collections import Counter
from pathlib import Path

import optuna

from tests.forked import forked_command
from tests.suites.ray_kills import NODE, PATIENCE, until
from tests.test_cli import own_folder

ROWS = ["--set", "architectures=[dlrm_mlp, own_models:Base, own_models:Shallow]", "--set", "references=false"]


def states(storage: str) -> dict[str, Counter[str]]:
    """How many trials of each study are in each state, without those of other seeds at the end."""
    found = {}
    for name in optuna.get_all_study_names(storage):
        if not name.endswith("/again"):
            trials = optuna.load_study(study_name=name, storage=storage).trials
            found[name] = Counter(trial.state.name for trial in trials)
    return found


def main(folder: Path, trials: int) -> int:
    from ray.cluster_utils import Cluster  # late, since it may be missing

    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0"}
    folder.mkdir(parents=True)
    own_folder(folder)
    cluster = Cluster(initialize_head=True, head_node_args=NODE)
    for _ in range(2):
        cluster.add_node(**NODE)
    storage = f"sqlite:///{folder}/trials.db"
    command = ["tune", "tiny.yaml", "--trials", str(trials), "--cache", "cache", *ROWS]
    command += ["--storage", storage, "--executor", "ray", "--ray-address", cluster.address]
    process = forked_command(folder, *command)

    def a_third_has_ended() -> bool:
        assert process.poll() is None, process.communicate()
        known = (folder / "trials.db").is_file()
        return known and sum(of_study["COMPLETE"] for of_study in states(storage).values()) >= trials

    until(a_third_has_ended)
    node = random.choice(sorted(cluster.worker_nodes, key=lambda node: node.node_id))
    cluster.remove_node(node, allow_graceful=False)
    print("a node was killed:", states(storage), flush=True)
    _, stderr = process.communicate(PATIENCE)
    cluster.shutdown()
    at_the_end = states(storage)
    print(f"exit code {process.returncode}:", at_the_end)
    if process.returncode:
        print(stderr)
    exact = all(
        of_study.total() == of_study["COMPLETE"] + of_study["PRUNED"] == trials
        for of_study in at_the_end.values()
    )
    return 0 if exact and len(at_the_end) == 3 and not process.returncode else 1


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]).absolute(), int(sys.argv[2])))
