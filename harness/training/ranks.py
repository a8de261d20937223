"""One process or many: the same loop under ``torchrun``.

The embedding tables are spread over the ranks (`harness.training.sharding`), the dense side is replicated and
its gradients averaged. With one process every function here is the identity.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, cast

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from datasets.prepared import PreparedDataset
from files.errors import UnfinishedError
from harness.model.assembly import RankingModel
from harness.model.embeddings import Embeddings, fill_initial_rows, name_of_module_key
from harness.records.spec import RunSpec
from harness.training.pieces import local_pieces
from harness.training.placement import Placement

# How long a rank waits for another: within a run, where all compute the same at the same time (NCCL's own
# default), and where one works alone, prepares data, writes a record, or waits for a lock; or where each
# writes or reads a checkpoint, of which one may hold a hundred times as much as another.
TRAINING_WAIT = timedelta(minutes=10)
LONGEST_WAIT = timedelta(days=7)


@dataclass(frozen=True)
class World:
    """This process among ``size`` ones.

    Ranks wait `TRAINING_WAIT` for each other, and `LONGEST_WAIT` in ``waiting``, a process group on the CPU,
    which methods take where they are called with ``patient``. ``placement`` is how tables are spread.
    """

    rank: int
    size: int
    device: torch.device
    waiting: dist.ProcessGroup | None = None
    placement: Placement = field(default_factory=Placement)

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    @property
    def ranks_here(self) -> range:
        """Those that are processes of this machine, as torchrun says; else all."""
        if self.size == 1 or "LOCAL_WORLD_SIZE" not in os.environ:
            return range(self.size)
        first = self.rank - int(os.environ["LOCAL_RANK"])
        return range(first, first + int(os.environ["LOCAL_WORLD_SIZE"]))

    def sum(self, values: Tensor) -> Tensor:
        """Elementwise sum over the ranks, in place."""
        if self.size > 1:
            dist.all_reduce(values)
        return values

    def barrier(self, *, patient: bool = False) -> None:
        if self.size > 1:
            dist.barrier(self.waiting if patient else None)

    def from_first(self, value: Any, *, patient: bool = False) -> Any:
        """The first rank's value, on every rank."""
        if self.size == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0, group=self.waiting if patient else None)
        return box[0]

    def gather(self, array: np.ndarray, *, patient: bool = False) -> list[np.ndarray]:
        """Every rank's array, in rank order (lengths may differ)."""
        if self.size == 1:
            return [array]
        boxes: list[Any] = [None] * self.size
        dist.all_gather_object(boxes, array, group=self.waiting if patient else None)
        return boxes

    def send_to_first(self, tensor: Tensor, sender: int) -> None:
        """Fill the first rank's tensor on the CPU with the one of rank ``sender``; the others do nothing."""
        if sender == 0:
            return
        if self.rank == sender:
            dist.send(tensor, 0, group=self.waiting)
        elif self.is_first:
            dist.recv(tensor, sender, group=self.waiting)


def start_world(device: torch.device, placement: Placement | None = None) -> World:
    """Join the process group that ``torchrun`` announces, or stand alone."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        return World(0, 1, device)
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    if not dist.is_initialized():
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=TRAINING_WAIT)
    waiting = dist.new_group(backend="gloo", timeout=LONGEST_WAIT)
    dist.barrier(waiting)  # that none ends, whatever it refuses, while another still joins
    return World(dist.get_rank(), dist.get_world_size(), device, waiting, placement or Placement())


@contextlib.contextmanager
def lost_ranks_in_words(world: World) -> Iterator[None]:
    """Raise an UnfinishedError of one sentence where another rank is silent or gone."""
    try:
        yield
    except RuntimeError as error:
        if world.size == 1 or not _is_of_the_network(error):
            raise
        raise UnfinishedError(
            f"process {world.rank} of {world.size} {_loss(error)}; the same command on all hosts goes on "
            "from the last checkpoint"
        ) from error


def _is_of_the_network(error: RuntimeError) -> bool:
    return isinstance(error, dist.DistError) or "gloo" in str(error).lower()


def _loss(error: RuntimeError) -> str:
    if "timed out" in str(error).lower() or "timeout" in str(error).lower():
        minutes = TRAINING_WAIT.total_seconds() / 60
        return (
            f"heard nothing from another for {minutes:.3g} minutes: one hangs or was stopped, or the "
            "network between hosts is down"
        )
    return "lost another, which ended (its own message says why) or can no longer be reached"


def build_embeddings(spec: RunSpec, prepared: PreparedDataset, device: torch.device) -> Embeddings:
    """The tables of a spec; their weights are whatever the device's memory held."""
    return Embeddings(
        prepared.schema,
        prepared.table_sizes,
        optimizer=None if spec.training.updates_whole_tables else spec.training.sparse_optimizer,
        learning_rate=spec.training.sparse_lr,
        target_attention=spec.target_attention,
        device=device,
    )


def table_weights(model: nn.Module) -> dict[str, Any]:
    """Embedding weights by state-dict key, plain or sharded."""
    return {key: value for key, value in model.state_dict().items() if ".embedding_bags." in key}


def initialise_tables(model: nn.Module, seed: int, std: float | None = None) -> None:
    """Fill every table with its initial rows (`fill_initial_rows`), whichever part lies on this rank."""
    widths = next(part for part in model.modules() if isinstance(part, Embeddings)).widths
    for key, value in table_weights(model).items():
        table = name_of_module_key(key.split(".embedding_bags.")[1].removesuffix(".weight"))
        for piece in local_pieces(value):
            first_row, first_column = piece.offsets
            fill_initial_rows(piece.tensor, seed, table, widths[table], first_row, first_column, std)


def dense_side(model: nn.Module) -> nn.Module:
    """The dense side of a ranking model, sharded or not."""
    return _ranking_model(model).dense


def embedding_side(model: nn.Module) -> Embeddings:
    """The embedding tables of a ranking model, sharded or not."""
    return _ranking_model(model).embeddings


def _ranking_model(model: nn.Module) -> RankingModel:
    from torchrec.distributed import DistributedModelParallel

    return cast(RankingModel, model.module if isinstance(model, DistributedModelParallel) else model)
