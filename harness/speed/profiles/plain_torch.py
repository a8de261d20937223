"""Ranking as PyTorch's tutorials have it: a table a feature, dense gradients, one Adam over everything.

It trains the same dense side on the same rows and stands beside the harness in ``profile pipeline``; nothing
else uses it.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from datasets.prepared import PreparedDataset
from datasets.reader import ShardReader
from datasets.schema import Feature, Schema
from files.errors import InputError
from harness.model.assembly import DenseSide
from harness.model.embeddings import LookedUp, masked_mean, module_key
from harness.records.spec import RunSpec
from harness.runs.run import inputs_of
from harness.training.step import count_defined, prediction_loss


class PlainEmbeddings(nn.Module):
    """One `nn.Embedding` a feature, those of one vocabulary included; lists are padded and averaged.

    Shapes
        indices: feature -> (B,), or (B, L) with its lengths (B,) for a list. Returns what
        `harness.model.embeddings.Embeddings` does.
    """

    def __init__(self, schema: Schema, table_sizes: dict[str, int]) -> None:
        super().__init__()
        self.tables = nn.ModuleDict(
            {
                module_key(f.name): nn.Embedding(table_sizes[f.table], f.embedding_dim)
                for f in schema.sparse_features
            }
        )

    def forward(self, indices: dict[str, tuple[Tensor, Tensor | None]]) -> LookedUp:
        pooled = {}
        for name, (index, lengths) in indices.items():
            vectors = self.tables[module_key(name)](index)
            pooled[name] = vectors if lengths is None else masked_mean(vectors, lengths)
        return LookedUp(pooled, {})


class PlainTraining:
    """A model, its optimizer, and the first ``num_rows`` rows of the training split in memory.

    ``by_row`` reads through `DataLoader` as it comes, row by row; else batches are cut out by index, the
    fastest that plain PyTorch offers.

    Raises InputError with target attention, which it does not have.
    """

    def __init__(self, spec: RunSpec, prepared: PreparedDataset, num_rows: int, by_row: bool) -> None:
        if spec.target_attention:
            raise InputError("profile pipeline: measures no target attention; set target_attention to false")
        torch.manual_seed(spec.seed)
        inputs, num_tasks = inputs_of(spec), len(spec.tasks)
        self.features = prepared.schema.sparse_features
        self.embeddings = PlainEmbeddings(prepared.schema, prepared.table_sizes)
        self.dense = DenseSide(prepared.schema, inputs, spec.architecture, spec.config, num_tasks)
        parameters = [*self.embeddings.parameters(), *self.dense.parameters()]
        self.optimizer = torch.optim.Adam(parameters, lr=spec.training.dense_lr)
        self.rows = TensorDataset(*rows_in_memory(spec, prepared, num_rows))
        self.batch_size = spec.training.batch_size
        self.by_row = by_row

    def batches(self) -> Iterator[list[Tensor]]:
        """Shuffled whole batches of the columns of `rows_in_memory`."""
        if self.by_row:
            yield from DataLoader(self.rows, self.batch_size, shuffle=True, drop_last=True)
            return
        order = torch.randperm(len(self.rows))
        for index in order[: len(order) - len(order) % self.batch_size].split(self.batch_size):
            yield [column[index] for column in self.rows.tensors]

    def step(self, columns: list[Tensor]) -> Tensor:
        """One update; the loss."""
        numbers, labels, *sparse = columns
        self.optimizer.zero_grad()
        prediction = self.dense(self.embeddings(by_feature(self.features, sparse)), numbers)
        loss = prediction_loss(prediction, labels, count_defined(labels))
        (loss + sum(prediction.penalties.values())).backward()
        self.optimizer.step()
        return loss.detach()


def by_feature(features: list[Feature], columns: list[Tensor]) -> dict[str, tuple[Tensor, Tensor | None]]:
    """The columns of sparse features by name: indices, and of a list its lengths."""
    left = iter(columns)
    return {f.name: (next(left), None if f.kind == "categorical" else next(left)) for f in features}


def rows_in_memory(spec: RunSpec, prepared: PreparedDataset, num_rows: int) -> list[Tensor]:
    """Numbers, labels, then for each sparse feature its indices and, of a list, its lengths; all (N, ...)."""
    reader = ShardReader(prepared, "train", spec.training.batch_size, spec.tasks)
    batches = list(islice(reader.batches(), max(1, num_rows // spec.training.batch_size)))
    columns = [torch.cat([b.dense for b in batches]), torch.cat([b.labels for b in batches])]
    for feature in prepared.schema.sparse_features:
        jagged = [batch.sparse[feature.name] for batch in batches]
        if feature.kind == "categorical":
            columns.append(torch.cat([part.values() for part in jagged]))
        else:
            longest = max(int(part.lengths().max()) for part in jagged)
            padded = [part.to_padded_dense(longest).long() for part in jagged]
            columns += [torch.cat(padded), torch.cat([part.lengths() for part in jagged])]
    return columns
