"""The servers that `benchmarks.serving` measures, with one interface to start, query, check and stop them."""

from __future__ import annotations

import contextlib
import functools
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil

from benchmarks.free_port import free_port
from benchmarks.serving_policies import MAX_ROWS, Arrays, Asked, from_json, from_v2, to_json, to_v2
from benchmarks.wrk import ask, http_request
from carla_mlflow import PolicyClient

START_S, STOP_S = 90.0, 10.0


@dataclass(frozen=True)
class Running:
    """A running server: its port, its first process, and the seconds from its start to its first response."""

    port: int
    pid: int | None
    started_s: float


class System(ABC):
    """One row of the table: a server, and the requests sent to it.

    Attributes:
        name: its name in the table.
        kind: `mlp` or `image`.
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
        return _predicts(self._asked, rows)

    @contextlib.contextmanager
    def running(self) -> Iterator[Running]:
        port = free_port()
        with started([str(self._program), str(port)], port, self.requests(1)[0]) as server:
            yield server

    def problem(self, running: Running) -> str | None:
        return None if ask(running.port, self.requests(1)[0])[0] == 200 else "no answer"


class Ours(System):
    """carla-serve, measured on one of its endpoints."""

    def __init__(self, asked: Asked, door: str, workers: int) -> None:
        """Args: the policy to serve; `json` (/predict) or `v2` (binary tensors both ways); number of processes."""
        self.name = f"carla-serve, {'JSON' if door == 'json' else '/v2 binary'}"
        self.kind, self.door, self._asked, self._workers = asked.kind, door, asked, workers

    def encode(self, rows: int) -> list[bytes]:
        if self.door == "json":
            return _predicts(self._asked, rows)
        return [_infer(self._asked.name, batch) for batch in self._asked.batches[rows]]

    @contextlib.contextmanager
    def running(self) -> Iterator[Running]:
        port = free_port()
        program = str(Path(sys.executable).parent / "carla-serve")
        flags = ["--port", str(port), "--workers", str(self._workers), "--log-level", "error"]
        with started([program, "--model", str(self._asked.folder), *flags], port, self.requests(1)[0]) as server:
            yield server

    def problem(self, running: Running) -> str | None:
        for rows in (1, MAX_ROWS):
            pairs = zip(self.requests(rows), self._asked.batches[rows], strict=True)
            for request, batch in list(pairs)[:20]:
                status, headers, body = ask(running.port, request)
                if status != 200:
                    return f"{rows} observations: {status} {body[:100]!r}"
                if self.door == "json":
                    given = from_json(body)
                else:
                    given = from_v2(body, int(headers["inference-header-content-length"]))
                if not np.array_equal(given, self._asked.engine.act(batch).control):
                    return f"{rows} observations: another answer than in this process"
        return None


class AlreadyRunning(System):
    """A carla-serve that somebody started on this machine, requested through one of its endpoints."""

    def __init__(self, port: int, door: str) -> None:
        """Reads the policy's card from the server; raises CarlaMlflowError when no server answers."""
        with PolicyClient(f"http://127.0.0.1:{port}") as client:
            self._card = client.card
        self.name = f"running, {'JSON' if door == 'json' else '/v2 binary'}"
        self.kind, self.door, self._port = "image" if self._card.observation_spec.has_image else "mlp", door, port

    def encode(self, rows: int) -> list[bytes]:
        rng, specs = np.random.default_rng(1), self._card.observation_spec
        batches = [{spec.name: spec.sample(rng, rows) for spec in specs} for _ in range(64 if rows == 1 else 4)]
        encode = _predict if self.door == "json" else functools.partial(_infer, self._card.name)
        return [encode(batch) for batch in batches]

    @contextlib.contextmanager
    def running(self) -> Iterator[Running]:
        yield Running(self._port, None, math.nan)

    def problem(self, running: Running) -> str | None:
        for rows in (1, MAX_ROWS):
            status, _, body = ask(running.port, self.requests(rows)[0])
            if status != 200:
                return f"{rows} observations: {status} {body[:100]!r}"
        return None


def _predict(batch: Arrays) -> bytes:
    return http_request("/predict", to_json(batch), "application/json")


def _infer(name: str, batch: Arrays) -> bytes:
    body, header = to_v2(batch)
    headers = {"Inference-Header-Content-Length": str(header)}
    return http_request(f"/v2/models/{name}/infer", body, "application/octet-stream", **headers)


def _predicts(asked: Asked, rows: int) -> list[bytes]:
    return [_predict(batch) for batch in asked.batches[rows]]


@contextlib.contextmanager
def started(command: list[str], port: int, request: bytes) -> Iterator[Running]:
    """A context manager: starts a server in its own process group, and yields after its first response to `request`."""
    began = time.perf_counter()
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        while time.perf_counter() - began < START_S and process.poll() is None:
            with contextlib.suppress(OSError):
                if ask(port, request)[0] < 500:  # the caller checks the response itself
                    yield Running(port, process.pid, time.perf_counter() - began)
                    return
            time.sleep(0.01)
        raise RuntimeError(f"{Path(command[0]).name} gave no answer within {START_S:g} s")
    finally:
        stop(process)


def stop(process: subprocess.Popen[bytes]) -> None:
    """Sends SIGTERM to the process group, waits up to STOP_S for the process, then sends SIGKILL to what is left."""
    for number, wait_s in ((signal.SIGTERM, STOP_S), (signal.SIGKILL, STOP_S)):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(wait_s)


def memory_mb(pid: int) -> tuple[float, float]:
    """MB of PSS: of a process with all its children, and of the largest of them."""
    sizes = []
    for process in [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]:
        with contextlib.suppress(psutil.Error):
            sizes.append(process.memory_full_info().pss / 1e6)
    return sum(sizes), max(sizes)
