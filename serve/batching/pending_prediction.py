"""A prediction that waits for its forward, and who is told how it came out."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

import msgspec

from serve.answering.endpoint import EncodedRequest, Endpoint, body_limit
from serve.answering.forward import BatchSlice
from serve.answering.single import deadline
from serve.codecs.carla import PredictRequest
from serve.codecs.gzip_body import inflate
from serve.policy.serving import Serving
from serve.wire.request import Request

NEVER = float("inf")


class PendingPrediction:
    """A prediction that waits for its forward."""

    __slots__ = ("asked", "decode_s", "endpoint", "ends", "most_bytes", "request", "serving", "wire")

    def __init__(
        self, wire: Request, endpoint: Endpoint, serving: Serving, asked: EncodedRequest, most_bytes: int
    ) -> None:
        """Args: the request, its door, what is asked, the body, and how long that may get when it is unpacked."""
        self.wire, self.endpoint, self.serving, self.asked, self.most_bytes = wire, endpoint, serving, asked, most_bytes
        self.request: PredictRequest | None = None
        self.decode_s = 0.0
        header_budget_ms = wire.parsed.budget_ms if wire.parsed else None
        self.ends = NEVER if header_budget_ms is None else deadline(None, wire.received, header_budget_ms)

    def decode(self) -> PredictRequest:
        """Reads the body, once; raises ApiError or SpecError."""
        asked, parsed, began = self.asked, self.wire.parsed, time.perf_counter()
        if parsed is not None and parsed.gzip:
            limit = body_limit([self.serving], self.endpoint, self.most_bytes)
            asked = msgspec.structs.replace(asked, body=inflate(asked.body, limit))
        self.request = request = self.endpoint.decode(self.serving, asked)
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

    send: Callable[[PendingPrediction, BatchSlice, float], None]
    refuse: Callable[[Request, Exception, Serving], None]
    forget: Callable[[PendingPrediction, int], None]
