"""Which rows did not finish the same runs as the base, and what both reached where both finished."""

from __future__ import annotations

from harness.evaluation.quality import QUALITIES
from harness.records.contestant import Contestant
from reports.cells import METRICS, count, fixed
from reports.sections import Section


def unequal_runs_notes(section: Section, task: str) -> list[str]:
    """Sentences for below the table: its means are over all runs, its differences over the shared ones."""
    if section.base is None or section.comparisons.empty:
        return []
    others = [who for who in [*section.contestants, *section.references] if who != section.base]
    unequal = [text for who in others if (text := _shared_runs(section, task, who))]
    sentence = (
        "Other runs than the base's, with the means over those that both finished: "
        f"{'; '.join(unequal)}. Their differences are between these means, not between those in the table."
    )
    return [*([sentence] if unequal else []), *_undefined(section, task)]


def _shared_runs(section: Section, task: str, who: Contestant) -> str:
    """The runs that ``who`` shares with the base; empty where these are all of both."""
    assert section.base is not None
    own, base = (
        {(run.world, run.seed) for run in section.select_finished(one)} for one in (who, section.base)
    )
    if who in section.references:  # these have no seeds: one is held against every seed of the base
        own = {(world, seed) for world, seed in base if world in {world for world, _ in own}}
    shared = own & base
    if not shared or own == base:
        return ""
    rows = section.comparisons
    rows = rows[(rows["task"] == task) & (rows["architecture"] == who.architecture)]
    rows = rows[(rows["variant"] == who.variant) & rows["metric"].isin(METRICS)]
    means = [
        f"{row['metric'].upper()} {fixed(row['mean'], 4)} against {fixed(row['base_mean'], 4)}"
        for row in rows.to_dict("records")
    ]
    worlds = len({world for world, _ in shared})
    where = f" in {worlds} of {section.num_worlds} worlds" if section.num_worlds > 1 else ""
    return f"{who.display_name}, {count(len(shared), 'run')}{where}" + (
        f" ({', '.join(means)})" if means else ""
    )


def _undefined(section: Section, task: str) -> list[str]:
    """The metrics that the test rows of some worlds do not define."""
    assert section.base is not None
    runs = [run for run in section.select_finished(section.base) if task in run.metrics]
    notes = []
    for metric in QUALITIES:
        without = {run.world for run in runs if getattr(run.metrics[task], metric) is None}
        if without and len(without) < len({run.world for run in runs}):
            worlds = ", ".join(map(str, sorted(world for world in without if world is not None)))
            notes.append(
                f"{metric.upper()} leaves out the worlds whose test rows do not define it: {worlds}."
            )
    return notes
