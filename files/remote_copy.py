"""Local copies of folders in a store, so that every reader and writer has plain paths.

The copy of ``s3://bucket/out`` is the folder ``cache/remote/s3/bucket/out``. A file in it says which store it
is a copy of, so any process that is given the path finds the store. The store is what counts.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from files.errors import InputError
from files.locks import locked
from files.remote import LOCAL, Progress, Store, is_url
from files.writing import check_writable, write_atomically

COPIES = Path("cache/remote")
MARK_FILE, FETCHED_FILE, STATES_FILE = ".store.json", ".fetched.json", ".states.json"
AT_ONCE = 16  # files that are downloaded together, and lost together where the process is killed


@dataclass(frozen=True)
class Copy:
    """The copy of a store's folder; ``owner`` tells it from copies on other machines.

    ``shares`` is whether the store can give each of several processes its own runs.
    """

    folder: Path
    store: Store
    owner: str
    shares: bool

    def fetch(self, listing: dict[str, str], progress: Progress | None = None) -> None:
        """Download those files of a listing that are not here as they are there, each atomically.

        One process of a machine does so at a time; a killed one leaves nothing but whole files.
        """
        with locked(self.folder / ".fetching.lock", wait=True):
            known = self._fetched()
            due = [
                name
                for name, tag in listing.items()
                if known.get(name) != tag or not (self.folder / name).is_file()
            ]
            for begin in range(0, len(due), AT_ONCE):
                self._fetch({name: listing[name] for name in due[begin : begin + AT_ONCE]}, progress)

    def _fetch(self, listing: dict[str, str], progress: Progress | None) -> None:
        arriving = self.folder / ".fetching"
        shutil.rmtree(arriving, ignore_errors=True)  # of a process that was killed
        try:
            self.store.fetch({name: arriving / name for name in listing}, progress)
            states = {name: _state(arriving / name) for name in listing}
            for name in listing:
                (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
                os.replace(arriving / name, self.folder / name)
        finally:
            shutil.rmtree(arriving, ignore_errors=True)
        self.note(listing)
        self._remember(STATES_FILE, self._remembered(STATES_FILE) | states)

    def note(self, listing: dict[str, str]) -> None:
        """Remember that these files are here as they are there."""
        if listing:
            self._remember(FETCHED_FILE, self._fetched() | listing)

    def forget(self, folder: str) -> None:
        """Remember no more that files of this folder were in the store."""
        known = {name: tag for name, tag in self._fetched().items() if not name.startswith(f"{folder}/")}
        self._remember(FETCHED_FILE, known)

    def were_there(self) -> set[str]:
        """The files that were in the store before: fetched from it, or sent to it whole."""
        return set(self._fetched())

    def _fetched(self) -> dict[str, str]:
        return self._remembered(FETCHED_FILE)

    def send(self, paths: Iterable[Path]) -> None:
        """Upload files of the copy under their own names."""
        self.store.send(self._named(paths))

    def send_changed(self, paths: Iterable[Path]) -> None:
        """Upload those files of the copy that were written since they were fetched, or sent by this."""
        files, known = self._named(paths), self._remembered(STATES_FILE)
        states = {name: _state(path) for name, path in files.items()}
        changed = {name: state for name, state in states.items() if known.get(name) != state}
        self.store.send({name: files[name] for name in changed})
        self._remember(STATES_FILE, self._remembered(STATES_FILE) | changed)

    def _named(self, paths: Iterable[Path]) -> dict[str, Path]:
        return {path.relative_to(self.folder).as_posix(): path for path in paths}

    def _remember(self, file: str, known: dict[str, str]) -> None:
        write_atomically(self.folder / file, json.dumps(known, indent=0).encode())

    def _remembered(self, file: str) -> dict[str, str]:
        try:
            return json.loads((self.folder / file).read_bytes())
        except (OSError, ValueError):  # never written, or damaged: fetched, and sent, again
            return {}


def local_path(place: Path | str) -> Path:
    """Where a place is, or has its copy, on this machine; nothing is made or fetched.

    A path such as a:b/out is made absolute, since arrow takes it for a URI.

    >>> str(local_path("s3://bucket/out/table1")), str(local_path("file:///out")), str(local_path("out"))
    ('cache/remote/s3/bucket/out/table1', '/out', 'out')
    """
    if not is_url(place):
        local = Path(str(place).removeprefix(LOCAL))
        return local.absolute() if ":" in str(local).partition("/")[0] else local
    scheme, _, path = str(place).partition("://")
    parts = [part for part in path.split("/") if part]
    if ".." in parts or "." in parts:
        raise InputError(f"{place}: write the URL without '.' and '..'")
    return COPIES.joinpath(scheme, *parts)


def open_copy(place: Path | str, shared: bool = False) -> Path:
    """The local path of a place, ready to be fetched into and sent from if it is in a store.

    With ``shared`` the store must be one to write to, and is asked what it can do.

    Raises InputError where the store cannot be reached or the copy not be written.
    """
    folder = local_path(place)
    if not is_url(place):
        return folder
    store = Store(str(place))
    check_writable(folder, "start the command from a folder that you may write to")
    before = copy_at(folder)
    owner = before.owner if before else secrets.token_hex(8)
    if shared:
        shares = store.creates_once(f".tried-{secrets.token_hex(4)}")
    else:
        store.read(MARK_FILE)  # no store has it: whether it can be reached
        shares = before is not None and before.shares
    mark = {"url": store.url, "owner": owner, "shares": shares}
    if before is None or before.shares != shares:
        write_atomically(folder / MARK_FILE, json.dumps(mark).encode())
    return folder


def copy_at(folder: Path) -> Copy | None:
    """The copy that a folder is; None for a folder that is no copy. InputError for a damaged mark."""
    try:
        mark = json.loads((folder / MARK_FILE).read_bytes())
        url, owner, shares = mark["url"], mark["owner"], mark["shares"]
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, KeyError, TypeError):
        raise InputError(f"{folder / MARK_FILE}: is damaged; delete it and start again") from None
    return Copy(folder, Store(url), owner, shares)


def url_of(folder: Path) -> str | None:
    """The URL of what a folder is a copy of; None for a folder that is no copy."""
    copy = copy_at(folder)
    return None if copy is None else copy.store.url


def visible_files(folder: Path) -> list[Path]:
    """All files below a folder, without hidden ones and those in hidden folders."""
    return [
        path
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    ]


def sent(path: Path) -> None:
    """Upload a file that was written just now if its folder is a copy."""
    if (copy := copy_at(path.parent)) is not None:
        copy.send_changed([path])


def _state(path: Path) -> str:
    """What changes when a file is written to."""
    status = path.stat()
    return f"{status.st_mtime_ns} {status.st_size}"
