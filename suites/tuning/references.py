"""The references that are fitted to the training split, tuned by as many trials as every row."""

from __future__ import annotations

from pathlib import Path

from files.errors import InputError
from harness.records.select import FITTED_REFERENCES, ON_REQUEST
from harness.runs.fitted import TunedReference, tune_reference
from harness.training.progress import Watcher
from harness.workers.isolation import BrokenCallError
from suites.plan import Caller
from suites.setting import Setting
from suites.tuning.studies import SEED
from suites.tuning.tuned import FittedReference, identity_of, read_file


def tuned_references(
    setting: Setting, trials: int, path: Path, call: Caller, watcher: Watcher
) -> dict[str, FittedReference]:
    """The settings of the suite's fitted references, from ``path`` where it holds them for these trials.

    A search is not shared between processes: hold the lock of ``path``, so that one makes it and the others
    find it there. A reference that cannot be fitted is reported, and has its defaults.
    """
    suite, name = setting.suite, setting.prepared.schema.name
    before = read_file(path) if path.is_file() else None
    is_known = (
        before is not None
        and before.trials == trials
        and before.identity == identity_of(suite, setting.prepared)
    )
    found: dict[str, FittedReference] = {}
    for reference in FITTED_REFERENCES:
        if not _is_wanted(reference, suite.references):
            continue
        if before is not None and is_known and reference in before.references:
            found[reference] = before.references[reference]
            continue
        watcher.note(f"{name} {reference}: {trials} trials on the validation split")
        metric = suite.training.select_metric
        try:
            tuned: TunedReference = call(
                tune_reference, reference, setting.prepared, setting.tasks, trials, SEED, metric
            )
        except (BrokenCallError, InputError) as error:
            watcher.note(f"{name} {reference}: {error}; it keeps its defaults")
            continue
        found[reference] = FittedReference(settings=tuned.settings, default=tuned.default, best=tuned.best)
    return found


def _is_wanted(name: str, references: bool | list[str]) -> bool:
    if isinstance(references, bool):
        return references and name not in ON_REQUEST
    return name in references
