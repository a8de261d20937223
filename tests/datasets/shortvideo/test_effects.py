"""The random effects against the equation written out, and against their stated moments."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datasets.shortvideo.effects import Field, draw_effect, draw_interactions


def fields_of(sizes, rng, groups=("a", "a", "b", "b", "c")):
    return [
        Field(f"f{i}", groups[i % len(groups)], rng.dirichlet(np.ones(size))) for i, size in enumerate(sizes)
    ]


def on_every_combination(effect, fields):
    """The effect as an array with one axis a field."""
    sizes = [len(field.shares) for field in fields]
    grid = np.array(list(product(*(range(size) for size in sizes))))
    codes = {field.name: grid[:, i] for i, field in enumerate(fields)}
    return effect(codes).reshape(sizes)


@given(
    sizes=st.lists(st.integers(2, 6), min_size=1, max_size=3),
    rank=st.integers(1, 4),
    seed=st.integers(0, 10**6),
)
@settings(max_examples=50, deadline=None)
def test_an_effect_has_its_variance_and_nothing_of_lower_order(sizes, rank, seed):
    rng = np.random.default_rng(seed)
    fields = fields_of(sizes, rng)
    values = on_every_combination(draw_effect(fields, 0.7, rank, rng), fields)
    joint = np.ones(())
    for field in fields:
        joint = np.multiply.outer(joint, field.shares)
    assert (joint * values**2).sum() == pytest.approx(0.7, rel=1e-6)
    for axis, field in enumerate(fields):
        average = np.tensordot(values, field.shares, axes=([axis], [0]))
        assert np.abs(average).max() < 1e-6 * (1 + np.abs(values).max())


def test_an_effect_is_the_sum_over_ranks_of_products_over_fields():
    rng = np.random.default_rng(3)
    fields = fields_of([4, 5, 3], rng)
    effect = draw_effect(fields, 1.0, 4, rng)
    codes = {field.name: rng.integers(len(field.shares), size=20) for field in fields}
    first, second, third = effect.tables
    for row, value in enumerate(effect(codes)):
        a, b, c = (codes[field.name][row] for field in fields)
        assert value == pytest.approx(sum(first[a, r] * second[b, r] * third[c, r] for r in range(4)))


def test_interactions_within_and_across_groups_have_the_requested_numbers_and_are_distinct():
    rng = np.random.default_rng(5)
    fields = fields_of([3] * 10, rng)
    effects = draw_interactions(fields, 2, within=3, across=7, variance=0.5, rank=2, rng=rng)
    group = {field.name: field.group for field in fields}
    inside = [effect for effect in effects if len({group[name] for name in effect.fields}) == 1]
    assert (len(inside), len(effects)) == (3, 10)
    assert len({effect.fields for effect in effects}) == 10


def test_the_variances_of_interactions_add_up_to_the_requested_sum():
    rng = np.random.default_rng(6)
    fields = fields_of([4] * 6, rng)
    by_name = {field.name: field for field in fields}
    total = 0.0
    for effect in draw_interactions(fields, 2, within=1, across=4, variance=0.5, rank=3, rng=rng):
        pair = [by_name[name] for name in effect.fields]
        joint = np.multiply.outer(pair[0].shares, pair[1].shares)
        total += (joint * on_every_combination(effect, pair) ** 2).sum()
    assert total == pytest.approx(0.5)
