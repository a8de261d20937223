"""The correlation of scores against numpy's on the same logits, and which runs are paired."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from harness.evaluation.inference import write_inference
from harness.records.store import read_runs
from reports.sections import load_sections
from reports.tables.analyses.agreement import agreement_tables
from tests.harness.evaluation.test_comparisons import BASE, MadeUp


def logits(scores: np.ndarray) -> np.ndarray:
    scores = scores.astype(float)
    return np.log(scores / (1 - scores))


def correlation(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.corrcoef(logits(one), logits(other))[0, 1])


@pytest.fixture
def made_up(tmp_path) -> MadeUp:
    made_up = MadeUp(tmp_path, (BASE, "dcn"))
    made_up.suite["analyses"] = ["agreement"]
    made_up.write_suite()
    for architecture, quality in ((BASE, 1.0), ("dcn", 2.0)):
        for seed in (0, 1):
            made_up.run(architecture, seed, quality)
    return made_up


def test_models_are_paired_by_seed_and_a_model_with_itself_by_other_seeds(made_up):
    write_inference(read_runs(made_up.out), replicates=20)
    rows = pd.read_csv(made_up.out / "agreement.csv", keep_default_na=False)
    found = {
        (row.architecture, row.other_architecture): (row.correlation, row.pairs) for row in rows.itertuples()
    }
    base, dcn = ([made_up.scores(quality, seed) for seed in (0, 1)] for quality in (1.0, 2.0))
    assert found == {
        (BASE, BASE): (pytest.approx(correlation(*base)), 1),
        (BASE, "dcn"): (pytest.approx(np.mean([correlation(base[s], dcn[s]) for s in (0, 1)])), 2),
        ("dcn", "dcn"): (pytest.approx(correlation(*dcn)), 1),
    }


def test_the_report_has_them_as_a_square(made_up):
    write_inference(read_runs(made_up.out), replicates=20)
    [section] = load_sections(read_runs(made_up.out))
    [table] = agreement_tables(section)
    assert table.header == ["model", "DLRM-MLP", "DCN"]
    (own, between), (again, other) = (row[1:] for row in table.rows)
    assert between == again
    assert float(own) == pytest.approx(correlation(*(made_up.scores(1.0, s) for s in (0, 1))), abs=6e-4)
    assert float(other) == pytest.approx(correlation(*(made_up.scores(2.0, s) for s in (0, 1))), abs=6e-4)


def test_a_suite_that_does_not_ask_has_no_file_and_one_that_no_longer_asks_loses_it(made_up):
    write_inference(read_runs(made_up.out), replicates=20)
    del made_up.suite["analyses"]
    made_up.write_suite()
    write_inference(read_runs(made_up.out), replicates=20)
    assert not (made_up.out / "agreement.csv").exists()
    [section] = load_sections(read_runs(made_up.out))
    assert agreement_tables(section) == []
