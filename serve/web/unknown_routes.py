"""What is asked for and is not there: said on the event loop, since a stranger may ask for a lot of it."""

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
        """Why a request is refused whatever it says: there is no such path. Other methods are for the app to refuse."""
        if head.method == "OPTIONS":  # may be a browser's preflight, of any path
            return None
        try:
            self._match(unquote(head.path), head.method)
        except NotFound:
            return from_status(404)
        except (HTTPException, RequestRedirect):
            pass
        return None
