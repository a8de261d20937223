"""Another start of the dense side's linear maps than `nn.Linear`'s own."""

from __future__ import annotations

import torch
from torch import nn

from baselines.layers import PerTokenLinear


def initialise_xavier(dense: nn.Module) -> None:
    """Draw the weights of every linear map from N(0, 2 / (fan-in + fan-out)), in place; biases are zero.

    (Glorot and Bengio, AISTATS 2010.) These are the `nn.Linear` and `PerTokenLinear` layers, each token's map
    by itself; weights that an architecture holds in other ways stay as they are.
    """
    with torch.no_grad():
        for layer in dense.modules():
            if isinstance(layer, nn.Linear | PerTokenLinear):
                fan_out, fan_in = layer.weight.shape[-2:]  # of a token's (in, out), the other way round
                layer.weight.normal_(std=(2 / (fan_in + fan_out)) ** 0.5)
                if layer.bias is not None:
                    layer.bias.zero_()
