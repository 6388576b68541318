"""Steady load on a policy server: connections that each send the next request after a response, all recorded."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import msgspec

from benchmarks.policies.two_policies import Questions
from benchmarks.support.connection import Connection
from benchmarks.support.requests import http_request
from benchmarks.support.responses import Response


@dataclass
class Record:
    """What came back.

    Attributes:
        answers: when a request was sent, when it was answered (both `time.monotonic`), and by which version.
        wrong: the versions named in responses whose actions are not that version's.
        failed: the status or error of each request without a complete response of status 200.
    """

    answers: list[tuple[float, float, str]] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    def last_of(self, version: str, since: float) -> float:
        """When a version's last response to a request sent at `since` or later came; `since` when there is none."""
        return max((came for sent, came, by in self.answers if by == version and sent >= since), default=since)


class SteadyLoad:
    """A context manager: sends requests from entering to leaving."""

    def __init__(self, url: str, questions: Questions, connections: int = 16, pause_s: float = 0.0) -> None:
        self._port = urlsplit(url).port or 80
        self._questions = questions
        self._requests = [http_request("/predict", body, "application/json") for body in questions.bodies]
        self._pause_s = pause_s
        self._stop = threading.Event()
        self.record = Record()
        self._threads = [threading.Thread(target=self._ask, args=(7 * i,), daemon=True) for i in range(connections)]

    def __enter__(self) -> Record:
        for thread in self._threads:
            thread.start()
        return self.record

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _ask(self, index: int) -> None:
        with Connection(self._port, timeout_s=20) as connection:
            while not self._stop.is_set():
                time.sleep(self._pause_s)
                index = (index + 1) % len(self._requests)
                try:
                    connection.open()
                    sent = time.monotonic()
                    self._judge(index, sent, connection.ask(self._requests[index]))
                except (OSError, ValueError) as error:
                    self.record.failed.append(repr(error))
                    time.sleep(0.05)

    def _judge(self, index: int, sent: float, response: Response) -> None:
        if response.status != 200:
            self.record.failed.append(f"{response.status} {response.body[:200]!r}")
            return
        answer = msgspec.json.decode(response.body)
        self.record.answers.append((sent, time.monotonic(), answer["version"]))
        if not self._questions.is_right(index, answer):
            self.record.wrong.append(answer["version"])
