"""AutoInt: feature interactions by layers of multi-head self-attention.

Song et al., "AutoInt: Automatic Feature Interaction Learning via Self-Attentive Neural Networks",
CIKM 2019, https://arxiv.org/abs/1810.11921, section 4.4, equations 5 to 8.

What is here: the interacting layers without biases, their residual projections, and the flattened
output. Departures from the paper's equations, both as in the authors' code: scores are divided by
sqrt(D/H), because the width scales the model here and raw inner products grow with it; and each layer
ends in layer normalisation, without which three layers shrink small embeddings so much that a single
pass over a log no longer trains the model. ``scaled`` and ``layer_norm`` off take them back; with
``norm_before_relu`` the norm stands where FuxiCTR has it. A token holds several features. What is not:
AutoInt+ (with a parallel MLP) and the ReLU on queries, keys and values in the authors' code.

Shapes
    B batch, T tokens, d token width, D model width, E width of the last layer, H heads, L layers.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional

from baselines.contract import About, Knob, Knobs, require_positive, tunable
from baselines.layers import AddNorm, MultiHeadSelfAttention

ABOUT = About(
    papers={"Song et al.": "https://arxiv.org/abs/1810.11921"},
    year=2019,
    flops="Σ over layers of 8T·in·out + 4T²·out",
)

NUM_HEADS = 2


class InteractingLayer(nn.Module):
    r"""Every token attends to all tokens, and a projection of the token itself is added.

    .. math:: e_m^{\mathrm{Res}} = \mathrm{ReLU}(\tilde e_m + W_{\mathrm{Res}} e_m)

    (equation 8), where the first term is the concatenation of the heads (equations 5 to 7), whose scores are
    divided by the root of the head width if ``scaled``. If ``layer_norm``, layer normalisation follows, or
    stands before the ReLU if ``norm_before_relu``. Permuting the tokens permutes the output.

    Shapes
        (B, T, in_dim) -> (B, T, D) with D = out_dim.

    Cost
        4*in*D parameters (+ 2*D with ``layer_norm``), 8*T*in*D + 4*T**2*D FLOPs a sample.

    Example
        >>> import torch
        >>> InteractingLayer(in_dim=3, out_dim=4, num_heads=2)(torch.ones(2, 5, 3)).shape
        torch.Size([2, 5, 4])
    """

    def __init__(
        self,
        in_dim: int,
        out_dim: int,
        num_heads: int,
        layer_norm: bool = True,
        scaled: bool = True,
        norm_before_relu: bool = False,
        out_field: str = "model_dim",
    ) -> None:
        super().__init__()
        self.norm_before_relu = norm_before_relu
        self.attention = MultiHeadSelfAttention(in_dim, out_dim, num_heads, False, scaled, out_field)
        self.residual = nn.Linear(in_dim, out_dim, bias=False)
        self.norm = AddNorm(out_dim) if layer_norm else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y = self.attention(x) + self.residual(x)
        return functional.relu(self.norm(y)) if self.norm_before_relu else self.norm(functional.relu(y))


class AutoInt(nn.Module):
    """Interacting layers on the tokens, flattened at the end.

    Shapes
        tokens: (B, T, d). Returns (B, T * E).

    Cost
        With layer widths w_0 = d, w_1 = ... = w_(L-1) = D, w_L = E: 4*w_(l-1)*w_l parameters and
        8*T*w_(l-1)*w_l + 4*T**2*w_l FLOPs a sample for each layer l, and 2*w_l parameters of its norm.
        Softmax and norms are not counted in the FLOPs.

    Example
        >>> import torch
        >>> model = AutoInt(num_tokens=4, token_dim=3, config=AutoInt.Config(model_dim=8, last_dim=6))
        >>> model(torch.ones(2, 4, 3)).shape
        torch.Size([2, 24])
    """

    rows_at_once = 128

    @dataclass(frozen=True, kw_only=True, slots=True)
    class Config:
        """``model_dim``, the width of all layers but the last, scales the model to a budget;
        ``last_dim``, customarily the same, makes the match exact. ``num_heads`` divides both.
        ``layer_norm`` off gives the paper's equation 8 alone, ``scaled`` off the scores of its equation 5.
        ``norm_before_relu`` puts the norm between sum and ReLU, as FuxiCTR does; the authors' code has it
        after the ReLU."""

        model_dim: int
        last_dim: int
        num_layers: int = tunable(3, 2)
        num_heads: int = tunable(NUM_HEADS, 1)
        layer_norm: bool = True
        scaled: bool = True
        norm_before_relu: bool = False

    def __init__(self, num_tokens: int, token_dim: int, config: Config) -> None:
        super().__init__()
        require_positive(config)
        options = config.num_heads, config.layer_norm, config.scaled, config.norm_before_relu
        if config.num_layers < 2:
            raise ValueError(
                "AutoInt.Config: num_layers is 1, so model_dim would set nothing; set it to 2 or more"
            )
        if config.norm_before_relu and not config.layer_norm:
            raise ValueError(
                "AutoInt.Config: norm_before_relu moves the norm, and layer_norm is off; remove one of them"
            )
        widths = [token_dim] + [config.model_dim] * (config.num_layers - 1)
        self.layers = nn.Sequential(
            *(InteractingLayer(a, b, *options) for a, b in pairwise(widths)),
            InteractingLayer(widths[-1], config.last_dim, *options, out_field="last_dim"),
        )
        self.output_dim = num_tokens * config.last_dim

    def forward(self, tokens: Tensor) -> Tensor:
        return self.layers(tokens).flatten(start_dim=1)

    @staticmethod
    def knobs(num_tokens: int, token_dim: int) -> Knobs:
        return Knobs(
            coarse=Knob("model_dim", step=NUM_HEADS, minimum=NUM_HEADS),
            fine=Knob("last_dim", step=NUM_HEADS, minimum=NUM_HEADS),
        )
