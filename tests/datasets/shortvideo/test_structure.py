"""The simulation's knobs: each changes what it names, and the sum of variances, users and items stay."""

from __future__ import annotations

import numpy as np
import pytest

from datasets.shortvideo.effects import Effect
from datasets.shortvideo.kinds import Table
from datasets.shortvideo.log import ShortVideo
from datasets.shortvideo.structure import VARIANCE, Structure
from datasets.shortvideo.world import World, _fields, draw_world

STRUCTURES = {
    "few fields": Structure(fields=6),
    "pairs alone": Structure(order=2),
    "quadruples": Structure(order=4),
    "rank 1": Structure(rank=1),
    "half memory": Structure(memory=0.5),
    "memory alone": Structure(memory=1.0),
    "shared": Structure(shared=1.0),
    "half shared": Structure(shared=0.5, rank=2),
}


def world_of(structure: Structure, seed: int = 4) -> World:
    return draw_world(300, 200, seed, structure)


def effects(world: World) -> list[Effect]:
    return [term for term in world.interactions if isinstance(term, Effect)]


def shares_of(world: World) -> dict[str, np.ndarray]:
    tables = {"user_codes": world.user_codes, "activity": world.activity}
    tables |= {"item_codes": world.item_codes, "appeal": world.appeal}
    return {field.name: field.shares for field in _fields(tables, tables)}


def variance(effect: Effect, shares: dict[str, np.ndarray]) -> float:
    """Summed over every combination of categories, by brute force where there are at most three fields."""
    letters = "abcd"[: len(effect.fields)]
    values = np.einsum(",".join(f"{letter}r" for letter in letters) + "->" + letters, *effect.tables)
    joint = np.ones(())
    for name in effect.fields:
        joint = np.multiply.outer(joint, shares[name])
    return float((joint * values**2).sum() - (joint * values).sum() ** 2)


@pytest.mark.parametrize("name", STRUCTURES)
def test_the_variances_sum_to_what_they_always_do(name):
    world = world_of(STRUCTURES[name])
    shares = shares_of(world)
    small = [e for e in effects(world) if np.prod([float(len(shares[f])) for f in e.fields]) < 1e7]
    total = sum(variance(effect, shares) for effect in small)
    tables = [term for term in world.interactions if isinstance(term, Table)]
    assert bool(tables) == (STRUCTURES[name].memory > 0)
    expected = VARIANCE * (1 - STRUCTURES[name].memory)
    if len(small) == len(effects(world)):
        assert total == pytest.approx(expected, rel=1e-6)
    else:
        assert total < expected
        assert len(small) > 0.6 * len(effects(world))


@pytest.mark.parametrize("name", STRUCTURES)
def test_users_items_and_main_effects_stay(name):
    plain, other = draw_world(300, 200, 4), world_of(STRUCTURES[name])
    for field in ("activity", "interests", "appeal", "topics", "user_bias", "duration"):
        np.testing.assert_array_equal(getattr(plain, field), getattr(other, field))
    for ours, theirs in zip(plain.main, other.main, strict=True):
        np.testing.assert_array_equal(ours.tables[0], theirs.tables[0])


def test_so_many_fields_meet_and_so_many_at_a_time():
    assert (
        len({name for effect in effects(world_of(STRUCTURES["few fields"])) for name in effect.fields}) <= 6
    )
    assert {len(effect.fields) for effect in effects(world_of(STRUCTURES["pairs alone"]))} == {2}
    assert [len(e.fields) for e in effects(world_of(STRUCTURES["quadruples"]))] == [2] * 14 + [3] * 8 + [
        4
    ] * 6
    assert {table.shape[1] for e in effects(world_of(Structure(rank=7))) for table in e.tables} == {7}
    assert set(world_of(STRUCTURES["memory alone"]).kinds) == {"memory"}
    assert set(world_of(STRUCTURES["half memory"]).kinds) == {"pairs", "triples", "memory"}


def test_a_shared_field_has_the_same_factors_in_all_its_interactions_and_another_its_own():
    def correlations(shared: float) -> list[float]:
        """Between two tables of one field, over all fields that have several."""
        tables: dict[str, list[np.ndarray]] = {}
        for effect in effects(world_of(Structure(shared=shared))):
            for name, table in zip(effect.fields, effect.tables, strict=True):
                tables.setdefault(name, []).append(table)
        several = [found for found in tables.values() if len(found) > 1 and len(found[0]) > 5]
        return [abs(np.corrcoef(found[0].ravel(), found[1].ravel())[0, 1]) for found in several]

    assert min(correlations(1.0)) == pytest.approx(1.0)
    assert np.mean(correlations(0.0)) < 0.3
    assert 0.3 < np.mean(correlations(0.5)) < 0.8


def test_without_drift_users_keep_their_interests():
    for drift in (True, False):
        video = ShortVideo(rows=3_000, users=300, items=200, seed=2, drift=drift)
        state = video.first_state()
        for tick in range(video.num_ticks):
            video.step(state, tick)
        assert np.array_equal(state.interests, video.world.interests) == (not drift)
        assert state.day == 13
