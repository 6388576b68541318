"""How far a connection is read ahead of its answers."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uvloop
from prometheus_client import REGISTRY

from serve.errors import ApiError
from serve.limits import MAX_PIPELINED
from serve.policy.slot import Slot
from serve.settings import Settings
from serve.telemetry import metrics
from serve.telemetry.version_names import VERSIONS
from serve.web.app import create_app
from serve.web.unknown_routes import Routes
from serve.wire.connection import Connection
from serve.wire.large_body import LARGE_BYTES
from serve.wire.parsed_head import HeadParser, ParsedHead
from serve.wire.request import Request

GET = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"


class Busy:
    """Takes every request, and answers none yet."""

    draining, max_body_bytes, held_bytes = False, 1000, 0
    header_timeout_s = body_timeout_s = 60.0

    def __init__(self, folder: Path) -> None:
        self.head_parser = HeadParser(Settings(), Routes(create_app(Settings(), Slot(folder))).refusal)
        self.taken: list[Request] = []

    def later(self, call: Callable[[], None], seconds: float = 0.0) -> None:
        asyncio.get_running_loop().call_later(seconds, call)

    def opened(self, connection: Connection) -> None:
        pass

    def closed(self, connection: Connection) -> None:
        pass

    def limit_of(self, parsed: ParsedHead) -> int:
        return self.max_body_bytes

    def take(self, request: Request) -> None:
        self.taken.append(request)

    def refuse(self, request: Request, error: ApiError) -> None:
        self.taken.append(request)


async def ask(server: Busy, packets: list[bytes]) -> list[int]:
    """How many requests were read before the first answer, and after as many answers, each time."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with theirs:
        transport, _ = await asyncio.get_running_loop().connect_accepted_socket(lambda: Connection(server), ours)
        for packet in packets:
            theirs.sendall(packet)
            await asyncio.sleep(0.001)
        read = [len(server.taken)]
        for number in range(3 * MAX_PIPELINED):
            while len(server.taken) <= number:
                await asyncio.sleep(0.001)
            server.taken[number].answer(b".")
        read.append(len(server.taken))
        transport.close()
        return read


@pytest.mark.parametrize("together", [1, 3, 3 * MAX_PIPELINED])
def test_a_connection_is_read_no_further_than_its_limit_however_its_requests_come(tmp_path: Path, together: int):
    packets = [GET * together] * (3 * MAX_PIPELINED // together)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        ahead, after = runner.run(ask(Busy(tmp_path), packets))
    assert ahead <= MAX_PIPELINED
    assert after == 3 * MAX_PIPELINED


async def answer_in_another_order(server: Busy, steering: dict[int, float | None]) -> None:
    """Answers pipelined requests of one episode with steering, or with an error (None), in the order of the keys."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with theirs:
        transport, _ = await asyncio.get_running_loop().connect_accepted_socket(lambda: Connection(server), ours)
        theirs.sendall(GET * len(steering))
        while len(server.taken) < len(steering):
            await asyncio.sleep(0.001)
        for index, steer in steering.items():
            request = server.taken[index]
            request.episode_id = "car"
            request.version = "1.0.0"
            request.control = None if steer is None else np.array([[0.0, 0.0, steer]], np.float32)
            request.answer(b".")
        transport.close()


@pytest.mark.parametrize(
    ("steering", "change"),
    [
        ({1: 1.0, 0: 0.0, 2: 1.5}, 1.5),  # 0 → 1 → 1.5
        ({2: 1.5, 1: 1.0, 0: 0.0}, 1.5),
        ({1: None, 0: 0.0, 2: 1.5, 3: 1.0}, 0.5),  # an error in between, then 1.5 → 1
    ],
)
def test_actions_are_compared_in_the_order_of_their_requests(
    tmp_path: Path, steering: dict[int, float | None], change: float
):
    def changed() -> float:
        metrics.BUFFER.flush()
        return REGISTRY.get_sample_value("policy_action_change_sum", {"dimension": "steer", "version": "1.0.0"}) or 0.0

    VERSIONS.begin("1.0.0")  # four other versions of other tests leave it without a label of its own
    before = changed()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(answer_in_another_order(Busy(tmp_path), steering))
    assert changed() - before == pytest.approx(change)


async def end_during_a_body(server: Busy) -> tuple[bytes, int, int]:
    """What a client reads whose connection ends while a large body arrives; requests taken, and bytes still held."""
    head = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with theirs:
        loop = asyncio.get_running_loop()
        await loop.connect_accepted_socket(lambda: Connection(server), ours)
        theirs.sendall(GET + head % (2 * LARGE_BYTES) + b" " * LARGE_BYTES)
        while server.held_bytes < LARGE_BYTES:
            await asyncio.sleep(0.001)
        server.taken[0].keep_alive = False
        server.taken[0].answer(b"the last")
        theirs.sendall(b" " * LARGE_BYTES + GET)
        theirs.setblocking(False)
        answer = await loop.sock_recv(theirs, 100) + await loop.sock_recv(theirs, 100)
        await asyncio.sleep(0.02)
        return answer, len(server.taken), server.held_bytes


def test_what_still_arrives_after_the_last_response_is_dropped_large_bodies_too(tmp_path: Path):
    server = Busy(tmp_path)
    server.max_body_bytes = 4 * LARGE_BYTES
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        problems: list[dict[str, Any]] = []
        runner.get_loop().set_exception_handler(lambda _, problem: problems.append(problem))
        assert runner.run(end_during_a_body(server)) == (b"the last", 1, 0)
    assert problems == []
