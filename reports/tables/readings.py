"""Variants compared with the plain row of their own architecture: what each switch changed."""

from __future__ import annotations

from harness.evaluation.quality import difference
from harness.records.contestant import Contestant
from reports.cells import METRICS, settings
from reports.sections import Section
from reports.tables.markup import Table
from reports.tables.quality import NO_DIFFERENCE, difference_cell


def reading_tables(section: Section) -> list[Table]:
    """One table of every variant that was compared with its own architecture; none where there is none."""
    if section.variants.empty:
        return []
    pairs = section.variants[["architecture", "variant"]].drop_duplicates().itertuples(index=False)
    variants = [Contestant(str(pair.architecture), str(pair.variant)) for pair in pairs]
    words = f'; "higher" and "lower" are resolved, else {NO_DIFFERENCE}'
    words = "" if section.no_verdict else words
    cells = [_differences(section, variant) for variant in variants]
    rows = [
        [variant.label, _changed(section, variant), *map(difference_cell, differences)]
        for variant, differences in zip(variants, cells, strict=True)
    ]
    return [
        Table(
            name=f"variants-{section.name}",
            caption=f"Variants against their own architecture on {section.dataset}, test split",
            numbers=section.variants,
            header=["variant", "settings", *(f"{task} {m.upper()} x100" for task, m in _columns(section))],
            rows=rows,
            notes=[
                "Difference to the architecture's row without a variant, in points x 100, with its 95% "
                f"interval over users and seeds{words}.",
                "Settings: fields whose value differs from that row's; some widths follow from the budget.",
            ],
        )
    ]


def _columns(section: Section) -> list[tuple[str, str]]:
    return [(task, metric) for task in section.tasks for metric in METRICS]


def _differences(section: Section, variant: Contestant) -> list[dict]:
    return [
        {"is_base": False} | difference(section.variants, task, metric, variant)
        for task, metric in _columns(section)
    ]


def _changed(section: Section, variant: Contestant) -> str:
    """The config's fields that differ from the plain row's."""
    plain = _config(section, Contestant(variant.architecture))
    own = _config(section, variant)
    return settings({name: value for name, value in own.items() if value != plain.get(name)})


def _config(section: Section, contestant: Contestant) -> dict:
    runs = section.runs_of(contestant)
    config = runs[0].spec.get("config") if runs else None
    return config if isinstance(config, dict) else {}
