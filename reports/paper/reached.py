"""Whether ours lies within what was published for the same data: a model's value beside the printed one."""

from __future__ import annotations

from dataclasses import dataclass

from harness.records.contestant import Contestant
from reports.cells import MISSING
from reports.figures.drawing.models import select_model
from reports.paper.beside import Beside
from reports.sections import Section

DIGITS = 5  # of published values and ranges


@dataclass(frozen=True)
class Reached:
    """Our mean, and a published value with the least and greatest of its seeds where it has some.

    ``ours`` is None where no run of ours defines it.
    """

    ours: float | None
    published: float
    least: float | None
    greatest: float | None

    @property
    def printed(self) -> str:
        """The published value, with its range or that it is one run's."""
        value = f"{self.published:.{DIGITS}f}"
        if self.least is None or self.greatest is None:
            return f"{value} (no range)"
        return f"{value} ({self.least:.{DIGITS}f} to {self.greatest:.{DIGITS}f})"

    @property
    def verdict(self) -> str:
        """``inside``, or how far outside the range ours is; without a range, how far from the value."""
        if self.ours is None:
            return MISSING
        if self.least is None or self.greatest is None:
            gap = self.ours - self.published
            return f"{'above' if gap >= 0 else 'below'} the one value by {abs(gap):.{DIGITS}f}"
        if self.ours < self.least:
            return f"outside, below by {self.least - self.ours:.{DIGITS}f}"
        if self.ours > self.greatest:
            return f"outside, above by {self.ours - self.greatest:.{DIGITS}f}"
        return "inside"


def reached(section: Section, beside: Beside, who: Contestant, metric: str) -> Reached | None:
    """A model of both sides in one metric; None where nothing was published for it on our data.

    Of a row's values one that has a range is taken, a mean over seeds, before the one of a leaderboard.
    """
    row = beside.rows[who]
    wanted = (metric, section.dataset, False)
    keys = [
        k for k, c in beside.columns.items() if (c.metric, c.dataset, c.gain) == wanted and k in row.numbers
    ]
    key = min(keys, key=lambda key: beside.columns[key].range is None, default=None)
    task = task_of(section, beside, key) if key else None
    if key is None or task is None:
        return None
    bounds = beside.columns[key].range or ()
    least, greatest = [row.numbers.get(bound) for bound in bounds] or [None, None]
    return Reached(_mean(section, task, who, metric), row.numbers[key], least, greatest)


def task_of(section: Section, beside: Beside, key: str) -> str | None:
    """Our task that a published column is about: that which it names, or the only one."""
    named = beside.columns[key].task
    tasks = list(section.quality)
    if named is not None:
        return named if named in tasks else None
    return tasks[0] if len(tasks) == 1 else None


def _mean(section: Section, task: str, who: Contestant, metric: str) -> float | None:
    numbers = section.quality[task]
    model_means = numbers[(numbers["kind"] == "model") & (numbers["metric"] == metric)]
    means = select_model(model_means, who.key)["mean"].dropna()
    return None if means.empty else float(means.iloc[0])
