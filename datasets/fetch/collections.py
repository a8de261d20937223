"""Download those files that are wanted of a dataset that is published as many files.

Each file arrives under a hidden name and is then renamed: what is in the folder has the size that the server
stated. Files that are there are kept, so a fetch with other options adds to the folder, and an interrupted
one goes on; a file that turns out to be damaged is to be removed before it is fetched again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import requests

from datasets.fetch.download import CONNECT_SECONDS, Part, Progress, download, part_of
from datasets.fetch.waiting import one_process_at_a_time
from files.errors import InputError
from files.writing import flush


@dataclass(frozen=True)
class Collection:
    """Where a dataset's files are published, and the licence in one line. Their md5 is not stated."""

    url: str
    licence: str


_YAMBDA = Collection(
    "https://huggingface.co/datasets/yandex/yambda/resolve/main",
    "Apache-2.0: keep the notice and cite https://arxiv.org/abs/2505.22238",
)
COLLECTIONS = {
    "vk-lsvd": Collection(
        "https://huggingface.co/datasets/deepvk/VK-LSVD/resolve/main",
        "Apache-2.0: keep the notice and cite https://arxiv.org/abs/2602.04567",
    ),
    "yambda-50m": _YAMBDA,
    "yambda-500m": _YAMBDA,
    "yambda-5b": _YAMBDA,
}


def fetch_collection(
    name: str,
    data_root: Path,
    options: dict,
    urls: Sequence[str] | None,
    progress: Progress | None,
    say: Callable[[str], None],
) -> Path:
    """Download the files that dataset ``name`` reads with these options; returns their folder.

    Files that the publisher may not have released are left out, and that is said. Raises InputError on an
    unknown option, where no address provides a file, and where the disk is full.
    """
    from datasets.catalog import published_files

    needed, perhaps = published_files(name, options)
    folder = data_root / name
    say(f"{name}: licence: {COLLECTIONS[name].licence}")
    say(f"{name}: the md5 of its files is not stated; their sizes alone are checked")
    roots = list(urls or [COLLECTIONS[name].url])
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with one_process_at_a_time(folder, say):
            for path in [*needed, *perhaps]:
                if path in perhaps and not _is_published(f"{roots[0]}/{path}"):
                    say(f"{name}: {path} is not published; it is left out")
                else:
                    _fetch_file([f"{root}/{path}" for root in roots], folder / path, progress, say)
    except OSError as error:
        raise InputError(
            f"{folder.absolute()}: cannot be written ({error.strerror or error}); make room there, "
            "or name another --data-root"
        ) from error
    say(f"{name}: ready in {folder.absolute()}")
    return folder


def _fetch_file(
    urls: Sequence[str], target: Path, progress: Progress | None, say: Callable[[str], None]
) -> None:
    if target.is_file():
        say(f"{target.name}: is there already")
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    part = Part(part_of(target), None)
    download(urls, part, progress, say)
    flush(part.path)
    part.path.replace(target)
    flush(target.parent)
    part.remove()
    say(f"{target.name}: {target.stat().st_size:,} bytes")


def _is_published(url: str) -> bool:
    """Whether the server knows the file; InputError where it does not answer."""
    try:
        return requests.head(url, allow_redirects=True, timeout=CONNECT_SECONDS).status_code != 404
    except requests.RequestException as error:
        raise InputError(f"no answer from {url} ({type(error).__name__}); check the network") from None
