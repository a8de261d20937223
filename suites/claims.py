"""Which trial a process makes, decided without a lock that every database would have to have.

A trial's number and what it claims to make (its *point*) are written in one transaction. So every process
sees the claims of all smaller numbers, and the smallest living number has the point: a later claim of the
same point, or one beyond the trials that are wanted, is given back before anything is trained.

Not Optuna's queue of trials: two processes may take the same one from it in SQLite, which ignores
``SELECT ... FOR UPDATE``.
"""

from __future__ import annotations

from collections.abc import Sequence

from optuna.trial import FrozenTrial, TrialState, create_trial

DEFAULTS = "defaults"  # the point that a row has without tuning
POINT = "point"  # DEFAULTS, the number of the trial that was first there, or None: a new one
GIVEN_BACK = "given_back"
SETTLED = ("out_of_reach", "error")  # why a failed trial is not made again
Point = str | int


def point_of(trial: FrozenTrial) -> Point:
    """Where the trial is in the space that is searched: equal for a trial and for one that repeats it."""
    if POINT not in trial.user_attrs:  # made before points were written down
        return DEFAULTS if trial.user_attrs.get("default") and is_alive(trial) else trial.number
    point = trial.user_attrs[POINT]
    return trial.number if point is None else point


def is_alive(trial: FrozenTrial) -> bool:
    """Whether the trial is judged or may yet be."""
    return trial.state != TrialState.FAIL


def next_claim(trials: Sequence[FrozenTrial]) -> FrozenTrial:
    """What to make next, as a trial to be added to ``trials``: the defaults, what was killed, a new point."""
    taken = {point_of(trial) for trial in trials if is_alive(trial)}
    if DEFAULTS not in taken:
        return _claim(DEFAULTS)
    settled = {point_of(trial) for trial in trials if any(name in trial.user_attrs for name in SETTLED)}
    killed = {point_of(trial): trial for trial in trials if not is_alive(trial) and POINT in trial.user_attrs}
    again = [
        trial
        for point, trial in sorted(killed.items(), key=lambda pair: pair[1].number)
        if point not in taken | settled | {DEFAULTS} and not _was_never_made(point, trials)
    ]
    return _claim(point_of(again[0]), again[0]) if again else _claim(None)


def is_won(trial: FrozenTrial, trials: Sequence[FrozenTrial], wanted: int) -> bool:
    """Whether the trial may be made: it is one of those wanted, and no smaller number lives at its point.

    ``trials`` were read after the trial was added. What it is told stays so: smaller numbers can only die.
    """
    earlier = [other for other in trials if other.number < trial.number and is_alive(other)]
    return len(earlier) < wanted and point_of(trial) not in {point_of(other) for other in earlier}


def draw_of(trial: FrozenTrial, trials: Sequence[FrozenTrial]) -> int:
    """How many points were claimed before the trial's own: the same however often trials were killed."""
    first = min(other.number for other in trials if point_of(other) == point_of(trial))
    return len({point_of(other) for other in trials if other.number < first})


def _was_never_made(point: Point, trials: Sequence[FrozenTrial]) -> bool:
    return all(GIVEN_BACK in trial.user_attrs for trial in trials if point_of(trial) == point)


def _claim(point: Point | None, killed: FrozenTrial | None = None) -> FrozenTrial:
    return create_trial(
        state=TrialState.RUNNING,
        params=killed.params if killed else {},
        distributions=killed.distributions if killed else {},
        user_attrs={POINT: point},
    )
