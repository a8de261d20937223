"""The gate that every artefact passes: on the test split it scores as the run that it comes from did.

The artefact is loaded by a Python process that cannot import this project, so passing also shows that it
needs nothing of it. The first row goes through alone, the others in batches.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from files.errors import RefusedError
from harness.evaluation.metrics import binary_metrics
from harness.export import engine
from harness.training.prediction import Predictions

SCORE_BOUND = 1e-5  # of a probability
AUC_BOUND = 1e-6
PAIRS = 2  # of a positive and a negative row that may change places where one counts more than AUC_BOUND


@dataclass(frozen=True)
class Parity:
    """What the check found: the largest difference of a score, and each task's AUC before and after.

    ``against`` says where the scores of before come from.
    """

    against: str
    rows: int
    score_difference: float
    score_bound: float
    auc: dict[str, dict[str, float | None]]


def outputs_elsewhere(folder: Path, batches: Iterable[dict[str, np.ndarray]]) -> Iterator[np.ndarray]:
    """The artefact's outputs for the batches, computed where this project cannot be imported.

    Raises RefusedError with the last words of that process where it ends early.
    """
    command = [sys.executable, "-I", engine.__file__, str(folder.absolute())]
    with tempfile.TemporaryDirectory() as elsewhere, tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            command, cwd=elsewhere, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said
        )
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            for batch in batches:
                engine.send(process.stdin, **batch)
                yield engine.receive(process.stdout)["outputs"]
            process.stdin.close()
            if process.wait() != 0:
                raise EOFError
        except (EOFError, BrokenPipeError):
            raise RefusedError(f"the artefact does not run on its own: {_last_words(said)}") from None
        finally:
            process.kill()
            process.wait()


def _last_words(said: IO[bytes]) -> str:
    said.seek(0)
    lines = said.read().decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else "its process ended without a word"


def first_row_alone(batches: Iterable[dict[str, np.ndarray]]) -> Iterator[dict[str, np.ndarray]]:
    """The same rows, the first in a batch of its own."""
    for number, batch in enumerate(batches):
        rows = len(next(iter(batch.values())))
        if number == 0:
            yield {name: values[:1] for name, values in batch.items()}
            if rows > 1:
                yield {name: values[1:] for name, values in batch.items()}
        else:
            yield batch


def check(before: Predictions, against: str, scores: np.ndarray, tasks: list[str]) -> Parity:
    """Compare the artefact's scores (N, G) with those of before.

    Raises RefusedError, naming the figure and its bound, where a score or an AUC differs by more.
    """
    if scores.shape != before.scores.shape:
        raise RefusedError(f"the artefact gives scores of shape {scores.shape}, not {before.scores.shape}")
    difference = float(np.abs(scores.astype(np.float64) - before.scores).max())
    if not difference <= SCORE_BOUND:  # NaN is no parity either
        raise RefusedError(
            f"the artefact's scores differ from those of {against} by up to {difference:.2g}, "
            f"more than {SCORE_BOUND:g}, so it is not kept"
        )
    auc = {}
    for i, task in enumerate(tasks):
        first, second = (
            binary_metrics(before.labels[:, i], values[:, i], before.user).auc
            for values in (before.scores, scores)
        )
        bound = auc_bound(before.labels[:, i])
        if first is not None and second is not None and abs(first - second) > bound:
            raise RefusedError(
                f"the artefact's AUC of {task} is {second:.8f}, and that of {against} {first:.8f}: "
                f"they differ by more than {bound:.2g}, so it is not kept"
            )
        auc[task] = {"before": first, "after": second, "bound": bound}
    return Parity(against, len(scores), difference, SCORE_BOUND, auc)


def auc_bound(labels: np.ndarray) -> float:
    """1e-6, or what two pairs of rows weigh where the split is so small that this is more."""
    pairs = int((labels == 1).sum()) * int((labels == 0).sum())
    return max(AUC_BOUND, PAIRS / pairs) if pairs else AUC_BOUND
