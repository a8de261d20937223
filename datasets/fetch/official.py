"""Download a public dataset from where its authors publish it.

The archive is downloaded to a hidden file beside its destination, by one process at a time, checked against
the published md5, unpacked there without leaving the folder, and renamed into place: ``data_root/<name>``
exists whole or not at all. What a download brought before it ended is kept, and the next one goes on from it.
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

_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)  # of a file system


@dataclass(frozen=True)
class Archive:
    """Where a dataset is published, the md5 of that file, and its licence in one line."""

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
    The licence is said before anything is downloaded. Where another process fetches the same dataset, it
    is waited for. Raises InputError where the dataset is not one that can be fetched, the folder exists, no
    address gives the archive, the disk is full, or the archive would write outside the folder.
    """
    if name not in ARCHIVES:
        raise InputError(f"dataset {name!r} cannot be fetched: choose from {', '.join(sorted(ARCHIVES))}")
    archive, folder = ARCHIVES[name], Path(data_root) / name
    if folder.exists():
        raise InputError(f"{folder.absolute()}: exists already; use it, or remove it to fetch {name} again")
    say(f"{name}: licence: {archive.licence}")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _alone(folder, say):
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
def _alone(folder: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Wait until no other process fetches ``folder``; a killed one holds nothing up."""
    path = folder.with_name(f".{folder.name}.lock")
    with contextlib.ExitStack() as stack:
        try:
            if not stack.enter_context(locked(path, wait=False)):
                say(f"{folder.name}: another process fetches it; waiting for that one")
                stack.enter_context(locked(path, wait=True))
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise  # where there are none, the md5 tells whether two disturbed each other
        yield


def _fetch(
    archive: Archive,
    folder: Path,
    urls: Sequence[str],
    progress: Progress | None,
    say: Callable[[str], None],
) -> None:
    unpacked = folder.with_name(f".{folder.name}.unpacked")
    for left in [
        unpacked,
        *folder.parent.glob(f".{folder.name}-*"),
    ]:  # by a killed process, or an old version's
        shutil.rmtree(left, ignore_errors=True)
    part = Part(folder.with_name(f".{folder.name}.part"), archive.md5)
    url = download(urls, part, progress, say)
    unpacked.mkdir()
    try:
        _unpack(part.path, unpacked, url)
        if not publish(unpacked, folder, replace=False):
            raise InputError(f"{folder.absolute()}: exists already; use it, or remove it to fetch it again")
    except InputError:
        part.remove()  # it would not be unpacked the next time either
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
