"""The results that the page is drawn from: those of its folders that are there, one dataset each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from files.errors import InputError
from harness.records.contestant import Contestant
from harness.records.store import read_runs
from reports import summary
from reports.contents import Words
from reports.figures.drawing.models import Looks, Model, looks_for
from reports.sections import Section, load_sections

CURVES, WORLDS = "curves", "curves-worlds"
APART, SHARED = "heterogeneity-apart", "heterogeneity-shared"
EXPERTS, PARTS = "experts-at-scale", "parts-at-scale"
FOLDERS = (CURVES, WORLDS, APART, SHARED, EXPERTS, PARTS)

OURS = Contestant("rankmixer")
METRIC = "auc"  # in figures and words; the CSV files have the others, too
ONE_SIZE = "1M"  # where one size alone is shown


@dataclass(frozen=True)
class Results:
    """The results by the names of their folders, and the looks that all figures of the page share."""

    sections: dict[str, Section]

    def first_of(self, *names: str) -> tuple[str, Section] | None:
        """The first of these results that is there, with its name."""
        return next(((name, self.sections[name]) for name in names if name in self.sections), None)

    @property
    def missing(self) -> list[str]:
        return [name for name in FOLDERS if name not in self.sections]

    @property
    def looks(self) -> Looks:
        """A colour and marker for each model, whatever its size."""
        return looks_for(
            dict.fromkeys(
                line_of(who) for section in self.sections.values() for who in ordered(section.contestants)
            )
        )


def read_results(root: Path) -> Results:
    """Those of ``FOLDERS`` that ``root`` holds, as runs or as they are unpacked.

    Raises:
        InputError: none is there, one is damaged, or one holds more than one dataset.
    """
    there = [name for name in FOLDERS if (root / name).is_dir()]
    if not there:
        raise InputError(f"{root}: holds none of {', '.join(FOLDERS)}; run one of these suites into it")
    return Results({name: _only_section(root / name) for name in there})


def _only_section(folder: Path) -> Section:
    sections = load_sections(read_runs(folder))
    if len(sections) != 1:
        names = ", ".join(f"{section.suite.name} on {section.dataset}" for section in sections)
        raise InputError(f"{folder}: holds {names}; give a folder of one suite and dataset")
    return sections[0]


def ordered(contestants: Sequence[Contestant]) -> list[Contestant]:
    """RankMixer first, which figures of many models then show in its colour; the others in their order."""
    return sorted(contestants, key=lambda who: line_of(who) != OURS.key)


def line_of(who: Contestant) -> Model:
    """The model without its size."""
    return who.architecture, who.variant_without_size


def compared(name: str, section: Section) -> Words:
    """What a folder holds, in the words of its own report."""
    return Words(f"What was compared in {name}", summary.compared(section))


def flops_words(size: str) -> str:
    """``0.3 MFLOPs`` for the size 0.3M."""
    number = size.removesuffix("M")
    return f"{number} MFLOP{'' if number == '1' else 's'}"
