"""What a long command shows while it works: a rate, a loss, the time that remains."""

from __future__ import annotations

import sys
import time
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from files.plain_text import visible
from harness.records.record import Record
from harness.records.spec import RunSpec

PLAIN_INTERVAL_SECONDS = 20.0


class Watcher(Protocol):
    """Who is told of progress.

    ``samples`` are those trained on since the run's first start, so a resumed run starts above zero.
    ``validated`` is told the metrics of each task, ``ended`` the whole record; between them ``finish``
    says that training is over, or was broken off.
    """

    def start(self, spec: RunSpec, samples: int, total_samples: int) -> None: ...

    def advance(self, samples: int, loss: float, samples_per_second: float) -> None: ...

    def validated(self, samples: int, metrics: dict[str, dict]) -> None: ...

    def finish(self) -> None: ...

    def ended(self, record: Record) -> None: ...

    def note(self, text: str) -> None: ...


class Silent:
    """Tells nobody: tests, and every rank but the first."""

    def start(self, spec: RunSpec, samples: int, total_samples: int) -> None:
        pass

    def advance(self, samples: int, loss: float, samples_per_second: float) -> None:
        pass

    def validated(self, samples: int, metrics: dict[str, dict]) -> None:
        pass

    def finish(self) -> None:
        pass

    def ended(self, record: Record) -> None:
        pass

    def note(self, text: str) -> None:
        pass


class Terminal(Silent):
    """A bar on a terminal; a line now and then where the output is a file."""

    def __init__(self) -> None:
        self._console = Console(file=sys.stderr, highlight=False, soft_wrap=True)
        self._bar: Progress | None = None
        self._title, self._total, self._began, self._spoke = "", 0, 0.0, 0.0

    def start(self, spec: RunSpec, samples: int, total_samples: int) -> None:
        self._title, self._total = visible(spec.title), total_samples
        self._began = self._spoke = time.monotonic()
        if self._console.is_terminal:
            self._bar = Progress(
                TextColumn("{task.description}", markup=False),  # a title such as "[/x]" is no markup
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[pace]}"),
                TimeRemainingColumn(),
                console=self._console,
                transient=True,
            )
            self._bar.add_task(self._title, completed=samples, total=total_samples, pace="first steps")
            self._bar.start()

    def advance(self, samples: int, loss: float, samples_per_second: float) -> None:
        pace = f"loss {loss:.4f}, {samples_per_second:,.0f} samples/s"
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=samples, pace=pace)
        elif time.monotonic() - self._spoke > PLAIN_INTERVAL_SECONDS:
            self._spoke = time.monotonic()
            left = (self._total - samples) / max(samples_per_second, 1e-9)
            self.note(f"{self._title}: {samples:,}/{self._total:,} samples, {pace}, {left:.0f} s left")

    def finish(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def note(self, text: str) -> None:
        self._console.print(Text(visible(text)))
