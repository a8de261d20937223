"""Xavier's start: of separate maps, however many of them a layer computes as one product."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from baselines.dcnv2 import MixtureCrossLayer
from baselines.hiformer import CompositeProjection, HeterogeneousProjection
from baselines.hstu import HSTULayer
from baselines.layers import MultiHeadSelfAttention, PerTokenLinear
from baselines.moe import Experts, Gates
from baselines.rdcn import AttentionCrossLayer
from harness.model.initial import initialise_xavier
from rankmixer.feed_forward import AllShare

# A layer that holds several maps in one weight; how that weight is cut into them; fan-in and fan-out of each.
FUSED = {
    "self-attention": (
        lambda: MultiHeadSelfAttention(96, 96, num_heads=2, bias=False),
        lambda layer: layer.query_key_value.weight.chunk(3),
        [(96, 96)] * 3,
    ),
    "attention cross": (
        lambda: AttentionCrossLayer(dim=300, rank=40),
        lambda layer: layer.query_key_value.weight.chunk(3),
        [(300, 40)] * 3,
    ),
    "hstu": (
        lambda: HSTULayer(model_dim=96, value_dim=200, num_heads=2),
        lambda layer: layer.project.weight.split([200, 200, 96, 96]),
        [(96, 200), (96, 200), (96, 96), (96, 96)],
    ),
    "heterogeneous": (
        lambda: HeterogeneousProjection(num_tokens=3, model_dim=64),
        lambda layer: layer.linear.weight.chunk(3, dim=2),
        [(64, 64)] * 3,
    ),
    "composite": (
        lambda: CompositeProjection(num_tokens=4, model_dim=64, rank=40),
        lambda layer: layer.down.weight.chunk(3),
        [(256, 40)] * 3,
    ),
    "mixture, down": (
        lambda: MixtureCrossLayer(dim=200, rank=50, num_experts=4),
        lambda layer: layer.down.weight.chunk(4),
        [(200, 50)] * 4,
    ),
    "mixture, up": (
        lambda: MixtureCrossLayer(dim=200, rank=50, num_experts=4),
        lambda layer: layer.up.weight.chunk(4, dim=1),
        [(50, 200)] * 4,
    ),
    "experts": (
        lambda: Experts(in_dim=200, hidden_dim=80, expert_dim=70, num_experts=3, num_layers=2),
        lambda layer: layer.layers[0].weight.chunk(3),
        [(200, 80)] * 3,
    ),
    "gates": (
        lambda: Gates(in_dim=60, num_gates=3, num_experts=40),
        lambda layer: layer.logits.weight.chunk(3),
        [(60, 40)] * 3,
    ),
    "all-share": (
        lambda: AllShare(num_tokens=4, model_dim=50, ffn_dim=100),
        lambda layer: layer.up.weight.chunk(4),
        [(200, 40)] * 4,
    ),
}


@pytest.mark.parametrize("name", FUSED)
def test_maps_in_one_weight_start_as_separate_layers_do(name):
    build, cut, fans = FUSED[name]
    layer = build()
    torch.manual_seed(1)
    initialise_xavier(nn.Sequential(layer))
    maps = cut(layer)
    assert len(maps) == len(fans)
    for weight, (fan_in, fan_out) in zip(maps, fans, strict=True):
        separate = nn.init.xavier_normal_(torch.empty(fan_out, fan_in))
        assert set(weight.shape[-2:]) == {fan_in, fan_out}
        assert float(weight.detach().std()) == pytest.approx(float(separate.std()), rel=0.05)


def test_each_map_is_drawn_anew():
    layer = MultiHeadSelfAttention(8, 8, num_heads=2, bias=True)
    initialise_xavier(layer)
    query, key, value = layer.query_key_value.weight.chunk(3)
    assert not torch.equal(query, key)
    assert not torch.equal(key, value)
    assert not layer.query_key_value.bias.any()


def test_a_layer_of_one_map_draws_its_weight_at_once():
    """As before there were fused maps, so that the runs of networks without them have the same start."""
    dense = nn.Sequential(nn.Linear(7, 5), PerTokenLinear(3, 5, 4))
    torch.manual_seed(3)
    initialise_xavier(dense)
    torch.manual_seed(3)
    for layer, fans in zip(dense, (12, 9), strict=True):
        expected = torch.empty_like(layer.weight).normal_(std=(2 / fans) ** 0.5)
        assert torch.equal(layer.weight.detach(), expected)
