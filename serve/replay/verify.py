"""Whether a policy, run again, gives what was recorded: the same bits, or on another machine the card's tolerance."""

from __future__ import annotations

from collections import Counter

import msgspec
import numpy as np
from numpy.typing import NDArray

from carla_mlflow.contract.answer import fallback_row
from carla_mlflow.contract.card import Card
from serve.replay.compare import same_bits
from serve.replay.moments import Moment, Moments, moment_of
from serve.replay.rerun import NOT_COMPARED, OTHER, Answers
from serve.replay.rows import Float32, Rows

MAX = float(np.finfo(np.float32).max)
SHOWN = 20
"""The most rows that are named of those that differ."""


class Verification(msgspec.Struct, frozen=True):
    """What running the recorded policy again found.

    Attributes:
        digest: the policy's.
        version: its semantic version.
        rows: how many it answered again.
        equal: how many of these have the same bits, actions and raw actions.
        within: how many others differ by no more than the card's tolerance; 0 where the same bits are required.
        differing: the rest.
        states: recorded states that could be compared with what the step before led to.
        states_differing: how many of these are another one; 0 where the same bits are not required.
        fallbacks: rows in which the card's fallback was answered, which are compared with the card.
        fallbacks_differing: how many of these have another action.
        largest: the largest difference of an action or a raw action.
        why_not_bits: why only the tolerance is required here; empty where the same bits are.
        skipped: reason → rows that could not be answered again.
        first: the first rows that differ, at most SHOWN: `recorded` actions and raw actions, and as `other` those now.
    """

    digest: str
    version: str
    rows: int
    equal: int
    within: int
    differing: int
    states: int
    states_differing: int
    fallbacks: int
    fallbacks_differing: int
    largest: float
    why_not_bits: str
    skipped: dict[str, int]
    first: list[Moment]

    @property
    def holds(self) -> bool:
        """Whether nothing differs, of at least one row; not all of them may be there to be run."""
        differs = self.differing or self.states_differing or self.fallbacks_differing
        return not differs and bool(self.rows or not self.skipped)


class Verifier:
    """Compares one policy's answers with the recorded ones."""

    def __init__(self, card: Card, digest: str, why_not_bits: str = "") -> None:
        self._card, self._digest, self._why = card, digest, why_not_bits
        self._rows = self._equal = self._within = self._fallbacks = self._fallbacks_differing = 0
        self._states = self._states_differing = 0
        self._largest = 0.0
        self._skipped: Counter[str] = Counter()
        self._first: list[Moment] = []

    def add(self, rows: Rows, answers: Answers) -> None:
        """Compares rows with the answers that the policy gives to them now."""
        recorded = np.concatenate([rows.action, rows.raw], axis=1)
        now = np.concatenate([answers.control, answers.raw], axis=1)
        equal = same_bits(recorded, now) & answers.known
        within = self._tolerated(recorded, now) & answers.known & ~equal
        self._rows += int(answers.known.sum())
        self._equal, self._within = self._equal + int(equal.sum()), self._within + int(within.sum())
        apart = np.abs(now.astype(np.float64) - recorded)[answers.known & ~equal]
        self._largest = max(self._largest, float(np.nan_to_num(apart, nan=MAX).max(initial=0.0)))
        self._skipped.update(answers.reasons)
        self._states += int((answers.state != NOT_COMPARED).sum())
        self._states_differing += 0 if self._why else int((answers.state == OTHER).sum())
        for place in np.flatnonzero(answers.known & ~equal & ~within)[: SHOWN - len(self._first)].tolist():
            self._first.append(moment_of(place, 0.0, recorded, now, rows.moments))

    def add_fallbacks(self, actions: Float32, moments: Moments) -> None:
        """Compares fallbacks (B, C) with the card's."""
        wanted = np.broadcast_to(fallback_row(self._card.action), actions.shape)
        equal = same_bits(actions, wanted)
        self._fallbacks, self._fallbacks_differing = (
            self._fallbacks + len(actions),
            self._fallbacks_differing + int((~equal).sum()),
        )
        for place in np.flatnonzero(~equal)[: SHOWN - len(self._first)].tolist():
            self._first.append(moment_of(place, 0.0, actions, wanted, moments))

    def skip(self, reason: str, rows: int) -> None:
        """Counts rows that can't be run again."""
        if rows:
            self._skipped[reason] += rows

    def found(self) -> Verification:
        differing = self._rows - self._equal - self._within
        return Verification(
            self._digest,
            self._card.version,
            self._rows,
            self._equal,
            self._within,
            differing,
            self._states,
            self._states_differing,
            self._fallbacks,
            self._fallbacks_differing,
            self._largest,
            self._why,
            dict(self._skipped),
            self._first,
        )

    def _tolerated(self, recorded: Float32, now: Float32) -> NDArray[np.bool_]:
        """Which rows lie within the card's tolerance, by the rule of `golden.check_parity`; none if bits are owed."""
        if not self._why:
            return np.zeros(len(recorded), np.bool_)
        parity = self._card.parity
        atol = parity.atol
        if self._card.memory is not None and not isinstance(parity.free_running, msgspec.UnsetType):
            atol = max(atol, parity.free_running)  # each step's state is this machine's own
        inside = np.abs(now.astype(np.float64) - recorded) <= atol + parity.rtol * np.abs(recorded)
        return np.asarray(inside.all(axis=1))  # False for a NaN
