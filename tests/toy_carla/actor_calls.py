"""Calls about actors: what they are, where they are, what they do, and batches of these."""

from __future__ import annotations

import math
from typing import Any

from . import wire
from .actors import Transform, Vector, Vehicle, Walker
from .calls import Call, Calls, order, value
from .vehicles import MAX_WHEEL_ANGLE, WHEELBASE_M
from .world import WorldError

FUTURE_ACTOR = 0
"""The id that stands for the actor which the command before has spawned (`carla.command.FutureActor`)."""


@value
def get_spectator(calls: Calls) -> list[Any]:
    return calls.actor(calls.world.spectator)


@value
def get_actors_by_id(calls: Calls, numbers: list[int]) -> list[Any]:
    return [calls.actor(calls.world.actors[number]) for number in numbers if number in calls.world.actors]


@value
def get_actor_bounding_box(calls: Calls, number: int) -> list[Any]:
    return wire.box(calls.find(number).box)


@value
def spawn_actor(calls: Calls, description: list[Any], transform: list[Any]) -> list[Any]:
    return calls.actor(calls.world.spawn(description, Transform.of(transform)))


@value
def spawn_actor_with_parent(
    calls: Calls, description: list[Any], transform: list[Any], parent: int, attachment: int = 0, bone: str = ""
) -> list[Any]:
    return calls.actor(calls.world.spawn(description, Transform.of(transform), parent))


@value
def destroy_actor(calls: Calls, number: int) -> bool:
    calls.world.destroy(number)
    return True


@order
def apply_control_to_vehicle(calls: Calls, number: int, control: list[Any]) -> None:
    calls.find(number, Vehicle).control = control


@order
def apply_control_to_walker(calls: Calls, number: int, control: list[Any]) -> None:
    calls.find(number, Walker).control = control


@order
def set_actor_transform(calls: Calls, number: int, transform: list[Any]) -> None:
    calls.find(number).transform = Transform.of(transform)


@order
def set_actor_location(calls: Calls, number: int, location: list[float]) -> None:
    one = calls.find(number)
    one.transform = Transform((location[0], location[1], location[2]), one.transform.rotation)


@order
def set_actor_target_velocity(calls: Calls, number: int, velocity: list[float]) -> None:
    """A car takes the part along its nose: it never slides."""
    one, (x, y, _) = calls.find(number), velocity
    if isinstance(one, Vehicle):
        yaw = math.radians(one.transform.yaw)
        one.speed = x * math.cos(yaw) + y * math.sin(yaw)
        one.velocity = (one.speed * math.cos(yaw), one.speed * math.sin(yaw), 0.0)


@order
def set_actor_target_angular_velocity(calls: Calls, number: int, turning: list[float]) -> None:
    """Taken, and not heeded: a car turns by its wheels."""
    calls.find(number)


@order
def set_actor_simulate_physics(calls: Calls, number: int, enabled: bool) -> None:
    """Taken, and not heeded."""
    calls.find(number)


@order
def set_actor_enable_gravity(calls: Calls, number: int, enabled: bool) -> None:
    """Taken, and not heeded."""
    calls.find(number)


@value
def get_physics_control(calls: Calls, number: int) -> list[Any]:
    """As rpc/VehiclePhysicsControl.h lays it out; what the bicycle model doesn't have is as in CARLA's default car."""
    car: Vehicle = calls.find(number, Vehicle)
    torque_curve, gears = [[0.0, 500.0], [5000.0, 500.0]], [[1.0, 0.5, 0.65]]
    engine = [torque_curve, 5000.0, 1.0, 0.15, 2.0, 0.35]
    gearbox = [True, 0.5, 10.0, 4.0, gears]
    wheels = [_wheel(car, front, side) for front in (True, False) for side in (-1, 1)]
    return [*engine, *gearbox, 1800.0, 0.3, [0.0, 0.0, 0.0], [[0.0, 1.0], [120.0, 1.0]], wheels, True]


def _wheel(car: Vehicle, is_front: bool, side: int) -> list[Any]:
    """One wheel (rpc/WheelPhysicsControl.h); only the front wheels steer. Its position is in the world, centimetres."""
    (x, y, z), yaw = car.transform.location, math.radians(car.transform.yaw)
    ahead, right = (WHEELBASE_M / 2 if is_front else -WHEELBASE_M / 2), side * car.box.extent[1]
    place: Vector = (
        x + ahead * math.cos(yaw) - right * math.sin(yaw),
        y + ahead * math.sin(yaw) + right * math.cos(yaw),
        z,
    )
    angle = math.degrees(MAX_WHEEL_ANGLE) if is_front else 0.0
    tire, brakes = [3.5, 0.25, angle, 35.0], [1500.0, 0.0 if is_front else 3000.0]
    stiffness = [2.0, 17.0, 1000.0]
    return [*tire, *brakes, *stiffness, [100 * one for one in place]]


@value
def get_vehicle_light_state(calls: Calls, number: int) -> list[int]:
    calls.find(number, Vehicle)
    return [0]


@value
def get_vehicle_light_states(calls: Calls) -> list[Any]:
    return [[actor.id, 0] for actor in calls.world.actors.values() if isinstance(actor, Vehicle)]


@order
def set_vehicle_light_state(calls: Calls, number: int, lights: Any) -> None:
    """Taken, and not heeded."""
    calls.find(number, Vehicle)


@value
def apply_batch(calls: Calls, commands: list[Any], tick: bool = False) -> list[Any]:
    """Carries out commands one by one; the answers are ids or errors, one each."""
    answers: list[Any] = []
    for [[kind, arguments]] in commands:
        try:
            answers.append([[1, _carry_out(calls, kind, arguments)]])
        except WorldError as error:
            answers.append([[0, [str(error)]]])
    if tick:
        calls.step()
    return answers


def _carry_out(calls: Calls, kind: int, arguments: list[Any]) -> int:
    if kind != SPAWN:
        if (call := COMMANDS.get(kind)) is None:
            raise WorldError(f"toy_carla: there is no command {kind}")
        call(calls, *arguments)
        return int(arguments[0])
    description, transform, parent, *_, then = arguments
    number = calls.world.spawn(description, Transform.of(transform), parent[1] if parent[0] else 0).id
    for [[next_kind, (actor, *rest)]] in then:
        _carry_out(calls, next_kind, [number if actor == FUTURE_ACTOR else actor, *rest])
    return number


def _set_autopilot(calls: Calls, number: int, enabled: bool) -> None:
    """The client itself then speaks with the traffic manager (PythonAPI, Client.cpp)."""
    calls.find(number, Vehicle)


SPAWN = 0
COMMANDS: dict[int, Call] = {
    1: destroy_actor,
    2: apply_control_to_vehicle,
    4: apply_control_to_walker,
    6: set_actor_transform,
    8: set_actor_target_velocity,
    9: set_actor_target_angular_velocity,
    14: set_actor_simulate_physics,
    15: set_actor_enable_gravity,
    16: _set_autopilot,
    18: set_vehicle_light_state,
}
"""By place in `Command::CommandType` (LibCarla, rpc/Command.h)."""
