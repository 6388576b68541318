"""The follower: a process of its own that asks the registry which versions are meant, and fetches them.

It is the only serving process that imports mlflow. What it finds out stands in a small file, which the workers
read; they load from the cache, by digest. It looks every POLL_S seconds, and at once when it is given a hint.
"""

from __future__ import annotations

import logging
import os
import random
import select
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from carla_mlflow.cli import one_line, prepare_mlflow
from serve.flags import settings_from_environment
from serve.followed_reference import FollowedReference
from serve.logs import start_logging
from serve.refusals import Refusals
from serve.settings import Settings
from serve.status import HINT_FD, SERVER_PID, STATUS_FILE, Followed, Status, read_file, write_file

if TYPE_CHECKING:
    from registry.store import Store

DEADLINE_S = 5.0
"""For one question to the registry."""
LEAST_WAIT_S = 0.1
"""Between two looks, however long one takes."""
LONGEST_WAIT_S = 30.0
"""Between two looks at a registry that does not answer."""

log = logging.getLogger("serve.follow")


class Follower:
    """Follows every reference of one server."""

    def __init__(self, settings: Settings, status_file: Path) -> None:
        self._settings = settings
        self._status_file = status_file
        self._store: Store | None = None
        self._refusals = Refusals()
        before = read_file(status_file, Followed) or Followed()  # of a follower that was killed
        self._looked_at = before.looked_at
        self._wait_s = settings.poll_s
        told = before.answers or (Status(),) * len(settings.references)
        self._references = [
            FollowedReference(settings, reference or "", answer, self._refusals, status_file.parent)
            for reference, answer in zip(settings.references, told, strict=True)
        ]

    def look(self) -> Followed:
        """Asks about every reference that can mean something else now, and tells the workers."""
        waiting = [reference for reference in self._references if not reference.is_settled]
        answered = True
        try:
            if waiting:
                self._ask(waiting)
                self._looked_at = time.time()
        except Exception as error:  # whatever a registry that is down, full or lying makes MLflow raise
            log.warning("%s: %s", self._settings.model, one_line(error))
            answered = False
            for reference in waiting:
                reference.not_answered()
        poll_s = self._settings.poll_s
        self._wait_s = poll_s if answered else max(poll_s, min(self._wait_s * 2, LONGEST_WAIT_S))
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

    def _ask(self, waiting: list[FollowedReference]) -> None:
        from registry.store import Store

        self._store = self._store or Store(DEADLINE_S)
        for reference in waiting:
            reference.ask(self._store)

    def wait(self, began: float, hints: int, server: int) -> None:
        """Until it is time to look again, or something in the registry has changed, or the server is gone.

        Args:
            began: when the last look did, on the monotonic clock.
            hints: a pipe that can be read when there is one.
            server: the process that this one is the follower of.
        """
        is_late = self._wait_s > self._settings.poll_s
        spread = random.uniform(0.8, 1.0) if is_late else 1.0  # a registry that comes back is not met by all at once
        ends = max(began + self._wait_s * spread, time.monotonic() + LEAST_WAIT_S)
        while os.getppid() == server and (left := ends - time.monotonic()) > 0:
            if select.select([hints], [], [], min(left, 1.0))[0]:
                os.read(hints, 65536)
                return


def main() -> int:
    prepare_mlflow()
    settings = settings_from_environment(os.environ)
    start_logging(settings)
    server, hints = int(os.environ[SERVER_PID]), int(os.environ[HINT_FD])
    follower = Follower(settings, Path(os.environ[STATUS_FILE]))
    while os.getppid() == server:
        began = time.monotonic()
        followed = follower.look()
        if followed.refusal and os.getppid() == server:
            os.kill(server, signal.SIGTERM)  # nothing will ever be served: the server says why and ends
        if followed.done:
            return 0
        follower.wait(began, hints, server)
    return 0


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the server's to answer; it ends this process
    sys.exit(main())
