"""Holm's correction and effect sizes, against definitions written another way."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from harness.evaluation.comparisons import COLUMNS, compare
from harness.evaluation.statistics.joint import JointDraws
from harness.evaluation.statistics.significance import detectable, effect_size, holm
from harness.evaluation.tiers import DIFFERENCE_COLUMNS
from tests.harness.evaluation.test_comparisons import BASE, MadeUp, row

P_VALUES = st.lists(st.floats(0, 1), min_size=1, max_size=8)


def holm_by_closed_testing(p):
    """Reject a hypothesis when every set of hypotheses that holds it is rejected by Bonferroni.

    The adjusted p-value is then the largest Bonferroni p-value of those sets.
    """
    n = len(p)
    sets = [[i for i in range(n) if mask >> i & 1] for mask in range(1, 2**n)]
    return [max(min(1.0, len(s) * min(p[j] for j in s)) for s in sets if i in s) for i in range(n)]


@given(P_VALUES)
def test_holm_is_closed_testing_with_bonferroni(p):
    assert holm(np.array(p)) == pytest.approx(holm_by_closed_testing(p), abs=1e-15)


def test_a_missing_p_value_is_no_member_of_the_family():
    adjusted = holm(np.array([0.02, math.nan, 0.01]))
    assert adjusted[[0, 2]] == pytest.approx([0.02, 0.02])
    assert math.isnan(adjusted[1])
    assert np.isnan(holm(np.array([math.nan]))).all()
    assert len(holm(np.array([]))) == 0


def test_effect_size_is_the_difference_over_the_standard_deviation_of_one_run():
    generator = np.random.default_rng(1)
    ours, base = 0.7 + 0.002 * generator.normal(size=(2, 4000))
    assert effect_size(0.004, float(np.std(ours - base))) == pytest.approx(2.0, rel=0.05)
    assert math.isnan(effect_size(0.004, 0.0))
    assert math.isnan(effect_size(0.004, math.nan))


def test_the_family_is_the_models_of_a_metric_and_references_are_in_none(tmp_path):
    made_up = MadeUp(tmp_path)
    for name, quality in ((BASE, 1.0), ("dcn", 1.25), ("rankmixer", 1.6)):
        for seed in range(3):
            made_up.run(name, seed, quality)
    made_up.run("oracle", 0, 3.0, kind="reference")
    found = compare(tmp_path, 100)
    for metric in ("auc", "uauc"):
        rows = [row(found, name, metric) for name in ("dcn", "rankmixer")]
        assert [r.p_holm for r in rows] == pytest.approx(holm_by_closed_testing([r.p_value for r in rows]))
        assert [r.p_value < 0.05 for r in rows] == [r.low > 0 or r.high < 0 for r in rows]
        assert [r.p_holm < 0.05 for r in rows] == [r.resolved == "yes" for r in rows]
        oracle = row(found, "oracle", metric)
        assert oracle.p_value < 0.05
        assert math.isnan(oracle.p_holm)
        assert math.isnan(oracle.effect_size)
    gaps = [made_up.auc(made_up.scores(1.25, s)) - made_up.auc(made_up.scores(1.0, s)) for s in range(3)]
    effect = np.mean(gaps) / (np.std(gaps, ddof=1) / math.sqrt(2))
    assert row(found, "dcn").effect_size == pytest.approx(effect)


@pytest.mark.parametrize(("users_sd", "tests"), [(0.0, 1), (0.0, 19), (0.4, 6), (4.0, 19)])
def test_a_detectable_difference_is_found_80_times_in_100(users_sd, tests):
    generator, seeds, repeats = np.random.default_rng(0), 5, 2000
    size = detectable(1 / math.sqrt(seeds), seeds - 1, users_sd, tests)
    runs = size + generator.normal(size=(repeats, seeds))
    means = runs.mean(axis=1) + users_sd * generator.normal(size=repeats)
    seed_sds = runs.std(axis=1, ddof=1) / math.sqrt(seeds)
    users = users_sd * stats.norm.ppf((np.arange(1000) + 0.5) / 1000)
    draws = [JointDraws(mean + users, sd, seeds - 1) for mean, sd in zip(means, seed_sds, strict=True)]
    found = [2 * joint.share_below(0.0) < 0.05 / tests for joint in draws]
    assert 0.77 < np.mean(found) < 0.83


def test_what_is_not_known_detects_nothing():
    assert math.isnan(detectable(math.nan, 2, 0.1, 3))
    assert math.isnan(detectable(0.1, 0, 0.1, 3))
    assert math.isnan(detectable(0.1, 2, math.nan, 3))


def test_columns_are_added_at_the_end_of_both_files():
    before = [
        *("suite", "dataset", "task", "metric", "architecture", "variant", "base", "seeds", "users"),
        *("mean", "base_mean", "diff", "users_low", "users_high", "seeds_low", "seeds_high"),
        *("low", "high", "resolved"),
    ]
    added = ["p_value", "p_holm", "effect_size", "detectable", "worlds", "failed_seeds"]
    assert [*before, *added] == COLUMNS
    assert [*before, "tier", *added] == DIFFERENCE_COLUMNS
