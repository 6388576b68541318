"""How remote calls find their function, and how what it returns is wrapped.

The calls' names and arguments: LibCarla, client/detail/Client.cpp. They lie in `episode_calls.py`, `actor_calls.py`,
`traffic_calls.py` and, for those that CARLA doesn't have, `inspection_calls.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from . import wire
from .actors import Actor
from .rpc import UnknownMethodError
from .world import World, WorldError

Call = Callable[..., Any]
VALUES: dict[str, Call] = {}
"""Calls that return something."""
ORDERS: dict[str, Call] = {}
"""Calls that return nothing."""
BARE: dict[str, Call] = {}
"""Calls that come without LibCarla's metadata, and whose result is not wrapped."""


def value(call: Call) -> Call:
    VALUES[call.__name__] = call
    return call


def order(call: Call) -> Call:
    ORDERS[call.__name__] = call
    return call


def bare(call: Call) -> Call:
    BARE[call.__name__] = call
    return call


class Calls:
    """Answers remote calls.

    Attributes:
        silent: whether only calls from `inspection_calls.py` are answered.
        client_traffic: whether traffic managers of clients drive, and not the simulator.
        traffic_managers: of clients, that have said they run: port → host.
        host, port, stream_port: where the server listens.
    """

    def __init__(
        self, world: World, version: str, step: Callable[[], None], expect: Callable[[int], None] = lambda stream: None
    ) -> None:
        """Keeps what it is given.

        Args:
            world: on which calls act.
            version: which the server says it has.
            step: lets one tick pass and sends what it has to show.
            expect: is told of a stream that somebody is about to subscribe to.
        """
        self.world, self.version, self.step, self.expect = world, version, step, expect
        self.silent = False
        self.client_traffic = False
        self.traffic_managers: dict[int, str] = {}
        self.host, self.port, self.stream_port = "127.0.0.1", 0, 0

    def handle(self, method: str, arguments: list[Any]) -> Any:
        """Answers one call. Its first argument is LibCarla's metadata: whether the client waits for the answer."""
        if (call := BARE.get(method)) is not None:
            return call(self, *arguments)
        if method == "apply_batch":  # of whose answers each one is wrapped
            return VALUES[method](self, *arguments[1:])
        if (call := VALUES.get(method)) is not None:
            try:
                return [[1, call(self, *arguments[1:])]]
            except WorldError as error:
                return [[0, [str(error)]]]
        if (call := ORDERS.get(method)) is None:
            raise UnknownMethodError(method)
        try:
            call(self, *arguments[1:])
        except WorldError as error:
            return [[True, [str(error)]]]
        return [[False]]

    def is_heard(self, method: str) -> bool:
        """False for what a client asks a server that has fallen silent."""
        return not self.silent or method.startswith("toy_")

    def actor(self, one: Actor) -> list[Any]:
        """An actor as calls return it."""
        return wire.actor(one, self.host, self.stream_port)

    def find(self, number: int, kind: type[Any] = Actor) -> Any:
        """The actor of that number.

        Raises:
            WorldError: there is none, or it is of another kind.
        """
        one = self.world.actors.get(number)
        if not isinstance(one, kind):
            raise WorldError(f"actor {number} not found")
        return one
