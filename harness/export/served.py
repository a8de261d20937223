"""A trained model as plain PyTorch: what is exported, its inputs, and how a batch becomes them.

Both models below are made of PyTorch's own modules and operators. `torch.export` traces them as
`torch.compile` does, which the layers answer with their plain equations: no kernel of this project, and every
expert of a sparse model (a closed one times zero).

Shapes
    B batch, T tokens, d token width, L a list's max_length, N numbers of a row, G tasks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from datasets.batch import Batch
from datasets.schema import Feature, Schema
from harness.model.assembly import DenseSide, RankingModel
from harness.model.embeddings import LookedUp, attended_sequences, masked_mean, module_key, name_of_module_key
from harness.training.ranks import table_weights

NUMBERS = "numbers"
TOKENS = "tokens"


@dataclass(frozen=True)
class Input:
    """One input: (B, *shape). ``meaning`` is what it holds, ``vocabulary`` whose indices these are."""

    name: str
    dtype: Literal["int64", "float32"]
    shape: tuple[int, ...]
    meaning: str
    vocabulary: str | None = None

    def example(self, rows: int) -> Tensor:
        """Zeros of ``rows`` rows, from which a model can be traced."""
        return torch.zeros(rows, *self.shape, dtype=getattr(torch, self.dtype))


class WholeModel(nn.Module):
    """Look-ups, tokens, architecture and towers of a trained model, with a plain table a vocabulary.

    Shapes
        inputs: those of `inputs_of`, in their order. Returns probabilities (B, G).
    """

    def __init__(self, model: RankingModel, schema: Schema, target_attention: bool) -> None:
        super().__init__()
        self.features = schema.sparse_features
        self.attended = (
            {pair.sequence.name for pair in attended_sequences(schema)} if target_attention else set()
        )
        self.tables = nn.ModuleDict()
        for key, weight in table_weights(model).items():
            table = name_of_module_key(key.split(".embedding_bags.")[1].removesuffix(".weight"))
            without_padding = weight.detach()[:, : model.embeddings.widths[table]].clone()
            self.tables[module_key(table)] = nn.Embedding.from_pretrained(without_padding)
        self.dense = model.dense

    def forward(self, *inputs: Tensor) -> Tensor:
        pooled: dict[str, Tensor] = {}
        sequences: dict[str, tuple[Tensor, Tensor]] = {}
        place = 0
        for feature in self.features:
            vectors = self.tables[module_key(feature.table)](inputs[place])
            place += 1
            if not feature.is_list:
                pooled[feature.name] = vectors
                continue
            lengths = inputs[place]
            place += 1
            if feature.name in self.attended:
                sequences[feature.name] = (vectors, lengths)
            else:
                pooled[feature.name] = masked_mean(vectors, lengths)
        numbers = inputs[place] if place < len(inputs) else inputs[0].new_zeros((inputs[0].shape[0], 0))
        return torch.sigmoid(self.dense(LookedUp(pooled, sequences), numbers).logits)


class DenseModel(nn.Module):
    """Architecture and towers of a trained model, from the tokens on.

    Shapes
        tokens: (B, T, d). Returns logits (B, G).
    """

    def __init__(self, dense: DenseSide) -> None:
        super().__init__()
        self.dense = dense

    def forward(self, tokens: Tensor) -> Tensor:
        return self.dense.from_tokens(tokens).logits


def inputs_of(schema: Schema) -> list[Input]:
    """The inputs of a `WholeModel`: each feature's indices, a list's followed by its lengths; the numbers."""
    inputs: list[Input] = []
    for feature in schema.sparse_features:
        if feature.is_list:
            inputs += _list_inputs(feature)
        else:
            inputs.append(
                Input(f"ids_{feature.name}", "int64", (), f"index of {feature.name}", feature.table)
            )
    names = [name for feature in schema.dense_features for name in [feature.name] * feature.num_numbers]
    if names:
        what = f"normalised numbers of {', '.join(dict.fromkeys(names))}, in this order"
        inputs.append(Input(NUMBERS, "float32", (len(names),), what))
    return inputs


def _list_inputs(feature: Feature) -> list[Input]:
    order = "oldest first" if feature.kind == "sequence" else "in any order"
    return [
        Input(
            f"ids_{feature.name}",
            "int64",
            (feature.max_length,),
            f"indices of {feature.name}, {order}, then any padding",
            feature.table,
        ),
        Input(f"length_{feature.name}", "int64", (), f"how many indices of {feature.name} are no padding"),
    ]


def tokens_input(num_tokens: int, token_dim: int) -> Input:
    """The input of a `DenseModel`."""
    return Input(TOKENS, "float32", (num_tokens, token_dim), "tokens that the tokenizer makes of embeddings")


def arrays_of(batch: Batch, schema: Schema) -> dict[str, np.ndarray]:
    """A batch's rows as the inputs of a `WholeModel`, by their names."""
    arrays: dict[str, np.ndarray] = {}
    for feature in schema.sparse_features:
        jagged = batch.sparse[feature.name]
        values, lengths = jagged.values().cpu().numpy(), jagged.lengths().cpu().numpy()
        if feature.is_list:
            padded = np.zeros((len(lengths), feature.max_length), np.int64)
            padded[np.arange(feature.max_length) < lengths[:, None]] = values
            arrays[f"ids_{feature.name}"] = padded
            arrays[f"length_{feature.name}"] = lengths.astype(np.int64)
        else:
            arrays[f"ids_{feature.name}"] = values.astype(np.int64)
    if batch.dense.shape[1]:
        arrays[NUMBERS] = batch.dense.cpu().numpy()
    return arrays


def tokens_of(batch: Batch, model: Any) -> dict[str, np.ndarray]:
    """A batch's rows as the input of a `DenseModel`."""
    with torch.no_grad():
        return {TOKENS: model.dense.tokenizer(model.embeddings(batch.sparse), batch.dense).numpy()}
