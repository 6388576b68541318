"""Drives one car with a policy: observes, asks within the budget, and acts, or falls back when no action comes."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import Any

import carla
import numpy as np
from numpy.typing import NDArray

from carla_mlflow import (
    ActionError,
    Actions,
    CarlaMlflowError,
    ContractError,
    Policy,
    ServerError,
    SpecError,
    UnreachableError,
)
from carla_mlflow.contract.actions import fallback_actions

from .contract_check import check_fit, ticks_per_action
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
        """
        self.policy, self.observers = policy, tuple(observers)
        self.world_hz = world_hz
        self.budget_ms = 1000.0 / world_hz if budget_ms is None else budget_ms
        self.record = DriveRecord()
        self.actions: Actions | None = None
        self._period = 0
        self._tick = 0
        self._falls_back = False

    def check(self) -> None:
        """Compares the card with the observers and the rates; call it before the first tick.

        Raises:
            ContractError: a field that no observer makes, or that one makes otherwise than the card says, or rates
                that do not divide; the text says which.
        """
        check_fit(self.policy.card, self.observers)
        self._period = ticks_per_action(self.policy.card.action.rate_hz, self.world_hz)

    def reset(self) -> None:
        """Begins a route: the observers forget, and an episode with a new name starts."""
        for observer in self.observers:
            observer.reset()
        start_episode = getattr(self.policy, "start_episode", None)  # an Engine in this process keeps no episodes
        self.record = DriveRecord(episode_id=start_episode() if start_episode else None)
        self.actions, self._tick, self._falls_back = None, 0, False

    def step(self, snapshot: Snapshot) -> carla.VehicleControl:
        """Decides at one tick, or repeats the latest decision in between.

        Never raises for what can happen on the road: when no usable action comes in time, the card's fallback drives,
        `record` counts why, and the log says so once.

        Args:
            snapshot: of the tick that has just ended.

        Returns:
            The control until the next tick.

        Raises:
            ContractError: at the first step, as `check`, when nobody called that; or an observer finds that its source
                is not what was said, such as a camera of another resolution.
        """
        if not self._period:
            self.check()
        observation = self._observe(snapshot)
        if self.actions is None or self._tick % self._period == 0:
            self.actions = self._decide(observation)
        self._tick += 1
        throttle, steer, brake = self.actions.vehicle_control()
        return carla.VehicleControl(throttle, steer, brake)

    def _observe(self, snapshot: Snapshot) -> dict[str, NDArray[Any]] | None:
        batch: dict[str, NDArray[Any]] = {}
        complete = True
        for observer in self.observers:
            fields = observer.observe(snapshot)
            if fields is None:
                complete = False
                continue
            for name, array in fields.items():
                batch[name] = np.asarray(array)[None]
        return batch if complete else None

    def _decide(self, observation: dict[str, NDArray[Any]] | None) -> Actions:
        if observation is None:
            return self._fall_back("no_data", "the observers have no data yet")
        began = time.perf_counter()
        try:
            actions = self.policy.act(observation, budget_ms=self.budget_ms)
        except CarlaMlflowError as error:
            return self._fall_back(_reason(error), str(error))
        if actions.fallback:
            return self._fall_back("late", f"no action within {self.budget_ms:g} ms")
        self.record.decided((time.perf_counter() - began) * 1e3, _version(self.policy))
        if self._falls_back:
            self._falls_back = False
            log.warning("the policy drives again: %s %s", self.policy.card.name, _version(self.policy))
        return actions

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
