"""The server behind another HTTP server, such as Ray's: what Host may name there."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, MutableMapping
from pathlib import Path
from typing import Any

import pytest
from slow_policies import SLOW_AT, laborious, predict_bytes

from serve.cluster.asgi import AsgiServer
from serve.dispatcher import Dispatcher
from serve.policy.loading import load
from serve.policy.slot import Slot
from serve.settings import Settings
from serve.web.app import create_app


async def overloaded(folder: Path) -> tuple[list[int], int]:
    """The statuses that two predictions get behind one that is in flight, and how many are in flight then."""
    settings = Settings(max_inflight=1)
    slot = Slot(folder)
    dispatcher = Dispatcher(asyncio.get_running_loop(), create_app(settings, slot), slot, settings)
    dispatcher.in_flight = 1
    scope = {"type": "http", "method": "POST", "path": "/predict", "headers": [(b"content-type", b"application/json")]}
    found = [(await AsgiServer(dispatcher).answer(scope, receive))[0] for _ in range(2)]
    dispatcher.stop()
    return found, dispatcher.in_flight


async def receive() -> MutableMapping[str, Any]:
    return {"type": "http.request", "body": b"{}"}


async def status(settings: Settings, folder: Path, path: str, headers: list[tuple[bytes, bytes]]) -> int:
    slot = Slot(folder)
    dispatcher = Dispatcher(asyncio.get_running_loop(), create_app(settings, slot), slot, settings)
    scope = {"type": "http", "method": "POST" if path == "/predict" else "GET", "path": path, "headers": headers}
    found, _, _ = await AsgiServer(dispatcher).answer(scope, receive)
    dispatcher.stop()
    return found


@pytest.mark.parametrize(
    ("allowed", "host", "expected"),
    [
        (
            "",
            [(b"host", b"ray.example:8000")],
            503,
        ),  # where that server listens is not ours to judge; nothing is loaded
        ("", [], 503),
        ("cars.example", [(b"host", b"cars.example:8000")], 503),
        ("cars.example", [(b"host", b"evil.example")], 421),
        ("cars.example", [], 421),
    ],
)
def test_behind_another_server_any_host_is_heard_unless_it_is_said_which(
    tmp_path: Path, allowed: str, host: list[tuple[bytes, bytes]], expected: int
):
    headers = [*host, (b"content-type", b"application/json")]
    settings = Settings(allowed_hosts=allowed)
    assert asyncio.run(status(settings, tmp_path, "/predict", headers)) == expected
    assert asyncio.run(status(settings, tmp_path, "/v2", headers)) == (200 if expected == 503 else 421)
    assert asyncio.run(status(settings, tmp_path, "/healthz", headers)) == 200


async def late_and_on_time(folder: Path) -> tuple[list[int], int]:
    """The statuses of two predictions that share a forward, of which one's budget ends meanwhile; what is in flight."""
    settings, loop = Settings(model=str(laborious(folder, 0))), asyncio.get_running_loop()
    slot = Slot(folder)
    slot.serve(0, load(Path(settings.model), None, settings, folder), None)
    dispatcher = Dispatcher(loop, create_app(settings, slot), slot, settings)
    dispatcher.start()
    scope = {"type": "http", "method": "POST", "path": "/predict", "headers": [(b"content-type", b"application/json")]}

    def ask(value: float, **fields: Any) -> Awaitable[Any]:
        async def body() -> MutableMapping[str, Any]:
            return {"type": "http.request", "body": predict_bytes(value, **fields).partition(b"\r\n\r\n")[2]}

        return AsgiServer(dispatcher).answer(scope, body)

    found = await asyncio.wait_for(asyncio.gather(ask(SLOW_AT, budget_ms=60), ask(0.5)), 60)
    dispatcher.stop()
    assert b"fallback" in found[0][2]
    return [status for status, _, _ in found], dispatcher.in_flight


def test_behind_another_server_a_prediction_that_is_late_gets_the_fallback(tmp_path: Path):
    assert asyncio.run(late_and_on_time(tmp_path)) == ([504, 200], 0)


def test_behind_another_server_too_many_requests_are_refused_and_none_stays_counted(tmp_path: Path):
    assert asyncio.run(overloaded(tmp_path)) == ([429, 429], 1)
