"""Where requests arrive from the event loop's connections, and their answers leave."""

from __future__ import annotations

import logging
import time
from asyncio import AbstractEventLoop
from collections.abc import Callable

from flask import Flask

from serve.answering.endpoint import Asked, body_limit
from serve.answering.forward import Answered
from serve.answering.single import timing_ms
from serve.batching.busy_poll import BusyPoll
from serve.batching.chunked_executor import Pieces
from serve.batching.micro_batcher import Turn
from serve.batching.pending_prediction import Outcomes, Question
from serve.errors import ApiError, from_core
from serve.policy.serving import Serving
from serve.policy.slot import Slot, find_serving
from serve.settings import Settings
from serve.telemetry import metrics
from serve.telemetry.observers import OBSERVERS, tell
from serve.telemetry.request_record import Finished
from serve.web.bridge import Bridge
from serve.web.unknown_routes import Routes
from serve.wire.connection import Connection
from serve.wire.plan import Plan, Planner
from serve.wire.replies import Replies
from serve.wire.request import Request

LARGE, LARGE_TEXT, LARGE_GZIP = 256 * 1024, 64 * 1024, 4 * 1024
"""Bytes of a body, of its JSON, of a packed one, from which on it is decoded beside the loop, in a thread."""

log = logging.getLogger("serve")


class Reception:
    """Takes the requests of one worker: predictions here, everything else by the Flask app.

    Attributes:
        connections: that are open.
        in_flight: requests that are not answered yet.
        held_bytes: of large bodies that are being read.
        draining: whether each answer is the last on its connection.
        hears_any_host: whether nobody said what a request's Host may name.
        on_closed: called when a connection is over.
    """

    def __init__(self, loop: AbstractEventLoop, app: Flask, slot: Slot, settings: Settings) -> None:
        self._loop, self._slot, self._settings = loop, slot, settings
        self.planner = Planner(settings, Routes(app).refusal)
        self.connections: set[Connection] = set()
        self.on_closed: Callable[[], None] = lambda: None
        self.in_flight = 0
        self.held_bytes = 0
        self.draining = False
        self.hears_any_host = not settings.allowed_hosts
        self.max_body_bytes = settings.max_body_bytes
        self.header_timeout_s, self.body_timeout_s = settings.header_timeout_s, settings.body_timeout_s
        self.replies = Replies()
        outcomes = Outcomes(self._send, self._refuse, self._forget)
        self.turn = Turn(loop, outcomes, BusyPoll(loop, settings.busy_poll_us / 1e6))
        self.pieces = Pieces(loop, outcomes, settings.forward_timeout_s)
        self.bridge = Bridge(app, loop, self.replies)

    # What connections call.

    def later(self, call: Callable[[], None], seconds: float = 0.0) -> None:
        """Calls it when the others had their turn, and no earlier than in so many seconds."""
        if seconds:
            self._loop.call_later(seconds, call)
        else:
            self._loop.call_soon(call)

    def opened(self, connection: Connection) -> None:
        """Somebody connected."""
        self.connections.add(connection)

    def closed(self, connection: Connection) -> None:
        """A connection is over."""
        self.connections.discard(connection)
        self.on_closed()

    def limit_of(self, plan: Plan) -> int:
        """Most bytes that the body of such a request can need, for any version that is served."""
        return body_limit(self._slot.servings, plan.door, self.max_body_bytes)

    def take(self, request: Request) -> None:
        """Answers a request, now or later."""
        plan = request.plan
        assert plan is not None
        request.request_id = plan.request_id or self.replies.new_id()
        self.in_flight += 1
        if plan.door is not None:
            self._predict(request, plan)
        elif self.bridge.is_full:
            self._refuse(request, self._full(request), None)
        else:
            self.bridge.take(request, self._bridged)

    def refuse(self, request: Request, error: ApiError) -> None:
        """Answers a request that can't be taken."""
        self.in_flight += 1
        plan = request.plan
        request.request_id = (plan.request_id if plan else None) or self.replies.new_id()
        self._refuse(request, error, None)

    def _full(self, request: Request) -> ApiError:
        if not self.draining:  # who drains wants to be done
            request.connection.refused_for_load()
        return ApiError("overloaded", "too many requests at once; try again soon")

    # Predictions.

    def _predict(self, request: Request, plan: Plan) -> None:
        assert plan.door is not None
        try:
            if self.in_flight > self._settings.max_inflight:
                raise self._full(request)
            serving = self._slot.serving
            if serving is None or plan.version is not None or plan.name is not None:
                serving = find_serving(self._slot, plan.version, plan.name)
        except ApiError as error:
            self._refuse(request, error, None)
            return
        asked = Asked(request.body, plan.media_type, plan.json_bytes)
        question = Question(request, plan.door, serving, asked, self.max_body_bytes)
        size = len(request.body)
        text = size if plan.json_bytes is None else plan.json_bytes
        takes_long = serving.is_slow or size > (LARGE_GZIP if plan.gzip else LARGE) or text > LARGE_TEXT
        (self.pieces if takes_long else self.turn).add(question)

    def _forget(self, question: Question, status: int) -> None:
        self.in_flight -= 1
        question.wire.release()
        metrics.TALLY.answered(question.door.route, status, question.serving.version)

    def _send(self, question: Question, answered: Answered, started: float) -> None:
        request, serving, wire = question.request, question.serving, question.wire
        assert request is not None
        now = time.perf_counter()
        try:
            answer = question.door.encode(serving, request, answered, timing_ms(wire.received, started, now, answered))
        except Exception as error:  # the boundary: the other requests of the turn are answered all the same
            self._refuse(wire, error, serving)
            return
        extra = wire.plan.extra if wire.plan else b""
        self.in_flight -= 1
        wire.answer(self.replies.success(serving, answer, wire.request_id, wire.keep_alive, extra))
        queue_s, total_s = started - wire.received, now - wire.received
        metrics.TALLY.answered(question.door.route, 200, serving.version, queue_s, total_s, question.decode_s)
        if OBSERVERS:
            tell(finished(wire, 200, serving, now, started, answered))

    def _refuse(self, request: Request, error: Exception, serving: Serving | None) -> None:
        known = from_core(error)
        if known.code == "internal":
            log.error("request %s failed", request.request_id, exc_info=error, extra={"request_id": request.request_id})
        serving = serving or self._slot.serving
        plan = request.plan
        door, extra = (plan.door, plan.extra) if plan else (None, b"")
        to_head = plan is not None and plan.head.method == "HEAD"
        self.in_flight -= 1
        explain = plan.explain if plan else ApiError.body
        reply = self.replies.error(known, explain, serving, request.request_id, request.keep_alive, extra, to_head)
        request.answer(reply)
        version, now = serving.version if serving else "", time.perf_counter()
        total_s = now - request.received if door else None
        metrics.TALLY.answered(door.route if door else "other", known.status, version, None, total_s)
        if OBSERVERS:
            tell(finished(request, known.status, serving, now))

    def _bridged(self, request: Request, reply: bytes) -> None:
        self.in_flight -= 1
        request.answer(reply)

    def stop(self) -> None:
        """Takes nothing more."""
        self.pieces.stop()
        self.bridge.stop()


def finished(
    request: Request,
    status: int,
    serving: Serving | None,
    ended: float,
    started: float | None = None,
    answered: Answered | None = None,
) -> Finished:
    """What is to be told of a request of the event loop's."""
    plan = request.plan
    route = plan.door.route if plan and plan.door else "other"
    method, headers = (plan.head.method, plan.head.headers) if plan else ("", {})
    version = serving.version if serving else ""
    asked = Finished(method, route, status, version, request.request_id, headers, request.received, ended, started)
    if answered is None:
        return asked
    rows = answered.stop - answered.start
    return asked._replace(inference_ms=answered.batch.actions.inference_ms, rows=rows)
