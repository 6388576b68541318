"""The follower: a process of its own that asks the registry which versions are meant, and fetches them.

It is the only serving process that imports mlflow. What it finds out stands in a small file, which the workers
read; they load from the cache, by digest. It looks every POLL_S seconds, and at once when it is given a hint.
"""

from __future__ import annotations

import contextlib
import logging
import os
import random
import select
import signal
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from carla_mlflow.escaping import one_line
from carla_mlflow.flavor.environment import prepare_mlflow
from carla_mlflow.own_process import end_with_parent
from serve.flags import settings_from_environment
from serve.following.arrivals import Arrivals
from serve.following.attempts import withdraw
from serve.following.followed_reference import FollowedReference
from serve.following.refusals import Refusals
from serve.run_folder import HINT_FD, SERVER_PID, STATUS_FILE, Followed, Status, read_file, write_file
from serve.settings import Settings
from serve.telemetry.log_setup import start_logging

if TYPE_CHECKING:
    from registry.store.store import Store

DEADLINE_S = 5.0
"""For one question to the registry."""
MIN_WAIT_S = 0.1
"""Between two looks, however long one takes."""
MAX_WAIT_S = 30.0
"""Between two looks at a registry that does not answer."""
MAX_ASKED = 32
"""Questions to the registry that go on after their deadline; more, and this process is better started again."""

log = logging.getLogger("serve.follow")


class Follower:
    """Follows every reference of one server."""

    def __init__(self, settings: Settings, status_file: Path) -> None:
        self._settings = settings
        self._status_file = status_file
        self._store: Store | None = None
        self._refusals = Refusals()
        self._done, self._tell_done = os.pipe()
        os.set_blocking(self._tell_done, False)
        self._arrivals = Arrivals(settings, status_file.parent, self._arrived)
        before = read_file(status_file, Followed) or Followed()  # of a follower that was killed
        self._looked_at = before.looked_at
        self._wait_s = settings.poll_s
        self._answers = True
        told = before.answers or (Status(),) * len(settings.references)
        self._references = [
            FollowedReference(
                settings, text or "", answer, self._refusals, self._arrivals, status_file.parent, self._path_of
            )
            for text, answer in zip(settings.references, told, strict=True)
        ]

    def look(self) -> Followed:
        """Asks about every reference that can mean something else now, and tells the workers."""
        waiting = [reference for reference in self._references if not reference.is_settled]
        error = self._ask(waiting)
        answered = error is None
        if error is not None and self._answers:  # once an outage, not once a look
            log.warning("%s: %s", self._settings.model, one_line(error))
        if waiting and answered:
            self._looked_at = time.time()
        self._arrivals.tidy({reference.answer.wanted for reference in self._references})
        poll_s, self._answers = self._settings.poll_s, answered
        self._wait_s = poll_s if answered else max(poll_s, min(self._wait_s * 2, MAX_WAIT_S))
        first = self._references[0]
        followed = Followed(
            answers=tuple(reference.answer for reference in self._references),
            registry="ok" if answered else "unreachable",
            looked_at=self._looked_at,
            refused=self._refusals.listed(),
            refusal=first.refusal,
            done=first.refusal is not None or all(reference.is_settled for reference in self._references),
        )
        write_file(self._status_file, followed)
        return followed

    def _arrived(self) -> None:
        with contextlib.suppress(BlockingIOError):  # it has been told often enough
            os.write(self._tell_done, b"!")

    @property
    def is_worn_out(self) -> bool:
        """Whether too many threads of this process wait for answers that do not end."""
        return self._arrivals.too_many_given_up or sum(t.name == "registry" for t in threading.enumerate()) > MAX_ASKED

    def _ask(self, waiting: list[FollowedReference]) -> Exception | None:
        """Asks about each reference; the first error, where there was one.

        One without an answer keeps none of the others from theirs, as long as the registry is not silent to each.
        """
        failed: Exception | None = None
        ends = time.monotonic() + DEADLINE_S
        for reference in waiting:
            if failed and time.monotonic() > ends:
                reference.not_answered()
                continue
            try:
                from registry.store.store import Store

                self._store = self._store or Store(DEADLINE_S)
                reference.ask(self._store)
            except Exception as error:  # whatever a registry that is down, full or lying makes MLflow raise
                failed = failed or error  # an outage is told by its first
                reference.not_answered()
        return failed

    def _path_of(self, digest: str) -> str | None:
        """Where an artifact lies that any of the references has."""
        answers = (reference.answer for reference in self._references)
        return next((answer.path for answer in answers if answer.path and answer.digest == digest), None)

    def wait(self, began: float, hints: int, server: int) -> None:
        """Until it is time to look again, or something has changed, or the server is gone.

        Args:
            began: when the last look did, on the monotonic clock.
            hints: a pipe that can be read when there is one.
            server: the process that this one is the follower of.
        """
        is_late = self._wait_s > self._settings.poll_s
        spread = random.uniform(0.8, 1.0) if is_late else 1.0  # a registry that comes back is not met by all at once
        ends = max(began + self._wait_s * spread, time.monotonic() + MIN_WAIT_S)
        while os.getppid() == server and (left := ends - time.monotonic()) > 0:
            heard = select.select([hints, self._done], [], [], min(left, 1.0))[0]
            for pipe in heard:
                os.read(pipe, 65536)
            if heard or self._arrivals.any_silent:
                return


def main() -> int:
    server, hints = int(os.environ[SERVER_PID]), int(os.environ[HINT_FD])
    signal.signal(signal.SIGTERM, _end)
    end_with_parent(signal.SIGTERM, server)
    prepare_mlflow()
    settings = settings_from_environment(os.environ)
    start_logging(settings)
    follower = Follower(settings, Path(os.environ[STATUS_FILE]))
    while os.getppid() == server and not follower.is_worn_out:
        began = time.monotonic()
        followed = follower.look()
        if followed.refusal and os.getppid() == server:
            os.kill(server, signal.SIGTERM)  # nothing will ever be served: the server says why and ends
        if followed.done:
            break
        follower.wait(began, hints, server)
    return 0


def _end(*_: object) -> None:
    """At once: no thread that still waits for a download or an answer is waited for."""
    withdraw()
    logging.shutdown()
    os._exit(0)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the server's to answer; it ends this process
    try:
        main()
    except Exception:
        log.exception("the follower failed")
    _end()
