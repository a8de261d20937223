"""A fetch below a copy of a store's folder, which sends what it fetched there."""

from __future__ import annotations

from pathlib import Path

from datasets.fetch.collections import COLLECTIONS
from datasets.fetch.download import Progress
from datasets.fetch.official import SAME_FILES, fetch
from files.remote_copy import AT_ONCE, Copy, copy_at, visible_files


def fetch_and_send(name: str, data_root: Path, progress: Progress, options: dict) -> Path:
    """As `fetch`; where ``data_root`` is a copy of a store's folder, all files of the dataset are sent there.

    A killed process leaves a note of what it has sent, and after it an archive is not fetched again: the rest
    is sent.
    """
    copy, folder = copy_at(data_root), data_root / SAME_FILES.get(name, name)
    if copy is None:
        return fetch(name, data_root, progress=progress, options=options)
    note = folder.with_name(f".{folder.name}.sent")
    if name in COLLECTIONS or not (folder.exists() and note.exists()):
        fetch(name, data_root, progress=progress, options=options)
        note.write_text("", encoding="utf-8")
    _send_rest(copy, folder, note)
    note.unlink()
    return folder


def _send_rest(copy: Copy, folder: Path, note: Path) -> None:
    """Upload the files that ``note`` does not name, a few at a time, and add their names to it."""
    sent = set(note.read_text(encoding="utf-8").splitlines())
    paths = {path.relative_to(folder).as_posix(): path for path in visible_files(folder)}
    due = [name for name in paths if name not in sent]
    for begin in range(0, len(due), AT_ONCE):
        names = due[begin : begin + AT_ONCE]
        copy.send(paths[name] for name in names)
        with note.open("a", encoding="utf-8") as file:
            file.writelines(f"{name}\n" for name in names)
