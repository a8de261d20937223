"""Remembers which files were found to have their checksums, so that each is hashed once, not at every start.

A file counts as verified as long as its size, the time it was last written (mtime) and the time at which the
file system last changed it in any way (ctime, which no program sets back) are those it was hashed with. What
leaves all three as they are, such as a disk that loses bits, is found only by hashing again.
"""

from __future__ import annotations

import contextlib
import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from files.checksums import sha256_of
from files.errors import InputError
from files.writing import write_atomically

VERIFIED_FILE = "verified.json"
# Some file systems count whole seconds: a file that was just written may be written again at the same time.
SETTLED_AFTER_SECONDS = 2.0


def first_changed(folder: Path, checksums: dict[str, str], hash_all: bool = False) -> str | None:
    """The first file whose content does not have its sha256, None where all have.

    What was hashed is remembered in the folder's ``verified.json``, unless that cannot be written.

    Args:
        checksums: the sha256 of every file, by its path relative to ``folder``.
        hash_all: whether files that count as verified are hashed, too.
    """
    stamps = {name: _stamp(folder / name) for name in checksums}
    remembered = {} if hash_all else _remembered(folder)
    unknown = [name for name in checksums if remembered.get(name) != [checksums[name], *stamps[name]]]
    if not unknown:
        return None
    settled = time.time_ns() - SETTLED_AFTER_SECONDS * 1e9
    with ThreadPoolExecutor(max_workers=4) as pool:  # hashing releases the GIL
        hashes = pool.map(sha256_of, [folder / name for name in unknown])
        for name, found in zip(unknown, hashes, strict=True):
            if found != checksums[name]:
                return name
    known = {name: [checksums[name], *stamp] for name, stamp in stamps.items() if max(stamp[1:]) < settled}
    if known:
        with contextlib.suppress(OSError, InputError):  # read-only or full: hashed again next time
            write_atomically(folder / VERIFIED_FILE, (json.dumps(known, indent=1) + "\n").encode())
    return None


def _stamp(file: Path) -> list[int]:
    """Bytes, mtime and ctime in nanoseconds."""
    found = file.stat()
    return [found.st_size, found.st_mtime_ns, found.st_ctime_ns]


def _remembered(folder: Path) -> dict[str, list]:
    """Checksum, size and times by file; nothing where they were never written, or cannot be read."""
    try:
        content = json.loads((folder / VERIFIED_FILE).read_bytes())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
