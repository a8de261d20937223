"""The one-standard-error rule, against differences written out by hand and against chance."""

from __future__ import annotations

import random

import numpy as np
import pytest
from scipy import stats

from files.errors import InputError
from suites.tuning.decision import Rescored, choose, compared

SEEDS = (1, 2, 3)


def rescored(*rows: list[float | None]) -> list[Rescored]:
    """The defaults first."""
    return compared(
        [
            Rescored(
                training={"dense_lr": number},
                config={},
                trial=number,
                is_default=number == 0,
                search_score=0.7,
                scores=dict(zip(SEEDS, scores, strict=True)),
            )
            for number, scores in enumerate(rows)
        ]
    )


DEFAULTS = [0.70, 0.72, 0.74]


@pytest.mark.parametrize(
    ("candidates", "chosen"),
    [
        ([], 0),
        ([[0.71, 0.73, 0.75]], 1),  # +1 from each seed: no noise in the pairs, however far seeds differ
        ([[0.70, 0.72, 0.74]], 0),  # nothing gained
        ([[0.69, 0.71, 0.73]], 0),
        ([[0.70, 0.72, 0.77]], 0),  # +0, +0, +3: the mean is 1, its standard error 1
        ([[0.71, 0.72, 0.77]], 1),  # +1, +0, +3: 1.33 against 0.88
        ([[0.71, 0.73, 0.75], [0.70, 0.72, 0.80]], 1),  # the better mean is all of one seed
        ([[0.71, 0.73, 0.75], [0.72, 0.74, 0.76]], 2),  # of two that pass, the better mean
        ([[0.99, 0.99, None], [0.71, 0.73, 0.75]], 2),  # one that diverged once is not taken
        ([[0.99, None, 0.99]], 0),
    ],
)
def test_the_defaults_are_kept_unless_beaten_by_more_than_a_standard_error(candidates, chosen):
    assert choose(rescored(DEFAULTS, *candidates)).trial == chosen


def test_defaults_that_diverge_are_beaten_by_what_does_not():
    rows = rescored([0.9, None, 0.9], [0.5, 0.5, 0.5], [0.6, 0.6, 0.6], [0.7, 0.7, None])
    assert choose(rows).trial == 2
    assert (rows[2].difference, rows[2].standard_error, rows[0].mean) == (None, None, None)
    with pytest.raises(InputError, match="diverge from other seeds; narrow the learning rates"):
        choose(rescored([0.9, None, 0.9], [None, 0.5, 0.5]))


def test_where_nothing_was_scored_again_the_defaults_are_kept():
    alone = Rescored(training={}, config={}, trial=0, is_default=True, search_score=0.7, scores={})
    assert choose(compared([alone])) == alone


def test_pairs_are_of_one_seed():
    [_, row] = rescored(DEFAULTS, [0.75, 0.72, 0.73])
    differences = np.array([0.05, 0.0, -0.01])
    assert row.mean == pytest.approx(0.7333333)
    assert row.difference == pytest.approx(differences.mean())
    assert row.standard_error == pytest.approx(stats.sem(differences))


def test_a_setting_no_better_passes_as_often_as_the_docstring_says():
    chance = random.Random(0)
    taken = [
        choose(rescored(*([chance.gauss(0.7, 0.01) for _ in SEEDS] for _ in range(2)))).trial
        for _ in range(4000)
    ]
    assert np.mean(taken) == pytest.approx(stats.t(df=2).sf(1), abs=0.02)
    assert stats.t(df=2).sf(1) == pytest.approx(0.21, abs=0.005)
