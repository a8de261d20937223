"""The suite on Yambda keeps the protocol that it names, on a dataset that can carry it."""

from __future__ import annotations

from datasets.catalog import DATASETS
from datasets.yambda.features import TEST_FROM, TRAIN_UNTIL
from datasets.yambda.schema import yambda_schema
from suites.suite import load_suite


def test_the_log_is_trained_once_in_its_order_by_ten_runs_and_tested_on_a_later_day():
    suite = load_suite("yambda-streaming", [])
    assert suite.seeds == 10
    assert (suite.training.order, suite.training.epochs) == ("time", 1)
    [dataset] = suite.datasets
    assert dataset.name in DATASETS
    schema = yambda_schema(dataset.name, "", 50)
    assert schema.chosen_tasks(suite.tasks) == ["listened"]
    assert schema.time == "timestamp"
    assert TRAIN_UNTIL < TEST_FROM
