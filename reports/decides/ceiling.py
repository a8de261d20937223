"""How near models come to the oracle: the loss that compute buys, and the share of the gap that is closed."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import pandas as pd

from harness.evaluation.contrasts.along_rows import (
    PAIR,
    at_most_rows,
    judged,
    paired_differences,
    same_size_pairs,
)
from harness.evaluation.oracle.gap import LOGLOSS
from harness.evaluation.oracle.gap_along_rows import gap_along_rows
from harness.evaluation.oracle.loss_fits import PARAMETERS, loss_points
from harness.evaluation.statistics.power_law import PASSES, PowerLaw
from harness.records.contestant import size_of_name
from harness.records.listed import display_name
from reports.cells import POINTS, fixed, grouped, interval, is_missing, model_name, percent, short
from reports.contents import Part, Words
from reports.decides.frames import rows_of_ours, rows_of_task, unsized, with_verdicts
from reports.decides.results import CURVES, METRIC, ONE_SIZE, OURS, WORLDS, Results, compared, flops_words
from reports.decides.words import answer, over, sentence, verdict
from reports.figures.drawing.saving import Drawing
from reports.figures.loss_front import front_is_measured, loss_against_compute
from reports.figures.oracle_gap import gap_closed
from reports.sections import Section
from reports.tables.analyses.loss_fits import loss_fit_tables
from reports.tables.markup import Table

# --- The front of loss and compute ------------------------------------------------------------------------


def front_part(results: Results) -> Part | None:
    """Each model's compute-optimal front, and the measured difference where compute is greatest."""
    found = results.first_of(CURVES)
    if found is None or found[1].loss_fits["E"].dropna().empty:
        return None
    name, section = found
    measured = with_verdicts(_at_most_compute(section), section)
    clauses = [
        clause for task in section.tasks for clause in [*_fitted(section, task), *_measured(measured, task)]
    ]
    asked = "Which model's front of loss and compute is lowest at the most compute that was measured?"
    caption = "Log loss above the oracle's against the FLOPs of training, with each model's fitted front"
    drawing = Drawing(loss_against_compute, loss_points(section.records), caption, (section.loss_fits,))
    return Part(
        name="compute",
        title="More compute",
        in_short=answer(asked, clauses, measured, section),
        overview=[
            compared(name, section),
            Words(
                "What the fronts do not say",
                [
                    "A front is a fit of three sizes or more and of the points of their curves, and has no "
                    "interval here; the intervals of its parameters are in the table. It is drawn and "
                    "compared where its size and rows lie between those measured. What is called "
                    "resolved, or not, is the measured difference alone."
                ],
            ),
        ],
        tables=loss_fit_tables(section),
        figures={"decides-compute": drawing},
    )


def _at_most_compute(section: Section) -> pd.DataFrame:
    """Differences to the base of the same size, at the largest size and the most rows."""
    sized = [who for who in section.contestants if who.size]
    if section.base is None or not sized:
        return judged(paired_differences([], []), PAIR)
    largest = max((who.size for who in sized), key=size_of_name)
    pairs = same_size_pairs([who for who in sized if who.size == largest], section.base)
    return judged(at_most_rows(paired_differences(section.records, pairs)), [*PAIR, "samples"])


class Height(NamedTuple):
    """The least loss of a front at some compute; ``is_measured``: size and rows are among those measured."""

    loss: float
    is_measured: bool

    @property
    def words(self) -> str:
        extrapolated = "" if self.is_measured else ", at a size or rows outside of those measured"
        return f"{fixed(self.loss, 4)} above the oracle's{extrapolated}"


def front_heights(fits: pd.DataFrame) -> tuple[float, dict[tuple[str, str], Height]]:
    """The most compute up to which every front keeps to sizes and rows that ran, and their heights there.

    Models whose exponents are not identified have no front, and those whose front is nowhere among sizes and
    rows that ran (more FLOPs gain so little that the best size is far below all of them) have none here.

    Args:
        fits: rows of ``loss_fits.csv`` of one task.
    """
    fitted = [(row, law) for row in _identified(fits) if _passes_through(row, law := _law(row))]
    if not fitted:
        return math.nan, {}
    compute = min(_most_compute(row, law) for row, law in fitted)
    heights = {}
    for row, law in fitted:
        size = law.best_size(compute)
        rows = compute / PASSES / size
        [loss] = law.loss(np.array([size]), np.array([rows]))
        heights[row["architecture"], row["variant"]] = Height(float(loss), front_is_measured(row, size, rows))
    return compute, heights


def _law(row: dict) -> PowerLaw:
    return PowerLaw(**{name: float(row[name]) for name in PARAMETERS})


def _identified(fits: pd.DataFrame) -> list[dict]:
    known = fits.dropna(subset=list(PARAMETERS)).to_dict("records")
    return [row for row in known if not {"alpha", "beta"} & set(str(row["not_identified"]).split(", "))]


def _most_compute(row: dict, law: PowerLaw) -> float:
    """Where a front leaves the largest size or the most rows, whichever comes first."""
    return PASSES * min(_at_size(law, row["most_flops"]), _at_rows(law, row["most_rows"]))


def _passes_through(row: dict, law: PowerLaw) -> bool:
    """Whether some of a front lies among the sizes and rows that ran: it leaves them after it enters them."""
    enters = PASSES * max(_at_size(law, row["least_flops"]), _at_rows(law, row["least_rows"]))
    return enters <= _most_compute(row, law)


def _at_size(law: PowerLaw, size: float) -> float:
    return size * law.rows_for(size)


def _at_rows(law: PowerLaw, rows: float) -> float:
    return law.size_for(rows) * rows


def _fitted(section: Section, task: str) -> list[str]:
    fits = section.loss_fits[section.loss_fits["task"] == task]
    if fits.dropna(subset=list(PARAMETERS)).empty:
        return []
    compute, heights = front_heights(fits)
    if not heights:
        return [f"in log loss of {task} no model's front lies among the sizes and rows that ran"]
    left_out = len(fits) - len(heights)
    without = f" ({left_out} models have no front among the sizes and rows that ran)" if left_out else ""
    best = min(heights, key=lambda model: heights[model].loss)
    others = f", and RankMixer's is {heights[OURS.key].words}" if OURS.key in heights else ""
    return [
        f"at {short(compute)}FLOPs of training the fitted front of {display_name(*best)} is lowest in log "
        f"loss of {task}, {heights[best].words}{'' if best == OURS.key else others}{without}"
    ]


def _measured(differences: pd.DataFrame, task: str) -> list[str]:
    here = differences[(differences["task"] == task) & (differences["metric"] == LOGLOSS)]
    clauses = []
    for row in here[here["architecture"] == OURS.architecture].to_dict("records"):
        diff = interval(row["diff"], row["diff_low"], row["diff_high"], 4)
        clauses.append(
            f"measured at {flops_words(row['size'])} and {grouped(row['samples'])} rows, RankMixer's log "
            f"loss less {display_name(row['base'])}'s is {diff}, {verdict(row)}"
        )
    return clauses


# --- The share of the gap ---------------------------------------------------------------------------------


def gap_part(results: Results) -> Part | None:
    """The share of the oracle's gap that each model closes at the fewest rows and at the most."""
    found = results.first_of(WORLDS, CURVES)
    if found is None:
        return None
    name, section = found
    gaps = gap_along_rows(section.records)
    gaps = gaps[(gaps["size"] == ONE_SIZE) & (gaps["few"] < gaps["most"])]
    if gaps.empty:
        return None
    asked = (
        "How much of the way from a constant to the true probabilities does each model go, at "
        f"{flops_words(ONE_SIZE)} a sample?"
    )
    answer_text = sentence([clause for task in section.tasks for clause in _closed(gaps, task, section)])
    caption = "Share of the oracle's gap closed after the fewest and the most rows, 95% intervals"
    drawing = Drawing(gap_closed, unsized(gaps, section), caption, options={"metrics": [METRIC]})
    return Part(
        name="ceiling",
        title="The ceiling",
        in_short=f"{asked} {answer_text} ({over(section, gaps)}, of each model by itself, not corrected).",
        overview=[
            compared(name, section),
            Words(
                "What a share is",
                [
                    "100%: as good as the oracle of the same world, which scores with the true "
                    "probabilities, and knows what no row tells, such as today's tastes; 0%: as good as a "
                    "constant. Whether two models differ is a question of "
                    "their paired differences, above, and not of whether these intervals overlap."
                ],
            ),
        ],
        tables=[_gap_table(gaps, section)],
        figures={"decides-ceiling": drawing},
    )


def _closed(gaps: pd.DataFrame, task: str, section: Section) -> list[str]:
    here = unsized(rows_of_task(gaps, task), section)
    if here.empty:
        return []
    best = here.sort_values("share_most").iloc[-1].to_dict()
    clauses = [
        f"in AUC of {task} {model_name(best)} closes most on average after "
        f"{grouped(best['most'])} rows, {_share(best, 'share_most')}"
    ]
    clauses += [
        f"RankMixer closes {_share(row, 'share_few')} after {grouped(row['few'])} rows and "
        f"{_share(row, 'share_most')} after {grouped(row['most'])}, a gain of {_gain(row)} percentage points"
        for row in rows_of_ours(here, section).to_dict("records")
    ]
    return clauses


def _share(row: dict, name: str) -> str:
    share, low, high = (row[f"{name}{end}"] for end in ("", "_low", "_high"))
    return percent(share) if is_missing(low) else f"{percent(share)} ({percent(low)} to {percent(high)})"


def _gain(row: dict) -> str:
    gained, low, high = (POINTS * row[f"gained{end}"] for end in ("", "_low", "_high"))
    return interval(gained, low, high, 1)


def _gap_table(gaps: pd.DataFrame, section: Section) -> Table:
    shown = unsized(gaps[gaps["metric"] == METRIC], section).to_dict("records")
    return Table(
        name="decides-ceiling",
        caption="Share of the oracle's gap in AUC that each model closes",
        numbers=gaps,
        header=["model", "task", "rows", "at the fewest", "at the most", "gained, percentage points"],
        rows=[
            [
                model_name(row),
                row["task"],
                f"{grouped(row['few'])} to {grouped(row['most'])}",
                *(_share(row, f"share_{end}") for end in ("few", "most")),
                _gain(row),
            ]
            for row in shown
        ],
        notes=[f"{over(section, gaps)}, not corrected: no model is compared here."],
    )
