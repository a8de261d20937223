r"""Which differences to the base are real: ``OUT/comparisons.csv`` from the runs' predictions.

One row a dataset, task, metric and architecture (or variant, or reference row). ``diff`` is the mean over the
seeds that both the row's runs and the base's finished; failed runs show in ``seeds`` alone. A difference has
two sources of chance, and an interval that names one of them promises too much:

- **Users** (``users_low``, ``users_high``): other test users might have come. Paired bootstrap over users,
  seeds averaged (``harness/evaluation/bootstrap.py``). Empty with fewer than ``MIN_USERS`` users.
- **Seeds** (``seeds_low``, ``seeds_high``): other seeds might have been drawn. With metric
  :math:`y_{as}` of architecture a and seed s, in a randomised block design
  :math:`y_{as} = \mu_a + \beta_s + \varepsilon_{as}`: what a seed does to all architectures alike (it orders
  the rows and fills the tables alike) is the block :math:`\beta_s`, and **the rest is assumed to vary equally
  in every architecture**. Then :math:`sd^2 = 2 \sum \hat\varepsilon^2 / df` is the variance of a paired
  difference, pooled over all pairs of the dataset's architectures, and the half-width is
  :math:`t_{df} \, sd / \sqrt n`, with :math:`df = K (n - 1)` for K compared architectures of n seeds each.
  For K = 1 this is the paired t interval. Pooling the differences to the base alone would count the base's
  own seeds K times over, and its degrees of freedom would be too many.
  With one seed this part is unknown, and nothing is claimed.

``low`` and ``high`` are the middle 95% where users and seeds are drawn together
(``harness/evaluation/joint.py``). ``resolved`` is "yes" if that interval leaves out zero, "no" if it holds
zero, "one seed" or "few users" where a part is unknown. The intervals are not widened for the number of
comparisons: of twenty rows without a difference, one is expected to be "resolved". ``p_value`` is twice the
share of the joint draws on the smaller side of zero, ``p_holm`` the same after Holm's correction over the
models of the dataset, task and metric, ``effect_size`` the difference in standard deviations of one run over
seeds (``harness/evaluation/significance.py``).

Reference rows are no contestants and know no seeds (``seeds`` is 1): each is held against every seed of the
base, the seed part is the base's own (its paired t interval), and they are not pooled with the architectures.
They have a p-value, but are in no family, and have no effect size.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from scipy import stats

from files.errors import InputError
from files.plain_text import csv_text
from harness.evaluation.bootstrap import METRICS, REPLICATES, UserBootstrap, bootstrap_users
from harness.evaluation.joint import JointDraws
from harness.evaluation.metrics import NonFiniteScores
from harness.evaluation.significance import effect_size, holm
from harness.records.runs import (
    PREDICTIONS_FILE,
    RECORD_FILE,
    check_predictions,
    read_record,
    write_atomically,
)

INTERVAL_COLUMNS = [
    *("suite", "dataset", "task", "metric", "architecture", "variant", "base", "seeds", "users"),
    *("mean", "base_mean", "diff", "users_low", "users_high", "seeds_low", "seeds_high"),
    *("low", "high", "resolved"),
]
TEST_COLUMNS = ["p_value", "p_holm", "effect_size"]
COLUMNS = [*INTERVAL_COLUMNS, *TEST_COLUMNS]
LEVEL = 0.95


class Contestant(NamedTuple):
    """A row of a table: an architecture or reference, and its variant."""

    architecture: str
    variant: str


@dataclass(frozen=True)
class Run:
    """A finished run: whose it is, and where its predictions are."""

    contestant: Contestant
    dataset: str
    seed: int
    is_reference: bool
    predictions: Path


def write_comparisons(out: Path) -> Path:
    """Compare the runs under ``out`` and write ``out/comparisons.csv``, whole or not at all. Its path.

    Beside it ``variants.csv``, where other architectures than the base have variants: each variant's
    difference to the plain row of its own architecture.
    """
    measured = list(_measured_tasks(out, REPLICATES))
    path = out / "comparisons.csv"
    write_atomically(path, csv_text(_to_base(measured)).encode())
    variants = _to_plain_rows(measured)
    if len(variants):
        write_atomically(out / "variants.csv", csv_text(variants).encode())
    else:
        (out / "variants.csv").unlink(missing_ok=True)
    return path


def compare(out: Path, replicates: int = REPLICATES) -> pd.DataFrame:
    """Every finished run's difference to the base, with intervals: the columns of ``comparisons.csv``.

    Args
        out: a suite's output folder: ``suite.json``, ``runs/*/record.json``, ``runs/*/predictions.parquet``.
        replicates: bootstrap draws of users a dataset and task.

    Raises
        InputError: a file is missing, damaged or does not fit the others.
    """
    return _to_base(_measured_tasks(out, replicates))


def compare_variants(out: Path, replicates: int = REPLICATES) -> pd.DataFrame:
    """Every variant's difference to the plain row of its own architecture: the columns of `compare`.

    Empty where only the base has variants, which `compare` holds. Raises InputError as `compare` does.
    """
    return _to_plain_rows(_measured_tasks(out, replicates))


def _to_base(measured: Iterable[MeasuredTask]) -> pd.DataFrame:
    rows = [
        of.runs.named(of.task) | row
        for of in measured
        for row in differences(of.runs.runs, of.measured, of.runs.base)
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def _to_plain_rows(measured: Iterable[MeasuredTask]) -> pd.DataFrame:
    rows = [
        of.runs.named(of.task) | row | {"base": plain.architecture}
        for of in measured
        for plain in of.runs.plain_rows_with_variants()
        for row in differences(of.runs.runs, of.measured, plain)
        if row["architecture"] == plain.architecture
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


class MeasuredTask(NamedTuple):
    """The runs of one dataset, and one task's metrics of them on draws of users."""

    runs: ComparableRuns
    task: str
    measured: UserBootstrap


def _measured_tasks(out: Path, replicates: int) -> Iterator[MeasuredTask]:
    for runs in comparable_runs(out, read_suite(out)):
        for task in tasks(runs.runs):
            predicted = read_predictions(runs.runs, task)
            yield MeasuredTask(runs, task, measure(runs.runs, task, replicates, predicted))


@dataclass(frozen=True)
class ComparableRuns:
    """The finished runs of a suite on one dataset, its base's among them."""

    suite: str
    dataset: str
    base: Contestant
    runs: list[Run]

    def plain_rows_with_variants(self) -> list[Contestant]:
        """The plain rows of architectures that have variants too; none where that is the base alone."""
        rows = dict.fromkeys(run.contestant for run in self.runs)
        varied = {row.architecture for row in rows if row.variant}
        plain = [row for row in rows if not row.variant and row.architecture in varied]
        return [] if plain == [self.base] else plain

    def named(self, task: str) -> dict[str, str]:
        """The cells that all their rows of one task share."""
        return {
            "suite": self.suite,
            "dataset": self.dataset,
            "task": task,
            "base": self.base.architecture,
        }


def read_suite(out: Path) -> dict:
    """``out/suite.json``; InputError if it is not there, damaged, or lacks what comparisons need of it."""
    path, mend = out / "suite.json", "run the suite again into this folder with --out"
    suite = _read_json(path, mend)
    for field, kind in (("name", str), ("base", str), ("architectures", list), ("datasets", list)):
        if not isinstance(suite, dict) or field not in suite:
            raise InputError(f"{path} is no suite description ({field} is missing): {mend}")
        if not isinstance(suite[field], kind):
            raise InputError(f"{path} is no suite description ({field} is no {kind.__name__}): {mend}")
    if not all(
        isinstance(row, dict) and isinstance(row.get("architecture"), str) for row in suite["architectures"]
    ):
        raise InputError(f"{path} is no suite description (a row of architectures has no name): {mend}")
    return suite


def comparable_runs(out: Path, suite: dict) -> Iterator[ComparableRuns]:
    """The finished runs under ``out`` by dataset, in the order of ``suite``; no dataset without the base."""
    order = [Contestant(row["architecture"], row.get("variant") or "") for row in suite["architectures"]]
    base = Contestant(suite["base"], "")
    runs = _finished_runs(out, suite, order)
    for dataset in _in_order({run.dataset for run in runs}, suite["datasets"]):
        of_dataset = [run for run in runs if run.dataset == dataset]
        if any(run.contestant == base for run in of_dataset):
            yield ComparableRuns(suite["name"], dataset, base, of_dataset)


# ------------------------------------------------------------------------------------------ intervals


def differences(runs: list[Run], measured: UserBootstrap, base: Contestant) -> Iterator[dict]:
    """For each metric that the rows define, every contestant's difference to the base with its intervals.

    Args
        measured: the bootstrap of ``runs``, in their order.
    """
    contestants = [who for who in dict.fromkeys(run.contestant for run in runs) if who != base]
    for metric in METRICS:
        if np.isnan(measured.point[metric]).any():
            continue  # the test rows do not define it
        pooled = pooled_seed_spread(runs, measured.point[metric])
        named = {who: pairs for who in contestants if (pairs := _pairs(runs, who, base))}
        rows = [_compared(runs, measured, metric, pairs, pooled) for pairs in named.values()]
        in_family = [not runs[pairs[0][0]].is_reference for pairs in named.values()]
        family = [row["p_value"] if is_in else math.nan for row, is_in in zip(rows, in_family, strict=True)]
        for who, row, p_holm in zip(named, rows, holm(np.array(family)), strict=True):
            yield {
                "metric": metric,
                "architecture": who.architecture,
                "variant": who.variant,
                **row,
                "p_holm": float(p_holm),
            }


def _pairs(runs: list[Run], who: Contestant, base: Contestant) -> list[tuple[int, int]]:
    """Numbers of the runs (of ``who``, of the base) that share a seed; a reference shares every seed."""
    return [
        (i, j)
        for j, base_run in enumerate(runs)
        if base_run.contestant == base
        for i, run in enumerate(runs)
        if run.contestant == who and (run.is_reference or run.seed == base_run.seed)
    ]


@dataclass(frozen=True)
class SeedSpread:
    """Standard deviation of a paired difference between two runs of one seed, and what it rests on."""

    sd: float
    df: int

    def of_mean(self, seeds: int) -> float:
        """Of the mean difference over ``seeds``; NaN with one seed, or without a degree of freedom."""
        return self.sd / math.sqrt(seeds) if seeds > 1 and self.df > 0 else math.nan

    def half_width(self, seeds: int) -> float:
        """Half the t interval of the mean difference; NaN where its standard deviation is."""
        return float(stats.t.ppf((1 + LEVEL) / 2, max(self.df, 1))) * self.of_mean(seeds)


def pooled_seed_spread(runs: list[Run], values: NDArray[np.float64]) -> SeedSpread:
    """From the residuals of architecture + seed over all models' runs, of which some may be missing.

    Args
        values: (M,) the metric of every run.
    """
    models = [i for i, run in enumerate(runs) if not run.is_reference]
    design = np.concatenate(
        [_one_hot([runs[i].contestant for i in models]), _one_hot([runs[i].seed for i in models])], axis=1
    )
    y = values[models]
    effects, _, rank, _ = np.linalg.lstsq(design, y, rcond=None)
    df = len(y) - int(rank)
    return SeedSpread(math.sqrt(2 * float(np.sum((y - design @ effects) ** 2)) / df) if df else math.nan, df)


def _one_hot(values: list) -> NDArray[np.float64]:
    """(N, distinct values)"""
    levels = list(dict.fromkeys(values))
    return np.eye(len(levels))[[levels.index(value) for value in values]]


def _compared(
    runs: list[Run], measured: UserBootstrap, metric: str, pairs: list[tuple[int, int]], pooled: SeedSpread
) -> dict:
    point = measured.point[metric]
    ours, bases = [i for i, _ in pairs], [j for _, j in pairs]
    is_reference = runs[ours[0]].is_reference
    if is_reference:
        own_sd = float(np.std(point[ours] - point[bases], ddof=1)) if len(pairs) > 1 else math.nan
        pooled = SeedSpread(own_sd, len(pairs) - 1)
    diff = measured.difference(metric, ours, bases)
    users_low, users_high = measured.interval(metric, ours, bases, LEVEL)
    half = pooled.half_width(len(pairs))
    joint = JointDraws(measured.drawn_differences(metric, ours, bases), pooled.of_mean(len(pairs)), pooled.df)
    low, high = joint.interval(LEVEL)
    return {
        "seeds": 1 if is_reference else len(pairs),
        "users": measured.users[metric],
        "mean": float(point[ours].mean()),
        "base_mean": float(point[bases].mean()),
        "diff": diff,
        "users_low": users_low,
        "users_high": users_high,
        "seeds_low": diff - half,
        "seeds_high": diff + half,
        "low": low,
        "high": high,
        "resolved": _resolved(users_low, half, low, high),
        "p_value": joint.p_value(),
        "effect_size": math.nan if is_reference else effect_size(diff, pooled.sd),
    }


def _resolved(users_low: float, seed_half_width: float, low: float, high: float) -> str:
    if math.isnan(seed_half_width):
        return "one seed"
    if math.isnan(users_low):
        return "few users"
    return "yes" if low > 0 or high < 0 else "no"


# ----------------------------------------------------------------------------------------------- files


def _read_json(path: Path, mend: str) -> dict:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path} is not there: {mend}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} cannot be read ({error}): {mend}") from None


def _finished_runs(out: Path, suite: dict, order: list[Contestant]) -> list[Run]:
    """Finished runs of ``suite``: the contestants in its order, then the reference rows; seeds ascending.

    Where a contestant was run under several settings, those that the suite last asked for count, and
    without such, those of the run that began last. Every finished seed of these settings counts. Once a model
    has run as the suite last asked, one of the dataset that has not yet is left out: what it was before may
    have been trained in another way. Raises InputError where a record or the predictions of one that counts
    were damaged or altered.
    """
    asked_for = set(suite.get("spec_hashes", []))
    records = []
    for path in sorted((out / "runs").glob(f"*/{RECORD_FILE}")):
        if not path.parent.name.endswith(".partial"):
            record = read_record(path.parent)
            if record["suite"] == suite["name"]:
                age = (record["spec_hash"] in asked_for, record["started_at"])
                records.append((age, _run(record, path.parent), record))
    records.sort(key=lambda entry: entry[0])
    settings = {(run.dataset, run.contestant): _settings(record) for _, run, record in records}
    as_asked = {
        (run.dataset, run.contestant)
        for (is_asked_for, _), run, _ in records
        if is_asked_for and not run.is_reference
    }
    begun = {dataset for dataset, _ in as_asked}
    counted = [
        (run, record)
        for _, run, record in records
        if record["status"] == "finished"
        and settings[run.dataset, run.contestant] == _settings(record)
        and (run.is_reference or run.contestant in order)
        and (run.is_reference or run.dataset not in begun or (run.dataset, run.contestant) in as_asked)
    ]
    for run, record in counted:
        check_predictions(run.predictions.parent, record)
    place = {who: number for number, who in enumerate(order)}
    return sorted(
        (run for run, _ in counted),
        key=lambda run: (place.get(run.contestant, len(order)), run.contestant, run.seed),
    )


def _run(record: dict, folder: Path) -> Run:
    return Run(
        contestant=Contestant(record["architecture"], record["variant"] or ""),
        dataset=record["dataset"],
        seed=record["seed"],
        is_reference=record["kind"] == "reference",
        predictions=folder / PREDICTIONS_FILE,
    )


def _settings(record: dict) -> dict:
    """The spec without its seed."""
    return {name: value for name, value in record["spec"].items() if name != "seed"}


def _in_order(datasets: set[str], order: list[str]) -> list[str]:
    """As the suite lists them; then those that it names otherwise, such as a schema file by its path."""
    return sorted(datasets, key=lambda name: (order.index(name) if name in order else len(order), name))


def tasks(runs: list[Run]) -> list[str]:
    """Tasks that every run predicted, in the first run's order."""
    names = [_open(run).schema.names for run in runs]
    prefix = "score_"
    return [n.removeprefix(prefix) for n in names[0] if n.startswith(prefix) and all(n in of for of in names)]


def _open(run: Run) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(run.predictions)
    except (OSError, pa.ArrowException) as error:
        raise _unreadable(run, error) from None


def _unreadable(run: Run, error: Exception) -> InputError:
    return InputError(
        f"{run.predictions} cannot be read ({error}): delete its folder and run the suite again"
    )


class Predicted(NamedTuple):
    """The test rows of one task and every run's scores of them; N rows, M runs."""

    users: NDArray
    tiers: NDArray
    labels: NDArray
    scores: list[NDArray]

    def of_tier(self, tier: int) -> Predicted:
        """The rows of one user-activity tier."""
        rows = self.tiers == tier
        return Predicted(
            self.users[rows], self.tiers[rows], self.labels[rows], [scores[rows] for scores in self.scores]
        )


def read_predictions(runs: list[Run], task: str) -> Predicted:
    """The runs' scores of one task; InputError where they were not made on the same test rows."""
    names = ["user", "tier", f"label_{task}", f"score_{task}"]
    users, tiers, labels, first = _columns(runs[0], names)
    rows = [users, tiers, labels]
    scores = [first]
    for run in runs[1:]:
        *its_rows, its_scores = _columns(run, names)
        if not all(
            np.array_equal(ours, its, equal_nan=True) for ours, its in zip(rows, its_rows, strict=True)
        ):
            raise InputError(
                f"{run.predictions} and {runs[0].predictions} hold different test rows of {task!r}: "
                "delete the older folder and run the suite again"
            )
        scores.append(its_scores)
    return Predicted(users, tiers, labels, scores)


def measure(
    runs: list[Run], task: str, replicates: int, predicted: Predicted, seed: int = 0
) -> UserBootstrap:
    """The runs' metrics on the predicted rows and on draws of their users, which ``seed`` decides."""
    try:
        return bootstrap_users(predicted.labels, predicted.users, predicted.scores, replicates, seed)
    except NonFiniteScores as error:
        raise InputError(f"a finished run on {runs[0].dataset} has no usable score_{task}: {error}") from None


def _columns(run: Run, names: list[str]) -> list[NDArray]:
    try:
        table = _open(run).read(names)
        return [table.column(name).to_numpy() for name in names]
    except (OSError, KeyError, pa.ArrowException) as error:
        raise _unreadable(run, error) from None
