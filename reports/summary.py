"""The sentences of a section of the report, all of them written from the data."""

from __future__ import annotations

from statistics import median

import pandas as pd

from harness.evaluation.differences import MIN_RUNS
from harness.records.contestant import Contestant
from harness.records.record import Record
from harness.records.select import FITTED_REFERENCES
from harness.records.spec import Budget
from reports.cells import count, fixed, grouped, is_missing, model_name, percent, short, size_words
from reports.sections import Section
from reports.tables.quality import select_metric
from reports.verdict import about_its_seeds, about_the_base

FEW_SEEDS = 5
FAR_SMALLER = 3
NOT_ONE_FEATURE = ("oracle", "constant", *FITTED_REFERENCES)
CHANCE_AUC = 0.55
RECIPE = ("recipe", "dense_optimizer", "dense_lr", "sparse_optimizer", "sparse_lr", "batch_size", "epochs")

Bullets = list[str]


def compared(section: Section) -> Bullets:
    """What was compared, on what data, at what budget, with how many seeds."""
    first = section.records[0]
    bullets = [_data_sentence(section, first)]
    if not section.contestants:
        return [*bullets, "Only reference rows ran; no architecture is compared."]
    names = ", ".join(contestant.display_name for contestant in section.contestants)
    seeds = sorted({len(section.runs_of(contestant)) for contestant in section.contestants})
    noun = "run" if section.num_worlds else "seed"
    repeated = f"{_range(seeds)} {noun if seeds == [1] else noun + 's'} each"
    repeated += f", over {count(section.num_worlds, 'world')}" if section.num_worlds else ""
    bullets.append(
        f"{count(len(section.contestants), 'model')}: {names}; {repeated}; "
        f"tasks: {', '.join(section.tasks) or 'none'}."
    )
    bullets.append(_budget_sentence(section))
    bullets += _recipe_sentence(section)
    return bullets


def _data_sentence(section: Section, record: Record) -> str:
    info = record.dataset_info
    rows = ", ".join(f"{grouped(number)} {split}" for split, number in info.rows.items())
    users = f"; {grouped(info.users)} users" if info.users is not None else ""
    world = f", world {record.world}" if section.num_worlds > 1 else ""
    return f"Data: {section.dataset}{world}" + (f", rows: {rows}" if rows else "") + f"{users}."


def _budget_sentence(section: Section) -> str:
    budgets = [run.budget for run in section.records if run.budget]
    targets = list(dict.fromkeys(map(_target, budgets)))
    if not targets:
        return _no_budget_sentence(section)
    sizes = ", ".join(targets)
    misses = [abs(budget.miss) for budget in budgets if budget.miss is not None]
    largest = f"; largest miss {percent(max(misses))}" if misses else ""
    whose = "the same for every model" if len(targets) == 1 else "one for each row"
    return f"Budget: {sizes}, {whose}{largest}."


def _target(budget: Budget) -> str:
    if budget.kind == "latency_ms_p99":
        return f"a measured p99 of {budget.target:g} ms for {budget.batch_size} rows"
    return size_words(budget.kind, budget.target)


def _no_budget_sentence(section: Section) -> str:
    """Says that sizes were not matched, and which rows have other widths or depths than the base."""
    no_budget = "Budget: none; the cost of a row follows from its settings and is shown in the cost table"
    base = section.base
    shared = _sizes(section, base) if base else {}
    if base is None or not shared or any(c.architecture != base.architecture for c in section.contestants):
        return f"{no_budget}."
    others = []
    for contestant in section.contestants:
        own = _sizes(section, contestant)
        changed = [
            f"{name} {own.get(name, 'its default')}" for name in shared if own.get(name) != shared[name]
        ]
        others += [f"{contestant.display_name} ({', '.join(changed)})"] if changed else []
    widths = ", ".join(f"{name} {value}" for name, value in shared.items())
    but = f", except {', '.join(others)}" if others else ""
    return f"{no_budget}, compared with the base's. Every row has the base's widths ({widths}){but}."


def _sizes(section: Section, contestant: Contestant) -> dict[str, int]:
    """The widths and depths that the contestant's settings name."""
    config = section.runs_of(contestant)[0].spec.get("config")
    if not isinstance(config, dict):
        return {}
    return {name: value for name, value in config.items() if name.endswith("_dim") or name == "num_layers"}


def _recipe_sentence(section: Section) -> Bullets:
    recipes = []
    for run in section.records:
        asked = run.spec.get("training")
        if run.kind == "model" and isinstance(asked, dict):
            recipes.append({name: asked[name] for name in RECIPE if name in asked})
    also = ""
    if section.suite.tuned and recipes:
        tuned = [name for name in recipes[0] if any(r.get(name) != recipes[0][name] for r in recipes)]
        recipes = [{name: value for name, value in recipes[0].items() if name not in tuned}]
        also = f"; tuned for each model, as its table shows: {', '.join(tuned)} and more" if tuned else ""
    texts = [", ".join(f"{name} {value}" for name, value in recipe.items()) for recipe in recipes]
    return [f"Training: {'; or '.join(dict.fromkeys(texts))}{also}."] if any(texts) else []


def cautions(section: Section, tables: dict[str, pd.DataFrame]) -> Bullets:
    """What cannot be concluded from this section, and what was odd about it."""
    sentences = [*section.acknowledged, *_untrained(section, tables)]
    sentences += _missing_worlds(section)
    sentences += [] if section.no_verdict else _about_seeds(section)
    sentences += about_the_base(section, tables) + about_its_seeds(section) + _far_smaller(section)
    if len(section.contestants) > 2 and not section.no_verdict:
        also = " and the declared contrasts" if not section.contrasts.empty else ""
        also += " and those of variants to their own architecture" if not section.variants.empty else ""
        sentences.append(
            f"Only differences to {section.base_name}{also} were tested; any other order of two models is "
            "untested."
        )
    if section.superseded:
        sentences.append(
            f"This folder holds {count(len(section.superseded), 'older run')} with other settings or models "
            "than the suite asked for last. They are in results.csv but not in the tables."
        )
    if section.suite.paper_table:
        sentences.append("These are not the paper's data: its numbers beside ours are context, not a target.")
    return sentences + dataset_notes(section)


def _missing_worlds(section: Section) -> Bullets:
    there = {run.world for run in section.records}
    missing = [str(n) for n in section.suite.worlds.get(section.dataset, []) if n not in there]
    if not missing:
        return []
    return [f"The suite has worlds of which no run counts here: {', '.join(missing)}. All is of the others."]


def _far_smaller(section: Section) -> Bullets:
    """Models that are far smaller than the others, where no budget made them equal."""
    runs = [section.runs_of(contestant)[0] for contestant in section.contestants]
    flops = {run.contestant.display_name: run.cost.flops_per_sample for run in runs if run.cost}
    if any(run.budget for run in runs) or len(flops) < 3:
        return []
    middle = median(flops.values())
    small = [f"{name} ({short(size)})" for name, size in flops.items() if size < middle / FAR_SMALLER]
    if not small:
        return []
    return [
        f"Far smaller than the others, whose median is {short(middle)} forward FLOPs per sample: "
        f"{', '.join(small)}. A difference to them is also one of size."
    ]


def _about_seeds(section: Section) -> Bullets:
    """What cannot be concluded from so few seeds or worlds."""
    fewest = min((_repeats(section, who) for who in section.contestants), default=FEW_SEEDS)
    over = section.repeats
    if fewest < MIN_RUNS:
        return [
            f"No difference to a model with fewer than {MIN_RUNS} finished {over} is called resolved: it is "
            f"not known well enough how much another {over[:-1]} would change."
        ]
    if fewest < FEW_SEEDS:
        return [
            f"With {fewest} {over} the spread over {over} is itself only roughly known; with {FEW_SEEDS} or "
            "more, smaller differences can be resolved."
        ]
    return []


def _repeats(section: Section, who: Contestant) -> int:
    """The worlds in which a model finished or, where there are not several, its seeds."""
    runs = section.select_finished(who)
    return len({run.world for run in runs}) if section.num_worlds > 1 else len(runs)


def _untrained(section: Section, tables: dict[str, pd.DataFrame]) -> Bullets:
    """Models that did no better than chance, a constant, or one feature: these sentences come first."""
    sentences = []
    for task, numbers in tables.items():
        rows = select_metric(numbers, "auc")
        entropies = [row["mean"] for row in select_metric(numbers, "normalized_entropy")]
        references = {row["architecture"]: row["mean"] for row in rows if row["kind"] == "reference"}
        single = {name: auc for name, auc in references.items() if name not in NOT_ONE_FEATURE}
        for row, entropy in zip(rows, entropies, strict=True):
            if row["kind"] != "model" or is_missing(row["mean"]):
                continue
            if reasons := _signs_of_no_training(row["mean"], entropy, single):
                name = model_name(row)
                about_base = " This is the base: differences to it say little about the others."
                sentences.append(
                    f"On {task}, {name} did not train well under this recipe ({'; '.join(reasons)})."
                    + (about_base if row["is_base"] else "")
                )
    return sentences


def _signs_of_no_training(auc: float, entropy: float, single: dict[str, float]) -> list[str]:
    reasons = [f"AUC {fixed(auc, 4)} is near chance"] if auc < CHANCE_AUC else []
    if not is_missing(entropy) and entropy >= 1:
        reasons.append(f"normalized entropy {fixed(entropy, 3)}: its log loss is no better than a constant's")
    return reasons + [
        f"AUC {fixed(auc, 4)} is below {name}'s {fixed(best, 4)}"
        for name, best in single.items()
        if not is_missing(best) and auc < best
    ]


def dataset_notes(section: Section) -> Bullets:
    """What a reader must know of a shipped dataset before reading its table."""
    if section.dataset == "shortvideo":
        return [_about_the_simulation(section)]
    notes = []
    if section.num_worlds > 1:
        notes.append(_about_worlds_of_one_log(section))
    if section.dataset.startswith("kuairand") and "finish" in section.tasks:
        notes.append(
            "On KuaiRand, finish is largely an effect of the video's duration: compare it with the "
            "duration_only row, which knows nothing else."
        )
    found = section.records[0].dataset_info.notes
    if "validation" in found:
        notes.append(f"Validation: {found['validation']}.")
    if str(found.get("published files", "")).startswith("NOT"):
        notes.append(
            f"{found['published files']}: nothing here can be compared with figures published on "
            f"{section.dataset}."
        )
    return notes


def _about_worlds_of_one_log(section: Section) -> str:
    if section.records[0].spec.get("dataset_options", {}).get("worlds_of") == "splits":
        return (
            f"The {section.num_worlds} worlds are splits of one log, each a day earlier, which share most of "
            "their rows: what is resolved is what they agree on. Other users or another month may differ."
        )
    return (
        f"The {section.num_worlds} worlds are draws of the training rows of one log. What is resolved "
        "over them holds for the mean over such draws; another log could say otherwise."
    )


def _about_the_simulation(section: Section) -> str:
    notes = section.records[0].dataset_info.notes
    kinds = (
        "six kinds in equal shares"
        if "interacting_gated" in notes
        else "products of low rank, which is what cross networks (DCN) compute: if these lead, it says little"
    )
    drawn = (
        f"These are {section.num_worlds} draws of such a world"
        if section.num_worlds > 1
        else "This is one draw of such a world; in another, another model may lead (--worlds 5 runs five)"
    )
    return (
        f"shortvideo is synthetic. Its interactions are {kinds}. {drawn}. It can show what a model learns of "
        "a known signal, not that it would win on a real log. The oracle row scores with the true "
        "probabilities, which no model should beat."
    )


def failures(section: Section) -> Bullets:
    """Failed runs, each with its step and reason."""
    return [
        run.contestant.display_name
        + (f", world {run.world}" if run.world is not None else "")
        + f", seed {run.seed}: failed"
        + (f" at step {run.failure.step}" if run.failure and run.failure.step is not None else "")
        + (f": {run.failure.reason}" if run.failure else "")
        for run in section.records
        if run.status == "failed"
    ]


def environments(section: Section) -> Bullets:
    """The machines and versions of this section's runs; one bullet where all are the same."""
    seen = dict.fromkeys(
        ", ".join(f"{name} {value}" for name, value in run.environment.items() if value is not None)
        for run in section.records
    )
    return [text for text in seen if text]


DEFINITIONS: Bullets = [
    "AUC: over all test rows where the task is defined, ties counting one half.",
    "UAUC: the plain mean of each user's own AUC, over users who have both labels; the others are left out.",
    "GAUC: the same mean, each user weighted by their rows.",
    "FLOPs: matrix products of the dense side (target attention, the architecture with its projections, the "
    "towers) in the forward pass, where a multiply-add counts as two; look-ups, norms, activations and the "
    "optimizer are not counted. Training counts three times its forward pass, with every expert and view. "
    "Active FLOPs leave out experts that a sample does not use.",
    "MFU: model FLOPs per second over the peak that the cost table names; recomputation is not counted.",
    "Interval of a mean: 95%, Student's t over its seeds or, where there are several worlds, over the "
    "worlds' means.",
    "Interval of a difference: the middle 95% when users and seeds are drawn anew together. Users: from "
    "those of the test split, the same draw for both models. Seeds: Student's t, with the spread of this "
    "model's own differences to the base, seed by seed. Where there are several worlds: Student's t over the "
    "worlds' differences, with the draws of users only where all worlds have the same test rows. The runs "
    "of other rows are not used.",
    "p-value: twice the share of those draws (with several worlds, of that t distribution) on the smaller "
    "side of zero. It is below .05 where the interval leaves out zero.",
    "Resolved (higher, lower): the p-value is below .05 after Holm's correction over all tested models of "
    "one dataset, task and metric; there is no correction across datasets, tasks and metrics. Not resolved "
    "does not show that there is no difference. With fewer than three seeds (or worlds), with too few users "
    "or with a failed seed, nothing is claimed.",
    "Effect size: the difference in standard deviations of one run over seeds.",
]


def _range(numbers: list[int]) -> str:
    return str(numbers[0]) if len(numbers) == 1 else f"{numbers[0]} to {numbers[-1]}"
