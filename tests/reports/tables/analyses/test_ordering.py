"""Agreement of orders with the paper: tau against scipy, its interval, resolved pairs, what the page says."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from harness.evaluation.ordering import agreement, kendall_tau_b, ordered_pairs, permutation_p_value
from harness.evaluation.statistics.significance import holm
from harness.records.store import read_runs
from reports.sections import load_sections
from reports.tables.analyses.ordering import compared_with_paper, ordering_tables, ordering_words
from tests.reports.made_up import record, write_out
from tests.reports.reading import report_text

PAPER = {
    "dcnv2": 0.13,
    "moe": 0.09,
    "wukong": 0.29,
    "rankmixer": 0.64,
}  # Table 1, Finish AUC


def section_of(out):
    [section] = load_sections(read_runs(out))
    return section


def compared_row(architecture, diff, half, variant="", metric="auc", task="finish"):
    low, high = ("", "") if half is None else (diff - half, diff + half)
    resolved = "few seeds" if half is None else "yes" if abs(diff) > half else "no"
    return {
        **{"suite": "quick", "dataset": "shortvideo", "task": task, "metric": metric},
        **{"architecture": architecture, "variant": variant, "base": "dlrm_mlp", "seeds": 3, "users": 1180},
        **{"diff": diff, "low": low, "high": high, "users_low": low, "users_high": high},
        "resolved": resolved,
    }


def table1(out, diffs, half=0.0004, **changes):
    """A section of the base and these differences to it, in points x 100."""
    records = [record(name, 0) for name in ["dlrm_mlp", *diffs]]
    rows = [compared_row(name, diff / 100, half) for name, diff in diffs.items()]
    return section_of(write_out(out, records, rows, **changes))


def finish_numbers(section):
    both = compared_with_paper(section)
    return both, agreement(both), ordered_pairs(both)


COARSE = st.integers(-3, 3).map(float)  # few values, so that ties come


@given(st.lists(st.tuples(COARSE, COARSE), min_size=2, max_size=12))
def test_tau_is_scipys_ties_and_all(pairs):
    ours, paper = np.array(pairs).T
    expected = stats.kendalltau(ours, paper).statistic
    assert float(kendall_tau_b(ours, paper)) == pytest.approx(expected, nan_ok=True, abs=1e-12)


def test_tau_of_models_in_both_is_scipys_over_differences_and_printed_gains(tmp_path):
    diffs = {"dcnv2": 0.3, "moe": -0.2, "wukong": 0.1, "rankmixer": 0.5, "masknet": 0.9}
    both, [*_], _ = finish_numbers(table1(tmp_path, diffs))
    assert dict(zip(both["name"], both["paper"], strict=True)) == PAPER  # masknet is not in the paper
    tau = agreement(both)["tau"].item()
    tested = stats.kendalltau([diffs[name] for name in PAPER], list(PAPER.values()), method="exact")
    assert tau == pytest.approx(tested.statistic)
    assert agreement(both)["p_value"].item() == pytest.approx(tested.pvalue)  # without ties, scipy counts too


def test_a_permutation_test_counts_every_order_ties_and_all():
    ours, paper = np.array([0.1, 0.1, 0.3, 0.2]), np.array([0.0, 0.1, 0.2, 0.2])
    taus = [kendall_tau_b(np.array(order), paper) for order in itertools.permutations(ours)]
    found = kendall_tau_b(ours, paper)
    above, below = np.mean(taus >= found - 1e-12), np.mean(taus <= found + 1e-12)
    assert permutation_p_value(ours, paper) == pytest.approx(min(1, 2 * min(above, below)))
    assert math.isnan(permutation_p_value(np.zeros(3), paper[:3]))


def test_the_base_agrees_with_nobody(tmp_path):
    """Two orders that are each other's reverse: with the base at zero both would be somewhat alike."""
    names = list(PAPER)
    taus = []
    for gains in ([0.1, 0.2, 0.3, 0.4], [0.4, 0.3, 0.2, 0.1]):
        order = dict(zip(sorted(names, key=PAPER.get), gains, strict=True))
        _, agreed, _ = finish_numbers(table1(tmp_path / str(gains[0]), order))
        taus.append(agreed["tau"].item())
    assert taus == pytest.approx([1, -1])


def test_a_tau_without_doubt_has_a_narrow_interval_and_one_of_noise_a_wide_one(tmp_path):
    _, sure, _ = finish_numbers(table1(tmp_path / "a", {name: 10 * g for name, g in PAPER.items()}, 1e-6))
    assert sure[["tau", "low", "high"]].iloc[0].tolist() == pytest.approx([1, 1, 1])
    _, noise, _ = finish_numbers(table1(tmp_path / "b", dict.fromkeys(PAPER, 0.001), 0.5))
    assert noise["low"].item() < -0.3
    assert noise["high"].item() > 0.3


def test_the_interval_is_that_of_independent_draws_made_another_way(tmp_path):
    diffs = {"dcnv2": 0.12, "moe": 0.10, "wukong": 0.05, "rankmixer": 0.20}
    _, agreed, _ = finish_numbers(table1(tmp_path, diffs, half=0.001))
    # Every mean errs alike and independently, the base too: differences then have 0.1 / 1.96 as their error.
    rng = np.random.default_rng(11)
    errors = 0.1 / 1.959964 / math.sqrt(2) * rng.standard_normal((4000, 5))
    means = np.array([0.0, *diffs.values()]) + errors
    taus = [stats.kendalltau((drawn - drawn[0])[1:], list(PAPER.values())).statistic for drawn in means]
    low, high = np.quantile(taus, [0.025, 0.975])
    assert agreed[["low", "high"]].iloc[0].tolist() == pytest.approx([low, high], abs=0.34)  # a step
    again = agreement(compared_with_paper(table1(tmp_path, diffs, half=0.001)))
    assert again.equals(agreed)


def test_pairs_are_resolved_by_a_difference_whose_error_does_not_count_the_base_twice(tmp_path):
    # With half-widths of 0.1 to the base, two other models also differ by 0.1 give or take.
    diffs = {"dcnv2": 0.16, "moe": 0.0, "wukong": 0.07, "rankmixer": -0.2}
    _, _, pairs = finish_numbers(table1(tmp_path, diffs, half=0.001))
    verdicts = {
        (row["higher"], row["lower"]): (row["resolved"], row["order"]) for row in pairs.to_dict("records")
    }
    assert verdicts["dcnv2", "moe"] == ("yes", "agrees")
    assert verdicts["dcnv2", "wukong"] == ("no", "differs")
    assert verdicts["moe", "rankmixer"] == ("yes", "differs")
    assert len(pairs) == 6
    row = pairs.iloc[0]  # the p-values are Holm's of normals with the standard errors of the pairs
    ps = [2 * stats.norm.sf(d / (0.1 / 1.959964)) for d in 100 * pairs["diff"]]
    assert row["p_holm"] == pytest.approx(holm(np.array(ps))[0])


def test_a_pair_that_the_paper_ties_is_neither_alike_nor_different(tmp_path):
    _, _, pairs = finish_numbers(table1(tmp_path, {"moe": 0.1, "rdcn": 0.2, "dcnv2": 0.3}))
    assert ("rdcn", "moe") not in set(zip(pairs["higher"], pairs["lower"], strict=True))  # both +0.09


def test_without_an_interval_tau_stands_alone_and_no_pair_is_resolved(tmp_path):
    section = table1(tmp_path, {"dcnv2": 0.3, "moe": -0.2, "wukong": 0.1, "rankmixer": 0.5}, half=None)
    _, agreed, pairs = finish_numbers(section)
    assert agreed["tau"].notna().all()
    assert agreed[["low", "high"]].isna().all(axis=None)
    assert set(pairs["resolved"]) == {"untested"}
    assert "no interval" in ordering_words(section)[0]


def test_pairs_of_a_model_whose_difference_is_untested_are_untested_and_not_in_the_family(tmp_path):
    diffs = {"dcnv2": 0.16, "moe": 0.0, "wukong": 0.07, "rankmixer": -0.2}
    records = [record(name, 0) for name in ["dlrm_mlp", *diffs]]
    rows = [compared_row(name, diff / 100, 0.001) for name, diff in diffs.items()]
    rows[-1]["resolved"] = "failed seeds"
    _, agreed, pairs = finish_numbers(section_of(write_out(tmp_path, records, rows)))
    with_it = (pairs["higher"] == "rankmixer") | (pairs["lower"] == "rankmixer")
    assert set(pairs.loc[with_it, "resolved"]) == {"untested"}
    assert pairs.loc[with_it, "p_holm"].isna().all()
    ps = [2 * stats.norm.sf(d / (0.1 / 1.959964)) for d in 100 * pairs.loc[~with_it, "diff"]]
    assert pairs.loc[~with_it, "p_holm"].tolist() == pytest.approx(list(holm(np.array(ps))))
    assert agreed["low"].notna().all()


def test_sizes_are_ordered_one_by_one_each_beside_the_same_rows_of_the_paper(tmp_path):
    names, sizes = ["dlrm_mlp", "moe", "wukong", "rankmixer"], ["3M", "0.3M"]
    budget = {"kind": "flops_per_sample", "miss": 0.0}
    records = [record("dlrm_mlp", 0)] + [
        record(name, 0, variant=size, budget=budget | {"target": 1e6 * float(size[:-1])})
        for size in sizes
        for name in names
    ]
    diffs = {"3M": (0.1, 0.15, 0.2, 0.3), "0.3M": (-0.1, -0.15, -0.3, -0.2)}
    rows = [
        compared_row(name, diff / 100, 0.0004, size)
        for size in sizes
        for name, diff in zip(names, diffs[size], strict=True)
    ]
    section = section_of(write_out(tmp_path, records, rows, paper_table="figure2"))
    _, agreed, _ = finish_numbers(section)
    assert agreed["size"].tolist() == ["0.3M", "3M"]
    assert agreed["models"].tolist() == [4, 4]
    assert agreed["tau"].tolist() == pytest.approx([-2 / 3, 1])


def test_three_models_are_too_few_for_an_order(tmp_path):
    section = table1(tmp_path, {"dcnv2": 0.3, "moe": -0.2, "rankmixer": 0.5})
    assert ordering_words(section) == []


def test_the_page_lists_orderings_that_agree_and_those_that_do_not(tmp_path):
    diffs = {"dcnv2": 0.5, "moe": -0.2, "wukong": 0.1, "rankmixer": 0.3}
    records = [record(name, 0) for name in ["dlrm_mlp", *diffs]]
    rows = [compared_row(name, diff / 100, 0.0004) for name, diff in diffs.items()]
    out = write_out(tmp_path, records, rows)
    page = report_text(out)
    [sentence] = [line for line in page.splitlines() if "Orderings resolved here" in line]
    agree, differ = sentence.partition("that agree:")[2].split("that do not:")
    assert "RankMixer over Wukong" in agree
    assert "DCNv2 over RankMixer" in differ
    [table] = ordering_tables(section_of(out))
    assert table.rows[0][-3:] == [str(agree.count(" over ")), str(differ.count(" over ")), "0"]
    assert len(table.numbers) == 6


@pytest.mark.parametrize("table", ["table2", None])
def test_suites_beside_other_tables_say_nothing_of_order(tmp_path, table):
    section = table1(tmp_path, {"dcnv2": 0.3, "moe": -0.2, "rankmixer": 0.5}, paper_table=table)
    assert ordering_tables(section) == []
    assert ordering_words(section) == []
