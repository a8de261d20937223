"""A full disk is recognised behind whatever a library makes of it, and nothing else is taken for one."""

from __future__ import annotations

import errno
import os
import sqlite3
from types import SimpleNamespace

import polars as pl
import pytest

from datasets.prepare.folder import is_full_disk, partial_folder
from files.errors import InputError

FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
TRUNCATED = pl.exceptions.ComputeError("parquet: File out of specification: Invalid thrift: transport error")


def raised_over(cause: Exception, shown: Exception) -> Exception:
    """``shown`` as a library raises it while it cleans up after ``cause``, without saying so."""
    try:
        try:
            raise cause
        except Exception:
            raise shown  # noqa: B904
    except Exception as error:
        return error


@pytest.fixture
def room(monkeypatch):
    """Sets the bytes that every file system has left."""

    def left(free: int) -> None:
        monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(f_bavail=free // 4096, f_frsize=4096))

    return left


@pytest.mark.parametrize(
    "error",
    [
        FULL,
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        RuntimeError("No space left on device (os error 28)"),
        sqlite3.OperationalError("database or disk is full"),
        raised_over(FULL, RuntimeError("[enforce fail at inline_container.cc:672] unexpected pos")),
    ],
    ids=str,
)
def test_libraries_errors_on_a_full_disk_are_recognised(error, tmp_path, room):
    room(10**9)
    assert is_full_disk(error)
    assert is_full_disk(error, tmp_path)


def test_a_truncated_file_counts_as_a_full_disk_if_no_room_is_left(tmp_path, room):
    room(0)
    assert is_full_disk(TRUNCATED, tmp_path)
    assert not is_full_disk(TRUNCATED)
    assert not is_full_disk(KeyError("a fault of ours"), tmp_path)
    assert not is_full_disk(InputError("log.csv: has no column 'item'"), tmp_path)
    room(10**9)
    assert not is_full_disk(TRUNCATED, tmp_path)


def test_preparation_on_a_full_disk_reports_it_and_leaves_nothing(tmp_path, room):
    room(4096)
    with (
        pytest.raises(InputError, match="no space left on the disk") as error,
        partial_folder(tmp_path / "c"),
    ):
        raise TRUNCATED
    assert is_full_disk(error.value)
    assert list(tmp_path.iterdir()) == []
