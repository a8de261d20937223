"""What tuning may choose from: which ranges are accepted, and which structures an architecture offers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from pydantic import ValidationError
from torch import nn

from baselines.contract import tunable
from harness.records.spec import Training
from suites.suite import Suite, load_suite, shipped_suites
from suites.tuning.search import DEFAULT_SEARCH, Range, structural_choices, training_search


class Own(nn.Module):
    @dataclass(frozen=True, kw_only=True)
    class Config:
        width: int
        depth: int = tunable(2, 1, 3)
        gate: str = tunable("relu", "silu")
        bias: bool = True


def suite(**fields: Any) -> Suite:
    content = {"name": "s", "description": "d", "datasets": ["shortvideo"], "architectures": ["dlrm_mlp"]}
    return Suite.model_validate(content | fields)


def test_tunable_fields_are_ordinary_fields_with_their_default():
    assert Own.Config(width=3) == Own.Config(width=3, depth=2, gate="relu", bias=True)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({}, {"depth": (2, 1, 3), "gate": ("relu", "silu")}),
        ({"depth": 5}, {"gate": ("relu", "silu")}),
        ({"depth": 2, "gate": "silu"}, {}),
    ],
)
def test_what_a_row_settles_itself_is_not_chosen_for_it(config, expected):
    assert structural_choices(f"{__name__}:Own", config) == expected


def test_every_shipped_suite_searches_the_same_ranges_and_can_draw_the_defaults():
    for name in shipped_suites():
        assert training_search(load_suite(name, []).search) == DEFAULT_SEARCH
    for name, choices in DEFAULT_SEARCH.items():
        default = Training.model_fields[name].default
        if isinstance(choices, Range):
            assert choices.low < default < choices.high
        else:
            assert default in choices


@pytest.mark.parametrize(
    ("search", "message"),
    [
        ({"dense_rate": [1.0]}, "'dense_rate' is no setting of training; choose from .*dense_lr"),
        ({"recipe": ["paper"]}, "'recipe' is no setting of training"),
        ({"dropout": []}, "'dropout' has nothing to choose from"),
        ({"dense_lr": {"low": 0.1, "high": 0.01}}, "low 0.1 is not below high 0.01"),
        ({"dense_lr": {"low": 0.0, "high": 0.01}}, "greater than 0"),
        ({"dense_lr": [1e-3, -1]}, "'dense_lr' cannot be -1 .*greater than 0"),
        ({"dropout": {"low": 0.1, "high": 1.5}}, "'dropout' cannot be 1.5 .*less than 1"),
        ({"tokens": []}, "'tokens' needs a list of values"),
        ({"tokens": {"low": 2, "high": 4}}, "'tokens' needs a list of values"),
        ({"tokens": [8, 0]}, "'tokens' cannot be 0; give whole numbers from 1 to 4096"),
        ({"tokens": [True]}, "'tokens' cannot be True"),
        ({"tokens": [8.5]}, "'tokens' cannot be 8.5"),
        ({"tokenizer": ["chunk"]}, "'tokenizer' cannot be 'chunk'; choose from chunks, groups, fields"),
        ({"tokenizer": "chunks"}, "search"),
        ({"token_dim": [8]}, "'token_dim' is no setting of training; .* tokenizer, tokens"),
        ({"batch_size": {"low": 128, "high": 1024}}, "'batch_size' is no real number; list the values"),
    ],
)
def test_a_search_that_cannot_be_made_is_refused_by_field(search, message):
    with pytest.raises(ValidationError, match=message):
        suite(search=search)
