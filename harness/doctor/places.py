"""Where data are: raw files of public datasets, and the cache of what was prepared."""

from __future__ import annotations

from pathlib import Path

from datasets.catalog import raw_folder
from datasets.fetch.collections import COLLECTIONS
from datasets.fetch.official import ARCHIVES
from datasets.prepare.folder import abandoned
from files.errors import InputError
from files.remote_copy import url_of
from harness.doctor.examination import Examination

MANIFEST = "manifest.json"  # in every folder of prepared data


def examine_data(found: Examination, data_root: Path | None) -> None:
    """Which public datasets are below ``data_root``, and what is to be done for the others."""
    if data_root is None:
        fetch = "python run_bench.py data fetch"
        names = ", ".join(sorted([*ARCHIVES, *COLLECTIONS]))
        found.line("data root", f"none (BENCH_DATA_ROOT or --data-root), for {names}; {fetch} NAME fills it")
        return
    if (url := url_of(data_root)) is not None:
        found.line("data root", f"{url}, from which raw files are fetched when they are read")
        return
    if not data_root.is_dir():
        found.missing.append(
            f"the folder of --data-root (BENCH_DATA_ROOT), {data_root}; correct it or make it"
        )
        return
    found.line("data root", str(data_root.absolute()))
    for name in sorted([*ARCHIVES, *COLLECTIONS]):
        try:
            found.line("", f"{name}: in {raw_folder(name, data_root)}")
        except InputError as error:
            found.line("", f"{name}: {error}")


def examine_cache(found: Examination, cache: Path) -> None:
    """How many datasets are prepared in the cache, how large it is, and what killed commands left in it."""
    if not cache.is_dir():
        found.line("cache", f"{cache.absolute()}: none yet")
        return
    prepared = sum((folder / MANIFEST).is_file() for folder in cache.iterdir())
    found.line(
        "cache", f"{cache.absolute()}: {prepared} prepared datasets, {_megabytes(cache)} with the rest"
    )
    for folder in abandoned(cache):
        left = f"{folder.name}: {_megabytes(folder)} that a killed command left"
        found.line("", f"{left}; remove it unless another machine is writing it now")


def _megabytes(folder: Path) -> str:
    return f"{sum(_bytes(path) for path in folder.rglob('*')) / 1e6:,.0f} MB"


def _bytes(path: Path) -> int:
    try:
        return path.lstat().st_size if path.is_file() else 0
    except OSError:  # removed meanwhile
        return 0
