"""Learning curves against sums by hand, and the pairing with the base."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from harness.evaluation.learning_curves import curve_means, curve_points, over_windows
from harness.records.contestant import Contestant
from harness.records.record import Record
from tests.reports.made_up import record

BASE = Contestant("dlrm_mlp")


def watched(architecture: str, seed: int, aucs: list[float], variant: str = "", **fields) -> Record:
    """A run with these test AUCs after 100, 200, ... samples; the last one is its result."""
    whole = record(architecture, seed, tasks=("finish",))
    whole["variant"] = whole["spec"]["variant"] = variant
    points = [
        {"step": n, "samples": 100 * n, "metrics": {"finish": {"auc": auc}}} for n, auc in enumerate(aucs, 1)
    ]
    whole["tested"], whole["ahead"] = points[:-1], points
    whole["metrics"]["finish"]["auc"] = aucs[-1]
    whole["training"]["train_samples"] = 100 * len(aucs)
    return Record.model_validate(whole | fields)


@pytest.fixture
def records() -> list[Record]:
    return [
        watched("dlrm_mlp", 0, [0.60, 0.70]),
        watched("dlrm_mlp", 1, [0.62, 0.71]),
        watched("rankmixer", 0, [0.61, 0.74]),
        watched("rankmixer", 1, [0.60, 0.73]),
    ]


def auc_of(curves: pd.DataFrame, architecture: str, samples: int) -> dict:
    rows = curves[(curves["metric"] == "auc") & (curves["samples"] == samples)]
    [row] = rows[rows["architecture"] == architecture].to_dict("records")
    return row


def test_the_last_point_is_the_run_s_result(records):
    points = curve_points(records, "tested")
    rows = points[
        (points["metric"] == "auc") & (points["architecture"] == "rankmixer") & (points["seed"] == 0)
    ]
    assert rows[["samples", "value"]].to_numpy().tolist() == [[100, 0.61], [200, 0.74]]


def test_differences_are_paired_and_have_student_s_interval(records):
    curves = curve_means(curve_points(records, "tested"), BASE)
    row = auc_of(curves, "rankmixer", 100)
    differences = np.array([0.61 - 0.60, 0.60 - 0.62])
    low, high = stats.t.interval(0.95, 1, differences.mean(), stats.sem(differences))
    assert row["diff"] == pytest.approx(differences.mean())
    assert (row["diff_low"], row["diff_high"]) == pytest.approx((low, high))
    assert row["mean"] == pytest.approx(0.605)
    assert auc_of(curves, "dlrm_mlp", 200)["diff"] == 0


def test_with_worlds_the_spread_is_theirs_and_not_the_seeds(records):
    worlds = [
        run.model_copy(update={"world": run.seed // 2, "seed": run.seed % 2})
        for run in (
            *records,
            watched("dlrm_mlp", 2, [0.5, 0.5]),
            watched("dlrm_mlp", 3, [0.5, 0.5]),
            watched("rankmixer", 2, [0.5, 0.53]),
            watched("rankmixer", 3, [0.5, 0.55]),
        )
    ]
    row = auc_of(curve_means(curve_points(worlds, "tested"), BASE), "rankmixer", 200)
    by_world = [(0.04 + 0.02) / 2, (0.03 + 0.05) / 2]
    assert row["diff"] == pytest.approx(np.mean(by_world))
    half = stats.t.ppf(0.975, 1) * np.std(by_world, ddof=1) / math.sqrt(2)
    assert row["diff_high"] - row["diff"] == pytest.approx(half)


def test_sizes_are_compared_with_the_base_of_their_size():
    runs = [
        watched(name, 0, [auc], variant=size, series="", size=size)
        for name, size, auc in (
            ("dlrm_mlp", "1M", 0.70), ("dlrm_mlp", "3M", 0.72), ("dcn", "1M", 0.71), ("dcn", "3M", 0.76)
        )
    ]  # fmt: skip
    runs = [run.model_copy(update={"tested": run.ahead[:1]}) for run in runs]
    base = runs[0].contestant
    curves = curve_means(curve_points(runs, "ahead"), base)
    found = {(row.architecture, row.size): row.diff for row in curves.itertuples()}
    assert found == pytest.approx(
        {("dlrm_mlp", "1M"): 0, ("dlrm_mlp", "3M"): 0, ("dcn", "1M"): 0.01, ("dcn", "3M"): 0.04}
    )


def test_a_base_that_did_not_run_leaves_means_without_differences(records):
    alone = [run for run in records if run.architecture == "rankmixer"]
    for base in (BASE, None):
        curves = curve_means(curve_points(alone, "tested"), base)
        assert curves["diff"].isna().all()
        assert curves["mean"].notna().all()


def test_windows_as_one_are_their_mean(records):
    one = over_windows(curve_points(records, "ahead"))
    rows = one[(one["architecture"] == "rankmixer") & (one["metric"] == "auc")]
    assert rows["value"].tolist() == pytest.approx([0.675, 0.665])
    assert rows["samples"].tolist() == [200, 200]


def test_failed_runs_and_runs_without_points_have_no_rows():
    plain = Record.model_validate(record("dcn", 0, tasks=("finish",)))
    failed = watched("dcn", 1, [0.6, 0.7]).model_copy(update={"status": "failed"})
    assert curve_points([plain, failed], "tested").empty
    assert curve_means(curve_points([plain], "tested"), BASE).empty
