"""Work in the time that nobody else wants, and in one's own where that is too little."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest
from patience import PATIENCE_S

from serve.record.spare_time import SpareTime


def wait_until(holds: list[int], count: int, spare: SpareTime | None = None) -> None:
    """Waits until so many pieces of work are done."""
    ends = time.monotonic() + PATIENCE_S
    while len(holds) < count:
        assert time.monotonic() < ends
        time.sleep(0.01)
        if spare is not None:
            spare.make_up()


def test_the_work_is_done_where_a_processor_is_idle_and_no_more_after_the_end():
    policies: list[int] = []
    with SpareTime(lambda: policies.append(os.sched_getscheduler(0)), 0.1):
        wait_until(policies, 3)
    assert set(policies) == {os.SCHED_IDLE}
    assert os.sched_getscheduler(0) != os.SCHED_IDLE  # of this thread
    done = len(policies)
    time.sleep(0.3)
    assert len(policies) == done


@pytest.fixture
def full_processor() -> Iterator[None]:
    """One processor for this process, which two others keep busy."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2)]
    yield
    for process in busy:
        process.kill()
        process.wait()
    os.sched_setaffinity(0, before)


def test_where_no_processor_is_ever_idle_the_owner_makes_up_for_it(full_processor: None):
    mine: list[int] = []

    def work() -> None:
        if threading.current_thread() is threading.main_thread():
            mine.append(1)

    with SpareTime(work, 0.001) as spare:
        wait_until(mine, 20, spare)


def test_while_it_is_paused_no_work_is_begun():
    done: list[int] = []
    with SpareTime(lambda: done.append(1), 0.1) as spare:
        wait_until(done, 1)
        with spare.paused():
            before = len(done)
            time.sleep(0.5)
            assert len(done) == before
        wait_until(done, before + 1)


def test_what_goes_wrong_after_the_owner_last_looked_is_raised_at_the_end():
    failed = threading.Event()

    def work() -> None:
        failed.set()
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"), SpareTime(work, 0.1):
        assert failed.wait(PATIENCE_S)


def test_what_goes_wrong_in_the_thread_is_raised_where_the_owner_looks():
    failed = threading.Event()

    def work() -> None:
        failed.set()
        raise OSError("the disk is gone")

    with contextlib.suppress(OSError), SpareTime(work, 0.1) as spare:
        assert failed.wait(PATIENCE_S)
        with pytest.raises(OSError, match="the disk is gone"):
            wait_until([], 1, spare)
