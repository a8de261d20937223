"""KuaiRand-1K and 27K from made-up folders: the very table that Pure's reader makes of the same log."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import polars as pl
import pytest

from datasets.catalog import find_dataset, prepare_dataset, raw_folder
from datasets.kuairand import large
from datasets.kuairand import source as pure
from datasets.kuairand.schema import TEST_FROM, VALID_FROM
from files.errors import InputError
from tests.datasets.kuairand.test_source import DAY, EARLY, LATE, event, read, write_folder

NAMES = {"kuairand-1k": large.ONE_K, "kuairand-27k": large.ALL_27K}
ORDER = ["time_ms", "user_id", "video_id", "tab", "duration_ms"]


def made_up_log(rows: int, first: int, last: int, seed: int) -> list[dict]:
    """Users who meet few videos often, in all tabs, with ties in time, duplicates and durations of zero."""
    draw = random.Random(seed)
    found = []
    for _ in range(rows):
        time = draw.randrange(first, last, 1000)
        duration = draw.choice([0, 2000, 9000, 30_000])
        others = {
            "tab": draw.choice([0, 1, 1, 1, 4]),
            "is_like": draw.randrange(2),
            "is_click": draw.randrange(2),
            "long_view": draw.randrange(2),
        }
        found.append(
            event(
                draw.randrange(10), draw.randrange(9), time, draw.choice([0, 2500, 9000]), duration, **others
            )
        )
        if draw.random() < 0.1:
            found.append(found[-1])
    return found


@pytest.fixture
def logs() -> dict[str, list[dict]]:
    late = made_up_log(300, VALID_FROM - 6 * DAY, TEST_FROM + 3 * DAY, 1)
    return {EARLY: made_up_log(200, VALID_FROM - 12 * DAY, VALID_FROM - 7 * DAY, 0), LATE: late}


def as_large(pure_folder: Path, name: str) -> Path:
    """The files of Pure's folder under the names of another version."""
    version = NAMES[name]
    folder = pure_folder.parent / name / version.inside
    folder.mkdir(parents=True)
    for log, period in zip((EARLY, LATE), large.PERIODS, strict=True):
        text = (pure_folder / log).read_text().splitlines(keepends=True)
        names = version._log_names(period)
        cut = 1 + (len(text) - 1) // len(names)
        parts = [text[1:cut], text[cut:]] if len(names) == 2 else [text[1:]]
        for part, rows in zip(names, parts, strict=True):
            (folder / part).write_text("".join([text[0], *rows]))
    for file in (pure.USER_FILE, pure.VIDEO_FILE):
        shutil.copy(pure_folder / file, folder / file.replace("pure", version.ending))
    return folder


def table_of(root: Path, scratch: Path, name: str, **options):
    scratch.mkdir()
    source = NAMES[name].source(options, root, scratch)
    return source, source.frame.collect()


@pytest.mark.parametrize("file_bytes", [1 << 30, 9000])
@pytest.mark.parametrize("name", NAMES)
def test_the_table_is_that_of_pure(tmp_path, logs, monkeypatch, name, file_bytes):
    monkeypatch.setattr(large, "FILE_BYTES", file_bytes)
    monkeypatch.setattr(large, "BLOCK_BYTES", 4096)
    monkeypatch.setattr(large, "PIECE_ROWS", 23)
    as_large(write_folder(tmp_path / "data", logs), name)
    for options in ({"history_length": 7}, {"tabs": "all"}):
        expected_source, expected = read(tmp_path / "data", tmp_path, **options)
        source, found = table_of(
            tmp_path / "data", tmp_path / f"large-{options.get('tabs')}", name, **options
        )
        assert found.height == expected.height > 150
        columns = sorted(expected.columns)
        assert found.select(columns).sort(ORDER).equals(expected.select(columns).sort(ORDER))
        differing = ("logs", "history_seeds", "visible_status_dropped")
        for note, value in expected_source.notes.items():
            if note not in differing and not note.startswith("videos_"):
                assert source.notes[note] == value, note
        assert source.schema.features == expected_source.schema.features
        assert source.schema.split == expected_source.schema.split


def test_it_is_prepared_in_the_order_of_time(tmp_path, logs, monkeypatch):
    monkeypatch.setattr(large, "FILE_BYTES", 9000)
    folder = as_large(write_folder(tmp_path / "data", logs), "kuairand-1k")
    prepared = prepare_dataset("kuairand-1k", {}, tmp_path / "data", tmp_path / "cache")
    time = prepared.columns("train", ["time"])["time"]
    assert (time[1:] >= time[:-1]).all()
    assert prepared.schema.name == "kuairand-1k"
    assert raw_folder("kuairand-1k", tmp_path / "data") == folder
    assert find_dataset("kuairand-1k", {}, tmp_path / "data")[1] == prepared.manifest["identity"]


def test_one_log_is_enough_but_not_a_part_of_one(tmp_path, logs):
    folder = as_large(write_folder(tmp_path / "data", logs), "kuairand-27k")
    (folder / "log_standard_4_08_to_4_21_27k_part1.csv").unlink()
    source, _ = table_of(tmp_path / "data", tmp_path / "scratch", "kuairand-27k")
    assert "4_08" not in source.notes["logs"]
    (folder / "log_standard_4_22_to_5_08_27k_part2.csv").unlink()
    with pytest.raises(
        InputError, match=r"4_22_to_5_08_27k_part2\.csv: no such file; .*data fetch kuairand-27k"
    ):
        large.ALL_27K.identity({}, tmp_path / "data")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (",5000,", ",much,", r"log_standard_4_22_to_5_08_1k\.csv: cannot be read as a table .*much"),
        (
            "play_time_ms",
            "played",
            r"log_standard_4_22_to_5_08_1k\.csv: cannot be read as a table .*play_time_ms",
        ),
    ],
)
def test_a_damaged_log_is_named(tmp_path, logs, old, new, message):
    logs[LATE].append(event(1, 1, VALID_FROM, 5000))
    folder = as_large(write_folder(tmp_path / "data", logs), "kuairand-1k")
    log = folder / "log_standard_4_22_to_5_08_1k.csv"
    log.write_text(log.read_text().replace(old, new, 1))
    with pytest.raises(InputError, match=message):
        table_of(tmp_path / "data", tmp_path / "scratch", "kuairand-1k")


def test_options_and_splits_without_rows_are_errors(tmp_path, logs):
    folder = as_large(write_folder(tmp_path / "data", logs), "kuairand-1k")
    with pytest.raises(
        InputError, match="no option 'bootstrap': choose from tabs, history_length, random_log"
    ):
        large.ONE_K.identity({"bootstrap": 1}, tmp_path / "data")
    with pytest.raises(InputError, match=r"log_random_4_22_to_5_08_1k\.csv: no such file"):
        large.ONE_K.identity({"random_log": True}, tmp_path / "data")
    shutil.copy(folder / "log_standard_4_08_to_4_21_1k.csv", folder / "log_standard_4_22_to_5_08_1k.csv")
    with pytest.raises(InputError, match=r"leave no rows for validation \(2-4 May\)"):
        table_of(tmp_path / "data", tmp_path / "scratch", "kuairand-1k")


def test_random_exposures_are_read_when_asked_for(tmp_path, logs):
    folder = as_large(write_folder(tmp_path / "data", logs), "kuairand-1k")
    shutil.copy(folder / "log_standard_4_22_to_5_08_1k.csv", folder / "log_random_4_22_to_5_08_1k.csv")
    text = (folder / "log_random_4_22_to_5_08_1k.csv").read_text()
    marked = pl.read_csv(folder / "log_random_4_22_to_5_08_1k.csv").with_columns(is_rand=pl.lit(1))
    assert text
    marked.write_csv(folder / "log_random_4_22_to_5_08_1k.csv")
    source, _ = table_of(tmp_path / "data", tmp_path / "scratch", "kuairand-1k", random_log=True)
    assert source.notes["rows_exposed_at_random"] == marked.unique().height
