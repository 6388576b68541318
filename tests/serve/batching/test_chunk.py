"""Which predictions share a forward beside the event loop."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from serve.answering.endpoint import PREDICT, EncodedRequest
from serve.batching.chunk import JoinedChunk
from serve.batching.chunked_job import ChunkedJob
from serve.batching.pending_prediction import PendingPrediction
from serve.cluster.asgi import Exchange
from serve.dispatcher import Dispatcher
from serve.policy.forward_times import ForwardTimes
from serve.policy.loading import load
from serve.policy.slot import Slot
from serve.settings import Settings
from serve.web.app import create_app
from serve.wire.request import Request

HOUR_MS = 3_600_000.0
"""A unit so long that no pause of this test counts."""
SHARED = {1: HOUR_MS, 4: 1.1 * HOUR_MS, 8: 1.8 * HOUR_MS}
APART = {1: HOUR_MS, 4: 4 * HOUR_MS, 8: 8 * HOUR_MS}
OBSERVATION = {"speed": 6.0, "steering": 0.0, "sensors": [0.5] * 12}

MakeJob = Callable[[int, float | None], ChunkedJob]


def with_jobs(folder: Path, example: Path, times: dict[int, float], check: Callable[[MakeJob], None]) -> None:
    """Calls `check` with what makes jobs of so many rows and with that budget, for a policy that takes these times."""

    async def run() -> None:
        settings, slot, loop = Settings(model=str(example)), Slot(folder), asyncio.get_running_loop()
        serving = dataclasses.replace(load(example, None, settings, folder), forward_times=ForwardTimes(times))
        dispatcher = Dispatcher(loop, create_app(settings, slot), slot, settings)

        def make(rows: int, budget_ms: float | None) -> ChunkedJob:
            encoded = EncodedRequest(msgspec.json.encode({"observations": [OBSERVATION] * rows}), "application/json")
            wire, now = Request(Exchange(dispatcher, loop), None, b"", 0.0), time.perf_counter()
            prediction = PendingPrediction(PREDICT, serving, slot, encoded, now, budget_ms, wire=wire)
            prediction.decode()
            return ChunkedJob(prediction)

        check(make)
        dispatcher.stop()

    asyncio.run(run())


def test_those_that_share_enough_of_a_forward_join_until_it_begins_and_each_gets_its_rows(
    tmp_path: Path, example: Path
):
    def check(make: MakeJob) -> None:
        chunk = JoinedChunk(make(1, None))
        assert [chunk.join(make(rows, None)) for rows in (2, 1, 3)] == [True, True, True]
        assert not chunk.join(make(4, None))  # 11 rows are more than two forwards of one
        chunk.run()
        assert not chunk.join(make(1, None))
        assert [answered.stop - answered.start for _, answered in chunk.outcomes] == [1, 2, 1, 3]

    with_jobs(tmp_path, example, SHARED, check)


def test_where_each_row_takes_as_long_as_the_first_none_joins(tmp_path: Path, example: Path):
    def check(make: MakeJob) -> None:
        assert not JoinedChunk(make(1, None)).join(make(1, None))

    with_jobs(tmp_path, example, APART, check)


def test_none_joins_that_would_make_one_late_that_is_in_time(tmp_path: Path, example: Path):
    def check(make: MakeJob) -> None:
        chunk = JoinedChunk(make(1, 1.5 * HOUR_MS))
        assert [chunk.join(make(rows, None)) for rows in (3, 1)] == [True, False]
        late = JoinedChunk(make(1, 0.5 * HOUR_MS))  # late in any case
        assert [late.join(make(rows, None)) for rows in (3, 1)] == [True, True]

    with_jobs(tmp_path, example, SHARED, check)


def test_one_that_is_over_or_whose_client_is_gone_joins_none(tmp_path: Path, example: Path):
    def check(make: MakeJob) -> None:
        chunk, over, gone = JoinedChunk(make(1, None)), make(1, None), make(1, None)
        over.end()
        gone.prediction.wire.connection.gone = True
        assert [chunk.join(job) for job in (over, gone)] == [False, False]

    with_jobs(tmp_path, example, SHARED, check)
