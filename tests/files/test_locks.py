"""A lock is held by one process, is let go by its death, and never touches what a link points to."""

from __future__ import annotations

import os
import signal
import threading
import time

import pytest

from files.errors import InputError
from files.locks import locked, open_lock


def test_a_lock_is_held_once_and_free_again_afterwards(tmp_path):
    path = tmp_path / "lock"
    with locked(path, wait=False) as held:
        assert held
        with locked(path, wait=False) as second:
            assert not second
    with locked(path, wait=False) as held:
        assert held


def test_the_target_of_a_link_instead_of_a_lock_is_neither_emptied_nor_created(tmp_path):
    precious = tmp_path / "precious"
    precious.write_text("kept")
    for target in (precious, tmp_path / "absent"):
        path = tmp_path / f"{target.name}.lock"
        path.symlink_to(target)
        with pytest.raises(InputError, match=r"\.lock: is a symbolic link.*remove it"), locked(path, True):
            pass
    assert precious.read_text() == "kept"
    assert not (tmp_path / "absent").exists()


def test_anything_but_a_plain_file_is_refused_without_waiting(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "folder").mkdir()
    for name in ("fifo", "folder"):
        with pytest.raises(InputError, match=f"{name}: is no plain file.*remove it"):
            open_lock(tmp_path / name)


def test_a_file_used_as_a_lock_keeps_its_content(tmp_path):
    path = tmp_path / "lock"
    path.write_text("somebody's")
    with locked(path, wait=True) as held:
        assert held
    assert path.read_text() == "somebody's"


def test_a_wait_for_a_lock_ends_when_its_holder_lets_go(tmp_path):
    path = tmp_path / "lock"
    with locked(path, wait=False):
        waiting = threading.Thread(target=lambda: locked(path, wait=True).__enter__(), daemon=True)
        waiting.start()
        waiting.join(0.3)
        assert waiting.is_alive()
    waiting.join(60)
    assert not waiting.is_alive()


def test_ctrl_c_breaks_off_a_wait_for_a_lock_although_a_library_s_handler_restarts_what_waits(tmp_path):
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.siginterrupt(signal.SIGINT, False)
    alarm = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))
    path = tmp_path / "lock"
    try:
        with locked(path, wait=False) as held:
            assert held
            alarm.start()
            start = time.monotonic()
            with pytest.raises(KeyboardInterrupt), locked(path, wait=True):
                pass
            assert time.monotonic() - start < 15
    finally:
        alarm.cancel()
        signal.signal(signal.SIGINT, before)
