"""Answers requests for unknown paths on the event loop, which is cheap: a stranger may send a lot of them."""

from __future__ import annotations

from urllib.parse import unquote

from flask import Flask
from werkzeug.exceptions import HTTPException, NotFound
from werkzeug.routing import RequestRedirect

from serve.errors import ApiError, from_status
from serve.wire.head import Head


class Routes:
    """The routes of the Flask app."""

    def __init__(self, app: Flask) -> None:
        self._match = app.url_map.bind("localhost").match

    def refusal(self, head: Head) -> ApiError | None:
        """Returns a 404 error for an unknown path, else None; the app itself refuses wrong methods."""
        if head.method == "OPTIONS":  # may be a browser's preflight for any path
            return None
        try:
            self._match(unquote(head.path), head.method)
        except NotFound:
            return from_status(404)
        except (HTTPException, RequestRedirect):
            pass
        return None
