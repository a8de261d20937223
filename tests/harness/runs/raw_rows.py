"""The rows of the small table as pandas alone reads them: an oracle for what references read."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pandas as pd
import polars as pl

TRAIN, VALID = 0.8, 0.9  # where the splits of the small schema begin, as shares of the rows
LONGEST = 5  # histories


def raw_rows(table: pl.DataFrame) -> pd.DataFrame:
    """The table with the lists as the small schema cuts them."""
    rows = pd.DataFrame(table.to_dicts())
    for name in ("history", "past_genres"):
        rows[name] = [values[-LONGEST:] for values in rows[name]]
    rows["genres"] = [values[:3] for values in rows["genres"]]
    return rows


def train_part(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.iloc[: int(TRAIN * len(rows))]


def indices(rows: pd.DataFrame, *names: str) -> dict[int, int]:
    """Value -> index of the vocabulary that the columns share: 2.. by training count, then value."""
    counts: Counter = Counter()
    for name in names:
        counts.update(train_part(rows).explode(name)[name].dropna().astype(int))
    ranked = sorted(counts, key=lambda value: (-counts[value], value))
    return {value: 2 + place for place, value in enumerate(ranked)}


def standardised(rows: pd.DataFrame, name: str) -> np.ndarray:
    train = train_part(rows)[name]
    return ((rows[name] - train.mean()) / train.std(ddof=0)).clip(-10, 10).to_numpy(np.float32)


def tree_frame(rows: pd.DataFrame) -> pd.DataFrame:
    """What trees should read, row by row."""
    user, item, genre = (
        indices(rows, *names) for names in (["user"], ["item", "history"], ["genres", "past_genres"])
    )
    frame = pd.DataFrame(
        {
            "user.value": rows["user"].map(user),
            "age.value": standardised(rows, "age"),
            "item.value": rows["item"].map(item),
            "genres.length": rows["genres"].map(len),
            **{f"genres.has.{place}": [v in held for held in rows["genres"]] for v, place in genre.items()},
            "history.length": rows["history"].map(len),
            "history.last": [item.get(held[-1], 1) if held else 0 for held in rows["history"]],
            "history.count.item": [held.count(own) for held, own in rows[["history", "item"]].to_numpy()],
            "past_genres.length": rows["past_genres"].map(len),
            "past_genres.last": [genre.get(held[-1], 1) if held else 0 for held in rows["past_genres"]],
            "past_genres.count.genres": [
                sum(value in own for value in held)
                for held, own in zip(rows["past_genres"], rows["genres"], strict=True)
            ],
            "price.value": standardised(rows, "price"),
        }
    )  # fmt: skip
    return frame.astype(np.float32)


def one_hot_frame(rows: pd.DataFrame, min_count: int) -> pd.DataFrame:
    """What logistic regression should read: a column a frequent category, one a feature for the others."""
    train, columns = train_part(rows), {}
    for name in ("user", "item", "genres", "history", "past_genres"):
        counts = train.explode(name)[name].dropna().value_counts()
        held = [set(value) if isinstance(value, list) else {value} for value in rows[name]]
        frequent = set(counts[counts >= min_count].index)
        for value in frequent:
            columns[f"{name}={value}"] = [value in own for own in held]
        columns[f"{name} rare"] = [bool(own - frequent) for own in held]
    columns |= {name: standardised(rows, name) for name in ("age", "price")}
    return pd.DataFrame(columns).astype(float)
