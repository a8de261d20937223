"""Several calls at once: their order, their results, and that nothing stays when they are broken off."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import closing
from functools import partial

import psutil
import pytest

from harness.workers.isolation import BrokenCallError, CallEnded, in_worker
from harness.workers.several import several
from tests.harness import calls
from tests.harness.sleeping import sleep
from tests.harness.workers.test_isolation import have_ended, written

pytestmark = pytest.mark.usefixtures("server")


@pytest.mark.parametrize(("at_once", "most"), [(1, 1), (3, 3), (9, 5)])
def test_every_call_is_made_once_and_no_more_at_once_than_asked_for(at_once, most):
    busy, seen, lock = 0, [], threading.Lock()

    def call(number: int) -> int:
        nonlocal busy
        with lock:
            busy += 1
            seen.append(busy)
        time.sleep(0.05)
        with lock:
            busy -= 1
        return 10 * number

    found = dict(several([partial(call, number) for number in range(5)], at_once))
    assert found == {number: 10 * number for number in range(5)}
    assert max(seen) == most


def test_calls_are_begun_in_their_order_and_yielded_as_they_end():
    first_may_end = threading.Event()
    begun: list[int] = []

    def call(number: int) -> None:
        begun.append(number)
        if number == 0:
            assert first_may_end.wait(60)
        if number == 3:
            first_may_end.set()

    places = [place for place, _ in several([partial(call, number) for number in range(4)], 2)]
    assert begun == [0, 1, 2, 3]
    assert places[:2] == [1, 2]
    assert sorted(places) == [0, 1, 2, 3]


def test_no_call_makes_none():
    assert list(several([], 2)) == []


def asleep(folder) -> tuple[list, Callable[[], list[psutil.Process]]]:
    """Two calls that never end, and a function that gives their processes once they sleep."""
    paths = [folder / "0", folder / "1"]
    return [partial(in_worker, sleep, path) for path in paths], lambda: list(
        map(psutil.Process, written(*paths))
    )


def test_where_one_call_raises_the_workers_of_the_others_end_and_no_further_one_begins(tmp_path):
    before = threading.active_count()
    begun: list[int] = []
    seen: list[psutil.Process] = []
    sleepers, processes = asleep(tmp_path)

    def fail() -> None:
        seen.extend(processes())
        raise BrokenCallError("mine")

    with pytest.raises(BrokenCallError, match="mine"):
        list(several([*sleepers, fail, partial(begun.append, 1)], 3))
    assert have_ended(seen)
    assert (len(seen), begun) == (2, [])
    assert threading.active_count() == before


def test_a_call_that_is_ended_is_not_taken_for_one_that_broke(tmp_path):
    caught: list[type[BaseException]] = []

    def call(path) -> None:
        try:
            in_worker(sleep, path)
        except BaseException as error:
            caught.append(type(error))
            raise

    paths = [tmp_path / "0", tmp_path / "1"]
    with closing(several([*(partial(call, path) for path in paths), lambda: written(*paths)], 3)) as made:
        next(made)
    assert caught == [CallEnded, CallEnded]


def test_where_nobody_listens_any_more_the_workers_end_and_those_of_other_calls_do_not(tmp_path):
    (tmp_path / "apart").mkdir()
    apart = several([partial(in_worker, calls.meet, tmp_path / "apart", 2)], 1)
    ended: list = []
    other = threading.Thread(target=lambda: ended.extend(apart))
    other.start()
    sleepers, processes = asleep(tmp_path)
    with closing(several([*sleepers, processes], 3)) as made:
        _, seen = next(made)
        start = time.monotonic()
    assert time.monotonic() - start < 20  # at once, where no other tests keep the machine
    assert have_ended(seen)
    (tmp_path / "apart" / "go on").touch()
    other.join(60)
    assert [place for place, _ in ended] == [0]
