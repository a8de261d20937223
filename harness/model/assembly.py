"""Model assembly: embeddings, tokens, architecture, one tower a task.

Shapes
    B batch, T tokens, d token width, G tasks.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import pydantic.dataclasses
import torch
from pydantic import ConfigDict, TypeAdapter, ValidationError
from torch import Tensor, nn

from baselines.contract import Output, Represents, Scalable, missing_member
from datasets.batch import Batch
from datasets.schema import Schema, first_problem
from files.errors import InputError
from harness.model.architectures import architecture_class
from harness.model.embeddings import Embeddings, LookedUp
from harness.model.row_blocks import in_row_blocks
from harness.model.tokens import Inputs, Tokenizer


class Tower(nn.Sequential):
    """One task's head: (B, output_dim) -> hidden -> (B, 1) logit; with a hidden width of 0 one linear map."""

    def __init__(self, input_dim: int, hidden_dim: int) -> None:
        hidden = [nn.Linear(input_dim, hidden_dim), nn.ReLU()] if hidden_dim else []
        super().__init__(*hidden, nn.Linear(hidden_dim or input_dim, 1))


class Prediction(NamedTuple):
    """Logits (B, G), and what the architecture returned beside its representation.

    ``views`` are (weight, logits (B, G)) of its further representations; see `baselines.contract.Output`.
    """

    logits: Tensor
    views: list[tuple[float, Tensor]]
    penalties: dict[str, Tensor]
    statistics: dict[str, Tensor]


class DenseSide(nn.Module):
    """Everything after the look-ups: tokens, architecture and towers. This is what is cost-matched.

    ``dropout`` is the share of a representation's places that training sets to zero before the towers.

    Shapes
        looked_up: see LookedUp. numbers: (B, N). Returns a `Prediction` for B rows and G tasks.
    """

    def __init__(
        self,
        schema: Schema,
        inputs: Inputs,
        architecture: str,
        config: dict,
        num_tasks: int,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.tokenizer = Tokenizer(schema, inputs)
        self.backbone = build_backbone(architecture, inputs.num_tokens, inputs.token_dim, config)
        self.dropout = nn.Dropout(dropout)
        self.towers = nn.ModuleList(
            Tower(self.backbone.output_dim, inputs.tower_dim) for _ in range(num_tasks)
        )

    def forward(self, looked_up: LookedUp, numbers: Tensor) -> Prediction:
        return self.from_tokens(self.tokenizer(looked_up, numbers))

    def from_tokens(self, tokens: Tensor) -> Prediction:
        """The prediction for tokens (B, T, d)."""
        result = in_row_blocks(self.backbone, tokens)
        output = result if isinstance(result, Output) else Output(result)
        views = [(view.weight, self._logits(view.representation)) for view in output.views.values()]
        return Prediction(self._logits(output.representation), views, output.penalties, output.statistics)

    def _logits(self, representation: Tensor) -> Tensor:
        kept = self.dropout(representation)
        return torch.cat([tower(kept) for tower in self.towers], dim=1)


class RankingModel(nn.Module):
    """Embedding tables and dense side.

    ``embedding_l2`` times the rows' mean squared norm of what they look up is a penalty in training.

    Shapes
        batch: B rows. Returns a `Prediction` for them.
    """

    def __init__(self, embeddings: Embeddings, dense: nn.Module, embedding_l2: float = 0.0) -> None:
        super().__init__()
        self.embeddings = embeddings
        self.dense = dense
        self.embedding_l2 = embedding_l2

    def forward(self, batch: Batch) -> Prediction:
        looked_up = self.embeddings(batch.sparse)
        prediction = self.dense(looked_up, batch.dense)
        if not self.training or not self.embedding_l2:
            return prediction
        penalty = self.embedding_l2 * looked_up.squared_norm()
        return prediction._replace(penalties=prediction.penalties | {"embedding_l2": penalty})


def build_backbone(architecture: str, num_tokens: int, token_dim: int, config: dict) -> Any:
    """An architecture from its name and its config's fields; InputError if they do not fit."""
    cls = architecture_class(architecture)
    config = _with_fixed_knobs(cls, num_tokens, token_dim, config)
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
    if not isinstance(backbone, Represents):
        raise InputError(f"architecture {architecture!r}: sets no output_dim; set it in __init__")
    missing = missing_member(backbone)
    if missing is not None:
        raise InputError(
            f"architecture {architecture!r}: has experts but sets no {missing}; set both expert_flops and "
            "active_ratio in __init__, or neither"
        )
    return backbone


def _with_fixed_knobs(cls: Any, num_tokens: int, token_dim: int, config: dict) -> dict:
    """The config with None for each knob in whose place it sets another field."""
    if not isinstance(cls, Scalable) or not any(isinstance(value, list | tuple) for value in config.values()):
        return config
    knobs = cls.knobs(num_tokens, token_dim).each
    return {knob.field: None for knob in knobs if knob.fixed_by and knob.is_fixed(config)} | config


@cache
def _config_checker(config: type) -> Any:
    """Checks types and refuses unknown fields, which plain dataclasses do not."""
    return TypeAdapter(pydantic.dataclasses.dataclass(config, config=ConfigDict(extra="forbid"), frozen=True))
