"""Which figures a section has data for, and which rows each of them shows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd

from harness.evaluation.learning_curves import Kind
from harness.evaluation.oracle.loss_fits import loss_points
from harness.evaluation.scaling import scaling_fits, size_means
from harness.records.contestant import label
from harness.records.listed import display_name
from reports.cells import METRICS
from reports.figures.active_ratio import quality_against_active_ratio, series_rows
from reports.figures.cost import costs_differ, quality_against_cost, quality_against_latency
from reports.figures.curves import learning_curves, loss_curves, validation_curves
from reports.figures.differences import ablation_waterfall, forest, lift_by_tier
from reports.figures.drawing.models import Model, contestants, family, looks_for, select_model, select_models
from reports.figures.drawing.saving import Drawing, Figures
from reports.figures.experts import active_heat_map, active_over_training, expert_histogram
from reports.figures.learning_rates import learning_rate_curves
from reports.figures.loss_front import loss_against_compute
from reports.figures.scaling import paper_scaling, quality_against_size, size_front
from reports.frames import active_experts_frame, loss_frame, routing_frame, validation_frame
from reports.paper.comparison import active_ratio_curves, has_the_papers_base, paper_row, paper_table
from reports.paper.printed import load_paper
from reports.paper.scaling import paper_points, paper_slopes
from reports.results import results_frame
from reports.sections import Section, slug
from reports.tables.analyses.learning_curves import learning_curve_frame
from reports.tables.analyses.scaling import runs_by_size
from reports.tables.speeds import shown_speeds
from reports.tables.tuning import learning_rate_frame

LATENCY = ("batch_size", "latency_ms_p99", "latency_ms_p99_low", "latency_ms_p99_high", "noisy")
FRONT_TASKS = 2
FRONT_WIDTH = 4.4  # inches: three stand side by side on a wide screen
MOST_CURVES = 11  # more lines than this in one panel cannot be told apart
KINDS_OF_CURVES: dict[Kind, tuple[str, str]] = {
    "tested": ("learning-curve", "on the test split"),
    "ahead": ("ahead", "of windows before they are trained on"),
}
Named = Iterator[tuple[str, Drawing]]  # figures with the stems of their files


def section_figures(section: Section) -> Figures:
    """The figures that a section has data for, by file stem; a model has the same colour in all of them."""
    looks = looks_for(_models(section))
    found = [
        *_difference_figures(section),
        *_quality_figures(section),
        *_scaling_figures(section),
        *_curve_figures(section),
        *_expert_figures(section),
    ]
    return {stem: drawing.with_options(looks=looks) for stem, drawing in found}


def front_figures(section: Section) -> Figures:
    """What a page begins with: differences in AUC of the first tasks, and one task's against latency.

    One panel each, so that they stand side by side on a wide screen and below each other on a phone.
    """
    height = max(3.0, 0.9 + 0.22 * len(section.contestants))
    options = {"size": (FRONT_WIDTH, height), "names": _short_names(section)}
    options |= {"looks": looks_for(_models(section))}
    figures: Figures = {}
    rows = differences_frame(section)
    for task in [] if rows.empty else section.tasks[:FRONT_TASKS]:
        shown = _auc_of(rows, task).drop(columns="paper_gain")
        if not shown.empty:
            caption = f"AUC of {task}: differences to {section.base_name}, 95% intervals"
            stem = f"front-differences-{section.name}-{slug(task)}"
            figures[stem] = Drawing(forest, shown, caption, options=options)
    latencies = latency_frame(section)
    if not latencies.empty:
        task = latencies["task"].iloc[0]
        caption = f"AUC of {task} against the measured p99"
        drawing = Drawing(quality_against_latency, _auc_of(latencies, task), caption, options=options)
        figures[f"front-latency-{section.name}"] = drawing
    return figures


def _short_names(section: Section) -> dict[str, str]:
    """Variants alone where all are of one architecture: the title says of which."""
    if len({contestant.architecture for contestant in section.contestants}) > 1:
        return {}
    return {c.label: c.variant for c in section.contestants if not c.is_plain}


def _auc_of(rows: pd.DataFrame, task: str) -> pd.DataFrame:
    return rows[(rows["task"] == task) & (rows["metric"] == "auc")]


def _models(section: Section) -> list[Model]:
    return [contestant.key for contestant in section.contestants]


def _difference_figures(section: Section) -> Named:
    rows = differences_frame(section)
    if not rows.empty:
        yield f"differences-{section.name}", Drawing(forest, rows, "Differences to the base, 95% intervals")
    if is_ablation_of_one_model(section) and not rows.empty:
        caption = "What each change to the one model costs or gains, 95% intervals"
        yield f"ablations-{section.name}", Drawing(ablation_waterfall, rows, caption)
    if not section.tiers.empty:
        tiers = _in_suite_order(select_models(section.tiers, _models(section)), section)
        caption = f"Lift by user-activity tier, 95% intervals over {section.drawn_anew}"
        yield f"tiers-{section.name}", Drawing(lift_by_tier, tiers, caption)


def _quality_figures(section: Section) -> Named:
    results = results_frame([record for record in section.records if record.status == "finished"])
    results = _in_suite_order(results, section)
    if section.suite.wants("active_ratio") and len(set(series_rows(results)["ratio"])) > 1:
        printed = active_ratio_curves(load_paper()) if section.suite.paper_table == "figure3" else None
        with_paper = "" if printed is None else "; beside it the paper's Figure 3, of its own data and sizes"
        caption = f"Quality against the active ratio, 95% intervals over {section.repeats}{with_paper}"
        yield (
            f"active-ratio-{section.name}",
            Drawing(quality_against_active_ratio, results, caption, (printed,)),
        )
    if costs_differ(results) and runs_by_size(section).empty:
        caption = "Quality against forward FLOPs per sample"
        yield f"quality-cost-{section.name}", Drawing(quality_against_cost, results, caption)
    latencies = latency_frame(section)
    if not latencies.empty:
        caption = "Quality against the measured latency, 95% intervals"
        yield f"quality-latency-{section.name}", Drawing(quality_against_latency, latencies, caption)


def latency_frame(section: Section) -> pd.DataFrame:
    """What `quality_against_latency` draws; empty where no latency or no difference is known."""
    rows = section.comparisons[section.comparisons["metric"].isin(METRICS)]
    base, speeds = section.base, {who.key: speed for who, speed in shown_speeds(section).items()}
    if base is None or not speeds or rows.empty:
        return pd.DataFrame()
    named = {"architecture": base.architecture, "variant": base.variant, "base": base.display_name}
    zero: dict[str, Any] = {"diff": 0.0, "low": None, "high": None, "resolved": ""}
    found = []
    for key, differences in rows.groupby(["task", "metric"], sort=False):
        base_row = dict(zip(("task", "metric"), key, strict=True)) | named | zero  # type: ignore[arg-type]
        for row in [base_row, *differences.to_dict("records")]:
            if model := speeds.get((row["architecture"], row["variant"])):
                kept = {name: row[name] for name in base_row}
                found.append(kept | {name: getattr(model, name) for name in LATENCY})
    return _in_suite_order(pd.DataFrame(found), section) if found else pd.DataFrame()


def is_ablation_of_one_model(section: Section) -> bool:
    """Whether the rows are changes to the base, at no common budget: no series of ratios and no sizes."""
    base = section.base
    changes = [contestant for contestant in section.contestants if contestant != base]
    return (
        section.suite.wants("ablations")
        and base is not None
        and len(changes) > 1
        and all(c.architecture == base.architecture for c in changes)
        and not any(c.ratio or c.size for c in changes)
        and not any(record.budget for record in section.records)
    )


def _scaling_figures(section: Section) -> Named:
    """Quality against size where a model has three sizes or more, and the paper's own figure of it."""
    runs = runs_by_size(section)
    means, fits = size_means(runs), scaling_fits(runs)
    for task in dict.fromkeys(means["task"]):
        stem, rows = f"{section.name}-{slug(task)}", means[means["task"] == task]
        caption = (
            f"{task} against size: means, 95% intervals over {section.repeats}, lines of points a decade"
        )
        lines = fits[fits["task"] == task]
        yield f"scaling-{stem}", Drawing(quality_against_size, rows, caption, (lines,))
        caption = f"{task}: what quality each size buys, with the Pareto front of the means"
        yield f"front-{stem}", Drawing(size_front, rows, caption)
    if not means.empty and section.suite.paper_table == "figure2":
        caption = "The paper's Figure 2 with the same lines: its own data, sizes and base; no axis is shared"
        paper = load_paper()
        drawing = Drawing(paper_scaling, paper_points(paper), caption, (paper_slopes(paper),))
        yield f"scaling-paper-{section.name}", drawing


def _curve_figures(section: Section) -> Named:
    models = [record for record in section.records if record.kind == "model"]
    validation, left_out = few_enough(_in_suite_order(validation_frame(models), section))
    if validation.groupby(["architecture", "variant"])["samples"].nunique().max() > 1:
        caption = f"Validation over training samples{left_out}"
        yield f"validation-{section.name}", Drawing(validation_curves, validation, caption)
    losses, left_out = few_enough(_in_suite_order(loss_frame(models), section))
    if not losses.empty:
        yield f"loss-{section.name}", Drawing(loss_curves, losses, f"Training loss (running mean){left_out}")
    for kind, (stem, words) in KINDS_OF_CURVES.items():
        rows = _in_suite_order(learning_curve_frame(section, kind), section)
        if not rows.empty:
            caption = f"Differences to {section.base_name} {words} over training samples, 95% intervals"
            yield f"{stem}-{section.name}", Drawing(learning_curves, rows, caption)
    if not section.loss_fits["E"].dropna().empty:
        caption = (
            "Loss above the oracle's against the FLOPs of training, with each model's compute-optimal front"
        )
        points = loss_points(section.records)
        yield (
            f"loss-compute-{section.name}",
            Drawing(loss_against_compute, points, caption, (section.loss_fits,)),
        )
    rates = learning_rate_frame(section)
    if not rates.empty:
        caption = "Validation score over the learning rate, around the tuned one; crosses diverged"
        yield f"learning-rates-{section.name}", Drawing(learning_rate_curves, rates, caption)


def few_enough(curves: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """The curves that one panel can hold, and what the caption must say about those left out.

    Where there are more than eleven, only the last row of each series of variants is shown.
    """
    models = contestants(curves)
    if len(models) <= MOST_CURVES:
        return curves, ""
    kept = {family(model): model for model in models}.values()
    hidden = len(models) - len(kept)
    words = f"; of each series only its last row, {hidden} models left out" if hidden else ""
    return select_models(curves, kept), words


def _expert_figures(section: Section) -> Named:
    """Active experts over training and at the end; only those whose router decides how many are active.

    A router that always takes its k best has the same ratio everywhere at all times, which needs no picture;
    which experts it takes is in the histogram. Experts that are all active on every row need neither.
    """
    routing = _in_suite_order(routing_frame(section.records), section)
    for model in contestants(routing):
        rows = select_model(routing, model)
        if len(set(rows["samples"])) > 1 and _differs(rows["active"]):
            caption = f"Active experts over training: {display_name(*model)}"
            stem = f"active-{section.name}-{slug(label(*model))}"
            yield stem, Drawing(active_over_training, rows, caption)
    experts = _in_suite_order(active_experts_frame(section.records), section)
    shares = {model: select_model(experts, model) for model in contestants(experts)}
    keys = ["seed", "layer", "token"]
    free = [model for model, rows in shares.items() if _differs(rows.groupby(keys)["share"].mean())]
    if free:
        caption = "Active ratio on the test split by layer and token, mean over seeds"
        yield f"active-map-{section.name}", Drawing(active_heat_map, select_models(experts, free), caption)
    routed = [model for model, rows in shares.items() if rows["share"].min() < 1]
    if routed:
        caption = "How often each expert is active on the test split; dead: on less than 0.1% of its rows"
        yield f"experts-{section.name}", Drawing(expert_histogram, select_models(experts, routed), caption)


def _differs(ratios: pd.Series) -> bool:
    return bool(ratios.max() - ratios.min() > 1e-3)


def differences_frame(section: Section) -> pd.DataFrame:
    """The section's rows of ``comparisons.csv`` in suite order, with the paper's gain as ``paper_gain``.

    Over another base than the paper's there are no such gains.
    """
    rows = section.comparisons
    rows = _in_suite_order(rows[rows["diff"].notna() & rows["metric"].isin(METRICS)], section)
    rows = select_models(rows, _models(section))
    printed = paper_table(section) if has_the_papers_base(section) else None
    paper_rows = {c.key: paper_row(printed, c) for c in section.contestants}
    gains = []
    for row in rows.to_dict("records"):
        theirs = paper_rows.get((row["architecture"], row["variant"]))
        column = printed.column(row["task"], row["metric"]) if printed else None
        gains.append(theirs.numbers.get(column) if theirs and column and not theirs.base else None)
    return rows.assign(paper_gain=pd.Series(gains, index=rows.index, dtype=float))


def _in_suite_order(frame: pd.DataFrame, section: Section) -> pd.DataFrame:
    """Rows in the order of the section's contestants, references last."""
    order = {model: number for number, model in enumerate(_models(section))}
    keys = zip(frame["architecture"], frame["variant"].fillna(""), strict=True)
    position = pd.Series([order.get(key, len(order)) for key in keys], index=frame.index, dtype=int)
    return frame.loc[position.sort_values(kind="stable").index]
