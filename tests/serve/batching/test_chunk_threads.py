"""How much the threads beside the event loop get at a time."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

import msgspec
import pytest

from serve.batching import micro_batcher
from serve.batching.chunk_threads import ChunkThreads
from serve.batching.chunked_job import CHUNK_MS, ChunkedJob
from serve.cluster.asgi import AsgiServer
from serve.cores import usable_cores
from serve.dispatcher import Dispatcher
from serve.policy.loading import load
from serve.policy.slot import Slot
from serve.settings import Settings
from serve.web.app import create_app

OBSERVATION = {"speed": 6.0, "steering": 0.0, "sensors": [0.5] * 12}


class Held:
    """A chunk that takes until it is let go."""

    ms = CHUNK_MS

    def __init__(self, let_go: threading.Event) -> None:
        self.jobs: list[ChunkedJob] = []
        self._let_go = let_go

    def run(self) -> None:
        self._let_go.wait()


@pytest.mark.parametrize(("ahead", "each"), [(True, 2), (False, 1)])
def test_a_thread_has_its_next_chunk_before_it_is_done_only_where_that_is_asked_for(ahead: bool, each: int):
    async def run() -> int:
        done, let_go = [], threading.Event()
        threads, handed = ChunkThreads(asyncio.get_running_loop(), done.append), 0
        while threads.have_room(ahead):
            threads.hand(Held(let_go))
            handed += 1
        let_go.set()
        while len(done) < handed:
            await asyncio.sleep(0.001)
        threads.stop()
        return handed

    assert asyncio.run(run()) == each * usable_cores()


def test_the_event_loop_counts_as_used_once_a_forward_ran_on_it_and_no_longer_when_that_is_long_ago(
    tmp_path: Path, example: Path, monkeypatch: pytest.MonkeyPatch
):
    async def run() -> list[bool]:
        settings, slot, loop = Settings(model=str(example)), Slot(tmp_path), asyncio.get_running_loop()
        slot.serve(0, load(example, None, settings, tmp_path), None)
        dispatcher = Dispatcher(loop, create_app(settings, slot), slot, settings)
        headers = [(b"content-type", b"application/json")]
        scope = {"type": "http", "method": "POST", "path": "/predict", "headers": headers}
        found = []
        for lately_s in (3600.0, 0.0):
            monkeypatch.setattr(micro_batcher, "LATELY_S", lately_s)
            found.append(dispatcher.chunked_executor.loop_is_used())
            status, _, _ = await AsgiServer(dispatcher).answer(scope, one_observation)
            found += [status == 200, dispatcher.chunked_executor.loop_is_used()]
        dispatcher.stop()
        return found

    assert asyncio.run(run()) == [False, True, True, False, True, False]


async def one_observation() -> MutableMapping[str, Any]:
    return {"type": "http.request", "body": msgspec.json.encode({"observations": [OBSERVATION]})}
