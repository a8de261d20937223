"""Finds, on the sample, columns that give a label away."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import polars as pl

from datasets.draft.kinds import Draft
from datasets.draft.profile import Column, typed_values
from datasets.draft.roles import Label
from datasets.expressions.labels import Operand, label_expression
from datasets.expressions.syntax import columns_of

SUSPECT = 0.95
FEWEST = 20  # positives and negatives; below this, an AUC means nothing
MOST_CATEGORIES = 5_000


def suspected_leaks(
    drafts: list[Draft], labels: list[Label], columns: Mapping[str, Column], sample: pl.DataFrame
) -> dict[str, str]:
    """Columns that alone rank a label almost perfectly, with their AUC."""
    found: dict[str, str] = {}
    for label in labels:
        values = label_values(label, columns, sample).to_numpy()
        for draft in drafts:
            column = draft.column
            if column.form in ("list", "vector") or (
                draft.kind == "categorical" and column.distinct > MOST_CATEGORIES
            ):
                continue
            area = max(_scores(draft, sample[column.name], values), default=0.5)
            if area > SUSPECT:
                found.setdefault(
                    column.name,
                    f"ranks the label {label.name} with AUC {area:.3f} by itself: a suspected leak",
                )
    return found


def label_values(label: Label, columns: Mapping[str, Column], sample: pl.DataFrame) -> pl.Series:
    """The label over the sample: 0, 1, or null where it is undefined."""
    if label.expression is None:
        assert label.column is not None, "a label has a column or an expression"
        return sample[label.column]
    operands = {name: Operand(pl.col(name), sample.schema[name]) for name in columns_of(label.expression)}
    return sample.select(label=label_expression(label.expression, operands, f"--label {label.name}"))["label"]


def label_of(label: Label, columns: Mapping[str, Column]) -> pl.Expr:
    """The label over the raw table."""
    if label.expression is None:
        assert label.column is not None, "a label has a column or an expression"
        return typed_values(columns[label.column])
    operands = {}
    for name in columns_of(label.expression):
        is_number = columns[name].form in ("integer", "number", "boolean")
        dtype = pl.Float64() if is_number else columns[name].dtype
        operands[name] = Operand(typed_values(columns[name]), dtype)
    return label_expression(label.expression, operands, f"--label {label.name}")


def _scores(draft: Draft, values: pl.Series, label: np.ndarray) -> list[float]:
    known = ~np.isnan(label)
    is_missing = values.is_null().to_numpy()
    found = []
    if is_missing.any():
        found.append(_auc(is_missing[known].astype(float), label[known]))
    if draft.kind == "categorical":
        frame = pl.DataFrame({"value": values.cast(pl.String), "label": label}).filter(pl.Series(known))
        learn, score = frame.gather_every(2), frame.gather_every(2, offset=1)
        rates = learn.group_by("value").agg(pl.col("label").mean().alias("rate"))
        rated = score.join(rates, on="value", how="left", nulls_equal=True, maintain_order="left")
        rated = rated.with_columns(pl.col("rate").fill_null(learn["label"].mean()))
        found.append(_auc(rated["rate"].to_numpy(), rated["label"].to_numpy()))
    else:
        both = known & ~is_missing
        area = _auc(values.to_numpy()[both], label[both])
        found.append(max(area, 1 - area))
    return found


def _auc(scores: np.ndarray, label: np.ndarray) -> float:
    """Area under the ROC curve, ties counted as half; .5 where there are too few rows."""
    positives, negatives = int((label == 1).sum()), int((label == 0).sum())
    if min(positives, negatives) < FEWEST:
        return 0.5
    ranks = pl.Series(scores).rank("average").to_numpy()
    return float((ranks[label == 1].sum() - positives * (positives + 1) / 2) / (positives * negatives))
