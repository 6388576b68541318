"""The clients over a Unix socket: the same actions, budgets and errors as over TCP."""

from __future__ import annotations

import asyncio
import gc
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from following_support import workers
from odd_server import answering_oddly
from tests_support import Server

from benchmarks.support.free_port import free_port
from carla_mlflow import Actions, AsyncPolicyClient, Engine, PolicyClient
from carla_mlflow.client.unix_address import socket_path
from carla_mlflow.errors import ServerError, UnreachableError

ROW = {"speed": [6.0], "steering": [0.1], "sensors": [[0.5] * 12]}
Start = Callable[..., Server]
LATE = {"sync": "no answer: timed out", "asyncio": "no answer: TimeoutError"}
KINDS = pytest.mark.parametrize("kind", ["sync", "asyncio"])


@pytest.fixture
def path(short_folder: Path) -> Path:
    return short_folder / "policy.sock"


def act_by(kind: str, url: str, timeout_s: float = 1.0, **options: Any) -> Actions:
    if kind == "sync":
        with PolicyClient(url, timeout_s) as client:
            return client.act(ROW, **options)

    async def ask() -> Actions:
        async with AsyncPolicyClient(url, timeout_s) as client:
            return await client.act(ROW, **options)

    return asyncio.run(ask())


@KINDS
def test_the_actions_are_the_engines_own(start_on_socket: Start, path: Path, example: Path, kind: str, monkeypatch):
    start_on_socket(path, "--model", str(example)).wait_ready()
    wanted = Engine.open(example, device="cpu").act(ROW).control.tobytes()
    monkeypatch.chdir(path.parent)
    for url in (f"unix:{path}", f"unix://{path}", f"unix:{path.name}"):
        assert act_by(kind, url, 10).control.tobytes() == wanted
    assert act_by(kind, f"unix:{path}", 10, budget_ms=0).fallback


def test_a_connection_that_ended_meanwhile_is_opened_again(start_on_socket: Start, path: Path, example: Path):
    server = start_on_socket(path, "--model", str(example))
    server.wait_ready()
    with PolicyClient(f"unix:{path}") as client:
        before = client.act(ROW).control
        for worker in workers(server):
            worker.kill()
            worker.wait()
        server.wait_ready()
        assert client.act(ROW).control.tobytes() == before.tobytes()


@KINDS
@pytest.mark.parametrize("part", ["head", "body"])
def test_an_answer_that_trickles_costs_no_more_than_the_budget(server: Server, path: Path, kind: str, part: str):
    with answering_oddly(server, part, path) as odd:
        assert act_by(kind, odd.url, budget_ms=200).fallback
        with pytest.raises(UnreachableError, match=f"unix:{path}: no answer"):
            act_by(kind, odd.url)
        assert odd.questions == 2


@KINDS
def test_only_a_connection_that_ended_between_two_questions_is_opened_anew(server: Server, path: Path, kind: str):
    with answering_oddly(server, "ended", path) as odd:
        with pytest.raises(UnreachableError, match="no answer"):
            act_by(kind, odd.url)
        assert odd.questions == 2  # the kept connection, and a new one


@KINDS
def test_nobody_at_the_path_is_unreachable(path: Path, kind: str):
    with pytest.raises(UnreachableError, match=f"unix:{path}: no answer"):
        act_by(kind, f"unix:{path}")
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    for url in (f"unix:{path}", f"http://localhost:{free_port()}", f"http://127.0.0.1:{free_port()}"):
        with pytest.raises(
            UnreachableError, match=f"{url}/?.*: no answer: nothing listens there; is carla-serve running"
        ):
            act_by(kind, url)


@KINDS
def test_a_full_queue_of_connections_is_waited_for_within_the_limit(path: Path, kind: str):
    with socket.socket(socket.AF_UNIX) as busy, socket.socket(socket.AF_UNIX) as first:
        busy.bind(str(path))
        busy.listen(0)
        first.connect(str(path))
        with pytest.raises(UnreachableError, match=LATE[kind]):
            act_by(kind, f"unix:{path}", 0.2)
        gc.collect()  # a socket that was left open would be a warning
        accepted: list[socket.socket] = []

        def room() -> None:
            for _ in range(2):
                accepted.append(busy.accept()[0])
            accepted[1].close()

        thread = threading.Thread(target=room)
        thread.start()
        with pytest.raises(UnreachableError, match="no answer") as caught:
            act_by(kind, f"unix:{path}", 20)
        assert LATE[kind] not in str(caught.value)
        thread.join()
        accepted[0].close()


async def closed_meanwhile(path: Path) -> UnreachableError:
    """The error of a question during which its client is closed."""
    asked = asyncio.Event()

    async def never(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.set()
        await reader.read()
        writer.close()

    async with await asyncio.start_unix_server(never, path):
        client = AsyncPolicyClient(f"unix:{path}", 20)
        question = asyncio.create_task(client.connect())
        await asked.wait()
        await client.close()
        with pytest.raises(UnreachableError) as caught:
            await question
        return caught.value


def test_a_question_whose_client_is_closed_does_not_wait_for_its_limit(path: Path):
    assert LATE["asyncio"] not in str(asyncio.run(closed_meanwhile(path)))


@pytest.mark.parametrize("url", ["unix:", "unix:@abstract", "unix:/run/", "unix:/" + "x" * 107, "unix:/a\0b"])
def test_an_address_that_can_not_be_is_refused_with_the_reason(url: str):
    with pytest.raises(ServerError, match=r"expected|at most 107|zero byte"):
        PolicyClient(url)
    with pytest.raises(ServerError):
        AsyncPolicyClient(url)


def test_paths_are_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir("/")
    for address in ("unix:run/p.sock", "unix:/run/p.sock", "unix:///run/p.sock"):
        assert socket_path(address) == Path("/run/p.sock")


@KINDS
def test_a_client_says_that_there_is_no_such_socket(kind: str, path: Path):
    with pytest.raises(UnreachableError, match=r"there is no such socket; is carla-serve running, with --host unix:"):
        act_by(kind, f"unix:{path}")
