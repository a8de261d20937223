"""Judge kept results anew from their records: ``python docs/recompare.py``. Prints the verdicts that change.

``reports/measured`` keeps records and comparisons, but no scores of the test rows, which take 4 bytes a row,
task and run. So what other test users would do is taken from the kept comparisons, as a normal distribution
with the standard deviation of their interval over users; all else is computed from the records, as
``harness/evaluation/differences.py`` does. Of a declared contrast the users' part is not kept: it is taken to
be the sum of both rows' standard deviations, which is never too small. Folders of several worlds are left as
they are: whether these have the same test rows, records do not say.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.special import ndtri

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from harness.evaluation.comparisons import (  # noqa: E402
    COLUMNS,
    CONTRAST_COLUMNS,
    ComparableRuns,
    comparable_runs,
    write_csv_if_any,
)
from harness.evaluation.differences import MeasuredWorld, Pair, differences  # noqa: E402
from harness.evaluation.statistics.bootstrap import METRICS, UserBootstrap  # noqa: E402
from harness.evaluation.tiers import DIFFERENCE_COLUMNS  # noqa: E402
from harness.records.archive import unpack  # noqa: E402
from harness.records.contestant import Contestant  # noqa: E402
from harness.records.record import Record  # noqa: E402
from harness.records.store import read_runs  # noqa: E402
from suites.suite import load_suite, shipped_suites  # noqa: E402

KEPT = ROOT / "reports/measured"
DRAWS = ndtri((np.arange(1000) + 0.5) / 1000)  # of a standard normal distribution
Z = 1.959964
FILES = {
    "comparisons": COLUMNS,
    "variants": COLUMNS,
    "contrasts": CONTRAST_COLUMNS,
    "tiers": DIFFERENCE_COLUMNS,
}
CELL = ["dataset", "task", "metric", "architecture", "variant"]


class Known(NamedTuple):
    """What is kept of one task: a run's metrics, and the interval over users of each row's difference."""

    values: Callable[[Record, str], float]
    rows: pd.DataFrame

    def users_sd(self, who: Contestant, metric: str) -> float:
        row = self.row(who, metric)
        return 0.0 if row is None else (row["users_high"] - row["users_low"]) / 2 / Z

    def row(self, who: Contestant, metric: str) -> pd.Series | None:
        rows = self.rows
        is_cell = (rows["metric"] == metric) & (rows["architecture"] == who.architecture)
        found = rows[is_cell & (rows["variant"] == who.variant)]
        return None if found.empty else found.iloc[0]


def main() -> None:
    """Judge every kept folder of records."""
    for folder in sorted(path.parent for path in KEPT.glob("*/records.parquet")):
        judge(folder)


def judge(folder: Path) -> None:
    """Write the folder's comparisons anew."""
    before = {name: read(folder / f"{name}.csv") for name in FILES}
    found: dict[str, list[dict]] = {name: [] for name in FILES}
    with TemporaryDirectory() as scratch:
        stored = read_runs(unpack(folder, Path(scratch) / "out"))
        if len({run.world for run in stored.records}) > 1:
            print(f"{folder.name}: left as it is, since it has several worlds")
            return
        for runs in comparable_runs(stored):
            for task in dict.fromkeys(task for run in runs.runs for task in run.metrics):
                kept = {name: select(frame, runs, task) for name, frame in before.items()}
                known = Known(lambda run, metric, task=task: value(run, task, metric), kept["comparisons"])
                found["comparisons"] += rows_of(runs, task, runs.to_base, known)
                found["contrasts"] += rows_of(runs, task, declared(runs), known)
                found["variants"] += rows_of(runs, task, runs.to_plain, known._replace(rows=kept["variants"]))
                found["tiers"] += tier_rows(runs, task, kept["tiers"], folder / "tier_metrics.csv")
    for name, rows in found.items():
        write_csv_if_any(folder / f"{name}.csv", rows, FILES[name])
        tell_changes(f"{folder.name}/{name}", before[name], pd.DataFrame(rows, columns=FILES[name]))


def rows_of(runs: ComparableRuns, task: str, pairs: list[Pair], known: Known) -> list[dict]:
    """The differences of ``pairs``, with the kept intervals over users where there is one."""
    models = runs.runs
    firsts = {who for who, _ in pairs}
    if chained := firsts & {other for _, other in pairs}:  # the two parts of such a pair would cancel
        raise ValueError(f"{', '.join(who.label for who in chained)}: first in one pair, second in another")
    points = {metric: np.array([known.values(run, metric) for run in models]) for metric in METRICS}
    draws = {}
    for metric in METRICS:
        sds = [known.users_sd(run.contestant, metric) for run in models]
        signs = [1 if run.contestant in firsts else -1 for run in models]
        draws[metric] = points[metric] + np.outer(DRAWS, np.multiply(sds, signs))
    counts = known.rows.groupby("metric")["users"].max()
    users = {metric: int(counts.get(metric, 0)) for metric in METRICS}
    measured = MeasuredWorld(None, models, UserBootstrap(points, draws, users))
    rows = [runs.shared_cells(task) | row for row in differences([measured], pairs, runs.failed)]
    for row in rows:
        kept = known.row(Contestant(row["architecture"], row["variant"]), row["metric"])
        if kept is not None and kept["base"] == row["base"] and not row["base_variant"]:
            row |= {name: kept[name] for name in ("users_low", "users_high")}
    return rows


def tier_rows(runs: ComparableRuns, task: str, kept: pd.DataFrame, metrics: Path) -> list[dict]:
    """The lifts within each tier, and between two of them."""
    if kept.empty:
        return []
    by_tier = read(metrics).set_index(["dataset", "task", "tier", "architecture", "variant", "seed"])

    def tier_metric(run: Record, metric: str, tier: str) -> float:
        if metric == "gauc":
            return np.nan  # not kept by tier
        key = (runs.dataset, task, tier, run.architecture, run.contestant.variant, run.seed)
        return float(by_tier.loc[key, metric])

    rows = []
    for tier in dict.fromkeys(kept["tier"]):
        one, _, other = tier.partition(" - ")

        def gap(run: Record, metric: str, one: str = one, other: str = other) -> float:
            return tier_metric(run, metric, one) - (tier_metric(run, metric, other) if other else 0.0)

        known = Known(gap, kept[kept["tier"] == tier])
        rows += [{"tier": tier} | row for row in rows_of(runs, task, runs.to_base, known)]
    return rows


def declared(runs: ComparableRuns) -> list[Pair]:
    """The contrasts that the suite declares today, of rows that ran."""
    if runs.suite not in shipped_suites():
        return []
    ran = set(runs.contestants)
    return [pair for pair in load_suite(runs.suite, []).contrasted if set(pair) <= ran]


def value(run: Record, task: str, metric: str) -> float:
    found = getattr(run.metrics[task], metric) if task in run.metrics else None
    return np.nan if found is None else found


def read(path: Path) -> pd.DataFrame:
    if not path.is_file():
        return pd.DataFrame(columns=[*DIFFERENCE_COLUMNS, "base_variant"])
    return pd.read_csv(path, dtype={"variant": str, "base_variant": str}).fillna(
        {"variant": "", "base_variant": ""}
    )


def select(frame: pd.DataFrame, runs: ComparableRuns, task: str) -> pd.DataFrame:
    return frame[(frame["dataset"] == runs.dataset) & (frame["task"] == task)]


def tell_changes(name: str, before: pd.DataFrame, after: pd.DataFrame) -> None:
    """Print the cells that were resolved and are not, and those that are and were not."""
    if before.empty:
        return
    cell = [*CELL, "tier"] if "tier" in after else CELL
    both = before.merge(after, on=cell, suffixes=("", "_now"))
    for row in both.to_dict("records"):
        was, now = row["resolved"] == "yes", row["resolved_now"] == "yes"
        if was != now:
            where = " ".join(str(row[part]) for part in cell if row[part])
            print(f"{name}: {where}: {100 * row['diff']:+.2f} {row['resolved']} -> {row['resolved_now']}")


if __name__ == "__main__":
    main()
