"""What a client gets whose forward outlives its budget on the event loop: an answer in time, whole, or an end."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable
from pathlib import Path

import httpcore
import msgspec
import pytest
import uvloop
from following_support import metric
from patience import PATIENCE_S
from slow_policies import SLOW_AT, laborious, predict_bytes
from tests_support import Server

from serve.wire.outside import end_outside

LATE = b"HTTP/1.1 504 Gateway Timeout\r\n\r\n"
LATE_REQUEST = predict_bytes(SLOW_AT, budget_ms=60).replace(b"\r\n\r\n", b"\r\nX-Episode-Id: route-7\r\n\r\n", 1)


def read_all(raw: socket.socket) -> bytes:
    """Until the other side closes."""
    found = b""
    with contextlib.suppress(ConnectionResetError):
        while part := raw.recv(65536):
            found += part
    return found


async def heard(earlier: bytes) -> bytes:
    """What a client hears that is slow to read an earlier answer, while the loop is held up and then goes on."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.settimeout(60)
    loop = asyncio.get_running_loop()
    with theirs:
        transport, _ = await loop.connect_accepted_socket(asyncio.Protocol, ours)
        transport.write(earlier)
        await asyncio.sleep(0.01)  # the kernel takes what it has room for
        begun = theirs.recv(65536) if earlier else b""  # and has room again, which the loop does not know
        end_outside(transport, lambda: LATE)
        transport.close()
        return begun + await loop.run_in_executor(None, read_all, theirs)


@pytest.mark.parametrize(("size", "said"), [(0, LATE), (1000, LATE), (4_000_000, b"")])
def test_a_late_answer_never_stands_inside_an_earlier_one(size: int, said: bytes):
    earlier = b"~" * size
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        found = runner.run(heard(earlier))
    assert found.replace(b"~", b"") == said
    assert found.startswith(earlier[: len(found)])
    assert (len(found) < size) == (said == b"")


def test_over_tls_a_late_request_is_answered_at_its_budget_and_counted_once(
    start_server: Callable[..., Server], tmp_path: Path, certificate: tuple[Path, Path]
):
    chain, key = certificate
    server = start_server("--model", str(laborious(tmp_path, 0)), "--certfile", str(chain), "--keyfile", str(key))
    server.url = server.url.replace("http:", "https:")
    context = ssl.create_default_context(cafile=str(chain))
    server.pool = httpcore.ConnectionPool(context)
    server.wait_ready()
    plain = socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2])), timeout=PATIENCE_S)
    with context.wrap_socket(plain, server_hostname="localhost") as raw:
        raw.sendall(LATE_REQUEST)
        head, _, body = read_all(raw).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 504 ")
    assert b"\r\nConnection: close" in head  # it was answered while the loop could not
    assert b"\r\nX-Episode-Id: route-7" in head
    assert msgspec.json.decode(body)["fallback"]
    assert metric(server, "policy_fallbacks_total", reason="deadline_exceeded") == 1
    assert metric(server, "policy_requests_total", route="/predict", code="504") == 1


def answers_of(raw: socket.socket, count: int) -> bytes:
    """What came, once it holds so many heads with their bodies."""
    found = b""
    while found.count(b"HTTP/1.1") < count or not found.endswith(b"}"):
        part = raw.recv(65536)
        assert part, found
        found += part
    return found


def test_a_prediction_that_is_late_before_a_forward_keeps_its_connection_while_others_wait_for_it(
    start_server: Callable[..., Server], tmp_path: Path
):
    server = start_server("--model", str(laborious(tmp_path, 0)))
    server.wait_ready()
    address = ("127.0.0.1", int(server.url.rpartition(":")[2]))
    first, late, slow = (socket.create_connection(address, timeout=PATIENCE_S) for _ in range(3))
    with first, late, slow:
        first.sendall(predict_bytes(SLOW_AT))  # holds the event loop up, so that it reads the next two together
        late.sendall(predict_bytes(0.5, budget_ms=0))
        slow.sendall(predict_bytes(SLOW_AT))
        assert [answers_of(raw, 1)[9:12] for raw in (first, slow)] == [b"200", b"200"]
        answer = answers_of(late, 1)
        assert answer.startswith(b"HTTP/1.1 504 ")
        assert b"Connection: close" not in answer
        late.sendall(predict_bytes(0.5))
        assert answers_of(late, 1).startswith(b"HTTP/1.1 200 ")
