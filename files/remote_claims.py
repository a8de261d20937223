"""Claims in a store: which process does which piece of work, where no lock holds across machines.

A claim is a folder of numbered files, each created only where there is none; the highest is the holder's. The
holder rewrites its file again and again. One that is silent for so long that its process must be gone is
outbid by the next number, which one of several bidders is given. No clocks are compared.

A number that was released is given again, so what is in the file says whose it is, and not its number.
"""

from __future__ import annotations

import json
import secrets
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from time import monotonic

from files.errors import InputError, UnfinishedError
from files.remote import Store

BEAT_SECONDS = 15.0
SILENT_SECONDS = 120.0  # after which a holder counts as gone

_heard: dict[tuple[str, str, int], tuple[bytes, float]] = {}  # of other holders, and since when unchanged


class Claim:
    """The claim ``name`` in a store. No two live processes of a machine may ask for it as one ``owner``."""

    def __init__(self, store: Store, name: str, owner: str) -> None:
        self._store, self._name = store, name
        self._holder = {"owner": owner, "machine": _machine()}
        self._claim = secrets.token_hex(8)
        self._number, self._beats = 0, 0

    def take(self) -> bool:
        """Whether it is this process's now: it was free, silent, or this owner's already."""
        standing = self._standing()
        last = max(standing, default=0)
        if last:
            content = self._store.read(self._file(last))
            if content is None:  # released just now
                return False
            if self._holder.items() <= json.loads(content).items():  # a process that was killed
                self._number = last
                self._store.write(self._file(last), self._content())  # others hear that it is not silent
                return self.is_held()
            if not self._is_silent(last, content):
                return False
        if not self._store.create(self._file(last + 1), self._content()):
            return False
        self._number = last + 1
        return True

    def is_held(self) -> bool:
        """Whether this claim was given, and neither outbid nor released since."""
        if max(self._standing(), default=0) != self._number:
            return False
        content = self._store.read(self._file(self._number))
        return content is not None and json.loads(content).get("claim") == self._claim

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
        return json.dumps(self._holder | {"claim": self._claim, "beats": self._beats}).encode()


def _machine() -> str:
    """What tells this machine from its clones: its name, and on Linux which start of the system this is."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
    except OSError:
        boot = ""
    return f"{socket.gethostname()} {boot}"


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
