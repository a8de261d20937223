"""The scores of the test split of many runs, small enough to be kept beside their records.

Runs on one test split repeat its users, tiers and labels; here they are kept once, and each run's scores in
columns named ``<folder of the run>/<score column>``, in the precision in which they were written. Scores
hardly compress: count four bytes a row, task and run.
"""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from files.checksums import sha256_of
from files.errors import InputError
from harness.records.record import PREDICTIONS_FILE

LARGEST = 1_000_000  # bytes a file, as for every file in git


def files(folder: Path) -> list[Path]:
    """The files of packed predictions in ``folder``, one for each test split."""
    return sorted(folder.glob("predictions-*.parquet"))


def pack(runs: list[Path]) -> dict[str, bytes]:
    """The predictions of the runs' folders: names and contents of files, one for each test split.

    Raises InputError where a file would be larger than `LARGEST`, or a run's would not come back as it is.
    """
    splits: dict[str, pa.Table] = {}
    for run in runs:
        path = run / PREDICTIONS_FILE
        if not path.is_file():
            continue
        table = pq.read_table(path)
        shared = table.select([name for name in table.column_names if not name.startswith("score_")])
        split = _digest(shared)
        kept = splits.get(split, shared)
        for name in table.column_names:
            if name.startswith("score_"):
                kept = kept.append_column(f"{run.name}/{name}", table[name])
        splits[split] = kept
        if _as_written(_of_run(kept, run.name)) != path.read_bytes():
            raise InputError(
                f"{path}: another version of pyarrow wrote it, so its bytes cannot be restored; "
                "pack without predictions"
            )
    contents = {f"predictions-{split}.parquet": _compressed(table) for split, table in splits.items()}
    for name, content in contents.items():
        if len(content) > LARGEST:
            raise InputError(
                f"{name}: would take {len(content):,} bytes, more than the {LARGEST:,} of a file in git; "
                "pack without predictions"
            )
    return contents


def unpack(folder: Path, records: dict[str, dict[str, Any]], runs: Path) -> None:
    """Write ``runs/<folder of the run>/predictions.parquet`` of every run that ``folder`` holds scores of.

    Raises InputError where a file is damaged, or the predictions are not those that their record names.
    """
    for path in files(folder):
        try:
            table = pq.read_table(path, page_checksum_verification=True, memory_map=False)
        except (OSError, pa.ArrowException) as error:
            reason = str(error).splitlines()[0]
            raise InputError(
                f"{path}: cannot be read ({reason}); restore it, or pack the runs again"
            ) from None
        named = dict.fromkeys(name.rpartition("/")[0] for name in table.column_names if "/" in name)
        for run in named:
            if run not in records:
                raise InputError(
                    f"{path}: holds predictions of {run}, which is not packed; pack the runs again"
                )
            target = runs / run / PREDICTIONS_FILE
            target.write_bytes(_as_written(_of_run(table, run)))
            expected = records[run].get("files", {}).get(PREDICTIONS_FILE)
            if expected is not None and sha256_of(target) != expected:
                raise InputError(
                    f"{path}: the predictions of {run} are not those that its record names; "
                    "restore it, or install the versions of requirements/base.txt"
                )


def _of_run(kept: pa.Table, run: str) -> pa.Table:
    """A run's predictions as they were: each label followed by its score."""
    columns = {}
    for name in (name for name in kept.column_names if "/" not in name):
        columns[name] = kept[name]
        task = name.removeprefix("label_")
        if task != name:
            columns[f"score_{task}"] = kept[f"{run}/score_{task}"]
    return pa.table(columns)


def _as_written(table: pa.Table) -> bytes:
    """The bytes that a run writes of its predictions (`harness.runs.run.write_predictions`)."""
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue()


def _compressed(table: pa.Table) -> bytes:
    """Floating-point columns split by byte, which compresses them best."""
    scores = [name for name in table.column_names if "/" in name]
    sink = io.BytesIO()
    pq.write_table(
        table,
        sink,
        compression="zstd",
        compression_level=19,
        use_dictionary=[name for name in table.column_names if name not in scores],
        use_byte_stream_split=scores,
        write_statistics=False,
        write_page_checksum=True,
    )
    return sink.getvalue()


def _digest(table: pa.Table) -> str:
    """Eight hex digits that tell one test split from another."""
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table.combine_chunks())
    return hashlib.sha256(sink.getvalue()).hexdigest()[:8]
