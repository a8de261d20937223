"""The finished runs of a folder in a few small files, as results are kept in git.

`pack` writes every record into one ``records.parquet`` and copies what belongs to them; `unpack` makes of
that a folder of runs again, with the same bytes in every ``record.json``. What is drawn from records (tables,
figures, pages) is not kept: ``run_bench.py report`` draws it from the unpacked folder.

    python -m harness.records.archive pack out/quick reports/measured/quick
    python -m harness.records.archive unpack reports/measured/quick out/kept-quick

One row of ``records.parquet`` is one run: the name of its folder, the columns `INDEX` as in its record, and
``record``, the text of its ``record.json``.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import typer

from files.checksums import is_altered
from files.errors import InputError
from files.plain_text import say
from files.writing import check_writable, replacing, write_atomically
from harness.records import kept_predictions
from harness.records.record import RECORD_FILE, read_record
from harness.records.serving import SERVING_FILE

ARCHIVE_FILE = "records.parquet"
SUITE_FILE = "suite.json"
_COMPARISONS = (
    "comparisons.csv",
    "variants.csv",
    "contrasts.csv",
    "pairs.csv",
    "tiers.csv",
    "tier_metrics.csv",
    "agreement.csv",
    "oracle_gap.csv",
    "loss_fits.csv",
)
KEPT_FILES = (SUITE_FILE, SERVING_FILE, *_COMPARISONS)
INDEX = ("suite", "dataset", "architecture", "variant", "seed", "status", "spec_hash")
SCHEMA = pa.schema(
    [
        ("folder", pa.string()),
        *((name, pa.int64() if name == "seed" else pa.string()) for name in INDEX),
        ("record", pa.string()),
    ]
)


class PackedRun(NamedTuple):
    """A run of an archive: its folder's name, its record, and the text of its ``record.json``."""

    folder: str
    record: dict[str, Any]
    text: str


# ------------------------------------------------------------------------------------------------- packing


def pack(out: Path, folder: Path, predictions: bool = False) -> Path:
    """Write the finished runs of ``out``, its suite and comparisons into ``folder``. The archive's path.

    The same runs give the same bytes. Runs that have not ended are passed over; other files that ``folder``
    holds, such as kept figures, stay.

    Args
        predictions: keep the scores of the test split too, from which comparisons can be made anew.

    Raises
        InputError: there is no finished run or no ``suite.json``, a record is damaged, or the predictions
            are too large to be kept (`kept_predictions.LARGEST`). Then nothing is written.
    """
    runs = sorted(path.parent for path in (out / "runs").glob(f"*/{RECORD_FILE}"))
    runs = [run for run in runs if not run.name.endswith(".partial")]
    if not runs:
        raise InputError(f"{out / 'runs'}: holds no finished run; name a folder that a suite was run into")
    if not (out / SUITE_FILE).is_file():
        raise InputError(f"{out / SUITE_FILE}: is missing; run the suite again into this folder with --out")
    table = pa.Table.from_pylist([_row(run) for run in runs], schema=SCHEMA)
    scores = kept_predictions.pack(runs) if predictions else {}
    for name, content in scores.items():
        write_atomically(folder / name, content)
    for stale in kept_predictions.files(folder):
        if stale.name not in scores:
            stale.unlink()
    for name in KEPT_FILES:
        if (out / name).is_file():
            write_atomically(folder / name, (out / name).read_bytes())
        else:
            (folder / name).unlink(missing_ok=True)
    path = folder / ARCHIVE_FILE
    with replacing(path) as temporary:
        # Records are long and much alike: one page of plain text compresses best.
        pq.write_table(
            table,
            temporary,
            compression="zstd",
            compression_level=19,
            use_dictionary=False,
            data_page_size=2**26,
            write_statistics=False,
            write_page_checksum=True,
        )
    return path


def _row(run: Path) -> dict[str, Any]:
    """A run's row in the archive; InputError naming its record where that is damaged."""
    read_record(run)
    text = (run / RECORD_FILE).read_bytes().decode("utf-8")
    record = json.loads(text)
    return {"folder": run.name} | {name: record[name] for name in INDEX} | {"record": text}


# ----------------------------------------------------------------------------------------------- unpacking


def packed_runs(folder: Path) -> list[PackedRun]:
    """The runs that ``folder`` holds packed, by their folders' names.

    Raises InputError naming the archive where it is absent, damaged, or not one that `pack` wrote.
    """
    path = folder / ARCHIVE_FILE
    mend = "restore it, or pack the runs again"
    if not path.is_file():
        raise InputError(f"{path}: is missing; name a folder that runs were packed into")
    try:
        table = pq.read_table(path, page_checksum_verification=True, memory_map=False)
    except (OSError, pa.ArrowException) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{path}: cannot be read as an archive of runs ({reason}); {mend}") from None
    if table.schema.remove_metadata() != SCHEMA or not len(table):
        raise InputError(f"{path}: is no archive of runs (its columns or rows are others); {mend}")
    rows = table.to_pylist()
    if problem := next(filter(None, map(_problem, rows)), None) or _repeated(rows):
        raise InputError(f"{path}: is damaged ({problem}); {mend}")
    return [PackedRun(row["folder"], json.loads(row["record"]), row["record"]) for row in rows]


def _problem(row: dict[str, Any]) -> str | None:
    """What is wrong with a row of an archive, if anything is."""
    folder = row["folder"]
    if not re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*", folder or ""):
        return f"{folder!r} is no name of a run's folder"
    try:
        record = json.loads(row["record"])
    except (TypeError, ValueError, RecursionError):
        return f"the record of {folder} is no JSON"
    if not isinstance(record, dict) or any(record.get(name) != row[name] for name in INDEX):
        return f"the record of {folder} is not the one that its row describes"
    return f"the record of {folder} was changed since it was written" if is_altered(record) else None


def _repeated(rows: list[dict[str, Any]]) -> str | None:
    names = [row["folder"] for row in rows]
    return None if len(set(names)) == len(names) else "two of its runs have one name"


def unpack(folder: Path, out: Path) -> Path:
    """Make the folder of runs ``out`` from the archive in ``folder``, whole or not at all. Its path.

    ``out/runs/<run>/record.json`` has the bytes that were packed; the suite, its comparisons and predictions
    lie where the run wrote them.

    Raises
        InputError: the archive is absent or damaged, or ``out`` holds something already.
    """
    runs = packed_runs(folder)
    if not (folder / SUITE_FILE).is_file():
        raise InputError(f"{folder / SUITE_FILE}: is missing; restore it, or pack the runs again")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out}: is not empty; name a new folder to unpack into")
    check_writable(out.parent, "name another folder to unpack into")
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-", suffix=".unpacking") as place:
        whole = Path(place) / out.name
        for run in runs:
            (whole / "runs" / run.folder).mkdir(parents=True)
            (whole / "runs" / run.folder / RECORD_FILE).write_bytes(run.text.encode("utf-8"))
        for name in KEPT_FILES:
            if (folder / name).is_file():
                shutil.copyfile(folder / name, whole / name)
        kept_predictions.unpack(folder, {run.folder: run.record for run in runs}, whole / "runs")
        os.replace(whole, out)
    return out


# ------------------------------------------------------------------------------------------ command line

app = typer.Typer(add_completion=False, help="Keep a suite's finished runs in a few small files, and back.")


@app.command(name="pack")
def _pack(
    out: Annotated[Path, typer.Argument(help="The folder that a suite was run into.")],
    folder: Annotated[Path, typer.Argument(help="Where to keep it.")],
    predictions: Annotated[
        bool, typer.Option("--predictions", help="Keep the scores of the test split too, if they are small.")
    ] = False,
) -> None:
    """Write the finished runs of OUT, its suite and comparisons into FOLDER."""
    path = pack(out, folder, predictions)
    say(f"{path}: {len(packed_runs(folder))} runs, {path.stat().st_size:,} bytes")


@app.command(name="unpack")
def _unpack(
    folder: Annotated[Path, typer.Argument(help="A folder that runs were packed into.")],
    out: Annotated[Path, typer.Argument(help="A new folder for the runs.")],
) -> None:
    """Make the folder of runs OUT; run_bench.py report --out OUT draws it."""
    say(f"unpacked into {unpack(folder, out)}")


def main() -> None:
    """The command line; bad input is one sentence and exit code 2."""
    try:
        app()
    except InputError as error:
        say(f"error: {error}", error=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
