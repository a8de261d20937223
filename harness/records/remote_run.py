"""One run in a store: claimed, gone on with from its checkpoint, and sent with the record last.

A run without ``record.json`` in the store is not finished, whatever else of it is there. Its checkpoint lies
in ``runs/<run>.partial``, where the pointer is sent after the files that it names.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from files.errors import InputError, UnfinishedError
from files.remote_claims import BEAT_SECONDS, Claim, again_and_again
from files.remote_copy import Copy
from files.writing import write_atomically
from harness.records.record import RECORD_FILE

POINTER_FILE = "checkpoint.json"
LOOK_SECONDS = 5.0  # between looks at whether there is a checkpoint to be sent
HELD_SECONDS = 2.0  # between looks at a run that another process holds


def remove_here(copy: Copy, run: Path) -> None:
    """Remove a run that was deleted in the store, its record first: what is without one is not finished."""
    (run / RECORD_FILE).unlink()
    shutil.rmtree(run)
    copy.forget(run.relative_to(copy.folder).as_posix())


class RemoteRun:
    """The run whose local folders are ``final`` and ``partial``, in the store that ``copy`` is a copy of."""

    def __init__(self, copy: Copy, final: Path, partial: Path) -> None:
        self._copy, self._store = copy, copy.store
        self._final, self._partial = final, partial
        self._name, self._partial_name = (f"runs/{folder.name}" for folder in (final, partial))
        self._claim = Claim(copy.store, f"runs/.{final.name}.claim", copy.owner)
        self._sent = -1  # the step of the checkpoint that the store has

    def fetch_finished(self) -> bool:
        """Whether the store has the record; the run is here then, too, the record last."""
        listing = self._store.listing(self._name)
        name = f"{self._name}/{RECORD_FILE}"
        if name not in listing:
            return False
        record = {name: listing.pop(name)}
        self._copy.fetch(listing)
        self._copy.fetch(record)
        return True

    def agrees(self, wait: bool) -> bool:
        """Have a run that is finished here in the store too; False where another process holds it.

        One that the store had before was deleted there, and is removed here instead. With ``wait``, a process
        that holds the run is waited for.
        """
        if self.fetch_finished():
            return True
        with self.claimed(wait) as is_claimed:
            if is_claimed and f"{self._name}/{RECORD_FILE}" in self._copy.were_there():
                remove_here(self._copy, self._final)
        return is_claimed or wait

    @contextmanager
    def claimed(self, wait: bool) -> Iterator[bool]:
        """Yield whether the run is this process's to carry out; with ``wait``, once no other holds it.

        It is not where it is finished: its record is here then. While it is, its checkpoints are sent, and at
        the end the run itself if it has a record.

        Raises UnfinishedError where another process took the run over, which happens to one that was silent.
        """
        while self._copy.shares and not self._claim.take():
            if self.fetch_finished() or not wait:
                yield False
                return
            time.sleep(HELD_SECONDS)
        try:
            with again_and_again(self._beat, BEAT_SECONDS):
                if self.fetch_finished():
                    yield False
                    return
                if not (self._final / RECORD_FILE).is_file():
                    self._fetch_checkpoint()
                with again_and_again(self._send_checkpoint, LOOK_SECONDS):
                    yield True
                if (self._final / RECORD_FILE).is_file():
                    self._send()
        finally:
            with suppress(InputError, UnfinishedError):  # others then wait until the claim is silent
                if self._copy.shares:
                    self._claim.release()

    def _beat(self) -> None:
        if self._copy.shares:
            self._claim.beat()

    def _check_held(self) -> None:
        if self._copy.shares and not self._claim.is_held():
            raise UnfinishedError(
                f"{self._store.url}: another process took {self._final.name} over, since nothing was heard "
                "of this one; the same command goes on"
            )

    def _send(self) -> None:
        """Send the finished run, the record last; its checkpoint is removed."""
        files = [path for path in self._final.iterdir() if not path.name.startswith(".")]
        record = self._final / RECORD_FILE
        self._check_held()
        self._copy.send(path for path in files if path != record)
        self._check_held()  # the large files may have taken long
        self._copy.send([record])
        self._copy.note(self._store.listing(self._name))
        self._store.remove(list(self._store.listing(self._partial_name)))

    def _fetch_checkpoint(self) -> None:
        """Replace the checkpoint that is here, if any, where the store has a later one."""
        pointer_name = f"{self._partial_name}/{POINTER_FILE}"
        pointer = self._store.read(pointer_name)
        self._sent = _step(pointer)
        if pointer is not None and self._sent > _step(self._pointer()):
            shutil.rmtree(self._partial, ignore_errors=True)
            names = self._store.listing(self._partial_name)
            self._store.fetch(
                {name: self._partial / name.rpartition("/")[2] for name in names if name != pointer_name}
            )
            write_atomically(self._partial / POINTER_FILE, pointer)  # last: what it names is whole here

    def _send_checkpoint(self) -> None:
        """Send the current checkpoint unless it was sent: what its pointer names, then the pointer.

        Not where a file is gone, since the run replaced the checkpoint meanwhile: the later one is sent then.
        """
        pointer = self._pointer()
        if pointer is None or _step(pointer) == self._sent:
            return
        self._check_held()
        content = json.loads(pointer)
        kinds = (("checkpoint", "tag", "sha256"), ("best", "best", "best_sha256"))
        names = [
            f"{kind}-{content[step]}-{rank}.pt"
            for kind, step, written in kinds
            for rank in range(len(content.get(written) or []))
        ]
        if not names:  # of an earlier version, which the run does not go on with
            return
        files = {f"{self._partial_name}/{name}": self._partial / name for name in names}
        if not all(path.is_file() for path in files.values()):
            return
        self._store.send(files)
        sent = self._store.listing(self._partial_name)
        if not files.keys() <= sent.keys():
            return
        pointer_name = f"{self._partial_name}/{POINTER_FILE}"
        self._store.write(pointer_name, pointer)
        self._store.remove([name for name in sent if name not in files and name != pointer_name])
        self._sent = _step(pointer)

    def _pointer(self) -> bytes | None:
        try:
            return (self._partial / POINTER_FILE).read_bytes()
        except FileNotFoundError:
            return None


def _step(pointer: bytes | None) -> int:
    """The step of a checkpoint, -1 where there is none or its pointer is damaged."""
    try:
        return int(json.loads(pointer or b"")["tag"])
    except (ValueError, KeyError, TypeError):
        return -1
