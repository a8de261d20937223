"""What a report of many runs takes: CPU seconds and memory.

    python docs/report_speed.py make FOLDER [--runs 1000] [--rows 430000]
    python docs/report_speed.py report FOLDER

``make`` trains the six models of ``quick`` with one seed, on a simulated log of ``--rows`` rows of which a
tenth are tested, and copies their runs under further seeds, with scores that are a little off: FOLDER then
reads as a suite of ``--runs`` runs. ``report`` draws its report and says what that took.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from harness.records.folder import RunFolder  # noqa: E402
from harness.records.record import PREDICTIONS_FILE, Record, read_record  # noqa: E402
from harness.records.spec import RunSpec  # noqa: E402
from harness.records.suite import SUITE_FILE, read_suite  # noqa: E402

SCRIPT = ROOT / "run_bench.py"
OFF = 0.1  # standard deviation by which a copy's logits differ from the trained run's


def make(folder: Path, runs: int, rows: int) -> None:
    """Write a suite of ``runs`` runs into a new folder."""
    if folder.exists():
        raise SystemExit(f"{folder}: exists; name a new folder")
    suite = ["run", "quick", "--seeds", "1", "--no-speed", "--set", "references=false", "--out", str(folder)]
    data = f"datasets=[{{name: shortvideo, options: {{rows: {rows}, effects: mixed}}}}]"
    subprocess.run([sys.executable, str(SCRIPT), *suite, "--set", data], check=True)
    trained = [read_record(path.parent) for path in sorted(folder.glob("runs/*/record.json"))]
    seeds = -(-runs // len(trained))
    hashes = [copy_of(run, seed, folder) for seed in range(1, seeds) for run in trained]
    recorded = read_suite(folder).as_json()
    recorded |= {"seeds": seeds, "spec_hashes": [*recorded["spec_hashes"], *hashes]}
    (folder / SUITE_FILE).write_text(json.dumps(recorded), encoding="utf-8")


def copy_of(run: Record, seed: int, folder: Path) -> str:
    """The hash of a made-up run under another seed, which is then in the folder."""
    spec = RunSpec.model_validate(run.spec | {"seed": seed})
    copy = RunFolder(folder, spec.folder_name)
    copy.partial.mkdir()
    table = pq.read_table(run.folder / PREDICTIONS_FILE)
    generator = np.random.default_rng([seed, int(spec.hash, 16)])
    for place, name in enumerate(table.column_names):
        if name.startswith("score_"):
            scores = table[name].to_numpy()
            logits = np.log(scores / (1 - scores)) + OFF * generator.standard_normal(len(scores))
            table = table.set_column(place, name, pa.array((1 / (1 + np.exp(-logits))).astype(scores.dtype)))
    pq.write_table(table, copy.partial / PREDICTIONS_FILE, compression="zstd")
    changed = {"seed": seed, "spec": spec.as_json(), "spec_hash": spec.hash}
    copy.finish(Record.model_validate(run.as_json() | changed))
    return spec.hash


def report(folder: Path) -> None:
    """Draw the report in a process of its own, and say what it took."""
    with tempfile.TemporaryFile() as said:
        process = subprocess.run([sys.executable, str(SCRIPT), "report", str(folder)], stdout=said)
    if process.returncode:
        raise SystemExit(f"report: exit code {process.returncode}")
    took = resource.getrusage(resource.RUSAGE_CHILDREN)
    runs = len(list(folder.glob("runs/*/record.json")))
    cpu = took.ru_utime + took.ru_stime
    print(f"{runs:,} runs: {cpu:.0f} CPU s, {took.ru_maxrss * 1024 / 1e9:.2f} GB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    making = commands.add_parser("make")
    making.add_argument("folder", type=Path)
    making.add_argument("--runs", type=int, default=1000)
    making.add_argument("--rows", type=int, default=430_000)
    commands.add_parser("report").add_argument("folder", type=Path)
    given = parser.parse_args()
    if given.command == "make":
        make(given.folder, given.runs, given.rows)
    else:
        report(given.folder)


if __name__ == "__main__":
    main()
