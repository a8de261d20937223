"""Frames for the figures: what records hold over training time and for each expert."""

from __future__ import annotations

import pandas as pd

from harness.records.record import Record
from reports.cells import METRICS

_RUN = ["architecture", "variant", "seed"]


def _name_run(record: Record) -> tuple[str, str, int]:
    return record.architecture, record.variant, record.seed


def loss_frame(records: list[Record]) -> pd.DataFrame:
    """Training loss: one row for each point, with columns architecture, variant, seed, samples, value."""
    rows = [
        (*_name_run(record), samples, loss)
        for record in records
        for samples, loss in record.curve
        if loss is not None
    ]
    return pd.DataFrame(rows, columns=[*_RUN, "samples", "value"])


def validation_frame(records: list[Record]) -> pd.DataFrame:
    """Validation metrics: one row for each point; the columns of ``loss_frame``, and task and metric."""
    rows = [
        (*_name_run(record), point.samples, task, metric, value)
        for record in records
        for point in record.validation
        for task, metrics in point.metrics.items()
        for metric in METRICS
        if (value := getattr(metrics, metric)) is not None
    ]
    return pd.DataFrame(rows, columns=[*_RUN, "samples", "task", "metric", "value"])


def routing_frame(records: list[Record]) -> pd.DataFrame:
    """Active ratios over training: one row for each run, layer, token and moment.

    Columns architecture, variant, seed, layer, token (both counted from 1), samples (seen so far), active
    (mean share of the token's experts with a gate above zero) and target (the active ratio that was asked
    for). Runs without experts have no rows.
    """
    rows = [
        (*_name_run(record), layer, token, point.samples, active, record.routing.target)
        for record in records
        if record.routing
        for point in record.routing.training
        for layer, tokens in enumerate(point.active, 1)
        for token, active in enumerate(tokens, 1)
    ]
    return pd.DataFrame(rows, columns=[*_RUN, "layer", "token", "samples", "active", "target"])


def active_experts_frame(records: list[Record]) -> pd.DataFrame:
    """Experts on the test split: one row for each run, layer, token and expert (counted from 1).

    Columns architecture, variant, seed, layer, token, expert, share (of test rows on which the expert is
    active) and target (the active ratio that was asked for). Runs without experts have no rows.
    """
    rows = [
        (*_name_run(record), *place, share, record.routing.target)
        for record in records
        if record.routing and record.routing.test
        for place, share in record.routing.test.shares()
    ]
    return pd.DataFrame(rows, columns=[*_RUN, "layer", "token", "expert", "share", "target"])
