"""The simulator's process: an event loop with two ports, one for calls and one for streams."""

from __future__ import annotations

import asyncio
import sys
import time

from . import actor_calls, episode_calls, inspection_calls, traffic_calls, wire  # noqa: F401 (they register calls)
from .actors import Sensor
from .calls import Calls
from .rpc import RpcServer
from .sensors import Sensors
from .streams import Streams
from .towns import SPEED_LIMIT_KMH, TOWNS
from .world import World

FREE_RUNNING_S = 0.05
"""Length of a tick in asynchronous mode when no fixed length is set. Such ticks come in real time, with or without a
fixed length."""

LOADING_S = 0.1
"""How long it takes to load a town, and for how long nothing is sent after that. A real one takes seconds.

The client forgets its old episode when the call is answered, and its library crashes where it still reads a message of
that episode then: its destructor ends the subscription of the new one (LibCarla 0.9.16, client/detail/Episode.cpp).
"""


class Simulator:
    """A world and its connections."""

    def __init__(self, town: str, version: str, client_traffic: bool = False) -> None:
        self.world = World(TOWNS[town]())
        self.streams = Streams(self._greet)
        self.calls = Calls(self.world, version, self.step, self.streams.expect)
        self.calls.client_traffic = client_traffic
        self._silent_until = 0.0
        self.sensors = Sensors(self.world, self.calls.actor)

    async def serve(self, host: str, port: int, stream_port: int, with_parent: bool) -> None:
        """Answers until it is cancelled, or until its input ends where it is `with_parent`; port 0 is a free one.

        Raises:
            OSError: a port is taken.
        """
        loop = asyncio.get_running_loop()
        server = RpcServer(self.calls.handle, self.calls.is_heard, self._prepare, {"load_new_episode": LOADING_S})
        rpc = await asyncio.start_server(server.converse, host, port)
        port = rpc.sockets[0].getsockname()[1]
        streams = await loop.create_server(self.streams.connection, host, stream_port)
        self.calls.host, self.calls.port, self.calls.stream_port = host, port, streams.sockets[0].getsockname()[1]
        print(f"toy_carla listens on {host}:{port}, streams on {self.calls.stream_port}", flush=True)
        if not with_parent:
            drive = f"python -m carla_agent drive --carla {host}:{port} --url http://localhost:8080"
            print(f"drive in it with: {drive}\nCtrl-C ends it", flush=True)
        running = asyncio.create_task(self._run_freely())
        if with_parent:
            await loop.run_in_executor(None, sys.stdin.read)
            running.cancel()
        else:
            await running

    async def _prepare(self, method: str) -> None:
        if method in {"tick_cue", "apply_batch"}:
            await self.streams.complete()
        if method == "load_new_episode":
            self._silent_until = time.monotonic() + 2 * LOADING_S

    def step(self) -> None:
        """One tick, and what it has to show."""
        self.world.tick(self.world.settings.fixed_delta_seconds or FREE_RUNNING_S)
        for sensor in list(self.world.actors.values()):
            if isinstance(sensor, Sensor) and self.streams.is_wanted(sensor.stream):
                for payload in self.sensors.measure(sensor):
                    self.streams.send(sensor.stream, payload)
        self.streams.send(wire.WORLD_STREAM, self._snapshot())
        self.world.map_changed = False  # told once

    async def _run_freely(self) -> None:
        while True:
            began = time.monotonic()
            if self._runs_freely(began):
                self.step()
            length = self.world.settings.fixed_delta_seconds or FREE_RUNNING_S
            await asyncio.sleep(max(began + length - time.monotonic(), 0.0))

    def _runs_freely(self, now: float) -> bool:
        return not self.world.settings.synchronous_mode and not self.calls.silent and now > self._silent_until

    def _greet(self, stream: int) -> bytes | None:
        return self._snapshot() if stream == wire.WORLD_STREAM and not self.calls.silent else None

    def _snapshot(self) -> bytes:
        world = self.world
        return b"".join(
            (
                wire.header(wire.WORLD, world.frame, world.seconds, world.spectator.transform),
                wire.episode(world.episode, time.monotonic(), world.delta, world.map_changed),
                *(
                    wire.actor_state(actor, SPEED_LIMIT_KMH, world.light_state(actor))
                    for actor in world.actors.values()
                ),
            )
        )
