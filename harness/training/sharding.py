"""Spreads the embedding tables over the ranks, where TorchRec's planner puts them.

`harness.training.placement` says what it may do.
"""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.distributed as dist
from torch import nn
from torchrec import EmbeddingBagConfig, PoolingType

from files.errors import InputError
from harness.model.embeddings import Embeddings, name_of_module_key
from harness.training.ranks import World, embedding_side


def shard(model: nn.Module, world: World) -> nn.Module:
    """The model with its tables spread over the ranks by TorchRec's planner.

    Raises InputError, on all ranks, where the planner finds no room for them.
    """
    if world.size == 1:
        return model
    from torchrec.distributed import DistributedModelParallel
    from torchrec.distributed.planner.types import PlannerError
    from torchrec.distributed.types import ShardingEnv

    embeddings = embedding_side(model)
    planner, sharders = _planner(embeddings, world)
    plan, problem = None, ""
    if world.is_first:
        try:
            plan = planner.plan(model, sharders)
        except PlannerError:
            problem = _no_room(embeddings, world)
    plan, problem = world.from_first((plan, problem))
    if problem:
        raise InputError(problem)
    configs = [collection.embedding_bag_configs() for collection in embeddings.tables()]
    sharded = DistributedModelParallel(
        model,
        env=ShardingEnv.from_process_group(dist.GroupMember.WORLD),
        device=world.device,
        plan=plan,
        sharders=sharders,
    )
    for collection, its_configs in zip(embedding_side(sharded).tables(), configs, strict=True):
        _divide_once(collection, its_configs)
    return sharded


def _divide_once(collection: Any, configs: list[EmbeddingBagConfig]) -> None:
    """Keep TorchRec 1.8.0 from dividing sums over bags by their lengths twice.

    Where a table of a sharded collection is in blocks of rows, it divides what all of them return, and spares
    only features that it has noted as sums; whole tables return means already.
    """
    for config in configs:
        if collection.module_sharding_plan[config.name].sharding_type == "table_wise":
            collection._pooling_type_to_rs_features[PoolingType.SUM.value] += config.feature_names


def forget_cached_rows(model: nn.Module) -> None:
    """After weights were overwritten: rows that GPUs cache (``fused_uvm_caching``) are read anew."""
    from torchrec.distributed.embeddingbag import ShardedEmbeddingBagCollection

    for collection in embedding_side(model).tables():
        if isinstance(collection, ShardedEmbeddingBagCollection):
            for lookup in collection._lookups:
                cast(Any, lookup).purge()


def placed_tables(model: nn.Module) -> dict[str, dict[str, Any]]:
    """Where the planner put each table: sharding type, kernel and ranks; nothing of one process."""
    from torchrec.distributed import DistributedModelParallel

    if not isinstance(model, DistributedModelParallel):
        return {}
    return {
        name_of_module_key(name): {
            "sharding_type": placed.sharding_type,
            "compute_kernel": placed.compute_kernel,
            "ranks": placed.ranks,
        }
        for module in model.plan.plan.values()
        for name, placed in cast(Any, module).items()
    }


def holders(embeddings: Embeddings, world: World) -> dict[str, int]:
    """On CPUs, the rank that `shard` will put each table on, by the table's TorchRec name.

    Empty where the planner finds no room for them on any number of hosts.
    """
    from torchrec.distributed.planner.types import PlannerError

    if world.size == 1:
        return {config.name: 0 for table in embeddings.tables() for config in table.embedding_bag_configs()}
    planner, sharders = _planner(embeddings, world)
    try:
        modules = planner.plan(embeddings, sharders).plan.values()
    except PlannerError:
        return {}
    return {
        name: placed.sharding_spec.shards[0].placement.rank()
        for module in modules
        for name, placed in module.items()
    }


def _planner(embeddings: Embeddings, world: World) -> tuple[Any, list[Any]]:
    """TorchRec's planner for these ranks, and what it asks how tables may be spread."""
    from torchrec.distributed.comm import get_local_size
    from torchrec.distributed.fused_embeddingbag import FusedEmbeddingBagCollectionSharder
    from torchrec.distributed.planner import EmbeddingShardingPlanner, Topology
    from torchrec.distributed.planner.storage_reservations import FixedPercentageStorageReservation

    names = [config.name for table in embeddings.tables() for config in table.embedding_bag_configs()]
    exactly = FixedPercentageStorageReservation(0.0) if world.placement.gigabytes_per_gpu else None
    planner = EmbeddingShardingPlanner(
        topology=Topology(
            world_size=world.size,
            local_world_size=get_local_size(world.size),
            compute_device=world.device.type,
            **(_memory_for_weights(embeddings, world) if world.device.type == "cuda" else {}),
        ),
        storage_reservation=exactly,  # else a share is kept free for all that is no table
        constraints=world.placement.constraints(names),
    )
    return planner, [FusedEmbeddingBagCollectionSharder()]


def _memory_for_weights(embeddings: Embeddings, world: World) -> dict[str, int]:
    """The bytes of a GPU and of its host that tables may take in the planner's eyes.

    It sees no optimizer's state, and Adagrad's is as large as the weights. Unless it is told, it takes every
    GPU for one of 32 GB with 128 GiB of its host.
    """
    placement, copies = world.placement, _weights_and_state(embeddings)
    gpu = torch.cuda.get_device_properties(world.device).total_memory
    if placement.gigabytes_per_gpu is not None:
        gpu = int(placement.gigabytes_per_gpu * 1e9)
    found = {"hbm_cap": gpu // copies}
    if placement.host_gigabytes_per_gpu is not None:
        found["ddr_cap"] = int(placement.host_gigabytes_per_gpu * 1e9) // copies
    return found


def _weights_and_state(embeddings: Embeddings) -> int:
    """How many times the size of the weights the tables take."""
    return 1 + any(table.optimizer_type() is torch.optim.Adagrad for table in embeddings.tables())


def _no_room(embeddings: Embeddings, world: World) -> str:
    """What is said where the planner finds no room for the tables."""
    copies = _weights_and_state(embeddings)
    gigabytes = {
        name_of_module_key(config.name): copies * 4 * config.num_embeddings * config.embedding_dim / 1e9
        for table in embeddings.tables()
        for config in table.embedding_bag_configs()
    }
    largest = max(gigabytes, key=lambda name: gigabytes[name])
    where, places, mend = world.placement.where, f"{world.size} processes", "start more processes"
    if world.device.type == "cuda":
        room = copies * _memory_for_weights(embeddings, world)["hbm_cap"] / 1e9
        places = f"{world.size} GPUs with {room:.4g} GB each for them"
        mend += (
            ", raise gigabytes_per_gpu or host_gigabytes_per_gpu, or allow other sharding_types or "
            "compute_kernels"
            if where
            else ", or spread the tables otherwise with --placement"
        )
    return (
        f"{where}no plan puts the embedding tables ({sum(gigabytes.values()):.4g} GB with optimizer, "
        f"{gigabytes[largest]:.4g} of them {largest!r}) on {places}; {mend}"
    )
