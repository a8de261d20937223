"""Model assembly: embeddings, semantic groups, tokens, architecture, one tower a task.

Shapes
    B batch, T tokens, d token width, G tasks, E width of all embeddings together.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import pydantic.dataclasses
import torch
from pydantic import ConfigDict, TypeAdapter, ValidationError
from torch import Tensor, nn
from torch.nn import functional

from baselines.layers import Output
from datasets.batch import Batch
from datasets.errors import InputError
from datasets.schema import Schema, first_problem
from harness.architectures import architecture_class
from harness.embeddings import AttendedSequence, Embeddings, LookedUp, attended_sequences

TOKEN_DIM_MULTIPLE = 8  # hardware prefers aligned widths


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """What every architecture of a suite gets: T tokens of width d, the same for all.

    ``target_attention`` pools sequences by attention from the target item instead of the mean;
    ``tower_dim`` is the hidden width of each task's tower.
    """

    num_tokens: int
    token_dim: int
    target_attention: bool
    tower_dim: int


def embedding_width(schema: Schema) -> int:
    """E: the widths of all features' embeddings added up."""
    return sum(feature.embedding_dim for feature in schema.features)


def token_dim_for(schema: Schema, num_tokens: int) -> int:
    """The smallest aligned token width that holds all embeddings in ``num_tokens`` slices."""
    exact = -(-embedding_width(schema) // num_tokens)
    return -(-exact // TOKEN_DIM_MULTIPLE) * TOKEN_DIM_MULTIPLE


def check_tokens_hold_embeddings(schema: Schema, num_tokens: int, token_dim: int) -> None:
    """InputError if T tokens of width d are narrower than the embeddings they are cut from."""
    width = embedding_width(schema)
    if num_tokens * token_dim < width:
        raise InputError(
            f"tokens: {num_tokens} tokens of width {token_dim} hold {num_tokens * token_dim} numbers but the "
            f"embeddings of {schema.name!r} are {width} wide; "
            f"set token_dim to at least {token_dim_for(schema, num_tokens)}"
        )


class NumericEmbedding(nn.Module):
    """Each number times a learned vector plus a bias: the dense counterpart of a table look-up.

    Shapes
        numbers: (B, N). Returns (B, sum of the N widths).

    Cost
        Two parameters an output; elementwise, so no counted FLOPs.
    """

    def __init__(self, widths: list[int]) -> None:
        super().__init__()
        source = [number for number, width in enumerate(widths) for _ in range(width)]
        self.register_buffer("source", torch.tensor(source), persistent=False)
        self.source: Tensor
        self.weight = nn.Parameter(torch.randn(sum(widths)) * 0.1)
        self.bias = nn.Parameter(torch.zeros(sum(widths)))

    def forward(self, numbers: Tensor) -> Tensor:
        return torch.addcmul(self.bias, numbers[:, self.source], self.weight)


class TargetAttention(nn.Module):
    """Weighted sum of a sequence, each position weighted by how well it fits the target.

    DIN's local activation unit (Zhou et al., "Deep Interest Network for Click-Through Rate
    Prediction", KDD 2018, https://arxiv.org/abs/1706.06978, section 4.3): an MLP on
    [key, target, key * target] gives one weight a position, without softmax, so that the strength
    of interest survives; the sum is divided by the number of positions to keep its scale.

    Shapes
        target: (B, w). keys: (B, L, w). lengths: (B,). Returns (B, w).

    Cost
        2 * L * (3 * w * hidden + hidden) FLOPs a sample, padded positions included.
    """

    def __init__(self, width: int, hidden_dim: int = 32) -> None:
        super().__init__()
        self.hidden = nn.Linear(3 * width, hidden_dim)
        self.score = nn.Linear(hidden_dim, 1)

    def forward(self, target: Tensor, keys: Tensor, lengths: Tensor) -> Tensor:
        targets = target.unsqueeze(1).expand_as(keys)
        weights = self.score(
            functional.relu(self.hidden(torch.cat([keys, targets, keys * targets], -1)))
        )  # (B, L, 1)
        present = torch.arange(keys.shape[1], device=keys.device) < lengths.unsqueeze(1)
        pooled = (keys * weights * present.unsqueeze(-1)).sum(1)
        return pooled / lengths.clamp(min=1).unsqueeze(1)


class Tokenizer(nn.Module):
    """Concatenate the semantic groups and cut them into T slices of width d (RankMixer, eq. 2).

    Features stand in the order of their groups; the last slice is padded with zeros. The projection
    to an architecture's own width is the architecture's.

    Shapes
        looked_up: see LookedUp. numbers: (B, N). Returns (B, T, d).
    """

    def __init__(self, schema: Schema, inputs: Inputs) -> None:
        super().__init__()
        check_tokens_hold_embeddings(schema, inputs.num_tokens, inputs.token_dim)
        self.shape = (inputs.num_tokens, inputs.token_dim)
        self.padding = inputs.num_tokens * inputs.token_dim - embedding_width(schema)
        self.order = [f.name for group in schema.groups for f in schema.features if f.group == group]
        self.numeric_names = [feature.name for feature in schema.numeric_features]
        self.numeric_widths = [feature.embedding_dim for feature in schema.numeric_features]
        self.numeric = NumericEmbedding(self.numeric_widths) if self.numeric_names else None
        pairs: list[AttendedSequence] = attended_sequences(schema) if inputs.target_attention else []
        self.targets = {pair.sequence.name: pair.target.name for pair in pairs}
        self.attention = nn.ModuleDict(
            {pair.sequence.name: TargetAttention(pair.sequence.embedding_dim) for pair in pairs}
        )

    def forward(self, looked_up: LookedUp, numbers: Tensor) -> Tensor:
        parts = dict(looked_up.pooled)
        for name, (keys, lengths) in looked_up.sequences.items():
            parts[name] = self.attention[name](parts[self.targets[name]], keys, lengths)
        if self.numeric is not None:
            parts.update(
                zip(self.numeric_names, self.numeric(numbers).split(self.numeric_widths, 1), strict=True)
            )
        flat = torch.cat([parts[name] for name in self.order], dim=1)  # (B, E)
        return functional.pad(flat, (0, self.padding)).unflatten(1, self.shape)


class Tower(nn.Sequential):
    """One task's head: (B, output_dim) -> hidden -> (B, 1) logit."""

    def __init__(self, input_dim: int, hidden_dim: int) -> None:
        super().__init__(nn.Linear(input_dim, hidden_dim), nn.ReLU(), nn.Linear(hidden_dim, 1))


class Prediction(NamedTuple):
    """Logits (B, G), and what the architecture returned beside its representation.

    ``views`` are (weight, logits (B, G)) of its further representations; see `baselines.layers.Output`.
    """

    logits: Tensor
    views: list[tuple[float, Tensor]]
    penalties: dict[str, Tensor]
    statistics: dict[str, Tensor]


class DenseSide(nn.Module):
    """Everything after the look-ups: tokens, architecture and towers. This is what is cost-matched.

    Shapes
        looked_up: see LookedUp. numbers: (B, N). Returns a `Prediction` for B rows and G tasks.
    """

    def __init__(
        self, schema: Schema, inputs: Inputs, architecture: str, config: dict, num_tasks: int
    ) -> None:
        super().__init__()
        self.tokenizer = Tokenizer(schema, inputs)
        self.backbone = build_backbone(architecture, inputs.num_tokens, inputs.token_dim, config)
        self.towers = nn.ModuleList(
            Tower(self.backbone.output_dim, inputs.tower_dim) for _ in range(num_tasks)
        )

    def forward(self, looked_up: LookedUp, numbers: Tensor) -> Prediction:
        result = self.backbone(self.tokenizer(looked_up, numbers))
        output = result if isinstance(result, Output) else Output(result)
        views = [(view.weight, self._logits(view.representation)) for view in output.views.values()]
        return Prediction(self._logits(output.representation), views, output.penalties, output.statistics)

    def _logits(self, representation: Tensor) -> Tensor:
        return torch.cat([tower(representation) for tower in self.towers], dim=1)


class RankingModel(nn.Module):
    """Embedding tables and dense side.

    Shapes
        batch: B rows. Returns a `Prediction` for them.
    """

    def __init__(self, embeddings: Embeddings, dense: nn.Module) -> None:
        super().__init__()
        self.embeddings = embeddings
        self.dense = dense

    def forward(self, batch: Batch) -> Prediction:
        return self.dense(self.embeddings(batch.sparse), batch.dense)


def build_backbone(architecture: str, num_tokens: int, token_dim: int, config: dict) -> Any:
    """An architecture from its name and its config's fields; InputError if they do not fit."""
    cls = architecture_class(architecture)
    try:
        checked = _config_checker(cls.Config).validate_python(config)
        given = {name: getattr(checked, name) for name in config}  # dictionaries inside are dataclasses now
        backbone = cls(num_tokens, token_dim, cls.Config(**given))
    except ValidationError as error:
        sentence = first_problem(error, f"architecture {architecture!r}: config")
        if sentence.endswith("is missing; add it"):
            sentence += " to the row's config, or give the suite a budget"
        raise InputError(sentence) from None
    except ValueError as error:
        raise InputError(f"architecture {architecture!r}: {error}") from error
    if not hasattr(backbone, "output_dim"):
        raise InputError(f"architecture {architecture!r}: sets no output_dim; set it in __init__")
    return backbone


@cache
def _config_checker(config: type) -> Any:
    """Checks types and refuses unknown fields, which plain dataclasses do not."""
    return TypeAdapter(pydantic.dataclasses.dataclass(config, config=ConfigDict(extra="forbid"), frozen=True))
