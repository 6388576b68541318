"""The server as an ASGI application, for Ray Serve or any other ASGI server with its own processes.

A request's head is written as bytes again and then handled like any other: the same head parser, micro-batching,
limits, errors and metrics.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from serve.dispatcher import Dispatcher
from serve.errors import ApiError
from serve.wire.connection import Connection
from serve.wire.parsed_head import ParsedHead
from serve.wire.request import Request

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Reply = tuple[int, list[tuple[bytes, bytes]], bytes]

_HOP_BY_HOP = {b"connection", b"transfer-encoding", b"content-length", b"expect", b"keep-alive", b"host"}


class Exchange(Connection):
    """One request and its response, in place of a connection."""

    def __init__(self, server: Dispatcher, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(server)
        self.transport = asyncio.Transport()  # has no socket: the watchdog can't answer outside the event loop here
        self.answer: asyncio.Future[bytes] = loop.create_future()

    def flush(self) -> None:
        """Called when the response is ready."""
        reply = self.pending[0].reply if self.pending else None
        if reply is not None and not self.answer.done():
            self.answer.set_result(reply)

    def cut(self) -> None:
        """Passes the response on: there is no socket here to which the watchdog could have sent it."""
        self.flush()


class AsgiServer:
    """Answers the requests of an ASGI server by a dispatcher, which must run on the same event loop."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one request, according to ASGI 3."""
        if scope["type"] != "http":
            return
        status, headers, body = await self.answer(scope, receive)
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def answer(self, scope: Scope, receive: Receive) -> Reply:
        """Returns the status, headers and body of the response to a request."""
        received = time.perf_counter()
        exchange = Exchange(self._dispatcher, asyncio.get_running_loop())
        request = Request(exchange, None, b"", received)
        exchange.pending.append(request)
        try:
            head = _head(scope, self._dispatcher.accepts_any_host)
            request.parsed = parsed = self._dispatcher.head_parser.parse(head)
            request.keep_alive = True
            request.body = await self._body(parsed, receive)
        except ApiError as error:
            self._dispatcher.refuse(request, error)
        else:
            if parsed.refusal is not None:
                self._dispatcher.refuse(request, parsed.refusal)
            else:
                self._dispatcher.take(request)
        try:
            reply = await exchange.answer
        except asyncio.CancelledError:
            exchange.gone = True
            raise
        return _taken_apart(reply)

    async def _body(self, parsed: ParsedHead, receive: Receive) -> bytes:
        limit, parts, size = self._dispatcher.limit_of(parsed), list[bytes](), 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ApiError("bad_request", "the request is incomplete")
            part = message.get("body", b"")
            size += len(part)
            if size > limit:
                raise ApiError("body_too_large", f"the body is larger than {limit} bytes")
            parts.append(part)
            if not message.get("more_body"):
                return parts[0] if len(parts) == 1 else b"".join(parts)


def _head(scope: Scope, any_host: bool) -> bytes:
    """Rebuilds the head of a request, without the headers that frame the body: the ASGI server has handled these.

    Args:
        scope: of the request.
        any_host: whether to ignore Host, since the ASGI server decides on which addresses it listens.
    """
    target = scope.get("raw_path") or scope["path"].encode()
    root = scope.get("root_path", "").encode()
    if root and target.startswith(root):
        target = target[len(root) :] or b"/"
    if scope.get("query_string"):
        target = target.partition(b"?")[0] + b"?" + scope["query_string"]
    named = [] if any_host else [value for name, value in scope["headers"] if name.lower() == b"host"]
    host = named[0] if named else b"localhost"
    lines = [b"%b %b HTTP/1.1\r\nhost: %b\r\n" % (scope["method"].encode(), target, host)]
    lines += [b"%b: %b\r\n" % pair for pair in scope["headers"] if pair[0].lower() not in _HOP_BY_HOP]
    return b"".join([*lines, b"\r\n"])


def _taken_apart(reply: bytes) -> Reply:
    head, _, body = reply.partition(b"\r\n\r\n")
    first, *lines = head.split(b"\r\n")
    headers = [(name.lower(), value) for name, _, value in (line.partition(b": ") for line in lines)]
    kept = [pair for pair in headers if pair[0] not in (b"connection", b"date")]
    return int(first.split(b" ")[1]), kept, body
