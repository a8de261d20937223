"""After which batches of an epoch something is scored."""

from __future__ import annotations

import math
from itertools import pairwise

from files.errors import InputError
from harness.records.spec import Training


def validations(training: Training, num_batches: int) -> set[int]:
    """After which batches of an epoch to validate: evenly spread, the last one included."""
    per_epoch = training.validations_per_epoch
    return {round(num_batches * (number + 1) / per_epoch) for number in range(per_epoch)} - {0}


def tests(training: Training, epoch: int, num_batches: int) -> set[int]:
    """After which batches of epoch ``epoch`` (from 0) to score the test split by ``training.progress``.

    Not after the last batch of all: what is scored then is the run's result.
    """
    done = epoch * num_batches
    batches = {math.ceil(samples / training.batch_size) for samples in training.progress}
    last = training.epochs * num_batches
    return {batch - done for batch in batches if done < batch <= done + num_batches and batch < last}


def windows(training: Training, epoch: int, num_batches: int) -> dict[int, int]:
    """The batches at which the windows of ``training.score_ahead`` begin, with those at which they end.

    Without the first window, before which nothing was learned; none after the first epoch.
    """
    if training.score_ahead is None or epoch > 0:
        return {}
    count = training.score_ahead
    bounds = [round(num_batches * number / count) for number in range(1, count + 1)]
    return {start: stop for start, stop in pairwise(bounds) if 0 < start < stop}


def check_progress(training: Training, rows: int) -> None:
    """InputError where the last number of ``training.progress`` is above what ``rows`` a pass give."""
    most = training.epochs * rows
    if training.progress and training.progress[-1] > most:
        raise InputError(
            f"training.progress: {training.progress[-1]:,} is more than the {most:,} samples of the "
            "training; leave it out or ask for more rows"
        )
