"""Fetches new versions to this machine, each in a thread of its own: verified, and shown to load in another process.

The loop that follows the registry waits for none of them, so that a slow download delays no other version.
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
    from registry.store.version_source import VersionSource

TEMPORARY = "cache"
"""Subfolder of the server's run folder for artifacts when the cache can't be written."""
LOGGED_FROM_S = 10.0
"""Seconds after which the progress of a running arrival is reported."""
MAX_GIVEN_UP = 8
"""Most downloads that were given up and whose threads still run; with more, the follower is restarted."""
MB = 1e6

log = logging.getLogger("serve.follow")


class Arrival:
    """One version that is being fetched and tried.

    Attributes:
        outcome: the verified artifact, why it may not be loaded here, or an error; None while the thread runs.
    """

    def __init__(
        self, source: VersionSource, version: PolicyVersion, settings: Settings, folder: Path, done: Callable[[], None]
    ) -> None:
        """Starts the thread.

        Args:
            source: the registry, or what stands in its place.
            version: the version to fetch.
            settings: of the server.
            folder: the server's run folder.
            done: called when there is an outcome.
        """
        self.outcome: Artifact | Failure | Exception | None = None
        self._version, self._settings = version, settings
        self._cache, self._temporary = cache_folder(settings), folder / TEMPORARY
        self._began = self._grew_at = time.monotonic()
        self._bytes, self._is_here = 0, False
        self._thread = threading.Thread(target=self._run, args=(source, folder, done), name="arrival", daemon=True)
        self._thread.start()

    def _run(self, source: VersionSource, folder: Path, done: Callable[[], None]) -> None:
        try:
            artifact = self._fetch(source)
            self._is_here = True
            self.outcome = find_failure(artifact.path, artifact.digest, self._settings, folder) or artifact
        except Exception as error:  # handled by the follower's loop
            self.outcome = error
        done()

    def _fetch(self, source: VersionSource) -> Artifact:
        """Fetches the artifact to the cache, or to the server's run folder if the cache can't be written."""
        try:
            return fetch_to_cache(source, self._version, self._cache)
        except CacheError as error:
            if error.is_full:
                raise
            log.warning("%s; kept in a temporary folder until this server ends", one_line(error))
            self._cache = self._temporary
            return fetch_to_cache(source, self._version, self._cache)

    @property
    def goes_on(self) -> bool:
        """Whether its thread still runs."""
        return self._thread.is_alive()

    @property
    def is_silent(self) -> bool:
        """Whether nothing was written for `fetch_timeout_s`; MLflow writes what it downloads a megabyte at a time."""
        if self.outcome is not None or self._is_here:  # a trial has a deadline of its own
            return False
        now, here = time.monotonic(), fetched_bytes(self._cache, self._version.digest)
        if here != self._bytes:
            self._bytes, self._grew_at = here, now
        return now - self._grew_at > self._settings.fetch_timeout_s

    @property
    def progress(self) -> str | None:
        """A message about the progress of an arrival that takes long, else None."""
        seconds = time.monotonic() - self._began
        if seconds < LOGGED_FROM_S:
            return None
        doing = "test load running" if self._is_here else f"downloading, {self._bytes / MB:.1f} MB so far,"
        return f"{self._version.semver}: {doing} for {seconds:.0f} s"

    def give_up(self) -> None:
        """Removes what was fetched, so that a download that resumes after all fails soon."""
        for folder in partial_folders(self._cache, self._version.digest):
            shutil.rmtree(folder, ignore_errors=True)


class Arrivals:
    """All arrivals under way, one per digest."""

    def __init__(self, settings: Settings, folder: Path, done: Callable[[], None]) -> None:
        """`settings` and run `folder` are the server's; `done` is called when an arrival has an outcome."""
        self._settings, self._folder, self._done = settings, folder, done
        self._under_way: dict[str, Arrival] = {}
        self._given_up: list[Arrival] = []

    def get(self, digest: str) -> Arrival | None:
        """Returns the arrival of a digest, or None."""
        return self._under_way.get(digest)

    def start(self, source: VersionSource, version: PolicyVersion) -> None:
        """Starts to fetch a version."""
        self._under_way[version.digest] = Arrival(source, version, self._settings, self._folder, self._done)

    def take(self, digest: str) -> None:
        """Removes an arrival that has an outcome."""
        del self._under_way[digest]

    def give_up(self, digest: str) -> None:
        """Gives up an arrival whose download is silent."""
        arrival = self._under_way.pop(digest)
        arrival.give_up()
        self._given_up = [*(old for old in self._given_up if old.goes_on), arrival]

    def tidy(self, wanted: Collection[str | None]) -> None:
        """Removes unwanted arrivals that are finished or silent; a running one stays, as it may be wanted again."""
        for digest, arrival in list(self._under_way.items()):
            if digest in wanted:
                continue
            if arrival.outcome is not None:
                self.take(digest)
            elif arrival.is_silent:
                self.give_up(digest)

    @property
    def any_silent(self) -> bool:
        """Whether any arrival should be given up."""
        return any(arrival.is_silent for arrival in self._under_way.values())

    @property
    def too_many_given_up(self) -> bool:
        """Whether more than MAX_GIVEN_UP downloads that were given up still run."""
        return sum(arrival.goes_on for arrival in self._given_up) > MAX_GIVEN_UP
