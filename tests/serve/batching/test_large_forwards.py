"""A policy whose one row is fast, asked for many rows at once: other requests are answered meanwhile."""

from __future__ import annotations

import select
import socket
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from conftest import servers
from patience import PATIENCE_S
from slow_policies import laborious
from tests_support import Server

from benchmarks.support.connection import Connection
from benchmarks.support.encoding import from_json, from_v2, infer_request, predict_request
from benchmarks.support.responses import ResponseReader
from carla_mlflow import Engine

MANY, ATTEMPTS = 4000, 10
"""Attempts, since a test that is itself held up may find both answers: on one event loop none would succeed."""


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Some 0.1 ms a row, each of which is a forward of its own."""
    return laborious(tmp_path_factory.mktemp("policy"), 2, width=128)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, policy: Path) -> Iterator[Server]:
    with servers(tmp_path_factory) as start:
        running = start("--model", str(policy), "--max-batch", str(MANY), "--workers", "1")
        running.wait_ready()
        yield running


def port_of(server: Server) -> int:
    return int(server.url.rpartition(":")[2])


def drawn(seed: int, rows: int) -> dict[str, np.ndarray]:
    return {"state": np.random.default_rng(seed).integers(-5, 6, (rows, 16)).astype(np.float32)}


def test_one_row_is_answered_before_many_that_were_sent_first_and_all_have_the_engines_bits(
    server: Server, policy: Path
):
    engine, many, one = Engine.open(policy, device="cpu"), drawn(0, MANY), drawn(1, 1)
    overtook = False
    for _ in range(ATTEMPTS):
        with socket.create_connection(("127.0.0.1", port_of(server)), timeout=PATIENCE_S) as first:
            first.sendall(infer_request(engine.card.name, many))  # small enough to be decoded on the event loop
            with Connection(port_of(server)) as second:
                answer = second.ask(predict_request(one))
            assert from_json(answer.body).tobytes() == engine.act(one).control.tobytes()
            overtook = overtook or not select.select([first], [], [], 0)[0]
            reader = ResponseReader()
            while not reader.found:
                reader.feed(first.recv(65536))
        response = reader.found.popleft()
        header = int(response.headers["inference-header-content-length"])
        assert from_v2(response.body, header).tobytes() == engine.act(many).control.tobytes()
        if overtook:
            return
    raise AssertionError("the one row always waited for the many")


def test_requests_that_come_together_and_would_take_long_in_one_forward_get_the_engines_bits(
    server: Server, policy: Path
):
    engine, batches = Engine.open(policy, device="cpu"), [drawn(seed, 1 + seed % 40) for seed in range(64)]
    connections = [Connection(port_of(server)) for _ in batches]
    for connection, batch in zip(connections, batches, strict=True):
        connection.send(predict_request(batch))
    for connection, batch in zip(connections, batches, strict=True):
        assert from_json(connection.receive().body).tobytes() == engine.act(batch).control.tobytes()
        connection.close()
