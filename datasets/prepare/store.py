"""Prepared folders in a store: fetched instead of made again, sent with the manifest last."""

from __future__ import annotations

from pathlib import Path

from datasets.fetch.download import shown
from datasets.prepare.folder import partial_folder, publish
from files.remote_copy import copy_at
from files.verified import VERIFIED_FILE

MANIFEST = "manifest.json"


def fetched(destination: Path) -> bool:
    """Whether the prepared folder could be fetched; False also where the folder around it is no copy."""
    copy = copy_at(destination.parent)
    if copy is None:
        return False
    names = copy.store.listing(destination.name)
    if f"{destination.name}/{MANIFEST}" not in names:
        return False
    with partial_folder(destination) as partial, shown(destination.name) as progress:
        copy.store.fetch({name: partial / name for name in names}, progress)
        publish(partial / destination.name, destination, replace=False)
    return True


def sent(destination: Path, replace: bool) -> None:
    """Send a prepared folder unless the store has it, or to replace that; nothing if it is of no copy."""
    copy = copy_at(destination.parent)
    if copy is None:
        return
    manifest = destination / MANIFEST
    name = f"{destination.name}/{MANIFEST}"
    if name in copy.store.listing(destination.name):
        if not replace:
            return
        copy.store.remove([name])
    files = [path for path in destination.rglob("*") if path.is_file()]
    copy.send(path for path in files if path != manifest and path.name != VERIFIED_FILE)
    copy.send([manifest])
