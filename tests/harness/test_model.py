"""The dense side around an architecture, and the architectures that cannot be built."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from baselines.layers import Output, View
from datasets.errors import InputError
from harness.cost import fake_inputs
from harness.embeddings import LookedUp
from harness.model import DenseSide, build_backbone
from harness.tokens import Inputs
from tests.harness.schemas import small_schema

INPUTS = Inputs(num_tokens=3, token_dim=16, target_attention=False, tower_dim=4)


class Passthrough(nn.Module):
    """A user's own architecture with a penalty and, as a second view, its tokens backwards."""

    @dataclass(frozen=True, kw_only=True)
    class Config:
        scale: float = 1.0

    def __init__(self, num_tokens: int, token_dim: int, config: Config) -> None:
        super().__init__()
        self.output_dim = num_tokens * token_dim
        self.scale = config.scale

    def forward(self, tokens: Tensor) -> Output:
        flat = tokens.flatten(1) * self.scale
        return Output(flat, {"backwards": View(0.5, flat.flip(1))}, {"size": flat.square().mean()})


def random_inputs(rows: int = 5) -> tuple[LookedUp, Tensor]:
    schema = small_schema()
    pooled = {feature.name: torch.randn(rows, feature.embedding_dim) for feature in schema.sparse_features}
    return LookedUp(pooled, {}), torch.randn(rows, 2)


def test_a_users_own_architecture_runs_by_path_and_its_views_and_penalties_are_returned():
    dense = DenseSide(small_schema(), INPUTS, f"{__name__}:Passthrough", {"scale": 2.0}, num_tasks=2)
    looked_up, numbers = random_inputs()
    prediction = dense(looked_up, numbers)
    tokens = dense.tokenizer(looked_up, numbers)
    assert prediction.logits.shape == (5, 2)
    [(weight, logits)] = prediction.views
    assert weight == 0.5
    backwards = (2 * tokens.flatten(1)).flip(1)
    torch.testing.assert_close(logits, torch.cat([tower(backwards) for tower in dense.towers], 1))
    size = float(prediction.penalties["size"].detach())
    assert size == pytest.approx(float((4 * tokens.square()).mean().detach()))


@pytest.mark.parametrize(
    ("architecture", "config", "message"),
    [
        ("hiformr", {}, "choose from dlrm_mlp"),
        ("no_such_module:Model", {}, "no module 'no_such_module'"),
        ("baselines.dlrm_mlp:NoSuchClass", {}, "has no 'NoSuchClass'"),
        ("dlrm_mlp", {"hiden_dim": 8}, "hiden_dim"),
    ],
)
def test_an_architecture_that_cannot_be_built_is_named_in_one_sentence(architecture, config, message):
    with pytest.raises(InputError, match=message):
        build_backbone(architecture, 4, 8, config)


def test_fake_inputs_have_the_shapes_of_real_ones():
    looked_up, numbers = fake_inputs(small_schema(), INPUTS)
    real, real_numbers = random_inputs(rows=8)
    assert {k: v.shape for k, v in looked_up.pooled.items()} == {k: v.shape for k, v in real.pooled.items()}
    assert numbers.shape == real_numbers.shape


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({}, "hidden_dim: is missing; add it to the row's config, or give the suite a budget"),
        ({"hidden_dim": 8, "num_layers": "three"}, "num_layers.*valid integer"),
        ({"hidden_dim": 2.5}, "hidden_dim.*integer"),
    ],
)
def test_a_config_of_wrong_types_or_without_a_size_is_refused_by_field(config, message):
    with pytest.raises(InputError, match=message):
        build_backbone("dlrm_mlp", 4, 8, config)


def test_a_module_that_raises_when_imported_is_named(tmp_path, monkeypatch):
    (tmp_path / "own_broken.py").write_text("raise RuntimeError('half done')\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(InputError, match="importing 'own_broken' raised RuntimeError: half done"):
        build_backbone("own_broken:Net", 4, 8, {})
