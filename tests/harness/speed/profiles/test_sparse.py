"""The profile's figures have the public form, and its two sides compute the same under the stated gates."""

from __future__ import annotations

import pytest
import torch

from baselines.layers import PerTokenLinear
from harness.speed.profiles import sparse as profile_sparse
from harness.speed.profiles.sparse import dense_experts, random_gates

SMALL = {"rows": 32, "num_tokens": 3, "model_dim": 8, "num_experts": 8, "repeats": 3}


@pytest.fixture(scope="module")
def figures():
    return {figure["name"]: figure for figure in profile_sparse.profile_sparse(**SMALL)}


def test_names_that_others_rely_on_are_there_with_positive_values(figures):
    for ratio in ("1", "1_2", "1_4", "1_8"):
        assert figures[f"sparse_speedup_at_{ratio}"]["unit"] == "x"
        assert figures[f"sparse_speedup_at_{ratio}"]["median_of"] == 3
        assert figures[f"sparse_rows_per_second_at_{ratio}"]["unit"] == "rows/s"
    assert figures["dense_rows_per_second"]["median_of"] == 12
    assert len(figures) == 9
    for figure in figures.values():
        assert set(figure) == {"name", "value", "unit", "median_of", "spread", "command"}
        assert figure["value"] > 0
        assert figure["spread"] >= 0


@pytest.mark.parametrize("active", [1, 2, 4, 8])
def test_every_row_and_token_has_exactly_the_wanted_number_of_open_gates(active):
    gates = random_gates(50, 3, 8, active, torch.Generator().manual_seed(0))
    assert gates.shape == (50, 3, 8)
    assert ((gates > 0).sum(2) == active).all()
    assert ((gates == 0).sum(2) == 8 - active).all()
    assert ((gates > 0).sum(0) > 0).all()  # no expert is always left out


def test_the_dense_side_is_the_gated_sum_over_experts():
    up, down = PerTokenLinear(2, 3, 8).double(), PerTokenLinear(2, 8, 3).double()
    s = torch.randn(5, 2, 3, dtype=torch.float64)
    gates = torch.rand(5, 2, 4, dtype=torch.float64)
    expected = down.bias.transpose(0, 1).repeat(5, 1, 1)
    for e in range(4):
        own = slice(2 * e, 2 * e + 2)
        hidden = torch.einsum("btd,tdm->btm", s, up.weight[:, :, own]) + up.bias[:, 0, own]
        hidden = hidden * 0.5 * (1 + torch.erf(hidden / 2**0.5))
        expected = expected + gates[:, :, e : e + 1] * torch.einsum(
            "btm,tmd->btd", hidden, down.weight[:, own]
        )
    torch.testing.assert_close(dense_experts(s, gates, up, down), expected)


def test_sides_that_disagree_are_not_timed(monkeypatch):
    monkeypatch.setattr(profile_sparse, "grouped_ffn", lambda s, gates, up, down: s)
    with pytest.raises(AssertionError):
        profile_sparse.profile_sparse(**SMALL)
