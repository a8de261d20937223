"""Made-up files in the layout of Yambda: folders, names, types, compression, the order by user and time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

LAST = 26_000_000
STEP = 5  # of the timestamps, in seconds


def made_up_listens(rows: int, users: int, tracks: int, days: float, seed: int = 3) -> pl.DataFrame:
    """Listens of the last ``days``, half of them in bursts that share a time; some ratios are over 100 %."""
    draw = np.random.default_rng(seed)
    first = LAST - int(days * 86_400)
    times = draw.integers(first // STEP, LAST // STEP, size=rows) * STEP
    times[: rows // 2] = times[: rows // 2] // 3600 * 3600
    ratio = draw.choice([0, 1, 30, 50, 51, 99, 100, 140], size=rows)
    return pl.DataFrame({
        "uid": pl.Series(draw.integers(users, size=rows) * 100, dtype=pl.UInt32),
        "timestamp": pl.Series(times, dtype=pl.UInt32),
        "item_id": pl.Series(3_000_000_000 + draw.integers(tracks, size=rows), dtype=pl.UInt32),
        "is_organic": pl.Series(draw.integers(2, size=rows), dtype=pl.UInt8),
        "played_ratio_pct": pl.Series(ratio, dtype=pl.UInt16),
        "track_length_seconds": pl.Series(draw.choice([0, 2, 60, 240], size=rows), dtype=pl.UInt32),
    }).sort("uid", "timestamp", maintain_order=True)  # fmt: skip


def write_folder(data_root: Path, listens: pl.DataFrame, tracks: int, size: str = "50m") -> Path:
    """Every fourth track has no artist, every third has two; returns the folder of the data set."""
    root = data_root / f"yambda-{size}"
    (root / "flat" / size).mkdir(parents=True, exist_ok=True)
    listens.write_parquet(root / "flat" / size / "listens.parquet", compression="zstd")
    track = np.arange(tracks)
    pairs = [(i, i % 7) for i in track if i % 4] + [(i, 90 + i % 5) for i in track if i % 4 and i % 3 == 0]
    for name, column in (("artist", "artist_id"), ("album", "album_id")):
        pl.DataFrame({
            column: pl.Series([artist for _, artist in pairs], dtype=pl.UInt32),
            "item_id": pl.Series([3_000_000_000 + i for i, _ in pairs], dtype=pl.UInt32),
        }).write_parquet(root / f"{name}_item_mapping.parquet", compression="zstd")  # fmt: skip
    return root
