"""Download a file over HTTP; an interrupted download is resumed from the bytes that have arrived.

The bytes received so far are in ``<file>``, and notes about them in ``<file>.json``. The rest is requested
with ``Range`` and ``If-Range``, so that a server sends the whole file if it has changed. The md5 is checked
at the end. Where none is stated, the size that the server states must have arrived, and only the address that
sent the first bytes, and can tell whether the file is the same, is asked for the rest.

Not pooch or fsspec: neither resumes an interrupted download or gives up on a server that is too slow.
"""

from __future__ import annotations

import contextlib
import errno
import json
import queue
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests
import urllib3
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn, TransferSpeedColumn
from rich.progress import Progress as Bar

from files.checksums import md5_of
from files.errors import InputError

Progress = Callable[[int, int | None], None]  # bytes so far, bytes in total (None if unknown)
CHUNK_BYTES = 1 << 20
CONNECT_SECONDS = 30
WINDOW_SECONDS = 60.0  # at least LEAST_BYTES_PER_SECOND must arrive on average in each window
LEAST_BYTES_PER_SECOND = 1000
MOST_SECONDS = 86_400.0
TRIES = 3  # per address, as long as each try receives further bytes
PLAIN_SECONDS = 20.0  # between lines of progress without a terminal


class _AddressError(Exception):
    """An address did not provide the file; the next one may."""


class _BrokenError(_AddressError):
    """The connection ended early; the same address may provide the rest."""


def part_of(path: Path) -> Path:
    """Where the bytes of a file, or of a folder's archive, are while it is not complete."""
    return path.with_name(f".{path.name}.part")


@dataclass
class Part:
    """The bytes received so far of a file whose md5 is ``md5``; None where that is not stated."""

    path: Path
    md5: str | None

    @property
    def _notes(self) -> Path:
        return self.path.with_name(f"{self.path.name}.json")

    @property
    def size(self) -> int:
        return self.path.stat().st_size if self.path.is_file() else 0

    def known(self) -> dict[str, Any]:
        """``url``, ``validator``, ``total`` of the part; without valid notes the part is removed, and {}."""
        with contextlib.suppress(OSError, ValueError, AttributeError):
            notes = json.loads(self._notes.read_text(encoding="utf-8"))
            if notes.get("md5") == self.md5 and self.size:
                return notes
        self.remove()
        return {}

    def goes_on_at(self, url: str) -> bool:
        """Whether ``url`` may give the rest: any may if an md5 checks it, else only the same file may."""
        notes = self.known()
        if not notes or self.md5 is not None:
            return bool(notes)
        return notes["url"] == url and bool(notes["validator"])

    def begin(self, url: str, validator: str | None, total: int | None) -> None:
        """Remove the part, for a download from the first byte."""
        self.remove()
        notes = {"md5": self.md5, "url": url, "validator": validator, "total": total}
        self._notes.write_text(json.dumps(notes), encoding="utf-8")

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)
        self._notes.unlink(missing_ok=True)

    def is_whole(self) -> bool:
        """Whether all bytes are there; without an md5, by the size that the server stated."""
        total = self.known().get("total")
        if self.md5 is None:
            return total is not None and total == self.size
        return total in (None, self.size) and self.size > 0 and md5_of(self.path) == self.md5


def download(urls: Sequence[str], part: Part, progress: Progress | None, say: Callable[[str], None]) -> str:
    """Complete ``part`` from the first address that gives a file of its md5; returns that address.

    Only one process at a time may do so. Raises InputError where no address provides it: no answer, a server
    error, a connection that ends or falls below LEAST_BYTES_PER_SECOND, or a different md5. The bytes
    received stay for the next download, unless the md5 is wrong. A full disk raises OSError.
    """
    notes = part.known()
    if notes and part.is_whole():
        return notes["url"]
    failures = []
    for url in urls:
        try:
            _complete(url, part, progress, say)
        except _AddressError as error:
            failures.append(str(error))
            continue
        return url
    mend = "check the network, or download the archive elsewhere and unpack it into the data root"
    if any(part.goes_on_at(url) for url in urls):
        mend = f"{part.size:,} bytes are kept, and fetching again resumes there"
    raise InputError(f"{'; '.join(failures)}; {mend}")


def _complete(url: str, part: Part, progress: Progress | None, say: Callable[[str], None]) -> None:
    was_resumed = part.goes_on_at(url)
    if was_resumed:
        say(f"resuming after the {part.size:,} bytes that were kept")
    _receive(url, part, progress)
    found = part.md5 and md5_of(part.path)
    if found == part.md5:
        return
    part.remove()
    if was_resumed:
        say(f"{url}: the bytes kept do not fit the file, so they are dropped; starting again")
        return _complete(url, part, progress, say)
    raise _AddressError(
        f"{url}: md5 is {found}, not the published {part.md5}; it is dropped: "
        "fetch again or use another mirror"
    )


def _receive(url: str, part: Part, progress: Progress | None) -> None:
    """Receive the missing bytes; retry after a broken connection as long as each try receives some."""
    for left in reversed(range(TRIES)):
        before = part.size
        try:
            return _receive_once(url, part, progress)
        except _BrokenError:
            if not left or part.size <= before:
                raise


def _receive_once(url: str, part: Part, progress: Progress | None) -> None:
    headers = {"Accept-Encoding": "identity"}  # the md5 is that of the file as it is stored
    if part.goes_on_at(url):
        notes = part.known()
        headers["Range"] = f"bytes={part.size}-"
        if notes["validator"] and notes["url"] == url:
            headers["If-Range"] = notes["validator"]
    with contextlib.closing(_Response(url, headers)) as source:
        response = source.response()
        total = _begin(response, url, part)
        if total is not None and total == part.size:
            return
        _check_room(part, total)
        with part.path.open("ab") as file:
            for chunk in source.chunks():
                file.write(chunk)
                if progress is not None:
                    progress(file.tell(), total)
    if total is not None and part.size < total:
        raise _BrokenError(f"{url}: the connection ended after {part.size:,} of {total:,} bytes")


def _begin(response: requests.Response, url: str, part: Part) -> int | None:
    """Prepare the part for the bytes that follow; returns the file's total size if the server states it."""
    unit, _, whole = response.headers.get("Content-Range", "").rpartition("/")
    total = int(whole) if whole.isdigit() else None
    if response.status_code == 206 and unit.startswith(f"bytes {part.size}-"):
        if total == part.known()["total"]:
            return total
    elif response.status_code == 416 and total == part.size == part.known().get("total"):
        return total
    elif response.status_code == 200:
        length = response.headers.get("Content-Length", "")
        total = int(length) if length.isdigit() else None
        if total is None and part.md5 is None:
            raise _AddressError(f"{url}: states neither size nor md5, so nothing would show that it is whole")
        etag = response.headers.get("ETag", "")
        validator = response.headers.get("Last-Modified") if etag.startswith("W/") or not etag else etag
        part.begin(url, validator, total)
        return total
    elif response.status_code not in (206, 416):
        raise _AddressError(f"no answer from {url} ({response.status_code} {response.reason})")
    part.remove()  # the server's file has changed: request all of it
    raise _BrokenError(f"{url}: the file has changed, or the server cannot resume")


def _check_room(part: Part, total: int | None) -> None:
    free = shutil.disk_usage(part.path.parent).free
    if total is not None and total - part.size > free:
        sizes = f"{total - part.size:,} bytes to come, {free:,} free"
        raise OSError(errno.ENOSPC, f"No space left on device: {sizes}")


class _Response:
    """A response read in a separate thread, so that a slow server cannot block the reader."""

    def __init__(self, url: str, headers: dict[str, str]) -> None:
        self._url, self._headers = url, headers
        self._items: queue.Queue[Any] = queue.Queue(maxsize=8)
        self._is_closed = threading.Event()
        self._ends = time.monotonic() + MOST_SECONDS
        threading.Thread(target=self._read, daemon=True).start()

    def response(self) -> requests.Response:
        """The status and headers."""
        try:
            item = self._items.get(timeout=WINDOW_SECONDS)
        except queue.Empty:
            item = f"no answer for {WINDOW_SECONDS:.0f} seconds"
        if not isinstance(item, requests.Response):
            raise _AddressError(f"no answer from {self._url} ({item})")
        return item

    def chunks(self) -> Iterator[bytes]:
        """The body, as long as enough bytes arrive in every window of time."""
        received, closes = 0, time.monotonic() + WINDOW_SECONDS
        while True:
            with contextlib.suppress(queue.Empty):
                item = self._items.get(timeout=max(closes - time.monotonic(), 0.01))
                if isinstance(item, Exception):
                    raise _BrokenError(f"{self._url}: the connection broke ({_reason(item)})")
                if not item:
                    return
                received += len(item)
                yield item
            if time.monotonic() >= closes:
                if received < LEAST_BYTES_PER_SECOND * WINDOW_SECONDS or closes > self._ends:
                    raise _AddressError(
                        f"{self._url}: too slow, {received:,} bytes in the last {WINDOW_SECONDS:.0f} seconds"
                    )
                received, closes = 0, time.monotonic() + WINDOW_SECONDS

    def close(self) -> None:
        self._is_closed.set()

    def _read(self) -> None:
        try:
            timeout = (CONNECT_SECONDS, WINDOW_SECONDS)
            with requests.get(self._url, headers=self._headers, stream=True, timeout=timeout) as response:
                chunk: Any = response
                while self._put(chunk) and chunk != b"":
                    chunk = response.raw.read1(CHUNK_BYTES, decode_content=False)
        except (
            OSError,
            ValueError,
            urllib3.exceptions.HTTPError,
        ) as error:  # requests' own errors are OSErrors
            self._put(error)

    def _put(self, item: object) -> bool:
        """Pass an item to the reader; False if the reader has closed the response."""
        while not self._is_closed.is_set():
            with contextlib.suppress(queue.Full):
                self._items.put(item, timeout=0.5)
                return True
        return False


def _reason(error: Exception) -> str:
    """The innermost cause, which names the problem; the library's wrappers only repeat the address."""
    while isinstance(error.args[-1] if error.args else None, Exception):
        error = error.args[-1]
    return str(getattr(error, "reason", None) or error).rpartition(": ")[2] or type(error).__name__


@contextlib.contextmanager
def shown(title: str) -> Iterator[Progress]:
    """Shows progress: a bar on a terminal, otherwise a line every PLAIN_SECONDS."""
    console = Console(file=sys.stderr, soft_wrap=True)
    if not console.is_terminal:
        last_line = time.monotonic()

        def print_line(done: int, total: int | None) -> None:
            nonlocal last_line
            if time.monotonic() - last_line > PLAIN_SECONDS:
                last_line = time.monotonic()
                whole = f" of {total:,}" if total else ""
                console.print(f"{title}: {done:,}{whole} bytes", markup=False, highlight=False)

        yield print_line
        return
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Bar(*columns, TimeRemainingColumn(), console=console, transient=True) as bar:
        task = bar.add_task(title, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
