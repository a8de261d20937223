"""Intervals of differences: how often they hold the truth, and what they may not depend on."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from functools import cache

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from harness.evaluation.differences import MeasuredWorld, differences
from harness.evaluation.statistics.bootstrap import UserBootstrap
from harness.records.contestant import Contestant
from harness.records.record import Record

DRAWS = 100


@cache
def run_of(number: int, seed: int, world: int | None = None) -> Record:
    """A finished run of the ``number``-th architecture, of which only its name, seed and world matter."""
    return Record(
        kind="model",
        status="finished",
        suite="made-up",
        architecture=f"model-{number}",
        dataset="toy",
        world=world,
        seed=seed,
        spec_hash="",
        spec={},
        started_at="",
    )


def who(number):
    return Contestant(f"model-{number}")


def measured(values, draws=None, world=None, users=1000):
    """One world's runs with AUCs of ``values`` (models, seeds); ``draws`` (R, models) are those of users."""
    models, seeds = values.shape
    runs = [run_of(model, seed, world) for model in range(models) for seed in range(seeds)]
    draws = np.zeros((1, models)) if draws is None else draws  # these users, for certain
    drawn = values.ravel() + np.repeat(draws, seeds, axis=1)
    undefined = np.full_like(values.ravel(), np.nan)
    names = {"auc": drawn, "uauc": np.full_like(drawn, np.nan), "gauc": np.full_like(drawn, np.nan)}
    points = {"auc": values.ravel(), "uauc": undefined, "gauc": undefined}
    return MeasuredWorld(world, runs, UserBootstrap(points, names, dict.fromkeys(names, users)))


def to_base(models):
    return [(who(model), who(0)) for model in range(1, models)]


@pytest.fixture
def nothing_detectable(monkeypatch):
    """For simulations: a row's smallest detectable difference takes longer than all its other columns."""
    monkeypatch.setattr("harness.evaluation.differences.detectable", lambda *_: np.nan)


def compared(*worlds, pairs, failed=None):
    return pd.DataFrame(differences(worlds, pairs, failed or Counter()))


@pytest.mark.parametrize("ratio", [1, 5])
@pytest.mark.parametrize("seeds", [3, 10])
@pytest.mark.usefixtures("nothing_detectable")
def test_a_rows_interval_holds_the_truth_95_times_in_100_however_its_neighbours_vary(seeds, ratio):
    """The first model spreads ``ratio`` times as much as the base and the second; none is better."""
    generator = np.random.default_rng([seeds, ratio])
    spreads = np.array([1, ratio, 1])[:, None]
    held = np.empty((400, 2))
    for i in range(len(held)):
        values = spreads * generator.normal(size=(3, seeds)) + 3 * generator.normal(size=seeds)
        rows = compared(measured(values), pairs=to_base(3))
        held[i] = [(rows.low[j] <= 0 <= rows.high[j]) for j in (0, 1)]
    assert held.mean(axis=0) == pytest.approx(0.95, abs=0.03)


@pytest.mark.usefixtures("nothing_detectable")
def test_users_seeds_and_both_together_are_held():
    generator, seeds = np.random.default_rng(5), 4
    held = []
    for _ in range(300):
        of_users = 0.7 * generator.normal(size=2)[:, None]
        draws = 0.7 * generator.normal(size=(DRAWS, 2))
        values = generator.normal(size=(2, seeds)) + of_users
        rows = compared(measured(values, draws), pairs=to_base(2))
        held.append(rows.low[0] <= 0 <= rows.high[0])
    assert 0.93 <= np.mean(held) <= 0.985


@pytest.mark.usefixtures("nothing_detectable")
def test_one_family_in_twenty_is_wrong_by_holm_and_far_more_without_it():
    """Six models as good as the base, which share its seeds and vary unequally."""
    generator = np.random.default_rng(0)
    spreads = np.linspace(1, 3, 7)[:, None]
    single, family = [], []
    for _ in range(250):
        rows = compared(measured(spreads * generator.normal(size=(7, 5))), pairs=to_base(7))
        single.append(((rows.low > 0) | (rows.high < 0)).any())
        family.append((rows.resolved == "yes").any())
        assert ((rows.p_value < 0.05) == ((rows.low > 0) | (rows.high < 0))).all()
    assert 0.005 < np.mean(family) < 0.07
    assert np.mean(single) > 0.12


def test_the_interval_over_worlds_is_the_t_interval_of_their_means():
    generator = np.random.default_rng(2)
    values = generator.normal(size=(5, 3, 2))  # worlds, models, seeds
    worlds = [measured(of_world, world=i) for i, of_world in enumerate(values)]
    rows = compared(*worlds, pairs=to_base(3))
    for model in (1, 2):
        means = (values[:, model] - values[:, 0]).mean(axis=1)
        tested = stats.ttest_1samp(means, 0)
        got = rows.iloc[model - 1]
        assert got["diff"] == pytest.approx(means.mean())
        assert (got.low, got.high) == pytest.approx(tuple(tested.confidence_interval(0.95)), abs=1e-9)
        assert got.p_value == pytest.approx(tested.pvalue, abs=1e-9)
        assert (got.worlds, got.seeds, got.users) == (5, 10, 5000)
        assert got["mean"] == pytest.approx(values[:, model].mean())


@pytest.mark.usefixtures("nothing_detectable")
def test_worlds_that_disagree_widen_the_interval_that_seeds_alone_would_narrow():
    """Two models, equal on average over worlds, with a difference of +1 or -1 in each of them."""
    generator, held, alone = np.random.default_rng(3), [], []
    for _ in range(300):
        effects = generator.normal(size=(5, 1)) * [[0.0, 1.0]]
        noise = 0.1 * generator.normal(size=(5, 2, 4))
        worlds = [measured(effects[i][:, None] + noise[i], world=i) for i in range(5)]
        rows = compared(*worlds, pairs=to_base(2))
        held.append(rows.low[0] <= 0 <= rows.high[0])
        first = compared(worlds[0], pairs=to_base(2))
        alone.append(first.low[0] <= 0 <= first.high[0])
    assert np.mean(held) == pytest.approx(0.95, abs=0.03)
    assert np.mean(alone) < 0.3


def test_with_one_seed_a_world_the_worlds_still_have_their_interval():
    values = np.random.default_rng(4).normal(size=(4, 2, 1))
    worlds = [measured(of_world, world=i) for i, of_world in enumerate(values)]
    [row] = differences(worlds, to_base(2), Counter())
    assert np.isnan([row["seeds_low"], row["effect_size"]]).all()
    assert row["low"] < row["diff"] < row["high"]
    assert row["resolved"] in ("yes", "no")
    [two] = differences(worlds[:2], to_base(2), Counter())
    assert two["resolved"] == "few worlds"


def test_a_pair_is_compared_in_the_worlds_where_both_ran():
    values = np.random.default_rng(4).normal(size=(4, 3, 2))
    worlds = [measured(of_world[: 2 if i == 3 else 3], world=i) for i, of_world in enumerate(values)]
    rows = compared(*worlds, pairs=to_base(3))
    assert rows.worlds.tolist() == [4, 3]
    assert rows["diff"][1] == pytest.approx((values[:3, 2] - values[:3, 0]).mean())


def test_where_worlds_share_their_test_users_these_are_drawn_beside_the_worlds():
    """Of an endless number of worlds on the same users, the users' part alone is left."""
    generator = np.random.default_rng(7)
    draws = np.array([0.0, 1.0]) * generator.normal(size=(2000, 2))
    same = [np.array([[0.0], [2.5]])] * 4
    worlds = [replace(measured(v, draws, world=i), has_own_users=False) for i, v in enumerate(same)]
    [row] = differences(worlds, to_base(2), Counter())
    assert (row["low"], row["high"]) == pytest.approx((2.5 - 1.96, 2.5 + 1.96), abs=0.12)
    assert row["users"] == 1000
    [own] = differences([replace(world, has_own_users=True) for world in worlds], to_base(2), Counter())
    assert (own["low"], own["high"]) == (2.5, 2.5)


def test_a_contrast_is_between_its_two_rows_and_in_a_family_of_its_own():
    values = np.random.default_rng(6).normal(size=(4, 5))
    values[2] += 8
    [row] = differences([measured(values)], [(who(2), who(3))], Counter())
    tested = stats.ttest_rel(values[2], values[3])
    assert (row["architecture"], row["base"]) == ("model-2", "model-3")
    assert (row["seeds_low"], row["seeds_high"]) == pytest.approx(tuple(tested.confidence_interval(0.95)))
    assert row["p_holm"] == row["p_value"]
    assert row["resolved"] == "yes"


def test_the_base_under_other_names_is_no_test_of_the_family():
    """Where tuning kept the defaults a row's runs are the base's: not resolved, and no test beside others."""
    values = np.random.default_rng(6).normal(size=(3, 5))
    values[2] += 2
    alone = compared(measured(values[[0, 2]]), pairs=to_base(2)).iloc[0]
    others = np.concatenate([values[[0]]] * 5 + [values[[2]]])
    rows = compared(measured(others), pairs=to_base(6))
    assert rows.resolved.tolist() == ["no"] * 4 + [alone.resolved]
    assert rows.p_holm.iloc[:4].isna().all()
    last = rows.iloc[-1]
    assert (last.p_value, last.p_holm, last.detectable) == (alone.p_value, alone.p_holm, alone.detectable)


def test_splits_of_one_log_have_an_interval_and_no_verdict():
    values = np.random.default_rng(6).normal(size=(3, 2, 4))
    values[:, 1] += 5
    worlds = [measured(of_world, world=world) for world, of_world in enumerate(values)]
    draws, splits = (
        compared(*(replace(world, overlaps=overlap) for world in worlds), pairs=to_base(2)).iloc[0]
        for overlap in (False, True)
    )
    assert (draws.resolved, splits.resolved) == ("yes", "overlapping splits")
    assert (draws.low, draws.high) == (splits.low, splits.high)
    assert np.isnan(splits.p_holm)


def test_a_failed_run_on_either_side_takes_the_verdict():
    values = np.random.default_rng(6).normal(size=(3, 5))
    values[2] += 9
    rows = compared(measured(values), pairs=to_base(3), failed={who(1): 2})
    assert rows.resolved.tolist() == ["failed seeds", "yes"]
    assert rows.failed_seeds.tolist() == [2, 0]
    rows = compared(measured(values), pairs=to_base(3), failed={who(0): 1})
    assert rows.resolved.tolist() == ["failed seeds"] * 2


def test_a_row_that_ran_in_one_of_several_worlds_claims_nothing():
    generator = np.random.default_rng(6)
    values = 0.7 + 0.001 * generator.normal(size=(3, 2, 3)) + np.array([0, 0.1])[:, None]
    worlds = [measured(values[0], world=0), *(measured(values[w, :1], world=w) for w in (1, 2))]
    got = compared(*worlds, pairs=to_base(2)).iloc[0]
    assert (got.worlds, got.seeds, got.resolved) == (1, 3, "few worlds")
    assert np.isnan(got.p_value)


@pytest.mark.parametrize("own_users", [True, False])
def test_few_users_claim_nothing_in_several_worlds_either(own_users):
    """Of their own, 3 worlds' users are counted together; on the same rows they are the same 19."""
    values = 0.7 + 0.001 * np.random.default_rng(7).normal(size=(3, 2, 2)) + np.array([0, 0.1])[:, None]
    for users, resolved in ((6, "few users"), (7, "yes")) if own_users else ((19, "few users"), (20, "yes")):
        worlds = [
            replace(measured(values[w], world=w, users=users), has_own_users=own_users) for w in range(3)
        ]
        assert compared(*worlds, pairs=to_base(2)).resolved.tolist() == [resolved]


def test_a_world_that_does_not_define_a_metric_is_left_out_of_it_alone():
    values = 0.7 + 0.01 * np.random.default_rng(8).normal(size=(4, 2, 2))
    worlds = [measured(values[w], world=w) for w in range(4)]
    for world in worlds[:3]:
        world.measured.point["uauc"] = world.measured.point["auc"]
        world.measured.draws["uauc"] = world.measured.draws["auc"]
    got = compared(*worlds, pairs=to_base(2)).set_index("metric")
    assert got.worlds.to_dict() == {"auc": 4, "uauc": 3}
    by_world = values[:3, 1].mean(axis=1) - values[:3, 0].mean(axis=1)
    limits = stats.ttest_1samp(by_world, 0).confidence_interval(0.95)
    assert (got.loc["uauc", "low"], got.loc["uauc", "high"]) == pytest.approx(tuple(limits))


def test_a_family_too_large_for_its_draws_of_users_detects_nothing():
    generator, models = np.random.default_rng(9), 7
    values = generator.normal(size=(models, 3))
    few, many = (generator.normal(size=(draws, models)) for draws in (100, 200))
    assert compared(measured(values, few), pairs=to_base(models)).detectable.isna().all()  # 6 / 101 > .05
    assert compared(measured(values, many), pairs=to_base(models)).detectable.notna().all()
