"""VK-LSVD: half a year of short videos at VK, January to June 2025, read in the order of its rows.

"VK-LSVD: Large Short-Video Dataset", https://arxiv.org/abs/2602.04567; Apache-2.0,
https://huggingface.co/datasets/deepvk/VK-LSVD. The whole has 40.8 billion exposures; ``subsample`` is one of
its published parts. No file of it was at hand: this reader follows the dataset's card.

Rows. One exposure each. **There is no timestamp**: files are weeks, and rows of a file are in the order of
time, so the column ``position`` (the number of the row over all weeks that are read) is the clock.

Labels. ``finish`` = timespent >= duration; ``skip`` = timespent < min(3 s, duration); both undefined where
the duration is 0 or unknown. Times spent are cut at 255 s, so ``finish`` is undefined for a longer video.
Beside them the log's own like, dislike, share, bookmark, click_on_author and open_comments.

Split. Weeks 0 to 24 train, week 25 validates, week 26 tests, as published. Week 26 was held back at first:
without its file, the first half of week 25 validates and the second half tests. A file that has half
arrived is an error.

Inputs. Profile, video, author, place, platform, agent; the latest videos exposed, finished and liked before
the row; counts and rates. Histories and counts end strictly before the row. Rates end at the last seventh of
a week (about a day): play times settle after an exposure begins. ``train_interactions_rank`` of both
metadata files counts the whole of training and so a row's own future; it is no input.

Memory grows with the users and videos that occur, not with the rows: 12 bytes for each user and entry of a
history (three histories), some 40 bytes for each user, video and author. The embeddings go to a file in the
scratch folder.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from datasets.fetch.download import part_of
from datasets.fetch.raw_files import describe_files, find_folder, require_file
from datasets.source import Source, parse_options
from datasets.streamed.blocks import BLOCK_ROWS, blocks, check_columns
from datasets.vk_lsvd.embeddings import Embeddings
from datasets.vk_lsvd.features import ROW_TYPES, Features, Known
from datasets.vk_lsvd.schema import NAME, TRAIN_WEEKS, VkLsvdOptions, vk_lsvd_schema
from files.errors import InputError

INSIDE = "VK-LSVD"
VALID_WEEK, TEST_WEEK = "validation/week_25.parquet", "test/week_26.parquet"
USERS, ITEMS = "metadata/users_metadata.parquet", "metadata/items_metadata.parquet"
EMBEDDINGS = "metadata/item_embeddings.npz"
ALL = "all"
PARTS_A_WEEK = 7


def source(options: dict, data_root: Path | None, scratch: Path) -> Source:
    """The table below ``data_root/vk-lsvd``, written as parquet to ``scratch``, piece by piece.

    Raises InputError on an unknown option, and on a missing or damaged file.
    """
    chosen = parse_options(VkLsvdOptions, options, NAME)
    files = _files(chosen, data_root)
    notes: dict[str, int | float | str] = {"subsample": chosen.subsample}
    known = Known.of(files.weeks, files.users, files.items)
    embeddings = None
    if files.embeddings is not None:
        embeddings = Embeddings(files.embeddings, known.items, chosen.embedding_length, scratch)
        notes["videos_without_embedding"] = embeddings.num_missing
    features = Features(known, chosen.history_length, embeddings)
    for number, table in enumerate(_rows(files, features, notes)):
        table.write_parquet(scratch / f"rows-{number:06d}.parquet")
    frame = pl.scan_parquet(sorted(scratch.glob("rows-*.parquet")), glob=False)
    notes |= {"users": len(known.users), "videos": len(known.items), "authors": known.num_authors}
    notes |= features.notes
    return Source(vk_lsvd_schema(chosen), frame, _identity(chosen, files), notes)


def identity(options: dict, data_root: Path | None) -> dict:
    """Everything that determines the content: the options and the raw files' names, sizes, sha256."""
    chosen = parse_options(VkLsvdOptions, options, NAME)
    return _identity(chosen, _files(chosen, data_root))


def raw_folder(data_root: Path | None) -> Path:
    """Where the raw files are; InputError where the metadata are missing."""
    return find_folder(NAME, data_root, INSIDE, ITEMS)


def published_files(options: dict) -> tuple[list[str], list[str]]:
    """The paths that the options need, and those that the publisher may not have released."""
    chosen = parse_options(VkLsvdOptions, options, NAME)
    weeks = [f"{_folder(chosen)}/{week}" for week in [*_train_weeks(chosen), VALID_WEEK]]
    embeddings = [EMBEDDINGS] if chosen.embedding_length else []
    return [USERS, ITEMS, *embeddings, *weeks], [f"{_folder(chosen)}/{TEST_WEEK}"]


# --- Files ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Files:
    """``test`` is None where week 26 is not there, ``embeddings`` where they are not wanted."""

    train: list[Path]
    valid: Path
    test: Path | None
    users: Path
    items: Path
    embeddings: Path | None

    @property
    def weeks(self) -> list[Path]:
        return [*self.train, self.valid, *([self.test] if self.test else [])]


def _folder(options: VkLsvdOptions) -> str:
    return "interactions" if options.subsample == ALL else f"subsamples/{options.subsample}"


def _train_weeks(options: VkLsvdOptions) -> list[str]:
    return [f"train/week_{week:02d}.parquet" for week in range(TRAIN_WEEKS - options.weeks, TRAIN_WEEKS)]


def _files(options: VkLsvdOptions, data_root: Path | None) -> _Files:
    root = raw_folder(data_root)
    rows = root / _folder(options)
    test = rows / TEST_WEEK
    if not test.is_file() and part_of(test).exists():  # without week 26 the split would be another one
        raise InputError(
            f"{test.absolute()}: its download is unfinished; `run_bench.py data fetch {NAME}` completes it, "
            f"or remove {part_of(test).name} to do without week 26"
        )
    return _Files(
        [require_file(rows / week, NAME) for week in _train_weeks(options)],
        require_file(rows / VALID_WEEK, NAME),
        test if test.is_file() else None,
        require_file(root / USERS, NAME),
        require_file(root / ITEMS, NAME),
        require_file(root / EMBEDDINGS, NAME) if options.embedding_length else None,
    )


def _identity(options: VkLsvdOptions, files: _Files) -> dict:
    others = [path for path in (files.users, files.items, files.embeddings) if path]
    described = describe_files([*files.weeks, *others])
    return {"dataset": NAME, "options": options.model_dump(), "files": described}


# --- Rows -------------------------------------------------------------------------------------------------


def _rows(files: _Files, features: Features, notes: dict) -> Iterator[pl.DataFrame]:
    """The finished rows in the order of time."""
    position = 0
    splits = ["train"] * len(files.train) + ["valid", "test"][: len(files.weeks) - len(files.train)]
    if files.test is None:
        notes["test"] = "the second half of week 25, whose first half validates: week 26 is not there"
    for path, split in zip(files.weeks, splits, strict=True):
        rows, first = check_columns(path, ROW_TYPES), position
        ends = {rows * part // PARTS_A_WEEK for part in range(1, PARTS_A_WEEK + 1)}
        for block in blocks(path, ROW_TYPES, BLOCK_ROWS):
            for piece in _cut(block, position - first, ends):
                table = piece.with_columns(position=pl.int_range(position, position + piece.height))
                position += piece.height
                yield features.of(table, position - first in ends).with_columns(
                    _split(split, files.test is None, first + rows // 2)
                )


def _cut(block: pl.DataFrame, start: int, ends: set[int]) -> Iterator[pl.DataFrame]:
    """The block in pieces, so that none goes on after one of the week's ``ends``."""
    inside = sorted(end - start for end in ends if 0 < end - start < block.height)
    for first, last in zip([0, *inside], [*inside, block.height], strict=True):
        yield block.slice(first, last - first)


def _split(split: str, is_divided: bool, half: int) -> pl.Expr:
    if split == "valid" and is_divided:
        is_first = pl.col("position") < half
        return pl.when(is_first).then(pl.lit("valid")).otherwise(pl.lit("test")).alias("split")
    return pl.lit(split).alias("split")
