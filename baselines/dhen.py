r"""DHEN: each layer is an ensemble of different interaction modules.

Zhang et al., "DHEN: A Deep and Hierarchical Ensemble Network for Large-Scale Click-Through Rate
Prediction", 2022, https://arxiv.org/abs/2203.11014, section 3.

What is here: the hierarchy, with the modules that RankMixer names for its DHEN row
(https://arxiv.org/abs/2507.15551, section 4.1): a linear map, self-attention, a factorization machine
and a cross (DCN). Their outputs are added; with ``ensemble: concat`` they are concatenated, and each module
returns a quarter of the tokens. Departures: each token is first projected to the model width, as in
RankMixer, so that a width scales the model; the paper scales the number of layers. The factorization machine
is an MLP on the dot products of all pairs of tokens, without the other parts of AdvancedDLRM. The output
tokens are flattened. What is not: the convolution module, and the weighted sum of modules.
The paper is ambiguous about its DCN module: it calls it bit-level, but its formula is a map of the tokens'
Gram matrix. Here it is a low-rank cross of the flattened tokens; ``cross: gram`` is the formula as written.

Shapes
    B batch, T tokens, d token width, D model width, M hidden width of the modules' own networks,
    H heads, L layers, N tokens a module returns, P = T*(T-1)/2 pairs of tokens.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from baselines.contract import About, Knob, Knobs, require_divisible, require_positive, tunable
from baselines.layers import AddNorm, EncoderLayer, LinearCompression, PerTokenLinear, cross_map

ABOUT = About(
    papers={"Zhang et al.": "https://arxiv.org/abs/2203.11014"},
    year=2022,
    flops="2TdD + L(12TD² + 10T²D + 6TDM + T(T-1)M)",
)

NUM_HEADS = 4
NUM_MODULES = 4
Ensemble = Literal["sum", "concat"]
Cross = Literal["low_rank", "gram"]


class PairwiseInteraction(nn.Module):
    r"""A network of one hidden layer on the dot products of all pairs of different tokens.

    .. math:: y = \mathrm{reshape}\big(W_2\,\mathrm{ReLU}(W_1 (x_i \cdot x_j)_{i<j} + b_1) + b_2\big)

    Shapes
        (B, T, D) -> (B, N, D).

    Cost
        (P+1)*M + (M+1)*N*D parameters, 2*T**2*D + 2*P*M + 2*M*N*D FLOPs a sample.

    Example
        >>> PairwiseInteraction(in_tokens=5, dim=4, out_tokens=2, hidden_dim=8)(torch.ones(3, 5, 4)).shape
        torch.Size([3, 2, 4])
    """

    pairs: Tensor

    def __init__(self, in_tokens: int, dim: int, out_tokens: int, hidden_dim: int) -> None:
        super().__init__()
        pairs = [i * in_tokens + j for i in range(in_tokens) for j in range(i + 1, in_tokens)]
        self.register_buffer("pairs", torch.tensor(pairs, dtype=torch.int64), persistent=False)
        self.network = nn.Sequential(
            nn.Linear(len(pairs), hidden_dim),
            nn.ReLU(),
            nn.Linear(hidden_dim, out_tokens * dim),
            nn.Unflatten(1, (out_tokens, dim)),
        )

    def forward(self, x: Tensor) -> Tensor:
        products = (x @ x.transpose(1, 2)).flatten(start_dim=1)  # (B, T*T)
        return self.network(products.index_select(1, self.pairs))


class CrossInteraction(nn.Module):
    r"""A low-rank cross of the flattened tokens with themselves, without a residual.

    .. math:: y = x \odot (U V x + b)

    (DCN V2, https://arxiv.org/abs/2008.13535, equation 2, with x as both inputs). If N is not T, a linear map
    over the tokens follows.

    Shapes
        (B, T, D) -> (B, N, D).

    Cost
        With rank R, 2*T*D*R + T*D parameters and 4*T*D*R FLOPs a sample; T*N and 2*T*N*D more if N is not
        T.

    Example
        >>> CrossInteraction(in_tokens=5, dim=4, out_tokens=2, rank=3)(torch.ones(3, 5, 4)).shape
        torch.Size([3, 2, 4])
    """

    def __init__(self, in_tokens: int, dim: int, out_tokens: int, rank: int) -> None:
        super().__init__()
        self.map = cross_map(in_tokens * dim, rank)
        self.compress = nn.Identity() if out_tokens == in_tokens else LinearCompression(in_tokens, out_tokens)

    def forward(self, x: Tensor) -> Tensor:
        return self.compress(x * self.map(x.flatten(start_dim=1)).view_as(x))


class GramInteraction(nn.Module):
    r"""A linear map of the D x D Gram matrix of the tokens.

    .. math:: y = W (x^\top x) + b

    with x (T, D): the paper writes embeddings as columns, so its X Xᵀ is this D x D matrix.

    Shapes
        (B, T, D) -> (B, N, D).

    Cost
        (D+1)*N parameters, 2*T*D**2 + 2*N*D**2 FLOPs a sample.

    Example
        >>> GramInteraction(dim=4, out_tokens=2)(torch.ones(3, 5, 4)).shape
        torch.Size([3, 2, 4])
    """

    def __init__(self, dim: int, out_tokens: int) -> None:
        super().__init__()
        self.map = nn.Linear(dim, out_tokens)

    def forward(self, x: Tensor) -> Tensor:
        return self.map(x.transpose(1, 2) @ x).transpose(1, 2)  # a Gram matrix is symmetric


class DHENLayer(nn.Module):
    r"""The combined outputs of the modules, a residual connection, and a norm over each token.

    .. math:: y = \mathrm{LN}\big(\mathrm{Ensemble}_i\,\mathrm{Interaction}_i(x) + x\big)

    The ensemble returns as many tokens as it receives, so the residual is the identity. With ``sum`` the
    order of the modules does not matter.

    Shapes
        (B, T, D) -> (B, T, D). For ``sum`` each module returns (B, T, D); for ``concat`` all modules
        together return T tokens.

    Cost
        That of the modules, and 2*D parameters.

    Example
        >>> layer = DHENLayer([LinearCompression(5, 3), LinearCompression(5, 2)], dim=4, ensemble="concat")
        >>> layer(torch.ones(3, 5, 4)).shape
        torch.Size([3, 5, 4])
    """

    def __init__(self, interactions: Iterable[nn.Module], dim: int, ensemble: Ensemble) -> None:
        super().__init__()
        self.interactions = nn.ModuleList(interactions)
        self.concat = ensemble == "concat"
        self.norm = AddNorm(dim)

    def forward(self, x: Tensor) -> Tensor:
        outputs = [interaction(x) for interaction in self.interactions]
        together = torch.cat(outputs, dim=1) if self.concat else torch.stack(outputs).sum(dim=0)
        return self.norm(x, together)


class DHEN(nn.Module):
    """Per-token projection, ensemble layers, flattened at the end.

    Shapes
        tokens: (B, T, d). Returns (B, T * D).

    Cost
        T*(d*D + D) parameters and 2*T*d*D FLOPs a sample for the projection. A layer with the default
        modules has 2*T**2 + 4*D**2 + 2*D*M + M + 11*D + (P+1)*M + (M+1)*T*D + 2*T*D**2 + T*D parameters
        and 12*T*D**2 + 10*T**2*D + 6*T*D*M + 2*P*M FLOPs. Softmax, norms and products are not counted.

    Example
        >>> config = DHEN.Config(model_dim=8, hidden_dim=32)
        >>> DHEN(num_tokens=4, token_dim=3, config=config)(torch.ones(2, 4, 3)).shape
        torch.Size([2, 32])
    """

    @dataclass(frozen=True, kw_only=True, slots=True)
    class Config:
        """``model_dim`` scales the model to a budget and is divisible by ``num_heads``; it is the rank
        of the cross as well. ``hidden_dim``, the hidden width of the attention module's feed-forward
        network and of the factorization machine's, customarily four times as wide, makes the match
        exact."""

        model_dim: int
        hidden_dim: int
        num_layers: int = tunable(2, 1, 3, 4)
        num_heads: int = NUM_HEADS
        ensemble: Ensemble = "sum"
        cross: Cross = "low_rank"

    def __init__(self, num_tokens: int, token_dim: int, config: Config) -> None:
        super().__init__()
        require_positive(config)
        if config.ensemble == "concat":
            require_divisible("num_tokens", num_tokens, NUM_MODULES, "modules that 'concat' concatenates")
        self.projection = PerTokenLinear(num_tokens, token_dim, config.model_dim)
        self.layers = nn.Sequential(
            *(
                DHENLayer(_interactions(num_tokens, config), config.model_dim, config.ensemble)
                for _ in range(config.num_layers)
            )
        )
        self.output_dim = num_tokens * config.model_dim

    def forward(self, tokens: Tensor) -> Tensor:
        return self.layers(self.projection(tokens)).flatten(start_dim=1)

    @staticmethod
    def knobs(num_tokens: int, token_dim: int) -> Knobs:
        return Knobs(
            coarse=Knob("model_dim", step=NUM_HEADS, minimum=NUM_HEADS),
            fine=Knob("hidden_dim"),
            fine_per_coarse=4.0,
        )


def _interactions(num_tokens: int, config: DHEN.Config) -> list[nn.Module]:
    """One layer's modules: linear, self-attention, factorization machine, cross."""
    dim, hidden_dim = config.model_dim, config.hidden_dim
    out_tokens = num_tokens if config.ensemble == "sum" else num_tokens // NUM_MODULES
    return [
        LinearCompression(num_tokens, out_tokens),
        nn.Sequential(
            EncoderLayer(dim, hidden_dim, config.num_heads), LinearCompression(num_tokens, out_tokens)
        ),
        PairwiseInteraction(num_tokens, dim, out_tokens, hidden_dim),
        CrossInteraction(num_tokens, dim, out_tokens, rank=dim)
        if config.cross == "low_rank"
        else GramInteraction(dim, out_tokens),
    ]
