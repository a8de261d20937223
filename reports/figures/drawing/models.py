"""The models that a frame holds: their order, their names in a figure, and their colours and markers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pandas as pd

from harness.records.contestant import Contestant
from harness.records.listed import display_name, is_plain
from reports.figures.drawing.style import COLORS

LONGEST_NAME = 42
MARKERS = "osD^vPX<>ph*d"
LINES = ("-", (0, (4, 1.5)), (0, (1, 1)), (0, (5, 1, 1, 1)))  # the second as many models, the third, ...
Model = tuple[str, str]  # architecture, variant


@dataclass(frozen=True)
class Look:
    """How a model is drawn, and what it is called."""

    color: Any
    marker: str
    line: Any = "-"
    name: str = ""

    @property
    def shown(self) -> str:
        """The name, cut where it would leave no room for the figure."""
        return cut(self.name)


Looks = dict[Model, Look]


def contestants(frame: pd.DataFrame) -> list[Model]:
    """(architecture, variant) pairs in order of first appearance; an absent variant is the empty one."""
    variants = frame["variant"].fillna("").astype(str)
    return list(dict.fromkeys(zip(frame["architecture"].astype(str), variants, strict=True)))


def select_model(frame: pd.DataFrame, model: Model) -> pd.DataFrame:
    """The rows of one (architecture, variant)."""
    return select_models(frame, [model])


def select_models(frame: pd.DataFrame, models: Iterable[Model]) -> pd.DataFrame:
    """The rows of any of these (architecture, variant) pairs."""
    wanted = set(models)
    keys = zip(frame["architecture"].astype(str), frame["variant"].fillna("").astype(str), strict=True)
    return frame[[key in wanted for key in keys]]


def with_labels(frame: pd.DataFrame, looks: Looks) -> pd.DataFrame:
    """The frame with the name of each row's model in the column ``model``, a category in their order."""
    variants = frame["variant"].fillna("").astype(str)
    labels = [looks[key].name for key in zip(frame["architecture"].astype(str), variants, strict=True)]
    return frame.assign(variant=variants, model=pd.Categorical(labels, list(dict.fromkeys(labels))))


def cut(name: str) -> str:
    """The name in one line of at most so many letters."""
    name = " ".join(name.split())
    return name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 1] + "…"


def drawn_name(model: Model) -> str:
    """How figures call a model that nobody gave another name."""
    return cut(display_name(*model))


def family(model: Model) -> Model:
    """The model without its size and its ratio of active experts."""
    architecture, variant = model
    if is_plain(architecture, variant):
        return model
    named = Contestant.from_name(*model)
    head = architecture, named.variant_without_size if named.size else named.series
    return model if head == model else family(head)


def looks_for(models: Iterable[Model], looks: Looks | None = None) -> Looks:
    """A colour, marker and line for each of ``models``, and for the family of each.

    Models that ``looks`` holds keep theirs; the others take the next ones, in their order. The members of
    a family (its sizes, or its ratios of active experts) share a colour and differ in marker.

    >>> looks = looks_for([("dcn", ""), ("rankmixer", "smoe-1"), ("rankmixer", "smoe-1/2")])
    >>> [look.marker for look in looks.values()]
    ['o', 's', 's', 'D']
    """
    found, models = dict(looks or {}), list(models)
    for model in models:
        head = family(model)
        num_families = sum(family(known) == known for known in found)
        turn, place = divmod(num_families, len(COLORS))
        marker, line = MARKERS[num_families % len(MARKERS)], LINES[turn % len(LINES)]
        shared = found.setdefault(head, Look(COLORS[place], marker, line, display_name(*head)))
        members = (head in models) + sum(family(known) == head != known for known in found)
        marker = MARKERS[(MARKERS.index(shared.marker) + members) % len(MARKERS)]
        found.setdefault(model, Look(shared.color, marker, shared.line, display_name(*model)))
    return found


def seaborn_looks(models: list[Model], looks: Looks) -> dict[str, Any]:
    """The arguments with which seaborn draws each row's ``model`` (:func:`with_labels`) in its look."""
    labels = [looks[model].name for model in models]
    return {
        "hue": "model",
        "style": "model",
        "hue_order": labels,
        "style_order": labels,
        "palette": {name: looks[model].color for name, model in zip(labels, models, strict=True)},
        "markers": {name: looks[model].marker for name, model in zip(labels, models, strict=True)},
        "legend": False,
    }
