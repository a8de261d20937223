"""The suites' way to the data: raw files or a name in, a prepared folder out."""

from __future__ import annotations

from pathlib import Path

from datasets.catalog import prepare_dataset
from datasets.leaks.report import as_recorded as leaks_as_recorded
from datasets.leaks.report import warnings as leak_warnings
from datasets.prepare.folder import is_full_disk
from datasets.prepared import PreparedDataset
from datasets.schema import PlainName, PlainText, first_problem
from files.errors import InputError
from files.yaml_files import override, read_yaml, yaml_text

__all__ = [
    "InputError",
    "PlainName",
    "PlainText",
    "PreparedDataset",
    "first_problem",
    "is_full_disk",
    "leak_warnings",
    "leaks_as_recorded",
    "override",
    "prepare_dataset",
    "prepared_for_ranks",
    "read_yaml",
    "yaml_text",
]


def prepared_for_ranks(
    name: str, options: dict, data_root: Path | None, cache_root: Path, rebuild: bool, world
) -> PreparedDataset:
    """Prepare on the first rank, then open on all."""
    if world.is_first:
        prepared = prepare_dataset(name, options, data_root, cache_root, rebuild=rebuild)
    world.barrier()
    if not world.is_first:
        prepared = prepare_dataset(name, options, data_root, cache_root, rebuild=False)
    return prepared
