"""A prediction that waits for its forward, and who is told how it came out."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

import msgspec

from serve.answering.endpoint import Asked, Door, body_limit
from serve.answering.forward import Answered
from serve.answering.single import deadline
from serve.codecs.carla import PredictRequest
from serve.codecs.gzip_body import inflate
from serve.policy.serving import Serving
from serve.wire.request import Request

NEVER = float("inf")


class Question:
    """A prediction that waits for its forward."""

    __slots__ = ("asked", "decode_s", "door", "ends", "most_bytes", "request", "serving", "wire")

    def __init__(self, wire: Request, door: Door, serving: Serving, asked: Asked, most_bytes: int) -> None:
        """Args: the request, its door, what is asked, the body, and how long that may get when it is unpacked."""
        self.wire, self.door, self.serving, self.asked, self.most_bytes = wire, door, serving, asked, most_bytes
        self.request: PredictRequest | None = None
        self.decode_s = 0.0
        header_budget_ms = wire.plan.budget_ms if wire.plan else None
        self.ends = NEVER if header_budget_ms is None else deadline(None, wire.received, header_budget_ms)

    def decode(self) -> PredictRequest:
        """Reads the body, once; raises ApiError or SpecError."""
        asked, plan, began = self.asked, self.wire.plan, time.perf_counter()
        if plan is not None and plan.gzip:
            limit = body_limit([self.serving], self.door, self.most_bytes)
            asked = msgspec.structs.replace(asked, body=inflate(asked.body, limit))
        self.request = request = self.door.decode(self.serving, asked)
        self.decode_s = time.perf_counter() - began
        if request.budget_ms is not None:
            self.ends = min(self.ends, deadline(request, self.wire.received, None))
        return request


class Outcomes(NamedTuple):
    """Who is told how a question came out.

    Attributes:
        send: it is answered; with when its forward began.
        refuse: it gets an error.
        forget: it needs no answer any more: its client is gone, or was told by the watchdog. With the status to count.
    """

    send: Callable[[Question, Answered, float], None]
    refuse: Callable[[Request, Exception, Serving], None]
    forget: Callable[[Question, int], None]
