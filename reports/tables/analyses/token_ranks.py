"""How much the tokens differ after each layer: a row a model whose layers were looked at."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from harness.records.contestant import Contestant
from reports.cells import MISSING, fixed
from reports.sections import Section
from reports.tables.markup import Table

COLUMNS = ["architecture", "variant", "layer", "tokens", "width", "effective_rank", "runs"]


def token_rank_tables(section: Section) -> list[Table]:
    """The means over runs; no table where no architecture has layers of tokens."""
    by_model = {contestant: _rows(section, contestant) for contestant in section.contestants}
    layered = {who.display_name: rows for who, rows in by_model.items() if len(rows) > 1}
    if not layered:
        return []
    depth = max(map(len, layered.values()))
    return [
        Table(
            name=f"token-ranks-{section.name}",
            caption=f"Effective rank of the tokens on {section.dataset}",
            numbers=pd.DataFrame([row for rows in by_model.values() for row in rows], columns=COLUMNS),
            header=["model", "tokens x width", "input", *(f"after {layer}" for layer in range(1, depth))],
            rows=[_cells(name, found, depth) for name, found in layered.items()],
            notes=[
                "The exponential of the entropy of a row's singular values, mean over 256 test rows and all "
                "runs: 1 where all tokens point the same way, the number of tokens where they are orthogonal "
                "and of one length. Architectures whose layers hold no tokens are left out."
            ],
        )
    ]


def _rows(section: Section, contestant: Contestant) -> list[dict[str, Any]]:
    by_layer: dict[str, list] = {}
    for rank in (rank for run in section.select_finished(contestant) for rank in run.token_ranks):
        by_layer.setdefault(rank.layer, []).append(rank)
    found = []
    for layer, ranks in by_layer.items():
        known = [rank.effective_rank for rank in ranks if rank.effective_rank is not None]
        shape = {"tokens": ranks[0].tokens, "width": ranks[0].width}
        mean = float(np.mean(known)) if known else None
        who = {"architecture": contestant.architecture, "variant": contestant.variant, "layer": layer}
        found.append(who | shape | {"effective_rank": mean, "runs": len(known)})
    return found


def _cells(name: str, found: list[dict[str, Any]], depth: int) -> list[str]:
    last = found[-1]
    ranks = [fixed(row["effective_rank"], 1) for row in found]
    return [name, f"{last['tokens']} x {last['width']}", *ranks, *[MISSING] * (depth - len(ranks))]
