"""Which figures a section has data for, and which rows each of them shows."""

from __future__ import annotations

import pandas as pd

from harness.evaluation.scaling import scaling_fits, size_means
from harness.records.contestant import label, parts_of_name
from reports.ablation_figures import ablation_waterfall
from reports.beside import active_ratio_curves, paper_row, paper_table
from reports.cost_figures import quality_against_cost
from reports.curve_figures import loss_curves, validation_curves
from reports.drawings import Drawing, Figures
from reports.expert_figures import active_heat_map, active_over_training, expert_histogram
from reports.figures import contestants, forest, rows_among, rows_of
from reports.frames import active_experts_frame, loss_frame, routing_frame, validation_frame
from reports.paper import Paper
from reports.paper_scaling import paper_points, paper_slopes
from reports.ratio_figures import quality_against_active_ratio, series_rows
from reports.results import results_frame
from reports.scaling_figures import paper_scaling, quality_against_size, size_front
from reports.scaling_page import runs_by_size
from reports.sections import Section, slug
from reports.summary import METRICS
from reports.tier_figures import lift_by_tier

MOST_CURVES = 11  # more lines than this in one panel cannot be told apart


def section_figures(section: Section, paper: Paper) -> Figures:
    """The figures that a section has data for, by file stem."""
    figures = _quality_figures(section, paper)
    figures |= _scaling_figures(section, paper)
    figures |= _curve_figures(section)
    figures |= _expert_figures(section)
    return figures


def _quality_figures(section: Section, paper: Paper) -> Figures:
    results = results_frame([record for record in section.records if record.status == "finished"])
    shown = _in_suite_order(results, section)
    figures: Figures = {}
    differences = differences_frame(section, paper)
    if not differences.empty:
        caption = "Differences to the base, 95% intervals"
        figures[f"differences-{section.name}"] = Drawing(forest(differences), caption, differences)
    if takes_one_model_apart(section) and not differences.empty:
        caption = "What each change to the one model costs or gains, 95% intervals"
        drawn = ablation_waterfall(differences)
        figures[f"ablations-{section.name}"] = Drawing(drawn, caption, differences)
    if not section.tiers.empty:
        of_models = rows_among(section.tiers, [(c.architecture, c.variant) for c in section.contestants])
        of_models = _in_suite_order(of_models, section)
        caption = "Lift by user-activity tier, 95% intervals over users and seeds"
        figures[f"tiers-{section.name}"] = Drawing(lift_by_tier(of_models), caption, of_models)
    if section.suite.wants("active_ratio") and len(set(series_rows(shown)["ratio"])) > 1:
        beside = active_ratio_curves(paper) if section.suite.paper_table == "figure3" else None
        own = "" if beside is None else "; beside it the paper's Figure 3, which is of its own data and sizes"
        caption = f"Quality against the active ratio, 95% intervals over seeds{own}"
        drawn = quality_against_active_ratio(shown, beside)
        figures[f"active-ratio-{section.name}"] = Drawing(drawn, caption, shown)
    if shown["flops_per_sample"].notna().any() and runs_by_size(section).empty:
        caption = "Quality against forward FLOPs per sample"
        figures[f"quality-cost-{section.name}"] = Drawing(quality_against_cost(shown), caption, shown)
    return figures


def takes_one_model_apart(section: Section) -> bool:
    """Whether the rows are changes to the base, at no common budget: no series of ratios and no sizes."""
    changes = [contestant for contestant in section.contestants if contestant != section.base]
    return (
        section.suite.wants("ablations")
        and section.base is not None
        and len(changes) > 1
        and all(c.architecture == section.base.architecture for c in changes)
        and not any(c.ratio or c.size for c in changes)
        and not any(record.budget for record in section.records)
    )


def _scaling_figures(section: Section, paper: Paper) -> Figures:
    """Quality against size where a model has three sizes or more, and the paper's own figure of it."""
    runs = runs_by_size(section)
    means, fits = size_means(runs), scaling_fits(runs)
    figures: Figures = {}
    for task in dict.fromkeys(means["task"]):
        caption = f"{task} against size: means, 95% intervals over seeds, lines of points a decade"
        of_task = means[means["task"] == task]
        drawn = quality_against_size(of_task, fits[fits["task"] == task])
        figures[f"scaling-{section.name}-{slug(task)}"] = Drawing(drawn, caption, of_task)
        caption = f"{task}: what quality each size buys, with the Pareto front of the means"
        figures[f"front-{section.name}-{slug(task)}"] = Drawing(size_front(of_task), caption, of_task)
    if figures and section.suite.paper_table == "figure2":
        points = paper_points(paper)
        drawn = paper_scaling(points, paper_slopes(paper))
        caption = "The paper's Figure 2 with the same lines: its own data, sizes and base; no axis is shared"
        figures[f"scaling-paper-{section.name}"] = Drawing(drawn, caption, points)
    return figures


def _curve_figures(section: Section) -> Figures:
    models = [record for record in section.records if record.kind == "model"]
    figures: Figures = {}
    validation, left_out = few_enough(_in_suite_order(validation_frame(models), section))
    if validation.groupby(["architecture", "variant"])["samples"].nunique().max() > 1:
        caption = f"Validation over training samples{left_out}"
        figures[f"validation-{section.name}"] = Drawing(validation_curves(validation), caption, validation)
    losses, left_out = few_enough(_in_suite_order(loss_frame(models), section))
    if not losses.empty:
        caption = f"Training loss (running mean){left_out}"
        figures[f"loss-{section.name}"] = Drawing(loss_curves(losses), caption, losses)
    return figures


def few_enough(curves: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """The curves that one panel can hold, and what the caption must say of those left out.

    Where there are more than eleven, each series of variants is shown by its last row alone.
    """
    models = contestants(curves)
    if len(models) <= MOST_CURVES:
        return curves, ""
    last = {(model[0], parts_of_name(model[1])[0]): model for model in models}
    kept = list(last.values())
    hidden = len(models) - len(kept)
    said = f"; of each series only its last row, {hidden} models left out" if hidden else ""
    return rows_among(curves, kept), said


def _expert_figures(section: Section) -> Figures:
    """Active experts over training and at the end; only those whose router decides how many are active.

    A router that always takes its k best has the same ratio everywhere at all times, which needs no picture;
    which experts it takes is in the histogram. Experts that are all active on every row need neither.
    """
    figures: Figures = {}
    routing = _in_suite_order(routing_frame(section.records), section)
    for model in contestants(routing):
        mine = rows_of(routing, model)
        if len(set(mine["samples"])) > 1 and _differs(mine["active"]):
            caption = f"Active experts over training: {label(*model)}"
            stem = f"active-{section.name}-{slug(label(*model))}"
            figures[stem] = Drawing(active_over_training(mine), caption, mine)
    experts = _in_suite_order(active_experts_frame(section.records), section)
    if experts.empty:
        return figures
    keys = ["architecture", "variant", "seed", "layer", "token"]
    ratios = experts.groupby(keys, sort=False)["share"].mean().reset_index()
    free = [model for model in contestants(ratios) if _differs(rows_of(ratios, model)["share"])]
    if free:
        caption = "Active ratio on the test split by layer and token, mean over seeds"
        mine = rows_among(experts, free)
        figures[f"active-map-{section.name}"] = Drawing(active_heat_map(mine), caption, mine)
    routed = [model for model in contestants(experts) if rows_of(experts, model)["share"].min() < 1]
    if routed:
        caption = "How often each expert is active on the test split; dead: on less than 0.1% of its rows"
        mine = rows_among(experts, routed)
        figures[f"experts-{section.name}"] = Drawing(expert_histogram(mine), caption, mine)
    return figures


def _differs(ratios: pd.Series) -> bool:
    return bool(ratios.max() - ratios.min() > 1e-3)


def differences_frame(section: Section, paper: Paper) -> pd.DataFrame:
    """The section's rows of ``comparisons.csv`` in suite order, with the paper's gain as ``paper_gain``."""
    rows = section.comparisons
    rows = _in_suite_order(rows[rows["diff"].notna() & rows["metric"].isin(METRICS)], section)
    rows = rows_among(rows, [(c.architecture, c.variant) for c in section.contestants])
    printed = paper_table(section, paper)
    beside = {(c.architecture, c.variant): paper_row(printed, c) for c in section.contestants}
    gains = []
    for row in rows.to_dict("records"):
        of_paper = beside.get((row["architecture"], row["variant"]))
        column = printed.column(row["task"], row["metric"]) if printed else None
        gains.append(of_paper.numbers.get(column) if of_paper and column and not of_paper.base else None)
    return rows.assign(paper_gain=pd.Series(gains, index=rows.index, dtype=float))


def _in_suite_order(frame: pd.DataFrame, section: Section) -> pd.DataFrame:
    """Rows in the order of the section's contestants, references last."""
    order = {(c.architecture, c.variant): number for number, c in enumerate(section.contestants)}
    keys = zip(frame["architecture"], frame["variant"].fillna(""), strict=True)
    position = pd.Series([order.get(key, len(order)) for key in keys], index=frame.index, dtype=int)
    return frame.loc[position.sort_values(kind="stable").index]
