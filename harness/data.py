"""The suites' way to the data: raw files or a name in, a prepared folder out."""

from __future__ import annotations

from pathlib import Path

from datasets.catalog import WORLD_OPTIONS, in_world, prepare_dataset
from datasets.dealing import cuts_shards, deal_split
from datasets.leaks.report import as_recorded as leaks_as_recorded
from datasets.leaks.report import warnings as leak_warnings
from datasets.prepare.folder import is_full_disk
from datasets.prepare.store import fetched
from datasets.prepared import PreparedDataset, open_prepared
from datasets.schema import PlainName, PlainText, first_problem
from files.errors import InputError
from files.yaml_files import override, read_yaml, yaml_text

__all__ = [
    "WORLD_OPTIONS",
    "InputError",
    "PlainName",
    "PlainText",
    "PreparedDataset",
    "cuts_shards",
    "fetched",
    "first_problem",
    "in_world",
    "is_full_disk",
    "leak_warnings",
    "leaks_as_recorded",
    "open_prepared",
    "override",
    "prepare_dataset",
    "prepared_for_ranks",
    "read_yaml",
    "yaml_text",
]


def prepared_for_ranks(
    name: str,
    options: dict,
    data_root: Path | None,
    cache_root: Path,
    rebuild: bool,
    ranks,
    world: int | None = None,
    shares: int | None = None,
) -> PreparedDataset:
    """Prepare on the first rank, then open on all; ``world`` as `prepare_dataset` has it.

    Raises InputError on all ranks where a split has no rows for one of them, or the training split for one of
    the ``shares`` that it is dealt into, where these are more.
    """
    if ranks.is_first:
        prepared = prepare_dataset(name, options, data_root, cache_root, rebuild=rebuild, world=world)
    ranks.barrier(patient=True)
    if not ranks.is_first:
        prepared = prepare_dataset(name, options, data_root, cache_root, rebuild=False, world=world)
    for split in prepared.rows:
        deal_split(prepared, split, (shares if split == "train" else None) or ranks.size)
    return prepared
