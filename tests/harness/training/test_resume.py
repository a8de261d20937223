"""A killed run goes on from its checkpoint and ends in the same bits."""

from __future__ import annotations

import errno
import json
import os
import sys
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from files.checksums import sealed, sha256_of
from files.errors import InputError
from harness.records.folder import RunFolder
from harness.runs.run import build_model
from harness.training import checkpoint, ranks
from harness.training import loop as train
from harness.training.checkpoint import BEFORE_FILE, POINTER_FILE
from harness.training.progress import Silent
from harness.training.step import dense_optimizer
from harness.workers.isolation import BrokenCallError, in_worker
from tests.forked import ROOT, Forked
from tests.harness import calls
from tests.harness.small_runs import ONE_PROCESS, carry_out, small_spec

BATCH_SIZE = 160  # 30 steps an epoch
KILLED_AT = 45  # in the second epoch
RECIPES = {
    "adam, two epochs": {},
    "target attention": {"validations_per_epoch": 0},
    "row-wise adagrad, rmsprop, warm-up": {
        "sparse_optimizer": "rowwise_adagrad",
        "dense_optimizer": "rmsprop",
        "warmup_steps": 36,
    },
    "dropout, embedding regularisation": {"dropout": 0.3, "embedding_l2": 1e-3},
    "scored on the way, cosine": {
        "progress": [2000, 6000],
        "score_ahead": 4,
        "schedule": "cosine",
        "order": "time",
    },
    "published: whole tables, plateaus, batch norm": {
        "sparse_optimizer": "adam",
        "sparse_lr": 1e-3,
        "table_l2": 1e-3,
        "clip_norm": 0.5,
        "embedding_std": 0.01,
        "dense_init": "xavier_normal",
        "order": "whole",
        "epochs": 3,
        "validations_per_epoch": 3,
        "schedule": "plateau",
        "least_lr": 1e-6,
        "select_metric": "auc-logloss",
        "restore_best": True,
    },
    "sgd, plateaus of fused tables": {
        "sparse_optimizer": "sgd",
        "sparse_lr": 0.5,
        "validations_per_epoch": 5,
        "schedule": "plateau",
        "plateau_factor": 0.5,
        "select_metric": "auc+gauc",
        "dense_lr": 0.02,
    },
    "adagrad on whole tables": {"table_l2": 1e-2},
    "early stopping": {"epochs": 4, "patience": 4, "validations_per_epoch": 3, "sparse_lr": 0.2},
}


def spec_of(prepared, recipe="adam, two epochs"):
    spec = small_spec(prepared, batch_size=BATCH_SIZE, **RECIPES[recipe])
    config = {"hidden_dims": [32, 24], "batch_norm": True, "dropout": 0.1} if "batch norm" in recipe else None
    return spec.model_copy(
        update={"target_attention": recipe == "target attention", "config": config or spec.config}
    )


def outcome(record: dict) -> dict:
    keys = ("status", "metrics", "validation", "tested", "ahead", "curve", "spec_hash", "cost")
    return {key: record.get(key) for key in keys}


@pytest.fixture(scope="module")
def calm(prepared, tmp_path_factory):
    """Gives a recipe's undisturbed run, which is trained once: its record and its folder."""
    out = tmp_path_factory.mktemp("calm")

    @cache
    def run(recipe="adam, two epochs"):
        spec = spec_of(prepared, recipe)
        record = json.loads(json.dumps(carry_out(spec, prepared, out)))
        return record, RunFolder(out, spec.folder_name)

    return run


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_run_killed_in_the_middle_ends_as_an_undisturbed_one(recipe, prepared, calm, tmp_path, server):
    spec = spec_of(prepared, recipe)
    undisturbed, folder = calm(recipe)
    killed = RunFolder(tmp_path / "killed", spec.folder_name)
    with pytest.raises(BrokenCallError, match=r"killed \(SIGKILL"):
        in_worker(calls.train_until_killed, spec, prepared, tmp_path / "killed", KILLED_AT)
    assert not killed.is_finished
    assert checkpoint_tag(killed.partial) >= KILLED_AT

    resumed = json.loads(json.dumps(carry_out(spec, prepared, tmp_path / "killed")))
    assert outcome(resumed) == outcome(undisturbed)
    same = "predictions.parquet"
    assert (killed.final / same).read_bytes() == (folder.final / same).read_bytes()
    assert {file.name for file in killed.final.iterdir()} == {"record.json", "predictions.parquet"}


def checkpoint_tag(folder: Path) -> int:
    pointer = folder / POINTER_FILE
    return json.loads(pointer.read_text())["tag"] if pointer.is_file() else -1


def test_epochs_shorter_than_the_interval_are_saved_all_the_same(prepared, tmp_path, monkeypatch):
    saved, clock = [], iter(range(10_000))
    monkeypatch.setattr(train.time, "monotonic", lambda: float(next(clock)))  # a second a look, four an epoch
    monkeypatch.setattr(train.checkpoint, "save", lambda folder, tag, *rest: saved.append(tag))
    carry_out(small_spec(prepared, epochs=8), prepared, tmp_path, checkpoint_seconds=6.5)
    assert len(saved) >= 2


@pytest.mark.parametrize(("asked", "between"), [(0.0, 1), (3.0, 51), (80.0, 81)])
def test_the_next_checkpoint_comes_no_sooner_than_ten_times_what_one_took(
    prepared, tmp_path, monkeypatch, asked, between
):
    """A stretch takes a second, a checkpoint five."""
    clock, saved = [0.0], []

    def stretch(self, batches, end, timed):
        clock[0] += 1
        self.progress.batch = end

    def save(*_):
        saved.append(clock[0])
        clock[0] += 5

    monkeypatch.setattr(train.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(train.checkpoint, "save", save)
    monkeypatch.setattr(train.Trainer, "_stretch", stretch)
    data = train.RankBatches(small_spec(prepared, epochs=100, validations_per_epoch=0), prepared, ONE_PROCESS)
    model = build_model(data.spec, prepared, ONE_PROCESS)
    train.Trainer(model, data, tmp_path, Silent(), asked).train()
    gaps = {later - earlier - 5 for earlier, later in pairwise(saved)}
    assert gaps == {between}


class Notes(Silent):
    def __init__(self) -> None:
        self.told: list[str] = []

    def note(self, text: str) -> None:
        self.told.append(text)


def interrupted(spec, prepared, out, monkeypatch, after=4):
    """The folder of a run that was stopped at its ``after``-th look, with a checkpoint at every look."""
    calls, original = [], train.Trainer._look

    def stop(*arguments):
        calls.append(1)
        if len(calls) == after:
            raise KeyboardInterrupt
        return original(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(train.Trainer, "_look", stop)
        with pytest.raises(KeyboardInterrupt):
            carry_out(spec, prepared, out, checkpoint_seconds=0.0)
    return RunFolder(out, spec.folder_name).partial


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x40
    path.write_bytes(content)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


DAMAGES = {
    "a bit": flip_a_bit,
    "truncated": truncate,
    "deleted": Path.unlink,
    "empty": lambda p: p.write_text(""),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
@pytest.mark.parametrize("file", ["part", "checkpoint.json"])
def test_a_run_goes_on_from_the_checkpoint_before_a_damaged_one(
    prepared, tmp_path, monkeypatch, calm, file, damage
):
    spec = spec_of(prepared)
    folder = interrupted(spec, prepared, tmp_path, monkeypatch)
    latest = checkpoint_tag(folder)
    before = json.loads((folder / BEFORE_FILE).read_text())["tag"]
    damaged = folder / (f"checkpoint-{latest}-0.pt" if file == "part" else file)
    damage(damaged)
    started, notes = [], Notes()
    notes.start = lambda spec, samples, total: started.append(samples)
    resumed = carry_out(spec, prepared, tmp_path, checkpoint_seconds=0.0, watcher=notes)
    assert outcome(json.loads(json.dumps(resumed))) == outcome(calm()[0])
    [note] = notes.told
    assert before < latest
    assert started == [before * BATCH_SIZE]
    assert note.startswith(str(damaged))
    assert note.endswith(f": going on from step {before}")


def test_a_run_without_a_whole_checkpoint_says_so_and_begins_anew(prepared, tmp_path, monkeypatch, calm):
    spec = spec_of(prepared)
    folder = interrupted(spec, prepared, tmp_path, monkeypatch)
    parts = sorted(folder.glob("checkpoint-*.pt"))
    assert len(parts) == 2
    for part in parts:
        flip_a_bit(part)
    started, notes = [], Notes()
    notes.start = lambda spec, samples, total: started.append(samples)
    resumed = carry_out(spec, prepared, tmp_path, watcher=notes)
    assert outcome(json.loads(json.dumps(resumed))) == outcome(calm()[0])
    [note] = notes.told
    assert all(str(part) in note for part in parts)
    assert note.endswith("no checkpoint is whole, and the run begins anew")
    assert started == [0]


@pytest.mark.parametrize(
    "content",
    [
        "null",
        "[]",
        "{}",
        '{"tag": "20", "ranks": 1}',
        '{"tag": 20, "ranks": 1, "sha256": [7]}',
        "[" * 100_000,
    ],
)
def test_a_pointer_of_another_shape_is_as_good_as_none(prepared, tmp_path, monkeypatch, content):
    spec = spec_of(prepared)
    folder = interrupted(spec, prepared, tmp_path, monkeypatch, after=3)
    (folder / POINTER_FILE).write_text(content)
    model, optimizer = made(spec, prepared)
    notes = Notes()
    loaded = checkpoint.load(folder, ONE_PROCESS, model, optimizer, notes.note)
    assert loaded is not None
    assert loaded["step"] == 20
    assert notes.told[0].startswith(f"{folder / POINTER_FILE} cannot be read (")


def made(spec, prepared):
    model = build_model(spec, prepared, ONE_PROCESS)
    return model, dense_optimizer(model, spec.training)


@pytest.mark.parametrize("lacks", ["sha256", "places"])
def test_a_run_with_a_checkpoint_of_an_earlier_version_begins_anew_and_says_so(
    prepared, tmp_path, monkeypatch, calm, lacks
):
    spec = spec_of(prepared)
    folder = interrupted(spec, prepared, tmp_path, monkeypatch)
    (folder / BEFORE_FILE).unlink()
    pointer = json.loads((folder / POINTER_FILE).read_text())
    del pointer["checksum"]
    part = folder / f"checkpoint-{pointer['tag']}-0.pt"
    if lacks == "places":
        content = torch.load(part, weights_only=True)
        del content["places"]
        torch.save(content, part)
        pointer["sha256"] = [sha256_of(part)]
    else:
        del pointer["sha256"]
    (folder / POINTER_FILE).write_text(json.dumps(sealed(pointer)))
    notes = Notes()
    resumed = carry_out(spec, prepared, tmp_path, watcher=notes)
    [note] = notes.told
    where = part if lacks == "places" else folder / POINTER_FILE
    assert note.startswith(str(where))
    assert note.endswith("no checkpoint is whole, and the run begins anew")
    assert outcome(json.loads(json.dumps(resumed))) == outcome(calm()[0])


def test_a_kill_between_the_best_weights_and_the_checkpoint_mixes_no_states(
    prepared, calm, tmp_path, monkeypatch
):
    """The best weights of the checkpoint gone on from are there, whatever was validated after it."""
    spec = spec_of(prepared, "early stopping")
    undisturbed, _ = calm("early stopping")
    scores = [
        np.mean([task["auc"] for task in point["metrics"].values()]) for point in undisturbed["validation"]
    ]
    rises = [place for place in range(1, len(scores)) if scores[place] > max(scores[:place])]
    assert len(rises) > 1
    for rise in rises[:2]:
        out = tmp_path / f"killed-{rise}"
        with monkeypatch.context() as patched:
            kept = []
            save_best = checkpoint.save_best

            def then_stop(folder, tag, *rest, kept=kept, rise=rise, save_best=save_best):
                best = save_best(folder, tag, *rest)
                kept.append(tag)
                if tag == undisturbed["validation"][rise]["step"]:
                    raise KeyboardInterrupt
                return best

            patched.setattr(checkpoint, "save_best", then_stop)
            with pytest.raises(KeyboardInterrupt):
                carry_out(spec, prepared, out, checkpoint_seconds=0.0)
        folder = RunFolder(out, spec.folder_name).partial
        pointed = json.loads((folder / POINTER_FILE).read_text())["best"]
        assert pointed == kept[-2]  # not those of the kill
        assert {f"best-{tag}-0.pt" for tag in kept[-2:]} <= {path.name for path in folder.iterdir()}
        resumed = json.loads(json.dumps(carry_out(spec, prepared, out)))
        assert outcome(resumed) == outcome(undisturbed)


@pytest.mark.parametrize("checkpoint_seconds", [1e9, 0.0])
def test_of_best_weights_only_those_stay_that_a_checkpoint_or_the_run_needs(
    prepared, tmp_path, monkeypatch, checkpoint_seconds
):
    """The latest, and those of the checkpoints on disk; without any, as in a trial, the latest alone."""
    spec = small_spec(prepared, batch_size=BATCH_SIZE, epochs=2, patience=20, validations_per_epoch=10)
    folder, kept, found = RunFolder(tmp_path, spec.folder_name).partial, [], []
    save_best = checkpoint.save_best

    def then_look(folder, tag, *rest):
        best = save_best(folder, tag, *rest)
        pointers = [folder / name for name in (POINTER_FILE, BEFORE_FILE)]
        pointed = {json.loads(path.read_text())["best"] for path in pointers if path.is_file()} - {None}
        kept.append({f"best-{step}-0.pt" for step in pointed | {tag}})
        found.append({path.name for path in folder.glob("best-*.pt")})
        return best

    monkeypatch.setattr(checkpoint, "save_best", then_look)
    carry_out(spec, prepared, tmp_path, checkpoint_seconds=checkpoint_seconds)
    assert len(found) > 5
    assert found == kept
    assert max(map(len, found)) == (1 if checkpoint_seconds else 3)
    assert not folder.exists()


def test_damaged_best_weights_are_found_before_they_are_needed(prepared, calm, tmp_path, monkeypatch):
    spec = spec_of(prepared, "early stopping")
    undisturbed, _ = calm("early stopping")
    folder = interrupted(spec, prepared, tmp_path / "killed", monkeypatch, after=9)
    damaged = sorted(folder.glob("best-*.pt"))
    for path in damaged:
        flip_a_bit(path)
    notes = Notes()
    resumed = json.loads(json.dumps(carry_out(spec, prepared, tmp_path / "killed", watcher=notes)))
    assert outcome(resumed) == outcome(undisturbed)
    assert str(damaged[0]) in notes.told[0]


def test_best_weights_that_are_damaged_at_the_end_are_named_with_the_mend(prepared, tmp_path):
    model, _ = made(small_spec(prepared), prepared)
    best = checkpoint.save_best(tmp_path, 20, ONE_PROCESS, model)
    checkpoint.load_best(tmp_path, ONE_PROCESS, model, best)
    flip_a_bit(tmp_path / "best-20-0.pt")
    with pytest.raises(InputError, match=r"best-20-0\.pt was damaged .*run the same command again"):
        checkpoint.load_best(tmp_path, ONE_PROCESS, model, best)


def test_ranks_wait_patiently_for_one_that_writes_or_reads_much(prepared, tmp_path, monkeypatch):
    """Whatever follows a file, written or read or checked, is the patient group's, not that of the steps."""
    events, patient = [], object()

    def recorded(name, event):
        original = getattr(checkpoint, name)
        monkeypatch.setattr(checkpoint, name, lambda *given: (events.append(event), original(*given))[1])

    def gather(boxes, value, group=None):
        events.append(group)
        boxes[:] = [value, value]

    for name in ("_save", "_load", "_check", "copy_all"):
        recorded(name, "file")
    monkeypatch.setattr(ranks.dist, "all_gather_object", gather)
    monkeypatch.setattr(ranks.dist, "barrier", events.append)
    monkeypatch.setattr(ranks.dist, "broadcast_object_list", lambda box, src, group: events.append(group))
    spec, world = spec_of(prepared), ranks.World(0, 2, ONE_PROCESS.device, patient)
    model, optimizer = made(spec, prepared)
    best = checkpoint.save_best(tmp_path, 10, world, model)
    progress = {"best_weights": best}
    checkpoint.save(tmp_path, 20, world, 2, model, optimizer, progress)
    loaded = checkpoint.load(tmp_path, world, model, optimizer, Notes().note)
    assert loaded == progress
    checkpoint.load_best(tmp_path, world, model, best)
    after_files = [later for event, later in pairwise(events) if event == "file" != later]
    assert events[-1] is patient
    assert len(after_files) == 6  # save_best, save, load's check, its reading and its end, load_best
    assert all(group is patient for group in after_files)


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


@pytest.mark.parametrize("file", ["part", POINTER_FILE, BEFORE_FILE])
def test_what_the_system_cannot_read_now_is_left_as_it_is(prepared, tmp_path, monkeypatch, calm, file):
    """As after an error of a network disk: the run ends, and the next start goes on from the same step."""
    spec = spec_of(prepared)
    folder = interrupted(spec, prepared, tmp_path, monkeypatch)
    latest = checkpoint_tag(folder)
    unread = folder / (f"checkpoint-{latest}-0.pt" if file == "part" else file)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    opened = Path.open

    def stale(path, *arguments, **options):
        if path == unread:
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), str(path))
        return opened(path, *arguments, **options)

    notes = Notes()
    with monkeypatch.context() as patched:
        patched.setattr(Path, "open", stale)
        with pytest.raises(OSError, match=f"Stale file handle: .*{unread.name}"):
            carry_out(spec, prepared, tmp_path, watcher=notes)
    assert notes.told == []
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    started = []
    notes.start = lambda spec, samples, total: started.append(samples)
    resumed = carry_out(spec, prepared, tmp_path, watcher=notes)
    assert started == [latest * BATCH_SIZE]
    assert outcome(json.loads(json.dumps(resumed))) == outcome(calm()[0])


def test_memory_that_does_not_suffice_is_no_damage(tmp_path, monkeypatch):
    path = tmp_path / "checkpoint-1-0.pt"
    torch.save({"weights": torch.ones(1000)}, path)

    def no_memory(*_, **__):
        raise RuntimeError("unable to mmap 4000 bytes from file <x>: Cannot allocate memory (12)")

    monkeypatch.setattr(checkpoint.torch, "load", no_memory)
    with pytest.raises(MemoryError, match=r"checkpoint-1-0\.pt cannot be read .*unable to mmap"):
        checkpoint._load(path)


LIMITED = """
import resource, sys
from pathlib import Path
from harness.training import checkpoint, ranks

[data] = [line.split()[1] for line in open("/proc/self/status") if line.startswith("VmData")]
most = 1024 * int(data) + 20 * 2**20
resource.setrlimit(resource.RLIMIT_DATA, (most, most))
print(checkpoint._load(Path(sys.argv[1]))["weights"].sum().item())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="SKIPPED: no limit of a process's data")
def test_a_checkpoint_that_is_read_does_not_count_as_data_of_the_process(tmp_path):
    """One of 100 MB within a limit of 20 MB more than there were."""
    path = tmp_path / "checkpoint-1-0.pt"
    torch.save({"weights": torch.ones(25 * 2**20)}, path)
    process = Forked(LIMITED, ROOT, "limited", path)
    said, problem = process.communicate()
    assert process.returncode == 0, problem
    assert float(said) == 25 * 2**20


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="SKIPPED: the system does not list maps")
def test_a_checkpoint_is_mapped_while_it_is_read_and_no_longer(prepared, tmp_path, monkeypatch):
    """Neither is it held in memory beside the model, nor is the file changed by the steps that follow."""
    spec = spec_of(prepared, "published: whole tables, plateaus, batch norm")
    folder = interrupted(spec, prepared, tmp_path, monkeypatch)
    part = folder / f"checkpoint-{checkpoint_tag(folder)}-0.pt"
    before = part.read_bytes()
    content = checkpoint._load(part)
    assert str(part) in Path("/proc/self/maps").read_text()
    del content
    data = train.RankBatches(spec, prepared, ONE_PROCESS)
    model = build_model(spec, prepared, ONE_PROCESS)
    trainer = train.Trainer(model, data, folder, Silent(), 1e9)
    trainer.train()
    assert str(part) not in Path("/proc/self/maps").read_text()
    assert part.read_bytes() == before
