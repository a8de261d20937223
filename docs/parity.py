"""Whether every architecture's export scores as its run: ``python docs/parity.py > docs/parity.md``.

Each architecture is trained for a moment on the example's own table, with target attention, and exported in
every format. A row that does not pass shows why, and the command then ends with exit code 1.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import shutil
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import bench  # noqa: E402
from examples.own_data.make_table import main as make_table  # noqa: E402
from files.errors import InputError, RefusedError  # noqa: E402

FORMATS = ("torch-export", "aoti", "onnx")
SUITE = """
name: parity
description: Every architecture for a moment, and those with experts.
datasets: [{schema}]
tokens: 8
target_attention: true
budget: {{flops_per_sample: 1.0e+5}}
references: false
base: null
training: {{batch_size: 256}}
architectures:
{rows}
"""
SPARSE = (
    "{architecture: rankmixer, variant: experts, config: "
    "{ffn_dim: 64, moe: {num_experts: 4, active_ratio: 0.5}}}",
    "{architecture: rankmixer, variant: top-k, config: "
    "{ffn_dim: 64, moe: {num_experts: 4, active_ratio: 0.5, routing: top_k, training: plain}}}",
    "{architecture: tokenmixer_large, variant: experts, budget: {flops_per_sample: 1.248e+5}, config: "
    "{ffn_dim: 16, moe: {num_experts: 4, active_ratio: 0.5}}}",
    "examples.own_data.own_architecture:MLPMixer",
)


def main() -> int:
    """Print the page; returns the exit code."""
    with tempfile.TemporaryDirectory() as place:
        with contextlib.redirect_stdout(sys.stderr):
            runs = trained(Path(place))
        print(TEXT.format(versions=", ".join(f"{name} {version(name)}" for name in PACKAGES)))
        print(f"| architecture | {' | '.join(FORMATS)} |\n|---|{'---|' * len(FORMATS)}")
        rows = [print_row(run, Path(place)) for run in runs]
    apart, name = max((row.auc_difference, row.name) for row in rows)
    print(f"\nLargest difference of an AUC, over formats and tasks: {apart:.1e} ({name}).")
    return 0 if all(row.passed for row in rows) else 1


def trained(place: Path) -> list[Path]:
    """The folders of a short run of each row, in their order."""
    from harness.model.architectures import ARCHITECTURES

    shutil.copy(ROOT / "examples" / "own_data" / "schema.yaml", place)
    make_table(place)
    rows = "\n".join(f"  - {row}" for row in (*ARCHITECTURES, *SPARSE))
    suite = place / "parity.yaml"
    suite.write_text(SUITE.format(schema=place / "schema.yaml", rows=rows), encoding="utf-8")
    bench.run(str(suite), out=place / "out", cache=place / "cache", device="cpu")
    return sorted((place / "out" / "runs").glob("*/"), key=lambda run: run.stat().st_mtime)


class Row(NamedTuple):
    """An architecture, the largest difference of an AUC over its formats, and whether all passed."""

    name: str
    auc_difference: float
    passed: bool


def print_row(run: Path, place: Path) -> Row:
    """Export the run in every format and print what the gate found."""
    cells, apart, passed = [], 0.0, True
    for name in FORMATS:
        try:
            parity = exported(run, name, place)
        except (InputError, RefusedError) as error:
            cells.append(f"refused: {error}")
            passed = False
            continue
        cells.append(f"{parity.score_difference:.1e}")
        apart = max(
            [apart, *(abs(auc["after"] - auc["before"]) for auc in parity.auc.values())]  # type: ignore[operator]
        )
    name = "-".join(run.name.split("-")[1:-2])
    print(f"| {name} | {' | '.join(cells)} |", flush=True)
    return Row(name, apart, passed)


def exported(run: Path, format: str, place: Path):
    """The parity of the run's export."""
    from harness.export.run import export_run

    with contextlib.redirect_stdout(sys.stderr):
        return export_run(run, format, dense_only=False, out=None, cache=place / "cache").parity


def version(package: str) -> str:
    return importlib.metadata.version(package)


PACKAGES = ("torch", "onnx", "onnxscript", "onnxruntime")
TEXT = """# Whether exports score as their runs

`python docs/parity.py > docs/parity.md` (15 CPU minutes, most of them for AOTInductor)

Every architecture, three with experts and the example's own (`MLPMixer`), trained for a moment at 0.1
MFLOP a sample on the example's own table (lists pooled by target attention and by mean), exported whole and
run by a process that cannot import this project: the largest difference of a probability to the run's
`predictions.parquet`, over both tasks and all test rows.
[What is refused](exporting.md).

{versions}; CPU, fp32.
"""

if __name__ == "__main__":
    sys.exit(main())
