"""The sparse side: embedding tables that update inside the backward pass.

One table a vocabulary (TorchRec, fbgemm kernels, optimizer fused into the backward pass), or PyTorch's own
tables where each step updates them whole (``table_l2``, Adam as published runs use it). Features
are mean-pooled; a categorical feature has one index a row, so its mean is the embedding itself.
With target attention, the tables that an attended sequence looks up return one vector a position.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torchrec import (
    EmbeddingBagCollection,
    EmbeddingBagConfig,
    JaggedTensor,
    KeyedJaggedTensor,
    PoolingType,
)
from torchrec.modules.fused_embedding_modules import FusedEmbeddingBagCollection
from torchrec.optim.fused import FusedOptimizerModule
from torchrec.optim.rowwise_adagrad import RowWiseAdagrad

from datasets.schema import FIRST_INDEX, Feature, Schema

INIT_BLOCK_ROWS = 4096
LOOK_UP_MULTIPLE = 4  # of which fbgemm's tables need to be as wide
SPARSE_EPS = 1e-8
# Exact Adagrad keeps one accumulator a weight, row-wise Adagrad one a row, SGD none.
SPARSE_OPTIMIZERS = {
    "adagrad": torch.optim.Adagrad,
    "rowwise_adagrad": RowWiseAdagrad,
    "sgd": torch.optim.SGD,
}


_TAKEN = frozenset(dir(nn.ModuleDict()))


def module_key(name: str) -> str:
    """The key of an `nn.ModuleDict` for a name that users chose.

    PyTorch keeps modules as attributes and refuses the name of one that there is, such as ``type`` or
    ``items``. These get a dash, which no name can have; all others are their own keys.
    """
    return f"{name}-" if name in _TAKEN else name


def name_of_module_key(key: str) -> str:
    """The name that `module_key` made ``key`` of."""
    return key.removesuffix("-")


@dataclass(frozen=True)
class AttendedSequence:
    """A sequence feature and the feature of the same vocabulary that attends to it."""

    sequence: Feature
    target: Feature


def attended_sequences(schema: Schema) -> list[AttendedSequence]:
    """Sequences that share a vocabulary with a feature of the row itself, such as the target item."""
    targets: dict[str, Feature] = {}
    for feature in schema.sparse_features:
        if feature.kind != "sequence":
            targets.setdefault(feature.table, feature)
    return [
        AttendedSequence(feature, targets[feature.table])
        for feature in schema.sparse_features
        if feature.kind == "sequence" and feature.table in targets
    ]


@dataclass(frozen=True)
class LookedUp:
    """What the tables return for a batch.

    Shapes
        pooled: feature -> (B, width), mean over the feature's indices (zero if it has none).
        sequences: feature -> ((B, L, width) padded with zeros, (B,) lengths), attended ones only.
    """

    pooled: dict[str, Tensor]
    sequences: dict[str, tuple[Tensor, Tensor]]

    def squared_norm(self) -> Tensor:
        """A row's squared norms, summed over features and averaged over rows; of a sequence, their mean.

        Zero where nothing is looked up.
        """
        norms = [vectors.square().sum(1) for vectors in self.pooled.values()]
        norms += [masked_mean(v.square(), lengths).sum(1) for v, lengths in self.sequences.values()]
        return torch.stack(norms).sum(0).mean() if norms else torch.zeros(())


class Embeddings(nn.Module):
    """All embedding tables of a schema.

    Args
        table_sizes: rows of each table, by vocabulary.
        optimizer: one of `SPARSE_OPTIMIZERS`, fused into the backward pass; None leaves the tables'
            gradients to an optimizer of PyTorch.
        target_attention: leave attended sequences unpooled. fbgemm has no unpooled look-up with a
            fused optimizer on the CPU, so every position of such a table is looked up as a bag of one.
    """

    def __init__(
        self,
        schema: Schema,
        table_sizes: dict[str, int],
        *,
        optimizer: str | None,
        learning_rate: float,
        target_attention: bool = False,
        device: torch.device | None = None,
    ) -> None:
        super().__init__()
        attended = attended_sequences(schema) if target_attention else []
        self._attended = {pair.sequence.name for pair in attended}
        unpooled_tables = {pair.sequence.table for pair in attended}
        by_table = _features_by_table(schema)
        self.widths = {table: features[0].embedding_dim for table, features in by_table.items()}
        self._unpooled = {table: by_table[table] for table in by_table if table in unpooled_tables}
        device = device or torch.device("cpu")

        def collection(bags: list[EmbeddingBagConfig]) -> nn.Module:
            if optimizer is None:
                return EmbeddingBagCollection(tables=bags, device=device)
            return FusedEmbeddingBagCollection(
                tables=bags,
                optimizer_type=SPARSE_OPTIMIZERS[optimizer],
                optimizer_kwargs={"lr": learning_rate, "eps": SPARSE_EPS},
                device=device,
            )

        def bag(table: str, feature_names: list[str]) -> EmbeddingBagConfig:
            return EmbeddingBagConfig(
                name=module_key(table),
                feature_names=feature_names,
                num_embeddings=table_sizes[table],
                embedding_dim=self.widths[table] if optimizer is None else padded_width(self.widths[table]),
                pooling=PoolingType.MEAN,
            )

        bags = [
            bag(table, [feature.name for feature in features])
            for table, features in by_table.items()
            if table not in unpooled_tables
        ]
        self._pooled_keys = [name for config in bags for name in config.feature_names]
        self._pooled_widths = {
            name: self.widths[name_of_module_key(config.name)]
            for config in bags
            for name in config.feature_names
        }
        self.pooled = collection(bags) if bags else None
        self.unpooled = nn.ModuleDict(
            {
                module_key(table): collection([bag(table, [table])])
                for table in self._unpooled  # in the schema's order, the same in every process
            }
        )

    def forward(self, sparse: KeyedJaggedTensor) -> LookedUp:
        pooled: dict[str, Tensor] = {}
        sequences: dict[str, tuple[Tensor, Tensor]] = {}
        widths = self._pooled_widths
        if self.pooled is not None:
            looked_up = self.pooled(sparse).to_dict()
            pooled.update({name: _without_padding(looked_up[name], w) for name, w in widths.items()})
        for table, features in self._unpooled.items():
            positions = self._look_up_positions(
                table, [sparse[feature.name] for feature in features], features
            )
            for feature, vectors in zip(features, positions, strict=True):
                lengths = sparse[feature.name].lengths()
                if feature.name in self._attended:
                    sequences[feature.name] = (vectors, lengths)
                else:
                    pooled[feature.name] = masked_mean(vectors, lengths)
        return LookedUp(pooled, sequences)

    def _look_up_positions(
        self, table: str, jagged: list[JaggedTensor], features: list[Feature]
    ) -> list[Tensor]:
        """One (B, L, width) tensor a feature, from one call of the table."""
        widest = [feature.max_length if feature.is_list else 1 for feature in features]
        padded = [tensor.to_padded_dense(length) for tensor, length in zip(jagged, widest, strict=True)]
        indices = torch.cat([tensor.flatten() for tensor in padded]).long()
        ones = torch.ones(len(indices), dtype=torch.int32, device=indices.device)
        single = KeyedJaggedTensor(keys=[table], values=indices, lengths=ones)
        found = _without_padding(self.unpooled[module_key(table)](single).values(), self.widths[table])
        vectors = found.split([tensor.numel() for tensor in padded])
        return [part.unflatten(0, tensor.shape) for part, tensor in zip(vectors, padded, strict=True)]

    def tables(self) -> list[Any]:
        """The TorchRec modules, sharded or not, fused or not: each has ``embedding_bag_configs()``."""
        return [*([self.pooled] if self.pooled is not None else []), *self.unpooled.values()]

    def fused_optimizers(self) -> list[Any]:
        """The optimizers within the backward pass, one a module; none where tables are updated whole."""
        found = [table.fused_optimizer for table in self.tables() if isinstance(table, FusedOptimizerModule)]
        return [optimizer() if callable(optimizer) else optimizer for optimizer in found]


def padded_width(dim: int) -> int:
    """The width of the fused table that holds embeddings of ``dim`` numbers, zeros behind them."""
    return -(-dim // LOOK_UP_MULTIPLE) * LOOK_UP_MULTIPLE


def _without_padding(vectors: Tensor, width: int) -> Tensor:
    return vectors if vectors.shape[-1] == width else vectors[..., :width]


def masked_mean(vectors: Tensor, lengths: Tensor) -> Tensor:
    """Mean of the first ``lengths`` of (B, L, width) vectors; zero where there is none."""
    present = torch.arange(vectors.shape[1], device=vectors.device) < lengths.unsqueeze(1)  # (B, L)
    return (vectors * present.unsqueeze(-1)).sum(1) / lengths.clamp(min=1).unsqueeze(1)


def _features_by_table(schema: Schema) -> dict[str, list[Feature]]:
    by_table: dict[str, list[Feature]] = {}
    for feature in schema.sparse_features:
        by_table.setdefault(feature.table, []).append(feature)
    return by_table


def fill_initial_rows(
    weights: Tensor,
    seed: int,
    table: str,
    dim: int,
    first_row: int = 0,
    first_column: int = 0,
    std: float | None = None,
) -> None:
    """Write the initial weights of a table of ``dim`` columns into ``weights``, in place: N(0, std**2).

    ``std`` None stands for 0.1 / sqrt(dim). ``weights`` (rows, columns) is the rectangle of the table that
    begins at ``first_row``, ``first_column``; columns from ``dim`` on are padding, and zero.
    Rows are drawn in blocks with a generator each, so any part of a table can be made alone, and none is held
    twice. The rows of missing and unseen categories start at zero: what training never meets then says
    nothing.
    """
    scale = 0.1 / dim**0.5 if std is None else std
    end_row, columns = first_row + weights.shape[0], slice(first_column, first_column + weights.shape[1])
    own = len(range(dim)[columns])  # the others are padding
    with torch.no_grad():
        for block in range(first_row // INIT_BLOCK_ROWS, math.ceil(end_row / INIT_BLOCK_ROWS)):
            digest = hashlib.sha256(f"{seed}/{table}/{block}".encode()).digest()
            generator = torch.Generator().manual_seed(int.from_bytes(digest[:7], "little"))
            drawn = torch.randn(INIT_BLOCK_ROWS, dim, generator=generator).mul_(scale)
            top = block * INIT_BLOCK_ROWS
            start, stop = max(first_row, top), min(end_row, top + INIT_BLOCK_ROWS)
            rows = slice(start - first_row, stop - first_row)
            weights[rows, :own] = drawn[start - top : stop - top, columns]
            weights[rows, own:] = 0.0
        weights[: max(FIRST_INDEX - first_row, 0)] = 0.0
