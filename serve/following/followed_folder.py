"""A reference to a folder of artifacts that a server follows, for a car without a registry. Nothing imports mlflow."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import msgspec

from carla_mlflow.errors import NotFoundError, RefusedError
from registry.rules.versions import is_lower
from registry.store.artifact_folder import ArtifactFolder, NotYetError
from registry.store.subfolder import FolderVersion
from registry.store.version_source import VersionSource
from serve.following.followed_reference import FollowedReference
from serve.policy.loading import Failure
from serve.run_folder import worker_states
from serve.settings import Settings
from serve.telemetry import metrics

log = logging.getLogger("serve.follow")


class FollowedFolder(FollowedReference):
    """The version that a reference to a folder means, looked for at each poll.

    What drives is never replaced by a lower version because its subfolder is gone, incomplete or changed: only when
    PINS is there and no longer names it.
    """

    SILENT = "the folder can't be read"
    GONE = "no subfolder has such a version any more"
    NONE = "the folder has no"
    CHANGED = "its subfolder was changed"

    def __init__(self, settings: Settings, text: str, *shared: Any) -> None:
        super().__init__(settings, text, *shared)
        self._source = ArtifactFolder(self._reference.name, settings.fetch_timeout_s)
        self._reported: set[str] = set()

    def resolve(self, registry: Callable[[], VersionSource]) -> None:
        """Looks into the folder; the registry is not asked."""
        try:
            version = self._source.resolve(self._reference)
        except NotYetError as error:
            self._keep(str(error))
            self._report()
            return
        except (NotFoundError, RefusedError) as error:
            self._is_gone(error)
            self._report()
            return
        self._follow_if_allowed(version)
        self._report()
        notes = [f"{self._shown}: {each}" for each in self._source.unusable]
        if notes:
            before = [self.answer.warning] if self.answer.warning else []
            self.answer = msgspec.structs.replace(self.answer, warning="; ".join(before + notes))

    def _is_immutable(self) -> bool:
        return bool(self._pin)  # the bytes of a version can change here

    def _follow_if_allowed(self, version: FolderVersion) -> None:
        drives = self.answer
        pins = self._source.pins
        if drives.version is None or version.digest == drives.digest or self._is_served(version.digest):
            self._follow(self._source, version)
        elif version.semver == drives.version and pins is None:
            if self._refusals.is_due(version.digest):
                text = f"its bytes have changed: it was {drives.digest}, and is {version.digest}; give it a new version"
                self._refuse(version, Failure(text, "integrity"))
            else:
                self._lacks(version.digest)
        elif is_lower(version.semver, drives.version) and (pins is None or drives.version in pins):
            text = f"{drives.version} is no longer there as it was"
            self._keep(f"{text}; {version.semver} would drive after a restart")
        else:
            self._follow(self._source, version)

    def _is_served(self, digest: str) -> bool:
        """Whether the workers serve it for this reference already, having refused what came later."""
        served = [each for state in worker_states(self._folder) for each in state.served]
        return any(each.digest == digest and each.following == self._shown for each in served)

    def _report(self) -> None:
        """Reports the subfolders that are refused, as versions of a registry are."""
        refused = {each.subfolder: each for each in self._source.unusable if not each.waits}
        for gone in self._reported - refused.keys():
            self._refusals.forgive(gone)
        self._reported = set(refused)
        for subfolder, each in refused.items():
            if self._refusals.add(each.version, subfolder, each.reason, "integrity", 0.0):
                log.error("%s: %s", self._text, each)
                metrics.REFUSED.labels("integrity").inc()
        is_pinned = bool(self._pin) or self._source.pins is not None
        self.answer = msgspec.structs.replace(self.answer, pinned=is_pinned)
