"""Specs hash all they hold; records are whole or absent; locks keep two processes apart."""

from __future__ import annotations

import hashlib
import json
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
from pydantic import ValidationError

from files.errors import InputError
from harness.evaluation.predictions import read_predictions
from harness.records.archive import unpack
from harness.records.folder import RunFolder
from harness.records.record import Record
from harness.records.spec import RunSpec, Training
from harness.runs.run import build_dense_side
from harness.training.batches import RankBatches
from tests.harness.small_runs import ONE_PROCESS, small_spec


def test_the_hash_depends_on_every_field_and_not_on_their_order(prepared):
    spec = small_spec(prepared)
    changes = {
        "architecture": "deepfm",
        "architecture_source": "0123456789ab",
        "config": {"hidden_dim": 33},
        "dataset_fingerprint": "other",
        "tasks": ["finish"],
        "token_dim": 24,
        "target_attention": True,
        "seed": 5,
        "world": 0,
        "training": Training(batch_size=128),
        "world_size": 2,
        "cuts_shards": True,
        "device": "cuda",
    }
    hashes = {spec.model_copy(update={name: value}).hash for name, value in changes.items()}
    assert len(hashes | {spec.hash}) == len(changes) + 1
    reordered = spec.model_validate(dict(reversed(spec.model_dump().items())))
    assert reordered.hash == spec.hash


def test_a_folder_name_holds_no_character_that_a_file_system_minds(prepared):
    spec = small_spec(prepared).model_copy(update={"architecture": "my.pkg:Net", "variant": "no norm / k=2"})
    assert spec.folder_name == f"small-Net-no_norm_k_2-s0-{spec.hash}"


def test_a_run_in_a_world_says_so_in_its_name_and_one_without_is_as_it_was_before_there_were_any(prepared):
    spec = small_spec(prepared, seed=2)
    later = {"series", "size", "ratio", "world", "shared_fingerprint", "seed_per_world", "cuts_shards"}
    content = spec.model_dump(mode="json", exclude=later)
    before = hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
    assert spec.hash == before[:12]
    there = spec.model_copy(update={"world": 7, "shared_fingerprint": "a"})
    assert (spec.title, there.title) == ("small dlrm_mlp seed 2", "small world 7 dlrm_mlp seed 2")
    assert there.folder_name == f"small-dlrm_mlp-w7-s2-{there.hash}"
    assert there.hash == there.model_copy(update={"shared_fingerprint": "b"}).hash != spec.hash
    assert RunSpec.model_validate(there.as_json()) == there


def test_every_world_draws_weights_and_order_anew_and_runs_of_before_keep_theirs(prepared):
    spec = small_spec(prepared, seed=2)
    before = [spec.model_copy(update={"world": world}) for world in (0, 7)]
    worlds = [spec.model_copy(update={"world": world, "seed_per_world": True}) for world in (0, 7)]

    def weights(spec):
        dense = build_dense_side(spec, prepared, ONE_PROCESS.device)
        return torch.cat([weight.flatten() for weight in dense.parameters()])

    def order(spec):
        batches = RankBatches(spec, prepared, ONE_PROCESS).reader("train").batches()
        return torch.cat([batch.labels for batch in batches]).nan_to_num(-1)

    for drawn in (weights, order):
        without = drawn(spec)
        assert all(torch.equal(drawn(each), without) for each in (*before, worlds[0]))
        assert not torch.equal(drawn(worlds[1]), without)
    assert len({each.hash for each in (spec, *before, *worlds)}) == 5
    assert RunSpec.model_validate(worlds[1].as_json()) == worlds[1]


@pytest.mark.parametrize("misspelt", [{"batchsize": 3}, {"dense_optimizer": "sgdd"}, {"batch_size": 0}])
def test_a_misspelt_or_impossible_recipe_is_refused(misspelt):
    with pytest.raises(ValidationError):
        Training(**misspelt)


RECORD = {
    **{"kind": "model", "status": "finished", "suite": "s", "architecture": "dcn", "variant": ""},
    **{"dataset": "d", "seed": 0, "spec_hash": "0", "spec": {"seed": 0}, "started_at": "2026-01-01"},
    **{"metrics": {"finish": {"auc": 0.1 + 0.2, "uauc": None, "users": 7}}},
}


@pytest.mark.parametrize("content", ["", '{"kind": "mod', "\udcff", "[" * 100_000])
def test_a_damaged_record_is_named_with_the_mend(out, content):
    folder = RunFolder(out, "run")
    folder.finish(Record.model_validate(RECORD))
    (folder.final / "record.json").write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(InputError, match=r"runs/run/record\.json: cannot be read .*delete that folder"):
        folder.record()


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"status": "perhaps"}, "status"),
        ({"seed": "0"}, "seed"),
        ({"spec": [1]}, "spec"),
        ({"metrics": {"finish": {"auc": "high"}}}, "metrics.finish.auc"),
        ({"files": {"predictions.parquet": 1}}, "files.predictions.parquet"),
    ],
)
def test_a_record_with_a_field_of_another_type_or_without_it_is_named(out, changes, field):
    folder = RunFolder(out, "run")
    folder.finish(Record.model_validate(RECORD))
    old = {name: value for name, value in RECORD.items() if name not in changes}  # had no checksum
    absent = [old] if set(changes) & {"status", "seed", "spec"} else []
    for record in (old | changes, *absent):
        (folder.final / "record.json").write_text(json.dumps(record))
        with pytest.raises(
            InputError, match=rf"record\.json: is no run record \({field}.*delete that folder"
        ):
            folder.record()


def test_a_record_that_was_altered_is_named_and_one_without_checksum_is_taken(out):
    folder = RunFolder(out, "run")
    folder.finish(Record.model_validate(RECORD))
    written = json.loads((folder.final / "record.json").read_text())
    better = written | {"metrics": {"finish": {"auc": 0.9}}}
    (folder.final / "record.json").write_text(json.dumps(better))
    with pytest.raises(
        InputError, match=r"record\.json: was changed since it was written.*delete that folder"
    ):
        folder.record()
    (folder.final / "record.json").write_text(json.dumps(written, indent=4))  # the same, written otherwise
    assert folder.record().as_json().items() >= RECORD.items()
    (folder.final / "record.json").write_text(json.dumps(RECORD))
    assert folder.record().as_json() == RECORD


def test_predictions_that_were_altered_are_named(out):
    folder = RunFolder(out, "run")
    folder.partial.mkdir(parents=True)
    table = pd.DataFrame({"user": [1], "tier": [0], "label_finish": [1.0], "score_finish": [0.5]})
    table.to_parquet(folder.partial / "predictions.parquet")
    folder.finish(Record.model_validate(RECORD))
    assert list(read_predictions([folder.record()])) == ["finish"]
    table.assign(score_finish=0.6).to_parquet(folder.final / "predictions.parquet")
    with pytest.raises(InputError, match=r"predictions\.parquet: was changed since it was written"):
        read_predictions([folder.record()])
    old = {name: value for name, value in RECORD.items() if name != "files"}  # of an earlier version
    (folder.final / "record.json").write_text(json.dumps(old))
    assert read_predictions([folder.record()])["finish"].scores[0] == [0.6]


def test_every_record_that_is_kept_in_git_is_read_as_it_is(tmp_path):
    kept = sorted((Path(__file__).resolve().parents[3] / "reports/measured").glob("*/records.parquet"))
    assert len(kept) > 20
    records = 0
    for archive in kept:
        out = unpack(archive.parent, tmp_path / archive.parent.name)
        for row in pq.read_table(archive).to_pylist():
            folder = RunFolder(out, row["folder"])
            assert folder.is_finished
            read, written = folder.record().as_json(), json.loads(row["record"])
            written.pop("checksum", None)  # of the file, checked when it is read; older records have none
            if written["cost"]:  # which may be older than the FLOPs of experts
                assert read["cost"].items() >= written.pop("cost").items()
            assert read.items() >= written.items()
            records += 1
    assert records > 1500


def test_a_record_appears_whole_and_the_partial_folder_is_gone(out):
    folder = RunFolder(out, "run")
    folder.partial.mkdir(parents=True)
    (folder.partial / "predictions.parquet").write_bytes(b"x")
    assert not folder.is_finished
    folder.finish(Record.model_validate(RECORD))
    assert folder.is_finished
    assert folder.record().as_json().items() >= RECORD.items()
    assert (folder.final / "predictions.parquet").exists()
    assert not folder.partial.exists()


def test_a_record_with_a_nan_is_refused_rather_than_written_as_no_json(out):
    folder = RunFolder(out, "run")
    with pytest.raises(ValueError, match="finite number"):
        Record.model_validate(RECORD | {"metrics": {"finish": {"auc": float("nan")}}})
    with pytest.raises(ValueError, match="JSON"):
        folder.finish(Record.model_validate(RECORD | {"environment": {"load": float("nan")}}))
    assert not folder.is_finished


def test_a_run_that_another_process_holds_is_not_taken_and_its_death_frees_it(out):
    folder = RunFolder(out, "run")
    holder = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(f"""
            import time
            from pathlib import Path
            from harness.records.folder import RunFolder
            with RunFolder(Path({str(out)!r}), "run").locked(wait=True) as held:
                print(held is not None, flush=True)
                time.sleep(60)
        """)],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert holder.stdout is not None
    assert holder.stdout.readline().strip() == "True"
    with folder.locked(wait=False) as held:
        assert not held
    holder.kill()
    holder.wait()
    with folder.locked(wait=False) as held:
        assert held


@pytest.mark.parametrize("moment", ["before the record", "before the rename", "after the rename"])
def test_a_kill_while_a_run_ends_leaves_a_checkpoint_or_a_finished_run(out, moment):
    folder = RunFolder(out, "run")
    process = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(f"""
            import os, signal
            from pathlib import Path
            from harness.records import folder as runs
            from harness.records.record import Record

            def killed(*_):
                os.kill(os.getpid(), signal.SIGKILL)

            folder = runs.RunFolder(Path({str(out)!r}), "run")
            folder.partial.mkdir(parents=True)
            for name in ("checkpoint.json", "checkpoint-20-0.pt", "best-10-0.pt", "predictions.parquet"):
                (folder.partial / name).write_bytes(b"x")
            if {moment!r} == "before the record":
                os.replace = killed
            elif {moment!r} == "before the rename":
                os.rename = killed
            else:
                runs.remove_checkpoints = killed
            folder.finish(Record.model_validate({RECORD!r}))
        """)],
        check=False,
    )  # fmt: skip
    assert process.returncode == -signal.SIGKILL
    if moment == "after the rename":
        assert folder.record().as_json().items() >= RECORD.items()
    else:
        assert not folder.is_finished
        assert {"checkpoint.json", "checkpoint-20-0.pt", "best-10-0.pt"} <= named(folder.partial)
    with folder.locked(wait=False) as held:  # the next process
        assert held
        if not folder.is_finished:
            assert not any(name.startswith(".") for name in named(folder.partial))
            folder.finish(Record.model_validate(RECORD))
    assert named(folder.final) == {"record.json", "predictions.parquet"}
    assert not folder.partial.exists()


def named(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}
