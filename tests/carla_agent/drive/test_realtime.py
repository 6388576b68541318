"""A driver that does not wait falls back past the budget, and says so as the one that waits does."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from episode_policies import frames, stacks, watching
from given_ego import at_tick
from numpy.typing import NDArray
from patience import PATIENCE_S

from carla_agent.drive.realtime import RealtimeDriver
from carla_agent.observers.observer import Snapshot
from carla_mlflow import Actions, Card, Engine, Episode, ObservationSpec
from carla_mlflow.contract.history import frame_spec
from carla_mlflow.contract.running_episode import local_episode


class Golden:
    """Observes what the artifact's first golden row holds."""

    def __init__(self, engine: Engine) -> None:
        self.spec: ObservationSpec = engine.card.observation_spec
        self._fields = {name: array[0] for name, array in engine.golden.observations.items()}

    def reset(self) -> None: ...

    def observe(self, snapshot: Snapshot) -> Mapping[str, NDArray[Any]]:
        return self._fields


class Held:
    """A policy whose answers are held back until they are released."""

    def __init__(self, engine: Engine) -> None:
        self.engine, self.released = engine, threading.Event()

    @property
    def card(self) -> Card:
        return self.engine.card

    @property
    def digest(self) -> str:
        return self.engine.digest

    def start_episode(self, episode_id: str | None = None) -> Episode:
        return local_episode(self, episode_id)

    def act(self, observations: Any, **options: Any) -> Actions:
        self.released.wait(PATIENCE_S)
        return self.engine.act(observations)


@pytest.fixture
def policy(example: Path) -> Iterator[Held]:
    held = Held(Engine.open(example, device="cpu"))
    yield held
    held.released.set()


def test_an_answer_past_the_budget_is_a_fallback_that_the_log_tells(policy: Held, caplog: pytest.LogCaptureFixture):
    driver = RealtimeDriver(policy, [Golden(policy.engine)], world_hz=20, budget_ms=1)
    driver.check()
    driver.reset()
    ticks = itertools.count()
    while not driver.record.fallbacks:
        control = driver.step(at_tick(next(ticks)))
    assert (control.throttle, control.brake) == (0.0, 1.0)
    assert set(driver.record.fallbacks) == {"late"}
    assert caplog.messages == ["the fallback drives (late): no action within 1 ms"]
    policy.released.set()
    driver.close()
    assert caplog.messages[1:] == ["the policy drives again: racetrack-policy 0.1.0"]


class Counted:
    """Observes something else at each tick."""

    def __init__(self, specs: ObservationSpec) -> None:
        self.spec, self.ticks = specs, frames(8)

    def reset(self) -> None: ...

    def observe(self, snapshot: Snapshot) -> Mapping[str, NDArray[Any]]:
        return self.ticks[snapshot.frame]


def until_answered(driver: RealtimeDriver) -> None:
    assert driver._answer is not None
    driver._answer.result(timeout=PATIENCE_S)


def test_frames_of_ticks_at_which_an_answer_is_under_way_are_kept():
    engine = Engine(watching(repeat=1), device="cpu")
    policy, observer = Held(engine), Counted(frame_spec(engine.card.observation))
    driver = RealtimeDriver(policy, [observer], world_hz=10, budget_ms=60_000)
    driver.check()
    driver.reset()
    for tick in range(5):  # the answer to the first is under way
        driver.step(at_tick(tick, 10))
    policy.released.set()
    until_answered(driver)
    driver.step(at_tick(5, 10))
    until_answered(driver)
    control = driver.step(at_tick(6, 10))
    driver.close()
    wanted = engine.act(stacks(observer.ticks, 5)).vehicle_control()
    assert (control.throttle, control.steer, control.brake) == wanted
