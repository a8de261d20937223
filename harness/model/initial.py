"""Another start of the dense side's linear maps than `nn.Linear`'s own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from baselines.dcnv2 import MixtureCrossLayer
from baselines.hiformer import CompositeProjection, HeterogeneousProjection
from baselines.hstu import HSTULayer
from baselines.layers import MultiHeadSelfAttention, PerTokenLinear
from baselines.moe import Experts, Gates
from baselines.rdcn import AttentionCrossLayer
from rankmixer.feed_forward import AllShare


def initialise_xavier(dense: nn.Module) -> None:
    """Draw the weights of every linear map from N(0, 2 / (fan-in + fan-out)), in place; biases are zero.

    (Glorot and Bengio, AISTATS 2010.) These are the `nn.Linear` and `PerTokenLinear` layers, each token's map
    by itself, and so each of the maps that a shipped layer computes as one product, such as queries, keys and
    values; weights that an architecture holds in other ways stay as they are.
    """
    fused = {layer: maps for module in dense.modules() for layer, maps in _fused_maps(module).items()}
    with torch.no_grad():
        for layer in dense.modules():
            if isinstance(layer, nn.Linear | PerTokenLinear):
                for weight in fused.get(layer, [layer.weight]):
                    weight.normal_(std=(2 / sum(weight.shape[-2:])) ** 0.5)  # both fans, in either order
                if layer.bias is not None:
                    layer.bias.zero_()


def _fused_maps(module: nn.Module) -> dict[nn.Module, Sequence[Tensor]]:
    """The weights of each map, for the layers of ``module`` itself whose weight holds several maps.

    They are known here and not told by the layers because a change in an architecture's file, or in one that
    it imports, makes its runs other runs, also those that do not start from Xavier's weights.

    Shapes
        Each weight ends in the two fans of a map.
    """
    match module:
        case MultiHeadSelfAttention() | AttentionCrossLayer():
            return {module.query_key_value: module.query_key_value.weight.chunk(3)}
        case HSTULayer():
            return {module.project: module.project.weight.split(module.widths)}
        case HeterogeneousProjection():
            return {module.linear: module.linear.weight.chunk(3, dim=2)}
        case CompositeProjection():
            return {module.down: module.down.weight.chunk(3)}
        case MixtureCrossLayer(inner=inner, down=down, up=up):
            return {down: down.weight.chunk(len(inner)), up: up.weight.chunk(len(inner), dim=1)}
        case Experts():
            layers: Any = module.layers  # the first layers of all experts, and then how they are told apart
            return {layers[0]: layers[0].weight.unflatten(0, layers[1].unflattened_size)}
        case Gates(logits=logits, shape=shape):
            return {logits: logits.weight.unflatten(0, shape)}
        case AllShare():
            return {module.up: module.up.weight.chunk(module.num_tokens)}
    return {}
