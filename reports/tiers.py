"""The lift by user-activity tier: a table a task, and what is said of it beside the paper's online Table 4.

The lift is the difference to the base within one tier of users. ``tiers.csv`` has it with its interval, and,
as ``low - high``, the lift in one tier less that in another, which alone says whether the one gains more.
"""

from __future__ import annotations

import math

import pandas as pd

from reports.beside import SIGNS, paper_table, sign
from reports.cells import fixed, grouped, interval, is_missing, signed
from reports.comparisons import TEST_COLUMNS
from reports.figures import contestants, rows_of
from reports.markup import Table
from reports.paper import Paper
from reports.paper import Table as PaperTable
from reports.records import Contestant, label
from reports.sections import Section, slug
from reports.significance import HOLM_MARK, has_p_values
from reports.summary import METRICS
from reports.tables import POINTS, difference_cell

TIERS = ("low", "middle", "high")
FIRST_LESS_LAST = "low - high"
ONLINE = "online, another quantity: only the order of tiers can be compared"
WHAT_TIERS_ARE = (
    "Tiers are thirds of the users who have training rows, by how many they have: made from the training "
    "split alone, so the test split has no say in them; users without a training row are low. (A schema that "
    "names a tier column has its own.)"
)
Lifts = dict[str, float]  # by tier


def tier_numbers(section: Section, task: str, paper: Paper) -> pd.DataFrame:
    """One row a contestant (base first) or reference, and tier, and pair of tiers; AUCs are fractions.

    ``users`` and ``rows`` of the tier's test rows, ``seeds``, and for auc and uauc the mean over seeds, the
    difference to the base as ``_diff``, ``_diff_low``, ``_diff_high``, ``_diff_users_low``,
    ``_diff_users_high``, ``_resolved``, ``_p_value``, ``_p_holm`` and ``_effect_size``; ``paper_<app>`` is
    the paper's online lift in percent, which stands beside a RankMixer.
    """
    pairs = [tier for tier in dict.fromkeys(section.tiers["tier"]) if tier not in TIERS]
    everyone = [(who, "model") for who in section.contestants]
    everyone += [(who, "reference") for who in section.references]
    lifts = paper_lifts(paper_table(section, paper), task)
    rows = []
    for who, kind in everyone:
        is_base = kind == "model" and who == section.base
        for tier in [*TIERS, *([] if is_base else pairs)]:
            row: dict[str, object] = {
                **{"kind": kind, "architecture": who.architecture, "variant": who.variant},
                **{"is_base": is_base, "task": task, "tier": tier},
            }
            row |= _measured(section, task, tier, who)
            for metric in METRICS:
                row |= _lift(section, task, tier, metric, who)
            for app, by_tier in lifts.items():
                beside = kind == "model" and who.label == "rankmixer"
                row[f"paper_{app}"] = by_tier.get(tier, math.nan) if beside else math.nan
            rows.append(row)
    return pd.DataFrame(rows)


def paper_lifts(printed: PaperTable | None, task: str) -> dict[str, Lifts]:
    """The paper's lifts in its column of this task's name, in percent, by app and tier; none without one."""
    lifts: dict[str, Lifts] = {}
    for row in printed.rows if printed and task in printed.columns else []:
        if row.tier:
            lifts.setdefault(row.name.rpartition(", ")[0], {})[row.tier] = row.numbers[task]
    return lifts


def _of(frame: pd.DataFrame, task: str, tier: str, who: Contestant) -> pd.DataFrame:
    return frame[
        (frame["task"] == task)
        & (frame["tier"] == tier)
        & (frame["architecture"] == who.architecture)
        & (frame["variant"] == who.variant)
    ]


def _measured(section: Section, task: str, tier: str, who: Contestant) -> dict[str, object]:
    runs = _of(section.tier_metrics, task, tier, who)
    row: dict[str, object] = {"seeds": len(runs), "users": None, "rows": None}
    if not runs.empty:
        row |= {
            "users": int((runs["users"] + runs["one_class_users"]).max()),
            "rows": int(runs["rows"].max()),
        }
        row["users_with_both_labels"] = int(runs["users"].max())
    return row | {metric: float(runs[metric].mean()) if len(runs) else math.nan for metric in METRICS}


def _lift(section: Section, task: str, tier: str, metric: str, who: Contestant) -> dict[str, object]:
    rows = _of(section.tiers[section.tiers["metric"] == metric], task, tier, who)
    found = rows.iloc[-1].to_dict() if len(rows) else {}
    ends = ("low", "high", "users_low", "users_high")
    lift: dict[str, object] = {f"{metric}_diff_{end}": found.get(end, math.nan) for end in ends}
    lift |= {f"{metric}_{name}": found.get(name, math.nan) for name in TEST_COLUMNS}
    return lift | {f"{metric}_diff": found.get("diff", math.nan), f"{metric}_resolved": found.get("resolved")}


# --- For people to read -----------------------------------------------------------------------------------


def tier_tables(section: Section, paper: Paper) -> list[Table]:
    """A table a task: architecture x tier, and the differences between tiers; none without tiers."""
    if section.tiers.empty:
        return []
    return [_tier_table(section, task, paper) for task in section.tasks]


def _tier_table(section: Section, task: str, paper: Paper) -> Table:
    numbers = tier_numbers(section, task, paper)
    printed = paper_table(section, paper)
    apps = list(paper_lifts(printed, task))
    cells: dict[str, list[list[str]]] = {"model": [], "reference": []}
    for row in numbers.to_dict("records"):
        line = [label(row["architecture"], row["variant"]), row["tier"]]
        line += [grouped(row["users"]), grouped(row["rows"])]
        for metric in METRICS:
            line += [fixed(row[metric], 4), difference_cell(row, metric)]
        cells[row["kind"]].append(line + [signed(row[f"paper_{app}"], 2) for app in apps])
    header = ["model", "tier", "users", "rows"]
    for metric in METRICS:
        header += [metric.upper(), f"{metric.upper()} vs base x100"]
    notes = [
        WHAT_TIERS_ARE,
        "vs base: the lift, in AUC points x 100 with its 95% interval over users and seeds; in a row such as "
        f"{FIRST_LESS_LAST!r} the lift in the first tier less that in the second.",
    ]
    if has_p_values(numbers):
        notes.append(f"{HOLM_MARK}: after Holm's correction over the models of a tier, task and metric too.")
    if apps and printed:
        unit = printed.columns[task].unit
        notes.append(f"paper: {printed.label} of {paper.citation}, RankMixer-1B, {unit}; {ONLINE}.")
    return Table(
        name=f"tiers-{section.name}-{slug(task)}",
        caption=f"Lift by user-activity tier on {section.dataset}, task {task}, test split",
        numbers=numbers,
        header=header
        + [f"paper, online: {printed.columns[task].label} % ({app})" for app in apps if printed],
        rows=cells["model"],
        references=cells["reference"],
        notes=notes,
    )


def by_user_activity(section: Section, paper: Paper) -> list[str]:
    """What tiers are and hold, whether the low gain most here, and what the paper's online table says."""
    if section.tiers.empty:
        return []
    said = [f"An offline counterpart of an online table. {WHAT_TIERS_ARE}"]
    said += [_sizes_sentence(section, task) for task in section.tasks]
    if printed := paper_table(section, paper):
        said.append(_paper_sentence(printed))
    for task in section.tasks:
        numbers = tier_numbers(section, task, paper)
        for metric in METRICS:
            said += _direction_sentence(numbers, f"{task}, {metric.upper()}", metric)
            said += _oracle_sentence(numbers, f"{task}, {metric.upper()}", metric)
    said.append(
        "Within a tier fewer users and rows bear on a difference than on the whole split, and how hard a "
        "tier is to rank differs: between tiers compare lifts over the base, not AUCs."
    )
    return said


def _sizes_sentence(section: Section, task: str) -> str:
    parts = []
    for tier in TIERS:
        of_tier = section.tier_metrics[
            (section.tier_metrics["task"] == task) & (section.tier_metrics["tier"] == tier)
        ]
        if not of_tier.empty:
            users = int((of_tier["users"] + of_tier["one_class_users"]).max())
            both, rows = grouped(of_tier["users"].max()), grouped(of_tier["rows"].max())
            parts.append(f"{tier} {grouped(users)} users ({both} with both labels), {rows} rows")
    return f"Test split, {task}: {'; '.join(parts)}."


def _paper_sentence(printed: PaperTable) -> str:
    """In how many of its columns the paper's lift falls from low to high."""
    columns: dict[tuple[str, str], Lifts] = {}
    for row in printed.rows:
        for name, value in row.numbers.items() if row.tier else ():
            columns.setdefault((row.name.rpartition(", ")[0], name), {})[row.tier or ""] = value
    falling = sum(order(lifts) == list(TIERS) for lifts in columns.values())
    low_above = sum(lifts["low"] > lifts["high"] for lifts in columns.values())
    return (
        f"The paper's {printed.label} ({ONLINE}): the lift is larger among low-activity users than among "
        f"high-activity ones in {low_above} of its {len(columns)} columns, and low > middle > high in "
        f"{falling}."
    )


def order(lifts: Lifts) -> list[str]:
    """Tiers from the largest lift to the smallest."""
    return sorted(lifts, key=lambda tier: -lifts[tier])


def _direction_sentence(numbers: pd.DataFrame, title: str, metric: str) -> list[str]:
    """Who gains more, low or high, against the paper's low; and the order of the three lifts."""
    models = numbers[(numbers["kind"] == "model") & ~numbers["is_base"] & numbers[f"{metric}_diff"].notna()]
    words: dict[str, list[str]] = {word: [] for word in SIGNS}
    for row in models[models["tier"] == FIRST_LESS_LAST].to_dict("records"):
        diff, low, high = (POINTS * row[f"{metric}_{end}"] for end in ("diff", "diff_low", "diff_high"))
        shown = f"{label(row['architecture'], row['variant'])} {interval(diff, low, high, 2)}"
        words[str(sign(row[f"{metric}_resolved"], diff, 1.0))].append(shown)
    if not any(words.values()):
        return []
    counts = [
        f"{word} {len(mine)}" + (f" ({', '.join(mine)})" if mine else "") for word, mine in words.items()
    ]
    alike, others = [], []
    for model in contestants(models):
        rows = rows_of(models, model)
        lifts = dict(zip(rows["tier"], rows[f"{metric}_diff"], strict=True))
        if all(tier in lifts for tier in TIERS):
            best_first = order({tier: lifts[tier] for tier in TIERS})
            name = label(*model)
            if best_first == list(TIERS):
                alike.append(name)
            else:
                others.append(f"{name} {' > '.join(best_first)}")
    return [
        f"{title}: the lift among low less that among high, x100, against the paper's direction (low gains "
        f"more): {'; '.join(counts)}. Order of the three lifts, resolved or not: low > middle > high, as in "
        f"most of the paper's columns: {', '.join(alike) or 'none'}; other: {', '.join(others) or 'none'}."
    ]


def _oracle_sentence(numbers: pd.DataFrame, title: str, metric: str) -> list[str]:
    """What there was to gain in each tier, where the true probabilities are known."""
    oracle = numbers[(numbers["kind"] == "reference") & (numbers["architecture"] == "oracle")]
    lifts = dict(zip(oracle["tier"], oracle[f"{metric}_diff"], strict=True))
    known = [f"{tier} {signed(POINTS * lifts[tier], 2)}" for tier in TIERS if not is_missing(lifts.get(tier))]
    return [f"{title}: the oracle's lift, all there is to gain, x100: {', '.join(known)}."] if known else []
