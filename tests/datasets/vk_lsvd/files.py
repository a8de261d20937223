"""Made-up files in the layout of VK-LSVD: folders, names, types, compression, gaps in the metadata."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from datasets.vk_lsvd.schema import EMBEDDING_LENGTH, REACTIONS

ID_STEP = 2_654_435_761  # ids are large and in no order


def ids(number: int) -> np.ndarray:
    """Different uint32 ids, of which some are above 2**31."""
    return (np.arange(1, number + 1, dtype=np.uint64) * ID_STEP % 2**32).astype(np.uint32)


def made_up_rows(draw: np.random.Generator, rows: int, users: np.ndarray, items: np.ndarray) -> pl.DataFrame:
    """A week's exposures, with times spent up to the 255 s at which they are cut."""
    small = {
        name: pl.Series(draw.integers(high, size=rows), dtype=pl.UInt8)
        for name, high in (("place", 24), ("platform", 11), ("agent", 29))
    }
    spent = draw.choice([0, 1, 2, 3, 9, 30, 255], size=rows)
    reactions = {name: pl.Series(draw.random(rows) < 0.2) for name in REACTIONS}
    return pl.DataFrame({
        "user_id": draw.choice(users, rows),
        "item_id": draw.choice(items, rows),
        **small,
        "timespent": pl.Series(spent, dtype=pl.UInt8),
        **reactions,
    })  # fmt: skip


def write_metadata(root: Path, users: np.ndarray, items: np.ndarray, draw: np.random.Generator) -> None:
    """The last user, the last video and the last embedding are absent; some durations are 0 or over 255."""
    (root / "metadata").mkdir(parents=True, exist_ok=True)
    known = users[:-1]
    pl.DataFrame({
        "user_id": known,
        "age": pl.Series(18 + np.arange(len(known)) % 60, dtype=pl.UInt8),
        "gender": pl.Series(np.arange(len(known)) % 2, dtype=pl.UInt8),
        "geo": pl.Series(np.arange(len(known)) % 80, dtype=pl.UInt8),
        "train_interactions_rank": pl.Series(np.arange(1, len(known) + 1), dtype=pl.UInt32),
    }).write_parquet(root / "metadata/users_metadata.parquet")  # fmt: skip
    known = items[:-1]
    lengths = np.array([0, 2, 9, 30, 255, 300])
    pl.DataFrame({
        "item_id": known,
        "author_id": pl.Series(np.arange(len(known)) % 5 + 4_000_000_000, dtype=pl.UInt32),
        "duration": pl.Series(lengths[np.arange(len(known)) % 6], dtype=pl.UInt16),
        "train_interactions_rank": pl.Series(np.arange(1, len(known) + 1), dtype=pl.UInt32),
    }).write_parquet(root / "metadata/items_metadata.parquet")  # fmt: skip
    shuffled = draw.permutation(known)
    vectors = draw.normal(size=(len(known), EMBEDDING_LENGTH)).astype(np.float16)
    np.savez_compressed(root / "metadata/item_embeddings.npz", item_id=shuffled, embedding=vectors)


def write_folder(
    data_root: Path,
    rows_a_week: int = 60,
    *,
    weeks: int = 3,
    users: int = 6,
    items: int = 12,
    folder: str = "subsamples/ur0.01",
    test: bool = True,
) -> Path:
    """The last ``weeks`` training weeks, week 25, and 26 where ``test``; returns the archive's folder."""
    draw = np.random.default_rng(5)
    root = data_root / "vk-lsvd" / "VK-LSVD"
    user_ids, item_ids = ids(users), ids(items)
    write_metadata(root, user_ids, item_ids, draw)
    names = [f"train/week_{week:02d}" for week in range(25 - weeks, 25)] + ["validation/week_25"]
    for name in [*names, *(["test/week_26"] if test else [])]:
        path = root / folder / f"{name}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        made_up_rows(draw, rows_a_week, user_ids, item_ids).write_parquet(path, compression="snappy")
    return root
