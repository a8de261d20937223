"""Sentences that say where our signs and active ratios agree with the paper's and where not."""

from __future__ import annotations

from collections import defaultdict

import pandas as pd

from reports.cells import METRICS, POINTS, by_word, count, fixed, is_missing, model_name, signed
from reports.frames import active_experts_frame
from reports.paper.comparison import DIFFERS, SIGNS, paper_table
from reports.paper.printed import Table as PaperTable
from reports.sections import Section
from reports.tables.quality import select_metric


def against_the_paper(section: Section, tables: dict[str, pd.DataFrame]) -> list[str]:
    """Signs and active ratios, here and in the paper, whether they agree or not.

    Args:
        tables: ``quality_numbers`` by task.
    """
    printed = paper_table(section)
    if printed is None:
        return []
    sentences = []
    for task, numbers in tables.items():
        for metric in METRICS:
            if printed.column(task, metric):
                title, rows = f"{task}, {metric.upper()}", select_metric(numbers, metric)
                sentences += _signs_sentence(section, rows, title)
    return sentences + _active_ratio_sentences(section, printed)


def _signs_sentence(section: Section, rows: list[dict], title: str) -> list[str]:
    """How many signs of differences to the base agree with the paper's, and which differ."""
    signed_rows = [row for row in rows if not is_missing(row["sign"])]
    if not signed_rows or section.base is None:
        return []
    names = {word: [_signed_name(row) for row in signed_rows if row["sign"] == word] for word in SIGNS}
    return [
        f"{title}: sign of the difference to {section.base.display_name}, compared with the paper's in "
        f"{count(len(signed_rows), 'row')}: {by_word(names)}."
    ]


def _signed_name(row: dict) -> str:
    if row["sign"] != DIFFERS:
        return model_name(row)
    here, there = signed(POINTS * row["diff"], 2), signed(row["paper"], 2)
    return f"{model_name(row)}: {here} here, {there} in the paper"


def _active_ratio_sentences(section: Section, printed: PaperTable) -> list[str]:
    """The active ratio by token when training ends, here and in the paper's Figure 4."""
    layers = defaultdict(list)
    for row in printed.rows:
        if "layer" in row.numbers:
            layers[int(row.numbers["layer"])].append(row.numbers["active_ratio"])
    if not layers:
        return []
    sentences = [f"Active ratio by token when training ends, in the paper: {_describe_layers(layers)}."]
    experts = active_experts_frame(section.records)
    for contestant in section.contestants:
        shares = experts[
            (experts["architecture"] == contestant.architecture) & (experts["variant"] == contestant.variant)
        ]
        if not shares.empty:
            tokens = shares.groupby(["layer", "token"], as_index=False)["share"].mean()
            ours = {n: tokens.loc[tokens["layer"] == n, "share"].tolist() for n in set(tokens["layer"])}
            sentences.append(f"{contestant.display_name}, on the test split: {_describe_layers(ours)}.")
    return sentences


def _describe_layers(layers: dict[int, list[float]]) -> str:
    return "; ".join(
        f"layer {layer} {fixed(min(values), 2)} to {fixed(max(values), 2)}, "
        f"mean {fixed(sum(values) / len(values), 2)}"
        for layer, values in layers.items()
    )
