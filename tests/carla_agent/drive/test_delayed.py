"""A driver under a latency in simulated time: when its actions apply depends on the world's clock alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from episode_policies import frames, stacks, watching
from given_ego import at_tick
from numpy.typing import NDArray

from carla_agent.drive.delayed import DelayedDriver
from carla_agent.observers.observer import Snapshot
from carla_mlflow import Actions, Card, Engine, Episode, ObservationSpec, SpecError, UnreachableError
from carla_mlflow.contract.history import frame_spec
from carla_mlflow.contract.running_episode import local_episode
from carla_mlflow.latency.sources import Constant, LatencySource, Measured, Replayed
from carla_mlflow.latency.trace import Trace

HZ = 100.0


class Numbered:
    """A policy whose steering tells which of its answers it is, as a hundredth; at some it fails instead."""

    def __init__(self, engine: Engine, fails: tuple[int, ...] = ()) -> None:
        self.engine, self.answers, self.fails = engine, 0, fails

    @property
    def card(self) -> Card:
        return self.engine.card

    @property
    def digest(self) -> str:
        return self.engine.digest

    def start_episode(self, episode_id: str | None = None) -> Episode:
        return local_episode(self, episode_id)

    def act(self, observations: Any, **options: Any) -> Actions:
        self.answers += 1
        if self.answers in self.fails:
            raise UnreachableError("nobody answers")
        return Actions(np.array([[0.5, 0.0, self.answers / 100]], np.float32), np.zeros((1, 2), np.float32))


class Golden:
    """Observes what the artifact's first golden row holds, but at some ticks nothing."""

    def __init__(self, engine: Engine, blind: range = range(0)) -> None:
        self.spec: ObservationSpec = engine.card.observation_spec
        self._fields = {name: array[0] for name, array in engine.golden.observations.items()}
        self._blind = blind

    def reset(self) -> None: ...

    def observe(self, snapshot: Snapshot) -> Mapping[str, NDArray[Any]] | None:
        return None if snapshot.frame in self._blind else self._fields


@pytest.fixture(scope="module")
def engine(example: Path) -> Engine:
    return Engine.open(example, device="cpu")


def driven(driver: DelayedDriver, ticks: int, first: int = 0) -> list[int | None]:
    """For each tick the number of the answer that applies; None for the fallback."""
    driver.check()
    driver.reset()
    controls = [driver.step(at_tick(tick, HZ)) for tick in range(first, first + ticks)]
    return [None if control.brake else round(control.steer * 100) for control in controls]


def under(engine: Engine, source: LatencySource, budget_ms: float | None = None, **options: Any) -> DelayedDriver:
    policy = Numbered(engine, options.pop("fails", ()))
    return DelayedDriver(policy, [Golden(engine, **options)], HZ, source, budget_ms)


@pytest.mark.parametrize("first", [0, 12_345])  # a world's clock does not begin at 0
@pytest.mark.parametrize(("us", "late"), [(0, 0), (20_000, 2), (35_000, 4), (100_000, 10)])
def test_an_action_applies_at_the_first_tick_after_it_has_landed(engine: Engine, us: int, late: int, first: int):
    driver = under(engine, Constant(us))
    assert driven(driver, 30, first) == ([None] * late + [1] * 10 + [2] * 10 + [3] * 10)[:30]
    assert set(driver.record.latencies_ms) == {us / 1e3}


def test_one_request_is_under_way(engine: Engine):
    assert driven(under(engine, Constant(250_000)), 70) == [None] * 25 + [1] * 30 + [2] * 15


def test_past_the_budget_the_fallback_drives_and_the_policy_is_asked_again(engine: Engine):
    us = [30_000, 80_000, 30_000, 30_000]
    driver = under(engine, Replayed(Trace(us, [0] * 4)), 50.0)
    assert driven(driver, 40) == [None] * 3 + [1] * 12 + [None] * 8 + [2] * 10 + [3] * 7
    assert driver.record.fallbacks == {"late": 1}
    told = driver.figures()
    assert (told["kind"], told["budget_ms"], told["requests"], told["max_ms"]) == ("trace", 50.0, 4, 80.0)


def test_a_policy_that_fails_is_a_fallback_that_lands_as_late_as_its_answer(engine: Engine):
    driver = under(engine, Constant(35_000), fails=(2,))
    assert driven(driver, 30) == [None] * 4 + [1] * 10 + [None] * 10 + [3] * 6
    assert driver.record.fallbacks == {"unreachable": 1}


def test_without_an_observation_nobody_is_asked_and_the_fallback_drives_at_once(engine: Engine):
    driver = under(engine, Constant(35_000), blind=range(10, 11))
    assert driven(driver, 30) == [None] * 4 + [1] * 6 + [None] * 14 + [2] * 6
    assert driver.record.fallbacks == {"no_data": 1}
    assert len(driver.applied.us) == 2


def test_a_measured_drive_is_driven_again_by_its_trace(engine: Engine):
    measured = under(engine, Measured())
    first = driven(measured, 100)
    assert measured.condition == measured.applied.name
    assert driven(under(engine, Replayed(measured.applied)), 100) == first


def test_frames_of_ticks_at_which_an_action_is_under_way_are_kept():
    engine = Engine(watching(repeat=1), device="cpu")
    seen = frames(60)

    class Counted:
        spec = frame_spec(engine.card.observation)

        def reset(self) -> None: ...

        def observe(self, snapshot: Snapshot) -> Mapping[str, NDArray[Any]]:
            return seen[snapshot.frame]

    driver = DelayedDriver(engine, [Counted()], HZ, Constant(250_000))
    driver.check()
    driver.reset()
    controls = [driver.step(at_tick(tick, HZ)) for tick in range(60)]
    ticks = [seen[tick] for tick in range(0, 60, 10)]  # the policy's, of which the first and the fourth asked
    wanted = engine.act(stacks(ticks, 3)).vehicle_control()
    control = controls[-1]
    assert (control.throttle, control.steer, control.brake) == wanted


def test_a_world_that_ticks_seldom_is_refused_with_the_remedy(engine: Engine):
    with pytest.raises(SpecError, match="under a latency the world ticks at 100 Hz or more: --hz 100"):
        DelayedDriver(engine, [Golden(engine)], 20.0, Constant(0))
