"""How the embedding tables of one run are spread over its GPUs: the file of ``run --placement``.

TorchRec's planner decides within what it says. None of it changes what a run computes beyond rounding, so it
is no part of a run's spec.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import BeforeValidator, Field, PrivateAttr, ValidationError, model_validator

from datasets.schema import Feature, first_problem
from files.errors import InputError
from files.yaml_files import read_yaml
from harness.model.embeddings import name_of_module_key
from harness.records.spec import Strict

# Sharding types of TorchRec that would change what a run computes, or lose it.
COLUMNS = "columns apart from each other give row-wise Adagrad another accumulator than one process has"
INEXACT = {
    "column_wise": COLUMNS,
    "table_column_wise": COLUMNS,
    "grid_shard": COLUMNS,
    "data_parallel": "the optimizer's state of a table that every process has is in no checkpoint",
}


def _exact(kind: Any) -> Any:
    if isinstance(kind, str) and kind in INEXACT:
        raise ValueError(
            f"{kind} is refused, since {INEXACT[kind]}; choose table_wise, row_wise or table_row_wise"
        )
    return kind


# A whole table on one process, or blocks of its rows on all processes or on those of one host.
ShardingType = Annotated[Literal["table_wise", "row_wise", "table_row_wise"], BeforeValidator(_exact)]
ComputeKernel = Literal["fused", "fused_uvm", "fused_uvm_caching"]
UNLESS_STATED: list[ShardingType] = ["table_wise", "row_wise"]


class TablePlacement(Strict):
    """What a table's place may be; None leaves it to ``default``, and there to the planner.

    ``cache_load_factor`` is the share of the table's rows that ``fused_uvm_caching`` keeps on the GPU.
    """

    sharding_types: list[ShardingType] | None = Field(None, min_length=1)
    compute_kernels: list[ComputeKernel] | None = Field(None, min_length=1)
    cache_load_factor: float | None = Field(None, gt=0, lt=1)

    @property
    def may_cache(self) -> bool:
        return self.compute_kernels is None or "fused_uvm_caching" in self.compute_kernels


class Placement(Strict):
    """How tables are spread. Without a file, the planner has the GPUs' whole memory and the default types.

    ``gigabytes_per_gpu`` are 10^9 bytes that tables and their optimizer's state may take of each GPU,
    ``host_gigabytes_per_gpu`` those of its host for each GPU there, where ``fused_uvm`` and
    ``fused_uvm_caching`` keep them.
    """

    gigabytes_per_gpu: float | None = Field(None, gt=0)
    host_gigabytes_per_gpu: float | None = Field(None, gt=0)
    default: TablePlacement = TablePlacement()
    tables: dict[str, TablePlacement] = Field(default_factory=dict)
    _path: Path | None = PrivateAttr(None)

    @model_validator(mode="after")
    def _caches_are_of_use(self) -> Placement:
        stated = {"default": self.default, **{f"tables.{name}": table for name, table in self.tables.items()}}
        for field, table in stated.items():
            kernels = table.compute_kernels or self.default.compute_kernels
            if table.cache_load_factor is not None and kernels and "fused_uvm_caching" not in kernels:
                raise ValueError(
                    f"{field}.cache_load_factor: only fused_uvm_caching has a cache; add it to "
                    "compute_kernels, or remove this"
                )
        return self

    @property
    def where(self) -> str:
        """The beginning of a sentence about the file; empty without one."""
        return f"{self._path}: " if self._path else ""

    def of(self, table: str) -> TablePlacement:
        """What holds for a table, by the name that users know it by."""
        stated = self.tables.get(table, TablePlacement()).model_dump(exclude_none=True)
        merged = self.default.model_copy(update=stated)
        return merged if merged.may_cache else merged.model_copy(update={"cache_load_factor": None})

    def constraints(self, names: Iterable[str]) -> dict[str, Any]:
        """What TorchRec's planner is asked, by the names that it knows the tables by."""
        from torchrec.distributed.planner import ParameterConstraints
        from torchrec.distributed.types import CacheParams

        found = {}
        for name in names:
            table = self.of(name_of_module_key(name))
            factor = table.cache_load_factor
            found[name] = ParameterConstraints(
                sharding_types=list(table.sharding_types or UNLESS_STATED),
                compute_kernels=None if table.compute_kernels is None else list(table.compute_kernels),
                cache_params=None if factor is None else CacheParams(load_factor=factor),
            )
        return found

    def check_device(self, device: torch.device) -> None:
        """InputError where it asks for what this device does not have."""
        if device.type == "cuda":
            memory = torch.cuda.get_device_properties(device).total_memory / 1e9
            if self.gigabytes_per_gpu is not None and self.gigabytes_per_gpu > memory:
                raise InputError(
                    f"{self.where}gigabytes_per_gpu: {self.gigabytes_per_gpu:g} is more than the "
                    f"{memory:.1f} GB of this GPU; lower it"
                )
            return
        for name in ("gigabytes_per_gpu", "host_gigabytes_per_gpu"):
            if getattr(self, name) is not None:
                raise InputError(f"{self.where}{name}: there are no GPUs on --device cpu; remove it")
        tables = {f"tables.{name}": table for name, table in self.tables.items()}
        for field, table in {"default": self.default, **tables}.items():
            for name, value in table.model_dump(exclude_none=True).items():
                if value not in (["table_wise"], ["fused"]):
                    raise InputError(
                        f"{self.where}{field}.{name}: on CPUs TorchRec has whole tables (table_wise) by the "
                        "fused kernel alone; remove it, or run on GPUs"
                    )

    def check_tables(self, features: Sequence[Feature]) -> None:
        """InputError where it names a table that no dataset has, among those of these features."""
        table_of = {feature.name: feature.table for feature in features}
        known = sorted({feature.table for feature in features})
        for name in (name for name in self.tables if name not in known):
            meant = f"is no table, but looks up {table_of[name]}" if name in table_of else "is no table"
            raise InputError(f"{self.where}tables.{name}: {meant}; choose from {', '.join(known)}")


def read_placement(path: Path) -> Placement:
    """The placement of a file; InputError naming file, field and mend where it says what cannot be."""
    try:
        placement = Placement.model_validate(read_yaml(path))
    except ValidationError as error:
        raise InputError(first_problem(error, str(path))) from None
    placement._path = path
    return placement
