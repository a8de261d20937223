"""Files appear whole or not at all; a killed writer's temporary file goes, a living one's stays."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import time

import pytest

from files.errors import InputError
from files.writing import (
    ABANDONED_AFTER_SECONDS,
    check_writable,
    remove_abandoned,
    replacing,
    write_atomically,
)


def names(folder):
    return sorted(os.listdir(folder))


def test_a_write_that_fails_leaves_the_old_content_and_no_debris(tmp_path, monkeypatch):
    path = tmp_path / "file.json"
    write_atomically(path, b"old")

    def full_disk(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["file.json"]


def test_a_temporary_file_keeps_the_suffix_by_which_formats_are_known(tmp_path):
    with replacing(tmp_path / "drawing.svg") as temporary:
        assert temporary.suffix == ".svg"
        temporary.write_text("<svg/>")
    assert names(tmp_path) == ["drawing.svg"]
    assert (tmp_path / "drawing.svg").stat().st_mode & 0o444 == 0o444 & ~current_umask()


def current_umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask


def writer(folder):
    """A process that is in the middle of writing ``folder/results.csv``."""
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(f"""
            import time
            from pathlib import Path
            from files.writing import replacing
            with replacing(Path({str(folder)!r}) / "results.csv") as temporary:
                temporary.write_text("half")
                print("writing", flush=True)
                time.sleep(60)
        """)],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline().strip() == "writing"
    return process


def test_the_next_writer_removes_leftovers_of_killed_writers_but_not_files_being_written(tmp_path):
    killed, living = writer(tmp_path), writer(tmp_path)
    try:
        assert len(names(tmp_path)) == 2
        killed.send_signal(signal.SIGKILL)
        killed.wait()
        write_atomically(tmp_path / "other.csv", b"whole")
        left = names(tmp_path)
        assert left[1:] == ["other.csv"]
        assert left[0].endswith(".writing.csv")
    finally:
        living.kill()
        living.wait()
    remove_abandoned(tmp_path)
    assert names(tmp_path) == ["other.csv"]


def test_leftovers_of_earlier_versions_are_removed_after_a_day_and_other_hidden_files_stay(tmp_path):
    long_ago = time.time() - ABANDONED_AFTER_SECONDS - 1
    for name in (".record.json.30064", ".ab12_xyz.csv", ".gitignore", ".run.lock", ".mine.csv", "a.json.7"):
        (tmp_path / name).write_text("x")
        os.utime(tmp_path / name, (long_ago, long_ago))
    (tmp_path / ".comparisons.csv.3042").write_text("perhaps being written")
    remove_abandoned(tmp_path)
    assert names(tmp_path) == [".comparisons.csv.3042", ".gitignore", ".mine.csv", ".run.lock", "a.json.7"]


def test_without_locks_age_decides(tmp_path, monkeypatch):
    def no_locks(handle: int, operation: int) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr("files.writing.fcntl.flock", no_locks)
    long_ago = time.time() - ABANDONED_AFTER_SECONDS - 1
    for name in (".00000001.writing.csv", ".00000002.writing.csv"):
        (tmp_path / name).write_text("x")
    os.utime(tmp_path / ".00000001.writing.csv", (long_ago, long_ago))
    write_atomically(tmp_path / "file.csv", b"whole")
    assert names(tmp_path) == [".00000002.writing.csv", "file.csv"]


@pytest.mark.parametrize(
    "make", [lambda place: place.mkdir(mode=0o555), lambda place: place.write_text("a file")]
)
def test_a_folder_that_cannot_be_written_to_is_named_before_anything_is_made(tmp_path, monkeypatch, make):
    make(tmp_path / "place")

    def as_for_anyone_but_root(*arguments, dir, **options):  # root may write everywhere
        if dir == tmp_path / "place" and dir.is_dir():
            raise PermissionError(13, "Permission denied", str(dir))
        return temporary_file(*arguments, dir=dir, **options)

    temporary_file = tempfile.TemporaryFile
    monkeypatch.setattr(tempfile, "TemporaryFile", as_for_anyone_but_root)
    with pytest.raises(InputError, match=r"place: cannot be written to \(.*\); choose another"):
        check_writable(tmp_path / "place" / "out" / "runs", "choose another")
    check_writable(tmp_path / "new" / "out", "choose another")
    assert names(tmp_path) == ["place"]
