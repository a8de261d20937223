"""The lift by user-activity tier: a table a task, and sentences about the paper's online Table 4.

The lift is the difference to the base within one tier of users. ``tiers.csv`` has it with its interval, and,
as ``low - high``, the lift in one tier minus that in another; only this says whether one tier gains more.
"""

from __future__ import annotations

import math

import pandas as pd

from harness.evaluation.comparisons import TEST_COLUMNS
from harness.evaluation.quality import difference, to_wide
from harness.evaluation.tiers import TIERS
from harness.records.listed import display_name
from reports.cells import METRICS, POINTS, by_word, fixed, grouped, interval, is_missing, model_name, signed
from reports.figures.drawing.models import contestants, select_model
from reports.paper.comparison import SIGNS, paper_table, sign
from reports.paper.printed import Table as PaperTable
from reports.paper.printed import load_paper
from reports.sections import Section, slug
from reports.tables.markup import Table
from reports.tables.quality import difference_cell, in_points, select_metric
from reports.tables.significance import detectable_note

FIRST_LESS_LAST = "low - high"
ONLINE = "online, another quantity: only the order of tiers can be compared"
WHAT_TIERS_ARE = (
    "Tiers are thirds of the users who have training rows, by how many they have: counted in the "
    "training split alone. Users without a training row are in the low tier. (A schema that names a tier "
    "column has its own tiers.)"
)
Lifts = dict[str, float]  # by tier


def tier_numbers(section: Section, task: str) -> pd.DataFrame:
    """One row a contestant (base first) or reference, tier or pair of tiers, and metric; AUCs are fractions.

    Columns: kind, architecture, variant, is_base, task, tier; ``users`` and ``rows`` of the tier's test rows,
    ``users_with_both_labels``, ``seeds``; metric (auc, uauc), its mean over seeds, and the quantities of the
    difference to the base (:func:`harness.evaluation.quality.difference`). ``paper_<app>`` is the paper's
    online lift in percent, given in the rows of RankMixer.
    """
    pairs = [tier for tier in dict.fromkeys(section.tiers["tier"]) if tier not in TIERS]
    everyone = [(who, "model") for who in section.contestants]
    everyone += [(who, "reference") for who in section.references]
    lifts = paper_lifts(paper_table(section), task)
    rows = []
    for who, kind in everyone:
        is_base = kind == "model" and who == section.base
        for tier in [*TIERS, *([] if is_base else pairs)]:
            shared: dict[str, object] = {
                **{"kind": kind, "architecture": who.architecture, "variant": who.variant},
                **{"is_base": is_base, "task": task, "tier": tier},
            }
            runs = select_model(_select_tier(section, task, tier), who.key)
            shared |= _counts(runs)
            for app, by_tier in lifts.items():
                is_papers_model = kind == "model" and who.label == "rankmixer"
                shared[f"paper_{app}"] = by_tier.get(tier, math.nan) if is_papers_model else math.nan
            for metric in METRICS:
                mean = float(runs[metric].mean()) if len(runs) else math.nan
                lift = difference(section.tiers, task, metric, who, tier)
                rows.append(shared | {"metric": metric, "mean": mean} | lift)
    return pd.DataFrame(rows)


def _csv_numbers(numbers: pd.DataFrame) -> pd.DataFrame:
    """One row a contestant and tier, as the table's CSV file has them."""
    ends = ("diff_low", "diff_high", "diff_users_low", "diff_users_high")
    names = (*ends, *TEST_COLUMNS, "diff", "resolved")
    columns = {m: {"mean": m} | {name: f"{m}_{name}" for name in names} for m in METRICS}
    return to_wide(numbers, columns)


def paper_lifts(printed: PaperTable | None, task: str) -> dict[str, Lifts]:
    """The paper's lifts in its column of this task's name, in percent, by app and tier; none without one."""
    lifts: dict[str, Lifts] = {}
    for row in printed.rows if printed and task in printed.columns else []:
        if row.tier:
            lifts.setdefault(row.name.rpartition(", ")[0], {})[row.tier] = row.numbers[task]
    return lifts


def _select_tier(section: Section, task: str, tier: str) -> pd.DataFrame:
    metrics = section.tier_metrics
    return metrics[(metrics["task"] == task) & (metrics["tier"] == tier)]


def _counts(runs: pd.DataFrame) -> dict[str, int | None]:
    if runs.empty:
        return {"seeds": 0, "users": None, "rows": None, "users_with_both_labels": None}
    return {
        "seeds": len(runs),
        "users": int((runs["users"] + runs["one_class_users"]).max()),
        "rows": int(runs["rows"].max()),
        "users_with_both_labels": int(runs["users"].max()),
    }


# --- For people to read -----------------------------------------------------------------------------------


def tier_tables(section: Section) -> list[Table]:
    """A table a task: architecture x tier, and the differences between tiers; none without tiers."""
    if section.tiers.empty:
        return []
    return [_tier_table(section, task) for task in section.tasks]


def _tier_table(section: Section, task: str) -> Table:
    numbers = tier_numbers(section, task)
    printed = paper_table(section)
    apps = list(paper_lifts(printed, task))
    rows_by_metric = {metric: select_metric(numbers, metric) for metric in METRICS}
    rows = rows_by_metric["auc"]
    columns: dict[str, list[str]] = {
        "model": list(map(model_name, rows)),
        "tier": [row["tier"] for row in rows],
        "users": [grouped(row["users"]) for row in rows],
        "rows": [grouped(row["rows"]) for row in rows],
    }
    for metric, measured in rows_by_metric.items():
        columns[metric.upper()] = [fixed(row["mean"], 4) for row in measured]
        columns[f"{metric.upper()} vs base x100"] = list(map(difference_cell, measured))
    notes = [
        WHAT_TIERS_ARE,
        f"vs base: the lift, in AUC points x 100 with its 95% interval over {section.drawn_anew}; in a row "
        f"such as {FIRST_LESS_LAST!r} the lift in the first tier less that in the second. Verdicts are "
        "corrected over the models of a tier, task and metric.",
    ]
    notes += detectable_note(numbers)
    if apps and printed:
        unit, title = printed.columns[task].unit, printed.columns[task].label
        notes.append(f"paper: {printed.label} of {load_paper().citation}, RankMixer-1B, {unit}; {ONLINE}.")
        for app in apps:
            columns[f"paper, online: {title} % ({app})"] = [signed(row[f"paper_{app}"], 2) for row in rows]
    return Table.from_columns(
        name=f"tiers-{section.name}-{slug(task)}",
        caption=f"Lift by user-activity tier on {section.dataset}, task {task}, test split",
        numbers=_csv_numbers(numbers),
        columns=columns,
        notes=notes,
        num_references=sum(row["kind"] == "reference" for row in rows),
    )


def by_user_activity(section: Section) -> list[str]:
    """What tiers are, whether low-activity users gain most here, and what the paper's online table says."""
    if section.tiers.empty:
        return []
    sentences = [f"An offline counterpart of an online table. {WHAT_TIERS_ARE}"]
    sentences += [_sizes_sentence(section, task) for task in section.tasks]
    if printed := paper_table(section):
        sentences.append(_paper_sentence(printed))
    for task in section.tasks:
        numbers = tier_numbers(section, task)
        for metric in METRICS:
            rows = numbers[numbers["metric"] == metric]
            sentences += _direction_sentence(rows, f"{task}, {metric.upper()}")
            sentences += _oracle_sentence(rows, f"{task}, {metric.upper()}")
    sentences.append(
        "A tier has fewer users and rows than the whole split, so its differences are less certain. Tiers "
        "also differ in how hard they are to rank: compare lifts over the base between tiers, not AUCs."
    )
    return sentences


def _sizes_sentence(section: Section, task: str) -> str:
    parts = []
    for tier in TIERS:
        counts = _counts(_select_tier(section, task, tier))
        if counts["seeds"]:
            users, both, rows = (
                grouped(counts[name]) for name in ("users", "users_with_both_labels", "rows")
            )
            parts.append(f"{tier} {users} users ({both} with both labels), {rows} rows")
    return f"Test split, {task}: {'; '.join(parts)}."


def _paper_sentence(printed: PaperTable) -> str:
    """In how many of its columns the paper's lift falls from low to high."""
    columns = [lifts for name in printed.columns for lifts in paper_lifts(printed, name).values()]
    falling = sum(order(lifts) == list(TIERS) for lifts in columns)
    low_above = sum(lifts["low"] > lifts["high"] for lifts in columns)
    return (
        f"The paper's {printed.label} ({ONLINE}): the lift is larger among low-activity users than among "
        f"high-activity ones in {low_above} of its {len(columns)} columns, and low > middle > high in "
        f"{falling}."
    )


def order(lifts: Lifts) -> list[str]:
    """Tiers from the largest lift to the smallest."""
    return sorted(lifts, key=lambda tier: -lifts[tier])


def _direction_sentence(numbers: pd.DataFrame, title: str) -> list[str]:
    """Whether low or high gains more (in the paper low does), and the order of the three lifts."""
    models = numbers[(numbers["kind"] == "model") & ~numbers["is_base"] & numbers["diff"].notna()]
    names_by_sign: dict[str, list[str]] = {word: [] for word in SIGNS}
    for row in models[models["tier"] == FIRST_LESS_LAST].to_dict("records"):
        diff, low, high = in_points(row)
        shown = f"{model_name(row)} {interval(diff, low, high, 2)}"
        names_by_sign[str(sign(row["resolved"], diff, 1.0))].append(shown)
    if not any(names_by_sign.values()):
        return []
    alike, others = [], []
    for model in contestants(models):
        rows = select_model(models, model)
        lifts = dict(zip(rows["tier"], rows["diff"], strict=True))
        if all(tier in lifts for tier in TIERS):
            best_first = order({tier: lifts[tier] for tier in TIERS})
            name = display_name(*model)
            if best_first == list(TIERS):
                alike.append(name)
            else:
                others.append(f"{name} {' > '.join(best_first)}")
    return [
        f"{title}: the lift in the low tier minus that in the high tier, x100, compared with the paper's "
        f"direction (low gains more): {by_word(names_by_sign)}. Order of the three lifts, resolved or not: "
        f"low > middle > high, as in most of the paper's columns: {', '.join(alike) or 'none'}; "
        f"other: {', '.join(others) or 'none'}."
    ]


def _oracle_sentence(numbers: pd.DataFrame, title: str) -> list[str]:
    """What there was to gain in each tier, where the true probabilities are known."""
    oracle = numbers[(numbers["kind"] == "reference") & (numbers["architecture"] == "oracle")]
    lifts = dict(zip(oracle["tier"], oracle["diff"], strict=True))
    known = [f"{tier} {signed(POINTS * lifts[tier], 2)}" for tier in TIERS if not is_missing(lifts.get(tier))]
    return [f"{title}: the oracle's lift, all there is to gain, x100: {', '.join(known)}."] if known else []
