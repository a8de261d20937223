r"""MoE: experts with the same input, whose outputs are mixed by softmax gates as in MMoE.

Ma et al., "Modeling Task Relationships in Multi-task Learning with Multi-gate Mixture-of-Experts", KDD
2018, https://doi.org/10.1145/3219819.3220007, section 4. It is the MoE row of RankMixer's Table 1
(https://arxiv.org/abs/2507.15551), which Figure 2 of that paper calls MMoE.

What is here: experts that all read all tokens, and gates that mix them and are functions of the same
input. Every expert is computed for every sample.
Departures: the input is the flattened tokens. MMoE has one gate for each task, and the tower of a task
reads only the mixture of its gate. An architecture here does not know the tasks and returns one
representation. It therefore has ``num_gates`` gates, customarily as many as there are tasks, and all
towers read the concatenated mixtures. A tower whose first layer has zero weights for the other mixtures
is that of MMoE; with other weights it may use all mixtures. What is not: the towers, and sparse gates.

Shapes
    B batch, T tokens, d token width, F = T * d flattened tokens, E experts, G gates, M hidden width,
    O width of an expert's output, L layers of an expert.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from baselines.contract import About, Knob, Knobs, require_positive, tunable
from baselines.layers import PerTokenLinear

ABOUT = About(
    papers={
        "MMoE": "https://doi.org/10.1145/3219819.3220007",
        "RankMixer's MoE row": "https://arxiv.org/abs/2507.15551",
    },
    year=2018,
    flops="2E(FM + (L-2)M² + MO) + 2GE(F + O), E experts, G gates, experts of width O",
)


class Experts(nn.Module):
    r"""MLPs of the same shape that read the same input.

    .. math:: e_j = \mathrm{MLP}_j(x)

    All layers end in a ReLU. The first layers of all experts are one GEMM, since they share their input;
    each later layer is a batch of GEMMs, one for each expert.

    Shapes
        (B, F) -> (B, E, O).

    Cost
        E*(F*M + (L-2)*M**2 + M*O + (L-1)*M + O) parameters, 2*E*(F*M + (L-2)*M**2 + M*O) FLOPs a sample.

    Example
        >>> import torch
        >>> experts = Experts(in_dim=6, hidden_dim=4, expert_dim=5, num_experts=3, num_layers=2)
        >>> experts(torch.ones(2, 6)).shape
        torch.Size([2, 3, 5])
    """

    def __init__(
        self, in_dim: int, hidden_dim: int, expert_dim: int, num_experts: int, num_layers: int
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = [
            nn.Linear(in_dim, num_experts * hidden_dim),
            nn.Unflatten(1, (num_experts, hidden_dim)),
            nn.ReLU(),
        ]
        for width in [hidden_dim] * (num_layers - 2) + [expert_dim]:
            layers += [PerTokenLinear(num_experts, hidden_dim, width), nn.ReLU()]
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class Gates(nn.Module):
    r"""A distribution over the experts for each gate.

    .. math:: g_k = \mathrm{softmax}(W_k x + b_k)

    Shapes
        (B, F) -> (B, G, E), positive, with sums of 1 over the experts.

    Cost
        G*E*(F + 1) parameters, 2*F*G*E FLOPs a sample.

    Example
        >>> import torch
        >>> Gates(in_dim=6, num_gates=2, num_experts=3)(torch.ones(4, 6)).shape
        torch.Size([4, 2, 3])
    """

    def __init__(self, in_dim: int, num_gates: int, num_experts: int) -> None:
        super().__init__()
        self.logits = nn.Linear(in_dim, num_gates * num_experts)
        self.shape = (num_gates, num_experts)

    def forward(self, x: Tensor) -> Tensor:
        return self.logits(x).unflatten(1, self.shape).softmax(dim=-1)


class MoE(nn.Module):
    r"""The mixtures of all gates, concatenated.

    .. math:: y = \big\Vert_k \sum_j g_{kj}\, e_j

    Shapes
        tokens: (B, T, d). Returns (B, G*O): the first gate's mixture, the second's, and so on.

    Cost
        E*(F*M + (L-2)*M**2 + M*O + (L-1)*M + O) + G*E*(F + 1) parameters and
        2*E*(F*M + (L-2)*M**2 + M*O) + 2*F*G*E + 2*G*E*O FLOPs a sample. Softmax is not counted.

    Example
        >>> import torch
        >>> model = MoE(num_tokens=4, token_dim=3, config=MoE.Config(hidden_dim=8, expert_dim=5))
        >>> model(torch.ones(2, 4, 3)).shape
        torch.Size([2, 10])
    """

    @dataclass(frozen=True, kw_only=True, slots=True)
    class Config:
        """``hidden_dim``, the width of all layers of an expert but the last, scales the model to a
        budget; ``expert_dim``, the last one's and customarily the same, makes the match exact. One gate
        (``num_gates`` 1) makes it the one-gate MoE that MMoE is compared with."""

        hidden_dim: int
        expert_dim: int
        num_experts: int = tunable(4, 8)
        num_gates: int = 2
        num_layers: int = tunable(2, 3)

    def __init__(self, num_tokens: int, token_dim: int, config: Config) -> None:
        super().__init__()
        require_positive(config)
        if config.num_layers < 2:
            raise ValueError(
                "MoE.Config: num_layers is 1, so hidden_dim would set nothing; set it to 2 or more"
            )
        dim = num_tokens * token_dim
        self.experts = Experts(
            dim, config.hidden_dim, config.expert_dim, config.num_experts, config.num_layers
        )
        self.gates = Gates(dim, config.num_gates, config.num_experts)
        self.output_dim = config.num_gates * config.expert_dim

    def forward(self, tokens: Tensor) -> Tensor:
        x = tokens.flatten(start_dim=1)  # (B, F)
        return (self.gates(x) @ self.experts(x)).flatten(start_dim=1)  # (B, G, O) -> (B, G*O)

    @staticmethod
    def knobs(num_tokens: int, token_dim: int) -> Knobs:
        return Knobs(coarse=Knob("hidden_dim"), fine=Knob("expert_dim"))
