r"""Inference of the per-token feed-forward networks in 8-bit floating point (e4m3).

.. math:: y_t = \big(Q(x_t)\, Q(W_t)\big) \odot a_t c_t + b_t

Weights have a scale c for each output of each token, computed once. Activations have a scale a for each row
of each token, computed in every call. A scale maps the largest magnitude to 448, the largest number of e4m3.
Products are summed in the GPU's own accumulator (`use_fast_accum`), scaled, and rounded to bf16. Everything
else is computed as before.

There is one `torch._scaled_mm` for each token. Quantising takes two separate passes over memory unless
`torch.compile` fuses them. `PerTokenLinearFp8.plain` is the readable reference.

Shapes
    B batch, T tokens, D model width, M hidden width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from baselines.layers import PerTokenFFN, PerTokenLinear

E4M3 = torch.float8_e4m3fn
LARGEST = 448.0  # the largest number of e4m3, to which slightly larger ones are rounded
SMALLEST_MAXIMUM = 1e-12  # a row whose numbers are all smaller counts as zeros
MULTIPLE = 16  # both widths of a product on the GPU must be multiples of this


def quantised(x: Tensor) -> tuple[Tensor, Tensor]:
    """Numbers in e4m3, and a scale for each row: their product is close to x.

    Shapes
        (..., N) -> (..., N) e4m3 and (..., 1) float32, both contiguous.
    """
    scale = x.abs().amax(-1, keepdim=True).float().clamp(min=SMALLEST_MAXIMUM) / LARGEST
    return (x.float() / scale).to(E4M3, memory_format=torch.contiguous_format), scale.contiguous()


class PerTokenLinearFp8(nn.Module):
    """A `PerTokenLinear` that multiplies 8-bit numbers; it has no gradients.

    Shapes
        (B, T, in) -> (B, T, out) bf16; weight (T, out, in) e4m3, scale (T, 1, out), bias (T, out) bf16.
    """

    weight: Tensor
    scale: Tensor
    bias: Tensor

    def __init__(self, linear: PerTokenLinear) -> None:
        super().__init__()
        weight, scale = quantised(linear.weight.detach().transpose(1, 2))
        self.register_buffer("weight", weight)
        self.register_buffer("scale", scale.transpose(1, 2).contiguous())
        self.register_buffer("bias", linear.bias.detach().squeeze(1).bfloat16())

    def forward(self, x: Tensor) -> Tensor:
        rows, scales = quantised(x.transpose(0, 1))
        products = [
            torch._scaled_mm(
                rows[t],
                self.weight[t].t(),
                scale_a=scales[t],
                scale_b=self.scale[t],
                bias=self.bias[t],
                out_dtype=torch.bfloat16,
                use_fast_accum=True,
            )
            for t in range(len(rows))
        ]
        return torch.stack(products).transpose(0, 1)

    def plain(self, x: Tensor) -> Tensor:
        """The same result with quantised numbers that are scaled back and multiplied in float32."""
        rows, scales = quantised(x.transpose(0, 1))
        weight = self.weight.float().transpose(1, 2) * self.scale
        return torch.baddbmm(self.bias.float().unsqueeze(1), rows.float() * scales, weight).transpose(0, 1)


class PerTokenFFNFp8(nn.Module):
    """A `PerTokenFFN` with both products in 8 bits; it has no gradients.

    Shapes
        (B, T, D) -> (B, T, D) bf16.
    """

    def __init__(self, ffn: PerTokenFFN) -> None:
        super().__init__()
        self.up, self.down = PerTokenLinearFp8(ffn.up), PerTokenLinearFp8(ffn.down)

    def forward(self, s: Tensor) -> Tensor:
        return self.down(functional.gelu(self.up(s)))


def obstacle(model: nn.Module) -> str | None:
    """Why the model cannot run inference in fp8, as the end of a sentence about it; None if it can."""
    ffns = [module for module in model.modules() if isinstance(module, PerTokenFFN)]
    if not ffns:
        return "has none of RankMixer's per-token feed-forward networks, the only part that runs in fp8"
    _, model_dim, ffn_dim = ffns[0].up.weight.shape
    if model_dim % MULTIPLE or ffn_dim % MULTIPLE:
        return f"has widths {model_dim} and {ffn_dim}, but fp8 needs multiples of {MULTIPLE}"
    return None


def use_fp8(model: nn.Module) -> None:
    """Replace every per-token network by a `PerTokenFFNFp8`, for inference; call it after any other cast.

    Raises ValueError if the model cannot run in fp8 (`obstacle`).
    """
    reason = obstacle(model)
    if reason is not None:
        raise ValueError(f"the model {reason}")
    for module in list(model.modules()):
        for name, child in module.named_children():
            if isinstance(child, PerTokenFFN):
                setattr(module, name, PerTokenFFNFp8(child))
