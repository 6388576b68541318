"""The mixed requests of `benchmarks.soak`, a fast client that sends them, and a reader of the server's counts."""

from __future__ import annotations

import contextlib
import re
import socket
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.serving_policies import to_v2
from benchmarks.wrk import ask, http_request
from carla_mlflow import open_artifact

NOT_A_ROUTE = "no such route or method"


@dataclass(frozen=True)
class Kind:
    """One kind of request.

    Attributes:
        weight: how often it is sent, relative to the other kinds.
        status: the right response's status.
    """

    name: str
    weight: float
    path: str
    status: int
    request: bytes


def kinds(folder: Path, port: int) -> list[Kind]:
    """All kinds of requests for a policy, including /v2 when the server has it."""
    artifact = open_artifact(folder)
    specs, rng = artifact.card.observation_spec, np.random.default_rng(0)

    def rows(count: int) -> list[dict]:
        batch = {spec.name: spec.sample(rng, count) for spec in specs}
        return [{name: array[row].tolist() for name, array in batch.items()} for row in range(count)]

    first = rows(1)[0]
    name = next(iter(first))
    found = [
        _post("predict, 1 row", 50, "/predict", 200, {"observations": rows(1)}),
        _post("predict, 8 rows", 20, "/predict", 200, {"observations": rows(8)}),
        _post("predict, sampled", 3, "/predict", 200, {"observations": rows(1), "deterministic": False, "seed": 3}),
        _post("invocations, 4 rows", 10, "/invocations", 200, {"dataframe_records": rows(4)}),
        _post("not JSON", 2, "/predict", 400, b'{"observations": [{'),
        _post("NaN", 2, "/predict", 400, b'{"observations": [{"%s": NaN}]}' % name.encode()),
        _post("no rows", 2, "/predict", 400, {"observations": []}),
        _post("an unknown option", 2, "/predict", 400, {"observations": [first], "hurry": True}),
        _post("a missing field", 2, "/predict", 422, {"observations": [{name: first[name]}]}),
        _post("null for a number", 2, "/predict", 422, {"observations": [{**first, name: None}]}),
        _post("a form", 1, "/predict", 415, b"speed=1", "application/x-www-form-urlencoded"),
        _post("invocations, wrong key", 1, "/invocations", 400, {"rows": [first]}),
        _post("no such route", 1, "/predictions", 404, {"observations": [first]}),
        *(
            _get(path, weight)
            for path, weight in (("/readyz", 2), ("/healthz", 1), ("/metadata", 0.5), ("/metrics", 0.2))
        ),
        Kind("GET /predict", 1, "/predict", 405, b"GET /predict HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    ]
    if ask(port, b"GET /v2/health/live HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")[0] == 200:
        body, header = to_v2({spec.name: spec.sample(rng, 4) for spec in specs})
        path = f"/v2/models/{artifact.card.name}/infer"
        headers = {"Inference-Header-Content-Length": str(header)}
        request = http_request(path, body, "application/octet-stream", **headers)
        found.append(Kind("/v2 binary, 4 rows", 10, path, 200, request))
    return found


def _post(name: str, weight: float, path: str, status: int, document: object, media: str = "application/json") -> Kind:
    body = document if isinstance(document, bytes) else msgspec.json.encode(document)
    return Kind(name, weight, path, status, http_request(path, body, media))


def _get(path: str, weight: float) -> Kind:
    return Kind(f"GET {path}", weight, path, 200, f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())


def route_of(path: str, status: int) -> str:
    """The route that a request is compared under: the same for all requests of /v2, and for all of 404 and 405."""
    if status in {404, 405}:
        return NOT_A_ROUTE
    return "/v2" if path.startswith("/v2/models") else path


def counted(port: int) -> Counter[tuple[str, int]]:
    """(route, status) → policy_requests_total of the server's /metrics."""
    request = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    found: Counter[tuple[str, int]] = Counter()
    for family in text_string_to_metric_families(ask(port, request)[2].decode()):
        for sample in family.samples:
            if sample.name == "policy_requests_total":
                code = int(sample.labels["code"])
                found[route_of(sample.labels["route"], code), code] += int(sample.value)
    return found


class Asker:
    """One connection, opened again when needed, that sends prepared bytes and parses only a response's framing."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._socket: socket.socket | None = None

    def send(self, request: bytes) -> None:
        with contextlib.suppress(OSError):
            if self._socket is None:
                self._socket = socket.create_connection(("127.0.0.1", self._port), timeout=30)
                self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._socket.sendall(request)

    def receive(self) -> int:
        """The response's status; 0 when there is none."""
        try:
            status, closes = self._read()
        except (OSError, ValueError, AttributeError):
            status, closes = 0, True
        if closes:
            if self._socket is not None:
                self._socket.close()
            self._socket = None
        return status

    def _read(self) -> tuple[int, bool]:
        received = self._more()
        while (end := received.find(b"\r\n\r\n")) < 0:
            received += self._more()
        head = received[:end].lower()
        length = re.search(rb"\r\ncontent-length: *(\d+)", head)
        missing = end + 4 + int(length[1] if length else 0) - len(received)
        while missing > 0:
            missing -= len(self._more())
        return int(head[9:12]), b"\r\nconnection: close" in head

    def _more(self) -> bytes:
        if self._socket is None:
            raise ValueError("not connected")
        part = self._socket.recv(1 << 18)
        if not part:
            raise ValueError("the connection ended before the answer")
        return part
