"""A killed run goes on from its checkpoint and ends in the same bits."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from harness import train
from harness.checkpoint import POINTER_FILE
from harness.runs import RunFolder
from tests.harness.runs import carry_out, small_spec

SCRIPT = """
    import sys, time
    from pathlib import Path
    import harness.train
    from datasets.prepared import open_prepared
    from tests.harness.runs import carry_out, small_spec

    look = harness.train._look
    def stuck_look(losses, samples, seconds, loop, progress):
        if progress.step >= {stuck_at}:
            time.sleep(600)
        look(losses, samples, seconds, loop, progress)
    harness.train._look = stuck_look
    prepared = open_prepared(Path(sys.argv[1]))
    spec = small_spec(prepared, **{training!r}).model_copy(update={{"target_attention": {attention}}})
    carry_out(spec, prepared, Path(sys.argv[2]), checkpoint_seconds=0.0)
"""
STUCK_AT = 110
RECIPES = {
    "adam, two epochs": {},
    "target attention": {"validations_per_epoch": 0},
    "row-wise adagrad, rmsprop, warm-up": {
        "sparse_optimizer": "rowwise_adagrad",
        "dense_optimizer": "rmsprop",
        "warmup_steps": 90,
    },
    "dropout, embedding regularisation": {"dropout": 0.3, "embedding_l2": 1e-3},
    "early stopping": {"epochs": 4, "patience": 4, "validations_per_epoch": 3, "sparse_lr": 0.2},
}


def outcome(record: dict) -> dict:
    return {key: record[key] for key in ("status", "metrics", "validation", "curve", "spec_hash", "cost")}


@pytest.mark.parametrize("training", RECIPES.values(), ids=RECIPES.keys())
def test_a_run_killed_in_the_middle_ends_as_an_undisturbed_one(training, prepared, tmp_path):
    attention = training == RECIPES["target attention"]
    spec = small_spec(prepared, **training).model_copy(update={"target_attention": attention})
    undisturbed = json.loads(json.dumps(carry_out(spec, prepared, tmp_path / "calm")))
    killed = RunFolder(tmp_path / "killed", spec.folder_name)
    process = subprocess.Popen(
        [
            sys.executable,
            "-c",
            textwrap.dedent(SCRIPT.format(training=training, attention=attention, stuck_at=STUCK_AT)),
            prepared.path,
            tmp_path / "killed",
        ]
    )
    wait_for_checkpoint(killed.partial, STUCK_AT, process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not killed.is_finished
    assert checkpoint_tag(killed.partial) >= STUCK_AT

    resumed = json.loads(json.dumps(carry_out(spec, prepared, tmp_path / "killed")))
    assert outcome(resumed) == outcome(undisturbed)
    calm = RunFolder(tmp_path / "calm", spec.folder_name)
    same = "predictions.parquet"
    assert (killed.final / same).read_bytes() == (calm.final / same).read_bytes()
    assert {file.name for file in killed.final.iterdir()} == {"record.json", "predictions.parquet"}


def checkpoint_tag(folder: Path) -> int:
    pointer = folder / POINTER_FILE
    return json.loads(pointer.read_text())["tag"] if pointer.is_file() else -1


def wait_for_checkpoint(folder: Path, tag_at_least: int, process: subprocess.Popen) -> None:
    for _ in range(9000):
        if checkpoint_tag(folder) >= tag_at_least:
            return
        assert process.poll() is None, "the run ended before it could be killed"
        time.sleep(0.02)
    raise AssertionError("no checkpoint appeared")


def test_epochs_shorter_than_the_interval_are_saved_all_the_same(prepared, tmp_path, monkeypatch):
    saved, clock = [], iter(range(10_000))
    monkeypatch.setattr(train.time, "monotonic", lambda: float(next(clock)))  # a second a look, four an epoch
    monkeypatch.setattr(train.checkpoint, "save", lambda folder, tag, *rest: saved.append(tag))
    carry_out(small_spec(prepared, epochs=4), prepared, tmp_path, checkpoint_seconds=6.5)
    assert len(saved) >= 2
