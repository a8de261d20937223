"""The dense side around an architecture, and the architectures that cannot be built."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from baselines.contract import Output, View
from files.errors import InputError
from harness.model.assembly import DenseSide, RankingModel, build_backbone
from harness.model.cost import fake_inputs
from harness.model.embeddings import LookedUp
from harness.model.tokens import Inputs
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


def test_dropout_takes_its_share_of_the_representation_in_training_and_nothing_in_evaluation():
    dense = DenseSide(small_schema(), INPUTS, f"{__name__}:Passthrough", {}, num_tasks=1, dropout=0.3)
    representations: list[Tensor] = []
    dense.towers[0].register_forward_hook(lambda module, args, result: representations.append(args[0]))
    looked_up, numbers = random_inputs(rows=4000)
    whole = dense.tokenizer(looked_up, numbers).flatten(1)
    dense(looked_up, numbers)
    kept = representations[-1]
    alive = whole != 0
    assert float((kept == 0)[alive].float().mean()) == pytest.approx(0.3, abs=0.01)
    torch.testing.assert_close(kept[kept != 0], (whole / 0.7)[kept != 0])
    dense.eval()
    dense(looked_up, numbers)
    torch.testing.assert_close(representations[-1], whole)  # the views come first


def test_embedding_regularisation_is_the_mean_squared_norm_of_a_row_s_look_ups_in_training_alone():
    pooled = {"a": torch.randn(3, 4), "b": torch.randn(3, 2)}
    sequences = {"c": (torch.randn(3, 5, 2), torch.tensor([0, 2, 5]))}
    looked_up = LookedUp(pooled, sequences)
    expected = 0.0
    for row in range(3):
        expected += sum(float(x) ** 2 for name in "ab" for x in pooled[name][row]) / 3
        vectors, lengths = sequences["c"]
        present = vectors[row, : lengths[row]]
        expected += sum(float(x) ** 2 for x in present.flatten()) / max(1, len(present)) / 3
    assert float(looked_up.squared_norm()) == pytest.approx(expected, rel=1e-5)


class FixedLookUps(nn.Module):
    def __init__(self, looked_up: LookedUp) -> None:
        super().__init__()
        self.looked_up = looked_up

    def forward(self, sparse: object) -> LookedUp:
        return self.looked_up


def test_the_penalty_on_embeddings_joins_those_of_the_architecture_in_training():
    looked_up, numbers = random_inputs()
    dense = DenseSide(small_schema(), INPUTS, f"{__name__}:Passthrough", {}, num_tasks=1)
    model = RankingModel(FixedLookUps(looked_up), dense, embedding_l2=0.25)  # type: ignore[arg-type]
    batch = SimpleNamespace(sparse=None, dense=numbers)
    penalties = model(batch).penalties
    assert set(penalties) == {"size", "embedding_l2"}
    assert float(penalties["embedding_l2"]) == pytest.approx(0.25 * float(looked_up.squared_norm()))
    assert set(model.eval()(batch).penalties) == {"size"}
    assert set(RankingModel(FixedLookUps(looked_up), dense).train()(batch).penalties) == {"size"}  # type: ignore[arg-type]


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
    looked_up, numbers = fake_inputs(small_schema(), INPUTS, rows=8)
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
