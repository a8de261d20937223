"""MaskNet: blocks that multiply the embeddings by a mask computed from the whole instance.

Wang, She and Zhang, "MaskNet: Introducing Feature-Wise Multiplication to CTR Ranking Models by
Instance-Guided Mask", DLP-KDD 2021, https://arxiv.org/abs/2102.07619, sections 3.2 to 3.4.

What is here: the parallel model, in which all blocks mask the same normalised embeddings and an MLP reads
their concatenated outputs. Departures: tokens of several features take the place of fields, also in the
normalisation; and the hidden width of the masks is a knob, about twice the width of the blocks. In the paper
it is twice the flattened width F; such a mask alone costs 8*F**2 FLOPs, which exceeds small budgets. What is
not: the serial model, in which each later block masks the output of the one before. Dropout is off by
default; it follows the ReLU of every block as it does in the MLP, as in FuxiCTR.

Shapes
    B batch, T tokens, d token width, F = T * d flattened tokens, A hidden width of the masks,
    M hidden width of blocks and MLP, K blocks, L layers of the MLP.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from baselines.contract import About, Knob, Knobs, require_positive, tunable
from baselines.layers import AddNorm, MLPConfig

ABOUT = About(
    papers={"Wang et al.": "https://arxiv.org/abs/2102.07619"},
    year=2021,
    flops="2KF(2A + M) + 2(K + L-1)M²",
)


class PerTokenLayerNorm(nn.Module):
    """Layer normalisation of each token separately, with its own scale and shift.

    Shapes
        (B, T, d) -> (B, T, d); weight and bias (T, d).

    Cost
        2*T*d parameters; no counted FLOPs.

    Example
        >>> PerTokenLayerNorm(num_tokens=1, token_dim=2)(torch.tensor([[[1.0, 5.0]]])).round(decimals=3)
        tensor([[[-1.,  1.]]], grad_fn=<RoundBackward1>)
    """

    def __init__(self, num_tokens: int, token_dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(num_tokens, token_dim))
        self.bias = nn.Parameter(torch.zeros(num_tokens, token_dim))

    def forward(self, x: Tensor) -> Tensor:
        return functional.layer_norm(x, x.shape[-1:]) * self.weight + self.bias


class MaskBlock(nn.Module):
    r"""Multiply the normalised embeddings by the mask of the instance, then project.

    .. math:: m = W_2\,\mathrm{ReLU}(W_1 v + b_1) + b_2, \qquad
        y = \mathrm{ReLU}(\mathrm{LN}(W (m \odot \mathrm{LN}_{\mathrm{emb}}(v))))

    ``W`` has no bias, but the layer norm after it has one. With a mask of ones, the block is a linear
    layer, a norm and a ReLU. Training sets a share of ``dropout`` of y to zero.

    Shapes
        raw, normalised: (B, F). Returns (B, M).

    Cost
        2*F*A + A + F + F*M + 2*M parameters, 2*F*(2*A + M) FLOPs a sample.

    Example
        >>> block = MaskBlock(in_dim=6, mask_dim=5, hidden_dim=4)
        >>> block(torch.ones(3, 6), torch.ones(3, 6)).shape
        torch.Size([3, 4])
    """

    def __init__(self, in_dim: int, mask_dim: int, hidden_dim: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.dropout = dropout
        self.mask = nn.Sequential(nn.Linear(in_dim, mask_dim), nn.ReLU(), nn.Linear(mask_dim, in_dim))
        self.hidden = nn.Linear(in_dim, hidden_dim, bias=False)
        self.norm = AddNorm(hidden_dim)

    def forward(self, raw: Tensor, normalised: Tensor) -> Tensor:
        y = functional.relu(self.norm(self.hidden(self.mask(raw) * normalised)))
        return functional.dropout(y, self.dropout, self.training)


class MaskNet(nn.Module):
    """Parallel mask blocks on the flattened tokens, and an MLP on all of them.

    Shapes
        tokens: (B, T, d). Returns (B, M).

    Cost
        2*F + K*(2*F*A + A + F + F*M + 2*M) + K*M**2 + (L-1)*M**2 + L*M parameters,
        2*K*F*(2*A + M) + 2*(K*M**2 + (L-1)*M**2) FLOPs a sample. Norms and masking are not counted.

    Example
        >>> config = MaskNet.Config(hidden_dim=8, mask_dim=16)
        >>> MaskNet(num_tokens=4, token_dim=3, config=config)(torch.ones(2, 4, 3)).shape
        torch.Size([2, 8])
    """

    @dataclass(frozen=True, kw_only=True, slots=True)
    class Config(MLPConfig):
        """``hidden_dim``, the width of every block and MLP layer, scales the model to a budget;
        ``mask_dim``, the hidden width of the masks, customarily twice that, makes the match exact.
        ``hidden_dims`` are the widths of the MLP alone; ``hidden_dim`` is then that of the blocks.
        ``dropout`` is that of the blocks and the MLP, ``batch_norm`` of the MLP alone."""

        hidden_dim: int
        mask_dim: int
        num_blocks: int = tunable(3, 5)
        num_layers: int = tunable(2, 1)

    def __init__(self, num_tokens: int, token_dim: int, config: Config) -> None:
        super().__init__()
        require_positive(config)
        if config.hidden_dim < 2:
            raise ValueError(
                "MaskNet.Config: hidden_dim is 1, and layer normalisation makes one number a constant; "
                "set it to 2 or more"
            )
        in_dim = num_tokens * token_dim
        self.norm = PerTokenLayerNorm(num_tokens, token_dim)
        self.blocks = nn.ModuleList(
            MaskBlock(in_dim, config.mask_dim, config.hidden_dim, config.dropout)
            for _ in range(config.num_blocks)
        )
        same_width = config.hidden_dim if config.hidden_dims is None else None
        self.deep = config.mlp(config.num_blocks * config.hidden_dim, same_width)
        self.output_dim = self.deep.output_dim

    def forward(self, tokens: Tensor) -> Tensor:
        raw = tokens.flatten(start_dim=1)  # (B, F)
        normalised = self.norm(tokens).flatten(start_dim=1)  # (B, F)
        return self.deep(torch.cat([block(raw, normalised) for block in self.blocks], dim=1))

    @staticmethod
    def knobs(num_tokens: int, token_dim: int) -> Knobs:
        return Knobs(
            coarse=Knob("hidden_dim", minimum=2),
            fine=Knob("mask_dim"),
            fine_per_coarse=2.0,
        )
