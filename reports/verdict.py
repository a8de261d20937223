"""The sentences that a report begins with: which differences survive correction, and what may mislead."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from harness.evaluation.differences import MIN_RUNS
from harness.records.contestant import Contestant
from reports.cells import METRICS, POINTS, count, is_missing, model_name, signed
from reports.sections import Section
from reports.tables.quality import select_metric, verdict

MOST_NAMED = 4
FEWEST_FOR_LUCK = 4  # with fewer models, a base that is last among them is no surprise worth a sentence
FAR_MORE = 2.0  # times the spread over seeds of the most variable other model


def in_short(section: Section, tables: dict[str, pd.DataFrame]) -> str:
    """What survives correction on this dataset, or why nothing is said.

    Args:
        tables: ``quality_numbers`` by task.
    """
    failed = sum(run.status == "failed" for run in section.records)
    ended = f" {count(failed, 'run')} failed." if failed else ""
    if reason := section.no_verdict or _without_differences(section):
        return f"{section.dataset}, {count(len(section.contestants), 'model')}: {reason}{ended}"
    tested = [row for row in _differences(tables) if row["resolved"] in ("yes", "no")]
    if not tested:
        return (
            f"On {section.dataset} no difference to {section.base_name} could be tested: too few seeds, "
            f"worlds or users, or failed runs.{ended}"
        )
    survive = [row for row in tested if row["resolved"] == "yes"]
    sentences = [f"On {section.dataset} {_how_many(survive, tested, section.base_name)} correction."]
    for words, direction in (("Above it", "higher"), ("Below it", "lower")):
        named = _by_model([row for row in survive if verdict(row) == direction])
        sentences += [f"{words}: {named}."] if named else []
    return " ".join(sentences) + ended


def _without_differences(section: Section) -> str:
    """Why there is nothing to judge; empty where there is."""
    if not section.contestants:
        return "only reference rows ran; no architecture is compared."
    if not section.suite.base:
        return "no base was named, so no differences are shown."
    if section.base is None:
        return f"the base {section.suite.base} did not run, so no differences are shown."
    if not section.select_finished(section.base):
        return f"the base {section.base_name} has no finished run, so no differences are shown."
    if len(section.contestants) == 1:
        return "nothing but the base ran, so there is nothing to compare."
    if section.comparisons.empty:
        return "the folder holds no comparisons.csv, so it is not known which differences are resolved."
    return ""


def _differences(tables: dict[str, pd.DataFrame]) -> list[dict]:
    """The models' differences to the base: rows of ``quality_numbers``."""
    return [
        row
        for numbers in tables.values()
        for metric in METRICS
        for row in select_metric(numbers, metric)
        if row["kind"] == "model" and not row["is_base"] and not is_missing(row["diff"])
    ]


def _how_many(survive: list[dict], tested: list[dict], base: str) -> str:
    number, verb = str(len(survive)) if survive else "none", "survive" if len(survive) > 1 else "survives"
    return f"{number} of {count(len(tested), 'tested difference')} to {base} {verb}"


def _by_model(rows: list[dict]) -> str:
    """``RankMixer (finish AUC +0.23, skip AUC +0.45)``, the largest first, and how many more there are."""
    named: dict[str, list[str]] = {}
    for row in sorted(rows, key=lambda row: -abs(row["diff"])):
        shown = f"{row['task']} {row['metric'].upper()} {signed(POINTS * row['diff'], 2)}"
        named.setdefault(model_name(row), []).append(shown)
    texts = [f"{name} ({', '.join(found)})" for name, found in named.items()]
    more = len(texts) - MOST_NAMED
    return ", ".join(texts[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


def about_the_base(section: Section, tables: dict[str, pd.DataFrame]) -> list[str]:
    """Whether every model is above the base at once, or below it: then the base alone may be the cause.

    Were all of them equally good, each would be the last as often as any other.
    """
    if section.no_verdict or section.base is None:
        return []
    places: dict[str, list[str]] = {}
    number = 0
    for task, numbers in tables.items():
        diffs = [row["diff"] for row in _differences({task: numbers}) if row["metric"] == "auc"]
        number = max(number, len(diffs))
        if len(diffs) >= FEWEST_FOR_LUCK and all(diff > 0 for diff in diffs):
            places.setdefault("above", []).append(task)
        elif len(diffs) >= FEWEST_FOR_LUCK and all(diff < 0 for diff in diffs):
            places.setdefault("below", []).append(task)
    return [
        f"In AUC of {' and '.join(tasks)} all {number} models are {side} {section.base_name} at once. Were "
        f"all equally good, the base would be {'last' if side == 'above' else 'first'} by chance in 1 of "
        f"{number + 1} such tables: part of every difference may be the base's."
        for side, tasks in places.items()
    ]


def about_its_seeds(section: Section) -> list[str]:
    """Whether the base varies over seeds far more than every other model: failed seeds of its then add to
    all means of differences, and medians tell by how much.
    """
    if section.no_verdict or section.base is None:
        return []
    sentences = []
    for task in section.tasks:
        by_model = {
            who: auc for who in section.contestants if (auc := _auc_over_seeds(section, who, task)).size
        }
        spreads = {who: float(auc.var(axis=1).mean() ** 0.5) for who, auc in by_model.items()}
        spread = spreads.pop(section.base, math.nan)
        if len(spreads) < FEWEST_FOR_LUCK or not spread > FAR_MORE * max(spreads.values()):
            continue
        sentences.append(
            f"In AUC of {task} {section.base_name} varies by {POINTS * spread:.2f} points from seed to seed, "
            f"the others by {POINTS * min(spreads.values()):.2f} to {POINTS * max(spreads.values()):.2f}: "
            f"part of each difference to it is its failed seeds. Median differences are "
            f"{_medians(by_model, section.base)}."
        )
    return sentences


def _auc_over_seeds(section: Section, who: Contestant, task: str) -> pd.DataFrame:
    """A model's AUC by world and seed, without worlds and seeds that lack a run; empty below three seeds."""
    runs = [run for run in section.select_finished(who) if task in run.metrics]
    auc = {(run.world or 0, run.seed): run.metrics[task].auc for run in runs}
    frame = pd.DataFrame([[*key, value] for key, value in auc.items()], columns=["world", "seed", "auc"])
    table = frame.dropna().pivot_table(index="world", columns="seed", values="auc").dropna()
    return table if table.shape[1] >= MIN_RUNS else table.iloc[:0]


def _medians(by_model: dict[Contestant, pd.DataFrame], base: Contestant) -> str:
    return ", ".join(
        f"{who.display_name} {signed(POINTS * float(np.nanmedian((auc - by_model[base]).to_numpy())), 2)}"
        for who, auc in by_model.items()
        if who != base
    )
