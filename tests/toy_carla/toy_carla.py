"""Starts a toy world in a process of its own, and looks into it."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import msgpack
import msgspec

from .wire import VERSION

TESTS = Path(__file__).parent.parent

TIMEOUT_S = 10.0


class SeenActor(msgspec.Struct, frozen=True):
    """An actor as the simulator knows it.

    Attributes:
        parent: id of what it is attached to, or 0.
        role_name: from its blueprint's attributes.
        location: x, y and z in CARLA's axes, metres.
        yaw: degrees.
        speed: along the nose, m/s; of vehicles.
        control: as it was applied: a vehicle's throttle, steer, brake, …, a walker's direction, speed and jump.
        off_road_ticks: ticks at which a vehicle's centre was on no lane.
        collisions: how often it has run into something, or something into it.
    """

    id: int
    type_id: str
    parent: int
    role_name: str
    location: tuple[float, float, float]
    yaw: float
    speed: float
    control: list[Any]
    off_road_ticks: int
    collisions: int


class Report(msgspec.Struct, frozen=True):
    """The world at one moment.

    Attributes:
        episode: its number; it changes with every town that is loaded.
        frame: number of the latest tick.
        ticks: since the simulator was started.
        seconds: simulated, since the episode began.
        synchronous: whether the world waits for a client's tick.
        fixed_delta_seconds: length of a tick, or None.
        actors: all, sensors, lights and the spectator among them.
    """

    town: str
    episode: int
    frame: int
    ticks: int
    seconds: float
    synchronous: bool
    fixed_delta_seconds: float | None
    actors: list[SeenActor]

    def of_type(self, prefix: str) -> list[SeenActor]:
        """The actors whose type begins so, such as `vehicle.` or `sensor.`."""
        return [actor for actor in self.actors if actor.type_id.startswith(prefix)]


class ToyCarla:
    """A simulator for `carla.Client(toy.host, toy.port)`, as a context manager.

    It is a process, not a thread: several calls of carla's Python API, `Sensor.listen` among them, hold the
    interpreter's lock while they wait, so that a server in the same interpreter could never answer.

    Attributes:
        host: where it listens.
        port: for calls. It is also where its traffic manager listens: give `vehicle.set_autopilot` this port as well,
            since carla's client keeps a traffic manager per port for as long as its process lives.
    """

    def __init__(self, town: str = "ring", version: str = VERSION, port: int = 0, client_traffic: bool = False) -> None:
        """Prepares a simulator; `with` starts it.

        Args:
            town: in which it begins: ring or crossing.
            version: which it says it has.
            port: for calls; 0 takes a free one.
            client_traffic: lets the client's own traffic manager drive cars in autopilot, as in CARLA, and not the
                simulator. Not for synchronous mode: its threads can wait for each other for ever when ticks are short
                (LibCarla 0.9.16, TrafficManagerLocal::SynchronousTick).
        """
        self.host, self.port = "127.0.0.1", port
        self._options = ["--with-parent", "--town", town, "--version", version]
        self._options += ["--client-traffic"] if client_traffic else []
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Starts it, also once more after `kill`: on the same port, in a new world."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "toy_carla", "--port", str(self.port), "--stream-port", "0", *self._options],
            cwd=TESTS,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        found = re.search(r":(\d+), streams on \d+$", line.strip())
        if found is None:
            self.kill()
            raise RuntimeError(f"the toy world did not start: {line!r}")
        self.port = int(found[1])

    def kill(self) -> None:
        """Ends it at once, as a crash would: connections break without being closed."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.communicate()
            self._process = None

    def report(self) -> Report:
        """What is in the world."""
        return msgspec.convert(self._call("toy_report"), Report)

    def is_off_road(self, actor_id: int) -> bool:
        """Whether the actor's centre lies on no lane."""
        return bool(self._call("toy_is_off_road", actor_id))

    def fall_silent(self, silent: bool = True) -> None:
        """Lets the simulator read and not answer, and the world stand still, until it is called with False."""
        self._call("toy_fall_silent", silent)

    def follow_lane(self, vehicle_id: int, speed: float) -> None:
        """Lets a car drive along its lane at that speed, m/s, as one in autopilot does."""
        self._call("toy_follow_lane", vehicle_id, speed)

    def walk(self, walker_id: int, path: Sequence[tuple[float, float]], speed: float, wait_s: float = 0.0) -> None:
        """Lets a walker walk.

        Args:
            walker_id: its actor's id.
            path: points (x, y) one after the other, in CARLA's axes, metres; at the last one it stops.
            speed: m/s.
            wait_s: simulated seconds before it sets out.
        """
        self._call("toy_walk", walker_id, [list(point) for point in path], speed, wait_s)

    def _call(self, method: str, *arguments: Any) -> Any:
        unpacker = msgpack.Unpacker()
        with socket.create_connection((self.host, self.port), TIMEOUT_S) as connection:
            connection.sendall(msgpack.packb([0, 1, method, arguments]))
            while data := connection.recv(65536):
                unpacker.feed(data)
                for _, _, error, result in unpacker:
                    if error is not None:
                        raise RuntimeError(error)
                    return result
        raise RuntimeError(f"the toy world ended the connection at {method}")

    def __enter__(self) -> ToyCarla:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
