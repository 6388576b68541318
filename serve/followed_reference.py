"""One reference that a server follows: what the registry says that it means, and what of that is here."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from carla_mlflow.artifact import Artifact, open_artifact
from carla_mlflow.cli import one_line
from carla_mlflow.errors import ArtifactError, CacheError, IntegrityError, NotFoundError, RefusedError
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

TEMPORARY = "cache"
"""In the server's run folder: where artifacts are kept that the cache can't take."""

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
            staged = msgspec.structs.replace(self.answer, stage=version.stage, wanted=version.digest)
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
            artifact = self._kept(store, version)
        except (ArtifactError, NotFoundError, CacheError) as error:
            self._refuse(version, error)
        else:
            self._refusals.forgive(version.digest)
            path, digest = str(artifact.path), artifact.digest
            self._has(Status(path, digest, version.semver, version.stage, wanted=digest))

    def _kept(self, store: Store, version: PolicyVersion) -> Artifact:
        """The version's artifact in the cache; where that can't be written, in the server's run folder."""
        try:
            return fetch_to_cache(store, version, self._cache)
        except CacheError as error:
            if error.is_full:
                raise
            log.warning("%s; kept in a temporary folder until this server ends", one_line(error))
            return fetch_to_cache(store, version, self._folder / TEMPORARY)

    def _has(self, answer: Status) -> None:
        is_kept = self._folder not in Path(answer.path or "").parents
        text = f"{self._text}: the cache can't be written; kept in a temporary folder until this server ends"
        self.answer = msgspec.structs.replace(answer, warning=None if is_kept else text)
        self.is_settled = self._is_immutable()

    def _refuse(self, version: PolicyVersion, error: Exception) -> None:
        log.error("%s %s is refused: %s", self._text, version.semver, one_line(error))
        told = error.reason if isinstance(error, CacheError) else one_line(error)  # no path of this machine on the wire
        self._refusals.add(version.semver, version.digest, told, kind_of(error))
        metrics.REFUSED.labels(kind_of(error)).inc()
        reason = None if self.answer.path else told
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
