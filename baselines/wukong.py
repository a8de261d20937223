r"""Wukong: layers of factorization machines and linear maps, for interactions of growing order.

Zhang et al., "Wukong: Towards a Scaling Law for Large-Scale Recommendation", ICML 2024,
https://arxiv.org/abs/2403.02545, sections 3.2 to 3.8.

What is here: layers with a factorization machine block (FMB) and a linear compression block (LCB) in
parallel, with the optimised factorization machine of section 3.6 and a norm after the residual; i layers
hold interactions of order 1 to 2**i. Both blocks of every layer return the same number of tokens. The
rank of the factorization machine is also that number unless the config sets it, as in the paper's largest
models. Tokens keep their width; their number grows, together with the MLPs. The output tokens are
flattened.
Where the paper leaves a choice: the FMB ends in a linear map (``relu_output`` adds the ReLU of some
implementations). What is not: the variant in which the projection Y attends to the input, and the final
MLP, which the towers replace.
Departures: a token holds several features. The first layer compresses its residual even if the number of
tokens stays the same, so that the cost always grows with that number.

Shapes
    B batch, T tokens, d token width, N tokens of each block's output, k rank, M hidden width of the
    MLPs, P their hidden layers, L layers; n = T in the first layer and 2*N in all others.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from baselines.contract import About, Knob, Knobs, require_positive, tunable
from baselines.layers import MLP, AddNorm, LinearCompression, MLPConfig

ABOUT = About(
    papers={"Zhang et al.": "https://arxiv.org/abs/2403.02545"},
    year=2024,
    flops="4TNd + Σ over layers of 6nNd + 2(nNM + M² + MNd), from n tokens to 2N",
)


class FactorizationMachine(nn.Module):
    r"""Dot products of all pairs of tokens, projected to k columns without computing them all.

    .. math:: (x x^\top) Y = x (x^\top Y)

    (section 3.6). The right-hand side costs O(n*d*k) where the left costs O(n**2*(d + k)).

    Shapes
        (B, n, d) -> (B, n, k).

    Cost
        n*k parameters, 4*n*d*k FLOPs a sample.

    Example
        >>> FactorizationMachine(num_tokens=5, rank=2)(torch.ones(3, 5, 4)).shape
        torch.Size([3, 5, 2])
    """

    def __init__(self, num_tokens: int, rank: int) -> None:
        super().__init__()
        self.project = nn.Linear(num_tokens, rank, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.project(x.transpose(1, 2))


class WukongLayer(nn.Module):
    r"""FMB and LCB in parallel, each returning N tokens, then the residual and a norm over each token.

    .. math:: y = \mathrm{LN}\big([\mathrm{FMB}(x); \mathrm{LCB}(x)] + \mathrm{R}(x)\big), \qquad
        \mathrm{FMB}(x) = \mathrm{reshape}\big(\mathrm{MLP}(\mathrm{LN}(\mathrm{vec}(x x^\top Y)))\big)

    (sections 3.3 to 3.5). R is a linear map over the tokens if ``compress_residual``; otherwise it is
    the identity, which needs n = 2*N. ``mlp`` makes the MLP for a width of its input.

    Shapes
        (B, n, d) -> (B, 2*N, d): FMB's tokens, then LCB's.

    Cost
        3*n*k + n*k*M + (P-1)*M**2 + P*M + (M+1)*N*d + N*n + 2*d parameters and
        4*n*d*k + 2*(n*k*M + (P-1)*M**2 + M*N*d) + 2*N*n*d FLOPs a sample; ``compress_residual`` adds
        2*N*n and 4*N*n*d.

    Example
        >>> layer = WukongLayer(
        ...     in_tokens=5, token_dim=4, num_embeddings=3, rank=2, mlp=lambda in_dim: MLP(in_dim, 8, 2),
        ...     compress_residual=True,
        ... )
        >>> layer(torch.ones(2, 5, 4)).shape
        torch.Size([2, 6, 4])
    """

    def __init__(
        self,
        in_tokens: int,
        token_dim: int,
        num_embeddings: int,
        rank: int,
        mlp: Callable[[int], MLP],
        compress_residual: bool,
        relu_output: bool = False,
    ) -> None:
        super().__init__()
        factorization_machine = FactorizationMachine(in_tokens, rank)
        network = mlp(in_tokens * rank)
        self.fmb = nn.Sequential(
            factorization_machine,
            nn.Flatten(),
            nn.LayerNorm(in_tokens * rank),
            network,
            nn.Linear(network.output_dim, num_embeddings * token_dim),
            nn.ReLU() if relu_output else nn.Identity(),
            nn.Unflatten(1, (num_embeddings, token_dim)),
        )
        self.lcb = LinearCompression(in_tokens, num_embeddings)
        self.residual = (
            LinearCompression(in_tokens, 2 * num_embeddings) if compress_residual else nn.Identity()
        )
        self.norm = AddNorm(token_dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.residual(x), torch.cat([self.fmb(x), self.lcb(x)], dim=1))


class Wukong(nn.Module):
    """Wukong layers on the tokens, flattened at the end.

    Shapes
        tokens: (B, T, d). Returns (B, 2*N*d).

    Cost
        That of L layers, the first with n = T and a compressed residual, the others with n = 2*N.

    Example
        >>> config = Wukong.Config(num_embeddings=3, hidden_dim=8)
        >>> Wukong(num_tokens=4, token_dim=5, config=config)(torch.ones(2, 4, 5)).shape
        torch.Size([2, 30])
    """

    @dataclass(frozen=True, kw_only=True, slots=True)
    class Config(MLPConfig):
        """``num_embeddings``, the number of tokens that each of the two blocks of a layer returns, scales
        the model to a budget; ``hidden_dim``, the width of the MLPs, customarily half the width of their
        output (num_embeddings * d), makes the match exact. ``fm_rank`` is by default
        ``num_embeddings``."""

        num_embeddings: int
        hidden_dim: int | None
        num_layers: int = tunable(2, 1, 3, 4)
        num_mlp_layers: int = 2
        fm_rank: int | None = None
        relu_output: bool = False

    def __init__(self, num_tokens: int, token_dim: int, config: Config) -> None:
        super().__init__()
        require_positive(config)
        out_tokens, rank = 2 * config.num_embeddings, config.fm_rank or config.num_embeddings
        self.layers = nn.Sequential(
            *(
                WukongLayer(
                    in_tokens,
                    token_dim,
                    config.num_embeddings,
                    rank,
                    partial(config.mlp, hidden_dim=config.hidden_dim, depth_field="num_mlp_layers"),
                    compress_residual=i == 0,
                    relu_output=config.relu_output,
                )
                for i, in_tokens in enumerate([num_tokens] + [out_tokens] * (config.num_layers - 1))
            )
        )
        self.output_dim = out_tokens * token_dim

    def forward(self, tokens: Tensor) -> Tensor:
        return self.layers(tokens).flatten(start_dim=1)

    @staticmethod
    def knobs(num_tokens: int, token_dim: int) -> Knobs:
        return Knobs(
            coarse=Knob("num_embeddings"),
            fine=Knob("hidden_dim", fixed_by="hidden_dims"),
            fine_per_coarse=token_dim / 2,
        )
