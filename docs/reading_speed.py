"""How fast readers prepare rows in their datasets' layout.

    python docs/reading_speed.py 10000000 > docs/reading_speed.md
    python docs/reading_speed.py 200000 vk-lsvd yambda-50m

The first number says how many raw rows, a multiple of 200,000; without names all readers are measured. A
command that takes more than MOST_SECONDS of processor time is ended, and its row says so.
"""

from __future__ import annotations

import csv
import io
import os
import random
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from datasets.kuairand.raw import LOG_COLUMNS  # noqa: E402
from datasets.kuairand.schema import DAY, LOG_ENDS, VALID_FROM  # noqa: E402
from tests.datasets.kuairand.test_large import as_large  # noqa: E402
from tests.datasets.kuairand.test_source import EARLY, LATE  # noqa: E402
from tests.datasets.kuairand.test_source import write_folder as kuairand_folder  # noqa: E402
from tests.datasets.movielens import test_1m as movielens  # noqa: E402
from tests.datasets.published.files import LAYOUTS, WITHOUT_VALIDATION  # noqa: E402
from tests.datasets.vk_lsvd import files as vk_lsvd  # noqa: E402
from tests.datasets.yambda import files as yambda  # noqa: E402

MOST_SECONDS = 1800
BLOCK_ROWS = 20_000
PAGE = f"""# How fast datasets are prepared

`python docs/reading_speed.py {{rows}} > docs/reading_speed.md`

{{rows:,}} generated rows in each dataset's layout, prepared by one thread: `data prepare` from files to
checksums. Raw rows are those of its logs and tables, some of which become no row of a split. Those of
[published tables](../datasets/README.md#published-splits) are a block of {BLOCK_ROWS:,} rows, repeated: their
vocabularies are small, and real ones larger and slower. Peak memory is the process's (RSS).

| reader | raw rows | processor seconds | rows a second | peak memory |
|---|---|---|---|---|"""


def main(rows: int, names: list[str]) -> None:
    """Measure the named readers, or all, one at a time."""
    print(PAGE.format(rows=rows), flush=True)
    for name in names or LAYS_OUT:
        with tempfile.TemporaryDirectory() as folder:
            options = LAYS_OUT[name](Path(folder), rows) or []
            print(measured(name, rows, Path(folder), options), flush=True)


def measured(name: str, rows: int, folder: Path, options: list[str]) -> str:
    """The row of the table of one ``data prepare``."""
    command = [sys.executable, "run_bench.py", "data", "prepare", name, *options]
    command += ["--data-root", str(folder), "--cache", str(folder / "cache")]
    one_thread = {"POLARS_MAX_THREADS": "1", "OMP_NUM_THREADS": "1"}
    limit = partial(resource.setrlimit, resource.RLIMIT_CPU, (MOST_SECONDS, MOST_SECONDS))
    process = subprocess.Popen(
        command, cwd=ROOT, env=os.environ | one_thread, stdout=subprocess.DEVNULL, preexec_fn=limit
    )
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    seconds = used.ru_utime + used.ru_stime
    if process.returncode:
        return f"| `{name}` | {rows:,} | not finished (exit code {process.returncode}) | | |"
    speed, memory = rows / seconds, used.ru_maxrss / 1e6
    return f"| `{name}` | {rows:,} | {seconds:.0f} | {speed:,.0f} | {memory:.2f} GB |"


def make_published(name: str, root: Path, rows: int) -> None:
    """The files of a published table: 80 % of the rows train, the others validate and test."""
    inside, made_up = LAYOUTS[name]
    draw, folder = random.Random(0), root / name / inside
    block = [made_up(draw) for _ in range(BLOCK_ROWS)]
    folder.mkdir(parents=True)
    text = io.StringIO()
    ending = "\r\n" if name == "frappe-x1" else "\n"
    writer = csv.DictWriter(text, list(block[0]), lineterminator=ending)
    writer.writerows(block)
    header = ",".join(block[0]) + ending
    shares = {"train": 0.8, "test": 0.2} if name in WITHOUT_VALIDATION else SHARES
    for split, share in shares.items():
        with (folder / f"{split}.csv").open("w", newline="", encoding="utf-8") as file:
            file.write(header)
            for _ in range(round(rows * share) // BLOCK_ROWS):
                file.write(text.getvalue())


SHARES = {"train": 0.8, "valid": 0.1, "test": 0.1}


def make_kuairand(name: str, root: Path, rows: int) -> None:
    """Both standard logs: 300 rows a user, as many videos as users, three quarters in the single feed."""
    number, draw = max(rows // 300, 8), np.random.default_rng(0)
    pure = kuairand_folder(root, {log: [dict.fromkeys(LOG_COLUMNS, 0)] for log in (EARLY, LATE)})
    spans = {EARLY: (VALID_FROM - 24 * DAY, VALID_FROM - 10 * DAY), LATE: (VALID_FROM - 10 * DAY, LOG_ENDS)}
    for log, (first, last) in spans.items():
        size = rows // 2
        columns = dict.fromkeys(LOG_COLUMNS, np.zeros(size, np.int64)) | {
            "user_id": draw.integers(number, size=size),
            "video_id": draw.integers(number, size=size),
            "time_ms": draw.integers(first, last, size=size),
            "date": np.full(size, 20220501),
            "tab": draw.choice([0, 1, 1, 1], size=size),
            "play_time_ms": draw.integers(30_000, size=size),
            "duration_ms": draw.integers(2000, 60_000, size=size),
            **{label: draw.integers(2, size=size) for label in ("is_click", "is_like", "long_view")},
        }
        pl.DataFrame(columns).write_csv(pure / log)
    for features in ("user_features_pure.csv", "video_features_basic_pure.csv"):
        first_row, key = pl.read_csv(pure / features).head(1), f"{features.split('_')[0]}_id"
        table = first_row.select(pl.all().repeat_by(number).explode())
        table.with_columns(pl.int_range(number).alias(key)).write_csv(pure / features)
    if name != "kuairand-pure":
        as_large(pure, name)


def make_movielens(root: Path, rows: int) -> None:
    """165 ratings a user, 3,706 films."""
    folder, draw = movielens.write_folder(root, []), np.random.default_rng(0)
    users = rows // 165
    pl.DataFrame({
        "user": 1 + draw.integers(users, size=rows),
        "film": 1 + draw.integers(3706, size=rows),
        "stars": 1 + draw.integers(5, size=rows),
        "time": movielens.START + draw.integers(10**8, size=rows),
    }).select(pl.concat_str("user", "film", "stars", "time", separator="::")).write_csv(
        folder / "ratings.dat", include_header=False
    )  # fmt: skip
    lines = [f"{user}::{'MF'[user % 2]}::25::{user % 21}::{user:05d}\n" for user in range(1, users + 1)]
    (folder / "users.dat").write_text("".join(lines), encoding="latin-1")
    films = [f"{film}::Film {film} ({1950 + film % 50})::Drama|Action\n" for film in range(1, 3707)]
    (folder / "movies.dat").write_text("".join(films), encoding="latin-1")


def make_vk_lsvd(root: Path, rows: int) -> list[str]:
    """Eight weeks of training, and both later ones; 500 rows a user, as many videos as users."""
    vk_lsvd.write_folder(root, rows // 10, weeks=8, users=rows // 500, items=rows // 500)
    return ["--option", "weeks=8"]


def make_yambda(root: Path, rows: int) -> None:
    """Thirty days; 500 rows a user, as many tracks as users."""
    number = rows // 500
    yambda.write_folder(root, yambda.made_up_listens(rows, number, number, days=30), number)


def make_shortvideo(root: Path, rows: int) -> list[str]:
    return ["--option", f"rows={rows}"]


LAYS_OUT: dict[str, Callable[[Path, int], list[str] | None]] = {
    "shortvideo": make_shortvideo,
    "kuairand-pure": partial(make_kuairand, "kuairand-pure"),
    "kuairand-1k": partial(make_kuairand, "kuairand-1k"),
    "kuairand-27k": partial(make_kuairand, "kuairand-27k"),
    "movielens-1m": make_movielens,
    "vk-lsvd": make_vk_lsvd,
    "yambda-50m": make_yambda,
    **{name: partial(make_published, name) for name in LAYOUTS},
}

if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
