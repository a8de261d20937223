"""What a long command shows while it works: a rate, a loss, the time that remains."""

from __future__ import annotations

import sys
import time
from typing import Protocol

from rich.console import Console
from rich.live import Live
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
    says that training is over, or was broken off. It watches one run at a time; of several at once, each is
    watched by its own ``beside_others``.
    """

    def beside_others(self) -> Watcher: ...

    def start(self, spec: RunSpec, samples: int, total_samples: int) -> None: ...

    def advance(self, samples: int, loss: float, samples_per_second: float) -> None: ...

    def validated(self, samples: int, metrics: dict[str, dict]) -> None: ...

    def finish(self) -> None: ...

    def ended(self, record: Record) -> None: ...

    def note(self, text: str) -> None: ...


class Silent:
    """Tells nobody: tests, and every rank but the first."""

    def beside_others(self) -> Watcher:
        return self

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


class RunningLine:
    """What trains at once: one line on a terminal, repeated now and then where the output is a file."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._runs: dict[OneOfSeveral, str] = {}
        self._live: Live | None = None
        self._spoke = 0.0

    def show(self, run: OneOfSeveral, state: str) -> None:
        """Begin to show a run, or show where it stands now."""
        if not self._runs:
            self._spoke = time.monotonic()
            if self.console.is_terminal:
                self._live = Live(console=self.console, transient=True)
                self._live.start()
        self._runs[run] = state
        line = f"{len(self._runs)} running: {', '.join(self._runs.values())}"
        if self._live is not None:
            self._live.update(Text(line, no_wrap=True, overflow="ellipsis"))
        elif time.monotonic() - self._spoke > PLAIN_INTERVAL_SECONDS:
            self._spoke = time.monotonic()
            self.console.print(Text(line))

    def leave_out(self, run: OneOfSeveral) -> None:
        """Show a run no longer."""
        self._runs.pop(run, None)
        if not self._runs and self._live is not None:
            self._live.stop()
            self._live = None


class OneOfSeveral(Silent):
    """One of the runs of a line."""

    def __init__(self, line: RunningLine) -> None:
        self._line, self._title, self._total = line, "", 0

    def start(self, spec: RunSpec, samples: int, total_samples: int) -> None:
        self._title, self._total = visible(spec.title), total_samples
        self._line.show(self, f"{self._title} {samples / max(total_samples, 1):.0%}")

    def advance(self, samples: int, loss: float, samples_per_second: float) -> None:
        self._line.show(self, f"{self._title} {samples / max(self._total, 1):.0%}")

    def finish(self) -> None:
        self._line.leave_out(self)

    def note(self, text: str) -> None:
        self._line.console.print(Text(visible(text)))


class Terminal(Silent):
    """A bar on a terminal; a line now and then where the output is a file."""

    def __init__(self) -> None:
        self._console = Console(file=sys.stderr, highlight=False, soft_wrap=True)
        self._bar: Progress | None = None
        self._running: RunningLine | None = None
        self._title, self._total, self._began, self._spoke = "", 0, 0.0, 0.0

    def beside_others(self) -> Watcher:
        self._running = self._running or RunningLine(self._console)
        return OneOfSeveral(self._running)

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
