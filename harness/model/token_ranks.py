r"""How much the tokens of a row differ, layer by layer: their effective rank.

The effective rank (Roy and Vetterli, EUSIPCO 2007) of a matrix with singular values :math:`s_i` is
:math:`\exp(-\sum_i p_i \log p_i)` with :math:`p_i = s_i / \sum_j s_j`: 1 where all tokens are multiples of
one vector, min(T, D) where they are orthogonal and of one length. Tokens that become alike (rank collapse)
show as a rank that falls with depth.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from datasets.batch import Batch
from harness.model.assembly import DenseSide
from harness.model.embeddings import Embeddings

ROWS = 256


class LayerTokens(NamedTuple):
    """The tokens after one layer, named as its module, and their mean effective rank over rows."""

    layer: str
    tokens: int
    width: int
    effective_rank: float


def effective_rank(matrices: Tensor) -> Tensor:
    """(B, T, D) -> (B,) the effective rank of each matrix; that of a matrix of zeros is 0.

    >>> effective_rank(torch.eye(4).repeat(2, 1, 1)).round()
    tensor([4., 4.])
    """
    values = torch.linalg.svdvals(matrices.float())
    total = values.sum(dim=1, keepdim=True)
    shares = values / total.clamp(min=torch.finfo(values.dtype).tiny)
    entropy = -(shares * shares.clamp(min=torch.finfo(values.dtype).tiny).log()).sum(dim=1)
    return torch.where(total.squeeze(1) > 0, entropy.exp(), 0.0)


def token_ranks(embeddings: Embeddings, dense: DenseSide, batch: Batch) -> list[LayerTokens]:
    """Of the tokens of the batch's first rows before the architecture (``input``) and after each layer.

    A layer is an entry of an ``nn.ModuleList`` or ``nn.Sequential`` that the architecture itself holds, and
    returns (B, T, D), alone or as the first of a tuple. Architectures without any have the input alone.
    """
    kept: dict[str, Tensor] = {}
    handles = [
        layer.register_forward_hook(partial(_keep, kept, name)) for name, layer in _layers(dense.backbone)
    ]
    try:
        with torch.no_grad():
            kept["input"] = dense.tokenizer(embeddings(batch.sparse), batch.dense)[:ROWS]
            dense.backbone(kept["input"])
    finally:
        for handle in handles:
            handle.remove()
    return [
        LayerTokens(name, tokens.shape[1], tokens.shape[2], float(effective_rank(tokens).mean()))
        for name, tokens in kept.items()
    ]


def _layers(backbone: nn.Module) -> list[tuple[str, nn.Module]]:
    return [
        (f"{name}.{place}", layer)
        for name, module in backbone.named_children()
        if isinstance(module, nn.ModuleList | nn.Sequential)
        for place, layer in module.named_children()
    ]


def _keep(kept: dict[str, Tensor], name: str, layer: nn.Module, inputs: Any, output: Any) -> None:
    tokens = output[0] if isinstance(output, tuple) else output
    if isinstance(tokens, Tensor) and tokens.dim() == 3 and len(tokens) == len(kept["input"]):
        kept[name] = tokens
