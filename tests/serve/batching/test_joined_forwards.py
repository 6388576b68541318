"""A policy whose one row takes long, but many together hardly longer: requests that wait share a forward."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest
from conftest import servers
from following_support import metric
from slow_policies import SLOW_AT, laborious
from tests_support import Server

from benchmarks.support.connection import Connection
from benchmarks.support.encoding import from_json, predict_request
from benchmarks.support.requests import http_request
from carla_mlflow import Engine

REQUESTS, ATTEMPTS = 32, 20
"""Attempts, since requests that come one by one, from a test that is itself held up, have nothing to share."""


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Takes over 1 ms on any core for rows that are `drawn` here, and hardly more for more of them.

    Other rows take no time: the thousands that verify the batch shapes would take seconds.
    """
    return laborious(tmp_path_factory.mktemp("policy"), 0, width=128)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, policy: Path) -> Iterator[Server]:
    with servers(tmp_path_factory) as start:
        running = start("--model", str(policy), "--workers", "1")
        running.wait_ready()
        yield running


def sent_together(server: Server, requests: list[bytes]) -> list[bytes]:
    """Sends each on a connection of its own before any is answered; the bodies of the answers."""
    connections = [Connection(int(server.url.rpartition(":")[2])) for _ in requests]
    for connection, request in zip(connections, requests, strict=True):
        connection.send(request)
    bodies = [connection.receive().body for connection in connections]
    for connection in connections:
        connection.close()
    return bodies


def drawn(seed: int, rows: int = 1) -> dict[str, np.ndarray]:
    state = np.random.default_rng(seed).integers(-5, 6, (rows, 16)).astype(np.float32)
    state[:, -1] = SLOW_AT
    return {"state": state}


def counted(server: Server) -> tuple[float, float]:
    """Forwards and rows so far."""
    return metric(server, "policy_batch_rows_count"), metric(server, "policy_batch_rows_sum")


def test_requests_that_wait_share_forwards_and_each_gets_the_engines_bits(server: Server, policy: Path):
    engine, batches = Engine.open(policy, device="cpu"), [drawn(seed, 1 + seed % 3) for seed in range(REQUESTS)]
    assert max(engine.tile_rows) >= 8  # else this test shows nothing
    wanted = [engine.act(batch).control.tobytes() for batch in batches]
    for _ in range(ATTEMPTS):
        before = counted(server)
        bodies = sent_together(server, [predict_request(batch) for batch in batches])
        assert [from_json(body).tobytes() for body in bodies] == wanted
        forwards, rows = (now - then for now, then in zip(counted(server), before, strict=True))
        assert rows == sum(len(batch["state"]) for batch in batches)
        if forwards <= REQUESTS / 2:
            return
    raise AssertionError(f"{REQUESTS} requests always took more than half as many forwards")


def test_a_bad_row_and_an_ended_budget_concern_only_their_own_requests(server: Server, policy: Path):
    engine = Engine.open(policy, device="cpu")
    rows = [drawn(seed) for seed in range(REQUESTS)]
    requests = [predict_request(row) for row in rows]
    outside = [{"state": [float("1e30"), *[0.0] * 15]}]
    requests[5] = http_request("/predict", msgspec.json.encode({"observations": outside}), "application/json")
    hurried = {"observations": [{"state": rows[20]["state"][0].tolist()}], "budget_ms": 0.01}
    requests[20] = http_request("/predict", msgspec.json.encode(hurried), "application/json")
    bodies = sent_together(server, requests)
    assert msgspec.json.decode(bodies[5])["error"]["field"] == "observations[0].state[0]"
    assert msgspec.json.decode(bodies[20])["error"]["code"] == "deadline_exceeded"
    for number in set(range(REQUESTS)) - {5, 20}:
        assert from_json(bodies[number]).tobytes() == engine.act(rows[number]).control.tobytes()
