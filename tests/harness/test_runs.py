"""Specs hash all they hold; records are whole or absent; locks keep two processes apart."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap

import pytest
from pydantic import ValidationError

from datasets.errors import InputError
from harness.runs import RunFolder, Training, write_atomically
from tests.harness.runs import small_spec


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
        "training": Training(batch_size=128),
        "world_size": 2,
        "device": "cuda",
    }
    hashes = {spec.model_copy(update={name: value}).hash for name, value in changes.items()}
    assert len(hashes | {spec.hash}) == len(changes) + 1
    reordered = spec.model_validate(dict(reversed(spec.model_dump().items())))
    assert reordered.hash == spec.hash


def test_a_folder_name_holds_no_character_that_a_file_system_minds(prepared):
    spec = small_spec(prepared).model_copy(update={"architecture": "my.pkg:Net", "variant": "no norm / k=2"})
    assert spec.folder_name == f"small-Net-no_norm_k_2-s0-{spec.hash}"


@pytest.mark.parametrize("misspelt", [{"batchsize": 3}, {"dense_optimizer": "sgdd"}, {"batch_size": 0}])
def test_a_misspelt_or_impossible_recipe_is_refused(misspelt):
    with pytest.raises(ValidationError):
        Training(**misspelt)


@pytest.mark.parametrize("content", ["", '{"kind": "mod'])
def test_a_damaged_record_is_named_with_the_mend(out, content):
    folder = RunFolder(out, "run")
    folder.finish({"status": "finished"})
    (folder.final / "record.json").write_text(content)
    with pytest.raises(InputError, match=r"runs/run/record\.json: cannot be read .*delete that folder"):
        folder.record()


def test_a_record_appears_whole_and_the_partial_folder_is_gone(out):
    folder = RunFolder(out, "run")
    folder.partial.mkdir(parents=True)
    (folder.partial / "predictions.parquet").write_bytes(b"x")
    assert not folder.is_finished
    folder.finish({"status": "finished"})
    assert folder.is_finished
    assert folder.record() == {"status": "finished"}
    assert (folder.final / "predictions.parquet").exists()
    assert not folder.partial.exists()


def test_a_record_with_a_nan_is_refused_rather_than_written_as_no_json(out):
    folder = RunFolder(out, "run")
    with pytest.raises(ValueError, match="JSON"):
        folder.finish({"auc": float("nan")})
    assert not folder.is_finished


def test_a_write_that_fails_leaves_the_old_content_and_no_debris(tmp_path, monkeypatch):
    path = tmp_path / "file.json"
    write_atomically(path, b"old")

    def full_disk(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file.json"]


def test_a_run_that_another_process_holds_is_not_taken_and_its_death_frees_it(out):
    folder = RunFolder(out, "run")
    holder = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(f"""
            import time
            from pathlib import Path
            from harness.runs import RunFolder
            with RunFolder(Path({str(out)!r}), "run").locked(wait=True) as held:
                print(held, flush=True)
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


def test_json_of_a_record_reads_back_equal(out, prepared):
    record = {"spec": small_spec(prepared).model_dump(mode="json"), "none": None, "number": 0.1 + 0.2}
    folder = RunFolder(out, "run")
    folder.finish(record)
    assert json.loads((folder.final / "record.json").read_text()) == record
