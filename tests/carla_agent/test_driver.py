from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import carla
import msgspec
import numpy as np
import psutil
import pytest
from episode_policies import frames, stacks, watching
from given_ego import at_tick
from numpy.typing import NDArray
from remembering_export import exported_lstm
from tests_support import Server
from without_pedals import KINDS

from benchmarks.support.free_port import free_port
from carla_agent import Driver
from carla_agent.contract_check import check_fit
from carla_mlflow import ArraySpec, ContractError, DrivingError, Engine, ObservationSpec, PolicyClient, SpecError
from carla_mlflow.contract.field_card import FieldCard
from carla_mlflow.contract.history import frame_spec

patient = functools.partial(Driver, budget_ms=20_000.0)
"""A driver whose decisions may take longer than a tick, in which a busy machine does not always answer."""


@dataclass
class Given:
    """An observer of what the test gives."""

    spec: ObservationSpec
    observation: dict[str, NDArray[Any]] | None
    resets: int = 0
    seen: list[int] = field(default_factory=list)
    failure: Exception | None = None

    def reset(self) -> None:
        self.resets += 1

    def observe(self, snapshot: Any) -> Mapping[str, NDArray[Any]] | None:
        self.seen.append(snapshot.frame)
        if self.failure is not None:
            raise self.failure
        return self.observation


@pytest.fixture(scope="module")
def engine(example: Path) -> Engine:
    return Engine.open(example, device="cpu")


@pytest.fixture
def observer(engine: Engine) -> Given:
    return Given(engine.card.observation_spec, golden(engine, 0))


def golden(engine: Engine, row: int) -> dict[str, NDArray[Any]]:
    return {name: array[row] for name, array in engine.golden.observations.items()}


def wanted(engine: Engine, row: int) -> tuple[float, float, float]:
    return engine.act({name: array[None] for name, array in golden(engine, row).items()}).vehicle_control()


def numbers(control: carla.VehicleControl) -> tuple[float, float, float]:
    return control.throttle, control.steer, control.brake


FALLBACK = (0.0, 0.0, 1.0)


def test_carla_takes_an_action_as_it_is(engine: Engine):
    actions = engine.act(engine.golden.observations)
    for row, (throttle, brake, steer) in enumerate(actions.control):
        control = carla.VehicleControl(*actions.vehicle_control(row))
        assert numbers(control) == (throttle, steer, brake)
    assert all(type(number) is float for number in actions.vehicle_control(3))


def test_an_action_is_the_policys_and_lasts_until_the_next_decision(engine: Engine, observer: Given):
    driver = patient(engine, [observer], world_hz=20)  # the card says 10 Hz
    driver.check()
    driver.reset()
    driven = []
    for tick in range(6):
        observer.observation = golden(engine, tick)
        driven.append(numbers(driver.step(at_tick(tick))))
    assert driven == [wanted(engine, row) for row in (0, 0, 2, 2, 4, 4)]
    assert observer.seen == [0, 1, 2, 3, 4, 5]
    assert (driver.record.decisions, dict(driver.record.versions)) == (3, {"0.1.0": 3})


@pytest.mark.parametrize("world_hz", [5, 15, 25, 10.5])
def test_rates_that_do_not_divide_are_refused(engine: Engine, observer: Given, world_hz: float):
    driver = patient(engine, [observer], world_hz)
    with pytest.raises(ContractError, match=f"at 10 Hz and the world ticks at {world_hz:g} Hz: set the world to 10 Hz"):
        driver.check()


def test_a_rate_from_a_rounded_time_step_divides(engine: Engine, observer: Given):
    patient(engine, [observer], 1 / 0.033333333).check()


@pytest.mark.parametrize(
    ("name", "answer"), [("labelled", "choice"), ("values", "longitudinal, lateral"), ("steer", "steer")]
)
def test_a_policy_without_pedals_drives_no_car_and_is_refused_before_the_first_tick(name: str, answer: str):
    engine = Engine(KINDS[name].artifact(), "cpu")
    driver = patient(engine, [Given(engine.card.observation_spec, None)], world_hz=20)
    with pytest.raises(ContractError, match=f"answers {answer}; a car in CARLA takes throttle, brake and steer"):
        driver.check()


SPEED, STEERING = ArraySpec("speed", "float32", (), 0.0, 60.0, "m/s"), ArraySpec("steering", "float32", (), -1.0, 1.0)
SENSORS = ArraySpec("sensors", "float32", (12,), 0.0, 1.0)


@pytest.mark.parametrize(
    ("made", "problem"),
    [
        ([SPEED, STEERING], r"no observer makes sensors \(float32 \[12\]\)"),
        ([SPEED, STEERING, SENSORS, SPEED], "two observers make speed"),
        ([SPEED, STEERING, SENSORS, ArraySpec("lidar", "float32", (4,))], "the card has no lidar, which an observer"),
        (
            [SPEED, STEERING, ArraySpec("sensors", "float32", (24,))],
            r"says float32 \[12\], the observer makes .*\[24\]",
        ),
        (
            [ArraySpec("speed", "float32", (), 0.0, 60.0, "km/h"), STEERING, SENSORS],
            "says m/s, the observer makes km/h",
        ),
        ([ArraySpec("speed", "float32", (), None, 60.0, "m/s"), STEERING, SENSORS], r"allows \[0, 60\], .* \[-∞, 60\]"),
        (
            [SPEED, STEERING, ArraySpec("sensors", "float32", (12,), 0.0, (*[1.0] * 10, 2.0, 1.0))],
            r"sensors\[10\]: the card allows \[0, 1\], the observer makes \[0, 2\]",
        ),
    ],
)
def test_what_does_not_fit_is_named_before_the_first_tick(engine: Engine, made: list[ArraySpec], problem: str):
    driver = patient(engine, [Given(ObservationSpec([spec]), None) for spec in made], world_hz=20)
    with pytest.raises(ContractError, match=problem):
        driver.step(at_tick(0))


def test_one_number_a_tick_for_a_history_of_it_is_told_its_bounds(engine: Engine):
    field = FieldCard("float32", [3], [0, 0, 0], [60, 60, 60], "m/s", history=[-2, -1, 0])
    card = msgspec.structs.replace(engine.card, observation={"speed": field})
    made = Given(ObservationSpec([ArraySpec("speed", "float32", (), -5.0, 60.0, "m/s")]), None)
    with pytest.raises(ContractError, match=r"speed\[0\]: the card allows \[0, 60\], the observer makes \[-5, 60\]"):
        check_fit(card, [made])


def test_narrower_bounds_and_any_order_fit(engine: Engine):
    narrower = ArraySpec("speed", "float32", (), 5.0, 6.0, "m/s")
    patient(engine, [Given(ObservationSpec([spec]), None) for spec in (SENSORS, narrower, STEERING)], 20).check()


def test_until_there_is_data_the_fallback_drives(engine: Engine, observer: Given):
    driver = patient(engine, [observer], world_hz=10)
    observer.observation, later = None, observer.observation
    assert numbers(driver.step(at_tick(0, 10))) == FALLBACK
    observer.observation = later
    assert numbers(driver.step(at_tick(1, 10))) == wanted(engine, 0)
    assert dict(driver.record.fallbacks) == {"no_data": 1}


def test_a_value_that_the_card_does_not_allow_brings_the_fallback_and_is_told(
    engine: Engine, observer: Given, caplog: pytest.LogCaptureFixture
):
    driver = patient(engine, [observer], world_hz=10)
    observer.observation = golden(engine, 0) | {"speed": np.float32("nan")}
    assert [numbers(driver.step(at_tick(tick, 10))) for tick in range(3)] == [FALLBACK] * 3
    observer.observation = golden(engine, 1)
    assert numbers(driver.step(at_tick(3, 10))) == wanted(engine, 1)
    assert dict(driver.record.fallbacks) == {"observation": 3}
    assert [record.message for record in caplog.records] == [
        "the fallback drives (observation): observations[0].speed: nan is not a finite float32",
        "the policy drives again: racetrack-policy 0.1.0",
    ]


def test_an_action_past_the_budget_is_not_driven(engine: Engine, observer: Given):
    driver = Driver(engine, [observer], world_hz=10, budget_ms=1e-6)
    assert numbers(driver.step(at_tick(0, 10))) == FALLBACK
    assert dict(driver.record.fallbacks) == {"late": 1}


@pytest.mark.parametrize("wrong", [0.0, -1.0, float("inf"), float("nan")])
def test_a_rate_or_a_budget_that_is_none_is_refused_at_once(engine: Engine, observer: Given, wrong: float):
    with pytest.raises(SpecError, match="world_hz: expected a number above 0"):
        patient(engine, [observer], wrong)
    with pytest.raises(SpecError, match="budget_ms: expected a number above 0"):
        Driver(engine, [observer], 20, budget_ms=wrong)


def test_ticks_that_nobody_saw_change_no_rate(engine: Engine, observer: Given):
    driver = patient(engine, [observer], world_hz=20)
    decided = []
    for tick in (0, 1, 3, 4, 5, 6, 9, 10, 11):
        before = driver.record.decisions
        driver.step(at_tick(tick))
        decided += [tick] if driver.record.decisions > before else []
    assert decided == [0, 3, 5, 9, 11]


@pytest.mark.parametrize("failure", [RuntimeError("time-out of 10000ms"), DrivingError("the car is gone")])
def test_an_observer_that_fails_brings_the_fallback_and_is_told(
    engine: Engine, observer: Given, caplog: pytest.LogCaptureFixture, failure: Exception
):
    driver = patient(engine, [observer], world_hz=10)
    driver.step(at_tick(0, 10))
    observer.failure = failure
    assert numbers(driver.step(at_tick(1, 10))) == FALLBACK
    observer.failure = None
    assert numbers(driver.step(at_tick(2, 10))) == wanted(engine, 0)
    assert dict(driver.record.fallbacks) == {"observer": 1}
    assert caplog.records[0].message == f"the fallback drives (observer): speed, steering, sensors: {failure}"


def test_a_route_begins_with_a_decision_and_forgotten_histories(engine: Engine, observer: Given):
    driver = patient(engine, [observer], world_hz=20)
    driver.step(at_tick(0))
    driver.reset()
    observer.observation = golden(engine, 5)
    assert numbers(driver.step(at_tick(1))) == wanted(engine, 5)
    assert (observer.resets, driver.record.decisions) == (1, 1)


def serving_at(start_server: Callable[..., Server], example: Path, port: int) -> Server:
    server = start_server("--model", str(example), "--port", str(port))
    server.url = f"http://127.0.0.1:{port}"
    server.wait_ready()
    return server


def processes(server: Server) -> list[psutil.Process]:
    master = psutil.Process(server.process.pid)
    return [master, *master.children(recursive=True)]


def test_a_server_that_dies_costs_fallbacks_until_it_is_back(
    engine: Engine, observer: Given, example: Path, start_server: Callable[..., Server]
):
    port = free_port()
    server = serving_at(start_server, example, port)
    with PolicyClient(server.url) as client:
        driver = Driver(client, [observer], world_hz=10, budget_ms=20_000)
        assert numbers(driver.step(at_tick(0, 10))) == wanted(engine, 0)
        killed = processes(server)
        for process in killed:
            process.kill()
        psutil.wait_procs(killed)
        assert [numbers(driver.step(at_tick(tick, 10))) for tick in (1, 2)] == [FALLBACK] * 2
        serving_at(start_server, example, port)
        assert numbers(driver.step(at_tick(3, 10))) == wanted(engine, 0)
        assert dict(driver.record.fallbacks) == {"unreachable": 2}


def test_a_server_that_falls_silent_costs_no_more_than_the_budget(
    engine: Engine, observer: Given, example: Path, start_server: Callable[..., Server]
):
    server = serving_at(start_server, example, free_port())
    with PolicyClient(server.url) as client:
        driver = Driver(client, [observer], world_hz=10)
        stopped = processes(server)
        for process in stopped:
            process.suspend()
        assert [numbers(driver.step(at_tick(tick, 10))) for tick in range(3)] == [FALLBACK] * 3
        assert dict(driver.record.fallbacks) == {"late": 3}
        for process in stopped:
            process.resume()
        tick = 3
        while numbers(driver.step(at_tick(tick, 10))) == FALLBACK:
            tick += 1
            assert tick < 100
        assert dict(driver.record.versions) == {"0.1.0": 1}


def test_histories_and_repeated_actions_follow_the_policys_ticks():
    engine, ticks = Engine(watching(), device="cpu"), frames(12)
    observer = Given(frame_spec(engine.card.observation), None)
    driver = patient(engine, [observer], world_hz=40)  # the card says 10 Hz and repeat 2: it sees something at 20 Hz
    driver.check()
    driver.reset()
    driven = []
    for tick, seen in enumerate(ticks):
        observer.observation = seen if tick not in {4, 5} else None  # at its third tick there is nothing to see
        driven.append(numbers(driver.step(at_tick(tick, 40))))
    seen = [ticks[at] for at in (0, 2, 2, 6, 8, 10)]
    first, late, last = (engine.act(stacks(seen, at)).vehicle_control() for at in (0, 3, 5))
    assert driven == [first] * 4 + [FALLBACK] * 2 + [late] * 4 + [last] * 2
    assert (driver.record.decisions, dict(driver.record.fallbacks)) == (4, {"no_data": 1})


def test_an_observer_of_a_whole_stack_does_not_fit_a_field_with_a_history():
    engine = Engine(watching(), device="cpu")
    driver = patient(engine, [Given(engine.card.observation_spec, None)], world_hz=20)
    with pytest.raises(ContractError, match=r"view: the card says uint8 \[2, 4, 4\] at each tick, the observer makes"):
        driver.check()
    with pytest.raises(ContractError, match="the policy sees its observations at 20 Hz and the world ticks at 10 Hz"):
        patient(engine, [Given(frame_spec(engine.card.observation), None)], world_hz=10).check()


def test_a_number_is_a_frame_of_a_stack_of_numbers():
    engine = Engine(watching(), device="cpu")
    view, _, steering = frame_spec(engine.card.observation)
    speed = ArraySpec("speed", "float32", (), 0.0, 60.0, "m/s")
    patient(engine, [Given(ObservationSpec([view, speed, steering]), None)], world_hz=20).check()


def test_an_action_that_holds_does_so_over_a_tick_without_data():
    engine, ticks = Engine(watching(), device="cpu"), frames(4)
    observer = Given(frame_spec(engine.card.observation), ticks[0])
    driver = patient(engine, [observer], world_hz=20)
    driver.reset()
    first = numbers(driver.step(at_tick(0)))
    observer.observation = None
    assert numbers(driver.step(at_tick(1))) == first != FALLBACK
    assert numbers(driver.step(at_tick(2))) == FALLBACK
    assert dict(driver.record.fallbacks) == {"no_data": 1}


def test_an_action_that_holds_does_so_over_a_value_that_the_card_does_not_allow():
    engine, ticks = Engine(watching(repeat=4), device="cpu"), frames(8)
    observer = Given(frame_spec(engine.card.observation), None)
    driver = patient(engine, [observer], world_hz=40)
    driver.reset()
    driven = []
    for tick, seen in enumerate(ticks):
        observer.observation = seen | ({"speed": 999.0} if tick in {1, 4} else {})
        driven.append(numbers(driver.step(at_tick(tick, 40))))
    first = engine.act(stacks(ticks, 0)).vehicle_control()
    assert driven[:5] == [first] * 4 + [FALLBACK]
    assert FALLBACK not in [first, *driven[5:]]
    assert dict(driver.record.unseen) == dict(driver.record.fallbacks) == {"observation": 1}


def test_a_route_begins_with_an_empty_memory():
    engine = exported_lstm().engine
    seen = {name: array[0] for name, array in engine.specs.example().items()}
    observer = Given(engine.specs, seen)
    driver = patient(engine, [observer], world_hz=10)
    routes = []
    for _ in range(2):
        driver.reset()
        routes.append([numbers(driver.step(at_tick(tick, 10))) for tick in range(4)])
    episode = engine.start_episode()
    assert routes == [[episode.act(seen).vehicle_control() for _ in range(4)]] * 2
    assert len(set(routes[0])) == 4
