"""One request that is being answered, and who answers it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from serve.codecs.options import Body
from serve.errors import ApiError
from serve.wire.plan import Plan, Planner

if TYPE_CHECKING:
    from serve.wire.connection import Connection


class Request:
    """A request that is being answered."""

    __slots__ = ("body", "connection", "held", "keep_alive", "outside", "plan", "received", "reply", "request_id")

    def __init__(self, connection: Connection, plan: Plan | None, body: Body, received: float, held: int = 0) -> None:
        self.connection, self.plan, self.body, self.received = connection, plan, body, received
        self.held = held  # bytes of the server's that are free again once this is answered
        self.outside = False  # whether it was answered, or its connection ended, while the event loop could not
        self.keep_alive = plan is not None and plan.head.keep_alive
        self.request_id = ""
        self.reply: bytes | None = None

    def answer(self, reply: bytes) -> None:
        """Sends the whole answer as soon as those before it are sent. A second answer is dropped."""
        if self.reply is None:
            self.reply = reply
            self.release()
            self.connection.flush()

    def release(self) -> None:
        """Its body is not needed any more."""
        if self.held:
            self.connection.server.held_bytes -= self.held
            self.held = 0


class Receiver(Protocol):
    """Who answers requests."""

    planner: Planner
    draining: bool
    max_body_bytes: int
    header_timeout_s: float
    body_timeout_s: float
    held_bytes: int

    def later(self, call: Callable[[], None], seconds: float = 0.0) -> None:
        """Calls it when the others had their turn, and no earlier than in so many seconds."""

    def opened(self, connection: Connection) -> None:
        """Somebody connected."""

    def closed(self, connection: Connection) -> None:
        """A connection is over."""

    def limit_of(self, plan: Plan) -> int:
        """Most bytes that the body of such a request can need."""

    def take(self, request: Request) -> None:
        """Answers a request, now or later."""

    def refuse(self, request: Request, error: ApiError) -> None:
        """Answers a request that can't be taken."""
