"""Shares of the oracle's gap against brute force: scikit-learn on the rows that drawn users have."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.metrics import log_loss, roc_auc_score

from harness.evaluation.inference import write_inference
from harness.records.store import read_runs
from reports.sections import load_sections
from reports.tables.analyses.oracle_gap import oracle_gap_tables
from tests.harness.evaluation.test_comparisons import BASE, ROWS, USERS, MadeUp

REPLICATES = 60


class WithOracle(MadeUp):
    """Runs beside an oracle, which knows the signal that made the labels, and a constant."""

    def references(self, **changes) -> dict[str, np.ndarray]:
        truth = 1 / (1 + np.exp(-self.signal))
        scores = {"oracle": truth, "constant": np.full(ROWS, 0.4)}
        for name, given in scores.items():
            folder = f"{name}-{changes.get('world')}"
            self.run(name, 0, kind="reference", scores=given, folder=folder, **changes)
        return scores

    def logloss(self, scores: np.ndarray) -> float:
        known = ~np.isnan(self.labels)
        return log_loss(self.labels[known], scores[known].astype(float))

    def gaps(self) -> pd.DataFrame:
        write_inference(read_runs(self.out), REPLICATES)
        return pd.read_csv(self.out / "oracle_gap.csv", keep_default_na=False, na_values=[""])


@pytest.fixture
def made_up(tmp_path) -> WithOracle:
    return WithOracle(tmp_path, (BASE, "dcn"))


def row(gaps: pd.DataFrame, architecture: str, metric: str) -> pd.Series:
    [only] = [r for _, r in gaps.iterrows() if (r.architecture, r.metric) == (architecture, metric)]
    return only


def share(made_up: WithOracle, metric: str, scores: np.ndarray, references: dict[str, np.ndarray]) -> float:
    measure = getattr(made_up, metric)
    floor = measure(references["constant"])
    return (measure(scores) - floor) / (measure(references["oracle"]) - floor)


def test_shares_and_distances_are_those_of_whole_metrics(made_up):
    references = made_up.references()
    runs = {name: [made_up.run(name, seed, quality) for seed in (0, 1)]
            for name, quality in ((BASE, 1.0), ("dcn", 2.0))}  # fmt: skip
    gaps = made_up.gaps()
    assert set(gaps["architecture"]) == {BASE, "dcn"}
    for name, scores in runs.items():
        for metric in ("auc", "uauc", "logloss"):
            found = row(gaps, name, metric)
            by_seed = [share(made_up, metric, each, references) for each in scores]
            assert found["share"] == pytest.approx(np.mean(by_seed), abs=1e-6)
            measure = getattr(made_up, metric)
            left = measure(references["oracle"]) - np.mean([measure(each) for each in scores])
            assert found["distance"] == pytest.approx(-left if metric == "logloss" else left, abs=1e-6)
    assert row(gaps, BASE, "auc")[["runs", "worlds", "users"]].tolist() == [2, 1, USERS]


def test_the_interval_draws_users_and_seeds_as_rows_repeated_by_hand_do(made_up):
    """A draw of users is their rows again and again; seeds are Student's t about each draw."""
    references = made_up.references()
    scores = [made_up.run(BASE, seed) for seed in range(3)]
    known = ~np.isnan(made_up.labels)
    users, labels = made_up.users[known], made_up.labels[known]
    ids = np.unique(users)
    generator = np.random.default_rng(0)
    drawn: dict[str, list[float]] = {"auc": [], "logloss": []}
    for _ in range(REPLICATES):
        rows = np.concatenate(
            [np.flatnonzero(users == ids[i]) for i in generator.integers(0, len(ids), len(ids))]
        )
        y = labels[rows]
        oracle, constant = (
            references[name][known][rows].astype(np.float32) for name in ("oracle", "constant")
        )
        ours = [each[known][rows] for each in scores]
        top = roc_auc_score(y, oracle) - 0.5
        drawn["auc"].append(np.mean([(roc_auc_score(y, each) - 0.5) / top for each in ours]))
        floor, best = (log_loss(y, each.astype(float)) for each in (constant, oracle))
        drawn["logloss"].append(
            np.mean([(floor - log_loss(y, each.astype(float))) / (floor - best) for each in ours])
        )
    gaps = made_up.gaps()
    for metric, of_users in drawn.items():
        found = row(gaps, BASE, metric)
        by_seed = [share(made_up, metric, each, references) for each in scores]
        width = np.std(by_seed, ddof=1) / math.sqrt(3)
        for end, tail in (("low", 0.025), ("high", 0.975)):
            reached = np.mean(stats.t.cdf((found[f"share_{end}"] - np.array(of_users)) / width, 2))
            assert reached == pytest.approx(tail, abs=1e-4)


def test_over_worlds_the_interval_is_student_s_t_of_the_worlds_and_each_has_its_own_oracle(made_up):
    expected = []
    for world in range(3):
        made_up.signal = np.random.default_rng([7, world]).normal(size=ROWS)
        flipped = np.random.default_rng([8, world]).random(ROWS)
        made_up.labels = (flipped < 1 / (1 + np.exp(-made_up.signal))).astype(np.float32)
        references = made_up.references(world=world)
        scores = [made_up.run(BASE, seed, world=world, folder=f"{seed}-{world}") for seed in (0, 1)]
        expected.append(np.mean([share(made_up, "auc", each, references) for each in scores]))
    found = row(made_up.gaps(), BASE, "auc")
    low, high = stats.t.interval(0.95, 2, np.mean(expected), stats.sem(expected))
    assert found["share"] == pytest.approx(np.mean(expected), abs=1e-6)
    assert (found["share_low"], found["share_high"]) == pytest.approx((low, high), abs=1e-5)
    assert found[["runs", "worlds"]].tolist() == [6, 3]


def test_without_a_constant_log_loss_has_a_distance_alone_and_without_an_oracle_there_is_no_file(made_up):
    made_up.run("oracle", 0, kind="reference", scores=1 / (1 + np.exp(-made_up.signal)))
    made_up.run(BASE, 0)
    found = row(made_up.gaps(), BASE, "logloss")
    assert math.isnan(found["share"])
    assert found["distance"] > 0
    for path in (made_up.out / "runs").glob("oracle*/record.json"):
        path.unlink()
    write_inference(read_runs(made_up.out), REPLICATES)
    assert not (made_up.out / "oracle_gap.csv").exists()
    [section] = load_sections(read_runs(made_up.out))
    assert oracle_gap_tables(section) == []


def test_the_report_shows_shares_in_percent_with_references_apart(made_up):
    made_up.references()
    for seed in (0, 1):
        made_up.run(BASE, seed)
    made_up.run("gbdt", 0, 0.5, kind="reference")
    gaps = made_up.gaps()
    [section] = load_sections(read_runs(made_up.out))
    [table] = oracle_gap_tables(section)
    [[name, of_auc, *_]], [[reference, of_gbdt, *_]] = table.rows, table.references
    found = row(gaps, BASE, "auc")
    assert (name, reference) == ("DLRM-MLP", "gbdt")
    half = (found["share_high"] - found["share_low"]) / 2
    assert of_auc == f"{100 * found['share']:.1f}% ± {100 * half:.1f}"
    assert of_gbdt == f"{100 * row(gaps, 'gbdt', 'auc')['share']:.1f}%"
