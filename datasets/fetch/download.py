"""Download a file over HTTP so that what arrived is kept, and the next download goes on where it ended.

What has arrived lies in ``<file>``, what is known of it in ``<file>.json``. The rest is asked for by a
``Range`` request, with ``If-Range`` so that a file that changed meanwhile comes whole; the md5 decides.

Not pooch or fsspec: neither resumes a download that was cut off, nor leaves a server that sends too slowly.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
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

from files.errors import InputError

Progress = Callable[[int, int | None], None]  # bytes so far, bytes in all (None if not told)
CHUNK_BYTES = 1 << 20
CONNECT_SECONDS = 30
WINDOW_SECONDS = 60.0  # in each of which this many bytes a second must come
LEAST_BYTES_PER_SECOND = 1000
MOST_SECONDS = 86_400.0
TRIES = 3  # of one address, while each brings the download forward
PLAIN_SECONDS = 20.0  # between lines of progress where there is no terminal


class _AddressError(Exception):
    """An address did not give the file; the next one may."""


class _BrokenError(_AddressError):
    """The connection ended early; the same address may give the rest."""


@dataclass
class Part:
    """What has arrived of a file whose md5 is ``md5``."""

    path: Path
    md5: str

    @property
    def _notes(self) -> Path:
        return self.path.with_name(f"{self.path.name}.json")

    @property
    def size(self) -> int:
        return self.path.stat().st_size if self.path.is_file() else 0

    def known(self) -> dict[str, Any]:
        """``url``, ``validator``, ``total`` of what has arrived; empty, and the part removed, if unknown."""
        with contextlib.suppress(OSError, ValueError, AttributeError):
            notes = json.loads(self._notes.read_text(encoding="utf-8"))
            if notes.get("md5") == self.md5 and self.size:
                return notes
        self.remove()
        return {}

    def begin(self, url: str, validator: str | None, total: int | None) -> None:
        """Drop what there is, for a download from the first byte on."""
        self.remove()
        notes = {"md5": self.md5, "url": url, "validator": validator, "total": total}
        self._notes.write_text(json.dumps(notes), encoding="utf-8")

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)
        self._notes.unlink(missing_ok=True)

    def found_md5(self) -> str:
        with self.path.open("rb") as file:
            return hashlib.file_digest(file, "md5").hexdigest()


def download(urls: Sequence[str], part: Part, progress: Progress | None, say: Callable[[str], None]) -> str:
    """Complete ``part`` from the first address that gives a file of its md5; returns that address.

    One process at a time may do so. Raises InputError where no address gives it: no answer, an error of
    the server, a connection that ends or slows down to less than LEAST_BYTES_PER_SECOND, another md5. What
    arrived by then stays for the next download, unless its md5 is wrong. A full disk is its OSError.
    """
    notes = part.known()
    if notes and notes["total"] in (None, part.size) and part.found_md5() == part.md5:
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
    if part.size:
        mend = f"{part.size:,} bytes are kept, and fetching again goes on from there"
    raise InputError(f"{'; '.join(failures)}; {mend}")


def _complete(url: str, part: Part, progress: Progress | None, say: Callable[[str], None]) -> None:
    was_resumed = bool(part.size)
    if was_resumed:
        say(f"going on after the {part.size:,} bytes that are there")
    _receive(url, part, progress)
    found = part.found_md5()
    if found == part.md5:
        return
    part.remove()
    if was_resumed:
        say(f"{url}: what arrived now does not fit what was there, so that is dropped; beginning anew")
        return _complete(url, part, progress, say)
    raise _AddressError(
        f"{url}: md5 is {found}, not the published {part.md5}; it is dropped: "
        "fetch again or use another mirror"
    )


def _receive(url: str, part: Part, progress: Progress | None) -> None:
    """Every byte that is missing, asked for again while connections break and yet bring something."""
    for left in reversed(range(TRIES)):
        before = part.size
        try:
            return _receive_once(url, part, progress)
        except _BrokenError:
            if not left or part.size <= before:
                raise


def _receive_once(url: str, part: Part, progress: Progress | None) -> None:
    notes = part.known()
    headers = {"Accept-Encoding": "identity"}  # the bytes that the md5 is of
    if notes:
        headers["Range"] = f"bytes={part.size}-"
        if notes["validator"] and notes["url"] == url:
            headers["If-Range"] = notes["validator"]
    with contextlib.closing(_Source(url, headers)) as source:
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
    """Make the part ready for the bytes that follow; returns how many there are in all, if that is told."""
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
        etag = response.headers.get("ETag", "")
        validator = response.headers.get("Last-Modified") if etag.startswith("W/") or not etag else etag
        part.begin(url, validator, total)
        return total
    elif response.status_code not in (206, 416):
        raise _AddressError(f"no answer from {url} ({response.status_code} {response.reason})")
    part.remove()  # the server's file is another one: ask for all of it
    raise _BrokenError(f"{url}: the file there is another one than before, or its server cannot go on")


def _check_room(part: Part, total: int | None) -> None:
    free = shutil.disk_usage(part.path.parent).free
    if total is not None and total - part.size > free:
        sizes = f"{total - part.size:,} bytes to come, {free:,} free"
        raise OSError(errno.ENOSPC, f"No space left on device: {sizes}")


class _Source:
    """A response, read in a thread of its own so that a server that drips cannot hold up the reader."""

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
        """What follows, as long as enough comes in every window of time."""
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
        except (OSError, ValueError, urllib3.exceptions.HTTPError) as error:  # those of requests are OSErrors
            self._put(error)

    def _put(self, item: object) -> bool:
        """Hand it over; False where nobody reads on."""
        while not self._is_closed.is_set():
            with contextlib.suppress(queue.Full):
                self._items.put(item, timeout=0.5)
                return True
        return False


def _reason(error: Exception) -> str:
    """The innermost cause, which says what happened; the library's wrappers repeat addresses."""
    while isinstance(error.args[-1] if error.args else None, Exception):
        error = error.args[-1]
    return str(getattr(error, "reason", None) or error).rpartition(": ")[2] or type(error).__name__


@contextlib.contextmanager
def shown(title: str) -> Iterator[Progress]:
    """Progress as a bar on a terminal, otherwise as a line now and then."""
    console = Console(file=sys.stderr, soft_wrap=True)
    if not console.is_terminal:
        spoke = time.monotonic()

        def tell(done: int, total: int | None) -> None:
            nonlocal spoke
            if time.monotonic() - spoke > PLAIN_SECONDS:
                spoke = time.monotonic()
                whole = f" of {total:,}" if total else ""
                console.print(f"{title}: {done:,}{whole} bytes", markup=False, highlight=False)

        yield tell
        return
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Bar(*columns, TimeRemainingColumn(), console=console, transient=True) as bar:
        task = bar.add_task(title, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
