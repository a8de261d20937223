"""Contrasts along learning curves against sums by hand and scipy: pairs, changes, crossings, two results."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.optimize import brentq

from harness.evaluation.contrasts.along_rows import (
    FAMILY,
    PAIR,
    at_most_rows,
    change_with_rows,
    change_with_size,
    contrasts_along_rows,
    paired_differences,
    same_size_pairs,
)
from harness.evaluation.contrasts.between import contrasts_between
from harness.evaluation.contrasts.crossings import crossings
from harness.evaluation.oracle.gap_along_rows import gap_along_rows
from harness.evaluation.statistics.families import judge, p_value
from harness.evaluation.statistics.intervals import Spread, spread_of_mean
from harness.records.contestant import Contestant
from harness.records.record import Record
from tests.harness.evaluation.test_learning_curves import watched
from tests.reports.made_up import reference

OURS, THEIRS, DCN = (Contestant(name) for name in ("rankmixer", "transformer", "dcn"))
PAIRS = [(OURS, THEIRS), (OURS, DCN)]
SAMPLES = [100, 200, 300]
# By model: a row a world, a column a point.
CURVES = {
    "rankmixer": [[0.60, 0.66, 0.71], [0.61, 0.65, 0.73], [0.59, 0.66, 0.72]],
    "transformer": [[0.63, 0.65, 0.66], [0.62, 0.66, 0.69], [0.61, 0.64, 0.66]],
    "dcn": [[0.58, 0.60, 0.70], [0.60, 0.60, 0.70], [0.58, 0.62, 0.70]],
}


def runs(curves=CURVES, **fields) -> list[Record]:
    return [
        watched(name, 0, aucs, world=world, **fields)
        for name, worlds in curves.items()
        for world, aucs in enumerate(worlds)
    ]


@pytest.fixture(scope="module")
def paired():
    return paired_differences(runs(), PAIRS)


def of(frame, base: str, metric="auc", **where) -> dict:
    for name, value in ({"base": base, "metric": metric} | where).items():
        frame = frame[frame[name] == value]
    [row] = frame.to_dict("records")
    return row


def by_hand(base: str):
    """Differences by world and point."""
    return np.subtract(CURVES["rankmixer"], CURVES[base])


def holm_by_hand(p_values: list[float]) -> list[float]:
    order = np.argsort(p_values)
    found, highest = [0.0] * len(order), 0.0
    for place, number in enumerate(order):
        highest = max(highest, min(1.0, p_values[number] * (len(order) - place)))
        found[number] = highest
    return found


def test_a_contrast_at_each_point_is_the_t_test_of_the_worlds_corrected_over_pairs_and_points(paired):
    along = contrasts_along_rows(paired)
    tests = [stats.ttest_1samp(by_hand(base)[:, at], 0) for base in ("transformer", "dcn") for at in range(3)]
    corrected = iter(holm_by_hand([test.pvalue for test in tests]))
    for number, test in enumerate(tests):
        base, at = ("transformer", "dcn")[number // 3], number % 3
        row, interval = of(along, base, samples=SAMPLES[at]), test.confidence_interval()
        assert row["diff"] == pytest.approx(by_hand(base)[:, at].mean())
        assert (row["diff_low"], row["diff_high"]) == pytest.approx((interval.low, interval.high))
        assert row["p_value"] == pytest.approx(test.pvalue)
        assert row["p_holm"] == pytest.approx(holm := next(corrected))
        assert row["resolved"] == ("yes" if holm < 0.05 else "no")
        assert row["repeats"] == 3


def test_the_change_from_the_fewest_rows_to_the_most_is_taken_in_each_world(paired):
    change = of(change_with_rows(paired), "dcn")
    test = stats.ttest_1samp(by_hand("dcn")[:, 2] - by_hand("dcn")[:, 0], 0)
    assert (change["few"], change["most"]) == (100, 300)
    assert change["diff"] == pytest.approx((by_hand("dcn")[:, 2] - by_hand("dcn")[:, 0]).mean())
    ends = by_hand("dcn").mean(axis=0)[[0, 2]]
    assert (change["diff_least"], change["diff_most"]) == pytest.approx(tuple(ends))
    assert (change["diff_low"], change["diff_high"]) == pytest.approx(tuple(test.confidence_interval()))
    assert change["p_value"] == pytest.approx(test.pvalue)


def test_the_change_with_size_is_that_of_the_largest_less_the_least_at_the_most_rows():
    aucs = {("rankmixer", "0.3M"): 0.70, ("rankmixer", "10M"): 0.76, ("rankmixer", "3M"): 0.9,
            ("dcn", "0.3M"): 0.71, ("dcn", "10M"): 0.74, ("dcn", "3M"): 0.1}  # fmt: skip
    made = [
        watched(name, seed, [0.6, auc + 0.01 * seed * (name == "dcn")], variant=size, series="", size=size)
        for (name, size), auc in aucs.items()
        for seed in range(3)
    ]
    known = list(dict.fromkeys(run.contestant for run in made))
    pairs = same_size_pairs(known, Contestant("dcn"))
    assert {(who.variant, base.variant) for who, base in pairs} == {(s, s) for s in ("0.3M", "3M", "10M")}
    assert same_size_pairs(known, Contestant("rankmixer"))[0][1].architecture == "rankmixer"
    row = of(change_with_size(paired_differences(made, pairs)), "dcn")
    assert (row["smallest"], row["largest"]) == ("0.3M", "10M")
    assert row["diff"] == pytest.approx((0.76 - 0.74) - (0.70 - 0.71))
    assert row["repeats"] == 3


def test_two_worlds_and_failed_runs_have_no_verdict_and_do_not_count_in_the_correction():
    two = {name: worlds[:2] for name, worlds in CURVES.items()}
    assert set(contrasts_along_rows(paired_differences(runs(two), PAIRS))["resolved"]) == {"few worlds"}
    seeds = [run.model_copy(update={"world": None, "seed": run.world}) for run in runs(two)]
    assert set(contrasts_along_rows(paired_differences(seeds, PAIRS))["resolved"]) == {"few seeds"}
    broken = watched("dcn", 9, [0.5, 0.5, 0.5], world=3).model_copy(update={"status": "failed"})
    along = contrasts_along_rows(paired_differences([*runs(), broken], PAIRS))
    assert set(along.loc[along["base"] == "dcn", "resolved"]) == {"failed seeds"}
    theirs = along[(along["base"] == "transformer") & (along["metric"] == "auc")]
    assert theirs["p_holm"].tolist() == pytest.approx(holm_by_hand(theirs["p_value"].tolist()))


def test_pairs_that_did_not_run_have_no_rows():
    alone = [run for run in runs() if run.architecture == "rankmixer"]
    paired = paired_differences(alone, PAIRS)
    assert contrasts_along_rows(paired).empty
    assert change_with_rows(paired).empty
    assert crossings(contrasts_along_rows(paired)).empty


def test_a_crossing_is_where_the_line_over_the_logarithm_of_rows_is_zero(paired):
    found = crossings(contrasts_along_rows(paired))
    row = of(found, "transformer")
    means = by_hand("transformer").mean(axis=0)
    assert means[0] < 0 < means[1]
    logs = np.log(SAMPLES)
    zero = brentq(lambda at: np.interp(at, logs, means), logs[0], logs[1])
    assert (row["before"], row["after"]) == (100, 200)
    assert row["crossing"] == pytest.approx(math.exp(zero))
    assert (row["few"], row["most"], row["diff_most"]) == pytest.approx((100, 300, means[2]))
    along = contrasts_along_rows(paired)
    verdicts = [of(along, "transformer", samples=at)["resolved"] for at in (100, 200)]
    assert [row["resolved_before"], row["resolved_after"]] == verdicts
    assert math.isnan(of(found, "dcn")["crossing"])  # always ahead


@pytest.mark.parametrize(
    ("diffs", "resolved", "crosses"),
    [
        ([1.0, 0.1, -0.1, -1.0], ["yes", "no", "no", "yes"], "yes"),
        ([1.0, 0.1, -0.1, -1.0], ["yes", "no", "no", "no"], "no"),
        ([-1.0, 0.1, -0.1, -1.0], ["yes", "no", "no", "yes"], "no"),
        ([1.0, 0.1, -0.1, -1.0], ["few worlds", "no", "yes", "yes"], "no"),
        ([1.0, 0.1, -0.1, -1.0], ["no", "yes", "yes", "no"], "yes"),
    ],
)
def test_a_crossing_is_resolved_where_both_sides_are_known_wherever_it_lies(diffs, resolved, crosses):
    pair = dict.fromkeys([*FAMILY, *PAIR], "x")
    points = pd.DataFrame(
        [pair | {"samples": 10**place, "diff": diff, "resolved": verdict, "repeats": 3}
         for place, (diff, verdict) in enumerate(zip(diffs, resolved, strict=True))]
    )  # fmt: skip
    found = crossings(points)
    assert found.loc[found["before"] == 10, "resolved"].tolist() == [crosses]


def test_a_curve_may_cross_twice_and_a_mean_of_zero_has_no_sign():
    flat = [0.5] * 5
    made = runs({"rankmixer": [[0.6, 0.5, 0.4, 0.6, 0.7]], "transformer": [flat]})
    found = crossings(contrasts_along_rows(paired_differences(made, PAIRS[:1])))
    rows = found[found["metric"] == "auc"]
    assert rows[["before", "after"]].to_numpy().tolist() == [[100, 300], [300, 400]]
    made = runs({"rankmixer": [[0.6, 0.5, 0.6]], "transformer": [flat[:3]]})
    found = crossings(contrasts_along_rows(paired_differences(made, PAIRS[:1])))
    assert found.loc[found["metric"] == "auc", "before"].isna().all()


def test_two_results_are_compared_world_by_world(paired):
    """A world that only one of them has does not count."""
    others = {name: [[*row[:2], row[2] + 0.02 * (name == "rankmixer") * (world - 1)]
                     for world, row in enumerate([*worlds, worlds[0]])]
              for name, worlds in CURVES.items()}  # fmt: skip
    second = paired_differences(runs(others), PAIRS)
    found = contrasts_between(at_most_rows(paired), at_most_rows(second))
    tests = []
    for base in ("transformer", "dcn"):
        theirs = np.subtract(others["rankmixer"], others[base])[:3, 2]
        test = stats.ttest_rel(by_hand(base)[:, 2], theirs)
        row, interval = of(found, base), test.confidence_interval()
        assert row["diff"] == pytest.approx(by_hand(base)[:, 2].mean() - theirs.mean(), abs=1e-12)
        assert (row["diff_low"], row["diff_high"]) == pytest.approx((interval.low, interval.high))
        assert row["repeats"] == 3
        tests.append(test.pvalue)
    assert [of(found, base)["p_holm"] for base in ("transformer", "dcn")] == pytest.approx(
        holm_by_hand(tests)
    )


def test_a_mean_without_a_spread_is_no_test():
    alone = spread_of_mean([0.3])
    assert math.isnan(p_value(alone))
    [row] = judge([alone], ["few worlds"])
    assert math.isnan(row["diff_low"])
    assert (p_value(Spread(0.0, 0.0, 2)), p_value(Spread(0.1, 0.0, 2))) == (1, 0)


def test_shares_of_the_gap_are_those_of_each_world_s_own_oracle():
    ceilings = (0.80, 0.85, 0.90)
    oracles = []
    for world, auc in enumerate(ceilings):
        made = reference("oracle", tasks=("finish",)) | {"world": world}
        made["metrics"]["finish"] |= {"auc": auc, "logloss": 0.4 + 0.01 * world}
        constant = reference("constant", tasks=("finish",)) | {"world": world}
        constant["metrics"]["finish"]["logloss"] = 0.7
        oracles += [Record.model_validate(made), Record.model_validate(constant)]
    made = runs()
    found = gap_along_rows([*made, *oracles])
    shares = (np.array(CURVES["dcn"]) - 0.5) / (np.array(ceilings)[:, None] - 0.5)
    rows = found[(found["architecture"] == "dcn") & (found["metric"] == "auc")]
    [row] = rows.to_dict("records")
    gained = shares[:, 2] - shares[:, 0]
    low, high = stats.t.interval(0.95, 2, gained.mean(), stats.sem(gained))
    assert (row["few"], row["most"], row["repeats"]) == (100, 300, 3)
    assert (row["share_few"], row["share_most"]) == pytest.approx((shares[:, 0].mean(), shares[:, 2].mean()))
    assert (row["gained"], row["gained_low"], row["gained_high"]) == pytest.approx((gained.mean(), low, high))
    assert gap_along_rows(made).empty
    losses = found[found["metric"] == "logloss"]  # known at the end alone, so there is no gain
    assert losses["gained"].tolist() == [0, 0, 0]
    expected = np.mean([(0.7 - 0.55) / (0.7 - 0.4 - 0.01 * world) for world in range(3)])
    assert losses["share_most"].tolist() == pytest.approx([expected] * 3)
