"""xDeepFM: a compressed interaction network (CIN) in parallel with an MLP on the same embeddings.

Lian et al., "xDeepFM: Combining Explicit and Implicit Feature Interactions for Recommender
Systems", KDD 2018, https://arxiv.org/abs/1803.05170, section 3.

What is here: the CIN without activation or bias, as in the paper's equations, the deep network, and
a linear term. Departures: a token holds several features, so a feature map crosses tokens rather than
single fields. There is no scalar weight for each category, so the linear term is a linear map of the
flattened tokens. The paper adds the three terms to one logit; here they are concatenated, so that the tower
of each task learns its own weights for them. Dropout is off by default. What is not: L2 terms.

Shapes
    B batch, T tokens, d token width, F = T * d flattened tokens, N feature maps, C layers of the
    CIN, M hidden width, L layers of the MLP.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from baselines.contract import About, Knob, Knobs, require_positive, tunable
from baselines.layers import MLPConfig

ABOUT = About(
    papers={"Lian et al.": "https://arxiv.org/abs/1803.05170"},
    year=2018,
    flops="2F + 2d(T²N + (C-1)TN²) + 2(FM + (L-1)M²)",
)


class CINLayer(nn.Module):
    r"""Every feature map is a weighted sum of all products of a current map and a token.

    .. math:: X^k_h = \sum_{i,j} W^{k,h}_{ij}\, (X^{k-1}_i \odot X^0_j)

    (equation 6). The products are computed for each of the d dimensions of a token separately, and all
    dimensions share the weights: this is a linear layer over the N*T products of a dimension.

    Shapes
        x0 (B, d, T), x (B, d, in_maps) -> (B, d, N) with N = out_maps.

    Cost
        in_maps*T*N parameters, 2*d*in_maps*T*N FLOPs a sample (the products themselves, d*in_maps*T,
        are not counted).

    Example
        >>> x = torch.ones(2, 3, 4)
        >>> CINLayer(num_tokens=4, in_maps=4, out_maps=5)(x, x).shape
        torch.Size([2, 3, 5])
    """

    def __init__(self, num_tokens: int, in_maps: int, out_maps: int) -> None:
        super().__init__()
        self.compress = nn.Linear(in_maps * num_tokens, out_maps, bias=False)

    def forward(self, x0: Tensor, x: Tensor) -> Tensor:
        products = x.unsqueeze(3) * x0.unsqueeze(2)  # (B, d, in_maps, T)
        return self.compress(products.flatten(start_dim=2))


class CIN(nn.Module):
    """Layers of feature maps on the tokens. An output is the sum of a map over the d dimensions.

    Layer k holds crosses of exactly k + 1 tokens: scaling all tokens by a scales its outputs by
    a**(k+1).

    Shapes
        tokens: (B, T, d). Returns (B, C * N), layer after layer.

    Cost
        T**2*N + (C-1)*T*N**2 parameters, 2*d FLOPs a sample for each of them.

    Example
        >>> CIN(num_tokens=4, num_maps=5, num_layers=2)(torch.ones(2, 4, 3)).shape
        torch.Size([2, 10])
    """

    def __init__(self, num_tokens: int, num_maps: int, num_layers: int) -> None:
        super().__init__()
        widths = [num_tokens] + [num_maps] * (num_layers - 1)
        self.layers = nn.ModuleList(CINLayer(num_tokens, in_maps, num_maps) for in_maps in widths)

    def forward(self, tokens: Tensor) -> Tensor:
        # Dimensions before maps, so that the products of a dimension are contiguous for the linear layer.
        x0 = x = tokens.transpose(1, 2).contiguous()  # (B, d, T)
        sums = []
        for layer in self.layers:
            x = layer(x0, x)  # (B, d, N)
            sums.append(x.sum(dim=1))
        return torch.cat(sums, dim=1)


class XDeepFM(nn.Module):
    """Linear term, CIN and MLP of the tokens, concatenated.

    Shapes
        tokens: (B, T, d). Returns (B, 1 + C*N + M): linear, CIN, deep.

    Cost
        F + 1 + T**2*N + (C-1)*T*N**2 + F*M + (L-1)*M**2 + L*M parameters,
        2*F + 2*d*(T**2*N + (C-1)*T*N**2) + 2*(F*M + (L-1)*M**2) FLOPs a sample. The CIN's elementwise
        products and its sums are not counted. The products take most of the memory: (B, d, N, T) numbers
        for each layer.

    Example
        >>> config = XDeepFM.Config(num_maps=5, hidden_dim=8)
        >>> XDeepFM(num_tokens=4, token_dim=3, config=config)(torch.ones(2, 4, 3)).shape
        torch.Size([2, 24])
    """

    @dataclass(frozen=True, kw_only=True, slots=True)
    class Config(MLPConfig):
        """``num_maps``, the feature maps of every CIN layer, scales the model to a budget;
        ``hidden_dim``, the width of every deep layer, customarily a few times as many, makes
        the match exact."""

        num_maps: int
        hidden_dim: int | None
        num_cin_layers: int = tunable(3, 2)
        num_layers: int = tunable(3, 2)

    def __init__(self, num_tokens: int, token_dim: int, config: Config) -> None:
        super().__init__()
        require_positive(config)
        dim = num_tokens * token_dim
        self.linear = nn.Linear(dim, 1)
        self.cin = CIN(num_tokens, config.num_maps, config.num_cin_layers)
        self.deep = config.mlp(dim, config.hidden_dim)
        self.output_dim = 1 + config.num_cin_layers * config.num_maps + self.deep.output_dim

    def forward(self, tokens: Tensor) -> Tensor:
        flat = tokens.flatten(start_dim=1)  # (B, F)
        return torch.cat([self.linear(flat), self.cin(tokens), self.deep(flat)], dim=1)

    @staticmethod
    def knobs(num_tokens: int, token_dim: int) -> Knobs:
        return Knobs(
            coarse=Knob("num_maps"),
            fine=Knob("hidden_dim", fixed_by="hidden_dims"),
            fine_per_coarse=4.0,
        )
