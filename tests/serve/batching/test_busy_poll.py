"""A loop stays awake where that pays, and sleeps where it does not."""

from __future__ import annotations

import asyncio

from serve.batching.busy_poll import MAX_MISSES, REST_TURNS, BusyPoll


class CountingLoop(asyncio.SelectorEventLoop):
    """Counts what is called soon."""

    polls = 0

    def call_soon(self, callback, *args, context=None):  # type: ignore[no-untyped-def]
        self.polls += getattr(callback, "__name__", "") == "_poll"
        return super().call_soon(callback, *args, context=context)


def polls_after(poll: BusyPoll, loop: CountingLoop, between_s: float) -> int:
    """How often the loop looks after an answer, until the next one."""
    before = loop.polls
    poll.answered()
    loop.run_until_complete(asyncio.sleep(between_s))
    return loop.polls - before


def test_who_asks_again_at_once_is_waited_for():
    loop = CountingLoop()
    poll = BusyPoll(loop, 1.0)
    assert all(polls_after(poll, loop, 0) > 0 for _ in range(3 * REST_TURNS))
    loop.close()


def test_who_asks_now_and_then_is_not_waited_for_but_tried_again():
    loop = CountingLoop()
    poll = BusyPoll(loop, 0.0005)
    turns = [polls_after(poll, loop, 0.002) > 0 for _ in range(2 * (MAX_MISSES + REST_TURNS))]
    assert turns == 2 * (MAX_MISSES * [True] + REST_TURNS * [False])
    loop.close()


def test_nothing_is_looked_for_when_it_is_switched_off():
    loop = CountingLoop()
    poll = BusyPoll(loop, 0.0)
    assert not any(polls_after(poll, loop, 0) for _ in range(2 * REST_TURNS))
    loop.close()
