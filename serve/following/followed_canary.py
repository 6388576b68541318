"""The canary beside the version in production: what the registry says of it, and whether it may answer here."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec

from registry.rules.canary import CANARY_SHARE, Canary
from registry.rules.lifecycle import ARCHIVED
from serve.following.followed_reference import FollowedReference
from serve.following.last_served import read_good
from serve.following.lineage import line_after
from serve.policy.loading import Failure
from serve.run_folder import Status
from serve.telemetry import metrics

if TYPE_CHECKING:
    from registry.rules.policy_version import PolicyVersion
    from registry.store.store import Store

log = logging.getLogger("serve.follow")

NOT_OURS = "the alias is held by a version without a semantic version and digest"
NO_CONTRACT = "has another contract than the version in production, which the same cars ask"
NO_GATES = "nobody promoted it to canary with carla-registry, so its gates are not known to have passed"
NO_SHARE = f"has no share (the model's tag {CANARY_SHARE}), which counts as 0 %"


class FollowedCanary(FollowedReference):
    """The version that holds the alias canary, and its share.

    Unlike what a reference means, it is never kept once the registry says otherwise: the version in production answers
    whatever it does not. So `answer` has no path while there is no canary, or one that is refused or not here yet.

    Attributes:
        share: of the episodes, in percent.
        left: the digest of a canary that ended or was refused since the last call of `settle`; None for none.
    """

    def __init__(self, *arguments: Any, share: float) -> None:
        """Starts from what an earlier follower wrote: `share`, and `arguments` as for any reference."""
        super().__init__(*arguments)
        self.share = share
        self.left: str | None = None
        self._is_known = bool(self.answer.wanted)
        self._rejected = ""

    def look(self, registry: Callable[[], Store]) -> tuple[Store, Canary | None]:
        """Asks the registry; to be called before it is asked about production.

        A canary that is promoted to production gives up the alias after it has got the other one, so whoever finds it
        no canary any more, and asks about production afterwards, finds it there.
        """
        store = registry()
        return store, store.canary(self._reference.name)

    def settle(self, store: Store, found: Canary | None, champion: str | None) -> None:
        """Takes the next step towards what was found.

        Args:
            store: the registry.
            found: what `look` found there.
            champion: the digest of the version in production.
        """
        self._is_known = True
        version = found.version if found is not None else None
        if found is None or (version is not None and version.digest == champion):
            self._end(None)
        elif version is None:
            self._end(NOT_OURS)
        else:
            self._move_on(store, version)
            self.share = found.share or 0.0
            if problem := self._problem(found, version):
                self._reject(version, problem)
            elif not found.is_vetted:  # in MLflow's UI, where nobody gave it a share
                self.answer = msgspec.structs.replace(self._without_path(), reason=NO_SHARE)
            else:
                self._forgive()
                self._follow(store, version)
                if found.share is None:
                    texts = filter(None, (self.answer.warning, f"{self._shown}: {version.semver} {NO_SHARE}"))
                    self.answer = msgspec.structs.replace(self.answer, warning="; ".join(texts))
        self._check_holdable(store)

    def not_answered(self) -> None:
        """The registry does not answer: a canary goes on, but none begins."""
        if not self._is_known:
            self.answer = Status(reason=self.SILENT)
        elif self.answer.path:
            super().not_answered()

    def drop_from_line(self, digests: set[str | None]) -> None:
        """Holds none of these versions as earlier canaries: what becomes of them is not the canary's affair."""
        kept = tuple(each for each in self.answer.holdable if each.digest not in digests)
        self.answer = msgspec.structs.replace(self.answer, holdable=kept)

    def _problem(self, found: Canary, version: PolicyVersion) -> Failure | None:
        good = read_good(self._folder, 0)
        if version.stage == ARCHIVED:
            return Failure("is archived", "gates")
        if found.share and not found.is_vetted:
            return Failure(NO_GATES, "gates")
        if good is not None and version.contract and version.contract != good.contract:
            return Failure(NO_CONTRACT, "contract")
        return None

    def _move_on(self, store: Store, version: PolicyVersion) -> None:
        """Begins with another version; the one before may be held, unless this is a step back."""
        before, digest = self.answer, version.digest
        if digest in (before.digest, before.wanted):
            return
        goes_back = functools.partial(store.goes_back, self._reference, version.semver)
        line = line_after(before, version.semver, digest, goes_back)
        self._forgive()
        self.answer = Status(version=version.semver, wanted=digest, holdable=line)

    def _end(self, reason: str | None) -> None:
        self._forgive()
        self.left, self.share = self.answer.digest or self.left, 0.0
        self.answer = Status(reason=reason, holdable=self.answer.holdable)

    def _reject(self, version: PolicyVersion, failure: Failure) -> None:
        """Refuses it as a canary; the same version may still be followed as something else."""
        self._rejected = f"canary {version.digest}"
        if self._refusals.add(
            version.semver, version.digest, failure.reason, failure.kind, wait_s=0.0, key=self._rejected
        ):
            log.error("%s %s is refused (%s): %s", self._text, version.semver, failure.kind, failure.reason)
            metrics.REFUSED.labels(failure.kind).inc()
        self.answer = msgspec.structs.replace(self._without_path(), reason=failure.reason)

    def _forgive(self) -> None:
        self._refusals.forgive(self._rejected)
        self._rejected = ""

    def _without_path(self) -> Status:
        answer = self.answer
        self.left = answer.digest or self.left
        return Status(version=answer.version, wanted=answer.wanted, holdable=answer.holdable)

    def _remembered(self) -> Status | None:
        return None  # a canary of before may have been rolled back
