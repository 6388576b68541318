"""Bodies of megabytes arrive as they like, in the open and over TLS, and give the engine's bits."""

from __future__ import annotations

import ssl
import time
from collections.abc import Iterator
from http.client import HTTPResponse
from pathlib import Path
from socket import SHUT_WR, create_connection, socket
from typing import Any

import httpcore
import numpy as np
import psutil
import pytest
from conftest import servers
from patience import PATIENCE_S
from tests_support import Server

from benchmarks.policies.networks import small_view
from benchmarks.policies.two_policies import write
from benchmarks.support.encoding import from_v2, to_v2
from benchmarks.support.requests import http_request
from carla_mlflow import Engine
from serve.wire.large_body import LARGE_BYTES, MAPPED_BYTES
from training_export.export.export import export_policy

SHAPE = (4, 64, 64)
ROWS = {"small": 1, "large": 6, "mapped": 270}
KINDS, HOW = ("loop", "gthread"), ("open", "tls")
MB = 2**20


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(export_policy(small_view(), "viewer", "1.0.0", "").artifact, tmp_path_factory.mktemp("view"))


@pytest.fixture(scope="module")
def cases(folder: Path) -> dict[str, tuple[bytes, np.ndarray]]:
    """Requests of several sizes, and the engine's controls."""
    rng, engine = np.random.default_rng(0), Engine.open(folder, device="cpu")
    found = {}
    for name, rows in ROWS.items():
        observations: dict[str, Any] = {
            "bev": rng.integers(0, 256, (rows, *SHAPE)).astype(np.uint8),
            "state": rng.uniform(-1, 1, (rows, 3)).astype(np.float32),
        }
        body, header = to_v2(observations)
        headers = {"Inference-Header-Content-Length": str(header)}
        request = http_request("/v2/models/viewer/infer", body, "application/octet-stream", **headers)
        found[name] = request, engine.act(observations).control
    assert len(found["small"][0]) < LARGE_BYTES < len(found["large"][0]) < MAPPED_BYTES < len(found["mapped"][0])
    return found


@pytest.fixture(scope="module")
def viewers(tmp_path_factory, folder: Path, certificate: Any) -> Iterator[dict[tuple[str, str], Server]]:
    """Both kinds of worker, in the open and over TLS."""
    tls = ("--certfile", str(certificate[0]), "--keyfile", str(certificate[1]))
    with servers(tmp_path_factory) as start:
        found = {}
        for kind, how in [(kind, how) for kind in KINDS for how in HOW]:
            flags = ("--model", str(folder), "--worker-class", kind, "--workers", "1", "--body-timeout-s", "3")
            server = found[kind, how] = start(*flags, *(tls if how == "tls" else ()))
            if how == "tls":
                server.url = server.url.replace("http:", "https:")
                server.pool = httpcore.ConnectionPool(ssl.create_default_context(cafile=str(certificate[0])))
        for server in found.values():
            server.wait_ready()
        yield found


@pytest.fixture(params=[(kind, how) for kind in KINDS for how in HOW], ids="-".join)
def viewer(request: pytest.FixtureRequest, viewers: dict[tuple[str, str], Server]) -> Server:
    return viewers[request.param]


@pytest.fixture(params=HOW)
def loop_viewer(request: pytest.FixtureRequest, viewers: dict[tuple[str, str], Server]) -> Server:
    return viewers["loop", request.param]


@pytest.fixture(params=KINDS)
def open_viewer(request: pytest.FixtureRequest, viewers: dict[tuple[str, str], Server]) -> Server:
    return viewers[request.param, "open"]


def connect(server: Server, certificate: Any) -> socket:
    raw = create_connection(("127.0.0.1", int(server.url.rpartition(":")[2])), timeout=PATIENCE_S)
    if not server.url.startswith("https"):
        return raw
    return ssl.create_default_context(cafile=str(certificate[0])).wrap_socket(raw, server_hostname="localhost")


def controls(raw: socket) -> np.ndarray:
    response = HTTPResponse(raw)
    response.begin()
    body = response.read()
    assert response.status == 200, body
    return from_v2(body, int(response.headers["inference-header-content-length"]))


@pytest.mark.parametrize("size", [999, 65_536, 1_000_003, 2**30])
def test_a_large_body_in_pieces_of_any_size_gives_the_engines_bits(viewer: Server, certificate, cases, size: int):
    with connect(viewer, certificate) as raw:
        for name in ("large", "small", "mapped", "large"):
            request, wanted = cases[name]
            for start in range(0, len(request), size):
                raw.sendall(request[start : start + size])
            assert controls(raw).tobytes() == wanted.tobytes()


def test_what_follows_a_large_body_in_the_same_packet_is_answered_after_it(viewer: Server, certificate, cases):
    order = ["large", "small", "large", "large", "small"]
    with connect(viewer, certificate) as raw:
        raw.sendall(b"".join(cases[name][0] for name in order))
        reader = raw.makefile("rb")
        for name in order:
            status, length, header = 0, 0, 0
            while line := reader.readline().strip():
                word, _, value = line.partition(b" ")
                status = int(value[:3]) if word.startswith(b"HTTP") else status
                length = int(value) if word.lower() == b"content-length:" else length
                header = int(value) if word.lower() == b"inference-header-content-length:" else header
            assert status == 200
            assert from_v2(reader.read(length), header).tobytes() == cases[name][1].tobytes()


def test_a_large_body_that_ends_before_its_end_is_no_request(open_viewer: Server, certificate, cases):
    with connect(open_viewer, certificate) as raw:
        raw.sendall(cases["mapped"][0][:3_000_000])
        raw.shutdown(SHUT_WR)
        assert raw.recv(1000).split(b" ")[1] == b"400"


def test_a_large_body_that_stops_coming_is_408_and_others_are_answered(loop_viewer: Server, certificate, cases):
    with connect(loop_viewer, certificate) as slow, connect(loop_viewer, certificate) as good:
        slow.sendall(cases["mapped"][0][:3_000_000])
        began = time.monotonic()
        good.sendall(cases["large"][0])
        assert controls(good).tobytes() == cases["large"][1].tobytes()
        assert slow.recv(1000).split(b" ")[1] == b"408"
        assert time.monotonic() - began < 8


def test_megabytes_that_are_only_announced_take_no_memory(loop_viewer: Server, certificate, cases):
    [worker] = psutil.Process(loop_viewer.process.pid).children()
    before, request = worker.memory_full_info().uss, cases["mapped"][0]
    head = request[: request.index(b"\r\n\r\n") + 4]
    raws = [connect(loop_viewer, certificate) for _ in range(40)]
    for raw in raws:
        raw.sendall(head + b"{")
    time.sleep(0.5)
    assert worker.memory_full_info().uss - before < 40 * MB  # 40 of 4.4 MB were announced; TLS itself takes some
    for raw in raws:
        raw.close()
