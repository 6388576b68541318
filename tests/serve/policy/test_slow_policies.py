"""Policies that take long, and policies that never come to an end: other requests are answered meanwhile."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpcore
import msgspec
import numpy as np
import pytest
from conftest import servers
from following_support import metric, until, workers
from patience import PATIENCE_S
from slow_policies import HANGS_AT, SLOW_AT, laborious, predict_bytes
from tests_support import Server

from carla_mlflow import Engine
from serve.cores import usable_cores


def ask(server: Server, first: float, rows: int = 1, **fields: Any) -> httpcore.Response:
    """On a connection of its own."""
    body = {"observations": [{"state": [first, *[0.5] * 15]}] * rows, **fields}
    headers = {"Host": "localhost", "Content-Type": "application/json"}
    return httpcore.request("POST", f"{server.url}/predict", headers=headers, content=msgspec.json.encode(body))


def code_of(response: httpcore.Response) -> tuple[int, str]:
    return response.status, msgspec.json.decode(response.content)["error"]["code"]


@pytest.fixture(params=[pytest.param(0, id="on the loop"), pytest.param(1, id="off the loop", marks=pytest.mark.slow)])
def policy(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return laborious(tmp_path, request.param)


@pytest.fixture(scope="module")
def slow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One of a slow policy, shared by tests that only ask it: to verify its batch shapes takes seconds."""
    with servers(tmp_path_factory) as start:
        running = start("--model", str(laborious(tmp_path_factory.mktemp("slow"), 1)))
        running.wait_ready()
        yield running


def test_a_forward_that_hangs_costs_its_own_requests_and_one_worker(start_server: Callable[..., Server], policy: Path):
    server = start_server("--model", str(policy), "--forward-timeout-s", "2")
    server.wait_ready()
    [before] = workers(server)
    assert code_of(ask(server, HANGS_AT, budget_ms=200)) == (504, "deadline_exceeded")
    assert [worker.pid for worker in workers(server)] == [before.pid]  # in time: the forward has not been given up
    until(lambda: [w.pid for w in workers(server)] not in ([before.pid], []), server)
    server.wait_ready()
    assert code_of(ask(server, HANGS_AT)) == (500, "internal")
    until(lambda: _answers(server), server)


def _answers(server: Server) -> bool:
    try:
        return ask(server, 0.5).status == 200
    except (httpcore.NetworkError, httpcore.ProtocolError):
        return False


def test_a_slow_policy_keeps_nobody_else_waiting_and_its_rows_are_the_engines(slow_server: Server, tmp_path: Path):
    server, folder = slow_server, laborious(tmp_path, 1)
    before = metric(server, "policy_actions_total", version="1.0.0") or 0
    wanted = Engine.open(folder, device="cpu").act([{"state": [0.25, *[0.5] * 15]}] * 300).control
    answers: list[httpcore.Response] = []
    thread = threading.Thread(target=lambda: answers.append(ask(server, 0.25, 300)))
    thread.start()
    meanwhile = 0
    while thread.is_alive():
        assert server.get("/healthz").status == 200
        meanwhile += 1
    assert meanwhile > 3  # behind a forward that keeps the loop there would be one
    document = msgspec.json.decode(answers[0].content)
    given = np.array([list(row.values()) for row in document["actions"]], dtype=np.float32)
    assert given.tobytes() == wanted.tobytes()
    assert code_of(ask(server, 99.0, 2)) == (422, "invalid_observation")
    assert (metric(server, "policy_actions_total", version="1.0.0") or 0) - before >= 300


def test_a_warm_up_of_a_slow_policy_leaves_out_what_takes_long(start_server: Callable[..., Server], tmp_path: Path):
    server = start_server("--model", str(laborious(tmp_path, 2)))  # some 5e8 operations a row
    server.wait_ready()
    timings = server.post("/warmup", {}).json["timings_ms"]
    assert "1" in timings
    assert "256" not in timings


def test_a_budget_that_ends_while_others_are_served_costs_no_forward(slow_server: Server):
    thread = threading.Thread(target=lambda: ask(slow_server, 0.25, 500))
    thread.start()
    assert code_of(ask(slow_server, 0.5, 500, budget_ms=100)) == (504, "deadline_exceeded")
    assert thread.is_alive()  # it did not wait for those in front
    thread.join()


def test_a_forward_that_outlives_a_budget_ends_its_connection_once(start_server: Callable[..., Server], policy: Path):
    server = start_server("--model", str(policy))
    server.wait_ready()
    with socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2])), timeout=PATIENCE_S) as raw:
        raw.sendall(predict_bytes(SLOW_AT, budget_ms=60))
        answer = raw.recv(65536)
        if b"Connection: close" in answer:  # answered while the loop could not
            assert raw.recv(65536) == b""
    assert answer.startswith(b"HTTP/1.1 504 ")
    until(lambda: metric(server, "policy_requests_total", route="/predict", code="504") == 1, server)
    assert metric(server, "policy_requests_total", route="/predict", code="200") == 0
    until(lambda: metric(server, "policy_in_flight") in (0, 1), server)  # 1: the question itself
    assert ask(server, 0.5).status == 200


def test_budgets_are_kept_while_others_are_in_front(slow_server: Server):
    threads = [threading.Thread(target=ask, args=(slow_server, SLOW_AT)) for _ in range(4)]
    for thread in threads:
        thread.start()
    time.sleep(0.1)
    assert code_of(ask(slow_server, 0.5, budget_ms=50)) == (504, "deadline_exceeded")
    assert any(thread.is_alive() for thread in threads)
    for thread in threads:
        thread.join()


def test_what_waits_behind_forwards_that_hang_is_told(start_server: Callable[..., Server], tmp_path: Path):
    server = start_server("--model", str(laborious(tmp_path, 1)), "--forward-timeout-s", "1")
    server.wait_ready()
    answers: list[int] = []
    hang = [
        threading.Thread(target=lambda: answers.append(ask(server, HANGS_AT).status)) for _ in range(usable_cores())
    ]
    for thread in hang:
        thread.start()
    time.sleep(0.3)
    waits = ask(server, 0.5)
    assert code_of(waits) == (503, "not_ready")
    assert {name.lower(): value for name, value in waits.headers}[b"retry-after"] == b"1"
    for thread in hang:
        thread.join()
    assert answers == [500] * usable_cores()
    until(lambda: _answers(server), server)


def test_no_spelling_of_a_path_leads_a_prediction_past_the_watchdog(start_server: Callable[..., Server], policy: Path):
    server = start_server("--model", str(policy), "--forward-timeout-s", "1")
    server.wait_ready()
    body = msgspec.json.encode({"observations": [{"state": [HANGS_AT, *[0.5] * 15]}]})
    headers = {"Host": "localhost", "Content-Type": "application/json"}
    answer = httpcore.request("POST", f"{server.url}/%70redict", headers=headers, content=body)
    assert code_of(answer) == (500, "internal")
