"""The answer to "which model fits, and which is best?" as lines of text."""

from __future__ import annotations

import pandas as pd

from harness.evaluation.choice import BEST, WORSE, Wanted
from harness.evaluation.verdict import WITHHELD
from reports.cells import MISSING, POINTS, fixed, interval, is_missing, model_name, short


def choice_text(chosen: pd.DataFrame, wanted: Wanted) -> str:
    """A table a dataset and task, with a sentence under each and the caution that holds for all."""
    blocks = [
        _block(str(dataset), str(task), rows, wanted)
        for (dataset, task), rows in chosen.groupby(["dataset", "task"], sort=False)  # type: ignore[misc]
    ]
    caution = (
        "The best is chosen by the same runs, which flatters it: what cannot be told apart from it is as "
        "good a choice. ~: noisy, measured while the machine had other work."
    )
    return "\n\n".join([*blocks, caution])


def _block(dataset: str, task: str, rows: pd.DataFrame, wanted: Wanted) -> str:
    header = ["model", "p99 ms", "fits", wanted.metric.upper(), "to the best x100", "verdict"]
    shown = pd.DataFrame(list(map(_cells, rows.to_dict("records"))), columns=header)
    table = shown.to_string(index=False)
    what = f"p99 of {wanted.p99_ms:g} ms, {wanted.batch_size} rows a call, {wanted.part} model"
    return f"{dataset}, task {task}: {what}\n{table}\n{_sentence(rows, wanted.metric)}"


def _cells(row: dict) -> list[str]:
    low, high = row["latency_ms_p99_low"], row["latency_ms_p99_high"]
    p99 = f"{'~' if row['noisy'] else ''}{short(row['latency_ms_p99'])}"
    if not is_missing(low):
        p99 += f" (above {short(low)})" if is_missing(high) else f" ({short(low)} to {short(high)})"
    if is_missing(row["diff"]):
        difference, verdict = MISSING, MISSING
    elif is_missing(row["low"]) and row["verdict"] in (BEST, WITHHELD):
        difference, verdict = "best", row["verdict"]
    else:
        difference = interval(POINTS * row["diff"], POINTS * row["low"], POINTS * row["high"], 2)
        verdict = row["verdict"]
    return [model_name(row), p99, row["fits"], fixed(row["mean"], 4), difference, verdict]


def _sentence(rows: pd.DataFrame, metric: str) -> str:
    """What follows from the table."""
    fitting = rows[rows["fits"] != "no"].to_dict("records")
    if not fitting:
        fastest = min(rows.to_dict("records"), key=lambda row: row["latency_ms_p99"])
        return (
            f"No model fits; {model_name(fastest)} comes nearest, at {short(fastest['latency_ms_p99'])} ms."
        )
    best, *others = fitting
    if is_missing(best["mean"]):
        what_fits = ", ".join(map(model_name, fitting))
        return f"No best: {metric.upper()} is not defined on these test rows; what fits: {what_fits}."
    if best["verdict"] == WITHHELD:
        return f"No verdict: these data tell the outcome; {model_name(best)} has the highest mean that fits."
    if not others:
        return f"Only {model_name(best)} fits."
    alike = [model_name(row) for row in others if row["verdict"] != WORSE]
    words = f"not known to be worse: {', '.join(alike)}" if alike else "all others are worse"
    return f"{model_name(best)} is the best that fits; {words}."
