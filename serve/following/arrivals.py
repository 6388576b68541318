"""Versions on their way to this machine, each in a thread of its own: fetched, verified, and shown to load elsewhere.

The loop that follows the registry waits for none of them, so that a download that drips holds up no other version.
"""

from __future__ import annotations

import logging
import shutil
import threading
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING

from carla_mlflow.artifact.artifact import Artifact
from carla_mlflow.errors import CacheError
from carla_mlflow.escaping import one_line
from registry.store.cache import fetch_to_cache, fetched_bytes, partial_folders
from serve.following.last_served import cache_folder
from serve.following.trial import find_failure
from serve.policy.loading import Failure
from serve.settings import Settings

if TYPE_CHECKING:
    from registry.rules.policy_version import PolicyVersion
    from registry.store.store import Store

TEMPORARY = "cache"
"""In the server's run folder: where artifacts are kept that the cache can't take."""
TOLD_S = 10.0
"""After which an arrival that goes on is worth a word."""
MAX_GIVEN_UP = 8
"""Downloads that were given up and whose threads did not end: more, and the process is better started again."""
MB = 1e6

log = logging.getLogger("serve.follow")


class Arrival:
    """One version on its way.

    Attributes:
        outcome: the verified artifact, why it may not be loaded here, or what went wrong; None while it goes on.
    """

    def __init__(
        self, store: Store, version: PolicyVersion, settings: Settings, folder: Path, done: Callable[[], None]
    ) -> None:
        """Starts.

        Args:
            store: the registry.
            version: to be fetched.
            settings: of the server.
            folder: the server's run folder.
            done: called when there is an outcome.
        """
        self.outcome: Artifact | Failure | Exception | None = None
        self._version, self._settings = version, settings
        self._cache, self._temporary = cache_folder(settings), folder / TEMPORARY
        self._began = self._heard = time.monotonic()
        self._bytes, self._is_here = 0, False
        self._thread = threading.Thread(target=self._run, args=(store, folder, done), name="arrival", daemon=True)
        self._thread.start()

    def _run(self, store: Store, folder: Path, done: Callable[[], None]) -> None:
        try:
            artifact = self._fetch(store)
            self._is_here = True
            self.outcome = find_failure(artifact.path, artifact.digest, self._settings, folder) or artifact
        except Exception as error:  # handed to the loop
            self.outcome = error
        done()

    def _fetch(self, store: Store) -> Artifact:
        """The artifact in the cache; where that can't be written, in the server's run folder."""
        try:
            return fetch_to_cache(store, self._version, self._cache)
        except CacheError as error:
            if error.is_full:
                raise
            log.warning("%s; kept in a temporary folder until this server ends", one_line(error))
            self._cache = self._temporary
            return fetch_to_cache(store, self._version, self._cache)

    @property
    def goes_on(self) -> bool:
        """Whether its thread has not ended."""
        return self._thread.is_alive()

    @property
    def is_silent(self) -> bool:
        """Whether nothing has come for too long."""
        if self.outcome is not None or self._is_here:  # a trial has a deadline of its own
            return False
        now, here = time.monotonic(), fetched_bytes(self._cache, self._version.digest)
        if here != self._bytes:
            self._bytes, self._heard = here, now
        return now - self._heard > self._settings.fetch_timeout_s

    @property
    def progress(self) -> str | None:
        """How far it is, in words, where it takes long."""
        seconds = time.monotonic() - self._began
        if seconds < TOLD_S:
            return None
        doing = "is being tried" if self._is_here else f"is being fetched: {self._bytes / MB:.1f} MB"
        return f"{self._version.semver} {doing} after {seconds:.0f} s"

    def give_up(self) -> None:
        """Takes away what was fetched, so that a download that comes to life again ends soon."""
        for folder in partial_folders(self._cache, self._version.digest):
            shutil.rmtree(folder, ignore_errors=True)


class Arrivals:
    """All that are on their way, one a digest."""

    def __init__(self, settings: Settings, folder: Path, done: Callable[[], None]) -> None:
        """Args: of the server; its run folder; called when one has an outcome."""
        self._settings, self._folder, self._done = settings, folder, done
        self._under_way: dict[str, Arrival] = {}
        self._given_up: list[Arrival] = []

    def get(self, digest: str) -> Arrival | None:
        """The arrival of that digest."""
        return self._under_way.get(digest)

    def start(self, store: Store, version: PolicyVersion) -> None:
        """Lets a version come."""
        self._under_way[version.digest] = Arrival(store, version, self._settings, self._folder, self._done)

    def take(self, digest: str) -> None:
        """Forgets an arrival that has its outcome."""
        del self._under_way[digest]

    def give_up(self, digest: str) -> None:
        """Forgets one that is silent."""
        arrival = self._under_way.pop(digest)
        arrival.give_up()
        self._given_up = [*(old for old in self._given_up if old.goes_on), arrival]

    def tidy(self, wanted: Collection[str | None]) -> None:
        """Forgets what no reference wants any more, once it is over or silent; what still comes may be wanted again."""
        for digest, arrival in list(self._under_way.items()):
            if digest in wanted:
                continue
            if arrival.outcome is not None:
                self.take(digest)
            elif arrival.is_silent:
                self.give_up(digest)

    @property
    def any_silent(self) -> bool:
        """Whether one should be given up."""
        return any(arrival.is_silent for arrival in self._under_way.values())

    @property
    def too_many_given_up(self) -> bool:
        """Whether this process holds more dead downloads than it should."""
        return sum(arrival.goes_on for arrival in self._given_up) > MAX_GIVEN_UP
