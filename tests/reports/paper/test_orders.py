"""Orders of published comparisons: tau and p against scipy and by brute force, bases, sequences, the page."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from harness.evaluation.ordering import agreement
from reports.paper.orders import ALL, HERE, KINDS, Order, compare_orders, our_orders, published_orders
from reports.paper.orders_report import orders_contents, render_orders
from reports.paper.printed import load_published
from reports.tables.analyses.ordering import compared_with_paper
from tests.reports.made_up import record, write_out
from tests.reports.paper.test_beside import section_of

AUC = KINDS["auc"]
MODELS = ["dlrm_mlp", "dcnv2", "autoint", "rdcn", "moe", "rankmixer"]


@pytest.fixture(scope="module")
def published():
    return published_orders()


@pytest.fixture(scope="module")
def pairs(published):
    return compare_orders(published)


def one(published, source, name):
    [found] = [order for order in published if (order.source, order.name) == (source, name)]
    return found


def between(pairs, first, second):
    """The row of two orders, each a source and a name."""
    both = pairs[(pairs["source"] == first[0]) & (pairs["order"] == first[1])]
    [row] = both[
        (both["other_source"] == second[0]) & (both["other_order"] == second[1])
    ].to_dict("records")  # fmt: skip
    return row


def compare(first, second):
    names = "abcdefghij"
    orders = [Order(source, "x", AUC, dict(zip(names, scores, strict=False)))
              for source, scores in (("one", first), ("other", second))]  # fmt: skip
    [row] = compare_orders(orders).to_dict("records")
    return row


def by_brute_force(first, second):
    """tau-b of every order of the first with the second: how many agree or disagree as much, both tails."""
    taus = [stats.kendalltau(order, second).statistic for order in itertools.permutations(first)]
    found = stats.kendalltau(first, second).statistic
    above, below = np.mean(np.array(taus) >= found - 1e-12), np.mean(np.array(taus) <= found + 1e-12)
    return found, min(1.0, 2 * min(above, below))


@settings(max_examples=15, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4)), min_size=4, max_size=5))
def test_tau_and_p_are_those_of_all_orders_counted_one_by_one_ties_and_all(scores):
    first, second = (list(map(float, side)) for side in zip(*scores, strict=True))
    row = compare(first, second)
    if len(set(first)) == 1 or len(set(second)) == 1:
        assert math.isnan(row["tau"])
        assert math.isnan(row["p_value"])
        return
    tau, p_value = by_brute_force(first, second)
    assert (row["tau"], row["p_value"]) == pytest.approx((tau, p_value))
    assert row["orders"] == ALL


@pytest.mark.parametrize("second", [[1, 2, 3, 4, 5, 6], [2, 1, 3, 5, 4, 6], [6, 5, 4, 3, 1, 2]])
def test_without_ties_too_and_as_scipy_has_it(second):
    first, second = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6], list(map(float, second))
    row = compare(first, second)
    assert (row["tau"], row["p_value"]) == pytest.approx(by_brute_force(first, second))
    exact = stats.kendalltau(first, second, method="exact")
    assert (row["tau"], row["p_value"]) == pytest.approx((exact.statistic, exact.pvalue))


def test_every_published_pair_is_scipys_over_the_models_that_both_have(published, pairs):
    orders = {(order.source, order.name): order.scores for order in published}
    known = pairs[pairs["models"] >= 4]
    assert len(known) > 100
    for row in known.to_dict("records"):
        first, second = orders[row["source"], row["order"]], orders[row["other_source"], row["other_order"]]
        both = set(first) & set(second) - {row["left_out"]}
        assert len(both) == row["models"]
        tau = stats.kendalltau([first[name] for name in both], [second[name] for name in both]).statistic
        assert row["tau"] == pytest.approx(tau, nan_ok=True)


def test_pairs_of_different_papers_have_exact_p_values(pairs):
    apart = pairs[(pairs["source"] != pairs["other_source"]) & (pairs["models"] >= 4)]
    assert set(apart["orders"]) == {ALL}
    row = between(apart, ("InterFormer", "TaobaoAd AUC"), ("BARS", "TaobaoAd x1 AUC, leaderboard"))
    # By hand: xDeepFM, DCNv2, DIN, DIEN, BST, DMIN; one of 15 pairs differs, and the papers tie none in both.
    theirs = [0.6378, 0.6472, 0.6507, 0.6519, 0.6489, 0.6498]
    leaderboard = [0.639251, 0.649458, 0.652399, 0.652937, 0.651131, 0.651103]
    assert (row["tau"], row["p_value"]) == pytest.approx(by_brute_force(theirs, leaderboard))
    assert row["tau"] == pytest.approx(1 - 2 / 15)


def test_fewer_than_four_shared_models_have_neither_tau_nor_p(pairs):
    row = between(pairs, ("RankMixer", "Finish AUC"), ("UniMixer", "Ads AUC"))
    assert row["models"] == 3
    assert math.isnan(row["tau"])
    assert math.isnan(row["p_value"])


def test_a_model_that_both_take_as_their_base_is_left_out_and_one_that_only_one_takes_is_not(pairs):
    row = between(pairs, ("RankMixer", "Finish AUC"), ("TokenMixer-Large", "CTCVR AUC"))
    assert row["left_out"] == "dlrm_mlp"
    assert row["shared"] == "dcnv2, autoint, dhen, hiformer, wukong, rankmixer"
    # gains by hand: .13 .10 .18 .48 .29 .64 against .49 .75 .63 .44 .76 .84: 9 of 15 pairs agree
    assert row["tau"] == pytest.approx((9 - 6) / 15)
    row = between(pairs, ("RankMixer", "Finish AUC"), ("RankElastor", "Criteo AUC"))
    assert (row["left_out"], row["shared"]) == ("", "dlrm_mlp, dcnv2, autoint, rankmixer")
    assert row["tau"] == pytest.approx(1)


def test_models_with_a_sequence_model_make_an_order_with_their_like_alone(published):
    assert one(published, "OneTrans", "CTR AUC with DIN").scores == {
        "dcnv2": 0.0,
        "wukong": 0.08,
        "hiformer": 0.11,
        "rankmixer": 0.27,
    }
    assert one(published, "MixFormer", "Finish AUC").scores == {"onetrans": 1.05, "mixformer": 1.01}
    assert not any(order.name.endswith("LONGER") for order in published if order.source == "OneTrans")
    gain = load_published()["onetrans"].tables["offline"].columns["ctr_auc"].gain
    assert gain  # the base's AUC is printed, and is no difference
    assert one(published, "OneTrans", "CTR AUC with DIN").base == "dcnv2"


def test_rows_of_one_architecture_count_once_by_the_plain_one(published):
    ads = one(published, "UniMixer", "Ads AUC").scores
    assert ads["unimixer"] == 0.749770
    assert len(ads) == 7
    assert one(published, "RankMixer", "Skip UAUC").scores["rankmixer"] == 1.33


def test_auc_is_compared_with_auc_and_uauc_with_gauc_and_uauc(pairs):
    assert set(pairs["kind"]) == {"AUC", "UAUC or gAUC"}
    assert between(pairs, ("RankMixer", "Finish UAUC"), ("InterFormer", "KuaiVideo gAUC"))["models"] == 4
    mixed = pairs[pairs["order"].str.endswith(" AUC") & pairs["other_order"].str.endswith("gAUC")]
    assert mixed.empty


def test_between_sources_the_same_task_is_compared_and_models_with_a_sequence_model_not_with_ours():
    scores = dict(zip(MODELS, range(6), strict=True))
    orders = [
        Order("paper", "finish", AUC, scores, task="finish"),
        Order("paper", "skip", AUC, scores, task="skip"),
        Order("other", "of its own task", AUC, scores),
        Order("other", "with DIN", AUC, scores, sequence="DIN"),
        Order(HERE, "skip", AUC, scores, task="skip"),
    ]
    pairs = compare_orders(orders)
    compared = {tuple(row) for row in pairs[["source", "order", "other_order"]].itertuples(index=False)}
    assert compared == {
        ("paper", "finish", "skip"),  # of one source
        *(("paper", task, other) for task in ("finish", "skip") for other in ("of its own task", "with DIN")),
        ("paper", "skip", "skip"),
        ("other", "of its own task", "with DIN"),
        ("other", "of its own task", "skip"),
    }


@pytest.fixture(scope="module")
def ours(tmp_path_factory):
    records = [record(name, seed) for seed in range(3) for name in MODELS]
    return write_out(tmp_path_factory.mktemp("ours"), records, seeds=3)


def test_ours_agree_with_table_1_as_the_report_of_the_suite_says(ours, published):
    section = section_of(ours)
    said = agreement(compared_with_paper(section))
    pairs = compare_orders([*published, *our_orders(section)])
    for row in said.to_dict("records"):
        name = f"{row['task'].title()} {row['metric'].upper()}"
        found = between(
            pairs,
            ("RankMixer", name),
            (HERE, f"shortvideo {row['task']} {row['metric'].upper()}"),
        )
        assert (found["models"], found["tau"]) == (row["models"], pytest.approx(row["tau"]))
        assert found["p_value"] == pytest.approx(row["p_value"])
    assert len(said) == 4


def test_ours_give_no_order_without_a_base_or_a_verdict(ours, tmp_path):
    assert len(our_orders(section_of(ours))) == 4
    records = [record(name, 0) for name in MODELS]
    assert our_orders(section_of(write_out(tmp_path / "a", records, base=""))) == []
    for run in records:
        run["metrics"]["finish"]["auc"] = 0.999
    assert our_orders(section_of(write_out(tmp_path / "b", records))) == []


def test_the_page_lists_every_pair_of_sources_and_says_which_cannot_be_compared(ours, tmp_path):
    page = render_orders([ours], tmp_path / "orders").read_text()
    frame = pd.read_csv(tmp_path / "orders/orders.csv")
    summary = pd.read_csv(tmp_path / "orders/tables/orders-summary.csv")
    sources = {paper.citation.name for paper in load_published().values()} | {HERE}
    listed = {frozenset(pair) for pair in zip(summary["source"], summary["other_source"], strict=True)}
    assert listed == {frozenset(pair) for pair in itertools.combinations(sources, 2)}
    for row in summary.to_dict("records"):
        both = frame[(frame["source"] == row["source"]) & (frame["other_source"] == row["other_source"])]
        known = both[(both["kind"] == row["kind"]) & (both["models"] >= 4)]
        assert row["pairs"] == len(known)
        assert row["tau_median"] == pytest.approx(known["tau"].median(), nan_ok=True)
    assert "| RankMixer, UniMixer | AUC | 3 | not comparable |" in page
    assert "this benchmark" in page
    assert (tmp_path / "orders/report/index.html").is_file()
    for paper in load_published().values():
        assert str(paper.citation) in page
        for key in paper.comparisons:
            for note in paper.notes_on(key):
                assert note.split(",")[0].split("[")[0] in page


def test_the_first_sentence_counts_what_the_tables_hold(pairs):
    [part] = orders_contents(pairs, []).parts
    known = pairs[(pairs["models"] >= 4) & (pairs["source"] != pairs["other_source"])]
    by_auc = known[known["kind"] == "AUC"]
    assert part.in_short.startswith(f"Of {len(by_auc)} pairs of published orders from different sources (by")
    assert f"above zero in {(by_auc['tau'].round(9) > 0).sum()} and below" in part.in_short
    assert part.in_short.endswith("No pairs of a published order and one of this benchmark share 4 models.")
