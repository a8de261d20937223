"""Lifts by user-activity tier, against scikit-learn, brute force and a lift planted in one tier."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from harness.evaluation.comparisons import compare
from harness.evaluation.inference import write_inference
from harness.evaluation.tiers import (
    DIFFERENCE_COLUMNS,
    METRIC_COLUMNS,
    compare_tiers,
    tier_metrics,
)
from harness.records.store import read_runs

BASE, REPLICATES, SEEDS = "dlrm_mlp", 60, 3
USERS, ROWS = 120, 1800
NAMES = ["low", "middle", "high"]


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


class MadeUp:
    """A suite's folder of two models, one better than the other among low-activity users alone."""

    def __init__(self, out, lift=(2.0, 0.0, 0.0), tiers=None, seeds=SEEDS):
        self.out = out
        generator = np.random.default_rng(1)
        self.users = generator.integers(0, USERS, ROWS).astype(np.int32)
        self.tiers = (self.users % 3).astype(np.int8) if tiers is None else tiers
        signal = generator.normal(size=ROWS)
        self.labels = (generator.random(ROWS) < sigmoid(1.5 * signal)).astype(np.float32)
        self.labels[::50] = np.nan
        (out / "suite.json").write_text(
            json.dumps(
                {
                    "name": "made-up",
                    "paper_table": "table4",
                    "base": BASE,
                    "architectures": [{"architecture": BASE}, {"architecture": "rankmixer"}],
                    "datasets": ["toy"],
                }
            )
        )
        self.scores, self.known_lifts = {}, {}
        for seed in range(seeds):
            noise = np.random.default_rng([7, seed]).normal(size=ROWS)
            own = 0.05 * np.random.default_rng([8, seed]).normal(size=ROWS)
            quality = 0.7 + np.array(lift)[self.tiers]
            self._run(BASE, seed, 0.7 * signal + noise)
            self._run("rankmixer", seed, quality * signal + noise + own)

    def _run(self, architecture, seed, logits):
        scores = self.scores[architecture, seed] = sigmoid(logits).astype(np.float32)
        folder = self.out / "runs" / f"{architecture}-{seed}"
        folder.mkdir(parents=True)
        record = {
            **{"kind": "model", "status": "finished", "suite": "made-up", "architecture": architecture},
            **{"variant": "", "dataset": "toy", "seed": seed, "spec": {"seed": seed}},
            **{"spec_hash": folder.name, "started_at": "2025-01-01T00:00:00+00:00"},
        }
        (folder / "record.json").write_text(json.dumps(record))
        columns = {
            "user": self.users,
            "tier": self.tiers,
            "label_finish": self.labels,
            "score_finish": scores,
        }
        pd.DataFrame(columns).to_parquet(folder / "predictions.parquet")

    def rows(self, tier, scores):
        kept = (self.tiers == tier) & ~np.isnan(self.labels)
        return pd.DataFrame({"u": self.users, "y": self.labels, "s": scores})[kept]

    def metric(self, name, tier, scores):
        rows = self.rows(tier, scores)
        if name == "auc":
            return roc_auc_score(rows.y, rows.s)
        return np.mean([roc_auc_score(g.y, g.s) for _, g in rows.groupby("u") if g.y.nunique() == 2])

    def lifts(self, name, tier):
        """Of each seed, by scikit-learn."""
        if (name, tier) not in self.known_lifts:
            self.known_lifts[name, tier] = np.array(
                [
                    self.metric(name, tier, self.scores["rankmixer", seed])
                    - self.metric(name, tier, self.scores[BASE, seed])
                    for seed in range(SEEDS)
                ]
            )
        return self.known_lifts[name, tier]


@pytest.fixture(scope="module")
def made_up(tmp_path_factory):
    return MadeUp(tmp_path_factory.mktemp("tiers"))


@pytest.fixture(scope="module")
def compared(made_up):
    return compare_tiers(made_up.out, REPLICATES)


def row(frame, tier, metric):
    found = frame[(frame.tier == tier) & (frame.metric == metric)]
    assert len(found) == 1
    return found.iloc[0]


def test_a_runs_metrics_within_a_tier_are_scikit_learns_on_its_rows(made_up):
    found = tier_metrics(made_up.out)
    assert list(found.columns) == METRIC_COLUMNS
    assert len(found) == 2 * SEEDS * 3
    for got in found.to_dict("records"):
        tier, scores = NAMES.index(got["tier"]), made_up.scores[got["architecture"], got["seed"]]
        rows = made_up.rows(tier, scores)
        both = (rows.groupby("u").y.nunique() == 2).sum()
        for metric in ("auc", "uauc"):
            assert got[metric] == pytest.approx(made_up.metric(metric, tier, scores), abs=1e-12)
        assert (got["rows"], got["users"]) == (len(rows), both)
        assert got["users"] + got["one_class_users"] == rows.u.nunique()


@pytest.mark.parametrize("metric", ["auc", "uauc"])
def test_a_lift_within_a_tier_is_the_mean_paired_difference_with_scipys_interval_over_seeds(
    made_up, compared, metric
):
    for tier, name in enumerate(NAMES):
        got, lifts = row(compared, name, metric), made_up.lifts(metric, tier)
        assert got["diff"] == pytest.approx(lifts.mean(), abs=1e-12)
        expected = stats.ttest_1samp(lifts, 0).confidence_interval(0.95)
        assert (got.seeds_low, got.seeds_high) == pytest.approx(tuple(expected), abs=1e-12)


@pytest.mark.parametrize("metric", ["auc", "uauc"])
def test_a_lift_in_one_tier_less_that_in_another_has_scipys_interval_of_its_seeds(made_up, compared, metric):
    for one, other in ((0, 1), (0, 2), (1, 2)):
        got = row(compared, f"{NAMES[one]} - {NAMES[other]}", metric)
        gaps = made_up.lifts(metric, one) - made_up.lifts(metric, other)
        assert got["diff"] == pytest.approx(gaps.mean(), abs=1e-12)
        expected = stats.ttest_1samp(gaps, 0).confidence_interval(0.95)
        assert (got.seeds_low, got.seeds_high) == pytest.approx(tuple(expected), abs=1e-12)
        assert got["mean"] - got.base_mean == pytest.approx(got["diff"], abs=1e-12)


def test_the_users_part_of_two_tiers_is_that_of_users_drawn_in_each_tier_by_itself(made_up):
    """A loop that draws whole users and asks scikit-learn, against ours at as many draws."""
    draws, gap = 300, []
    generator = np.random.default_rng(5)
    for _ in range(draws):
        lifts = []
        for tier in (0, 2):
            users = np.unique(made_up.users[made_up.tiers == tier])
            drawn = np.bincount(generator.choice(users, len(users)), minlength=USERS)
            values = {}
            for who in (BASE, "rankmixer"):
                rows = made_up.rows(tier, made_up.scores[who, 0])
                values[who] = roc_auc_score(rows.y, rows.s, sample_weight=drawn[rows.u])
            lifts.append(values["rankmixer"] - values[BASE])
        gap.append(lifts[0] - lifts[1])
    low, high = np.quantile(gap, [0.025, 0.975])
    got = row(compare_tiers(_seed_zero(made_up), 1000), "low - high", "auc")
    width = got.users_high - got.users_low
    assert width == pytest.approx(high - low, rel=0.2)
    assert (got.users_low + got.users_high) / 2 == pytest.approx((low + high) / 2, abs=0.15 * width)


def _seed_zero(made_up):
    """A folder with the runs of seed 0 alone."""
    out = made_up.out / "one-seed"
    if not out.exists():
        (out / "runs").mkdir(parents=True)
        (out / "suite.json").write_text((made_up.out / "suite.json").read_text())
        for who in (BASE, "rankmixer"):
            (out / "runs" / f"{who}-0").symlink_to(made_up.out / "runs" / f"{who}-0")
    return out


def test_a_lift_planted_among_low_activity_users_is_found_there_alone(compared):
    for metric in ("auc", "uauc"):
        assert row(compared, "low", metric).resolved == "yes"
        assert row(compared, "low", metric)["diff"] > 0.05
        assert [row(compared, name, metric).resolved for name in ("middle", "high")] == ["no", "no"]
        for name in ("low - middle", "low - high"):
            assert row(compared, name, metric).resolved == "yes"
            assert row(compared, name, metric).low > 0
        assert row(compared, "middle - high", metric).resolved == "no"


def test_where_the_high_gain_most_low_less_high_is_below_zero(tmp_path):
    found = compare_tiers(MadeUp(tmp_path, lift=(0.0, 0.0, 2.0)).out, REPLICATES)
    assert row(found, "low - high", "auc").high < 0
    assert row(found, "low - high", "auc").resolved == "yes"


def test_one_tier_that_holds_everyone_is_the_whole_split_and_the_others_have_no_rows(tmp_path):
    out = MadeUp(tmp_path, tiers=np.zeros(ROWS, np.int8)).out
    found = compare_tiers(out, REPLICATES)
    whole = compare(out, REPLICATES)
    assert set(found.tier) == {"low"}
    pd.testing.assert_frame_equal(found.drop(columns="tier"), whole)
    empty = tier_metrics(out).set_index("tier").loc[["middle", "high"]]
    assert empty[["auc", "uauc"]].isna().all(axis=None)
    assert (empty[["users", "rows"]] == 0).all(axis=None)


def test_one_seed_claims_nothing_within_tiers_or_between_them(made_up):
    found = compare_tiers(_seed_zero(made_up), REPLICATES)
    assert set(found.resolved) == {"few seeds"}
    assert found.users_low.notna().all()


@pytest.mark.parametrize("declared", [{"paper_table": "table4"}, {"analyses": ["tiers"]}])
def test_files_are_written_where_the_suite_wants_them_alone(tmp_path, declared):
    """By its list of analyses or, of an earlier version, by the paper's table that it stands beside."""
    out = MadeUp(tmp_path, seeds=2).out
    suite = json.loads((out / "suite.json").read_text()) | {"paper_table": "table1"}
    for unwanted in ({}, {"analyses": []}, {"analyses": ["ordering"], "paper_table": "table4"}):
        (out / "suite.json").write_text(json.dumps(suite | unwanted))
        write_inference(read_runs(out))
        assert not list(out.glob("tier*"))
    (out / "suite.json").write_text(json.dumps(suite | declared))
    write_inference(read_runs(out))
    assert list(pd.read_csv(out / "tiers.csv").columns) == DIFFERENCE_COLUMNS
    assert pd.read_csv(out / "tier_metrics.csv").groupby("tier").size().to_dict() == dict.fromkeys(NAMES, 4)
    written = pd.read_csv(out / "comparisons.csv").fillna({"variant": ""})
    pd.testing.assert_frame_equal(written, compare(out), check_dtype=False, rtol=5e-10, atol=0)
