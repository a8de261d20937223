"""Download a public dataset from where its authors publish it.

One process at a time downloads the archive to a hidden file next to its destination, checks it against the
published md5, unpacks it into a hidden folder and renames that folder: ``data_root/<name>`` either exists
complete or not at all. An interrupted download is kept, and the next one resumes it.
"""

from __future__ import annotations

import contextlib
import errno
import shutil
import tarfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from datasets.fetch.download import Part, Progress, download
from datasets.prepare.folder import publish
from files.errors import InputError
from files.locks import locked

_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)  # from a file system without locks


@dataclass(frozen=True)
class Archive:
    """A dataset's published file: address, md5, and the licence in one line."""

    url: str
    md5: str
    licence: str


ARCHIVES = {
    "kuairand-pure": Archive(
        url="https://zenodo.org/records/10439422/files/KuaiRand-Pure.tar.gz",
        md5="0820331067a3784d9691136f772b35a7",
        licence="CC BY-SA 4.0: name the authors (Gao et al., CIKM 2022); share what you derive alike",
    ),
    "movielens-100k": Archive(
        url="https://files.grouplens.org/datasets/movielens/ml-100k.zip",
        md5="0e33842e24a9c977be4e0107933c0723",
        licence="research use, cite Harper and Konstan (2015); no redistribution or commercial use "
        "without permission",
    ),
}


def fetch(
    name: str,
    data_root: Path,
    urls: Sequence[str] | None = None,
    progress: Progress | None = None,
    say: Callable[[str], None] = print,
) -> Path:
    """Download and unpack dataset ``name`` into ``data_root/name``; returns that folder.

    ``urls`` are mirrors to try in turn instead of the official address; the md5 stays the published one.
    The licence is shown before anything is downloaded. If another process is fetching the same dataset, this
    one waits for it. Raises InputError where the dataset cannot be fetched, the folder exists, no address
    provides the archive, the disk is full, or the archive would write outside the folder.
    """
    if name not in ARCHIVES:
        raise InputError(f"dataset {name!r} cannot be fetched: choose from {', '.join(sorted(ARCHIVES))}")
    archive, folder = ARCHIVES[name], Path(data_root) / name
    if folder.exists():
        raise InputError(f"{folder.absolute()}: exists already; use it, or remove it to fetch {name} again")
    say(f"{name}: licence: {archive.licence}")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _one_process_at_a_time(folder, say):
            if not folder.exists():  # another process may have fetched it meanwhile
                _fetch(archive, folder, urls or [archive.url], progress, say)
    except OSError as error:
        raise InputError(
            f"{folder.absolute()}: cannot be written ({error.strerror or error}); make room there, "
            "or name another --data-root"
        ) from error
    say(f"{name}: ready in {folder.absolute()}")
    return folder


@contextlib.contextmanager
def _one_process_at_a_time(folder: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Wait until no other process is fetching ``folder``; a killed process leaves no lock behind."""
    path = folder.with_name(f".{folder.name}.lock")
    with contextlib.ExitStack() as stack:
        try:
            if not stack.enter_context(locked(path, wait=False)):
                say(f"{folder.name}: another process is fetching it; waiting for it to finish")
                stack.enter_context(locked(path, wait=True))
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise  # without locks, the md5 shows whether two processes wrote into each other's file
        yield


def _fetch(
    archive: Archive,
    folder: Path,
    urls: Sequence[str],
    progress: Progress | None,
    say: Callable[[str], None],
) -> None:
    unpacked = folder.with_name(f".{folder.name}.unpacked")
    for leftover in [
        unpacked,
        *folder.parent.glob(f".{folder.name}-*"),
    ]:  # of a killed process or an earlier version
        shutil.rmtree(leftover, ignore_errors=True)
    part = Part(folder.with_name(f".{folder.name}.part"), archive.md5)
    url = download(urls, part, progress, say)
    unpacked.mkdir()
    try:
        _unpack(part.path, unpacked, url)
        if not publish(unpacked, folder, replace=False):
            raise InputError(f"{folder.absolute()}: exists already; use it, or remove it to fetch it again")
    except InputError:
        part.remove()  # unpacking it again would fail again
        raise
    finally:
        shutil.rmtree(unpacked, ignore_errors=True)
    part.remove()


def _unpack(archive: Path, folder: Path, url: str) -> None:
    """Unpack a zip or tar archive; files that would land outside ``folder`` are an error."""
    try:
        if zipfile.is_zipfile(archive):
            _unzip(archive, folder)
        else:
            with tarfile.open(archive) as packed:
                packed.extractall(folder, filter="data")
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, _OutsideError) as error:
        raise InputError(f"{url}: cannot be unpacked safely ({error}); use another mirror") from None


class _OutsideError(Exception):
    """A zip member names a place outside the folder."""


def _unzip(archive: Path, folder: Path) -> None:
    with zipfile.ZipFile(archive) as packed:
        for member in packed.infolist():
            # zipfile itself would quietly rename such a member; a good archive has none.
            path = PurePosixPath(member.filename.replace("\\", "/"))
            if path.is_absolute() or ".." in path.parts:
                raise _OutsideError(f"member {member.filename!r} lies outside the archive's folder")
        packed.extractall(folder)
