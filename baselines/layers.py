"""The layers that several architectures use.

In every architecture all linear maps are initialised like `nn.Linear`: weights and biases uniform within
±1/sqrt(fan-in), so that a comparison does not compare initialisations. All layers can be built on the meta
device, where `torch.utils.flop_counter` sees all their GEMMs.

Shapes
    B batch, T tokens, d width of the input tokens, D model width, H heads, M hidden width.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor, nn
from torch.nn import functional

from baselines.contract import (  # noqa: F401  users' own architectures import these names from here
    Knob,
    Knobs,
    Output,
    View,
    require_divisible,
    require_positive,
    tunable,
)
from baselines.kernels import cpu as cpu_kernels


class BatchNorm(nn.BatchNorm1d):
    """Batch normalisation (Ioffe and Szegedy, https://arxiv.org/abs/1502.03167), also of a batch of one row.

    One row has no variance: it is normalised by the running statistics, as in evaluation, and does not
    change them.

    Shapes
        (B, M) -> (B, M).

    Cost
        2*M parameters; no counted FLOPs. The running means and variances are 2*M buffers.

    Example
        >>> BatchNorm(2)(torch.tensor([[1.0, 2.0], [3.0, 2.0]])).round(decimals=3)
        tensor([[-1.,  0.],
                [ 1.,  0.]], grad_fn=<RoundBackward1>)
    """

    def forward(self, x: Tensor) -> Tensor:
        if self.training and len(x) == 1:
            mean, var = self.running_mean, self.running_var
            return functional.batch_norm(x, mean, var, self.weight, self.bias, eps=self.eps)
        return super().forward(x)


class MLP(nn.Sequential):
    """Linear layers, each followed by batch normalisation if ``batch_norm``, a ReLU, and dropout if any.

    There are ``num_layers`` of the width ``hidden_dim`` or, where ``hidden_dims`` is given, one of each of
    its widths. Raises ValueError where ``dropout``, the share of a layer's outputs that training sets to
    zero, is not at least 0 and below 1.

    Shapes
        (B, F) -> (B, M), where M = ``output_dim`` is the last width.

    Cost
        F*M + (L-1)*M**2 + L*M parameters, 2*(F*M + (L-1)*M**2) FLOPs a sample; of widths M_1, M_2, ...,
        F*M_1 + M_1*M_2 + ... + M_1 + M_2 + ... parameters and 2*(F*M_1 + M_1*M_2 + ...) FLOPs. Batch
        normalisation adds two parameters for each output of a layer, and no counted FLOPs.

    Example
        >>> MLP(in_dim=6, hidden_dim=4, num_layers=2)(torch.ones(3, 6)).shape
        torch.Size([3, 4])
        >>> MLP(6, hidden_dims=(8, 5), batch_norm=True, dropout=0.1)(torch.ones(3, 6)).shape
        torch.Size([3, 5])
    """

    def __init__(
        self,
        in_dim: int,
        hidden_dim: int = 0,
        num_layers: int = 0,
        *,
        hidden_dims: Sequence[int] | None = None,
        batch_norm: bool = False,
        dropout: float = 0.0,
    ) -> None:
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout is {dropout}; set it to 0 or more and below 1")
        layers: list[nn.Module] = []
        fan_in = in_dim
        for width in [hidden_dim] * num_layers if hidden_dims is None else hidden_dims:
            layers.append(nn.Linear(fan_in, width))
            layers += [BatchNorm(width)] if batch_norm else []
            layers.append(nn.ReLU())
            layers += [nn.Dropout(dropout)] if dropout else []
            fan_in = width
        super().__init__(*layers)
        self.output_dim = fan_in


@dataclass(frozen=True, kw_only=True, slots=True)
class MLPConfig:
    """The fields of a Config about its `MLP`.

    ``hidden_dims`` are the widths of its layers, one after another, in place of ``hidden_dim`` (then None)
    and ``num_layers``; no budget sets them. ``batch_norm`` normalises each layer before its ReLU, and
    ``dropout`` is the share of its outputs that training sets to zero.
    """

    hidden_dims: tuple[int, ...] | None = None
    batch_norm: bool = False
    dropout: float = 0.0

    def mlp(self, in_dim: int, hidden_dim: int | None, depth_field: str = "num_layers") -> MLP:
        """The MLP; ``depth_field`` names the field that holds its number of layers.

        Raises ValueError where both ``hidden_dims`` and one of the fields that it replaces are set, or
        neither is.
        """
        name, depth = type(self).__qualname__, getattr(self, depth_field)
        unset = next(each.default for each in fields(self) if each.name == depth_field)
        if self.hidden_dims is None:
            if hidden_dim is None:
                raise ValueError(f"{name}: hidden_dim is missing; set it, or hidden_dims")
            return MLP(in_dim, hidden_dim, depth, batch_norm=self.batch_norm, dropout=self.dropout)
        if hidden_dim is not None:
            raise ValueError(f"{name}: hidden_dims sets every width, and hidden_dim too; remove one of them")
        if depth not in (unset, len(self.hidden_dims)):
            raise ValueError(
                f"{name}: hidden_dims has {len(self.hidden_dims)} widths, and {depth_field} is {depth}; "
                "remove one of them"
            )
        return MLP(in_dim, hidden_dims=self.hidden_dims, batch_norm=self.batch_norm, dropout=self.dropout)


class PerTokenLinear(nn.Module):
    """A linear layer with separate weights for every token.

    .. math:: y_t = x_t W_t + b_t

    The fan-in of each slice is ``in_dim``. An initialiser of PyTorch would read it from the wrong axes of the
    stacked (T, in, out) tensor.

    Shapes
        (B, T, in_dim) -> (B, T, out_dim); weight (T, in_dim, out_dim), bias (T, 1, out_dim).

    Cost
        T*(in*out + out) parameters, 2*T*in*out FLOPs a sample.

    Example
        >>> PerTokenLinear(num_tokens=3, in_dim=2, out_dim=5)(torch.ones(4, 3, 2)).shape
        torch.Size([4, 3, 5])
    """

    def __init__(self, num_tokens: int, in_dim: int, out_dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(num_tokens, in_dim, out_dim))
        self.bias = nn.Parameter(torch.empty(num_tokens, 1, out_dim))
        bound = in_dim**-0.5
        nn.init.uniform_(self.weight, -bound, bound)
        nn.init.uniform_(self.bias, -bound, bound)

    def forward(self, x: Tensor) -> Tensor:
        return per_token_linear(x, self.weight, self.bias)


def per_token_linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """The equation of `PerTokenLinear`, with weights that the caller holds.

    It is one batched GEMM that adds the bias, on a view with tokens first: the fastest of the layouts
    measured in rankmixer/README.md. The result keeps tokens first in memory, so that a following
    per-token layer reads it contiguously.

    Shapes
        x (B, T, in), weight (T, in, out), bias (T, 1, out) -> (B, T, out).
    """
    tokens = x.transpose(0, 1)
    product = torch.bmm(tokens, weight) if bias is None else torch.baddbmm(bias, tokens, weight)
    return product.transpose(0, 1)


class PerTokenFFN(nn.Module):
    r"""A network of two layers with separate weights for every token.

    .. math:: v_t = W_t^2\,\mathrm{GELU}(W_t^1 s_t + b_t^1) + b_t^2

    (RankMixer, https://arxiv.org/abs/2507.15551, equations 6 to 9), with the exact GELU. No token's
    output depends on another token or its weights.

    Shapes
        (B, T, D) -> (B, T, D).

    Cost
        2*T*D*M + T*(M + D) parameters, 4*T*D*M FLOPs a sample: two for each weight.

    Example
        >>> PerTokenFFN(num_tokens=2, model_dim=4, ffn_dim=8)(torch.ones(3, 2, 4)).shape
        torch.Size([3, 2, 4])
    """

    def __init__(self, num_tokens: int, model_dim: int, ffn_dim: int) -> None:
        super().__init__()
        self.up = PerTokenLinear(num_tokens, model_dim, ffn_dim)
        self.down = PerTokenLinear(num_tokens, ffn_dim, model_dim)

    def forward(self, s: Tensor) -> Tensor:
        up, down = self.up, self.down
        if cpu_kernels.suits(s):
            return cpu_kernels.per_token_ffn(s, up.weight, up.bias, down.weight, down.bias)
        # Tokens first, as in memory: on a contiguous tensor, GELU and its gradient take a third less time.
        tokens_first = up(s).transpose(0, 1)
        return down(functional.gelu(tokens_first).transpose(0, 1))


class AddNorm(nn.LayerNorm):
    r"""Layer normalisation of the sum of two tensors, or of ``x`` alone.

    .. math:: y = \mathrm{LN}(x + \mathrm{step})

    Shapes
        x and step (..., D) -> (..., D).

    Cost
        2*D parameters.

    Example
        >>> AddNorm(2)(torch.tensor([[1.0, 2.0]]), torch.tensor([[0.0, 1.0]])).round(decimals=3)
        tensor([[-1.,  1.]], grad_fn=<RoundBackward1>)
    """

    def __init__(self, width: int, eps: float = 1e-5) -> None:
        super().__init__(width, eps)

    def forward(self, x: Tensor, step: Tensor | None = None) -> Tensor:
        if cpu_kernels.suits(x, step):
            return cpu_kernels.add_norm(x, step, self)
        # The sum has the memory layout of x, so the norm does not copy it.
        return super().forward(x if step is None else x + step)


def ffn_add_norm(s: Tensor, ffn: nn.Module, norm: AddNorm) -> Tensor:
    """``norm(s, ffn(s))``, without a separate pass over memory for the last bias of a `PerTokenFFN`.

    Shapes
        (B, T, D) -> (B, T, D).
    """
    if isinstance(ffn, PerTokenFFN) and cpu_kernels.suits(s) and not torch.is_autocast_enabled("cpu"):
        up, down = ffn.up, ffn.down
        return cpu_kernels.ffn_add_norm(s, up.weight, up.bias, down.weight, down.bias, norm)
    return norm(s, ffn(s))


class MultiHeadSelfAttention(nn.Module):
    r"""Scaled dot-product self-attention over tokens, heads concatenated, no output projection.

    .. math:: y_i = \big\Vert_{h} \sum_j \mathrm{softmax}_j\big(q_i^h \cdot k_j^h / \sqrt{D/H}\big) v_j^h

    where q, k and v are linear in x with weights that all tokens share (Vaswani et al. 2017, equation 1,
    https://arxiv.org/abs/1706.03762). Without ``scaled`` the scores are not divided.

    Raises ValueError if ``num_heads`` does not divide ``out_dim``; ``out_field`` is the name of that
    configuration field in the message.

    Shapes
        (B, T, in_dim) -> (B, T, D) with D = out_dim.

    Cost
        3*in*D parameters, and 3*D with bias; 6*T*in*D + 4*T**2*D FLOPs a sample.

    Example
        >>> layer = MultiHeadSelfAttention(in_dim=6, out_dim=4, num_heads=2, bias=False)
        >>> layer(torch.ones(3, 5, 6)).shape
        torch.Size([3, 5, 4])
    """

    def __init__(
        self,
        in_dim: int,
        out_dim: int,
        num_heads: int,
        bias: bool,
        scaled: bool = True,
        out_field: str = "model_dim",
    ) -> None:
        super().__init__()
        require_divisible(out_field, out_dim, num_heads, "attention heads (num_heads)")
        self.num_heads = num_heads
        self.scale = None if scaled else 1.0  # None: the root of the head width
        self.query_key_value = nn.Linear(in_dim, 3 * out_dim, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        projected = self.query_key_value(x).unflatten(-1, (3, self.num_heads, -1))  # (B, T, 3, H, D/H)
        query, key, value = projected.permute(2, 0, 3, 1, 4).unbind(0)  # each (B, H, T, D/H)
        attended = functional.scaled_dot_product_attention(query, key, value, scale=self.scale)
        return attended.transpose(1, 2).flatten(2)  # (B, T, D)


class EncoderLayer(nn.Module):
    r"""A Transformer layer: self-attention and a feed-forward network that all tokens share, both post-norm.

    .. math:: s = \mathrm{LN}(x + \mathrm{MHA}(x)), \qquad
        y = \mathrm{LN}(s + W_2\,\mathrm{ReLU}(W_1 s + b_1) + b_2)

    Permuting the tokens permutes the output.

    Shapes
        (B, T, D) -> (B, T, D).

    Cost
        4*D**2 + 2*D*M + M + 9*D parameters, 8*T*D**2 + 4*T**2*D + 4*T*D*M FLOPs a sample.

    Example
        >>> EncoderLayer(model_dim=8, ffn_dim=16, num_heads=2)(torch.ones(3, 5, 8)).shape
        torch.Size([3, 5, 8])
    """

    def __init__(self, model_dim: int, ffn_dim: int, num_heads: int) -> None:
        super().__init__()
        self.attention = nn.Sequential(
            MultiHeadSelfAttention(model_dim, model_dim, num_heads, bias=True),
            nn.Linear(model_dim, model_dim),
        )
        self.attention_norm = AddNorm(model_dim)
        self.ffn = nn.Sequential(nn.Linear(model_dim, ffn_dim), nn.ReLU(), nn.Linear(ffn_dim, model_dim))
        self.ffn_norm = AddNorm(model_dim)

    def forward(self, x: Tensor) -> Tensor:
        s = self.attention_norm(x, self.attention(x))
        return self.ffn_norm(s, self.ffn(s))


def cross_map(dim: int, rank: int | None, bias: bool = True) -> nn.Module:
    """A linear map from (B, F) to (B, F): one matrix, or two thin ones with a bias after the second."""
    if rank is None:
        return nn.Linear(dim, dim, bias=bias)
    return nn.Sequential(nn.Linear(dim, rank, bias=False), nn.Linear(rank, dim, bias=bias))


class CrossLayer(nn.Module):
    r"""Multiply the input features by a linear map of the current ones (DCN V2).

    .. math:: x_{l+1} = x_0 \odot (W_l x_l + b_l) + x_l

    (Wang et al. 2021, https://arxiv.org/abs/2008.13535, equation 1), with :math:`W_l = U_l V_l^\top`
    where there is a rank (equation 2). The bias stands
    inside the product. With W = b = 0 a layer is the identity.

    Shapes
        x0, x: (B, F). Returns (B, F).

    Cost
        F**2 + F parameters and 2*F**2 FLOPs a sample; of rank R, 2*F*R + F and 4*F*R.

    Example
        >>> x = torch.ones(2, 4)
        >>> CrossLayer(dim=4, rank=2)(x, x).shape
        torch.Size([2, 4])
    """

    def __init__(self, dim: int, rank: int | None) -> None:
        super().__init__()
        self.map = cross_map(dim, rank)

    def forward(self, x0: Tensor, x: Tensor) -> Tensor:
        return x0 * self.map(x) + x


class CrossStack(nn.Module):
    """Cross layers one after another, each of which also reads the input of the first one.

    Shapes
        (B, F) -> (B, F).
    """

    def __init__(self, layers: Iterable[nn.Module]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, x0: Tensor) -> Tensor:
        x = x0
        for layer in self.layers:
            x = layer(x0, x)
        return x


class CrossNetwork(CrossStack):
    """A stack of `CrossLayer`.

    Shapes
        (B, F) -> (B, F).

    Cost
        C times that of a `CrossLayer`.

    Example
        >>> CrossNetwork(dim=4, rank=None, num_layers=3)(torch.ones(2, 4)).shape
        torch.Size([2, 4])
    """

    def __init__(self, dim: int, rank: int | None, num_layers: int) -> None:
        super().__init__(CrossLayer(dim, rank) for _ in range(num_layers))


class LinearCompression(nn.Linear):
    r"""A linear map over the tokens, the same for every dimension of a token (Wukong's LCB).

    .. math:: y = W x

    Shapes
        (B, in_tokens, d) -> (B, out_tokens, d).

    Cost
        in_tokens*out_tokens parameters, 2*in_tokens*out_tokens*d FLOPs a sample.

    Example
        >>> LinearCompression(in_tokens=5, out_tokens=2)(torch.ones(3, 5, 4)).shape
        torch.Size([3, 2, 4])
    """

    def __init__(self, in_tokens: int, out_tokens: int) -> None:
        super().__init__(in_tokens, out_tokens, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.transpose(1, 2)).transpose(1, 2)
