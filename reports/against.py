"""What a section says of the paper: where signs, orders and active ratios agree, and where they do not."""

from __future__ import annotations

from collections import defaultdict
from itertools import combinations

import pandas as pd

from reports.beside import DIFFERS, SIGNS, paper_row, paper_table
from reports.cells import fixed, is_missing, signed
from reports.frames import active_experts_frame
from reports.paper import Paper
from reports.paper import Table as PaperTable
from reports.records import label
from reports.sections import Section
from reports.summary import METRICS
from reports.tables import POINTS

MOST_NAMES = 8  # an order of more models than this is counted, not told


def against_the_paper(section: Section, tables: dict[str, pd.DataFrame], paper: Paper) -> list[str]:
    """Signs, order and direction here and in the paper, agreement and disagreement alike.

    Args:
        tables: ``quality_numbers`` by task.
    """
    printed = paper_table(section, paper)
    if printed is None:
        return []
    said = []
    for task, numbers in tables.items():
        for metric in METRICS:
            if column := printed.column(task, metric):
                said += _signs_sentence(section, metric, numbers, f"{task}, {metric.upper()}")
                both = _in_both(section, numbers, metric, column, printed)
                said += [f"{task}, {metric.upper()}: {_order_sentence(both)}"] if len(both) > 1 else []
    return said + _active_ratio_sentences(section, printed)


def _signs_sentence(section: Section, metric: str, numbers: pd.DataFrame, title: str) -> list[str]:
    """How many signs of differences to the base agree with the paper's, and which differ."""
    rows = [row for row in numbers.to_dict("records") if not is_missing(row[f"{metric}_sign"])]
    if not rows or section.base is None:
        return []
    counts = []
    for word in SIGNS:
        mine = [_signed_name(row, metric, word) for row in rows if row[f"{metric}_sign"] == word]
        counts.append(f"{word} {len(mine)}" + (f" ({', '.join(mine)})" if mine else ""))
    return [
        f"{title}: sign of the difference to {section.base.label} against the paper's in "
        f"{len(rows)} {'row' if len(rows) == 1 else 'rows'}: {'; '.join(counts)}."
    ]


def _signed_name(row: dict, metric: str, word: str) -> str:
    name = label(row["architecture"], row["variant"])
    if word != DIFFERS:
        return name
    here, there = signed(POINTS * row[f"{metric}_diff"], 2), signed(row[f"{metric}_paper"], 2)
    return f"{name}: {here} here, {there} in the paper"


def _in_both(
    section: Section, numbers: pd.DataFrame, metric: str, column: str, printed: PaperTable
) -> list[dict]:
    """Contestants measured here that the paper's column has too: name, our mean, its gain."""
    both = []
    rows = numbers[numbers["kind"] == "model"].to_dict("records")
    for contestant, row in zip(section.contestants, rows, strict=True):
        beside = paper_row(printed, contestant)
        if beside and (beside.base or column in beside.numbers) and not is_missing(row[metric]):
            gain = 0.0 if beside.base else beside.numbers[column]
            both.append({"name": contestant.label, "ours": row[metric], "paper": gain})
    return both


def _order_sentence(both: list[dict]) -> str:
    pairs = [(a, b) for a, b in combinations(both, 2) if a["paper"] != b["paper"]]
    agree = sum((a["ours"] - b["ours"]) * (a["paper"] - b["paper"]) > 0 for a, b in pairs)
    ours, theirs = (
        ", ".join(m["name"] for m in sorted(both, key=lambda m: -m[key])) for key in ("ours", "paper")
    )
    counted = f"{agree} of {len(pairs)} pairs alike, resolved or not"
    if len(both) > MOST_NAMES:
        return f"the order of the means of {len(both)} models against the paper's: {counted}."
    order = "the paper's order is the same" if agree == len(pairs) else f"in the paper: {theirs}"
    return f"best to worst mean here: {ours}; {order} ({counted})."


def _active_ratio_sentences(section: Section, printed: PaperTable) -> list[str]:
    """How unevenly tokens have active experts at the end, here and in the paper's Figure 4."""
    layers = defaultdict(list)
    for row in printed.rows:
        if "layer" in row.numbers:
            layers[int(row.numbers["layer"])].append(row.numbers["active_ratio"])
    if not layers:
        return []
    said = [f"Active ratio by token when training ends, in the paper: {_spread_of_layers(layers)}."]
    experts = active_experts_frame(section.records)
    for contestant in section.contestants:
        mine = experts[
            (experts["architecture"] == contestant.architecture) & (experts["variant"] == contestant.variant)
        ]
        if not mine.empty:
            tokens = mine.groupby(["layer", "token"], as_index=False)["share"].mean()
            ours = {n: tokens.loc[tokens["layer"] == n, "share"].tolist() for n in set(tokens["layer"])}
            said.append(f"{contestant.label}, on the test split: {_spread_of_layers(ours)}.")
    return said


def _spread_of_layers(layers: dict[int, list[float]]) -> str:
    return "; ".join(
        f"layer {layer} {fixed(min(values), 2)} to {fixed(max(values), 2)}, "
        f"mean {fixed(sum(values) / len(values), 2)}"
        for layer, values in layers.items()
    )
