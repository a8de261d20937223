"""A killed run goes on from its checkpoint and ends in the same bits."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from datasets.errors import InputError
from harness import checkpoint, train
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


@pytest.mark.parametrize("damage", [lambda part: part.unlink(), lambda part: part.write_bytes(bytes(100))])
def test_a_damaged_checkpoint_is_named_with_the_mend(prepared, tmp_path, monkeypatch, damage):
    spec = small_spec(prepared)
    folder = RunFolder(tmp_path, spec.folder_name).partial
    with monkeypatch.context() as patched:
        patched.setattr(train, "_validate", interrupt)
        with pytest.raises(KeyboardInterrupt):
            carry_out(spec, prepared, tmp_path, checkpoint_seconds=0.0)
    [part] = folder.glob("checkpoint-*.pt")
    damage(part)
    with pytest.raises(InputError) as error:
        carry_out(spec, prepared, tmp_path)
    assert str(error.value).startswith(f"{part}: the checkpoint cannot be read (")
    assert f"delete {folder} and run the same command again" in str(error.value)


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def test_a_checkpoint_is_on_disk_before_it_is_pointed_to(prepared, tmp_path, monkeypatch):
    order, flush, point = [], os.fsync, checkpoint.write_atomically
    monkeypatch.setattr(
        checkpoint.os,
        "fsync",
        lambda handle: (order.append(os.readlink(f"/proc/self/fd/{handle}")), flush(handle)),
    )
    monkeypatch.setattr(
        checkpoint, "write_atomically", lambda path, content: (order.append(path.name), point(path, content))
    )
    carry_out(small_spec(prepared, epochs=1), prepared, tmp_path, checkpoint_seconds=0.0)
    parts = [number for number, name in enumerate(order) if name.endswith(".pt")]
    assert len(parts) > 1
    for number in parts:
        assert order[number + 1] == POINTER_FILE
