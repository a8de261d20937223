"""The folder of one run: claimed, gone on with, finished.

While a run works, it keeps its checkpoint in ``<folder>.partial``; when it ends, the record and the
predictions are written there, flushed to disk, the folder is renamed, and only then is the checkpoint
removed. So a folder without ``.partial`` is a finished (or failed) run, whole; anything else is a run to go
on with. A lock file keeps two processes off the same run; the operating system drops the lock when its
holder dies.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from files.checksums import sealed, sha256_of
from files.locks import locked
from files.remote_copy import copy_at
from files.writing import flush, remove_abandoned, write_atomically
from harness.records.record import PREDICTIONS_FILE, RECORD_FILE, Record, read_record
from harness.records.remote_run import RemoteRun

CHECKPOINT_FILES = ("checkpoint*.json", "checkpoint-*.pt", "best-*.pt", "best-*.writing")


class RunFolder:
    """Where one run lives under ``out/runs``."""

    def __init__(self, out: Path, name: str) -> None:
        self._out = out
        self.final = out / "runs" / name
        self.partial = self.final.with_name(name + ".partial")
        self._lock = self.final.with_name(f".{name}.lock")

    @property
    def is_finished(self) -> bool:
        return (self.final / RECORD_FILE).is_file()

    def record(self) -> Record:
        """What the finished run found; InputError where the file is damaged."""
        return read_record(self.final)

    @contextlib.contextmanager
    def locked(self, wait: bool) -> Iterator[int | None]:
        """Yield the lock's descriptor if this process holds the run, else None; with ``wait``, once it does.

        A process that has the descriptor, too, holds the run as well. Whoever holds it first removes what a
        killed process left beside the record. In a copy of a store's folder the run is claimed there as well
        (`harness.records.remote_run`).
        """
        self.final.parent.mkdir(parents=True, exist_ok=True)
        with locked(self._lock, wait) as held:
            if held is not None:
                self._tidy()
            store = self._in_store()
            if held is None or store is None or self.is_finished:
                yield held
                return
            with store.claimed(wait) as is_claimed:
                yield held if is_claimed else None

    def fetch(self) -> None:
        """Have the run here if its folder is a copy of a store's, and the run is finished there."""
        if (store := self._in_store()) is not None:
            store.fetch_finished()

    def agrees_with_store(self, wait: bool) -> bool:
        """Send a run that is finished here and that its store never had; remove one that was deleted there.

        False where another process holds the run; with ``wait``, that is waited for. True without a look
        where the run is not finished here, or its folder is no copy of a store's.
        """
        store = self._in_store()
        if store is None or not self.is_finished:
            return True
        with locked(self._lock, wait) as held:
            return held is not None and store.agrees(wait)

    def _in_store(self) -> RemoteRun | None:
        copy = copy_at(self._out)
        return None if copy is None else RemoteRun(copy, self.final, self.partial)

    def _tidy(self) -> None:
        with contextlib.suppress(OSError):  # litter in a folder that one may only read disturbs nobody
            for folder in (self.final, self.partial):
                if folder.is_dir():
                    remove_abandoned(folder)
            if self.is_finished:
                remove_checkpoints(self.final)

    def finish(self, record: Record) -> None:
        """Write the record beside what the run left in its partial folder, and make it final.

        A kill at any moment leaves either the partial folder with its checkpoint or a finished run.
        """
        self.partial.mkdir(parents=True, exist_ok=True)
        predictions = self.partial / PREDICTIONS_FILE
        files = {PREDICTIONS_FILE: sha256_of(predictions)} if predictions.is_file() else {}
        content = json.dumps(sealed(record.as_json() | {"files": files}), indent=1)
        write_atomically(self.partial / RECORD_FILE, content.encode())
        flush(self.partial)
        if self.final.exists():  # a folder without a record: not ours, not finished
            shutil.rmtree(self.final)
        os.rename(self.partial, self.final)
        flush(self.final.parent)
        remove_checkpoints(self.final)


def remove_checkpoints(folder: Path) -> None:
    """Delete every file of a run's checkpoints, the pointers first."""
    for pattern in CHECKPOINT_FILES:
        for path in folder.glob(pattern):
            path.unlink(missing_ok=True)
