"""Steady load of good requests from a process of its own, recording the time and outcome of each."""

from __future__ import annotations

import contextlib
import multiprocessing
import select
import socket
import threading
import time
from dataclasses import dataclass
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from benchmarks.steady_load import exchange
from benchmarks.two_policies import Questions
from carla_mlflow import open_artifact

LATE_S = 5.0
OUTCOMES = ("right", "wrong", "failed", "dropped", "late", "refused")


@dataclass(frozen=True)
class Asked:
    """One request.

    Attributes:
        sent: when, by `time.monotonic`, which all processes of a machine share.
        ended: when its outcome was known, by the same clock.
        outcome: `right`: the engine's own bits; `wrong`: other bits; `failed`: another status than 200; `dropped`: the
            connection ended after the request was sent; `late`: no response within LATE_S; `refused`: no connection.
        text: the response's status and body, or the error; empty when right.
        anew: whether the server had ended the connection since the request before.
    """

    sent: float
    ended: float
    outcome: str
    text: str = ""
    anew: bool = False


class GoodLoad:
    """A context manager; `asked` holds the requests after it has been left."""

    def __init__(self, port: int, served: list[Path], connections: int, pause_s: float, keep: bool = True) -> None:
        """Prepares the process.

        Args:
            port: the server's, on 127.0.0.1.
            served: folders of the policies that may answer.
            connections: how many send requests at once.
            pause_s: seconds before each request.
            keep: whether a connection is used for more than one request.
        """
        spawn = multiprocessing.get_context("spawn")
        self._stop, self._started, self._found = spawn.Event(), spawn.Event(), spawn.SimpleQueue()
        arguments = (port, served, connections, pause_s, keep, self._started, self._stop, self._found)
        self._process = spawn.Process(target=_ask_on_connections, args=arguments, daemon=True)
        self.asked: list[Asked] = []

    def __enter__(self) -> GoodLoad:
        self._process.start()
        while not self._started.wait(1):
            self._check_alive()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        while self._found.empty():
            self._check_alive()
            self._process.join(0.05)
        self.asked = self._found.get()
        self._process.join()

    def _check_alive(self) -> None:
        if self._process.exitcode:
            raise RuntimeError(f"the good load ended with exit code {self._process.exitcode}; see above")

    def count(self, outcome: str, since: float) -> int:
        """How many requests that ended at `since` or later had this outcome."""
        return sum(each.outcome == outcome and each.ended >= since for each in self.asked)

    def p99_ms(self, begins: float, ends: float) -> float:
        """The p99, in milliseconds, from request to outcome of those sent from `begins` to `ends`; NaN for none."""
        took = [each.ended - each.sent for each in self.asked if begins <= each.sent < ends]
        return 1e3 * float(np.quantile(took, 0.99)) if took else float("nan")


def _ask_on_connections(
    port: int, served: list[Path], connections: int, pause_s: float, keep: bool, started: Event, stop: Event, found: Any
) -> None:
    questions = Questions([open_artifact(each) for each in served])
    asked: list[Asked] = []
    threads = [
        threading.Thread(target=_ask, args=(port, questions, 7 * number, pause_s, keep, stop, asked))
        for number in range(connections)
    ]
    for thread in threads:
        thread.start()
    started.set()
    for thread in threads:
        thread.join()
    found.put(asked)


def _ask(
    port: int, questions: Questions, index: int, pause_s: float, keep: bool, stop: Event, asked: list[Asked]
) -> None:
    connection: socket.socket | None = None
    while not stop.is_set():
        time.sleep(pause_s)
        index = (index + 1) % len(questions.bodies)
        sent, outcome, text, closes = time.monotonic(), "refused", "", True
        anew = connection is not None and _was_closed(connection)
        try:
            if connection is not None and anew:
                connection.close()
                connection = None
            connection = connection or socket.create_connection(("127.0.0.1", port), timeout=LATE_S)
            outcome = "dropped"
            status, body, closes = exchange(connection, "/predict", questions.bodies[index])
            outcome, text = "failed", f"{status} {body[:200]!r}"
            if status == 200:
                outcome = "right" if questions.is_right(index, msgspec.json.decode(body)) else "wrong"
        except TimeoutError:
            outcome = "late"
        except (OSError, ValueError) as error:
            text = repr(error)
        asked.append(Asked(sent, time.monotonic(), outcome, "" if outcome == "right" else text, anew))
        if closes or not keep:
            with contextlib.suppress(OSError, AttributeError):
                connection.close()  # type: ignore[union-attr]
            connection = None
            time.sleep(0.01 if outcome == "refused" else 0)


def _was_closed(connection: socket.socket) -> bool:
    """Whether the server ended it between two requests, which every HTTP client checks before it sends the next."""
    return bool(select.select([connection], [], [], 0)[0])
