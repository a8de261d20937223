"""Who makes which trial, played out: processes that read, claim, die and go on in every order."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from optuna.distributions import FloatDistribution
from optuna.trial import FrozenTrial, TrialState

from suites.tuning.claims import BEGUN, DEFAULTS, POINT, draw_of, is_won, next_claim, point_of

X = FloatDistribution(0.0, 1.0)


class Table:
    """The trials of a study; adding one gives it its number at once, as a database does."""

    def __init__(self) -> None:
        self.trials: list[FrozenTrial] = []

    def add(self, trial: FrozenTrial) -> FrozenTrial:
        trial.number = len(self.trials)
        self.trials.append(trial)
        return trial


class Process:
    """Makes trials step by step; between two steps anything may happen elsewhere."""

    def __init__(self, table: Table, wanted: int, deaths: random.Random) -> None:
        self.table, self.wanted, self.random = table, wanted, deaths
        self.claim: FrozenTrial | None = None
        self.trial: FrozenTrial | None = None
        self.is_won = False

    def step(self) -> None:
        trials = self.table.trials
        if self.claim is None:
            if sum(t.state != TrialState.FAIL for t in trials) < self.wanted:
                self.claim = next_claim(trials)
        elif self.trial is None:
            self.trial = self.table.add(self.claim)
        elif not self.is_won:
            self.is_won = is_won(self.trial, trials, self.wanted)
            if not self.is_won:
                self.trial.state = TrialState.FAIL
                self.claim = self.trial = None
        elif BEGUN not in self.trial.user_attrs:
            self.trial.user_attrs[BEGUN] = point_of(self.trial) == DEFAULTS
        elif "x" not in self.trial.params:
            draw = draw_of(self.trial, trials)
            self.trial._distributions = {"x": X}
            self.trial.params = {
                "x": 0.0 if point_of(self.trial) == DEFAULTS else random.Random(draw).random()
            }
        else:
            outcomes = [TrialState.COMPLETE] * 3 + [TrialState.PRUNED, TrialState.FAIL]
            self.trial.state = self.random.choice(outcomes)
            if self.trial.state == TrialState.FAIL and self.random.random() < 0.5:
                self.trial.user_attrs["error"] = "it broke"
            self.claim = self.trial = None
            self.is_won = False

    def die(self) -> None:
        """Killed, and noticed."""
        if self.trial is not None:
            self.trial.state = TrialState.FAIL
        self.__init__(self.table, self.wanted, self.random)  # type: ignore[misc]


def judged(table: Table) -> list[FrozenTrial]:
    return [t for t in table.trials if t.state in (TrialState.COMPLETE, TrialState.PRUNED)]


@pytest.mark.parametrize("seed", range(200))
def test_eight_processes_that_die_make_exactly_what_is_wanted_and_what_was_killed_again(seed):
    chance, table, wanted = random.Random(seed), Table(), 12
    processes = [Process(table, wanted, chance) for _ in range(8)]
    for _ in range(20_000):
        process = chance.choice(processes)
        if chance.random() < 0.03:
            process.die()
        process.step()
        if len(judged(table)) == wanted and all(p.trial is None for p in processes):
            break
    for process in processes:  # whoever had claimed nothing yet finds that there is no room
        for _ in range(5):
            process.step()
    made = judged(table)
    assert len(made) == wanted
    assert Counter(point_of(trial) for trial in made).most_common(1)[0][1] == 1  # no point twice
    assert DEFAULTS in {point_of(trial) for trial in made}
    begun = [t for t in table.trials if t.params and "error" not in t.user_attrs]
    broken = {point_of(t) for t in table.trials if "error" in t.user_attrs}
    for point in {point_of(trial) for trial in begun} - broken:
        assert len({trial.params["x"] for trial in begun if point_of(trial) == point}) == 1
        assert point in {point_of(trial) for trial in made}
    draws = {point_of(t): t.params["x"] for t in begun}
    assert len(set(draws.values())) == len(draws)  # no two points by one draw


@pytest.mark.parametrize("seed", range(20))
def test_one_process_that_is_killed_makes_the_same_trials_as_one_that_is_not(seed):
    def all_made(deaths: float) -> list[float]:
        chance, table = random.Random(seed), Table()
        process = Process(table, 9, chance)
        chance.choice = lambda outcomes: outcomes[0]  # type: ignore[assignment,method-assign]
        while len(judged(table)) < 9:
            if chance.random() < deaths and (process.trial is None or BEGUN in process.trial.user_attrs):
                process.die()
            process.step()
        return [trial.params["x"] for trial in judged(table)]

    assert all_made(deaths=0.2) == all_made(deaths=0.0)


def test_the_first_trial_is_the_defaults_then_what_was_killed_and_broken_ones_are_not_made_again():
    table = Table()
    assert next_claim(table.trials).user_attrs == {POINT: DEFAULTS}
    table.add(next_claim(table.trials)).state = TrialState.COMPLETE
    killed, broken, unbegun = (table.add(next_claim(table.trials)) for _ in range(3))
    killed._distributions, killed.params = {"x": X}, {"x": 0.25}
    for trial in (killed, broken, unbegun):
        trial.state = TrialState.FAIL
    killed.user_attrs[BEGUN] = broken.user_attrs[BEGUN] = False
    broken.user_attrs["error"] = "SystemExit: 0"
    again = next_claim(table.trials)
    assert (again.user_attrs, again.params) == ({POINT: killed.number}, {"x": 0.25})
    table.add(again)
    assert next_claim(table.trials).user_attrs == {POINT: None}


def test_trials_of_a_database_from_before_points_count_as_they_did():
    table = Table()
    for number, default in enumerate([True, False, True, False]):
        trial = table.add(next_claim([]))
        trial.user_attrs = {"default": default}
        trial.state = TrialState.FAIL if number < 2 else TrialState.COMPLETE
    claimed = table.add(next_claim(table.trials))
    assert claimed.user_attrs == {POINT: None}
    assert draw_of(claimed, table.trials) == 4
    assert is_won(claimed, table.trials, wanted=3)
    assert not is_won(claimed, table.trials, wanted=2)
