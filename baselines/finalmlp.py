"""FinalMLP: two MLP streams with different gates on their inputs, combined by a bilinear form.

Mao et al., "FinalMLP: An Enhanced Two-Stream MLP Model for CTR Prediction", AAAI 2023,
https://arxiv.org/abs/2304.00902, sections "Stream-Specific Feature Selection" and "Stream-Level
Interaction Aggregation".

What is here: the gates, the two streams, and the multi-head bilinear fusion. Departures: an architecture
does not know which tokens describe the user and which the item, so the gates have no context features.
Without these, the authors' code learns a context that is the same for all rows. The output of a gate
network is then the same for all rows as well, and here it is learned directly. The paper adds the linear
terms of the streams and the bilinear terms of the heads to one logit; here streams and bilinear terms are
concatenated, so that the tower of each task learns its own weights for them. What is not: gates that differ
by row; without ``gates`` there are none, as in some published runs. Batch normalisation and dropout are off
by default.

Shapes
    B batch, T tokens, d token width, F = T * d flattened tokens, M1 and M2 widths of the streams,
    L layers of each, H heads.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from baselines.contract import About, Knob, Knobs, require_divisible, require_positive, tunable
from baselines.layers import MLP

ABOUT = About(
    papers={"Mao et al.": "https://arxiv.org/abs/2304.00902"},
    year=2023,
    flops="Σ over streams of 2(FM + (L-1)M²), + 2M₁M₂/H",
    partial="its gates read no user or item features, which an architecture cannot tell apart",
)

NUM_HEADS = 2


class FeatureGate(nn.Module):
    r"""Multiply every input by a learned factor between 0 and 2.

    .. math:: y = x \odot 2\sigma(g)

    where g is initialised with 0, so that the gate is the identity at first.

    Shapes
        (B, F) -> (B, F).

    Cost
        F parameters; no counted FLOPs.

    Example
        >>> FeatureGate(dim=2)(torch.tensor([[3.0, 4.0]])).tolist()
        [[3.0, 4.0]]
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.gate = nn.Parameter(torch.zeros(dim))

    def forward(self, x: Tensor) -> Tensor:
        return x * (2 * torch.sigmoid(self.gate))


class BilinearFusion(nn.Module):
    r"""One bilinear form for each pair of corresponding slices of two vectors.

    .. math:: y_h = (o_1^h)^\top W^h o_2^h

    where each vector is cut into H equal slices, one for each head. With one head it is the full bilinear
    form; with more heads there are fewer products.

    Shapes
        first (B, M1), second (B, M2) -> (B, H); weight (H, M1/H, M2/H).

    Cost
        M1*M2/H parameters, 2*M1*M2/H FLOPs a sample (the last elementwise product is not counted).

    Example
        >>> fusion = BilinearFusion(first_dim=4, second_dim=6, num_heads=2)
        >>> fusion(torch.ones(3, 4), torch.ones(3, 6)).shape
        torch.Size([3, 2])
    """

    def __init__(self, first_dim: int, second_dim: int, num_heads: int) -> None:
        super().__init__()
        require_divisible("first_dim", first_dim, num_heads, "heads (num_heads)")
        require_divisible("second_dim", second_dim, num_heads, "heads (num_heads)")
        self.num_heads = num_heads
        self.weight = nn.Parameter(torch.empty(num_heads, first_dim // num_heads, second_dim // num_heads))
        bound = (first_dim // num_heads) ** -0.5
        nn.init.uniform_(self.weight, -bound, bound)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        heads = first.unflatten(1, (self.num_heads, -1)).transpose(0, 1)  # (H, B, M1/H)
        mapped = torch.bmm(heads, self.weight).transpose(0, 1)  # (B, H, M2/H)
        return (mapped * second.unflatten(1, (self.num_heads, -1))).sum(dim=2)


class FinalMLP(nn.Module):
    """Two gated MLPs on the flattened tokens, and the bilinear terms between them.

    Shapes
        tokens: (B, T, d). Returns (B, M1 + M2 + H): first stream, second stream, bilinear terms.

    Cost
        F + F*M + (L-1)*M**2 + L*M parameters and 2*(F*M + (L-1)*M**2) FLOPs a sample for each stream
        of width M, and M1*M2/H parameters and 2*M1*M2/H FLOPs for the fusion.

    Example
        >>> config = FinalMLP.Config(first_dim=8, second_dim=6)
        >>> FinalMLP(num_tokens=4, token_dim=3, config=config)(torch.ones(2, 4, 3)).shape
        torch.Size([2, 16])
    """

    @dataclass(frozen=True, kw_only=True, slots=True)
    class Config:
        """``first_dim``, the width of every layer of the first stream, scales the model to a budget;
        ``second_dim``, customarily the same, makes the match exact. ``num_heads`` divides both.
        ``first_dims`` and ``second_dims`` are the widths of a stream's layers in place of its width and
        ``num_layers``; a stream's batch normalisation and dropout are those of `baselines.layers.MLP`.
        Without ``gates`` both streams read the tokens as they are."""

        first_dim: int | None
        second_dim: int | None
        num_layers: int = tunable(3, 2)
        num_heads: int = tunable(NUM_HEADS, 1)
        first_dims: tuple[int, ...] | None = None
        second_dims: tuple[int, ...] | None = None
        first_batch_norm: bool = False
        second_batch_norm: bool = False
        first_dropout: float = 0.0
        second_dropout: float = 0.0
        gates: bool = True

    def __init__(self, num_tokens: int, token_dim: int, config: Config) -> None:
        super().__init__()
        require_positive(config)
        dim = num_tokens * token_dim
        first, second = _stream("first", dim, config), _stream("second", dim, config)
        self.first = nn.Sequential(FeatureGate(dim), first) if config.gates else first
        self.second = nn.Sequential(FeatureGate(dim), second) if config.gates else second
        self.fusion = BilinearFusion(first.output_dim, second.output_dim, config.num_heads)
        self.output_dim = first.output_dim + second.output_dim + config.num_heads

    def forward(self, tokens: Tensor) -> Tensor:
        flat = tokens.flatten(start_dim=1)  # (B, F)
        first, second = self.first(flat), self.second(flat)
        return torch.cat([first, second, self.fusion(first, second)], dim=1)

    @staticmethod
    def knobs(num_tokens: int, token_dim: int) -> Knobs:
        return Knobs(
            coarse=Knob("first_dim", step=NUM_HEADS, minimum=NUM_HEADS, fixed_by="first_dims"),
            fine=Knob("second_dim", step=NUM_HEADS, minimum=NUM_HEADS, fixed_by="second_dims"),
        )


def _stream(name: str, in_dim: int, config: FinalMLP.Config) -> MLP:
    """The MLP of the first or second stream; ValueError where both or neither of its widths are set."""
    width, widths = getattr(config, f"{name}_dim"), getattr(config, f"{name}_dims")
    if (width is None) == (widths is None):
        raise ValueError(f"FinalMLP.Config: set one of {name}_dim and {name}_dims, and not both")
    return MLP(
        in_dim,
        width or 0,
        config.num_layers,
        hidden_dims=widths,
        batch_norm=getattr(config, f"{name}_batch_norm"),
        dropout=getattr(config, f"{name}_dropout"),
    )
