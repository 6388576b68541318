"""A worker's part in following a canary: it loads it beside the version in production, and gives it up at once."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Callable

from serve.following.refusals import Refusals
from serve.policy.canary import Canary
from serve.policy.held import HeldVersion
from serve.policy.loading import Failure
from serve.policy.serving import Serving
from serve.policy.slot import Slot
from serve.run_folder import Status, worker_states
from serve.settings import Settings
from serve.telemetry import metrics

TOGETHER_S = 10.0
"""Most seconds that no episode begins with a loaded canary because another worker has not loaded it yet."""

Step = Callable[[Status, Callable[[Status, Serving], None], Callable[[Status, Failure], None]], None]
"""Takes the next step towards having a version loaded; calls one of the two functions with what came of it."""

log = logging.getLogger("serve")


class CanarySide:
    """Keeps the canary of one worker's slot up to date with the follower's file.

    Attributes:
        refusals: the canaries that this worker refused.
    """

    def __init__(self, slot: Slot, settings: Settings, load: Step) -> None:
        self.refusals = Refusals()
        self._slot, self._settings, self._load = slot, settings, load
        self._together_until = 0.0

    def step(self) -> str | None:
        """Takes the next step; returns the digest that is wanted as the canary, if any."""
        slot, wanted = self._slot, self._slot.followed.canary or Status()
        if slot.canary is not None and slot.canary.serving.digest != wanted.digest:
            gone = slot.canary.serving
            slot.put_canary(None, self._to_hold(wanted, gone))
            log.info("%s is no longer the canary", gone.version)
        if wanted.path is None or wanted.digest is None or slot.serving is None:
            return None
        if slot.canary is not None:
            self._update(slot.canary)
        elif self.refusals.is_due(wanted.digest):
            known = slot.of_digest(wanted.digest)
            if known is not None:
                self._take(wanted, known)
            else:
                self._load(wanted, self._take, self._refuse)
        return wanted.digest

    def _take(self, wanted: Status, serving: Serving) -> None:
        champion = self._slot.serving
        if champion is None:
            return
        if serving.card.contract != champion.card.contract or serving.card.name != champion.card.name:
            text = "has another contract or name than the served version, which the same cars ask"
            self._refuse(wanted, Failure(text, "contract", float("inf")))
            return
        self.refusals.forgive(serving.digest)
        self._together_until = time.monotonic() + TOGETHER_S
        staged = dataclasses.replace(serving, stage=wanted.stage)
        self._slot.put_canary(Canary(staged, self._slot.followed.canary_share, is_active=False))
        log.info("the canary %s %s (%s) is loaded", serving.card.name, serving.version, serving.digest)

    def _update(self, canary: Canary) -> None:
        share, is_active = self._slot.followed.canary_share, canary.is_active or self._all_have(canary.serving.digest)
        if (share, is_active) != (canary.share, canary.is_active):
            self._slot.put_canary(canary._replace(share=share, is_active=is_active))
            log.info("the canary %s answers %g %% of the episodes", canary.serving.version, share)

    def _all_have(self, digest: str) -> bool:
        """Whether every worker can go on with an episode that another one begins with the canary."""
        states = worker_states(self._slot.folder)
        return time.monotonic() > self._together_until or all(state.has(digest) for state in states)

    def _to_hold(self, wanted: Status, replaced: Serving) -> HeldVersion | None:
        """What is replaced by another canary, to be held for the episodes that it began; None where it ended."""
        seconds = self._settings.episode_hold_s
        if not seconds or all(each.digest != replaced.digest for each in wanted.holdable):
            return None
        return HeldVersion(replaced, time.monotonic() + seconds, time.time() + seconds)

    def _refuse(self, wanted: Status, failure: Failure) -> None:
        version, digest = wanted.version or "", wanted.digest or ""
        if self.refusals.add(version, digest, failure.reason, failure.kind, failure.wait_s):
            log.error("the canary %s is refused (%s): %s", version, failure.kind, failure.reason)
        metrics.REFUSED.labels(failure.kind).inc()
