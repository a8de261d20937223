"""The order of our models compared with the paper's Table 1, as a table and in sentences."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from harness.evaluation.ordering import GROUP, agreement, models_in_both, ordered_pairs
from harness.records.contestant import Contestant, label
from harness.records.listed import display_name
from reports.cells import Shown, grouped, p_value, signed
from reports.paper.beside import counterpart
from reports.paper.printed import load_paper
from reports.sections import Section
from reports.tables.markup import Table

Names = list[tuple[str, str]]  # of two models, the higher first


def compared_with_paper(section: Section) -> pd.DataFrame:
    """:func:`models_in_both` with the paper's Table 1; empty where no verdict is given or none is wanted."""
    printed = load_paper().tables["table1"]

    def gain(contestant: Contestant, task: str, metric: str) -> float | None:
        row, column = counterpart(printed, contestant), printed.column(task, metric)
        if row is None or column is None:
            return None
        return 0.0 if row.base else row.numbers.get(column)

    compares = section.suite.wants("ordering") and not section.no_verdict
    return models_in_both(section.contestants if compares else [], section.base, section.comparisons, gain)


def ordering_tables(section: Section) -> list[Table]:
    """One table: Kendall's tau-b, its p-value and the numbers of resolved pairs; its CSV holds every pair."""
    both = compared_with_paper(section)
    if both.empty:
        return []
    pairs, rows = ordered_pairs(both, section.pairs), []
    for row, number, *resolved in _groups(both, pairs):
        size = Shown(row["size"], float(row["size"].removesuffix("M"))) if row["size"] else "one"
        shown = [row["task"], row["metric"].upper(), size, grouped(row["models"])]
        shown += [signed(row["tau"], 2), p_value(row["p_value"]), grouped(number)]
        shown += [grouped(len(names)) for names in resolved]
        rows.append([*shown, grouped(number - sum(map(len, resolved)))])
    header = ["task", "metric", "size", "models", "Kendall's tau-b", "p-value", "pairs"]
    notes = [
        f"Compared with {load_paper().tables['table1'].label}: models in both, without the base, whose "
        "difference is zero by definition; pairs that are tied in the paper are not counted. p-value: from a "
        "permutation test over all orders of the models. The paper's gains are taken without error.",
        "Resolved: the p-value of the pair's own difference (pairs.csv) is below .05 after Holm's correction "
        "over the tested pairs. Untested: too few seeds, worlds or users, a failed run, or results that were "
        "compared without pairs. The CSV lists every pair.",
    ]
    return [
        Table(
            name=f"ordering-{section.name}",
            caption=f"Order of the models on {section.dataset} against the paper's",
            numbers=pairs,
            header=[*header, "agree, resolved", "differ, resolved", "not resolved or untested"],
            rows=rows,
            notes=notes,
        )
    ]


def ordering_words(section: Section) -> list[str]:
    """For each task, metric and size: tau-b, and the resolved pairs in the paper's order or in the other."""
    both = compared_with_paper(section)
    if both.empty:
        return []
    parts = [(each.architecture, each.variant_without_size) for each in section.contestants]
    names = {label(*each): display_name(*each) for each in parts}
    sentences = []
    for row, number, agree, differ in _groups(both, ordered_pairs(both, section.pairs)):
        at = f" at {row['size']}" if row["size"] else ""
        sentences.append(
            f"{row['task']}, {row['metric'].upper()}{at}: Kendall's tau-b with the paper's Table 1 is "
            f"{signed(row['tau'], 2)} over {row['models']} models, p {p_value(row['p_value'])}. "
            f"Orderings resolved here that agree: {_list(agree, names)}; that do not: "
            f"{_list(differ, names)}; {number - len(agree) - len(differ)} of {number} pairs are not resolved "
            "or untested."
        )
    return [
        *sentences,
        "Where the order agrees, the same models are better here, though not by the same amount. Where it "
        "differs, the reason may be the data, the sizes (the paper's rows differ in cost, ours are matched) "
        "or the training.",
    ]


def _groups(both: pd.DataFrame, pairs: pd.DataFrame) -> Iterator[tuple[dict, int, Names, Names]]:
    """Each row of :func:`agreement`, how many pairs it is about, and those resolved that agree and differ."""
    for row in agreement(both).to_dict("records"):
        its_pairs = pairs[np.logical_and.reduce([pairs[name] == row[name] for name in GROUP])]
        resolved = its_pairs[its_pairs["resolved"] == "yes"]
        orders = (resolved[resolved["order"] == order] for order in ("agrees", "differs"))
        agree, differ = (list(zip(rows["higher"], rows["lower"], strict=True)) for rows in orders)
        yield row, len(its_pairs), agree, differ


def _list(pairs: Names, names: dict[str, str]) -> str:
    return ", ".join(f"{names[higher]} over {names[lower]}" for higher, lower in pairs) or "none"
