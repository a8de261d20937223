"""Claims in a store: which process does which piece of work, where no lock holds across machines.

A claim is a folder of numbered files, each created only where there is none; the highest is the holder's. The
holder rewrites its file again and again. One that is silent for so long that its process must be gone is
outbid by the next number, which one of several bidders is given. No clocks are compared.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from time import monotonic

from files.errors import InputError, UnfinishedError
from files.remote import Store

BEAT_SECONDS = 15.0
SILENT_SECONDS = 120.0  # after which a holder counts as gone

_heard: dict[tuple[str, str, int], tuple[bytes, float]] = {}  # of other holders, and since when unchanged


class Claim:
    """The claim ``name`` in a store, to be held by ``owner``, which no two live processes may be at once."""

    def __init__(self, store: Store, name: str, owner: str) -> None:
        self._store, self._name, self._owner = store, name, owner
        self._number, self._beats = 0, 0

    def take(self) -> bool:
        """Whether it is this owner's now: it was free, silent, or this owner's already."""
        standing = self._standing()
        last = max(standing, default=0)
        if last:
            content = self._store.read(self._file(last))
            if content is None:  # released just now
                return False
            if json.loads(content)["owner"] == self._owner:  # a process that was killed
                self._number = last
                return True
            if not self._is_silent(last, content):
                return False
        if not self._store.create(self._file(last + 1), self._content()):
            return False
        self._number = last + 1
        return True

    def is_held(self) -> bool:
        """Whether no other owner has outbid this one."""
        return max(self._standing(), default=0) == self._number

    def beat(self) -> None:
        """Show that the holder lives; nothing where it was outbid."""
        if self.is_held():
            self._beats += 1
            self._store.write(self._file(self._number), self._content())

    def release(self) -> None:
        if self.is_held():
            self._store.remove([self._file(number) for number in self._standing()])

    def _standing(self) -> list[int]:
        return [int(name.rpartition("/")[2]) for name in self._store.listing(self._name)]

    def _is_silent(self, number: int, content: bytes) -> bool:
        key = self._store.url, self._name, number
        before, since = _heard.get(key, (None, 0.0))
        if before != content:
            _heard[key] = content, monotonic()
            return False
        return monotonic() - since > SILENT_SECONDS

    def _file(self, number: int) -> str:
        return f"{self._name}/{number}"

    def _content(self) -> bytes:
        return json.dumps({"owner": self._owner, "beats": self._beats}).encode()


@contextmanager
def again_and_again(call: Callable[[], None], seconds: float) -> Iterator[None]:
    """Make the call every so many seconds, in a thread. A store that fails is tried again the next time."""
    ended = threading.Event()

    def work() -> None:
        while not ended.wait(seconds):
            with suppress(OSError, InputError, UnfinishedError):
                call()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
