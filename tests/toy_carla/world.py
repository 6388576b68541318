"""The world itself: actors, time, and what a tick does. It knows nothing of sockets."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from .actors import Actor, Sensor, TrafficLight, Transform, Vehicle, Walker
from .behaviours import FollowLane, WalkAlong
from .blueprints import BLUEPRINTS, SPECTATOR, TRAFFIC_LIGHT, Blueprint
from .lights import GREEN, RED, YELLOW, change, concerns, post, state_at
from .settings import Settings
from .shapes import compose, corners, overlap
from .towns import TOWNS, Town
from .vehicles import drive, slip

FIRST_STREAM = 2  # 1 is the world's own


class WorldError(Exception):
    """What the client asked for can't be done; the text is what CARLA's server says."""


@dataclass
class World:
    """One simulator's world.

    Attributes:
        town: where everything stands; `load` changes it and begins another episode.
        frame: number of the latest tick; it grows over the episodes, as CARLA's does.
        seconds: simulated, since the episode began.
        delta: simulated seconds of the latest tick.
        ticks: since the simulator was started.
        map_changed: until the first tick of an episode is over.
        behaviours: of the actors that move by themselves, by their id.
        collisions: of the latest tick: pairs of actors, and the impulse in N·s.
    """

    town: Town = field(default_factory=TOWNS["ring"])
    settings: Settings = field(default_factory=Settings)
    actors: dict[int, Actor] = field(default_factory=dict)
    frame: int = 0
    seconds: float = 0.0
    delta: float = 0.0
    ticks: int = 0
    episode: int = 1
    map_changed: bool = False
    collisions: list[tuple[Actor, Actor, tuple[float, float, float]]] = field(default_factory=list)
    behaviours: dict[int, FollowLane | WalkAlong] = field(default_factory=dict)
    _next_id: int = 1
    _next_stream: int = FIRST_STREAM

    def __post_init__(self) -> None:
        self._furnish()

    def load(self, name: str, keep_settings: bool) -> None:
        """Begins a new episode in a town, without any actor of the one before.

        Raises:
            WorldError: no such town.
        """
        short = name.rsplit("/", 1)[-1]
        if short not in TOWNS:
            raise WorldError("map not found")  # CarlaServer.cpp, load_new_episode
        self.town = TOWNS[short]()
        if not keep_settings:
            self.settings = Settings()
        self.actors.clear()
        self.behaviours.clear()
        self.seconds, self.episode, self.map_changed = 0.0, self.episode + 1, True
        self._furnish()

    def _furnish(self) -> None:
        for road in self.town.roads:
            for signal in road.signals:
                place, box = post(self.town, road, signal)
                light = self.place(TRAFFIC_LIGHT, TRAFFIC_LIGHT.description(0), place)
                assert isinstance(light, TrafficLight)
                light.box, light.signal, light.pole = box, signal.id, road.id
                light.state = state_at(light.pole, 0.0)
        self.place(SPECTATOR, SPECTATOR.description(0), Transform((0.0, 0.0, 50.0), (-90.0, 0.0, 0.0)))

    @property
    def spectator(self) -> Actor:
        return next(actor for actor in self.actors.values() if actor.type_id == SPECTATOR.id)

    def spawn(self, description: list[Any], transform: Transform, parent: int = 0) -> Actor:
        """Makes an actor of a blueprint.

        Raises:
            WorldError: no such blueprint or parent, or another actor stands there.
        """
        blueprint = BLUEPRINTS.get(description[1])
        if blueprint is None:
            raise WorldError("Invalid actor description")
        if parent and parent not in self.actors:
            raise WorldError("unable to attach actor: parent actor not found")
        if parent:
            actor = self.place(blueprint, description, compose(self.actors[parent].transform, transform))
            actor.parent, actor.relative = parent, transform
            return actor
        solid = Actor(0, description, transform, blueprint.box)
        if blueprint.box.extent[0] and any(self.touching(solid, transform)):
            raise WorldError("Spawn failed because of collision at spawn position")
        return self.place(blueprint, description, transform)

    def place(self, blueprint: Blueprint, description: list[Any], transform: Transform) -> Actor:
        """Makes an actor without asking whether there is room."""
        kinds: list[tuple[str, type[Actor]]] = [
            ("vehicle.", Vehicle),
            ("walker.", Walker),
            ("sensor.", Sensor),
            ("traffic.traffic_light", TrafficLight),
        ]
        kind = next((kind for prefix, kind in kinds if blueprint.id.startswith(prefix)), Actor)
        actor = kind(self._next_id, description, transform, blueprint.box)
        self._next_id += 1
        if isinstance(actor, Sensor) and blueprint.id != "sensor.other.lane_invasion":  # that one the client computes
            actor.stream, self._next_stream = self._next_stream, self._next_stream + 1
        self.actors[actor.id] = actor
        return actor

    def destroy(self, number: int) -> None:
        """Removes an actor; sensors on it stay where they are.

        Raises:
            WorldError: there is none.
        """
        if self.actors.pop(number, None) is None:
            raise WorldError("unable to destroy actor: not found")

    def solids(self) -> Iterator[Vehicle | Walker]:
        """Actors that can be hit."""
        return (actor for actor in self.actors.values() if isinstance(actor, Vehicle | Walker))

    def touching(self, actor: Actor, transform: Transform) -> Iterator[Vehicle | Walker]:
        """The others whose box the actor's would meet there."""
        ours, (x, y, _) = corners(actor, transform), transform.location
        reach = math.hypot(*actor.box.extent[:2])
        for other in self.solids():
            ox, oy, _ = other.transform.location
            is_near = math.hypot(ox - x, oy - y) <= reach + math.hypot(*other.box.extent[:2])
            if other.id != actor.id and is_near and overlap(ours, corners(other)):
                yield other

    def tick(self, seconds: float) -> None:
        """Lets simulated time pass."""
        self.collisions.clear()
        self._act(seconds)
        for actor in list(self.actors.values()):
            if isinstance(actor, Vehicle):
                self._move(actor, drive(actor, seconds), seconds)
                actor.off_road_ticks += not self.town.is_road(*actor.transform.location[:2])
            elif isinstance(actor, Walker):
                self._move(actor, _walk(actor, seconds), seconds)
        for actor in self.actors.values():
            if actor.parent in self.actors:
                actor.transform = compose(self.actors[actor.parent].transform, actor.relative)
        change(self.lights(), self.seconds, self.seconds + seconds)
        self._look_at_lights()
        self.frame, self.ticks = self.frame + 1, self.ticks + 1
        self.seconds, self.delta = self.seconds + seconds, seconds

    def _act(self, seconds: float) -> None:
        for number, behaviour in list(self.behaviours.items()):
            actor = self.actors.get(number)
            if isinstance(actor, Vehicle) and isinstance(behaviour, FollowLane):
                light = self.actors.get(actor.light)
                must_stop = isinstance(light, TrafficLight) and light.state in {RED, YELLOW}
                behaviour.act(actor, self.town, self.solids(), must_stop)
            elif isinstance(actor, Walker) and isinstance(behaviour, WalkAlong):
                behaviour.act(actor, self.seconds, seconds)
            else:
                del self.behaviours[number]

    def _look_at_lights(self) -> None:
        lights = list(self.lights())
        for car in self.actors.values():
            if isinstance(car, Vehicle):
                car.light = next((light.id for light in lights if concerns(light, car)), 0)

    def lights(self) -> Iterator[TrafficLight]:
        """All traffic lights."""
        return (actor for actor in self.actors.values() if isinstance(actor, TrafficLight))

    def light_state(self, actor: Actor) -> int:
        """What a car is told: the state of the light that concerns it, and green where none does."""
        light = self.actors.get(actor.light) if isinstance(actor, Vehicle) else None
        return light.state if isinstance(light, TrafficLight) else GREEN

    def _move(self, actor: Vehicle | Walker, there: Transform, seconds: float) -> None:
        """Moves it, or stops it where something is in the way."""
        before = actor.velocity
        if there.location != actor.transform.location and (hit := list(self.touching(actor, there))):
            impulse = tuple(_mass(actor) * one for one in before)
            self.collisions += [(actor, other, (impulse[0], impulse[1], impulse[2])) for other in hit]
            there, actor.collisions = actor.transform, actor.collisions + 1
            for other in hit:
                other.collisions += 1
            if isinstance(actor, Vehicle):
                actor.speed = 0.0
        turned = (there.yaw - actor.transform.yaw + 180.0) % 360.0 - 180.0
        actor.transform, actor.turning = there, (0.0, 0.0, turned / seconds)
        if isinstance(actor, Vehicle):
            course = math.radians(there.yaw) + slip(actor)
            actor.velocity = (actor.speed * math.cos(course), actor.speed * math.sin(course), 0.0)
        else:
            (dx, dy, dz), speed = actor.control[0], actor.control[1]
            actor.velocity = (dx * speed, dy * speed, dz * speed)
        ax, ay, az = ((new - old) / seconds for new, old in zip(actor.velocity, before, strict=True))
        actor.acceleration = (ax, ay, az)

    def is_off_road(self, number: int) -> bool:
        """Whether the actor's centre lies on no lane."""
        return not self.town.is_road(*self.actors[number].transform.location[:2])


def _walk(walker: Walker, seconds: float) -> Transform:
    (dx, dy, _), speed = walker.control[0], walker.control[1]
    x, y, z = walker.transform.location
    yaw = math.degrees(math.atan2(dy, dx)) if speed and (dx or dy) else walker.transform.yaw
    return Transform((x + dx * speed * seconds, y + dy * speed * seconds, z), (0.0, yaw, 0.0))


def _mass(actor: Actor) -> float:
    return 80.0 if isinstance(actor, Walker) else 1800.0
