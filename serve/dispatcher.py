"""Dispatches requests from the event loop's connections: predictions to the batchers, the others to the Flask app."""

from __future__ import annotations

import logging
from asyncio import AbstractEventLoop
from collections.abc import Callable

from flask import Flask

from serve.answering.endpoint import EncodedRequest, body_limit
from serve.answering.forward import BatchSlice
from serve.batching.busy_poll import BusyPoll
from serve.batching.chunked_executor import ChunkedExecutor
from serve.batching.micro_batcher import MicroBatcher
from serve.batching.pending_prediction import Outcomes, PendingPrediction
from serve.batching.watchdog import Watchdog
from serve.errors import STATUS, ApiError, from_core
from serve.policy.selection import ACTIVE, find_serving
from serve.policy.serving import Serving
from serve.policy.slot import Slot
from serve.record.hook import RECORDERS
from serve.record.start import pack_between
from serve.settings import Settings
from serve.telemetry import metrics
from serve.web.bridge import Bridge
from serve.web.unknown_routes import Routes
from serve.wire.connection import Connection
from serve.wire.finish import finish, record_error
from serve.wire.parsed_head import HeadParser, ParsedHead, extra_headers
from serve.wire.request import Request
from serve.wire.response_writer import ResponseWriter

LARGE, LARGE_TEXT, LARGE_GZIP = 256 * 1024, 64 * 1024, 4 * 1024
"""Above these sizes in bytes (body, JSON, gzipped body) a body is decoded in a thread, not on the event loop."""

LATE = STATUS["deadline_exceeded"]

log = logging.getLogger("serve")


class Dispatcher:
    """Takes the requests of one worker, and sends their responses.

    Attributes:
        connections: open connections.
        in_flight: requests that are not answered yet.
        held_bytes: bytes of large bodies in memory.
        draining: whether each connection closes after its next response.
        accepts_any_host: whether `allowed_hosts` is not configured.
        on_closed: called when a connection has closed.
    """

    def __init__(self, loop: AbstractEventLoop, app: Flask, slot: Slot, settings: Settings) -> None:
        self._loop, self._slot, self._settings = loop, slot, settings
        self.head_parser = HeadParser(settings, Routes(app).refusal)
        self.connections: set[Connection] = set()
        self.on_closed: Callable[[], None] = lambda: None
        self.in_flight = 0
        self.held_bytes = 0
        self.draining = False
        self.accepts_any_host = not settings.allowed_hosts
        self.max_body_bytes = settings.max_body_bytes
        self.header_timeout_s, self.body_timeout_s = settings.header_timeout_s, settings.body_timeout_s
        self.response_writer = ResponseWriter()
        outcomes = Outcomes(self._send, self._refuse_prediction, self._forget)
        self.chunked_executor = ChunkedExecutor(loop, outcomes)
        busy_poll = BusyPoll(loop, settings.busy_poll_us / 1e6)
        self.micro_batcher = MicroBatcher(loop, outcomes, busy_poll, self.chunked_executor.add)
        self.chunked_executor.loop_is_used = self.micro_batcher.was_used_lately
        self.bridge = Bridge(app, loop, self.response_writer)
        timeout_s = settings.forward_timeout_s
        pack_between(loop.call_soon_threadsafe)
        self._watchdog = Watchdog(loop, self.micro_batcher, self.chunked_executor, self._explain, timeout_s)

    def start(self) -> None:
        """Starts the thread that detects forwards that hang."""
        self._watchdog.start()

    # Called by connections.

    def later(self, call: Callable[[], None], seconds: float = 0.0) -> None:
        """Calls it in a later iteration of the event loop, at least `seconds` from now."""
        if seconds:
            self._loop.call_later(seconds, call)
        else:
            self._loop.call_soon(call)

    def opened(self, connection: Connection) -> None:
        """Adds a connection."""
        self.connections.add(connection)

    def closed(self, connection: Connection) -> None:
        """Removes a connection that has closed."""
        self.connections.discard(connection)
        self.on_closed()

    def limit_of(self, parsed: ParsedHead) -> int:
        """Returns the most bytes that the body of such a request can need, for any version that may answer it."""
        return body_limit(self._slot.every, parsed.endpoint, self.max_body_bytes)

    def take(self, request: Request) -> None:
        """Answers a request, now or later."""
        parsed = request.parsed
        assert parsed is not None
        request.request_id = parsed.request_id or self.response_writer.new_id()
        self.in_flight += 1
        if parsed.endpoint is not None:
            self._predict(request, parsed)
        elif self.bridge.is_full:
            self._refuse(request, self._full(request), None)
        else:
            self.bridge.take(request, self._bridged)

    def refuse(self, request: Request, error: ApiError) -> None:
        """Answers a request with an error."""
        self.in_flight += 1
        parsed = request.parsed
        request.request_id = (parsed.request_id if parsed else None) or self.response_writer.new_id()
        self._refuse(request, error, None)

    def _full(self, request: Request) -> ApiError:
        if not self.draining:  # a draining worker delays no further requests
            request.connection.refused_for_load()
        return ApiError("overloaded", "too many requests at once; try again soon")

    # Predictions.

    def _predict(self, request: Request, parsed: ParsedHead) -> None:
        assert parsed.endpoint is not None
        try:
            if self.in_flight > self._settings.max_inflight:
                raise self._full(request)
            serving = self._slot.serving
            if serving is None or parsed.asked is not ACTIVE:
                serving = find_serving(self._slot, parsed.asked, may_go_on=True)
        except ApiError as error:
            self._refuse(request, error, None)
            return
        limit = body_limit(self._slot.every, parsed.endpoint, self.max_body_bytes) if parsed.gzip else None
        encoded = EncodedRequest(
            request.body, parsed.media_type, parsed.json_bytes, limit, parsed.episode_id, parsed.asked
        )
        prediction = PendingPrediction(
            parsed.endpoint, serving, self._slot, encoded, request.received, parsed.budget_ms, wire=request
        )
        size = len(request.body)
        text = size if parsed.json_bytes is None else parsed.json_bytes
        takes_long = serving.is_slow or size > (LARGE_GZIP if parsed.gzip else LARGE) or text > LARGE_TEXT
        (self.chunked_executor if takes_long else self.micro_batcher).add(prediction)

    def _forget(self, prediction: PendingPrediction, status: int | None) -> None:
        self.in_flight -= 1
        prediction.wire.release()
        if status is not None:
            metrics.BUFFER.answered(prediction.endpoint.route, status, prediction.serving.version)
        if RECORDERS:
            known = LATE if status is None else status  # the watchdog answers what is late
            record_error(prediction.wire, known, prediction.serving, prediction, prediction.episode_id)

    def _send(self, prediction: PendingPrediction, answered: BatchSlice) -> None:
        serving, wire = prediction.serving, prediction.wire
        try:
            answer = prediction.encode(answered)
        except Exception as error:  # the boundary: the other requests of the batch are still answered
            self._refuse_prediction(prediction, error)
            return
        extra, episode_id = wire.parsed.extra if wire.parsed else b"", prediction.episode_id
        if episode_id is not None:
            extra = extra_headers(wire.parsed, episode_id)
            wire.episode_id, wire.version = episode_id, serving.version
            wire.control = answered.pedals(serving.columns)
        self.in_flight -= 1
        wire.answer(self.response_writer.success(serving, answer, wire.request_id, wire.keep_alive, extra))
        finish(wire, prediction.endpoint.route, 200, serving.version, prediction, episode_id)

    def _refuse_prediction(self, prediction: PendingPrediction, error: Exception) -> None:
        self._refuse(prediction.wire, error, prediction.serving, prediction.episode_id, prediction)

    def _refuse(
        self,
        request: Request,
        error: Exception,
        serving: Serving | None,
        episode_id: str | None = None,
        prediction: PendingPrediction | None = None,
    ) -> None:
        known = from_core(error)
        if known.code == "internal":
            log.error("request %s failed", request.request_id, exc_info=error, extra={"request_id": request.request_id})
        serving = serving or self._slot.serving
        parsed = request.parsed
        endpoint, head_id = (parsed.endpoint, parsed.episode_id) if parsed else (None, None)
        episode_id = episode_id or head_id
        extra = extra_headers(parsed, episode_id)
        to_head = parsed is not None and parsed.head.method == "HEAD"
        self.in_flight -= 1
        explain = parsed.explain if parsed else ApiError.body
        reply = self.response_writer.error(
            known, explain, serving, request.request_id, request.keep_alive, extra, to_head
        )
        request.episode_id = episode_id
        request.answer(reply)
        route, version = endpoint.route if endpoint else "other", serving.version if serving else ""
        finish(request, route, known.status, version, None, episode_id)
        if RECORDERS:
            record_error(request, known.status, serving, prediction, episode_id)

    def _explain(self, prediction: PendingPrediction, error: ApiError) -> bytes:
        wire, extra = prediction.wire, extra_headers(prediction.wire.parsed, prediction.episode_id)
        return self.response_writer.error(
            error, prediction.endpoint.explain, prediction.serving, wire.request_id, keep_alive=False, extra=extra
        )

    def _bridged(self, request: Request, reply: bytes) -> None:
        self.in_flight -= 1
        request.answer(reply)

    def stop(self) -> None:
        """Stops the threads; no further requests are answered."""
        self.chunked_executor.stop()
        self.bridge.stop()
