"""A folder of runs in a store, as a local copy: fetched before it is read, sent after it was written to."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path

from files.errors import InputError, UnfinishedError
from files.locks import locked
from files.remote import is_url
from files.remote_copy import Copy, copy_at, open_copy, visible_files
from harness.records.record import RECORD_FILE
from harness.records.remote_run import RemoteRun, remove_here

CLAIMS = ".claims"  # of the whole folder, in a store that cannot share it run by run


def opened(place: Path | str) -> Path:
    """The local path of a folder that is read; one in a store is fetched first.

    Raises InputError where the store cannot be reached, or holds nothing there.
    """
    folder = open_copy(place)
    copy = copy_at(folder) if is_url(place) else None
    if copy is not None and not refresh(copy):
        raise InputError(f"{place}: holds nothing; give the URL that a suite was run into with --out")
    return folder


@contextmanager
def shared(place: Path | str, run: str | None = None) -> Iterator[Path]:
    """The local path of a folder that is written to; one in a store is fetched first.

    Finished runs are sent one by one (`harness.records.folder.RunFolder`), those first that ended while the
    store was away; what else was written, at the end. ``run`` names the only one that is carried out, and
    then fetched.

    Raises InputError where the store cannot be written to, and where it cannot be shared and another process
    works there.
    """
    folder = open_copy(place, shared=True)
    copy = copy_at(folder) if is_url(place) else None
    if copy is None:
        yield folder
        return
    with nullcontext() if copy.shares else _alone(copy):
        refresh(copy, run)
        _send_late(copy, run)
        yield folder
        runs = folder / "runs"
        copy.send_changed(path for path in visible_files(folder) if not path.is_relative_to(runs))


def refresh(copy: Copy, run: str | None = None) -> bool:
    """Fetch every finished run, and what lies beside the runs; returns whether there is anything.

    Runs that are finished here and were deleted in the store are removed; those that it never had stay. With
    ``run``, all this is done for that run alone.
    """
    sent = copy.were_there()  # before the listing, which lacks what another process sends meanwhile
    listing = copy.store.listing("" if run is None else f"runs/{run}")
    finished = {name.split("/")[1] for name in listing if _is_record(name)}
    wanted = {name: tag for name, tag in listing.items() if _is_wanted(name.split("/"), finished)}
    copy.fetch({name: tag for name, tag in wanted.items() if not _is_record(name)})
    copy.fetch({name: tag for name, tag in wanted.items() if _is_record(name)})
    for folder in _finished_here(copy, run):
        if folder.name not in finished and f"runs/{folder.name}/{RECORD_FILE}" in sent:
            with _locked(folder) as held:
                if held is not None:
                    remove_here(copy, folder)
    return bool(wanted)


def _send_late(copy: Copy, run: str | None) -> None:
    """Send the runs that are finished here and that the store never had, unless another process has them."""
    sent = copy.were_there()
    for folder in _finished_here(copy, run):
        if f"runs/{folder.name}/{RECORD_FILE}" not in sent:
            with _locked(folder) as held:
                if held is not None:
                    late = RemoteRun(copy, folder, folder.with_name(f"{folder.name}.partial"))
                    with late.claimed(wait=False):
                        pass  # it is sent when the claim ends, as any run


def _finished_here(copy: Copy, run: str | None) -> list[Path]:
    """The folders of all runs that are finished here, or of ``run`` if it is."""
    records = sorted((copy.folder / "runs").glob(f"{run or '*'}/{RECORD_FILE}"))
    return [record.parent for record in records if not record.parent.name.endswith(".partial")]


def _locked(folder: Path) -> AbstractContextManager[int | None]:
    return locked(folder.with_name(f".{folder.name}.lock"), wait=False)


def _is_record(name: str) -> bool:
    return name.startswith("runs/") and name.endswith(f"/{RECORD_FILE}") and ".partial/" not in name


def _is_wanted(parts: list[str], finished: set[str]) -> bool:
    """Whether a file is one of a finished run, or lies beside the runs and is no report."""
    if len(parts) == 1:
        return not parts[0].startswith(".")
    return len(parts) == 3 and parts[0] == "runs" and parts[1] in finished


@contextmanager
def _alone(copy: Copy) -> Iterator[None]:
    """While this lasts, no other process may work in the folder; InputError where one does."""
    own = f"{CLAIMS}/{copy.owner}"
    copy.store.write(own, b"")
    others = [name for name in copy.store.listing(CLAIMS) if name != own]
    try:
        if others:
            raise InputError(
                f"{copy.store.url}: this store cannot keep two processes off one run, and another process "
                "works here or was killed; start one alone (with --jobs or --executor ray), and if none "
                f"works here, delete {copy.store.url}/{others[0]}"
            )
        yield
    finally:
        with suppress(InputError, UnfinishedError):
            copy.store.remove([own])
