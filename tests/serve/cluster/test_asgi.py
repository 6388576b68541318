"""The server behind another HTTP server, such as Ray's: what Host may name there, who answers an episode."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Awaitable, MutableMapping
from pathlib import Path
from typing import Any

import msgspec
import pytest
from following_support import again
from slow_policies import SLOW_AT, laborious, predict_bytes

from benchmarks.policies.two_policies import write
from benchmarks.support.encoding import rows_of
from carla_mlflow import Artifact
from serve.cluster.asgi import AsgiServer
from serve.dispatcher import Dispatcher
from serve.policy.held import HeldVersion
from serve.policy.loading import load
from serve.policy.serving import Serving
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


async def episodes(folder: Path, digests: list[str], slot: Slot, settings: Settings, row: dict[str, Any]) -> list[Any]:
    """The answers to requests of episodes that the versions with these digests began: status, version, body."""
    dispatcher = Dispatcher(asyncio.get_running_loop(), create_app(settings, slot), slot, settings)

    async def body() -> MutableMapping[str, Any]:
        return {"type": "http.request", "body": msgspec.json.encode({"observations": [row]})}

    found = []
    for digest in digests:
        headers = [(b"content-type", b"application/json"), (b"x-episode-digest", digest.encode())]
        scope = {"type": "http", "method": "POST", "path": "/predict", "headers": headers}
        status, answered, data = await AsgiServer(dispatcher).answer(scope, body)
        found.append((status, dict(answered)[b"x-policy-version"].decode(), msgspec.json.decode(data)))
    dispatcher.stop()
    return found


@pytest.mark.parametrize("key", ["", "the-key-of-the-fleet"])
def test_behind_another_server_an_episode_ends_with_the_version_that_began_it(
    tmp_path: Path, remembering: Artifact, key: str
):
    settings, slot = Settings(state_key=key), Slot(tmp_path)
    slot.ready = True
    versions = [remembering, again(remembering, "1.1.0")]
    for artifact in versions:
        now = slot.serving
        replaced = None if now is None else HeldVersion(now, float("inf"), 0.0)
        loaded = load(write(artifact, tmp_path), None, settings, tmp_path)
        assert isinstance(loaded, Serving), loaded
        slot.serve(0, loaded, None, replaced)
    [row] = rows_of(remembering.card.observation_spec.example(1))
    digests = [artifact.digest for artifact in versions] + ["sha256:" + "0" * 64]
    old, new, gone = asyncio.run(episodes(tmp_path, digests, slot, settings, row))
    assert (old[:2], new[:2], gone[:2]) == ((200, "1.0.0"), (200, "1.1.0"), (409, "1.1.0"))
    assert gone[2]["error"]["code"] == "episode_of_another_version"

    # A token says by itself which version made it; two versions in one request are refused.
    states = [answer[2]["actions"][0]["state"] for answer in (old, new)]
    tokens = [{**row, "state": state} for state in states]
    assert asyncio.run(predicted(slot, settings, tokens[:1]))[:2] == (200, "1.0.0")
    assert asyncio.run(predicted(slot, settings, [tokens[0], tokens[0]]))[:2] == (200, "1.0.0")
    assert asyncio.run(predicted(slot, settings, [row, tokens[1]]))[:2] == (200, "1.1.0")
    # Rows that begin are not answered by a held version, nor two versions' rows by one.
    for rows, at in (([row, tokens[0]], 1), (tokens, 0), ([tokens[1], row, tokens[0]], 2)):
        status, _, refused = asyncio.run(predicted(slot, settings, rows))
        assert (status, refused["error"]["code"]) == (409, "state_of_another_version")
        assert refused["error"]["field"] == f"observations[{at}].state"
        assert "send the rows of each version in a request of their own" in refused["error"]["message"]

    # A held version is found by its number, too, but only by its own episodes.
    def asked(version: str, *rows: dict[str, Any], **headers: str) -> tuple[int, str, str]:
        code, by, answered = asyncio.run(predicted(slot, settings, list(rows), f"version={version}", **headers))
        return code, by, answered.get("error", {}).get("code", "")

    assert asked("1.0.0", tokens[0]) == asked("1.0.0", tokens[0], tokens[0]) == (200, "1.0.0", "")
    assert asked("1.1.0", tokens[1], row) == asked("1.1.0", row) == (200, "1.1.0", "")
    by_both = asked("1.0.0", tokens[0], **{"x-episode-digest": digests[0]})
    assert by_both == (200, "1.0.0", "")
    assert asked("1.0.0", row)[::2] == asked("1.0.0", tokens[1])[::2] == (404, "version_not_found")
    assert asked("1.0.0", tokens[0], row)[::2] == (409, "state_of_another_version")
    assert asked("1.1.0", tokens[0])[::2] == (409, "state_of_another_version")
    assert asked("2.0.0", tokens[0])[::2] == (404, "version_not_found")
    slot.hold(0, ())
    status, _, refused = asyncio.run(predicted(slot, settings, [row, tokens[0]]))
    assert (status, refused["error"]["code"]) == (409, "state_of_another_version")
    assert refused["error"]["field"] == "observations[1].state"


def test_of_many_promoted_versions_with_memory_only_the_active_and_the_held_stay_in_memory(
    tmp_path: Path, remembering: Artifact
):
    settings, slot = Settings(), Slot(tmp_path)
    slot.ready = True
    [row] = rows_of(remembering.card.observation_spec.example(1))
    parts: list[list[weakref.ref[Any]]] = []
    state: dict[str, Any] = {}
    for number in range(6):
        loaded = load(write(again(remembering, f"1.{number}.0"), tmp_path), None, settings, tmp_path)
        assert isinstance(loaded, Serving), loaded
        parts.append([weakref.ref(part) for part in (loaded.engine, loaded.tokens, loaded.predict)])
        now = slot.serving
        slot.serve(0, loaded, None, None if now is None else HeldVersion(now, float("inf"), 0.0))
        del loaded, now
        for given in ({}, state):  # an episode begins with the new version, another one goes on with the held
            status, _, answered = asyncio.run(predicted(slot, settings, [{**row, **given}] * 4))
            assert status == 200
            state = {"state": answered["actions"][0]["state"]} if not given else state

    def alive() -> list[bool]:
        gc.collect()
        return [any(part() is not None for part in of_version) for of_version in parts]

    assert alive() == [False] * 3 + [True] * 3
    slot.hold(0, ())
    assert alive() == [False] * 5 + [True]


async def predicted(
    slot: Slot, settings: Settings, rows: list[dict[str, Any]], query: str = "", **named: str
) -> tuple[int, str, Any]:
    """The answer to a request: status, version, body."""
    dispatcher = Dispatcher(asyncio.get_running_loop(), create_app(settings, slot), slot, settings)

    async def body() -> MutableMapping[str, Any]:
        return {"type": "http.request", "body": msgspec.json.encode({"observations": rows})}

    given = [(name.encode(), value.encode()) for name, value in {"content-type": "application/json", **named}.items()]
    scope = {"type": "http", "method": "POST", "path": "/predict", "query_string": query.encode(), "headers": given}
    status, headers, data = await AsgiServer(dispatcher).answer(scope, body)
    dispatcher.stop()
    return status, dict(headers)[b"x-policy-version"].decode(), msgspec.json.decode(data)
