"""What starting runs costs with each executor: a suite of three short runs a seed, carried out by each.

python docs/executors.py [SEEDS [FOLDER]]
"""

from __future__ import annotations

import contextlib
import ctypes
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

SCRIPT = Path(__file__).resolve().parents[1] / "run_bench.py"
SUITE = ["run", "quick", "--no-speed", "--set", "references=false"]
SUITE += ["--set", "architectures=[dlrm_mlp, deepfm, dcn]"]
SUITE += ["--set", "datasets=[{name: shortvideo, options: {rows: 2000, effects: mixed}}]"]
EXECUTORS = {
    "one after another": [],
    "--jobs 2": ["--jobs", "2"],
    "--executor ray --ray-address local": ["--executor", "ray", "--ray-address", "local"],
}
LOOK_SECONDS = 0.1
PR_SET_CHILD_SUBREAPER = 36  # as Linux's prctl.h has it


def main(seeds: str, folder: Path) -> None:
    """Print a row of the table for each executor. The data are prepared before."""
    suite = [*SUITE, "--seeds", seeds]
    subprocess.run([sys.executable, SCRIPT, *suite, "--plan", "plan.jsonl"], cwd=folder, check=True)
    print("| executor | CPU seconds | seconds |\n|---|---|---|")
    for name, options in EXECUTORS.items():
        command = [sys.executable, str(SCRIPT), *suite, *options, "--out", f"out/{len(options)}"]
        computed, took = cost_of(command, folder)
        print(f"| {name} | {computed:.0f} | {took:.0f} |", flush=True)


def cost_of(command: list[str], folder: Path) -> tuple[float, float]:
    """CPU seconds of a command and of all processes that it starts, and how long it takes.

    Processes are looked at every LOOK_SECONDS, since Ray's do not wait for those that they start, which alone
    would add up their time.
    """
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)  # what loses its parent stays below this process
    computed: dict[psutil.Process, float] = {}
    began = time.monotonic()
    with (folder / "said.txt").open("w", encoding="utf-8") as said:
        process = subprocess.Popen(command, cwd=folder, stdout=said, stderr=said)
        while process.poll() is None:
            for below in psutil.Process().children(recursive=True):
                with contextlib.suppress(psutil.Error):  # it has just ended
                    computed[below] = sum(below.cpu_times()[:2])
            time.sleep(LOOK_SECONDS)
    took = time.monotonic() - began
    if process.returncode:
        raise SystemExit(f"{' '.join(command)}: exit code {process.returncode}, see {folder / 'said.txt'}")
    return sum(computed.values()), took


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        seeds, folder = [*sys.argv[1:], *["5", scratch][len(sys.argv) - 1 :]]
        main(seeds, Path(folder))
