"""Download a public dataset from where its authors publish it: an archive, or files of a collection.

One process at a time downloads the archive to a hidden file next to its destination, checks it against the
published md5, unpacks it into a hidden folder and renames that folder: ``data_root/<name>`` either exists
complete or not at all. An interrupted download is kept, and the next one resumes it.
"""

from __future__ import annotations

import errno
import shutil
import tarfile
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from datasets.fetch.collections import COLLECTIONS, fetch_collection
from datasets.fetch.download import Part, Progress, download, part_of
from datasets.fetch.waiting import one_process_at_a_time
from datasets.prepare.folder import publish
from files.checksums import md5_of
from files.errors import InputError


@dataclass(frozen=True)
class Archive:
    """A dataset's published file: address, md5, and the licence in one line.

    ``md5`` is None where it is not stated. ``files`` has the md5 of files inside, by name, where stated.
    """

    url: str
    md5: str | None
    licence: str
    files: Mapping[str, str] = field(default_factory=dict)


def _benchmark(name: str, licence: str, **files: str) -> Archive:
    """An archive of the reczoo benchmarks, which state the md5 of the files inside, not of the archive."""
    url = f"https://huggingface.co/datasets/reczoo/{name}/resolve/main/{name}.zip"
    return Archive(url, None, licence, {f"{split}.csv": md5 for split, md5 in files.items()})


_KUAIRAND = "CC BY-SA 4.0: name the authors (Gao et al., CIKM 2022); share what you derive alike"
_CRITEO = "no licence text is published with it; Criteo's larger log is CC BY-NC-SA 4.0: do not redistribute"
_AVAZU = "the terms of its Kaggle competition: no redistribution"

ARCHIVES = {
    "kuairand-pure": Archive(
        url="https://zenodo.org/records/10439422/files/KuaiRand-Pure.tar.gz",
        md5="0820331067a3784d9691136f772b35a7",
        licence=_KUAIRAND,
    ),
    "kuairand-1k": Archive(
        url="https://zenodo.org/records/10439422/files/KuaiRand-1K.tar.gz",
        md5="6b0b9c8222d67fcd4c676218edca3f1f",
        licence=_KUAIRAND,
    ),
    "kuairand-27k": Archive(
        url="https://zenodo.org/records/10439422/files/KuaiRand-27K.tar.gz",
        md5="3e3c799a24e2d23a4d2c757fbf9adf59",
        licence=_KUAIRAND,
    ),
    "movielens-100k": Archive(
        url="https://files.grouplens.org/datasets/movielens/ml-100k.zip",
        md5="0e33842e24a9c977be4e0107933c0723",
        licence="research use, cite Harper and Konstan (2015); no redistribution or commercial use "
        "without permission",
    ),
    "movielens-1m": Archive(
        url="https://files.grouplens.org/datasets/movielens/ml-1m.zip",
        md5="c4d9eecfca2ab87c1945afe126590906",
        licence="research use, cite Harper and Konstan (2015); no redistribution or commercial use "
        "without permission",
    ),
    "criteo-x1": _benchmark(
        "Criteo_x1",
        _CRITEO,
        train="30b89c1c7213013b92df52ec44f52dc5",
        valid="f73c71fb3c4f66b6ebdfa032646bea72",
        test="2c48b26e84c04a69b948082edae46f8c",
    ),
    "criteo-x4": _benchmark(
        "Criteo_x4",
        _CRITEO,
        train="4a53bb7cbc0e4ee25f9d6a73ed824b1a",
        valid="fba5428b22895016e790e2dec623cb56",
        test="cfc37da0d75c4d2d8778e76997df2976",
    ),
    "avazu-x1": _benchmark(
        "Avazu_x1",
        _AVAZU,
        train="f1114a07aea9e996842c71648e0f6395",
        valid="d9568f246357d156c4b8030fadb8b623",
        test="9e2fe9c48705c9315ae7a0953eb57acf",
    ),
    "avazu-x4": _benchmark(
        "Avazu_x4",
        _AVAZU,
        train="de3a27264cdabf66adf09df82328ccaa",
        valid="33232931d84d6452d3f956e936cab2c9",
        test="3ebb774a9ca74d05919b84a3d402986d",
    ),
    "frappe-x1": _benchmark(
        "Frappe_x1",
        "research use, cite Baltrunas et al. (2015); no redistribution without permission, no attempt to "
        "identify people, no commercial use",
        train="ba7306e6c4fc19dd2cd84f2f0596d158",
        valid="88d51bf2173505436d3a8f78f2a59da8",
        test="3470f6d32713dc5f7715f198ca7c612a",
    ),
    "movielens-latest-x1": _benchmark(
        "MovielensLatest_x1",
        "research use, cite Harper and Konstan (2015); redistribution under the same licence, no commercial "
        "use without permission",
        train="efc8bceeaa0e895d566470fc99f3f271",
        valid="e1930223a5026e910ed5a48687de8af1",
        test="54e8c6baff2e059fe067fb9b69e692d0",
    ),
    "taobao-ad-x1": _benchmark(
        "TaobaoAd_x1",
        "the terms of Tianchi (dataset 56), which grant no redistribution",
        train="eaabfc8629f23519b04593e26c7522fc",
        test="f5ae6197e52385496d46e2867c1c8da1",
    ),
    "kuaivideo-x1": _benchmark(
        "KuaiVideo_x1",
        "none stated by the publisher: do not redistribute",
        train="16f13734411532cc313caf2180bfcd56",
        test="ba26c01caaf6c65c272af11aa451fc7a",
    ),
}

# Datasets that are another protocol on another one's files.
SAME_FILES = {"taobao-ad-x1-clean": "taobao-ad-x1", "kuaivideo-x1-clean": "kuaivideo-x1"}


def fetch(
    name: str,
    data_root: Path,
    urls: Sequence[str] | None = None,
    progress: Progress | None = None,
    say: Callable[[str], None] = print,
    options: dict | None = None,
) -> Path:
    """Download and unpack dataset ``name`` into ``data_root/name``; returns that folder.

    ``urls`` are mirrors to try in turn instead of the official address; the md5 stays the published one.
    ``options`` are the dataset's own, and choose the files of a `COLLECTIONS` entry; an archive takes none.
    The licence is shown before anything is downloaded. If another process is fetching the same dataset, this
    one waits for it. Raises InputError where the dataset cannot be fetched, the folder exists, no address
    provides the archive, the disk is full, or the archive would write outside the folder.
    """
    name = SAME_FILES.get(name, name)
    if name in COLLECTIONS:
        return fetch_collection(name, Path(data_root), options or {}, urls, progress, say)
    if name not in ARCHIVES:
        known = ", ".join(sorted([*ARCHIVES, *COLLECTIONS]))
        raise InputError(f"dataset {name!r} cannot be fetched: choose from {known}")
    if options:
        raise InputError(f"data fetch {name}: takes no option {min(options)!r}; its archive is one file")
    archive, folder = ARCHIVES[name], Path(data_root) / name
    if folder.exists():
        raise InputError(f"{folder.absolute()}: exists already; use it, or remove it to fetch {name} again")
    say(f"{name}: licence: {archive.licence}")
    if archive.md5 is None:
        what = f"those of {', '.join(archive.files)} are" if archive.files else "nothing is"
        say(f"{name}: the md5 of the archive is not stated; {what} checked when it is unpacked")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with one_process_at_a_time(folder, say):
            if not folder.exists():  # another process may have fetched it meanwhile
                _fetch(archive, folder, urls or [archive.url], progress, say)
    except OSError as error:
        raise InputError(
            f"{folder.absolute()}: cannot be written ({error.strerror or error}); make room there, "
            "or name another --data-root"
        ) from error
    say(f"{name}: ready in {folder.absolute()}")
    return folder


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
    part = Part(part_of(folder), archive.md5)
    url = download(urls, part, progress, say)
    unpacked.mkdir()
    try:
        _unpack(part.path, unpacked, url)
        _check_files(archive, unpacked, url)
        if not publish(unpacked, folder, replace=False):
            raise InputError(f"{folder.absolute()}: exists already; use it, or remove it to fetch it again")
    except InputError:
        part.remove()  # unpacking it again would fail again
        raise
    finally:
        shutil.rmtree(unpacked, ignore_errors=True)
    part.remove()


def _check_files(archive: Archive, folder: Path, url: str) -> None:
    """InputError where a file inside is absent, or has another md5 than the published one."""
    for name, md5 in archive.files.items():
        found = sorted(folder.rglob(name))
        if not found:
            raise InputError(f"{url}: holds no file {name}; it is dropped: fetch again or use another mirror")
        if (other := md5_of(found[0])) != md5:
            raise InputError(
                f"{url}: the md5 of {name} is {other}, not the published {md5}; it is dropped: "
                "fetch again or use another mirror"
            )


def _unpack(archive: Path, folder: Path, url: str) -> None:
    """Unpack a zip or tar archive; files that would land outside ``folder`` are an error.

    Raises InputError where the archive is at fault, and OSError where the disk is.
    """
    try:
        if zipfile.is_zipfile(archive):
            _unzip(archive, folder)
        else:
            with tarfile.open(archive) as packed:
                packed.extractall(folder, filter="data")
    except Exception as error:  # decoders of damaged bytes raise errors of many kinds, OSError among them
        if isinstance(error, OSError) and error.errno not in _OF_DAMAGED_BYTES:
            raise
        raise InputError(
            f"{url}: cannot be unpacked safely ({error}); it is dropped: fetch again or use another mirror"
        ) from None


_OF_DAMAGED_BYTES = (None, errno.EINVAL, errno.ENAMETOOLONG)  # a stream, a place in the file, a name


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
