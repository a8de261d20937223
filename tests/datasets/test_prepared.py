"""Opening a prepared folder: what is broken is refused, and rebuilding mends it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from datasets.prepared import PreparedDataset, open_prepared
from files import verified
from files.checksums import sha256_of
from files.errors import InputError
from tests.datasets.conftest import example_rows, expected_splits, prepare_example


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> PreparedDataset:
    return prepare_example(tmp_path_factory.mktemp("pristine"))


@pytest.fixture
def folder(pristine: PreparedDataset, tmp_path: Path) -> Path:
    return Path(shutil.copytree(pristine.path, tmp_path / "prepared"))


def truncate(folder: Path) -> None:
    shard = folder / "train-00002.parquet"
    shard.write_bytes(shard.read_bytes()[:-100])


def flip_a_byte(folder: Path) -> None:
    shard = folder / "valid-00000.parquet"
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)


def edit_schema(folder: Path) -> None:
    file = folder / "schema.json"
    file.write_text(file.read_text().replace('"max_length": 3', '"max_length": 4'))


def other_format(folder: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | {"format": 99}))


def other_identity(folder: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | {"identity": {"table": "other"}}))


BREAKAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "a truncated shard": (truncate, "train-00002.parquet: has .* truncated"),
    "a changed shard": (flip_a_byte, "valid-00000.parquet: was changed"),
    "a missing shard": (
        lambda folder: (folder / "test-00001.parquet").unlink(),
        "test-00001.parquet: is missing",
    ),
    "a missing vocabulary": (
        lambda folder: (folder / "vocabulary/item.parquet").unlink(),
        "item.parquet: is missing",
    ),
    "no manifest": (lambda folder: (folder / "manifest.json").unlink(), "manifest.json: is missing"),
    "half a manifest": (
        lambda folder: (folder / "manifest.json").write_text('{"format": 1'),
        "cannot be read",
    ),
    "an empty manifest": (
        lambda folder: (folder / "manifest.json").write_text('{"format": 1}'),
        "json: was changed",
    ),
    "an edited schema": (edit_schema, "schema.json: was changed"),
    "another format": (other_format, "manifest.json: has format 99"),
    "another identity": (other_identity, "manifest.json: was changed"),
}


@pytest.mark.parametrize("breakage", BREAKAGES)
def test_a_broken_folder_is_refused_and_rebuild_mends_it(folder, breakage):
    break_it, message = BREAKAGES[breakage]
    break_it(folder)
    for use in (lambda: open_prepared(folder), lambda: prepare_example(folder.parent)):
        with pytest.raises(InputError, match=f"{message}.*--rebuild"):
            use()
    mended = prepare_example(folder.parent, rebuild=True)
    assert open_prepared(folder).manifest == mended.manifest


@pytest.fixture
def hashed_files(monkeypatch) -> list[str]:
    """The names of the files that are hashed from now on, which settle at once."""
    names: list[str] = []

    def watched(path: Path) -> str:
        names.append(path.name)
        return sha256_of(path)

    monkeypatch.setattr(verified, "sha256_of", watched)
    monkeypatch.setattr(verified, "SETTLED_AFTER_SECONDS", 0.0)
    return names


def test_files_are_hashed_once_and_again_only_when_they_change_or_are_to_be_verified(folder, hashed_files):
    every = sorted(Path(name).name for name in open_prepared(folder).manifest["files"])
    assert sorted(hashed_files) == every
    for verify, expected in ((False, []), (True, every), (False, [])):
        hashed_files.clear()
        open_prepared(folder, verify)
        assert sorted(hashed_files) == expected
    hashed_files.clear()
    (folder / "train-00000.parquet").touch()
    open_prepared(folder)
    assert hashed_files == ["train-00000.parquet"]


def test_a_changed_file_is_found_though_its_size_and_mtime_are_as_before(folder, hashed_files):
    open_prepared(folder)
    shard = folder / "valid-00000.parquet"
    before = shard.stat()
    flip_a_byte(folder)
    os.utime(shard, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (shard.stat().st_size, shard.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    for _ in range(2):
        with pytest.raises(InputError, match=r"valid-00000.parquet: was changed.*--rebuild"):
            open_prepared(folder)


def test_what_no_time_betrays_is_found_by_verify(folder, hashed_files):
    """As a disk does that loses bits: the memory is made to hold the changed file's own times."""
    open_prepared(folder)
    flip_a_byte(folder)
    memory = json.loads((folder / "verified.json").read_text())
    stamp = (folder / "valid-00000.parquet").stat()
    memory["valid-00000.parquet"][1:] = [stamp.st_size, stamp.st_mtime_ns, stamp.st_ctime_ns]
    (folder / "verified.json").write_text(json.dumps(memory))
    open_prepared(folder)
    with pytest.raises(InputError, match=r"valid-00000.parquet: was changed.*--rebuild"):
        open_prepared(folder, verify=True)


def test_files_that_were_just_written_are_not_remembered(folder, hashed_files, monkeypatch):
    monkeypatch.setattr(verified, "SETTLED_AFTER_SECONDS", 3600.0)
    for _ in range(2):
        hashed_files.clear()
        manifest = open_prepared(folder).manifest
        assert len(hashed_files) == len(manifest["files"])


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"train-00000.parquet": 3}'])
def test_a_memory_that_cannot_be_read_or_written_only_costs_hashing(
    folder, hashed_files, monkeypatch, content
):
    (folder / "verified.json").write_bytes(content)

    def read_only(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(verified, "write_atomically", read_only)
    manifest = open_prepared(folder).manifest
    assert len(hashed_files) == len(manifest["files"])
    assert (folder / "verified.json").read_bytes() == content


def test_a_missing_folder_is_refused(tmp_path):
    with pytest.raises(InputError, match="data prepare"):
        open_prepared(tmp_path / "nothing")


def test_whole_columns_come_in_time_order(pristine):
    expected = expected_splits(example_rows())["valid"]
    columns = pristine.columns("valid", ["probability_click", "time", "label_skip"])
    assert columns["probability_click"].tolist() == [row["chance"] for row in expected]
    assert columns["time"].tolist() == [row["when"] for row in expected]
    assert columns["label_skip"].dtype == np.float32


@pytest.mark.parametrize("name", ["history", "label_like"])
def test_a_column_that_is_a_list_or_unknown_is_refused(pristine, name):
    with pytest.raises(InputError, match=f"{name}.*label_click"):
        pristine.columns("train", [name])


def test_the_fingerprint_depends_on_identity_and_schema(pristine, tmp_path):
    again = prepare_example(tmp_path)
    assert again.fingerprint == pristine.fingerprint
    assert len(pristine.fingerprint) >= 12


def test_preparing_and_describing_need_no_torch():
    code = (
        "import sys, datasets.catalog, datasets.prepare.pipeline, datasets.prepared, datasets.describe;"
        "import datasets.own_table; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
