"""What all figures share: the rows, models and panels that were asked for, and their titles and legends."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, TypedDict

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator

from files.errors import InputError
from harness.records.contestant import label
from reports.cells import METRICS, short_tick
from reports.figures.drawing.models import Looks, Model, contestants, looks_for, select_models, with_labels
from reports.figures.drawing.style import STYLES, current_style, styled

NARROWEST_PANEL, LOWEST_PANEL = 1.5, 0.9  # inches, where a style gives figures their width
_LETTER, _BOLD_LETTER = 0.52, 0.6  # the width of a letter over its size, on average
_LINE = 1.5  # the height of a legend's line over the size of its letters


class Options(TypedDict, total=False):
    """What every function that draws takes besides its rows. All may be left out or None.

    ax: the axes to draw into, as many as there are panels, in their order; a new figure without it.
    metrics: of ``auc`` and ``uauc``: one alone has one panel a task.
    order: the models to show, first to last, as suites name them: ``dcn``, ``rankmixer (shared-ffn)``.
    names: how models are called instead, by the same names.
    size: width and height of a new figure in inches.
    style: ``paper`` (one column of 3.3 inches, serif) or ``talk``.
    looks: the looks that models have in other figures, too (:func:`looks_for`).
    """

    ax: Any
    metrics: Sequence[str] | None
    order: Sequence[str] | None
    names: Mapping[str, str] | None
    size: tuple[float, float] | None
    style: str | None
    looks: Looks | None


Panels = Any  # the axes that a function drew into, an array where there are several


def _is_there(rows: pd.DataFrame, metric: str) -> bool:
    """Whether there is a panel of a metric; rows that belong to no user have no UAUC."""
    if "metric" in rows:
        return metric in set(rows["metric"])
    return metric in rows and (metric == "auc" or bool(rows[metric].notna().any()))


class Plot:
    """A figure in the making: the rows to show, the looks of their models, and the panels.

    Raises InputError where what was asked for is not in the rows, or ``ax`` has not as many axes as there
    are panels.
    """

    def __init__(self, rows: pd.DataFrame, options: Options) -> None:
        self._options = options
        self.looks = looks_for(contestants(rows), options.get("looks"))
        self.metrics = self._asked_metrics(rows)
        self.rows = self._ordered(rows if "metric" not in rows else rows[rows["metric"].isin(self.metrics)])
        self.models = contestants(self.rows)
        self._rename(options.get("names") or {})
        self.panels: list[Axes] = []

    def _asked_metrics(self, rows: pd.DataFrame) -> list[str]:
        there = [m for m in METRICS if _is_there(rows, m)]
        asked = self._options.get("metrics")
        if asked is None:
            return there
        if isinstance(asked, str) or not set(asked) <= set(there) or not len(asked):
            known = f"a list of {' and '.join(there)}" if there else "nothing, as this figure shows no metric"
            raise InputError(f"metrics: {asked!r} can't be drawn; give {known}")
        return list(dict.fromkeys(asked))

    def _ordered(self, rows: pd.DataFrame) -> pd.DataFrame:
        """The rows of the models asked for, in their order."""
        if self._options.get("order") is None:
            return rows
        known = {label(*model): model for model in contestants(rows)}
        wanted = list(dict.fromkeys(self._options["order"] or ()))
        unknown = ", ".join(name for name in wanted if name not in known)
        if unknown or not wanted:
            raise InputError(f"order: {unknown or 'no model'} can't be drawn; there are {', '.join(known)}")
        return pd.concat([select_models(rows, [known[name]]) for name in wanted])

    def _rename(self, names: Mapping[str, str]) -> None:
        for model, look in self.looks.items():
            self.looks[model] = replace(look, name=names.get(label(*model), look.name))
        shown = [self.looks[model].name for model in self.models]
        if twice := {name for name in shown if shown.count(name) > 1} & set(names.values()):
            raise InputError(f"names: {', '.join(sorted(twice))} would stand for more than one model")

    def labelled(self, rows: pd.DataFrame | None = None) -> pd.DataFrame:
        """The rows with the names of their models in the column ``model``."""
        return with_labels(self.rows if rows is None else rows, self.looks)

    # --- Panels -----------------------------------------------------------------------------------------

    def columns(self, most: int, narrowest: float = NARROWEST_PANEL) -> int:
        """How many panels stand side by side in this style, which may give figures their width."""
        width = current_style().width
        return most if width is None else min(most, max(1, int(width / narrowest)))

    @styled
    def grid(
        self,
        number: int,
        most_columns: int,
        width: float,
        height: float,
        sharex: bool | Literal["col"] = False,
        sharey: bool | Literal["row"] = False,
        narrowest: float = NARROWEST_PANEL,
    ) -> list[Axes]:
        """So many panels, each ``width`` x ``height`` inches in the plain style, in rows of ``most_columns``.

        Where a style gives figures their width, panels are at least ``narrowest`` inches wide.

        Made without pyplot, which keeps every figure in memory and may change a notebook's backend. seaborn's
        FacetGrid cannot do without it, so its functions draw into these panels.
        """
        self._columns = min(self.columns(most_columns, narrowest), number)
        if (given := self._options.get("ax")) is not None:
            self.panels = list(np.atleast_1d(np.asarray(given, dtype=object)).ravel())
            if len(self.panels) != number:
                count = f"{len(self.panels)} axes were given"
                raise InputError(f"ax: {count}, but the figure has {number} panels; give as many, or none")
            return self.panels
        rows, style = math.ceil(number / self._columns), current_style()
        wide = style.width or width * style.stretch * self._columns
        high = max(height * style.stretch, LOWEST_PANEL if style.width else 0) * rows
        size = self._options.get("size") or (wide, high)
        figure = Figure(figsize=size, layout="constrained")
        shared: dict[str, Any] = {"sharex": sharex, "sharey": sharey}
        self.panels = list(figure.subplots(rows, self._columns, squeeze=False, **shared).flat)
        for spare in self.panels[number:]:
            spare.remove()
        del self.panels[number:]
        for lowest in self.panels[-self._columns :]:  # also above a spare place
            lowest.tick_params(labelbottom=True)
        return self.panels

    def facets(self, width: float, height: float, **shared: Any) -> list[tuple[Axes, pd.DataFrame]]:
        """A panel for each task and metric with its rows; one row of panels a task, or one in all.

        Args:
            shared: ``sharex`` and ``sharey`` as in :meth:`grid`.
        """
        tasks = list(dict.fromkeys(self.rows["task"].dropna()))
        places = [(task, metric) for task in tasks for metric in self.metrics]
        columns = len(self.metrics) if len(self.metrics) > 1 else len(tasks)
        found = []
        for axes, (task, metric) in zip(
            self.grid(len(places), columns, width, height, **shared), places, strict=True
        ):
            self.title(axes, f"{task}: {metric.upper()}")
            rows = self.rows[self.rows["task"] == task]
            found.append((axes, rows[rows["metric"] == metric] if "metric" in rows else rows))
        return found

    def is_first_of_row(self, axes: Axes) -> bool:
        return self.panels.index(axes) % self._columns == 0

    @property
    def is_new(self) -> bool:
        """Whether the figure was made here, so that words may stand outside of panels."""
        return self._options.get("ax") is None

    @property
    def has_room_around(self) -> bool:
        """Whether names and numbers may stand beside and below panels."""
        return self.is_new and current_style() is STYLES[""]

    @property
    def figure(self) -> Figure:
        figure = self.panels[0].get_figure(root=True)
        assert figure is not None
        return figure

    @property
    def result(self) -> Panels:
        """The axes, as an array where there are several."""
        return self.panels[0] if len(self.panels) == 1 else np.array(self.panels, dtype=object)

    @property
    def names_height(self) -> float:
        """Inches that the names of all models take below each other."""
        return 0.4 + 0.2 * len(self.models)

    def name_rows(self, axes: Axes, names: Sequence[str]) -> None:
        """A name at each row of a panel whose marks stand in rows, the first at the top."""
        axes.grid(axis="y", visible=False)
        axes.set_yticks(range(len(names)), names)
        axes.set_ylim(len(names) - 0.4, -0.6)
        axes.tick_params(axis="y", length=0)

    def by_first_panel(self, column: str) -> list[Model]:
        """The models in the order asked for, else by falling values in the first task and metric."""
        if self._options.get("order"):
            return self.models
        first = self.rows["task"].eq(self.rows["task"].iloc[0]) & self.rows["metric"].eq(self.metrics[0])
        values = self.rows[first].set_index(["architecture", "variant"])[column].to_dict()
        return sorted(self.models, key=lambda model: -values.get(model, -math.inf))

    # --- Words ------------------------------------------------------------------------------------------

    def title(self, axes: Axes, text: str, **style: Any) -> None:
        """A panel's title, smaller where it would reach into the next panel."""
        usual = FontProperties(size=matplotlib.rcParams["axes.titlesize"]).get_size_in_points()
        width = 72 * axes.get_window_extent().width / axes.figure.dpi
        axes.set_title(text, fontsize=max(5.0, min(usual, 0.9 * width / (_BOLD_LETTER * len(text)))), **style)

    def xlabel(self, text: str) -> None:
        """One label below all panels, in lines that fit; below each of a user's own."""
        if self.is_new:
            lines = self._in_lines(text, self.figure.get_figwidth())
            self.figure.supxlabel(lines)
            self._grow(matplotlib.rcParams["font.size"] / 72 * (1 + lines.count("\n")))
            return
        for axes in self.panels:
            axes.set_xlabel(self._in_lines(text, axes.get_window_extent().width / self.figure.dpi))

    def ylabel(self, text: str) -> None:
        """One label beside the first panel of each row."""
        for axes in self.panels:
            if self.is_first_of_row(axes) or not self.is_new:
                axes.set_ylabel(self._in_lines(text, axes.get_window_extent().height / self.figure.dpi))

    def _grow(self, height: float) -> None:
        """Make room for lines of so much height, in inches, where a style has small panels."""
        if self._options.get("size") is None and current_style().width is not None:
            self.figure.set_figheight(self.figure.get_figheight() + _LINE * height)

    def _in_lines(self, text: str, width: float) -> str:
        size = matplotlib.rcParams["font.size"]
        return textwrap.fill(text, max(12, int(width * 72 / (_LETTER * size))), break_long_words=False)

    def handles(
        self, lines: bool = False, models: Iterable[Model] | None = None, looks: Looks | None = None
    ) -> list[Line2D]:
        """A legend's handle for each model: its marker, on its line where there are ``lines``."""
        shown = [(looks or self.looks)[model] for model in (self.models if models is None else models)]
        return [
            Line2D(
                [], [], color=look.color, marker=look.marker, ls=look.line if lines else "", label=look.shown
            )
            for look in shown
        ]

    def legend(self, handles: list[Line2D], beside: bool = False) -> None:
        """Above all panels, or ``beside`` them where the style has room; within the last of a user's own."""
        if not self.is_new:
            self.panels[-1].legend(handles=handles, loc="best")
            return
        size = FontProperties(size=matplotlib.rcParams["legend.fontsize"]).get_size_in_points() / 72
        if beside and current_style().width is None:
            columns = math.ceil(len(handles) * _LINE * size / self.figure.get_figheight())
            self.figure.legend(handles=handles, loc="outside right upper", ncols=columns)
            return
        longest = max((len(str(handle.get_label())) for handle in handles), default=0)
        columns = int(self.figure.get_figwidth() / ((_LETTER * longest + 4) * size))
        columns = max(1, min(4, len(handles), columns))
        self._grow(size * math.ceil(len(handles) / columns))
        self.figure.legend(handles=handles, loc="outside upper center", ncols=columns)


def log_axis(axis: Axis) -> None:
    """Logarithmic ticks at 1, 2 and 5, printed as ``5 k``."""
    axis.axes.set(**{f"{axis.axis_name}scale": "log"})  # type: ignore[attr-defined]
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if current_style() is STYLES[""] else (1, 3)))
    axis.set_major_formatter(short_tick)
    axis.set_minor_formatter(lambda value, _: "")


def marker_size(scale: float = 1.0) -> float:
    """Points, in the style in use."""
    return scale * float(matplotlib.rcParams["lines.markersize"])
