"""What starting runs costs with each executor: a suite of 15 short runs, carried out three times.

python docs/executors.py [FOLDER]
"""

from __future__ import annotations

import ctypes
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[1] / "run_bench.py"
SUITE = ["run", "quick", "--seeds", "5", "--no-speed", "--set", "references=false"]
SUITE += ["--set", "architectures=[dlrm_mlp, deepfm, dcn]"]
SUITE += ["--set", "datasets=[{name: shortvideo, options: {rows: 2000, effects: mixed}}]"]
EXECUTORS = {
    "one after another": [],
    "--jobs 2": ["--jobs", "2"],
    "--executor ray --ray-address local": ["--executor", "ray", "--ray-address", "local"],
}
PR_SET_CHILD_SUBREAPER = 36  # as Linux's prctl.h has it


def main(folder: Path) -> None:
    """Print a row of the table for each executor. The data are prepared before."""
    subprocess.run([sys.executable, SCRIPT, *SUITE, "--plan", "plan.jsonl"], cwd=folder, check=True)
    print("| executor | CPU seconds | seconds |\n|---|---|---|")
    for name, options in EXECUTORS.items():
        command = [sys.executable, str(SCRIPT), *SUITE, *options, "--out", f"out/{len(options)}"]
        computed, took = cost_of(command, folder)
        print(f"| {name} | {computed:.0f} | {took:.0f} |", flush=True)


def cost_of(command: list[str], folder: Path) -> tuple[float, float]:
    """CPU seconds of a command and all processes that it started, and how long it took itself."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)  # what it leaves behind is waited for here
    began, before = time.monotonic(), _cpu_seconds()
    with (folder / "said.txt").open("w", encoding="utf-8") as said:
        subprocess.run(command, cwd=folder, check=True, stdout=said, stderr=said)
    took = time.monotonic() - began
    while True:
        try:
            os.wait()
        except ChildProcessError:
            return _cpu_seconds() - before, took


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        main(Path(sys.argv[1] if len(sys.argv) > 1 else scratch))
