"""The follower: a process of its own that polls the registry for the versions to serve, and fetches them.

It is the only serving process that imports mlflow, and does not for a folder of artifacts. It writes what it finds to a
small file that the workers read; they load from the cache, by digest. It polls every `poll_s` seconds, and at once when
it gets a hint.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import random
import select
import signal
import struct
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from carla_mlflow.collector import collect_less
from carla_mlflow.escaping import one_line
from carla_mlflow.flavor.environment import prepare_mlflow
from carla_mlflow.own_process import end_with_parent
from registry.rules.reference import canary_of
from serve.flags import settings_from_environment
from serve.following.arrivals import Arrivals
from serve.following.attempts import withdraw
from serve.following.followed_canary import FollowedCanary
from serve.following.followed_folder import FollowedFolder
from serve.following.followed_reference import FollowedReference
from serve.following.last_moves import MovesReader
from serve.following.refusals import Refusals
from serve.run_folder import HINT_FD, METRICS, SERVER_PID, STATUS_FILE, Followed, Status, read_file, write_file
from serve.settings import Settings
from serve.telemetry.log_setup import start_logging

if TYPE_CHECKING:
    from registry.rules.canary import Canary
    from registry.store.store import Store

DEADLINE_S = 5.0
"""Seconds for one call to the registry."""
SOON_S = 0.25
"""Seconds to the next poll while a folder of artifacts settles."""
MIN_WAIT_S = 0.1
"""Least seconds from the end of one poll to the next."""
MAX_WAIT_S = 30.0
"""Most seconds between two polls while the registry does not answer; `poll_s` if that is longer."""
MAX_CALLS = 32
"""Most calls to the registry that still run after their deadline; with more, this process is restarted."""

log = logging.getLogger("serve.follow")


class Follower:
    """Follows every reference of one server."""

    def __init__(self, settings: Settings, status_file: Path) -> None:
        self._settings = settings
        self._status_file = status_file
        self._store: Store | None = None
        self._refusals = Refusals()
        self._done, self._done_writer = os.pipe()
        os.set_blocking(self._done_writer, False)
        self._arrivals = Arrivals(settings, status_file.parent, self._arrived)
        before = read_file(status_file, Followed) or Followed()  # of a follower that was killed
        self._polled_at = before.polled_at
        self._wait_s = settings.poll_s
        self._answers = self._canary_answers = True
        kind = FollowedFolder if settings.follows_folder else FollowedReference
        self._canary: FollowedCanary | None = None
        if settings.canary:
            known = before.canary or Status()
            shared = (self._refusals, self._arrivals, status_file.parent, self._path_of)
            self._canary = FollowedCanary(
                settings, canary_of(settings.model), known, *shared, share=before.canary_share
            )
        answers_before = before.answers or (Status(),) * len(settings.references)
        self._references = [
            kind(settings, text or "", answer, self._refusals, self._arrivals, status_file.parent, self._path_of)
            for text, answer in zip(settings.references, answers_before, strict=True)
        ]

    def poll(self) -> Followed:
        """Polls every reference that may have changed, and writes the results for the workers."""
        waiting = [reference for reference in self._references if not reference.is_settled]
        looked = self._look_for_canary()
        error = self._resolve(waiting)
        self._settle_canary(looked if error is None else None)
        answered = error is None
        if error is not None and self._answers:  # once per outage, not once per poll
            log.warning("%s: %s", self._settings.model, one_line(error))
        if waiting and answered:
            self._polled_at = time.time()
        self._arrivals.tidy({answer.wanted for answer in self._answers_now()})
        is_soon = any(reference.asks_soon for reference in self._references)
        poll_s, self._answers = min(self._settings.poll_s, SOON_S if is_soon else math.inf), answered
        is_near = answered or self._settings.follows_folder
        self._wait_s = poll_s if is_near else max(poll_s, min(self._wait_s * 2, MAX_WAIT_S))
        first = self._references[0]
        followed = Followed(
            answers=tuple(reference.answer for reference in self._references),
            registry="ok" if answered else "unreachable",
            polled_at=self._polled_at,
            refused=self._refusals.listed(),
            refusal=first.refusal,
            done=first.refusal is not None or all(reference.is_settled for reference in self._references),
            canary=self._canary.answer if self._canary else None,
            canary_share=self._canary.share if self._canary else 0.0,
        )
        write_file(self._status_file, followed)
        return followed

    def _arrived(self) -> None:
        with contextlib.suppress(BlockingIOError):  # the pipe is full of earlier signals
            os.write(self._done_writer, b"!")

    @property
    def is_worn_out(self) -> bool:
        """Whether so many threads of this process hang that it should be restarted."""
        return self._arrivals.too_many_given_up or sum(t.name == "registry" for t in threading.enumerate()) > MAX_CALLS

    def _resolve(self, waiting: list[FollowedReference]) -> Exception | None:
        """Asks about each reference; returns the first error, or None.

        After an error the other references are still asked, unless DEADLINE_S have passed by then.
        """
        failed: Exception | None = None
        ends = time.monotonic() + DEADLINE_S
        for reference in waiting:
            if failed and time.monotonic() > ends:
                reference.not_answered()
                continue
            try:
                reference.resolve(self.registry)
            except Exception as error:  # whatever MLflow raises when a registry is down, full or wrong
                failed = failed or error  # the first one describes the outage
                reference.not_answered()
        return failed

    def _look_for_canary(self) -> tuple[Store, Canary | None] | None:
        """What the registry says of the canary; None where none is followed, or there is no answer."""
        if self._canary is None:
            return None
        try:
            looked = self._canary.look(self.registry)
        except Exception as error:  # whatever MLflow raises; what it says of production is worth more
            if self._canary_answers:  # once per outage, not once per poll
                log.warning("%s: %s", canary_of(self._settings.model), one_line(error))
            self._canary_answers = False
            return None
        self._canary_answers = True
        return looked

    def _settle_canary(self, looked: tuple[Store, Canary | None] | None) -> None:
        """Takes the next step for the canary; `looked` is what the registry says, None where it did not answer."""
        first, canary = self._references[0], self._canary
        if canary is None:
            return
        if looked is None:
            canary.not_answered()
            return
        champion = first.answer.wanted or first.answer.digest
        try:
            canary.settle(*looked, champion)
        except Exception as error:  # it answered once, and does no longer
            log.warning("%s: %s", canary_of(self._settings.model), one_line(error))
            canary.not_answered()
        canary.drop_from_line({champion, first.answer.digest})
        if canary.left is not None:  # nothing is answered by a canary that ended, nor where it once was in production
            kept = tuple(each for each in first.answer.holdable if each.digest != canary.left)
            first.answer = msgspec.structs.replace(first.answer, holdable=kept)
            canary.left = None

    def _answers_now(self) -> list[Status]:
        canary = [self._canary.answer] if self._canary else []
        return [*(reference.answer for reference in self._references), *canary]

    def registry(self) -> Store:
        """The registry; the first call connects to it."""
        from registry.store.store import Store  # imports mlflow

        self._store = self._store or Store(DEADLINE_S)
        return self._store

    def _path_of(self, digest: str) -> str | None:
        """Returns the path of an artifact if any reference has it."""
        return next((answer.path for answer in self._answers_now() if answer.path and answer.digest == digest), None)

    def wait(self, began: float, hints: int, server: int) -> None:
        """Waits until the next poll is due, something has changed, or the server is gone.

        Args:
            began: when the last poll began, on the monotonic clock.
            hints: a pipe that is readable when there is a hint.
            server: process id of the server.
        """
        is_late = self._wait_s > self._settings.poll_s
        spread = random.uniform(0.8, 1.0) if is_late else 1.0  # spreads the servers that wait for the registry
        ends = max(began + self._wait_s * spread, time.monotonic() + MIN_WAIT_S)
        while os.getppid() == server and (left := ends - time.monotonic()) > 0:
            readable = select.select([hints, self._done], [], [], min(left, 1.0))[0]
            for pipe in readable:
                os.read(pipe, 65536)
            if readable or self._arrivals.any_silent:
                return


def main() -> int:
    server, hints = int(os.environ[SERVER_PID]), int(os.environ[HINT_FD])
    signal.signal(signal.SIGTERM, _end)
    end_with_parent(signal.SIGTERM, server)
    collect_less()
    settings = settings_from_environment(os.environ)
    if not settings.follows_folder:
        prepare_mlflow()
    start_logging(settings)
    status_file = Path(os.environ[STATUS_FILE])
    follower = Follower(settings, status_file)
    moves = None if settings.follows_folder else MovesReader(settings.model, status_file.parent)
    while os.getppid() == server and not follower.is_worn_out:
        began = time.monotonic()
        followed = follower.poll()
        if moves is not None:
            moves.look(follower.registry, followed)
        keep_counters(status_file.parent / METRICS)
        if followed.refusal and os.getppid() == server:
            os.kill(server, signal.SIGTERM)  # nothing will ever be served: the server prints why and ends
        if followed.done:
            break
        follower.wait(began, hints, server)
    return 0


def keep_counters(folder: Path) -> None:
    """Writes the server's counters down, once a minute, for what `/metrics?last=30m` tells."""
    from serve.telemetry.half_hour import keep

    try:
        keep(folder)
    except (OSError, ValueError, RuntimeError, struct.error) as error:  # a full disk, or a file that is being made
        log.warning("the counters of the last half hour could not be kept: %s", one_line(error))


def _end(*_: object) -> None:
    """Ends the process at once, without waiting for threads that wait for a download or the registry."""
    withdraw()
    logging.shutdown()
    os._exit(0)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the server handles Ctrl-C, and ends this process
    try:
        main()
    except Exception:
        log.exception("the follower failed")
    _end()
