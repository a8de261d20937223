"""Every two models directly: differences and p-values against scipy, and which pairs there are."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from harness.evaluation.inference import write_inference
from harness.evaluation.pairs import COLUMNS, every_pair
from harness.records.contestant import Contestant
from harness.records.store import read_runs
from tests.harness.evaluation.test_comparisons import BASE, MadeUp

QUALITY = {BASE: 1.0, "dcn": 1.3, "deepfm": 1.35, "rankmixer": 1.5}


@pytest.fixture
def written(tmp_path):
    """AUCs by model and world, and what was written, of five worlds with test rows of their own."""
    made_up = MadeUp(tmp_path, tuple(QUALITY))
    made_up.suite["analyses"] = ["ordering"]
    made_up.write_suite()
    aucs = {name: [] for name in QUALITY}
    for world in range(5):
        made_up.labels = np.random.default_rng(world).permutation(made_up.labels)
        for name, quality in QUALITY.items():
            changes = {"world": world, "spec": {"seed": 0}, "folder": f"{name}-w{world}"}
            aucs[name].append(made_up.auc(made_up.run(name, world, quality, **changes)))
    write_inference(read_runs(tmp_path))
    return aucs, tmp_path


def test_a_pair_of_models_has_the_t_test_of_its_own_differences_over_worlds(written):
    aucs, out = written
    found = pd.read_csv(out / "pairs.csv")
    assert list(found.columns) == COLUMNS
    found = found[found["metric"] == "auc"].set_index(["architecture", "base"])
    assert set(found.index) == {("dcn", "deepfm"), ("dcn", "rankmixer"), ("deepfm", "rankmixer")}
    for (one, other), row in found.iterrows():
        test = stats.ttest_rel(aucs[one], aucs[other])
        interval = test.confidence_interval(0.95)
        assert row["diff"] == pytest.approx(np.mean(aucs[one]) - np.mean(aucs[other]), abs=1e-9)
        assert (row["low"], row["high"]) == pytest.approx((interval.low, interval.high), abs=1e-9)
        assert row["p_value"] == pytest.approx(test.pvalue, rel=1e-6)


def test_they_are_judged_only_where_the_suite_wants_an_order(written):
    _, out = written
    suite = (out / "suite.json").read_text()
    (out / "suite.json").write_text(suite.replace('["ordering"]', "[]"))
    write_inference(read_runs(out))
    assert not (out / "pairs.csv").exists()


def test_models_of_different_sizes_are_no_pair():
    names = ["dcn-1M", "rankmixer-1M", "dcn-3M", "rankmixer-3M", "dcn-10M"]
    rows = [Contestant.from_name(*name.split("-")) for name in names]
    base = Contestant.from_name("dlrm_mlp", "")
    assert every_pair([base, *rows], base) == [(rows[0], rows[1]), (rows[2], rows[3])]
