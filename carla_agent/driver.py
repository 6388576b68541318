"""Drives one car with a policy: observes, asks within the budget, and acts, or falls back when no action comes."""

from __future__ import annotations

import contextlib
import logging
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import carla
from numpy.typing import NDArray

from carla_mlflow import (
    ActionError,
    Actions,
    CarlaMlflowError,
    ContractError,
    Episode,
    Policy,
    ServerError,
    SpecError,
    UnreachableError,
)
from carla_mlflow.contract.actions import fallback_actions
from carla_mlflow.escaping import one_line

from .contract_check import check_fit, ticks_between
from .drive_record import DriveRecord
from .observers.observer import Observer, Snapshot

log = logging.getLogger("carla_agent")

REASONS: tuple[tuple[type[CarlaMlflowError], str], ...] = (
    (UnreachableError, "unreachable"),
    (ContractError, "contract"),
    (ServerError, "refused"),
    (SpecError, "observation"),
    (ActionError, "action"),
    (CarlaMlflowError, "policy"),
)
"""The reason that a fallback is counted under, by the error that caused it; the first that fits. A server's refusal has
its own error code instead, such as `not_ready`, where it gives one."""


@dataclass(frozen=True)
class Missing:
    """Why there is no observation: a reason to count, and a text to tell."""

    reason: str
    text: str


Observation = dict[str, NDArray[Any]]  # without a batch axis


class Driver:
    """Drives one car. Not safe to share between threads.

    Attributes:
        record: what happened on the current route; a new one after `reset`.
        actions: the latest decision; None before the first.
    """

    def __init__(
        self,
        policy: Policy,
        observers: Sequence[Observer],
        world_hz: float,
        budget_ms: float | None = None,
    ) -> None:
        """Keeps what it is given; `check` compares policy and observers.

        Args:
            policy: a PolicyClient, or an Engine in this process.
            observers: together they make every field of the card.
            world_hz: ticks per simulated second, 1 / `fixed_delta_seconds`.
            budget_ms: how long a decision may take, milliseconds; after that the card's fallback drives. None: one
                tick, 1000 / world_hz.

        Raises:
            SpecError: the rate or the budget is not a finite number above 0.
        """
        self.policy, self.observers = policy, tuple(observers)
        self.world_hz = _positive("world_hz", world_hz)
        self.budget_ms = _positive("budget_ms", 1000.0 / self.world_hz if budget_ms is None else budget_ms)
        self._waits_ms: float | None = self.budget_ms  # real time, for one answer
        self.record = DriveRecord()
        self.actions: Actions | None = None
        self._episode: Episode | None = None
        self._period_s = 0.0
        self._ticked_s = -math.inf
        self._falls_back = False

    def check(self) -> None:
        """Compares the card with the observers and the rates; call it before the first tick.

        Raises:
            ContractError: a field that is missing, made twice or not in the card, or whose dtype, shape, unit or bounds
                differ; or rates that do not divide. The text says which.
        """
        check_fit(self.policy.card, self.observers)
        self._period_s = ticks_between(self.policy.card.action, self.world_hz) / self.world_hz

    def reset(self) -> None:
        """Begins a route: the observers forget, and so does the policy, in an episode with a new name.

        Raises:
            DrivingError: an observer can't begin, such as one that reads the map of a town without lanes.
            RuntimeError: a call to the simulator failed.
        """
        for observer in self.observers:
            observer.reset()
        self._episode = self.policy.start_episode()
        self.record = DriveRecord(episode_id=self._episode.id, restarts=self._episode.restarts)
        self.actions, self._ticked_s, self._falls_back = None, -math.inf, False

    def step(self, snapshot: Snapshot) -> carla.VehicleControl:
        """Decides at one tick, or repeats the latest decision in between.

        The policy's ticks come at its card's rate (times `repeat`, where its actions hold for several), by simulated
        time; between them it sees nothing.

        Errors of this package and of calls to the simulator are not raised: the card's fallback drives, `record` counts
        why, and the log says so once. Other exceptions in an observer, which are bugs, are.

        Args:
            snapshot: of the tick that has just ended.

        Returns:
            The control until the next tick.

        Raises:
            ContractError: as `check`, at the first step, if `check` was not called before.
        """
        observation = self._observe(snapshot)
        if self._is_due(snapshot) or self.actions is None:
            self.actions = self._tick(observation)
        return carla.VehicleControl(*self.actions.vehicle_control())

    def _is_due(self, snapshot: Snapshot) -> bool:
        """Whether this is one of the policy's ticks: by simulated time, so that an unseen tick changes no rate."""
        now = snapshot.timestamp.elapsed_seconds
        if 0.0 <= now - self._ticked_s < self._period_s - 0.5 / self.world_hz:
            return False
        self._ticked_s = now
        return True

    def _observe(self, snapshot: Snapshot) -> Observation | Missing:
        """The fields at that tick. Every observer is asked, since it may keep something from tick to tick."""
        if not self._period_s:
            self.check()
        observation: Observation = {}
        missing: Missing | None = None
        for observer in self.observers:
            try:
                fields = observer.observe(snapshot)
            except (CarlaMlflowError, RuntimeError) as error:  # the latter: a call to the simulator that failed
                missing = Missing("observer", f"{', '.join(observer.spec.names)}: {one_line(error)}")
                continue
            if fields is None:
                missing = missing or Missing("no_data", f"{', '.join(observer.spec.names)}: there is no data yet")
            else:
                observation.update(fields)
        return missing or observation

    def _tick(self, observation: Observation | Missing, skipped: Sequence[Observation | None] = ()) -> Actions:
        """Decides, or takes the action that still holds, after the policy's ticks at which nobody could ask it."""
        if self._episode is None:
            self._episode = self.policy.start_episode()
            self.record.restarts = self._episode.restarts
        episode = self._episode
        for seen in skipped:
            with contextlib.suppress(SpecError):  # the frames before count for that tick
                episode.skip(seen)
        held, began = None if episode.is_due else episode.actions, time.perf_counter()
        if isinstance(observation, Missing):
            episode.skip()
            if held is not None:
                return self._hold(held, observation.reason, observation.text)
            return self._fall_back(observation.reason, observation.text)
        try:
            actions = episode.act(observation, budget_ms=self._waits_ms)
        except CarlaMlflowError as error:
            if held is not None:
                return self._hold(held, _reason(error), one_line(error))
            return self._fall_back(_reason(error), one_line(error))
        if actions.fallback:
            return self._late()
        if held is not None:
            return held
        self.record.decided(self._latency_ms(began), _version(self.policy))
        if self._falls_back:
            self._falls_back = False
            log.warning("the policy drives again: %s %s", self.policy.card.name, _version(self.policy))
        return actions

    def _latency_ms(self, began: float) -> float:
        """The latency of an answer that has just come, by when it was asked for."""
        return (time.perf_counter() - began) * 1e3

    def _hold(self, actions: Actions, reason: str, text: str) -> Actions:
        """Goes on with an action that holds, at a tick whose observation the policy can't use."""
        if not self.record.unseen:
            log.warning("a tick at which an action holds shows the policy nothing (%s): %s", reason, text)
        self.record.unseen[reason] += 1
        return actions

    def _late(self) -> Actions:
        return self._fall_back("late", f"no action within {self.budget_ms:g} ms")

    def _fall_back(self, reason: str, text: str) -> Actions:
        self.record.fell_back(reason)
        if not self._falls_back:
            self._falls_back = True
            log.warning("the fallback drives (%s): %s", reason, text)
        return fallback_actions(self.policy.card.action, 1)


def _reason(error: CarlaMlflowError) -> str:
    code = getattr(error, "code", None) if isinstance(error, ServerError) else None
    return code or next(name for kind, name in REASONS if isinstance(error, kind))


def _version(policy: Policy) -> str:
    version: str = getattr(policy, "version", policy.card.version)
    return version


def _positive(name: str, value: float) -> float:
    if not 0.0 < value < math.inf:
        raise SpecError(name, f"expected a number above 0, got {value:g}")
    return float(value)
