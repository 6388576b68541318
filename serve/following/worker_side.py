"""A worker's part in following: it loads what the follower found while serving the old version, then swaps them."""

from __future__ import annotations

import functools
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path

from serve.following.canary_side import CanarySide
from serve.following.last_served import agree, read_good, remember
from serve.following.refusals import Refusals
from serve.following.trial import load_carefully
from serve.policy.held import HeldVersion
from serve.policy.loading import Failure, Load
from serve.policy.serving import Serving
from serve.policy.slot import Slot
from serve.run_folder import Followed, Status, read_file, worker_states
from serve.settings import Settings
from serve.telemetry import metrics

INTERVAL_S = 0.025
"""Seconds between two checks whether the follower's file has changed."""
HINDERED_S = 1.0
"""Seconds between two tries after an error of this machine, such as a full disk."""
TOGETHER_S = 10.0
"""Most seconds that a loaded version waits until the other workers have loaded it, too."""

log = logging.getLogger("serve")


class Following:
    """Keeps one worker's slot up to date with the follower's file. `step` never waits for a policy that is loading."""

    def __init__(self, slot: Slot, settings: Settings, status_file: Path) -> None:
        self._slot = slot
        self._settings = settings
        self._status_file = status_file
        self._seen: tuple[int, int] | None = None
        self._loads: dict[str, Load] = {}
        self._hindered: int | None = None
        self._refusals = [Refusals() for _ in slot.references]
        self._together_until = [0.0 for _ in slot.references]
        self._canary = CanarySide(slot, settings, self._load)

    def run(self) -> None:
        """Runs forever."""
        while True:
            time.sleep(INTERVAL_S if self.try_step() else HINDERED_S)

    def try_step(self) -> bool:
        """Runs `step`; returns False after an error of this machine, such as a full disk. What is served stays."""
        try:
            self.step()
        except OSError as error:
            if self._hindered != error.errno:  # once per change, not once per try
                log.exception("what the follower found could not be applied; trying again every second")
            self._hindered = error.errno
            return False
        self._hindered = None
        return True

    def step(self) -> None:
        """Reads the follower's file once, and does what can be done without waiting."""
        self._read()
        answers = self._slot.followed.answers
        wanted = {self._bring_in_line(index, answer) for index, answer in enumerate(answers)}
        if self._settings.canary:  # after production, which may have got what was the canary
            wanted.add(self._canary.step())
        for index, answer in enumerate(answers):
            self._give_up_held(index, answer)
        for digest, load in list(self._loads.items()):
            if load.is_over and (load.given_up or digest not in wanted):
                del self._loads[digest]
        every = (*self._refusals, self._canary.refusals)
        self._slot.publish(tuple(refused for refusals in every for refused in refusals.listed()))

    def _read(self) -> None:
        try:
            found = os.stat(self._status_file)
        except FileNotFoundError:
            return
        if self._seen == (found.st_ino, found.st_mtime_ns):
            return
        self._seen = (found.st_ino, found.st_mtime_ns)
        followed = read_file(self._status_file, Followed)
        if followed is not None:
            self._slot.followed = followed
            first = followed.answers[0] if followed.answers else Status()
            if not first.path:
                self._slot.reason = first.reason or first.warning or self._slot.reason

    def _bring_in_line(self, index: int, answer: Status) -> str | None:
        """Takes the next step for one reference; returns the digest that it should be served as."""
        wanted = self._wanted(index, answer)
        if wanted.path is None or wanted.digest is None:
            return None
        now, coming = self._slot.servings[index], self._slot.coming[index]
        if coming is not None and coming.digest != wanted.digest:  # another one is wanted meanwhile
            self._slot.pass_over(index, self._to_hold(index, wanted, coming))
        if now is not None and now.digest == wanted.digest:
            if now.stage != wanted.stage:
                self._slot.serve(index, now, wanted.stage)
        elif self._refusals[index].is_due(wanted.digest):
            known = self._slot.of_digest(wanted.digest)
            if known is not None:
                self._take(index, wanted, known)
            else:
                take, refuse = functools.partial(self._take, index), functools.partial(self._refuse, index)
                self._load(wanted, take, refuse)
        return wanted.digest

    def _wanted(self, index: int, answer: Status) -> Status:
        """Returns the follower's answer; for a new worker first what this server's other workers already serve."""
        good = read_good(self._slot.folder, index) if self._slot.servings[index] is None else None
        if good is None or not good.status.path or (good.status.digest or "") in self._refusals[index]:
            return answer
        return good.status

    def _load(
        self, wanted: Status, take: Callable[[Status, Serving], None], refuse: Callable[[Status, Failure], None]
    ) -> None:
        """Takes the next step towards having it loaded; calls `take` or `refuse` with what came of it."""
        digest, load = wanted.digest or "", self._loads.get(wanted.digest or "")
        if load is None:
            if all(other.given_up for other in self._loads.values()):  # one at a time, else they slow each other down
                path, settings, folder = Path(wanted.path or ""), self._settings, self._slot.folder
                run = functools.partial(load_carefully, path, digest, settings, folder)
                self._loads[digest] = Load(run, settings.load_timeout_s)
        elif load.given_up:  # its thread still runs; a second one would not help
            return
        elif isinstance(load.outcome, Serving):
            take(wanted, load.outcome)
            del self._loads[digest]  # afterwards: if a full disk stops `take`, the next try has it still loaded
        elif isinstance(load.outcome, Failure):
            del self._loads[digest]
            refuse(wanted, load.outcome)
        elif load.is_late:
            load.given_up = True
            limit = f"{self._settings.load_timeout_s:g} s"
            refuse(wanted, Failure(f"was not loaded and warm within {limit}", "timeout"))

    def _take(self, index: int, wanted: Status, serving: Serving) -> None:
        replaced = self._to_hold(index, wanted, self._slot.servings[index])
        good = read_good(self._slot.folder, index)
        is_fit = good is None or good.contract == serving.card.contract
        if is_fit and replaced is not None and self._waits_for_others(index, serving):
            return
        if not agree(self._slot.folder, index, wanted, serving.card.contract):
            self._refuse(index, wanted, Failure(self._of_other_contract(serving), "contract", float("inf")))
            return
        is_swap = self._slot.servings[index] is not None
        self._slot.serve(index, serving, wanted.stage, replaced)
        self._refusals[index].forgive(serving.digest)
        remember(self._settings, self._slot.references[index] or "", wanted)
        if is_swap:
            metrics.SWAPS.inc()
        log.info("serving %s %s (%s)", serving.card.name, serving.version, serving.digest)

    def _of_other_contract(self, serving: Serving) -> str:
        """Why a version with another contract is not taken, in words."""
        return "has another contract than the served version; restart the server to serve it"

    def _waits_for_others(self, index: int, serving: Serving) -> bool:
        """Whether to wait until the other workers have loaded a promoted version.

        Else an episode that one worker began with it would come to another that does not know it yet. What is left by
        a roll-back is never waited for.
        """
        states, coming, now = worker_states(self._slot.folder), self._slot.coming[index], time.monotonic()
        if len(states) < 2:
            return False
        if coming is None or coming.digest != serving.digest:
            self._slot.prepare(index, serving)
            self._together_until[index] = now + TOGETHER_S
            return True  # until this worker has published that it has it
        return now < self._together_until[index] and not all(state.has(serving.digest) for state in states)

    def _to_hold(self, index: int, wanted: Status, replaced: Serving | None) -> HeldVersion | None:
        """What is replaced, to be held for the episodes that it began; None where it may not be held."""
        seconds = self._settings.episode_hold_s
        if replaced is None or not seconds or not self._may_hold(index, wanted, replaced.digest):
            return None
        return HeldVersion(replaced, time.monotonic() + seconds, time.time() + seconds)

    def _may_hold(self, index: int, answer: Status, digest: str) -> bool:
        canary = self._slot.followed.canary if index == 0 else None
        line = answer.holdable if canary is None else (*answer.holdable, *canary.holdable)
        may = any(each.digest == digest for each in line)
        return may and digest not in self._refusals[index]

    def _give_up_held(self, index: int, answer: Status) -> None:
        """Gives up held versions whose time is over or which may no longer be held, and all where memory is short."""
        held, now = self._slot.held[index], time.monotonic()
        if not held:
            return
        lacks_memory = any(r.kind == "memory" and r.digest == answer.wanted for r in self._slot.followed.refused)
        kept = tuple(
            each
            for each in held
            if each.until > now and not lacks_memory and self._may_hold(index, answer, each.serving.digest)
        )
        if len(kept) != len(held):
            self._slot.hold(index, kept)
            kept_digests = {each.serving.digest for each in kept}
            for gone in (each.serving for each in held if each.serving.digest not in kept_digests):
                log.info("%s is no longer held for its episodes", gone.version)

    def _refuse(self, index: int, wanted: Status, failure: Failure) -> None:
        version, digest, reason, kind = wanted.version or "", wanted.digest or "", failure.reason, failure.kind
        is_new = self._refusals[index].add(version, digest, reason, kind, failure.wait_s)
        metrics.REFUSED.labels(kind).inc()
        if is_new and self._slot.servings[index] is None:
            log.error("not ready: %s", reason)
        elif is_new:
            log.error("%s is refused (%s): %s", version, kind, reason)
        if index == 0:
            self._slot.reason = reason
