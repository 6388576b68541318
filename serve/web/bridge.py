"""Passes requests that are not predictions to the Flask app, in a few threads beside the event loop."""

from __future__ import annotations

import io
import logging
import sys
from asyncio import AbstractEventLoop
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from flask import Flask
from werkzeug.datastructures import Headers
from werkzeug.test import EnvironBuilder, run_wsgi_app

from serve.errors import from_core
from serve.limits import MAX_FLASK_REQUESTS
from serve.web.admission import WIRE_REQUEST
from serve.wire.header_rules import decoded_path
from serve.wire.request import Request
from serve.wire.response_writer import ResponseWriter

THREADS = 2

log = logging.getLogger("serve")

_FRAMING = ("content-length", "transfer-encoding")
_DROPPED = {"connection", "content-length", "transfer-encoding", "date", "server"}


class Bridge:
    """Calls the app as a WSGI server does."""

    def __init__(self, app: Flask, loop: AbstractEventLoop, response_writer: ResponseWriter) -> None:
        self._app, self._loop, self._response_writer = app, loop, response_writer
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="flask")
        self.waiting = 0

    @property
    def is_full(self) -> bool:
        return self.waiting >= MAX_FLASK_REQUESTS

    def take(self, request: Request, done: Callable[[Request, bytes], None]) -> None:
        """Has the app answer a request, then calls `done` with the response on the event loop."""
        self.waiting += 1

        def finish(reply: bytes) -> None:
            self.waiting -= 1
            done(request, reply)

        parsed = request.parsed
        assert parsed is not None

        def run() -> None:
            try:
                reply = self._run(request)
            except Exception as error:  # the boundary: the client still waits for a response
                log.error("request %s failed", request.request_id, exc_info=error)
                known = from_core(error)
                reply = self._response_writer.error(known, parsed.explain, None, request.request_id, request.keep_alive)
            self._loop.call_soon_threadsafe(finish, reply)

        self._pool.submit(run)

    def _run(self, request: Request) -> bytes:
        result, status, headers = run_wsgi_app(self._app, environ(request))
        try:
            body = b"".join(result)
        finally:
            if hasattr(result, "close"):
                result.close()
        lines = [f"{name}: {value}\r\n" for name, value in headers if name.lower() not in _DROPPED]
        length = None
        if request.parsed is not None and request.parsed.head.method == "HEAD":
            length, body = int(headers.get("Content-Length", len(body))), b""
        return self._response_writer.raw(
            int(status[:3]), "".join(lines).encode("latin-1"), body, request.keep_alive, length
        )

    def stop(self) -> None:
        """Stops the threads; requests that still wait are dropped."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def environ(request: Request) -> dict[str, Any]:
    """Builds a WSGI environment (PEP 3333) that trusts neither Host nor the headers of a proxy."""
    assert request.parsed is not None
    head = request.parsed.head
    named = {name: value for name, value in head.headers.items() if "_" not in name and name not in _FRAMING}
    builder = EnvironBuilder(
        method=head.method,
        query_string=head.query,
        headers=Headers(named | {"host": "localhost"}),
        input_stream=io.BytesIO(request.body),
        errors_stream=sys.stderr,
        multithread=True,
        multiprocess=True,
    )
    found = builder.get_environ()
    builder.close()
    return found | {
        "PATH_INFO": decoded_path(head),
        "REQUEST_URI": head.target,
        "RAW_URI": head.target,
        "SERVER_PROTOCOL": f"HTTP/1.{head.minor}",
        "CONTENT_LENGTH": str(len(request.body)),
        WIRE_REQUEST: request,
    }
