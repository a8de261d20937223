"""Download a public dataset from where its authors publish it.

The archive is streamed to a temporary folder beside its destination, checked against the published
md5, unpacked there without leaving the folder, and renamed into place: ``data_root/<name>`` exists
whole or not at all.
"""

from __future__ import annotations

import hashlib
import tarfile
import tempfile
import urllib.request
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path, PurePosixPath

from datasets.errors import InputError

Progress = Callable[[int, int | None], None]  # bytes so far, bytes in all (None if not told)
CHUNK_BYTES = 1 << 20
TIMEOUT_SECONDS = 60


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

    ``urls`` are mirrors to try in turn instead of the official address; the md5 stays the
    published one. The licence is said before anything is downloaded. Raises InputError where the
    dataset is not one that can be fetched, the folder exists, no server answers, the md5 differs,
    or the archive would write outside the folder.
    """
    if name not in ARCHIVES:
        raise InputError(f"dataset {name!r} cannot be fetched: choose from {', '.join(sorted(ARCHIVES))}")
    archive, folder = ARCHIVES[name], Path(data_root) / name
    if folder.exists():
        raise InputError(f"{folder.absolute()}: exists already; use it, or remove it to fetch {name} again")
    say(f"{name}: licence: {archive.licence}")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=folder.parent) as temporary:
            download, unpacked = Path(temporary) / "archive", Path(temporary) / "unpacked"
            unpacked.mkdir()
            url = _download_first(urls or [archive.url], download, progress)
            _check_md5(download, archive.md5, url)
            _unpack(download, unpacked, url)
            unpacked.rename(folder)
    except OSError as error:
        raise InputError(
            f"{folder.absolute()}: cannot be written ({error.strerror or error}); make room there, "
            "or name another --data-root"
        ) from None
    say(f"{name}: ready in {folder.absolute()}")
    return folder


def _download_first(urls: Sequence[str], target: Path, progress: Progress | None) -> str:
    """Download the first address that answers; returns it."""
    failures = []
    for url in urls:
        try:
            response = urllib.request.urlopen(url, timeout=TIMEOUT_SECONDS)
        except (OSError, HTTPException, ValueError) as error:
            failures.append(f"{url} ({getattr(error, 'reason', error)})")
            continue
        with response:
            _stream(response, url, target, progress)
        return url
    raise InputError(
        f"no answer from {', '.join(failures)}; check the network, "
        "or download the archive elsewhere and unpack it into the data root"
    )


def _stream(response, url: str, target: Path, progress: Progress | None) -> None:
    length = response.headers.get("Content-Length")
    total = int(length) if length else None
    done = 0
    with target.open("wb") as file:
        while chunk := _read(response, url):
            file.write(chunk)
            done += len(chunk)
            if progress is not None:
                progress(done, total)
    if total is not None and done < total:
        raise InputError(f"{url}: the connection ended after {done} of {total} bytes; fetch again")


def _read(response, url: str) -> bytes:
    """The next piece; a broken connection is told apart from a full disk."""
    try:
        return response.read(CHUNK_BYTES)
    except (OSError, HTTPException) as error:
        raise InputError(f"{url}: the connection broke ({error}); fetch again") from None


def _check_md5(path: Path, expected: str, url: str) -> None:
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "md5").hexdigest()
    if found != expected:
        raise InputError(
            f"{url}: md5 is {found}, not the published {expected}; fetch again or use another mirror"
        )


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
