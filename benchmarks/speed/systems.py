"""The servers that `benchmarks.serving` measures, with one interface to start, query, check and stop them."""

from __future__ import annotations

import contextlib
import functools
import math
import shutil
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.policies.serving_policies import MAX_ROWS, Asked
from benchmarks.support.connection import Address, ask
from benchmarks.support.encoding import Arrays, from_json, from_v2, infer_request, predict_request
from benchmarks.support.free_port import free_port
from benchmarks.support.our_server import OurServer
from benchmarks.support.server import Server
from carla_mlflow import Card, PolicyClient

DOORS = {"json": "JSON", "v2": "/v2 binary"}
"""Our two endpoints: the name in this code → the one in the table."""


def doors_of(kind: str) -> list[str]:
    """The endpoints to measure with a kind of policy: nobody sends images as numbers in JSON."""
    return [door for door in DOORS if kind != "image" or door != "json"]


@dataclass(frozen=True)
class Running:
    """A running server: where it listens, its first process, and the seconds from its start to its first response."""

    address: Address
    pid: int | None
    started_s: float


class System(ABC):
    """One row of the table: a server, and the requests sent to it.

    Attributes:
        name: its name in the table.
        kind: `mlp`, `image` or `lstm`.
    """

    name: str
    kind: str

    @functools.cache  # noqa: B019
    def requests(self, rows: int) -> list[bytes]:
        """Whole HTTP requests with `rows` observations each."""
        return self.encode(rows)

    @abstractmethod
    def encode(self, rows: int) -> list[bytes]:
        """Makes the requests, which `requests` caches."""

    @abstractmethod
    def running(self) -> contextlib.AbstractContextManager[Running]:
        """Starts the server, waits for its first response, and stops it at the end; raises RuntimeError without one."""

    @abstractmethod
    def problem(self, running: Running) -> str | None:
        """What is wrong with its responses to 1 and to 256 observations; None when they are right."""


class Floor(System):
    """The empty C server, compiled when it is created."""

    def __init__(self, asked: Asked, folder: Path) -> None:
        self.name, self.kind, self._asked = "floor: empty C server", asked.kind, asked
        compiler = shutil.which("cc")
        if compiler is None:
            raise RuntimeError("no C compiler (cc): the floor is left out")
        self._program = folder / "floor"
        source = Path(__file__).with_name("floor.c")
        subprocess.run([compiler, "-O2", "-o", str(self._program), str(source)], check=True)

    def encode(self, rows: int) -> list[bytes]:
        return _encode(predict_request, self._asked, rows)

    @contextlib.contextmanager
    def running(self) -> Iterator[Running]:
        port = free_port()
        with Server([str(self._program), str(port)], port, self.requests(1)[0]) as server:
            yield _as_running(server)

    def problem(self, running: Running) -> str | None:
        return None if ask(running.address, self.requests(1)[0]).status == 200 else "no answer"


class Ours(System):
    """carla-serve, measured on one of its endpoints."""

    def __init__(self, asked: Asked, door: str, workers: int) -> None:
        """Args: the policy to serve; `json` (/predict) or `v2` (binary tensors both ways); number of processes."""
        self.name = f"carla-serve, {DOORS[door]}"
        self.kind, self.door, self._asked, self._workers = asked.kind, door, asked, workers

    def encode(self, rows: int) -> list[bytes]:
        encode = predict_request if self.door == "json" else functools.partial(infer_request, self._asked.name)
        return _encode(encode, self._asked, rows)

    @contextlib.contextmanager
    def running(self) -> Iterator[Running]:
        flags = ["--model", str(self._asked.folder), "--workers", str(self._workers)]
        with OurServer(*flags, request=self.requests(1)[0]) as server:
            yield _as_running(server)

    def problem(self, running: Running) -> str | None:
        for rows in (1, MAX_ROWS):
            asked = zip(self.requests(rows), self._asked.batches[rows], self._asked.states[rows], strict=True)
            for request, batch, state in list(asked)[:20]:
                status, _, body, _ = response = ask(running.address, request)
                if status != 200:
                    return f"{rows} observations: {status} {body[:100]!r}"
                if self.door == "json":
                    given = from_json(body)
                else:
                    given = from_v2(body, int(response.headers["inference-header-content-length"]))
                if not np.array_equal(given, self._asked.engine.act(batch, state=state or None).control):
                    return f"{rows} observations: another answer than in this process"
        return None


class AlreadyRunning(System):
    """A carla-serve that somebody started on this machine, requested through one of its endpoints."""

    def __init__(self, address: Address, card: Card, door: str) -> None:
        """Args: where it listens; the card of its policy; `json` (/predict) or `v2` (binary tensors both ways)."""
        self.name, self.kind = f"running, {DOORS[door]}", kind_of(card)
        self.door, self._address, self._card = door, address, card

    def encode(self, rows: int) -> list[bytes]:
        rng, specs = np.random.default_rng(1), self._card.observation_spec
        batches = [{spec.name: spec.sample(rng, rows) for spec in specs} for _ in range(64 if rows == 1 else 4)]
        encode = predict_request if self.door == "json" else functools.partial(infer_request, self._card.name)
        return [encode(batch) for batch in batches]

    @contextlib.contextmanager
    def running(self) -> Iterator[Running]:
        yield Running(self._address, None, math.nan)

    def problem(self, running: Running) -> str | None:
        for rows in (1, MAX_ROWS):
            response = ask(running.address, self.requests(rows)[0])
            if response.status != 200:
                return f"{rows} observations: {response.status} {response.body[:100]!r}"
        return None


def already_running(address: Address) -> list[System]:
    """A server's endpoints; raises CarlaMlflowError when no server answers there."""
    url = f"http://127.0.0.1:{address}" if isinstance(address, int) else f"unix:{address}"
    with PolicyClient(url) as client:
        card = client.card
    return [AlreadyRunning(address, card, door) for door in doors_of(kind_of(card))]


def kind_of(card: Card) -> str:
    """Whether a policy is measured as one with an `image`, or as an `mlp`."""
    return "image" if card.observation_spec.has_image else "mlp"


def _encode(encode: Callable[[Arrays, Sequence[bytes]], bytes], asked: Asked, rows: int) -> list[bytes]:
    return [encode(batch, tokens) for batch, tokens in zip(asked.batches[rows], asked.tokens[rows], strict=True)]


def _as_running(server: Server) -> Running:
    return Running(server.port, server.process.pid, server.started_s)
