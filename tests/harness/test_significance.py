"""p-values, Holm's correction and effect sizes, against definitions written another way and simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from harness.compare import COLUMNS, Contestant, Run, compare, pooled_seed_spread
from harness.significance import SMALLEST_P, effect_size, holm, p_value
from harness.tiers import DIFFERENCE_COLUMNS
from tests.harness.test_compare import BASE, MadeUp, row

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


def test_without_a_users_part_it_is_the_paired_t_test():
    ours, base = np.array([0.71, 0.74, 0.72, 0.735]), np.array([0.70, 0.715, 0.72, 0.71])
    expected = stats.ttest_rel(ours, base).pvalue
    gap = ours - base
    assert p_value(gap.mean(), 0.0, gap.std(ddof=1), 4, 3, 0.95) == pytest.approx(expected, rel=1e-9)


def test_without_a_seeds_part_it_is_the_normal_test():
    got = p_value(-0.003, 1.96 * 0.001, 0.0, 5, 4, 0.95)
    assert got == pytest.approx(2 * stats.norm.sf(0.003 / (1.96 * 0.001 / stats.norm.ppf(0.975))), rel=1e-9)


@given(
    st.floats(1e-4, 1e-2),
    st.floats(1e-5, 1e-2),
    st.floats(1e-5, 1e-2),
    st.integers(2, 10),
    st.integers(1, 60),
)
def test_it_is_below_a_level_exactly_where_that_interval_leaves_out_zero(diff, users, sd, seeds, df):
    half = stats.t.ppf(0.975, df) * sd / math.sqrt(seeds)
    p = p_value(diff, users, sd, seeds, df, 0.95)
    if abs(diff - math.hypot(users, half)) > 1e-9:
        assert (p < 0.05) == (diff - math.hypot(users, half) > 0)


def test_what_is_not_known_is_no_p_value_and_zero_is_no_difference():
    assert math.isnan(p_value(0.1, 0.01, 0.01, 1, 3, 0.95))
    assert math.isnan(p_value(0.1, 0.01, 0.01, 3, 0, 0.95))
    assert math.isnan(p_value(0.1, math.nan, 0.01, 3, 3, 0.95))
    assert p_value(0.0, 0.01, 0.01, 3, 3, 0.95) == 1.0
    assert p_value(0.5, 0.0, 0.0, 3, 3, 0.95) == SMALLEST_P


def test_of_differences_that_are_not_real_one_in_twenty_is_resolved_and_one_family_in_twenty_by_holm():
    """Six models of the base's own quality: differences share the base's seeds and the same test users."""
    generator = np.random.default_rng(0)
    models, seeds, folders = 7, 5, 2000
    spread, users_se = 0.0010, 0.0007  # of one run over seeds; of a difference over users
    single, family = [], []
    runs = [
        Run(Contestant(str(model), ""), "toy", seed, False, None)  # type: ignore[arg-type]
        for model in range(models)
        for seed in range(seeds)
    ]
    for _ in range(folders):
        values = spread * generator.normal(size=(models, seeds)) + 0.002 * generator.normal(size=seeds)
        pooled = pooled_seed_spread(runs, values.ravel())
        shifts = users_se / math.sqrt(2) * generator.normal(size=models)  # what these users do to each model
        diffs = (values.mean(axis=1) + shifts)[1:] - (values.mean(axis=1) + shifts)[0]
        p = np.array([p_value(d, 1.96 * users_se, pooled.sd, seeds, pooled.df, 0.95) for d in diffs])
        single.append(np.mean(p < 0.05))
        family.append((holm(p) < 0.05).any())
    assert 0.035 < np.mean(single) < 0.055
    assert 0.005 < np.mean(family) < 0.055
    assert np.mean([s > 0 for s in single]) > 0.10  # uncorrected, families err far oftener


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
        assert [r.p_value < 0.05 for r in rows] == [r.resolved == "yes" for r in rows]
        oracle = row(found, "oracle", metric)
        assert oracle.p_value < 0.05
        assert math.isnan(oracle.p_holm)
        assert math.isnan(oracle.effect_size)
    # diff over the residual spread: three runs a model, of which seed and model means are taken out
    values = np.array([[made_up.auc(made_up.scores(q, s)) for s in range(3)] for q in (1.0, 1.25, 1.6)])
    rest = values - values.mean(0) - values.mean(1, keepdims=True) + values.mean()
    sd = math.sqrt((rest**2).sum() / (2 * 2))
    assert row(found, "dcn").effect_size == pytest.approx(row(found, "dcn")["diff"] / sd)


def test_columns_are_added_at_the_end_of_both_files():
    before = [
        *("suite", "dataset", "task", "metric", "architecture", "variant", "base", "seeds", "users"),
        *("mean", "base_mean", "diff", "users_low", "users_high", "seeds_low", "seeds_high"),
        *("low", "high", "resolved"),
    ]
    assert [*before, "p_value", "p_holm", "effect_size"] == COLUMNS
    assert [*before, "tier", "p_value", "p_holm", "effect_size"] == DIFFERENCE_COLUMNS
