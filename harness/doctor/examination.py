"""What an examination gathers: lines of what is there, and what is missing with its mend."""

from __future__ import annotations

from dataclasses import dataclass, field

WIDTH = 15  # of the names


@dataclass
class Examination:
    """Lines for people. What is in ``missing`` is needed; what a line alone says may be as it is."""

    lines: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)

    def line(self, name: str, text: str) -> None:
        self.lines.append(f"{name:<{WIDTH}}{text}")

    def __str__(self) -> str:
        ends = [f"missing: {mend}" for mend in self.missing] or ["nothing is missing"]
        return "\n".join([*self.lines, "", *ends])
