"""Good requests with a few bytes changed: none may cause a server error, and every action has to be right."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from benchmarks.support.encoding import from_json
from benchmarks.support.requests import http_request
from benchmarks.support.responses import Response
from carla_mlflow import Artifact, Engine
from carla_mlflow.errors import SpecError

CHARACTERS = b'0123456789.-+eE"{}[],: \x00\xff\n\\tfnula'


def mutated(body: bytes, rng: np.random.Generator) -> bytes:
    """Changes the body one to three times: a byte replaced or inserted, up to 11 removed, or up to 39 repeated."""
    changed = bytearray(body)
    for _ in range(int(rng.integers(1, 4))):
        at, kind = int(rng.integers(len(changed))), int(rng.integers(4))
        if kind == 0:
            changed[at] = CHARACTERS[int(rng.integers(len(CHARACTERS)))]
        elif kind == 1:
            changed.insert(at, CHARACTERS[int(rng.integers(len(CHARACTERS)))])
        elif kind == 2:
            del changed[at : at + int(rng.integers(1, 12))]
        else:
            end = at + int(rng.integers(1, 40))
            changed[at:at] = changed[at:end]
        changed = changed or bytearray(b" ")
    return bytes(changed)


class Reference:
    """The response that a /predict body has to get, by Python's own JSON and the engine, without the server's code."""

    def __init__(self, artifact: Artifact) -> None:
        self._engine = Engine(artifact, "cpu")

    def problem(self, body: bytes, response: Response) -> str | None:
        """What is wrong with a response; None when nothing is."""
        wanted = self._wanted(body)
        if response.status == 200:
            if wanted is None:
                return "answered what is no request"
            return None if from_json(response.body).tobytes() == wanted.tobytes() else "a wrong answer"
        return f"{response.status}: refused what is right" if wanted is not None else None

    def _wanted(self, body: bytes) -> np.ndarray | None:
        try:
            document = json.loads(body.decode(), parse_constant=_refuse, object_pairs_hook=_once)
            if set(document) != {"observations"} or not _is_plain(document["observations"]):
                return None
            return self._engine.act(document["observations"]).control
        except (ValueError, TypeError, RecursionError, SpecError, OverflowError):
            return None


def _refuse(name: str) -> Any:
    raise ValueError(name)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) != len(pairs):
        raise ValueError("a name twice")
    return dict(pairs)


def _is_plain(value: Any) -> bool:
    """Whether it consists only of lists, objects and finite numbers."""
    if isinstance(value, list):
        return all(map(_is_plain, value))
    if isinstance(value, dict):
        return all(map(_is_plain, value.values()))
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def bodies(good: bytes, count: int, seed: int) -> Iterator[bytes]:
    """Yields `count` mutated bodies."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        yield mutated(good, rng)


def heads(good: bytes, count: int, seed: int) -> Iterator[bytes]:
    """Yields `count` requests with mutated heads and whole bodies."""
    rng = np.random.default_rng(seed)
    head, _, body = http_request("/predict", good, "application/json").partition(b"\r\n\r\n")
    for _ in range(count):
        yield mutated(head, rng) + b"\r\n\r\n" + body
