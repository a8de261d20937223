"""Tokens: a table's embeddings cut into the T slices of width d that every architecture of a row gets.

A tokenizer is a division of the features into spans. The embeddings of a span stand side by side and are
cut evenly into that span's tokens, each of which is padded with zeros to the common width d. So no token
is empty as long as there are numbers to share out.

chunks
    One span of all features in the order of their semantic groups (RankMixer, eq. 2, where T * d is the
    width of all embeddings): a token may straddle two groups.
groups
    One span a semantic group: no token straddles two. The T tokens are dealt to the groups in
    proportion to their widths, one at least for each.
fields
    One span and one token a feature.

The projection to an architecture's own width is the architecture's; cutting has no weights and no FLOPs.

Shapes
    B batch, T tokens, d token width, E width of all embeddings together, w width of one feature's,
    N numbers a row: one a numeric feature, its length a vector.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from datasets.schema import Feature, Schema
from files.errors import InputError
from harness.model.embeddings import AttendedSequence, LookedUp, attended_sequences, module_key
from harness.records.spec import TokenizerName

TOKEN_DIM_MULTIPLE = 8  # hardware prefers aligned widths


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """What every architecture of a row gets: T tokens of width d.

    ``target_attention`` pools sequences by attention from the target item instead of the mean;
    ``tower_dim`` is the hidden width of each task's tower, 0 for a linear one.
    """

    tokenizer: TokenizerName = "chunks"
    num_tokens: int
    token_dim: int
    target_attention: bool
    tower_dim: int


class Span(NamedTuple):
    """Features whose embeddings stand side by side, and how many tokens they are cut into."""

    features: list[Feature]
    num_tokens: int

    @property
    def width(self) -> int:
        return embedding_width(self.features)

    @property
    def token_dim(self) -> int:
        """The smallest aligned width at which the tokens hold the span."""
        return -(-max(self.token_widths) // TOKEN_DIM_MULTIPLE) * TOKEN_DIM_MULTIPLE

    @property
    def token_widths(self) -> list[int]:
        """How many of the span's numbers each of its tokens holds; they differ by one at most."""
        least, more = divmod(self.width, self.num_tokens)
        return [least + 1] * more + [least] * (self.num_tokens - more)


def embedding_width(features: list[Feature]) -> int:
    """E: the widths of the features' embeddings added up."""
    return sum(feature.embedding_dim for feature in features)


def spans(schema: Schema, tokenizer: TokenizerName, num_tokens: int) -> list[Span]:
    """The tokenizer's division of a table into T = ``num_tokens`` tokens, in their order.

    Raises InputError if T is not a number that the tokenizer can make, naming one that it can.
    """
    by_group = [[f for f in schema.features if f.group == group] for group in schema.groups]
    if tokenizer == "chunks":
        return [Span([feature for group in by_group for feature in group], num_tokens)]
    if tokenizer == "groups":
        if num_tokens < len(by_group):
            raise InputError(
                f"tokens: {num_tokens} cannot hold the {len(by_group)} semantic groups of {schema.name!r} "
                f"apart; set tokens to at least {len(by_group)}, or the tokenizer to chunks"
            )
        dealt = deal_tokens([embedding_width(group) for group in by_group], num_tokens)
        return [Span(group, count) for group, count in zip(by_group, dealt, strict=True)]
    if num_tokens != len(schema.features):
        raise InputError(
            f"tokens: the tokenizer fields makes one token a feature, {len(schema.features)} for "
            f"{schema.name!r}, not {num_tokens}; remove tokens or set them to that"
        )
    return [Span([feature], 1) for group in by_group for feature in group]


def deal_tokens(widths: list[int], num_tokens: int) -> list[int]:
    """How many of T tokens each group gets, at least one, in proportion to its width.

    Each further token goes to the group with the most numbers a token (Adams' method of
    apportionment), which makes the widest token as narrow as can be.
    """
    dealt = [1] * len(widths)
    for _ in range(num_tokens - len(widths)):
        fullest = max(range(len(widths)), key=lambda group: widths[group] / dealt[group])
        dealt[fullest] += 1
    return dealt


def natural_num_tokens(schema: Schema, tokenizer: TokenizerName, chunks: int) -> int:
    """T where none is asked for: one token a group, one a feature, or else ``chunks``."""
    return {"chunks": chunks, "groups": len(schema.groups), "fields": len(schema.features)}[tokenizer]


def token_dim_for(schema: Schema, tokenizer: TokenizerName, num_tokens: int) -> int:
    """d: the smallest aligned token width that holds every span in its tokens."""
    return max(span.token_dim for span in spans(schema, tokenizer, num_tokens))


def check_tokens_hold_embeddings(schema: Schema, inputs: Inputs) -> None:
    """InputError if tokens of width d are narrower than the embeddings they are cut from."""
    for span in spans(schema, inputs.tokenizer, inputs.num_tokens):
        if span.num_tokens * inputs.token_dim < span.width:
            tokens = "1 token" if span.num_tokens == 1 else f"{span.num_tokens} tokens"
            raise InputError(
                f"tokens: in {tokens} of width {inputs.token_dim} there is room for "
                f"{span.num_tokens * inputs.token_dim} numbers, but the embeddings of {schema.name!r} that "
                f"are cut into them are {span.width} wide; set token_dim to at least "
                f"{token_dim_for(schema, inputs.tokenizer, inputs.num_tokens)}"
            )


class NumericEmbedding(nn.Module):
    """Each number times a learned vector plus a bias: the dense counterpart of a table look-up.

    Args
        widths: of each number's embedding.
        columns: where the numbers stand; the first columns if absent.

    Shapes
        numbers: (B, N). Returns (B, sum of the widths).

    Cost
        Two parameters an output; elementwise, so no counted FLOPs.
    """

    def __init__(self, widths: list[int], columns: list[int] | None = None) -> None:
        super().__init__()
        columns = list(range(len(widths))) if columns is None else columns
        source = [column for column, width in zip(columns, widths, strict=True) for _ in range(width)]
        self.register_buffer("source", torch.tensor(source), persistent=False)
        self.source: Tensor
        self.weight = nn.Parameter(torch.randn(sum(widths)) * 0.1)
        self.bias = nn.Parameter(torch.zeros(sum(widths)))

    def forward(self, numbers: Tensor) -> Tensor:
        return torch.addcmul(self.bias, numbers[:, self.source], self.weight)


class VectorEmbedding(nn.Linear):
    """A linear map of a vector to the width of its feature, for vectors such as embeddings from elsewhere.

    Weights start so that a vector of uncorrelated standardised components gets an embedding as large as
    a number's.

    Shapes
        (B, length). Returns (B, width).

    Cost
        (length + 1) * width parameters; 2 * length * width FLOPs a sample.
    """

    def reset_parameters(self) -> None:
        nn.init.normal_(self.weight, std=0.1 / self.in_features**0.5)
        nn.init.zeros_(self.bias)


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
    """Pool the sequences, embed numbers and vectors, and cut all embeddings into tokens, span by span.

    Raises InputError if the tokens do not hold the embeddings.

    Shapes
        looked_up: see LookedUp. numbers: (B, N). Returns (B, T, d).
    """

    def __init__(self, schema: Schema, inputs: Inputs) -> None:
        super().__init__()
        check_tokens_hold_embeddings(schema, inputs)
        divided = spans(schema, inputs.tokenizer, inputs.num_tokens)
        self.order = [feature.name for span in divided for feature in span.features]
        self.token_widths = [width for span in divided for width in span.token_widths]
        self.token_dim = inputs.token_dim
        self.numeric_names = [feature.name for feature in schema.numeric_features]
        self.numeric_widths = [feature.embedding_dim for feature in schema.numeric_features]
        columns = _dense_columns(schema)
        first = [columns[name].start for name in self.numeric_names]
        self.numeric = NumericEmbedding(self.numeric_widths, first) if self.numeric_names else None
        self.vector_columns = {feature.name: columns[feature.name] for feature in schema.vector_features}
        self.vectors = nn.ModuleList(
            VectorEmbedding(feature.num_numbers, feature.embedding_dim) for feature in schema.vector_features
        )
        pairs: list[AttendedSequence] = attended_sequences(schema) if inputs.target_attention else []
        self.targets = {pair.sequence.name: pair.target.name for pair in pairs}
        self.attention = nn.ModuleDict(
            {module_key(p.sequence.name): TargetAttention(p.sequence.embedding_dim) for p in pairs}
        )

    def forward(self, looked_up: LookedUp, numbers: Tensor) -> Tensor:
        parts = dict(looked_up.pooled)
        for name, (keys, lengths) in looked_up.sequences.items():
            parts[name] = self.attention[module_key(name)](parts[self.targets[name]], keys, lengths)
        if self.numeric is not None:
            parts.update(
                zip(self.numeric_names, self.numeric(numbers).split(self.numeric_widths, 1), strict=True)
            )
        for embed, (name, place) in zip(self.vectors, self.vector_columns.items(), strict=True):
            parts[name] = embed(numbers[:, place])
        flat = torch.cat([parts[name] for name in self.order], dim=1)  # (B, E)
        zeros = flat.new_zeros(len(flat), self.token_dim)
        padded: list[Tensor] = []
        for token in flat.split(self.token_widths, dim=1):
            padded += [token, zeros[:, token.shape[1] :]]
        return torch.cat(padded, dim=1).unflatten(1, (-1, self.token_dim))


def _dense_columns(schema: Schema) -> dict[str, slice]:
    """Where each numeric and vector feature stands in a batch's dense tensor."""
    columns, first = {}, 0
    for feature in schema.dense_features:
        columns[feature.name] = slice(first, first + feature.num_numbers)
        first += feature.num_numbers
    return columns
