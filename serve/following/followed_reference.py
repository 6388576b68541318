"""One reference that a server follows: which version it resolves to, and whether that is on this machine."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from carla_mlflow.artifact.artifact import Artifact, open_artifact
from carla_mlflow.errors import ArtifactError, CacheError, NotFoundError, NotOursError, RefusedError, UnreachableError
from carla_mlflow.escaping import one_line
from registry.rules.reference import parse_reference
from serve.following.arrivals import Arrivals
from serve.following.last_served import recall, remember
from serve.following.lineage import line_after, still_live
from serve.following.refusals import Refusals
from serve.policy.loading import Failure
from serve.run_folder import Status, kind_of, worker_states
from serve.settings import Settings
from serve.telemetry import metrics

if TYPE_CHECKING:
    from registry.rules.policy_version import PolicyVersion
    from registry.store.version_source import VersionSource

log = logging.getLogger("serve.follow")


class FollowedReference:
    """The version that a reference resolves to, updated by each `ask`.

    Attributes:
        answer: what the workers get.
        refusal: the registry's error for a reference that was never served: waiting would not help.
        is_settled: whether the registry need not be asked again.
    """

    SILENT = "the registry does not answer"
    GONE = "the registry no longer knows it"
    NONE = "the registry has no"
    CHANGED = "the registry was recreated"

    def __init__(
        self,
        settings: Settings,
        text: str,
        before: Status,
        refusals: Refusals,
        arrivals: Arrivals,
        folder: Path,
        path_of: Callable[[str], str | None],
    ) -> None:
        """Starts from what an earlier follower wrote, or from what was served last on this machine.

        Args:
            settings: of the server.
            text: the reference.
            before: what a follower before this one wrote.
            refusals: of this process.
            arrivals: the versions that are being fetched.
            folder: the server's run folder.
            path_of: digest → path of its artifact, if another reference of the server already has it.
        """
        self._settings, self._text, self._folder = settings, text, folder
        self._reference = parse_reference(text)
        self._shown = self._reference.shown
        self._refusals, self._arrivals, self._path_of = refusals, arrivals, path_of
        self._pin = settings.digest if text == settings.model else ""
        self.answer = before
        self.refusal: str | None = None
        self.is_settled = False
        self._warned = self._unusable = ""
        self._other: str | None = None
        if self._is_immutable() and not before.path and (remembered := self._remembered()):
            self.answer, self.is_settled = remembered, bool(self._pin)

    def resolve(self, registry: Callable[[], VersionSource]) -> None:
        """Asks the registry; a new version is fetched in the background, and passed to the workers once it is here.

        Raises:
            Exception: no answer, or an invalid one.
        """
        source = registry()
        try:
            version = source.resolve(self._reference)
        except (NotFoundError, RefusedError) as error:
            self._is_gone(error)
            return
        self._follow(source, version)
        self._check_holdable(source)

    def _check_holdable(self, source: VersionSource) -> None:
        """Takes back the leave to hold what has been archived or removed."""
        if not self.answer.holdable:
            return
        used = {each.digest for state in worker_states(self._folder) for each in (*state.served, *state.held)}
        name = self.answer.name or self._reference.name
        kept = still_live(self.answer.holdable, used, lambda v: source.is_live(name, v.version, v.digest))
        if kept != self.answer.holdable:
            self.answer = msgspec.structs.replace(self.answer, holdable=kept)

    def _follow(self, source: VersionSource, version: PolicyVersion) -> None:
        """Takes the next step towards serving the version that the reference means now."""
        self._warned = ""
        if version.digest == self.answer.digest and not self._is_damaged(version.digest):
            self._has(msgspec.structs.replace(self.answer, stage=version.stage or None, wanted=version.digest))
        elif self._refusals.is_due(version.digest):
            self._bring(source, version)
        else:
            self._lacks(version.digest)

    @property
    def asks_soon(self) -> bool:
        """Whether the next poll should not wait for `poll_s`."""
        return False

    def not_answered(self) -> None:
        """The registry does not answer: keeps what is served, or what was served last."""
        self._keep(self.SILENT)

    def _bring(self, source: VersionSource, version: PolicyVersion) -> None:
        """Takes the next step towards having the version here."""
        if self._pin and version.digest != self._pin:
            text = f"{self._shown} is {version.digest}, but {self._pin} was pinned"
            self._refuse(version, Failure(text, "integrity"))
            return
        arrival, path = self._arrivals.get(version.digest), self._path_of(version.digest)
        if path and not self._is_damaged(version.digest):  # tried for another reference, needs no more memory
            self._is_here(source, version, path)
        elif arrival is None:
            self._arrivals.start(source, version)
            self._waits(version, None)
        elif arrival.outcome is not None:
            self._arrivals.take(version.digest)
            self._arrived(source, version, arrival.outcome)
        elif arrival.is_silent:
            self._arrivals.give_up(version.digest)
            seconds = f"{self._settings.fetch_timeout_s:g} s (--fetch-timeout-s)"
            text = f"the download wrote nothing for {seconds} and was given up; MLflow writes whole megabytes"
            self._refuse(version, Failure(text, "timeout"))
        else:
            self._waits(version, arrival.progress)

    def _arrived(self, source: VersionSource, version: PolicyVersion, outcome: Artifact | Failure | Exception) -> None:
        if isinstance(outcome, Failure):
            self._refuse(version, outcome)
        elif isinstance(outcome, ArtifactError | NotFoundError):
            self._refuse(version, Failure(one_line(outcome), kind_of(outcome)))
        elif isinstance(outcome, CacheError):
            log.error("%s", one_line(outcome))
            self._refuse(version, Failure(outcome.reason, "other"))  # without the path on this machine
        elif isinstance(outcome, Exception):  # of the artifact store, or of this machine: the registry did answer
            log.error("%s %s: %s", self._text, version.semver, one_line(outcome))
            self._refuse(version, Failure(f"it could not be fetched and tried: {_why(outcome)}", "other"))
        else:
            self._is_here(source, version, str(outcome.path))

    def _is_here(self, source: VersionSource, version: PolicyVersion, path: str) -> None:
        digest, semver = version.digest, version.semver
        self._refusals.forgive(digest)
        self._note_other(digest)
        line = line_after(self.answer, semver, digest, lambda: source.goes_back(self._reference, semver))
        self._has(Status(path, digest, semver, version.stage or None, wanted=digest, name=version.name, holdable=line))
        if self._other:  # the next start begins with it, even if the workers can't take its contract now
            remember(self._settings, self._text, self.answer)

    def _waits(self, version: PolicyVersion, progress: str | None) -> None:
        """Keeps what is served while the version is being fetched, and reports the progress."""
        self._lacks(version.digest, f"{self._shown}: {progress}" if progress else None)

    def _note_other(self, digest: str) -> None:
        """Warns if an immutable reference was served as another artifact before."""
        before = recall(self._settings, self._text) if self._names_one_artifact() else None
        if before is not None and before.digest != digest:
            last = f"was {before.digest} when it was served last"
            self._other = f"{self._shown}: is {digest}, but {last}; {self.CHANGED}"
            log.warning("%s", self._other)

    def _has(self, answer: Status) -> None:
        is_kept = self._folder not in Path(answer.path or "").parents
        text = f"{self._shown}: the cache can't be written; kept in a temporary folder until this server ends"
        self.answer = msgspec.structs.replace(answer, warning=self._other or (None if is_kept else text))
        self.is_settled = self._is_immutable()

    def _refuse(self, version: PolicyVersion, failure: Failure) -> None:
        reason = failure.reason
        if self._refusals.add(version.semver, version.digest, reason, failure.kind, failure.wait_s):
            log.error("%s %s is refused (%s): %s", self._text, version.semver, failure.kind, reason)
        metrics.REFUSED.labels(failure.kind).inc()
        if not self.answer.path:  # a restart serves what would be served without it
            self.answer = self._remembered() or self.answer
        self._lacks(version.digest)

    def _lacks(self, digest: str, warning: str | None = None) -> None:
        """Keeps what is served; if nothing is, reports the reason, also one found for another reference."""
        reason = None if self.answer.path else self._refusals.reason(digest)
        self.answer = msgspec.structs.replace(self.answer, wanted=digest, reason=reason, warning=warning)

    def _is_gone(self, error: Exception) -> None:
        lack = error.lack if isinstance(error, NotOursError) else None
        gone = lack or (self.GONE if self.answer.path else f"{self.NONE} {self._shown}")
        if self._warned != gone:  # once per change, not once per poll
            log.warning("%s: %s", self._text, gone)
        self._warned = gone
        self.answer = msgspec.structs.replace(self.answer, holdable=())  # whether one is archived can't be asked
        self._keep(gone)
        if not self.answer.path:
            self.answer = Status(reason=lack or f"{self.NONE} {self._shown}")
            self.refusal = one_line(error)

    def _keep(self, warning: str) -> None:
        if not self.answer.path:
            self.answer = self._remembered() or Status(reason=warning)
        if self.answer.path:
            text = f"{self._shown}: {warning}; serving the last verified version"
            self.answer = msgspec.structs.replace(self.answer, wanted=self.answer.digest, warning=text)

    def _remembered(self) -> Status | None:
        """Returns what was served last for the reference, verified again, or None."""
        status = recall(self._settings, self._text)
        if status is None or (self._pin and status.digest != self._pin):
            return None
        try:
            open_artifact(Path(status.path or ""), status.digest)
        except (ArtifactError, OSError) as error:
            if self._unusable != (unusable := one_line(error)):  # once per change, not once per poll
                log.error("%s: the cached copy can't be used: %s", self._text, unusable)
            self._unusable = unusable
            return None
        return msgspec.structs.replace(status, wanted=status.digest, warning=None, reason=None, holdable=())

    def _names_one_artifact(self) -> bool:
        """Whether the reference should always resolve to the same artifact."""
        return bool(self._pin) or self._reference.kind in {"version", "number"}

    def _is_immutable(self) -> bool:
        """Whether the reference always resolves to the same artifact, so that one answer is enough."""
        return self._names_one_artifact()

    def _is_damaged(self, digest: str) -> bool:
        """Whether a worker found the copy in the cache damaged, so that it has to be fetched again."""
        states = worker_states(self._folder)
        return any(r.digest == digest and r.kind == "integrity" for state in states for r in state.refused)


def _why(error: Exception) -> str:
    """Describes an error without a path or an address, which clients must not see."""
    if isinstance(error, UnreachableError):
        return "no answer"
    return (error.strerror if isinstance(error, OSError) else None) or type(error).__name__
