r"""How the loss above the oracle's falls with rows and FLOPs: ``loss_fits.csv``, and compute-optimal sizes.

A learning curve (``training.progress``) at several sizes says what a model loses, above what the true
probabilities lose on the same test rows, at F forward FLOPs a sample and after D rows. The law
:math:`E + A F^{-\alpha} + B D^{-\beta}` (``harness/evaluation/statistics/power_law.py``) is fitted to the
means over repeats: seeds or, with several, worlds. As in ``harness/evaluation/scaling.py``, those repeats
count that have every size and every point.

**Intervals.** Three repeats have ten bootstrap samples, whose spread is too small. So the curves are drawn
anew: each draw adds to the mean curves what a draw of the repeats' common distribution would, normal with
the covariance that they show and Student's tails for how few they are, and the law is fitted again. Of a
straight line's slope this is Student's t interval over repeats exactly. It keeps what a repeat does to all
its points. ``low`` and ``high`` are the middle 95%; with one repeat there are none.

**Not identified.** E where its interval begins below 1% of the least measured loss: it may as well be 0, and
the loss may fall for ever. An exponent where its interval ends at the end of the range that was searched, or
its term is nowhere above that 1%. Without an interval the value itself is looked at.

**What rows are.** Points along a curve are a prefix of the log. Unless it is shuffled as a whole, fewer rows
are also older ones, with shorter histories, and the exponent of rows holds that, too. E holds what the
oracle knows and no row tells, such as the taste of the day that is tested.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from harness.evaluation.comparisons import Rows
from harness.evaluation.learning_curves import curve_points
from harness.evaluation.oracle.gap import LOGLOSS, ORACLE
from harness.evaluation.statistics.intervals import LEVEL
from harness.evaluation.statistics.power_law import EXPONENTS, PASSES, PowerLaw, PowerLawFit, why_no_fit
from harness.records.record import Record
from harness.records.select import Selection

DRAWS = 200
NO_FLOOR = 0.01  # of the least measured loss: an E below is none
PARAMETERS = ("E", "A", "alpha", "B", "beta")
DERIVED = ("size_share", "best_flops")
COLUMNS = [
    *("suite", "dataset", "task", "architecture", "variant", "sizes", "points", "repeats"),
    *(f"{name}{end}" for name in (*PARAMETERS, *DERIVED) for end in ("", "_low", "_high")),
    *(
        "least_flops",
        "most_flops",
        "least_rows",
        "most_rows",
        "best_compute",
        "best_loss",
        "off",
        "not_identified",
        "refused",
    ),
]

Array = NDArray[np.float64]


def loss_points(records: Iterable[Record]) -> pd.DataFrame:
    """One row a finished run and point: the log loss above that of the oracle of the same world.

    Columns: architecture, variant (without the size), size, world (0 without any), seed, task, samples, flops
    (forward, a sample), value. No rows of tasks and worlds without an oracle.
    """
    records = list(records)
    finished = [record for record in records if record.status == "finished"]
    oracle = {
        (record.world or 0, task): metrics.logloss
        for record in finished
        if record.is_reference and record.architecture == ORACLE
        for task, metrics in record.metrics.items()
        if metrics.logloss is not None
    }
    flops = {
        record.contestant.key: record.cost.flops_per_sample
        for record in finished
        if record.cost and record.contestant.size
    }
    points = curve_points(records, "tested")
    points = points[points["metric"] == LOGLOSS]
    keys = zip(points["architecture"], points["variant"], strict=True)
    points = points.assign(
        flops=[flops.get(key, math.nan) for key in keys],
        value=points["value"]
        - [oracle.get(key, math.nan) for key in zip(points["world"], points["task"], strict=True)],
    )
    return (
        points.dropna(subset=["flops", "value"])
        .drop(columns=["variant", "metric"])
        .rename(columns={"line": "variant"})
        .reset_index(drop=True)
    )


def loss_fit_rows(selection: Selection, draws: int = DRAWS) -> Rows:
    """A row for each task and model of several sizes: the fit, or in ``refused`` why there is none."""
    points = loss_points(selection.records)
    shared = {"suite": selection.suite.name, "dataset": selection.dataset}
    keys = ["task", "architecture", "variant"]
    return [
        shared | dict(zip(keys, key, strict=True)) | _fitted(_curves(of_model), draws)  # type: ignore[arg-type]
        for key, of_model in points.groupby(keys, sort=False)
    ]


@dataclass(frozen=True)
class _Curves:
    """A model's losses (K repeats, N points) at sizes and rows (N,)."""

    size: Array
    rows: Array
    losses: Array


def _curves(points: pd.DataFrame) -> _Curves:
    """The repeats that have every size and point; seeds of a world are averaged where there are several."""
    repeat = ["world"] if len(set(points["world"])) > 1 else ["seed"]
    table = points.pivot_table(index=repeat, columns=["flops", "samples"], values="value").dropna()
    size, rows = (table.columns.get_level_values(name).to_numpy(float) for name in ("flops", "samples"))
    return _Curves(size, rows, table.to_numpy(float))


def _fitted(curves: _Curves, draws: int) -> dict:
    repeats = len(curves.losses)
    row: dict = {"sizes": len(set(curves.size.tolist())), "points": len(curves.size), "repeats": repeats}
    if not repeats:
        return row | {"refused": "no seed or world has every size and point"}
    mean = curves.losses.mean(axis=0)
    if refused := why_no_fit(curves.size, curves.rows, mean):
        return row | {"refused": refused}
    fit = PowerLawFit(curves.size, curves.rows)
    law = fit.fit(mean)
    rows = float(curves.rows.max())
    found = _quantities(law, rows)
    drawn = [_quantities(fit.fit(each, law), rows) for each in _drawn_means(curves.losses, draws)]
    ends = _middle(np.array([list(each.values()) for each in drawn]).reshape(-1, len(found)))
    for name, low, high in zip(found, *ends, strict=True):
        row |= {name: found[name], f"{name}_low": float(low), f"{name}_high": float(high)}
    best_loss = law.loss(np.array([found["best_flops"]]), np.array([rows]))
    off = np.abs(np.log(law.loss(curves.size, curves.rows) / mean)).max()
    row |= {"least_flops": float(curves.size.min()), "most_flops": float(curves.size.max())}
    row |= {
        "least_rows": float(curves.rows.min()),
        "most_rows": rows,
        "best_compute": PASSES * found["best_flops"] * rows,
        "best_loss": float(best_loss[0]),
        "off": float(off),
    }
    return row | {"not_identified": _not_identified(row, float(mean.min())), "refused": ""}


def _middle(drawn: Array) -> Array:
    """The ends (2, Q) of the middle 95% of draws (R, Q); NaN without draws.

    "weibull" leaves out as much as it says on average over few draws, too; numpy's default leaves out more.
    """
    if not len(drawn):
        return np.full((2, drawn.shape[1]), math.nan)
    tail = (1 - LEVEL) / 2
    return np.quantile(drawn, [tail, 1 - tail], axis=0, method="weibull")


def _quantities(law: PowerLaw, rows: float) -> dict[str, float]:
    return asdict(law) | {"size_share": law.size_share, "best_flops": law.size_for(rows)}


def _drawn_means(losses: Array, draws: int) -> list[Array]:
    """Draws of the mean curve (N,) of K repeats' losses (K, N); none of a single repeat."""
    repeats, mean = len(losses), losses.mean(axis=0)
    if repeats < 2:
        return []
    off = losses / mean - 1
    generator = np.random.default_rng(0)
    normal = generator.normal(size=(draws, repeats))
    scale = np.sqrt(1 / generator.chisquare(repeats - 1, draws) / repeats)  # (K - 1) cancels the covariance's
    return [mean * np.exp(each) for each in scale[:, None] * (normal @ off)]


def _not_identified(row: dict, least: float) -> str:
    """The parameters that these points do not tell, as words."""
    low, high = EXPONENTS[0] * 1.01, EXPONENTS[1] / 1.01
    names = ["E"] if _ends(row, "E")[0] < NO_FLOOR * least else []
    for name, factor, smallest in (("alpha", "A", "least_flops"), ("beta", "B", "least_rows")):
        lower, upper = _ends(row, name)
        term = row[factor] * row[smallest] ** -row[name]
        names += [name] if lower < low or upper > high or term < NO_FLOOR * least else []
    return ", ".join(names)


def _ends(row: dict, name: str) -> tuple[float, float]:
    """The ends of a parameter's interval; without one the parameter itself, twice."""
    ends = row[f"{name}_low"], row[f"{name}_high"]
    return (row[name], row[name]) if math.isnan(ends[0]) else ends
