"""A reference to a folder of artifacts that a server follows, for a car without a registry. Nothing imports mlflow."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import msgspec

from carla_mlflow.errors import NotFoundError, RefusedError
from registry.rules.pins import PINS
from registry.rules.reference import parse_reference
from registry.rules.versions import is_lower
from registry.store.artifact_folder import SETTLE_S, ArtifactFolder, NotYetError
from registry.store.subfolder import FolderVersion
from registry.store.version_source import VersionSource
from serve.following.followed_reference import FollowedReference
from serve.following.last_served import recall, remember
from serve.policy.loading import Failure
from serve.run_folder import Status, worker_states
from serve.settings import Settings
from serve.telemetry import metrics

log = logging.getLogger("serve.follow")


class FollowedFolder(FollowedReference):
    """The version that a reference to a folder means, looked for at each poll.

    What drives is never replaced by a lower version because its subfolder is gone, incomplete or changed, nor by a
    restart: only when PINS is there and no longer names it.
    """

    SILENT = "the folder can't be read"
    GONE = "no subfolder has such a version"
    NONE = "the folder has no"
    CHANGED = "its subfolder was changed"

    def __init__(self, settings: Settings, text: str, *shared: Any) -> None:
        folder = parse_reference(text).name
        is_pinned = bool(settings.digest) and text == settings.model
        self._source = ArtifactFolder(folder, settings.fetch_timeout_s, 0.0 if is_pinned else SETTLE_S)
        super().__init__(settings, text, *shared)
        before = self.answer if self.answer.path else recall(settings, text) or Status()
        self._source.policy, self._source.pins.is_expected = before.name, before.has_pins
        self._source.knows([before.digest])
        self._begins = self._reference.kind == "range" and not self.answer.path
        self._reported: set[str] = set()

    def resolve(self, registry: Callable[[], VersionSource]) -> None:
        """Looks into the folder; the registry is not asked."""
        try:
            version = self._source.resolve(self._reference)
        except NotYetError as error:
            if self._may_begin_anew():
                self.answer = Status(reason=str(error))
            else:
                self._keep(str(error))
        except NotFoundError as error:  # it may still come
            self._is_gone(error)
            self.refusal = None
        except RefusedError as error:
            self._is_gone(error)
        else:
            if self._begin():
                self._follow_if_allowed(version)
                self._note_unusable()
        self._check_holdable(self._source)
        self._report()

    @property
    def asks_soon(self) -> bool:
        return self._source.settles

    def _is_immutable(self) -> bool:
        return bool(self._pin)  # the bytes of a version can change here

    def _remembered(self) -> Status | None:
        status = super()._remembered()
        is_allowed = status is not None and self._source.pins.holds(status.version or "", status.digest or "")
        return status if is_allowed else None

    def _may_begin_anew(self) -> bool:
        """Whether an exact version, not yet served, still has to settle, so that its bytes may still change."""
        return not self.answer.path and self._reference.kind == "version" and self._source.settles

    def _begin(self) -> bool:
        """Starts a range with the version served last; a higher one then follows as a promotion.

        Returns:
            False while it is not sure yet that PINS has taken that back.
        """
        if self._begins and not self.answer.path:
            last, lines = recall(self._settings, self._text), self._source.pins.lines or {}
            begins_with = self._remembered()
            if begins_with is None and last and last.version not in lines and not self._source.pins.is_settled:
                self.answer = Status(reason=f"{PINS} has no line for {last.version}, which drove last; looking again")
                return False
            self.answer = begins_with or self.answer
        self._begins = False
        return True

    def _follow_if_allowed(self, version: FolderVersion) -> None:
        drives, pins = self.answer, self._source.pins
        if drives.version is None or version.digest == drives.digest or self._is_served(version.digest):
            self._follow(self._source, version)
        elif version.semver == drives.version and pins.lines is None and self._was_taken(drives.digest):
            self._refuse_changed(version)
        elif is_lower(version.semver, drives.version) and not pins.revokes(drives.version):
            text = f"{drives.version} is no longer there as it was"
            back = f"to go back to {version.semver}, name it in --model, or in a file PINS without {drives.version}"
            self._keep(f"{text}; {back}")
        else:
            self._follow(self._source, version)

    def _refuse_changed(self, version: FolderVersion) -> None:
        if self._refusals.is_due(version.digest):
            text = (
                f"its bytes have changed: it was {self.answer.digest}, and is {version.digest}; give it a new version"
            )
            self._refuse(version, Failure(text, "integrity"))
        else:
            self._lacks(version.digest)

    def _is_served(self, digest: str | None) -> bool:
        """Whether the workers serve it for this reference already, having refused what came later."""
        served = [each for state in worker_states(self._folder) for each in state.served]
        return any(each.digest == digest and each.following == self._shown for each in served)

    def _was_taken(self, digest: str | None) -> bool:
        """Whether it drives, or drove last, rather than only being there."""
        last = recall(self._settings, self._text)
        return self._is_served(digest) or (last is not None and last.digest == digest)

    def _note_unusable(self) -> None:
        notes = [f"{self._shown}: {each}" for each in self._source.unusable]
        if notes:
            before = [self.answer.warning] if self.answer.warning else []
            self.answer = msgspec.structs.replace(self.answer, warning="; ".join(before + notes))

    def _report(self) -> None:
        """Reports the subfolders that are refused, as versions of a registry are, and whether there are PINS."""
        refused = {each.subfolder: each for each in self._source.unusable if not each.waits}
        for gone in self._reported - refused.keys():
            self._refusals.forgive(gone)
        self._reported = set(refused)
        for subfolder, each in refused.items():
            if self._refusals.add(each.version, "", each.reason, "integrity", 0.0, key=subfolder):
                log.error("%s: %s", self._text, each)
                metrics.REFUSED.labels("integrity").inc()
        has_pins, name = self._source.pins.is_expected, self.answer.name or self._source.policy
        self._source.policy = name
        self._source.knows([self.answer.digest])
        self.answer = msgspec.structs.replace(self.answer, pinned=bool(self._pin) or has_pins, has_pins=has_pins)
        last = recall(self._settings, self._text) if has_pins else None
        if last is not None and not last.has_pins:  # the next start must not take a folder without them for unpinned
            remember(self._settings, self._text, msgspec.structs.replace(last, has_pins=True))
