"""Agreement of orders with the paper: tau against scipy, resolved pairs, what the page says."""

from __future__ import annotations

import itertools
import math
from itertools import combinations

import numpy as np
import pandas as pd
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


def compared_row(architecture, diff, variant=""):
    return {
        **{"suite": "quick", "dataset": "shortvideo", "task": "finish", "metric": "auc"},
        **{"architecture": architecture, "variant": variant, "base": "dlrm_mlp", "seeds": 3, "users": 1180},
        **{"diff": diff, "low": diff - 1, "high": diff + 1, "resolved": "no"},
    }


def table1(out, diffs, p_values=None, **changes):
    """A folder of the base and these differences to it, in points x 100.

    ``p_values`` by pair; of those that are not named 0.5. None: there is no ``pairs.csv``.
    """
    records = [record(name, 0) for name in ["dlrm_mlp", *diffs]]
    write_out(out, records, [compared_row(name, diff / 100) for name, diff in diffs.items()], **changes)
    if p_values is not None:
        rows = [pair_row(*pair, diffs, p_values.get(pair, 0.5)) for pair in combinations(diffs, 2)]
        pd.DataFrame(rows).to_csv(out / "pairs.csv", index=False)
    return out


def pair_row(one, other, diffs, p_value):
    diff = (diffs[one] - diffs[other]) / 100
    return {
        **{"suite": "quick", "dataset": "shortvideo", "task": "finish", "metric": "auc"},
        **{"architecture": one, "variant": "", "base": other, "base_variant": "", "seeds": 3, "worlds": 1},
        **{"diff": diff, "low": diff - 0.001, "high": diff + 0.002, "p_value": p_value},
    }


def finish_numbers(out):
    section = section_of(out)
    both = compared_with_paper(section)
    return both, agreement(both), ordered_pairs(both, section.pairs)


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


def test_pairs_are_judged_by_their_own_p_values_after_holms_correction(tmp_path):
    diffs = {"dcnv2": 0.16, "moe": 0.0, "wukong": 0.07, "rankmixer": -0.2}
    given = {("dcnv2", "moe"): 0.004, ("moe", "rankmixer"): 0.005, ("dcnv2", "wukong"): 0.02}
    _, _, pairs = finish_numbers(table1(tmp_path, diffs, given))
    assert len(pairs) == 6
    pairs = pairs.set_index(["higher", "lower"])
    expected = dict(zip(given, [6 * 0.004, 5 * 0.005, 4 * 0.02], strict=True))
    assert pairs["p_holm"].to_dict() == pytest.approx(dict.fromkeys(pairs.index, 1.0) | expected)
    assert set(pairs.index[pairs["resolved"] == "yes"]) == {("dcnv2", "moe"), ("moe", "rankmixer")}
    assert pairs.loc[("dcnv2", "moe"), "order"] == "agrees"
    assert pairs.loc[("moe", "rankmixer"), "order"] == "differs"


def test_the_higher_of_a_pair_comes_first_and_its_interval_turns_with_it(tmp_path):
    diffs = {"dcnv2": 0.1, "moe": 0.0, "wukong": 0.3, "rankmixer": -0.2}
    _, _, pairs = finish_numbers(table1(tmp_path, diffs, {}))
    [row] = pairs[(pairs["higher"] == "wukong") & (pairs["lower"] == "dcnv2")].to_dict("records")
    # Kept as dcnv2 less wukong: -0.2 points, between -0.3 and 0.
    assert [row["diff"], row["low"], row["high"]] == pytest.approx([0.002, 0.0, 0.003])


def test_a_pair_that_the_paper_ties_is_neither_alike_nor_different(tmp_path):
    _, _, pairs = finish_numbers(table1(tmp_path, {"moe": 0.1, "rdcn": 0.2, "dcnv2": 0.3, "wukong": 0.4}, {}))
    assert ("rdcn", "moe") not in set(zip(pairs["higher"], pairs["lower"], strict=True))  # both +0.09


def test_without_pairs_tau_stands_alone_and_none_is_resolved(tmp_path):
    out = table1(tmp_path, {"dcnv2": 0.3, "moe": -0.2, "wukong": 0.1, "rankmixer": 0.5})
    _, agreed, pairs = finish_numbers(out)
    assert agreed["tau"].notna().all()
    assert set(pairs["resolved"]) == {"untested"}
    assert pairs["diff"].tolist() == pytest.approx([0.005, 0.002, 0.002, 0.003, 0.007, 0.004])
    assert "6 of 6 pairs are not resolved or untested" in ordering_words(section_of(out))[0]


def test_pairs_without_a_p_value_are_untested_and_not_in_the_family(tmp_path):
    diffs = {"dcnv2": 0.16, "moe": 0.0, "wukong": 0.07, "rankmixer": -0.2}
    unknown = {(name, "rankmixer"): math.nan for name in diffs}
    _, _, pairs = finish_numbers(table1(tmp_path, diffs, unknown | {("dcnv2", "moe"): 0.015}))
    with_it = (pairs["higher"] == "rankmixer") | (pairs["lower"] == "rankmixer")
    assert set(pairs.loc[with_it, "resolved"]) == {"untested"}
    assert pairs.loc[with_it, "p_holm"].isna().all()
    expected = holm(np.array([0.015, 0.5, 0.5]))
    assert sorted(pairs.loc[~with_it, "p_holm"]) == pytest.approx(sorted(expected))


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
        compared_row(name, diff / 100, size)
        for size in sizes
        for name, diff in zip(names, diffs[size], strict=True)
    ]
    _, agreed, _ = finish_numbers(write_out(tmp_path, records, rows, paper_table="figure2"))
    assert agreed["size"].tolist() == ["0.3M", "3M"]
    assert agreed["models"].tolist() == [4, 4]
    assert agreed["tau"].tolist() == pytest.approx([-2 / 3, 1])


def test_three_models_are_too_few_for_an_order(tmp_path):
    out = table1(tmp_path, {"dcnv2": 0.3, "moe": -0.2, "rankmixer": 0.5})
    assert ordering_words(section_of(out)) == []


def test_the_page_lists_orderings_that_agree_and_those_that_do_not(tmp_path):
    diffs = {"dcnv2": 0.5, "moe": -0.2, "wukong": 0.1, "rankmixer": 0.3}
    out = table1(tmp_path, diffs, dict.fromkeys(combinations(diffs, 2), 0.001))
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
    section = section_of(table1(tmp_path, {"dcnv2": 0.3, "moe": -0.2, "rankmixer": 0.5}, paper_table=table))
    assert ordering_tables(section) == []
    assert ordering_words(section) == []
