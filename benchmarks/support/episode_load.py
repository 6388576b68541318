"""Cars that drive one episode after another through a policy server, each step on another connection, all recorded."""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec

from benchmarks.support.connection import Connection
from benchmarks.support.requests import http_request


@dataclass
class EpisodeRecord:
    """What came back.

    Attributes:
        answers: when a request was sent, when it was answered (both `time.monotonic`), its episode, and the digest of
            the version that answered.
        ended: error code → how many episodes ended by it; a car goes on with a new one.
        over: car → how many of its episodes are over.
        failed: the status or error of each request without a complete response of status 200 or 409.
    """

    answers: list[tuple[float, float, str, str]] = field(default_factory=list)
    ended: Counter[str] = field(default_factory=Counter)
    over: Counter[int] = field(default_factory=Counter)
    failed: list[str] = field(default_factory=list)

    def digests(self) -> dict[str, set[str]]:
        """Episode → the digests of the versions that answered it."""
        found: dict[str, set[str]] = {}
        for _, _, episode, digest in self.answers:
            found.setdefault(episode, set()).add(digest)
        return found

    def last_of(self, digest: str, since: float) -> float:
        """When a version's last response to a request sent at `since` or later came; `since` when there is none."""
        return max((came for sent, came, _, by in self.answers if by == digest and sent >= since), default=since)

    def begun_since(self, moment: float) -> dict[str, str]:
        """Episode → digest of its first answer, for those whose first request was sent at that moment or later."""
        first: dict[str, tuple[float, str]] = {}
        for sent, _, episode, digest in self.answers:
            first.setdefault(episode, (sent, digest))
        return {episode: digest for episode, (sent, digest) in first.items() if sent >= moment}


class EpisodeLoad:
    """A context manager: the cars drive from entering to leaving.

    As a policy without memory is driven: each episode has an id of its own in X-Episode-Id, and from its second step on
    sends the digest of its first answer in X-Episode-Digest.
    """

    def __init__(self, port: int, body: bytes, cars: int = 16, steps: int = 20, pause_s: float = 0.0) -> None:
        """Prepares it.

        Args:
            port: of the server, on this machine.
            body: of every request.
            cars: how many drive at once, each with two connections.
            steps: of an episode.
            pause_s: between two steps, seconds.
        """
        self._port, self._body, self._steps, self._pause_s = port, body, steps, pause_s
        self._cars = cars
        self._stop = threading.Event()
        self.record = EpisodeRecord()
        self._threads = [threading.Thread(target=self._drive, args=(car,), daemon=True) for car in range(cars)]

    def each_car_is_further(self, episodes: int) -> Callable[[], bool]:
        """Whether each car has, from now on, ended so many more."""
        before = Counter(self.record.over)
        return lambda: all(self.record.over[car] >= before[car] + episodes for car in range(self._cars))

    def __enter__(self) -> EpisodeLoad:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _drive(self, car: int) -> None:
        with contextlib.ExitStack() as stack:
            ways = [stack.enter_context(Connection(self._port, timeout_s=20)) for _ in range(2)]
            for number in itertools.count():
                if self._stop.is_set():
                    return
                self._episode(f"car-{car}.{number}", ways)
                self.record.over[car] += 1

    def _episode(self, episode: str, ways: list[Connection]) -> None:
        headers = {"X-Episode-Id": episode}
        for step in range(self._steps):
            if self._stop.is_set():
                return
            request = http_request("/predict", self._body, "application/json", **headers)
            sent = time.monotonic()
            try:
                response = ways[step % len(ways)].ask(request)
            except (OSError, ValueError) as error:
                self.record.failed.append(repr(error))
                return
            answer = msgspec.json.decode(response.body)
            if response.status != 200:
                self.record.ended[answer["error"]["code"]] += 1
                if response.status != 409:
                    self.record.failed.append(f"{response.status} {response.body[:200]!r}")
                return
            self.record.answers.append((sent, time.monotonic(), episode, answer["digest"]))
            headers["X-Episode-Digest"] = answer["digest"]
            time.sleep(self._pause_s)
