"""Decides which trial a process makes, without a lock, which not every database has.

A trial's number and what it claims to make (its *point*) are written in one transaction. So every process
sees the claims of all smaller numbers, and the smallest living number has the point: a later claim of the
same point, one beyond the trials that are wanted, or one of a new point while a killed one waits, is given
back before anything is trained.

Not Optuna's queue of trials: two processes may take the same one from it in SQLite, which ignores
``SELECT ... FOR UPDATE``.
"""

from __future__ import annotations

from collections.abc import Sequence

from optuna.trial import FrozenTrial, TrialState, create_trial

DEFAULTS = "defaults"  # the point that a row has without tuning
POINT = "point"  # DEFAULTS, the number of the trial that was first there, or None: a new one
BEGUN = "default"  # written when a trial that was won begins: whether it takes the defaults
SETTLED = ("out_of_reach", "error")  # why a failed trial is not made again
Point = str | int


def point_of(trial: FrozenTrial) -> Point:
    """Where the trial is in the space that is searched: equal for a trial and for one that repeats it."""
    if POINT not in trial.user_attrs:  # made before points were written down
        return DEFAULTS if trial.user_attrs.get("default") and is_alive(trial) else trial.number
    point = trial.user_attrs[POINT]
    return trial.number if point is None else point


def is_alive(trial: FrozenTrial) -> bool:
    """Whether the trial has been judged or may still be."""
    return trial.state != TrialState.FAIL


def next_claim(trials: Sequence[FrozenTrial]) -> FrozenTrial:
    """What to make next, as a trial to be added to ``trials``: the defaults, what was killed, a new point."""
    taken = {point_of(trial) for trial in trials if is_alive(trial)}
    if DEFAULTS not in taken:
        return _claim(DEFAULTS)
    settled = {point_of(trial) for trial in trials if any(name in trial.user_attrs for name in SETTLED)}
    killed = {point_of(trial): trial for trial in trials if _was_begun(trial)}  # the last try of each point
    for point, trial in killed.items():
        if point not in taken | settled:
            return _claim(point, trial)
    return _claim(None)


def is_won(trial: FrozenTrial, trials: Sequence[FrozenTrial], wanted: int) -> bool:
    """Whether the trial may be made: of all smaller numbers, none lives at its point and none was killed
    that only it leaves room for.

    ``trials`` were read after the trial was added. A smaller number that dies later leaves its room behind.
    """
    smaller = [other for other in trials if other.number < trial.number]
    alive = [other for other in smaller if is_alive(other)]
    if len(alive) >= wanted or point_of(trial) in {point_of(other) for other in alive}:
        return False
    return trial.user_attrs[POINT] is not None or next_claim(smaller).user_attrs[POINT] is None


def draw_of(trial: FrozenTrial, trials: Sequence[FrozenTrial]) -> int:
    """How many points were claimed before the trial's own: the same however often trials were killed."""
    first = min(other.number for other in trials if point_of(other) == point_of(trial))
    return len({point_of(other) for other in trials if other.number < first})


def _was_begun(trial: FrozenTrial) -> bool:
    return POINT in trial.user_attrs and BEGUN in trial.user_attrs


def _claim(point: Point | None, killed: FrozenTrial | None = None) -> FrozenTrial:
    return create_trial(
        state=TrialState.RUNNING,
        params=killed.params if killed else {},
        distributions=killed.distributions if killed else {},
        user_attrs={POINT: point},
    )
