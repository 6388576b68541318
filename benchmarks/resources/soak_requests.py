"""The mixed requests of `benchmarks.soak`, a client that sends them, and a reader of the server's counts."""

from __future__ import annotations

import contextlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.support.connection import Connection, ask
from benchmarks.support.encoding import infer_path, infer_request, rows_of
from benchmarks.support.requests import get_request, http_request
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
        return rows_of({spec.name: spec.sample(rng, count) for spec in specs})

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
        _get("/predict", 1, 405),
    ]
    if ask(port, get_request("/v2/health/live")).status == 200:
        request = infer_request(artifact.card.name, {spec.name: spec.sample(rng, 4) for spec in specs})
        found.append(Kind("/v2 binary, 4 rows", 10, infer_path(artifact.card.name), 200, request))
    return found


def _post(name: str, weight: float, path: str, status: int, document: object, media: str = "application/json") -> Kind:
    body = document if isinstance(document, bytes) else msgspec.json.encode(document)
    return Kind(name, weight, path, status, http_request(path, body, media))


def _get(path: str, weight: float, status: int = 200) -> Kind:
    return Kind(f"GET {path}", weight, path, status, get_request(path))


def route_of(path: str, status: int) -> str:
    """The route that a request is compared under: the same for all requests of /v2, and for all of 404 and 405."""
    if status in {404, 405}:
        return NOT_A_ROUTE
    return "/v2" if path.startswith("/v2/models") else path


def counted(port: int) -> Counter[tuple[str, int]]:
    """(route, status) → policy_requests_total of the server's /metrics."""
    found: Counter[tuple[str, int]] = Counter()
    for family in text_string_to_metric_families(ask(port, get_request("/metrics")).body.decode()):
        for sample in family.samples:
            if sample.name == "policy_requests_total":
                code = int(sample.labels["code"])
                found[route_of(sample.labels["route"], code), code] += int(sample.value)
    return found


class Asker:
    """A connection whose failures are counted instead of raised."""

    def __init__(self, port: int) -> None:
        self._connection = Connection(port, timeout_s=30)

    def send(self, request: bytes) -> None:
        with contextlib.suppress(OSError):  # `receive` tells
            self._connection.send(request)

    def receive(self) -> int:
        """The response's status; 0 when there is none."""
        try:
            return self._connection.receive().status
        except (OSError, ValueError):
            return 0
