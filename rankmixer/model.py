"""RankMixer: token mixing without weights, and a separate feed-forward network for every token.

Zhu et al., "RankMixer: Scaling Up Ranking Models in Industrial Recommenders", CIKM 2025,
https://arxiv.org/abs/2507.15551, section 3, equations 1 to 12.

What is here: the model from the tokens to the mean over tokens, and every ablation of the paper as a switch
of `RankMixer.Config`. What is not: the division of embeddings into tokens, which is the same for all
architectures and done before them. README.md lists what the paper leaves open and the choices made here.

Shapes
    B batch, T tokens, d token width, D model width, H heads of the mixing,
    M = k * D hidden width of the feed-forward networks, E experts of each token, L layers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from baselines.contract import About, Knob, Knobs, Output, View, require_positive, tunable
from baselines.layers import AddNorm, PerTokenFFN, PerTokenLinear
from rankmixer.controller import PenaltyCoefficient
from rankmixer.feed_forward import AllConcatMLP, AllShare, SharedFFN
from rankmixer.kernels.fast import faster_block
from rankmixer.mixing import MultiHeadMixing, SelfAttention
from rankmixer.moe_ablations import sparse_moe
from rankmixer.routers import usage
from rankmixer.sparse_moe import Routing, SparseMoE

ABOUT = About(
    papers={"Zhu et al.": "https://arxiv.org/abs/2507.15551"},
    year=2025,
    flops="2TdD + 4LTDM",
)

Mixing = Literal["multi_head", "none", "self_attention", "all_concat_mlp", "all_share"]
FLAT: dict[str, type[nn.Module]] = {"all_concat_mlp": AllConcatMLP, "all_share": AllShare}


class Block(nn.Module):
    r"""Mix the tokens, then transform each: two residual steps, each followed by a normalisation.

    .. math:: s = \mathrm{LN}(\mathrm{Mix}(x) + x), \qquad y = \mathrm{LN}(\mathrm{PFFN}(s) + s)

    (equation 1). The first sum adds slices of different tokens, as in the paper. ``norm`` "pre" normalises
    the input of each step instead of its output. A network on all tokens at once ("all_concat_mlp",
    "all_share") is a single step that replaces both.

    Shapes
        (B, T, D) -> (B, T, D), and the `Routing` of its experts, or None.

    Cost
        2*T*D*M + T*(M + D) + 4*D parameters, 4*T*D*M FLOPs a sample; the mixing has none of either.
    """

    ffn: Any  # one of five layers; `SparseMoE` returns a `Routing` as well

    def __init__(self, num_tokens: int, config: RankMixer.Config) -> None:
        super().__init__()
        self.is_pre, self.has_residual = config.norm == "pre", config.residual
        sizes = num_tokens, config.model_dim, config.ffn_dim
        self.mixing = None if config.mixing in FLAT else _mixing(num_tokens, config)
        self.mixing_norm = None if self.mixing is None else _norm(config)
        if config.mixing in FLAT:
            self.ffn = FLAT[config.mixing](*sizes)
        elif config.moe is not None:
            self.ffn = sparse_moe(*sizes, config.moe)
        else:
            self.ffn = (PerTokenFFN if config.feed_forward == "per_token" else SharedFFN)(*sizes)
        self.ffn_norm = _norm(config)

    @property
    def is_unmodified(self) -> bool:
        """Whether this is the paper's block, for which `rankmixer.kernels.fast` has faster code."""
        return (
            isinstance(self.mixing, MultiHeadMixing)
            and self.mixing.num_heads is None
            and isinstance(self.ffn, PerTokenFFN)
            and isinstance(self.ffn_norm, AddNorm)
            and self.has_residual
            and not self.is_pre
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Routing | None]:
        faster = faster_block(x) if self.is_unmodified else None
        return self.plain(x) if faster is None else (faster(self, x), None)

    def plain(self, x: Tensor) -> tuple[Tensor, Routing | None]:
        """The plain equations for every switch, device and dtype, to which faster code is compared."""
        if self.mixing is not None and self.mixing_norm is not None:
            x = self._join(x, self.mixing(self._enter(x, self.mixing_norm)), self.mixing_norm)
        transformed = self.ffn(self._enter(x, self.ffn_norm))
        v, routing = transformed if isinstance(transformed, tuple) else (transformed, None)
        return self._join(x, v, self.ffn_norm), routing

    def _enter(self, x: Tensor, norm: nn.Module) -> Tensor:
        return norm(x) if self.is_pre else x

    def _join(self, x: Tensor, step: Tensor, norm: nn.Module) -> Tensor:
        if self.is_pre or not isinstance(norm, AddNorm):
            return x + step if self.has_residual else step
        return norm(x, step) if self.has_residual else norm(step)


def _mixing(num_tokens: int, config: RankMixer.Config) -> nn.Module:
    if config.mixing == "none":
        return nn.Identity()
    layer = MultiHeadMixing if config.mixing == "multi_head" else SelfAttention
    return layer(num_tokens, config.model_dim, config.num_heads)


def _norm(config: RankMixer.Config) -> nn.Module:
    return nn.Identity() if config.norm == "none" else AddNorm(config.model_dim)


class RankMixer(nn.Module):
    """Per-token projection, RankMixer blocks, mean over tokens.

    Raises ValueError if the number of tokens (or heads) does not divide ``model_dim``, or if two switches
    exclude each other.

    Shapes
        tokens: (B, T, d). Returns (B, D); with experts an `Output`, whose view "training_router" is the
        representation with the training router's gates.

    Cost
        T*(d*D + D) + L*(2*T*D*M + T*(M + D) + 4*D) parameters,
        2*T*d*D + 4*L*T*D*M FLOPs a sample. Normalisations, GELU, sums and the mixing are not counted.
        For other mixings, networks and experts see their own docstrings.

    Example
        >>> import torch
        >>> config = RankMixer.Config(model_dim=8, ffn_dim=16)
        >>> RankMixer(num_tokens=4, token_dim=3, config=config)(torch.ones(2, 4, 3)).shape
        torch.Size([2, 8])
    """

    rows_at_once = 512

    @dataclass(frozen=True, kw_only=True, slots=True)
    class Config:
        """``model_dim`` scales the model to a budget and is divisible by the number of tokens;
        ``ffn_dim`` is k * ``model_dim`` in the paper's terms and makes the match exact.

        The defaults give the paper's model. ``mixing``, ``feed_forward``, ``residual`` and ``norm`` remove
        or replace a part, as the paper's tables 2 and 3 do; ``num_heads`` is H, by default T; ``moe`` cuts
        the per-token networks into experts.
        """

        model_dim: int
        ffn_dim: int
        num_layers: int = tunable(2, 1, 3, 4)
        mixing: Mixing = "multi_head"
        num_heads: int | None = None
        feed_forward: Literal["per_token", "shared"] = "per_token"
        residual: bool = True
        norm: Literal["post", "pre", "none"] = "post"
        shared_projection: bool = False
        moe: SparseMoE.Config | None = None

    def __init__(self, num_tokens: int, token_dim: int, config: Config) -> None:
        super().__init__()
        require_positive(config)
        _check(config)
        self.projection = (
            nn.Linear(token_dim, config.model_dim)
            if config.shared_projection
            else PerTokenLinear(num_tokens, token_dim, config.model_dim)
        )
        self.blocks = nn.ModuleList(Block(num_tokens, config) for _ in range(config.num_layers))
        self.final_norm = AddNorm(config.model_dim) if config.norm == "pre" else nn.Identity()
        self.output_dim = config.model_dim
        self.moe = config.moe
        if config.moe is not None:
            self.active_ratio = config.moe.active_ratio
            self.expert_flops = sum(m.expert_flops for m in self.modules() if isinstance(m, SparseMoE))
            self.coefficient = PenaltyCoefficient(
                config.num_layers,
                target=config.moe.active_ratio,
                scope=config.moe.coefficient,
                initial=config.moe.initial_coefficient,
                growth=config.moe.coefficient_growth,
                lead=config.moe.coefficient_lead,
                bounds=config.moe.coefficient_bounds,
            )

    def forward(self, tokens: Tensor) -> Tensor | Output:
        x = self.projection(tokens)
        if self.moe is None:
            for block in self.blocks:
                x, _ = block(x)
            return self.final_norm(x).mean(dim=1)
        two_branches = self.training and self.moe.training == "two_branch"
        if two_branches:
            x = torch.cat([x, x])
        routings = []
        for block in self.blocks:
            x, routing = block(x)
            routings.append(routing)
        pooled = self.final_norm(x).mean(dim=1)
        branches: tuple[Tensor, ...] = pooled.chunk(2) if two_branches else (pooled,)
        views = {"training_router": View(1.0, branches[1])} if two_branches else {}
        return Output(branches[0], views, self._penalties(routings), self._statistics(routings))

    def _penalties(self, routings: list[Routing]) -> dict[str, Tensor]:
        """Means over layers. Those of ReLU gates are multiplied by their coefficients (equation 11)."""
        names = routings[0].penalties
        penalties = {name: torch.stack([r.penalties[name] for r in routings]).mean() for name in names}
        if self.moe is not None and self.moe.routing == "relu":
            sparsity = torch.stack([routing.sparsity for routing in routings])
            penalties["sparsity"] = (self.coefficient.value * sparsity).mean()
            if self.moe.reopening and self.moe.coefficient != "fixed":
                closure = torch.stack([routing.closure for routing in routings])
                revival = torch.stack([routing.revival for routing in routings])
                penalties["closure"] = (self.coefficient.opening * closure).mean()
                penalties["revival"] = (self.coefficient.value * revival).mean()
        return penalties

    def _statistics(self, routings: list[Routing]) -> dict[str, Tensor]:
        statistics = {"active_experts": torch.stack([usage(routing.gates).float() for routing in routings])}
        if self.moe is not None and self.moe.routing == "relu":
            statistics["penalty_coefficient"] = self.coefficient.value.mean()
        return statistics

    def update(self, statistics: dict[str, Tensor]) -> None:
        """Adjust the coefficients after each step, given the statistics of the whole batch over all ranks."""
        if self.moe is not None and self.moe.routing == "relu":
            self.coefficient.update(statistics["active_experts"])

    @staticmethod
    def knobs(num_tokens: int, token_dim: int) -> Knobs:
        return Knobs(
            coarse=Knob("model_dim", step=num_tokens, minimum=num_tokens),
            fine=Knob("ffn_dim"),
            fine_per_coarse=2.0,
        )


def _check(config: RankMixer.Config) -> None:
    """Raise ValueError if two switches exclude each other."""
    if config.mixing in FLAT and config.feed_forward != "per_token":
        raise ValueError(
            f"feed_forward {config.feed_forward!r} cannot be combined with mixing {config.mixing!r}, which "
            "replaces it; leave feed_forward out"
        )
    if config.moe is not None and (config.mixing in FLAT or config.feed_forward != "per_token"):
        raise ValueError(
            "moe cuts per-token networks into experts; set mixing to a token mixing and feed_forward "
            "to 'per_token', or leave moe out"
        )
