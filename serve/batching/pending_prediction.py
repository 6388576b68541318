"""A prediction that waits for its forward, and the callbacks for its outcome."""

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
        """`wire` is the request on its connection; `most_bytes` limits the decompressed body of `asked`."""
        self.wire, self.endpoint, self.serving, self.asked, self.most_bytes = wire, endpoint, serving, asked, most_bytes
        self.request: PredictRequest | None = None
        self.decode_s = 0.0
        header_budget_ms = wire.parsed.budget_ms if wire.parsed else None
        self.ends = NEVER if header_budget_ms is None else deadline(None, wire.received, header_budget_ms)

    def decode(self) -> PredictRequest:
        """Decodes the body; to be called once; raises ApiError or SpecError."""
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
    """Callbacks for the outcome of a prediction.

    Attributes:
        send: called with its batch slice, and when its forward began.
        refuse: called with its error.
        forget: called when its client is gone, or was answered by the watchdog; with the status to count.
    """

    send: Callable[[PendingPrediction, BatchSlice, float], None]
    refuse: Callable[[Request, Exception, Serving], None]
    forget: Callable[[PendingPrediction, int], None]
