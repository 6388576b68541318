"""Steady load of good requests from a process of its own, recording the time and outcome of each."""

from __future__ import annotations

import multiprocessing
import threading
import time
from dataclasses import dataclass
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.policies.two_policies import Questions
from benchmarks.support.connection import Connection
from benchmarks.support.percentiles import p99
from benchmarks.support.requests import http_request
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
        return 1e3 * p99([each.ended - each.sent for each in self.asked if begins <= each.sent < ends])


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
    connection = Connection(port, LATE_S)
    requests = [http_request("/predict", body, "application/json") for body in questions.bodies]
    while not stop.is_set():
        time.sleep(pause_s)
        index = (index + 1) % len(requests)
        sent, outcome, text = time.monotonic(), "refused", ""
        anew = connection.was_ended()
        try:
            if anew:
                connection.close()
            connection.open()
            outcome = "dropped"
            response = connection.ask(requests[index])
            outcome, text = "failed", f"{response.status} {response.body[:200]!r}"
            if response.status == 200:
                outcome = "right" if questions.is_right(index, msgspec.json.decode(response.body)) else "wrong"
        except TimeoutError:
            outcome = "late"
        except (OSError, ValueError) as error:
            text = repr(error)
        asked.append(Asked(sent, time.monotonic(), outcome, "" if outcome == "right" else text, anew))
        if not keep:
            connection.close()
        time.sleep(0.01 if outcome == "refused" else 0)
    connection.close()
