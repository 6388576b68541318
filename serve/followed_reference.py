"""One reference that a server follows: what the registry says that it means, and what of that is here."""

from __future__ import annotations

import errno
import logging
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from carla_mlflow.artifact import open_artifact
from carla_mlflow.cli import one_line
from carla_mlflow.errors import ArtifactError, IntegrityError, NotFoundError, RefusedError
from registry.cache import fetch_to_cache
from registry.reference import parse_reference
from serve import metrics
from serve.memory import cache_folder, recall
from serve.refusals import Refusals, kind_of
from serve.settings import Settings
from serve.status import Status, worker_states

if TYPE_CHECKING:
    from registry.policy_version import PolicyVersion
    from registry.store import Store

_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM}

log = logging.getLogger("serve.follow")


class FollowedReference:
    """What a reference means, kept up to date by being asked.

    Attributes:
        answer: what the workers are told.
        refusal: the registry's no to a reference that was never served; nothing is to be waited for.
        is_settled: whether nobody needs to be asked again.
    """

    def __init__(self, settings: Settings, text: str, told: Status, refusals: Refusals, folder: Path) -> None:
        """Starts from what the workers were told before, or from what was served last on this machine.

        Args:
            settings: of the server.
            text: the reference.
            told: by a follower before this one.
            refusals: of this process.
            folder: the server's run folder.
        """
        self._settings, self._text, self._refusals, self._folder = settings, text, refusals, folder
        self._pin = settings.digest if text == settings.model else ""
        self._cache = cache_folder(settings)
        self.answer = told
        self.refusal: str | None = None
        self.is_settled = False
        if self._is_immutable() and (remembered := self._remembered()):
            self.answer, self.is_settled = remembered, True

    def ask(self, store: Store) -> None:
        """Asks the registry; what it means now is fetched.

        Raises:
            Exception: no answer, or one that is none.
        """
        try:
            version = store.resolve(parse_reference(self._text))
        except (NotFoundError, RefusedError) as error:
            self._is_gone(error)
            return
        if version.digest == self.answer.digest and not self._is_damaged(version.digest):
            staged = msgspec.structs.replace(self.answer, stage=version.stage, wanted=version.digest, warning=None)
            self._has(staged)
        elif self._refusals.is_due(version.digest):
            self._fetch(store, version)

    def not_answered(self) -> None:
        """The registry is silent: what is served goes on, or what was served last."""
        self._keep("the registry does not answer")

    def _fetch(self, store: Store, version: PolicyVersion) -> None:
        try:
            if self._pin and version.digest != self._pin:
                raise IntegrityError(f"{self._text} is {version.digest}, but {self._pin} was pinned")
            artifact = fetch_to_cache(store, version, self._cache)
        except (ArtifactError, NotFoundError) as error:
            self._refuse(version, error)
        except OSError as error:
            if error.errno not in _DISK:
                raise
            self._refuse(version, OSError(error.errno, error.strerror))  # without the path on this machine
        else:
            self._refusals.forgive(version.digest)
            path, digest = str(artifact.path), artifact.digest
            self._has(Status(path, digest, version.semver, version.stage, wanted=digest))

    def _has(self, answer: Status) -> None:
        self.answer = answer
        self.is_settled = self._is_immutable()

    def _refuse(self, version: PolicyVersion, error: Exception) -> None:
        log.error("%s %s is refused: %s", self._text, version.semver, one_line(error))
        self._refusals.add(version.semver, version.digest, one_line(error), kind_of(error))
        metrics.REFUSED.labels(kind_of(error)).inc()
        reason = None if self.answer.path else one_line(error)
        self.answer = msgspec.structs.replace(self.answer, wanted=version.digest, reason=reason)

    def _is_gone(self, error: Exception) -> None:
        log.warning("%s: %s", self._text, one_line(error))
        self._keep("the registry no longer knows it")
        if not self.answer.path:
            self.answer = Status(reason="the registry has no such policy")
            self.refusal = one_line(error)

    def _keep(self, warning: str) -> None:
        if not self.answer.path:
            self.answer = self._remembered() or Status(reason=warning)
        if self.answer.path:
            text = f"{self._text}: {warning}; serving the last verified version"
            self.answer = msgspec.structs.replace(self.answer, wanted=self.answer.digest, warning=text)

    def _remembered(self) -> Status | None:
        """What was served last for the reference, verified again."""
        status = recall(self._settings, self._text)
        if status is None or (self._pin and status.digest != self._pin):
            return None
        try:
            open_artifact(Path(status.path or ""), status.digest)
        except (ArtifactError, OSError) as error:
            log.error("the cached copy can't be used: %s", one_line(error))
            return None
        return msgspec.structs.replace(status, wanted=status.digest, warning=None, reason=None)

    def _is_immutable(self) -> bool:
        """Whether the reference can only ever mean one artifact, so that nobody needs to be asked again."""
        return bool(self._pin) or parse_reference(self._text).kind in {"version", "number"}

    def _is_damaged(self, digest: str) -> bool:
        """Whether a worker found the copy in the cache damaged: then it is fetched again."""
        states = worker_states(self._folder)
        return any(r.digest == digest and r.kind == "integrity" for state in states for r in state.refused)
