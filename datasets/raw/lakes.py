"""Folders of Delta Lake, Hudi and Iceberg, which keep files of earlier versions beside the current ones."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable
from pathlib import Path

from files.errors import InputError

LOGS = {"_delta_log": "Delta Lake", ".hoodie": "Hudi"}
ICEBERG = re.compile(r"(v[0-9]+|[0-9]{5,}-.+)(\.gz)?\.metadata\.json$")


def refuse_lake_files(paths: Iterable[Path]) -> None:
    """InputError where a parquet file lies in or below a folder of which only a log says what is current."""
    for folder in sorted({parent for path in paths for parent in path.absolute().parents}):
        if (found := _log_of(folder)) is not None:
            log, kind = found
            raise InputError(
                f"{folder}: is a {kind} table ({log}) with files of earlier versions beside the current "
                "ones; export the current version to another folder, and name its files in 'files:'"
            )


def _log_of(folder: Path) -> tuple[str, str] | None:
    """The folder's log, and which program's it is."""
    for name, kind in LOGS.items():
        if os.path.isdir(folder / name):
            return name, kind
    with contextlib.suppress(OSError):  # most folders have none
        for name in sorted(os.listdir(folder / "metadata")):
            if ICEBERG.match(name):
                return f"metadata/{name}", "Iceberg"
    return None
