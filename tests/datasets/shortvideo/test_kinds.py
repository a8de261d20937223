"""Kinds of interaction, on small fields by brute force: their equations, variances and orders."""

from __future__ import annotations

from itertools import combinations, product

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from datasets.shortvideo.effects import Field
from datasets.shortvideo.kinds import (
    KINDS,
    Gated,
    Table,
    Tree,
    draw_gated,
    draw_mixture,
    draw_table,
    draw_tree,
    hashed_normals,
)
from datasets.shortvideo.log import ShortVideo, _codes_and_overlap
from datasets.shortvideo.structure import Structure
from datasets.shortvideo.world import draw_world
from tests.datasets.shortvideo.test_effects import fields_of, on_every_combination

ROUNDING = 1e-10  # of the largest singular value: what centring may leave
seeds = st.integers(0, 10**6)


def joint_of(fields: list[Field]) -> np.ndarray:
    joint = np.ones(())
    for field in fields:
        joint = np.multiply.outer(joint, field.shares)
    return joint


def part_of(values: np.ndarray, fields: list[Field], axes: tuple[int, ...]) -> np.ndarray:
    """The mean over all fields but those of ``axes``."""
    others = tuple(axis for axis in range(len(fields)) if axis not in axes)
    return np.tensordot(
        values, joint_of([fields[axis] for axis in others]), axes=(others, range(len(others)))
    )


def assert_centred(values: np.ndarray, fields: list[Field], variance: float) -> None:
    """No mean and no main effect, and the variance where the fields are independent."""
    assert (joint_of(fields) * values**2).sum() == pytest.approx(variance, rel=1e-6)
    for axis in range(len(fields)):
        assert np.abs(part_of(values, fields, (axis,))).max() < 1e-7 * (1 + np.abs(values).max())


@given(sizes=st.lists(st.integers(2, 6), min_size=2, max_size=4), seed=seeds)
@settings(max_examples=40, deadline=None)
def test_a_tree_is_a_table_over_halves_and_has_no_main_effect(sizes, seed):
    rng = np.random.default_rng(seed)
    fields = fields_of(sizes, rng)
    tree = draw_tree(fields, 0.3, rng)
    values = on_every_combination(tree, fields)
    assert_centred(values, fields, 0.3)
    for place in product(*map(range, sizes)):
        leaf = tuple(side[category] for side, category in zip(tree.sides, place, strict=True))
        assert values[place] == tree.leaves[leaf]
    for side in tree.sides:
        assert set(side) == {0, 1}


@given(sizes=st.lists(st.integers(2, 9), min_size=2, max_size=2), seed=seeds)
@settings(max_examples=40, deadline=None)
def test_a_gate_chooses_one_of_two_tables(sizes, seed):
    rng = np.random.default_rng(seed)
    fields = fields_of(sizes, rng)
    gated = draw_gated(*fields, 0.4, rng)
    values = on_every_combination(gated, fields)
    assert_centred(values, fields, 0.4)
    for gate, category in product(*map(range, sizes)):
        assert values[gate, category] == gated.tables[gated.side[gate], category]
    assert np.linalg.matrix_rank(values, rtol=ROUNDING) == 1


@given(sizes=st.lists(st.integers(3, 12), min_size=2, max_size=2), seed=seeds)
@settings(max_examples=40, deadline=None)
def test_a_table_is_centred_and_of_full_rank(sizes, seed):
    rng = np.random.default_rng(seed)
    fields = fields_of(sizes, rng)
    table = draw_table(*fields, 0.5, rng)
    values = on_every_combination(table, fields)
    assert_centred(values, fields, 0.5)
    assert (
        np.linalg.matrix_rank(values, rtol=ROUNDING) == min(sizes) - 1
    )  # centring takes one, and nothing else does


def test_a_table_of_many_cells_is_centred_as_a_small_one_is():
    """Larger than a block of cells, so that the means come from several."""
    rng = np.random.default_rng(2)
    fields = fields_of([700, 300], rng)
    table = draw_table(*fields, 0.5, rng)
    assert_centred(on_every_combination(table, fields), fields, 0.5)


def test_hashed_cells_are_standard_normal_and_unrelated_to_their_neighbours():
    cells = hashed_normals(12345, np.arange(1000)[:, None], np.arange(1000))
    assert abs(cells.mean()) < 5e-3
    assert cells.std() == pytest.approx(1, abs=5e-3)
    assert (cells**4).mean() == pytest.approx(3, abs=0.05)
    for other in (cells[1:], cells[:, 1:], hashed_normals(12346, np.arange(1000)[:, None], np.arange(1000))):
        shape = other.shape
        assert abs(np.corrcoef(cells[: shape[0], : shape[1]].ravel(), other.ravel())[0, 1]) < 5e-3


def test_equal_seeds_give_equal_cells_whichever_rows_are_asked_for_together():
    fields = fields_of([50, 40], np.random.default_rng(0))
    one, again, other = (draw_table(*fields, 1.0, np.random.default_rng(seed)) for seed in (7, 7, 8))
    codes = {"f0": np.arange(50, dtype=np.int32), "f1": np.arange(50, dtype=np.int32) % 40}
    whole = one(codes)
    assert np.array_equal(whole, again(codes))
    assert not np.array_equal(whole, other(codes))
    each = [again({name: code[row : row + 1] for name, code in codes.items()})[0] for row in range(50)]
    assert np.array_equal(whole, each)


def test_main_effects_cannot_express_a_tree_and_products_of_its_splits_can():
    """Least squares on dummies of all fields explain nothing, with the splits' products all."""
    rng = np.random.default_rng(1)
    fields = [Field(f"f{i}", "a", np.full(4, 0.25)) for i in range(3)]
    tree = draw_tree(fields, 1.0, rng)
    values = on_every_combination(tree, fields).ravel()
    grid = np.array(list(product(range(4), repeat=3)))
    dummies = np.hstack([np.eye(4)[grid[:, axis]] for axis in range(3)])
    fit = dummies @ np.linalg.lstsq(dummies, values, rcond=None)[0]
    assert np.var(fit) < 1e-20
    signs = np.stack([2.0 * side[grid[:, axis]] - 1 for axis, side in enumerate(tree.sides)], axis=1)
    crossed = [signs[:, list(some)].prod(axis=1) for size in (2, 3) for some in combinations(range(3), size)]
    design = np.stack(crossed, axis=1)
    left = values - design @ np.linalg.lstsq(design, values, rcond=None)[0]
    assert np.abs(left).max() < 1e-12


# ------------------------------------------------------------------------------------------------- mixture


@pytest.fixture(scope="module")
def mixture():
    rng = np.random.default_rng(4)
    names = ["age_band", "city", "category", "author", "hour", "tab"]
    groups = ["user", "user", "item", "item", "context", "context"]
    fields = [
        Field(name, group, rng.dirichlet(np.ones(9))) for name, group in zip(names, groups, strict=True)
    ]
    user, item = (Field(name, name[:4], rng.dirichlet(np.ones(30))) for name in ("user_id", "item_id"))
    additive, kinds = draw_mixture(fields, user, item, 0.6, rng)
    return {field.name: field for field in [*fields, user, item]}, additive, kinds


def test_every_kind_has_an_equal_share_of_the_variance(mixture):
    fields, additive, kinds = mixture
    assert (*kinds, "additive") == KINDS
    for terms in (*kinds.values(), additive):
        total = 0.0
        for term in terms:
            some = [fields[name] for name in term.fields]
            values = on_every_combination_of(term, some)
            total += (joint_of(some) * values**2).sum()
            if len(some) > 1:
                assert_centred(values, some, (joint_of(some) * values**2).sum())
        assert total == pytest.approx(0.6 / 6)


def on_every_combination_of(term, fields: list[Field]) -> np.ndarray:
    sizes = [len(field.shares) for field in fields]
    grid = np.array(list(product(*map(range, sizes))))
    return term({field.name: grid[:, axis] for axis, field in enumerate(fields)}).reshape(sizes)


def test_the_kinds_are_of_their_numbers_and_orders(mixture):
    _, additive, kinds = mixture
    orders = {kind: [len(term.fields) for term in terms] for kind, terms in kinds.items()}
    assert orders == {
        "products": [2, 2, 2, 3, 3],
        "thresholds": [3, 3, 4, 4],
        "tables": [2, 2, 2],
        "gated": [2, 2, 2],
        "memory": [2, 2, 2],
    }
    assert len(additive) == 6
    of_class = {"thresholds": Tree, "tables": Table, "gated": Gated, "memory": Table}
    assert all(isinstance(term, kind) for name, kind in of_class.items() for term in kinds[name])
    assert [term.fields[0] for term in kinds["memory"]] == ["user_id", "user_id", "item_id"]
    assert kinds["memory"][2].fields[1] in ("age_band", "city")
    ids = {"user_id", "item_id"}
    assert not any(ids & set(term.fields) for kind in kinds if kind != "memory" for term in kinds[kind])


def test_a_mixed_world_has_the_users_items_and_main_effects_of_the_other_and_more():
    plain, mixed = (draw_world(300, 200, 5, Structure(effects)) for effects in ("products", "mixed"))
    assert np.array_equal(plain.topics, mixed.topics)
    assert np.array_equal(plain.user_bias, mixed.user_bias)
    assert [effect.fields for effect in mixed.main] == 2 * [effect.fields for effect in plain.main]
    assert all(map(np.array_equal, plain.main[3].tables, mixed.main[3].tables))
    assert not {"pairs", "triples"} & set(mixed.kinds)
    assert len(list(plain.interactions)) == 22
    assert len(list(mixed.interactions)) == 18


def test_without_interactions_a_mixed_log_has_main_effects_alone(monkeypatch):
    video = ShortVideo(rows=400, users=300, items=200, seed=1, interactions=0.0, structure=Structure("mixed"))
    state = video.first_state()
    tick = video.step(state, 0)
    with_none = video.utility(tick, state.interests[tick["user_id"]])
    video.world.kinds.clear()
    assert np.array_equal(with_none, video.utility(tick, state.interests[tick["user_id"]]))
    video.interactions = 1.0
    assert not np.allclose(with_none, video.utility(tick, state.interests[tick["user_id"]]))


def test_the_utility_of_a_mixed_log_is_the_sum_of_its_terms():
    video = ShortVideo(rows=400, users=300, items=200, seed=1, structure=Structure("mixed"))
    state = video.first_state()
    tick = video.step(state, 0)
    interests = state.interests[tick["user_id"]]
    codes, _ = _codes_and_overlap(tick, video.world)
    for kind in KINDS[:-1]:
        whole = video.utility(tick, interests)
        terms = video.world.kinds.pop(kind)
        left = whole - video.utility(tick, interests)
        assert np.allclose(left, sum(term(codes) for term in terms))
        assert left.std() > 0.1


@pytest.mark.parametrize("chunk_rows", [333, 2_000])
def test_chunk_size_changes_no_row_of_a_mixed_log(chunk_rows):
    log = {"rows": 2_000, "users": 300, "items": 200, "seed": 2, "structure": Structure("mixed")}
    frames = [list(ShortVideo(**log).chunks(size)) for size in (chunk_rows, 10**9)]
    assert pl.concat(frames[0]).equals(frames[1][0])


def test_labels_of_a_mixed_log_are_as_frequent_as_their_probabilities_say():
    [rows] = ShortVideo(rows=40_000, users=2_000, items=1_000, seed=3, structure=Structure("mixed")).chunks(
        10**9
    )
    for task in ("finish", "skip"):
        probability = rows[f"p_{task}"].to_numpy()
        for part in np.array_split(np.argsort(probability), 8):
            error = np.sqrt((probability[part] * (1 - probability[part])).sum()) / len(part)
            found = rows[task].to_numpy()[part].mean()
            assert abs(found - probability[part].mean()) < 4 * error


@pytest.mark.parametrize("seed", range(3))
def test_the_oracle_of_a_mixed_world_is_about_as_good_as_that_of_products(seed):
    reached = {}
    for effects in ("products", "mixed"):
        [rows] = ShortVideo(
            rows=30_000, users=2_000, items=1_000, seed=seed, structure=Structure(effects)
        ).chunks(10**9)
        reached[effects] = [roc_auc_score(rows[task], rows[f"p_{task}"]) for task in ("finish", "skip")]
    assert np.abs(np.subtract(*reached.values())).max() < 0.03
